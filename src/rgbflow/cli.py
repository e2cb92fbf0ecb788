"""The command line: a table from command to function. What takes long to import is imported inside the functions."""

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig, load_config, with_algorithm
from rgbflow.learn.presets import LITE, STRONG
from rgbflow.paper.presets import Scale, table_i
from rgbflow.printing import (
    print_ablation,
    print_calibration,
    print_evaluation,
    print_fig4,
    print_figures,
    print_plan,
    print_table2,
    show,
    show_prediction,
    show_timeline,
)
from rgbflow.stream import STREAMS, Algorithm, Crops, DisPreset, FlowMethod, FlowSettings, Preparation, Stream

Flag = tyro.conf.arg
Positional = tyro.conf.Positional
PresetName = Literal["paper", "strong", "lite"]
EXIT_FAILED, EXIT_SOME_FAILED = 1, 3
RESUMING = ("fetch", "prepare", "train", "ablate", "paper", "demo")  # commands that go on where they were stopped
NOTES_SHOWN = 10  # of `check`: many files have the same harmless oddity


def prepare(
    videos: Annotated[Path, Positional, Flag(metavar="VIDEOS")],
    out: Path,
    flow: FlowMethod = FlowSettings.method,
    preset: DisPreset = FlowSettings.preset,
    bound: float = FlowSettings.bound,
    flow_reduction: Annotated[int, Flag(metavar="{0,1,2,4}")] = FlowSettings.reduction,
    short_side: int = Preparation.short_side,
    frame_rate: Annotated[float | None, Flag(metavar="FPS")] = Preparation.frame_rate,
    jpeg_quality: Annotated[int | None, Flag(metavar="1…100|None")] = Preparation.jpeg_quality,
    groups: Annotated[Path | None, Flag(metavar="PATH")] = None,
    workers: int = 0,
    verify: bool = False,
    plan: bool = False,
    cluster: Annotated[str | None, Flag(metavar="ADDRESS")] = None,
    json: bool = False,
) -> int:
    """Prepare a folder of videos for training: frames and optical flow, once.

    Args:
        videos: folder of class folders, VIDEOS/<Class>/<clip>.avi.
        out: folder of the prepared data set; what is there already and still right is kept.
        flow: method of optical flow.
        preset: of DIS: speed against detail.
        bound: largest displacement kept, in pixels per frame step at the working size.
        flow_reduction: flow is kept at 1/N of the working size; 0 is what loses least for the bytes: docs/data.md.
        short_side: working size: pixels of the shorter side.
        frame_rate: frames per second to resample to, by time; None keeps every frame.
        jpeg_quality: of the stored frames and flow; None loses nothing and takes half as much space again.
        groups: table of groups, Class/clip.avi<TAB>group; VIDEOS/groups.tsv is found by itself.
        workers: processes; 0 is one per core.
        verify: prepare every clip twice and compare what is read back; what differs is written again.
        plan: measure a few clips, print what the whole takes in core-hours and gigabytes, and write nothing.
        cluster: Ray cluster that does the work: auto, host:6379 or ray://host:10001; it sees the same paths.
        json: print the result as JSON.
    """
    from rgbflow.data.layouts import read_class_folders, read_groups
    from rgbflow.data.plan import NUM_CLIPS
    from rgbflow.data.plan import plan as measure
    from rgbflow.data.store import OK, prepare
    from rgbflow.progress import Pace, track

    if flow != "dis" and preset != FlowSettings.preset:
        raise InputError(f"--preset {preset} is for --flow dis, not {flow}: leave it out")
    if workers < 0:
        raise InputError(f"--workers ({workers}) must not be negative: 0 is one per core")
    if cluster and workers:
        raise InputError(
            f"--workers {workers} is for this machine, --cluster uses every core of its own: leave one out"
        )
    if plan and (verify or cluster):
        raise InputError("--plan measures on this machine and writes nothing: leave --verify and --cluster out")
    preparation = Preparation(short_side, FlowSettings(flow, preset, bound, flow_reduction), jpeg_quality, frame_rate)
    sources = read_class_folders(videos, read_groups(groups) if groups else None)
    if plan:
        with track("measuring", min(NUM_CLIPS, len(sources)), "clips") as tracker:
            planned = measure(sources, preparation, on_clip=lambda row: tracker.advance())
        show(
            planned.as_dict(),
            json,
            "{clips} clips, about {frames} frames: {core_hours:.2g} core-hours (± {error_percent:.0f} %), "
            "{gigabytes:.2g} GB; measured on {measured} clips, of which {failed} failed",
        )
        return 0
    with track("preparing", len(sources), "clips") as tracker:
        pace = Pace()
        rows = prepare(
            sources,
            out,
            preparation,
            workers or os.cpu_count() or 1,
            on_clip=lambda row: tracker.advance(pace.note(row.frames, row.status != OK)),
            verify=verify,
            cluster=cluster,
        )
    failed = [row for row in rows if row.status != OK]
    result = {
        "store": str(out),
        "clips": len(rows) - len(failed),
        "frames": sum(row.frames for row in rows),
        "classes": len({row.label for row in rows}),
        "groups": len({row.group for row in rows}),
        "failed": {row.clip: row.status for row in failed},
    }
    show(result, json, "{store}: {clips} clips of {classes} classes and {groups} groups, {frames} frames")
    for row in failed:
        print(f"set aside: {row.status}", file=sys.stderr)
    return exit_code(len(failed), len(rows))


