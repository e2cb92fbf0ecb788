"""The command that recognises what a camera sees."""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rgbflow.commands.flags import Flag, Positional
from rgbflow.errors import InputError
from rgbflow.shown import say
from rgbflow.stream import EngineName, EnginePrecision

if TYPE_CHECKING:
    from rgbflow.live.feed import Feed
    from rgbflow.live.outlets import Outlet
    from rgbflow.live.session import LiveRecognizer
    from rgbflow.newest import NewestBundle
    from rgbflow.recognizer import Recognizer


def live(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    source: str = "0",
    osc: Annotated[str | None, Flag(metavar="HOST:PORT")] = None,
    osc_map: Annotated[Path | None, Flag(metavar="FILE")] = None,
    jsonl: Annotated[Path | None, Flag(metavar="FILE")] = None,
    window: float | None = None,
    start_score: float | None = None,
    end_score: float | None = None,
    min_seconds: float = 0.5,
    updates_per_second: float | None = None,
    device: str = "auto",
    engine: EngineName = "auto",
    precision: EnginePrecision = "auto",
) -> int:
    """Recognise what a camera sees, live.

    Ctrl-C ends the command. A bundle that `teach --watch` makes anew meanwhile is used at once. On a terminal it shows
    the likeliest classes and the time of each stage; elsewhere it prints a line when an action starts and when it ends.

    Args:
        bundle: folder from `rgbflow train`, a Hugging Face Hub id, owner/name, or kinetics:s3d and its like.
        source: number of a camera (or /dev/video0), a file (played at its own speed), or an address (rtsp, http).
        osc: host and port to send labels, scores and events to as OSC messages.
        osc_map: file that maps actions to OSC addresses and values, as for VRChat; only these are then sent.
        jsonl: file to append one line of JSON to for each update and event.
        window: length in seconds of the window that scores are computed over; if not given 2, or the length of a
            snippet if that is longer.
        start_score: an action starts when its score reaches this value; by default the bundle's "unknown" threshold,
            or, without one, twice the score of an even guess and at most 0.5. A lower value lowers the threshold too.
        end_score: an action ends when its score falls below this value; 0.6 of --start-score if not given.
        min_seconds: actions shorter than this, and shorter breaks within an action, are not reported.
        updates_per_second: the most updates per second; one update per frame if not given.
        device: auto, cpu, cuda or mps.
        engine: library that runs the networks; auto takes the fastest that gives the scores of torch: docs/export.md.
        precision: number format the engine computes in; auto takes the fastest.
    """
    from rich.console import Console

    from rgbflow.live.camera import capture, is_address, is_device, without_password
    from rgbflow.live.dashboard import Dashboard, Lines
    from rgbflow.live.events import EventRules
    from rgbflow.live.feed import Feed
    from rgbflow.live.session import LiveRecognizer
    from rgbflow.newest import NewestBundle
    from rgbflow.recognizer import Recognizer

    if osc_map and not osc:
        raise InputError(f"--osc-map {osc_map} needs --osc HOST:PORT: 127.0.0.1:9000 is VRChat's")
    with ExitStack() as stack:
        outlets = _open_outlets(osc, osc_map, jsonl, stack)

        def load() -> Recognizer:
            return Recognizer.load(bundle, device, engine, _note, precision)

        def begin(recognizer: Recognizer) -> LiveRecognizer:
            known = len(recognizer.bundle.classes), recognizer.bundle.fusion.threshold
            rules = EventRules.suited_to(*known, start_score, end_score, min_seconds)
            return recognizer.live(window, updates_per_second, rules)

        newest = NewestBundle(Path(bundle), load, _note)  # before the bundle is loaded: it may change meanwhile
        recognizer = load()
        sessions = _Sessions(newest, begin, begin(recognizer))
        if not recognizer.bundle.knows_frame_rate:
            rate = recognizer.bundle.frame_rate
            _note(f"{bundle} does not record its training frame rate: {rate:g} frames per second are assumed")
        console = Console()
        may_return = is_device(source) or is_address(source)
        feed = stack.enter_context(Feed(lambda: capture(source), may_return, report=_note))
        view = (
            stack.enter_context(Dashboard(feed, without_password(source), console)) if console.is_terminal else Lines()
        )
        stack.enter_context(newest)
        _send_updates(sessions, feed, [*outlets, view])
    skipped = f", {feed.skipped} because decoding is slower than the source" if feed.skipped else ""
    _note(f"{feed.received} frames received, {feed.dropped} of them dropped{skipped}; engine {recognizer.engine.name}")
    return 0


def _open_outlets(osc: str | None, osc_map: Path | None, jsonl: Path | None, stack: ExitStack) -> "list[Outlet]":
    """What the flags ask to send updates to; the stack closes it."""
    from rgbflow.live.osc import open_osc
    from rgbflow.live.outlets import JsonLines

    outlets: list[Outlet] = [open_osc(osc, osc_map)] if osc else []
    outlets += [JsonLines(jsonl)] if jsonl else []
    for outlet in outlets:
        stack.callback(outlet.close)
    return outlets


def _send_updates(sessions: "_Sessions", feed: "Feed", outlets: "Sequence[Outlet]") -> None:
    """Send each update to the outlets until the source ends or Ctrl-C, and then the end of the current action."""
    from rgbflow.live.watch import watch

    try:
        for update in watch(sessions.current, feed, _note, sessions.newer):
            for outlet in outlets:
                outlet.send(update)
    except KeyboardInterrupt:
        pass  # the usual end
    finally:  # a camera that failed leaves no action without an end
        ended = sessions.current.finish()
        for outlet in outlets:
            outlet.send_events(ended)


class _Sessions:
    """The session that recognises now: after a bundle was made anew, another.

    Args:
        newest: looks for a new bundle.
        begin: makes a session of a recogniser.
        current: the first session.
    """

    def __init__(
        self, newest: "NewestBundle", begin: Callable[["Recognizer"], "LiveRecognizer"], current: "LiveRecognizer"
    ):
        self._newest, self._begin, self.current = newest, begin, current

    def newer(self) -> "LiveRecognizer | None":
        """The session of a bundle that has come since the last call; None if none has."""
        if (found := self._newest.take()) is None:
            return None
        self.current = self._begin(found)
        _note(f"going on with the new bundle: {', '.join(found.bundle.classes)}")
        return self.current


def _note(line: str) -> None:
    say(f"rgbflow: {line}", file=sys.stderr)
