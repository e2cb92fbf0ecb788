"""Fits of fusions and their temperatures to the scores of labelled clips, and the choice among fusions.

Validation parts are small (10 to 100 clips), so every fit is held back by imaginary clips or a penalty, and no fit uses
scores that an earlier fit has seen: the temperature is fitted on fused scores that were each made without the clip's
group, and the figures that compare fusions repeat all of this without each group. docs/results/calibration.md has what
the numbers below were chosen on.

Sources: Guo et al. 2017 (temperature); Krichevsky and Trofimov 1981 (half a clip); Hinton 2002 (product); Seewald 2002,
Ting and Witten 1999 (stacking).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from rgbflow.fusion import METHODS, Fusion, log_scores
from rgbflow.learn.metrics import calibration_error
from rgbflow.stream import DEFAULT_FUSION
from rgbflow.stream import FusionMethod as Method

FEWEST_CLIPS = 5
MOST_FOLDS = 10
CLEARLY = 3.0  # standard errors: the best of six fusions is ahead by two of them where luck alone decides
PULL = 30.0  # of streams towards equal say: a factor of 0.5 costs 30 · 0.5² / 2 nats, 4 clips' at 1 nat each
DOUBT = 0.5  # imaginary clips that are named wrongly


@dataclass(frozen=True)
class ScoredClips:
    """The streams' scores of N clips.

    Attributes:
        scores: per stream (N, K) float64 probabilities.
        labels: (N,) integers, index of the true class.
        groups: (N,) names; clips of one group are similar.
    """

    scores: Mapping[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: np.ndarray) -> "ScoredClips":
        scores = {stream: rows[chosen] for stream, rows in self.scores.items()}
        return ScoredClips(scores, self.labels[chosen], self.groups[chosen])


@dataclass(frozen=True)
class Candidate:
    """A fusion fitted on all validation clips, and cross-validated figures of this method on unseen groups.

    Attributes:
        fusion: the fusion with its temperature, without a threshold.
        log_loss: nats per clip, cross-validated.
        log_loss_error: standard error of the difference to the default's log loss, see `choose`.
        calibration_error: percent, cross-validated.
    """

    fusion: Fusion
    log_loss: float
    log_loss_error: float
    calibration_error: float


def fit_candidates(clips: ScoredClips) -> dict[Method, Candidate]:
    """Every fusion that these streams allow, fitted with its temperature, and compared by cross-validation."""
    methods = METHODS if len(clips.scores) > 1 else ("average",)
    fused = {method: cross_validated(partial(fit, method), clips) for method in methods}
    losses = {method: _log_losses(rows, clips.labels) for method, rows in fused.items()}
    default = _default(losses)
    return {
        method: Candidate(
            fusion=fit(method, clips),
            log_loss=float(losses[method].mean()),
            log_loss_error=float(np.std(losses[method] - losses[default], ddof=1) / np.sqrt(len(clips))),
            calibration_error=calibration_error(rows, clips.labels),
        )
        for method, rows in fused.items()
    }


def choose(candidates: Mapping[Method, Candidate], errors: float = CLEARLY) -> Method:
    """The method with the least cross-validated log loss, if it beats the default by more than some standard errors.

    Breiman et al. 1984 take one standard error, which lets luck choose where val is small. The default is
    `DEFAULT_FUSION`, and the average for a single stream.
    """
    best, default = min(candidates, key=lambda method: candidates[method].log_loss), _default(candidates)
    gain = candidates[default].log_loss - candidates[best].log_loss
    return best if gain > errors * candidates[best].log_loss_error else default


def _default(methods: Collection[Method]) -> Method:
    return DEFAULT_FUSION if DEFAULT_FUSION in methods else "average"


def fit(method: Method, clips: ScoredClips) -> Fusion:
    """A fusion of one method; its temperature is fitted on fused scores made without the clip's group."""
    held_out = cross_validated(FITS[method], clips)
    return replace(FITS[method](clips), temperature=fit_temperature(held_out, clips.labels))


def cross_validated(fit: Callable[[ScoredClips], Fusion], clips: ScoredClips) -> np.ndarray:
    """(N, K) probabilities, each row by a fusion that was fitted without the clip's group."""
    if len(clips) == 1:
        return fit(clips).fuse(clips.scores)  # nothing is left without it
    fused = np.empty_like(next(iter(clips.scores.values())))
    for rest, held_out in _folds(clips.groups):
        fused[held_out] = fit(clips[rest]).fuse(clips[held_out].scores)
    return fused


