"""The page in a real Chromium whose camera is a clip."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--use-fake-device-for-media-stream"),
]
PATIENCE = 60_000  # ms
THEMES = ("light", "dark")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not there: apt-get install chromium, or set CHROMIUM"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # sockets of Playwright's own driver
]


@dataclass
class Seen:
    """What a page asked for and complained about."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def browse() -> Iterator[Callable]:
    """A function that opens the page of a service: (running, clip for the camera, ...) to Playwright's page.

    At the end, none of the pages may have asked another host, or complained.
    """
    from playwright.sync_api import sync_playwright

    seen = Seen()
    ports = set()
    with sync_playwright() as playwright, ExitStack() as stack:

        def open_page(running, clip: Path | None = None, camera: bool = True, path: str = "/", before=None, **options):
            flags = FLAGS + ([f"--use-file-for-fake-video-capture={clip}"] if clip else [])
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            stack.callback(browser.close)
            context = browser.new_context(permissions=["camera"] if camera else [], **options)
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.on("request", lambda request: seen.requests.append(request.url))
            page.on("websocket", lambda socket: seen.requests.append(socket.url))
            page.on("pageerror", lambda error: seen.complaints.append(str(error)))
            page.on("console", lambda line: line.type == "error" and seen.complaints.append(line.text))
            ports.add(running.port)
            if before:
                before(page)
            page.goto(f"http://127.0.0.1:{running.port}{path}")
            page.seen = seen
            return page

        yield open_page
    web = [urlsplit(address) for address in seen.requests if urlsplit(address).scheme not in ("blob", "data")]
    assert web
    assert {(one.hostname, one.port) for one in web} <= {("127.0.0.1", port) for port in ports}
    assert [line for line in seen.complaints if "Failed to load resource" not in line and "WebSocket" not in line] == []


@pytest.fixture(scope="session")
def seeing(world):
    """The recogniser of the world: left, right, red and green."""
    from rgbflow.recognizer import Recognizer

    return Recognizer.load(world.bundle, engine="torch")


@pytest.fixture
def at_work(seeing, serving) -> Iterator:
    """A service that knows left, right, red and green."""
    from rgbflow.serve.service import Networks, Service

    with serving(Service(Networks(seeing, "world/bundle", "given"))) as running:
        yield running


@pytest.fixture
def untaught(serving) -> Iterator:
    """A service without a bundle."""
    from rgbflow.serve.service import Service

    with serving(Service(None)) as running:
        yield running


