"""Is what was never trained on called unknown? Classes left out in turn, trained, calibrated and tested.

    python benchmarks/unknown.py VIDEOS [--runs runs/unknown] [--rate 0.2] [--out 4] [--page docs/results/unknown.md]

VIDEOS holds class folders and perhaps a groups.tsv. In each turn the next `--out` classes of the alphabet are left out,
so that every class is left out as often as any other; half of them fit the threshold, on the val part's groups, the
other half test it, on the test part's. A stopped run goes on. It writes the page and, beside it, the figures as JSON.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from pages import rgbflow, write_page

from rgbflow.bundle import RECORD, load_bundle
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.store import MANIFEST
from rgbflow.learn.metrics import wilson_interval
from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "unknown.md"
PREPARE = "--short-side 144 --square --flow farneback"  # as strong.py
TRAIN = "--preset lite --input-size 112 --colour-jitter 0.6 --average-epochs 4 --workers 0 --epochs"


def run_turn(turn: int, left_out: list[str], store: Path, runs: Path, fit: str, epochs: int) -> tuple[dict, list[str]]:
    """A turn's figures and its commands; what an earlier run finished is not done again."""
    split, bundle, result = runs / f"turn{turn}.json", runs / f"turn{turn}", runs / f"turn{turn}-result.json"
    given = f"{store} --split {split}"
    cut = f"split {store} --out {split} --seed {turn} --leave-out {' '.join(left_out)}"
    trainings = {
        stream: f"train {given} --stream {stream} --out {bundle} {TRAIN} {epochs}" for stream in ("rgb", "flow")
    }
    calibrate, evaluate = f"calibrate {bundle} {given} {fit}", f"evaluate {bundle} {given}"
    commands = [cut, *trainings.values(), calibrate, evaluate]
    kept = json.loads(result.read_text()) if result.is_file() else None
    if kept and kept["commands"] != commands:
        sys.exit(f"{result} is of other commands: choose another --runs")
    if not kept:
        rgbflow(cut)
        for stream, command in trainings.items():
            if not (bundle / RECORD).is_file() or stream not in load_bundle(bundle).streams:
                rgbflow(command)
        kept = {"left_out": sorted(left_out), "fitted": rgbflow(calibrate), "measured": rgbflow(evaluate)}
        kept["commands"] = commands
        result.write_text(json.dumps(kept))
    return kept, commands


def pool(turns: list[dict]) -> dict:
    """All turns as one: counts of named unseen clips and of rejected known ones, and the mean area under the curve."""
    rows = [turn["measured"]["unknown"] for turn in turns]
    pooled: dict = {"promised": rows[0]["promised"], "auroc": float(np.mean([row["auroc"] for row in rows]))}
    pooled["auroc_error"] = float(np.std([row["auroc"] for row in rows], ddof=1) / np.sqrt(len(rows)))
    for share, clips in (("false_alarms", "unknown_clips"), ("rejected", "known_clips")):
        total = sum(row[clips] for row in rows)
        count = round(sum(row[share] * row[clips] for row in rows) / 100)
        pooled |= {share: 100 * count / total, f"{share}_interval": wilson_interval(count, total), clips: total}
    return pooled


def page(turns: list[dict], pooled: dict, commands: list[str]) -> str:
    """The results page."""
    origin = describe_origin()
    lines = "\n".join(map(table_row, turns))
    low, high = pooled["false_alarms_interval"]
    least, most = pooled["rejected_interval"]
    shown = "\n".join(f"rgbflow {line}" for line in commands)
    return f"""# Unknown classes

{len(turns)} turns, in each of which other classes were left out of training. A threshold was fitted on clips of half of
them, for at most {pooled["promised"]:.3g} % false alarms (clips of unseen classes that are given a name), and tested on
the other half: other classes, other groups.

| | all turns | 95 % interval |
|---|---|---|
| false alarms of {pooled["unknown_clips"]} unseen clips | {pooled["false_alarms"]:.1f} % | {low:.1f} – {high:.1f} |
| promised | {pooled["promised"]:.3g} % | |
| called unknown of {pooled["known_clips"]} known clips | {pooled["rejected"]:.1f} % | {least:.1f} – {most:.1f} |
| AUROC, mean of the turns (standard error) | {pooled["auroc"]:.1f} % | ± {pooled["auroc_error"]:.1f} |

The Wilson intervals count clips as independent; those of one class are not, so they are too narrow.

| threshold | test | clips | test clips | false alarms % | rejected % | AUROC % | top-1 % of known |
|---|---|---|---|---|---|---|---|
{lines}

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make unknown VIDEOS=…` runs commands
like these of the first turn and writes this page; figures of each turn: unknown.json.

```
{shown}
```
"""


def table_row(turn: dict) -> str:
    """A turn's line of the table."""
    row, top1 = turn["measured"]["unknown"], turn["measured"]["figures"]["fused"]["top1"]
    names = f"{', '.join(turn['left_out'][0::2])} | {', '.join(turn['left_out'][1::2])}"
    shares = f"{row['false_alarms']:.0f} | {row['rejected']:.0f} | {row['auroc']:.1f} | {top1:.0f}"
    return f"| {names} | {turn['fitted']['unknown_clips']} | {row['unknown_clips']} | {shares} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/unknown"))
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--out", type=int, default=4, help="classes left out in each turn")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    store = given.runs / "store"
    prepare = f"prepare {given.videos} --out {store} {PREPARE}"
    if not (store / MANIFEST).is_file():
        rgbflow(prepare)
    classes = sorted({clip.label for clip in read_class_folders(given.videos)})
    turns = []
    for turn in range(len(classes)):
        left_out = [classes[(turn + step) % len(classes)] for step in range(given.out)]
        fit = f"--false-alarm-rate {given.rate}"
        turns.append(run_turn(turn, left_out, store, given.runs, fit, given.epochs))
    commands = [prepare, *turns[0][1]]
    figures = [figures for figures, _ in turns]
    pooled = pool(figures)
    record = json.dumps({"pooled": pooled, "turns": figures, "origin": describe_origin()}, indent=1)
    given.page.with_suffix(".json").write_text(record + "\n", encoding="utf-8")
    write_page(given.page, page(figures, pooled, commands))
