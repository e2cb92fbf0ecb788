"""OSC rules: the addresses and values that an action switches on and off in another program, such as VRChat."""

import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from rgbflow.errors import InputError

Kind = Literal["bool", "int", "float"]
Value = bool | int | float
REST_SECONDS = 0.1  # between two values of an address: VRChat passes at most 10 a second on to others
USUAL: dict[Kind, tuple[Value, Value]] = {"bool": (True, False), "int": (1, 0), "float": (1.0, 0.0)}  # on, off
KEYS = ("action", "address", "type", "on", "off", "hold_seconds")


@dataclass(frozen=True)
class Rule:
    """The values that one action sets.

    Attributes:
        action: the class.
        address: OSC address, such as "/avatar/parameters/VRCEmote".
        kind: type of the values.
        on: the value during the action.
        off: the value when no action with this address is in progress.
        hold_seconds: the shortest time that "on" lasts; two values are at least REST_SECONDS apart in any case.
    """

    action: str
    address: str
    kind: Kind = "bool"
    on: Value = True
    off: Value = False
    hold_seconds: float = 0.0

    def __post_init__(self):
        if not self.action:
            raise InputError("action of an OSC rule must be the name of a class")
        if not self.address.startswith("/") or any(letter in self.address for letter in " #*,?[]{}"):
            raise InputError(f"address ({self.address}) of {self.action} must begin with / and be one OSC address")
        if not 0 <= self.hold_seconds <= 60:
            raise InputError(f"hold_seconds ({self.hold_seconds}) of {self.action} must be in 0…60: 0.5 is usual")
        for value in (self.on, self.off):
            _check_value(self, value)


def _check_value(rule: Rule, value: Value) -> None:
    """Raise InputError for a value that its type, or VRChat, does not take."""
    at, is_avatar = f"value ({value}) of {rule.address}", rule.address.startswith("/avatar/")
    is_bool = isinstance(value, bool)
    if rule.kind == "bool" and not is_bool:
        raise InputError(f"{at} must be true or false, since its type is bool")
    if rule.kind == "int":
        low, high = (0, 255) if is_avatar else (-(2**31), 2**31 - 1)
        if is_bool or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{at} must be a whole number in {low}…{high}, since its type is int")
    if rule.kind == "float":
        if is_bool or not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(f"{at} must be a number, since its type is float")
        if is_avatar and not -1 <= value <= 1:
            raise InputError(f"{at} must be in -1…1: VRChat accepts no other values")


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read a mapping file: TOML with a table `[[send]]` for each rule.

    Raises:
        InputError: if it can't be read, has no rule, or one of its rules can't be used.
    """
    try:
        record = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--osc-map {path} is not TOML: {error}") from error
    tables = record.get("send")
    if set(record) != {"send"} or not isinstance(tables, list) or not tables:
        raise InputError(f"--osc-map {path} must hold only tables [[send]]: docs/live.md has an example")
    try:
        rules = tuple(_rule(table) for table in tables)
        _check_together(rules)
    except InputError as error:
        raise InputError(f"--osc-map {path}: {error}") from error
    return rules


def _rule(table: object) -> Rule:
    if not isinstance(table, dict) or not {"action", "address"} <= set(table):
        raise InputError("each [[send]] must have an action and an address")
    if unknown := sorted(set(table) - set(KEYS)):
        raise InputError(f"key ({unknown[0]}) of {table['action']} is unknown: use {', '.join(KEYS)}")
    kind = table.get("type", "bool")
    if kind not in get_args(Kind):
        raise InputError(f"type ({kind}) of {table['action']} must be one of {', '.join(get_args(Kind))}")
    if not isinstance(table["action"], str) or not isinstance(table["address"], str):
        raise InputError("action and address of a [[send]] must be text")
    hold = table.get("hold_seconds", 0.0)
    if isinstance(hold, bool) or not isinstance(hold, int | float):
        raise InputError(f"hold_seconds ({hold}) of {table['action']} must be a number")
    on, off = USUAL[kind]
    return Rule(table["action"], table["address"], kind, table.get("on", on), table.get("off", off), float(hold))


def _check_together(rules: Iterable[Rule]) -> None:
    """Raise InputError where two rules contradict each other."""
    seen: dict[str, Rule] = {}
    actions: set[tuple[str, str]] = set()
    for rule in rules:
        first = seen.setdefault(rule.address, rule)
        if (first.kind, first.off) != (rule.kind, rule.off):
            raise InputError(f"{rule.address} has two types or two values for off: give it one")
        if (rule.address, rule.action) in actions:
            raise InputError(f"{rule.address} has two rules for {rule.action}: leave one out")
        actions.add((rule.address, rule.action))


@dataclass
class _Channel:
    """One address: the last value sent, and the value wanted."""

    address: str
    kind: Kind
    off: Value
    rules: dict[str, Rule] = field(default_factory=dict)  # by action
    sent: Value | None = None
    free_at: float = 0.0  # seconds: the next value may be sent from then on
    wanted: Rule | None = None  # None: off

    @property
    def value(self) -> Value:
        value = self.off if self.wanted is None else self.wanted.on
        return float(value) if self.kind == "float" else value

    @property
    def is_due(self) -> bool:
        return self.sent is None or self.value != self.sent

    def send(self, now: float) -> tuple[str, Value]:
        self.sent = self.value
        self.free_at = now + max(REST_SECONDS, self.wanted.hold_seconds if self.wanted else 0.0)
        return self.address, self.sent


class Switchboard:
    """Follows the action in progress and decides which value to send when; it uses no clock and no network.

    Args:
        rules: the rules of a mapping file.
    """

    def __init__(self, rules: Iterable[Rule]):
        self._channels: dict[str, _Channel] = {}
        for rule in rules:
            channel = self._channels.setdefault(rule.address, _Channel(rule.address, rule.kind, rule.off))
            channel.rules[rule.action] = rule

    def act(self, action: str | None) -> None:
        """Take the action in progress; None if there is none."""
        for channel in self._channels.values():
            channel.wanted = channel.rules.get(action) if action is not None else None

    def due(self, now: float) -> list[tuple[str, Value]]:
        """The addresses and values to send at this moment, in seconds on any clock. They count as sent."""
        ready = [one for one in self._channels.values() if one.is_due and now >= one.free_at]
        return [channel.send(now) for channel in ready]

    def next_due(self) -> float | None:
        """The time to send the next value; None while all values are as wanted."""
        return min((one.free_at for one in self._channels.values() if one.is_due), default=None)

    def off(self) -> Iterator[tuple[str, Value]]:
        """The values to send at the end: everything off, at once."""
        self.act(None)
        for channel in self._channels.values():
            yield channel.address, channel.value