def split(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    out: Path,
    protocol: Literal["group", "paper", "official-1", "official-2", "official-3"] = "group",
    seed: int = 0,
    groups: Annotated[Path | None, Flag(metavar="PATH")] = None,
    holdout: Annotated[tuple[str, ...], Flag(metavar="NAME ...")] = (),
    lists: Annotated[Path | None, Flag(metavar="PATH")] = None,
    leave_out: Annotated[tuple[str, ...], Flag(metavar="CLASS ...")] = (),
    json: bool = False,
) -> int:
    """Divide a prepared data set into train, val and test, and say how much leaks between them.

    Args:
        store: prepared data set, a folder in a published JPEG layout, or a folder of UCF101's lists.
        out: file to write, split.json.
        protocol: group: 6:2:2, no group on two sides. paper: 6:2:2 over clips. official-N: UCF101's lists.
        seed: of the draw.
        groups: table of groups, Class/clip.avi<TAB>group, instead of the store's.
        holdout: groups that make up the test part; with protocol group.
        lists: folder of UCF101's lists; for official-N.
        leave_out: classes that are not to be known, two or more; to fit and test "unknown" with.
        json: print the result as JSON.
    """
    from rgbflow.data.splits import is_lists, make_split, read_lists

    lists_alone = is_lists(store)
    if lists_alone and groups:
        raise InputError(f"--groups {groups} is for a prepared data set: UCF101's names give their groups themselves")
    clips = read_lists(store) if lists_alone else _clips_of_store(store, groups)
    made = make_split(clips, protocol, seed, holdout, store if lists_alone else lists, leave_out)
    made.save(out)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    result = {
        "split": str(out),
        "protocol": protocol,
        "train": len(made.train),
        "val": len(made.val),
        "test": len(made.test),
        "leak_percent": made.leak_percent,
    }
    line = (
        "{split}: {train} train, {val} val, {test} test clips ({protocol}); "
        "{leak_percent:.1f} % of the test clips share a group with a training clip"
    )
    if leave_out:
        result |= {"unknown_val": len(made.unknown_val), "unknown_test": len(made.unknown_test)}
        line += "; of classes left out {unknown_val} for val, {unknown_test} for test"
    show(result, json, line)
    return 0


