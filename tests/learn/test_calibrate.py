"""The calibration of a bundle: what its threshold promises, and a test part that must not matter."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from rgbflow import Recognizer, cli
from rgbflow.bundle import RECORD, load_bundle, save_bundle
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.fusion import METHODS, Fusion
from rgbflow.learn import calibrate as module
from rgbflow.learn.calibrate import calibrate_fusion, record_calibration, with_threshold


@pytest.mark.parametrize(("clips", "rate"), [(19, 0.05), (40, 0.05), (9, 0.1), (4, 0.2), (10, 0.5), (7, 0.9)])
def test_the_promised_share_of_unseen_clips_is_given_a_name_and_no_more(clips, rate):
    """Drawn anew many times, M clips to fit on and one to test: exactly floor(rate (M + 1)) of M + 1 in the mean."""
    rng = np.random.default_rng(clips)
    named = []
    for _ in range(4000):
        confidence = rng.uniform(0.5, 1, size=clips + 1)
        scores = {"rgb": np.stack([confidence, 1 - confidence], axis=1)}
        fusion = with_threshold(Fusion(), {"rgb": scores["rgb"][:-1]}, rate)
        named.append(confidence[-1] > fusion.threshold)
    expected = np.floor(rate * (clips + 1) + 1e-9) / (clips + 1)
    assert np.mean(named) == pytest.approx(expected, abs=0.025)
    assert expected <= rate + 1e-9


@pytest.mark.parametrize(
    ("clips", "rate", "words"),
    [
        (18, 0.05, r"0.05 can't be promised by 18 clips of unseen classes, which can promise 0.053 at best"),
        (8, 0.111, r"can promise 0.112 at best"),  # a ninth, but so that it isn't refused in turn
        (20, 0.0, r"false_alarm_rate \(0.0\) must lie between 0 and 1"),
        (20, 5, "must lie between 0 and 1: 0.05 is 5 %"),
    ],
)
def test_a_rate_that_cannot_be_promised_is_refused(clips, rate, words):
    with pytest.raises(InputError, match=words):
        with_threshold(Fusion(), {"rgb": np.full((clips, 2), 0.5)}, rate)


def test_the_test_part_is_never_read(world, tmp_path, monkeypatch):
    """Garbage in place of the test clips' files: the calibrated bundle is the same byte for byte."""
    monkeypatch.setattr(module, "describe_origin", lambda: {"command": "fixed"})
    shutil.copytree(world.store, tmp_path / "poisoned")
    for clip in load_split(world.split).test:
        for stream in ("rgb", "flow"):
            path = tmp_path / "poisoned" / stream / f"{clip.name}.mkv"
            path.write_bytes(b"garbage" + path.read_bytes()[7:][::-1])
    records = []
    for store in (world.store, tmp_path / "poisoned"):
        bundle = tmp_path / f"bundle of {store.name}"
        shutil.copytree(world.bundle, bundle)
        command = ["calibrate", bundle, store, "--split", world.split, "--fusion", "stacking", "--snippets", "2"]
        assert cli.main(list(map(str, command))) == 0
        records.append([(bundle / name).read_bytes() for name in (RECORD, "README.md")])
    assert records[0] == records[1]
    assert load_bundle(bundle).fusion.method == "stacking"


@pytest.fixture(scope="module")
def partial_world(world, tmp_path_factory):
    """A bundle that knows red and right, its split, whose green and left are unknown, and its store."""
    folder = tmp_path_factory.mktemp("partial")
    split, bundle = folder / "split.json", folder / "bundle"
    leave_out = ["--leave-out", "green", "left"]
    assert cli.main(["split", str(world.store), "--out", str(split), *leave_out]) == 0
    for stream in ("rgb", "flow"):
        options = ["--config", str(world.config), "--backbone", "test_resnet", "--epochs", "1", "--stream", stream]
        assert cli.main(["train", str(world.store), "--split", str(split), "--out", str(bundle), *options]) == 0
    return bundle, split, world.store


