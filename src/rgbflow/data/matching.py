"""The clips that lists name: found among the clips of a data set, or among video files."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PureWindowsPath

from rgbflow.data.layouts import (
    SourceClip,
    as_on_disk,
    is_video,
    legible,
    list_visible,
    match_groups,
    plain,
    ucf101_group,
    without_ending,
)
from rgbflow.data.lists import ListedClip, is_class_index, read_listed
from rgbflow.errors import InputError

SHOWN = 3  # clips that a note names


@dataclass(frozen=True)
class Matched:
    """What lists say of the clips of a data set.

    Attributes:
        found: what the lists say of each clip, by the clip's name.
        missing: clips that the lists name but the data set does not have.
        repeated: number of lines that repeat a clip with the same part and class.
    """

    found: dict[str, ListedClip]
    missing: list[ListedClip]
    repeated: int


def match_lists(listed: Sequence[ListedClip], labels: Mapping[str, str]) -> Matched:
    """Find the clips of lists in a data set by file name, and by class where two clips share a name.

    Lists may have other names for classes (numbers, names with spaces), as long as each stands for one class.

    Args:
        listed: the clips of all lists.
        labels: the class of each clip, by the name "<Class>/<file name without its extension>".

    Raises:
        InputError: if a line fits two clips, a clip is in two parts, or its class differs from that in the data.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in labels:
        by_stem[plain(name.rpartition("/")[2])].append(name)
    found: dict[str, ListedClip] = {}
    missing: list[ListedClip] = []
    repeated = 0
    for clip in listed:
        match = _only_one(clip, next((by_stem[plain(one)] for one in clip.names if plain(one) in by_stem), []), labels)
        if match is None:
            missing.append(clip)
        elif match in found:
            _check_same(found[match], clip)
            repeated += 1
        else:
            found[match] = clip
    _check_classes(found, labels)
    return Matched(found, missing, repeated)


def _only_one(clip: ListedClip, names: Sequence[str], labels: Mapping[str, str]) -> str | None:
    if len(names) > 1:
        own = {plain(known) for known in (clip.label, clip.folder) if known}
        names = [name for name in names if plain(labels[name]) in own] or names
    if len(names) > 1:
        raise InputError(f"{clip.place}: {clip.path} may be {names[0]} or {names[1]}: write its class's folder too")
    return names[0] if names else None


def _check_same(one: ListedClip, other: ListedClip) -> None:
    if one.part != other.part:
        places = f"{one.part} ({one.place}) and {other.part} ({other.place})"
        raise InputError(f"{other.path} is in two parts, {places}: remove one of the lines")
    _check_words(one, other)


def _check_words(one: ListedClip, other: ListedClip) -> None:
    """Refuse a clip that two lines give another class or group."""
    for what, first, second in (("class", one.label, other.label), ("group", one.group, other.group)):
        if first and second and first != second:
            raise InputError(f"{other.place}: {other.path} is of {what} {second}, in {one.place} {first}: keep one")


def _check_classes(found: Mapping[str, ListedClip], labels: Mapping[str, str]) -> None:
    """Refuse a clip if its class differs from that of other clips with the same class name in the list or the data."""
    pairs = {name: (clip.label, labels[name]) for name, clip in found.items() if clip.label is not None}
    counts = Counter(pairs.values())
    for side in (0, 1):
        usual = {}
        for pair, _ in sorted(counts.items(), key=lambda item: (item[1], item[0][0] == item[0][1])):
            usual[pair[side]] = pair  # the most frequent is the last
        for name, pair in pairs.items():
            if usual[pair[side]] != pair:
                clip, (listed, own), (one, other) = found[name], pair, usual[pair[side]]
                raise InputError(
                    f"{clip.place}: {clip.path} is of class {listed}, but of {own} in the data, while others of {one} "
                    f"are of {other}: correct the line, or move the clip"
                )


def note_clips(words: str, names: Sequence[str]) -> str:
    """A sentence about clips with some of their names; {} in the words becomes their number."""
    more = ", ..." if len(names) > SHOWN else ""
    return f"{words.format(len(names))}, such as {', '.join(names[:SHOWN])}{more}."


def listed_sources(
    lists: Sequence[Path], root: Path | None = None, groups: Mapping[str, str] | None = None
) -> tuple[list[SourceClip], list[str]]:
    """The videos that lists name.

    Args:
        lists: files of any form that `read_listed` knows.
        root: the folder that their paths are relative to; None takes each list's own folder. Of an absolute path that
            does not exist here, the longest end that exists below this folder counts.
        groups: the group of each clip, from `layouts.read_groups`; it may name other clips too.

    Returns:
        The clips with an existing file, sorted by name, and the paths of the missing files.

    Raises:
        InputError: if a list can't be read, no video exists, or a clip has no class, two classes, or another clip's
            name.
    """
    indexes = [*filter(is_class_index, lists)]
    read = {file: read_listed([file, *indexes]) for file in lists if file not in indexes}
    if not read:
        raise InputError("classInd.txt names no video: give lists of videos too")
    roots = [root or file.parent for file, clips in read.items() for _ in clips]
    listed = _with_folder_names(read)
    videos_in = cache(_videos_in)
    found = [_find_video(clip, folder, videos_in) for clip, folder in zip(listed, roots, strict=True)]
    without = [clip for clip, path in zip(listed, found, strict=True) if path is None]
    refuse_illegible(without)
    missing = list(dict.fromkeys(clip.path for clip in without))
    if not any(found):
        remedy = "pass another --root" if root else "pass --root FOLDER"
        raise InputError(f"none of {len(missing)} listed videos, such as {missing[0]}, is in {roots[0]}: {remedy}")
    clips: dict[str, SourceClip] = {}
    written: dict[str, str] = {}
    lines: dict[Path, ListedClip] = {}
    for clip, path in zip(listed, found, strict=True):
        if path:
            source = _source(clip, path)
            line = replace(clip, label=source.label)
            _check_words(lines.setdefault(path, line), line)
            _check_new(clips.setdefault(source.name, source), source, clip)
            written[source.name] = without_ending(clip.path)
    given = _given_groups(groups or {}, clips, written)
    return [replace(clip, group=given.get(name, clip.group)) for name, clip in sorted(clips.items())], missing


