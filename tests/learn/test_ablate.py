import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from rgbflow import cli
from rgbflow.bundle import load_bundle
from rgbflow.errors import InputError
from rgbflow.learn.ablate import PARTS, ablation_tasks, choose_parts, worth
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.presets import LITE, STRONG
from rgbflow.learn.runs import runs_of
from rgbflow.learn.scores import read_scores

SMALL = "--preset strong --backbone test_resnet --weights none --no-freeze-batch-norms --input-size 32 --stack-length 3"
SMALL += " --num-segments 1 --epochs 2 --average-epochs 1 --workers 0 --batch-size 16 --least-steps 0"


def test_every_part_of_the_strong_recipe_can_be_taken_away_and_is_then_gone():
    whole = replace(STRONG, colour_jitter=0.6)  # which `strong` has not
    assert choose_parts([], whole) == list(PARTS)
    assert [part.name for part in PARTS if not part.is_in(LITE)] == ["frozen"]
    for part in PARTS:
        without = replace(whole, **part.without)
        assert not part.is_in(without)
        others = {other.name for other in PARTS if other.name != part.name and other.is_in(without)}
        lost = {"frozen"} if part.name == "weights" else set()  # random batch norms must learn
        assert others == {other.name for other in PARTS} - {part.name} - lost


def test_parts_that_are_unknown_or_not_there_are_refused():
    with pytest.raises(InputError, match="--parts speed is unknown: use some of stack, segments"):
        choose_parts(["speed"], STRONG)
    with pytest.raises(InputError, match="--parts smoothing: the settings don't have this part"):
        choose_parts(["smoothing"], TrainConfig())


def test_a_part_of_flow_alone_takes_the_rgb_of_the_whole(tmp_path):
    parts = choose_parts(["stack", "flip"], STRONG)
    trainings, evaluations = ablation_tasks(tmp_path, [tmp_path / "a.json"], 2, tmp_path, STRONG, parts, 25)
    assert [task.name for task in trainings[:5]] == [
        "run0 whole rgb",
        "run0 whole flow",
        "run0 stack flow",
        "run0 flip rgb",
        "run0 flip flow",
    ]
    assert len(trainings) == 10
    assert {task.config.seed for task in trainings} == {0, 1}
    assert trainings[2].config == replace(STRONG, stack_length=1)
    assert len(evaluations) == 6


def test_with_three_splits_the_interval_holds_the_luck_of_training():
    """Scipy's, over the splits' means; a split with two seeds counts once. With fewer splits it is over the groups."""
    splits = [Path(name) for name in "abc"]
    runs = runs_of(splits, 2)
    whole = [{f"{run.split}{clip}": 1.0 for clip in range(4)} for run in runs]
    hits = [
        {f"{run.split}{clip}": float(clip >= run.seed) for clip in range(4)} for run in runs
    ]  # so many of four are lost as the seed says: 0, 1, 2, then 3, 4, 4
    groups = {clip: clip[-1] for run in whole for clip in run}
    lost = [100 * np.mean(pair) / 4 for pair in [(0, 3), (1, 4), (2, 4)]]
    expected = stats.ttest_1samp(lost, 0).confidence_interval(0.95)
    points, interval = worth(runs, hits, whole, groups)
    assert points == pytest.approx(np.mean(lost))
    assert interval == pytest.approx((expected.low, expected.high))
    points, interval = worth(runs[:2], hits[:2], whole[:2], groups)
    by_group = stats.ttest_1samp([50, 0, 0, 0], 0).confidence_interval(0.95)
    assert (points, *interval) == pytest.approx((12.5, by_group.low, by_group.high))


def test_where_splits_share_clips_the_worth_is_the_middle_of_its_interval():
    """Clip x is lost in two splits, y in none of one: two of three are lost, though one of two clips."""
    runs = runs_of([Path("a"), Path("b"), Path("c")], 1)
    whole, hits = [{"x": 1.0}, {"x": 1.0}, {"y": 1.0}], [{"x": 0.0}, {"x": 0.0}, {"y": 1.0}]
    points, (low, high) = worth(runs, hits, whole, {"x": "x", "y": "y"})
    assert points == pytest.approx(200 / 3) == (low + high) / 2


def test_more_seeds_are_more_runs_after_those_that_are_there():
    splits = [Path("a.json"), Path("b.json")]
    assert runs_of(splits, 3)[:2] == runs_of(splits, 1)
    assert [run.seed for run in runs_of(splits, 3)] == list(range(6))


def test_an_ablation_says_what_the_scores_in_its_bundles_say(world, tmp_path, capsys):
    out = tmp_path / "ablation"
    command = f"ablate {world.store} --split {world.split} --out {out} --parts mean-flow flip --snippets 2 --jobs 2"
    assert cli.main([*command.split(), *SMALL.split()]) == 0
    assert "mirroring" in capsys.readouterr().out
    found = json.loads((out / "ablation.json").read_text())
    rows = {(row["part"], row["scorer"]): row for row in found["rows"]}
    assert list(rows) == [
        *[("whole", scorer) for scorer in ("rgb", "flow", "fused")],
        *[("flip", scorer) for scorer in ("rgb", "flow", "fused")],
        *[("mean-flow", scorer) for scorer in ("flow", "fused")],
    ]
    whole, mean_flow = (read_scores([out / "run0" / name / "scores.npz"])[0] for name in ("whole", "mean-flow"))
    fused = whole.streams["rgb"] * mean_flow.streams["flow"]
    right = fused.argmax(axis=1) == whole.labels
    before = (whole.streams["rgb"] * whole.streams["flow"]).argmax(axis=1) == whole.labels
    row = rows["mean-flow", "fused"]
    assert row["top1"] == pytest.approx(100 * right.mean())
    assert row["worth"] == pytest.approx(100 * (before.mean() - right.mean()))
    assert row["worth_interval"][0] <= row["worth"] <= row["worth_interval"][1]
    assert rows["whole", "fused"]["worth"] is None
    assert not load_bundle(out / "run0" / "mean-flow").streams["flow"].subtract_mean_flow
    assert set(load_bundle(out / "run0" / "mean-flow").streams) == {"flow"}
    page = (out / "ablation.html").read_text()
    assert "mean flow subtracted" in page
    assert f"{row['top1']:.1f}" in page

    made = (out / "run0" / "flip" / "rgb.safetensors").stat().st_mtime_ns
    assert cli.main([*command.split(), *SMALL.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == found["rows"]
    assert (out / "run0" / "flip" / "rgb.safetensors").stat().st_mtime_ns == made
    assert np.isfinite([row["top1"] for row in found["rows"]]).all()
