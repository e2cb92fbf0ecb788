"""The runs behind a figure or table: each split with each seed, and their common figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rgbflow.data.splits import load_split
from rgbflow.learn.metrics import Clip, truth_ranks


@dataclass(frozen=True)
class Run:
    """One repetition: a split, and a seed that no other run has."""

    name: str
    split: Path
    seed: int


def runs_of(splits: Sequence[Path], seeds: int) -> list[Run]:
    """Every split with `seeds` seeds. The seeds of all runs differ, so that no lucky seed counts twice."""
    # All splits come once before any comes again: with more seeds, the runs that are there keep their names and seeds.
    every = [split for _ in range(seeds) for split in splits]
    return [Run(f"run{index}", split, index) for index, split in enumerate(every)]


def splits_table(splits: Sequence[Path], seeds: int) -> list[dict]:
    """The properties of each split that a reader must know: protocol, leak and clips."""
    rows = []
    for path in splits:
        split = load_split(path)
        rows.append(
            {
                "split": path.name,
                "protocol": split.protocol,
                "leak %": round(split.leak_percent, 1),
                "train": len(split.train),
                "val": len(split.val),
                "test": len(split.test),
                "classes": len(split.classes),
                "runs": seeds,
                "sha256": split.sha256[:12],
            }
        )
    return rows


def clip_hits(names: Sequence[str], scores: np.ndarray, labels: np.ndarray, among: int = 1) -> dict[str, float]:
    """For each clip, 1.0 if its class is among the first answers, else 0.0.

    Args:
        names: names of the N clips.
        scores: (N, K) floats.
        labels: (N,) integers.
        among: number of answers that count: 1 for top-1, 5 for top-5.
    """
    return dict(zip(names, map(float, truth_ranks(scores, labels) < among), strict=True))


def mean_by_clip(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over the runs that test a clip."""
    clips = sorted({clip for run in runs for clip in run})
    return {clip: float(np.mean([run[clip] for run in runs if clip in run])) for clip in clips}


def percent(values: Mapping[Clip, float]) -> float:
    """The mean over the clips, in percent."""
    return 100 * float(np.mean(list(values.values())))
