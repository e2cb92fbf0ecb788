"""Live recognition over minutes, and of several cameras at once; writes docs/results/live.md.

    python benchmarks/live.py BUNDLE VIDEO [--minutes 10] [--cameras 8] [--camera-bundle BUNDLE]
                              [--rule-bundle BUNDLE] [--rule-videos GLOB]

BUNDLE sees VIDEO, looped at 30 frames a second, for so many minutes, as a camera would send it. Then so many
recognisers of --camera-bundle (BUNDLE if not given), 10 updates a second each, share one engine for two minutes. What
the rule for the rgb network changes is measured with --rule-bundle (the cameras', if not given), a trained one, on
--rule-videos (VIDEO if not given), which its training should not have seen. It takes --minutes and about five more.
Every other program on the machine makes the figures worse than they are.
"""

import argparse
import glob
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pages import write_page

from rgbflow import Recognizer
from rgbflow.live.batching import SharedEngine
from rgbflow.live.camera import in_real_time
from rgbflow.live.feed import Feed
from rgbflow.live.session import LiveRecognizer, Update
from rgbflow.live.watch import watch
from rgbflow.origin import describe_origin
from rgbflow.video.reading import Frame, decode

PAGE = Path(__file__).parents[1] / "docs" / "results" / "live.md"
RATE = 30.0  # frames per second of the camera
CAMERA_UPDATES, CAMERA_SECONDS = 10.0, 120.0
APART_SECONDS = 0.137  # between the starts of two cameras: real ones are not in step either
WARM_SECONDS = 10.0  # not counted


def looped(video: Path, seconds: float) -> Iterator[Frame]:
    """The frames of a file, again and again, as a camera sends them."""
    count = 0
    while True:
        for frame in decode(video):
            if count >= seconds * RATE:
                return
            yield Frame(frame.pixels, count / RATE)
            count += 1


def memory() -> float:
    """MiB of this process now."""
    status = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in status if line.startswith("VmRSS"))) / 1024


@dataclass
class Measured:
    """What one recogniser did after its warm-up; times in milliseconds.

    Attributes:
        latencies: of each update, from the arrival of its frame.
        stages: of each update that ran them.
        waits: of each frame, from its arrival until its flow was begun.
        memory: MiB, once a second.
    """

    latencies: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    received: int = 0
    dropped: int = 0

    def add(self, update: Update) -> None:
        self.latencies.append(1000 * update.latency_seconds)
        for stage, seconds in update.prediction.seconds.items():
            self.stages.setdefault(stage, []).append(1000 * seconds)


def run(live: LiveRecognizer, video: Path, seconds: float, warm_seconds: float = WARM_SECONDS) -> Measured:
    """Watch a video for so long, after the seconds that warm up and are not counted."""
    measured, see, warm = Measured(), live.see, [True]

    def see_and_count(pixels: np.ndarray, pts_seconds: float, arrived: float) -> bool:
        if not warm[0]:
            measured.waits.append(1000 * (time.perf_counter() - arrived))
        return see(pixels, pts_seconds, arrived)

    live.see = see_and_count
    began, told = time.monotonic(), 0.0
    with Feed(lambda: in_real_time(looped(video, seconds + warm_seconds)), reopens=False) as feed:
        before = (0, 0)
        for update in watch(live, feed):
            now = time.monotonic() - began
            if now < warm_seconds:
                before = feed.received, feed.dropped
                continue
            warm[0] = False
            measured.add(update)
            if now - told >= 1:
                told = now
                measured.memory.append(memory())
        measured.received, measured.dropped = feed.received - before[0], feed.dropped - before[1]
    return measured


