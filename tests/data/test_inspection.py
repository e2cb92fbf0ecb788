import json
import shutil

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rgbflow.cli import main
from rgbflow.data.inspection import check_store, is_store
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import HASH, MANIFEST
from rgbflow.data.store import Store, prepare_store, stored_file
from rgbflow.errors import InputError
from rgbflow.stream import Preparation
from rgbflow.video.writing import write_video

CLIP = "a/0"


@pytest.fixture
def store(tmp_path, moving_square):
    """A whole store of four clips of 9 frames, two classes."""
    for clip in range(4):
        pixels = moving_square(clip - 2, 1, frames=9, size=(80, 60), seed=clip)
        write_video(tmp_path / "videos" / "ab"[clip % 2] / f"{clip}.mp4", pixels, 20)
    prepare_store(read_class_folders(tmp_path / "videos"), tmp_path / "store", Preparation(48))
    return tmp_path / "store"


def change_rows(store, change):
    """Rewrite the manifest's rows."""
    table = pq.read_table(store / MANIFEST)
    rows = [dict(row) for row in table.to_pylist()]
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), store / MANIFEST)
    (store / HASH).unlink()  # as who changes it knowingly is told to


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def problems(store):
    return [(f.path, f.message) for f in check_store(store).findings if f.kind != "note"]


def only_problem(store, path, message):
    ((found, told),) = problems(store)
    assert found == path
    assert message in told
    assert "\n" not in told


def test_a_whole_store_has_no_problem(store):
    diagnosis = check_store(store)
    assert (diagnosis.ok, diagnosis.findings) == (True, ())
    assert (diagnosis.files, diagnosis.frames, diagnosis.classes, diagnosis.groups) == (8, 36, 2, 4)
    assert diagnosis.seconds == pytest.approx(36 / 20)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_found(store, stream, share):
    path = stored_file(store, stream, CLIP)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    only_problem(store, path, "run `rgbflow prepare --verify` again")


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_flipped_bit_is_found_wherever_it_is(store, stream):
    path = stored_file(store, stream, CLIP)
    whole = path.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 23).astype(int):
        flip(path, place)
        assert [found for found, _ in problems(store)] == [path], place
        path.write_bytes(whole)
    assert problems(store) == []


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_the_first_damaged_frame_is_named_also_where_the_manifest_has_no_hash(store, stream):
    path = stored_file(store, stream, CLIP)
    content = path.read_bytes()
    last_picture = content.rindex(b"\xff\xd8\xff\xfe")
    flip(path, last_picture + 200)
    last = 8 if stream == "rgb" else 7
    only_problem(store, path, f"is damaged at frame {last}: run")
    change_rows(store, lambda rows: [row.update(rgb_sha256="", flow_sha256="") for row in rows])
    only_problem(store, path, f"is damaged at frame {last}: run")


def test_missing_flow_is_found(store):
    stored_file(store, "flow", CLIP).unlink()
    only_problem(store, stored_file(store, "flow", CLIP), "is missing although the manifest lists its clip")


def test_a_wrong_frame_count_is_found(store):
    change_rows(store, lambda rows: rows[0].update(frames=10))
    assert problems(store) == [
        (stored_file(store, "rgb", CLIP), "holds 9 frames, but by the manifest it should hold 10" + AGAIN),
        (stored_file(store, "flow", CLIP), "holds 8 flow fields, but by the manifest it should hold 9" + AGAIN),
    ]


AGAIN = ": run `rgbflow prepare --verify` again"


def test_a_row_without_files_is_found(store):
    change_rows(store, lambda rows: rows.append({**rows[0], "clip": "a/gone", "sha256": "0" * 64}))
    assert [path for path, _ in problems(store)] == [stored_file(store, stream, "a/gone") for stream in ("rgb", "flow")]


