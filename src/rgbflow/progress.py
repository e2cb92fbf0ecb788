"""Progress of long functions: the protocol that all of them report to, and the progress that shows nothing."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """What a long function reports its progress to: any object with these two methods."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Report how many of all steps are done.

        Args:
            done: steps done, 0 … total.
            total: number of all steps of this task.
            note: the current state, such as a rate; the next note replaces it.
        """
        ...

    def report(self, line: str) -> None:
        """Report a line that stays, such as the figures of an epoch."""
        ...


class Silent:
    """A progress that shows nothing: the default everywhere."""

    def update(self, done: int, total: int, note: str = "") -> None:
        pass

    def report(self, line: str) -> None:
        pass


SILENT = Silent()
# Begins a piece of work: its name and what one step of it is, such as ("evaluating", "clips").
Track = Callable[[str, str], AbstractContextManager[Progress]]


def untracked(what: str, unit: str) -> AbstractContextManager[Progress]:
    """The `Track` that shows nothing."""
    return nullcontext(SILENT)


def counted(items: Iterable[Item], total: int, progress: Progress) -> Iterator[Item]:
    """Yield the items unchanged; each counts as a step when the next one is requested."""
    progress.update(0, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress.update(done, total)


class Pace:
    """How fast clips are done, and how many failed so far."""

    def __init__(self):
        self._began, self._clips, self._frames, self._failed = time.monotonic(), 0, 0, 0

    def note(self, frames: int, failed: bool) -> str:
        """Count a clip and its frames; returns the note on all clips so far."""
        self._clips, self._frames, self._failed = self._clips + 1, self._frames + frames, self._failed + failed
        seconds = max(time.monotonic() - self._began, 1e-9)
        return f"{self._clips / seconds:.3g} clips/s, {self._frames / seconds:.0f} frames/s, {self._failed} failed"
