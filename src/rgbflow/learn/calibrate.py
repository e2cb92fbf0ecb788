"""Fits on the validation part: the fusion of the streams, its temperature, and the threshold of "unknown".

Validation parts are small (10 to 100 clips), so every fit is held back by imaginary clips or a penalty, and no fit uses
scores that an earlier fit has seen: the temperature is fitted on fused scores that were each made without the clip's
group, and the figures that compare fusions repeat all of this without each group. The test part is never read.
docs/results/calibration.md has what the numbers below were chosen on.

Sources: Guo et al. 2017 (temperature); Krichevsky and Trofimov 1981 (half a clip); Hinton 2002 (product); Seewald 2002,
Ting and Witten 1999 (stacking); Vovk et al. 2005 (threshold).
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from rgbflow.bundle import Bundle, change_record, check_networks
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import Split, SplitClip
from rgbflow.errors import InputError
from rgbflow.fusion import METHODS, Fusion, log_scores, probabilities
from rgbflow.learn.evaluate import label_clips, read_clips, stream_scores
from rgbflow.learn.metrics import calibration_error
from rgbflow.learn.probe import SNIPPETS, fit_head
from rgbflow.origin import describe_origin
from rgbflow.progress import SILENT, Progress
from rgbflow.recognizer import Recognizer
from rgbflow.stream import DEFAULT_FUSION, NUM_SNIPPETS, Crops, Stream
from rgbflow.stream import FusionMethod as Method

FEWEST_CLIPS = 5
MOST_FOLDS = 10
CLEARLY = 3.0  # standard errors: the best of six fusions is ahead by two of them where luck alone decides
PULL = 30.0  # of streams towards equal say: a factor of 0.5 costs 30 · 0.5² / 2 nats, 4 clips' at 1 nat each
DOUBT = 0.5  # imaginary clips that are named wrongly
Choice = Literal["auto", Method]


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


@dataclass(frozen=True)
class Calibration:
    """The result of the fits on the validation part.

    Attributes:
        fusion: the chosen fusion, with the threshold of "unknown" if there is one.
        candidates: the fusions it was chosen from, by method.
        clips, groups: number of validation clips and of their groups.
        uncalibrated_error: calibration error of the plain average, percent.
        snippets: snippets of each clip and stream.
        crops: crops of each snippet.
        unknown_clips, unknown_classes: number of clips and classes that the threshold was fitted on.
        rejected: percent of the validation clips that the threshold calls unknown; None without a threshold.
        engine: name and number format of the engine.
    """

    fusion: Fusion
    candidates: dict[Method, Candidate]
    clips: int
    groups: int
    uncalibrated_error: float
    snippets: int = NUM_SNIPPETS
    crops: Crops = 1
    unknown_clips: int = 0
    unknown_classes: int = 0
    rejected: float | None = None
    engine: str = ""

    @property
    def calibration_error(self) -> float:
        """Calibration error of the chosen fusion: percent, cross-validated."""
        return self.candidates[self.fusion.method].calibration_error

    def as_dict(self) -> dict:
        """The values for JSON; the bundle keeps them, without `fusion`, under `calibration`."""
        rows = {method: {**asdict(row), "fusion": row.fusion.as_dict()} for method, row in self.candidates.items()}
        return {**asdict(self), "fusion": self.fusion.as_dict(), "candidates": rows}


def calibrate_fusion(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    choice: Choice = "auto",
    false_alarm_rate: float | None = None,
    num_snippets: int = NUM_SNIPPETS,
    crops: Crops = 1,
    progress: Progress = SILENT,
) -> Calibration:
    """Fit the fusion, its temperature and perhaps a threshold on the val and unknown_val parts of a split.

    Args:
        recognizer: the trained bundle; its present fusion does not matter.
        store: the prepared data set.
        split: the split the bundle was trained on.
        choice: a method, or "auto", see `choose`.
        false_alarm_rate: share of clips of unseen classes, between 0 and 1, that may get a known name; None fits no
            threshold.
        num_snippets: S of a clip.
        crops: of each snippet, 1, 3 or 10.
        progress: a step is a clip.

    Raises:
        InputError: if store, split and bundle do not belong together, if val has fewer than 5 clips, if the rate can't
            be promised, or if the bundle has one stream and `choice` needs two.
    """
    _check_choice(choice, list(recognizer.bundle.streams))
    if false_alarm_rate is not None:
        check_rate(false_alarm_rate, len(split.unknown_val))
    if len(split.val) < FEWEST_CLIPS:
        raise InputError(f"the val part has {len(split.val)} clips, but fits need {FEWEST_CLIPS}: make a larger one")
    clips = score_val(recognizer, store, split, num_snippets, crops, progress)
    made = replace(fit_calibration(clips, choice), snippets=num_snippets, crops=crops, engine=recognizer.engine.name)
    if false_alarm_rate is None:
        return made
    unseen = split.unknown("val")
    unknown_scores = stream_scores(label_clips(recognizer, store, split, unseen, num_snippets, crops, progress))
    fusion = with_threshold(made.fusion, unknown_scores, false_alarm_rate)
    return replace(
        made,
        fusion=fusion,
        unknown_clips=len(unseen),
        unknown_classes=len({clip.label for clip in unseen}),
        rejected=100 * float((fusion.fuse(clips.scores).max(axis=1) <= fusion.threshold).mean()),
    )


def score_val(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    num_snippets: int = NUM_SNIPPETS,
    crops: Crops = 1,
    progress: Progress = SILENT,
) -> ScoredClips:
    """The streams' scores of val's clips, by classifiers that have not learned from these clips.

    Args:
        recognizer: the trained bundle.
        store: the prepared data set.
        split: the split that the bundle was trained on.
        num_snippets: S of a clip.
        crops: of each snippet, 1, 3 or 10.
        progress: a step is a clip.

    Raises:
        InputError: if store, split and bundle do not belong together.
    """
    streams, origin = recognizer.bundle.streams, recognizer.bundle.origin
    strengths = {stream: _strength_of_fit(origin.get(stream, {})) for stream in streams}
    fitted = {stream: strength for stream, strength in strengths.items() if strength is not None}
    found: dict[str, np.ndarray] = {}
    if whole := [stream for stream in streams if stream not in fitted]:
        alone = _of_streams(recognizer, whole)
        found |= stream_scores(label_clips(alone, store, split, split.val, num_snippets, crops, progress))
    if fitted:
        alone = _of_streams(recognizer, fitted)
        found |= _held_out_scores(alone, store, split, fitted, num_snippets, crops, progress)
    scores: dict[str, np.ndarray] = {stream: found[stream] for stream in streams}
    labels = np.array([split.classes.index(clip.label) for clip in split.val])
    return ScoredClips(scores, labels, np.array([clip.group for clip in split.val]))


def _strength_of_fit(origin: Mapping[str, Any]) -> float | None:
    """Of a classifier that was fitted on train and val; None where the network was trained whole, without val."""
    if "head_strength" in origin:
        return origin["head_strength"]
    return origin.get("probe_strength") if origin.get("epoch") == 0 else None  # bundles of earlier versions


def _held_out_scores(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    strengths: Mapping[Stream, float],
    num_snippets: int,
    crops: Crops,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Per stream (N, K): what its network says of val with a classifier fitted on the train part alone."""

    def features(clips: Sequence[SplitClip], snippets: int, crops: Crops) -> dict[Stream, np.ndarray]:
        ready = read_clips(recognizer, store, split, clips, snippets, progress)
        rows = [recognizer.features(clip, snippets, crops) for clip in ready]
        return {stream: np.stack([row[stream].mean(axis=0) for row in rows]) for stream in strengths}

    labels = [split.classes.index(clip.label) for clip in split.train]
    groups = [clip.group for clip in split.train]
    seen, unseen = features(split.train, SNIPPETS, 1), features(split.val, num_snippets, crops)
    heads = {
        stream: fit_head(seen[stream], labels, groups, len(split.classes), (strength,))
        for stream, strength in strengths.items()
    }
    return {stream: probabilities(head.logits(unseen[stream])) for stream, head in heads.items()}


