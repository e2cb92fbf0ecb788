"""Which frames of a camera are used, and how many steps of the nominal rate each of them completes.

Flow is a velocity: the displacement between two frames that are a time t apart, multiplied with the nominal step / t,
is what a camera of the nominal rate would have seen between two of its frames, as long as the motion is even.
"""

import math
from dataclasses import dataclass

SOONEST = 0.75  # nominal steps; a frame that follows the last used one sooner is not used
SAME = 0.03  # nominal steps; what differs by less is the same: files count in milliseconds, quartzes differ
LONGEST_GAP_SECONDS = 0.5  # flow over a longer one means nothing


@dataclass(frozen=True)
class Step:
    """The steps that a used frame completes.

    Attributes:
        ticks: number of nominal steps that the field before the frame stands for; 0 for a frame within a step.
        scale: factor for the displacements: the nominal step divided by the step that passed.
        starts: whether it is the first frame, or the first after a gap, so that no field leads to it.
    """

    ticks: int
    scale: float = 1.0
    starts: bool = False


class Ticks:
    """A clock that ticks at the nominal rate, driven by the frames of a camera of any rate.

    Args:
        frame_rate: nominal, frames per second.

    >>> ticks = Ticks(25)
    >>> [ticks.step(number / 12.5).ticks for number in range(4)]
    [0, 2, 2, 2]
    """

    def __init__(self, frame_rate: float):
        self.step_seconds = 1 / frame_rate
        self.longest_gap_seconds = max(LONGEST_GAP_SECONDS, 2 * self.step_seconds)
        self._last: float | None = None  # time of the last used frame
        self._reached = 0.0  # time up to which ticks are filled

    def restart(self) -> None:
        """Start again with the next frame as the first."""
        self._last = None

    def step(self, pts_seconds: float) -> Step | None:
        """Take the next frame's time; None means that the frame is not used: too early, or older than the last one.

        A time far before the last one, as from a reopened source, restarts the clock.
        """
        if self._last is None or abs(pts_seconds - self._last) > self.longest_gap_seconds:
            self._last = self._reached = pts_seconds
            return Step(0, starts=True)
        passed = (pts_seconds - self._last) / self.step_seconds
        if passed < SOONEST:
            return None
        ticks = math.floor((pts_seconds - self._reached) / self.step_seconds + 0.5)
        self._last = pts_seconds
        self._reached += ticks * self.step_seconds
        if abs(pts_seconds - self._reached) <= SAME * self.step_seconds:
            self._reached = pts_seconds  # a tick follows the frame
        return Step(ticks, 1.0 if abs(passed - 1) <= SAME else 1 / passed)
