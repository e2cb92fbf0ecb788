from dataclasses import replace

import pytest

from rgbflow.bundle import load_bundle
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.learn import tasks
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.tasks import Training


def training(world, stream, **changes):
    config = TrainConfig(**load_bundle(world.bundle).origin[stream]["config"])
    return Training(stream, world.store, world.split, stream, world.bundle, replace(config, **changes))


def test_a_setting_that_a_stream_does_not_use_does_not_make_its_training_another(world):
    assert training(world, "flow", colour_jitter=0.5).is_done()
    assert training(world, "rgb", subtract_mean_flow=True, stack_length=4, workers=2).is_done()
    for stream, changes in (("rgb", {"colour_jitter": 0.5}), ("flow", {"stack_length": 4}), ("rgb", {"epochs": 9})):
        with pytest.raises(InputError, match=f"was trained with another {next(iter(changes))}"):
            training(world, stream, **changes).is_done()


def test_a_store_prepared_otherwise_makes_another_training(world, monkeypatch):
    other = Store(world.store)
    other.preparation = replace(other.preparation, square=True)
    monkeypatch.setattr(tasks, "open_store", lambda path: other)
    with pytest.raises(InputError, match="was trained with another preparation"):
        training(world, "rgb").is_done()