def several(recognizer: Recognizer, video: Path, cameras: int) -> list[Measured]:
    """So many cameras at once, on one engine."""
    found: list[Measured] = []
    with SharedEngine(recognizer.engine, max_batch=cameras) as engine:

        def watch_one(number: int) -> None:
            time.sleep(number * APART_SECONDS)
            live = recognizer.live(updates_per_second=CAMERA_UPDATES, engine=engine)
            found.append(run(live, video, CAMERA_SECONDS))

        threads = [threading.Thread(target=watch_one, args=(number,)) for number in range(cameras)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return found


def by_rule_and_always(recognizer: Recognizer, videos: list[Path]) -> tuple[float, float, float]:
    """What the rule for the rgb network changes, over one pass of each video.

    Returns:
        Share of updates that ran rgb, and share whose label is that of running it each time, percent; and the mean
        difference of all scores, in points.
    """
    runs = []
    for always in (False, True):
        runs.append([])
        for video in videos:
            live = recognizer.live()
            if always:
                live._scene.needs_look = lambda frame, seconds: True
            updates = (live.push(frame.pixels, frame.pts_seconds) for frame in decode(video))
            runs[-1] += [update.prediction for update in updates if update is not None]
    ran = 100 * np.mean(["rgb network" in prediction.seconds for prediction in runs[0]])
    same = 100 * np.mean([one.label == other.label for one, other in zip(*runs, strict=True)])
    apart = 100 * np.mean([np.abs(one.scores - other.scores).mean() for one, other in zip(*runs, strict=True)])
    return float(ran), float(same), float(apart)


def percentiles(values: list[float], *which: float) -> str:
    return " / ".join(f"{value:.1f}" for value in np.percentile(values, which))


def described(recognizer: Recognizer) -> str:
    """What runs."""
    specs, size = recognizer.bundle.streams, recognizer.bundle.preparation.short_side
    networks = ", ".join(
        f"{name} {spec.backbone} at {spec.input_size} with L = {spec.stack_length}" for name, spec in specs.items()
    )
    return f"Networks: {networks};\nframes of {size} pixels; {recognizer.engine.name}."


def page(
    arguments: argparse.Namespace,
    recognizer: Recognizer,
    shared: Recognizer,
    soak: Measured,
    fixed: float,
    cameras: list[Measured],
    rule: tuple,
) -> str:
    """The results page."""
    quarter = len(soak.latencies) // 4
    first, last = np.median(soak.latencies[:quarter]), np.median(soak.latencies[-quarter:])
    tenth = max(1, len(soak.memory) // 10)
    grown = np.median(soak.memory[-tenth:]) - np.median(soak.memory[tenth : 2 * tenth])
    stages = "\n".join(f"| {stage} | {len(v)} | {percentiles(v, 50, 95)} |" for stage, v in soak.stages.items())
    seconds, counts = arguments.minutes * 60, [len(one.latencies) for one in cameras]
    together = [latency for one in cameras for latency in one.latencies]
    rates = f"{min(counts) / CAMERA_SECONDS:.1f} to {max(counts) / CAMERA_SECONDS:.1f}"
    rule_bundle = arguments.rule_bundle or "the bundle below"
    slow, files, ran, same, apart = sum(wait > 100 for wait in soak.waits), *rule
    origin = describe_origin()
    return f"""# Live, from the camera's frame to the label

A real file is looped at {RATE:.0f} frames a second through `Recognizer.live`, as in `rgbflow live` (capture, flow and
networks in three threads), for {arguments.minutes:g} minutes. The first {WARM_SECONDS:.0f} seconds are not counted.
{described(recognizer)}

| figure | measured | aim |
|---|---|---|
| frame to label, p50 / p95 / p99, ms | {percentiles(soak.latencies, 50, 95, 99)} | |
| updates a second | {len(soak.latencies) / seconds:.1f} | |
| frames received / dropped | {soak.received:,} / {soak.dropped:,} | |
| frames that waited over 100 ms for their flow | {slow} of {len(soak.waits):,} | 0 |
| median latency in the first and the last quarter, ms | {first:.1f} and {last:.1f} | no growth |
| memory, from the second tenth to the last | {grown:+.1f} MiB | no growth |
| memory beyond the networks and the program | {max(soak.memory) - fixed:.0f} MiB | at most 150 |

| stage | runs | p50 / p95, ms |
|---|---|---|
{stages}

The rule for the rgb network was tested over one pass of {files} file(s) with {rule_bundle}. The network ran in
{ran:.0f} % of the updates. Compared with running it in each update, {same:.1f} % of the labels are the same, and the
scores differ by {apart:.2f} points on average.

## {len(cameras)} at once

The recognisers share one engine, with at most {CAMERA_UPDATES:.0f} updates a second each, for {CAMERA_SECONDS:.0f}
seconds. Each camera starts {APART_SECONDS} seconds after the previous one.
{described(shared)}

| figure | measured | aim for `lite` |
|---|---|---|
| frame to label, p50 / p95 / p99, ms | {percentiles(together, 50, 95, 99)} | p95 at most 100 |
| updates a second, slowest to fastest recogniser | {rates} | {CAMERA_UPDATES:.0f} |

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {torch.get_num_threads()} threads; {origin["date"]}.

```
python benchmarks/live.py {shlex.join(sys.argv[1:])}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    parser.add_argument("video", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--camera-bundle")
    parser.add_argument("--rule-bundle")
    parser.add_argument("--rule-videos", metavar="GLOB")
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.bundle, engine="auto")
    recognizer.predict(arguments.video, num_snippets=1)  # the networks have their memory now
    fixed = memory()
    soak = run(recognizer.live(), arguments.video, arguments.minutes * 60)
    print(percentiles(soak.latencies, 50, 95, 99), soak.dropped, file=sys.stderr)
    shared = Recognizer.load(arguments.camera_bundle, engine="auto") if arguments.camera_bundle else recognizer
    rule_videos = sorted(glob.glob(arguments.rule_videos)) if arguments.rule_videos else [arguments.video]
    ruled = Recognizer.load(arguments.rule_bundle, engine="auto") if arguments.rule_bundle else shared
    rule = (len(rule_videos), *by_rule_and_always(ruled, rule_videos))
    print(rule, file=sys.stderr)
    cameras = several(shared, arguments.video, arguments.cameras)
    write_page(PAGE, page(arguments, recognizer, shared, soak, fixed, cameras, rule))


if __name__ == "__main__":
    main()
