"""A training and a live update beside other busy processes; writes docs/results/busy.md.

    python benchmarks/busy.py [--runs runs/busy] [--idle]

The same short training, and the same updates of each engine, run alone and beside as many busy processes as there are
cores, by turns: once with threads that spin at OpenMP's barriers, as libgomp's do by itself, once with threads that
sleep there, as rgbflow sets it. The busy processes are endless loops.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

from pages import write_page

from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "busy.md"
WAITING = {"spin": {"GOMP_SPINCOUNT": "300000"}, "sleep": {}}  # libgomp's own number of turns; what rgbflow sets
COMPANY = {"alone": 0, "busy": os.cpu_count() or 1}  # endless loops
ENGINES = ("torch", "onnx", "openvino")
BACKBONE, INPUT_SIZE, EPOCHS, ROUNDS, UPDATES = "resnet18", 96, 3, 3, 100


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Endless loops, each in a process of its own."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def run(arguments: Sequence[str | Path], environment: dict[str, str]) -> str:
    """What a Python process with these arguments prints, with nothing else in its environment about OpenMP."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env={**kept, **environment}, check=True, stdout=subprocess.PIPE, text=True).stdout


def make_data(folder: Path) -> None:
    """A small store, its split, and an exported bundle of random weights for the updates."""
    from rgbflow.data.cutting import make_split
    from rgbflow.data.layouts import read_class_folders
    from rgbflow.data.store import prepare_store
    from rgbflow.demo.run import PREPARATION
    from rgbflow.demo.synthetic import write_dataset

    write_dataset(folder / "videos", num_groups=10, clips_per_group=1)
    sources = read_class_folders(folder / "videos")
    prepare_store(sources, folder / "store", PREPARATION, 1)
    make_split(sources, "group", 0).save(folder / "split.json")
    for stream in ("rgb", "flow"):
        train(folder, stream, folder / "bundle", {}, epochs=1)
    for target in ("onnx", "openvino"):
        run(["-m", "rgbflow", "export", folder / "bundle", "--to", target], {})


def train(folder: Path, stream: str, out: Path, environment: dict[str, str], epochs: int = EPOCHS) -> float:
    """Seconds of a short training, imports left out."""
    settings = {"backbone": BACKBONE, "weights": "none", "input-size": INPUT_SIZE, "epochs": epochs, "stack-length": 5}
    options = [f"--{name}={value}" for name, value in settings.items()]
    options += [f"--split={folder / 'split.json'}", f"--stream={stream}", f"--out={out}"]
    run(["-m", "rgbflow", "train", folder / "store", *options], environment)
    return json.loads((out / "recognizer.json").read_text())["origin"][stream]["seconds"]


def time_training(folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """A short training of rgb from its start."""
    shutil.rmtree(folder / "trained", ignore_errors=True)
    return {"training, s": train(folder, "rgb", folder / "trained", environment)}


def time_updates(folder: Path, engine: str, environment: dict[str, str]) -> dict[str, float]:
    """An update, one snippet of each stream through its network: median milliseconds, mean ones of the processor."""
    taken, used = map(float, run([__file__, "--updates", engine, "--runs", folder], environment).split())
    return {f"update by {engine}, ms": taken, f"update by {engine}, processor ms": used}


def print_update_milliseconds(folder: Path, engine: str) -> None:
    """In a process of its own, since OpenMP reads its settings once."""
    import numpy as np

    from rgbflow import Recognizer

    recognizer = Recognizer.load(folder / "bundle", engine=engine)
    rng, sides = np.random.default_rng(0), recognizer.bundle.preparation
    snippets = {}
    for stream, spec in recognizer.bundle.streams.items():
        side = sides.side_of(stream)
        snippets[stream] = rng.integers(0, 256, (1, spec.channels, side, side * 5 // 4), dtype=np.uint8)
    recognizer.engine.answers(snippets)  # the first one prepares
    milliseconds, used = [], time.process_time()
    for _ in range(UPDATES):
        began = time.perf_counter()
        recognizer.engine.answers(snippets)
        milliseconds.append(1000 * (time.perf_counter() - began))
        time.sleep(0.02)  # as live, which waits for the camera
    print(median(milliseconds), 1000 * (time.process_time() - used) / UPDATES)


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Medians over some rounds of each thing that is timed, by waiting and company, such as "sleep busy"."""
    takes = [time_training, *(partial(time_updates, engine=engine) for engine in ENGINES)]
    times: dict[str, dict[str, list[float]]] = {}
    for take, (company, loops), (waiting, environment) in product(ROUNDS * takes, COMPANY.items(), WAITING.items()):
        with busy_processes(loops):
            for name, value in take(folder, environment=environment).items():
                print(name, waiting, company, value, file=sys.stderr, flush=True)
                times.setdefault(name, {}).setdefault(f"{waiting} {company}", []).append(value)
    return {name: {case: median(values) for case, values in cases.items()} for name, cases in times.items()}


def page(figures: dict[str, dict[str, float]], idle: bool) -> str:
    rows = []
    for name, row in figures.items():
        cells = []
        for waiting in WAITING:
            alone, busy = row[f"{waiting} alone"], row[f"{waiting} busy"]
            cells.append(f"{alone:.1f} | {busy:.1f} | {busy / alone:.1f}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    origin = describe_origin()
    place = "nothing else ran on the machine" if idle else "other work ran on the machine"
    return f"""\
# Beside busy processes

A short training (rgb, {BACKBONE} at {INPUT_SIZE}×{INPUT_SIZE}, {EPOCHS} epochs) and {UPDATES} updates (one snippet of
each stream, 20 ms between two) alone, and beside {COMPANY["busy"]} endless loops on as many cores. Medians of {ROUNDS}
rounds. OpenMP's threads spin at a barrier for some milliseconds before they sleep; rgbflow lets them sleep at
once (`OMP_WAIT_POLICY=PASSIVE`), unless the environment sets `OMP_WAIT_POLICY`, `GOMP_SPINCOUNT`, `KMP_BLOCKTIME` or
`KMP_LIBRARY`. The columns differ in torch's waiting only; ONNX Runtime's and OpenVINO's threads are set by the engines.

| timed | spin: alone | beside them | times | sleep: alone | beside them | times |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}; {place}.

```
python benchmarks/busy.py{" --idle" if idle else ""}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/busy"))
    parser.add_argument("--idle", action="store_true", help="say that nothing else ran on the machine")
    parser.add_argument("--updates", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.updates:
        print_update_milliseconds(options.runs, options.updates)
        return
    if not (options.runs / "bundle" / "flow.xml").exists():
        make_data(options.runs)
    write_page(PAGE, page(measure(options.runs), options.idle))


if __name__ == "__main__":
    main()
