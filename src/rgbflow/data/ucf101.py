"""UCF101 from its own site: the archive of videos and the official lists, downloaded, extracted and checked.

    OUT/UCF-101/<Class>/v_<Class>_gGG_cCC.avi    the videos
    OUT/ucfTrainTestlist/*.txt                   classInd.txt, trainlist01..03.txt, testlist01..03.txt

A file or folder gets its own name only when complete. A download grows as `<name>.part` and resumes there after a kill;
an extraction is made in a hidden folder, which is then renamed.
"""

import lzma
import re
import shutil
import ssl
import stat
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PureWindowsPath
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import rarfile

from rgbflow.data.official import read_lists
from rgbflow.data.splits import SplitClip
from rgbflow.errors import InputError
from rgbflow.progress import SILENT, Progress

HOME = "https://www.crcv.ucf.edu/data/UCF101/"
TIMEOUT_SECONDS = 60
PAUSE_SECONDS = 1.0  # after the first failure; doubled after each further one
MOST_FAILURES = 5

_CHUNK_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_WORTH_ANOTHER_TRY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
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


class _TransferError(Exception):
    """A download failed in a way that another try may fix."""


@dataclass(frozen=True)
class _Member:
    name: str
    num_bytes: int
    crc: int | None  # none where a RAR archive has another kind of checksum; unrar verifies that
    is_folder: bool
    is_plain: bool  # a file or a folder; no link, no device


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


