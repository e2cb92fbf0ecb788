"""Layouts of source videos: class folders, read as a list of clips with their class and group."""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePath

from rgbflow.errors import InputError
from rgbflow.records import read_whole

VIDEO_ENDINGS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"}
    | {".mpg", ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
GROUPS_FILE = "groups.tsv"
EXPECTED_FORM = "expected <folder>/<Class>/<clip>.mp4, one folder for each class"

# What systems leave in folders without being asked, beside names that begin with a dot (.DS_Store, ._x); lower case
LITTER = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "icon\r"}
    | {"system volume information", "lost+found"}
)

_UCF101_NAME = re.compile(r"(v_[A-Za-z]+_g[0-9]{2})_c[0-9]{2}")


@dataclass(frozen=True)
class SourceClip:
    """A video file with its class and group.

    Attributes:
        name: "<Class>/<file name without its extension>", unique in its data set.
        label: the class, which is the name of its folder.
        group: the source it was cut from; the clip's own name if no group is known.
        path: the file.
    """

    name: str
    label: str
    group: str
    path: Path


@dataclass(frozen=True)
class ClassFolder:
    """A folder of a data set: its videos and its other visible entries, each sorted by name."""

    path: Path
    videos: tuple[Path, ...]
    others: tuple[Path, ...]


def is_video(path: Path) -> bool:
    """Whether a path is a file with the extension of a video; the file is not opened."""
    return path.suffix.lower() in VIDEO_ENDINGS and path.is_file()


def without_ending(name: str) -> str:
    """Remove the extension of a video from a name or path; other dots stay.

    >>> without_ending("a/v_Run_g01_c01.avi"), without_ending("a/Vol. 2")
    ('a/v_Run_g01_c01', 'a/Vol. 2')
    """
    stem, dot, ending = name.rpartition(".")
    return stem if dot + ending.lower() in VIDEO_ENDINGS else name


def plain(name: str) -> str:
    """A name in the one form of Unicode in which two that look alike are alike (NFC); macOS writes another (NFD).

    >>> plain("cafe\\u0301") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


def legible(path: str | Path) -> str:
    r"""A name or path in which every byte that is not UTF-8 is an escape; Python keeps such bytes as lone surrogates.

    >>> legible("clip\udcff.avi")
    'clip\\xff.avi'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def check_utf8(path: Path) -> None:
    """Raise InputError if a clip's file or folder has a name that is not UTF-8, which no manifest or list can hold."""
    for name in (path.name, path.parent.name):
        if legible(name) != name:
            raise InputError(f"file name {legible(name)} in {legible(path.parent)} is not UTF-8: rename it")


def as_on_disk(path: Path) -> Path:
    """The path of what is there under this name in another form of Unicode; the path itself where nothing is."""
    if path.exists() or path == path.parent:
        return path
    parent = as_on_disk(path.parent)
    same = [entry for entry in list_visible(parent) if plain(entry.name) == plain(path.name)] if parent.is_dir() else []
    return same[0] if len(same) == 1 else parent / path.name


def list_visible(folder: str | Path) -> list[Path]:
    """List the files and folders in a folder, sorted by name, without the hidden ones (".name") and LITTER.

    Raises:
        InputError: if the folder is missing, is a file, or can't be read.
    """
    try:
        return sorted(entry for entry in Path(folder).iterdir() if is_visible(entry.name))
    except FileNotFoundError:
        raise InputError(f"folder {folder} does not exist: check its name") from None
    except NotADirectoryError:
        raise InputError(f"{folder} is a file, not a folder: {EXPECTED_FORM}") from None
    except OSError as error:
        raise InputError(f"folder {folder} cannot be read ({error.strerror}): check its permissions") from None


