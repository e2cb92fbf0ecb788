"""A prepared data set outlives what happens to its clips, its files, its manifest and its runs."""

import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from rgbflow.cli import main
from rgbflow.data import store as store_module
from rgbflow.data.inspection import check_store
from rgbflow.data.journal import UNFINISHED
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import HASH, MANIFEST, OK, Row
from rgbflow.data.store import Store, prepare_store, stored_file
from rgbflow.errors import InputError
from rgbflow.flow import FlowSettings
from rgbflow.processes import map_in_processes
from rgbflow.stream import Preparation
from rgbflow.video.intra import IntraReader, IntraWriter
from rgbflow.video.reading import VideoError
from rgbflow.video.writing import write_video

PREPARATION = Preparation(short_side=32, flow=FlowSettings("dis", "fast", bound=8.0))


@pytest.fixture
def videos(tmp_path, moving_square):
    for label, dx in (("left", -2), ("right", 2)):
        for clip in range(2):
            frames = moving_square(dx, 0, frames=5 + clip, size=(48, 36), seed=clip)
            write_video(tmp_path / "videos" / label / f"clip{clip}.mp4", frames, 20)
    return tmp_path / "videos"


@pytest.fixture
def store(videos, tmp_path):
    prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION)
    return tmp_path / "store"


def prepare(videos, store):
    return prepare_store(read_class_folders(videos), store, PREPARATION)


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def problems(store):
    return [finding for finding in check_store(store).findings if finding.kind != "note"]


def flip(path, place, bit=0):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def interrupt(done, total, note=""):
    raise KeyboardInterrupt


# One clip never ends a run


@pytest.mark.parametrize("letters", [239, 243, 251])  # with .mp4 the last has 255 bytes, the most there is
def test_a_long_name_is_no_problem(videos, store, letters):
    before = files_of(store)
    (videos / "left" / "clip0.mp4").rename(videos / "left" / f"{'n' * letters}.mp4")
    rows = prepare(videos, store)
    assert [row.status for row in rows] == [OK] * 4
    assert files_of(store).keys() - before.keys() == {
        stored_file(store, stream, f"left/{'n' * letters}").relative_to(store) for stream in ("rgb", "flow")
    }
    assert problems(store)[0].message.startswith("has no row")  # the files of the old name


def test_a_name_that_is_too_long_for_a_stored_file_costs_that_clip_alone(videos, store):
    (videos / "left" / "clip0.mp4").rename(videos / "left" / f"{'n' * 252}.ts")  # .mkv is a letter longer
    rows = prepare(videos, store)
    assert [row.status == OK for row in rows] == [True, False, True, True]
    assert "File name too long" in rows[1].status
    assert len(Store(store).rows) == 3


@pytest.mark.parametrize(
    "error", [MemoryError("no memory"), PermissionError(13, "Permission denied"), InputError("no")]
)
def test_whatever_befalls_a_clip_the_others_go_on(videos, store, monkeypatch, error):
    def fail_one(path):
        if path.name == "clip1.mp4" and path.parent.name == "left":
            raise error
        return real(path)

    real = store_module.probe
    monkeypatch.setattr(store_module, "probe", fail_one)
    assert [row.status == OK for row in prepare(videos, store)] == [True, False, True, True]


def test_a_full_disk_ends_the_run_and_the_finished_store_stays(videos, store, monkeypatch, moving_square):
    def full(*arguments):
        raise InputError("the store can't be written") from OSError(28, "No space left on device")

    write_video(videos / "left" / "more.mp4", moving_square(1, 0, 5, (48, 36)), 20)
    monkeypatch.setattr(store_module, "_write_streams", full)
    with pytest.raises(InputError, match="can't be written"):
        prepare(videos, store)
    assert len(Store(store).rows) == 4


def end_on_zero(number):
    if number == 0:
        os._exit(1)
    return number


def test_a_clip_that_ends_its_process_costs_itself_alone():
    assert list(map_in_processes(end_on_zero, range(3), 2, instead=lambda number: "died")) == ["died", 1, 2]


# The manifest is replaced at the end