def download(
    url: str,
    path: str | Path,
    num_bytes: int,
    progress: Progress = SILENT,
) -> None:
    """Download a file of known size; resume an earlier try, if the server supports that.

    The file grows as `<path>.part`, and `<path>.part.tag` holds the server's name for this version (ETag or date), so
    that parts of two versions are never joined. After a failure the download is tried again, until `MOST_FAILURES`
    tries in a row have brought nothing new.

    Args:
        url: address, http or https.
        path: where the whole file will be.
        num_bytes: its size.
        progress: see `fetch_ucf101`.

    Raises:
        InputError: if the server refuses, can't be trusted, has a file of another size or fails again and again, or if
            the disk has no room for the file and its extracted copy.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with _explaining_disk(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if _size(part) > num_bytes:
            part.unlink()
        _require_space(path.parent, 2 * num_bytes - _size(part))
        _try_until_whole(url, part, num_bytes, progress)
        part.replace(path)
        _tag_file(part).unlink(missing_ok=True)


def extract(
    path: str | Path,
    folder: str | Path,
    max_bytes: int,
    progress: Progress = SILENT,
) -> None:
    """Extract the folder with the name of `folder` from a ZIP or RAR archive, completely or not at all.

    Every size and checksum in the archive is verified; nothing is written before all names are checked.

    Args:
        path: the archive; `.rar` needs unrar or unar.
        folder: where to put it; must not exist.
        max_bytes: the most bytes that the files of the archive may have together.
        progress: see `fetch_ucf101`.

    Raises:
        InputError: if the archive is damaged or has no such folder, if a member is a link, comes twice or would leave
            the folder, if it holds more than it announces or than `max_bytes`, or if the disk is full.
    """
    path, folder = Path(path), Path(folder)
    work = folder.with_name(f".{folder.name}.part")
    with _explaining_disk(folder.parent), _explaining_archive(path):
        shutil.rmtree(work, ignore_errors=True)
        try:
            members = _read_members(path)
            _check_members(path, members, max_bytes)
            _require_space(folder.parent, sum(member.num_bytes for member in members))
            _write_members(path, members, work, progress)
            if not (work / folder.name).is_dir():
                raise InputError(f"archive {path} contains no folder {folder.name}: remove it and run again")
            (work / folder.name).rename(folder)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def find_unrar(path: str | Path) -> rarfile.ToolSetup:
    """Find the program that opens RAR archives; only programs that open all of them are considered.

    Args:
        path: the archive, for the error message.

    Raises:
        InputError: if neither unrar nor unar is installed.
    """
    try:
        # rarfile would also take bsdtar and 7-Zip, which often can't read RAR: that would show after the download.
        return rarfile.tool_setup(bsdtar=False, sevenzip=False, sevenzip2=False, force=True)
    except rarfile.RarCannotExec:
        raise InputError(
            f"no program that extracts {Path(path).name} is found: install unrar or unar (apt install unar, dnf "
            "install unar, pacman -S unrar, brew install unar; on Windows put WinRAR's UnRAR.exe on the PATH), or "
            f"extract it by hand in {Path(path).parent}"
        ) from None


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
    elif _size(path) != archive.num_bytes:
        raise InputError(
            f"archive {path} has {_size(path)} bytes instead of {archive.num_bytes}: remove it and run again, or, if "
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


def _try_until_whole(url: str, part: Path, num_bytes: int, progress: Progress) -> None:
    most, failures = _size(part), 0
    while _size(part) < num_bytes:
        try:
            _go_on(url, part, num_bytes, progress)
        except _TransferError as reason:
            failures = 1 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures == MOST_FAILURES:
                raise InputError(
                    f"{url} failed {failures} times in a row at {_size(part)} of {num_bytes} bytes ({reason}): run "
                    f"again later, or {_by_hand(part)}"
                ) from None
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def _go_on(url: str, part: Path, num_bytes: int, progress: Progress) -> None:
    """Try once to download the rest of a file, or all of it."""
    with _connect(url, part) as response:
        done = _start(response, part, num_bytes)
        with part.open("ab" if done else "wb") as file:
            for chunk in _receive(response):
                done += len(chunk)
                if done > num_bytes:
                    raise _wrong_size(url, part, f"more than {num_bytes}", num_bytes)
                file.write(chunk)
                progress.update(_megabytes(done), _megabytes(num_bytes), f"downloading {part.stem}")
    if done < num_bytes:
        raise _TransferError("the connection ended too early")


def _connect(url: str, part: Path) -> HTTPResponse:
    """Request the bytes that `part` lacks."""
    headers = {"User-Agent": "rgbflow"}
    if _size(part):
        headers["Range"] = f"bytes={_size(part)}-"
        if _tag_file(part).exists():
            headers["If-Range"] = _tag_file(part).read_text(encoding="utf-8")
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        reason = f"{error.code} {error.reason}"
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        elif error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _WORTH_ANOTHER_TRY:
            raise InputError(f"{url} can't be downloaded ({reason}): {_by_hand(part)}") from None
        raise _TransferError(reason) from None
    except (OSError, HTTPException) as error:
        cause: object = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise InputError(
                f"{url} can't be trusted (its certificate: {cause.verify_message}): {_by_hand(part)}"
            ) from None
        raise _TransferError(cause) from None


def _start(response: HTTPResponse, part: Path, num_bytes: int) -> int:
    """The first byte of the file in a response: the size of `part`, or 0 if the server starts from the beginning.

    Raises:
        InputError: if the server's file has another size.
        _TransferError: if the response continues another file; `part` is then removed.
    """
    etag = response.headers.get("ETag", "")
    tag = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")  # a weak ETag identifies no bytes
    known = _tag_file(part).read_text(encoding="utf-8") if _tag_file(part).exists() else ""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != _size(part) or (tag and known and tag != known):
            part.unlink(missing_ok=True)
            raise _TransferError("the server continues another file")
        start, total = _size(part), match[2]
    else:
        start, total = 0, response.headers.get("Content-Length", "*")
        _tag_file(part).unlink(missing_ok=True)
    if total not in ("*", str(num_bytes)):
        raise _wrong_size(response.url, part, total, num_bytes)
    if tag and not start:
        _tag_file(part).write_text(tag, encoding="utf-8")
    return start


def _receive(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _TransferError(error) from None


def _wrong_size(url: str, part: Path, announced: str, num_bytes: int) -> InputError:
    return InputError(
        f"{url} has {announced} bytes, but {part.stem} must have {num_bytes}: give another home, or extract the "
        f"archive by hand in {part.parent} and run again"
    )


def _by_hand(part: Path) -> str:
    return f"download it by hand into {part.parent} and run again"


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(num_bytes: int) -> int:
    return -(-num_bytes // 10**6)


def _require_space(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise InputError(
            f"folder {folder} has {_megabytes(free)} MB free, {_megabytes(num_bytes)} MB are needed: free space or "
            "choose another folder"
        )


@contextmanager
def _explaining_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        place = error.filename or folder
        raise InputError(
            f"{place} can't be used ({reason}): free space, correct its permissions or choose another folder"
        ) from error


_DAMAGED_ARCHIVE = (rarfile.Error, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@contextmanager
def _explaining_archive(path: Path) -> Iterator[None]:
    try:
        yield
    # zipfile raises RuntimeErrors for encryption and for a compression that it doesn't know
    except (*_DAMAGED_ARCHIVE, EOFError, UnicodeError, RuntimeError, struct.error) as error:
        remedy = "use the other one of unrar and unar, or remove it" if path.suffix == ".rar" else "remove it"
        raise InputError(f"archive {path} can't be extracted ({error}): {remedy} and run again") from error


def _read_members(path: Path) -> list[_Member]:
    """The files and folders that an archive announces, in its order."""
    if path.suffix != ".rar":
        with zipfile.ZipFile(path) as archive:
            return [
                _Member(info.filename, info.file_size, info.CRC, info.is_dir(), _is_plain(info.external_attr >> 16))
                for info in archive.infolist()
            ]
    with rarfile.RarFile(path, errors="strict") as archive:
        if archive.needs_password():
            raise rarfile.BadRarFile("it needs a password")
        return [
            _Member(info.filename, info.file_size, info.CRC, info.is_dir(), not (info.is_symlink() or info.file_redir))
            for info in archive.infolist()
        ]


def _is_plain(mode: int) -> bool:
    return stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR)


def _check_members(path: Path, members: Sequence[_Member], max_bytes: int) -> None:
    """Refuse an archive that would write outside its folder, follow links or fill the disk."""
    names: set[str] = set()
    for member in members:
        place = PureWindowsPath(member.name)  # its rules know both kinds of slashes, drives and absolute paths
        if place.anchor or ".." in place.parts or "\0" in member.name or not member.is_plain:
            raise InputError(
                f"archive {path} is not safe: its member {member.name[:80]!r} is a link or would be written outside "
                "the folder: remove the archive"
            )
        if not member.is_folder and member.name in names:
            raise InputError(f"archive {path} holds {member.name[:80]!r} twice: remove the archive")
        names.add(member.name)
    total = sum(member.num_bytes for member in members)
    if total > max_bytes:
        raise InputError(
            f"archive {path} would become {total} bytes, more than the {max_bytes} it may have: remove the archive"
        )


def _write_members(path: Path, members: Sequence[_Member], folder: Path, progress: Progress) -> None:
    total, done = sum(member.num_bytes for member in members), 0
    with _contents(path) as stream_of:
        for member in members:
            target = folder / member.name
            if member.is_folder:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with stream_of(member) as stream:
                _copy(stream, target, member)
            done += member.num_bytes
            progress.update(_megabytes(done), _megabytes(total), f"extracting {path.name}")


@contextmanager
def _contents(path: Path) -> Iterator[Callable[[_Member], AbstractContextManager[IO[bytes]]]]:
    """A function that gives the stream to read a member from; call it in the archive's order."""
    if path.suffix == ".rar":
        with _unrar(path) as stream:
            yield lambda member: nullcontext(stream)
    else:
        with zipfile.ZipFile(path) as archive:
            yield lambda member: archive.open(member.name)


@contextmanager
def _unrar(path: Path) -> Iterator[IO[bytes]]:
    """The files of a RAR archive, one directly after the other.

    rarfile starts a process for each file, and in a solid archive each process decompresses all earlier files again:
    days for the videos of UCF101. One process without file names gives all files in their order. rarfile gives the size
    and checksum of each.
    """
    command = find_unrar(path).open_cmdline(None, str(path))
    with Popen(command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL) as process:
        try:
            stream = cast(IO[bytes], process.stdout)  # not None with PIPE
            yield stream
            if stream.read(1):
                raise rarfile.BadRarFile("it holds more than it announces")
            process.wait()
        finally:
            process.kill()
    if process.returncode:
        raise rarfile.BadRarFile(f"{command[0]} ended with {process.returncode}")


def _copy(stream: IO[bytes], target: Path, member: _Member) -> None:
    left, crc = member.num_bytes, 0
    with target.open("xb") as file:
        while left:
            chunk = stream.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"{member.name} ends {left} bytes too early")
            file.write(chunk)
            left, crc = left - len(chunk), zlib.crc32(chunk, crc)
    if member.crc not in (None, crc):
        raise EOFError(f"{member.name} has a wrong checksum")
