"""Progress on a terminal: what is going on, how far it is and how long it still takes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
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

SECONDS_BETWEEN_LINES = 30
console = Console(stderr=True, quiet=not is_first_process())  # standard output is for results


class Tracker:
    """Counts the steps of one piece of work and shows them: a bar on a terminal, lines elsewhere."""

    def __init__(self, bar: Progress, task: TaskID):
        self._bar, self._task = bar, task
        self._began = self._told = time.monotonic()

    def advance(self, note: str = "") -> None:
        """One more step is done; `note` is shown beside the bar, or in the line."""
        self._bar.update(self._task, advance=1, note=note)
        self._tell()

    def set(self, done: int, total: int, note: str = "") -> None:
        """So many steps of so many are done; `note` is shown beside the bar, or as a line when it is new."""
        task = self._bar.tasks[self._task]
        if not console.is_terminal and note != task.fields["note"]:
            console.print(f"{task.description} {note}", highlight=False, markup=False)
        self._bar.update(self._task, completed=done, total=total, note=note)
        self._tell()

    def _tell(self) -> None:
        """Where there is no terminal, say now and then how far it is."""
        if console.is_terminal or time.monotonic() - self._told < SECONDS_BETWEEN_LINES:
            return
        self._told = time.monotonic()
        task = self._bar.tasks[self._task]
        of_all = f" of {task.total:g}" if task.total else ""
        parts = [f"{task.completed:g}{of_all} {task.fields['unit']}", task.fields["note"]]
        if task.total and task.completed:
            seconds = (time.monotonic() - self._began) * (task.total / task.completed - 1)
            parts.append(f"{timedelta(seconds=round(seconds))} left")
        console.print(f"{task.description}: {', '.join(filter(None, parts))}", highlight=False, markup=False)


class Pace:
    """How fast clips are done, and how many failed so far."""

    def __init__(self):
        self._began, self._clips, self._frames, self._failed = time.monotonic(), 0, 0, 0

    def note(self, frames: int, failed: bool) -> str:
        """Count a clip of so many frames; the text to show beside the bar."""
        self._clips, self._frames, self._failed = self._clips + 1, self._frames + frames, self._failed + failed
        seconds = max(time.monotonic() - self._began, 1e-9)
        return f"{self._clips / seconds:.3g} clips/s, {self._frames / seconds:.0f} frames/s, {self._failed} failed"


@contextmanager
def track(what: str, total: int | None, unit: str) -> Iterator[Tracker]:
    """Show how far a block has come.

    Args:
        what: said before the bar.
        total: steps, None if not known yet.
        unit: what a step is.
    """
    with _bar() as bar:
        task = bar.add_task(what, total=total, unit=unit, note="")
        yield Tracker(bar, task)
        if not console.is_terminal:
            console.print(
                f"{what}: {bar.tasks[task].completed:g} {unit} in {bar.tasks[task].elapsed:.0f} s", highlight=False
            )


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
