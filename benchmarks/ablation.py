"""What each part of the preset `lite` is worth on real clips: runs `rgbflow ablate`, writes docs/results/ablation.md.

    python benchmarks/ablation.py VIDEOS [--runs runs/ablation] [--jobs 2]

VIDEOS is Weizmann: class folders with a groups.tsv. Three folds hold out three persons each, so that every clip is
tested once. A stopped run goes on.
"""

import argparse
import json
from pathlib import Path

from pages import rgbflow, write_page

from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import MANIFEST

PAGE = Path(__file__).parents[1] / "docs" / "results" / "ablation.md"
# A fifth of the epochs, a quarter of the pixels
TRAINING = "--preset lite --input-size 96 --epochs 8 --warmup-epochs 1 --average-epochs 3"


def run_all(videos: Path, runs: Path, jobs: int, parts: str) -> tuple[dict, list[str]]:
    """What `rgbflow ablate` found, and the commands."""
    store, splits = runs / "store", [runs / f"fold{fold}.json" for fold in range(3)]
    persons = sorted({clip.group for clip in read_class_folders(videos)})
    commands = [f"prepare {videos} --out {store}"]
    if not (store / MANIFEST).is_file():
        rgbflow(commands[0])
    for fold, split in enumerate(splits):
        commands.append(f"split {store} --holdout {' '.join(persons[fold::3])} --out {split}")
        if not split.is_file():
            rgbflow(commands[-1])
    which = f"--parts {parts} " if parts else ""
    commands.append(
        f"ablate {store} --split {' '.join(map(str, splits))} --out {runs}/out --jobs {jobs} {which}{TRAINING}"
    )
    return rgbflow(commands[-1]), commands


def page(found: dict, commands: list[str]) -> str:
    """The results page."""
    rows, origin = found["rows"], found["origin"]
    shown = "\n".join(f"rgbflow {line}" for line in commands)
    return f"""# What each part of the preset `lite` is worth

Weizmann (Gorelick et al. 2007), {found["clips"]} test clips in three folds of three persons each, one seed a fold;
EfficientNet-Lite0, {found["num_snippets"]} snippets, fused as in the preset. Pictures are smaller and trainings shorter
than the preset's: the last command below has the settings. Each row is a new training without one part. Top-1 is a
percentage of whole videos with its Wilson interval. The worth is the loss without the part, on the same clips; its
interval takes a fold as one observation, so it includes the luck of training. A part that only flow has is removed from
flow alone.

| without | stream | top-1 % | 95 % interval | runs | worth, points |
|---|---|---|---|---|---|
{chr(10).join(map(table_row, rows))}

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make ablation VIDEOS=…` runs these
commands and writes this page; a stopped run resumes.

```
{shown}
```
"""


def table_row(row: dict) -> str:
    """A line of the table."""
    low, high = row["top1_interval"]
    runs = ", ".join(f"{top1:.0f}" for top1 in row["run_top1"])
    worth = ""
    if row["worth"] is not None:
        worth = "{:+.1f} ({:+.1f} to {:+.1f})".format(row["worth"], *row["worth_interval"])
    without = "nothing" if row["part"] == "whole" else row["words"]
    scorer = "fusion" if row["scorer"] == "fused" else row["scorer"]
    return f"| {without} | {scorer} | {row['top1']:.1f} | {low:.1f} – {high:.1f} | {runs} | {worth} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--parts", default="", help="which to take away; every one that the preset has, if not given")
    arguments = parser.parse_args()
    found, commands = run_all(arguments.videos, arguments.runs, arguments.jobs, arguments.parts)
    PAGE.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_page(PAGE, page(found, commands))
