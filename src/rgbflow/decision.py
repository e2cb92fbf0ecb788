"""Which stream an answer comes from and how sure each stream was; the true class is not needed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from rgbflow.stream import Stream


@dataclass(frozen=True)
class Voice:
    """What one stream alone says.

    Attributes:
        label: its own likeliest class.
        score: the probability that it gives this class.
        answer_score: the probability that it gives the answer of all streams.
        margin: `answer_score` minus its probability of the best other class; below 0 where its own answer differs.
    """

    label: str
    score: float
    answer_score: float
    margin: float


@dataclass(frozen=True)
class Decision:
    """How the streams came to their answer.

    Attributes:
        answer: the likeliest class after fusion.
        by: "both" if each stream alone gives this answer too, "rgb" or "flow" if only that stream does (or it is the
            only one), "fusion" if neither does.
        voices: what each stream alone says.
    """

    answer: str
    by: Literal["both", "rgb", "flow", "fusion"]
    voices: dict[Stream, Voice]

    def as_dict(self) -> dict:
        """A form for JSON."""
        return asdict(self)

    def line(self) -> str:
        """One line for people."""
        agreeing = [name for name, voice in self.voices.items() if voice.label == self.answer]
        sure = {name: _sureness(self.voices[name]) for name in agreeing}
        others = " and ".join(
            f"{name} alone would have said {voice.label} ({voice.score:.0%}; {self.answer} {voice.answer_score:.0%})"
            for name, voice in self.voices.items()
            if name not in agreeing
        )
        if self.by == "fusion":
            return f"neither stream alone says {self.answer}: {others}"
        if self.by == "both":
            return f"both streams say {self.answer}: " + "; ".join(f"{name} {words}" for name, words in sure.items())
        decided = f"{self.by} decided: {self.answer} {sure[self.by]}"
        return f"{decided}; {others}" if others else f"{self.by} is the only stream: {self.answer} {sure[self.by]}"


def decide(classes: Sequence[str], scores: np.ndarray, stream_scores: Mapping[Stream, np.ndarray]) -> Decision:
    """Compare the fused answer of a clip with what each stream alone says.

    Args:
        classes: K names.
        scores: (K,) probabilities after fusion.
        stream_scores: per stream (K,) probabilities.
    """
    answer = int(scores.argmax())
    voices = {stream: _voice(classes, values, answer) for stream, values in stream_scores.items()}
    agreeing = [stream for stream, values in stream_scores.items() if values.argmax() == answer]
    by = "fusion" if not agreeing else agreeing[0] if len(agreeing) == 1 else "both"
    return Decision(classes[answer], by, voices)


def _voice(classes: Sequence[str], values: np.ndarray, answer: int) -> Voice:
    own = int(values.argmax())
    others = np.delete(values, answer)
    margin = values[answer] - others.max(initial=0.0)
    return Voice(classes[own], float(values[own]), float(values[answer]), float(margin))


def _sureness(voice: Voice) -> str:
    return f"{voice.answer_score:.0%}, {100 * voice.margin:.0f} points ahead of the next class"
