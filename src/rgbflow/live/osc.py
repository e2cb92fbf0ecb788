"""Live updates and events as OSC messages to another program: one address per class, or those of a mapping file."""

import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rgbflow.errors import InputError
from rgbflow.live.events import Event
from rgbflow.live.messages import NUM_SCORES
from rgbflow.live.osc_map import Rule, Switchboard, Value, read_rules
from rgbflow.live.session import Update

REFRESH_SECONDS = 1.0  # UDP loses messages, and receivers come late: all is sent again so often


def open_client(address: str) -> Any:
    """A client of python-osc.

    Args:
        address: HOST:PORT; the host is looked up only here.

    Raises:
        InputError: if the address has another form, the host isn't known, or python-osc is not installed.
    """
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"--osc {address} must be HOST:PORT: 127.0.0.1:9000 is usual")
    try:
        from pythonosc.udp_client import SimpleUDPClient
    except ImportError as error:
        raise InputError("--osc needs python-osc: pip install 'rgbflow[live]'") from error
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
        return SimpleUDPClient(str(found[0][4][0]), int(port))
    except (OSError, UnicodeError) as error:  # UnicodeError: two dots in a row
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise InputError(f"--osc {address}: the host can't be found ({reason}): check its name") from error


def open_osc(address: str, mapping: Path | None) -> "Osc | MappedOsc":
    """The outlet to a receiver: with a mapping file only its rules are sent, without one everything.

    Raises:
        InputError: for the reasons of `open_client` and `read_rules`.
    """
    return Osc(address) if mapping is None else MappedOsc(address, read_rules(mapping))


def osc_names(classes: Iterable[str]) -> dict[str, str]:
    """Classes as parts of an OSC address: characters other than letters, digits, _ . - become _, and all are distinct.

    >>> osc_names(["wave", "shake hands", "shake_hands"])
    {'wave': 'wave', 'shake hands': 'shake_hands', 'shake_hands': 'shake_hands_2'}
    """
    names: dict[str, str] = {}
    for label in classes:
        plain = name = re.sub(r"[^\w.\-]", "_", label)
        count = 1
        while name in names.values():
            count += 1
            name = f"{plain}_{count}"
        names[label] = name
    return names


class Osc:
    """Sends updates and events by UDP, which reports no error if the receiver is not there, or not yet.

    Each class has two addresses: `/rgbflow/action/<class>` with its score, and `/rgbflow/active/<class>`, true during
    the action. A value that has not changed by a hundredth is sent only once a second. The label, the action, the best
    scores and the events are sent as text too.

    Args:
        address: HOST:PORT.

    Raises:
        InputError: for the reasons of `open_client`.
    """

    def __init__(self, address: str):
        self._client = open_client(address)
        self._sent: dict[str, float | bool] = {}
        self._names: dict[str, str] = {}
        self._refreshed = 0.0

    def send(self, update: Update) -> None:
        prediction = update.prediction
        self._message("/rgbflow/label", update.label, prediction.score)
        self._message("/rgbflow/action", update.action or "")
        for answer in prediction.top(NUM_SCORES):
            self._message("/rgbflow/score", answer.label, answer.score)
        self._send_classes(dict(zip(prediction.classes, map(float, prediction.scores), strict=True)), update.action)
        self._send_as_text(update.events)

    def send_events(self, events: Iterable[Event]) -> None:
        """Take events that came without an update: nothing goes on any more."""
        self._send_as_text(events)
        self._rest()

    def close(self) -> None:
        self._rest()
        self._client.close()

    def _send_classes(self, scores: Mapping[str, float], action: str | None) -> None:
        if self._names.keys() != scores.keys():
            self._rest()
            self._names = osc_names(scores)
        now = time.monotonic()
        if now - self._refreshed >= REFRESH_SECONDS:
            self._sent.clear()
            self._refreshed = now
        for label, name in self._names.items():
            self._send_changed(f"/rgbflow/action/{name}", round(scores[label], 2), scores[label])
            self._send_changed(f"/rgbflow/active/{name}", label == action, label == action)

    def _send_changed(self, address: str, rounded: float | bool, value: float | bool) -> None:
        if self._sent.get(address) != rounded:
            self._sent[address] = rounded
            self._message(address, value)

    def _rest(self) -> None:
        """Switch every class off, because nothing is seen."""
        for name in self._names.values():
            self._message(f"/rgbflow/action/{name}", 0.0)
            self._message(f"/rgbflow/active/{name}", False)
        if self._names:
            self._message("/rgbflow/action", "")
        self._sent.clear()

    def _send_as_text(self, events: Iterable[Event]) -> None:
        for event in events:
            end = -1.0 if event.end_seconds is None else event.end_seconds
            times = event.start_seconds, end, event.latency_seconds
            self._message("/rgbflow/event", event.kind, event.label, event.score, *times)

    def _message(self, address: str, *values: str | float | bool) -> None:
        with suppress(OSError):  # the network is down for a moment: the next update will come through
            self._client.send_message(address, values)


class MappedOsc:
    """Sends the values of a mapping for the action in progress, and nothing else; its own thread keeps the times.

    Args:
        address: HOST:PORT.
        rules: the rules of a mapping file.

    Raises:
        InputError: for the reasons of `open_client`.
    """

    def __init__(self, address: str, rules: Iterable[Rule]):
        self._client = open_client(address)
        self._board = Switchboard(rules)
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="rgbflow-osc", daemon=True)
        self._thread.start()

    def send(self, update: Update) -> None:
        self._act(update.action)

    def send_events(self, events: Iterable[Event]) -> None:
        """Take events that came without an update: nothing goes on any more."""
        self._act(None)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()
        for address, value in self._board.off():
            self._message(address, value)
        self._client.close()

    def _act(self, action: str | None) -> None:
        with self._changed:
            self._board.act(action)
            self._changed.notify_all()

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                for address, value in self._board.due(time.monotonic()):
                    self._message(address, value)
                due = self._board.next_due()
                self._changed.wait(None if due is None else max(0.0, due - time.monotonic()))

    def _message(self, address: str, value: Value) -> None:
        with suppress(OSError):
            self._client.send_message(address, value)
