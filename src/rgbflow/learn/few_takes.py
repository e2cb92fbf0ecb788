"""A linear classifier from few takes: fitted in closed form, so that every figure about it leaves takes out.

Least squares on standardised features with a penalty on squared weights, which as a classifier is as good as logistic
regression (Rifkin 2002) and at five takes an action better at telling what it was not taught (docs/results/teach.md).
It costs one eigendecomposition, whatever the number of strengths that are tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from rgbflow.fusion import Fusion, probabilities
from rgbflow.learn.fits import fit_temperature
from rgbflow.learn.probe import Head
from rgbflow.learn.takes import WINDOW_SECONDS
from rgbflow.stream import Stream

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # of the penalty, in units of a row's mean square
USUAL_STRENGTH = 0.1  # where no take can be left out
# Of the streams in the product. Takes of one place can't tell that pictures of another place say less than motion does:
# the power is half from three sets, two of which change the place or the film (docs/results/teach.md).
POWERS: Mapping[Stream, float] = {"rgb": 0.5, "flow": 1.0}
USUAL_SCALE = 8.0  # of logits: the answers of least squares lie about between 0 and 1
SMALLEST_SPREAD = 0.1  # of a feature, as a share of the mean spread
NEVER = -10.0  # bias of a class without a row, where answers lie about between 0 and 1
MOST_FOLDS = 10
DOUBT = 1.0  # takes that are named wrongly, imagined for the temperatures
FALSE_NAMES = 0.2  # promised share of clips of other actions that are given a name
FALSE_STARTS = 6.0  # an hour, at most, of actions in recordings of none that the heads have not seen


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows that classifiers are fitted on.

    Attributes:
        features: per stream (N, D) float32, a row for each look at a take.
        labels: (N,) class indices.
        folds: (N,) a number for each row; rows of one number are left out together, so all looks at a take have one.
        is_tested: (N,) whether a row counts in figures: the look at a take as it is.
        num_classes: K, the class of no action included.
        no_action: the index of that class; None where there is none.
    """

    features: Mapping[Stream, np.ndarray]
    labels: np.ndarray
    folds: np.ndarray
    is_tested: np.ndarray
    num_classes: int
    no_action: int | None

    @property
    def actions(self) -> list[int]:
        """The class indices of actions."""
        return [label for label in range(self.num_classes) if label != self.no_action]


@dataclass(frozen=True, eq=False)
class Fit:
    """What `fit_examples` found.

    Attributes:
        heads: per stream.
        fusion: with the "unknown" threshold.
        held_out: (N, K) fused probabilities of the tested rows, by heads that did not see their fold; a row of an
            action that these heads did not know either is not a number.
        left_out: per stream the logits (N, K) of all rows, by the same heads as `held_out`.
        strange: (M,) the score of the name that the tested rows of each action got from heads that did not know the
            action; 0 where they said "no action".
    """

    heads: dict[Stream, Head]
    fusion: Fusion
    held_out: np.ndarray
    left_out: dict[Stream, np.ndarray]
    strange: np.ndarray


def fit_examples(examples: Examples, false_names: float = FALSE_NAMES) -> Fit:
    """Fit a head for each stream and the threshold below which no action is named.

    Where there are recordings of no action, the threshold also keeps false starts in the left-out ones at FALSE_STARTS.

    Args:
        examples: of at least two classes.
        false_names: at most this share of clips of other actions shall get a name; kept by leaving each action out in
            turn (conformal prediction, see `calibrate.with_threshold`).
    """
    heads, left_out, strange = {}, {}, {}
    tested = examples.is_tested
    for stream, rows in examples.features.items():
        answers = _left_out(rows, examples)
        strength, scale = _choose(answers[:, tested], examples.labels[tested])
        weight, bias = fit_linear(rows, examples.labels, examples.num_classes, (strength,))
        heads[stream] = Head((scale * weight[0]).astype(np.float32), (scale * bias[0]).astype(np.float32), strength)
        left_out[stream] = scale * answers[STRENGTHS.index(strength)]
        strange[stream] = probabilities(scale * _class_left_out(rows, examples, strength))
    held_out = {stream: probabilities(logits[tested]) for stream, logits in left_out.items()}
    known = np.isfinite(next(iter(held_out.values()))).all(axis=1)
    fused = np.full((len(known), examples.num_classes), np.nan)
    fusion = fit_product({stream: scores[known] for stream, scores in held_out.items()}, examples.labels[tested][known])
    fused[known] = fusion.fuse({stream: scores[known] for stream, scores in held_out.items()})
    names = name_scores(fusion.fuse(strange), examples.no_action)
    fusion = with_limit(fusion, names, false_names)
    idle = known & (examples.labels[tested] == examples.no_action)
    return Fit(heads, with_quiet(fusion, fused[idle], examples.no_action), fused, left_out, names)


def fit_product(scores: Mapping[Stream, np.ndarray], labels: np.ndarray) -> Fusion:
    """The product of the streams' probabilities, with the temperature that suits these (N, K) of left-out rows.

    Streams agree more often than independent ones would, so their bare product is too sure of itself.
    """
    fusion = Fusion("product", {stream: (POWERS[stream],) for stream in scores}, temperature=float(len(scores)))
    if not len(labels):
        return fusion
    fused = replace(fusion, temperature=1.0).fuse(scores)
    return replace(fusion, temperature=fit_temperature(fused, labels, DOUBT))


