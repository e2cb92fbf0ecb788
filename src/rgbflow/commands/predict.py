"""The command that labels videos."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from rgbflow.commands.flags import Flag, Positional, check_positive, exit_code
from rgbflow.commands.printing import show_prediction, show_timeline
from rgbflow.errors import InputError
from rgbflow.shown import say
from rgbflow.stream import NUM_SNIPPETS, WINDOW_SNIPPETS, Crops, EngineName, EnginePrecision


def predict(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    videos: Annotated[tuple[str, ...], Positional, Flag(metavar="VIDEO ...")],
    top: int | None = None,
    overlay: Annotated[Path | None, Flag(metavar="PATH")] = None,
    why: bool = False,
    timeline: bool = False,
    window: float | None = None,
    step: float | None = None,
    snippets: Annotated[
        int | None,
        Flag(
            help=f"snippets per stream and clip ({NUM_SNIPPETS} if not given, 5 of video networks) or per window "
            f"({WINDOW_SNIPPETS}, 1 of video networks)."
        ),
    ] = None,
    crops: Crops = 1,
    device: str = "auto",
    engine: EngineName | None = None,
    precision: EnginePrecision = "auto",
    json: bool = False,
) -> int:
    """Label video files with the action they show.

    Args:
        bundle: folder from `rgbflow train`, a Hugging Face Hub id, owner/name, or kinetics:s3d and its like.
        videos: video files.
        top: how many classes to print; 5 if not given.
        overlay: file to write a copy of the video to, with the label and score bars drawn in; for one VIDEO.
        why: show in the overlay where each stream found the answer, as class activation maps over frame and flow.
        timeline: slide a window over a long video and print labelled segments instead of one label.
        window: length in seconds of the window of --timeline; 2 if not given.
        step: seconds that the window of --timeline moves each time; 0.5 if not given.
        snippets: snippets per stream and clip (NUM_SNIPPETS if not given) or per window (WINDOW_SNIPPETS).
        crops: 1 takes the centre of each snippet; 3 takes also both ends of the longer side;
            10 takes centre and corners, and mirrors each if training mirrored.
        device: auto, cpu, cuda or mps.
        engine: library that runs the networks; auto takes the fastest that gives the scores of torch: docs/export.md.
            Without --engine, --why and more crops use torch, all else auto.
        precision: number format the engine computes in; auto takes the fastest.
        json: print the answers as JSON, one line per video.
    """
    if not videos:
        raise InputError("no VIDEO given: name at least one file")
    if overlay and len(videos) > 1:
        raise InputError(f"--overlay {overlay} is for one video, but {len(videos)} were given: name one at a time")
    if why and not overlay:
        raise InputError("--why draws into the overlay video: add --overlay PATH")
    if why and timeline:
        raise InputError("--why explains one label, but --timeline gives one for each segment: leave one of them out")
    if timeline and top:
        raise InputError(f"--top {top} is not for --timeline, which prints one label for each segment")
    if not timeline and not (window is None and step is None):
        raise InputError("--window and --step are for --timeline: add --timeline, or leave them out")
    check_positive(top=top, snippets=snippets)
    window, step = 2.0 if window is None else window, 0.5 if step is None else step
    from rgbflow.overlay import write_overlay
    from rgbflow.recognizer import Recognizer
    from rgbflow.why import write_why

    chosen = engine or ("torch" if why or crops != 1 else "auto")
    recognizer = Recognizer.load(bundle, device, chosen, partial(say, file=sys.stderr), precision)
    failed = 0
    for video in videos:
        try:
            if timeline:
                line = recognizer.timeline(video, window, step, snippets, crops)
                draw = partial(write_overlay, Path(video), line.windows)
                show_timeline(video, line, json)
            elif why:
                explanation = recognizer.explain(video, snippets, crops)
                draw = partial(write_why, Path(video), explanation, recognizer.bundle.preparation)
                show_prediction(video, explanation.prediction, top or 5, recognizer.engine.name, json)
            else:
                prediction = recognizer.predict(video, snippets, crops)
                draw = partial(write_overlay, Path(video), [prediction])
                show_prediction(video, prediction, top or 5, recognizer.engine.name, json)
            if overlay:
                draw(overlay)
                say(f"overlay: {overlay}", file=sys.stderr)
        except InputError as error:  # the other videos still get their label
            say(f"rgbflow: {error}", file=sys.stderr)
            failed += 1
    return exit_code(failed, len(videos))
