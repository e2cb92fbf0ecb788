"""Metrics of scores: top-1, top-5, mean class accuracy, confusion, deciding stream, calibration, unknown classes.

Every figure is a percentage of whole videos. `scores` are (N, K) floats, higher is better: probabilities or logits,
since only their order counts. `labels` are (N,) integers in 0 ... K - 1.

Ties: of equal scores the class with the lower index comes first, as in `numpy.argmax`. So a constant scorer
always answers class 0 and gets the share of class 0, and top-1 is the diagonal of the confusion matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TypeVar

import numpy as np

from rgbflow.errors import InputError

Clip = TypeVar("Clip")  # what a clip is called
CONFIDENCE = 0.95
CALIBRATION_BINS = 15  # Guo et al. 2017, section 2
DECISIONS = ("both", "rgb", "flow", "fusion", "wrong")


@dataclass(frozen=True)
class Figures:
    """The figures of one scorer on one list of clips, in percent of whole videos.

    `top5` counts the best min(5, K) classes: with K <= 5 it is 100 and says nothing. The intervals are 95 %
    Wilson intervals, (low, high); they take clips as independent, so they are too narrow where clips share a
    group. `mean_class_accuracy` is the mean of the top-1 of each class that has clips.
    """

    clips: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float
    top5_interval: tuple[float, float]
    mean_class_accuracy: float

    def as_dict(self) -> dict[str, int | float | tuple[float, float]]:
        """The fields by name, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class UnknownFigures:
    """How well clips of unseen classes are separated from clips of known ones, in percent.

    Attributes:
        known_clips, unknown_clips: numbers of clips.
        auroc: area under the ROC curve of the highest probability (Hendrycks and Gimpel 2017); 50 is chance.
        auroc_interval: its 95 % interval, see `auroc_interval`.
        promised: the false-alarm rate that the threshold was fitted for; None where it was set by hand.
        false_alarms: share of the unknown clips that get a known name; None without a threshold, like the next three.
        false_alarms_interval: its 95 % Wilson interval.
        rejected: share of the known clips that are called unknown.
        rejected_interval: its 95 % Wilson interval.
    """

    known_clips: int
    unknown_clips: int
    auroc: float
    auroc_interval: tuple[float, float]
    promised: float | None = None
    false_alarms: float | None = None
    false_alarms_interval: tuple[float, float] | None = None
    rejected: float | None = None
    rejected_interval: tuple[float, float] | None = None


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval (no continuity correction) of a share, as (low, high) in percent.

    Raises:
        InputError: if there are no trials.

    >>> [round(bound, 1) for bound in wilson_interval(81, 263)]
    [25.5, 36.6]
    """
    from scipy.stats import binomtest

    if trials < 1:
        raise InputError(f"trials ({trials}) must be at least 1: give a list with clips in it")
    interval = binomtest(int(successes), int(trials)).proportion_ci(CONFIDENCE, method="wilson")
    return 100 * float(interval.low), 100 * float(interval.high)


def group_interval(values: Mapping[Clip, float], groups: Mapping[Clip, str]) -> tuple[float, float]:
    """The 95 % interval of the mean of values, in percent, with groups as the observations: delete-one jackknife, t.

    Clips of one group (a person, a scene) are similar and count as one observation. With a single group the interval is
    unbounded. With groups of equal size it is the t interval of the groups' means.

    Args:
        values: one per clip, in -1…1.
        groups: the group of each clip.
    """
    from scipy.stats import t

    names = sorted({groups[clip] for clip in values})
    if len(names) < 2:
        return -100.0, 100.0
    sums = np.array([sum(value for clip, value in values.items() if groups[clip] == name) for name in names])
    sizes = np.array([sum(groups[clip] == name for clip in values) for name in names])
    without = (sums.sum() - sums) / (sizes.sum() - sizes)  # the mean without each group
    error = np.sqrt((len(names) - 1) / len(names) * np.square(without - without.mean()).sum())
    half = float(t.ppf(0.975, len(names) - 1) * error)
    mean = float(sums.sum() / sizes.sum())
    return 100 * (mean - half), 100 * (mean + half)


def measure(scores: np.ndarray, labels: np.ndarray) -> Figures:
    """Top-1, top-5 and mean class accuracy of (N, K) scores against (N,) labels.

    Raises:
        InputError: if there are no clips, a score is not a number, or scores and labels do not fit together.

    >>> measure(np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), np.array([0, 1, 1])).top1
    66.66666666666667
    """
    ranks = truth_ranks(scores, labels)
    best, five = int((ranks == 0).sum()), int((ranks < 5).sum())
    counts = confusion(scores, labels)
    present = counts.sum(axis=1) > 0
    recall = counts.diagonal()[present] / counts.sum(axis=1)[present]
    return Figures(
        clips=len(ranks),
        top1=100 * best / len(ranks),
        top1_interval=wilson_interval(best, len(ranks)),
        top5=100 * five / len(ranks),
        top5_interval=wilson_interval(five, len(ranks)),
        mean_class_accuracy=100 * float(recall.mean()),
    )


def truth_ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Number of classes before the true one, for each clip: (N,) integers, 0 where the answer is right.

    Raises:
        InputError: for the reasons of `measure`.
    """
    scores, labels = _checked(scores, labels)
    order = np.argsort(-scores, axis=1, kind="stable")  # stable: of equal scores the lower index comes first
    return np.argmax(order == labels[:, None], axis=1)