def test_a_file_without_a_row_is_found(store):
    change_rows(store, lambda rows: rows.pop(0))
    assert [path for path, _ in problems(store)] == [stored_file(store, stream, CLIP) for stream in ("rgb", "flow")]
    assert all("has no row in the manifest" in message for _, message in problems(store))


def test_what_a_killed_run_left_is_found(store):
    left = store / "rgb" / "a" / ".0.12345678.mkv"
    left.write_bytes(b"half")
    only_problem(store, left, "half-written file of a killed run: remove it")


def test_the_same_clip_under_two_classes_is_found_and_in_one_class_noted(tmp_path, store):
    videos = tmp_path / "videos"
    shutil.copy(videos / "a" / "0.mp4", videos / "b" / "again.mp4")
    shutil.copy(videos / "a" / "0.mp4", videos / "a" / "again.mp4")
    prepare_store(read_class_folders(videos), store, Preparation(48))
    ((path, message),) = problems(store)
    assert (str(path), message) == ("b/again", "is the same video as a/0: keep it in one class")
    assert [(str(f.path), f.kind) for f in check_store(store).findings if f.kind == "note"] == [("a/again", "note")]


def test_files_of_two_clips_exchanged_are_found(store):
    one, other = (stored_file(store, "rgb", name) for name in ("a/0", "b/1"))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    assert {message for _, message in problems(store)} == {
        "was made from another source than the manifest records" + AGAIN
    }


def test_a_clip_set_aside_is_a_note(tmp_path, store):
    (tmp_path / "videos" / "a" / "broken.mp4").write_bytes(b"no video")
    prepare_store(read_class_folders(tmp_path / "videos"), store, Preparation(48))
    (finding,) = check_store(store).findings
    assert (finding.kind, finding.path.name) == ("note", "broken.mp4")


def test_preparing_again_makes_good_what_is_cut_off_or_missing(tmp_path, store):
    whole = {path: path.read_bytes() for path in store.rglob("*.mkv")}
    stored_file(store, "flow", CLIP).unlink()
    stored_file(store, "rgb", "b/1").write_bytes(b"cut")
    prepare_store(read_class_folders(tmp_path / "videos"), store, Preparation(48))
    assert {path: path.read_bytes() for path in store.rglob("*.mkv")} == whole
    assert check_store(store).ok


def test_the_command_tells_a_store_from_videos(tmp_path, store, capsys):
    assert main(["check", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 8
    flip(stored_file(store, "flow", "b/1"), 3000)
    assert main(["check", str(store)]) == 3
    assert "broken: " in capsys.readouterr().out
    (store / MANIFEST).unlink()
    assert main(["check", str(store)]) == 1
    assert "is not a prepared data set: it has no manifest.parquet" in capsys.readouterr().err
    assert not is_store(tmp_path / "videos")


def test_a_jpeg_layout_is_decoded(tmp_path):
    folder = tmp_path / "jpegs" / "walk" / "clip"
    folder.mkdir(parents=True)
    for number in range(1, 5):
        for name in ("img", "x", "y")[: 3 if number < 4 else 1]:
            cv2.imwrite(str(folder / f"{name}_{number:05d}.jpg"), np.full((40, 50), 9 * number, np.uint8))
    assert check_store(tmp_path / "jpegs").ok
    whole = (folder / "x_00002.jpg").read_bytes()
    (folder / "x_00002.jpg").write_bytes(whole[: len(whole) // 2])
    only_problem(tmp_path / "jpegs", folder, "x_00002.jpg can't be read (it is not a complete JPEG)")


def test_a_store_without_hashes_is_read(store):
    table = pq.read_table(store / MANIFEST)
    pq.write_table(table.drop_columns(["rgb_sha256", "flow_sha256"]), store / MANIFEST)
    (store / HASH).unlink()
    assert Store(store).rows[CLIP].rgb_sha256 == ""
    assert check_store(store).ok


def test_no_store_is_one_line(tmp_path):
    with pytest.raises(InputError, match="is not a prepared data set"):
        check_store(tmp_path)
