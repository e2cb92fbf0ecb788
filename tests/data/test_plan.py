from types import SimpleNamespace

import pytest

from rgbflow.data.layouts import read_class_folders
from rgbflow.data.plan import plan_preparation
from rgbflow.data.store import prepare_store
from rgbflow.errors import InputError
from rgbflow.stream import Preparation
from rgbflow.video.writing import write_video


@pytest.fixture
def videos(tmp_path, moving_square):
    """40 clips of 6 to 16 frames."""
    for clip in range(40):
        pixels = moving_square(1, 0, frames=6 + 2 * (clip % 6), size=(80, 60), seed=clip % 6)
        write_video(tmp_path / "videos" / "ab"[clip % 2] / f"{clip:02d}.mp4", pixels, 20)
    return tmp_path / "videos"


def test_a_plan_foretells_frames_and_bytes(videos, tmp_path):
    sources, preparation, steps = read_class_folders(videos), Preparation(48), []
    planned = plan_preparation(
        sources, preparation, SimpleNamespace(update=lambda *step: steps.append(step), report=None)
    )
    rows = prepare_store(sources, tmp_path / "store", preparation)
    stored = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*.mkv"))
    assert (planned.clips, planned.measured, planned.failed, steps[-1]) == (40, 8, 0, (8, 8))
    assert planned.frames == pytest.approx(sum(row.frames for row in rows), rel=0.25)
    assert planned.gigabytes == pytest.approx(stored / 1e9, rel=0.25)
    assert 0 < planned.core_hours < 0.1
    assert 0 <= planned.error_percent < 200


def test_broken_clips_are_counted_and_only_broken_ones_are_an_error(videos):
    sources = read_class_folders(videos)
    sources[0].path.write_bytes(b"no video")
    assert plan_preparation(sources, Preparation(48)).failed == 1
    with pytest.raises(InputError, match=r"none of 1 chosen clips can be prepared, the last .*: try `rgbflow check`"):
        plan_preparation(sources[:1], Preparation(48))
