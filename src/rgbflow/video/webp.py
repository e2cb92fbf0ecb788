"""Animated WebP, decoded by Pillow, because PyAV's FFmpeg decodes it only in part or not at all."""

import os
from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from rgbflow.limits import PIXELS
from rgbflow.video.integrity import DamageError

STEP_SECONDS = 0.1  # where a frame has no duration: as browsers show it
ANIMATED = 2  # the flag in the extended header
HEAD = 30  # bytes up to the size of the canvas


def is_animated(path: str | os.PathLike) -> bool:
    """Whether a file begins like an animated WebP; False for a file that can't be read."""
    try:
        with open(path, "rb") as file:
            return begins_animated(file.read(HEAD))
    except OSError:
        return False


def begins_animated(start: bytes) -> bool:
    """Whether these first bytes are of an animated WebP."""
    return start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and bool(start[20:] and start[20] & ANIMATED)


def times(file: BinaryIO) -> tuple[list[float], float]:
    """The time of each frame, and the total duration, in seconds, by the chunks of the file."""
    size, place, durations = file.seek(0, os.SEEK_END), 12, []
    while place + 24 <= size:
        file.seek(place)
        chunk = file.read(24)
        if chunk[:4] == b"ANMF":  # x, y, width, height and duration, of three bytes each
            durations.append(int.from_bytes(chunk[20:23], "little") / 1000 or STEP_SECONDS)
        length = int.from_bytes(chunk[4:8], "little")
        place += 8 + length + length % 2
    ends = list(accumulate(durations))
    return [end - own for end, own in zip(ends, durations, strict=True)], sum(durations)


def pictures(file: BinaryIO, name: str) -> Iterator[tuple[Image.Image, float]]:
    """The frames, RGB, each with the second it is shown at.

    Args:
        file: the whole file.
        name: of the video, for messages.

    Raises:
        DamageError: where the file breaks; a file shorter than its header says gives no frames.
        InputError: if its pictures have more pixels than `limits` allows.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(HEAD)
    width, height = (1 + int.from_bytes(start[place : place + 3], "little") for place in (24, 27))
    PIXELS.check(width * height, f"a picture of {name}")
    missing = int.from_bytes(start[4:8], "little") + 8 - size
    if missing > 0:
        raise DamageError(f"its end is missing, {missing:,} bytes")
    try:
        with Image.open(file, formats=["WEBP"]) as image:
            for index, seconds in enumerate(times(file)[0]):
                image.seek(index)
                image.load()
                yield image.convert("RGB"), seconds
    except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DamageError(" ".join(str(error).split()) or type(error).__name__) from error
