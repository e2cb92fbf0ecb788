"""A video that crashes, hangs or fills its decoder ends only the process that decodes it."""

import os
from dataclasses import replace

import numpy as np
import pytest

from rgbflow.clip import to_working_size
from rgbflow.errors import InputError
from rgbflow.guard import Allowance, decode_guarded
from rgbflow.recognizer import Recognizer
from rgbflow.stream import Preparation
from rgbflow.video.reading import decode
from rgbflow.video.writing import write_video

SMALL = Preparation(short_side=64)
MIB = 1 << 20

# What the decoder does, in the worker alone: its Python runs sitecustomize.py first.
HOSTILE = """\
import os, sys, time
open({marker!r}, "w").write(str(os.getpid()))
import rgbflow.video.reading as reading
def decode(path, frame_rate):
    {act}
    yield
reading.decode = decode
"""
CRASH = "import ctypes; ctypes.string_at(0)"


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A function that makes the decoder of every worker do something; it returns the file with the worker's number."""

    def act(code):
        marker = tmp_path / "worker"
        (tmp_path / "sitecustomize.py").write_text(HOSTILE.format(marker=str(marker), act=code))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        return marker

    return act


def is_gone(marker):
    try:
        os.kill(int(marker.read_text()), 0)
    except ProcessLookupError:
        return True
    return False


def test_the_frames_are_those_of_the_file(square_video):
    path = square_video(2, 1)
    clip = decode_guarded(path, Preparation(short_side=120))
    frames = list(decode(path))
    assert np.array_equal(clip.frames, [frame.pixels for frame in frames])
    assert clip.pts_seconds.tolist() == [frame.pts_seconds for frame in frames]


@pytest.mark.parametrize(
    "other", [{"resize": "bilinear"}, {"resize": "antialias"}, {"width": 100}, {"square": True}, {"frame_rate": 50.0}]
)
def test_the_worker_prepares_as_the_bundle_says(tmp_path, moving_square, other):
    """Published video networks are prepared otherwise than trained ones."""
    path, preparation = tmp_path / "clip.mp4", replace(SMALL, **other)
    write_video(path, moving_square(2, 0, 6, (162, 123)), 25)
    guarded = decode_guarded(path, preparation)
    frames = [to_working_size(frame.pixels, preparation) for frame in decode(path, preparation.frame_rate)]
    np.testing.assert_array_equal(guarded.frames, np.stack(frames))
    again = [to_working_size(frame, preparation) for frame in guarded.frames]  # as whoever reads the clip does
    np.testing.assert_array_equal(np.stack(again), np.stack(frames))


@pytest.mark.parametrize(
    ("given", "words"),
    [((None, SMALL), "path (NoneType) must be"), ((b"a.mp4", SMALL), "path (bytes) must be"),
     (("a.mp4", None), "preparation (NoneType) must be"), (("a.mp4", SMALL, 5), "allowance (int) must be"),
     (("x" * 300_000, SMALL), "cannot be read (File name too long)"), (("a\0b", SMALL), "does not exist")],
    ids=range(6),
)  # fmt: skip
def test_arguments_are_checked(given, words):
    with pytest.raises(InputError) as caught:
        decode_guarded(*given)
    assert words in str(caught.value)


@pytest.mark.parametrize("size", [(64, 64), (150, 100)])
def test_a_recogniser_answers_as_for_the_file(world, tmp_path, moving_square, size):
    recognizer = Recognizer.load(world.bundle, engine="torch")
    path = tmp_path / "clip.mp4"
    write_video(path, moving_square(2, 0, 20, size), 25)
    clip, ours = decode_guarded(path, recognizer.bundle.preparation), recognizer.predict(path)
    guarded = recognizer.predict(clip)
    assert np.array_equal(guarded.scores, ours.scores)
    assert (guarded.start_seconds, guarded.end_seconds) == (ours.start_seconds, ours.end_seconds)


def test_a_crash_takes_only_the_worker(hostile, square_video):
    marker = hostile(CRASH)
    with pytest.raises(InputError, match=r"video \(theirs\) killed the process that decoded it \(signal SIGSEGV\)"):
        decode_guarded(square_video(1, 0), SMALL, name="theirs")
    assert is_gone(marker)


def test_a_hang_ends_with_its_time(hostile, square_video):
    marker = hostile("time.sleep(10_000)")
    with pytest.raises(InputError, match=r"takes longer than 5 s to decode: give a shorter"):
        decode_guarded(square_video(1, 0), SMALL, Allowance(seconds=5))
    assert is_gone(marker)


@pytest.mark.parametrize("taken", ["held = bytearray(1 << 32)", "held = [bytes(1 << 20) for _ in range(1 << 12)]"])
def test_memory_ends_with_the_allowance(hostile, square_video, taken):
    hostile(taken)
    with pytest.raises(InputError, match=r"needs more than 268,435,456 bytes of memory"):
        decode_guarded(square_video(1, 0), SMALL, Allowance(memory=256 * MIB))


def test_a_picture_larger_than_its_memory_is_said(tmp_path):
    path = tmp_path / "large.mp4"
    write_video(path, np.zeros((2, 3000, 4000, 3), np.uint8), 25)
    with pytest.raises(InputError, match=r"large\.mp4\)? (needs more|can't be decoded|breaks)"):
        decode_guarded(path, SMALL, Allowance(memory=32 * MIB))
    with pytest.raises(InputError, match=r"has 12,000,000 pixels, and at most 1,000,000 are read: set RGBFLOW_MAX_P"):
        decode_guarded(path, SMALL, Allowance(max_pixels=1_000_000))


def test_frames_and_disk_have_an_end(square_video):
    path = square_video(1, 0)
    with pytest.raises(InputError, match=r"video \(theirs\) has more than 11 frames: give a shorter one"):
        decode_guarded(path, SMALL, Allowance(max_frames=11), name="theirs")
    with pytest.raises(InputError, match=r"can't be kept \(File too large; 100,000 bytes of frames at most\)"):
        decode_guarded(path, SMALL, Allowance(disk=100_000))


@pytest.mark.parametrize("reply", ["", "[1]", '{"pts_seconds": [0], "height": 100000, "width": 100000}', "{}"])
def test_a_worker_that_lies_is_not_believed(hostile, square_video, reply):
    hostile(f"os.write(3, {reply.encode()!r}); os._exit(0)")
    with pytest.raises(InputError, match="made the process that decoded it fail"):
        decode_guarded(square_video(1, 0), SMALL)


def test_what_is_wrong_with_a_video_is_said_as_here(tmp_path):
    path = tmp_path / "no.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(InputError) as here:
        next(decode(path))
    with pytest.raises(InputError) as there:
        decode_guarded(path, SMALL)
    assert str(there.value) == str(here.value)
    with pytest.raises(InputError, match=r"video \(theirs\) does not exist"):
        decode_guarded(tmp_path / "gone.mp4", SMALL, name="theirs")


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"memory": -1}, {"max_frames": float("nan")}])
def test_an_allowance_is_above_0(wrong):
    with pytest.raises(InputError, match="must be a number above 0: the default is"):
        Allowance(**wrong)
