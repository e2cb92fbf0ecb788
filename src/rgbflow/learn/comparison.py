"""Comparison of scorers on the same clips: the figures of each, and its lead over a reference."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from rgbflow.learn.metrics import calibration_error, group_interval, truth_ranks, wilson_interval


@dataclass(frozen=True)
class Compared:
    """One scorer among others, in percent of whole videos.

    Attributes:
        name: name of the scorer.
        clips: number of clips.
        top1: share of the clips with the right answer.
        top1_interval: its 95 % Wilson interval.
        calibration_error: see `metrics.calibration_error`.
        ahead: top-1 minus that of the reference on the same clips; None for the reference itself.
        ahead_interval: its 95 % interval over the groups of the clips, see `group_interval`.
    """

    name: str
    clips: int
    top1: float
    top1_interval: tuple[float, float]
    calibration_error: float
    ahead: float | None = None
    ahead_interval: tuple[float, float] | None = None

    def as_dict(self) -> dict:
        """A form for JSON."""
        return asdict(self)


def compare(scores: Mapping[str, np.ndarray], labels: np.ndarray, groups: Mapping[str, str]) -> list[Compared]:
    """Compare scorers with the first of them, clip by clip.

    Args:
        scores: of each scorer (N, K) probabilities.
        labels: (N,) integers.
        groups: the group of each of the N clips.
    """
    right = {name: (truth_ranks(rows, labels) == 0).astype(float) for name, rows in scores.items()}
    reference = next(iter(scores))
    rows = []
    for name in scores:
        ahead = dict(zip(groups, right[name] - right[reference], strict=True))
        rows.append(
            Compared(
                name=name,
                clips=len(labels),
                top1=100 * float(right[name].mean()),
                top1_interval=wilson_interval(int(right[name].sum()), len(labels)),
                calibration_error=calibration_error(scores[name], labels),
                ahead=None if name == reference else 100 * float(np.mean(list(ahead.values()))),
                ahead_interval=None if name == reference else group_interval(ahead, groups),
            )
        )
    return rows
