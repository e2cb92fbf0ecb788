import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from rgbflow import cli
from rgbflow.bundle import load_bundle
from rgbflow.commands.terminal import track
from rgbflow.data.splits import load_split
from rgbflow.errors import InputError
from rgbflow.learn.curve import read_curve
from rgbflow.learn.metrics import wilson_interval
from rgbflow.learn.tasks import run_tasks
from rgbflow.paper.presets import Scale
from rgbflow.paper.table2 import PAPER, MeasuredRow, headline, table2_tasks

SMALL = Scale(
    backbone="test_resnet",
    weights="none",
    input_size=32,
    c3d_backbone="c3d_quarter",
    c3d_input_size=32,
    epochs=1,
    flip=False,
    device="cpu",
    workers=0,
)
FLAGS = "--backbone test_resnet --weights none --input-size 32 --c3d-backbone c3d_quarter --c3d-input-size 32 "
FLAGS += "--epochs 1 --no-flip --device cpu --workers 0 --seeds 2 --snippets 2"


def command(long_world, out):
    return [
        "paper",
        "table2",
        str(long_world.store),
        "--split",
        str(long_world.split),
        "--out",
        str(out),
        *FLAGS.split(),
    ]


@pytest.fixture(scope="module")
def table_folder(long_world, tmp_path_factory):
    """A folder in which `rgbflow paper table2` has run to its end."""
    folder = tmp_path_factory.mktemp("table2")
    assert cli.main(command(long_world, folder)) == 0
    return folder


def figures_of(folder):
    """What the table says, without what two runs of the same command may differ in: times, commits, dates."""
    table = json.loads((folder / "table2.json").read_text())
    return [{key: value for key, value in row.items() if key != "hours"} for row in table["rows"]], table["splits"]


def test_the_table_is_the_papers_with_ours_beside_it(table_folder, long_world):
    table = json.loads((table_folder / "table2.json").read_text())
    published = {"ResNet101 only": 78.59, "ResNet101 with flow": 73.49, "C3D": 77.41, "LSTM": 81.26}
    assert {row["name"]: row["paper_top1"] for row in table["rows"]} == {**published, "Two-stream": 85.75}
    assert table["rows"][-1]["paper_top5"] == 95.48
    assert table["splits"][0]["leak %"] == load_split(long_world.split).leak_percent == 0
    assert all(row["top5"] is None for row in table["rows"])  # two classes
    assert all(row["hours"] > 0 for row in table["rows"])
    page = (table_folder / "table2.html").read_text()
    for words in ("78.59", "85.75", "95.48", "test_resnet + LSTM, 32×32", "batch_size", "commit", "1 *"):
        assert words in page
    assert "http" not in page.replace("http://www.w3.org", "")  # self-contained


def test_every_figure_equals_a_plain_count(table_folder):
    rows = {row["name"]: row for row in json.loads((table_folder / "table2.json").read_text())["rows"]}
    for paper in PAPER:
        hits = defaultdict(list)
        per_run = []
        for run in ("run0", "run1"):
            with np.load(table_folder / run / paper.algorithm / "scores.npz") as file:
                scores = (file["rgb"] + file["flow"]) / 2 if paper.scorer == "fused" else file[paper.scorer]
                right, names = scores.argmax(axis=1) == file["labels"], file["names"]
            per_run.append(100 * right.mean())
            for name, value in zip(names, right, strict=True):
                hits[str(name)].append(bool(value))
        row = rows[paper.name]
        assert row["run_top1"] == pytest.approx(per_run)
        shares = [np.mean(values) for values in hits.values()]
        assert row["clips"] == len(shares)
        assert row["top1"] == pytest.approx(100 * np.mean(shares))
        assert row["top1_interval"] == pytest.approx(wilson_interval(round(sum(shares)), len(shares)))
        assert (row["behind"] or 0) == pytest.approx(rows["Two-stream"]["top1"] - row["top1"], abs=1e-9)


def test_video_networks_stand_beside_those_of_the_paper(table_folder, long_world, tmp_path):
    folder = shutil.copytree(table_folder, tmp_path / "table2")
    small = ["--video-weights", "none", "--video-frames", "8", "--video-input-size", "32"]
    assert cli.main([*command(long_world, folder), "--also", "s3d", *small]) == 0
    rows = json.loads((folder / "table2.json").read_text())["rows"]
    assert [row["name"] for row in rows][-2:] == ["s3d", "Two-stream"]
    assert rows[-2]["network"] == "s3d, 32×32"
    assert rows[-2]["paper_top1"] is None
    right = []
    for run in ("run0", "run1"):
        with np.load(folder / run / "s3d" / "scores.npz") as file:
            right.append(file["rgb"].argmax(axis=1) == file["labels"])
        assert load_bundle(folder / run / "s3d").streams["rgb"].stack_length == 8
    assert rows[-2]["run_top1"] == pytest.approx([100 * run.mean() for run in right])