def _of_streams(recognizer: Recognizer, streams: Collection[Stream]) -> Recognizer:
    """The same networks for some streams alone, fused as new bundles are."""
    bundle = recognizer.bundle
    kept = {stream: bundle.streams[stream] for stream in streams}
    return Recognizer(replace(bundle, streams=kept, fusion=Fusion()), recognizer.engine)


def fit_calibration(clips: ScoredClips, choice: Choice = "auto") -> Calibration:
    """Like `calibrate_fusion`, but from the streams' scores of the val clips, and without a threshold."""
    _check_choice(choice, list(clips.scores))
    candidates = fit_candidates(clips)
    fusion = candidates[choose(candidates) if choice == "auto" else choice].fusion
    uncalibrated = calibration_error(Fusion().fuse(clips.scores), clips.labels)
    return Calibration(fusion, candidates, len(clips), len(set(clips.groups)), uncalibrated)


def _check_choice(choice: Choice, streams: Sequence[str]) -> None:
    if len(streams) == 1 and choice not in ("auto", "average"):
        raise InputError(f"fusion {choice} needs two streams, the bundle has {streams[0]} only: use average")


def record_calibration(folder: Path, used: Bundle, calibration: Calibration) -> None:
    """Write the fitted fusion into a bundle and its model card; figures of the former fusion are dropped.

    Args:
        folder: of the bundle.
        used: its record when the fusion was fitted.
        calibration: what was fitted.

    Raises:
        InputError: if the networks were replaced meanwhile, or the folder can't be written.
    """
    kept = {name: value for name, value in calibration.as_dict().items() if name != "fusion"}
    kept["origin"] = describe_origin()

    def fit(present: Bundle | None) -> Bundle:
        bundle = check_networks(folder, present, used)
        return replace(bundle, fusion=calibration.fusion, calibration=kept, measured={})

    change_record(folder, fit)


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


