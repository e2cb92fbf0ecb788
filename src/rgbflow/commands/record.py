"""The command that records takes."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rgbflow.commands.flags import Flag, Positional, check_positive
from rgbflow.commands.printing import show
from rgbflow.errors import InputError
from rgbflow.shown import say

if TYPE_CHECKING:
    from rgbflow.learn.recording import Answer, Recorded, Recorder
    from rgbflow.live.feed import Feed
    from rgbflow.video.reading import Frame

KEYS: dict[str, Answer] = {"": "next", "n": "next", "a": "again", "d": "delete", "q": "end"}


def record(
    name: Annotated[str, Positional, Flag(metavar="NAME")],
    out: Annotated[Path, Flag(metavar="TAKES")],
    source: str = "0",
    takes: int | None = None,
    seconds: float = 2.0,
    pause: float = 3.0,
    at: tuple[float, ...] = (),
    none: bool = True,
    group: str = "",
    json: bool = False,
) -> int:
    """Record takes of an action, for `teach`: from a camera, or cut out of a long recording.

    With a camera, each take follows a countdown. On a terminal, Enter goes on to the next take; a takes the same take
    again, d deletes it, q ends. Files that are there stay as they are.

    Args:
        name: of the action; "none" for recordings of no action.
        out: folder of all takes; they become TAKES/NAME/take-001.mp4 and so on.
        source: number of a camera (or /dev/video0), an address (rtsp, http), or a file, which is not played but cut.
        takes: number of takes; 5 if not given, of a file as many as it has.
        seconds: length of each take.
        pause: seconds before each take.
        at: seconds at which takes begin in a file; if not given, a take follows each pause.
        none: keep what lies between the takes too, as recordings of no action in TAKES/none.
        group: the person or place that the takes show, for TAKES/groups.tsv.
        json: print the files as JSON.
    """
    from rgbflow.learn.recording import Recorder
    from rgbflow.learn.takes import NONE_NAMES
    from rgbflow.live.camera import is_address, is_device
    from rgbflow.video.reading import decode

    check_positive(takes=takes)
    for flag, value, least in (("seconds", seconds, 0.2), ("pause", pause, 0.0)):
        if not least <= value <= 600:
            raise InputError(f"--{flag} ({value:g}) must be {least:g} to 600: give another number of seconds")
    recorder = Recorder(out, name, seconds, none, group)
    if is_device(source) or is_address(source):
        if at:
            raise InputError(f"--at is for files, and {source} is a camera: leave it out")
        recorded = _film(recorder, source, pause, takes or 5)
    else:
        recorded = recorder.cut(decode(source), at or None, pause, takes)
    for note in recorded.notes:
        say(f"rgbflow: {note}", file=sys.stderr)
    _print(recorded, out / name, out / NONE_NAMES[0], json)
    if not recorded.takes:
        raise InputError(f"{source} holds no whole take of {seconds:g} s: use a longer recording, or a shorter --pause")
    return 0


def _print(recorded: Recorded, folder: Path, none: Path, as_json: bool) -> None:
    if as_json:
        show({"takes": list(map(str, recorded.takes)), "none": list(map(str, recorded.between))}, True)
        return
    between = f", {len(recorded.between)} recordings of no action in {none}" if recorded.between else ""
    say(f"{len(recorded.takes)} takes in {folder}{between}")


def _film(recorder: Recorder, source: str, pause: float, takes: int) -> Recorded:
    from rgbflow.live.camera import capture
    from rgbflow.live.feed import Feed

    with Feed(lambda: capture(source), reopens=False) as feed:
        return recorder.film(_frames(feed), pause, takes, _asker(takes), _Countdown().tell)


def _frames(feed: Feed) -> Iterator[Frame]:
    from rgbflow.video.reading import Frame

    while (arrival := feed.take()) is not None:
        yield Frame(arrival.pixels, arrival.pts_seconds)


def _asker(takes: int) -> Callable[[Path, int], Answer]:
    """Asks on a terminal; elsewhere, takes follow each other."""
    is_terminal = sys.stdin is not None and sys.stdin.isatty()

    def ask(path: Path, number: int) -> Answer:
        say(f"take {number} of {takes}: {path}")
        while is_terminal:
            say("Enter: go on, a: again, d: delete, q: end", file=sys.stderr)
            key = sys.stdin.readline()
            if not key:  # the terminal has gone
                return "end"
            if (answer := KEYS.get(key.strip().lower())) is not None:
                return answer
        return "next"

    return ask


class _Countdown:
    """Prints each second that is left, and when the take begins."""

    def __init__(self):
        self._shown = 0

    def tell(self, seconds_left: float) -> None:
        shown = math.ceil(seconds_left)
        if shown != self._shown:
            say(f"{shown} ..." if shown else "now", file=sys.stderr)
            self._shown = shown