def confusion(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count the answers: (K, K) integers, row = true class, column = answered class.

    Raises:
        InputError: for the reasons of `measure`.
    """
    scores, labels = _checked(scores, labels)
    counts = np.zeros((scores.shape[1], scores.shape[1]), dtype=np.int64)
    np.add.at(counts, (labels, scores.argmax(axis=1)), 1)
    return counts


def deciding_stream(scores: Mapping[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """Which stream a clip's right answer comes from, for each clip: (N,) strings, one of `DECISIONS`.

    Where the fusion is right: "both" if rgb and flow alone are right too, "rgb" or "flow" if only that one is, and
    "fusion" if each alone is wrong. Where it is wrong: "wrong", even if a stream alone was right. A single stream
    decides all clips that it gets right.

    Args:
        scores: (N, K) under each of the keys "rgb", "flow" and "fused", or under one of the first two.
        labels: (N,) integers.

    Raises:
        InputError: for the reasons of `measure`.
    """
    if "fused" not in scores:
        ((stream, values),) = scores.items()
        return np.where(truth_ranks(values, labels) == 0, stream, "wrong")
    rgb, flow, fused = (truth_ranks(scores[key], labels) == 0 for key in ("rgb", "flow", "fused"))
    return np.select([~fused, rgb & flow, rgb, flow], ["wrong", "both", "rgb", "flow"], default="fusion")


def calibration_error(scores: np.ndarray, labels: np.ndarray) -> float:
    """The expected calibration error in percent (Naeini et al. 2015), 15 bins of equal width.

    The mean over the bins of |confidence - accuracy|, weighted by their clips: how far the highest probability is from
    the share of right answers. On few clips even a perfectly calibrated scorer gets a few percent, since the accuracy
    of a bin is then coarse: see `calibration_error_by_chance`.

    Args:
        scores: (N, K) probabilities.
        labels: (N,) integers.

    Raises:
        InputError: for the reasons of `measure`.

    >>> calibration_error(np.array([[0.8, 0.2], [0.8, 0.2]]), np.array([0, 1]))
    30.000000000000004
    """
    scores, labels = _checked(scores, labels)
    return 100 * float(_gap_of_bins(scores.max(axis=1), scores.argmax(axis=1) == labels))


def calibration_error_by_chance(scores: np.ndarray, draws: int = 1000, seed: int = 0) -> float:
    """The calibration error in percent that these (N, K) probabilities would show if they were perfectly calibrated.

    The mean over random draws in which each answer is right with the probability that the scorer gives it.
    """
    confidence = np.asarray(scores).max(axis=1)
    right = np.random.default_rng(seed).random((draws, len(confidence))) < confidence
    return 100 * float(np.mean([_gap_of_bins(confidence, row) for row in right]))


def _gap_of_bins(confidence: np.ndarray, right: np.ndarray) -> float:
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return np.abs(np.bincount(bins, weights=confidence - right)).sum() / len(confidence)


def measure_unknown(
    known: np.ndarray, unknown: np.ndarray, threshold: float | None = None, promised: float | None = None
) -> UnknownFigures:
    """How well the highest probability separates clips of known classes, (N, K), from those of unseen ones, (M, K).

    Args:
        known: probabilities.
        unknown: probabilities.
        threshold: a clip whose highest probability is not above it is called unknown.
        promised: share of the unknown clips, 0 to 1, that the threshold was fitted for; None if it was set by hand.
    """
    from sklearn.metrics import roc_auc_score

    confidence = np.concatenate([known, unknown]).max(axis=1)
    is_known = np.arange(len(confidence)) < len(known)
    auroc = 100 * float(roc_auc_score(is_known, confidence))
    figures = UnknownFigures(len(known), len(unknown), auroc, auroc_interval(auroc, len(known), len(unknown)))
    if threshold is None:
        return figures
    alarms, rejected = int((confidence[~is_known] > threshold).sum()), int((confidence[is_known] <= threshold).sum())
    return replace(
        figures,
        promised=None if promised is None else 100 * promised,
        false_alarms=100 * alarms / len(unknown),
        false_alarms_interval=wilson_interval(alarms, len(unknown)),
        rejected=100 * rejected / len(known),
        rejected_interval=wilson_interval(rejected, len(known)),
    )


def auroc_interval(auroc: float, positives: int, negatives: int) -> tuple[float, float]:
    """The 95 % interval of an area under the ROC curve, all in percent: the areas that it does not contradict.

    It uses Hanley and McNeil's (1982) standard error at the tested area, not at the measured one, as Wilson's interval
    does: so an area of 100 % has an interval too (Newcombe 2006). Clips count as independent.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    found, z = auroc / 100, norm.ppf((1 + CONFIDENCE) / 2)

    def against(area: float) -> float:
        pair, triple = area / (2 - area), 2 * area**2 / (1 + area)
        variance = area * (1 - area) + (positives - 1) * (pair - area**2) + (negatives - 1) * (triple - area**2)
        return (found - area) ** 2 - z**2 * variance / (positives * negatives)

    edge = 1e-9  # at 0 and 1 there is no error, so that these are roots of their own
    low = brentq(against, 0, min(found, 1 - edge)) if found > 0 else 0.0
    high = brentq(against, max(found, edge), 1) if found < 1 else 1.0
    return 100 * low, 100 * high


def _checked(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two arrays, checked to fit together; a NaN would otherwise count as an answer."""
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    shapes = f"scores {scores.shape} and labels {labels.shape}"
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise InputError(f"{shapes} must be (N, K) and (N,): give one label for each clip")
    if scores.size == 0:
        raise InputError(f"{shapes} must have at least one clip and one class: choose a part that has clips")
    if labels.dtype.kind not in "iu":
        raise InputError(f"labels ({labels.dtype}) must be integers: give class indices, not names")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise InputError(
            f"labels ({labels.min()} to {labels.max()}) must lie in 0 to {scores.shape[1] - 1}: "
            "use the class list the scores were made with"
        )
    if np.isnan(scores).any():
        clip = int(np.isnan(scores).any(axis=1).argmax())
        raise InputError(f"scores of clip {clip} hold a value that is not a number: compute them again")
    return scores, labels
