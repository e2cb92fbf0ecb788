"""Pictures of the page for docs/serve.md, from a finished demo: `python docs/make_screenshots.py demo [NAME ...]`.

A service with the demo's bundle is started, and Chromium looks at it; its camera is a person that the demo paints.
"""

import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from rgbflow import Recognizer
from rgbflow.demo.synthetic import write_dataset
from rgbflow.serve.app import create_app
from rgbflow.serve.running import listen, make_server
from rgbflow.serve.service import Networks, Service
from rgbflow.serve.teaching import Teaching
from rgbflow.video import decode
from rgbflow.video.writing import write_video

OUT = Path(__file__).parent / "images"
ACTIONS = ("raise_arms", "lower_arms", "wave_green_flag", "step_left", "step_right", "pick_up_ball", "put_down_ball")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
MOST_BYTES = 150_000


def live(page: Page, videos: Path) -> None:
    page.get_by_role("button", name="Start the camera").click()
    page.wait_for_function("() => document.querySelectorAll('#events b').length > 3")
    page.wait_for_function("() => document.querySelector('#label-sub').textContent.startsWith('going on')")


def video(page: Page, videos: Path) -> None:
    page.get_by_role("link", name="Video").click()
    page.locator("#view-video input[type=file]").set_input_files(videos / "joined.mp4")
    page.locator(".segments button").first.wait_for()
    page.locator(".segments button:not(.unknown)").first.click()
    page.wait_for_timeout(800)


def teach(page: Page, videos: Path) -> None:
    page.get_by_role("link", name="Teach").click()
    view = page.locator("#view-teach")
    for label in ("raise_arms", "drink_red_cup", "none"):
        view.get_by_label("Name of the action").fill(label)
        films = sorted((videos / ("step_left" if label == "none" else label)).glob("*.mp4"))
        view.locator("input[type=file]").set_input_files(films)
        name = "none of them" if label == "none" else label.replace("_", " ")
        view.get_by_role("button", name=f"Delete take {len(films)} of {name}").wait_for()
    view.get_by_role("button", name="Train", exact=True).click()
    view.get_by_text("What these figures do not say").wait_for()
    view.get_by_role("button", name="Start the camera").click()
    view.get_by_label("Name of the action").fill("raise_arms")
    page.wait_for_timeout(1500)


PICTURES: dict[str, tuple[Callable[[Page, Path], None], str, dict]] = {
    "live-light": (live, "light", DESK),
    "live-dark": (live, "dark", DESK),
    "live-phone": (live, "light", PHONE),
    "video": (video, "light", DESK),
    "teach": (teach, "light", DESK),
}


def make(demo: Path, names: list[str]) -> None:
    recognizer = Recognizer.load(demo / "bundle")
    service = Service(Networks(recognizer, "demo/bundle", "demo"))
    server = make_server(create_app(service, teaching=Teaching(service, str(demo / "bundle"), "demo")))
    with tempfile.TemporaryDirectory() as scratch, listen("127.0.0.1", 0) as listener:
        videos = Path(scratch)
        write_dataset(videos, num_groups=1, clips_per_group=4, size=(400, 300), seed=12)
        camera = write_camera(videos)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            for name in names:
                take(name, f"http://127.0.0.1:{listener.getsockname()[1]}/", camera, videos)
        finally:
            server.should_exit = True
            thread.join()


def write_camera(videos: Path) -> Path:
    """One clip of each action after the other, as the raw video that Chromium takes for its camera."""
    frames = [frame.pixels for label in ACTIONS for frame in decode(next((videos / label).glob("*_01.mp4")))]
    height, width = frames[0].shape[:2]
    with (videos / "camera.y4m").open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F12:1 Ip A1:1 C420jpeg\n".encode())
        for pixels in frames:
            file.write(b"FRAME\n" + cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).tobytes())
    write_video(videos / "joined.mp4", frames, 12)
    return videos / "camera.y4m"


def take(name: str, address: str, camera: Path, videos: Path) -> None:
    act, theme, size = PICTURES[name]
    flags = [*FLAGS, "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        page = browser.new_context(color_scheme=theme, viewport=size, permissions=["camera"]).new_page()
        page.set_default_timeout(120_000)
        page.goto(address)
        act(page, videos)
        picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
        browser.close()
    for quality in (90, 80, 70, 60):
        picture.convert("RGB").save(OUT / f"{name}.webp", quality=quality, method=6)
        if (OUT / f"{name}.webp").stat().st_size <= MOST_BYTES:
            break
    print(OUT / f"{name}.webp", picture.size)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    make(Path(sys.argv[1]), sys.argv[2:] or list(PICTURES))
