"""The prepared data set: per clip one video of frames and one of flow, and a manifest of all clips.

    STORE/rgb/<Class>/<clip>.mkv     the frames at the working size
    STORE/flow/<Class>/<clip>.mkv    gray: 8-bit u above 8-bit v, one picture per frame step
    STORE/manifest.parquet           one row per clip

The files are Motion JPEG, or FFV1 where nothing may be lost. Every frame is a key frame: any can be read at once.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rgbflow.atomic import remove_leftovers, replacing
from rgbflow.clip import Clip, Preparer, as_stored, mean_rate
from rgbflow.data.layouts import SourceClip, file_sha256
from rgbflow.errors import InputError, first_line
from rgbflow.flow import from_pictures, to_picture
from rgbflow.processes import map_in_processes, map_on_cluster
from rgbflow.progress import SILENT, Pace, Progress
from rgbflow.stream import STREAMS, Preparation, Stream
from rgbflow.video.intra import IntraReader, IntraWriter
from rgbflow.video.reading import VideoError, decode, probe

MANIFEST = "manifest.parquet"
OK = "ok"


@dataclass(frozen=True)
class Row:
    """A line of the manifest.

    Attributes:
        clip: "<Class>/<file stem>".
        label: the class; the column is called "class".
        group: the source the clip was cut from.
        frames: counted by decoding; flow has one field fewer.
        frames_per_second: of the stored frames; the source's, unless the preparation has another frame rate.
        width, height: of the source, pixels.
        source: path of the source file when it was prepared.
        sha256: of the source file.
        status: "ok", or why the clip was set aside.
        rgb_sha256, flow_sha256: of the stored files; empty for a clip set aside, and in older stores.
    """

    clip: str
    label: str
    group: str
    frames: int
    frames_per_second: float
    width: int
    height: int
    source: str
    sha256: str
    status: str
    rgb_sha256: str = ""
    flow_sha256: str = ""


@dataclass(frozen=True)
class StoredClip:
    """A clip of a store; reads only the frames it is asked for."""

    name: str
    files: Mapping[Stream, Path]
    num_frames: int
    start_seconds: float
    end_seconds: float

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
    """A clip of which the wanted frames and flow fields, and no others, are in memory."""

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
    """A prepared data set, open for reading; to another process travels its folder alone.

    Args:
        folder: what `rgbflow prepare --out` made.

    Attributes:
        preparation: how it was made.
        rows: of the clips that can be used, by name.
        failed: rows of the clips that were set aside.

    Raises:
        InputError: if the folder holds no readable manifest.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / MANIFEST).is_file():
            raise InputError(f"{folder} is no prepared data set: it has no {MANIFEST}; run `rgbflow prepare` first")
        with self._reading() as path:
            self.preparation = Preparation.from_dict(json.loads(pq.read_schema(path).metadata[b"preparation"]))
            lengths = pq.read_table(path, columns=["clip", "frames", "frames_per_second"], memory_map=True).to_pydict()
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
        with self._reading() as path:
            return [_row_from_columns(columns) for columns in pq.read_table(path, memory_map=True).to_pylist()]

    @contextmanager
    def _reading(self) -> Iterator[Path]:
        path = self.folder / MANIFEST
        try:
            yield path
        except (pa.ArrowException, OSError, KeyError, TypeError) as error:
            raise InputError(f"{path} can't be read ({first_line(error)}): run `rgbflow prepare` again") from error

    def clip(self, name: str) -> StoredClip:
        """One clip by its name, "<Class>/<file stem>"."""
        frames, frames_per_second = self._lengths[name]
        files = {stream: stored_file(self.folder, stream, name) for stream in STREAMS}
        return StoredClip(name, files, frames, 0.0, frames / frames_per_second)


def stored_file(folder: Path, stream: Stream, clip: str) -> Path:
    return folder / stream / f"{clip}.mkv"


