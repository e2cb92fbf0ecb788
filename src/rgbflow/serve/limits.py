"""What one client and all clients together may ask of the service."""

import time
from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The usual limits; each can be set where a `Service` is made.

    Attributes:
        sessions: open at the same time.
        frame_bytes: of one picture.
        frame_pixels: of one picture, width times height; checked against its header before it is decoded.
        frame_side: pixels that its shorter side must have.
        text_bytes: of one JSON message of a client.
        messages_per_second: that a session may send; twice as many in a burst.
        send_seconds: that a client may take to read what is sent to it.
        requests_per_second: over HTTP from one address; ten times as many in a burst.
        upload_bytes: of one video.
        upload_seconds: that an upload may take.
        chunk_seconds: that an upload may stand still.
        predictions: of uploaded videos, at work or waiting at the same time.
    """

    sessions: int = 64
    frame_bytes: int = MIB
    frame_pixels: int = 1920 * 1080
    frame_side: int = 16
    text_bytes: int = 4096
    messages_per_second: float = 120.0
    send_seconds: float = 10.0
    requests_per_second: float = 20.0
    upload_bytes: int = 256 * MIB
    upload_seconds: float = 300.0
    chunk_seconds: float = 15.0
    predictions: int = 4


class Bucket:
    """Lets so many through a second on average, and a burst at once.

    >>> bucket = Bucket(1.0, burst=2)
    >>> [bucket.takes(at) for at in (0.0, 0.0, 0.0, 1.0)]
    [True, True, False, True]
    """

    def __init__(self, per_second: float, burst: float):
        self._per_second, self._burst = per_second, burst
        self._left, self._last = burst, 0.0

    def takes(self, now: float | None = None) -> bool:
        """Whether one more may pass; `now` is on the clock of `time.monotonic`."""
        now = time.monotonic() if now is None else now
        self._left = min(self._burst, self._left + (now - self._last) * self._per_second)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
