"""The fusions compared on the folds of strong.py: fitted on a fold's val part, measured on its test part.

    python benchmarks/fusion.py [--runs runs/strong] [--snippets N]

The scores of both parts are kept in each fold's bundle and read again while the weights are no newer. It writes
docs/results/fusion.md and, beside it, the figures as JSON.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pages import finished_folds, is_of, write_page
from strong import PROTOCOLS, Protocol

from rgbflow import Recognizer
from rgbflow.bundle import load_bundle
from rgbflow.data.jpegs import AnyStore, open_store
from rgbflow.data.splits import HeldOut, Split, load_split
from rgbflow.fusion import METHODS, Fusion, log_scores
from rgbflow.learn.calibrate import Calibration, fit_calibration, score_val
from rgbflow.learn.comparison import Compared, compare
from rgbflow.learn.evaluate import label_clips, stream_scores
from rgbflow.learn.fits import ScoredClips
from rgbflow.learn.metrics import calibration_error, calibration_error_by_chance
from rgbflow.learn.scores import ScoreFile, read_scores
from rgbflow.origin import describe_origin
from rgbflow.stream import NUM_SNIPPETS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "fusion.md"
AS_IT_IS, CHOSEN = "average, not calibrated", "chosen on val"


@dataclass(frozen=True)
class FittedFold:
    """What one bundle came to: its fits on val, and what they say of its test clips."""

    folder: Path
    calibration: Calibration
    test: ScoredClips
    fused: dict[str, np.ndarray]


def read_folds(protocol: Protocol, runs: Path, num_snippets: int) -> list[FittedFold]:
    """The folds of a protocol whose streams are both trained."""
    finished = finished_folds(runs / protocol.name)
    store = open_store(runs / protocol.folder / "store") if finished else None
    return [read_fold(folder, store, num_snippets) for folder in finished]


def read_fold(folder: Path, store: AnyStore, num_snippets: int) -> FittedFold:
    """Score val and test of a bundle, unless that was done, and fit every fusion on val."""
    split = load_split(folder.parent / f"{folder.name}.json")
    val, test = (scored_part(folder, store, split, part, num_snippets) for part in ("val", "test"))
    calibration = fit_calibration(val)
    fused = {AS_IT_IS: Fusion().fuse(test.scores)}
    fused |= {method: calibration.candidates[method].fusion.fuse(test.scores) for method in METHODS}
    fused |= {CHOSEN: calibration.fusion.fuse(test.scores)}
    fused |= {f"{stream} alone": scores for stream, scores in test.scores.items()}
    return FittedFold(folder, calibration, test, fused)


def scored_part(folder: Path, store: AnyStore, split: Split, part: HeldOut, num_snippets: int) -> ScoredClips:
    """The streams' scores of a part's clips: read from the scores kept in the bundle if they are of its weights.

    Those of val are by classifiers that have not learned from it.
    """
    kept, clips = folder / f"{part}-scores-{num_snippets}.npz", split.clips(part)
    labels = np.array([split.classes.index(clip.label) for clip in clips])
    if not is_of(kept, folder):
        print(f"{folder}: {len(clips)} clips of {part}")
        recognizer = Recognizer.load(folder)
        scores = (
            score_val(recognizer, store, split, num_snippets).scores
            if part == "val"
            else stream_scores(label_clips(recognizer, store, split, clips, num_snippets))
        )
        ScoreFile(tuple(clip.name for clip in clips), split.classes, labels, scores, "scores").save(kept)
    (file,) = read_scores([kept])
    return ScoredClips(file.probabilities(), labels, np.array([clip.group for clip in clips]))


def measure_folds(folds: list[FittedFold]) -> tuple[list[Compared], dict[str, dict[str, float]]]:
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


def pooled_errors(protocols: list[list[FittedFold]]) -> dict[str, dict[str, float]]:
    """The calibration error of the test clips of all protocols together, and what chance alone would give."""
    folds = [fold for folds in protocols for fold in folds]
    labels = np.concatenate([fold.test.labels for fold in folds])
    most = max(scores.shape[1] for fold in folds for scores in fold.fused.values())
    found = {}
    for name in folds[0].fused:
        rows = [fold.fused[name] for fold in folds]
        scores = np.concatenate([np.pad(one, ((0, 0), (0, most - one.shape[1]))) for one in rows])
        found[name] = {
            "clips": len(labels),
            "calibration_error": calibration_error(scores, labels),
            "by_chance": calibration_error_by_chance(scores),
        }
    return found


def section(protocol: Protocol, folds: list[FittedFold], compared: list[Compared], more: dict) -> str:
    """A protocol's part of the page."""
    first = load_bundle(folds[0].folder)
    groups = {group for fold in folds for group in fold.test.groups}
    val = sorted({fold.calibration.clips for fold in folds})
    val_size = str(val[0]) if len(val) == 1 else f"{val[0]} to {val[-1]}"
    chosen = [fold.calibration.fusion.method for fold in folds]
    choices = ", ".join(f"{method} {chosen.count(method)} times" for method in METHODS if method in chosen)
    temperatures = [fold.calibration.candidates["average"].fusion.temperature for fold in folds]
    lines = "\n".join(table_row(row, more[row.name]) for row in compared)
    return f"""## {protocol.title}

{len(folds)} folds; the test parts together have {compared[0].clips} clips of {len(first.classes)} classes and
{len(groups)} groups. The fusions were fitted on val parts of {val_size} clips. `rgbflow calibrate` chose {choices}.
The temperature of the average was {min(temperatures):.2f} to {max(temperatures):.2f}.

| fusion | top-1 % | 95 % interval | ahead | 95 % interval | log loss | calibration error % | by chance |
|---|---|---|---|---|---|---|---|
{lines}
"""


