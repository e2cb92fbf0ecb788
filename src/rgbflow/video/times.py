"""The times of a video's frames: read from the file, corrected where they contradict each other; and the frame rate."""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, pairwise
from statistics import median
from typing import TypeVar

import numpy as np

Picture = TypeVar("Picture")
AHEAD = 8  # frames whose times are read before that of a frame is believed
HOLE = 1.5  # usual steps; what is longer may be a wrong time
JUMP_SECONDS = 10.0  # from here on, a lone time that no later one confirms is wrong; as ffmpeg's -dts_delta_threshold
RARE_HOLES, RARE_GAPS = 0.05, 0.2  # shares of the steps; where no more are long, or very long, the rest tells the rate
FEWEST_DIFFERENT = 0.4  # share of the times; where fewer differ, they tell no rate (two fields may share a time)
SAME_RATE = 0.005  # a header's rate that differs by less is right: it is exact, and times are rounded


def mended(
    stamped: Iterable[tuple[Picture, float | None]],
    header_step: float,
    longest_gap: float = math.inf,
    report: Callable[[str], None] = lambda line: None,
    coming: Callable[[], Iterable[float]] = lambda: (),
) -> Iterator[tuple[Picture, float]]:
    """Give each picture a time later than the one before it: its own time, unless the others contradict it.

    A missing or backward time becomes the time before it plus one step, and so does a time that runs ahead of the
    times of the next frames, or jumps although most of the coming times go on as before. If a clock restarts for good,
    the times continue as if it had not. No more than `AHEAD` pictures are held. An error of `stamped` is raised after
    the pictures before it.

    Args:
        stamped: pictures in display order, each with its time in seconds; None where it has none.
        header_step: seconds from frame to frame by the header; the times are more reliable.
        longest_gap: a clock that jumps ahead by more seconds, and stays there, has restarted.
        report: called with a line for each time that runs ahead and each clock that restarts.
        coming: gives the times, as far as they are known, of the pictures that `stamped` has still to give; asked where
            a time jumps.

    >>> list(mended([("a", 0.0), ("b", 300.0), ("c", 2.0), ("d", 3.0), ("e", 4.0)], 1.0))
    [('a', 0.0), ('b', 1.0), ('c', 2.0), ('d', 3.0), ('e', 4.0)]
    """
    clock = _Clock(header_step, longest_gap, report, coming)
    waiting: deque[tuple[Picture, float | None]] = deque()
    error: Exception | None = None
    try:
        for each in stamped:
            waiting.append(each)
            if len(waiting) > AHEAD:
                picture, stamp = waiting.popleft()
                yield picture, clock.time_of(stamp, [later for _, later in waiting])
    except Exception as raised:
        error = raised
    while waiting:
        picture, stamp = waiting.popleft()
        yield picture, clock.time_of(stamp, [later for _, later in waiting])
    if error is not None:
        raise error


