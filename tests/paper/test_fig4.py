import json

import numpy as np
import pytest
from PIL import Image

from rgbflow import cli
from rgbflow.learn.curve import read_curve
from rgbflow.paper.fig4 import COLOURS

FLAGS = "--backbone test_resnet --weights none --input-size 32 --epochs 2 --no-flip --device cpu --workers 0"


@pytest.fixture(scope="module")
def figure(world, tmp_path_factory):
    """A folder in which `rgbflow paper fig4` has run to its end."""
    folder = tmp_path_factory.mktemp("fig4")
    split = str(world.split)
    options = ["--split", split, split, "--stream", "rgb", "--out", str(folder), *FLAGS.split()]
    assert cli.main(["paper", "fig4", str(world.store), *options]) == 0
    return folder


def test_the_four_optimizers_are_told_with_their_runs(figure):
    told = json.loads((figure / "fig4.json").read_text())
    assert [curve["optimizer"] for curve in told["curves"]] == ["sgd-momentum", "sgd", "asgd", "adam"]
    for curve in told["curves"]:
        rows = [read_curve(figure / run / curve["optimizer"], "rgb") for run in ("run0", "run1")]
        for column, values in curve["columns"].items():
            assert values == pytest.approx([(a[column] + b[column]) / 2 for a, b in zip(*rows, strict=True)])
        assert curve["final_test_top1"] == pytest.approx(np.mean([run[-1]["test_top1"] for run in rows]))
    losses = {tuple(curve["columns"]["train_loss"]) for curve in told["curves"]}
    assert len(losses) == 4  # four optimizers, not one under four names
    assert told["splits"][0]["leak %"] == 0
    assert told["origin"]["command"]
    assert "backbone" in told["settings"][0]


def test_the_picture_shows_every_optimizer(figure):
    with Image.open(figure / "fig4.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in COLOURS.values():
        wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=1) < 8).sum() > 100, colour