def page(sections: list[str], errors: dict[str, dict[str, float]], snippets: int) -> str:
    """The results page."""
    origin = describe_origin()
    clips = next(iter(errors.values()))["clips"]
    lines = "\n".join(
        f"| {name} | {row['calibration_error']:.1f} | {row['by_chance']:.1f} |" for name, row in errors.items()
    )
    return f"""# Fusions compared

The fusions on the folds of [strong.md](strong.md), with {snippets} snippets of each stream. Each fold's fusions were
fitted on its own val part, on which the epoch was also chosen. The row "{CHOSEN}" has the fusion that
`rgbflow calibrate` chooses. "Ahead" is the difference in top-1 to the average on the same clips, with its interval over
the groups. "By chance" is the calibration error that perfectly calibrated scores would show with these clips, so it is
the floor.

{chr(10).join(sections)}
## Calibration over all of them

{clips} test clips. A data set with two protocols counts twice, with different networks.

| fusion | calibration error % | by chance |
|---|---|---|
{lines}

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make fusion` fits the fusions of the
networks that `make strong` trained and writes this page. fusion.json has the figures of each fold.
"""


def table_row(row: Compared, more: dict[str, float]) -> str:
    """A line of the table."""
    low, high = row.top1_interval
    ahead = "|"
    if row.ahead is not None:
        ahead = f"{row.ahead:+.1f} | {row.ahead_interval[0]:+.1f} to {row.ahead_interval[1]:+.1f}"
    figures = f"{more['log_loss']:.3f} | {row.calibration_error:.1f} | {more['calibration_error_by_chance']:.1f}"
    return f"| {row.name} | {row.top1:.1f} | {low:.1f} – {high:.1f} | {ahead} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/strong"))
    parser.add_argument("--snippets", type=int, default=NUM_SNIPPETS)
    arguments = parser.parse_args()
    read = {protocol: read_folds(protocol, arguments.runs, arguments.snippets) for protocol in PROTOCOLS}
    sections, record = [], {"origin": describe_origin()}
    for protocol, folds in read.items():
        if not folds:
            sections.append(f"## {protocol.title}\n\nNo fold is finished.\n")
            continue
        compared, more = measure_folds(folds)
        sections.append(section(protocol, folds, compared, more))
        record[protocol.name] = {
            "pooled": [{**asdict(row), **more[row.name]} for row in compared],
            "folds": {fold.folder.name: fold.calibration.as_dict() for fold in folds},
        }
    record["all"] = errors = pooled_errors(list(read.values()))
    PAGE.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    write_page(PAGE, page(sections, errors, arguments.snippets))


if __name__ == "__main__":
    main()
