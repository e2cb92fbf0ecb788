"""Arguments of the public functions and settings of a training: what can't be is said at the edge, in one line."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

from rgbflow.clip import FrameClip
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig, completed, load_config
from rgbflow.learn.presets import LITE, STRONG
from rgbflow.learn.train import train_stream
from rgbflow.recognizer import Recognizer

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
