"""The fusions compared on trained bundles, a fold each: fitted on the fold's val part, measured on its test part.

    python benchmarks/fusion.py STORE FOLDER ... [--page docs/results/fusion.md]

Each FOLDER is a bundle with both streams, and its split lies beside it as FOLDER.json. The scores of both parts are
kept in the folder (`val-scores.npz`, `test-scores.npz`) and read again while the weights are no newer. It writes the
page and, beside it, the figures as JSON.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pages import write_page

from rgbflow import Recognizer
from rgbflow.bundle import load_bundle, weights_file
from rgbflow.data.jpegs import AnyStore, open_store
from rgbflow.data.splits import Split, load_split
from rgbflow.fusion import METHODS, Fusion, log_scores
from rgbflow.learn.calibrate import Calibration, ScoredClips, fit_calibration
from rgbflow.learn.comparison import Compared, compare
from rgbflow.learn.evaluate import label_clips, stream_scores
from rgbflow.learn.metrics import calibration_error_by_chance
from rgbflow.learn.scores import ScoreFile, read_scores
from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "fusion.md"
AS_IT_IS, CHOSEN = "average, not calibrated", "chosen on val"


@dataclass(frozen=True)
class Fold:
    """What one bundle came to: its fits on val, and what they say of its test clips."""

    folder: Path
    calibration: Calibration
    test: ScoredClips
    fused: dict[str, np.ndarray]


def read_fold(folder: Path, store: AnyStore, num_snippets: int) -> Fold:
    """Score val and test of a bundle, unless that was done, and fit every fusion on val."""
    split = load_split(folder.parent / f"{folder.name}.json")
    val, test = (scored_part(folder, store, split, part, num_snippets) for part in ("val", "test"))
    calibration = fit_calibration(val)
    fused = {AS_IT_IS: Fusion().fuse(test.scores)}
    fused |= {method: calibration.candidates[method].fusion.fuse(test.scores) for method in METHODS}
    fused |= {CHOSEN: calibration.fusion.fuse(test.scores)}
    fused |= {f"{stream} alone": scores for stream, scores in test.scores.items()}
    return Fold(folder, calibration, test, fused)


def scored_part(folder: Path, store: AnyStore, split: Split, part: str, num_snippets: int) -> ScoredClips:
    """What the streams say of a part's clips: read from the scores kept in the bundle if they are of its weights."""
    kept, clips = folder / f"{part}-scores.npz", getattr(split, part)
    labels = np.array([split.classes.index(clip.label) for clip in clips])
    weights = [weights_file(folder, stream) for stream in load_bundle(folder).streams]
    if not kept.exists() or kept.stat().st_mtime < max(path.stat().st_mtime for path in weights):
        print(f"{folder}: {len(clips)} clips of {part}")
        scores = stream_scores(label_clips(Recognizer.load(folder), store, split, part, num_snippets))
        ScoreFile(tuple(clip.name for clip in clips), split.classes, labels, scores, "scores").save(kept)
    (file,) = read_scores([kept])
    return ScoredClips(file.probabilities(), labels, np.array([clip.group for clip in clips]))


def measure_folds(folds: list[Fold]) -> tuple[list[Compared], dict[str, dict[str, float]]]:
    """The test parts of all folds as one: each fusion against the average, and the log loss and the error by chance."""
    labels = np.concatenate([fold.test.labels for fold in folds])
    groups = {f"{fold.folder}/{clip}": group for fold in folds for clip, group in enumerate(fold.test.groups)}
    fused = {name: np.concatenate([fold.fused[name] for fold in folds]) for name in folds[0].fused}
    rows = np.arange(len(labels))
    more = {
        name: {
            "log_loss": float(-log_scores(scores)[rows, labels].mean()),
            "calibration_error_by_chance": calibration_error_by_chance(scores),
        }
        for name, scores in fused.items()
    }
    return compare(fused, labels, groups), more


def page(folds: list[Fold], compared: list[Compared], more: dict, command: str) -> str:
    """The results page."""
    origin, first = describe_origin(), load_bundle(folds[0].folder)
    groups = {group for fold in folds for group in fold.test.groups}
    val = sorted({fold.calibration.clips for fold in folds})
    val_size = str(val[0]) if len(val) == 1 else f"{val[0]} to {val[-1]}"
    chosen = [fold.calibration.fusion.method for fold in folds]
    choices = ", ".join(f"{method} {chosen.count(method)} times" for method in METHODS if method in chosen)
    networks = ", ".join(f"{name} {spec.backbone} at {spec.input_size}" for name, spec in first.streams.items())
    temperatures = [fold.calibration.candidates["average"].fusion.temperature for fold in folds]
    lines = "\n".join(table_row(row, more[row.name]) for row in compared)
    return f"""# Fusions compared

{len(folds)} folds ({networks}); the test parts together have {compared[0].clips} clips of {len(first.classes)}
classes and {len(groups)} groups. Each fold's fusions were fitted on its own val part ({val_size} clips), on which the
epoch had been chosen too. "Ahead" is the difference in top-1 to the average of the same clips, its interval over the
groups. Scores that are all true would show the calibration error "by chance" with these clips: less can't be seen.

| fusion | top-1 % | 95 % interval | ahead | 95 % interval | log loss | calibration error % | by chance |
|---|---|---|---|---|---|---|---|
{lines}

"{CHOSEN}" is what `rgbflow calibrate` takes by itself: {choices}. The temperature of the average was
{min(temperatures):.2f} to {max(temperatures):.2f}.

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. Figures of each fold: fusion.json.

```
{command}
```
"""


def table_row(row: Compared, more: dict[str, float]) -> str:
    """A line of the table."""
    low, high = row.top1_interval
    ahead = "|"
    if row.ahead is not None:
        ahead = f"{row.ahead:+.1f} | {row.ahead_interval[0]:+.1f} to {row.ahead_interval[1]:+.1f}"
    figures = f"{more['log_loss']:.3f} | {row.calibration_error:.1f} | {more['calibration_error_by_chance']:.1f}"
    return f"| {row.name} | {row.top1:.1f} | {low:.1f} – {high:.1f} | {ahead} | {figures} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--snippets", type=int, default=25)
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    store = open_store(arguments.store)
    folds = [read_fold(folder, store, arguments.snippets) for folder in arguments.folders]
    compared, more = measure_folds(folds)
    record = {
        "pooled": [{**asdict(row), **more[row.name]} for row in compared],
        "folds": {fold.folder.name: fold.calibration.as_dict() for fold in folds},
        "origin": describe_origin(),
    }
    arguments.page.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    command = f"python benchmarks/fusion.py {arguments.store} {' '.join(map(str, arguments.folders))}"
    write_page(arguments.page, page(folds, compared, more, f"{command} --snippets {arguments.snippets}"))
