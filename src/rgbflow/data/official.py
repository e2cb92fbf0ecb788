"""UCF101's official lists of its clips."""

from collections.abc import Collection
from pathlib import Path

from rgbflow.data.layouts import ucf101_group
from rgbflow.data.splits import SplitClip, by_name
from rgbflow.errors import InputError


def is_lists(folder: Path) -> bool:
    """Whether a folder holds UCF101's official lists: names of clips, but not the clips."""
    return (folder / "classInd.txt").is_file()


def read_lists(folder: str | Path) -> list[SplitClip]:
    """Read all of UCF101 from its official lists: 13,320 clips, 101 classes, 2,525 groups, sorted by name.

    Args:
        folder: holds classInd.txt, trainlist01.txt and testlist01.txt; each of the three pairs of lists names
            the same clips.

    Raises:
        InputError: if a list is missing or has another form.
    """
    train, test = read_pair(folder, 1)
    return by_name(train + test)


def read_pair(folder: str | Path, number: int) -> list[list[SplitClip]]:
    """The clips of train list and test list 1, 2 or 3."""
    lines = _read_text(Path(folder) / "classInd.txt", "list").splitlines()
    classes = {line.split()[-1] for line in lines if line.strip()}
    return [_read_list(Path(folder) / f"{part}list0{number}.txt", classes) for part in ("train", "test")]


def _read_list(path: Path, classes: Collection[str]) -> list[SplitClip]:
    """Read lines such as `Archery/v_Archery_g08_c01.avi 3`; the test lists leave the number out."""
    clips = []
    for line in filter(str.strip, _read_text(path, "list").splitlines()):
        label, _, file = line.split()[0].partition("/")
        stem = Path(file).stem
        group = ucf101_group(stem)
        if label not in classes or group is None:
            raise InputError(f"list {path} has the line {line[:60]!r}: give UCF101's own lists")
        clips.append(SplitClip(f"{label}/{stem}", label, group))
    return clips


def _read_text(path: str | Path, what: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{what} {path} is not a text file: give the right file") from None
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read ({error.strerror}): check its name") from None
