"""Lists of clips in any of the usual forms: what each line says.

    Archery/v_Archery_g08_c01.avi 3       UCF101's: trainlist01.txt, testlist01.txt, classInd.txt
    April_09_brush_hair_u_nm_np1_0.avi 1  HMDB51's: brush_hair_test_split1.txt; 1 is train, 2 test, 0 neither
    label,youtube_id,time_start,...       Kinetics': a table whose header names its columns
    78687;Holding something               Something-Something's: a table, or .json
    any path.mp4 wave anna                path, class (a name or a number) and perhaps the group

Only the lists are opened; `rgbflow.data.matching` finds their clips.
"""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rgbflow.data.layouts import VIDEO_ENDINGS, legible, list_visible, plain, without_ending
from rgbflow.errors import InputError
from rgbflow.records import parse_json, read_whole

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
LIST_ENDINGS = frozenset({".txt", ".csv", ".tsv", ".json"})
CLASS_INDEX = "classind.txt"
HMDB51_FOLDER = "testTrainMulti_7030_splits"

# What a header may call a column, as `_column` writes it; of several in one header the first counts.
_COLUMNS = {
    "path": (
        "path",
        *(one + end for end in ("path", "", "name", "id") for one in ("file", "video", "clip")),
        "id",
        "name",
    ),
    "label": (
        "template",
        *(one + end for end in ("", "name", "id") for one in ("label", "class", "action", "category")),
    ),
    "group": ("group", "source", "person", "subject", "actor", "scene"),
    "part": ("part", "split", "subset", "partition", "set"),
}
_KNOWN = {"youtubeid", "timestart", "timeend"}.union(*_COLUMNS.values())
_PART_WORDS: dict[str, Part] = {
    "training": "train",
    "testing": "test",
    "validate": "val",
    "validation": "val",
    "valid": "val",
    "dev": "val",
}
_HMDB51_PARTS: dict[str, Part | None] = {"0": None, "1": "train", "2": "test"}
_HMDB51_FILE = re.compile(r"(.+)_test_split([0-9]+)")
_HMDB51_NAME = re.compile(r"_[fhul]_(?:cm|nm)_np[0-9]+_(?:ba|fr|le|ri)_(?:bad|med|goo)_[0-9]+$")
_WHOLE = re.compile(r"^([0-9]+)\.0$")  # what tables with gaps make of a number
_ENDINGS = "|".join(re.escape(ending) for ending in sorted(VIDEO_ENDINGS))
_UP_TO_VIDEO = re.compile(rf"(.+?(?:{_ENDINGS}))(?:\s+(.*))?", re.IGNORECASE)


@dataclass(frozen=True)
class ListedClip:
    """What a list says of a clip.

    Attributes:
        path: path as in the list, with "/" between folders; the extension may be missing.
        place: list and line number, for messages.
        label: its class; a number where no classInd.txt names it; None where the line does not say.
        group: the source it was cut from; None where the line does not say.
        part: train, val or test; None where neither the line nor the name of the list says.
        names: possible names of the clip's file, without folder and extension, the likeliest first.
    """

    path: str
    place: str
    label: str | None = None
    group: str | None = None
    part: Part | None = None
    names: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Name of the clip's folder; empty where the path has none."""
        return self.path.rpartition("/")[0].rpartition("/")[2]


def read_listed(
    paths: Iterable[str | Path], number: int | None = None, classes: Collection[str] = ()
) -> list[ListedClip]:
    """Read lists of any form.

    Args:
        paths: lists, and folders of lists; a classInd.txt among them or beside them names the classes' numbers.
        number: the split to read from folders with several (trainlist01.txt, trainlist02.txt); the first if None.
        classes: known class names, by which the class is found among several words of a line.

    Raises:
        InputError: if a list can't be read, has no clip, or has a line in none of these forms.
    """
    clips = []
    files = [file for given in map(Path, paths) for file in _files(given, number)]
    given_indexes = [file for file in files if is_class_index(file)]
    for path in (file for file in files if file not in given_indexes):
        by_number = _read_class_index(given_indexes or [*filter(is_class_index, list_visible(path.parent))])
        known = {*classes, *by_number.values()}
        found = parse_list(_read_text(path), path.name, known)
        if not found:
            raise InputError(f"list {path} names no clip: leave it out, or give the right file")
        clips += [_checked(_with_class_name(clip, by_number, known)) for clip in found]
    if not clips:
        raise InputError("lists name no clip: give files such as trainlist01.txt, or the folder that holds them")
    return clips


