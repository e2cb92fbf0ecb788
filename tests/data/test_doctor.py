"""The doctor on real files, each with one known fault."""

import json
import shutil
import subprocess
from types import SimpleNamespace

import imageio_ffmpeg
import numpy as np
import pytest

from rgbflow.data.doctor import Diagnosis, Finding, check_videos
from rgbflow.errors import InputError
from rgbflow.video.writing import write_video


def film(path, frames=12, seed=0, size=(48, 64), frames_per_second=25):
    """Write a video of slowly changing noise; another seed gives other content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    write_video(path, (np.roll(first, shift, axis=1) for shift in range(frames)), frames_per_second)
    return path


def ffmpeg(*arguments):
    """Run the ffmpeg program, for files that rgbflow itself does not write."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory):
    """Two classes of three groups with two clips each, 12 frames at 25 frames a second; read only."""
    folder = tmp_path_factory.mktemp("sound")
    lines = []
    for number, label in enumerate(("bend", "wave")):
        for clip in range(6):
            film(folder / label / f"{clip}.mp4", seed=10 * number + clip)
            lines.append(f"{label}/{clip}.mp4\tperson{clip // 2}\n")
    (folder / "groups.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def folder(sound_folder, tmp_path):
    """A copy of the sound folder, to be spoilt."""
    return shutil.copytree(sound_folder, tmp_path / "videos")


def kinds_and_paths(diagnosis, folder):
    return [(finding.kind, str(finding.path.relative_to(folder))) for finding in diagnosis.findings]


def test_a_sound_folder_has_no_findings(sound_folder):
    diagnosis = check_videos(sound_folder)
    assert (diagnosis.files, diagnosis.frames, diagnosis.classes, diagnosis.groups) == (12, 144, 2, 3)
    assert diagnosis.seconds == pytest.approx(144 / 25)
    assert diagnosis.findings == ()
    assert diagnosis.ok


def test_progress_counts_every_file(sound_folder):
    steps = []
    check_videos(sound_folder, SimpleNamespace(update=lambda *step: steps.append(step), report=None))
    assert steps == [(number, 12) for number in range(13)]


def test_a_single_video_is_checked_alone(tmp_path):
    diagnosis = check_videos(film(tmp_path / "a.mp4", frames=20, frames_per_second=10))
    assert diagnosis == Diagnosis(1, 20, pytest.approx(2.0), 0, 0, ())


def test_a_diagnosis_becomes_json(tmp_path):
    path = film(tmp_path / "a.mp4", frames=3)
    values = json.loads(json.dumps(check_videos(path).as_dict()))
    assert values["ok"] is False
    assert (values["files"], values["frames"]) == (1, 3)
    (finding,) = values["findings"]
    assert (finding["path"], finding["kind"]) == (str(path), "wrong")


def test_notes_alone_are_ok():
    finding = Finding("a.mp4", "note", "its header promises 5 frames, but it holds 4")
    assert Diagnosis(1, 4, 0.2, 0, 0, (finding,)).ok


def test_what_cannot_be_decoded_is_broken_and_the_rest_is_still_checked(folder):
    (folder / "bend/0.mp4").write_text("this is no video\n" * 40)
    (folder / "bend/1.mp4").write_bytes(b"")
    whole = (folder / "wave/2.mp4").read_bytes()
    (folder / "wave/2.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    diagnosis = check_videos(folder)
    broken = [("broken", name) for name in ("bend/0.mp4", "bend/1.mp4", "wave/2.mp4")]
    assert [found for found in kinds_and_paths(diagnosis, folder) if found[0] != "note"] == broken
    assert not diagnosis.ok
    assert diagnosis.files == 12
    assert 9 * 12 <= diagnosis.frames < 10 * 12
    cut = diagnosis.findings[-1].message
    assert cut.startswith("breaks after")
    assert "\n" not in cut


@pytest.mark.parametrize(
    ("frames", "words"),
    [(1, "has 1 frame(s), but motion needs 2"), (10, "has 10 frames, stack_length 10 needs 11"), (11, None)],
)
def test_a_short_video_is_wrong(tmp_path, frames, words):
    findings = check_videos(film(tmp_path / "a.mp4", frames)).findings
    assert [finding.kind for finding in findings] == (["wrong"] if words else [])
    assert all(words in finding.message for finding in findings)


def test_a_tiny_video_is_wrong(tmp_path):
    (finding,) = check_videos(film(tmp_path / "a.mp4", size=(24, 64))).findings
    assert finding.kind == "wrong"
    assert finding.message.startswith("is 64x24 pixels, but each side should have 32")


def test_a_wrong_header_is_noted(tmp_path):
    path = tmp_path / "a.avi"
    ffmpeg("-i", film(tmp_path / "a.mp4"), "-c:v", "mjpeg", path)
    content = path.read_bytes()
    assert check_videos(path).findings == ()
    # The number of frames stands 16 bytes into AVI's main header, and 32 into its stream header.
    header, stream = content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32
    for place in (header, stream):
        assert content[place : place + 4] == (12).to_bytes(4, "little")
        content = content[:place] + (99).to_bytes(4, "little") + content[place + 4 :]
    path.write_bytes(content)
    diagnosis = check_videos(path)
    assert diagnosis.frames == 12
    assert [finding.message for finding in diagnosis.findings] == ["its header promises 99 frames, but it holds 12"]
    assert diagnosis.ok


@pytest.mark.parametrize(("kept", "noted"), [("1", False), ("not(eq(n,30))", False), ("lt(mod(n,7),3)", True)])
def test_a_variable_frame_rate_is_noted(tmp_path, kept, noted):
    path = tmp_path / "a.mkv"
    source = film(tmp_path / "a.mp4", frames=70)
    ffmpeg("-i", source, "-vf", f"select='{kept}'", "-fps_mode", "vfr", "-c:v", "ffv1", path)
    notes = [finding.message for finding in check_videos(path).findings]
    assert len(notes) == noted
    assert all("variable frame rate" in note for note in notes)


def test_videos_outside_class_folders_are_unlabelled(folder):
    film(folder / "stray.mp4", seed=99)
    diagnosis = check_videos(folder)
    assert kinds_and_paths(diagnosis, folder) == [("unlabelled", "stray.mp4")]
    assert diagnosis.frames == 13 * 12
    assert diagnosis.classes == 2


def test_a_folder_of_nothing_but_strays_is_checked(tmp_path):
    film(tmp_path / "a.mp4", seed=1)
    film(tmp_path / "b.mp4", seed=2)
    diagnosis = check_videos(tmp_path)
    assert (diagnosis.files, diagnosis.classes, diagnosis.groups) == (2, 0, 0)
    assert kinds_and_paths(diagnosis, tmp_path) == [("unlabelled", "a.mp4"), ("unlabelled", "b.mp4")]


def test_empty_class_folders_and_other_things_in_them_are_named(folder):
    (folder / "empty").mkdir()
    (folder / "bend/readme.txt").touch()
    (folder / "bend/deeper").mkdir()
    (folder / "bend/.hidden").touch()
    (folder / "readme.txt").touch()
    diagnosis = check_videos(folder)
    assert kinds_and_paths(diagnosis, folder) == [("unlabelled", "bend"), ("unlabelled", "empty")]
    assert "2 thing(s) that are not video files, such as deeper" in diagnosis.findings[0].message
    assert diagnosis.classes == 2


def test_the_same_content_twice_is_unlabelled(folder):
    shutil.copy(folder / "bend/0.mp4", folder / "bend/0 (copy).mp4")
    shutil.copy(folder / "bend/1.mp4", folder / "wave/7.mp4")
    diagnosis = check_videos(folder)
    assert kinds_and_paths(diagnosis, folder) == [("unlabelled", "bend/0.mp4"), ("unlabelled", "wave/7.mp4")]
    assert str(folder / "bend/1.mp4") in diagnosis.findings[1].message


def test_classes_that_cannot_be_split_are_named(folder):
    film(folder / "jump/only.mp4", seed=50)
    for number in range(3):
        film(folder / f"skip/v_Skip_g01_c0{number}.mp4", seed=60 + number)
    for number in range(4):
        film(folder / f"hop/v_Hop_g0{number % 2}_c0{number}.mp4", seed=70 + number)
    diagnosis = check_videos(folder)
    assert kinds_and_paths(diagnosis, folder) == [
        ("note", "hop"),
        ("unlabelled", "jump"),
        ("unlabelled", "skip"),
    ]
    assert [finding.message.split(":")[0] for finding in diagnosis.findings] == [
        "class has two groups",
        "class has only one sound clip",
        "class has one group (v_Skip_g01)",
    ]
    assert diagnosis.groups == 3 + 1 + 1 + 2


def test_broken_clips_do_not_count_for_their_class(folder):
    for number in range(1, 6):
        (folder / f"wave/{number}.mp4").write_bytes(b"no video")
    found = kinds_and_paths(check_videos(folder), folder)
    assert found[0] == ("unlabelled", "wave")
    assert [kind for kind, _ in found[1:]] == ["broken"] * 5


def test_clips_without_groups_are_noted(folder):
    (folder / "groups.tsv").unlink()
    diagnosis = check_videos(folder)
    assert diagnosis.groups == 12
    assert kinds_and_paths(diagnosis, folder) == [("note", ".")]
    assert diagnosis.ok


def test_what_prepare_would_refuse_is_wrong(folder):
    with (folder / "groups.tsv").open("a") as file:
        file.write("bend/nobody.mp4\tperson9\n")
    diagnosis = check_videos(folder)
    assert kinds_and_paths(diagnosis, folder) == [("wrong", ".")]
    assert "bend/nobody.mp4" in diagnosis.findings[0].message
    assert (diagnosis.frames, diagnosis.groups) == (144, 0)


@pytest.mark.parametrize(("name", "words"), [("none", "does not exist"), ("empty", "holds no video: expected")])
def test_nothing_to_check_is_refused(tmp_path, name, words):
    (tmp_path / "empty/notes").mkdir(parents=True)
    with pytest.raises(InputError, match=words):
        check_videos(tmp_path / name)
