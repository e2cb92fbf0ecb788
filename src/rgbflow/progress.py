"""Progress on a terminal: what is going on, how far it is and how long it still takes."""

from collections.abc import Iterator
from contextlib import contextmanager

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

console = Console(stderr=True)  # standard output is for results


class Tracker:
    """Counts the steps of one piece of work and shows them: a bar on a terminal, lines elsewhere."""

    def __init__(self, bar: Progress, task: TaskID):
        self._bar, self._task = bar, task

    def advance(self) -> None:
        """One more step is done."""
        self._bar.advance(self._task)

    def set(self, done: int, total: int, note: str = "") -> None:
        """So many steps of so many are done; `note` is shown beside the bar, or as a line when it is new."""
        task = self._bar.tasks[self._task]
        if not console.is_terminal and note != task.fields["note"]:
            console.print(f"{task.description} {note}", highlight=False)
        self._bar.update(self._task, completed=done, total=total, note=note)


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
