import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from rgbflow.bundle import load_bundle
from rgbflow.data.dataset import balanced_order
from rgbflow.data.splits import Split, SplitClip, load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.fusion import Fusion
from rgbflow.learn.config import TrainConfig, load_config
from rgbflow.learn.evaluate import evaluate_recognizer
from rgbflow.learn.spec import flow_spread, make_spec
from rgbflow.learn.stream_training import StreamTraining
from rgbflow.learn.train import launched_processes, make_bundle, train_stream
from rgbflow.networks.stream_net import StreamNet
from rgbflow.recognizer import Recognizer
from rgbflow.stream import Preparation, StreamSpec

TINY = TrainConfig(
    backbone="test_resnet",
    weights="none",
    input_size=32,
    stack_length=3,
    epochs=3,
    learning_rate=0.05,
    dropout=0.3,
    flip=False,
    workers=0,
    precision="fp32",
)


def changed(**values):
    return dataclasses.replace(TINY, **values)


def run(world, folder, stream="rgb", config=TINY, on_step=lambda *step: None, **more):
    progress = SimpleNamespace(update=on_step, report=lambda line: None)
    return train_stream(Store(world.store), load_split(world.split), stream, folder, config, progress, **more)


@pytest.mark.parametrize(("least_steps", "steps"), [(0, 3), (3, 3), (4, 6), (7, 9)])
def test_a_small_training_part_is_shown_until_an_epoch_has_its_steps(world, tmp_path, least_steps, steps):
    said = []
    config = changed(epochs=1, batch_size=16, least_steps=least_steps)
    run(world, tmp_path, config=config, on_step=lambda done, total, note: said.append(total))
    assert set(said) == {steps}


@pytest.mark.parametrize("save_minutes", [0.0, 1e-9])
def test_a_killed_run_resumes_to_the_same_weights_and_curve(world, tmp_path, save_minutes):
    config = changed(epochs=12, save_minutes=save_minutes)
    whole = run(world, tmp_path / "whole", config=config)
    settings = tmp_path / "tiny.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in vars(config).items()]
    settings.write_text("\n".join(lines))
    command = [sys.executable, "-c", "import sys; from rgbflow.cli import main; sys.exit(main())"]
    command += ["train", world.store, "--split", world.split, "--stream", "rgb"]
    command += ["--out", tmp_path / "killed", "--config", settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed" / "training" / "rgb" / "last.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "recognizer.json").exists()

    resumed = run(world, tmp_path / "killed", config=config)
    assert (0 if save_minutes else 1) <= resumed.resumed_epoch < 12
    assert resumed.curve == whole.curve
    assert resumed.best_epoch == whole.best_epoch
    one, other = (load_file(tmp_path / name / "rgb.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_interrupted_epoch_is_done_again(world, tmp_path):
    class StopError(Exception):
        pass

    def stop(done, total, note):
        if done == 5:  # in the second epoch: an epoch has 3 steps
            raise StopError

    with pytest.raises(StopError):
        run(world, tmp_path / "stopped", on_step=stop)
    resumed = run(world, tmp_path / "stopped")
    assert resumed.resumed_epoch == 1
    assert resumed.curve == run(world, tmp_path / "whole").curve


EVERY_STEP = 1e-9  # minutes between checkpoints


@pytest.mark.parametrize("last_step", [2, 3, 5, 8, 9])  # an epoch has 3 steps
@pytest.mark.parametrize(("workers", "parts"), [(0, {}), (1, {}), (0, {"average_epochs": 2, "balanced": True})])
def test_a_run_stopped_in_mid_epoch_goes_on_from_its_last_step(world, tmp_path, last_step, workers, parts):
    class StopError(Exception):
        pass

    def stop(done, total, note):
        if done == last_step:  # before it is saved
            raise StopError

    config = changed(save_minutes=EVERY_STEP, workers=workers, **parts)
    with pytest.raises(StopError):
        run(world, tmp_path / "stopped", config=config, on_step=stop)
    steps = []
    resumed = run(
        world, tmp_path / "stopped", config=config, on_step=lambda done, total, note: steps.append((done, note))
    )
    assert steps[0][0] == last_step  # the step before it is not done again
    assert resumed.resumed_epoch == (last_step - 1) // 3
    whole = run(world, tmp_path / "whole", config=changed(**parts))
    assert resumed.curve == whole.curve
    one, other = (load_file(tmp_path / name / "rgb.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_epoch_is_finished_by_as_many_processes_as_began_it(world, tmp_path):
    def stop(done, total, note):
        if done == 3:
            raise ZeroDivisionError

    config = changed(save_minutes=EVERY_STEP)
    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path, config=config, on_step=stop)
    path = tmp_path / "training" / "rgb" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "seen": checkpoint["seen"].repeat(2, 1)}, path)
    with pytest.raises(InputError, match="the epoch was begun by 2 processes, not 1: resume with as many"):
        run(world, tmp_path, config=config)


def test_other_settings_do_not_continue_an_unfinished_run(world, tmp_path):
    def stop(done, total, note):
        if done == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path / "out", on_step=stop)
    with pytest.raises(InputError, match="holds an unfinished run with other settings"):
        run(world, tmp_path / "out", config=changed(learning_rate=0.01))


