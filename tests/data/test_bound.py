import json

import pytest

from rgbflow import cli
from rgbflow.data.bound import usual_bound
from rgbflow.data.layouts import read_class_folders
from rgbflow.stream import FlowSettings, Preparation
from rgbflow.video.writing import write_video

SMALL = Preparation(short_side=96)


@pytest.fixture
def videos_of(tmp_path, moving_square):
    """A folder of videos, each with a square that moves by its own (dx, dy) a frame."""

    def make(*speeds):
        for number, (dx, dy) in enumerate(speeds):
            path = tmp_path / "videos" / "walk" / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, moving_square(dx, dy, frames=8, size=(96, 128)), 25)
        return tmp_path / "videos"

    return make


@pytest.mark.parametrize(("speeds", "least", "most"), [([(0, 0)], 4, 4), ([(1, 0), (7, 0)], 7, 9), ([(0, 6)], 6, 8)])
def test_the_bound_is_what_the_fastest_clips_need(videos_of, tmp_path, speeds, least, most):
    bound = usual_bound(read_class_folders(videos_of(*speeds)), SMALL, tmp_path / "store")
    assert bound == int(bound)
    assert least <= bound <= most


def test_it_is_never_above_what_others_use(videos_of, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "rgbflow.data.bound.make_estimator", lambda *_: lambda before, after: 100 * before[None].astype("f4")
    )
    assert usual_bound(read_class_folders(videos_of((1, 0))), SMALL, tmp_path / "store") == FlowSettings.bound == 20


def test_broken_clips_do_not_stop_it(videos_of, tmp_path):
    videos = videos_of((5, 0))
    (videos / "walk" / "broken.mp4").write_bytes(b"not a video")
    assert usual_bound(read_class_folders(videos), SMALL, tmp_path / "store") >= 5
    (videos / "walk" / "0.mp4").unlink()
    assert usual_bound(read_class_folders(videos), SMALL, tmp_path / "store") == 20


def test_prepare_measures_it_and_a_store_that_is_there_keeps_its_own(videos_of, tmp_path, capsys):
    command = ["prepare", str(videos_of((2, 0))), "--out", str(tmp_path / "store"), "--short-side", "96", "--json"]

    def bound(*more):
        assert cli.main([*command, *more]) == 0
        return json.loads(capsys.readouterr().out)["bound"]

    assert bound() == 4
    assert bound("--bound", "11") == 11
    assert bound() == 11
