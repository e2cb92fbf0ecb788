"""Preparing a data set against the plain script, clip by clip in one run; writes docs/results/preparing.md.

    python benchmarks/prepare.py VIDEOS          (the sample of UCF101 as class folders)

Times are processor seconds of one process with one thread, so that other work on the machine counts little.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import plain
from pages import write_page

from rgbflow.data.layouts import SourceClip, read_class_folders
from rgbflow.data.store import prepare_clip, stored_file
from rgbflow.origin import describe_origin
from rgbflow.stream import Preparation
from rgbflow.video.reading import decode
from rgbflow.video.writing import write_video

PAGE = Path(__file__).parents[1] / "docs" / "results" / "preparing.md"
NUM_CLIPS, TVL1_FRAMES, FARNEBACK_FRAMES = 9, 6, 40  # TV-L1 takes half a second for each pair
UCF101_FRAMES = 2_483_295  # by its lists
LENGTHS = (300, 6000)  # frames of the videos whose preparation is weighed


def seconds_per_frame(work: Callable[[], int]) -> float:
    """Processor seconds per frame of work that tells how many frames it did."""
    began = time.process_time()
    frames = work()
    return (time.process_time() - began) / frames


def compare(source: SourceClip, folder: Path) -> list[float]:
    """Seconds per frame of a clip: rgbflow, the script with Farneback, the script with TV-L1."""
    jpegs = folder / "jpegs" / source.name
    seconds = [
        seconds_per_frame(lambda: prepare_clip(source, folder / "store", Preparation()).frames),
        seconds_per_frame(lambda: plain.extract(source.path, jpegs, plain.farneback(), FARNEBACK_FRAMES)),
        # The first frame has no flow: pairs are what TV-L1 is paid for.
        seconds_per_frame(lambda: plain.extract(source.path, jpegs, plain.tvl1(), TVL1_FRAMES) - 1),
    ]
    print(f"{source.name}: {[round(1000 * value, 1) for value in seconds]} ms a frame", file=sys.stderr)
    return seconds


def prepare_all(sources: list[SourceClip], folder: Path) -> tuple[int, float, dict[str, float]]:
    """Frames, processor seconds, and bytes per frame of each stream, of a whole data set."""
    began = time.process_time()
    rows = [prepare_clip(source, folder, Preparation()) for source in sources]
    seconds, frames = time.process_time() - began, sum(row.frames for row in rows)
    sizes = {
        stream: sum(stored_file(folder, stream, row.clip).stat().st_size for row in rows) / frames
        for stream in ("rgb", "flow")
    }
    return frames, seconds, sizes


def peak_memory(source: Path, folder: Path) -> dict[int, float]:
    """Peak resident MiB of a process that prepares a video of each length, made of one clip's frames."""
    frames = [frame.pixels for frame in decode(source)]
    code = (
        "import re, sys; from pathlib import Path; from rgbflow.data.layouts import SourceClip\n"
        "from rgbflow.data.store import prepare_clip; from rgbflow.stream import Preparation\n"
        "path = Path(sys.argv[1])\n"
        "prepare_clip(SourceClip('a/' + path.stem, 'a', 'g', path), path.parent / 'long', Preparation())\n"
        "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]) / 1024)"
    )
    peaks = {}
    for length in LENGTHS:
        path = folder / f"{length}.mp4"
        write_video(path, (frames[index % len(frames)] for index in range(length)), 25)
        peaks[length] = float(
            subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True).stdout
        )
    return peaks


def page(clips: np.ndarray, whole: tuple[int, float, dict[str, float]], peaks: dict[int, float]) -> str:
    """The results page."""
    frames, seconds, sizes = whole
    ours, farneback, tvl1 = 1000 * np.median(clips, axis=0)
    ratios = {name: np.median(clips[:, place] / clips[:, 0]) for place, name in ((1, "Farneback"), (2, "TV-L1"))}
    hours = seconds / frames * UCF101_FRAMES / 3600
    origin = describe_origin()
    return f"""# Preparing, against the plain script

{len(clips)} clips of UCF101 (Soomro et al. 2012), each prepared by `rgbflow prepare` (all its frames) and by a typical
script (`benchmarks/plain.py`: OpenCV, a JPEG of quality 95 for each frame and direction; the first {FARNEBACK_FRAMES}
frames with Farneback, {TVL1_FRAMES} with TV-L1). Times are processor time of one thread, medians over clips.

| what | ms a frame | the script against rgbflow |
|---|---|---|
| rgbflow, default flow (DIS fast) | {ours:.1f} | |
| the script, Farneback | {farneback:.1f} | {ratios["Farneback"]:.1f} times |
| the script, TV-L1 | {tvl1:.0f} | {ratios["TV-L1"]:.0f} times |

| figure | measured | aim |
|---|---|---|
| preparing against the TV-L1 script, per core | {ratios["TV-L1"]:.0f} times as fast | at least 60 |
| all of UCF101 ({UCF101_FRAMES:,} frames), from the sample's {frames:,} | {hours:.1f} core-hours | at most 5 |
| the store of all of UCF101, by the same measure | {UCF101_FRAMES * sum(sizes.values()) / 1e9:.0f} GB, of which flow \
{UCF101_FRAMES * sizes["flow"] / 1e9:.1f} GB | |
| peak memory of a process, a video of {LENGTHS[0]:,} frames | {peaks[LENGTHS[0]]:.0f} MiB | at most 400 |
| peak memory of a process, a video of {LENGTHS[1]:,} frames | {peaks[LENGTHS[1]]:.0f} MiB | at most 400, flat |

[data.md](../data.md) gives the bytes and the error of flow by codec: a field takes a fifth of two JPEGs of quality 95,
with a smaller error.

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}; other work ran on the machine.

```
python benchmarks/prepare.py VIDEOS
```
"""


def main(videos: Path) -> None:
    cv2.setNumThreads(1)
    sources = read_class_folders(videos)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_clip(sources[0], folder / "warm", Preparation())
        clips = np.array([compare(source, folder) for source in sources[:: len(sources) // NUM_CLIPS][:NUM_CLIPS]])
        whole = prepare_all(sources, folder / "whole")
        peaks = peak_memory(sources[0].path, folder)
    write_page(PAGE, page(clips, whole, peaks))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
