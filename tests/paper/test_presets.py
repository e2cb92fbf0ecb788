import dataclasses

import pytest

from rgbflow.commands.train import config_from
from rgbflow.learn.config import TrainConfig
from rgbflow.paper.presets import TABLE_I, Scale, scaled

TABLE_I_OF_THE_PAPER = {"epochs": 100, "learning_rate": 5e-4, "schedule": "exponential", "input_size": 224}


@pytest.mark.parametrize(("stream", "batch_size"), [("rgb", 16), ("flow", 12)])
def test_the_preset_is_table_i(stream, batch_size):
    config = config_from(["train", "store", "--preset", "paper", "--stream", stream])
    for name, value in {**TABLE_I_OF_THE_PAPER, "batch_size": batch_size, "backbone": "resnet101"}.items():
        assert getattr(config, name) == value, name
    assert config.optimizer == "sgd-momentum"
    assert config.fusion == "average"  # whatever other presets do
    assert config.stack_length == 1  # a pair (u, v)
    nothing_else = ("label_smoothing", "dropout", "weight_decay", "warmup_epochs", "gradient_clip")
    assert not any(getattr(config, name) for name in nothing_else)


def test_flags_win_over_the_file_the_file_over_the_preset_and_the_algorithm(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('learning_rate = 0.1\nalgorithm = "c3d"\nepochs = 7')
    config = config_from(["train", "store", "--preset=paper", "--stream", "rgb", f"--config={path}"])
    changes = {"learning_rate": 0.1, "epochs": 7, "algorithm": "c3d", "backbone": "c3d", "weights": "none"}
    assert config == dataclasses.replace(TABLE_I, **changes, input_size=112, dropout=0.5)


def test_an_algorithm_brings_its_own_backbone_and_size():
    config = config_from(["train", "store", "--stream", "rgb", "--algorithm", "c3d"])
    assert config == TrainConfig(algorithm="c3d", backbone="c3d", weights="none", input_size=112, dropout=0.5)
    assert config_from(["train", "store", "--stream", "rgb"]) == TrainConfig()


def test_at_the_papers_scale_nothing_is_changed_and_c3d_keeps_its_size():
    assert scaled("rgb", "two-stream", Scale(), 0) == TABLE_I
    smaller = Scale(backbone="resnet18", weights="none", input_size=96, c3d_input_size=56)
    assert scaled("flow", "two-stream", smaller, 3).backbone == "resnet18"
    assert scaled("flow", "two-stream", smaller, 3).seed == 3
    c3d = scaled("rgb", "c3d", smaller, 0)
    assert (c3d.backbone, c3d.input_size, c3d.weights) == ("c3d", 56, "none")