def prepare_store(
    sources: Sequence[SourceClip],
    folder: Path,
    preparation: Preparation,
    workers: int = 1,
    progress: Progress = SILENT,
    verify: bool = False,
    cluster: str | None = None,
) -> list[Row]:
    """Write the store of a list of clips; clips that are there already, made the same way, are kept.

    A clip that can't be decoded is set aside: its row says why and the rest goes on. A killed run leaves no
    half-written file and continues where it stopped when it is called again.

    Args:
        sources: from `layouts.read_class_folders`.
        folder: the store.
        preparation: working size and flow settings.
        workers: processes; each uses one thread.
        progress: a step is a clip; its note has the pace and how many clips failed.
        verify: prepares each clip a second time and compares what is stored with it, bit by bit.
        cluster: address of a Ray cluster that does the work instead of processes of this machine; every node sees
            the sources and the store under the same paths.

    Returns:
        The rows of the manifest, in the order of `sources`.

    Raises:
        InputError: if the store can't be written, or the cluster can't be reached.
    """
    Preparer(preparation)  # refuses wrong settings before anything is changed
    task = partial(prepare_clip, folder=folder.absolute(), preparation=preparation, verify=verify)
    placed = [replace(source, path=source.path.absolute()) for source in sources]  # nodes have folders of their own
    results = map_on_cluster(task, placed, cluster) if cluster else map_in_processes(task, placed, workers)
    # Until all clips are done, the old manifest may speak of files that are being replaced.
    _remove(folder / MANIFEST)
    progress.update(0, len(sources))
    rows, pace = [], Pace()
    for source, row in zip(sources, results, strict=True):
        rows.append(replace(row, source=str(source.path)))
        progress.update(len(rows), len(sources), pace.note(row.frames, row.status != OK))
    _write_manifest(folder / MANIFEST, rows, preparation)
    return rows


def prepare_clip(source: SourceClip, folder: Path, preparation: Preparation, verify: bool = False) -> Row:
    """Prepare one clip: the same on one core, in a process pool and on a cluster."""
    cv2.setNumThreads(1)
    row = Row(source.name, source.label, source.group, 0, 0.0, 0, 0, str(source.path), "", OK)
    try:
        row = replace(row, sha256=file_sha256(source.path))
        info = probe(source.path)
        rate = preparation.frame_rate or info.frames_per_second
        settings = json.dumps(preparation.as_dict(), sort_keys=True)
        made_from = {"source_sha256": row.sha256, "preparation": settings}
        frames = _frames_already_there(folder, source.name, made_from)
        if frames and verify and not _is_as_prepared(source, folder, preparation):
            frames = 0
        if not frames:
            frames = _write_streams(source, folder, preparation, rate, made_from)
            if verify and not _is_as_prepared(source, folder, preparation):
                raise VideoError(f"{source.path} is read back otherwise than it was written: check the disk and memory")
    except (VideoError, OSError) as error:
        return replace(row, status=str(error))
    hashes = {f"{stream}_sha256": file_sha256(stored_file(folder, stream, source.name)) for stream in STREAMS}
    return replace(row, frames=frames, frames_per_second=rate, width=info.width, height=info.height, **hashes)


def _pictures(source: SourceClip, preparation: Preparation) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The working frames of a clip, each with the picture of the flow that leads to it."""
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
            raise VideoError(f"{source.path} has {frames} frame: flow needs at least 2")
    return frames


def _is_as_prepared(source: SourceClip, folder: Path, preparation: Preparation) -> bool:
    """Whether the stored files give back, to the last bit, what the source gives when it is prepared again."""
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


def _frames_already_there(folder: Path, clip: str, made_from: dict[str, str]) -> int:
    """How many frames the stored files of a clip have if both were made from this source in this way, else 0."""
    try:
        with (
            IntraReader(stored_file(folder, "rgb", clip)) as rgb,
            IntraReader(stored_file(folder, "flow", clip)) as flow,
        ):
            same = rgb.metadata == flow.metadata == made_from
            return rgb.num_frames if same and flow.num_frames == rgb.num_frames - 1 else 0
    except VideoError:
        return 0


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} can't be replaced ({error.strerror}): choose another --out") from error


def _write_manifest(path: Path, rows: list[Row], preparation: Preparation) -> None:
    columns = [{("class" if name == "label" else name): value for name, value in asdict(row).items()} for row in rows]
    flow = preparation.flow
    settings = {
        "flow_method": flow.method,
        "flow_preset": flow.preset,
        "flow_bound": flow.bound,
        "flow_reduction": preparation.flow_reduction,
        "short_side": preparation.short_side,
        "square": preparation.square,
        "jpeg_quality": preparation.jpeg_quality,
    }
    table = pa.Table.from_pylist([{**row, **settings} for row in columns])
    table = table.replace_schema_metadata({"preparation": json.dumps(preparation.as_dict())})
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def _row_from_columns(columns: dict) -> Row:
    columns = {"rgb_sha256": "", "flow_sha256": "", **columns}  # older stores have none
    return Row(**{name: columns["class" if name == "label" else name] for name in Row.__dataclass_fields__})
