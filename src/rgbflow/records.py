"""Checks of records from files and settings: types and ranges are declared once, as annotations.

A range is written `Annotated[float, Meta(gt=0, le=1, description="0.875 is usual")]`. The description becomes the
remedy at the end of the error message. A record is a frozen dataclass that calls `check_fields` when it is made.
"""

import json
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired, Required, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

import msgspec
from msgspec import Meta, inspect

from rgbflow.errors import InputError
from rgbflow.limits import TEXT

Record = TypeVar("Record")
SHOWN = 60  # characters of a value in a message

ClassName = Annotated[str, Meta(min_length=1, max_length=1000, pattern=r"\S")]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Percent = Annotated[float, Meta(ge=0, le=100)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


def check_fields(record: Any) -> None:
    """Check each field of a frozen dataclass against its annotation; a list becomes the tuple that was declared.

    Raises:
        InputError: names the field, its value, the rule and the remedy.
    """
    kind: Any = type(record)
    for name in _hints(kind):
        value = getattr(record, name)
        checked = field_value(kind, name, value)
        if isinstance(value, list):
            object.__setattr__(record, name, checked)


def field_value(record: Any, name: str, value: object) -> Any:
    """A checked value for a field of a record's class; lists become tuples, whole numbers floats where declared.

    Raises:
        InputError: for the reasons of `check_fields`.
    """
    kind = _hints(record)[name]
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError):
        raise InputError(f"{_problem(value, kind, name)}: {_remedy(record, name, kind)}") from None


def check_argument(name: str, value: object, kind: Any) -> None:
    """Check an argument of a public function; numpy's numbers count as Python's.

    Raises:
        InputError: as `check_fields`.
    """
    is_of_numpy = hasattr(value, "dtype") and getattr(value, "ndim", None) == 0
    plain = value.item() if is_of_numpy else value  # type: ignore[attr-defined]
    try:
        msgspec.convert(plain, kind)
    except (msgspec.ValidationError, RecursionError):
        raise InputError(f"{_problem(plain, kind, name)}: {_usual(kind) or 'give another'}") from None


def convert(raw: object, kind: type[Record], key: str = "") -> Record:
    """A record from parsed JSON or TOML.

    Args:
        raw: dictionaries, lists, texts, numbers.
        kind: the record's class.
        key: its place in the file, for messages.

    Raises:
        InputError: names the first wrong key, its value and the rule, but neither file nor remedy.
    """
    try:
        return msgspec.convert(raw, kind)
    except (msgspec.ValidationError, RecursionError):
        raise InputError(_problem(raw, kind, key)) from None


def parse_json(content: bytes | str) -> Any:
    """The values of a JSON text.

    Raises:
        InputError: if it is not JSON (NaN and Infinity are not allowed), nested too deep, or gives a key twice, so
            that programs would differ in what they read; it names no file.
    """
    try:
        values = msgspec.json.decode(content)
        json.loads(content, object_pairs_hook=_refuse_repeated)
        return values
    except RecursionError:
        raise InputError("it is nested too deep") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InputError(f"it is not JSON: {error}") from None


def _refuse_repeated(pairs: list[tuple[str, object]]) -> None:
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise InputError(f"it gives {_shown(repeated[0])} twice: keep one")


def refuse_unknown_keys(raw: Mapping[str, object], kind: type, key: str) -> None:
    """Refuse keys that this version doesn't know, where ignoring them would change the meaning of the record.

    Raises:
        InputError: names the key.
    """
    unknown = raw.keys() - _hints(kind).keys()
    if unknown:
        raise InputError(f"{key}.{_shown(min(unknown))[1:-1]} is unknown to this rgbflow: upgrade rgbflow")


