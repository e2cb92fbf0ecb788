"""The commands that teach: teach."""

from pathlib import Path
from typing import Annotated

from rgbflow.commands.flags import Flag, Positional
from rgbflow.commands.printing import print_taught
from rgbflow.commands.terminal import track
from rgbflow.errors import InputError


def teach(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    takes: Annotated[Path, Positional, Flag(metavar="TAKES")],
    out: Path,
    none: Annotated[Path | None, Flag(metavar="FOLDER")] = None,
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
        device: auto, cpu, cuda or mps.
        json: print the report as JSON.
    """
    from rgbflow.learn.teach import Teacher

    if not takes.is_dir():
        raise InputError(f"folder {takes} does not exist: put takes into {takes}/<action>/<take>.mp4")
    teacher = Teacher(bundle, takes, none, device)
    with track("reading", "takes") as progress:
        recognizer = teacher.fit(progress)
    teacher.save(recognizer, out)
    print_taught(teacher.report, out, json)
    return 0
