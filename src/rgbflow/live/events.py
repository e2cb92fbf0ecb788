"""From running scores to events: an action starts, an action ends. No pixels, no clock."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from rgbflow.errors import InputError
from rgbflow.records import check_argument, check_fields

MinSeconds = Annotated[float, Meta(ge=0, le=3600, description="0.5 is usual")]
END_SHARE = 0.6  # of the score that starts an action, which ends it: far enough below for scores that tremble


@dataclass(frozen=True)
class EventRules:
    """When an action starts and when it ends.

    Attributes:
        start_score: an action starts when the score of its class reaches this value and is the highest. Where this
            value is below the bundle's "unknown" threshold, it takes the threshold's place in live recognition.
        end_score: an action ends when its score falls below this lower value; a score between the two changes nothing.
        min_seconds: both conditions must last this long: shorter actions and shorter breaks are not reported.
    """

    start_score: float = 0.5
    end_score: float = 0.3
    min_seconds: MinSeconds = 0.5

    def __post_init__(self):
        check_fields(self)
        if not 0 <= self.end_score <= self.start_score <= 1:
            raise InputError(
                f"end_score ({self.end_score}) and start_score ({self.start_score}) must be in 0…1 and end_score not "
                "above start_score: 0.3 and 0.5 are usual"
            )

    @classmethod
    def suited_to(
        cls,
        num_classes: int,
        threshold: float | None,
        start_score: float | None = None,
        end_score: float | None = None,
        min_seconds: float = 0.5,
    ) -> "EventRules":
        """The rules for a recogniser; arguments replace the default values.

        A score that is high enough for a name is high enough for an event: `start_score` is the bundle's "unknown"
        threshold. For a bundle without one it is twice the score of an even guess, at most 0.5.
        `end_score` is END_SHARE of `start_score`.
        """
        check_argument("start_score", start_score, float | None)
        if start_score is None:
            start_score = min(0.5, 2 / num_classes) if threshold is None else threshold
        return cls(start_score, END_SHARE * start_score if end_score is None else end_score, min_seconds)


def checked_rules(rules: object) -> EventRules:
    """The rules, if they are such.

    Raises:
        InputError: if they are anything else.
    """
    if not isinstance(rules, EventRules):
        raise InputError(f"rules ({type(rules).__name__}) must be EventRules, such as EventRules(0.5, 0.3)")
    return rules


@dataclass(frozen=True)
class Event:
    """An action has started or ended. Times are those of the frames, in seconds.

    Attributes:
        kind: "start" or "end".
        label: the class.
        score: score of the class at the start; for an end, the mean over the action.
        start_seconds: when the action began: the middle of the first evidence for it.
        end_seconds: when it ended; None while it lasts.
        evidence_start_seconds: time of the oldest frame that the deciding scores were computed from.
        evidence_end_seconds: time of the newest of these frames.
        latency_seconds: seconds from the arrival of that newest frame to this event.
    """

    kind: Literal["start", "end"]
    label: str
    score: float
    start_seconds: float
    end_seconds: float | None
    evidence_start_seconds: float
    evidence_end_seconds: float
    latency_seconds: float = 0.0


@dataclass(frozen=True)
class _Evidence:
    """The part of the video that scores were computed from."""

    start_seconds: float
    end_seconds: float
    at_seconds: float  # the moment that the scores say something about


@dataclass(frozen=True)
class _Candidate:
    """A class that may start, with its scores since it became the candidate."""

    index: int
    since: _Evidence


class EventFinder:
    """Follows running scores and reports when actions start and end.

    Args:
        classes: K names.
        rules: the two thresholds and the shortest duration.

    Attributes:
        action: the current action; None while there is none, or none with a known name.
    """

    def __init__(self, classes: tuple[str, ...], rules: EventRules):
        self.classes, self.rules = classes, rules
        self._now: _Evidence | None = None
        self._restart()

    def push(
        self, scores: np.ndarray, evidence_start_seconds: float, evidence_end_seconds: float, is_known: bool = True
    ) -> list[Event]:
        """Take the next scores; returns the starts and ends that follow from them, an end before a start.

        Args:
            scores: (K,) probabilities.
            evidence_start_seconds: time of the oldest frame they were computed from.
            evidence_end_seconds: time of the newest frame; later than at the last call.
            is_known: whether the highest score is high enough for a name.
        """
        start, end = evidence_start_seconds, evidence_end_seconds
        # What comes first is true from the first frame on; later the middle of the window is what it tells of.
        self._now = now = _Evidence(start, end, (start + end) / 2 if self._now else start)
        self._follow_candidate(scores, is_known, now)
        events = []
        if self.action is not None:
            events += self._end_if_over(scores, now)
        candidate = self._candidate
        if self.action is None and candidate is not None and self._has_lasted(candidate.since, now):
            events.append(self._start(scores, candidate, now))
        return events

    def finish(self) -> list[Event]:
        """End the current action with its last frame, because the video is over or has a gap; then start afresh."""
        now = self._now
        events = [self._end(now.end_seconds, now)] if self.action is not None and now is not None else []
        self._restart()
        return events

    def _restart(self) -> None:
        self.action: str | None = None
        self._class = -1  # of the action
        self._start_seconds, self._free_from = 0.0, -np.inf
        self._total, self._count = 0.0, 0  # of the action's scores
        self._now = None
        self._candidate: _Candidate | None = None
        self._low_since: _Evidence | None = None  # the action's score has been low since then

    def _follow_candidate(self, scores: np.ndarray, is_known: bool, now: _Evidence) -> None:
        best = int(scores.argmax())
        if not is_known or scores[best] < self.rules.start_score:
            self._candidate = None
        elif self._candidate is None or self._candidate.index != best:
            self._candidate = _Candidate(best, now)

    def _end_if_over(self, scores: np.ndarray, now: _Evidence) -> list[Event]:
        score = scores[self._class]
        if score >= self.rules.end_score:
            self._low_since = None
            self._total, self._count = self._total + float(score), self._count + 1
        elif self._low_since is None:
            self._low_since = now
        replaced_since = self._replaced_since(now)
        if replaced_since is None and not self._has_lasted(self._low_since, now):
            return []
        signs = [since for since in (replaced_since, self._low_since) if since is not None]
        return [self._end(min(sign.at_seconds for sign in signs), now)]

    def _replaced_since(self, now: _Evidence) -> _Evidence | None:
        """The time since which another class has been the candidate, if that is long enough."""
        candidate = self._candidate
        if candidate is None or candidate.index == self._class or not self._has_lasted(candidate.since, now):
            return None
        return candidate.since

    def _has_lasted(self, since: _Evidence | None, now: _Evidence) -> bool:
        return since is not None and now.end_seconds - since.end_seconds >= self.rules.min_seconds - 1e-6

    def _start(self, scores: np.ndarray, candidate: _Candidate, now: _Evidence) -> Event:
        self._class = candidate.index
        self.action = self.classes[self._class]
        self._start_seconds = max(candidate.since.at_seconds, self._free_from)
        self._total, self._count, self._low_since = float(scores[self._class]), 1, None
        return self._event("start", self._total, None, now)

    def _end(self, end_seconds: float, now: _Evidence) -> Event:
        end_seconds = max(end_seconds, self._start_seconds)
        event = self._event("end", self._total / self._count, end_seconds, now)
        self.action, self._free_from = None, end_seconds
        return event

    def _event(self, kind: Literal["start", "end"], score: float, end_seconds: float | None, now: _Evidence) -> Event:
        label, evidence = self.classes[self._class], (now.start_seconds, now.end_seconds)
        return Event(kind, label, score, self._start_seconds, end_seconds, *evidence)
