"""Takes cut out of frames that show their own number, so that every frame that is kept can be named."""

import re

import numpy as np
import pytest

from rgbflow import InputError
from rgbflow.cli import main
from rgbflow.learn.recording import LONGEST_SECONDS, MARGIN_SECONDS, SHORT_SIDE, Recorder, cut_takes, shrunk
from rgbflow.learn.takes import read_takes
from rgbflow.video.reading import Frame, decode, probe
from rgbflow.video.writing import write_video

RATE = 10


BLOCKS = 2 ** np.arange(8)  # of 8 pixels each: the digits of a number


def counted(count, rate=RATE, offset=0.0):
    """Frames with their numbers as black and white blocks."""
    rows = [np.repeat((number & BLOCKS) > 0, 8).astype(np.uint8) * 255 for number in range(count)]
    return [
        Frame(np.broadcast_to(row[None, :, None], (48, 64, 3)).copy(), offset + i / rate) for i, row in enumerate(rows)
    ]


def numbers(path):
    """Which of `counted`'s frames a file holds."""
    return [int(((frame.pixels[24, 4::8, 1] > 127) * BLOCKS).sum()) for frame in decode(path)]


def test_frames_are_cut_where_they_are_asked_to_be():
    stretches = list(cut_takes(counted(100, offset=7.0), [2.0, 6.0], 1.0))
    times = [(one.begin, one.frames[0].pts_seconds - 7, one.frames[-1].pts_seconds - 7) for one in stretches]
    expected = [(None, 0, 1.6), (2, 2, 2.9), (None, 3.3, 5.6), (6, 6, 6.9), (None, 7.3, 9.9)]
    assert np.allclose(np.array(times, float), np.array(expected, float), atol=1e-6, equal_nan=True)


def test_what_lies_between_takes_keeps_its_distance_and_is_neither_short_nor_long():
    begins, seconds = [0.5, 1.6, 30.0], 1.0
    stretches = list(cut_takes(counted(400), begins, seconds))
    between = [one for one in stretches if one.begin is None]
    assert [one.begin for one in stretches if one.begin is not None] == begins
    assert max(one.seconds for one in between) <= LONGEST_SECONDS + 1 / RATE
    for begin in begins:
        for one in between:
            early, late = begin - MARGIN_SECONDS, begin + seconds + MARGIN_SECONDS
            assert one.frames[-1].pts_seconds < early + 1e-6 or one.frames[0].pts_seconds >= late - 1e-6
    assert between[0].frames[0].pts_seconds > 2.6  # the gaps before and between the first two takes are too short


def test_a_large_picture_is_stored_smaller():
    frame = shrunk(Frame(np.zeros((960, 1281, 3), np.uint8), 1.5))
    assert (frame.pixels.shape, frame.pts_seconds) == ((SHORT_SIDE, 640, 3), 1.5)
    small = counted(1)[0]
    assert shrunk(small) is small


def test_a_camera_gives_takes_that_can_be_taken_again_or_deleted(tmp_path):
    asked, told = [], []
    answers = iter(["again", "next", "delete", "next"])

    def ask(path, number):
        asked.append((path.name, number))
        return next(answers)

    recorder = Recorder(tmp_path, "wave", 1.0, group="anna")
    recorded = recorder.film(iter(counted(120)), 1.5, 2, ask, told.append)
    assert asked == [("take-001.mp4", 1), ("take-001.mp4", 1), ("take-002.mp4", 2), ("take-002.mp4", 2)]
    assert [path.name for path in recorded.takes] == ["take-001.mp4", "take-002.mp4"]
    assert numbers(recorded.takes[0]) == list(
        range(26 + 15, 26 + 25)
    )  # the second attempt: 26 frames belong to the first
    assert numbers(recorded.takes[1]) == list(range(78 + 15, 78 + 25))
    assert probe(recorded.takes[0]).frames_per_second == pytest.approx(RATE, rel=1e-3)
    assert told[0] == pytest.approx(1.5, abs=1e-3)
    assert min(told) == 0
    assert {take.group for take in read_takes(tmp_path) if take.name == "wave"} == {"anna"}
    assert len(recorded.between) == 4  # before each attempt


def test_a_camera_that_fails_keeps_the_whole_takes(tmp_path):
    with pytest.raises(InputError, match="ended in mid-take"):
        Recorder(tmp_path, "wave", 1.0, keeps_between=False).film(iter(counted(40)), 1.0, 3)
    assert [path.name for path in sorted(tmp_path.rglob("*.mp4"))] == ["take-001.mp4"]


@pytest.fixture
def long(tmp_path):
    path = tmp_path / "long.mp4"
    write_video(path, [frame.pixels for frame in counted(100)], RATE)
    return path


def test_a_long_recording_is_cut_and_nothing_is_overwritten(long, tmp_path, capsys):
    out = tmp_path / "takes"
    (out / "wave").mkdir(parents=True)
    (out / "wave/take-001.webm").write_bytes(b"mine")
    command = ["record", "wave", "--out", str(out), "--source", str(long)]
    assert main([*command, "--at", "2", "6", "9.5", "50", "--seconds", "1"]) == 0
    shown = capsys.readouterr()
    assert "the take at 9.5 s is not whole (0.4 of 1 s)" in shown.err
    assert "the take at 50 s lies beyond the end" in shown.err
    assert shown.out == f"2 takes in {out / 'wave'}, 3 recordings of no action in {out / 'none'}\n"
    assert (out / "wave/take-001.webm").read_bytes() == b"mine"
    assert numbers(out / "wave/take-002.mp4") == list(range(20, 30))
    assert numbers(out / "wave/take-003.mp4") == list(range(60, 70))
    assert numbers(out / "none/take-002.mp4") == list(range(33, 57))


def test_without_places_a_take_follows_each_pause(long, tmp_path, capsys):
    out = tmp_path / "takes"
    options = ["--source", str(long), "--pause", "2", "--seconds", "1", "--no-none", "--takes", "2"]
    assert main(["record", "wave", "--out", str(out), *options]) == 0
    assert [numbers(path) for path in sorted(out.rglob("*.mp4"))] == [list(range(20, 30)), list(range(50, 60))]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--at", "2", "2.5"], "must rise from 0 in steps of at least --seconds"),
        (["--at", "-1"], "must rise from 0"),
        (["--seconds", "0"], r"--seconds \(0\) must be 0.2 to 600"),
        (["--seconds", "nan"], r"--seconds \(nan\)"),
        (["--takes", "0"], r"--takes \(0\) must be at least 1"),
        (["--seconds", "30"], "holds no whole take of 30 s"),
        (["--source", "0", "--at", "1"], "--at is for files, and 0 is a camera"),
    ],
)
def test_what_can_not_be_cut_is_one_line(long, tmp_path, capsys, options, words):
    assert main(["record", "wave", "--out", str(tmp_path / "takes"), "--source", str(long), *options]) == 1
    assert re.search(words, capsys.readouterr().err)
    assert not (tmp_path / "takes/wave").exists()
