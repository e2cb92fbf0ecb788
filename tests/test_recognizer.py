import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from rgbflow import InputError, Recognizer
from rgbflow.bundle import load_bundle, load_weights, save_bundle
from rgbflow.clip import FrameClip
from rgbflow.fusion import Fusion, probabilities
from rgbflow.prediction import Prediction
from rgbflow.sampling import segment_starts
from rgbflow.stream import Preparation
from rgbflow.timeline import Segment, Timeline, merge_windows, sliding_windows
from rgbflow.transforms import Crop, to_input
from rgbflow.video.reading import Frame
from rgbflow.video.writing import write_video


def prediction_of(scores, start, end):
    scores = np.array(scores)
    return Prediction(("a", "b", "c"), scores, {"rgb": scores}, start, end, {})


def test_top_is_sorted_and_names_its_classes():
    prediction = prediction_of([0.2, 0.7, 0.1], 0, 1)
    assert [(answer.label, answer.score) for answer in prediction.top(2)] == [("b", 0.7), ("a", 0.2)]
    assert (prediction.label, prediction.score) == ("b", 0.7)
    assert [answer.label for answer in prediction.stream_top("rgb")] == ["b", "a", "c"]


def test_what_is_not_likely_enough_is_unknown_and_still_shows_its_classes():
    for threshold, is_known, label in [(None, True, "b"), (0.69, True, "b"), (0.7, False, "unknown")]:
        prediction = replace(prediction_of([0.2, 0.7, 0.1], 0, 1), threshold=threshold)
        told = prediction.as_dict(2)
        assert (prediction.is_known, prediction.label, prediction.score) == (is_known, label, 0.7)
        assert (told["is_known"], told["label"], told["score"]) == (is_known, label, 0.7)
        assert [answer["label"] for answer in told["top"]["fused"]] == ["b", "a"]


def test_a_class_named_unknown_is_known():
    prediction = replace(prediction_of([0.9, 0.1, 0], 0, 1), classes=("unknown", "b", "c"), threshold=0.5)
    assert (prediction.label, prediction.is_known) == ("unknown", True)
    doubtful = replace(prediction, scores=np.array([0.4, 0.35, 0.25]), start_seconds=1, end_seconds=2)
    segments = merge_windows([prediction, doubtful], 1)
    assert [(segment.label, segment.is_known) for segment in segments] == [("unknown", True), ("unknown", False)]


def test_stretches_that_are_not_likely_enough_are_unknown_segments():
    scores = [[0.9, 0.1, 0], [0.45, 0.35, 0.2], [0.35, 0.45, 0.2], [0, 0.8, 0.2]]
    windows = [replace(prediction_of(row, start, start + 1), threshold=0.5) for start, row in enumerate(scores)]
    segments = merge_windows(windows, 1)
    assert [(s.start_seconds, s.end_seconds, s.label) for s in segments] == [
        (0, 1, "a"),
        (1, 3, "unknown"),
        (3, 4, "b"),
    ]
    assert segments[1].score == pytest.approx(0.45)


def test_a_fitted_fusion_is_what_predict_gives(world, tmp_path):
    fusion = Fusion("weighted", {"rgb": (0.25,), "flow": (0.75,)}, (), 1.5, 0.999999, 0.1)
    shutil.copytree(world.bundle, tmp_path / "fitted")
    save_bundle(tmp_path / "fitted", replace(load_bundle(tmp_path / "fitted"), fusion=fusion))
    prediction = Recognizer.load(tmp_path / "fitted").predict(world.videos / "left" / "0.mp4", num_snippets=3)
    mixed = 0.25 * prediction.stream_scores["rgb"] + 0.75 * prediction.stream_scores["flow"]
    np.testing.assert_allclose(prediction.scores, mixed ** (1 / 1.5) / np.sum(mixed ** (1 / 1.5)))
    assert (prediction.threshold, prediction.label) == (0.999999, "unknown")


def test_a_prediction_tells_streams_times_and_stages(world):
    prediction = Recognizer.load(world.bundle).predict(world.videos / "left" / "0.mp4", num_snippets=3)
    assert prediction.scores.sum() == pytest.approx(1)
    product = prediction.stream_scores["rgb"] * prediction.stream_scores["flow"]
    np.testing.assert_allclose(prediction.scores, product / product.sum())
    assert list(prediction.seconds) == ["decode", "flow", "rgb network", "flow network", "fusion"]
    assert all(seconds > 0 for seconds in prediction.seconds.values())
    assert (prediction.start_seconds, prediction.end_seconds) == (0, pytest.approx(12 / 25))


