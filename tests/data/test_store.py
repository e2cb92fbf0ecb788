import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from rgbflow.clip import as_stored, to_working_size
from rgbflow.data import manifest
from rgbflow.data import store as store_module
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import OK
from rgbflow.data.store import Store, prepare_store, stored_file
from rgbflow.errors import InputError
from rgbflow.flow import FlowSettings, dequantise, from_pictures, quantise, to_picture
from rgbflow.stream import Preparation
from rgbflow.video.intra import IntraReader, IntraWriter
from rgbflow.video.reading import decode
from rgbflow.video.writing import write_video

PREPARATION = Preparation(short_side=48, flow=FlowSettings("dis", "fast", bound=8.0))


@pytest.fixture
def videos(tmp_path, moving_square):
    folder = tmp_path / "videos"
    for label, dx in (("left", -2), ("right", 2)):
        (folder / label).mkdir(parents=True)
        for clip in range(2):
            frames = moving_square(dx, 0, frames=6 + clip, size=(80, 60), seed=clip)
            write_video(folder / label / f"clip{clip}.mp4", frames, 20)
    return folder


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("jpeg_quality", [None, 96])
def test_the_store_equals_direct_decoding(videos, tmp_path, jpeg_quality):
    sources = read_class_folders(videos)
    rows = prepare_store(sources, tmp_path / "store", replace(PREPARATION, jpeg_quality=jpeg_quality))
    store = Store(tmp_path / "store")
    flow_method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    for source, row in zip(sources, rows, strict=True):
        frames = [to_working_size(frame.pixels, PREPARATION) for frame in decode(source.path)]
        clip = store.clip(source.name)
        assert row.frames == clip.num_frames == len(frames)
        shown = [as_stored(frame, jpeg_quality) for frame in frames]
        np.testing.assert_array_equal(clip.read("rgb", np.arange(len(frames))).transpose(0, 2, 3, 1), shown)
        assert np.abs(np.int16(shown) - frames).mean() < (2 if jpeg_quality else 1e-9)
        gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        fields = [flow_method.calc(a, b, None).transpose(2, 0, 1) for a, b in pairwise(gray)]
        pictures = [as_stored(to_picture(quantise(field, 8.0)), jpeg_quality) for field in fields]
        np.testing.assert_array_equal(clip.read("flow", np.arange(len(fields))), from_pictures(np.stack(pictures)))


def test_flow_is_stored_at_a_quarter_and_errs_less_than_full_size_jpegs_of_quality_95(tmp_path, moving_square):
    path = tmp_path / "videos" / "walk" / "clip.mp4"
    path.parent.mkdir(parents=True)
    write_video(path, moving_square(3, -2, frames=4, size=(320, 240)), 25)
    prepare_store(read_class_folders(tmp_path / "videos"), tmp_path / "store", Preparation())
    stored = Store(tmp_path / "store").clip("walk/clip").read("flow", np.arange(3))
    assert stored.shape == (3, 2, 64, 85)
    gray = [cv2.cvtColor(to_working_size(frame.pixels, Preparation()), cv2.COLOR_RGB2GRAY) for frame in decode(path)]
    for field, (one, other) in zip(dequantise(stored, 20.0), pairwise(gray), strict=True):
        full = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST).calc(one, other, None).transpose(2, 0, 1)
        enlarged = np.stack([cv2.resize(plane, full.shape[:0:-1]) for plane in field])
        jpegs = [cv2.imencode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for plane in quantise(full, 20.0)]
        usual = dequantise(np.stack([cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) for data in jpegs]), 20.0)
        assert np.abs(enlarged - full).mean() <= np.abs(usual - full).mean()
    size = stored_file(tmp_path / "store", "flow", "walk/clip").stat().st_size
    assert size < 0.5 * 3 * sum(map(len, jpegs))  # the file's frame included, which three fields hardly pay for


def test_a_store_of_before_the_reduction_is_still_read(videos, tmp_path):
    old = Preparation(48, FlowSettings("dis", "fast", 8.0, reduction=1), jpeg_quality=None)
    prepare_store(read_class_folders(videos), tmp_path / "store", old)
    path = tmp_path / "store" / "manifest.parquet"
    told = {"short_side": 48, "flow": {"method": "dis", "preset": "fast", "bound": 8.0}}  # all that it said then
    pq.write_table(pq.read_table(path).replace_schema_metadata({"preparation": json.dumps(told)}), path)
    (tmp_path / "store" / "manifest.sha256").unlink()  # stores had none then
    store = Store(tmp_path / "store")
    assert store.preparation == old
    assert store.clip("left/clip0").read("flow", np.array([1])).shape == (1, 2, 48, 64)


