"""Limits on the size of input, so that a small untrusted file can't use all memory; each limit can be set.

A limit is checked against the header of the input, before memory is used.
"""

import os
from dataclasses import dataclass

from rgbflow.errors import InputError


@dataclass(frozen=True)
class Limit:
    """The largest accepted number of something; an environment variable sets another.

    Attributes:
        variable: the environment variable.
        usual: the limit if the variable is not set.
        unit: the thing that is counted.
    """

    variable: str
    usual: int
    unit: str

    @property
    def value(self) -> int:
        """The current limit.

        Raises:
            InputError: if the variable is not a whole number above 0.
        """
        text = os.environ.get(self.variable, "").strip().replace("_", "").replace(",", "")
        if not text:
            return self.usual
        if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text)):
            raise InputError(f"{self.variable} ({text}) must be a whole number of {self.unit} above 0: {self.usual}")
        return int(text)

    def check(self, claimed: int, subject: str) -> None:
        """Refuse a number above the limit.

        Args:
            claimed: the number in a header, or counted so far.
            subject: the input, for the message.

        Raises:
            InputError: if the number is above the limit, or the variable can't be used.
        """
        if claimed > self.value:
            more = f"set {self.variable} to allow more"
            raise InputError(f"{subject} has {claimed:,} {self.unit}, and at most {self.value:,} are read: {more}")


PIXELS = Limit("RGBFLOW_MAX_PIXELS", 1 << 27, "pixels")  # of a picture: 16,384×8,192
FRAMES = Limit("RGBFLOW_MAX_FRAMES", 10_000_000, "frames")  # of a video or a clip: four days and a half at 25 a second
ROWS = Limit("RGBFLOW_MAX_ROWS", 10_000_000, "rows")  # of a manifest
FILE = Limit("RGBFLOW_MAX_FILE", 1 << 32, "bytes")  # of a network's file, which is read whole to be compared
TEXT = Limit("RGBFLOW_MAX_TEXT", 1 << 30, "bytes")  # of a list, groups, a score file, a manifest's texts
