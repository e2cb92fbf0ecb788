"""The command that labels videos."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from rgbflow.commands.flags import Flag, Positional, check_positive, exit_code
from rgbflow.commands.printing import show_prediction, show_timeline
from rgbflow.errors import InputError
from rgbflow.stream import NUM_SNIPPETS, WINDOW_SNIPPETS, Crops, EngineName, EnginePrecision


def predict(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    videos: Annotated[tuple[Path, ...], Positional, Flag(metavar="VIDEO ...")],
    top: int | None = None,
    overlay: Annotated[Path | None, Flag(metavar="PATH")] = None,
    why: bool = False,
    timeline: bool = False,
    window: float | None = None,
    step: float | None = None,
    snippets: Annotated[
        int | None,
        Flag(
            help=f"per stream and clip ({NUM_SNIPPETS} if not given, of video networks 5) or window "
            f"({WINDOW_SNIPPETS}, of video networks 1)."
        ),
    ] = None,
    crops: Crops = 1,
    device: str = "auto",
    engine: EngineName | None = None,
    precision: EnginePrecision = "auto",
    json: bool = False,
) -> int:
    """Label videos.

    Args:
        bundle: folder from `rgbflow train`, a Hugging Face Hub id, owner/name, or kinetics:s3d and its like.
        videos: files.
        top: how many classes to print; 5 if not given.
        overlay: video to write with the label and score bars drawn in; for one VIDEO.
        why: show in the overlay where each stream found the answer: class activation maps over its frame and its flow.
        timeline: slide over a long video and print segments instead of one label.
        window: of --timeline, seconds; 2 if not given.
        step: of --timeline, seconds; 0.5 if not given.
        snippets: per stream and clip, or window.
        crops: of each snippet: 1, the centre; 3, also both ends of the longer side; 10, centre and corners, each also
            mirrored if training did so.
        device: auto, cpu, cuda or mps.
        engine: auto takes the fastest on a CPU of torch and of OpenVINO and ONNX Runtime, if `rgbflow export` made
            their files and their scores are those of torch; torch if not given with --why or more crops, else auto.
        precision: what the engine computes in; auto takes the fastest it has.
        json: print the answers as JSON, one line per video.
    """
    if not videos:
        raise InputError("no VIDEO given: name at least one file")
    if overlay and len(videos) > 1:
        raise InputError(f"--overlay {overlay} is for one video, but {len(videos)} were given: call once for each")
    if why and not overlay:
        raise InputError("--why draws into the overlay video: add --overlay PATH")
    if why and timeline:
        raise InputError("--why is for one label, --timeline gives one for each segment: leave one out")
    if timeline and top:
        raise InputError(f"--top {top} is not for --timeline, which prints one label for each segment")
    if not timeline and not (window is None and step is None):
        raise InputError("--window and --step are for --timeline: add it, or leave them out")
    check_positive(top=top, snippets=snippets)
    window, step = 2.0 if window is None else window, 0.5 if step is None else step
    from rgbflow.overlay import write_overlay
    from rgbflow.recognizer import Recognizer
    from rgbflow.why import write_why

    chosen = engine or ("torch" if why or crops != 1 else "auto")
    recognizer = Recognizer.load(bundle, device, chosen, partial(print, file=sys.stderr), precision)
    failed = 0
    for video in videos:
        try:
            if timeline:
                line = recognizer.timeline(video, window, step, snippets, crops)
                draw = partial(write_overlay, video, line.windows)
                show_timeline(video, line, json)
            elif why:
                explanation = recognizer.explain(video, snippets, crops)
                draw = partial(write_why, video, explanation, recognizer.bundle.preparation)
                show_prediction(video, explanation.prediction, top or 5, recognizer.engine.name, json)
            else:
                prediction = recognizer.predict(video, snippets, crops)
                draw = partial(write_overlay, video, [prediction])
                show_prediction(video, prediction, top or 5, recognizer.engine.name, json)
            if overlay:
                draw(overlay)
                print(f"overlay: {overlay}", file=sys.stderr)
        except InputError as error:  # the other videos still get their label
            print(f"rgbflow: {error}", file=sys.stderr)
            failed += 1
    return exit_code(failed, len(videos))