def write_camera(path: Path, clips: list[np.ndarray], rate: int = 25) -> Path:
    """Clips (T, H, W, 3) uint8 as the raw video that Chromium takes for its camera, again and again."""
    height, width = clips[0].shape[1:3]
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{rate}:1 Ip A1:1 C420jpeg\n".encode())
        for clip in clips:
            for pixels in clip:
                file.write(b"FRAME\n" + cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path


@pytest.fixture
def red_camera(moving_square, tmp_path) -> Path:
    """A red square that goes down, over and over."""
    return write_camera(tmp_path / "red.y4m", [moving_square(0, 2, size=(64, 64), seed=3, tint=(1, 0.2, 0.2))])


def label_of(page, text: str) -> None:
    """Wait until the page shows this label."""
    page.locator("#label").get_by_text(text, exact=True).wait_for()


def violations(page) -> list[str]:
    """What axe-core finds wrong, in both themes."""
    from axe_playwright_python.sync_playwright import Axe

    found = []
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        for violation in Axe().run(page).response["violations"]:
            places = [node["html"][:120] for node in violation["nodes"]]
            found.append(f"{theme}: {violation['id']}: {places}")
    return found


# The flow goes down: yellow-green, as `flow_picture` says.
IS_GREENISH = """() => {
  const canvas = document.querySelector("#flow");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const sum = [0, 0, 0, 0];
  data.forEach((value, i) => (sum[i % 4] += value));
  return sum[1] > sum[0] && sum[0] > sum[2];
}"""


def test_the_camera_is_recognised_and_shown(at_work, red_camera, browse):
    page = browse(at_work, red_camera)
    page.get_by_role("button", name="Start the camera").click()
    label_of(page, "red")
    row = page.get_by_role("row", name="red")
    page.wait_for_function("() => document.querySelector('#scores .best td.fused').textContent.length > 1")
    assert int(row.get_by_role("cell").first.text_content().split("\u2009")[0]) > 50
    page.locator("#events b").get_by_text("red").first.wait_for()
    page.wait_for_function("() => Number(document.querySelector('.figures .big').textContent) > 0")
    page.wait_for_function(IS_GREENISH)
    assert violations(page) == []
    page.get_by_role("button", name="Stop").click()
    assert page.get_by_role("button", name="Start the camera").is_visible()


def test_a_video_is_recognised_live(at_work, moving_square, tmp_path, browse):
    from rgbflow.video.writing import write_video

    page = browse(at_work)
    write_video(tmp_path / "left.webm", moving_square(-2, 0, size=(64, 64), tint=(0.2, 0.3, 1)), 25)
    page.locator("#view-live input[type=file]").set_input_files(tmp_path / "left.webm")
    label_of(page, "left")
    assert page.evaluate("() => getComputedStyle(document.querySelector('#video')).transform") == "none"


def test_the_page_goes_on_when_the_server_is_back(seeing, serving, red_camera, browse):
    from rgbflow.serve.service import Networks, Service

    with serving(Service(Networks(seeing, "world", "given"))) as running:
        page = browse(running, red_camera)
        page.get_by_role("button", name="Start the camera").click()
        label_of(page, "red")
    page.get_by_text("The page goes on by itself").wait_for()
    assert page.get_by_text("server gone").is_visible()
    assert page.locator("#label").text_content() == "…"
    assert violations(page) == []
    with serving(Service(Networks(seeing, "world", "given")), port=running.port):
        label_of(page, "red")
        assert page.locator("#notice").is_hidden()
        page.close()


def test_a_token_is_asked_for_and_kept_in_the_tab(seeing, serving, browse):
    from rgbflow.serve.access import Access
    from rgbflow.serve.service import Networks, Service

    token = "correct-horse-battery"
    with serving(Service(Networks(seeing, "world", "given")), Access(token)) as running:
        page = browse(running)
        page.get_by_role("heading", name="This server asks for a token").wait_for()
        assert violations(page) == []
        page.get_by_role("textbox", name="Token").fill("wrong-horse-battery")
        page.keyboard.press("Enter")
        page.get_by_text("The server does not know that token").wait_for()
        page.get_by_role("textbox", name="Token").fill(token)
        page.get_by_role("button", name="Connect").click()
        page.get_by_text("connected", exact=True).wait_for()
        page.reload()
        page.get_by_text("connected", exact=True).wait_for()
        assert page.evaluate("() => JSON.stringify(localStorage)").find(token) < 0
        assert not [address for address in page.seen.requests if token in address]


def test_without_the_camera_the_page_says_what_to_do(at_work, browse):
    page = browse(at_work, camera=False)
    page.get_by_role("button", name="Start the camera").click()
    page.get_by_role("heading", name="The camera is not allowed").wait_for()
    assert page.get_by_role("button", name="Try again").is_visible()
    assert page.get_by_role("button", name="Choose a video").is_visible()
    assert violations(page) == []


def test_without_a_bundle_the_page_says_so(untaught, browse):
    page = browse(untaught)
    page.get_by_text("No bundle is loaded").wait_for()
    assert violations(page) == []


def greet(classes: list[str], updates: list[dict], sockets: list, name: str = "many") -> Callable:
    """A server in the page's stead: it knows these classes and sends these updates; its sockets go to a list."""
    bundle = {"name": name, "source": "given", "streams": ["rgb", "flow"], "frame_rate": 25.0, "engine": "torch"}
    fusion = {"method": "average", "threshold": 0.42}
    hello = {"type": "hello", "version": 1, "classes": classes, "bundle": bundle, "fusion": fusion}
    hello |= {"no_action": "none", "settings": {"start_score": 0.42}}

    def answer(socket):
        for message in (hello, *updates):
            socket.send(json.dumps(message))
        sockets.append(socket)

    return lambda page: page.route_web_socket("**/live", answer)


def update_of(seconds: float, label: str, score: float, scores: list[dict], action: str | None = None) -> dict:
    """A message with the current answer."""
    update = {"type": "update", "version": 1, "number": 1, "time": seconds, "label": label, "score": score}
    rest = {"evidence_start_seconds": 0, "latency_seconds": 0.01, "seconds": {}, "dropped": 0}
    return update | rest | {"action": action, "scores": scores}


def test_who_gets_no_name_is_told_why_and_what_helps(at_work, browse):
    sockets = []

    def send(seconds, best, score, label="unknown"):
        row = {"label": best, "fused": score, "rgb": score, "flow": score}
        sockets[-1].send(json.dumps(update_of(seconds, label, score, [row])))

    before = greet(["jump", "none", "wave"], [], sockets, name="taught")
    page = browse(at_work, before=before, viewport={"width": 390, "height": 844})
    page.get_by_text("Taught here").wait_for()
    sub, help_ = page.locator("#label-sub"), page.locator("#label-help")
    send(1, "wave", 0.31)
    sub.get_by_text("most like wave · 31\u2009% sure, 42\u2009% is the least for an action").wait_for()
    assert help_.is_hidden()
    send(6, "wave", 0.31)
    help_.get_by_role("link", name="Record more takes").wait_for()
    assert violations(page) == []
    help_.get_by_role("button", name="Accept less sure answers").click()
    chosen = page.get_by_label("An action starts when it is this sure")
    assert "as the bundle suggests (42\u2009%)" in chosen.text_content()
    page.keyboard.press("Escape")
    send(7, "none", 0.8)
    sub.get_by_text("none of the actions · 80\u2009% sure").wait_for()
    assert help_.is_hidden()
    send(8, "wave", 0.5, label="wave")
    sub.get_by_text("not long enough to call it an action").wait_for()


def test_a_hundred_classes_with_long_names_fit_on_a_phone(at_work, browse):
    classes = [f"an_action_with_a_very_long_name_indeed_that_goes_on_{i}" for i in range(99)] + ["x" * 90]
    scores = [{"label": name, "fused": (100 - i) / 5050, "rgb": None, "flow": 0.5} for i, name in enumerate(classes)]
    updates = [update_of(1.0, "x" * 90, 0.9, scores, action="x" * 90)]
    page = browse(at_work, before=greet(classes, updates, []), viewport={"width": 390, "height": 844})
    label_of(page, "x" * 90)
    page.get_by_role("button", name="Show all 100").click()
    assert page.locator("#scores tbody tr").count() == 100
    assert page.evaluate("() => document.documentElement.scrollWidth") == 390
    assert violations(page) == []


def test_the_keyboard_reaches_everything_and_the_theme_is_kept(at_work, browse):
    page = browse(at_work, color_scheme="light")
    page.get_by_text("connected", exact=True).wait_for()
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate("() => document.activeElement.ariaLabel || document.activeElement.textContent.trim()")
        )
    assert names[0] == "Skip to the content"
    for name in ("Live", "Theme: as the system", "Settings", "Start the camera", "Choose a video"):
        assert name in names
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme: light").click()
    page.reload()
    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    page.get_by_role("button", name="Settings").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    assert page.get_by_role("heading", name="Settings").is_hidden()


