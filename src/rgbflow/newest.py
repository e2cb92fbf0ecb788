"""A bundle that is made anew while it is in use: the newest one is loaded beside the work that goes on."""

import threading
from collections.abc import Callable
from pathlib import Path

from rgbflow.bundle import RECORD
from rgbflow.errors import InputError
from rgbflow.recognizer import Recognizer

SECONDS_BETWEEN_LOOKS = 0.5
ATTEMPTS = 4  # at a bundle that may be half in its place; after them, its fault is reported

Mark = tuple[int, int, int] | None  # of a record: the file, its time and its size


class NewestBundle:
    """Looks at a bundle again and again in its own thread, and loads it when it is another; a context manager.

    Args:
        folder: of the bundle.
        load: loads it.
        report: called with one line when a new bundle can't be loaded; the next one is waited for then.
    """

    def __init__(self, folder: Path, load: Callable[[], Recognizer], report: Callable[[str], None] = lambda line: None):
        self._folder, self._load, self._report = folder, load, report
        self._known = self._mark()
        self._found: Recognizer | None = None
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="rgbflow-newest", daemon=True)

    def __enter__(self) -> "NewestBundle":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._thread.join()

    def take(self) -> Recognizer | None:
        """The recogniser of a bundle that has come since the last call; None if none has."""
        with self._lock:
            found, self._found = self._found, None
            return found

    def _mark(self) -> Mark:
        try:
            status = (self._folder / RECORD).stat()
        except OSError:  # in mid-exchange, or removed
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _run(self) -> None:
        failed = 0
        while not self._closing.wait(SECONDS_BETWEEN_LOOKS):
            mark = self._mark()
            if mark in (None, self._known):
                continue
            try:
                found = self._load()
            except InputError as error:
                failed += 1
                if failed < ATTEMPTS:
                    continue
                self._report(f"the new bundle can't be used, the former one goes on: {error}")
            else:
                with self._lock:
                    self._found = found
            self._known, failed = mark, 0