def test_the_frame_rate_is_changed_by_time(tmp_path, moving_square):
    path = tmp_path / "videos" / "walk" / "clip.mp4"
    path.parent.mkdir(parents=True)
    write_video(path, moving_square(1, 0, frames=20, size=(64, 64)), 20)
    expected = {10: list(range(0, 20, 2)), 8: [0, 2, 5, 7, 10, 12, 15, 17], 40: [n // 2 for n in range(40)]}
    for rate, shown in expected.items():
        preparation = replace(PREPARATION, frame_rate=float(rate), jpeg_quality=None)
        (row,) = prepare_store(read_class_folders(tmp_path / "videos"), tmp_path / "store", preparation)
        clip = Store(tmp_path / "store").clip("walk/clip")
        assert (row.frames, row.frames_per_second, clip.end_seconds) == (len(shown), rate, 1.0)
        frames = np.stack([to_working_size(frame.pixels, PREPARATION) for frame in decode(path)])[shown]
        stored = clip.read("rgb", np.arange(len(shown))).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(stored, frames)


def test_the_manifest_is_a_plain_table(videos, tmp_path):
    prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION)
    rows = pq.read_table(tmp_path / "store" / "manifest.parquet").to_pylist()
    assert [row["clip"] for row in rows] == ["left/clip0", "left/clip1", "right/clip0", "right/clip1"]
    first = rows[0]
    assert (first["class"], first["frames"], first["width"], first["height"]) == ("left", 6, 80, 60)
    assert (first["frames_per_second"], first["flow_method"], first["flow_bound"]) == (20.0, "dis", 8.0)
    assert len(first["sha256"]) == 64
    assert {row["status"] for row in rows} == {OK}


def test_two_processes_write_the_same_bytes_as_one(videos, tmp_path):
    sources = read_class_folders(videos)
    prepare_store(sources, tmp_path / "one", PREPARATION, workers=1)
    prepare_store(sources, tmp_path / "two", PREPARATION, workers=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_stopped_run_goes_on_and_keeps_what_is_done(videos, tmp_path):
    sources, folder = read_class_folders(videos), tmp_path / "store"

    class KilledError(Exception):
        pass

    def kill_after_two(done, total, note=""):
        if done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        prepare_store(sources, folder, PREPARATION, progress=SimpleNamespace(update=kill_after_two))
    done = stored_file(folder, "rgb", "left/clip0")
    written = done.stat().st_mtime_ns
    with pytest.raises(InputError, match="not a prepared data set"):
        Store(folder)
    prepare_store(sources, folder, PREPARATION)
    assert done.stat().st_mtime_ns == written
    prepare_store(sources, tmp_path / "whole", PREPARATION)
    assert files_of(folder) == files_of(tmp_path / "whole")


def test_a_stopped_change_of_settings_leaves_no_store_of_two_kinds(videos, tmp_path):
    sources, folder = read_class_folders(videos), tmp_path / "store"
    prepare_store(sources, folder, PREPARATION)

    def stop(done, total, note=""):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_store(sources, folder, Preparation(short_side=32), progress=SimpleNamespace(update=stop))
    with pytest.raises(InputError, match="is being prepared again"):
        Store(folder)


def test_what_a_killed_run_left_half_written_is_removed(videos, tmp_path):
    code = "import sys; from rgbflow.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "prepare", videos, "--out", tmp_path / "store", "--workers", "1"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "store").rglob(".*.mkv")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION)
    assert not list((tmp_path / "store").rglob(".*"))
    assert len(Store(tmp_path / "store").rows) == 4


def test_a_changed_source_or_setting_is_prepared_again(videos, tmp_path, moving_square):
    sources, folder = read_class_folders(videos), tmp_path / "store"
    prepare_store(sources, folder, PREPARATION)
    write_video(sources[0].path, moving_square(0, 3, frames=9, size=(80, 60)), 20)
    assert prepare_store(sources, folder, PREPARATION)[0].frames == 9
    smaller = Preparation(short_side=32, flow=PREPARATION.flow)
    prepare_store(sources, folder, smaller)
    assert Store(folder).preparation == smaller
    assert Store(folder).clip("left/clip0").read("rgb", np.array([0])).shape[2] == 32


def test_a_broken_clip_is_set_aside_and_the_rest_goes_on(videos, tmp_path, moving_square):
    (videos / "left" / "broken.mp4").write_bytes(b"no video at all")
    write_video(videos / "right" / "short.mp4", moving_square(0, 0, frames=1, size=(80, 60)), 20)
    rows = prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION, workers=2)
    store = Store(tmp_path / "store")
    assert len(store.rows) == 4
    assert [row.clip for row in store.failed] == ["left/broken", "right/short"]
    assert "broken.mp4" in store.failed[0].status
    assert "flow needs at least 2" in store.failed[1].status
    assert len(rows) == 6
    assert not list((tmp_path / "store").rglob(".*"))
    assert not stored_file(tmp_path / "store", "rgb", "right/short").exists()


def test_a_full_disk_ends_the_run_with_one_line(videos, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(InputError, match=r"manifest.parquet can't be written \(No space left on device\)"):
        prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION)
    assert not (tmp_path / "store" / "manifest.parquet").exists()


def test_a_damaged_manifest_is_named(videos, tmp_path):
    folder = tmp_path / "store"
    prepare_store(read_class_folders(videos), folder, PREPARATION)
    (folder / "manifest.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"manifest.parquet has changed since it was written"):
        Store(folder)
    (folder / "manifest.sha256").unlink()
    with pytest.raises(InputError, match=r"manifest.parquet can't be read"):
        Store(folder)


def test_a_store_can_be_moved(videos, tmp_path):
    prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION)
    shutil.move(tmp_path / "store", tmp_path / "elsewhere")
    assert Store(tmp_path / "elsewhere").clip("left/clip0").read("flow", np.array([4])).shape == (1, 2, 48, 64)


def test_stored_files_tell_what_they_were_made_from(videos, tmp_path):
    rows = prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION)
    with IntraReader(stored_file(tmp_path / "store", "flow", "left/clip0")) as reader:
        told = reader.metadata
    assert told["source_sha256"] == rows[0].sha256
    assert json.loads(told["preparation"]) == PREPARATION.as_dict()


