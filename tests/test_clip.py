from dataclasses import replace

import numpy as np
import pytest

from rgbflow.clip import ClipWindow, FrameClip, to_working_size
from rgbflow.flow import FlowSettings, dequantise
from rgbflow.stream import Preparation

PREPARATION = Preparation(short_side=64, flow=FlowSettings("farneback"))


def filled(pixels, **wanted):
    clip = FrameClip(PREPARATION, **wanted)
    for time, frame in enumerate(pixels):
        clip.push(frame, time / 10)
    return clip


def test_flow_is_in_pixels_of_the_working_size(moving_square):
    clip = filled(moving_square(4, -2, frames=3, size=(160, 128)))  # shown at half the size
    fields = dequantise(clip.read("flow", np.arange(2)), PREPARATION.flow.bound)
    inside = fields[:, :, 26:38, 34:46]  # of the square, away from its edges
    assert np.median(inside[:, 0]) == pytest.approx(2, abs=0.2)
    assert np.median(inside[:, 1]) == pytest.approx(-1, abs=0.2)


def test_only_the_wanted_frames_and_fields_are_kept_and_they_are_the_same(moving_square):
    frames = moving_square(1, 0, frames=8, size=(64, 64))
    everything, some = filled(frames), filled(frames, frames={2, 5}, flow={3})
    assert some.num_frames == 8
    for stream, indices in (("rgb", np.array([5, 2])), ("flow", np.array([3]))):
        np.testing.assert_array_equal(some.read(stream, indices), everything.read(stream, indices))
    with pytest.raises(KeyError):
        some.read("flow", np.array([2]))


def test_forgotten_frames_are_gone_and_a_window_counts_from_its_start(moving_square):
    clip = filled(moving_square(1, 0, frames=8, size=(64, 64)))
    sixth = clip.read("rgb", np.array([6]))
    clip.forget(5)
    window = ClipWindow(clip, first=5, num_frames=3, start_seconds=0.5, end_seconds=0.8)
    np.testing.assert_array_equal(window.read("rgb", np.array([1])), sixth)
    with pytest.raises(KeyError):
        clip.read("flow", np.array([4]))


def test_the_last_frame_is_shown_as_long_as_the_one_before(moving_square):
    clip = filled(moving_square(1, 0, frames=5, size=(64, 64)))
    assert (clip.start_seconds, clip.end_seconds) == (0.0, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((320, 240), (341, 256)), ((240, 320), (256, 341)), ((256, 256), (256, 256)), ((16, 200), (256, 3200))],
)
def test_the_shorter_side_gets_the_working_size(size, expected):
    width, height = size
    resized = to_working_size(np.zeros((height, width, 3), np.uint8), Preparation(256))
    assert resized.shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (64, 64), (400, 30)])
def test_a_squared_frame_holds_the_whole_frame(size):
    width, height = size
    pixels = np.repeat(np.linspace(0, 255, width).astype(np.uint8)[None, :, None], height, axis=0).repeat(3, axis=2)
    resized = to_working_size(pixels, replace(PREPARATION, square=True))
    assert resized.shape == (64, 64, 3)
    np.testing.assert_allclose(resized[32, [0, 31, 63], 0], [2, 126, 253], atol=4)


def test_a_preparation_is_read_as_it_was_written_and_older_ones_are_not_square():
    for preparation in (PREPARATION, replace(PREPARATION, square=True, frame_rate=12.5)):
        assert Preparation.from_dict(preparation.as_dict()) == preparation
    assert "square" not in PREPARATION.as_dict()
