"""Reading training examples from a store against reading JPEGs; writes docs/results/loading.md.

    python benchmarks/loading.py VIDEOS [--idle]      (the sample of UCF101 as class folders)

With --idle, on a machine that does nothing else, it also measures what only the clock can: two workers against one, and
the share of a training step of ResNet101 that is spent waiting for data.

Both read in one process with one thread, by turns, in blocks of examples. The figures are medians; times of single
examples are processor milliseconds, so that other work on the machine counts little.
"""

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import plain
import torch
import torch.nn.functional as F
from pages import write_page
from torch.utils.data import DataLoader

from rgbflow.data.dataset import ClipDataset, DrawnDataset, EpochSampler, collate_drawn, finish
from rgbflow.data.jpegs import open_store
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.splits import SplitClip
from rgbflow.data.store import Store, prepare_store
from rgbflow.flow import make_estimator
from rgbflow.networks.stream_net import StreamNet
from rgbflow.origin import describe_origin
from rgbflow.stream import FlowSettings, Preparation, StreamSpec
from rgbflow.transforms import Augmentation

PAGE = Path(__file__).parents[1] / "docs" / "results" / "loading.md"
NUM_CLIPS, JPEG_FRAMES, SIZE, STACK = 12, 40, 224, 10
BLOCKS, BLOCK = 12, 25
READS = 10_000
STEPS, BATCH = 12, 4
EPOCHS = 200  # of the clips, for two workers against one
FLOW = StreamSpec("flow", "resnet101", SIZE, STACK, (0.5, 0.5), (0.1, 0.1))
RGB = StreamSpec("rgb", "resnet101", SIZE, 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def make_both(videos: Path, folder: Path) -> tuple[Store, Path]:
    """A store of some clips, and the script's JPEGs of their first frames, with the same flow."""
    sources = read_class_folders(videos)
    sources = sources[:: len(sources) // NUM_CLIPS][:NUM_CLIPS]
    prepare_store(sources, folder / "store", Preparation())
    estimate = make_estimator(FlowSettings())
    for source in sources:
        method = lambda one, other: estimate(one, other).transpose(1, 2, 0)  # noqa: E731
        plain.extract(source.path, folder / "jpegs" / source.name, method, JPEG_FRAMES)
    return Store(folder / "store"), folder / "jpegs"


def part_of(rows: dict) -> list[SplitClip]:
    return [SplitClip(row.clip, row.label, row.group) for row in rows.values()]


def dataset(store, spec: StreamSpec) -> ClipDataset:
    part = part_of(store.rows)
    return ClipDataset(store, part, sorted({clip.label for clip in part}), spec, 1, Augmentation())


def by_turns(ways: dict[str, Callable[[int], object]]) -> dict[str, float]:
    """Median processor milliseconds of one example, by way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for block in range(-1, BLOCKS):
        for name, read in ways.items():
            for number in range(BLOCK):
                began = time.process_time()
                read(max(block, 0) * BLOCK + number)
                if block >= 0:  # the first one warms up
                    times[name].append(1000 * (time.process_time() - began))
    return {name: float(np.median(values)) for name, values in times.items()}


def single_examples(store: Store, jpegs: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of one example, by stream and way."""
    names, rng = list(store.rows), np.random.default_rng(0)
    both = {spec.stream: (dataset(store, spec), dataset(open_store(jpegs), spec)) for spec in (FLOW, RGB)}

    def clip(number: int) -> Path:
        return jpegs / names[number % len(names)]

    def flow(number: int) -> np.ndarray:
        return plain.read_flow(clip(number), int(rng.integers(JPEG_FRAMES - STACK)), STACK, SIZE, rng)

    def rgb(number: int) -> np.ndarray:
        return plain.read_rgb(clip(number), int(rng.integers(JPEG_FRAMES)), SIZE, rng)

    measured = {}
    for stream, script in (("flow", flow), ("rgb", rgb)):
        ours, layout = both[stream]
        measured[stream] = by_turns(
            {
                "rgbflow, its store": lambda number, ours=ours: ours[number, number % len(ours)],
                "rgbflow, the JPEGs": lambda number, layout=layout: layout[number, number % len(layout)],
                "the script, the JPEGs": script,
            }
        )
    return measured


def growth(store: Store) -> list[tuple[float, int]]:
    """MiB and open files that READS reads add after a first hundred, and that as many more add to these."""
    datasets = [dataset(store, spec) for spec in (FLOW, RGB)]

    def state() -> tuple[float, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20, len(os.listdir("/proc/self/fd"))

    states = []
    for number in range(2 * READS + 101):
        if number in (100, READS + 100, 2 * READS + 100):
            states.append(state())
        one = datasets[number % 2]
        one[number, number % len(one)]
    return [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(states)]


def large_manifest(folder: Path, clips: int = 300_000) -> tuple[float, int]:
    """Seconds to open a store of as many clips as Kinetics has, and the bytes that travel to each worker for it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "store" / "manifest.parquet")
    row = table.slice(0, 1).to_pylist()[0]
    rows = [{**row, "clip": f"{row['class']}/clip_{number:06d}"} for number in range(clips)]
    (folder / "large").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, table.schema), folder / "large" / "manifest.parquet")
    began = time.perf_counter()
    store = Store(folder / "large")
    return time.perf_counter() - began, len(pickle.dumps(store))


def clips_per_second(store: Store, workers: int) -> float:
    data = dataset(store, FLOW)
    keys = [(epoch, index) for epoch in range(EPOCHS) for index in range(len(data))]
    loader = DataLoader(DrawnDataset(data), 8, sampler=keys, num_workers=workers, collate_fn=collate_drawn)
    batches = iter(loader)
    next(batches)  # the workers have started
    began, clips = time.perf_counter(), 0
    for _, _, labels in batches:
        clips += len(labels)
    return clips / (time.perf_counter() - began)


def share_waiting(store: Store, spec: StreamSpec) -> tuple[float, float]:
    """Seconds of a training step of ResNet101 on all cores, and the share of them spent waiting for data, percent."""
    torch.set_num_threads(os.cpu_count() or 1)
    data = dataset(store, spec)
    network = StreamNet(spec, len(set(data.labels))).to(memory_format=torch.channels_last).train()
    sampler = EpochSampler(data, shuffle=True, seed=0)
    keys = [(epoch, index) for epoch in range(STEPS) for _, index in sampler]
    batches = iter(DataLoader(DrawnDataset(data), BATCH, sampler=keys, num_workers=1, collate_fn=collate_drawn))
    waited, began = 0.0, 0.0
    for step in range(STEPS + 1):
        asked = time.perf_counter()
        inputs, labels = finish(next(batches), spec, torch.device("cpu"))
        if step == 0:  # the first batch waits for the worker to start, once in a training
            began = time.perf_counter()
        else:
            waited += time.perf_counter() - asked
        F.cross_entropy(network(inputs), labels).backward()
        network.zero_grad()
    whole = time.perf_counter() - began
    torch.set_num_threads(1)
    return whole / (STEPS + 1), 100 * waited / whole


def by_the_clock(store: Store) -> list[str]:
    """The rows of the table that an idle machine gives."""
    rates = [(clips_per_second(store, 1), clips_per_second(store, 2)) for _ in range(3)]
    one, two = np.median(rates, axis=0)
    rows = [
        f"| flow clips a second, one worker and two | {one:.0f} and {two:.0f}: {two / one:.2f} times | at least 1.9 |"
    ]
    for spec in (FLOW, RGB):
        seconds, share = share_waiting(store, spec)
        what = (
            f"share of a ResNet101 step waiting for data, {spec.stream} ({seconds:.1f} s for {BATCH} clips, 1 worker)"
        )
        rows.append(f"| {what} | {share:.1f} % | under 3 % |")
    return rows


def page(
    examples: dict, grown: list[tuple[float, int]], manifest: tuple[float, int], clocked: list[str] | None = None
) -> str:
    """The results page."""
    table = "\n".join(
        f"| {stream} | {name} | {value:.1f} | "
        + ("" if name == "rgbflow, its store" else f"{value / ways['rgbflow, its store']:.1f} times")
        + " |"
        for stream, ways in examples.items()
        for name, value in ways.items()
    )
    flow, rgb = examples["flow"], examples["rgb"]
    ratio = flow["the script, the JPEGs"] / flow["rgbflow, its store"]
    steps = "\n".join(clocked or ["| two workers against one; share of training spent waiting | `--idle` | |"])
    origin, others = describe_origin(), "nothing else" if clocked else "much other work"
    return f"""# Loading, against reading JPEGs

{NUM_CLIPS} clips of UCF101 (Soomro et al. 2012) at 256 pixels with the same DIS flow, in a store and as the usual
extracted JPEGs of quality 95. A training example is a random snippet ({STACK} flow fields, or a frame), cropped at
random, scaled to {SIZE}×{SIZE}, mirrored half of the time and normalised. The script (`benchmarks/plain.py`) reads and
scales with OpenCV. Times are processor milliseconds of one thread, medians of {BLOCKS * BLOCK} examples; the
readers take turns in blocks.

| stream | read by, from | ms | against the store |
|---|---|---|---|
{table}

| figure | measured | aim |
|---|---|---|
| a random flow snippet against the JPEGs | {ratio:.1f} times as fast | at least 2.5 |
| a random flow snippet | {flow["rgbflow, its store"]:.1f} ms | at most 6 |
| a random rgb snippet | {rgb["rgbflow, its store"]:.1f} ms | at most 3 |
| growth over {READS:,} reads | {grown[0][0]:+.1f} MiB, {grown[0][1]:+d} open files | none |
| growth over {READS:,} more | {grown[1][0]:+.1f} MiB, {grown[1][1]:+d} open files | none |
| opening the manifest of 300,000 clips in a worker | {manifest[0]:.2f} s; {manifest[1]} bytes sent to the worker | |
{steps}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]};
{others} ran on the machine.

```
python benchmarks/loading.py VIDEOS{" --idle" if clocked else ""}
```
"""


def main(videos: Path, idle: bool) -> None:
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, jpegs = make_both(videos, folder)
        examples = single_examples(store, jpegs)
        print(examples, file=sys.stderr)
        manifest = large_manifest(folder)
        grown = growth(store)
        print(manifest, grown, file=sys.stderr)
        clocked = by_the_clock(store) if idle else None
        print(clocked, file=sys.stderr)
    write_page(PAGE, page(examples, grown, manifest, clocked))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--idle" in sys.argv[2:])
