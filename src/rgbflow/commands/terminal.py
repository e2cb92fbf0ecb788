"""Progress on a terminal: the task, how far it is and how long it will still take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rgbflow.processes import is_first_process
from rgbflow.shown import harmless

SECONDS_BETWEEN_LINES = 30
console = Console(stderr=True, quiet=not is_first_process())  # standard output is for results


class TerminalProgress:
    """Shows the steps of one task: as a bar on a terminal, elsewhere as a line now and then."""

    def __init__(self, bar: Progress, task: TaskID):
        self._bar, self._task = bar, task
        self._printed = time.monotonic()
        self._first: tuple[float, int, int] | None = None  # when the count began, steps done then, total steps

    def update(self, done: int, total: int, note: str = "") -> None:
        """See `rgbflow.progress.Progress`; the note stands beside the bar, or in the line."""
        now = time.monotonic()
        if self._first is None or done < self._first[1] or total != self._first[2]:
            self._first = now, done, total
        self._bar.update(self._task, completed=done, total=total, note=escape(harmless(note)))
        if not console.is_terminal and now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            steps = f"{done:g} of {total:g} {self._bar.tasks[self._task].fields['unit']}"
            self.report(", ".join(filter(None, [steps, note, self._time_left(now, done, total)])))

    def report(self, line: str) -> None:
        """See `rgbflow.progress.Progress`; the task's name comes before the line."""
        console.out(harmless(f"{self._bar.tasks[self._task].description}: {line}"), highlight=False)

    def _time_left(self, now: float, done: int, total: int) -> str:
        """The time left, from the pace since the count began: an earlier run may have done the steps before that."""
        if self._first is None or done == self._first[1]:
            return ""
        began, before, _ = self._first
        return f"{timedelta(seconds=round((now - began) * (total - done) / (done - before)))} left"


@contextmanager
def track(what: str, unit: str) -> Iterator[TerminalProgress]:
    """Show the progress of the task inside the `with` block.

    Args:
        what: name of the task, shown before the bar and before each line.
        unit: name of the steps, such as "clips".
    """
    with _bar() as bar:
        task = bar.add_task(harmless(what), total=None, unit=unit, note="")
        progress = TerminalProgress(bar, task)
        yield progress
        if not console.is_terminal:
            progress.report(f"{bar.tasks[task].completed:g} {unit} in {bar.tasks[task].elapsed:.0f} s")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not console.is_terminal,
    )
