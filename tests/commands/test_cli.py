import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import traceback
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import rgbflow
from rgbflow import cli
from rgbflow.bundle import RECORD, load_bundle
from rgbflow.commands.flags import EXIT_SOME_FAILED
from rgbflow.networks.stream_net import StreamNet
from rgbflow.video.reading import probe
from rgbflow.video.writing import write_video

PROGRAM = [sys.executable, "-c", "import sys; from rgbflow.cli import main; sys.exit(main())"]


@pytest.fixture
def rgbflow_command(capsys):
    """Run a command in this process; gives its exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        return cli.main([str(argument) for argument in arguments]), *capsys.readouterr()

    return run


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full to act as a full disk")
def test_an_output_that_is_full_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*PROGRAM, "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "rgbflow: --version: No space left on device\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full to act as a full disk")
def test_main_returns_though_its_output_is_full(monkeypatch, capsys):
    file = os.open("/dev/full", os.O_WRONLY)
    with open(file, "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main(["--version"]) == 1
    assert "No space left on device" in capsys.readouterr().err


def test_help_comes_in_under_half_a_second():
    seconds = []  # of computing, whatever else the machine does
    for _ in range(3):
        before = os.times()
        done = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
        after = os.times()
        seconds.append(after.children_user - before.children_user + after.children_system - before.children_system)
    assert min(seconds) < 0.5
    for command in cli.COMMANDS:
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)


def test_every_command_explains_itself(rgbflow_command):
    for command in cli.COMMANDS:
        code, out, _ = rgbflow_command(command, "--help")
        assert code == 0
        assert f"usage: rgbflow {command}" in out


def test_an_unknown_command_is_wrong_usage(rgbflow_command):
    code, out, error = rgbflow_command("predcit")
    assert (code, out) == (2, "")
    assert "'predcit' is not a command" in error


@pytest.mark.parametrize(("stop", "code"), [(None, 0), (0, 0), (2, 2), ("it can't go on", 1)])
def test_a_stop_of_the_parser_becomes_a_number(monkeypatch, stop, code):
    def parser(*_, **__):
        raise SystemExit(stop)

    monkeypatch.setattr(cli.tyro, "cli", parser)
    assert cli.main(["check"]) == code


def test_a_missing_argument_is_wrong_usage(rgbflow_command):
    assert rgbflow_command("prepare")[0] == 2
    assert rgbflow_command("evaluate", "somewhere", "--part", "train")[0] == 2


def test_from_the_command_to_the_network_there_are_three_calls(world, rgbflow_command, monkeypatch):
    package = str(Path(rgbflow.__file__).parent)
    stacks = []
    forward = StreamNet.forward

    def watched(self, snippets):
        above = [frame.name for frame in traceback.extract_stack()[:-1] if frame.filename.startswith(package)]
        stacks.append([name for name in above if not name.startswith("<")])  # comprehensions, up to Python 3.11
        return forward(self, snippets)

    monkeypatch.setattr(StreamNet, "forward", watched)
    assert rgbflow_command("predict", world.bundle, world.videos / "red" / "0.mp4", "--snippets", "2")[0] == 0
    # Of the command line, the command, the recogniser and the engine.
    assert stacks == [["main", "predict", "predict", "answers", "_answer"]] * 2


def test_predict_prints_label_streams_and_times(world, rgbflow_command):
    code, out, _ = rgbflow_command("predict", world.bundle, world.videos / "red" / "0.mp4", "--top", "2")
    assert code == 0
    assert "red" in out
    for word in ("fused", "rgb", "flow", "decode", "ms"):
        assert word in out


def test_predict_gives_json_and_goes_on_after_a_broken_video(world, rgbflow_command, tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    good = world.videos / "left" / "0.mp4"
    code, out, error = rgbflow_command("predict", world.bundle, good, tmp_path / "text.mp4", good, "--json")
    assert code == EXIT_SOME_FAILED
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["video"] for answer in answers] == [str(good)] * 2
    assert sum(entry["score"] for entry in answers[0]["top"]["fused"]) == pytest.approx(1)
    assert "text.mp4" in error
    assert error.count("\n") == 1


def test_predict_writes_an_overlay_of_the_same_length(world, rgbflow_command, tmp_path):
    source = world.videos / "green" / "3.mp4"
    assert rgbflow_command("predict", world.bundle, source, "--overlay", tmp_path / "o.mp4")[0] == 0
    assert probe(tmp_path / "o.mp4").header_frames == probe(source).header_frames


def test_predict_says_which_stream_decided(world, rgbflow_command):
    for name in ("left", "red"):
        source = world.videos / name / "0.mp4"
        answer = json.loads(rgbflow_command("predict", world.bundle, source, "--json")[1])
        said = {stream: rows[0]["label"] for stream, rows in answer["top"].items()}
        assert answer["decision"]["answer"] == said["fused"]
        for stream in ("rgb", "flow"):
            assert answer["decision"]["voices"][stream]["label"] == said[stream]
        printed = rgbflow_command("predict", world.bundle, source)[1]
        words = {"rgb": "rgb decided", "flow": "flow decided", "both": "both streams say", "fusion": "neither stream"}
        assert words[answer["decision"]["by"]] in printed


def test_why_adds_a_panel_for_each_stream_to_the_overlay(world, rgbflow_command, tmp_path):
    source = world.videos / "green" / "3.mp4"
    arguments = ["predict", world.bundle, source, "--snippets", "3", "--overlay", tmp_path / "o.mp4", "--json"]
    code, plain, _ = rgbflow_command(*arguments)
    size = probe(tmp_path / "o.mp4").width / probe(tmp_path / "o.mp4").height
    code, out, error = rgbflow_command(*arguments, "--why")
    assert (code, error) == (0, f"overlay: {tmp_path / 'o.mp4'}\n")
    assert json.loads(out)["top"] == json.loads(plain)["top"]
    assert json.loads(out)["seconds"].keys() - json.loads(plain)["seconds"].keys() == {"maps"}
    seen = probe(tmp_path / "o.mp4")
    assert seen.header_frames == probe(source).header_frames
    assert seen.width / seen.height > 1.3 * size


def test_timeline_gives_segments(world, rgbflow_command, tmp_path, moving_square):
    write_video(tmp_path / "long.mp4", moving_square(0, 1, 60, (64, 64), tint=(1, 0.2, 0.2)), 25)
    arguments = ["predict", world.bundle, tmp_path / "long.mp4", "--timeline", "--window", "0.4", "--step", "0.2"]
    code, out, _ = rgbflow_command(*arguments, "--json")
    assert code == 0
    segments = json.loads(out)["segments"]
    assert segments[0]["start_seconds"] == 0
    assert segments[-1]["end_seconds"] == pytest.approx(60 / 25)
    for one, other in pairwise(segments):
        assert one["end_seconds"] == other["start_seconds"]
        assert one["label"] != other["label"]
    assert "red" in rgbflow_command(*arguments)[1]


def test_evaluate_prints_figures_and_writes_scores_and_report(world, rgbflow_command, tmp_path):
    shutil.copytree(world.bundle, tmp_path / "bundle")
    arguments = ["evaluate", tmp_path / "bundle", world.store, "--split", world.split, "--snippets", "2"]
    files = ["--scores", tmp_path / "s.npz", "--report", tmp_path / "r.html"]
    code, out, _ = rgbflow_command(*arguments, *files)
    assert code == 0
    assert "16 clips of the test part" in out
    assert "0.0 % of these clips share a group" in out
    assert (tmp_path / "s.npz").exists()
    assert (tmp_path / "r.html").exists()
    code, out, _ = rgbflow_command(*arguments, "--crops", "10", "--json")
    assert json.loads(out)["figures"].keys() == {"rgb", "flow", "fused"}
    assert load_bundle(tmp_path / "bundle").measured["test"]["crops"] == 10


def test_the_precision_is_chosen_and_noted_beside_the_figures(world, rgbflow_command, tmp_path):
    bundle = shutil.copytree(world.bundle, tmp_path / "bundle")
    data = [world.store, "--split", world.split, "--snippets", "2"]
    for precision in ("bf16", "fp32"):
        engine, chosen = f"torch {precision}", ["--device", "cpu", "--precision", precision, "--json"]
        code, out, _ = rgbflow_command("calibrate", bundle, *data, *chosen)
        assert (code, json.loads(out)["engine"]) == (0, engine)
        code, out, error = rgbflow_command("evaluate", bundle, *data, *chosen, "--report", tmp_path / "report.html")
        assert (code, json.loads(out)["engine"]) == (0, engine)
        assert f"engine: {engine}" in error
        code, out, _ = rgbflow_command("predict", bundle, world.videos / "red" / "0.mp4", "--snippets", "2", *chosen)
        assert (code, json.loads(out)["engine"]) == (0, engine)
        record = load_bundle(bundle)
        assert (record.calibration["engine"], record.measured["test"]["engine"]) == (engine, engine)
        assert f"; {engine}):" in (bundle / "README.md").read_text()
        assert engine in (tmp_path / "report.html").read_text()


def test_split_takes_groups_and_holdout(world, rgbflow_command, tmp_path):
    holdout = ["--holdout", "person3", "person7"]
    code, out, _ = rgbflow_command("split", world.store, "--out", tmp_path / "s.json", *holdout, "--json")
    assert code == 0
    assert json.loads(out)["test"] == 8
    assert json.loads(out)["leak_percent"] == 0
    table = "".join(f"{label}/{n}.mp4\tteam{n % 4}\n" for label in ("left", "right", "red", "green") for n in range(20))
    (tmp_path / "g.tsv").write_text(table)
    arguments = ["--groups", tmp_path / "g.tsv", "--holdout", "team1"]
    code, out, _ = rgbflow_command("split", world.store, "--out", tmp_path / "s.json", *arguments, "--json")
    assert json.loads(out)["test"] == 20


def test_flags_win_over_the_configuration_file(world, rgbflow_command, tmp_path):
    out = tmp_path / "bundle"
    arguments = ["train", world.store, "--split", world.split, "--stream", "rgb", "--out", out]
    arguments += ["--config", world.config, "--epochs", "1", "--backbone", "test_resnet", "--json"]
    code, printed, _ = rgbflow_command(*arguments)
    assert code == 0
    assert len(json.loads(printed)["curve"]) == 1
    record = json.loads((out / RECORD).read_text())
    assert record["streams"]["rgb"]["backbone"] == "test_resnet"
    assert record["origin"]["rgb"]["config"]["learning_rate"] == 0.1


def test_prepare_sets_broken_clips_aside_and_says_so(rgbflow_command, tmp_path, moving_square):
    (tmp_path / "videos" / "walk").mkdir(parents=True)
    write_video(tmp_path / "videos" / "walk" / "good.mp4", moving_square(1, 0, 4, (64, 64)), 25)
    (tmp_path / "videos" / "walk" / "bad.mp4").write_text("not a video")
    arguments = ["prepare", tmp_path / "videos", "--out", tmp_path / "store", "--workers", "1"]
    code, out, error = rgbflow_command(*arguments, "--json")
    assert code == EXIT_SOME_FAILED
    result = json.loads(out)
    assert (result["clips"], result["frames"]) == (1, 4)
    assert "bad.mp4" in result["failed"]["walk/bad"]
    assert "set aside" in error


def test_a_plan_prints_hours_and_gigabytes_and_writes_nothing(rgbflow_command, tmp_path, moving_square):
    from rgbflow.video.writing import write_video

    for clip in range(3):
        write_video(tmp_path / "videos" / "walk" / f"{clip}.mp4", moving_square(1, 0, size=(80, 60)), 25)
    options = ["--out", tmp_path / "store", "--short-side", "48", "--plan"]
    code, out, _ = rgbflow_command("prepare", tmp_path / "videos", *options, "--json")
    planned = json.loads(out)
    assert (code, planned["clips"], planned["measured"], planned["frames"]) == (0, 3, 3, 36)
    assert planned["core_hours"] > 0
    assert planned["gigabytes"] > 0
    code, out, _ = rgbflow_command("prepare", tmp_path / "videos", *options)
    assert (code, "3 clips, about 36 frames: " in out) == (0, True)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plan", "--verify"], "--plan measures on this machine and writes nothing"),
        (["--plan", "--cluster", "auto"], "--plan measures on this machine and writes nothing"),
        (["--workers", "2", "--cluster", "auto"], "--workers 2 is for this machine"),
        (
            ["--frame-rate", "0"],
            "frame_rate (0.0) must be a number in 0.01…1,000, or None: 25 frames per second are usual",
        ),
        (["--jpeg-quality", "101"], "jpeg_quality (101) must be a whole number in 1…100, or None"),
        (["--flow-reduction", "3"], "reduction (3) must be one of 0, 1, 2, 4"),
    ],
)
def test_prepare_refuses_settings_that_cannot_be(rgbflow_command, tmp_path, options, message):
    code, out, error = rgbflow_command("prepare", tmp_path, "--out", tmp_path / "store", *options)
    assert (code, out) == (1, "")
    assert error.startswith(f"rgbflow: {message}")
    assert error.count("\n") == 1


def test_check_names_what_is_broken(rgbflow_command, tmp_path, moving_square):
    write_video(tmp_path / "walk" / "good.mp4", moving_square(1, 0, 20, (64, 64)), 25)
    (tmp_path / "walk" / "bad.mp4").write_text("not a video")
    code, out, _ = rgbflow_command("check", tmp_path)
    assert code == EXIT_SOME_FAILED
    assert "broken" in out
    assert "bad.mp4" in out


BAD_INPUT = {
    "a missing file": lambda w, t: ["predict", w.bundle, t / "none.mp4"],
    "a text file named .mp4": lambda w, t: ["predict", w.bundle, write_text(t / "text.mp4")],
    "a truncated video": lambda w, t: ["predict", w.bundle, truncated(w, t / "cut.mp4")],
    "no bundle": lambda w, t: ["predict", t, w.videos / "red" / "0.mp4"],
    "a bundle of a newer format": lambda w, t: ["predict", newer(w, t / "new"), w.videos / "red" / "0.mp4"],
    "a missing folder of videos": lambda w, t: ["prepare", t / "none", "--out", t / "out"],
    "an empty folder of videos": lambda w, t: ["prepare", t, "--out", t / "out"],
    "a store that is none": lambda w, t: ["split", t, "--out", t / "out"],
    "a class with one group": lambda w, t: ["split", one_group(w, t), "--out", t / "out"],
    "an unknown group": lambda w, t: ["split", w.store, "--out", t / "out", "--holdout", "person99"],
    "no official lists": lambda w, t: ["split", w.store, "--protocol", "official-1", "--out", t / "out"],
    "a split that is none": lambda w, t: [*training(w, t), "--split", write_text(t / "s.json")],
    "a split for another store": lambda w, t: [*training(w, t), "--split", other_split(w, t / "s.json")],
    "a stack that is too long": lambda w, t: [*training(w, t), "--split", w.split, "--stack-length", "12"],
    "an unknown backbone": lambda w, t: [*training(w, t), "--split", w.split, "--backbone", "resnot101"],
    "a wrong TOML key": lambda w, t: [
        *training(w, t),
        "--split",
        w.split,
        "--config",
        write_text(t / "c", "epoch = 3"),
    ],
    "a missing TOML file": lambda w, t: [*training(w, t), "--split", w.split, "--config", t / "none.toml"],
    "a setting out of range": lambda w, t: [*training(w, t), "--split", w.split, "--epochs", "0"],
    "an output that is a file": lambda w, t: ["split", w.store, "--out", write_text(t / "file") / "out"],
    "an unwritable video": lambda w, t: ["demo", "--out", write_text(t / "file") / "out"],
    "an overlay of two": lambda w, t: ["predict", w.bundle, "a", "b", "--overlay", t / "out"],
    "no snippets": lambda w, t: ["predict", w.bundle, w.videos / "red" / "0.mp4", "--snippets", "0"],
    "an unknown device": lambda w, t: ["predict", w.bundle, w.videos / "red" / "0.mp4", "--device", "foo"],
    "a window without a timeline": lambda w, t: ["predict", w.bundle, w.videos / "red" / "0.mp4", "--window", "1"],
    "top of a timeline": lambda w, t: ["predict", w.bundle, w.videos / "red" / "0.mp4", "--timeline", "--top", "2"],
    "why without an overlay": lambda w, t: ["predict", w.bundle, w.videos / "red" / "0.mp4", "--why"],
    "why of a timeline": lambda w, t: [
        *("predict", w.bundle, w.videos / "red" / "0.mp4", "--timeline", "--why", "--overlay", t / "out")
    ],
    "negative workers": lambda w, t: ["prepare", w.videos, "--out", t / "out", "--workers", "-1"],
    "a preset of another method": lambda w, t: [
        *("prepare", w.videos, "--out", t / "out", "--flow", "tvl1", "--preset", "medium")
    ],
    "a side too short": lambda w, t: ["prepare", w.videos, "--out", t / "out", "--short-side", "16"],
    "no video": lambda w, t: ["predict", w.bundle],
}


def write_text(path, text="just text"):
    path.write_text(text)
    return path


def truncated(world, path):
    content = (world.videos / "red" / "0.mp4").read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return path


def newer(world, folder):
    shutil.copytree(world.bundle, folder)
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, "format_version": 99}))
    return folder


def one_group(world, folder):
    """A store in which all clips of a class come from one group."""
    lines = [f"{label}/{n}.mp4\tperson{0 if label == 'red' else n}" for label in ("left", "red") for n in range(4)]
    for label in ("left", "red"):
        (folder / "videos" / label).mkdir(parents=True)
        for n in range(4):
            shutil.copy(world.videos / label / f"{n}.mp4", folder / "videos" / label)
    (folder / "videos" / "groups.tsv").write_text("\n".join(lines))
    store = folder / "store"
    options = ["--out", str(store), "--short-side", "32", "--workers", "1"]
    assert cli.main(["prepare", str(folder / "videos"), *options]) == 0
    return store


def other_split(world, path):
    path.write_text(world.split.read_text().replace("left/", "elsewhere/"))
    return path


def training(world, folder):
    common = ["--weights", "none", "--backbone", "test_resnet", "--input-size", "32", "--epochs", "1"]
    return ["train", world.store, "--stream", "flow", "--out", folder / "out", *common]


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_gets_one_line_and_leaves_nothing(world, tmp_path, rgbflow_command, name):
    arguments = BAD_INPUT[name](world, tmp_path)
    code, _, error = rgbflow_command(*arguments)
    assert code == 1
    said = [line for line in error.splitlines() if not line.startswith(("training flow: ", "note: "))]
    assert len(said) == 1, error
    assert said[0].startswith("rgbflow: ")
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists() or not any(path.is_file() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads every folder")
def test_an_unreadable_folder_gets_one_line(rgbflow_command, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o000)
    code, _, error = rgbflow_command("prepare", tmp_path / "locked", "--out", tmp_path / "out")
    assert (code, error.count("\n")) == (1, 1)


def test_a_full_disk_gets_one_line_and_leaves_nothing(world, tmp_path, rgbflow_command, monkeypatch):
    from rgbflow.video import writing

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing._Encoder, "write", full)
    code, _, error = rgbflow_command("prepare", world.videos, "--out", tmp_path / "out", "--workers", "1")
    assert code == 1
    assert "No space left on device" in error
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left <= {"prepare.lock", "unfinished.jsonl"}  # of a store, for the run that goes on


TELLS = """
import sys
from rgbflow import InputError, cli

