"""Where live updates and events go: lines of JSON in a file, OSC messages to another program. docs/live.md."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from rgbflow.errors import InputError
from rgbflow.live.events import Event
from rgbflow.live.messages import NUM_SCORES, event_messages, messages
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


class Osc:
    """Sends OSC messages by UDP, which reports no error if the receiver is not there, or not yet.

    Args:
        address: HOST:PORT.

    Raises:
        InputError: if the address has another form, the host isn't known, or python-osc is not installed.
    """

    def __init__(self, address: str):
        host, _, port = address.rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise InputError(f"--osc {address} must be HOST:PORT: 127.0.0.1:9000 is usual")
        try:
            from pythonosc.udp_client import SimpleUDPClient
        except ImportError as error:
            raise InputError("--osc needs python-osc: pip install 'rgbflow[live]'") from error
        try:
            self._client = SimpleUDPClient(host.strip("[]"), int(port))
        except (OSError, UnicodeError) as error:  # UnicodeError: two dots in a row
            reason = error.strerror if isinstance(error, OSError) else "no such name"
            raise InputError(f"--osc {address}: the host can't be found ({reason}): check its name") from error

    def send(self, update: Update) -> None:
        answers = update.prediction.top(NUM_SCORES)
        self._message("/rgbflow/label", update.label, update.prediction.score)
        self._message("/rgbflow/action", update.action or "")
        for answer in answers:
            self._message("/rgbflow/score", answer.label, answer.score)
        self.send_events(update.events)

    def send_events(self, events: Iterable[Event]) -> None:
        for event in events:
            end = -1.0 if event.end_seconds is None else event.end_seconds
            times = event.start_seconds, end, event.latency_seconds
            self._message("/rgbflow/event", event.kind, event.label, event.score, *times)

    def close(self) -> None:
        self._client.close()

    def _message(self, address: str, *values: str | float) -> None:
        with suppress(OSError):  # the network is down for a moment: the next update will come through
            self._client.send_message(address, values)