def fit_linear(
    rows: np.ndarray, labels: np.ndarray, num_classes: int, strengths: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of one-hot labels on standardised rows, every class of equal weight.

    Args:
        rows: (N, D).
        labels: (N,) class indices; a class without a row is never the answer.
        num_classes: K.
        strengths: P of them.

    Returns:
        Weights (P, K, D) and biases (P, K) float64, for rows as they are.
    """
    rows = rows.astype(np.float64)
    counts = np.bincount(labels, minlength=num_classes)
    shares = 1 / (counts[labels] * np.count_nonzero(counts))  # of each row; together 1
    mean = shares @ rows
    spread = np.sqrt(shares @ (rows - mean) ** 2)
    spread = np.maximum(spread, max(SMALLEST_SPREAD * spread.mean(), np.finfo(np.float32).eps))
    roots = np.sqrt(shares * len(rows))[:, None]
    centred = roots * (rows - mean) / spread
    targets = np.eye(num_classes)[labels]
    usual = shares @ targets
    values, vectors = np.linalg.eigh(centred @ centred.T / rows.shape[1])
    turned = vectors.T @ (roots * (targets - usual))
    weights = np.stack(
        [
            (vectors @ (turned / (np.maximum(values, 0) + strength)[:, None])).T @ centred / rows.shape[1] / spread
            for strength in strengths
        ]
    )
    biases = usual - weights @ mean
    biases[:, counts == 0] = NEVER
    return weights, biases


def _left_out(rows: np.ndarray, examples: Examples) -> np.ndarray:
    """Answers to each row by classifiers that did not see its fold: (P, N, K); NaN where they can't know its class."""
    answers = np.full((len(STRENGTHS), len(rows), examples.num_classes), np.nan)
    for fold in np.unique(examples.folds):
        out = examples.folds == fold
        known = np.unique(examples.labels[~out])
        if len(known) < 2:
            continue
        weight, bias = fit_linear(rows[~out], examples.labels[~out], examples.num_classes, STRENGTHS)
        wanted = out & np.isin(examples.labels, known)
        answers[:, wanted] = rows[wanted] @ weight.transpose(0, 2, 1) + bias[:, None]
    return answers


def _choose(answers: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The strength and the scale of logits with the least log loss of left-out rows (P, N, K)."""
    known = np.isfinite(answers).all(axis=(0, 2))
    if not known.any():
        return USUAL_STRENGTH, USUAL_SCALE
    answers, labels = USUAL_SCALE * answers[:, known], labels[known]
    scales = np.array([1 / fit_temperature(probabilities(one), labels, DOUBT) for one in answers])
    scaled = torch.from_numpy(answers * scales[:, None, None])
    losses = [F.cross_entropy(one, torch.from_numpy(labels)).item() for one in scaled]
    best = int(np.argmin(losses))
    return STRENGTHS[best], float(USUAL_SCALE * scales[best])


def _class_left_out(rows: np.ndarray, examples: Examples, strength: float) -> np.ndarray:
    """Answers to the tested rows of each action by a classifier without that action: (M, K)."""
    found = [np.zeros((0, examples.num_classes))]
    for label in examples.actions:
        kept, asked = examples.labels != label, examples.is_tested & (examples.labels == label)
        if len(np.unique(examples.labels[kept])) < 2:
            continue
        weight, bias = fit_linear(rows[kept], examples.labels[kept], examples.num_classes, (strength,))
        answers = rows[asked] @ weight[0].T + bias[0]
        found.append(answers)
    return np.concatenate(found)


def name_scores(fused: np.ndarray, no_action: int | None) -> np.ndarray:
    """How sure (N, K) probabilities are of a name: the highest, or 0 where it is that of no action."""
    return np.where(fused.argmax(axis=1) == no_action, 0.0, fused.max(axis=1))


def with_limit(fusion: Fusion, strange: np.ndarray, false_names: float) -> Fusion:
    """The fusion with the lowest threshold that names at most a share of strange clips.

    Where they are too few to promise it, the threshold is the highest of them, and nothing is promised.
    """
    if not len(strange):
        return fusion
    place = int(false_names * (len(strange) + 1) + 1e-9)
    highest = np.sort(strange)[::-1]
    promised = false_names if place >= 1 else None
    return replace(fusion, threshold=float(highest[max(place, 1) - 1]), false_alarm_rate=promised)


def false_starts(fused: np.ndarray, no_action: int | None, threshold: float) -> int:
    """How many actions start in (W, K) probabilities of windows that follow each other and show none."""
    named = np.where(name_scores(fused, no_action) > threshold, fused.argmax(axis=1), -1)
    return int(np.count_nonzero((named >= 0) & (named != np.append(-1, named[:-1]))))


def with_quiet(fusion: Fusion, fused: np.ndarray, no_action: int | None) -> Fusion:
    """The fusion with a threshold so high that actions start at most FALSE_STARTS times an hour.

    Args:
        fusion: its threshold only rises.
        fused: (W, K) probabilities of left-out windows of WINDOW_SECONDS that show no action; none, if there are none.
        no_action: the index of that class.
    """
    allowed = int(FALSE_STARTS * len(fused) * WINDOW_SECONDS / 3600)
    lowest = fusion.threshold or 0.0
    scores = name_scores(fused, no_action)
    for threshold in [lowest, *np.sort(scores[scores > lowest])]:
        if false_starts(fused, no_action, threshold) <= allowed:
            break
    return fusion if threshold == lowest else replace(fusion, threshold=float(threshold))
