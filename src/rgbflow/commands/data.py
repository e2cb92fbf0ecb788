"""Commands that make and examine data: fetch, check, prepare, split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from rgbflow.commands.flags import EXIT_SOME_FAILED, Flag, Positional, check_not_read, exit_code
from rgbflow.commands.printing import show
from rgbflow.commands.terminal import track
from rgbflow.errors import InputError
from rgbflow.shown import say
from rgbflow.stream import DisPreset, FlowMethod, FlowSettings, Preparation, Reduction

if TYPE_CHECKING:
    from rgbflow.data.layouts import SourceClip
    from rgbflow.data.manifest import Row

NOTES_SHOWN = 10  # by `check`: many files have the same harmless oddity


def fetch(
    dataset: Annotated[Literal["ucf101"], Positional, Flag(metavar="ucf101")],
    out: Path,
    home: str = "",
    json: bool = False,
) -> int:
    """Download a public data set with its official lists, extract it and check that it is whole.

    Args:
        dataset: the data set to download; ucf101 is the only one so far.
        out: folder for it. Complete files are not downloaded again; an interrupted download resumes.
        home: address of a folder that offers the same archives; the data set's own site by default.
        json: print the result as JSON.
    """
    from rgbflow.data.ucf101 import HOME, fetch_ucf101

    with track("UCF101", "MB") as progress:
        fetched = fetch_ucf101(out, home or HOME, progress=progress)
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
    """Read all files of a folder of videos, or of a prepared data set, and list those that are broken or unlabelled.

    Args:
        path: a folder of class folders, a single video, a prepared data set, or a folder in a published JPEG layout.
        json: print the findings as JSON.
    """
    from rgbflow.data.doctor import check_videos
    from rgbflow.data.inspection import check_store, is_store

    examine, unit = (check_store, "clips") if is_store(path) else (check_videos, "files")
    with track("checking", unit) as progress:
        diagnosis = examine(path, progress)
    if json:
        show(diagnosis.as_dict(), True)
    else:
        notes = [finding for finding in diagnosis.findings if finding.kind == "note"]
        problems = [finding for finding in diagnosis.findings if finding.kind != "note"]
        for finding in [*problems, *notes[:NOTES_SHOWN]]:
            say(f"{finding.kind}: {finding.path}: {finding.message}")
        if len(notes) > NOTES_SHOWN:
            say(f"note: {len(notes) - NOTES_SHOWN} more notes; --json lists all of them")
        say(f"{path}: files {diagnosis.files}, frames {diagnosis.frames}, problems {len(problems)}, notes {len(notes)}")
    return 0 if diagnosis.ok else EXIT_SOME_FAILED


@dataclass(frozen=True)
class PreparationFlags:
    """How frames and flow are made; each field is a flag of `prepare`."""

    flow: FlowMethod = FlowSettings.method
    """The method that computes optical flow."""
    preset: DisPreset = FlowSettings.preset
    """Preset of DIS, from the fastest to the most detailed."""
    bound: Annotated[float | None, Flag(metavar="PIXELS")] = None
    """Largest displacement that is stored, in pixels per frame step; None measures it on some clips."""
    flow_reduction: Annotated[int, Flag(metavar="{0,1,2,4}")] = FlowSettings.reduction
    """Flow is stored at 1/N of the working size; 0 chooses the usual N for the method: docs/data.md."""
    short_side: int = Preparation.short_side
    """Working size: the shorter side of a frame in pixels."""
    square: bool = Preparation.square
    """Squeeze frames to squares, so that crops include the sides of wide frames."""
    frame_rate: Annotated[float | None, Flag(metavar="FPS")] = Preparation.frame_rate
    """Frames per second to resample the videos to; None keeps every frame."""
    jpeg_quality: Annotated[int | None, Flag(metavar="1…100|None")] = Preparation.jpeg_quality
    """JPEG quality of the stored frames and flow; None is lossless and needs 1.5 times the space."""

    def preparation(self) -> Preparation:
        """The same settings in the form that a store records; without a given bound, the usual one."""
        if self.flow != "dis" and self.preset != FlowSettings.preset:
            raise InputError(f"--preset {self.preset} is for --flow dis, not {self.flow}: leave it out")
        bound = FlowSettings.bound if self.bound is None else self.bound
        settings = FlowSettings(self.flow, self.preset, bound, cast(Reduction, self.flow_reduction))
        return Preparation(self.short_side, settings, self.jpeg_quality, self.frame_rate, self.square)


def prepare(
    videos: Annotated[tuple[Path, ...], Positional, Flag(metavar="VIDEOS|LIST ...")],
    out: Path,
    settings: Annotated[PreparationFlags, Flag(name="")],
    root: Annotated[Path | None, Flag(metavar="FOLDER")] = None,
    groups: Annotated[Path | None, Flag(metavar="PATH")] = None,
    workers: int = 0,
    verify: bool = False,
    plan: bool = False,
    cluster: Annotated[str | None, Flag(metavar="ADDRESS")] = None,
    json: bool = False,
) -> int:
    """Prepare videos for training: compute and store their frames and optical flow once.

    Args:
        videos: folder of class folders, VIDEOS/<Class>/<clip>.avi, or lists: lines of path, class and perhaps group, or
            the lists of UCF101, HMDB51, Kinetics and Something-Something (docs/data.md).
        out: folder of the prepared data set; clips that are there already and up to date are kept.
        settings: every field of PreparationFlags.
        root: folder that the paths in lists are relative to; each list's own folder by default.
        groups: table with lines Class/clip.avi<TAB>group; a groups.tsv in VIDEOS or --root is used without this flag.
        workers: number of processes; 0 means one per core.
        verify: prepare every clip twice and compare; a stored clip that differs is written again.
        plan: measure a few clips, print the estimated core-hours and gigabytes of the whole, and write nothing.
        cluster: Ray cluster that does the work: auto, host:6379 or ray://host:10001. It must see the same paths.
        json: print the result as JSON.
    """
    from rgbflow.data.bound import usual_bound
    from rgbflow.data.store import prepare_store
    from rgbflow.processes import usable_cores

    _check_workplace(workers, verify, plan, cluster)
    preparation = settings.preparation()
    sources, missing = _sources(videos, root, groups)
    if settings.bound is None:
        preparation = replace(preparation, flow=replace(preparation.flow, bound=usual_bound(sources, preparation, out)))
    if plan:
        return _print_plan(sources, preparation, json)
    with track("preparing", "clips") as progress:
        rows = prepare_store(sources, out, preparation, workers or usable_cores(), progress, verify, cluster)
    return _print_prepared(out, preparation, rows, missing, json)


def _check_workplace(workers: int, verify: bool, plan: bool, cluster: str | None) -> None:
    if workers < 0:
        raise InputError(f"--workers ({workers}) must not be negative: 0 means one per core")
    if cluster and workers:
        raise InputError(
            f"--workers {workers} is for this machine, but --cluster uses all cores of its cluster: leave one out"
        )
    if plan and (verify or cluster):
        raise InputError("--plan measures on this machine and writes nothing: leave --verify and --cluster out")


def _print_plan(sources: Sequence[SourceClip], preparation: Preparation, as_json: bool) -> int:
    """Measure a few clips and print what preparing all of them takes."""
    from rgbflow.data.plan import plan_preparation

    with track("measuring", "clips") as progress:
        planned = plan_preparation(sources, preparation, progress)
    show(
        planned.as_dict(),
        as_json,
        "{clips} clips, about {frames} frames: {core_hours:.2g} core-hours (± {error_percent:.0f} %), "
        "{gigabytes:.2g} GB; measured on {measured} clips, of which {failed} failed",
    )
    return 0


def _print_prepared(
    out: Path, preparation: Preparation, rows: Sequence[Row], missing: Sequence[str], as_json: bool
) -> int:
    """Print what was prepared and which clips were set aside; `missing` are listed videos that do not exist."""
    from rgbflow.data.manifest import OK

    failed = [row for row in rows if row.status != OK]
    result = {
        "store": str(out),
        "clips": len(rows) - len(failed),
        "frames": sum(row.frames for row in rows),
        "classes": len({row.label for row in rows}),
        "groups": len({row.group for row in rows}),
        "bound": preparation.flow.bound,
        "failed": {row.clip: row.status for row in failed},
        "missing": [*missing],
    }
    show(result, as_json, "{store}: {clips} clips of {classes} classes and {groups} groups, {frames} frames")
    for row in failed:
        say(f"set aside: {row.status}", file=sys.stderr)
    return exit_code(len(failed) + len(missing), len(rows) + len(missing))


def split(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    out: Path,
    protocol: Literal["group", "paper", "official-1", "official-2", "official-3", "lists"] = "group",
    seed: int = 0,
    groups: Annotated[Path | None, Flag(metavar="PATH")] = None,
    holdout: Annotated[tuple[str, ...], Flag(metavar="NAME ...")] = (),
    lists: Annotated[tuple[Path, ...], Flag(metavar="PATH ...")] = (),
    list_number: Annotated[int | None, Flag(metavar="N")] = None,
    leave_out: Annotated[tuple[str, ...], Flag(metavar="CLASS ...")] = (),
    json: bool = False,
) -> int:
    """Divide a prepared data set into train, val and test, and report how much leaks between them.

    Args:
        store: prepared data set, a folder in a published JPEG layout, or a folder of UCF101's lists.
        out: the file to write, such as split.json.
        protocol: group: 6:2:2 of whole groups. paper: 6:2:2 over clips. official-N: UCF101's lists. lists: your own.
        seed: seed of the random draw.
        groups: table with lines Class/clip.avi<TAB>group, used instead of the store's groups.
        holdout: groups that make up the test part; with protocol group.
        lists: the folder of UCF101's lists for official-N; for lists the files, or their folder, whose names (train...,
            val..., test...) or column `split` give the part. Without a val part, val is cut from train.
        list_number: the number of the split in a folder of several, the first by default; with protocol lists.
        leave_out: two or more classes to leave out of training, so that "unknown" can be fitted and tested on them.
        json: print the result as JSON.
    """
    from rgbflow.data.cutting import make_split
    from rgbflow.data.official import is_lists, read_lists

    check_not_read(out, (*lists, groups))
    lists_alone = is_lists(store)
    if lists_alone and groups:
        raise InputError(
            f"--groups {groups} is for a prepared data set, and UCF101's names contain groups: leave it out"
        )
    if lists and protocol in ("group", "paper"):
        raise InputError(f"--lists is not for --protocol {protocol}: pass --protocol lists, or leave --lists out")
    clips = read_lists(store) if lists_alone else _clips_of_store(store, groups)
    made = make_split(clips, protocol, seed, holdout, lists or ([store] if lists_alone else ()), leave_out, list_number)
    made.save(out)
    for note in made.notes:
        say(f"note: {note}", file=sys.stderr)
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
        line += "; clips of classes left out: {unknown_val} for val, {unknown_test} for test"
    show(result, json, line)
    return 0


def _sources(videos: tuple[Path, ...], root: Path | None, groups: Path | None) -> tuple[list, list[str]]:
    """The clips to prepare, and the listed videos that do not exist; a note on standard error reports these."""
    from rgbflow.data.layouts import GROUPS_FILE, is_video, read_class_folders, read_groups
    from rgbflow.data.lists import LIST_ENDINGS
    from rgbflow.data.matching import listed_sources, note_clips

    if not videos:
        raise InputError("no VIDEOS given: name a folder of class folders, or lists of videos")
    are_lists = [
        (path.is_file() and not is_video(path)) or (path.suffix.lower() in LIST_ENDINGS and not path.is_dir())
        for path in videos
    ]
    if not all(are_lists) and len(videos) > 1:
        folder = videos[are_lists.index(False)]
        raise InputError(
            f"{folder} is not a list (.txt, .csv, .tsv, .json): give one folder of class folders, or lists"
        )
    if root and not all(are_lists):
        raise InputError(f"--root {root} is for lists of videos, but {videos[0]} is not a list: leave --root out")
    if not all(are_lists):
        return read_class_folders(videos[0], read_groups(groups) if groups else None), []
    table = groups or (root or videos[0].parent) / GROUPS_FILE
    sources, missing = listed_sources(videos, root, read_groups(table) if groups or table.is_file() else None)
    if missing:
        say("note: " + note_clips("{} of the listed videos do not exist", missing), file=sys.stderr)
    return sources, missing


def _clips_of_store(store: Path, groups: Path | None) -> list:
    """The clips of a store; their groups come from a table, if one is given."""
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.layouts import SourceClip, match_groups, read_groups
    from rgbflow.data.matching import note_clips

    opened = open_store(store)
    if opened.failed:
        names = [row.clip for row in opened.failed]
        say("note: " + note_clips("{} clips of the data set are set aside", names), file=sys.stderr)
    rows = opened.rows.values()
    given = match_groups(read_groups(groups), {row.clip: Path(row.source) for row in rows}) if groups else {}
    return [SourceClip(row.clip, row.label, given.get(row.clip, row.group), Path(row.source)) for row in rows]
