"""README's plain commands on real clips, persons or places held out: writes docs/results/strong.md.

    python benchmarks/strong.py DATA [--runs runs/strong] [--jobs 2]

DATA holds weizmann/ and ut-interaction/, class folders with a groups.tsv. Weizmann: each of its nine persons is held
out once, three at a time. UT-Interaction: each of its two places is held out once, and each of its twenty sequences
once, four at a time. Each fold is prepared, trained, calibrated and evaluated without a flag. A stopped run goes on;
the page can be written when some folds are missing, and then says so.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pages import rgbflow, settings_of, write_page

from rgbflow.bundle import load_bundle
from rgbflow.commands.terminal import track
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import MANIFEST
from rgbflow.data.splits import load_split
from rgbflow.learn.metrics import group_interval, wilson_interval
from rgbflow.learn.presets import LITE
from rgbflow.learn.runs import clip_hits, percent
from rgbflow.learn.scores import read_scores
from rgbflow.learn.tasks import Evaluating, Task, Training, free_devices, run_tasks
from rgbflow.origin import describe_origin
from rgbflow.stream import NUM_SNIPPETS, STREAMS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "strong.md"
CONFIG = replace(LITE, workers=0)  # which does not change the result
SCORERS = (*STREAMS, "fused")


@dataclass(frozen=True, eq=False)
class Fold:
    """Both streams trained and tested on one split."""

    name: str
    store: Path
    split: Path
    bundle: Path
    seed: int

    def tasks(self) -> list[Task]:
        config = replace(CONFIG, seed=self.seed)
        trainings = [Training(f"{self.name} {s}", self.store, self.split, s, self.bundle, config) for s in STREAMS]
        return [*trainings, self.evaluating()]

    def evaluating(self) -> Evaluating:
        return Evaluating(self.name, self.store, self.split, self.bundle, NUM_SNIPPETS)

    def calibrate(self) -> None:
        """Fit the fusion on val, unless that was done."""
        if not load_bundle(self.bundle).calibration:
            rgbflow(f"calibrate {self.bundle} {self.store} --split {self.split}")

    def is_done(self) -> bool:
        """Whether it is trained and tested, with these settings."""
        return all(task.is_done() for task in self.tasks())

    def hits(self) -> dict[str, dict[str, float]]:
        """For each scorer, which test clips it names rightly."""
        (file,) = read_scores([self.evaluating().scores])
        scores = file.probabilities()
        scores["fused"] = load_bundle(self.bundle).fusion.fuse(scores)
        return {scorer: clip_hits(file.names, scores[scorer], file.labels) for scorer in SCORERS}


@dataclass(frozen=True, eq=False)
class Protocol:
    """A data set, what is held out of it fold by fold, and what its groups are.

    Attributes:
        name: of its runs.
        folder: of its videos.
        title: on the page.
        group: what is never in two parts.
        held_out: of all groups, for each fold its name and the groups that it tests.
    """

    name: str
    folder: str
    title: str
    group: str
    held_out: Callable[[list[str]], dict[str, list[str]]]

    def folds(self, data: Path, runs: Path) -> list[Fold]:
        """Prepare the videos and cut the splits."""
        videos, store = data / self.folder, runs / self.folder / "store"
        if not (store / MANIFEST).is_file():
            rgbflow(f"prepare {videos} --out {store}")
        folds = []
        groups = sorted({clip.group for clip in read_class_folders(videos)})
        for index, (name, held_out) in enumerate(self.held_out(groups).items()):
            split = runs / self.name / f"{name}.json"
            if not split.is_file():
                rgbflow(f"split {store} --holdout {' '.join(held_out)} --out {split}")
            folds.append(Fold(f"{self.name} {name}", store, split, runs / self.name / name, index))
        return folds


def threes(groups: list[str]) -> dict[str, list[str]]:
    """Three persons at a time."""
    return {f"persons{i + 1}": groups[3 * i : 3 * i + 3] for i in range(3)}


def places(groups: list[str]) -> dict[str, list[str]]:
    return {place: [name for name in groups if name.startswith(place)] for place in ("set1", "set2")}


def fours(groups: list[str]) -> dict[str, list[str]]:
    """Two sequences of each place at a time."""
    first, second = places(groups).values()
    return {f"part{i + 1}": first[2 * i : 2 * i + 2] + second[2 * i : 2 * i + 2] for i in range(5)}


PROTOCOLS = (
    Protocol(
        "weizmann", "weizmann", "Weizmann (Gorelick et al. 2007), three of nine persons held out", "person", threes
    ),
    Protocol(
        "ut-interaction",
        "ut-interaction",
        "UT-Interaction (Ryoo and Aggarwal 2009), one place held out",
        "sequence",
        places,
    ),
    Protocol(
        "ut-sequences",
        "ut-interaction",
        "UT-Interaction, four of its twenty sequences held out, two of each place",
        "sequence",
        fours,
    ),
)


def section(protocol: Protocol, folds: list[Fold]) -> tuple[str, dict]:
    """A protocol's part of the page, and its figures."""
    done = [fold for fold in folds if fold.is_done()]
    if not done:
        return f"## {protocol.title}\n\nNo fold is finished.\n", {}
    parts = [fold.hits() for fold in done]
    hits = {scorer: {clip: hit for part in parts for clip, hit in part[scorer].items()} for scorer in SCORERS}
    groups = {clip.name: clip.group for fold in done for clip in load_split(fold.split).test}
    rows, figures = [], {}
    for scorer in SCORERS:
        top1, interval = percent(hits[scorer]), wilson_interval(round(sum(hits[scorer].values())), len(groups))
        lead = {clip: hits["fused"][clip] - hits[scorer][clip] for clip in groups}
        lead_interval = group_interval(lead, groups)
        single = [round(percent(part[scorer]), 1) for part in parts]
        figures[scorer] = {"top1": top1, "interval": interval, "folds": single, "fused_ahead": percent(lead)}
        ahead = (
            "" if scorer == "fused" else f"{percent(lead):+.1f} ({lead_interval[0]:+.1f} to {lead_interval[1]:+.1f})"
        )
        words = (
            f"| {'fusion' if scorer == 'fused' else scorer} | **{top1:.1f}** | {interval[0]:.1f} – {interval[1]:.1f}"
        )
        rows.append(f"{words} | {', '.join(map(str, single))} | {ahead} |")
    split = load_split(done[0].split)
    missing = f" **{len(folds) - len(done)} of {len(folds)} folds are missing.**" if len(done) < len(folds) else ""
    names = ", ".join(fold.name.split()[-1] for fold in done)
    hours = sum(made["seconds"] for fold in done for made in load_bundle(fold.bundle).origin.values()) / 3600
    text = f"""## {protocol.title}

{len(groups)} test clips of {len(split.classes)} classes in {len(done)} folds, each tested once.{missing} The first
fold uses {len(split.train)} clips for training, {len(split.val)} to choose the epoch and {len(split.test)} for the
test; no {protocol.group} is in two parts. An even guess gets {100 / len(split.classes):.1f} %. Training took
{hours:.1f} hours in all.

| stream | top-1 % | 95 % interval | folds ({names}) | fusion ahead by |
|---|---|---|---|---|
{chr(10).join(rows)}
"""
    return text, figures