def read_whole(path: Path, what: str) -> bytes:
    """The content of a file, which must be a regular one: a pipe or a device would never end.

    Raises:
        InputError: if it can't be read, is not a regular file, or is too large (`limits.TEXT`).
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise InputError(f"{what} {path} is not a regular file: give the name of a file")
        TEXT.check(about.st_size, f"{what} {path}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read ({error.strerror}): check its name") from None
    except ValueError as error:  # a name with a zero byte
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} {_shown(str(path))} cannot be read ({error}): check its name") from None


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """The annotations of a record's fields."""
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else hints
    return {name: _without_need(hints[name]) for name in names}


def _without_need(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) in (Required, NotRequired) else kind


def _problem(value: object, kind: Any, key: str) -> str:
    """The innermost wrong part of a value, and the rule that it breaks."""
    for part, part_kind, part_key in _parts(value, kind, key):
        try:
            msgspec.convert(part, part_kind)
        except (msgspec.ValidationError, RecursionError):
            return _problem(part, part_kind, part_key)
    try:
        msgspec.convert(value, kind)
    except RecursionError:
        return f"{key or 'it'} is nested too deep"
    except msgspec.ValidationError as error:
        if error.__cause__:  # a rule about several fields
            return f"{key}: {error.__cause__}" if key else str(error.__cause__)
        if missing := re.match(r"Object missing required field `(\w+)`", str(error)):
            return f"{_joined(key, missing[1])} is missing"
    return f"{key or 'it'} ({_shown(value)}) must be {_rule(inspect.type_info(kind))}"


def _parts(value: object, kind: Any, key: str) -> Iterator[tuple[object, Any, str]]:
    """The values inside a value, each with its type and key."""
    kind = _plain(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(value, Mapping) and (is_dataclass(kind) or is_typeddict(kind)):
        yield from ((value[name], each, _joined(key, name)) for name, each in _hints(kind).items() if name in value)
    elif isinstance(value, Mapping) and origin in (dict, Mapping):
        for name, part in value.items():
            yield name, inner[0], key
            yield part, inner[1], _joined(key, str(name))
    elif isinstance(value, Sequence) and not isinstance(value, str) and origin is tuple:
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        for index, (part, each) in enumerate(zip(value, kinds, strict=False)):
            yield part, each, f"{key}[{index}]"


def _plain(kind: Any) -> Any:
    """An annotation without its range, and without None."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    others = [one for one in get_args(kind) if one is not type(None)]
    return _plain(others[0]) if len(others) == 1 and type(None) in get_args(kind) else kind


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _rule(kind: inspect.Type) -> str:
    """The rule for a value, in words."""
    match kind:
        case inspect.Metadata():
            return _rule(kind.type)
        case inspect.UnionType():
            return ", or ".join(sorted(map(_rule, kind.types), key="None".__eq__))
        case inspect.IntType():
            return "a whole number" + _range(kind)
        case inspect.FloatType():
            return "a number" + _range(kind)
        case inspect.StrType():
            return "text" + (f" like {kind.pattern}" if kind.pattern else "")
        case inspect.LiteralType():
            return "one of " + ", ".join(map(str, kind.values))
        case inspect.VarTupleType():
            few = f" of at least {kind.min_length}" if kind.min_length else ""
            return f"a list{few} of {_rule(kind.item_type)} each"
        case inspect.TupleType():
            return f"a list of {len(kind.item_types)} values"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "None"
    return "an object"


def _range(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" in {kind.ge:,}…{kind.le:,}"
    limits = {"above": kind.gt, "at least": kind.ge, "below": kind.lt, "at most": kind.le}
    words = [f"{word} {limit:,}" for word, limit in limits.items() if limit is not None]
    return " " + " and ".join(words) if words else ""


def _remedy(kind: Any, name: str, annotation: Any) -> str:
    defaults = {field.name: field.default for field in fields(kind) if field.default is not MISSING}
    return _usual(annotation) or (f"the default is {defaults[name]}" if name in defaults else "give another")


def _usual(annotation: Any) -> str:
    """The description of a range, which gives the usual value."""
    told = [one.description for one in get_args(annotation) if isinstance(one, Meta) and one.description]
    return told[0] if told else "".join(map(_usual, get_args(annotation)))
