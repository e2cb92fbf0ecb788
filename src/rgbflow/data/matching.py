"""The clips that lists name: found among the clips of a data set, or among video files."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

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
from rgbflow.data.lists import ListedClip, read_listed
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
    if one.label and other.label and one.label != other.label:
        raise InputError(f"{other.place}: {other.path} is of class {other.label}, in {one.place} {one.label}: keep one")


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
        root: the folder that their paths are relative to; None takes each list's own folder.
        groups: the group of each clip, from `layouts.read_groups`; it may name other clips too.

    Returns:
        The clips with an existing file, sorted by name, and the paths of the missing files.

    Raises:
        InputError: if a list can't be read, no video exists, or a clip has no class, two classes, or another clip's
            name.
    """
    read = [(root or file.parent, read_listed([file])) for file in lists]
    listed = _with_folder_names([clip for _, clips in read for clip in clips])
    roots = [folder for folder, clips in read for _ in clips]
    videos_in = cache(_videos_in)
    found = [_find_video(clip, folder, videos_in) for clip, folder in zip(listed, roots, strict=True)]
    missing = list(dict.fromkeys(clip.path for clip, path in zip(listed, found, strict=True) if path is None))
    illegible = {path for path in missing if legible(path) != path}
    for clip in (clip for clip in listed if clip.path in illegible):
        raise InputError(f"{clip.place} is not UTF-8 text: save the list as UTF-8")
    if not any(found):
        raise InputError(
            f"none of {len(missing)} listed videos, such as {missing[0]}, is in {roots[0]}: pass --root FOLDER"
        )
    clips: dict[str, SourceClip] = {}
    written: dict[str, str] = {}
    for clip, path in zip(listed, found, strict=True):
        if path:
            source = _source(clip, path)
            _check_new(clips.setdefault(source.name, source), source, clip)
            written[source.name] = without_ending(clip.path)
    _check_once(list(clips.values()))
    given = _given_groups(groups or {}, clips, written)
    return [replace(clip, group=given.get(name, clip.group)) for name, clip in sorted(clips.items())], missing


def _given_groups(
    groups: Mapping[str, str], clips: Mapping[str, SourceClip], written: Mapping[str, str]
) -> dict[str, str]:
    """Groups from a table that writes clips with their class, or as the lists do: with the folder of the file."""
    by_class = match_groups(groups, {name: clip.path for name, clip in clips.items()}, may_name_others=True)
    by_list = match_groups(groups, {written[name]: clip.path for name, clip in clips.items()}, may_name_others=True)
    return {name: by_list[path] for name, path in written.items() if path in by_list} | by_class


def _with_folder_names(listed: Sequence[ListedClip]) -> list[ListedClip]:
    """Numbered classes get the name of their folder, if each number has its own folder."""
    pairs = {(clip.label, clip.folder) for clip in listed if clip.label and clip.label.isdigit()}
    numbers, folders = ({pair[side] for pair in pairs} for side in (0, 1))
    if "" in folders or not len(numbers) == len(folders) == len(pairs):
        return list(listed)
    names = dict(pairs)
    return [replace(clip, label=names[clip.label]) if clip.label in names else clip for clip in listed]


def _find_video(clip: ListedClip, root: Path, videos_in: Callable[[Path], dict[str, Path]]) -> Path | None:
    """The clip's file: at its path or in its class's folder, with the written extension or any other of a video."""
    at = root / clip.path
    if is_video(at):
        return at
    label = clip.label or ""
    folders = dict.fromkeys((at.parent, at.parent / label, at.parent / label.replace(" ", "_")))
    there = (videos_in(folder).get(plain(name)) for folder in folders for name in clip.names)
    return next(filter(None, there), None)


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


def _check_once(clips: Sequence[SourceClip]) -> None:
    by_path: dict[Path, SourceClip] = {}
    for clip in clips:
        one = by_path.setdefault(clip.path, clip)
        if one != clip:
            raise InputError(f"{clip.path} is of class {one.label} and of class {clip.label}: keep one of its lines")
