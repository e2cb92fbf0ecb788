"""The checkpoints of a training on disk: each is there whole or not at all, and the one before the last stays."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rgbflow.atomic import remove_leftovers, replacing
from rgbflow.errors import InputError

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
IN_ORDER = (LAST, PREVIOUS, BEST)  # in which a run that goes on tries them


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, to the disk itself, and renames it; the last one becomes the previous one.

    Lightning writes into the folder for temporary files and moves the file, which between two file systems is a copy:
    a kill in the middle leaves half of one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | os.PathLike, storage_options: Any = None) -> None:
        place, content = Path(path), io.BytesIO()
        torch.save(checkpoint, content)  # into a file, it would hide the error of a full disk behind its own
        try:
            with replacing(place) as temporary:
                with temporary.open("wb") as file:
                    file.write(content.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                if place.name == LAST and place.is_file():
                    place.replace(place.with_name(PREVIOUS))
        except InputError as error:
            raise error.__cause__ or error from None  # who trains says what a full disk means here


def are_there(work: Path) -> bool:
    """Whether a run has left a checkpoint to go on from."""
    return any((work / name).is_file() for name in (LAST, PREVIOUS))


def newest_whole(work: Path, usable: Callable[[dict], bool]) -> tuple[Path, dict] | None:
    """The newest checkpoint that is whole and usable, and its content; None where none is."""
    for path in (work / name for name in IN_ORDER):
        try:
            checkpoint = _read(path)
            if usable(checkpoint):
                return path, checkpoint
        except Exception:  # a damaged file fails in many ways
            continue
    return None


def _read(path: Path) -> dict:
    """Read a checkpoint whose every part fits its CRC-32; torch does not look at that."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
    return torch.load(path, map_location="cpu", weights_only=True)


def read_best(work: Path) -> dict:
    """The checkpoint of the best epoch.

    Raises:
        InputError: if it is damaged.
    """
    try:
        return _read(work / BEST)
    except Exception as error:
        raise InputError(f"{work / BEST} is damaged: delete {work} to start again") from error


def remove_all(work: Path) -> None:
    """Remove the checkpoints, and what killed runs left of some."""
    for name in IN_ORDER:
        (work / name).unlink(missing_ok=True)
        remove_leftovers(work / name)