def check_rate(rate: float, unknown_clips: int) -> None:
    """Refuse a false-alarm rate that this number of clips of unseen classes can't promise.

    Raises:
        InputError: if the rate is too low; the message gives the lowest possible rate.
    """
    if not 0 < rate < 1:
        raise InputError(f"false_alarm_rate ({rate}) must lie between 0 and 1: 0.05 is 5 %")
    if unknown_clips == 0:
        raise InputError(
            f"false_alarm_rate {rate} needs clips of unseen classes, the split has none: make a split with "
            "`rgbflow split --leave-out CLASS ...` and train on it"
        )
    if rate < 1 / (unknown_clips + 1):
        least = math.ceil(1000 / (unknown_clips + 1)) / 1000  # so that what is shown is not refused in turn
        raise InputError(
            f"false_alarm_rate {rate} can't be promised by {unknown_clips} clips of unseen classes, which can promise "
            f"{least:.3f} at best: ask for that, or leave more classes out"
        )


def with_threshold(fusion: Fusion, unknown: Mapping[str, np.ndarray], rate: float) -> Fusion:
    """The fusion with the lowest threshold that keeps the promise: at most `rate` of unseen clips get a known name.

    For a further unseen clip, drawn as the M clips were, each rank among them is equally likely: it ranks above the
    m-th highest with a chance of at most m / (M + 1) (conformal prediction, Vovk et al. 2005). The promise holds for
    clips like these; clips of classes more similar to the known ones get a known name more often.

    Args:
        fusion: fitted on known clips.
        unknown: per stream (M, K) probabilities of clips of classes that were left out.
        rate: between 1 / (M + 1) and 1.

    Raises:
        InputError: for the reasons of `check_rate`.
    """
    highest = np.sort(fusion.fuse(unknown).max(axis=1))[::-1]
    check_rate(rate, len(highest))
    place = min(int(rate * (len(highest) + 1) + 1e-9), len(highest))
    return replace(fusion, threshold=float(highest[place - 1]), false_alarm_rate=rate)


def _log_losses(fused: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return -log_scores(fused)[np.arange(len(labels)), labels]