def test_what_is_none_of_the_classes_is_unknown(partial_world, world, tmp_path, capsys):
    bundle, split, store = tmp_path / "bundle", *partial_world[1:]
    shutil.copytree(partial_world[0], bundle)
    arguments = [str(bundle), str(store), "--split", str(split), "--snippets", "2"]
    assert cli.main(["calibrate", *arguments, "--false-alarm-rate", "0.25", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["unknown_clips"], made["unknown_classes"]) == (4, 1)
    assert load_bundle(bundle).fusion.threshold == made["fusion"]["threshold"]
    assert cli.main(["evaluate", *arguments, "--json", "--report", str(tmp_path / "r.html")]) == 0
    found = json.loads(capsys.readouterr().out)["unknown"]
    assert (found["known_clips"], found["unknown_clips"], found["promised"]) == (8, 4, 25)
    assert "Unknown classes" in (tmp_path / "r.html").read_text()
    labels = []
    for clip in load_split(split).unknown_val:  # one in four of those it was fitted on may be above the threshold
        video = str(world.videos / f"{clip.name}.mp4")
        assert cli.main(["predict", str(bundle), video, "--snippets", "2", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["is_known"] == (answer["label"] != "unknown")
        assert answer["top"]["fused"][0]["label"] in ("red", "right")
        labels.append(answer["label"])
    assert labels.count("unknown") == 4
    assert cli.main(["predict", str(bundle), video, "--snippets", "2", "--overlay", str(tmp_path / "o.mp4")]) == 0
    assert "unknown (likeliest r" in capsys.readouterr().out


def test_calibrate_and_evaluate_tell_what_they_did(partial_world, tmp_path, capsys):
    bundle, split, store = tmp_path / "bundle", *partial_world[1:]
    shutil.copytree(partial_world[0], bundle)
    arguments = [str(bundle), str(store), "--split", str(split), "--snippets", "2"]
    assert cli.main(["evaluate", *arguments]) == 0
    assert cli.main(["calibrate", *arguments]) == 0
    printed = capsys.readouterr()
    assert "--false-alarm-rate 0.05 would fit a threshold" in printed.err
    for words in ("8 clips of 4 groups of the val part", *METHODS, "cross-validated by group"):
        assert words in printed.out
    assert load_bundle(bundle).measured == {}  # its figures were those of another fusion
    assert cli.main(["evaluate", *arguments]) == 0
    out = capsys.readouterr().out
    for words in ("ahead of average", *METHODS, "4 clips of unseen classes: AUROC"):
        assert words in out
    assert len(load_bundle(bundle).measured["test"]["fusions"]) == len(METHODS)
    small, recognizer = load_split(split), Recognizer.load(bundle)
    small = dataclasses.replace(small, val=small.val[:3])
    with pytest.raises(InputError, match="has 3 clips, but fits need 5"):
        calibrate_fusion(recognizer, Store(store), small)


def test_a_promise_without_unseen_classes_is_refused_with_the_remedy(world, tmp_path, capsys):
    shutil.copytree(world.bundle, tmp_path / "bundle")
    command = ["calibrate", tmp_path / "bundle", world.store, "--split", world.split, "--false-alarm-rate", "0.05"]
    assert cli.main(list(map(str, command))) == cli.EXIT_FAILED
    assert "the split has none: make a split with `rgbflow split --leave-out CLASS ...`" in capsys.readouterr().err


def test_a_bundle_of_one_stream_is_calibrated(world, tmp_path):
    shutil.copytree(world.bundle, tmp_path / "one")
    bundle = load_bundle(tmp_path / "one")
    save_bundle(tmp_path / "one", dataclasses.replace(bundle, streams={"rgb": bundle.streams["rgb"]}))
    recognizer = Recognizer.load(tmp_path / "one")
    made = calibrate_fusion(recognizer, Store(world.store), load_split(world.split), num_snippets=1)
    record_calibration(tmp_path / "one", recognizer.bundle, made)
    prediction = Recognizer.load(tmp_path / "one").predict(world.videos / "red" / "0.mp4", num_snippets=1)
    np.testing.assert_allclose(prediction.scores, made.fusion.fuse({"rgb": prediction.stream_scores["rgb"]}))
    assert made.fusion.temperature != 1
