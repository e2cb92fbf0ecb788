"""ZIP and RAR archives: extracted whole and verified, or not at all, and never outside their folder."""

import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, cast

import rarfile

from rgbflow.data.disk import CHUNK_BYTES, explaining_disk, megabytes, require_space
from rgbflow.errors import InputError
from rgbflow.progress import SILENT, Progress

_DAMAGED_ARCHIVE = (rarfile.Error, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class _Member:
    name: str
    num_bytes: int
    crc: int | None  # none where a RAR archive has another kind of checksum; unrar verifies that
    is_folder: bool
    is_plain: bool  # a file or a folder; no link, no device


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
        progress: a step is a megabyte.

    Raises:
        InputError: if the archive is damaged or has no such folder, if a member is a link, comes twice or would leave
            the folder, if it holds more than it announces or than `max_bytes`, or if the disk is full.
    """
    path, folder = Path(path), Path(folder)
    work = folder.with_name(f".{folder.name}.part")
    with explaining_disk(folder.parent), _explaining_archive(path):
        shutil.rmtree(work, ignore_errors=True)
        try:
            members = _read_members(path)
            _check_members(path, members, max_bytes)
            require_space(folder.parent, sum(member.num_bytes for member in members))
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
            progress.update(megabytes(done), megabytes(total), f"extracting {path.name}")


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
            chunk = stream.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise EOFError(f"{member.name} ends {left} bytes too early")
            file.write(chunk)
            left, crc = left - len(chunk), zlib.crc32(chunk, crc)
    if member.crc not in (None, crc):
        raise EOFError(f"{member.name} has a wrong checksum")
