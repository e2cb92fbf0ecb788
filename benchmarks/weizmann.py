"""Two persons of Weizmann held out: train both streams with two backbones and write docs/results/weizmann.md.

    python benchmarks/weizmann.py VIDEOS [--runs runs/weizmann]

VIDEOS is the data set of Gorelick et al. (2007) as class folders with a groups.tsv that names the persons. A stopped
run goes on. The two persons were chosen by the alphabet, before the first training; the settings were not tuned on
their clips.
"""

import argparse
import json
from pathlib import Path

from pages import rgbflow, write_page

from rgbflow.bundle import RECORD, load_bundle
from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "weizmann.md"
HOLDOUT = ("moshe", "shahar")
RUNS = {
    "ResNet101, random weights, 224×224": (
        "resnet101",
        "--backbone resnet101 --weights none --epochs 60 --batch-size 10 --learning-rate 0.02 --gradient-clip 5",
    ),
    "EfficientNet-Lite0, ImageNet weights, 160×160": (
        "lite0",
        "--backbone tf_efficientnet_lite0 --weights imagenet"
        " --input-size 160 --epochs 40 --batch-size 10 --num-segments 3 --learning-rate 0.01 --dropout 0.2",
    ),
}


def run(videos: Path, runs: Path) -> str:
    """Everything from the videos to the page's text."""
    commands = [
        f"prepare {videos} --out {runs}/store",
        f"split {runs}/store --protocol group --holdout {' '.join(HOLDOUT)} --out {runs}/split.json",
    ]
    prepared, split = (rgbflow(command) for command in commands)
    sections, rows = [], []
    for title, (name, options) in RUNS.items():
        bundle = runs / name
        trained = []
        for stream in ("rgb", "flow"):
            trained.append(f"train {runs}/store --split {runs}/split.json --stream {stream} --out {bundle} {options}")
            timing = runs / f"{name}-{stream}.json"
            if not (bundle / RECORD).exists() or stream not in load_bundle(bundle).streams:
                timing.write_text(json.dumps(rgbflow(trained[-1])))
        evaluated = f"evaluate {bundle} {runs}/store --split {runs}/split.json --report {bundle}/report.html"
        measured = rgbflow(evaluated)
        times = {stream: json.loads((runs / f"{name}-{stream}.json").read_text()) for stream in ("rgb", "flow")}
        rows += table_rows(title, measured, times)
        sections += [*trained, evaluated]
    return page(prepared, split, rows, commands + sections)


def table_rows(title: str, measured: dict, times: dict) -> list[str]:
    """A line of the table for each stream and the fusion."""
    rows = []
    for name, figures in measured["figures"].items():
        low, high = figures["top1_interval"]
        trained = times.get(name)
        how = f"{trained['seconds'] / 60:.1f} | {trained['best_epoch']}" if trained else "|"
        rows.append(
            f"| {title} | {name} | {figures['top1']:.1f} | {low:.1f} – {high:.1f} | {figures['top5']:.1f} | {how} |"
        )
    return rows


def page(prepared: dict, split: dict, rows: list[str], commands: list[str]) -> str:
    """The results page."""
    origin = describe_origin()
    lines = "\n".join(f"rgbflow {command}" for command in commands)
    table = "\n".join(rows)
    return f"""# Weizmann, two persons held out

{prepared["clips"]} clips of {prepared["classes"]} actions by {prepared["groups"]} persons (Gorelick et al. 2007),
{prepared["frames"]} frames. {" and ".join(HOLDOUT)} are the test part ({split["test"]} clips), two other persons the
validation part ({split["val"]} clips) and five the training part ({split["train"]} clips); {split["leak_percent"]:.0f}
% of the test clips share a person with a training clip. Chance is {100 / prepared["classes"]:.0f} %. Top-1 and top-5
are percentages of whole videos, with 25 snippets per stream and the centre crop. Intervals are 95 % Wilson intervals:
wide with so few clips, and still too narrow, because a person's clips are not independent.

| network | stream | top-1 % | 95 % interval | top-5 % | training, minutes | epoch chosen on val |
|---|---|---|---|---|---|---|
{table}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make weizmann VIDEOS=…` runs these commands and
writes this page; a stopped run resumes.

```
{lines}
```
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/weizmann"))
    arguments = parser.parse_args()
    write_page(PAGE, run(arguments.videos, arguments.runs))
