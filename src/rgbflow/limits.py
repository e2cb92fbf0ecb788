"""How large what is read may be, so that a few bytes from a stranger can't take all memory; each limit can be set.

A limit is checked against what a header claims, before memory is taken.
"""

import os
from dataclasses import dataclass

from rgbflow.errors import InputError


@dataclass(frozen=True)
class Limit:
    """The largest number of something that is read; an environment variable sets another.

    Attributes:
        variable: of the environment.
        usual: what holds where the variable is not set.
        unit: what is counted.
    """

    variable: str
    usual: int
    unit: str

    @property
    def value(self) -> int:
        """The number that holds now.

        Raises:
            InputError: if the variable is no whole number above 0.
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
            claimed: by a header, or counted so far.
            subject: what has so many, for the message.

        Raises:
            InputError: if it is above the limit, or the variable can't be used.
        """
        if claimed > self.value:
            more = f"set {self.variable} to allow more"
            raise InputError(f"{subject} has {claimed:,} {self.unit}, and at most {self.value:,} are read: {more}")


PIXELS = Limit("RGBFLOW_MAX_PIXELS", 1 << 27, "pixels")  # of a picture: 16,384×8,192
FRAMES = Limit("RGBFLOW_MAX_FRAMES", 10_000_000, "frames")  # of a video or a clip: four days and a half at 25 a second
ROWS = Limit("RGBFLOW_MAX_ROWS", 10_000_000, "rows")  # of a manifest, a list, a table
TEXT = Limit("RGBFLOW_MAX_TEXT", 1 << 30, "bytes")  # of a list, a table, a record
