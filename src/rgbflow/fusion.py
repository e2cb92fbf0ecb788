"""Late fusion: the scores of the streams become one calibrated probability per class, and a class or "unknown"."""

from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field
from typing import Annotated, TypeVar, get_args

import numpy as np
from msgspec import Meta
from scipy.special import softmax

from rgbflow.errors import InputError
from rgbflow.records import Share, check_fields, convert, refuse_unknown_keys
from rgbflow.stream import FusionMethod as Method
from rgbflow.stream import UnfittedFusion

METHODS: tuple[Method, ...] = get_args(Method)
UNFITTED: tuple[Method, ...] = get_args(UnfittedFusion)
Weight = Annotated[float, Meta(ge=-1e9, le=1e9, description="run `rgbflow calibrate` again")]
Temperature = Annotated[float, Meta(ge=1e-9, le=1e9, description="1 changes nothing")]
Name = TypeVar("Name", bound=str)  # of a stream; score files of any origin name theirs freely
SMALLEST = np.finfo(np.float64).tiny  # a softmax may give 0, which has no logarithm


@dataclass(frozen=True)
class Fusion:
    """How the streams' scores become one probability per class, and when the answer is "unknown".

    `Fusion()` is the paper's plain average. `Fusion("product")` needs no fitted numbers either. All other numbers are
    fitted on validation clips (`rgbflow.learn.fits`).

    Attributes:
        method: "average": the mean of the streams' probabilities.
            "product": softmax of the weighted sum of their logarithms, log-linear pooling (`weights`: 1 number each, or
            none, then 1 each): each stream is an expert that can rule a class out (Hinton 2002). "weighted": their mean
            with one weight for each stream (`weights`: 1 number each, together 1). "tempered": their mean, after each
            stream's logits are divided by the stream's own temperature (`weights`: 1 number each, one over the
            temperature): overconfident streams are calibrated before they are mixed. "reliability": their mean with a
            weight for each stream and class (`weights`: K numbers each, in 0 to 1). "stacking": softmax of bias + the
            weighted sum of their logarithms (`weights`: K numbers each), logistic regression in which the logit of a
            class depends only on what the streams say of that class (Seewald 2002).
        weights: numbers of each stream; empty for "average", and for "product" where nothing was fitted.
        bias: K numbers for "stacking", else empty.
        temperature: divides the fused logits (Guo et al. 2017); 1 leaves them as they are.
        threshold: a clip is "unknown" if no probability is above it; None gives every clip a class.
        false_alarm_rate: the share of clips of unseen classes, 0 to 1, that may get a known name, as promised when the
            threshold was fitted; None for a threshold set by hand.

    Raises:
        InputError: if the numbers don't fit the method.
    """

    method: Method = "average"
    weights: Mapping[str, tuple[Weight, ...]] = field(default_factory=dict)
    bias: tuple[Weight, ...] = ()
    temperature: Temperature = 1.0
    threshold: Share | None = None
    false_alarm_rate: Share | None = None

    def __post_init__(self):
        check_fields(self)
        if self.threshold is None is not self.false_alarm_rate:
            rate = self.false_alarm_rate
            raise InputError(f"false_alarm_rate ({rate}) needs a threshold: run `rgbflow calibrate` again")
        has = bool(self.weights), bool(self.bias)
        fits = has == (self.method != "average", self.method == "stacking")
        if not (fits or (self.method in UNFITTED and has == (False, False))):
            raise InputError(f"fusion {self.method!r} has too many numbers or too few: run `rgbflow calibrate` again")

    def as_dict(self) -> dict:
        """The values for JSON, without those that equal the plain average's."""
        return {"method": self.method, **{k: v for k, v in asdict(self).items() if v != getattr(Fusion(), k)}}

    @classmethod
    def from_dict(cls, values: Mapping[str, object], key: str = "fusion") -> "Fusion":
        """Back from `as_dict`.

        Raises:
            InputError: if a later rgbflow wrote it, or as `records.convert`.
        """
        fusion = convert(values, cls, key)
        refuse_unknown_keys(values, cls, key)
        return fusion

    @property
    def is_fitted(self) -> bool:
        """Whether any of its numbers was fitted."""
        return self != Fusion(self.method if self.method in UNFITTED else "average")

    def fits(self, streams: Set[str], num_classes: int) -> bool:
        """Whether it fits these streams and this number of classes."""
        length = num_classes if self.method in ("reliability", "stacking") else 1
        lengths = {*map(len, self.weights.values())} or {length}
        return self.weights.keys() in (set(), streams) and lengths == {length} and len(self.bias) in (0, num_classes)

    def fuse(self, scores: Mapping[Name, np.ndarray]) -> np.ndarray:
        """One probability per class from the probabilities of the streams.

        Args:
            scores: per stream (..., K) probabilities, each row summing to 1.

        Returns:
            (..., K) float64 probabilities.

        Raises:
            InputError: for the reasons of `average`.
        """
        fused = self._mixed(scores)
        return fused if self.temperature == 1 else sharpened(fused, 1 / self.temperature)

    def _mixed(self, scores: Mapping[Name, np.ndarray]) -> np.ndarray:
        if self.method == "average":
            return average(scores)
        if self.method == "product":
            return product(scores, {stream: self.weights[stream][0] for stream in scores} if self.weights else None)
        rows = {stream: np.array(self.weights[stream]) for stream in scores}
        if self.method == "tempered":
            return average({stream: sharpened(scores[stream], rows[stream]) for stream in scores})
        if self.method == "stacking":
            logits = sum(rows[stream] * log_scores(scores[stream]) for stream in scores) + np.array(self.bias)
            return softmax(logits, axis=-1)
        mixed = sum(rows[stream] * scores[stream] for stream in scores)
        return mixed / mixed.sum(axis=-1, keepdims=True)


