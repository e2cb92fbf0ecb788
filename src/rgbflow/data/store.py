"""The prepared data set: for each clip a video of frames and a video of flow, and a manifest of all clips.

    STORE/rgb/<Class>/<clip>.mkv     the frames at the working size
    STORE/flow/<Class>/<clip>.mkv    gray: 8-bit u above 8-bit v, one picture per frame step
    STORE/manifest.parquet           one row per clip
    STORE/manifest.sha256            hash of the manifest, and of the one before it
    STORE/unfinished.jsonl           of a running or stopped `prepare`: what it has written so far
    STORE/prepare.lock               held while `prepare` runs

The files are Motion JPEG, or FFV1 for lossless storage. Every frame is a key frame and can be read directly.
"""

import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from filelock import FileLock, Timeout
from msgspec import Meta

from rgbflow.atomic import remove_leftovers
from rgbflow.clip import Clip, Preparer, as_stored, mean_rate
from rgbflow.data import journal, manifest
from rgbflow.data.layouts import SourceClip, check_utf8, file_sha256, legible
from rgbflow.data.manifest import MANIFEST, OK, Hashes, Row
from rgbflow.errors import InputError, first_line
from rgbflow.flow import from_pictures, to_picture
from rgbflow.processes import check_workers, map_in_processes, map_on_cluster
from rgbflow.progress import SILENT, Pace, Progress
from rgbflow.records import check_argument
from rgbflow.stream import STREAMS, Preparation, Stream
from rgbflow.video.intra import IntraReader, IntraWriter
from rgbflow.video.reading import VideoError, decode, probe

Workers = Annotated[int, Meta(ge=1, description="one per core is usual")]
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # errors that would hit every other clip too


@dataclass(frozen=True)
class StoredClip:
    """A clip of a store; reads only the frames it is asked for."""

    name: str
    files: Mapping[Stream, Path]
    num_frames: int
    start_seconds: float
    end_seconds: float
    preparation: Preparation

    @property
    def frames_per_second(self) -> float:
        return mean_rate(self.num_frames, self.end_seconds - self.start_seconds)

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        with IntraReader(self.files[stream]) as reader:
            pictures = reader.read(indices)
        if stream == "rgb":
            return pictures.transpose(0, 3, 1, 2)
        return from_pictures(pictures)


@dataclass(frozen=True)
class ClipAhead:
    """A clip with only the wanted frames and flow fields in memory."""

    name: str
    num_frames: int
    start_seconds: float
    end_seconds: float
    held: Mapping[Stream, Mapping[int, np.ndarray]] = field(repr=False)

    @property
    def frames_per_second(self) -> float:
        return mean_rate(self.num_frames, self.end_seconds - self.start_seconds)

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        return np.stack([self.held[stream][int(index)] for index in indices])


def read_ahead(clip: Clip, wanted: Mapping[Stream, np.ndarray]) -> ClipAhead:
    """Read the wanted (sorted, unique) indices of each stream of a clip into memory."""
    held = {
        stream: dict(zip(indices.tolist(), clip.read(stream, indices), strict=True))
        for stream, indices in wanted.items()
    }
    return ClipAhead(clip.name, clip.num_frames, clip.start_seconds, clip.end_seconds, held)


