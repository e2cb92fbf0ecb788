"""What a few bytes claim takes no memory: the claim is read and refused."""

import resource
import struct
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgbflow.clip import to_working_size
from rgbflow.data.jpegs import open_store
from rgbflow.data.layouts import SourceClip, read_groups
from rgbflow.data.lists import read_listed
from rgbflow.data.manifest import MANIFEST, OK
from rgbflow.data.store import Store, prepare_clip
from rgbflow.errors import InputError
from rgbflow.learn.scores import read_scores
from rgbflow.limits import FRAMES, PIXELS, ROWS, TEXT
from rgbflow.stream import Preparation
from rgbflow.video import jpeg
from rgbflow.video.matroska import Matroska
from rgbflow.video.reading import count_frames, decode
from rgbflow.video.writing import write_video

CLAIMS = [(20_000, 20_000), (65_500, 65_500), (65_535, 4_000)]


@pytest.fixture(autouse=True)
def little_memory():
    """What is taken beyond 1 GiB more than now fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def claiming(size):
    """A JPEG of 32×32 that claims to have another size."""
    content = bytearray(cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", *size)
    return bytes(content)


def png(size):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", size[1], size[0], 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"\xff\xd9")


def gif(size):
    picture = b"\x2c" + struct.pack("<HHHHB", 0, 0, size[1], size[0], 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", size[1], size[0], 0x80, 0, 0) + bytes(6) + 2 * picture + b";"


@pytest.mark.parametrize("size", CLAIMS)
@pytest.mark.parametrize("bomb", [claiming, png])
@pytest.mark.parametrize("place", ["img_00001", "img_00003", "x_00002"])
def test_a_picture_in_a_jpeg_layout(tmp_path, size, bomb, place):
    picture = cv2.imencode(".jpg", np.zeros((32, 32), np.uint8))[1].tobytes()
    clip = tmp_path / "a" / "one"
    clip.mkdir(parents=True)
    for number in range(1, 4):
        for prefix in ("img", "x", "y"):
            (clip / f"{prefix}_{number:05d}.jpg").write_bytes(picture)
    (clip / f"{place}.jpg").write_bytes(bomb(size))
    told = (
        "it is not a complete JPEG"
        if bomb is png
        else rf"has {size[0] * size[1]:,} pixels|has {size[1]}×{size[0]} pixels"
    )

    def read():
        opened = open_store(tmp_path).clip("a/one")
        opened.read("rgb", np.arange(3))
        opened.read("flow", np.arange(2))

    with pytest.raises(InputError, match=told):
        read()


@pytest.mark.parametrize("size", CLAIMS)
def test_a_stored_picture(size):
    body = claiming(size)[2:]
    data = b"\xff\xd8\xff\xfe\x00\x0a" + b"%08x" % zlib.crc32(body) + body
    with pytest.raises(InputError, match=r"a picture has .* pixels, and at most 134,217,728 are read"):
        jpeg.decode(data)


@pytest.mark.parametrize("size", CLAIMS)
@pytest.mark.parametrize("ending", ["gif", "png"])
def test_a_picture_in_a_video(tmp_path, size, ending):
    path = tmp_path / f"bomb.{ending}"
    path.write_bytes((gif if ending == "gif" else png)(size))
    with pytest.raises(InputError, match=r"bomb\.(gif|png)\)? .*"):
        list(decode(path))


def test_a_webp_canvas(tmp_path):
    canvas = (16383 - 1).to_bytes(3, "little")
    body = (
        b"WEBPVP8X"
        + struct.pack("<I", 10)
        + bytes([2, 0, 0, 0])
        + 2 * canvas
        + b"ANIM"
        + struct.pack("<I", 6)
        + bytes(6)
    )
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    with pytest.raises(InputError, match=r"a picture of video .* has 268,402,689 pixels, and at most"):
        list(decode(tmp_path / "a.webp"))


def test_a_strip_that_would_be_a_giant_at_the_working_size(tmp_path):
    with pytest.raises(InputError, match=r"a frame of 1000000×16 at the short side 256 has 4,096,000,000 pixels"):
        to_working_size(np.zeros((16, 1_000_000, 3), np.uint8), Preparation())
    write_video(tmp_path / "strip.mp4", np.zeros((2, 2, 4096, 3), np.uint8), 25)
    row = prepare_clip(SourceClip("a/b", "a", "g", tmp_path / "strip.mp4"), tmp_path, Preparation(2048))
    assert "pixels, and at most" in row.status


def test_the_limits_can_be_set(tmp_path, monkeypatch, moving_square):
    write_video(tmp_path / "a.mp4", moving_square(1, 0, 9, (64, 48)), 25)
    monkeypatch.setenv("RGBFLOW_MAX_PIXELS", "3000")
    with pytest.raises(InputError, match=r"has 3,072 pixels, and at most 3,000 are read: set RGBFLOW_MAX_PIXELS"):
        list(decode(tmp_path / "a.mp4"))
    monkeypatch.setenv("RGBFLOW_MAX_PIXELS", "3_072")
    monkeypatch.setenv("RGBFLOW_MAX_FRAMES", "8")
    with pytest.raises(InputError, match=r"has 9 frames, and at most 8 are read: set RGBFLOW_MAX_FRAMES"):
        list(decode(tmp_path / "a.mp4"))
    monkeypatch.setenv("RGBFLOW_MAX_FRAMES", "9")
    assert count_frames(tmp_path / "a.mp4") == 9
    for wrong in ("0", "-1", "many", "1e9", "٣", "9" * 30):
        monkeypatch.setenv("RGBFLOW_MAX_FRAMES", wrong)
        with pytest.raises(InputError, match="must be a whole number of frames above 0"):
            count_frames(tmp_path / "a.mp4")


def test_absurd_numbers_of_frames_by_resampling_end(tmp_path, monkeypatch, moving_square):
    write_video(tmp_path / "a.mp4", moving_square(1, 0, 4, (32, 32)), 25)
    monkeypatch.setenv("RGBFLOW_MAX_FRAMES", "1000")
    for read in (lambda: count_frames(tmp_path / "a.mp4", 1e9), lambda: list(decode(tmp_path / "a.mp4", 1e9))):
        with pytest.raises(InputError, match="has 1,001 frames, and at most 1,000 are read"):
            read()


def write_manifest(folder, table):
    schema = table.schema.with_metadata(
        {"preparation": '{"short_side": 64, "flow": {"method": "dis", "preset": "fast", "bound": 8.0}}'}
    )
    pq.write_table(table.cast(schema), folder / MANIFEST, compression="zstd")


def rows_of(count, text="a/b"):
    def run(value, kind):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value], kind))

    numbers = {"frames": pa.array(np.full(count, 9)), "frames_per_second": pa.array(np.full(count, 25.0))}
    sizes = {name: pa.array(np.full(count, 64)) for name in ("width", "height")}
    texts = {
        name: run(OK if name == "status" else text, pa.string())
        for name in ("clip", "class", "group", "source", "sha256", "status")
    }
    return pa.table({**texts, **numbers, **sizes})


def test_a_manifest_of_many_rows(tmp_path, monkeypatch):
    write_manifest(tmp_path, rows_of(1_000_001))
    assert (tmp_path / MANIFEST).stat().st_size < 100_000
    monkeypatch.setenv("RGBFLOW_MAX_ROWS", "1_000_000")
    with pytest.raises(InputError, match=r"has 1,000,001 rows, and at most 1,000,000 are read: set RGBFLOW_MAX_ROWS"):
        Store(tmp_path)


def test_a_manifest_whose_one_text_counts_a_hundred_thousand_times(tmp_path):
    write_manifest(tmp_path, rows_of(100_000, "a/" + "b" * 100_000))
    with pytest.raises(InputError, match=r"its text has 10,000,200,000 bytes, and at most 1,073,741,824 are read"):
        Store(tmp_path)


def test_texts_have_an_end(tmp_path, monkeypatch):
    monkeypatch.setenv("RGBFLOW_MAX_TEXT", "1000")
    for name, read in (("groups.tsv", read_groups), ("list.txt", lambda path: read_listed([path]))):
        (tmp_path / name).write_text("a/b.mp4\tx\n" * 200)
        with pytest.raises(InputError, match=r"has 2,000 bytes, and at most 1,000 are read: set RGBFLOW_MAX_TEXT"):
            read(tmp_path / name)


def test_a_score_file_that_unfolds_to_many_times_its_size_or_is_of_another_kind(tmp_path, monkeypatch):
    monkeypatch.setenv("RGBFLOW_MAX_TEXT", "10_000_000")
    path = tmp_path / "scores.npz"
    archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("rgb.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (12 << 20,)})
        for _ in range(12):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 20_000
    with pytest.raises(InputError, match=r"has 12,58.,... bytes, and at most 10,000,000 are read"):
        read_scores([path])
    np.savez(path, rgb=np.eye(3), names=np.array(["a", "b", "c"]))
    content = path.read_bytes()
    place = content.rindex(b"PK\x01\x02")
    for offset, value in ((6, 255), (8, 33), (10, 99)):  # version, flags, compression
        path.write_bytes(content[: place + offset] + bytes([value]) + content[place + offset + 1 :])
        with pytest.raises(InputError, match=r"score file .* can't be read"):
            read_scores([path])


@given(st.binary(max_size=200), st.booleans())
def test_the_size_of_any_bytes_is_told_or_refused(content, begins):
    try:
        height, width = jpeg.size(b"\xff\xd8" * begins + content)
    except ValueError:
        return
    assert 0 <= height <= 65535
    assert 0 <= width <= 65535


@given(st.binary(max_size=300), st.booleans(), st.integers(0, 5000), st.integers(0, 7))
def test_no_bytes_but_those_of_a_stored_picture_are_shown(content, has_checksum, place, bit):
    """Any bytes with the right comment, and a stored picture with a bit changed."""
    claimed = b"\xff\xd8\xff\xfe\x00\x0a" + b"%08x" % zlib.crc32(content) + content
    with pytest.raises(ValueError, match=r"JPEG|pixels"):
        jpeg.decode(claimed if has_checksum else content)
    stored = bytearray(jpeg.encode(np.zeros((16, 24), np.uint8), 90))
    stored[place % len(stored)] ^= 1 << bit
    with pytest.raises(ValueError, match=r"JPEG"):
        jpeg.decode(bytes(stored))


@given(st.binary(max_size=64), st.integers(0, 5000), st.integers(0, 7))
def test_the_index_of_any_file_is_read_or_refused(tmp_path_factory, inserted, place, bit):
    """A stored file with bytes put in and a bit changed, anywhere; nothing but ValueError or OSError comes of it."""
    base = tmp_path_factory.getbasetemp() / "matroska.mkv"
    if not base.exists():
        from rgbflow.video.intra import IntraWriter

        with IntraWriter(base, 25, {"a": "b"}, 90) as writer:
            for shade in range(4):
                writer.write(np.full((16, 16), 50 * shade, np.uint8))
    content = bytearray(base.read_bytes())
    content[place % len(content)] ^= 1 << bit
    content[place % len(content) : place % len(content)] = inserted
    path = base.with_name("damaged.mkv")
    path.write_bytes(content)
    with path.open("rb") as file:
        try:
            read = Matroska(file)
            frames = [read.frame(index) for index in range(min(read.num_frames, 50))]
        except (ValueError, IndexError):  # both are told as damage by `IntraReader`
            return
    assert sum(map(len, frames)) < 50 * len(content)


@pytest.mark.parametrize("limit", [PIXELS, FRAMES, ROWS, TEXT])
def test_the_docs_tell_the_limits(limit, request):
    page = (request.config.rootpath / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert f"| `{limit.variable}` | {limit.usual:,}" in page