def train(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Path,
    stream: Literal["rgb", "flow"],
    out: Path,
    settings: Annotated[TrainConfig, Flag(name="")],
    preset: PresetName | None = None,
    config: Annotated[Path | None, Flag(metavar="PATH")] = None,
    replace: bool = False,
    json: bool = False,
) -> int:
    """Train one stream and put it into a bundle; run it again after a kill and it goes on.

    Args:
        store: prepared data set, or a folder in a published JPEG layout.
        split: from `rgbflow split`.
        stream: which network; train both into one bundle for the fusion.
        out: the bundle's folder.
        settings: every field of TrainConfig.
        preset: settings to start from; paper: Table I and nothing else; strong: what makes it more accurate;
            lite: the same for a machine without a GPU.
        config: TOML file with fields of TrainConfig; it wins over the preset, flags win over both.
        replace: train a stream anew that the bundle holds already.
        json: print the result as JSON.
    """
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.train import train
    from rgbflow.progress import track

    tell = partial(print, file=sys.stderr)
    data, parts = open_store(store), load_split(split)
    with track(f"training {stream}", None, "steps") as tracker:
        result = train(data, parts, stream, out, settings, tell, tracker.set, replace)
    show(
        {
            "bundle": str(out),
            "stream": stream,
            "best_epoch": result.best_epoch,
            "val_top1": result.val_top1,
            "seconds": result.seconds,
            "resumed_epoch": result.resumed_epoch,
            "curve": result.curve,
        },
        json,
        "{bundle}: {stream} trained in {seconds:.0f} s; epoch {best_epoch} was best, top-1 {val_top1:.1f} % on val",
    )
    return 0


