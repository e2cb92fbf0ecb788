"""The command that recognises what a camera sees."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from rgbflow.commands.flags import Flag, Positional
from rgbflow.stream import EngineName, EnginePrecision


def live(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    source: str = "0",
    osc: Annotated[str | None, Flag(metavar="HOST:PORT")] = None,
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

    Ctrl-C ends it. On a terminal it shows the likeliest classes and the time of each stage; elsewhere it prints a line
    for each start and end of an action.

    Args:
        bundle: folder from `rgbflow train`, or a Hugging Face Hub id, owner/name.
        source: number of a camera (or /dev/video0), a file (played at its own speed), or an address (rtsp://...,
            http://...).
        osc: send labels, scores and events there by OSC.
        jsonl: file that a line of JSON is appended to for each update and event.
        window: the scores are those of the last so many seconds; if not given 2, or as long as a snippet is.
        start_score: an action starts when its score reaches this; if not given, the bundle's "unknown" threshold, or
            where it has none twice an even guess, at most 0.5.
        end_score: it ends when its score falls below this; 0.6 of --start-score if not given.
        min_seconds: what is shorter, an action or a break in one, is not reported.
        updates_per_second: at most so many; one for each frame if not given.
        device: auto, cpu, cuda or mps.
        engine: auto takes the fastest on a CPU of torch and of OpenVINO and ONNX Runtime, if `rgbflow export` made
            their files and their scores are those of torch.
        precision: what the engine computes in; auto takes the fastest it has.
    """
    from rich.console import Console

    from rgbflow.live.camera import capture, is_address, is_device, without_password
    from rgbflow.live.dashboard import Dashboard, Lines
    from rgbflow.live.events import EventRules
    from rgbflow.live.feed import Feed
    from rgbflow.live.outlets import JsonLines, Osc, Outlet
    from rgbflow.live.watch import watch
    from rgbflow.recognizer import Recognizer

    with ExitStack() as stack:
        outlets: list[Outlet] = [Osc(osc)] if osc else []
        outlets += [JsonLines(jsonl)] if jsonl else []
        for outlet in outlets:
            stack.callback(outlet.close)
        recognizer = Recognizer.load(bundle, device, engine, _note, precision)
        known = len(recognizer.bundle.classes), recognizer.bundle.fusion.threshold
        rules = EventRules.suited_to(*known, start_score, end_score, min_seconds)
        session = recognizer.live(window, updates_per_second, rules)
        if not recognizer.bundle.knows_frame_rate:
            rate = recognizer.bundle.frame_rate
            _note(f"{bundle} does not say which frame rate it was trained at: {rate:g} frames a second are assumed")
        console = Console()
        may_return = is_device(source) or is_address(source)
        feed = stack.enter_context(Feed(lambda: capture(source), may_return, report=_note))
        view = (
            stack.enter_context(Dashboard(feed, without_password(source), console)) if console.is_terminal else Lines()
        )
        outlets.append(view)
        try:
            for update in watch(session, feed, _note):
                for outlet in outlets:
                    outlet.send(update)
        except KeyboardInterrupt:
            pass  # the usual end
        finally:  # a camera that failed leaves no action without an end
            ended = session.finish()
            for outlet in outlets:
                outlet.send_events(ended)
    skipped = f", {feed.skipped} because decoding takes longer than they come" if feed.skipped else ""
    _note(f"{feed.received} frames came, {feed.dropped} of them were dropped{skipped}; engine {recognizer.engine.name}")
    return 0


def _note(line: str) -> None:
    print(f"rgbflow: {line}", file=sys.stderr, flush=True)
