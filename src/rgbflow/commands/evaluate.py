"""Commands that measure: evaluate, calibrate, fuse."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rgbflow.commands.flags import Flag, Positional, check_not_read, check_positive
from rgbflow.commands.printing import print_calibration, print_evaluation, print_fused, show
from rgbflow.commands.terminal import track
from rgbflow.errors import InputError
from rgbflow.shown import say
from rgbflow.stream import DEFAULT_FUSION, NUM_SNIPPETS, Crops, EngineName, EnginePrecision, FusionMethod

if TYPE_CHECKING:
    import numpy as np

    from rgbflow.learn.scores import ScoreFile

Snippets = Annotated[
    int | None, Flag(help=f"snippets per clip and stream; {NUM_SNIPPETS} if not given, 5 of video networks.")
]


def evaluate(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Path,
    part: Literal["test", "val"] = "test",
    scores: Annotated[Path | None, Flag(metavar="PATH")] = None,
    report: Annotated[Path | None, Flag(metavar="PATH")] = None,
    snippets: Snippets = None,
    crops: Crops = 1,
    device: str = "auto",
    engine: EngineName = "torch",
    precision: EnginePrecision = "auto",
    json: bool = False,
) -> int:
    """Measure a bundle on one part of its split: each stream and the fusion, with intervals.

    Args:
        bundle: folder from `rgbflow train`, or a Hugging Face Hub id, owner/name.
        store: prepared data set, or a folder in a published JPEG layout.
        split: the split the bundle was trained on.
        part: the part of the split to measure on.
        scores: .npz file to write the scores of every clip to.
        report: HTML file to write the report to.
        snippets: snippets per clip and stream; as many as `predict` takes if not given.
        crops: 1 takes the centre of each snippet; 3 takes also both ends of the longer side;
            10 takes centre and corners, and mirrors each if training mirrored.
        device: auto, cpu, cuda or mps.
        engine: the library that runs the networks. A bundle with weights records only the figures of torch.
        precision: number format to compute in. auto takes the fastest; fp32 gives nearly the same scores everywhere.
        json: print the figures as JSON.
    """
    from rgbflow.bundle import RECORD, weights_file
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.evaluate import evaluate_recognizer, make_report, record_figures
    from rgbflow.learn.report import write_report
    from rgbflow.networks.ready_made import find_bundle
    from rgbflow.recognizer import Recognizer

    check_positive(snippets=snippets)
    folder = find_bundle(bundle)
    recognizer = Recognizer.load(folder, device, engine, partial(say, file=sys.stderr), precision)
    data, parts = open_store(store), load_split(split)
    say(f"engine: {recognizer.engine.name}", file=sys.stderr)
    number = snippets or recognizer.usual_snippets
    with track("evaluating", "clips") as progress:
        evaluation = evaluate_recognizer(recognizer, data, parts, part, number, crops, progress)
    written = {}
    if scores:
        evaluation.save_scores(scores)
        written["scores"] = str(scores)
    if report:
        write_report(report, make_report(evaluation, recognizer, folder, data, title=f"rgbflow: {folder.name}"))
        written["report"] = str(report)
    is_of_weights = (
        recognizer.engine.name.startswith("torch")
        or not weights_file(folder, next(iter(recognizer.bundle.streams))).is_file()
    )
    if Path(bundle).is_dir() and is_of_weights:  # not a copy from the hub
        record_figures(folder, recognizer.bundle, evaluation)
        written["recorded"] = str(folder / RECORD)
    if json:
        show({"bundle": bundle, "part": part, **evaluation.as_dict(), **written}, True)
    else:
        print_evaluation(evaluation)
        for name, path in written.items():
            say(f"{name}: {path}")
    return 0


def calibrate(
    bundle: Annotated[Path, Positional, Flag(metavar="BUNDLE")],
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Path,
    fusion: Literal["auto", FusionMethod] = "auto",
    false_alarm_rate: Annotated[float | None, Flag(metavar="SHARE")] = None,
    snippets: Snippets = None,
    crops: Crops = 1,
    device: str = "auto",
    precision: EnginePrecision = "auto",
    json: bool = False,
) -> int:
    """Fit the fusion, its temperature and the threshold of "unknown" on the val part, and record them in the bundle.

    Args:
        bundle: folder from `rgbflow train`.
        store: prepared data set, or a folder in a published JPEG layout.
        split: the split the bundle was trained on.
        fusion: fusion method; auto takes the product unless another is clearly better on val: docs/fusion.md.
        false_alarm_rate: share of clips of unseen classes that may get a known name, as 0.05; needs split --leave-out.
        snippets: snippets per clip and stream; as many as `predict` takes if not given.
        crops: 1 takes the centre of each snippet; 3 takes also both ends of the longer side;
            10 takes centre and corners, and mirrors each if training mirrored.
        device: auto, cpu, cuda or mps.
        precision: number format torch computes in; auto takes the fastest, as `evaluate` and `predict` do.
        json: print what was fitted as JSON.
    """
    from rgbflow.bundle import RECORD, load_bundle
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.calibrate import calibrate_fusion, record_calibration
    from rgbflow.recognizer import Recognizer

    check_positive(snippets=snippets)
    load_bundle(bundle)  # a Hub id is refused: the fitted numbers are written into the folder
    recognizer = Recognizer.load(bundle, device, "torch", precision=precision)
    data, parts = open_store(store), load_split(split)
    if parts.unknown_val and false_alarm_rate is None:
        say("note: the split leaves classes out; --false-alarm-rate 0.05 would fit a threshold", file=sys.stderr)
    number = snippets or recognizer.usual_snippets
    with track("calibrating", "clips") as progress:
        made = calibrate_fusion(recognizer, data, parts, fusion, false_alarm_rate, number, crops, progress)
    record_calibration(bundle, recognizer.bundle, made)
    if json:
        show({"bundle": str(bundle), **made.as_dict()}, True)
    else:
        print_calibration(made)
        say(f"recorded: {bundle / RECORD}; `rgbflow evaluate` measures it on the test part")
    return 0


def fuse(
    files: Annotated[tuple[Path, ...], Positional, Flag(metavar="SCORES.npz ...")],
    method: FusionMethod = DEFAULT_FUSION,
    fit: bool = False,
    groups: Annotated[Path | None, Flag(metavar="PATH")] = None,
    kind: Literal["auto", "logits", "scores", "sums"] = "auto",
    frames: Annotated[float | None, Flag(metavar="N")] = None,
    out: Annotated[Path | None, Flag(metavar="PATH")] = None,
    json: bool = False,
) -> int:
    """Fuse the streams of score files of any origin; with labels, measure the result.

    Args:
        files: .npz files from `rgbflow evaluate --scores`, or any with `names` (N) and an (N, K) array for each stream;
            `labels` (N, from 0) and `classes` (K) may be there. One file for each stream does too, its clips and
            named classes in any order.
        method: fusion method; average and product work as they are, the others need --fit.
        fit: fit the method and a temperature to the labels; each clip is fused by a fit without the clip's group.
        groups: table with lines clip<TAB>group; not needed for UCF101, where names (v_Class_gNN_cNN) contain the group.
        kind: what the numbers are; auto reads the file's `kind`, or guesses from the numbers where there is none.
        frames: number of frames that each sum was taken over; for --kind sums.
        out: .npz file to write the fused probabilities to.
        json: print the result as JSON.
    """
    if not files:
        raise InputError("no score file given: name at least one .npz file")
    check_not_read(out, (*files, groups))
    from rgbflow.data.layouts import read_groups
    from rgbflow.learn.fusing import clip_groups, fuse_clips
    from rgbflow.learn.scores import ScoreFile, read_scores

    read = read_scores(files, None if kind == "auto" else kind, frames)
    streams = {name: values for file in read for name, values in file.probabilities().items()}
    _print_kinds(files, read, streams)
    names, labels = read[0].names, next((file.labels for file in read if file.labels is not None), None)
    if labels is not None and labels.min() > 0:
        say("note: no clip has label 0; labels count classes from 0", file=sys.stderr)
    of_clips = clip_groups(names, read_groups(groups) if groups else None)
    fused = fuse_clips(streams, names, labels, of_clips, method, fit)
    num_groups = len(set(of_clips))
    if fused.compared and num_groups == len(names):
        say("note: each clip counts as its own group; --groups says which clips share a source", file=sys.stderr)
    if out:
        classes = next((file.classes for file in read if file.classes), ())
        ScoreFile(names, classes, labels, {"fused": fused.scores}, "scores").save(out)
    if json:
        result = {
            "clips": len(names),
            "groups": num_groups,
            "kinds": {name: file.kind for file in read for name in file.streams},
            "figures": {name: row.as_dict() for name, row in fused.figures.items()},
            "fusion": fused.fusion.as_dict(),
            "fusions": [row.as_dict() for row in fused.compared],
            "out": str(out or ""),
        }
        show(result, True)
        return 0
    print_fused(fused, len(names), num_groups)
    if out:
        say(f"fused: {out}")
    return 0


def _print_kinds(files: Sequence[Path], read: "Sequence[ScoreFile]", streams: "Mapping[str, np.ndarray]") -> None:
    """Print to standard error how each file was read, and a warning where that saturates the softmax."""
    from rgbflow.learn.scores import SATURATED, saturated_share

    for path, file in zip(files, read, strict=True):
        over = f" over {file.frames:g} frames" if file.kind == "sums" else ""
        say(f"{path}: {', '.join(file.streams)} read as {file.kind}{over}", file=sys.stderr)
        for name in file.streams:
            share = saturated_share(streams[name])
            if file.kind == "logits" and share > 0.5:
                hint = "if they are sums over frames, pass --kind sums --frames N"
                say(f"warning: {name} is above {SATURATED} in {share:.0%} of the clips: {hint}", file=sys.stderr)
