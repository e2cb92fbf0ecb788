"""What holds the fits of `calibrate` back where val is small: frozen networks on many divisions of three sets.

    python benchmarks/calibration.py DATA [--runs runs/unknown] [--divisions 40]

DATA holds weizmann/, ut-interaction/ and jhmdb-11/, class folders with a groups.tsv. Each division puts whole groups
into train, val and test. Networks are the starting weights of the preset, frozen; the classifiers and the fusions are
fitted as `train` and `calibrate` fit them for a stream that stays frozen. It writes docs/results/calibration.md and,
beside it, the figures.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pages import write_page
from unknown import Features, fit_streams, open_set, scored

from rgbflow.data.cutting import make_split
from rgbflow.data.splits import Split
from rgbflow.fusion import METHODS, Fusion, log_scores
from rgbflow.learn.fits import (
    Candidate,
    ScoredClips,
    choose,
    cross_validated,
    fit_candidates,
    fit_product,
    fit_temperature,
)
from rgbflow.learn.metrics import calibration_error, calibration_error_by_chance
from rgbflow.origin import describe_origin
from rgbflow.stream import FusionMethod as Method

PAGE = Path(__file__).parents[1] / "docs" / "results" / "calibration.md"
SETS = ("jhmdb-11", "ut-interaction", "weizmann")
PULLS = (1.0, 10.0, 30.0, 100.0)
DOUBTS = (0.0, 0.5, 1.0)
ERRORS = (0.0, 1.0, 2.0, 3.0)
Rule = Callable[[Mapping[Method, Candidate]], Method]


@dataclass(frozen=True)
class Division:
    """The scores of the val and test clips of one division, and the fusions fitted on val."""

    val: ScoredClips
    test: ScoredClips
    candidates: dict[Method, Candidate]


def divide(features: Features, split: Split) -> Division:
    """Fit the classifiers, and then the fusions, as for streams that stay frozen."""
    first, heads = fit_streams(features, split)
    val = scored(features, first, split, split.val)
    return Division(val, scored(features, heads, split, split.test), fit_candidates(val))


def divisions_of(videos: Path, store: Path, count: int) -> list[Division]:
    """So many divisions of a set."""
    clips, features = open_set(videos, store)
    found = []
    for seed in range(count):
        found.append(divide(features, make_split(clips, "group", seed=seed)))
        print(videos.name, seed, flush=True)
    return found


def held_back(val: ScoredClips, pull: float, doubt: float) -> Fusion:
    """The product with its temperature, fitted with these numbers."""
    fit = partial(fit_product, pull=pull)
    return replace(fit(val), temperature=fit_temperature(cross_validated(fit, val), val.labels, doubt))


def figures(fused: Iterable[np.ndarray], labels: Iterable[np.ndarray]) -> dict[str, float]:
    """Of the test clips of all divisions of a set together."""
    scores, truth = np.concatenate(list(fused)), np.concatenate(list(labels))
    return {
        "top1": 100 * float((scores.argmax(axis=1) == truth).mean()),
        "log_loss": float(-log_scores(scores)[np.arange(len(truth)), truth].mean()),
        "calibration_error": calibration_error(scores, truth),
        "by_chance": calibration_error_by_chance(scores),
    }


def measure_set(divisions: list[Division]) -> dict:
    """The figures of each pair of numbers, and of each rule."""
    labels = [division.test.labels for division in divisions]

    def measured(fusions: list[Fusion]) -> dict[str, float]:
        return figures((f.fuse(d.test.scores) for f, d in zip(fusions, divisions, strict=True)), labels)

    product = [
        {"pull": pull, "doubt": doubt, **measured([held_back(division.val, pull, doubt) for division in divisions])}
        for pull in PULLS
        for doubt in DOUBTS
    ]
    rules = []
    for name, rule in all_rules().items():
        chosen = [rule(division.candidates) for division in divisions]
        fusions = [division.candidates[method].fusion for method, division in zip(chosen, divisions, strict=True)]
        rules.append({"rule": name, **measured(fusions), "chosen": dict(Counter(chosen))})
    val = [len(division.val) for division in divisions]
    return {"divisions": len(divisions), "val": [min(val), max(val)], "product": product, "rules": rules}


def all_rules() -> dict[str, Rule]:
    """The ways to choose a fusion, by what the page calls them."""
    fixed: dict[str, Rule] = {f"always {method}": lambda _, method=method: method for method in METHODS}
    ahead: dict[str, Rule] = {
        f"least log loss, if ahead by {errors:g} errors": partial(choose, errors=errors) for errors in ERRORS
    }
    return fixed | ahead


def mean_rows(sets: Mapping[str, dict], kind: str) -> list[dict]:
    """The rows of all sets as their mean, each set counting the same."""
    rows = zip(*(found[kind] for found in sets.values()), strict=True)
    names = ("top1", "log_loss", "calibration_error", "by_chance")
    return [
        {**of_sets[0], **{name: float(np.mean([row[name] for row in of_sets])) for name in names}} for of_sets in rows
    ]


def page(sets: Mapping[str, dict], origin: Mapping[str, str]) -> str:
    """The results page."""
    sizes = ", ".join(f"{found['val'][1]} ({name})" for name, found in sets.items())
    count = next(iter(sets.values()))["divisions"]
    product = "\n".join(f"| {row['pull']:g} | {row['doubt']:g} | {cells(row)} |" for row in mean_rows(sets, "product"))
    rules = "\n".join(
        f"| {row['rule']} | {cells(row)} | {losses(sets, place)} | {left(sets, place)} |"
        for place, row in enumerate(mean_rows(sets, "rules"))
    )
    return f"""# Fits on few clips