def evaluate(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Path,
    part: Literal["test", "val"] = "test",
    scores: Annotated[Path | None, Flag(metavar="PATH")] = None,
    report: Annotated[Path | None, Flag(metavar="PATH")] = None,
    snippets: int = 25,
    crops: Crops = 1,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Measure a bundle on one part of its split: each stream and the fusion, with intervals.

    Args:
        bundle: folder from `rgbflow train`, or a Hugging Face Hub id, owner/name.
        store: prepared data set, or a folder in a published JPEG layout.
        split: the split the bundle was trained on.
        part: which part to measure on.
        scores: file to write the scores of every clip to, .npz.
        report: file to write the HTML report to.
        snippets: per clip and stream.
        crops: of each snippet: the centre, or centre and corners, each also mirrored.
        device: auto, cpu, cuda or mps.
        json: print the figures as JSON.
    """
    from rgbflow.bundle import RECORD, fetch_bundle
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.evaluate import evaluate, make_report, record_figures
    from rgbflow.learn.report import write_report
    from rgbflow.progress import track
    from rgbflow.recognizer import Recognizer

    check_positive(snippets=snippets)
    folder = fetch_bundle(bundle)
    recognizer, data, parts = Recognizer.load(folder, device), open_store(store), load_split(split)
    clips = len(getattr(parts, part)) + len(getattr(parts, f"unknown_{part}"))
    with track("evaluating", clips, "clips") as tracker:
        evaluation = evaluate(
            recognizer, data, parts, part, snippets, crops, on_clip=lambda prediction: tracker.advance()
        )
    written = {}
    if scores:
        evaluation.save_scores(scores)
        written["scores"] = str(scores)
    if report:
        write_report(report, make_report(evaluation, recognizer, folder, data, title=f"rgbflow: {folder.name}"))
        written["report"] = str(report)
    if Path(bundle).is_dir():  # not a copy from the hub
        record_figures(folder, evaluation)
        written["recorded"] = str(folder / RECORD)
    if json:
        show({"bundle": bundle, "part": part, **evaluation.as_dict(), **written}, True)
    else:
        print_evaluation(evaluation)
        for name, path in written.items():
            print(f"{name}: {path}")
    return 0


def calibrate(
    bundle: Annotated[Path, Positional, Flag(metavar="BUNDLE")],
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Path,
    fusion: Literal["auto", "average", "weighted", "stacking", "reliability"] = "auto",
    false_alarm_rate: Annotated[float | None, Flag(metavar="SHARE")] = None,
    snippets: int = 25,
    crops: Crops = 1,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Fit fusion, temperature and the threshold of "unknown" on the val part, and put them into the bundle.

    Args:
        bundle: folder from `rgbflow train`.
        store: prepared data set, or a folder in a published JPEG layout.
        split: the split the bundle was trained on.
        fusion: method; auto takes the average unless another is clearly better on val.
        false_alarm_rate: share of clips of unseen classes that may get a name, such as 0.05; needs split --leave-out.
        snippets: per clip and stream.
        crops: of each snippet: the centre, or centre and corners, each also mirrored.
        device: auto, cpu, cuda or mps.
        json: print what was fitted as JSON.
    """
    from rgbflow.bundle import RECORD, load_bundle
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.calibrate import calibrate, record_calibration
    from rgbflow.progress import track
    from rgbflow.recognizer import Recognizer

    check_positive(snippets=snippets)
    load_bundle(bundle)  # a Hub id is refused: what is fitted goes into the folder
    recognizer, data, parts = Recognizer.load(bundle, device), open_store(store), load_split(split)
    if parts.unknown_val and false_alarm_rate is None:
        print("note: the split leaves classes out; --false-alarm-rate 0.05 would fit a threshold", file=sys.stderr)
    clips = len(parts.val) + (len(parts.unknown_val) if false_alarm_rate is not None else 0)
    with track("calibrating", clips, "clips") as tracker:
        made = calibrate(
            recognizer, data, parts, fusion, false_alarm_rate, snippets, crops, lambda prediction: tracker.advance()
        )
    record_calibration(bundle, made)
    if json:
        show({"bundle": str(bundle), **made.as_dict()}, True)
    else:
        print_calibration(made)
        print(f"recorded: {bundle / RECORD}; `rgbflow evaluate` measures it on the test part")
    return 0


def predict(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    videos: Annotated[tuple[Path, ...], Positional, Flag(metavar="VIDEO ...")],
    top: int | None = None,
    overlay: Annotated[Path | None, Flag(metavar="PATH")] = None,
    why: bool = False,
    timeline: bool = False,
    window: float | None = None,
    step: float | None = None,
    snippets: int | None = None,
    crops: Crops = 1,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Label videos.

    Args:
        bundle: folder from `rgbflow train`, or a Hugging Face Hub id, owner/name.
        videos: files.
        top: how many classes to print; 5 if not given.
        overlay: video to write with the label and score bars drawn in; for one VIDEO.
        why: show in the overlay where each stream found the answer: class activation maps over its frame and its flow.
        timeline: slide over a long video and print segments instead of one label.
        window: of --timeline, seconds; 2 if not given.
        step: of --timeline, seconds; 0.5 if not given.
        snippets: per stream and clip (25 if not given) or window (5).
        crops: of each snippet: the centre, or centre and corners, each also mirrored.
        device: auto, cpu, cuda or mps.
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
    if not timeline and (window or step):
        raise InputError("--window and --step are for --timeline: add it, or leave them out")
    check_positive(top=top, snippets=snippets)
    from rgbflow.overlay import write_overlay
    from rgbflow.recognizer import NUM_SNIPPETS, Recognizer
    from rgbflow.why import write_why

    recognizer = Recognizer.load(bundle, device)
    failed = 0
    for video in videos:
        try:
            if timeline:
                line = recognizer.timeline(video, window or 2.0, step or 0.5, snippets or 5, crops)
                draw = partial(write_overlay, video, line.windows)
                show_timeline(video, line, json)
            elif why:
                explanation = recognizer.explain(video, snippets or NUM_SNIPPETS, crops)
                draw = partial(write_why, video, explanation, recognizer.bundle.preparation)
                show_prediction(video, explanation.prediction, top or 5, json)
            else:
                prediction = recognizer.predict(video, snippets or NUM_SNIPPETS, crops)
                draw = partial(write_overlay, video, [prediction])
                show_prediction(video, prediction, top or 5, json)
            if overlay:
                draw(overlay)
                print(f"overlay: {overlay}", file=sys.stderr)
        except InputError as error:  # the other videos still get their label
            print(f"rgbflow: {error}", file=sys.stderr)
            failed += 1
    return exit_code(failed, len(videos))


def fuse(
    files: Annotated[tuple[Path, ...], Positional, Flag(metavar="SCORES.npz ...")],
    kind: Literal["auto", "logits", "scores", "sums"] = "auto",
    frames: Annotated[float | None, Flag(metavar="N")] = None,
    out: Annotated[Path | None, Flag(metavar="PATH")] = None,
    json: bool = False,
) -> int:
    """Fuse the streams of score files of any origin, and measure them if they hold labels.

    Args:
        files: .npz files from `rgbflow evaluate --scores`, or of the same form.
        kind: what they hold; auto believes their `kind`, and looks at the numbers where there is none.
        frames: over how many frames sums were taken.
        out: file to write the fused probabilities to, .npz.
        json: print the result as JSON.
    """
    if not files:
        raise InputError("no score file given: name at least one .npz file")
    from rgbflow import fusion
    from rgbflow.learn.metrics import measure
    from rgbflow.learn.scores import SATURATED, ScoreFile, read_scores, saturated_share

    read = read_scores(files, None if kind == "auto" else kind, frames)
    streams = {name: values for file in read for name, values in file.probabilities().items()}
    streams["fused"] = fusion.average(streams)
    for path, file in zip(files, read, strict=True):
        over = f" over {file.frames:g} frames" if file.kind == "sums" else ""
        print(f"{path}: {', '.join(file.streams)} taken for {file.kind}{over}", file=sys.stderr)
        for name in file.streams:
            share = saturated_share(streams[name])
            if file.kind == "logits" and share > 0.5:
                hint = "if they are sums over frames, pass --kind sums --frames N"
                print(f"warning: {name} is above {SATURATED} in {share:.0%} of the clips: {hint}", file=sys.stderr)
    labels = next((file.labels for file in read if file.labels is not None), None)
    figures = {} if labels is None else {name: measure(scores, labels) for name, scores in streams.items()}
    if out:
        ScoreFile(read[0].names, read[0].classes, labels, {"fused": streams["fused"]}, "scores").save(out)
    if json:
        kinds = {name: file.kind for file in read for name in file.streams}
        show(
            {
                "clips": len(read[0].names),
                "kinds": kinds,
                "figures": {name: row.as_dict() for name, row in figures.items()},
                "out": str(out or ""),
            },
            True,
        )
    else:
        print_figures(f"{len(read[0].names)} clips", figures)
        if out:
            print(f"fused: {out}")
    return 0


def fetch(
    dataset: Annotated[Literal["ucf101"], Positional, Flag(metavar="ucf101")],
    out: Path,
    home: str = "",
    json: bool = False,
) -> int:
    """Download a public data set with its official lists, extract it and check that it is whole.

    Args:
        dataset: which one; ucf101 is the only one so far.
        out: folder for it; what is there already and whole is not fetched again, a broken download goes on.
        home: address of a folder that offers the same archives; the data set's own home by default.
        json: print the result as JSON.
    """
    from rgbflow.data.ucf101 import HOME, fetch
    from rgbflow.progress import track

    with track("UCF101", None, "MB") as tracker:
        fetched = fetch(out, home or HOME, on_progress=tracker.set)
    result = {
        "videos": str(fetched.videos),
        "lists": str(fetched.lists),
        "clips": fetched.num_clips,
        "classes": fetched.num_classes,
    }
    show(
        result,
        json,
        "{videos}: all {clips} videos of {classes} classes; next:\n"
        "  rgbflow prepare {videos} --out store\n"
        "  rgbflow split store --protocol official-1 --lists {lists} --out split.json    (or --protocol paper)\n"
        "  rgbflow train store --split split.json --stream rgb --out runs/ucf101         (and --stream flow)",
    )
    return 0


def check(path: Annotated[Path, Positional, Flag(metavar="PATH")], json: bool = False) -> int:
    """Read everything and name what is broken, wrong or unlabelled: of videos, or of a prepared data set.

    Args:
        path: folder of class folders, or one video; prepared data set, or a folder in a published JPEG layout.
        json: print the findings as JSON.
    """
    from rgbflow.data.doctor import check
    from rgbflow.data.inspection import check_store, is_store
    from rgbflow.progress import track

    examine, unit = (check_store, "clips") if is_store(path) else (check, "files")
    with track("checking", None, unit) as tracker:
        diagnosis = examine(path, progress=tracker.set)
    if json:
        show(diagnosis.as_dict(), True)
    else:
        notes = [finding for finding in diagnosis.findings if finding.kind == "note"]
        problems = [finding for finding in diagnosis.findings if finding.kind != "note"]
        for finding in [*problems, *notes[:NOTES_SHOWN]]:
            print(f"{finding.kind}: {finding.path}: {finding.message}")
        if len(notes) > NOTES_SHOWN:
            print(f"note: {len(notes) - NOTES_SHOWN} more notes; --json lists all")
        print(
            f"{path}: files {diagnosis.files}, frames {diagnosis.frames}, problems {len(problems)}, notes {len(notes)}"
        )
    return 0 if diagnosis.ok else EXIT_SOME_FAILED


def paper(
    what: Annotated[Literal["fig4", "table2"], Positional, Flag(metavar="fig4|table2")],
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Annotated[tuple[Path, ...], Flag(metavar="PATH ...")],
    scale: Annotated[Scale, Flag(name="")],
    out: Path = Path("paper"),
    seeds: int = 1,
    snippets: int | None = None,
    stream: Literal["rgb", "flow", "both"] = "both",
    plan: bool = False,
    json: bool = False,
) -> int:
    """Run Figure 4 (optimizers) or Table II (algorithms) of the paper; run it again after a kill and it goes on.

    Args:
        what: fig4 or table2.
        store: prepared data set, or a folder in a published JPEG layout; for --plan UCF101's lists will do.
        split: from `rgbflow split`; several are all trained and tested on.
        scale: what to change of the paper's settings.
        out: folder for the bundles, and for fig4.png and fig4.json, or table2.html and table2.json.
        seeds: trainings of each network on each split.
        snippets: of each test clip and stream, 25 if not given; for table2.
        stream: which networks; for fig4.
        plan: train nothing; measure a few steps on this machine and print images, hours and gigabytes.
        json: print the result as JSON.
    """
    from rgbflow.learn.tasks import free_devices, run_tasks
    from rgbflow.paper.fig4 import fig4_tasks, read_fig4
    from rgbflow.paper.plan import make_plan
    from rgbflow.paper.table2 import read_table2, table2_tasks
    from rgbflow.recognizer import NUM_SNIPPETS

    check_positive(seeds=seeds, snippets=snippets)
    if what == "table2" and stream != "both":
        raise InputError(f"--stream {stream} is for fig4: table2 compares both streams")
    if what == "fig4" and (snippets or scale.c3d_backbone or scale.c3d_input_size):
        raise InputError("--snippets, --c3d-backbone and --c3d-input-size are for table2: leave them out")
    streams = STREAMS if stream == "both" else (stream,)
    if what == "fig4":
        trainings, evaluations = fig4_tasks(store, split, seeds, out, scale, streams), []
    else:
        trainings, evaluations = table2_tasks(store, split, seeds, out, scale, snippets or NUM_SNIPPETS)
    if plan:
        made = make_plan(trainings, evaluations, scale.device)
        show(made.as_dict(), True) if json else print_plan(made)
        return 0
    devices = free_devices(scale.device)
    run_tasks(trainings, devices)
    run_tasks(evaluations, devices)
    if what == "fig4":
        result, print_result = read_fig4(out, split, seeds, scale, streams), print_fig4
    else:
        result, print_result = read_table2(out, split, seeds, scale, snippets or NUM_SNIPPETS), print_table2
    result.save(out)
    show(asdict(result), True) if json else print_result(result, out)
    return 0


def ablate(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Annotated[tuple[Path, ...], Flag(metavar="PATH ...")],
    settings: Annotated[TrainConfig, Flag(name="")],
    out: Path = Path("ablation"),
    parts: Annotated[tuple[str, ...], Flag(metavar="NAME ...")] = (),
    preset: PresetName = "strong",
    config: Annotated[Path | None, Flag(metavar="PATH")] = None,
    seeds: int = 1,
    snippets: int = 25,
    jobs: int = 1,
    json: bool = False,
) -> int:
    """Train a recipe whole and without one part at a time: what is each part worth? Run it again and it goes on.

    Args:
        store: prepared data set, or a folder in a published JPEG layout.
        split: from `rgbflow split`; several are all trained and tested on.
        settings: every field of TrainConfig: the whole.
        out: folder for the bundles, and for ablation.html and ablation.json.
        parts: which to take away; every one that the settings have, if none is named.
        preset: settings to start from; paper: Table I and nothing else; strong: what makes it more accurate;
            lite: the same for a machine without a GPU.
        config: TOML file with fields of TrainConfig; it wins over the preset, flags win over both.
        seeds: trainings of each on each split.
        snippets: of each test clip and stream.
        jobs: trainings at a time, each with its share of the cores.
        json: print the result as JSON.
    """
    from rgbflow.learn.ablate import ablation_tasks, choose_parts, read_ablation
    from rgbflow.learn.tasks import free_devices, run_tasks

    check_positive(seeds=seeds, snippets=snippets, jobs=jobs)
    chosen = choose_parts(parts, settings)
    trainings, evaluations = ablation_tasks(store, split, seeds, out, settings, chosen, snippets)
    devices = free_devices(settings.device, jobs)
    run_tasks(trainings, devices)
    run_tasks(evaluations, devices)
    result = read_ablation(out, split, seeds, settings, chosen, snippets)
    result.save(out)
    show(asdict(result), True) if json else print_ablation(result, out)
    return 0


def demo(out: Path = Path("demo"), workers: int = 0, seed: int = 0, json: bool = False) -> int:
    """Make a small data set, train both streams on it and show what each of them can tell.

    Args:
        out: folder for everything the demo makes.
        workers: processes; 0 is one per core.
        seed: of the data set, the split and the training.
        json: print the figures as JSON.
    """
    from rgbflow.demo import run_demo

    result = run_demo(out, workers or os.cpu_count() or 1, seed)
    if json:
        show(result.as_dict(), True)
    else:
        print_evaluation(result.evaluation)
        print(result.summary())
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "fetch": fetch,
    "prepare": prepare,
    "split": split,
    "train": train,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "predict": predict,
    "fuse": fuse,
    "check": check,
    "ablate": ablate,
    "paper": paper,
    "demo": demo,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 the input can't be used, 2 wrong usage, 3 some files failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] not in COMMANDS:
        return print_usage(arguments)
    name = arguments[0]
    try:
        command = COMMANDS[name]
        if name in ("train", "ablate"):
            command = partial(command, settings=_config_from(arguments, None if name == "train" else "strong"))
        summary = COMMANDS[name].__doc__.splitlines()[0]
        return tyro.cli(command, prog=f"rgbflow {name}", description=summary, args=arguments[1:])
    except InputError as error:
        print(f"rgbflow: {error}", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a folder that may not be read, a file that went away
        print(f"rgbflow: {error.filename or name}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        goes_on = "; the same command goes on" if name in RESUMING else ""
        print(f"rgbflow: stopped{goes_on}", file=sys.stderr)
        return 130


def print_usage(arguments: list[str]) -> int:
    """Print the table of commands; the exit code is 0 if it was asked for, 2 for an unknown command."""
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(version("rgbflow"))
        return 0
    asked_for = arguments in ([], ["-h"], ["--help"])
    lines = [f"  {name:<10} {command.__doc__.splitlines()[0]}" for name, command in COMMANDS.items()]
    text = "\n".join(["usage: rgbflow COMMAND ... (rgbflow COMMAND --help tells more)", "", *lines])
    if asked_for:
        print(text)
        return 0
    print(f"rgbflow: {arguments[0]!r} is no command\n{text}", file=sys.stderr)
    return 2


def exit_code(failed: int, total: int) -> int:
    """0 if all went well, 1 if nothing did, 3 if some of it did."""
    return 0 if not failed else EXIT_FAILED if failed == total else EXIT_SOME_FAILED


def check_positive(**values: int | None) -> None:
    """Raise InputError for a number below 1; None is a default that is filled in later."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"--{name} ({value}) must be at least 1")


def _clips_of_store(store: Path, groups: Path | None) -> list:
    """The clips of a store; their groups come from a table, if one is given."""
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.layouts import SourceClip, match_groups, read_groups

    rows = open_store(store).rows.values()
    given = match_groups(read_groups(groups), {row.clip: Path(row.source) for row in rows}) if groups else {}
    return [SourceClip(row.clip, row.label, given.get(row.clip, row.group), Path(row.source)) for row in rows]


def preset_config(preset: PresetName | None, stream: Stream) -> TrainConfig:
    """The settings of a preset for one stream; the defaults for None."""
    return {"paper": table_i(stream), "strong": STRONG, "lite": LITE}.get(preset, TrainConfig())


def _config_from(arguments: list[str], preset: PresetName | None = None) -> TrainConfig:
    """The settings that the flags then change: the preset's, changed to the algorithm and by `--config FILE`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--preset", "--stream", "--algorithm", "--config"):
        parser.add_argument(name, nargs="?")  # what is wrong with them is said by the real command line
    flags, _ = parser.parse_known_args(arguments)
    config = preset_config(flags.preset or preset, flags.stream)
    if flags.algorithm in get_args(Algorithm):
        config = with_algorithm(config, flags.algorithm)
    return load_config(Path(flags.config), config) if flags.config else config