def test_a_run_that_is_broken_off_leaves_the_finished_store(videos, store, moving_square):
    before = Store(store).rows
    write_video(videos / "left" / "more.mp4", moving_square(1, 0, 5, (48, 36)), 20)
    with pytest.raises(KeyboardInterrupt):
        prepare_store(read_class_folders(videos), store, PREPARATION, progress=SimpleNamespace(update=interrupt))
    assert Store(store).rows == before
    assert len(prepare(videos, store)) == 5


def test_a_store_that_is_half_of_other_settings_is_no_store_until_it_is_done(videos, store):
    other = replace(PREPARATION, jpeg_quality=90)
    with pytest.raises(KeyboardInterrupt):
        prepare_store(read_class_folders(videos), store, other, progress=SimpleNamespace(update=interrupt))
    with pytest.raises(InputError, match="with other settings has not finished"):
        Store(store)
    with pytest.raises(KeyboardInterrupt):  # back to the old ones: a file of the others may still be there
        prepare_store(read_class_folders(videos), store, PREPARATION, progress=SimpleNamespace(update=interrupt))
    with pytest.raises(InputError, match="with other settings has not finished"):
        Store(store)
    prepare_store(read_class_folders(videos), store, other)
    assert Store(store).preparation == other


# Hashes are of what was written


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_damaged_file_is_made_again_and_never_believed(videos, store, where):
    whole, path = files_of(store), stored_file(store, "rgb", "left/clip1")
    flip(path, int(where * path.stat().st_size))
    assert [finding.path for finding in problems(store)] == [path]
    prepare(videos, store)
    assert files_of(store) == whole
    assert problems(store) == []


