import dataclasses
import re

import pytest
import torch

from rgbflow import cli
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.presets import LITE, STRONG
from rgbflow.learn.train import TrainResult
from rgbflow.paper.presets import TABLE_I, table_i


@pytest.fixture
def config_of(monkeypatch):
    """The settings that a command line of `train` comes to; nothing is trained."""

    def read(line):
        seen = []

        def train_stream(store, split, stream, folder, config, *_):
            seen.append(config)
            return TrainResult(stream, 1, 1.0, 0.0, None, [], 0.0, 0)

        monkeypatch.setattr("rgbflow.learn.train.train_stream", train_stream)
        monkeypatch.setattr("rgbflow.data.jpegs.open_store", str)
        monkeypatch.setattr("rgbflow.data.splits.load_split", str)
        assert cli.main(["train", "store", "--split", "s.json", "--out", "out", *line.split()]) == 0
        return seen[0]

    return read


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_preset_is_taken_as_it_is(config_of, stream):
    for name, preset in (("paper", table_i(stream)), ("strong", STRONG), ("lite", LITE)):
        assert config_of(f"--stream {stream} --preset {name}") == preset


@pytest.mark.parametrize(("device", "usual"), [("cpu", LITE), ("mps", LITE), ("cuda", STRONG)])
def test_without_a_preset_the_machine_decides(config_of, monkeypatch, device, usual):
    monkeypatch.setattr("rgbflow.device.choose_device", lambda name: torch.device(device))
    assert config_of("--stream rgb") == usual
    assert config_of("--stream flow --weights none") == dataclasses.replace(
        usual, weights="none", freeze_batch_norms=False
    )
    assert config_of("--stream rgb --preset paper") == TABLE_I


def test_flags_win_over_the_file_the_file_over_the_preset_and_the_algorithm(config_of, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('learning_rate = 0.1\nalgorithm = "c3d"\nepochs = 7')
    changes = {"learning_rate": 0.1, "epochs": 7, "algorithm": "c3d", "backbone": "c3d", "weights": "none"}
    expected = dataclasses.replace(TABLE_I, **changes, input_size=112, dropout=0.5)
    line = f"--preset=paper --stream rgb --config={path}"
    assert config_of(line) == expected
    assert config_of(f"--epochs 3 {line} --no-flip") == dataclasses.replace(expected, epochs=3, flip=False)


def test_a_flag_wins_even_where_it_names_the_default(config_of):
    assert config_of("--stream rgb --preset strong --epochs 40 --no-balanced").epochs == LITE.epochs == 40
    assert config_of("--stream rgb --preset paper --flip --weights imagenet") == TABLE_I


def test_an_algorithm_brings_its_own_backbone_and_size_and_flags_change_them(config_of):
    expected = TrainConfig(algorithm="c3d", backbone="c3d", weights="none", input_size=112, dropout=0.5)
    assert config_of("--stream rgb --algorithm c3d") == expected
    assert config_of("--input-size 56 --stream rgb --algorithm c3d") == dataclasses.replace(expected, input_size=56)


def test_what_flags_and_preset_come_to_together_is_checked(config_of, capsys):
    line = ["train", "store", "--split", "s.json", "--out", "out", "--stream", "rgb"]
    assert cli.main([*line, "--freeze-batch-norms", "--weights", "none"]) == 1
    assert "freeze_batch_norms keeps the statistics of the starting weights" in capsys.readouterr().err
    assert cli.main([*line, "--preset", "stronk"]) == 2
    assert cli.main([*line, "--algorithm", "c4d"]) == 1
    assert "c4d" in capsys.readouterr().err


def test_help_shows_what_every_setting_is_by_default_and_in_each_preset(capsys):
    texts = {}
    for command in ("train", "ablate"):
        assert cli.main([command, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        starts = [(text.find(f" --{field.name.replace('_', '-')}"), field.name) for field in settings()]
        assert all(start > 0 for start, _ in starts)
        texts[command] = text
    for field in settings():
        assert f"(default: {getattr(LITE, field.name)}" in texts["train"]
        assert f"(default: {getattr(LITE, field.name)}" in texts["ablate"]
    paper, strong, lite = TABLE_I.epochs, STRONG.epochs, LITE.epochs
    assert f"(default: {lite}; strong: {strong}; paper: {paper}" in texts["train"]
    assert f"(default: {lite}; strong: {strong})" in texts["ablate"]
    assert f"paper: {TABLE_I.batch_size} for rgb, {table_i('flow').batch_size} for flow" in texts["train"]
    assert re.search(r"--flip, --no-flip Mirror half of the clips\.", texts["train"])


def settings():
    return dataclasses.fields(TrainConfig)
