"""The manifest of a prepared data set: a row for each clip in a Parquet file, and the hash of that file beside it."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rgbflow.atomic import replacing, write_atomically
from rgbflow.data.layouts import file_sha256
from rgbflow.errors import InputError, first_line
from rgbflow.limits import FRAMES, ROWS, TEXT
from rgbflow.records import parse_json
from rgbflow.stream import Preparation

MANIFEST, HASH = "manifest.parquet", "manifest.sha256"
OK = "ok"
Hashes = tuple[str, str]  # SHA-256 of a clip's stored files, rgb and flow, as they were written; empty in old stores


@dataclass(frozen=True)
class Row:
    """A line of the manifest.

    Attributes:
        clip: "<Class>/<file stem>".
        label: the class; this column of the file has the name "class".
        group: the source the clip was cut from.
        frames: number of frames, counted by decoding; flow has one field fewer.
        frames_per_second: rate of the stored frames; the source's, unless the preparation sets a frame rate.
        width, height: size of the source, pixels.
        source: path of the source file when it was prepared.
        sha256: SHA-256 of the source file.
        status: "ok", or the reason why the clip was set aside.
        rgb_sha256, flow_sha256: SHA-256 of the stored files when they were written; empty for a clip set aside, and in
            older stores.
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


TYPES: dict[object, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
KINDS = {pa.string(): pa.types.is_string, pa.int64(): pa.types.is_integer, pa.float64(): pa.types.is_floating}
COLUMNS = {("class" if one.name == "label" else one.name): one for one in fields(Row)}
TEXTS = {name for name, one in COLUMNS.items() if one.type is str}
ADDED_LATER = ("rgb_sha256", "flow_sha256")


def write(folder: Path, rows: Sequence[Row], preparation: Preparation) -> None:
    """Replace the manifest and its hash; in between, the hashes of both the new and the old manifest are stored.

    A run killed in between leaves either the old or the new manifest, and both are valid.
    """
    columns = [{("class" if name == "label" else name): value for name, value in asdict(row).items()} for row in rows]
    flow, path = preparation.flow, folder / MANIFEST
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
        new, old = file_sha256(temporary), [file_sha256(path)] if path.is_file() and _may_be_read(folder) else []
        write_atomically(folder / HASH, "\n".join([new, *old, ""]))
    write_atomically(folder / HASH, f"{new}\n")


def check_hash(folder: Path) -> None:
    """Raise InputError if the manifest has changed since it was written; older stores have no hash."""
    if not _may_be_read(folder):
        raise InputError(
            f"{folder / MANIFEST} has changed since it was written: run `rgbflow prepare` again, or delete {HASH} "
            "beside it if you have changed it yourself"
        )


def _may_be_read(folder: Path) -> bool:
    if not (folder / HASH).is_file():
        return True
    return any(_is_as_written(folder) for _ in range(2))  # it may just be replaced


def _is_as_written(folder: Path) -> bool:
    """Whether the hash beside the manifest is that of the manifest; False without a hash."""
    try:
        return file_sha256(folder / MANIFEST) in (folder / HASH).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return False


def read_preparation(folder: Path) -> Preparation:
    """The settings that a store was made with.

    Raises:
        InputError: if the manifest can't be read.
    """
    with _reading(folder) as file:
        return Preparation.from_dict(parse_json(file.schema_arrow.metadata[b"preparation"]), "preparation")


def read_rows(folder: Path) -> list[Row]:
    """All rows.

    Raises:
        InputError: if the manifest can't be read, or has impossible values.
    """
    columns = read_columns(folder, tuple(COLUMNS))
    return [Row(*values) for values in zip(*columns.values(), strict=True)]


def read_columns(folder: Path, names: Sequence[str]) -> dict[str, list]:
    """The values of some columns, of all rows.

    Raises:
        InputError: if the manifest can't be read, has more rows than `limits` allows, or has impossible values.
    """
    with _reading(folder) as file:
        there = [name for name in names if name in file.schema_arrow.names or name not in ADDED_LATER]
        schema = pa.schema([pa.field(name, TYPES[COLUMNS[name].type]) for name in there])
        columns = _expanded(file.read(there).select(there), schema).to_pydict()
        columns |= {name: [""] * file.metadata.num_rows for name in names if name not in there}
        _check(columns)
        return {name: columns[name] for name in names}


def _expanded(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with its texts decoded, if not too long: a text stored once may stand for a million rows."""
    for wanted, column in zip(schema, table.columns, strict=True):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not KINDS[wanted.type](kind):
            raise ValueError(f"{wanted.name} is of type {kind}, not {wanted.type}")
    sizes = [
        pc.sum(pc.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
        for column in table.columns
        if pa.types.is_dictionary(column.type)
        for chunk in column.chunks
    ]
    TEXT.check(sum(sizes), "its text")
    return table.cast(schema)


def _check(columns: dict[str, list]) -> None:
    """Raise ValueError for an impossible value."""
    for name, values in columns.items():
        if None in values:
            raise ValueError(f"a {name} is missing")
    for clip in columns["clip"]:
        parts = PurePosixPath(clip).parts
        if len(parts) != 2 or {"..", "/"} & {*parts} or clip != "/".join(parts) or "\0" in clip:
            raise ValueError(f"clip {clip[:80]!r} has another form than <Class>/<clip>")
    if len({*columns["clip"]}) != len(columns["clip"]):
        raise ValueError("a clip has two rows")
    if not all(0 <= frames <= FRAMES.value for frames in columns["frames"]):
        raise ValueError(f"frames must be in 0…{FRAMES.value}; {FRAMES.variable} allows more")
    if not all(0 <= rate < math.inf for rate in columns["frames_per_second"]):
        raise ValueError("a frames_per_second is no rate")
    if not all(rate for rate, frames in zip(columns["frames_per_second"], columns["frames"], strict=True) if frames):
        raise ValueError("a frames_per_second is 0")


def known_hashes(folder: Path) -> dict[str, Hashes]:
    """The hashes of the stored files of each clip; empty if no manifest can be read.

    A damaged manifest is read too: a wrong hash fits no file, so its clip is made again.
    """
    try:
        rows = read_rows(folder)
    except InputError:
        return {}
    return {row.clip: (row.rgb_sha256, row.flow_sha256) for row in rows if row.status == OK}


@contextmanager
def _reading(folder: Path) -> Iterator[pq.ParquetFile]:
    path = folder / MANIFEST
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a regular file: run `rgbflow prepare` again")
    try:
        texts = [name for name in pq.read_schema(path, memory_map=True).names if name in TEXTS]
        with pq.ParquetFile(path, memory_map=True, read_dictionary=texts) as file:
            about = file.metadata
            groups = [about.row_group(index) for index in range(about.num_row_groups)]
            rows, size = sum(group.num_rows for group in groups), sum(group.total_byte_size for group in groups)
            ROWS.check(max(rows, about.num_rows), str(path))
            TEXT.check(size, str(path))
            yield file
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError) and str(error).startswith(str(path)):
            raise
        raise InputError(f"{path} can't be read ({first_line(error)}): run `rgbflow prepare` again") from error
    except (MemoryError, RecursionError, OverflowError) as error:
        raise InputError(f"{path} can't be read ({first_line(error)}): run `rgbflow prepare` again") from error