def test_a_file_damaged_while_a_run_is_broken_off_is_not_believed(videos, tmp_path):
    """There is no manifest yet: what the run has noted is all that tells."""
    sources, folder = read_class_folders(videos), tmp_path / "new"

    def stop(done, total, note=""):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_store(sources, folder, PREPARATION, progress=SimpleNamespace(update=stop))
    path, kept = (stored_file(folder, "flow", f"left/clip{number}") for number in (0, 1))
    flip(path, path.stat().st_size // 2)
    written = kept.stat().st_mtime_ns
    prepare(videos, folder)
    assert kept.stat().st_mtime_ns == written
    assert problems(folder) == []
    prepare(videos, tmp_path / "whole")
    assert files_of(folder) == files_of(tmp_path / "whole")


def test_files_that_nothing_speaks_of_are_made_again(videos, store):
    path = stored_file(store, "rgb", "left/clip1")
    whole = files_of(store)
    flip(path, path.stat().st_size // 2)
    for name in (MANIFEST, HASH):
        (store / name).unlink()
    prepare(videos, store)
    assert files_of(store) == whole


# Damage is told and mended, wherever it is


@pytest.mark.parametrize("jpeg_quality", [96, None])
def test_any_changed_bit_of_a_stored_file_is_one_line_and_mended(videos, tmp_path, jpeg_quality):
    preparation, folder = replace(PREPARATION, jpeg_quality=jpeg_quality), tmp_path / "store"
    sources = read_class_folders(videos)[:1]
    prepare_store(sources, folder, preparation)
    path = stored_file(folder, "flow", sources[0].name)
    whole = path.read_bytes()
    index = whole.rindex(bytes.fromhex("1c53bb6b"))
    head = range(whole.index(bytes.fromhex("1f43b675")))
    rng = np.random.default_rng(0)
    places = [*range(index, index + 24), *rng.choice(head, 20, replace=False), *rng.integers(0, len(whole), 8)]
    for place in map(int, places):
        for bit in rng.choice(8, 2, replace=False):
            flip(path, place, bit)
            (found,) = problems(folder)
            assert (found.path, "\n" in found.message) == (path, False)
            path.write_bytes(whole)
    for place in (index + 4, index + 5, index + 6):  # the size of the index
        flip(path, place, 6)
        prepare_store(sources, folder, preparation, verify=True)
        assert path.read_bytes() == whole


def test_a_size_beyond_the_file_takes_no_memory(tmp_path):
    """An index of 2^55 bytes, by its own word."""
    with IntraWriter(tmp_path / "a.mkv", 25, {}, 90) as writer:
        writer.write(np.zeros((32, 32), np.uint8))
    content = (tmp_path / "a.mkv").read_bytes()
    place = content.rindex(bytes.fromhex("1c53bb6b")) + 4
    (tmp_path / "a.mkv").write_bytes(content[:place] + bytes.fromhex("017fffffffffff") + content[place + 7 :])
    with pytest.raises(VideoError, match=r"has a damaged index|lacks its last"):
        IntraReader(tmp_path / "a.mkv")


@pytest.mark.parametrize("has_hash", [True, False])
def test_a_damaged_manifest_is_one_line_or_says_the_same(store, has_hash):
    path, rng = store / MANIFEST, np.random.default_rng(0)
    rows, whole = Store(store).rows, path.read_bytes()
    if not has_hash:
        (store / HASH).unlink()
    said = []
    for place in rng.integers(0, len(whole), 150).tolist():
        flip(path, place, int(rng.integers(8)))
        try:
            damaged = Store(store)
            assert all(isinstance(row, Row) for row in damaged.rows.values())
            assert not has_hash
        except InputError as error:
            said.append(str(error))
        path.write_bytes(whole)
    assert len(said) == 150 if has_hash else len(said) > 50
    assert not any("\n" in line for line in said)
    assert Store(store).rows == rows


def test_the_repair_runs_where_the_manifest_is_damaged(videos, store):
    whole = files_of(store)
    flip(store / MANIFEST, 30)
    assert main(["check", str(store)]) == 1
    options = ["--out", str(store), "--short-side", "32", "--bound", "8", "--verify", "--workers", "1"]
    assert main(["prepare", str(videos), *options]) == 0
    assert files_of(store) == whole
    (store / MANIFEST).write_bytes(b"PAR1")
    assert main(["prepare", str(videos), "--out", str(store), "--short-side", "32", "--workers", "1"]) == 0


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("frames", -1),
        ("frames", 2**60),
        ("frames", "6"),
        ("frames_per_second", 0.0),
        ("frames_per_second", float("nan")),
        ("frames_per_second", float("inf")),
        ("clip", "../../etc/passwd"),
        ("clip", "/etc/passwd"),
        ("clip", "left/.."),
        ("clip", "left/clip1"),
        ("clip", None),
        ("status", None),
        ("rgb_sha256", 5),
    ],
)
def test_a_manifest_that_says_what_cannot_be_is_refused(store, column, value):
    rows = pq.read_table(store / MANIFEST)
    others = rows[column].to_pylist()[1:]
    values = [value, *(others if value is None or type(value) is type(others[0]) else [value] * 3)]
    changed = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))
    pq.write_table(changed, store / MANIFEST)
    (store / HASH).unlink()
    with pytest.raises(InputError, match=r"manifest.parquet can't be read \(.*: run `rgbflow prepare` again"):
        list(Store(store).rows)


# Two runs


def test_a_second_prepare_into_a_store_is_refused_while_the_first_runs(videos, store):
    with FileLock(store / "prepare.lock"), pytest.raises(InputError, match="is being prepared by another process"):
        prepare(videos, store)
    prepare(videos, store)


def test_two_commands_at_once_leave_one_whole_store(videos, tmp_path):
    code = "import sys; from rgbflow.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ["prepare", str(videos), "--out", str(tmp_path / "store"), "--short-side", "32", "--workers", "1"]
    both = [subprocess.Popen([sys.executable, "-c", code, *options], stderr=subprocess.PIPE, text=True) for _ in "ab"]
    said = [process.communicate(timeout=300)[1] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes
    assert all("Traceback" not in text for text in said)
    for code, text in zip(codes, said, strict=True):
        assert code == 0 or "is being prepared by another process" in text
    assert problems(tmp_path / "store") == []


def test_a_pipe_in_a_store_is_not_waited_for(videos, store):
    """What an unpacked archive of a stranger may hold."""
    (store / MANIFEST).unlink()
    os.mkfifo(store / MANIFEST)
    prepare(videos, store)
    assert problems(store) == []
    os.mkfifo(store / UNFINISHED)
    with pytest.raises(InputError, match="is not a regular file: delete it"):
        prepare(videos, store)