@pytest.mark.parametrize("mirrored", [False, True])
def test_ten_crops_are_ten_looks_at_the_same_snippets_and_five_without_mirrored_ones(world, monkeypatch, mirrored):
    """Against a loop over crops cut by hand; the consensus is the mean of all logits. Mirrored, left looks right."""
    recognizer, video = Recognizer.load(world.bundle, precision="fp32"), world.videos / "left" / "0.mp4"
    assert not recognizer.bundle.streams["rgb"].mirrored  # as it was trained
    spec = replace(recognizer.bundle.streams["rgb"], mirrored=mirrored)
    monkeypatch.setitem(recognizer.engine.specs, "rgb", spec)
    clip = recognizer.sample(video, 3)
    indices = segment_starts(clip.num_frames, 3, 1)
    frames = torch.from_numpy(clip.read("rgb", indices))
    height, width = frames.shape[2:]
    side = round(min(height, width) * spec.crop_fraction)
    down, right = height - side, width - side
    logits = []
    for flip in (False, True) if mirrored else (False,):
        for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
            inputs = to_input(frames, Crop(top, left, side, side, flip), spec)
            with torch.inference_mode():
                logits += [recognizer.engine.networks["rgb"](one[None, None])[0] for one in inputs]
    expected = torch.stack(logits).mean(dim=0).softmax(dim=0)
    found = recognizer.predict(video, 3, crops=10).stream_scores["rgb"]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3)
    centre = recognizer.predict(video, 3).stream_scores["rgb"]
    assert np.allclose(found, centre, atol=1e-3) != mirrored  # this world's frames are squares: all corners are alike


def test_an_explanation_is_the_prediction_with_maps_of_the_snippets(world):
    recognizer = Recognizer.load(world.bundle)
    source = world.videos / "left" / "0.mp4"
    explanation, prediction = recognizer.explain(source, num_snippets=3), recognizer.predict(source, num_snippets=3)
    np.testing.assert_array_equal(explanation.prediction.scores, prediction.scores)
    assert list(explanation.prediction.seconds) == [*prediction.seconds, "maps"]
    assert explanation.prediction.decision == prediction.decision
    assert explanation.maps["rgb"].places.tolist() == [2, 6, 10]  # the middle of each third of 12 frames
    assert explanation.maps["flow"].places.tolist() == [2, 5, 8]  # of 9 places for a stack of 3 among 11 fields
    for maps in explanation.maps.values():
        assert maps.values.shape == (3, 2, 2)  # the backbone's features at 56 × 56
        assert maps.values.dtype == np.float32
        assert maps.crop_fraction == 1
        assert maps.values.max() in (0, 1)
    assert 1 <= explanation.full_scale <= 4  # the square moves by 2 pixels a frame


@pytest.mark.parametrize("crops", [1, 10])
def test_the_features_of_a_file_are_those_that_make_its_prediction(world, crops):
    """Per snippet what the classifier reads: its weights, taken from the bundle, make the stream's scores of it."""
    recognizer, video = Recognizer.load(world.bundle, engine="torch", precision="fp32"), world.videos / "left" / "0.mp4"
    features, prediction = recognizer.features(video, 3, crops), recognizer.predict(video, 3, crops)
    assert list(features) == ["rgb", "flow"]
    for stream, rows in features.items():
        weights = load_weights(world.bundle, stream)
        logits = rows @ weights["backbone.fc.weight"].numpy().T + weights["backbone.fc.bias"].numpy()
        assert (rows.shape, rows.dtype) == ((3, 512), np.float32)
        assert len({row.tobytes() for row in rows}) == 3  # another for each place of the clip
        np.testing.assert_allclose(probabilities(logits.mean(axis=0)), prediction.stream_scores[stream], atol=1e-5)


def test_features_are_of_so_many_snippets_as_predict_looks_at(world):
    assert all(len(rows) == 25 for rows in Recognizer.load(world.bundle).features(world.videos / "red/1.mp4").values())


