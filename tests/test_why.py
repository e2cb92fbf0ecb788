"""The overlay with the panels of the streams, drawn from maps and motion that are known."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from rgbflow.cam import ActivationMaps
from rgbflow.errors import InputError
from rgbflow.overlay import GROUND, MARKS
from rgbflow.prediction import Prediction
from rgbflow.recognizer import Explanation
from rgbflow.stream import FlowSettings, Preparation
from rgbflow.video.reading import decode, probe
from rgbflow.video.writing import write_video
from rgbflow.why import _drawn_frames, draw_caption, stream_picture, write_why

CLASSES = ("wave", "jump")
RGB, FLOW = np.array([0.9, 0.1]), np.array([0.4, 0.6])
PREPARATION = Preparation(short_side=96, flow=FlowSettings(bound=8.0))
LEFT = np.array([[[1.0, 0.0]]], np.float32)  # a map of two cells: only the left half is lit


def explained(*streams: str, values: np.ndarray = LEFT) -> Explanation:
    scores = {"rgb": RGB, "flow": FLOW}
    prediction = Prediction(CLASSES, (RGB + FLOW) / 2, {name: scores[name] for name in streams}, 0.0, 1.0, {})
    maps = {name: ActivationMaps(values, np.arange(len(values)), 1.0) for name in streams}
    return Explanation(prediction, maps, full_scale=3.0)


def frames_of(path):
    return [frame.pixels for frame in decode(path)]


@pytest.mark.parametrize("size", [(64, 48), (81, 61), (90, 160), (320, 240), (641, 362)])
@pytest.mark.parametrize("streams", [("rgb", "flow"), ("rgb",), ("flow",)])
def test_frame_and_panels_stand_side_by_side_at_any_size(tmp_path, moving_square, size, streams):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, moving_square(1, 0, 4, size), 12.5)
    assert write_why(source, explained(*streams), PREPARATION, out) == 4
    assert probe(out).frames_per_second == pytest.approx(12.5)
    height, width = frames_of(out)[0].shape[:2]
    frame_width = height * size[0] / size[1]
    panel_share = (width - frame_width) / frame_width * len(streams)  # of the frame's width, were there one panel
    assert height >= 480
    assert 0.75 < panel_share < 1  # as large as fits under the captions
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_panels_are_lit_where_the_maps_are(moving_square):
    frame = moving_square(0, 0, 1, (96, 96))[0]
    flow = np.zeros((2, 24, 24), np.float32)
    flow[0] = 3.0  # to the right, at full scale: red
    (drawn,) = _drawn_frames([{"rgb": frame, "flow": flow}], explained("rgb", "flow"))
    height = len(drawn)
    column = drawn[:, height:].astype(float)  # right of a square frame
    rgb, flow_panel = column[40 : height // 2], column[height // 2 + 40 :]
    third = column.shape[1] // 3
    assert rgb[:, -third:].mean() < 0.5 * rgb[:, :third].mean()
    np.testing.assert_allclose(flow_panel[:, 5 : third // 2].mean(axis=(0, 1)), (255, 0, 0), atol=12)
    np.testing.assert_allclose(flow_panel[:, -third // 2 :].mean(axis=(0, 1)), (64, 0, 0), atol=12)


def test_maps_follow_the_time():
    lit = np.array([LEFT[0], LEFT[0, :, ::-1]])  # the left half in frame 0, the right half in frame 1
    frame = np.full((90, 90, 3), 200, np.uint8)
    explanation = explained("rgb", values=lit)
    for place, brighter in enumerate([slice(0, 30), slice(-30, None)]):
        picture = stream_picture(explanation, "rgb", frame, place, (90, 90))
        assert picture[:, brighter].mean() > 180
        assert picture.mean() < 150


def test_the_flow_shown_is_that_to_the_next_frame(tmp_path, moving_square):
    """A square that moves right is red in every frame, the last included; one that moves left is cyan."""
    for motion, more, less in ((2, 0, 2), (-2, 2, 0)):
        write_video(tmp_path / "in.mp4", moving_square(motion, 0, 5, (128, 96)), 25)
        everywhere = np.ones((1, 1, 1), np.float32)
        write_why(tmp_path / "in.mp4", explained("flow", values=everywhere), PREPARATION, tmp_path / "out.mp4")
        for pixels in frames_of(tmp_path / "out.mp4"):
            panel = pixels[len(pixels) // 3 : -len(pixels) // 4, 640:].astype(float)
            middle = panel[:, panel.shape[1] * 2 // 5 : panel.shape[1] * 3 // 5].mean(axis=(0, 1))
            assert middle[more] > middle[less] + 60


def test_frames_are_those_of_the_bundles_rate(tmp_path, moving_square):
    write_video(tmp_path / "in.mp4", moving_square(1, 0, 20, (64, 48)), 20)
    slow = replace(PREPARATION, frame_rate=5.0)
    assert write_why(tmp_path / "in.mp4", explained("rgb", "flow"), slow, tmp_path / "out.mp4") == 5
    assert probe(tmp_path / "out.mp4").frames_per_second == pytest.approx(5)


def test_a_video_of_any_length_is_drawn_frame_by_frame():
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield {"rgb": np.zeros((48, 64, 3), np.uint8)}

    assert len(list(islice(_drawn_frames(endless(), explained("rgb")), 3))) == 3
    assert len(read) == 3


def test_the_caption_is_filled_where_the_stream_alone_gives_the_answer():
    explanation = explained("rgb", "flow")
    assert explanation.prediction.decision.by == "rgb"
    for stream, ground in (("rgb", MARKS["rgb"]), ("flow", GROUND)):
        caption = draw_caption(explanation, stream, 200, 12)
        assert caption.shape == (24, 200, 3)
        assert tuple(caption[0, 0]) == ground[:3]
        assert (caption != caption[0, 0]).any()


@pytest.mark.parametrize("width", [90, 160, 400])
def test_a_long_label_is_shortened_to_fit_the_caption(width):
    explanation = explained("rgb")
    long = replace(explanation.prediction, classes=("x" * 80, "jump"))
    caption = draw_caption(replace(explanation, prediction=long), "rgb", width, 12)
    assert (caption[:, -4:] == caption[0, 0]).all()


def test_the_source_is_never_written_over(tmp_path, moving_square):
    source = tmp_path / "in.mp4"
    write_video(source, moving_square(1, 0, 3, (64, 48)), 25)
    before = source.read_bytes()
    with pytest.raises(InputError, match="is the video itself"):
        write_why(source, explained("rgb"), PREPARATION, source)
    assert source.read_bytes() == before
