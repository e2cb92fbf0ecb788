"""UCF101 from its own site: the archive of videos and the official lists, downloaded, extracted and checked.

    OUT/UCF-101/<Class>/v_<Class>_gGG_cCC.avi    the videos
    OUT/ucfTrainTestlist/*.txt                   classInd.txt, trainlist01..03.txt, testlist01..03.txt

A file or folder gets its own name only when complete. A download grows as `<name>.part` and resumes there after a kill;
an extraction is made in a hidden folder, which is then renamed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rgbflow.data.archives import extract, find_unrar
from rgbflow.data.disk import size_of
from rgbflow.data.download import download
from rgbflow.data.official import read_lists
from rgbflow.data.splits import SplitClip
from rgbflow.errors import InputError
from rgbflow.progress import SILENT, Progress

HOME = "https://www.crcv.ucf.edu/data/UCF101/"
_LIST_FILES = ("classInd.txt", *(f"{part}list0{number}.txt" for part in ("train", "test") for number in (1, 2, 3)))


@dataclass(frozen=True)
class Archive:
    """An archive on the site of the data set.

    Attributes:
        name: name of the file; its extension says whether it is a RAR or a ZIP archive.
        num_bytes: size of the file.
        folder: the folder in the archive that is kept.
        max_bytes: the most bytes that its files may have together.
    """

    name: str
    num_bytes: int
    folder: str
    max_bytes: int


LISTS = Archive("UCF101TrainTestSplits-RecognitionTask.zip", 113_943, "ucfTrainTestlist", 10**7)
VIDEOS = Archive("UCF101.rar", 6_932_971_618, "UCF-101", 10**10)


@dataclass(frozen=True)
class Fetched:
    """The result of `fetch_ucf101`: folder of class folders, folder of lists, number of clips and of classes."""

    videos: Path
    lists: Path
    num_clips: int
    num_classes: int


def fetch_ucf101(
    out: str | Path,
    home: str = HOME,
    lists: Archive = LISTS,
    videos: Archive = VIDEOS,
    progress: Progress = SILENT,
) -> Fetched:
    """Download, extract and check UCF101; complete files and folders are not downloaded again.

    An archive or an extracted folder that was put into `out` by hand is used if it is complete. The archives are kept,
    but are not needed once the folders are complete.

    Args:
        out: folder, made if missing. Needs about 14 GB, or 7 GB if the archive is there already.
        home: address of the folder that offers both archives, http or https.
        lists: the archive of lists.
        videos: the archive of videos.
        progress: a step is a megabyte of the current archive; the note says what is done with it.

    Raises:
        InputError: if a download fails for good or has the wrong size, if no program that opens RAR archives is found,
            if an archive is damaged, would write outside its folder or is too large, if the disk is full, or if videos
            of the lists are missing.
    """
    out = Path(out)
    if not home.startswith(("http://", "https://")):
        raise InputError(f"home {home} is not a web address: give one that begins with https:// or http://")
    lists_folder = _obtain(lists, out, home, progress)
    clips = _read_lists(lists_folder)
    videos_folder = _obtain(videos, out, home, progress)
    check_complete(videos_folder, clips)
    return Fetched(videos_folder, lists_folder, len(clips), len({clip.label for clip in clips}))


def check_complete(folder: str | Path, clips: Sequence[SplitClip]) -> None:
    """Check that a folder of class folders holds each clip as a non-empty file.

    Raises:
        InputError: if videos are missing; the message names the first three.
    """
    held = {path.stem for path in Path(folder).glob("*/*.avi") if path.stat().st_size}
    missing = [clip.name for clip in clips if clip.name.rpartition("/")[2] not in held]
    if missing:
        raise InputError(
            f"folder {folder} lacks {len(missing)} of the {len(clips)} videos that the lists name, such as "
            f"{', '.join(missing[:3])}: remove the folder and run again"
        )


def _obtain(archive: Archive, out: Path, home: str, progress: Progress) -> Path:
    """The archive's folder in `out`, made with as little new work as possible."""
    path, folder = out / archive.name, out / archive.folder
    if folder.is_dir():
        return folder
    if path.suffix == ".rar":
        find_unrar(path)  # better now than after gigabytes
    if not path.exists():
        progress.report(f"downloading {archive.name}")
        download(f"{home.rstrip('/')}/{archive.name}", path, archive.num_bytes, progress)
    elif size_of(path) != archive.num_bytes:
        raise InputError(
            f"archive {path} has {size_of(path)} bytes instead of {archive.num_bytes}: remove it and run again, or, if "
            f"it is the beginning of a download, rename it to {archive.name}.part to go on from there"
        )
    progress.report(f"extracting {archive.name}")
    extract(path, folder, archive.max_bytes, progress)
    return folder


def _read_lists(folder: Path) -> list[SplitClip]:
    missing = [name for name in _LIST_FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(f"folder {folder} lacks {', '.join(missing)}: remove the folder and run again")
    return read_lists(folder)
