"""Limits on what one client, and all clients together, may ask of the service."""

import time
from dataclasses import dataclass, field

from rgbflow.guard import Allowance

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The usual limits; a `Service` can be made with others.

    Attributes:
        sessions: open sessions at the same time.
        frame_bytes: bytes of one picture.
        frame_pixels: pixels of one picture, width times height; its header is checked before it is decoded.
        frame_side: the fewest pixels of its shorter side.
        text_bytes: bytes of one JSON message of a client.
        messages_per_second: messages that a session may send; twice as many in a burst.
        send_seconds: seconds that a client may take to read a message.
        requests_per_second: HTTP requests from one address; ten times as many in a burst.
        upload_bytes: bytes of one video.
        upload_seconds: seconds that an upload may take.
        chunk_seconds: seconds that an upload may pause.
        uploads: uploads that arrive, wait or are processed at the same time; one is processed at a time.
        allowance: the resources that decoding a video may use.
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
    uploads: int = 4
    allowance: Allowance = field(default_factory=lambda: Allowance(seconds=60, max_frames=10_000, max_pixels=1 << 24))


class Bucket:
    """Lets a number of calls per second through on average, and a burst at once.

    >>> bucket = Bucket(1.0, burst=2)
    >>> [bucket.takes(at) for at in (0.0, 0.0, 0.0, 1.0)]
    [True, True, False, True]
    """

    def __init__(self, per_second: float, burst: float):
        self._per_second, self._burst = per_second, burst
        self._left, self._last = burst, 0.0

    def takes(self, now: float | None = None) -> bool:
        """Whether one more call may pass; `now` is on the clock of `time.monotonic`."""
        now = time.monotonic() if now is None else now
        self._left = min(self._burst, self._left + (now - self._last) * self._per_second)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