def parse_list(text: str, file: str, classes: Collection[str] = ()) -> list[ListedClip]:
    """Parse a list of any form; lines that are empty or begin with # and a space are ignored.

    Args:
        text: the content of the list.
        file: name of the list, which may contain the part (train..., val..., test...) and show the form.
        classes: see `read_listed`.

    Raises:
        InputError: if a line has none of these forms.

    >>> [(clip.path, clip.label, clip.part) for clip in parse_list("Archery/v_Archery_g08_c01.avi 3", "train.txt")]
    [('Archery/v_Archery_g08_c01.avi', '3', 'train')]
    """
    lines = [(f"list {file}, line {number}", line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(place, line) for place, line in lines if line and line.split()[0] != "#"]  # HMDB51 has a clip #20_...
    hmdb51 = _HMDB51_FILE.fullmatch(Path(file).stem)
    if file.lower().endswith(".json"):
        clips = _from_rows(_json_rows(text, file))
    elif hmdb51:
        clips = [clip for place, line in lines for clip in _parse_hmdb51(line, hmdb51[1], place)]
    else:
        clips = _parse_lines(lines, classes)
    return [clip if clip.part or hmdb51 else replace(clip, part=part_of_name(file)) for clip in clips]


def part_of_name(file: str) -> Part | None:
    """The part that a list's file name contains; None where it contains none or several.

    >>> part_of_name("ucf101_val_split_1.txt"), part_of_name("trainlist01.txt"), part_of_name("mine.csv")
    ('val', 'train', None)
    """
    words = re.findall("[a-z]+", Path(file).stem.lower())
    named = {part for word in words for part in PARTS if word.startswith(part)}
    return named.pop() if len(named) == 1 else None


def _files(path: Path, number: int | None) -> list[Path]:
    """The lists of one split in a folder; for a file, the file itself."""
    if not path.is_dir():
        return [path]
    if (path / HMDB51_FOLDER).is_dir():
        path = path / HMDB51_FOLDER
    files = [file for file in list_visible(path) if file.suffix.lower() in LIST_ENDINGS and file.is_file()]
    numbers = {file: _number_of(file) for file in files if _HMDB51_FILE.fullmatch(file.stem) or part_of_name(file.name)}
    if not numbers:
        raise InputError(f"lists {path} has no file named train..., val... or test...: name the lists themselves")
    there = sorted({one for one in numbers.values() if one})
    if number is not None and number not in there:
        found = ", ".join(map(str, there)) or "no numbers"
        raise InputError(f"--list-number {number} is none of those in {path}, which has {found}: choose another")
    wanted = there[0] if there and number is None else number
    return [file for file, one in numbers.items() if one in (None, wanted)]


def _number_of(file: Path) -> int | None:
    match = re.search("(?:split|list)_?([0-9]+)|([0-9]+)$", file.stem)
    return int(match[1] or match[2]) if match else None


def _read_text(path: Path) -> str:
    """The text of a list; a byte that is not UTF-8 becomes a lone surrogate, since it may be part of a file's name."""
    text = read_whole(path, "list").decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise InputError(f"list {path} is not UTF-8 text: save it as UTF-8")
    return plain(text).replace("\ufeff", "")  # lists joined by `cat` have such a mark in the middle too


def _checked(clip: ListedClip) -> ListedClip:
    for text in (clip.label, clip.group):
        if text and legible(text) != text:
            raise InputError(f"{clip.place} is not UTF-8 text: save the list as UTF-8")
    return clip


def is_class_index(file: Path) -> bool:
    return file.name.lower() == CLASS_INDEX


def _read_class_index(files: Sequence[Path]) -> dict[int, str]:
    """The name of each class by its number; empty without a file."""
    by_number: dict[int, str] = {}
    for line in (line.strip() for file in files for line in _read_text(file).splitlines() if line.strip()):
        number, name = [*line.split(None, 1), ""][:2]
        if not number.isdecimal() or not name:
            raise InputError(f"{files[0]} has the line {line[:60]!r}: write a number and the class's name")
        if int(number) in by_number or name in by_number.values():
            raise InputError(f"{files[0]} has {line[:60]!r}, but its number or class is in an earlier line: keep one")
        by_number[int(number)] = name
    return by_number


def _with_class_name(clip: ListedClip, by_number: dict[int, str], classes: Collection[str]) -> ListedClip:
    if not by_number or clip.label is None or not clip.label.isdecimal():
        return clip
    name, remedy = by_number.get(int(clip.label)), "count both from 0, or both from 1"
    if name is None:
        told = f"is not in classInd.txt, which has {min(by_number)} to {max(by_number)}"
        raise InputError(f"{clip.place}: class {clip.label} {told}: {remedy}")
    if clip.folder != name and clip.folder in classes:
        told = f"is {name} in classInd.txt, but {clip.path} is in the folder of {clip.folder}"
        raise InputError(f"{clip.place}: class {clip.label} {told}: {remedy}")
    return replace(clip, label=name)


def _clip(
    path: str, place: str, label: str | None = None, group: str | None = None, part: Part | None = None
) -> ListedClip:
    path = path.strip().replace("\\", "/").removeprefix("./").rstrip("/")
    name = without_ending(path.rpartition("/")[2])
    if not name:
        raise InputError(f"{place} names no clip: write its path first")
    label = label and _WHOLE.sub(r"\1", label)
    if label and without_ending(label) != label:
        raise InputError(
            f"{place}: class {label!r} is the name of a video: write path, class and group in this order, and quote a "
            "path with commas"
        )
    return ListedClip(path, place, label, group, part, names=(name,))


def _parse_hmdb51(line: str, label: str, place: str) -> Iterator[ListedClip]:
    name, number = [*line.rsplit(None, 1), ""][:2]
    if number not in _HMDB51_PARTS:
        raise InputError(
            f"{place} ({line[:60]!r}): write the clip's file name, then 1 (train), 2 (test) or 0 (neither)"
        )
    part = _HMDB51_PARTS[number]
    if part:
        clip = _clip(name, place, label=label, part=part)
        yield replace(clip, group=hmdb51_group(clip.names[0], label))


def hmdb51_group(stem: str, label: str) -> str | None:
    """The source video in a clip's HMDB51 name; None for any other name.

    >>> hmdb51_group("April_09_brush_hair_u_nm_np1_ba_goo_0", "brush_hair")
    'brush_hair:April_09'
    """
    source, found, _ = stem.partition(f"_{label}_")  # its first place: rather two sources in a group than one in two
    return f"{label}:{source}" if found and _HMDB51_NAME.search(stem) else None


def _parse_lines(lines: Sequence[tuple[str, str]], classes: Collection[str]) -> list[ListedClip]:
    """Lines with columns divided by tab, ; or , or by spaces (a path may contain some); the first may be a header."""
    if not lines:
        return []
    delimiter = next((one for one in "\t;," if _is_table(lines, one)), None)
    if delimiter is None:
        header = _header(lines[0][1].split(), " ", lines[0][0])
        if not header:
            return [_parse_words(line, place, classes) for place, line in lines]
        return _from_rows(_under(header, line.rsplit(None, len(header) - 1), place) for place, line in lines[1:])
    rows = [(place, _cells(line, delimiter, place)) for place, line in lines]
    header = _header(rows[0][1], delimiter, rows[0][0])
    if not header:
        return [_from_cells(cells, place) for place, cells in rows]
    return _from_rows((_under(header, cells, place) for place, cells in rows[1:]))


def _is_table(lines: Sequence[tuple[str, str]], delimiter: str) -> bool:
    place, first = lines[0]
    return all(delimiter in line for _, line in lines) or bool(_header(first.split(delimiter), delimiter, place))


def _cells(line: str, delimiter: str, place: str) -> list[str]:
    try:
        (cells,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True)
    except csv.Error as error:
        raise InputError(f"{place} ({line[:60]!r}) is not a line of a table ({error}): check its quotes") from None
    return [cell.strip() for cell in cells]


def _under(header: Sequence[str], cells: Sequence[str], place: str) -> tuple[str, dict[str, str]]:
    """A row by the names of its columns."""
    if len(cells) != len(header):
        raise InputError(
            f"{place} has {len(cells)} columns, the header has {len(header)}: complete the line, or quote cells"
        )
    return place, dict(zip(header, cells, strict=True))


def _header(fields: Sequence[str], delimiter: str, place: str) -> Sequence[str]:
    """The names of the columns as `_COLUMNS` writes them, if the line is a header; else nothing.

    A header has one of these names and no video; divided by spaces it needs two, since any clip's name is a word.
    """
    names = [_column(field) for field in fields]
    known = [name in _KNOWN for name in names]
    has_path = any(name in (*_COLUMNS["path"], "youtubeid") for name in names)
    if (
        len(fields) < 2
        or any(without_ending(field) != field for field in fields)
        or sum(known) < (1 if delimiter.strip() else 2)
    ):
        return ()
    if not has_path:
        told = delimiter.join(fields)[:60]
        raise InputError(f"{place} ({told!r}) names columns, but not that of the clips' paths: call it path")
    return names


def _column(name: str) -> str:
    """The name of a column in lower case, letters and digits only: `File Name` and `file_name` are one."""
    return re.sub(r"[\W_]", "", name.lower())


def _from_rows(rows: Iterable[tuple[str, Mapping[str, str]]]) -> list[ListedClip]:
    """Clips of rows with named columns, the names as `_COLUMNS` writes them."""
    return [_from_kinetics(row, place) if "youtubeid" in row else _from_row(row, place) for place, row in rows]


def _from_row(row: Mapping[str, str], place: str) -> ListedClip:
    given = {
        kind: next((str(row[name]) for name in names if row.get(name) not in (None, "")), None)
        for kind, names in _COLUMNS.items()
    }
    if given["path"] is None:
        raise InputError(f"{place} names no clip: give it one of the columns {', '.join(_COLUMNS['path'])}")
    label = given["label"].replace("[", "").replace("]", "") if given["label"] else None  # of templates
    return _clip(given["path"], place, label=label, group=given["group"], part=_part(given["part"], place))


def _from_kinetics(row: Mapping[str, str], place: str) -> ListedClip:
    """File names are ID_000010_000020, ID_10_20 or ID; clips of one video are a group."""
    video, start, end = (row.get(name) or "" for name in ("youtubeid", "timestart", "timeend"))
    clip = _clip(video, place, label=row.get("label") or None, group=video, part=_part(row.get("split"), place))
    try:
        first, last = (int(float(time)) for time in (start, end))
    except (ValueError, OverflowError):
        raise InputError(f"{place}: time_start ({start}) and time_end ({end}) must be seconds: correct them") from None
    return replace(clip, names=(f"{video}_{first:06}_{last:06}", f"{video}_{first}_{last}", video))


def _part(word: str | None, place: str) -> Part | None:
    if not word:
        return None
    part = _PART_WORDS.get(word.lower(), word.lower())
    if part not in PARTS:
        raise InputError(f"{place}: part {word!r} is unknown: write train, val or test")
    return part


def _from_cells(cells: Sequence[str], place: str) -> ListedClip:
    """Path, class and perhaps group, in columns without names."""
    if len(cells) > 3:
        raise InputError(f"{place} has {len(cells)} columns: name them in a header line, such as path,label,group")
    path, label, group = [*cells, "", ""][:3]
    return _clip(path, place, label=label or None, group=group or None)


def _parse_words(line: str, place: str, classes: Collection[str]) -> ListedClip:
    """A path, which may contain spaces or be quoted, then an optional class, then an optional group."""
    if line.startswith('"'):
        return _from_cells(_cells(line, " ", place), place)
    match = _UP_TO_VIDEO.fullmatch(line)
    path, rest = match.groups() if match else _without_video_ending(line)
    words = (rest or "").split()
    clip = _clip(path, place, label=rest or None)
    if len(words) < 2 or rest in classes or rest == clip.folder:
        return clip
    first, second = words[0], " ".join(words[1:])
    in_doubt = first.isdigit() and second.isdigit()  # class and group, or number of frames and class
    if len(words) > 2 or in_doubt or not (first.isdigit() or first in classes or first == clip.folder):
        raise InputError(
            f"{place} ({line[:60]!r}) has {len(words)} words after the path: divide path, class and group by tabs, or "
            "name the columns in a first line, such as path label group"
        )
    return _clip(path, place, label=first, group=second)


def _without_video_ending(line: str) -> tuple[str, str | None]:
    """Path and class of a line without a video's extension; of `folder frames class`, without the frames."""
    words = line.rsplit(None, 2)
    if len(words) == 3 and words[1].isdigit() and words[2].isdigit():
        return words[0], words[2]
    path, _, label = line.rpartition(" ")
    return (path, label) if path else (label, None)


def _json_rows(text: str, file: str) -> list[tuple[str, dict[str, str]]]:
    try:
        rows = parse_json(text)
    except InputError as error:
        raise InputError(f"list {file} can't be read ({error}): give the right file") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f'list {file} is not a list of clips: write [{{"id": "1", "label": "wave"}}, ...]')
    places = [f"list {file}, clip {number}" for number in range(1, len(rows) + 1)]
    return [(place, _texts(row, place)) for place, row in zip(places, rows, strict=True)]


def _texts(row: Mapping[str, object], place: str) -> dict[str, str]:
    """The texts and numbers of a JSON row; lists and the like count only where a column of ours would be one."""
    texts = {}
    for name, value in row.items():
        if isinstance(value, str | int | float):
            texts[_column(name)] = str(value)
        elif value is not None and _column(name) in _KNOWN:
            raise InputError(f"{place}: {name} ({str(value)[:60]!r}) must be text: correct it")
    return texts