@pytest.mark.parametrize(("name", "words"), [("c3d", "is in the table already"), ("s4d", "is unknown to this rgbflow")])
def test_what_is_no_further_network_is_refused(long_world, tmp_path, capsys, name, words):
    assert cli.main([*command(long_world, tmp_path), "--also", name]) == 1
    assert words in capsys.readouterr().err


def test_a_table_killed_midway_resumes_to_the_same_table(table_folder, long_world, tmp_path):
    program = [sys.executable, "-m", "rgbflow", *command(long_world, tmp_path)]
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (tmp_path / "run0" / "lrcn" / "training" / "rgb").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "table2.json").exists()
    kept = (tmp_path / "run0" / "two-stream" / "rgb.safetensors").stat().st_mtime_ns
    assert cli.main(command(long_world, tmp_path)) == 0
    assert (tmp_path / "run0" / "two-stream" / "rgb.safetensors").stat().st_mtime_ns == kept
    assert figures_of(tmp_path) == figures_of(table_folder)


def test_a_second_call_trains_nothing(table_folder, long_world):
    before = {path: path.stat().st_mtime_ns for path in table_folder.rglob("*.safetensors")}
    assert len(before) == 8
    assert cli.main(command(long_world, table_folder)) == 0
    assert {path: path.stat().st_mtime_ns for path in table_folder.rglob("*.safetensors")} == before


def test_other_settings_do_not_pass_for_these(table_folder, long_world, capsys):
    assert cli.main([*command(long_world, table_folder), "--learning-rate", "0.1"]) == 1
    assert "was trained with another learning_rate: choose another --out" in capsys.readouterr().err


def test_two_devices_side_by_side_train_the_same_and_each_reports_its_progress(long_world, tmp_path, capfd):
    for devices in (["cpu"], ["cpu", "cpu"]):
        folder = tmp_path / str(len(devices))
        both, _ = table2_tasks(long_world.store, [long_world.split], 1, folder, SMALL, 2)
        # In fp32: bf16 rounds the sums of other numbers of threads apart.
        both = [replace(training, config=replace(training.config, precision="fp32")) for training in both[:2]]
        run_tasks(both, devices, track)  # both streams into one bundle
        assert all(training.is_done() for training in both)
        lines = capfd.readouterr().err
        for stream in ("rgb", "flow"):
            assert f"run0 two-stream {stream}: test_resnet, " in lines
            assert f"run0 two-stream {stream}: epoch 1: loss " in lines
    for stream in ("rgb", "flow"):
        alone, beside = (read_curve(tmp_path / number / "run0" / "two-stream", stream) for number in "12")
        assert beside[0]["train_loss"] == pytest.approx(alone[0]["train_loss"], rel=1e-4)


def test_a_task_that_fails_beside_others_is_named(long_world, tmp_path):
    scale = Scale(**{**vars(SMALL), "backbone": "resnet1O1"})
    trainings, _ = table2_tasks(long_world.store, [long_world.split], 1, tmp_path, scale, 2)
    with pytest.raises(InputError, match="run0 two-stream rgb failed on cpu with exit code 1"):
        run_tasks(trainings[:1], ["cpu", "cpu"])


def test_seeds_differ_between_runs(table_folder):
    seeds = [load_bundle(table_folder / run / "c3d").origin["rgb"]["config"]["seed"] for run in ("run0", "run1")]
    assert seeds == [0, 1]


def row_of(name, behind, interval):
    return MeasuredRow(name, "", 0, None, 9, 50.0, (0, 100), None, [50.0], behind, interval, 0.0)


def test_the_headline_says_no_more_than_the_intervals_allow():
    rows = [
        row_of("A", 5.0, (1.0, 9.0)),
        row_of("B", 5.0, (-1.0, 11.0)),
        row_of("C", -5.0, (-9.0, -1.0)),
        row_of("D", 9.0, (2.0, 16.0)),
        row_of("Two-stream", None, None),
    ]
    expected = "The two-stream (50.0 %) is above A and D, is below C and can't be told from B."
    assert headline(rows) == expected
