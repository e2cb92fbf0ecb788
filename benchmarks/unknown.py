"""Is what was never trained on called unknown? Classes left out in turn, trained, calibrated and tested.

    python benchmarks/unknown.py VIDEOS [--runs runs/unknown] [--rate 0.2] [--out 4] [--jobs 2]

VIDEOS holds class folders and perhaps a groups.tsv. In each turn the next `--out` classes of the alphabet are left out,
so that every class is left out as often as any other; the first and third fit the threshold, on the val part's groups,
the others test it, on the test part's. A stopped run goes on. It writes docs/results/unknown.md and, beside it, the
figures as JSON.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from pages import rgbflow, settings_of, write_page

from rgbflow.commands.terminal import track
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import MANIFEST
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.metrics import wilson_interval
from rgbflow.learn.presets import LITE
from rgbflow.learn.tasks import Training, free_devices, run_tasks
from rgbflow.origin import describe_origin
from rgbflow.stream import STREAMS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "unknown.md"
PREPARE = "--short-side 144 --square --flow farneback"  # as strong.py
CONFIG = replace(LITE, input_size=112, workers=0)


def run_all(videos: Path, runs: Path, rate: float, num_left_out: int, epochs: int, jobs: int) -> list[dict]:
    """The turns' figures and commands; what an earlier run finished with the same settings is not trained again."""
    store = runs / "store"
    prepare = f"prepare {videos} --out {store} {PREPARE}"
    if not (store / MANIFEST).is_file():
        rgbflow(prepare)
    classes, turns, trainings = sorted({clip.label for clip in read_class_folders(videos)}), [], []
    for turn in range(len(classes)):
        left_out = [classes[(turn + step) % len(classes)] for step in range(num_left_out)]
        split, bundle = runs / f"turn{turn}.json", runs / f"turn{turn}"
        cut = f"split {store} --out {split} --seed {turn} --leave-out {' '.join(left_out)}"
        rgbflow(cut)
        given = f"{bundle} {store} --split {split}"
        commands = [prepare, cut, f"calibrate {given} --false-alarm-rate {rate}", f"evaluate {given}"]
        turns.append({"left_out": left_out, "commands": commands})
        config = replace(CONFIG, epochs=epochs, seed=turn)
        trainings += [Training(f"turn {turn} {stream}", store, split, stream, bundle, config) for stream in STREAMS]
    run_tasks(trainings, free_devices(CONFIG.device, jobs), track)
    for turn in turns:
        _, _, calibrate, evaluate = turn["commands"]
        turn |= {"fitted": rgbflow(calibrate), "measured": rgbflow(evaluate)}
    return turns


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


def page(turns: list[dict], pooled: dict, config: TrainConfig) -> str:
    """The results page."""
    origin = describe_origin()
    lines = "\n".join(map(table_row, turns))
    low, high = pooled["false_alarms_interval"]
    least, most = pooled["rejected_interval"]
    shown = "\n".join(f"rgbflow {line}" for line in turns[0]["commands"])
    return f"""# Unknown classes

There are {len(turns)} turns, each with different classes left out of training. Clips of half of these classes fit a
threshold for at most {pooled["promised"]:.3g} % false alarms (clips of unseen classes that get a known label). The
other half tests it, so the test has other classes and other groups.

| | all turns | 95 % interval |
|---|---|---|
| false alarms of {pooled["unknown_clips"]} unseen clips | {pooled["false_alarms"]:.1f} % | {low:.1f} – {high:.1f} |
| promised | {pooled["promised"]:.3g} % | |
| called unknown of {pooled["known_clips"]} known clips | {pooled["rejected"]:.1f} % | {least:.1f} – {most:.1f} |
| AUROC, mean of the turns (standard error) | {pooled["auroc"]:.1f} % | ± {pooled["auroc_error"]:.1f} |

The Wilson intervals treat clips as independent. Clips of one class are not, so the intervals are too narrow.

| threshold | test | clips | test clips | false alarms % | rejected % | AUROC % | top-1 % of known |
|---|---|---|---|---|---|---|---|
{lines}

## How it was made

Settings of training, the preset `lite` ([training.md](../training.md)) at another size:
`{json.dumps(settings_of(config))}`.

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make unknown VIDEOS=…` trains both streams
in each turn, runs commands like those of the first turn below, and writes this page. unknown.json has the figures of
each turn.

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
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    given = parser.parse_args()
    turns = run_all(given.videos, given.runs, given.rate, given.out, given.epochs, given.jobs)
    pooled = pool(turns)
    record = json.dumps({"pooled": pooled, "turns": turns, "origin": describe_origin()}, indent=1)
    PAGE.with_suffix(".json").write_text(record + "\n", encoding="utf-8")
    write_page(PAGE, page(turns, pooled, replace(CONFIG, epochs=given.epochs)))
