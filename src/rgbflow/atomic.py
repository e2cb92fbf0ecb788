"""Files that appear complete or not at all: written under a temporary name, then renamed."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rgbflow.errors import InputError

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
