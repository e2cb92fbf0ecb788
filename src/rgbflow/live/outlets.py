"""Where live updates and events go: lines of JSON in a file, or any other outlet. docs/live.md."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from rgbflow.live.events import Event
from rgbflow.live.messages import event_messages, messages
from rgbflow.live.session import Update


class Outlet(Protocol):
    """Takes the updates and events of a live recogniser."""

    def send(self, update: Update) -> None:
        """Take an update, and the events that came with it."""
        ...

    def send_events(self, events: Iterable[Event]) -> None:
        """Take events that came without an update, at the end."""
        ...

    def close(self) -> None: ...


class JsonLines:
    """Appends a line for each update and each event to a file; a reader may follow it.

    Raises:
        OSError: if the file can't be written.
    """

    def __init__(self, path: Path):
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def send(self, update: Update) -> None:
        self._write(messages(update))

    def send_events(self, events: Iterable[Event]) -> None:
        self._write(event_messages(events))

    def close(self) -> None:
        self._file.close()

    def _write(self, lines: list[dict]) -> None:
        for line in lines:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
