"""Files that appear complete or not at all: written under a temporary name, then renamed."""

import ctypes
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rgbflow.errors import InputError

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux: relative to the working folder; both names are there all the time
LONGEST_ENDING = 16  # letters of an ending that a temporary name keeps, since some writers go by it


def remove_leftovers(path: Path) -> None:
    """Remove temporary files that killed runs left beside `path`; no other process may be writing to it."""
    for leftover in path.parent.glob(_temporary_name(path, "????????")):
        leftover.unlink(missing_ok=True)


def _temporary_name(path: Path, token: str) -> str:
    """A name short enough for every file system, however long the file's own is, and the same for each run."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return f".{digest}.{token}{path.suffix if len(path.suffix) <= LONGEST_ENDING else ''}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` when the block ends, remove it if the block fails.

    The temporary name begins with a dot and keeps the extension of `path`. Missing folders are made.

    Raises:
        InputError: if the folder can't be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(_temporary_name(path, secrets.token_hex(4)))
        temporary.touch(exist_ok=False)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{path} can't be written ({reason}): free space or choose another folder") from error


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a whole file; text becomes UTF-8."""
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def replace_folder(new: Path, folder: Path) -> None:
    """Put a folder in the place of another one beside it, which is removed.

    On Linux one of the two is there under the name at any moment. Where the system can't exchange two names, there is
    none for a moment, and a run that is killed in it leaves the former folder as `.<name>.former`.

    Raises:
        OSError: if the folder can't be written.
    """
    former = folder.with_name(f".{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)  # of a killed run
    if not folder.exists():
        new.replace(folder)
    elif _exchange(new, folder):
        shutil.rmtree(new, ignore_errors=True)
    else:
        folder.replace(former)
        new.replace(folder)
        shutil.rmtree(former, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where the system, or the file system, has no such call."""
    try:
        exchange = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system than Linux
        return False
    return exchange(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0