class Store:
    """A prepared data set, open for reading; only its folder is sent to other processes.

    Args:
        folder: folder made by `rgbflow prepare --out`.

    Attributes:
        preparation: the settings it was made with.
        rows: rows of the usable clips, by name.
        failed: rows of the clips that were set aside.

    Raises:
        InputError: if the folder holds no readable manifest.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / MANIFEST).is_file():
            raise InputError(f"{folder} is not a prepared data set: it has no {MANIFEST}; run `rgbflow prepare` first")
        manifest.check_hash(self.folder)
        self.preparation = manifest.read_preparation(self.folder)
        if journal.speaks_of_others(self.folder, self.preparation):
            raise InputError(
                f"{folder} is being prepared again: `rgbflow prepare` with other settings has not finished; "
                "wait for it, or run it again"
            )
        lengths = manifest.read_columns(self.folder, ("clip", "frames", "frames_per_second"))
        columns = zip(*lengths.values(), strict=True)
        self._lengths = {clip: (frames, rate) for clip, frames, rate in columns if frames}  # all that reading needs

    def __reduce__(self) -> tuple:
        return Store, (self.folder,)

    @cached_property
    def rows(self) -> dict[str, Row]:
        return {row.clip: row for row in self._all_rows if row.status == OK}

    @cached_property
    def failed(self) -> list[Row]:
        return [row for row in self._all_rows if row.status != OK]

    @cached_property
    def _all_rows(self) -> list[Row]:
        return manifest.read_rows(self.folder)

    def clip(self, name: str) -> StoredClip:
        """One clip by its name, "<Class>/<file stem>".

        Raises:
            InputError: if there is no such clip, or it was set aside.
        """
        if name not in self._lengths:
            raise InputError(f"clip ({name!r}) must be one of the {len(self._lengths)} clips of {self.folder}")
        frames, frames_per_second = self._lengths[name]
        files = {stream: stored_file(self.folder, stream, name) for stream in STREAMS}
        return StoredClip(name, files, frames, 0.0, frames / frames_per_second, self.preparation)


def stored_file(folder: Path, stream: Stream, clip: str) -> Path:
    return folder / stream / f"{clip}.mkv"


def prepare_store(
    sources: Sequence[SourceClip],
    folder: str | Path,
    preparation: Preparation,
    workers: int = 1,
    progress: Progress = SILENT,
    verify: bool = False,
    cluster: str | None = None,
) -> list[Row]:
    """Write the store of a list of clips; existing clips with the same settings are kept.

    A clip that can't be prepared is set aside: its row gives the reason, and the other clips are still prepared. A
    killed run leaves no half-written file, and the next call continues where it stopped. The manifest is replaced at
    the end; until then the old one is valid. A stored file that has changed since it was written is made again.

    Args:
        sources: from `layouts.read_class_folders`.
        folder: the store.
        preparation: working size and flow settings.
        workers: processes; each uses one thread.
        progress: a step is a clip; its note has the pace and how many clips failed.
        verify: prepare each clip a second time and compare it with the stored one, bit by bit.
        cluster: address of a Ray cluster that does the work instead of processes of this machine; every node must see
            the sources and the store under the same paths.

    Returns:
        The rows of the manifest, in the order of `sources`.

    Raises:
        InputError: if the store can't be written or another process prepares it, or the cluster can't be reached.
    """
    Preparer(preparation)  # refuses wrong settings before anything is changed
    check_argument("workers", workers, Workers)
    check_workers(workers)
    folder = Path(folder)
    task = partial(_prepare_known, folder=folder.absolute(), preparation=preparation, verify=verify)
    placed = [replace(source, path=source.path.absolute()) for source in sources]  # nodes have folders of their own
    with _alone_in(folder):
        known = {**manifest.known_hashes(folder), **journal.known_hashes(folder)}
        items = [(source, known.get(source.name)) for source in placed]
        results = map_on_cluster(task, items, cluster) if cluster else map_in_processes(task, items, workers, _died_of)
        rows, pace, note = [], Pace(), journal.keep(folder, preparation)
        progress.update(0, len(sources))
        for source, row in zip(sources, results, strict=True):
            rows.append(replace(row, source=legible(source.path)))
            note(rows[-1])
            progress.update(len(rows), len(sources), pace.note(row.frames, row.status != OK))
        manifest.write(folder, rows, preparation)
        journal.remove(folder)
    return rows


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second `prepare` out of a store."""
    path = folder / "prepare.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"{folder} is being prepared by another process: wait for it, or choose another --out"
        ) from error
    except OSError as error:
        raise InputError(f"{folder} can't be written ({error.strerror}): choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _prepare_known(item: tuple[SourceClip, Hashes | None], folder: Path, preparation: Preparation, verify: bool) -> Row:
    return prepare_clip(item[0], folder, preparation, verify, item[1])


def _died_of(item: tuple[SourceClip, Hashes | None]) -> Row:
    """The row of a clip that kills the process preparing it."""
    reason = f"{legible(item[0].path)} kills the process that prepares it, perhaps for lack of memory: convert it"
    return replace(_new_row(item[0]), status=reason)


def _new_row(source: SourceClip) -> Row:
    return Row(source.name, source.label, source.group, 0, 0.0, 0, 0, legible(source.path), "", OK)


def prepare_clip(
    source: SourceClip, folder: Path, preparation: Preparation, verify: bool = False, known: Hashes | None = None
) -> Row:
    """Prepare one clip; one core, a process pool and a cluster all use this function.

    Args:
        source: the clip.
        folder: the store.
        preparation: working size and flow settings.
        verify: see `prepare_store`.
        known: hashes of its stored files when they were written; files with other or unknown hashes are made again.
    """
    cv2.setNumThreads(1)
    row = _new_row(source)
    try:
        check_utf8(source.path)
        row = replace(row, sha256=file_sha256(source.path))
        info = probe(source.path)
        rate = preparation.frame_rate or info.frames_per_second
        settings = json.dumps(preparation.as_dict(), sort_keys=True)
        made_from = {"source_sha256": row.sha256, "preparation": settings}
        frames = _frames_already_there(folder, source.name, made_from, known)
        if frames and verify and not _is_as_prepared(source, folder, preparation):
            frames = 0
        hashes = known if frames else None
        if not frames:
            frames = _write_streams(source, folder, preparation, rate, made_from)
            hashes = _hashes(folder, source.name)
            if verify and not _is_as_prepared(source, folder, preparation):
                raise VideoError(f"{source.path} reads back differently from what was written: check disk and memory")
    except (InputError, OSError, MemoryError, cv2.error) as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FATAL:
            raise
        reason = str(error) if isinstance(error, InputError | OSError) else f"{source.path}: {first_line(error)}"
        return replace(row, status=legible(reason))
    rgb, flow = hashes or ("", "")
    row = replace(row, frames=frames, frames_per_second=rate, width=info.width, height=info.height)
    return replace(row, rgb_sha256=rgb, flow_sha256=flow)


def _pictures(source: SourceClip, preparation: Preparation) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The working frames of a clip, each with the flow picture that leads to it."""
    preparer = Preparer(preparation)
    for decoded in decode(source.path, preparation.frame_rate):
        frame, field = preparer.step(decoded.pixels)
        yield frame, None if field is None else to_picture(field)


def _write_streams(
    source: SourceClip, folder: Path, preparation: Preparation, rate: float, made_from: dict[str, str]
) -> int:
    rgb_file, flow_file = (stored_file(folder, stream, source.name) for stream in STREAMS)
    remove_leftovers(rgb_file)
    remove_leftovers(flow_file)
    frames = 0
    with (
        IntraWriter(rgb_file, rate, made_from, preparation.jpeg_quality) as rgb,
        IntraWriter(flow_file, rate, made_from, preparation.jpeg_quality) as flow,
    ):
        for frame, field in _pictures(source, preparation):
            rgb.write(frame)
            if field is not None:
                flow.write(field)
            frames += 1
        if frames < 2:
            raise VideoError(f"{source.path} has {frames} frame, but flow needs at least 2: use a longer video")
    return frames


def _is_as_prepared(source: SourceClip, folder: Path, preparation: Preparation) -> bool:
    """Whether the stored files equal, to the last bit, a second preparation of the source."""
    quality, frames = preparation.jpeg_quality, 0
    try:
        with (
            IntraReader(stored_file(folder, "rgb", source.name)) as rgb,
            IntraReader(stored_file(folder, "flow", source.name)) as flow,
        ):
            for index, (frame, field) in enumerate(_pictures(source, preparation)):
                same = np.array_equal(rgb.read([index])[0], as_stored(frame, quality))
                if field is not None:
                    same = same and np.array_equal(flow.read([index - 1])[0], as_stored(field, quality))
                if not same:
                    return False
                frames += 1
            return rgb.num_frames == flow.num_frames + 1 == frames
    except (VideoError, IndexError):
        return False


def _frames_already_there(folder: Path, clip: str, made_from: dict[str, str], known: Hashes | None) -> int:
    """Number of frames of a clip's stored files if both were made from this source with these settings, else 0.

    Files that have changed since they were written don't count, nor do files that no manifest lists. Files of old
    stores, without hashes in their manifest, are used as they are and get no hashes.
    """
    if known is None:
        return 0
    try:
        with (
            IntraReader(stored_file(folder, "rgb", clip)) as rgb,
            IntraReader(stored_file(folder, "flow", clip)) as flow,
        ):
            same = rgb.metadata == flow.metadata == made_from and flow.num_frames == rgb.num_frames - 1
            same = same and (not any(known) or _hashes(folder, clip) == known)
            return rgb.num_frames if same else 0
    except VideoError:
        return 0


def _hashes(folder: Path, clip: str) -> Hashes:
    rgb, flow = (file_sha256(stored_file(folder, stream, clip)) for stream in STREAMS)
    return rgb, flow
