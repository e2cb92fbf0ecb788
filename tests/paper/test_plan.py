import json
import re

import pytest

from rgbflow import cli
from rgbflow.data.splits import load_split

FLAGS = "--backbone test_resnet --weights none --input-size 32 --device cpu"


def plan(capsys, *arguments):
    capsys.readouterr()
    assert cli.main(["paper", *map(str, arguments), *FLAGS.split(), "--plan", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_counts_what_a_training_would_see(long_world, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    split = load_split(long_world.split)
    options = ["--epochs", 3, "--snippets", 5, "--seeds", 2, "--c3d-backbone", "c3d_quarter", "--c3d-input-size", 32]
    told = plan(capsys, "table2", long_world.store, "--split", long_world.split, *options)
    costs = {cost["name"]: cost for cost in told["trainings"]}
    assert len(costs) == 2 * 4
    train, val, test = (len(split.clips(part)) for part in ("train", "val", "test"))
    assert costs["run0 two-stream flow"]["images"] == 3 * train
    assert costs["run0 two-stream flow"]["measured_images"] == 3 * val * 3 + test * 5
    for network in ("c3d", "lrcn"):  # 16 frames a snippet, one snippet in validation
        assert costs[f"run1 {network} rgb"]["images"] == 16 * 3 * train
        assert costs[f"run1 {network} rgb"]["measured_images"] == 16 * (3 * val + test * 5)
    assert all(cost["hours"] > 0 and cost["memory_gib"] > 0 and cost["reading_hours"] > 0 for cost in costs.values())
    assert told["total"]["hours"] == pytest.approx(sum(cost["hours"] for cost in costs.values()))
    assert told["estimate"] is True
    assert not list(tmp_path.iterdir())  # nothing was trained or written


def test_ucf101_is_planned_from_its_lists_alone(ucf101_lists, capsys, tmp_path):
    split = tmp_path / "split.json"
    assert cli.main(["split", str(ucf101_lists), "--protocol", "paper", "--out", str(split)]) == 0
    told = plan(capsys, "fig4", ucf101_lists, "--split", split, "--stream", "rgb")
    assert [cost["images"] for cost in told["trainings"]] == [30 * 7992] * 4  # Figure 4's own 30 epochs
    assert [cost["reading_hours"] for cost in told["trainings"]] == [None] * 4


def test_the_memory_of_a_step_grows_with_the_batch_and_holds_weights_and_gradients(long_world, capsys):
    options = ["fig4", long_world.store, "--split", long_world.split, "--stream", "rgb"]
    small, large = (plan(capsys, *options, "--batch-size", size)["trainings"] for size in (4, 8))
    by_name = {cost["name"]: cost for cost in small}
    for cost in large:
        assert cost["memory_gib"] > by_name[cost["name"]]["memory_gib"] > 2 * cost["disk_gib"]
    assert by_name["run0 adam rgb"]["memory_gib"] > by_name["run0 sgd rgb"]["memory_gib"]  # two moments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["fig4", "--snippets", "5"], "--snippets, --c3d-backbone and --c3d-input-size are for table2"),
        (["fig4", "--c3d-input-size", "56"], "--snippets, --c3d-backbone and --c3d-input-size are for table2"),
        (["table2", "--stream", "rgb"], "--stream rgb is for fig4"),
        (["table2", "--seeds", "0"], r"--seeds \(0\) must be at least 1"),
        (["table2", "--backbone", "resnet1O1"], "did you mean 'resnet101'"),
    ],
)
def test_flags_that_would_do_nothing_and_wrong_ones_are_refused(long_world, capsys, options, message):
    what, *flags = options
    arguments = ["paper", what, str(long_world.store), "--split", str(long_world.split), *flags, "--plan"]
    assert cli.main(arguments) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rgbflow:")]
    assert re.search(message, line)
