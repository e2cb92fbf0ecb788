"""Room on a disk, and one line where a disk is full or can't be written."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rgbflow.errors import InputError

CHUNK_BYTES = 1 << 18  # read and written at a time


def size_of(path: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def megabytes(num_bytes: int) -> int:
    """So many bytes in megabytes, rounded up."""
    return -(-num_bytes // 10**6)


def require_space(folder: Path, num_bytes: int) -> None:
    """Check that the disk of a folder has room.

    Raises:
        InputError: if it has not.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise InputError(
            f"folder {folder} has {megabytes(free)} MB free, {megabytes(num_bytes)} MB are needed: free space or "
            "choose another folder"
        )


@contextmanager
def explaining_disk(folder: Path) -> Iterator[None]:
    """Turn what the system says of a folder's disk into an InputError with the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        place = error.filename or folder
        raise InputError(
            f"{place} can't be used ({reason}): free space, correct its permissions or choose another folder"
        ) from error
