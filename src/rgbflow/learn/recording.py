"""Takes cut out of a camera's frames or of a long recording; what lies between them shows no action."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from rgbflow.errors import InputError
from rgbflow.learn.takes import NONE_NAMES, check_group, check_name, keep_group, keep_take
from rgbflow.video.reading import Frame

SHORT_SIDE = 480  # pixels at most; networks read less, and memory holds a take
MARGIN_SECONDS = 0.3  # beside a take, an action may have begun or be ending
SHORTEST_SECONDS = 1.0  # of what lies between takes, to be worth keeping
LONGEST_SECONDS = 10.0  # of one file of it, since memory holds it
UNEVEN = 0.8  # of its seconds, a take must have at least
ROUNDING = 1e-6  # seconds; times are sums of rounded steps
Answer = Literal["next", "again", "delete", "end"]


@dataclass(frozen=True, eq=False)
class Stretch:
    """Frames that follow each other, all of a take or all between takes.

    Attributes:
        frames: with their times.
        begin: of the take, seconds after the first frame; None between takes.
    """

    frames: list[Frame]
    begin: float | None

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return self.frames[-1].pts_seconds - self.frames[0].pts_seconds


@dataclass(frozen=True)
class Recorded:
    """What was kept.

    Attributes:
        takes: files of the action.
        between: files of what lies between the takes.
        notes: a line for each take that could not be cut.
    """

    takes: tuple[Path, ...]
    between: tuple[Path, ...]
    notes: tuple[str, ...]


def cut_takes(frames: Iterable[Frame], begins: Iterable[float], seconds: float) -> Iterator[Stretch]:
    """Cut frames into takes and what lies between them.

    Args:
        frames: at rising times.
        begins: of the takes, in seconds after the first frame, rising; as many as are wanted, or endlessly many.
        seconds: of each take.

    Yields:
        Stretches in their order. A take that the frames end in is there too. Between takes, MARGIN_SECONDS beside each
        take and stretches below SHORTEST_SECONDS are left out.
    """
    coming = iter(begins)
    begin, free_from = next(coming, None), -np.inf
    taken: list[Frame] = []
    between: list[Frame] = []
    first = None
    for frame in frames:
        first = frame.pts_seconds if first is None else first
        at = frame.pts_seconds - first + ROUNDING
        while begin is not None and at >= begin + seconds:
            if taken:
                yield Stretch(taken, begin)
            taken, free_from, begin = [], begin + seconds + MARGIN_SECONDS, next(coming, None)
        if begin is not None and at >= begin - MARGIN_SECONDS:
            if at >= begin:
                taken.append(frame)
            if _is_worth_keeping(between):
                yield Stretch(between, None)
            between = []
        elif at >= free_from:
            between.append(frame)
            if between[-1].pts_seconds - between[0].pts_seconds >= LONGEST_SECONDS:
                yield Stretch(between, None)
                between = []
    if taken:
        yield Stretch(taken, begin)
    if _is_worth_keeping(between):
        yield Stretch(between, None)


def _is_worth_keeping(frames: list[Frame]) -> bool:
    return len(frames) > 1 and frames[-1].pts_seconds - frames[0].pts_seconds >= SHORTEST_SECONDS


def shrunk(frame: Frame) -> Frame:
    """The frame with a short side of at most SHORT_SIDE."""
    height, width = frame.pixels.shape[:2]
    if (factor := SHORT_SIDE / min(height, width)) >= 1:
        return frame
    size = (round(width * factor), round(height * factor))
    return Frame(cv2.resize(frame.pixels, size, interpolation=cv2.INTER_AREA), frame.pts_seconds)


class Recorder:
    """Puts takes of one action into the folder of all takes; nothing there is overwritten.

    Args:
        folder: of all takes.
        name: of the action.
        seconds: of each take.
        keeps_between: whether what lies between takes is kept as recordings of no action.
        group: the person or place, see `Teacher.add`.

    Raises:
        InputError: if the name can't be a folder's.
    """

    def __init__(self, folder: Path, name: str, seconds: float, keeps_between: bool = True, group: str = ""):
        check_name(name)
        check_group(group)
        self._folder, self._name, self._seconds, self._group = folder, name, seconds, group
        self._keeps_between = keeps_between and name not in NONE_NAMES

    def cut(self, frames: Iterable[Frame], begins: Sequence[float] | None, pause: float, most: int | None) -> Recorded:
        """Keep the takes of a recording.

        Args:
            frames: of the recording.
            begins: of the takes, seconds after its first frame; None: one take after each pause.
            pause: seconds before each take, without `begins`.
            most: takes; None: as many as there are.

        Raises:
            InputError: if the takes overlap, or can't be written.
        """
        if begins is None:
            numbers = count() if most is None else range(most)
            places: Iterable[float] = (pause + number * (pause + self._seconds) for number in numbers)
        else:
            places = check_begins(begins, self._seconds)[:most]
        takes, between, notes = [], [], []
        for stretch in cut_takes(map(shrunk, frames), places, self._seconds):
            if stretch.begin is None:
                between += self._keep_between(stretch)
            elif stretch.seconds < UNEVEN * self._seconds:
                has = f"{stretch.seconds:.1f} of {self._seconds:g} s"
                notes.append(f"the take at {stretch.begin:g} s is not whole ({has}) and was left out")
            else:
                takes.append(self._keep(stretch))
        beyond = [] if begins is None else begins[len(takes) + len(notes) : most]
        notes += [f"the take at {begin:g} s lies beyond the end" for begin in beyond]
        return Recorded(tuple(takes), tuple(between), tuple(notes))

    def film(
        self,
        frames: Iterator[Frame],
        pause: float,
        most: int,
        ask: Callable[[Path, int], Answer] = lambda path, number: "next",
        tell: Callable[[float], None] = lambda seconds_left: None,
    ) -> Recorded:
        """Keep takes of a camera, one after another.

        Args:
            frames: of the camera, the newest each time.
            pause: seconds before each take.
            most: takes.
            ask: what to do after a take, of which it gets the file and the number: the next one, the same again, the
                next one without this one, or no more.
            tell: gets the seconds until the take, with every frame before it; then 0.

        Raises:
            InputError: if the camera fails, or the takes can't be written.
        """
        takes: list[Path] = []
        between: list[Path] = []
        while len(takes) < most:
            for stretch in cut_takes(
                map(shrunk, _one_take(frames, pause, self._seconds, tell)), (pause,), self._seconds
            ):
                if stretch.begin is None:
                    between += self._keep_between(stretch)
                else:
                    takes.append(self._keep(stretch))
            answer = ask(takes[-1], len(takes))
            if answer in ("again", "delete"):
                takes.pop().unlink(missing_ok=True)
            if answer == "end":
                break
        return Recorded(tuple(takes), tuple(between), ())

    def _keep(self, stretch: Stretch) -> Path:
        path = keep_take(self._folder, self._name, stretch.frames)
        if self._group:
            keep_group(self._folder, path, self._group)
        return path

    def _keep_between(self, stretch: Stretch) -> list[Path]:
        return [keep_take(self._folder, NONE_NAMES[0], stretch.frames)] if self._keeps_between else []


def _one_take(frames: Iterator[Frame], pause: float, seconds: float, tell: Callable[[float], None]) -> Iterator[Frame]:
    """The frames from now until a take is over."""
    first = None
    for frame in frames:
        first = frame.pts_seconds if first is None else first
        at = frame.pts_seconds - first + ROUNDING
        tell(max(0.0, pause - at))
        yield frame
        if at >= pause + seconds:
            return
    raise InputError("the source has ended in mid-take: use a longer one, or fewer takes")


def check_begins(begins: Sequence[float], seconds: float) -> Sequence[float]:
    """The begins of takes, unless takes of these seconds overlap.

    Raises:
        InputError: if they do, or a begin is below 0.
    """
    for before, begin in zip([-seconds, *begins], begins, strict=False):
        if not begin >= before + seconds:
            raise InputError(
                f"--at {' '.join(f'{one:g}' for one in begins)} must rise from 0 in steps of at least --seconds "
                f"({seconds:g}): give the seconds at which takes begin, or shorter takes"
            )
    return begins
