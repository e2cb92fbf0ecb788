import pytest

from rgbflow.paper.presets import TABLE_I, Scale, scaled, table_i

TABLE_I_OF_THE_PAPER = {"epochs": 100, "learning_rate": 5e-4, "schedule": "exponential", "input_size": 224}


@pytest.mark.parametrize(("stream", "batch_size"), [("rgb", 16), ("flow", 12)])
def test_the_preset_is_table_i(stream, batch_size):
    config = table_i(stream)
    for name, value in {**TABLE_I_OF_THE_PAPER, "batch_size": batch_size, "backbone": "resnet101"}.items():
        assert getattr(config, name) == value, name
    assert config.optimizer == "sgd-momentum"
    assert config.fusion == "average"  # whatever other presets do
    assert config.stack_length == 1  # a pair (u, v)
    nothing_else = ("label_smoothing", "dropout", "weight_decay", "warmup_epochs", "gradient_clip")
    assert not any(getattr(config, name) for name in nothing_else)


def test_at_the_papers_scale_nothing_is_changed_and_c3d_keeps_its_size():
    assert scaled("rgb", "two-stream", Scale(), 0) == TABLE_I
    smaller = Scale(backbone="resnet18", weights="none", input_size=96, c3d_input_size=56)
    assert scaled("flow", "two-stream", smaller, 3).backbone == "resnet18"
    assert scaled("flow", "two-stream", smaller, 3).seed == 3
    c3d = scaled("rgb", "c3d", smaller, 0)
    assert (c3d.backbone, c3d.input_size, c3d.weights) == ("c3d", 56, "none")
