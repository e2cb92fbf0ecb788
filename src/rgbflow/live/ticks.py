"""Which frames of a camera are used, and how many steps of the rate that the networks know each one closes.

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
    """What a used frame closes.

    Attributes:
        ticks: how many nominal steps the field that leads to it stands for; 0 where it lies within a step.
        scale: what its displacements are multiplied with: the nominal step over the one that passed.
        starts: it is the first frame, or the first after a gap: nothing leads to it.
    """

    ticks: int
    scale: float = 1.0
    starts: bool = False


class Ticks:
    """A clock that ticks with the nominal rate, set by the frames of a camera of any rate.

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
        """Take the next frame as the first one."""
        self._last = None

    def step(self, pts_seconds: float) -> Step | None:
        """Take the next frame's time; None means that the frame is not used: too soon, or older than the last one.

        A time far before the last one, as of a source that was opened again, starts anew.
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