def test_settings_reach_the_server(at_work, browse):
    page = browse(at_work)
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
    page.reload()
    page.get_by_text("connected", exact=True).wait_for()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("An action starts when it is this sure").select_option("0.7")
    page.get_by_label("Show the flow").uncheck()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Settings").wait_for()
    page.wait_for_function("() => document.querySelector('#flow-box').hidden")
    messages = [json.loads(text) for text in sent if isinstance(text, str)]
    assert messages[-1]["start_score"] == 0.7
    assert messages[-1]["flow_picture"] is False
    page.reload()
    page.get_by_role("button", name="Settings").click()
    assert page.get_by_label("An action starts when it is this sure").input_value() == "0.7"


def test_the_module_can_be_used_without_the_page(at_work, browse):
    script = """async () => {
      const { connect } = await import("/rgbflow.js");
      const session = connect({ width: 64 });
      const heard = (type) =>
        new Promise((done) => session.addEventListener(type, (e) => done(e.detail), { once: true }));
      const hello = await heard("hello");
      const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
      const pen = canvas.getContext("2d");
      const update = heard("update");
      const pace = setInterval(() => {
        pen.fillStyle = `hsl(${performance.now() / 5} 50% 50%)`;
        pen.fillRect(0, 0, 64, 64);
        session.send(canvas);
      }, 40);
      const { number, label } = await update;
      clearInterval(pace);
      session.close();
      return { classes: hello.classes, number, label, state: session.state };
    }"""
    told = browse(at_work).evaluate(script)
    assert told["classes"] == ["green", "left", "red", "right"]
    assert told["number"] > 0
    assert told["label"] in (*told["classes"], "unknown")
    assert told["state"] == "closed"