def test_answers_are_shown_without_their_arrays():
    sure, doubtful = (
        prediction_of([0.2, 0.7, 0.1], 0, 1.5),
        replace(prediction_of([0.5, 0.3, 0.2], 1, 2), threshold=0.6),
    )
    assert repr(sure) == "Prediction('b' 0.70 of 0.00–1.50 s, rgb 'b' 0.70)"
    assert repr(doubtful) == "Prediction('unknown' 0.50 of 1.00–2.00 s, rgb 'a' 0.50)"
    segments = [Segment(float(start), start + 1.0, "abc"[start % 3], 0.75) for start in range(7)]
    assert repr(Timeline(segments[:2], [sure])) == "Timeline(0.00–1.00 s 'a' 0.75, 1.00–2.00 s 'b' 0.75)"
    assert repr(Timeline(segments, [sure])).endswith("4.00–5.00 s 'b' 0.75, and 2 more)")
    assert repr(Timeline([], [])) == "Timeline()"


def test_a_long_video_is_explained_from_its_snippets_alone(world, tmp_path, moving_square):
    write_video(tmp_path / "long.mp4", moving_square(0, 0.2, frames=80, size=(64, 64)), 25)
    explanation = Recognizer.load(world.bundle).explain(tmp_path / "long.mp4", num_snippets=2)
    assert explanation.maps["rgb"].places.tolist() == [20, 60]
    assert all(len(maps.values) == 2 for maps in explanation.maps.values())


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_bundle_of_one_stream_works(world, tmp_path, stream):
    shutil.copytree(world.bundle, tmp_path / "one")
    bundle = load_bundle(tmp_path / "one")
    del bundle.streams["rgb" if stream == "flow" else "flow"]
    save_bundle(tmp_path / "one", bundle)
    prediction = Recognizer.load(tmp_path / "one").predict(world.videos / "red" / "1.mp4", num_snippets=3)
    assert list(prediction.stream_scores) == [stream]
    np.testing.assert_array_equal(prediction.scores, prediction.stream_scores[stream])
    assert prediction.decision.by == stream
    explanation = Recognizer.load(tmp_path / "one").explain(world.videos / "red" / "1.mp4", num_snippets=3)
    assert list(explanation.maps) == [stream]


def test_a_clip_too_short_for_the_stack_is_named(world, tmp_path, moving_square):
    write_video(tmp_path / "short.mp4", moving_square(1, 0, frames=3, size=(64, 64)), 25)
    with pytest.raises(
        InputError, match=r"stack_length \(3\) needs 4 frames, but short.mp4 has 3: use a longer video or window"
    ):
        Recognizer.load(world.bundle).predict(tmp_path / "short.mp4")


def test_the_weights_of_another_backbone_are_refused(world, tmp_path):
    shutil.copytree(world.bundle, tmp_path / "mixed")
    record = (tmp_path / "mixed" / "recognizer.json").read_text()
    (tmp_path / "mixed" / "recognizer.json").write_text(record.replace('"resnet10t"', '"resnet18"'))
    with pytest.raises(InputError, match="the weights of rgb do not fit resnet18"):
        Recognizer.load(tmp_path / "mixed")


def test_a_timeline_finds_what_happens_when(world, tmp_path, moving_square):
    """Two seconds of a red square, two of a green one: the border is found to within a step."""
    red = moving_square(0, 0.3, frames=50, size=(64, 64), tint=(1, 0.2, 0.2))
    green = moving_square(0, 0.3, frames=50, size=(64, 64), tint=(0.2, 1, 0.2))
    write_video(tmp_path / "long.mp4", np.concatenate([red, green]), 25)
    shutil.copytree(world.bundle, tmp_path / "rgb")
    bundle = load_bundle(tmp_path / "rgb")
    del bundle.streams["flow"]  # the squares move too slowly for it
    save_bundle(tmp_path / "rgb", bundle)
    timeline = Recognizer.load(tmp_path / "rgb").timeline(tmp_path / "long.mp4", 0.8, 0.2, num_snippets=3)
    assert [segment.label for segment in timeline.segments] == ["red", "green"]
    assert timeline.segments[0].start_seconds == 0
    assert timeline.segments[0].end_seconds == pytest.approx(2, abs=0.4)
    assert timeline.segments[-1].end_seconds == pytest.approx(4)


def numbered_frames(count, rate):
    for index in range(count):
        yield Frame(np.full((32, 32, 3), index, np.uint8), index / rate)