def tell(count: int, code: int = 0) -> int:
    "Tell something, then end or fail."
    print("\\n" * count)
    if code == 1:
        raise InputError("this is wrong")
    return code

cli.COMMANDS["tell"] = tell
sys.exit(cli.main())
"""


@pytest.mark.parametrize(
    ("arguments", "unbuffered", "code", "told"),
    [
        (["--help"], "", 0, ""),
        (["--help"], "1", 0, ""),
        (["train", "--help"], "", 0, ""),
        (["train", "--help"], "1", 0, ""),
        (["tell", "--count", "9", "--code", "3"], "", 3, ""),
        (["tell", "--count", "9", "--code", "1"], "", 1, "rgbflow: this is wrong\n"),
        (["tell", "--count", "99999", "--code", "1"], "", 0, ""),  # it didn't come to that
    ],
)
def test_output_into_a_closed_pipe_is_no_error(arguments, unbuffered, code, told):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", TELLS, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    process.stdout.close()  # as `head` does, at once
    assert process.stderr.read() == told
    assert process.wait() == code
    process.stderr.close()


def test_without_an_output_it_is_no_error():
    command = " ".join(map(shlex.quote, [*PROGRAM, "--version"]))
    done = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_is_the_packages(rgbflow_command):
    code, out, _ = rgbflow_command("--version")
    assert code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", out)


def test_numbers_in_json_are_plain(world, rgbflow_command):
    _, out, _ = rgbflow_command("predict", world.bundle, world.videos / "red" / "0.mp4", "--json", "--snippets", "1")
    answer = json.loads(out)
    assert isinstance(answer["score"], float)
    assert np.isfinite(list(answer["seconds"].values())).all()


@pytest.mark.parametrize("command", ["prepare", "check", "split", "predict", "evaluate"])
def test_a_folder_that_may_not_be_read_gets_one_line(world, rgbflow_command, tmp_path, monkeypatch, command):
    """As for an ordinary user whose rights do not reach into a folder; the superuser's reach everywhere."""
    locked = tmp_path / "locked"
    arguments = {
        "prepare": ["prepare", locked, "--out", tmp_path / "out"],
        "check": ["check", locked],
        "split": ["split", locked, "--out", tmp_path / "out"],
        "predict": ["predict", world.bundle, locked / "clip.mp4"],
        "evaluate": ["evaluate", world.bundle, locked, "--split", world.split],
    }

    def stat(path, *, follow_symlinks=True):
        if str(path).startswith(str(locked)):
            raise PermissionError(13, "Permission denied", str(path))
        return os.stat(path, follow_symlinks=follow_symlinks)

    def scan(path="."):
        if str(path).startswith(str(locked)):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    listdir = os.listdir
    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(os, "listdir", scan)
    code, _, error = rgbflow_command(*arguments[command])
    assert code == 1
    assert error.count("\n") == 1
    assert error.startswith("rgbflow: ")
    assert "ermission denied" in error