def _given_groups(
    groups: Mapping[str, str], clips: Mapping[str, SourceClip], written: Mapping[str, str]
) -> dict[str, str]:
    """Groups from a table that writes clips with their class, or as the lists do: with the folder of the file."""
    by_class = match_groups(groups, {name: clip.path for name, clip in clips.items()}, may_name_others=True)
    by_list = match_groups(groups, {written[name]: clip.path for name, clip in clips.items()}, may_name_others=True)
    return {name: by_list[path] for name, path in written.items() if path in by_list} | by_class


def refuse_illegible(missing: Sequence[ListedClip]) -> None:
    """Raise InputError if a clip was not found because its list has another encoding."""
    for clip in missing:
        if legible(clip.path) != clip.path:
            raise InputError(f"{clip.place} is not UTF-8 text: save the list as UTF-8")


def _with_folder_names(read: Mapping[Path, Sequence[ListedClip]]) -> list[ListedClip]:
    """Numbered classes get the name of their folder, if each number has its own folder.

    Raises:
        InputError: if that is so in each list, but the lists have different numbers for one folder.
    """
    listed = [clip for clips in read.values() for clip in clips]
    names = _folders_of_numbers(listed)
    each = {file: _folders_of_numbers(clips) for file, clips in read.items()}
    if not names and len(each) > 1 and min(map(len, each.values())) > 1:
        raise InputError(
            f"{' and '.join(file.name for file in each)} number the classes differently, as their folders show: count "
            "from 0 in all of them, or from 1"
        )
    return [replace(clip, label=names[clip.label]) if clip.label in names else clip for clip in listed]


def _folders_of_numbers(listed: Sequence[ListedClip]) -> dict[str | None, str]:
    """The folder of each class number; empty where a number has several folders, or a folder several numbers."""
    pairs = {(clip.label, clip.folder) for clip in listed if clip.label and clip.label.isdecimal()}
    numbers, folders = ({pair[side] for pair in pairs} for side in (0, 1))
    return dict(pairs) if "" not in folders and len(numbers) == len(folders) == len(pairs) else {}


def _find_video(clip: ListedClip, root: Path, videos_in: Callable[[Path], dict[str, Path]]) -> Path | None:
    """The clip's file: at its path or in its class's folder, with the written extension or any other of a video."""
    label = clip.label or ""
    for at in _places(clip.path, root):
        if is_video(at):
            return at
        folders = dict.fromkeys((at.parent, at.parent / label, at.parent / label.replace(" ", "_")))
        there = (videos_in(folder).get(plain(name)) for folder in folders for name in clip.names)
        if path := next(filter(None, there), None):
            return path
    return None


def _places(path: str, root: Path) -> Iterator[Path]:
    """Where a listed path may lie: as written, and an absolute path of another machine with its end below the root."""
    yield root / path
    if path.startswith("/") or PureWindowsPath(path).drive:
        parts = path.split("/")
        yield from (root.joinpath(*parts[start:]) for start in range(1, len(parts)))


def _videos_in(folder: Path) -> dict[str, Path]:
    """From file names without ending (`plain`) to the videos of a folder; empty where there is no such folder."""
    folder = as_on_disk(folder)
    videos = filter(is_video, list_visible(folder)) if folder.is_dir() else ()
    return {plain(without_ending(path.name)): path for path in videos}


def _source(clip: ListedClip, path: Path) -> SourceClip:
    stem = without_ending(path.name)
    from_name = ucf101_group(stem)
    label = clip.label or clip.folder or (from_name.split("_")[1] if from_name else "")
    if not label or "/" in label or "\\" in label or label.startswith("."):
        wrong = f"class {label!r} can't be a folder's name" if label else f"{clip.path} has no class"
        raise InputError(f"{clip.place}: {wrong}: write the class after the path, or move the clip into its folder")
    name = legible(f"{label}/{path.stem}")
    return SourceClip(name, label, clip.group or from_name or name, path)


def _check_new(one: SourceClip, other: SourceClip, clip: ListedClip) -> None:
    if one.path != other.path:
        raise InputError(f"{clip.place}: {one.path} and {other.path} would both be clip {one.name}: rename one")
