"""Methods of optical flow: milliseconds a pair against what the flow stream makes of it; writes docs/results/flow.md.

    python benchmarks/flow_methods.py VIDEOS [--runs runs/flow-methods] [--jobs 2]

VIDEOS is Weizmann: class folders with a groups.tsv. Every method is trained alike on three folds that test every clip
once, three persons at a time. A stopped run goes on. The milliseconds are processor time of one thread, measured by
turns on the same pairs, so that other work on the machine counts little.
"""

import argparse
import json
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from pages import rgbflow, write_page

from rgbflow.clip import to_working_size
from rgbflow.commands.terminal import track
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import MANIFEST
from rgbflow.data.splits import load_split
from rgbflow.flow import make_estimator
from rgbflow.learn.metrics import group_interval, wilson_interval
from rgbflow.learn.page import PALETTES
from rgbflow.learn.presets import LITE
from rgbflow.learn.runs import Run, clip_hits, mean_by_clip, percent
from rgbflow.learn.scores import read_scores
from rgbflow.learn.tasks import SCORES, Evaluating, Training, free_devices, run_tasks
from rgbflow.origin import describe_origin
from rgbflow.stream import NUM_SNIPPETS, FlowSettings, Preparation
from rgbflow.video.reading import decode

PAGE = Path(__file__).parents[1] / "docs" / "results" / "flow.md"
SHORT_SIDE = 144
METHODS = {
    "DIS ultrafast": FlowSettings("dis", "ultrafast"),
    "DIS fast": FlowSettings("dis", "fast"),
    "DIS medium": FlowSettings("dis", "medium"),
    "Farneback": FlowSettings("farneback"),
    "TV-L1": FlowSettings("tvl1"),
}
DEFAULT = "DIS fast"
CONFIG = replace(LITE, input_size=112, num_segments=1, epochs=30, workers=0)
CLIPS, PAIRS = 6, 5  # of which the time is measured


def milliseconds(videos: Path) -> dict[str, float]:
    """Median processor time of one pair at the working size, for each method."""
    cv2.setNumThreads(1)
    preparation, pairs = Preparation(SHORT_SIDE), []
    sources = read_class_folders(videos)
    for source in sources[:: len(sources) // CLIPS][:CLIPS]:
        frames = [to_working_size(frame.pixels, preparation) for frame in decode(source.path)]
        gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[: PAIRS + 1]]
        pairs += pairwise(gray)
    taken = {name: [] for name in METHODS}
    for pair in pairs:
        for name, settings in METHODS.items():
            estimate = make_estimator(settings, replace(preparation, flow=settings).flow_reduction)
            began = time.process_time()
            estimate(*pair)
            taken[name].append(1000 * (time.process_time() - began))
    return {name: float(np.median(times)) for name, times in taken.items()}


def runs_of(folder: Path, videos: Path, seeds: int) -> list[Run]:
    """Three folds of whole persons, each with some seeds."""
    persons = sorted({clip.group for clip in read_class_folders(videos)})
    runs = []
    for fold in range(3):
        split = folder / f"fold{fold}.json"
        if not split.is_file():
            held_out = " ".join(persons[3 * fold : 3 * fold + 3])
            rgbflow(f"split {store_of(folder, DEFAULT)} --holdout {held_out} --out {split}")
        runs += [Run(f"fold{fold}-seed{seed}", split, 10 * seed + fold) for seed in range(seeds)]
    return runs


def store_of(folder: Path, name: str) -> Path:
    return folder / f"store-{name.lower().replace(' ', '-')}"


def prepare(folder: Path, videos: Path) -> dict[str, float]:
    """A store for each method; megabytes of its flow."""
    for name, settings in METHODS.items():
        if not (store_of(folder, name) / MANIFEST).is_file():
            preset = f"--preset {settings.preset}" if settings.method == "dis" else ""
            flags = f"--flow {settings.method} {preset} --short-side {SHORT_SIDE}"
            rgbflow(f"prepare {videos} --out {store_of(folder, name)} {flags}")
    return {
        name: sum(path.stat().st_size for path in store_of(folder, name).glob("flow/*/*")) / 1e6 for name in METHODS
    }


