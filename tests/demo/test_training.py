import dataclasses
import multiprocessing

import pytest
from safetensors.torch import load_file

from rgbflow.commands.terminal import track
from rgbflow.demo.training import Job, _train_alone, train_one_by_one, train_side_by_side
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig

CONFIG = TrainConfig(
    backbone="test_resnet", weights="none", input_size=32, stack_length=3, epochs=1, workers=0, precision="fp32"
)


def test_streams_trained_side_by_side_get_the_weights_of_streams_trained_one_by_one(world, tmp_path, capfd):
    one_by_one = Job(world.store, world.split, tmp_path / "one", CONFIG)
    train_one_by_one(one_by_one, ("rgb", "flow"), track)
    train_side_by_side(dataclasses.replace(one_by_one, bundle=tmp_path / "other"), ("rgb", "flow"), track)
    for stream in ("rgb", "flow"):
        one, other = (load_file(tmp_path / folder / f"{stream}.safetensors") for folder in ("one", "other"))
        assert one.keys() == other.keys()
        for name in one:
            assert one[name].float().allclose(other[name].float(), rtol=1e-3, atol=1e-4), name
    lines = capfd.readouterr().err
    for stream in ("rgb", "flow"):
        assert f"training {stream}: epoch 1: loss" in lines  # one by one
        assert f"training: {stream}: epoch 1: loss" in lines
    assert not multiprocessing.active_children()


def test_a_training_that_fails_side_by_side_says_why_and_ends_the_other(world, tmp_path):
    job = Job(world.store, world.split, tmp_path, dataclasses.replace(CONFIG, backbone="resnet1818"))
    with pytest.raises(InputError, match="backbone 'resnet1818' is unknown to timm"):
        train_side_by_side(job, ("rgb", "flow"), track)
    assert not multiprocessing.active_children()


def test_a_training_whose_parent_was_killed_ends_without_a_word(world, tmp_path, capfd):
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    job = Job(world.store, world.split, tmp_path, CONFIG)
    process = context.Process(target=_train_alone, args=(job, "rgb", 1, writing))
    process.start()
    reading.close()
    writing.close()
    process.join()
    assert process.exitcode == 1
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "rgb.safetensors").exists()