def test_logs_and_record_are_left_and_checkpoints_are_not(world, tmp_path):
    steps = []
    result = run(world, tmp_path, on_step=lambda done, total, note: steps.append((done, total)))
    assert steps[-1] == (9, 9)  # 48 clips in batches of 16, three epochs
    work = tmp_path / "training" / "rgb"
    with (work / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert float(rows[-1]["val_top1"]) == pytest.approx(result.curve[-1]["val_top1"])
    board = EventAccumulator(str(work / "tensorboard"))
    board.Reload()
    assert len(board.Scalars("val_top1")) == 3
    assert not list(tmp_path.rglob("*.ckpt"))
    bundle = load_bundle(tmp_path)
    assert bundle.split["sha256"] == load_split(world.split).sha256
    assert bundle.origin["rgb"]["epoch"] == result.best_epoch
    assert bundle.origin["rgb"]["config"]["learning_rate"] == 0.05
    best = max(result.curve, key=lambda row: (row["val_top1"], -row["val_loss"]))
    assert result.best_epoch == best["epoch"]


def test_what_is_worth_knowing_and_each_epoch_is_a_line_and_nothing_is_printed(world, tmp_path, capsys):
    lines, notes = [], []

    def stop(done, total, note):
        if done == 4:
            raise ZeroDivisionError

    store, split = Store(world.store), load_split(world.split)
    progress = SimpleNamespace(update=stop, report=lines.append)
    with pytest.raises(ZeroDivisionError):
        train_stream(store, split, "rgb", tmp_path, TINY, progress)
    progress = SimpleNamespace(update=lambda done, total, note: notes.append(note), report=lines.append)
    curve = train_stream(store, split, "rgb", tmp_path, TINY, progress).curve
    epochs = [
        f"epoch {row['epoch']}: loss {row['train_loss']:.3f}, top-1 {row['val_top1']:.1f} % on val" for row in curve
    ]
    begin = f"{TINY.backbone}, random weights"
    assert lines == [begin, epochs[0], begin, "resuming in epoch 2 of 3", *epochs[1:]]
    assert set(notes) == set(epochs)
    assert capsys.readouterr() == ("", "")
    lines.clear()
    with pytest.raises(ZeroDivisionError):
        train_stream(
            store,
            split,
            "rgb",
            tmp_path / "mirrored",
            changed(flip=True),
            SimpleNamespace(update=stop, report=lines.append),
        )
    assert lines[1] == "note: left, right name a side, but a mirrored clip shows the other side: consider --no-flip"


def test_a_trained_stream_is_not_overwritten(world):
    with pytest.raises(InputError, match="already holds a trained rgb stream"):
        run(world, world.bundle)


def test_a_stream_is_replaced_when_asked(world, tmp_path):
    run(world, tmp_path, "flow")
    run(world, tmp_path)
    config = changed(seed=9)
    replaced = run(world, tmp_path, config=config, replace_stream=True)
    assert replaced.curve == run(world, tmp_path / "fresh", config=config).curve
    bundle = load_bundle(tmp_path)
    assert set(bundle.streams) == {"rgb", "flow"}
    assert bundle.frames_per_second == 25
    assert bundle.origin["rgb"]["config"]["seed"] == 9


def test_two_trainings_side_by_side_both_end_up_in_the_bundle(world, tmp_path):
    def train_flow_meanwhile(done, total, note):
        if done == 2:
            run(world, tmp_path, "flow")

    run(world, tmp_path, "rgb", on_step=train_flow_meanwhile)
    assert set(load_bundle(tmp_path).streams) == {"rgb", "flow"}


def test_a_diverging_training_stops_and_other_settings_start_anew(world, tmp_path):
    with pytest.raises(InputError, match=r"diverged in epoch \d.*: lower learning_rate \(10.0\)"):
        run(world, tmp_path, config=changed(learning_rate=10.0, gradient_clip=0.0, warmup_epochs=0.0))
    assert not (tmp_path / "recognizer.json").exists()
    assert run(world, tmp_path).resumed_epoch == 0


def test_a_damaged_clip_is_named_in_one_line_whichever_process_reads_it(world, tmp_path):
    shutil.copytree(world.store, tmp_path / "store")
    name = load_split(world.split).train[5].name
    damaged = tmp_path / "store" / "flow" / f"{name}.mkv"
    damaged.write_bytes(damaged.read_bytes()[:-500])
    for workers in (0, 1):
        with pytest.raises(InputError, match=rf"{name}.mkv\) .*prepare the clip again") as caught:
            train_stream(
                Store(tmp_path / "store"),
                load_split(world.split),
                "flow",
                tmp_path / "out",
                changed(workers=workers),
            )
        assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_says_what_to_delete(world, tmp_path):
    def stop(done, total, note):
        if done == 4:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path, on_step=stop)
    kept = sorted((tmp_path / "training" / "rgb").glob("*.ckpt"))
    for path in kept:
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["callbacks"]["Curve"] = checkpoint["callbacks"].pop(
            "CurveKeeper"
        )  # as another version might name it
        torch.save(checkpoint, path)
    for _ in range(2):
        with pytest.raises(InputError, match=r"last\.ckpt is damaged, or of another rgbflow: delete"):
            run(world, tmp_path)
        for path in kept:
            path.write_bytes(b"damaged")