def train(folder: Path, runs: list[Run], jobs: int) -> None:
    """Train and test what is missing, run after run."""
    trainings, evaluations = [], []
    for run in runs:
        for name in METHODS:
            store, bundle = store_of(folder, name), folder / run.name / store_of(folder, name).name
            config = replace(CONFIG, seed=run.seed)
            trainings.append(Training(f"{run.name} {name}", store, run.split, "flow", bundle, config))
            evaluations.append(Evaluating(f"{run.name} {name}", store, run.split, bundle, NUM_SNIPPETS))
    run_tasks(trainings, free_devices(CONFIG.device, jobs), track)
    run_tasks(evaluations, free_devices(CONFIG.device, jobs), track)


def hits(folder: Path, run: Run, name: str) -> dict[str, float]:
    """Which test clips of a run the flow stream names rightly with the flow of a method."""
    (file,) = read_scores([folder / run.name / store_of(folder, name).name / SCORES])
    return clip_hits(file.names, file.probabilities()["flow"], file.labels)


def measure(folder: Path, runs: list[Run]) -> list[dict]:
    """Top-1 of each method, and how far it is from the default on the same clips."""
    groups = {clip.name: clip.group for run in runs for clip in load_split(run.split).test}
    reference = mean_by_clip([hits(folder, run, DEFAULT) for run in runs])
    rows = []
    for name in METHODS:
        top1 = mean_by_clip([hits(folder, run, name) for run in runs])
        ahead = {clip: top1[clip] - reference[clip] for clip in top1}
        rows.append(
            {
                "method": name,
                "clips": len(top1),
                "top1": percent(top1),
                "top1_interval": wilson_interval(round(sum(top1.values())), len(top1)),
                "above_default": percent(ahead),
                "above_default_interval": group_interval(ahead, groups),
            }
        )
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """Top-1 with its interval over the milliseconds of a pair."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    for index, row in enumerate(rows):
        low, high = row["top1_interval"]
        axis.plot([row["milliseconds"]] * 2, [low, high], color=PALETTES["light"]["flow"], linewidth=4, alpha=0.35)
        axis.plot(row["milliseconds"], row["top1"], "o", color=PALETTES["light"]["flow"])
        axis.annotate(
            row["method"], (row["milliseconds"], row["top1"]), (7, (-13, 3)[index % 2]), textcoords="offset points"
        )
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds a pair, one thread")
    axis.set_ylabel("flow stream: top-1, %")
    axis.margins(x=0.2)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def page(rows: list[dict], seeds: int) -> str:
    """The results page."""
    origin = describe_origin()
    lines = []
    for row in rows:
        low, high = row["top1_interval"]
        interval = "{:+.1f} to {:+.1f}".format(*row["above_default_interval"])
        difference = "" if row["method"] == DEFAULT else f"{row['above_default']:+.1f} ({interval})"
        costs = f"{row['milliseconds']:.2f} | {row['megabytes']:.1f}"
        lines.append(f"| {row['method']} | {costs} | **{row['top1']:.1f}** | {low:.1f} – {high:.1f} | {difference} |")
    return f"""# Methods of optical flow

Accuracy of the flow stream with each method's flow, under the same training: Weizmann (Gorelick et al. 2007),
{rows[0]["clips"]} test clips in three folds of three persons, {seeds} seed(s); the preset `lite` at
{CONFIG.input_size} pixels, S = 1, {CONFIG.epochs} epochs. Milliseconds are processor time of one thread for a pair at
the working size (180×144); the methods take turns on the same {CLIPS * PAIRS} pairs. Top-1 is a percentage of whole
videos with its Wilson interval. The difference is on the same clips; its interval takes a person as one observation.

| method | ms a pair | MB of flow | flow top-1 % | 95 % interval | above {DEFAULT} |
|---|---|---|---|---|---|
{chr(10).join(lines)}

![Top-1 over milliseconds](flow.png)

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make flow-methods` prepares, trains, tests
and writes this page; a stopped run resumes.
"""


def main(videos: Path, folder: Path, jobs: int, seeds: int) -> None:
    """Run what is missing, then write the page, its picture and the figures as JSON."""
    costs, sizes = milliseconds(videos), prepare(folder, videos)
    runs = runs_of(folder, videos, seeds)
    train(folder, runs, jobs)
    rows = [
        {**row, "milliseconds": costs[row["method"]], "megabytes": sizes[row["method"]]}
        for row in measure(folder, runs)
    ]
    draw(rows, PAGE.with_suffix(".png"))
    PAGE.with_suffix(".json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    write_page(PAGE, page(rows, seeds))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/flow-methods"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.videos, arguments.runs, arguments.jobs, arguments.seeds)