class _Clock:
    """The last time given, and the shift of the file's times since its clock restarted."""

    def __init__(
        self,
        header_step: float,
        longest_gap: float,
        report: Callable[[str], None],
        coming: Callable[[], Iterable[float]],
    ):
        self._header_step, self._longest_gap, self._report, self._coming = header_step, longest_gap, report, coming
        self._step, self._shift, self._number = header_step, 0.0, -1
        self._last = -math.inf  # before the first
        self._given: deque[float] = deque(maxlen=AHEAD)

    def time_of(self, stamp: float | None, later: Sequence[float | None]) -> float:
        """The time of the next frame, from its own stamp and those of the frames after it."""
        self._number += 1
        own = None if stamp is None else stamp + self._shift
        following = [each + self._shift for each in later if each is not None]
        self._step = self._step_of([*self._given, *([] if own is None else [own]), *following])
        self._last = self._first(own, following) if self._last == -math.inf else self._next(own, following)
        self._given.append(self._last)
        return self._last

    @property
    def _least_step(self) -> float:
        """The shortest step between two frames: packed B-frames in AVI may have almost the same time."""
        return min(self._step, self._header_step) / 10

    def _step_of(self, stamps: list[float]) -> float:
        """The header's step, unless these times show another; with too few times, the step found before."""
        steps = [later - earlier for earlier, later in pairwise(sorted(stamps)) if later - earlier > 1e-9]
        if len(steps) < AHEAD // 2:
            return self._step
        usual = median(steps)
        return self._header_step if abs(usual - self._header_step) <= self._header_step / 4 else usual

    def _first(self, own: float | None, following: list[float]) -> float:
        if own is not None and not self._is_contradicted(own, -math.inf, following):
            return own
        earliest, place = min(((each, place) for place, each in enumerate(following, 1)), default=(0.0, 0))
        expected = earliest - place * self._step
        if own is not None:
            self._report_wrong(own, expected)
            self._shift = max(0.0, -expected)  # the file's start was this wrong time
        return max(0.0, expected)

    def _next(self, own: float | None, following: list[float]) -> float:
        last, step = self._last, self._step
        if own is None:
            return last + self._bounded_step(following)
        if own > last + self._least_step:
            if own - last > HOLE * step:
                return self._after_a_hole(own, following)
            return own
        if own > last - AHEAD * step:
            return last + step  # in AVI a frame has the time of its place in the file, which may be another than shown
        goes_on, starts_anew = _most_growing(following, last), _most_growing([f for f in following if f <= last], own)
        if starts_anew + 1 > goes_on and not self._is_outvoted(own, following):
            return self._start_anew(own)
        seconds = last + self._bounded_step(following)
        self._report_wrong(own, seconds)
        return seconds

    def _after_a_hole(self, own: float, following: list[float]) -> float:
        """For a time after a hole: the time itself, if it is not wrong and no new clock begins."""
        last, step = self._last, self._step
        is_far = own - last > max(JUMP_SECONDS, 10 * step)
        is_alone = is_far and sum(each > own for each in following) < 2
        if is_alone or self._is_contradicted(own, last, following) or self._is_outvoted(own, following):
            seconds = last + self._bounded_step([each for each in following if each < own])
            self._report_wrong(own, seconds)
            return seconds
        return self._start_anew(own) if own - last > self._longest_gap else own

    def _is_contradicted(self, own: float, last: float, following: list[float]) -> bool:
        """Whether more times can be believed if this one, later than `last`, is not."""
        return _most_growing(following, last) > 1 + _most_growing(following, own + self._least_step)

    def _is_outvoted(self, own: float, following: list[float]) -> bool:
        """Whether a time that jumps is one of some wrong ones in a row, after which the clock goes on as before.

        That is so where, up to any of the coming times, more of them fit the clock before the jump than the one after.
        Times that grow fit only the one after.
        """
        last, step, lead = self._last, self._step, -1  # the jump's own vote
        if abs(own - last) <= AHEAD * step:
            return False
        coming = (each + self._shift for each in self._coming())
        for count, each in enumerate(chain(following, coming), 1):
            goes_on = last < each < own or own <= last < each
            lead += 1 if goes_on and abs(each - last - (count + 1) * step) < abs(own - last) / 2 else -1
            if lead > 0:
                return True
        return False

    def _bounded_step(self, following: list[float]) -> float:
        """One step, or half the way to the next time if that is shorter."""
        coming = next((each for each in following if each > self._last + self._least_step), math.inf)
        return min(self._step, (coming - self._last) / 2)

    def _start_anew(self, own: float) -> float:
        seconds = self._last + self._step
        self._shift += seconds - own
        jump = f"jumps from {self._last:.2f} to {own:.2f} s after frame {self._number}"
        self._report(f"its clock {jump}: the next frame follows without a gap")
        return seconds

    def _report_wrong(self, own: float, expected: float) -> None:
        frame = f"frame {self._number + 1} says {own:.2f} s"
        self._report(f"{frame}, but the times around it say {expected:.2f} s, which is used")