What `rgbflow calibrate` should fit, and choose, where the val part is small. Each of three sets is divided {count}
times into whole groups. Clips of val: {sizes} at most. Both
networks are frozen and have the starting weights of the preset `lite` ([training.md](../training.md)). The classifiers
and fusions are fitted as `train` and `calibrate` fit them for a stream that stays frozen. Figures are of the test
clips: all divisions of a set together, then the mean of the sets. "By chance" is the calibration error of perfectly
calibrated scores. A clip is in many divisions, so they are no independent experiments.

## The product

"Pull" is the penalty that keeps the streams' powers near those of their own temperatures; "doubt" is the number of
imaginary clips that are named wrongly, for every temperature.

| pull | doubt | top-1 % | log loss | calibration error % | by chance |
|---|---|---|---|---|---|
{product}

## The choice

The fitted fusions, and rules to choose one of them: the fusion with the least cross-validated log loss, if it is ahead
of the product by some standard errors of the difference; else the product.

| rule | top-1 % | log loss | calibration error % | by chance | log loss of {", ".join(sets)} | times not the product |
|---|---|---|---|---|---|---|
{rules}

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make calibration` computes the features
once for each set, and writes this page. calibration.json has the figures of each set.
"""


def cells(row: Mapping[str, float]) -> str:
    """The figures of a line of a table."""
    return f"{row['top1']:.1f} | {row['log_loss']:.3f} | {row['calibration_error']:.1f} | {row['by_chance']:.1f}"


def losses(sets: Mapping[str, dict], place: int) -> str:
    """The log loss of a rule in each set."""
    return ", ".join(f"{found['rules'][place]['log_loss']:.3f}" for found in sets.values())


def left(sets: Mapping[str, dict], place: int) -> str:
    """How often a rule left the product, in each set."""
    return ", ".join(
        str(found["divisions"] - found["rules"][place]["chosen"].get("product", 0)) for found in sets.values()
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/unknown"), help="with a prepared store of each set")
    parser.add_argument("--divisions", type=int, default=40)
    given = parser.parse_args()
    sets = {
        name: measure_set(divisions_of(given.data / name, given.runs / name / "store", given.divisions))
        for name in SETS
    }
    origin = describe_origin()
    record = json.dumps({"sets": sets, "origin": origin}, indent=1)
    PAGE.with_suffix(".json").write_text(record + "\n", encoding="utf-8")
    write_page(PAGE, page(sets, origin))