@pytest.mark.parametrize(
    ("count", "rate"), [(100, 25), (75, 25), (83, 25), (60, 12), (7, 25), (1, 25), (120, 1), (99, 5)]
)
@pytest.mark.parametrize(("window_seconds", "step_seconds"), [(2.0, 0.5), (1.1, 1.1)])
def test_windows_cover_the_video_and_hold_the_right_frames(count, rate, window_seconds, step_seconds):
    clip = FrameClip(Preparation(short_side=32))
    windows = []
    for window in sliding_windows(numbered_frames(count, rate), clip, window_seconds, step_seconds):
        first = window.read("rgb", np.array([0]))[0, 0, 0, 0]
        last = window.read("rgb", np.array([window.num_frames - 1]))[0, 0, 0, 0]
        assert last - first == window.num_frames - 1
        assert first / rate == pytest.approx(window.start_seconds)
        windows.append((int(first), int(last)))
        assert len(clip._kept["rgb"]) <= (window_seconds + step_seconds) * rate + 2  # however long the video
    assert windows[0][0] == 0
    assert windows[-1][1] == count - 1
    assert all(one[1] < other[1] for one, other in pairwise(windows))  # each has something new
    lengths = {last - first + 1 for first, last in windows}
    assert max(lengths) - min(lengths) <= 1  # the last is as long as the others


def test_a_gap_in_the_recording_gives_no_windows_and_no_segments():
    frames = [*numbered_frames(50, 25), *(Frame(f.pixels, f.pts_seconds + 20) for f in numbered_frames(50, 25))]
    windows = list(sliding_windows(frames, FrameClip(Preparation(short_side=32)), 1.0, 0.5))
    assert len(windows) < 15
    whole = [w for w in windows if w.num_frames > 12 and w.end_seconds - w.start_seconds < 2]
    spans = [prediction_of([1.0, 0, 0], window.start_seconds, window.end_seconds) for window in whole]
    segments = merge_windows(spans, 0.5)
    assert [segment.label for segment in segments] == ["a", "a"]
    assert segments[0].end_seconds <= 3
    assert segments[1].start_seconds >= 19


def test_gaps_of_days_are_neither_walked_through_nor_labelled():
    """A file's times may have gaps of 30 hours; a few bytes of it cost no more for them."""
    frames = [Frame(np.zeros((32, 32, 3), np.uint8), 100_000.0 * (n // 5) + n % 5 / 25) for n in range(500)]
    clip = FrameClip(Preparation(short_side=32))
    windows = [(one.start_seconds, one.end_seconds) for one in sliding_windows(frames, clip, 2.0, 0.001)]
    assert max(end - start for start, end in windows) < 1
    spans = [prediction_of([1.0, 0, 0], start, end) for start, end in windows]
    segments = merge_windows(spans, 0.001)
    assert len(segments) == 100
    assert all(segment.end_seconds - segment.start_seconds < 1 for segment in segments)


def test_a_window_too_short_for_the_stack_is_refused_with_the_remedy(world, tmp_path, moving_square):
    write_video(tmp_path / "slow.mp4", moving_square(1, 0, frames=12, size=(64, 64)), 2)
    with pytest.raises(InputError, match=r"needs 4 frames, but slow.mp4 from .* has 2: use a longer video or window"):
        Recognizer.load(world.bundle).timeline(tmp_path / "slow.mp4", window_seconds=1, step_seconds=0.5)


def test_pushed_frames_have_no_decoding_time(world, moving_square):
    recognizer = Recognizer.load(world.bundle)
    clip = FrameClip(recognizer.bundle.preparation)
    for index, pixels in enumerate(moving_square(1, 0, frames=8, size=(64, 64))):
        clip.push(pixels, index / 25)
    assert list(recognizer.predict(clip, 2).seconds) == ["rgb network", "flow network", "fusion"]


def test_overlapping_windows_are_averaged_and_equal_neighbours_joined():
    windows = [
        prediction_of([0.9, 0.1, 0], 0, 1),
        prediction_of([0.6, 0.4, 0], 0.5, 1.5),
        prediction_of([0, 1, 0], 1, 2),
    ]
    segments = merge_windows(windows, 0.5)
    # the steps' means are (0.9, 0.1), (0.75, 0.25), (0.3, 0.7), (0, 1)
    assert [(s.start_seconds, s.end_seconds, s.label) for s in segments] == [(0, 1, "a"), (1, 2, "b")]
    assert [segment.score for segment in segments] == pytest.approx([(0.9 + 0.75) / 2, (0.7 + 1) / 2])


def test_steps_longer_than_the_window_would_leave_gaps(world):
    with pytest.raises(InputError, match="step_seconds"):
        Recognizer.load(world.bundle).timeline(world.videos / "left" / "0.mp4", window_seconds=1, step_seconds=2)
