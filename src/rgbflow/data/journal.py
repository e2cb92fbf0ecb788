"""A journal of what `prepare` has written so far, from which a killed run resumes with the known hashes of its files.

It is a file of JSON lines: the settings, then one line for each clip. It exists only until the manifest is written.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rgbflow.atomic import write_atomically
from rgbflow.data.manifest import OK, Hashes, Row
from rgbflow.errors import InputError
from rgbflow.stream import Preparation

UNFINISHED = "unfinished.jsonl"


def speaks_of_others(folder: Path, preparation: Preparation) -> bool:
    """Whether an unfinished run may have left files of other settings than these in a store."""
    if not (folder / UNFINISHED).exists():
        return False
    first = next(_lines(folder), {})
    return bool(first.get("mixed")) or _preparation(first) != preparation


def _preparation(line: dict) -> Preparation | None:
    try:
        return Preparation.from_dict(line["preparation"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def known_hashes(folder: Path) -> dict[str, Hashes]:
    """The hashes of the stored files that an unfinished run has written, by clip."""
    hashes = {}
    for line in _lines(folder):
        if all(isinstance(line.get(name), str) for name in ("clip", "rgb_sha256", "flow_sha256")):
            hashes[line["clip"]] = line["rgb_sha256"], line["flow_sha256"]
    return hashes


def _lines(folder: Path) -> Iterator[dict]:
    """The lines that can be read; the last one of a killed run may be cut off."""
    if not (folder / UNFINISHED).is_file():  # a pipe would be waited for
        return
    try:
        text = (folder / UNFINISHED).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(values, dict):
            yield values


def keep(folder: Path, preparation: Preparation) -> Callable[[Row], None]:
    """Yield a function that notes a clip; notes of an earlier run with the same settings are kept.

    Raises:
        InputError: if the file can't be written.
    """
    path = folder / UNFINISHED
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file: delete it, then run the same command")
    if not path.exists() or _preparation(next(_lines(folder), {})) != preparation:
        first = {"preparation": preparation.as_dict(), "mixed": path.exists()}  # with the files of that other run
        write_atomically(path, json.dumps(first) + "\n")
    _append(path, "\n")  # after a line that was cut off

    def note(row: Row) -> None:
        if row.status == OK and row.rgb_sha256:
            noted = {"clip": row.clip, "rgb_sha256": row.rgb_sha256, "flow_sha256": row.flow_sha256}
            _append(path, json.dumps(noted) + "\n")

    return note


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"{path} can't be written ({error.strerror}): free space; the same command resumes") from error


def remove(folder: Path) -> None:
    """Remove the journal, because the run is done."""
    (folder / UNFINISHED).unlink(missing_ok=True)