def _folds(groups: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """At most ten folds by group; if all clips are of one group, each counts as its own group."""
    from sklearn.model_selection import GroupKFold

    if len(set(groups)) == 1:
        groups = np.arange(len(groups))
    return GroupKFold(min(MOST_FOLDS, len(set(groups)))).split(groups, groups=groups)


def fit_average(clips: ScoredClips) -> Fusion:
    """The average, which has nothing to fit."""
    return Fusion()


def fit_product(clips: ScoredClips, pull: float = PULL) -> Fusion:
    """One power for each stream: one over its own temperature, times a factor by log loss that is pulled towards 1.

    So it makes no difference how sure of itself a stream is, and with few clips the streams count alike. The penalty is
    `pull` · (factor - 1)² / 2 nats for each stream. The loss is convex, so there is one optimum. Factors are not
    negative, since no stream should be worse than none.
    """
    own = {stream: power for stream, (power,) in fit_tempered(clips).weights.items()}
    said = np.stack([own[stream] * log_scores(rows) for stream, rows in clips.scores.items()])  # (streams, N, K)
    rows = np.arange(len(clips))
    right = said[:, rows, clips.labels].sum(axis=1)

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        log_fused = log_softmax(np.einsum("snk,s->nk", said, factors), axis=1)
        gradient = np.einsum("snk,nk->s", said, np.exp(log_fused)) - right
        penalty = pull * np.square(factors - 1).sum() / 2
        return penalty - log_fused[rows, clips.labels].sum(), gradient + pull * (factors - 1)

    bounds = [(0, None)] * len(said)
    factors = minimize(loss, np.ones(len(said)), jac=True, method="L-BFGS-B", bounds=bounds).x
    return Fusion("product", {stream: (own[stream] * float(x),) for stream, x in zip(own, factors, strict=True)})


def fit_weighted(clips: ScoredClips) -> Fusion:
    """One weight for each of two streams, by log loss; with two imaginary clips added, each right in one stream."""
    (one, other), rows = clips.scores, np.arange(len(clips))
    right, otherwise = (clips.scores[stream][rows, clips.labels] for stream in (one, other))

    def loss(weight: float) -> float:
        mixed = log_scores(weight * right + (1 - weight) * otherwise)
        return -mixed.sum() - np.log(weight) - np.log(1 - weight)

    weight = float(minimize_scalar(loss, bounds=(0, 1), method="bounded").x)
    return Fusion("weighted", {one: (weight,), other: (1 - weight,)})


def fit_tempered(clips: ScoredClips) -> Fusion:
    """A temperature for each stream, fitted like that of the fused scores."""
    weights = {stream: (1 / fit_temperature(scores, clips.labels),) for stream, scores in clips.scores.items()}
    return Fusion("tempered", weights)


def fit_reliability(clips: ScoredClips) -> Fusion:
    """A weight for each stream and class: the share of the stream's probability for the class that went to clips of it.

    Each class gets the probability of one imaginary clip more, as reliable as the stream is over all classes.
    """
    weights = {}
    for stream, scores in clips.scores.items():
        right = np.eye(scores.shape[1])[clips.labels] * scores
        overall = right.sum() / len(clips)
        weights[stream] = tuple(((right.sum(axis=0) + overall) / (scores.sum(axis=0) + 1)).tolist())
    return Fusion("reliability", weights)


def fit_stacking(clips: ScoredClips) -> Fusion:
    """Logistic regression on the streams' log probabilities; the logit of a class depends on that class alone.

    A stream's weight for a class is the sum of a part shared by all classes and a part of its own; both are regularised
    towards the equal sum of the streams' logarithms (L2, strength 1, as scikit-learn's C = 1). So few clips change only
    the shared parts, and a class without validation clips keeps a sensible weight.
    """
    said = np.stack([log_scores(rows) for rows in clips.scores.values()])  # (streams, N, K)
    num_streams, _, num_classes = said.shape
    truth = np.eye(num_classes)[clips.labels]
    start = np.zeros(num_streams + num_streams * num_classes + num_classes)
    start[:num_streams] = 1 / num_streams

    def unpack(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shared, own, bias = np.split(numbers, [num_streams, len(numbers) - num_classes])
        return shared[:, None] + own.reshape(num_streams, num_classes), bias

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = unpack(numbers)
        log_fused = log_softmax(np.einsum("snk,sk->nk", said, weights) + bias, axis=1)
        error = np.exp(log_fused) - truth
        slope = np.einsum("snk,nk->sk", said, error)
        departure = numbers - start
        gradient = np.concatenate([slope.sum(axis=1), slope.ravel(), error.sum(axis=0)]) + departure
        return -(truth * log_fused).sum() + departure @ departure / 2, gradient

    weights, bias = unpack(minimize(loss, start, jac=True, method="L-BFGS-B").x)
    rows = {stream: tuple(row.tolist()) for stream, row in zip(clips.scores, weights, strict=True)}
    return Fusion("stacking", rows, tuple(bias.tolist()))


FITS: dict[Method, Callable[[ScoredClips], Fusion]] = {
    "average": fit_average,
    "product": fit_product,
    "weighted": fit_weighted,
    "tempered": fit_tempered,
    "stacking": fit_stacking,
    "reliability": fit_reliability,
}


def fit_temperature(scores: np.ndarray, labels: np.ndarray, doubt: float = DOUBT) -> float:
    """The temperature with the least log loss (Guo et al. 2017), with half an imaginary clip that is named wrongly.

    n of n right do not prove that the next will be: the confidence stays below about n / (n + 0.5), the estimate of
    Krichevsky and Trofimov 1981. With many clips the half changes nothing.

    Args:
        scores: (N, K) probabilities of clips that nothing else was fitted on.
        labels: (N,) integers.
        doubt: number of imaginary clips.
    """
    logits, rows = log_scores(scores), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        log_scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        wrong = np.maximum(1 - np.exp(log_scaled.max(axis=1)), np.finfo(np.float64).eps)
        return -log_scaled[rows, labels].sum() - doubt * np.log(wrong).mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def _log_losses(fused: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -log_scores(fused)[np.arange(len(labels)), labels]