def test_empty_parts_and_a_single_class_are_refused(world, tmp_path):
    split = load_split(world.split)
    red = {part: tuple(c for c in split.clips(part) if c.label == "red") for part in ("train", "val", "test")}
    cases = {
        "the train part of the split is empty": dataclasses.replace(split, train=()),
        "the val part of the split is empty": dataclasses.replace(split, val=()),
        r"one class \(red\)": dataclasses.replace(split, classes=("red",), **red),
    }
    for message, wrong in cases.items():
        with pytest.raises(InputError, match=message):
            train_stream(Store(world.store), wrong, "rgb", tmp_path, TINY, print)


def test_an_input_the_backbone_cannot_read_is_refused(world, tmp_path):
    with pytest.raises(InputError, match=r"backbone vit_tiny_patch16_224 can't read 32×32 inputs"):
        run(world, tmp_path, config=changed(backbone="vit_tiny_patch16_224"))


@pytest.mark.parametrize("device", ["foo", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(world, tmp_path, device):
    with pytest.raises(InputError, match=f"device '{device}' can't be used here"):
        run(world, tmp_path, config=changed(device=device))


def test_the_loss_falls_in_mixed_precision_too(world, tmp_path):
    config = changed(epochs=4, precision="bf16", dropout=0.0)
    curve = run(world, tmp_path, config=config).curve
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]


def test_flow_is_scaled_to_unit_size_on_the_training_part(world):
    store, split = Store(world.store), load_split(world.split)
    spec = make_spec(store, split.train, "flow", TINY)
    assert spec.std == (flow_spread(store, split.train, spec),) * 2
    assert spec.mean == (0.5, 0.5)
    # a quarter of the picture moves by two of eight pixels: 0.125 of the range 0…1, so about half of that overall
    assert 0.04 < spec.std[0] < 0.08


def test_a_split_for_another_store_is_refused(world, tmp_path):
    text = world.split.read_text().replace("left/", "elsewhere/")
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match="elsewhere/"):
        train_stream(Store(world.store), load_split(tmp_path / "split.json"), "rgb", tmp_path / "out", TINY, print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown key 'epoch': did you mean 'epochs'"),
        ("zebra = 3", "unknown key 'zebra': the keys are algorithm"),
        ('epochs = "three"', r"epochs \('three'\) must be a whole number in 1…100,000: the default is 50"),
        ("epochs = 0", r"epochs \(0\) must be a whole number in 1…100,000: the default is 50"),
        ("dropout = 1.0", r"dropout \(1.0\) must be a number at least 0 and below 1"),
        ('schedule = "step"', r"schedule \('step'\) must be one of constant, cosine, exponential"),
        ('fusion = "stacking"', "fusion \\('stacking'\\) must be one of average, product"),
        ("epochs = = 3", "is not TOML"),
        ("learning_rate = nan", r"learning_rate \(nan\) must be a number above 0 and at most 10: the default is 0.005"),
        ("seed = 9999999999", r"seed \(9999999999\) must be a whole number in 0…4,294,967,295"),
    ],
)
def test_wrong_toml_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_toml_sets_what_it_names_and_leaves_the_rest(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('learning_rate = 1\nbackbone = "resnet18"')
    assert load_config(path) == TrainConfig(learning_rate=1.0, backbone="resnet18")


def train_rival(long_world, folder, algorithm, stream="rgb", **values):
    backbone = {"backbone": "c3d_quarter"} if algorithm == "c3d" else {}
    config = changed(algorithm=algorithm, **backbone, **values)
    return train_stream(Store(long_world.store), load_split(long_world.split), stream, folder, config)


@pytest.mark.parametrize("algorithm", ["c3d", "lrcn"])
def test_the_papers_rivals_are_trained_bundled_and_loaded_like_a_stream(long_world, tmp_path, algorithm):
    result = train_rival(long_world, tmp_path, algorithm, epochs=1)
    assert [set(row) for row in result.curve] == [
        {"epoch", "learning_rate", "train_loss", "train_top1", "val_loss", "val_top1"}
    ]
    spec = load_bundle(tmp_path).streams["rgb"]
    assert (spec.algorithm, spec.channels, spec.stack_length) == (algorithm, 48, 16)
    clip = load_split(long_world.split).test[0].name
    scores = Recognizer.load(tmp_path).predict(Store(long_world.store).clip(clip), num_snippets=2).scores
    assert scores.shape == (2,)
    assert scores.sum() == pytest.approx(1)


def test_an_lstm_learns_the_direction_of_motion_from_flow(long_world, tmp_path):
    result = train_rival(long_world, tmp_path, "lrcn", "flow", epochs=8, learning_rate=0.1, dropout=0.0)
    assert result.val_top1 == 100


def test_the_test_part_is_measured_for_a_figure_and_changes_nothing(world, tmp_path):
    plain = run(world, tmp_path / "plain")
    watched = run(world, tmp_path / "watched", test_curve=True)
    for one, other in zip(plain.curve, watched.curve, strict=True):
        assert other == {**one, "test_loss": other["test_loss"], "test_top1": other["test_top1"]}
    weights = [load_file(tmp_path / name / "rgb.safetensors") for name in ("plain", "watched")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    recognizer = Recognizer.load(tmp_path / "watched", precision="fp32")  # as it was trained
    evaluation = evaluate_recognizer(recognizer, Store(world.store), load_split(world.split), num_snippets=3)
    best = watched.curve[watched.best_epoch - 1]
    assert best["test_top1"] == pytest.approx(evaluation.figures()["rgb"].top1)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_the_test_part_is_never_read(world, tmp_path, stream):
    """Garbage in place of the test clips' files: the same weights."""
    shutil.copytree(world.store, tmp_path / "store")
    for clip in load_split(world.split).test:
        path = tmp_path / "store" / stream / f"{clip.name}.mkv"
        path.write_bytes(b"garbage" + path.read_bytes()[7:][::-1])
    weights = []
    for name, store in (("plain", world.store), ("poisoned", tmp_path / "store")):
        config = changed(epochs=1, subtract_mean_flow=True)
        train_stream(Store(store), load_split(world.split), stream, tmp_path / name, config)
        weights.append(load_file(tmp_path / name / f"{stream}.safetensors"))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_second_training_of_the_same_stream_is_refused(world, tmp_path):
    def train_again(done, total, note):
        with pytest.raises(InputError, match="is being trained by another process: wait for it"):
            run(world, tmp_path)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path, on_step=train_again)
    assert run(world, tmp_path).best_epoch  # the lock is gone with its holder


def test_the_seconds_of_a_resumed_run_are_those_of_all_its_epochs(world, tmp_path):
    def stop(done, total, note):
        if done == 7:  # the third epoch
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path, on_step=stop)
    before = torch.load(tmp_path / "training" / "rgb" / "last.ckpt", weights_only=True)
    seconds = next(state["seconds"] for state in before["callbacks"].values() if "seconds" in state)
    resumed = run(world, tmp_path)
    assert resumed.seconds > seconds > 0
    assert load_bundle(tmp_path).origin["rgb"]["seconds"] == pytest.approx(resumed.seconds, abs=0.06)


