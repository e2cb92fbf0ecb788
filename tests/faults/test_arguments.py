"""Arguments of the public functions and settings of a training: what can't be is said at the edge, in one line."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from rgbflow.clip import ArrayClip, FrameClip
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store, prepare_store
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig, completed, load_config
from rgbflow.learn.presets import LITE, STRONG
from rgbflow.learn.spec import form_of_input
from rgbflow.learn.takes import Take
from rgbflow.learn.teach import Teacher
from rgbflow.learn.train import train_stream
from rgbflow.live.events import EventRules
from rgbflow.networks.families import FAMILIES
from rgbflow.networks.stream_net import StreamNet, check_input
from rgbflow.recognizer import Recognizer
from rgbflow.stream import STREAMS, StreamSpec
from rgbflow.video.reading import Frame, count_frames, decode
from rgbflow.video.writing import write_video

FRAME = np.zeros((40, 40, 3), np.uint8)


@pytest.fixture
def recognizer(tmp_path, save_random_bundle):
    save_random_bundle(tmp_path)
    return Recognizer.load(tmp_path, "cpu", "torch")


def told(call, *arguments, **named):
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("function", ["predict", "features", "explain", "timeline"])
def test_what_is_no_video_is_refused_with_what_is(recognizer, function):
    call = getattr(recognizer, function)
    for value in (np.stack([FRAME] * 30), None, 3, b"clip.mp4", ["clip.mp4"]):
        line = told(call, value)
        assert type(value).__name__ in line
        assert "must be a file's name or" in line
    assert "must be a file's name" in told(call, "")
    for address in ("http://host/a.mp4", "rtsp://camera/stream", "HTTPS://host/a.mp4"):
        line = told(call, address)
        assert f"`rgbflow live --source {address}`" in line


@pytest.mark.parametrize("function", ["predict", "features", "explain"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("num_snippets", 0), ("num_snippets", -1), ("num_snippets", 2.5), ("num_snippets", "5"), ("num_snippets", 10**9),
     ("crops", 5), ("crops", 0), ("crops", None), ("crops", "1")],
)  # fmt: skip
def test_numbers_of_snippets_and_crops_are_checked(recognizer, function, name, value):
    assert f"{name} ({value!r}) must be" in told(getattr(recognizer, function), "clip.mp4", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("window_seconds", math.inf), ("window_seconds", math.nan), ("window_seconds", "2"), ("window_seconds", 0),
     ("step_seconds", 0), ("step_seconds", -1.0), ("step_seconds", 1e-9), ("step_seconds", 5.0),
     ("num_snippets", 0), ("crops", 5)],
)  # fmt: skip
def test_arguments_of_a_timeline_are_checked(recognizer, name, value):
    assert f"{name} ({value!r})" in told(recognizer.timeline, "clip.mp4", **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [("window_seconds", math.inf), ("window_seconds", math.nan), ("window_seconds", 1e9), ("window_seconds", "2"),
     ("updates_per_second", 0), ("updates_per_second", math.nan), ("updates_per_second", "fast")],
)  # fmt: skip
def test_arguments_of_live_are_checked(recognizer, name, value):
    assert f"{name} ({value!r}) must be" in told(recognizer.live, **{name: value})


@pytest.mark.parametrize(
    ("pixels", "at"),
    [(None, 0.0), ("frame", 0.0), ([[0, 0, 0]], 0.0), (FRAME[..., 0], 0.0), (FRAME.astype(float), 0.0),
     (FRAME[:0], 0.0), (FRAME[..., :2], 0.0), (FRAME, None), (FRAME, "0"), (FRAME, math.nan), (FRAME, math.inf)],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_frame_is_refused(recognizer, pixels, at):
    for push in (recognizer.live().push, FrameClip(recognizer.bundle.preparation).push):
        assert "must be" in told(push, pixels, at)


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", None), ("device", "gpu9"), ("engine", "tensorrt"), ("engine", None), ("precision", "fp64"),
     ("bundle", None), ("bundle", ""), ("bundle", 3)],
)  # fmt: skip
def test_arguments_of_loading_are_checked(recognizer, tmp_path, name, value):
    assert repr(value) in told(Recognizer.load, **{"bundle": tmp_path, name: value})


def test_what_nobody_set_follows_fewer_epochs(tmp_path):
    short = completed(LITE, {"epochs": 2})
    assert (short.epochs, short.average_epochs, short.warmup_epochs) == (2, 1, 1.0)
    assert completed(STRONG, {"epochs": 1}).average_epochs == 0
    assert completed(LITE, {"epochs": 20}) == dataclasses.replace(LITE, epochs=20)
    assert "average_epochs (3) must be at most epochs (2)" in told(completed, LITE, {"epochs": 2, "average_epochs": 3})
    (tmp_path / "two.toml").write_text("epochs = 2")
    assert load_config(tmp_path / "two.toml", LITE) == short


TINY = TrainConfig(
    backbone="test_resnet", weights="none", input_size=32, stack_length=3, epochs=2, workers=0, precision="fp32",
    warmup_epochs=0.0,
)  # fmt: skip


def trained(world, folder, **values):
    progress = SimpleNamespace(update=lambda *step: None, report=lambda line: None)
    config = dataclasses.replace(TINY, **values)
    return train_stream(Store(world.store), load_split(world.split), "rgb", folder, config, progress)


def test_a_training_that_explodes_ends_with_an_error_and_without_a_bundle(world, tmp_path):
    line = told(trained, world, tmp_path, learning_rate=10.0, gradient_clip=0.0, momentum=0.99, weight_decay=1.0)
    assert "the training diverged in epoch" in line
    assert "lower learning_rate (10.0)" in line
    assert not (tmp_path / "recognizer.json").exists()


def test_a_batch_norm_that_sees_one_value_is_said(world, tmp_path):
    line = told(trained, world, tmp_path, batch_size=1)
    assert "batch_size (1) leaves a batch norm one value" in line
    assert not (tmp_path / "recognizer.json").exists()


@pytest.mark.parametrize("values", [{"num_segments": 100_000}, {"input_size": 1024, "num_segments": 4096}], ids=str)
def test_a_step_that_no_memory_holds_is_refused_before_it_is_tried(world, tmp_path, values):
    line = told(trained, world, tmp_path, **values)
    assert "GiB of memory, and cpu has" in line
    assert "lower batch_size, num_segments or input_size" in line
    assert not (tmp_path / "recognizer.json").exists()


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_a_backbone_of_another_family_is_refused(algorithm):
    config = completed(TINY, {"algorithm": algorithm, "backbone": "no_such_network", "weights": "none"})
    for stream in STREAMS:
        assert "'no_such_network'" in told(lambda stream: StreamNet(form_of_input(stream, config), 2), stream)


def test_the_memory_of_a_snippet_is_that_of_what_its_forward_pass_keeps():
    spec = StreamSpec("rgb", "test_resnet", 32, 1, (0.5,) * 3, (0.2,) * 3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 10), nn.ReLU(), nn.Linear(10, 4))
    assert check_input(network, spec) == 4 * (3 * 32 * 32 + 10)  # the inputs of both layers


def test_workers_that_would_fill_the_memory_are_refused(world, tmp_path):
    assert "workers (1024) must be at most" in told(trained, world, tmp_path, workers=1024)
    assert "workers (1024) must be at most" in told(
        prepare_store, [], tmp_path / "s", Store(world.store).preparation, 1024
    )


def test_a_take_can_not_be_removed_from_elsewhere(recognizer, tmp_path):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    teacher = Teacher(recognizer, tmp_path / "takes")
    for name, path in (("x", mine), ("..", tmp_path / "takes" / ".." / "mine.txt"), (str(tmp_path), mine), ("", mine)):
        for move in (teacher.remove, teacher.restore):
            assert "give one of `takes`" in told(move, Take(name, path))
    assert "must be one of `takes`" in told(teacher.remove, None)
    assert mine.read_text() == "mine"


SIX = np.stack([FRAME] * 6)
NOT_TAKES = {
    "None": None,
    "a number": 3,
    "frames without times": [FRAME] * 6,
    "frames of two sizes": [Frame(FRAME, 0.0), Frame(FRAME[:20], 0.1)],
    "a frame that is none": [Frame(FRAME, 0.0), Frame(None, 0.1)],
    "a time that is none": [Frame(FRAME, 0.0), Frame(FRAME, math.nan)],
    "a generator": (Frame(FRAME, number / 25) for number in range(6)),
    "floats": SIX.astype(float),
    "a tensor": torch.zeros(6, 40, 40, 3, dtype=torch.uint8),
}


@pytest.mark.parametrize("take", NOT_TAKES.values(), ids=NOT_TAKES)
def test_what_is_no_take_is_refused_and_not_kept(recognizer, tmp_path, take):
    told(Teacher(recognizer, tmp_path / "takes").add, "wave", take)
    assert not list((tmp_path / "takes").rglob("*.mp4"))


@pytest.mark.parametrize("name", [None, 3, "\ud800", "groups.tsv", "nul", "COM1.txt", "a\tb"])
def test_an_actions_name_that_is_none_is_refused(recognizer, tmp_path, name):
    assert "the action's name" in told(Teacher(recognizer, tmp_path / "takes").add, name, SIX)


@pytest.mark.parametrize("group", ["a\tb", "a\nb", 3, None, "\ud800", "x" * 300, " a"])
def test_a_group_that_no_line_can_hold_is_refused_and_nothing_kept(recognizer, tmp_path, group):
    assert "group (" in told(Teacher(recognizer, tmp_path / "takes").add, "wave", SIX, 25.0, group)
    assert not list((tmp_path / "takes").rglob("*.mp4"))


@pytest.mark.parametrize("rate", [0, -1, math.nan, 1e9, "25", None])
def test_a_rate_of_pixels_that_is_none_is_refused(recognizer, tmp_path, rate):
    assert f"frames_per_second ({rate}) must be above 0" in told(Teacher(recognizer, tmp_path).add, "wave", SIX, rate)


def test_a_teacher_is_made_of_what_it_can_use(recognizer, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for takes in ("", "a\0b", 3, b"takes"):
        assert "takes (" in told(Teacher, recognizer, takes)
    assert "can't be made (File exists)" in told(Teacher, recognizer, tmp_path / "file")
    assert "idle (" in told(Teacher, recognizer, tmp_path / "t", idle=3)
    assert "keep (tuple) must be an opened data set" in told(Teacher, recognizer, keep=("store", "split.json"))
    assert "must be one that `fit` gave" in told(Teacher(recognizer).save, None, tmp_path / "out")


def test_kept_features_of_another_form_are_computed_again(recognizer, tmp_path, moving_square):
    teacher = Teacher(recognizer, tmp_path)
    right = teacher._features.of(teacher.add("wave", moving_square(1, 0, 12, (48, 40))))
    (kept,) = tmp_path.rglob("*.npz")
    like = {stream: np.zeros_like(rows) for stream, rows in right.streams.items()}
    numbers = {"frames_per_second": np.array(25.0), "motion": np.array(1.0)}
    for damaged in (
        {stream: rows[..., :2] for stream, rows in like.items()},
        {stream: np.full_like(rows, np.nan) for stream, rows in like.items()},
        {stream: rows[:, :1] for stream, rows in like.items()},
        {stream: np.array(["a"]) for stream in like},
        {**like, "motion": np.array([1.0, 2.0])},
    ):
        np.savez(kept, **{**numbers, **damaged})
        again = Teacher(recognizer, tmp_path)
        found = again._features.of(again.takes[0])
        for stream, rows in right.streams.items():
            np.testing.assert_array_equal(found.streams[stream], rows)


TIMES = np.arange(6) / 25


@pytest.mark.parametrize(
    ("frames", "times"),
    [(SIX.astype(float), TIMES), (SIX[..., 0], TIMES), (SIX[:0], TIMES[:0]), (list(SIX), TIMES), (None, TIMES),
     (SIX, TIMES[:3]), (SIX, None), (SIX, TIMES[::-1]), (SIX, TIMES * 0), (SIX, TIMES * math.nan), (SIX, 0.0),
     (SIX, ["a"] * 6)],
    ids=range(12),
)  # fmt: skip
def test_an_array_clip_is_frames_with_rising_times(recognizer, frames, times):
    assert "must be" in told(ArrayClip, frames, times, recognizer.bundle.preparation)


def test_a_clip_that_was_prepared_otherwise_gets_no_answer(recognizer, world, tmp_path, moving_square):
    """Its flow would be scaled otherwise, and the answer another, without a word."""
    pixels, made = moving_square(2, 0, 12, (48, 40)), recognizer.bundle.preparation
    other = dataclasses.replace(made, flow=dataclasses.replace(made.flow, bound=3.5))
    clip = FrameClip(other)
    for number, frame in enumerate(pixels):
        clip.push(frame, number / 25)
    stored = Store(world.store)
    for given in (clip, ArrayClip(pixels, np.arange(12) / 25, other), stored.clip(min(stored.rows))):
        for function in (recognizer.predict, recognizer.features, recognizer.explain):
            assert "was prepared with" in told(function, given, 2)
    assert "must be a Preparation" in told(ArrayClip, pixels, np.arange(12) / 25, None)
    assert "must be a Preparation" in told(FrameClip, "small")


def test_numbers_of_numpy_are_numbers(recognizer, moving_square):
    clip = ArrayClip(moving_square(2, 0, 12, (48, 40)), np.arange(12) / 25, recognizer.bundle.preparation)
    ours, theirs = recognizer.predict(clip, 3), recognizer.predict(clip, np.int64(3), np.int32(1))
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    assert recognizer.live(np.float32(2), np.int64(5))
    assert "num_snippets (0) must be a whole number" in told(recognizer.predict, clip, np.int64(0))


def test_a_prediction_is_asked_for_what_it_has(recognizer, moving_square):
    clip = ArrayClip(moving_square(2, 0, 12, (48, 40)), np.arange(12) / 25, recognizer.bundle.preparation)
    prediction = recognizer.predict(clip, 1)
    for count in (-1, 2.5, None, "3", True):
        assert f"count ({count!r}) must be" in told(prediction.top, count)
        assert "count (" in told(prediction.as_dict, count)
    assert "stream ('audio') must be one of" in told(prediction.stream_top, "audio")
    assert len(prediction.top(10**6)) == len(prediction.classes)


@pytest.mark.parametrize("rules", ["x", {}, 0, ()])
def test_rules_are_rules(recognizer, rules):
    assert "must be EventRules" in told(recognizer.live, rules=rules)
    live = recognizer.live()
    with pytest.raises(InputError, match="must be EventRules"):
        live.rules = rules
    for wrong in (("a", 0.3, 1), (None, None, None), (0.5, 0.3, math.inf), (0.5, 0.3, math.nan), (0.5, 0.6, 1)):
        told(EventRules, *wrong)
    assert "engine (str) must run networks" in told(recognizer.live, engine="torch")


@pytest.mark.parametrize(
    "at", [10**400, 1j, np.complex128(1), np.datetime64(0, "s"), 1e13, np.array([1.0])], ids=range(6)
)  # fmt: skip
def test_what_is_no_moment_is_refused(recognizer, at):
    assert "pts_seconds (" in told(recognizer.live().push, FRAME, at)
    assert "arrived (" in told(recognizer.live().push, FRAME, 0.0, at)


def test_a_frame_too_long_for_flow_is_said(recognizer):
    for shape in ((1, 2000, 3), (2000, 1, 3)):
        assert "pixels long, and at most 32,766 can be" in told(recognizer.live().push, np.zeros(shape, np.uint8), 0.0)


@pytest.mark.parametrize("rate", [0, -1.0, math.nan, math.inf, "25", 1e300])
def test_a_rate_that_is_none_is_refused(tmp_path, moving_square, rate):
    write_video(tmp_path / "a.mp4", moving_square(1, 0, 4, (32, 32)), 25)
    assert "frame_rate (" in told(count_frames, tmp_path / "a.mp4", rate)
    assert "frame_rate (" in told(next, decode(tmp_path / "a.mp4", rate))


def test_a_store_is_asked_for_what_it_has(world, tmp_path):
    store = Store(world.store)
    assert "must be one of the" in told(store.clip, "left/none")
    for workers in (0, -1, 2.5, None):
        assert "workers (" in told(prepare_store, [], tmp_path / "s", store.preparation, workers)
    prepare_store(read_class_folders(world.videos)[:1], str(tmp_path / "s"), store.preparation)
    assert len(Store(tmp_path / "s").rows) == 1


def test_frames_too_large_for_h264_are_said(tmp_path):
    assert "H.264 has at most 16,384 a side" in told(
        write_video, tmp_path / "a.mp4", np.zeros((1, 2, 20_000, 3), "u1"), 25
    )


def test_a_device_that_computes_nothing_and_a_name_too_long_are_said(recognizer, tmp_path):
    assert "device 'meta' can't be used here" in told(Recognizer.load, tmp_path, "meta")
    assert "is not a folder" in told(Recognizer.load, "x" * 300)
    assert "is not a folder" in told(Recognizer.load, "x" * 300 + "/y" * 3)
