"""What the commands share: the types of their flags, and their exit codes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import tyro

from rgbflow.errors import InputError

Flag = tyro.conf.arg
Positional = tyro.conf.Positional
PresetName = Literal["paper", "strong", "lite", "video", "video-strong"]
EXIT_FAILED, EXIT_SOME_FAILED = 1, 3


def exit_code(failed: int, total: int) -> int:
    """0 if nothing failed, 1 if everything failed, 3 if some of it failed."""
    return 0 if not failed else EXIT_FAILED if failed == total else EXIT_SOME_FAILED


def check_positive(**values: int | None) -> None:
    """Raise InputError for a number below 1; None is a default that is filled in later."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} ({value}) must be at least 1: give a larger number")


def check_not_read(out: Path | None, read: Iterable[Path | None]) -> None:
    """Raise InputError if the result would be written over a file that it is made from."""
    if out and out.resolve() in {path.resolve() for path in read if path}:
        raise InputError(f"--out ({out}) is a file that is read: choose another name")
