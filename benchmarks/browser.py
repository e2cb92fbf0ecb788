"""From the browser's capture to the drawn label: Chromium, the service and the networks on one machine.

    python benchmarks/browser.py BUNDLE VIDEO [--seconds 60]

Chromium's camera is VIDEO, again and again at 30 frames a second and 320×240. `rgbflow serve` runs in a process of its
own, on the same cores. A frame's time begins with its capture, as the browser stamps it, and ends after the frame of
the screen with its label was painted. Writes docs/results/browser.md. Every other program on the machine makes the
figures worse than they are.
"""

import argparse
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from pages import write_page
from playwright.sync_api import Page, sync_playwright

from rgbflow.bundle import load_bundle
from rgbflow.origin import describe_origin
from rgbflow.video import decode

RESULT = Path(__file__).parents[1] / "docs" / "results" / "browser.md"
SIZE = (320, 240)
WARM_SECONDS = 10
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
RECORD = """() => {
  window.records = [];
  document.querySelector("#timing").addEventListener("timed", (event) => window.records.push(event.detail));
}"""


def write_camera(video: Path, path: Path) -> None:
    """The video as the raw one that Chromium takes for its camera."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{SIZE[0]} H{SIZE[1]} F30:1 Ip A1:1 C420jpeg\n".encode())
        for frame in decode(video):
            small = cv2.resize(frame.pixels, SIZE, interpolation=cv2.INTER_AREA)
            file.write(b"FRAME\n" + cv2.cvtColor(small, cv2.COLOR_RGB2YUV_I420).tobytes())


@contextmanager
def service(bundle: str) -> Iterator[tuple[str, str]]:
    """`rgbflow serve`; gives its address and what runs the networks."""
    command = [sys.executable, "-m", "rgbflow", "serve", bundle, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                found = re.search(r"at (http://\S+) with (.*);", line)
                if found:
                    yield found[1], found[2]
                    return
            raise RuntimeError(f"`{shlex.join(command)}` did not start")
        finally:
            process.terminate()


def measure(page: Page, seconds: float) -> tuple[list[dict], float]:
    """Seconds by stage of each drawn update, and how long the first label took from the click on."""
    page.get_by_role("button", name="Start the camera").click()
    began = time.monotonic()
    page.wait_for_function("() => document.querySelector('#label-sub').textContent.includes('sure')")
    first = time.monotonic() - began
    page.wait_for_timeout(1000 * WARM_SECONDS)
    page.evaluate(RECORD)
    page.wait_for_timeout(1000 * seconds)
    return page.evaluate("() => window.records"), first


def percentiles(values: list[float], *which: float) -> str:
    return " / ".join(f"{1000 * value:.1f}" for value in np.percentile(values, which))


def described(bundle: str, engine: str) -> str:
    record = load_bundle(Path(bundle))
    networks = ", ".join(
        f"{name} {spec.backbone} at {spec.input_size} with L = {spec.stack_length}"
        for name, spec in record.streams.items()
    )
    return f"Networks: {networks}; frames of {record.preparation.short_side} pixels; {engine}."


def page(networks: str, records: list[dict], first: float, seconds: float) -> str:
    """The results page."""
    names = list(dict.fromkeys(name for record in records for name in record if name != "total"))
    columns = {name: [record[name] for record in records if record.get(name) is not None] for name in names}
    stages = "\n".join(
        f"| {name} | {len(values)} | {percentiles(values, 50, 95)} |" for name, values in columns.items()
    )
    total = [record["total"] for record in records]
    origin = describe_origin()
    return f"""# In the browser, from the capture to the drawn label

Chromium, whose camera is a real clip at 30 frames a second and {SIZE[0]}×{SIZE[1]}, shows the page with the
picture, the flow and the avatar; `rgbflow serve` runs in a process of its own on the same cores; {seconds:g} seconds,
after {WARM_SECONDS} that are not counted. Chromium draws without a GPU here.
{networks}

| figure | measured | aim |
|---|---|---|
| capture to drawn label, p50 / p95, ms | {percentiles(total, 50, 95)} | p50 under 120 |
| of it the network, p50 / p95, ms | {percentiles(columns["network"], 50, 95)} | |
| drawn updates a second | {len(records) / seconds:.1f} | |
| from the click on "Start the camera" to the first label, s | {first:.1f} | 2 |

| stage | runs | p50 / p95, ms |
|---|---|---|
{stages}

"encoding" lasts from the browser's time stamp of the frame until its JPEG is sent; "network" is what is left of the
time until the answer came when the service's own is taken off; "drawing" ends after the frame of the screen.

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}.

```
python benchmarks/browser.py {shlex.join(sys.argv[1:])}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        service(arguments.bundle) as (address, engine),
        sync_playwright() as playwright,
    ):
        camera = Path(folder) / "camera.y4m"
        write_camera(arguments.video, camera)
        flags = [*FLAGS, "--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={camera}"]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        shown = browser.new_context(permissions=["camera"], viewport={"width": 1280, "height": 800}).new_page()
        shown.set_default_timeout(120_000)
        shown.goto(address)
        records, first = measure(shown, arguments.seconds)
        browser.close()
    write_page(RESULT, page(described(arguments.bundle, engine), records, first, arguments.seconds))


if __name__ == "__main__":
    main()