# Two processes with half the batch each: batch norm would see other halves, so the network has layer norms.
DISTRIBUTED = {"backbone": "test_convnext", "dropout": 0.0, "epochs": 2, "learning_rate": 0.01, "batch_size": 16}


@pytest.mark.long
def test_two_processes_with_half_the_batch_reach_the_same_loss_as_one(world, tmp_path):
    one = run(world, tmp_path / "one", config=changed(**DISTRIBUTED))
    settings = tmp_path / "half.toml"
    values = {**vars(changed(**DISTRIBUTED)), "batch_size": 8, "device": "cpu"}
    settings.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "rgbflow"]
    command += ["train", world.store, "--split", world.split, "--stream", "rgb", "--config", settings, "--json"]
    command += ["--out", tmp_path / "two"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # the second process prints nothing
    two = json.loads(line)
    assert len(two["curve"]) == 2
    for row, other in zip(one.curve, two["curve"], strict=True):
        assert other["train_loss"] == pytest.approx(row["train_loss"], rel=1e-4)
        assert other["val_loss"] == pytest.approx(row["val_loss"], rel=1e-4)
        assert other["val_top1"] == pytest.approx(row["val_top1"])
    weights = [load_file(tmp_path / name / "rgb.safetensors") for name in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-4)


KILLED_AT_STEP_3 = """
import os, signal, sys
from rgbflow import cli
from rgbflow.learn.callbacks import StepReporter

def kill(self, trainer, *_):
    if trainer.global_step == 3 and os.environ["KILL"] == "yes":
        os.kill(os.getpid(), signal.SIGKILL)

StepReporter.on_train_batch_end = kill
sys.exit(cli.main())
"""


@pytest.mark.long
def test_two_processes_killed_in_mid_epoch_go_on_together(world, tmp_path):
    values = {**vars(changed(**DISTRIBUTED)), "batch_size": 4, "device": "cpu", "save_minutes": EVERY_STEP}
    settings, script = tmp_path / "settings.toml", tmp_path / "train.py"
    settings.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()))
    script.write_text(KILLED_AT_STEP_3)

    def train_by_two(folder, kill):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
        command += ["train", world.store, "--split", world.split, "--stream", "rgb", "--config", settings, "--json"]
        environment = {**os.environ, "KILL": kill}
        options = {"timeout": 300, "capture_output": True, "text": True, "check": kill == "no"}
        return subprocess.run([*command, "--out", folder], env=environment, **options).stdout

    assert train_by_two(tmp_path / "killed", kill="yes") == ""
    seen = torch.load(tmp_path / "killed" / "training" / "rgb" / "last.ckpt", weights_only=True)["seen"]
    assert seen[:, 0].tolist() == [8, 8]  # each process had gone through two batches of its own
    curves = [json.loads(train_by_two(tmp_path / name, kill="no"))["curve"] for name in ("killed", "whole")]
    assert curves[0] == curves[1]
    one, other = (load_file(tmp_path / name / "rgb.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (None, 1)),
        ({"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}, (4, 2)),
        ({"SLURM_NTASKS": "6", "SLURM_NNODES": "3", "SLURM_JOB_NAME": "training"}, (2, 3)),
        ({"SLURM_NTASKS": "6", "SLURM_NNODES": "3", "SLURM_JOB_NAME": "bash"}, (None, 1)),  # a shell inside a job
    ],
    ids=["alone", "torchrun", "slurm", "slurm's shell"],
)
def test_processes_and_machines_are_counted_as_they_were_launched(monkeypatch, environment, expected):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched_processes() == expected


def test_fewer_clips_than_processes_are_refused(world, tmp_path, monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "a", "LOCAL_WORLD_SIZE": "20", "WORLD_SIZE": "20"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="the val part has 16 clips for 20 processes: start fewer"):
        run(world, tmp_path)


def test_frozen_batch_norms_stay_as_they_came_and_the_first_one_learns(world, tmp_path):
    started = StreamNet(make_spec(Store(world.store), load_split(world.split).train, "flow", TINY), 4)
    save_file(started.backbone.state_dict(), tmp_path / "start.safetensors")
    config = changed(freeze_batch_norms=True, probe=False, weights=str(tmp_path / "start.safetensors"))
    run(world, tmp_path / "out", "flow", config)
    trained = load_file(tmp_path / "out" / "flow.safetensors")
    norms = [name for name, module in started.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 3
    for name in norms:
        for part in ("weight", "bias", "running_mean", "running_var"):
            same = torch.equal(started.state_dict()[f"{name}.{part}"], trained[f"{name}.{part}"])
            assert same == (name != norms[0]), f"{name}.{part}"


def test_kept_weights_are_the_mean_over_the_steps_of_the_last_epochs(world, tmp_path, monkeypatch):
    """Against the weights after each step, noted down; and the epoch that is kept was validated with the mean."""
    steps = []
    end = StreamTraining.on_train_batch_end

    def note(module, *arguments):
        steps.append({name: value.clone() for name, value in module.network.state_dict().items()})
        return end(module, *arguments)

    monkeypatch.setattr(StreamTraining, "on_train_batch_end", note)
    result = run(world, tmp_path, config=changed(epochs=4, average_epochs=2))
    assert result.best_epoch > 2
    wanted = steps[6 : 3 * result.best_epoch]  # an epoch has 3 steps
    kept = load_file(tmp_path / "rgb.safetensors")
    for name, value in kept.items():
        if value.is_floating_point():
            expected = torch.stack([step[name] for step in wanted]).mean(dim=0)
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    store, split = Store(world.store), load_split(world.split)
    recognizer = Recognizer.load(tmp_path, precision="fp32")  # as it was trained
    again = evaluate_recognizer(recognizer, store, split, "val", num_snippets=3)
    assert again.figures()["rgb"].top1 == pytest.approx(result.val_top1)


@pytest.fixture
def worsening(monkeypatch):
    """Each epoch is a little worse than the one before, but that averaged ones are better than all others."""
    log = StreamTraining.log

    def worse(module, name, value, **options):
        if name == "val_rank":
            value = 2 * (value > 1.5) - module.current_epoch / 1000
        log(module, name, value, **options)

    monkeypatch.setattr(StreamTraining, "log", worse)


@pytest.mark.usefixtures("worsening")
def test_an_early_epoch_does_not_win_over_averaged_ones(world, tmp_path):
    """The first is kept, or the first averaged one."""
    assert run(world, tmp_path / "alone", config=changed(epochs=4)).best_epoch == 1
    assert run(world, tmp_path / "averaged", config=changed(epochs=4, average_epochs=2)).best_epoch == 3


@pytest.mark.usefixtures("worsening")
def test_where_nothing_gets_better_the_averaged_epochs_begin_at_once(world, tmp_path):
    """The first epoch is the best, so patience runs out after the third; with the rates of the planned last epochs."""

    def stop(done, total, note):
        if done == 14:  # in the fifth and last epoch
            raise ZeroDivisionError

    config = changed(epochs=9, average_epochs=2, schedule="cosine", freeze_batch_norms=False)
    whole = run(world, tmp_path / "whole", config=config)
    config = dataclasses.replace(config, patience=2)
    early = run(world, tmp_path / "early", config=config)
    assert (whole.best_epoch, early.best_epoch, len(early.curve)) == (8, 4, 5)
    rates, planned = ([row["learning_rate"] for row in result.curve] for result in (early, whole))
    assert rates[:2] + rates[3:] == pytest.approx(planned[:2] + planned[7:])
    assert rates[2] == pytest.approx(planned[6])  # of the step after the epoch
    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path / "killed", config=config, on_step=stop)
    resumed = run(world, tmp_path / "killed", config=config)
    assert resumed.curve == early.curve
    one, other = (load_file(tmp_path / name / "rgb.safetensors") for name in ("early", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("worsening")
def test_the_best_epoch_is_still_known_when_the_folder_was_moved(world, tmp_path):
    def stop(done, total, note):
        if done == 8:  # in the third epoch
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path / "here", on_step=stop, config=changed(epochs=4))
    (tmp_path / "here").rename(tmp_path / "there")
    resumed = run(world, tmp_path / "there", config=changed(epochs=4))
    assert (resumed.resumed_epoch, resumed.best_epoch, len(resumed.curve)) == (2, 1, 4)
    whole = run(world, tmp_path / "whole", config=changed(epochs=4))
    one, other = (load_file(tmp_path / name / "rgb.safetensors") for name in ("whole", "there"))
    assert whole.best_epoch == 1
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_averaging_goes_on_after_a_kill(world, tmp_path):
    config = changed(epochs=4, average_epochs=3, freeze_batch_norms=False)

    def stop(done, total, note):
        if done == 8:  # in the third epoch, the second that is averaged
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(world, tmp_path / "killed", config=config, on_step=stop)
    resumed, whole = (run(world, tmp_path / name, config=config) for name in ("killed", "whole"))
    assert resumed.resumed_epoch == 2
    assert resumed.curve == whole.curve
    one, other = (load_file(tmp_path / name / "rgb.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_stops_when_nothing_gets_better(world, tmp_path):
    result = run(world, tmp_path, config=changed(epochs=30, learning_rate=1e-9, patience=2))
    assert len(result.curve) < 30
    assert len(result.curve) == result.best_epoch + 2


def test_a_balanced_epoch_shows_every_class_equally_often():
    labels = [0] * 50 + [1] * 7 + [2] * 3
    order = balanced_order(labels, np.random.default_rng(0))
    assert len(order) == 60
    counts = np.bincount(np.array(labels)[order])
    assert counts.tolist() == [20, 20, 20]
    per_clip = np.bincount(order, minlength=60)
    assert per_clip[:50].max() == 1
    assert set(per_clip[50:57].tolist()) == {2, 3}
    assert set(per_clip[57:].tolist()) == {6, 7}
    uneven = balanced_order([0, 0, 0, 1, 2], np.random.default_rng(0))
    assert len(uneven) == 5
    assert np.bincount(np.array([0, 0, 0, 1, 2])[uneven], minlength=3).max() == 2


def test_flows_scale_is_taken_after_the_mean_is_subtracted(world):
    store, clips = Store(world.store), load_split(world.split).train
    still = flow_spread(store, clips, make_spec(store, clips, "flow", TINY))
    moved = flow_spread(store, clips, make_spec(store, clips, "flow", changed(subtract_mean_flow=True)))
    assert moved < still


@pytest.mark.parametrize("method", ["average", "product"])
def test_a_new_bundle_fuses_as_the_settings_say(method):
    rates = SimpleNamespace(rows={"a/1": SimpleNamespace(frames_per_second=25.0)}, preparation=Preparation(48))
    clip = SplitClip("a/1", "a", "g")
    split = Split("group", 0, ("a",), (clip,), (), ())
    spec = StreamSpec("rgb", "test_resnet", 32, 1, (0.5,) * 3, (0.2,) * 3)
    bundle = make_bundle(rates, split, spec, TrainConfig(fusion=method))
    assert bundle.fusion == Fusion(method)
    assert not bundle.fusion.is_fitted