def _most_growing(stamps: list[float], after: float) -> int:
    """The most of these stamps that can be kept so that all are later than `after` and each is later than the last.

    >>> _most_growing([3, 1, 2, 9, 4], 0)
    3
    """
    ends: list[float] = []  # ends[n] is the earliest end of n + 1 growing stamps
    for stamp in stamps:
        if stamp > after:
            place = bisect_left(ends, stamp)
            ends[place : place + 1] = [stamp]
    return len(ends)


def rate_of(stamps: Sequence[float], header_rate: float | None = None, resolution: float = 0.0) -> float | None:
    """Frames per second from the times of the frames: one over their mean step, without gaps and wrong times.

    Holes of a frame or two count only where they are more than one step in twenty: a codec may leave out a few. A time
    far from all others is of a frame that fills such a hole.

    Args:
        stamps: seconds, in any order.
        header_rate: returned if the times agree with it, because times are rounded.
        resolution: seconds that the times are rounded to.

    Returns:
        The rate, or None if the times give none: fewer than two different ones, or most of them the same.

    >>> rate_of([0.0, 0.1, 0.2, 0.3, 600.0, 0.5])
    10.0
    """
    steps = np.diff(np.unique(np.asarray(stamps, float)))
    steps = steps[steps > 1e-9]
    if not len(steps) or len(steps) + 1 < len(stamps) * FEWEST_DIFFERENT:
        return None
    steps = steps[steps > np.median(steps) / 10]  # two frames at almost the same time
    lone, steps = _lone(steps), _without_rare(steps, 10, fewest=2, share=RARE_GAPS)
    holes = int(np.round(steps / np.median(steps) - 1).sum())
    if 0 < holes <= lone:
        mean = float(steps.sum() / (len(steps) + holes))
    else:
        mean = float(_without_rare(steps, HOLE, fewest=1, share=RARE_HOLES).mean())
    if header_rate and abs(mean - 1 / header_rate) <= SAME_RATE * mean + resolution / len(steps):
        return header_rate
    return float(np.round(1 / mean, 9))


def _lone(steps: np.ndarray) -> int:
    """How many times are far from the one before and the one after; the first and the last need one of these."""
    is_far = steps > 10 * np.median(steps)
    return int((np.append(is_far, True) & np.append(True, is_far)).sum())


def _without_rare(steps: np.ndarray, factor: float, fewest: int, share: float) -> np.ndarray:
    """The steps without those that are a multiple of the usual one, if these are few."""
    is_long = steps > factor * np.median(steps)
    return steps[~is_long] if is_long.sum() <= max(fewest, share * len(steps)) else steps


class ArrivalClock:
    """The times of a live source: its own times, unless the arrivals of its frames contradict them.

    A live source can't wait for later frames. A time that runs ahead of the arrivals by more than `JUMP_SECONDS`, or
    goes back by as much, becomes the time before it plus the seconds that passed. If the next frames agree with the
    jump, the source's clock has restarted, and the times continue.

    >>> clock = ArrivalClock()
    >>> [clock.time_of(stamp, arrived) for stamp, arrived in [(5.0, 0.0), (305.0, 1.0), (7.0, 2.0)]]
    [5.0, 6.0, 7.0]
    """

    def __init__(self) -> None:
        self._shift = self._other_shift = 0.0  # of the clock so far, and of the one that the last wrong time began
        self._last = self._arrived = -math.inf  # time given and arrival of the frame before

    def time_of(self, stamp: float, arrived: float) -> float:
        """The time of the next frame in seconds, from its stamp and its arrival."""
        if self._last == -math.inf:
            seconds = stamp
        elif self._agrees(stamp + self._shift, arrived):
            seconds = stamp + self._shift
        elif self._agrees(stamp + self._other_shift, arrived):
            self._shift = self._other_shift
            seconds = stamp + self._shift
        else:
            seconds = self._last + max(0.0, arrived - self._arrived)
            self._other_shift = seconds - stamp
        self._last, self._arrived = seconds, arrived
        return seconds

    def _agrees(self, seconds: float, arrived: float) -> bool:
        return -JUMP_SECONDS < seconds - self._last < max(0.0, arrived - self._arrived) + JUMP_SECONDS
