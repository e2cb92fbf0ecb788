"""`rgbflow live` as a user calls it, on a file that it plays at its own speed; the weights are random."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from rgbflow import cli
from rgbflow.atomic import replace_folder
from rgbflow.bundle import Bundle, load_bundle, save_bundle, save_stream
from rgbflow.commands import live as commands
from rgbflow.fusion import Fusion
from rgbflow.live import camera as cameras
from rgbflow.live.camera import Arrival, in_real_time
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import FlowSettings, Preparation, StreamSpec
from rgbflow.video.reading import VideoError
from rgbflow.video.writing import write_video

# A job in the background of a shell without job control hands down that SIGINT is ignored.
CTRL_C_ENDS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
PROGRAM = [sys.executable, "-c", f"{CTRL_C_ENDS}; import sys; from rgbflow.cli import main; sys.exit(main())"]
SPLIT = {"protocol": "group", "seed": 0, "leak_percent": 0.0, "sha256": "0"}
SPECS = {
    "rgb": StreamSpec("rgb", "test_resnet", 32, 1, (0.5,) * 3, (0.25,) * 3),
    "flow": StreamSpec("flow", "test_resnet", 32, 3, (0.5,) * 2, (0.1,) * 2),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with random weights whose highest score is always enough for an event."""
    folder = tmp_path_factory.mktemp("live") / "bundle"
    folder.mkdir()
    fusion = Fusion("weighted", {"rgb": (0.5,), "flow": (0.5,)}, (), 1.0, 0.01, 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {stream: StreamNet(spec, 2) for stream, spec in SPECS.items()}
    for stream, network in networks.items():
        record = Bundle(("sit", "wave"), Preparation(48, FlowSettings(bound=8)), {stream: SPECS[stream]}, SPLIT)
        save_stream(folder, record, stream, network.state_dict())
    record = load_bundle(folder)
    save_bundle(folder, Bundle(record.classes, record.preparation, record.streams, SPLIT, fusion))
    return folder


@pytest.fixture
def film(tmp_path, moving_square):
    path = tmp_path / "film.mp4"
    write_video(path, moving_square(1, 0, frames=40, size=(64, 48)), 25)
    return path


def test_a_file_is_played_told_and_written_down(bundle, film, tmp_path, capsys):
    options = ["--jsonl", str(tmp_path / "live.jsonl"), "--device", "cpu", "--precision", "fp32"]
    code = cli.main(["live", str(bundle), "--source", str(film), *options])
    told = capsys.readouterr()
    assert code == 0
    first, last = told.out.splitlines()[0].split(), told.out.splitlines()[-1].split()
    assert first[0] == "start"
    assert first[1] in ("sit", "wave")
    assert last[0] == "end"
    assert "does not record its training frame rate: 25 frames per second are assumed" in told.err
    assert "40 frames received" in told.err
    assert "engine torch fp32" in told.err
    lines = [json.loads(line) for line in (tmp_path / "live.jsonl").read_text().splitlines()]
    updates = [line for line in lines if line["type"] == "update"]
    events = [line for line in lines if line["type"] == "event"]
    assert updates[-1]["pts_seconds"] == pytest.approx(39 / 25)  # the last frame is never the one that is dropped
    assert [event["kind"] for event in events] == ["start", "end"] * (len(events) // 2)
    assert len(events) == len(told.out.splitlines())
    assert {answer["label"] for answer in updates[0]["top"]} == {"sit", "wave"}


def test_a_camera_that_goes_away_is_waited_for_and_taken_up_again(bundle, capsys, monkeypatch):
    """A made-up camera that fails after six frames, each time it is opened but the last."""
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    openings = []

    def camera(source):
        openings.append(source)
        for number in range(6):
            yield Arrival(pixels, number / 25)
        if len(openings) < 3:
            raise VideoError(f"camera {source} is gone: plug it in again")

    monkeypatch.setattr(cameras, "capture", camera)
    assert cli.main(["live", str(bundle), "--source", "3"]) == 0
    told = capsys.readouterr().err.splitlines()
    gone, back = "rgbflow: camera 3 is gone: plug it in again; waiting for it", "rgbflow: the source is back"
    assert told[-5:-1] == [gone, back] * 2
    assert told[-1].startswith("rgbflow: 18 frames received")
    assert openings == ["3"] * 3


def test_a_bundle_that_is_replaced_is_gone_on_with_and_the_camera_is_kept(bundle, tmp_path, capsys, monkeypatch):
    own, openings, told = shutil.copytree(bundle, tmp_path / "own"), [], []
    rng = np.random.default_rng(0)
    monkeypatch.setattr(commands, "_note", told.append)

    def camera(source):
        openings.append(source)
        replace_by = shutil.copytree(bundle, tmp_path / "new")
        save_bundle(replace_by, replace(load_bundle(bundle), classes=("run", "jump")))
        number = last = 0
        while not last or number < last:
            yield Arrival(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), number / 25)
            number += 1
            if number == 20:
                replace_folder(replace_by, own)
            if not last and any("going on with the new bundle: run, jump" in line for line in told):
                last = number + 20

    monkeypatch.setattr(cameras, "capture", lambda source: in_real_time(camera(source)))
    log = tmp_path / "live.jsonl"
    assert cli.main(["live", str(own), "--source", "3", "--jsonl", str(log), "--device", "cpu"]) == 0
    capsys.readouterr()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    labels = [line["top"][0]["label"] for line in lines if line["type"] == "update"]
    first = min(place for place, label in enumerate(labels) if label in ("run", "jump"))
    assert set(labels[:first]) <= {"sit", "wave"}
    assert set(labels[first:]) <= {"run", "jump"}
    assert openings == ["3"]


def test_a_file_that_breaks_leaves_no_action_without_an_end(bundle, tmp_path, capsys, monkeypatch):
    rng = np.random.default_rng(0)

    def broken(source):
        for number in range(40):
            yield Arrival(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8), number / 25)
        raise VideoError("video (film.mp4) breaks after 40 frames")

    monkeypatch.setattr(cameras, "capture", lambda source: in_real_time(broken(source)))
    log = tmp_path / "live.jsonl"
    assert cli.main(["live", str(bundle), "--source", "film.mp4", "--jsonl", str(log)]) == 1
    assert "breaks after 40 frames" in capsys.readouterr().err
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = [line["kind"] for line in lines if line["type"] == "event"]
    assert kinds
    assert kinds == ["start", "end"] * (len(kinds) // 2)  # more than one where a busy machine leaves a gap
    assert [line for line in lines if line["type"] == "update"][-1]["pts_seconds"] == pytest.approx(39 / 25)


def test_ctrl_c_ends_it_with_exit_code_0(bundle, film, tmp_path, moving_square):
    path, log = tmp_path / "long.mp4", tmp_path / "live.jsonl"
    write_video(path, moving_square(0, 0, frames=60 * 25, size=(64, 48)), 25)  # nobody waits for its end
    command = [*PROGRAM, "live", str(bundle), "--source", str(path), "--jsonl", str(log)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().startswith("start")  # it is at work
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "frames received" in errors
    assert "Traceback" not in errors
    events = [line for line in map(json.loads, log.read_text().splitlines()) if line["type"] == "event"]
    assert events[-1]["kind"] == "end"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "nothing.mp4"], "video (nothing.mp4) does not exist"),
        (["--osc", "here"], "--osc here must be HOST:PORT"),
        (["--osc", "192.168..1:9000"], "--osc 192.168..1:9000: the host can't be found (no such name)"),
        (["--window", "0.05"], "window_seconds (0.05) must be at least 0.12"),
        (["--start-score", "2"], "start_score (2.0) must be in 0…1"),
        (["--updates-per-second", "0"], "updates_per_second (0.0) must be a number above 0 and at most 1,000"),
        (["--jsonl", os.devnull + "/x"], os.devnull),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(bundle, options, message, capsys):
    assert cli.main(["live", str(bundle), *options]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "assumed" not in line]
    assert len(lines) == 1
    assert message in lines[0]