def is_visible(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in LITTER


def scan_class_folders(folder: str | Path) -> list[ClassFolder]:
    """List every folder inside a folder, including those without videos, sorted by name.

    Raises:
        InputError: if a folder cannot be read.
    """
    found = []
    for class_folder in filter(Path.is_dir, list_visible(folder)):
        entries = list_visible(class_folder)
        videos = tuple(entry for entry in entries if is_video(entry))
        others = tuple(entry for entry in entries if not is_video(entry))
        found.append(ClassFolder(class_folder, videos, others))
    return found


def read_class_folders(folder: str | Path, groups: Mapping[str, str] | None = None) -> list[SourceClip]:
    """List the clips of a folder of class folders, `<folder>/<Class>/<clip>.avi`.

    A class is a folder that holds at least one video. Hidden files, files without the extension of a video, videos
    outside the class folders and folders inside them are ignored; `rgbflow check` lists them. A clip's group comes from
    `groups`, else from its UCF101 name (`v_Class_g08_c01` -> `v_Class_g08`); else the clip is its own group.

    Args:
        folder: the data set.
        groups: the group of each clip, with keys as in `read_groups`; `None` reads the folder's `groups.tsv`, if there
            is one.

    Returns:
        The clips, sorted by name.

    Raises:
        InputError: if a folder cannot be read, there is no class folder with a video, two videos of a class
            differ only in their ending, or `groups` names a clip that is not there or fits two.
    """
    videos = [path for class_folder in scan_class_folders(folder) for path in class_folder.videos]
    if not videos:
        raise InputError(f"folder {folder} contains no class folder with a video: {EXPECTED_FORM}")
    by_name: dict[str, Path] = {}
    for path in videos:
        name = _clip_name(path)
        if by_name.setdefault(plain(name), path) != path:
            raise InputError(f"{by_name[plain(name)]} and {path} would both be clip {name}: rename one")
    by_name = {_clip_name(path): path for path in by_name.values()}
    folders = {path.parent for path in videos}
    for one, other in combinations(sorted(folders), 2) if len({plain(f.name) for f in folders}) < len(folders) else ():
        if plain(one.name) == plain(other.name):
            raise InputError(f"{one} and {other} look alike and would be two classes: rename one")
    if groups is None:
        file = Path(folder) / GROUPS_FILE
        groups = read_groups(file) if file.is_file() else {}
    given = match_groups(groups, by_name)
    return [
        SourceClip(name, legible(path.parent.name), given.get(name) or ucf101_group(path.stem) or name, path)
        for name, path in sorted(by_name.items())
    ]


def _clip_name(path: Path) -> str:
    return legible(f"{path.parent.name}/{path.stem}")


def ucf101_group(stem: str) -> str | None:
    """The group in a clip's UCF101 name; `None` for any other name.

    >>> ucf101_group("v_HandStandPushups_g01_c04")
    'v_HandStandPushups_g01'
    >>> ucf101_group("daria_bend") is None
    True
    """
    match = _UCF101_NAME.fullmatch(stem)
    return match[1] if match else None


def read_groups(path: str | Path) -> dict[str, str]:
    """Read a table of groups: a line `clip<TAB>group` for each clip, UTF-8, with or without a header line.

    The clip is written `Class/file.avi` or `Class/file`; `file.avi` or `file` is enough where only one class has such
    a file.

    Returns:
        From the clip, as the file writes it, to its group; both in NFC.

    Raises:
        InputError: if the file cannot be read, a line has another form, or a clip is given two groups.
    """
    text = read_whole(Path(path), "groups file").decode("utf-8-sig", "backslashreplace")  # as `legible` writes names
    if "\0" in text:
        raise InputError(f"groups file {path} is not UTF-8 text: save it as UTF-8")
    lines = plain(text).splitlines()
    groups: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.split("\t")]
        is_header = number == 1 and [field.lower() for field in fields[1:]] == ["group"]
        if is_header or fields == [""]:
            continue
        place = f"groups file {path}, line {number}"
        if len(fields) != 2 or not all(fields):
            raise InputError(f"{place} ({line[:60]!r}): write Class/clip, a tab and the group")
        if groups.setdefault(fields[0], fields[1]) != fields[1]:
            raise InputError(f"{place}: {fields[0]} already has another group: keep one of its lines")
    return groups


def match_groups(
    groups: Mapping[str, str], by_name: Mapping[str, PurePath], may_name_others: bool = False
) -> dict[str, str]:
    """Give each clip that `groups` names its group, in whichever form the clip is written there, of Unicode too.

    Args:
        groups: as `read_groups` gives it.
        by_name: the file of each clip, by the name "<Class>/<file name without its extension>".
        may_name_others: ignore lines of unknown clips.

    Returns:
        The group of each clip in `groups`, by the clip's name.

    Raises:
        InputError: if `groups` names an unknown clip without `may_name_others`, if a name fits two clips, or if a clip
            gets two groups.
    """
    written: dict[str, list[str]] = defaultdict(list)
    for name, path in by_name.items():
        for form in {plain(form) for form in (name, name + path.suffix, path.name, path.stem)}:
            written[form].append(name)
    given: dict[str, str] = {}
    for clip, group in groups.items():
        if may_name_others and plain(clip) not in written:
            continue
        name = _the_one_named(clip, written.get(plain(clip), []))
        if given.setdefault(name, group) != group:
            raise InputError(f"groups give the clip {name} two groups, {given[name]} and {group}: keep one")
    return given


def _the_one_named(clip: str, names: Sequence[str]) -> str:
    """The clip that a line of the groups names, out of the candidates."""
    if not names:
        raise InputError(f"groups name {clip}, which is not a clip of the data set: correct or remove its line")
    if len(names) > 1:
        raise InputError(f"groups name {clip}, which may be {names[0]} or {names[1]}: write its class too")
    return names[0]


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
