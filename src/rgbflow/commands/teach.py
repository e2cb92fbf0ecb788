"""The commands that teach: teach."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rgbflow.commands.flags import Flag, Positional
from rgbflow.commands.printing import print_taught
from rgbflow.commands.terminal import track
from rgbflow.errors import InputError
from rgbflow.shown import say

if TYPE_CHECKING:
    from rgbflow.learn.teach import Teacher


def teach(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    takes: Annotated[Path, Positional, Flag(metavar="TAKES")],
    out: Path,
    none: Annotated[Path | None, Flag(metavar="FOLDER")] = None,
    keep: Annotated[Path | None, Flag(metavar="STORE")] = None,
    split: Path | None = None,
    watch: bool = False,
    device: str = "auto",
    json: bool = False,
) -> int:
    """Teach your own actions from a few takes of each, in seconds.

    Args:
        bundle: whose networks are used as they are: a folder, a Hugging Face Hub id, or imagenet, for networks that
            have learned no action yet.
        takes: folder of class folders, <action>/<take>.mp4; a class folder "none" holds recordings of none of them.
        out: folder of the new bundle; one that was taught before is replaced.
        none: folder of further recordings of none of the actions, of any length.
        keep: the store that the bundle was trained on, to keep its classes beside the new ones; with --split.
        split: the split that it was trained on: new actions learn from val what they are not, test tells what old
            classes lose.
        watch: go on until Ctrl-C, and make the bundle anew whenever a take comes, changes or goes; `live` then goes
            on with the new one.
        device: auto, cpu, cuda or mps.
        json: print the report as JSON.
    """
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.teach import Teacher

    if not takes.is_dir():
        raise InputError(f"folder {takes} does not exist: put takes into {takes}/<action>/<take>.mp4")
    if (keep is None) != (split is None):
        raise InputError("--keep STORE and --split FILE go together: pass both, of the bundle's training")
    old = (open_store(keep), load_split(split)) if keep is not None and split is not None else None
    teacher = Teacher(bundle, takes, none, device, old)
    if watch:
        return _watch(teacher, out, json)
    with track("reading", "takes") as progress:
        recognizer = teacher.fit(progress)
    teacher.save(recognizer, out)
    print_taught(teacher.report, out, json)
    return 0


def _watch(teacher: Teacher, out: Path, as_json: bool) -> int:
    from rgbflow.learn.teach import follow_takes

    say(f"rgbflow: looking at {teacher.folder}; Ctrl-C ends", file=sys.stderr)
    with suppress(KeyboardInterrupt):  # the usual end
        follow_takes(teacher, out, lambda report: print_taught(report, out, as_json), _note)
    return 0


def _note(line: str) -> None:
    say(f"rgbflow: {line}", file=sys.stderr)