def average(scores: Mapping[Name, np.ndarray]) -> np.ndarray:
    """P = E(P_RGB, P_OF): the mean of the streams' class probabilities (the paper's fusion).

    Args:
        scores: per stream (..., K) probabilities, each row summing to 1.

    Returns:
        (..., K) probabilities.

    Raises:
        InputError: if a row does not sum to 1. Normalise logits or sums over frames first, and only once.

    >>> average({"rgb": np.array([0.5, 0.5, 0.0]), "flow": np.array([0.5, 0.0, 0.5])})
    array([0.5 , 0.25, 0.25])
    """
    _check_probabilities(scores)
    return np.mean(list(scores.values()), axis=0)


def product(scores: Mapping[Name, np.ndarray], weights: Mapping[Name, float] | None = None) -> np.ndarray:
    """P ~ P_RGB^w_RGB · P_OF^w_OF: the product of the streams' class probabilities, each to a power (Hinton 2002).

    The power of a stream is one over its temperature; 0 leaves the stream out.

    Args:
        scores: per stream (..., K) probabilities, each row summing to 1.
        weights: of each stream; 1 each if None.

    Returns:
        (..., K) float64 probabilities.

    Raises:
        InputError: for the reasons of `average`.

    >>> product({"rgb": np.array([0.5, 0.5]), "flow": np.array([0.8, 0.2])}).round(3)
    array([0.8, 0.2])
    """
    _check_probabilities(scores)
    weights = dict.fromkeys(scores, 1.0) if weights is None else weights
    return softmax(sum(weights[stream] * log_scores(rows) for stream, rows in scores.items()), axis=-1)


def _check_probabilities(scores: Mapping[Name, np.ndarray]) -> None:
    for stream, rows in scores.items():
        if not np.allclose(rows.sum(axis=-1), 1, atol=1e-3):
            raise InputError(f"the scores of {stream} are not probabilities: turn logits into scores by softmax first")


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64: logits (..., K) become scores."""
    return softmax(logits.astype(np.float64), axis=-1)


def sharpened(scores: np.ndarray, factor: float | np.ndarray) -> np.ndarray:
    """(..., K) probabilities after the logits of `scores` are multiplied by a factor, 1 / temperature."""
    return softmax(factor * log_scores(scores), axis=-1)


def log_scores(scores: np.ndarray) -> np.ndarray:
    """Logarithms of (..., K) probabilities, finite even where one is 0: logits up to a constant per row."""
    return np.log(np.maximum(scores, SMALLEST))
