"""Animated WebP, decoded by Pillow, because PyAV's FFmpeg decodes it only in part or not at all."""

import os
from collections.abc import Iterator
from itertools import accumulate

from PIL import Image, UnidentifiedImageError

from rgbflow.limits import PIXELS
from rgbflow.video.integrity import DamageError, head

STEP_SECONDS = 0.1  # where a frame has no duration: as browsers show it
ANIMATED = 2  # the flag in the extended header


def is_animated(path: str | os.PathLike) -> bool:
    """Whether a file begins like an animated WebP; False for a file that can't be read."""
    try:
        start = head(path, 21)
    except OSError:
        return False
    return start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and bool(start[20:] and start[20] & ANIMATED)


def times(path: str | os.PathLike) -> tuple[list[float], float]:
    """The time of each frame, and the total duration, in seconds, by the chunks of the file."""
    size, place, durations = os.path.getsize(path), 12, []
    with open(path, "rb") as file:
        while place + 24 <= size:
            file.seek(place)
            chunk = file.read(24)
            if chunk[:4] == b"ANMF":  # x, y, width, height and duration, of three bytes each
                durations.append(int.from_bytes(chunk[20:23], "little") / 1000 or STEP_SECONDS)
            length = int.from_bytes(chunk[4:8], "little")
            place += 8 + length + length % 2
    ends = list(accumulate(durations))
    return [end - own for end, own in zip(ends, durations, strict=True)], sum(durations)


def pictures(path: str | os.PathLike) -> Iterator[tuple[Image.Image, float]]:
    """The frames, RGB, each with the second it is shown at.

    Raises:
        DamageError: where the file breaks; a file shorter than its header says gives no frames.
        InputError: if its pictures have more pixels than `limits` allows.
    """
    width, height = (1 + int.from_bytes(head(path, 30)[place : place + 3], "little") for place in (24, 27))
    PIXELS.check(width * height, f"a picture of video ({path})")
    missing = int.from_bytes(head(path, 8)[4:], "little") + 8 - os.path.getsize(path)
    if missing > 0:
        raise DamageError(f"its end is missing, {missing:,} bytes")
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            for index, seconds in enumerate(times(path)[0]):
                image.seek(index)
                image.load()
                yield image.convert("RGB"), seconds
    except (OSError, SyntaxError, ValueError, EOFError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DamageError(" ".join(str(error).split()) or type(error).__name__) from error
