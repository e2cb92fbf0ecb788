"""A source read by its own thread; only the newest frame waits."""

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

from rgbflow.errors import InputError
from rgbflow.live.camera import Arrival
from rgbflow.video.reading import CutOffError


class Feed:
    """Reads frames as they come and keeps only the newest; a context manager.

    Args:
        open_source: opens the source, as `camera.capture` does; called again each time the source fails.
        reopens: whether to wait for a source that fails after its first frame; False, as for a file, ends the feed. So
            does a recording that lacks its end.
        retry_seconds: seconds between two attempts to open the source.
        report: called with one line when the source is gone, when it is back, and when it sends faster than frames can
            be decoded.

    Attributes:
        received: frames that came.
        dropped: frames that a newer one replaced before they were taken, and those that were skipped.
        skipped: frames that were not decoded, because decoding is slower than the source.
        lost: number of times that the source failed.
        trouble: the reason why no frames come at the moment; empty while frames come.
    """

    def __init__(
        self,
        open_source: Callable[[], Generator[Arrival]],
        reopens: bool = True,
        retry_seconds: float = 1.0,
        report: Callable[[str], None] = lambda line: None,
    ):
        self.received = self.dropped = self.skipped = self.lost = 0
        self.trouble = ""
        self._open, self._reopens, self._retry_seconds, self._report = open_source, reopens, retry_seconds, report
        self._waiting: Arrival | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._is_over = False
        self._last: Arrival | None = None
        self._thread = threading.Thread(target=self._run, name="rgbflow-feed", daemon=True)
        self._thread.start()

    def take(self) -> Arrival | None:
        """Wait for a frame that was not taken yet and return the newest; None when the source has ended.

        Its `pts_seconds` continues when the source is opened again.

        Raises:
            InputError: if the source can't be opened at first, or fails without `reopens`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None or self._is_over)
            taken, self._waiting = self._waiting, None
            if taken is None and self._error is not None:
                raise self._error
            return taken

    def close(self) -> None:
        """Stop reading. If a source hangs, its thread is left behind and ends with the process."""
        self._closing.set()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()
        self._thread.join(timeout=1.0)

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                try:
                    self._read()
                    break
                except InputError as error:
                    if isinstance(error, CutOffError) or not (self._reopens and self.received):
                        raise
                    if not self.trouble:  # attempts that fail in a row are one loss
                        self.lost += 1
                        self._report(f"{error}; waiting for it")
                    self.trouble = str(error)
                    self._closing.wait(self._retry_seconds)
        except Exception as error:  # raised where the frames are taken
            self._error = error
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _read(self) -> None:
        """Read the source until it ends or fails; after reopening, its times continue from before."""
        offset = None
        with closing(self._open()) as frames:
            for frame in frames:
                if self._closing.is_set():
                    return
                if offset is None:
                    before = self._last or frame
                    # What is sent anew at the opening may have come before the last one did: time doesn't go back.
                    offset = before.pts_seconds + max(0.0, frame.arrived - before.arrived) - frame.pts_seconds
                self._put(replace(frame, pts_seconds=frame.pts_seconds + offset))

    def _put(self, arrival: Arrival) -> None:
        if self.trouble:
            self._report("the source is back")
        if arrival.skipped and not self.skipped:
            self._report("frames come faster than they can be decoded, so some are skipped: use a smaller picture")
        with self._changed:
            self.received += 1 + arrival.skipped
            self.trouble = ""
            self.skipped += arrival.skipped
            self.dropped += (self._waiting is not None) + arrival.skipped
            self._waiting = self._last = arrival
            self._changed.notify()