def test_an_uploaded_video_gives_a_time_line(at_work, moving_square, tmp_path, browse):
    from rgbflow.video.writing import write_video

    clip = np.concatenate([moving_square(-2, 0, size=(64, 64), seed=5, tint=(0.2, 0.3, 1))] * 5)
    write_video(tmp_path / "left.mp4", clip, 25)
    (tmp_path / "notes.mp4").write_text("no video at all")
    page = browse(at_work)
    page.get_by_role("link", name="Video").click()
    assert violations(page) == []
    page.locator("#view-video input[type=file]").set_input_files(tmp_path / "notes.mp4")
    page.get_by_role("heading", name="That did not work").wait_for()
    assert "notes.mp4" in page.get_by_role("alert").text_content()
    page.locator("#view-video input[type=file]").set_input_files(tmp_path / "left.mp4")
    segment = page.locator(".segments button").first
    segment.wait_for()
    told = at_work.request("POST", "/predict?timeline=true", content=(tmp_path / "left.mp4").read_bytes()).json()
    assert segment.locator("b").text_content() == told["segments"][0]["label"] == "left"
    assert page.locator(".segments button").count() == len(told["segments"])
    page.locator(".segments button").last.click()
    expected = told["segments"][-1]["start_seconds"]
    page.wait_for_function(f"() => document.querySelector('.player video').currentTime >= {expected}")
    assert violations(page) == []


@pytest.fixture
def school(world, serving, tmp_path) -> Iterator:
    """A service that knows nothing yet and is taught with the networks of the world."""
    from rgbflow.serve.service import Service
    from rgbflow.serve.teaching import Teaching

    service = Service(None)
    with serving(service, teaching=Teaching(service, str(world.bundle), "given", tmp_path / "takes")) as running:
        yield running


def test_actions_are_taught_from_the_camera_and_from_files_and_then_recognised(
    school, red_camera, moving_square, tmp_path, browse
):
    from rgbflow.video.writing import write_video

    films = [tmp_path / f"{seed}.mp4" for seed in range(3)]
    for seed, film in enumerate(films):
        write_video(film, moving_square(-2, 0, frames=24, size=(64, 64), seed=seed, tint=(0.2, 0.3, 1)), 25)
    page = browse(school, red_camera)
    page.get_by_role("link", name="Teach the first action").click()
    assert violations(page) == []

    view = page.locator("#view-teach")
    view.get_by_role("button", name="Start the camera").click()
    view.get_by_label("Name of the action").fill("fall")
    view.get_by_label("Length").select_option("1.5")
    view.get_by_role("button", name="Record").click()
    page.get_by_text("Recording take 1 of 3").wait_for(state="attached")
    assert violations(page) == []
    view.get_by_role("button", name="Delete take 3 of fall").wait_for()

    view.get_by_label("Name of the action").fill("slide")
    view.locator("input[type=file]").set_input_files(films)
    view.get_by_role("button", name="Delete take 3 of slide").wait_for()
    view.get_by_role("button", name="Train", exact=True).click()
    view.get_by_text("What these figures do not say").wait_for()
    assert violations(page) == []
    with page.expect_download() as download:
        view.get_by_role("button", name="Save as a bundle").click()
    assert zipfile.is_zipfile(download.value.path())

    page.get_by_role("link", name="See it live").click()
    page.locator("#view-live").get_by_role("button", name="Start the camera").click()
    page.get_by_role("rowheader", name="slide").wait_for()
    label_of(page, "fall")


def test_what_is_taught_can_be_renamed_deleted_and_brought_back(school, moving_square, tmp_path, browse):
    from rgbflow.video.writing import write_video

    film = tmp_path / "film.mp4"
    write_video(film, moving_square(-2, 0, frames=24, size=(64, 64)), 25)
    for name in ("slide", "jump"):
        school.request("POST", f"/teach/actions/{name}/takes", content=film.read_bytes()).raise_for_status()
    page = browse(school, path="/#teach")
    page.get_by_role("button", name="Rename jump").click()
    page.get_by_label("New name of jump").fill("hop/1")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("hop/1").wait_for()
    page.get_by_role("button", name="Rename jump").click()
    page.get_by_label("New name of jump").fill("hop")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete take 1 of hop").click()
    page.get_by_role("button", name="Rename hop").wait_for(state="detached")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("button", name="Rename hop").wait_for()
    page.get_by_role("button", name="Delete slide").click()
    page.get_by_text("1 take of 1 action").wait_for()
    names = [action["name"] for action in school.get("/teach").json()["actions"]]
    assert names == ["hop"]