def believe_what_is_there(folder):
    """Write the hashes of the stored files into the manifest, as if they had been written so."""
    rows, hashes = [], store_module._hashes
    for row in Store(folder).rows.values():
        rgb, flow = hashes(folder, row.clip)
        rows.append(replace(row, rgb_sha256=rgb, flow_sha256=flow))
    manifest.write(folder, rows, PREPARATION)


def test_verifying_finds_and_mends_a_changed_frame_that_nothing_else_would_show(videos, tmp_path):
    """As a machine with bad memory would leave it: the stored file is sound in itself."""
    sources, folder = read_class_folders(videos), tmp_path / "store"
    prepare_store(sources, folder, PREPARATION, verify=True)
    whole = files_of(folder)
    with IntraReader(stored_file(folder, "rgb", "left/clip1")) as reader:
        frames, metadata = reader.read(range(reader.num_frames)), reader.metadata
    frames[3, 10:20, 10:20] ^= 64
    with IntraWriter(stored_file(folder, "rgb", "left/clip1"), 20, metadata, 96) as writer:
        for frame in frames:
            writer.write(frame)
    believe_what_is_there(folder)
    prepare_store(sources, folder, PREPARATION)
    assert {name for name in whole if files_of(folder)[name] != whole[name]} >= {Path("rgb/left/clip1.mkv")}
    prepare_store(sources, folder, PREPARATION, verify=True)
    assert files_of(folder) == whole


def test_a_clip_that_is_read_back_otherwise_is_set_aside(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(store_module, "_is_as_prepared", lambda source, *_: source.name != "left/clip0")
    rows = prepare_store(read_class_folders(videos), tmp_path / "store", PREPARATION, verify=True)
    assert [row.status == OK for row in rows] == [False, True, True, True]
    assert "reads back differently from what was written: check disk and memory" in rows[0].status


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc to read the peak from")
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path, moving_square):
    """Peak resident size, MiB, of a process that prepares a video of 100, and one of 4,000 frames."""
    frames = moving_square(1, 0, frames=50, size=(96, 72))
    code = (
        "import re, sys; from pathlib import Path; from rgbflow.data.layouts import SourceClip\n"
        "from rgbflow.data.store import prepare_clip; from rgbflow.stream import Preparation\n"
        "path = Path(sys.argv[1])\n"
        "row = prepare_clip(SourceClip('a/' + path.stem, 'a', 'g', path), Path(sys.argv[2]), Preparation(72))\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]\n"
        "print(row.frames, int(peak) / 1024)"
    )
    peaks = {}
    for length in (100, 4000):
        path = tmp_path / f"{length}.mp4"
        write_video(path, (frame for _ in range(length // 50) for frame in frames), 25)
        command = [sys.executable, "-c", code, path, tmp_path / "store"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        counted, peaks[length] = map(float, done.stdout.split())
        assert counted == length
    assert peaks[4000] < peaks[100] + 16  # its frames alone would be 80
    assert peaks[4000] < 400
