"""Live recognition on a terminal: the likeliest classes, the current action, and the time of each stage."""

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType

import numpy as np
from rich.bar import Bar
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from rgbflow.live.events import Event
from rgbflow.live.feed import Feed
from rgbflow.live.session import Update
from rgbflow.shown import harmless, say

STAGES = ("capture", "flow", "rgb network", "flow network", "fusion", "frame to label")
REMEMBERED = 300  # updates that the times are taken from
LINES = 5  # of events
PER_SECOND = 8  # pictures


class Times:
    """The time of each stage in the last updates, and the number of updates per second."""

    def __init__(self):
        self._seconds: dict[str, deque[float]] = {stage: deque(maxlen=REMEMBERED) for stage in STAGES}
        self._moments: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, update: Update, now: float) -> None:
        """Count an update that was made at `now`, seconds on any clock."""
        self._moments.append(now)
        for stage, seconds in {**update.prediction.seconds, "frame to label": update.latency_seconds}.items():
            self._seconds[stage].append(seconds)

    def updates_per_second(self) -> float:
        spent = self._moments[-1] - self._moments[0] if self._moments else 0
        return (len(self._moments) - 1) / spent if spent else 0.0

    def milliseconds(self) -> dict[str, tuple[float, float]]:
        """Per stage that has run: p50 and p95."""
        return {
            stage: tuple(1000 * np.percentile(list(seconds), (50, 95)))
            for stage, seconds in self._seconds.items()
            if seconds
        }


class Dashboard:
    """Shows updates in place on a terminal; a context manager.

    Args:
        feed: the feed with the counts of frames to show.
        title: name of the source.
        console: a terminal.
    """

    def __init__(self, feed: Feed, title: str, console: Console):
        self._feed, self._title = feed, harmless(title)
        self._times = Times()
        self._last_events: deque[Event] = deque(maxlen=LINES)
        self._frames: deque[tuple[float, int]] = deque(maxlen=REMEMBERED)
        self._update: Update | None = None
        self._drawn = -1.0
        self._picture: RenderableType = Text("waiting for the first frames")
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=PER_SECOND)

    def __enter__(self) -> "Dashboard":
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._picture = self._draw()
        self._live.__exit__(kind, error, trace)

    def send(self, update: Update) -> None:
        now = time.monotonic()
        self._times.add(update, now)
        self._frames.append((now, self._feed.received))
        self._update = update
        self.send_events(update.events)
        if now - self._drawn >= 1 / PER_SECOND:  # drawing takes as long as a small network
            self._drawn, self._picture = now, self._draw()

    def send_events(self, events: Iterable[Event]) -> None:
        self._last_events.extend(events)

    def close(self) -> None:
        """Nothing is open."""

    def _render(self) -> RenderableType:
        """The current picture of the terminal; called by rich's own thread."""
        trouble = self._feed.trouble
        if not trouble:
            return self._picture
        return Group(Text(harmless(f"{trouble}; waiting for it"), style="bold red"), self._picture)

    def _draw(self) -> RenderableType:
        update = self._update
        if update is None:
            return self._picture
        (first, before), (last, after) = self._frames[0], self._frames[-1]
        frames_per_second = (after - before) / (last - first) if last > first else 0.0
        feed = self._feed
        head = Text(
            f"{self._title}: {frames_per_second:.1f} frames/s, {self._times.updates_per_second():.1f} updates/s, "
            f"{feed.dropped} of {feed.received} frames dropped"
            + (f" ({feed.skipped} not decoded)" if feed.skipped else "")
            + (f", source lost {feed.lost} times" if feed.lost else "")
        )
        action = Text(harmless(f"{update.label}   (action: {update.action or 'none'})"), style="bold")
        events = Text("\n".join(harmless(event_line(event)) for event in self._last_events))
        return Group(head, action, _bars(update), _stages(self._times), events)


def _bars(update: Update) -> Table:
    table = Table.grid(padding=(0, 1))
    for answer in update.prediction.top(5):
        table.add_row(escape(harmless(answer.label)), Bar(1.0, 0.0, answer.score, width=40), f"{answer.score:6.1%}")
    return table


def _stages(times: Times) -> Table:
    table = Table()
    for name in ("stage", "p50 ms", "p95 ms"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage, (middle, high) in times.milliseconds().items():
        table.add_row(stage, f"{middle:.1f}", f"{high:.1f}")
    return table


def event_line(event: Event) -> str:
    """An event for people."""
    if event.kind == "start":
        when = f"{event.start_seconds:8.2f} s"
    else:
        when = f"{event.end_seconds:8.2f} s, since {event.start_seconds:.2f} s"
    late = f"{1000 * event.latency_seconds:.0f} ms later"
    return f"{event.kind:<5} {event.label} {event.score:.1%} at {when} (reported {late})"


class Lines:
    """The view without a terminal: one line for each event."""

    def send(self, update: Update) -> None:
        self.send_events(update.events)

    def send_events(self, events: Iterable[Event]) -> None:
        for event in events:
            say(event_line(event))

    def close(self) -> None:
        """Nothing is open."""
