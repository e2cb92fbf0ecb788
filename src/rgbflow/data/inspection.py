"""The check of a prepared data set or a JPEG layout: files that are damaged, missing, unknown or labelled twice."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rgbflow.data.doctor import Diagnosis, Finding
from rgbflow.data.jpegs import AnyStore, JpegClip, JpegStore, has_jpegs, open_store
from rgbflow.data.layouts import file_sha256
from rgbflow.data.manifest import MANIFEST, Row
from rgbflow.data.store import Store, StoredClip, stored_file
from rgbflow.errors import InputError
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.stream import STREAMS, Stream
from rgbflow.video.intra import IntraReader

AGAIN = "run `rgbflow prepare --verify` again"


def is_store(path: Path) -> bool:
    """Whether a folder is a prepared data set, complete or not, or a JPEG layout."""
    is_prepared = (path / MANIFEST).is_file() or all((path / stream).is_dir() for stream in STREAMS)
    return path.is_dir() and (is_prepared or has_jpegs(path))


def check_store(folder: Path, progress: Progress = SILENT) -> Diagnosis:
    """Read every file of a prepared data set, or every picture of a JPEG layout.

    A file is whole if its SHA-256 is that of the manifest. Other files, and those of older stores without SHA-256, are
    decoded.

    Args:
        folder: a prepared data set, or a folder in a JPEG layout.
        progress: a step is a clip.

    Raises:
        InputError: if there is no manifest or it can't be read, or a JPEG layout is incomplete.
    """
    store = open_store(folder)
    findings = [*_find_set_aside(store), *([] if isinstance(store, JpegStore) else _find_without_row(store))]
    findings += _find_twins(list(store.rows.values()))
    for row in counted(store.rows.values(), len(store.rows), progress):
        findings += _check_jpegs(store.clip(row.clip)) if isinstance(store, JpegStore) else _check_clip(store, row)
    rows = store.rows.values()
    return Diagnosis(
        files=sum(_num_files(store.clip(name)) for name in store.rows),
        frames=sum(row.frames for row in rows),
        seconds=sum(row.frames / row.frames_per_second for row in rows),
        classes=len({row.label for row in rows}),
        groups=len({row.group for row in rows}),
        findings=tuple(findings),
    )


def _num_files(clip: StoredClip | JpegClip) -> int:
    return len(STREAMS) if isinstance(clip, StoredClip) else clip.frames.count + clip.u.count + clip.v.count


def _check_clip(store: Store, row: Row) -> Iterator[Finding]:
    for stream in STREAMS:
        path = stored_file(store.folder, stream, row.clip)
        if not path.is_file():
            yield Finding(path, "broken", f"is missing although the manifest lists its clip: {AGAIN}")
        elif problem := _file_problem(path, stream, row):
            yield Finding(path, "broken", f"{problem}: {AGAIN}")


def _file_problem(path: Path, stream: Stream, row: Row) -> str | None:
    """The problem of a stored file, as half a sentence."""
    expected = row.rgb_sha256 if stream == "rgb" else row.flow_sha256
    try:
        is_changed = bool(expected) and file_sha256(path) != expected
        with IntraReader(path) as reader:
            wanted = row.frames - (stream == "flow")
            if reader.num_frames != wanted:
                things = "frames" if stream == "rgb" else "flow fields"
                return f"holds {reader.num_frames} {things}, but by the manifest it should hold {wanted}"
            if reader.metadata.get("source_sha256") != row.sha256:
                return "was made from another source than the manifest records"
            if is_changed or not expected:
                for index in range(reader.num_frames):
                    reader.read([index])
    except (InputError, OSError) as error:
        return str(error).removeprefix(f"video ({path}) ").removesuffix(": prepare the clip again")
    return "has changed since it was prepared" if is_changed else None


def _find_set_aside(store: AnyStore) -> Iterator[Finding]:
    for row in store.failed:
        yield Finding(Path(row.source), "note", f"was set aside: {row.status}")


def _find_without_row(store: Store) -> Iterator[Finding]:
    for stream in STREAMS:
        for path in sorted((store.folder / stream).rglob("*.mkv")):
            clip = path.relative_to(store.folder / stream).with_suffix("").as_posix()
            if path.name.startswith("."):
                yield Finding(path, "wrong", "is a half-written file of a killed run: remove it")
            elif clip not in store.rows:
                yield Finding(path, "wrong", f"has no row in the manifest: {AGAIN}, or remove it")


def _find_twins(rows: list[Row]) -> Iterator[Finding]:
    first_with: dict[str, Row] = {}
    for row in rows:
        twin = first_with.setdefault(row.sha256, row) if row.sha256 else row
        if twin.label != row.label:
            yield Finding(Path(row.clip), "unlabelled", f"is the same video as {twin.clip}: keep it in one class")
        elif twin is not row:
            yield Finding(Path(row.clip), "note", f"is the same video as {twin.clip}: remove one of them")


def _check_jpegs(clip: JpegClip) -> Iterator[Finding]:
    """The first picture of each stream of a clip that can't be decoded."""
    folders: dict[Stream, Path] = {"rgb": clip.frames.folder, "flow": clip.u.folder}
    for stream, folder in folders.items():
        try:
            for index in range(clip.num_frames - (stream == "flow")):
                clip.read(stream, np.array([index]))
        except InputError as error:
            yield Finding(folder, "broken", str(error))