def page(sections: list[str], commits: set[str]) -> str:
    """The results page."""
    origin = describe_origin()
    return f"""# The strong recipe without a GPU

`prepare`, `train`, `calibrate` and `evaluate` without a flag, that is, the preset `lite`
([training.md](../training.md)). Figures are percentages of whole videos ({NUM_SNIPPETS} snippets of each stream, the
centre crop); the fusion is the one that `calibrate` chose on the val part. Intervals are Wilson's over the clips; the
interval of the lead takes a person or sequence as one observation. Every fold has its own seed.

{chr(10).join(sections)}
## How it was made

Settings: `{json.dumps(settings_of(CONFIG))}`.

Trained at commit {", ".join(sorted(commits))}, written at {origin["commit"]}; {origin["machine"]}; {origin["date"]}.
`make strong` prepares the videos, makes the splits, trains, calibrates, tests and writes this page; a stopped run
resumes.
"""


def main(data: Path, runs: Path, jobs: int, only: str, write_only: bool) -> None:
    """Run what is missing, and write the page and beside it the figures as JSON."""
    folds = {protocol: protocol.folds(data, runs) for protocol in PROTOCOLS}
    devices = free_devices(CONFIG.device, jobs)
    for protocol, own in folds.items():
        tasks = [task for fold in own for task in fold.tasks()]
        if not write_only and only in ("", protocol.name):
            run_tasks([task for task in tasks if isinstance(task, Training)], devices, track)
            for fold in own:
                fold.calibrate()
            run_tasks([task for task in tasks if isinstance(task, Evaluating)], devices, track)
    made = {protocol.name: section(protocol, own) for protocol, own in folds.items()}
    bundles = [load_bundle(fold.bundle) for own in folds.values() for fold in own if fold.is_done()]
    commits = {origin["commit"] for bundle in bundles for origin in bundle.origin.values()}
    write_page(PAGE, page([text for text, _ in made.values()], commits))
    figures = {name: figures for name, (_, figures) in made.items()}
    PAGE.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/strong"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--only", default="", help="one protocol")
    parser.add_argument("--write-only", action="store_true", help="the page of what is there, no training")
    arguments = parser.parse_args()
    main(arguments.data, arguments.runs, arguments.jobs, arguments.only, arguments.write_only)
