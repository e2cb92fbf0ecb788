"""The answer for a clip: a probability for each class, from each stream and from both together."""

import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from rgbflow.bundle import Bundle
from rgbflow.decision import Decision, decide
from rgbflow.errors import InputError
from rgbflow.fusion import probabilities
from rgbflow.records import check_argument
from rgbflow.stream import Stream

NumClasses = Annotated[int, Meta(ge=0, le=2**53, description="5 are usual")]
UNKNOWN = "unknown"  # the label of what is none of the classes


@dataclass(frozen=True)
class Answer:
    """One class and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """The answer of a recogniser for a clip.

    Attributes:
        classes: K names.
        scores: (K,) float64, probabilities after fusion.
        stream_scores: per stream (K,) float64, probabilities of that stream alone.
        start_seconds, end_seconds: the part of the video that the answer is for.
        seconds: time spent per stage: decode (with resizing) and flow where a file was read, each network, fusion.
        threshold: the clip is "unknown" if no score is above it; None where the bundle has no threshold.
        no_action: the class of clips that show none of the actions; None where there is no such class.
    """

    classes: tuple[str, ...]
    scores: np.ndarray
    stream_scores: dict[Stream, np.ndarray]
    start_seconds: float
    end_seconds: float
    seconds: dict[str, float]
    threshold: float | None = None
    no_action: str | None = None

    def __repr__(self) -> str:
        streams = "".join(f", {name} {_shown(self.stream_top(name, 1)[0])}" for name in self.stream_scores)
        span = f"{self.start_seconds:.2f}–{self.end_seconds:.2f} s"
        return f"Prediction({_shown(Answer(self.label, self.score))} of {span}{streams})"

    @property
    def is_known(self) -> bool:
        """Whether the answer is one of the actions, by its score: a class may itself be called "unknown"."""
        if self.no_action is not None and self.top(1)[0].label == self.no_action:
            return False
        return self.threshold is None or self.score > self.threshold

    @property
    def label(self) -> str:
        """The likeliest class, or "unknown" if it is not likely enough; `top` returns the classes in any case."""
        return self.top(1)[0].label if self.is_known else UNKNOWN

    @property
    def score(self) -> float:
        """The probability of the likeliest class."""
        return self.top(1)[0].score

    def top(self, count: int = 5) -> list[Answer]:
        """The likeliest classes after fusion, best first.

        Raises:
            InputError: if count is no number of classes.
        """
        return self._top(self.scores, count)

    def stream_top(self, stream: Stream, count: int = 5) -> list[Answer]:
        """The likeliest classes for one stream alone, best first.

        Raises:
            InputError: if there is no such stream, or count is no number of classes.
        """
        if stream not in self.stream_scores:
            raise InputError(f"stream ({stream!r}) must be one of {', '.join(self.stream_scores)}")
        return self._top(self.stream_scores[stream], count)

    @property
    def decision(self) -> Decision:
        """Which stream the answer comes from, and how sure each stream was."""
        return decide(self.classes, self.scores, self.stream_scores)

    def as_dict(self, count: int = 5) -> dict:
        """A form for JSON."""
        answers: dict[str, list[Answer]] = {"fused": self.top(count)}
        answers |= {name: self.stream_top(name, count) for name in self.stream_scores}
        return {
            "label": self.label,
            "is_known": self.is_known,
            "score": self.score,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "decision": self.decision.as_dict(),
            "top": {name: [vars(answer) for answer in row] for name, row in answers.items()},
            "seconds": self.seconds,
        }

    def _top(self, scores: np.ndarray, count: int) -> list[Answer]:
        check_argument("count", count, NumClasses)
        best = np.argsort(-scores, kind="stable")[:count]
        return [Answer(self.classes[index], float(scores[index])) for index in best]


def _shown(answer: Answer) -> str:
    return f"{answer.label!r} {answer.score:.2f}"


def conclude(
    bundle: Bundle,
    logits: dict[Stream, np.ndarray],
    start_seconds: float,
    end_seconds: float,
    seconds: dict[str, float],
) -> Prediction:
    """Fuse what the streams say of a clip.

    Args:
        bundle: gives the classes, the fusion and the "unknown" threshold.
        logits: per stream (K,) float32, the consensus of its snippets.
        start_seconds: start of the part of the video that the answer is for.
        end_seconds: end of that part.
        seconds: time spent per stage so far.
    """
    for stream, values in logits.items():
        if values.shape != (len(bundle.classes),) or not np.isfinite(values).all():
            raise InputError(
                f"the network of {stream} gives no finite logit for each of the {len(bundle.classes)} classes: its "
                "weights are damaged or its training diverged; use another bundle"
            )
    began = time.perf_counter()
    stream_scores = {stream: probabilities(values) for stream, values in logits.items()}
    scores = bundle.fusion.fuse(stream_scores)
    seconds = {**seconds, "fusion": time.perf_counter() - began}
    limits = bundle.fusion.threshold, bundle.no_action
    return Prediction(bundle.classes, scores, stream_scores, start_seconds, end_seconds, seconds, *limits)
