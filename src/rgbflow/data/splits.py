"""The record of a split: which clips train, which choose, which test."""

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal, TypedDict, get_args

from msgspec import Meta

from rgbflow.atomic import write_atomically
from rgbflow.data.lists import PARTS, Part
from rgbflow.errors import InputError
from rgbflow.records import ClassName, Count, convert, parse_json, read_whole

SplitProtocol = Literal["group", "paper", "official-1", "official-2", "official-3", "lists"]
PROTOCOLS = get_args(SplitProtocol)
OFFICIAL = ("official-1", "official-2", "official-3")
ClipName = Annotated[str, Meta(min_length=1, max_length=4000)]
HeldOut = Literal["val", "test"]  # the parts that are not trained on
UNKNOWN_PARTS = ("unknown_val", "unknown_test")
FORMAT_VERSION = 1


@dataclass(frozen=True)
class SplitClip:
    """A clip as a split names it.

    Attributes:
        name: "<Class>/<file name without its ending>".
        label: its class.
        group: the source it was cut from.
    """

    name: ClipName
    label: ClassName
    group: ClipName


class _Versioned(TypedDict):
    """What a split of any version says."""

    format_version: Annotated[int, Meta(ge=1)]


@dataclass(frozen=True)
class Split:
    """A division of clips: train for training, val to choose the best epoch, test for the figures.

    Attributes:
        protocol: one of `PROTOCOLS`.
        seed: seed of the draw.
        classes: sorted; the position of a class is its index in every network output. Left-out classes are not in it.
        train, val, test: the clips, sorted by name.
        notes: sentences that a reader of the figures should know.
        unknown_val, unknown_test: clips of classes left out, to fit and to test the threshold of "unknown"; no class is
            in both.

    Raises:
        ValueError: if it contains a clip twice, if `classes` are not sorted or lack the label of a clip, or if the
            class of an unknown clip is one of `classes` or in both unknown parts.
    """

    protocol: SplitProtocol
    seed: Count
    classes: tuple[ClassName, ...]
    train: tuple[SplitClip, ...]
    val: tuple[SplitClip, ...]
    test: tuple[SplitClip, ...]
    notes: tuple[str, ...] = ()
    unknown_val: tuple[SplitClip, ...] = ()
    unknown_test: tuple[SplitClip, ...] = ()

    def __post_init__(self):
        if len({clip.name for clip in self.all_clips}) < len(self.all_clips):
            raise ValueError("it contains a clip twice")
        known = self.train + self.val + self.test
        if self.classes != tuple(sorted({*self.classes, *labels_of(known)})):
            raise ValueError("its classes are not sorted, or lack the label of a clip")
        unknown_val, unknown_test = labels_of(self.unknown_val), labels_of(self.unknown_test)
        if {*self.classes} & (unknown_val | unknown_test) or unknown_val & unknown_test:
            raise ValueError("an unknown class is also a known one, or in both unknown parts")

    def clips(self, part: Part) -> tuple[SplitClip, ...]:
        """The clips of one part."""
        return {"train": self.train, "val": self.val, "test": self.test}[part]

    def unknown(self, part: HeldOut) -> tuple[SplitClip, ...]:
        """The clips of left-out classes that belong to a part; none where no class was left out."""
        return {"val": self.unknown_val, "test": self.unknown_test}[part]

    @property
    def parts(self) -> dict[str, tuple[SplitClip, ...]]:
        """The parts by name, as in the file: the unknown parts only where classes were left out."""
        known: dict[str, tuple[SplitClip, ...]] = {part: self.clips(part) for part in PARTS}
        if not (self.unknown_val or self.unknown_test):
            return known
        return {**known, **dict(zip(UNKNOWN_PARTS, (self.unknown_val, self.unknown_test), strict=True))}

    @property
    def all_clips(self) -> tuple[SplitClip, ...]:
        """All clips: train, then val, then test, then the unknown ones."""
        return self.train + self.val + self.test + self.unknown_val + self.unknown_test

    @property
    def leak_percent(self) -> float:
        """Percentage of the test clips that share a group with a training clip."""
        return leak_percent(self.train, self.test)

    @property
    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the lists of clips; it does not depend on seed, notes and order."""
        lists = [sorted([c.name, c.label, c.group] for c in clips) for clips in self.parts.values()]
        return hashlib.sha256(json.dumps(lists).encode()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the split as JSON, one line per clip; the file appears complete or not at all.

        Raises:
            InputError: if the file cannot be written.
        """
        write_atomically(Path(path), _to_json(self))


def leak_percent(train: Iterable[SplitClip], test: Iterable[SplitClip]) -> float:
    """Percentage (0 to 100) of the test clips whose group is also in train; 0 for an empty test.

    >>> leak_percent([SplitClip("a/1", "a", "x")], [SplitClip("a/2", "a", "x"), SplitClip("a/3", "a", "y")])
    50.0
    """
    known = {clip.group for clip in train}
    shared = [clip.group in known for clip in test]
    return 100 * sum(shared) / len(shared) if shared else 0.0


def check_split(split: Split, names: Collection[str]) -> None:
    """Check that a store holds every clip of a split.

    Args:
        split: the split.
        names: names of the store's clips, "<Class>/<file name without its extension>".

    Raises:
        InputError: if clips of the split are not among them.
    """
    held = set(names)
    missing = [clip.name for clip in split.all_clips if clip.name not in held]
    if missing:
        raise InputError(
            f"the split is for another store: {len(missing)} of its {len(split.all_clips)} clips are not in this "
            f"one, such as {missing[0]}: make a split of this store with rgbflow split"
        )


def load_split(path: str | Path) -> Split:
    """Read a split that `Split.save` wrote; its leak is computed again.

    Raises:
        InputError: if the file is missing, is not a split, or has a newer format.
    """
    path = Path(path)
    content = read_whole(path, "split")
    try:
        raw = parse_json(content)
        version = convert(raw, _Versioned)["format_version"]
        split = convert({"notes": None, **raw}, Split) if version <= FORMAT_VERSION else None
    except InputError as error:
        raise InputError(f"{path} is not a valid split ({error}): make it again with rgbflow split") from None
    if split is None:
        raise InputError(
            f"split {path} has format {version}, this rgbflow reads up to {FORMAT_VERSION}: upgrade rgbflow"
        )
    return split


def labels_of(clips: Iterable[SplitClip]) -> set[str]:
    """The classes of clips."""
    return {clip.label for clip in clips}


def by_name(clips: Iterable[SplitClip]) -> list[SplitClip]:
    """The clips sorted by their names."""
    return sorted(clips, key=lambda clip: clip.name)


def _to_json(split: Split) -> str:
    head = {
        "format_version": FORMAT_VERSION,
        "protocol": split.protocol,
        "seed": split.seed,
        "leak_percent": split.leak_percent,
        "notes": split.notes,
        "classes": split.classes,
    }
    lines = [f'"{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in head.items()]
    for part, clips in split.parts.items():
        entries = [json.dumps(asdict(clip), ensure_ascii=False) for clip in clips]
        lines.append(f'"{part}": [\n  ' + ",\n  ".join(entries) + "\n ]")
    return "{\n " + ",\n ".join(lines) + "\n}\n"
