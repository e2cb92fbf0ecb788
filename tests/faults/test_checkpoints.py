"""A kill never loses a training: checkpoints are there whole or not at all, and the one before the last stays."""

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.learn.checkpoints import BEST, LAST, PREVIOUS, WholeCheckpoints, newest_whole, remove_all
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.train import train_stream

TINY = TrainConfig(
    backbone="test_resnet",
    weights="none",
    input_size=32,
    crop_fraction=1.0,
    epochs=4,
    workers=0,
    precision="fp32",
    num_segments=1,
)
# Saves one checkpoint after the other, of 2 MB each, and says when each is done.
SAVES = """\
import itertools, sys, torch
from rgbflow.learn.checkpoints import WholeCheckpoints
for step in itertools.count():
    WholeCheckpoints().save_checkpoint({"step": step, "weights": torch.full((1 << 19,), float(step))}, sys.argv[1])
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", SAVES, tmp_path / LAST], stdout=subprocess.PIPE, text=True)
    for kill in range(6):
        said = int(process.stdout.readline())
        if kill < 5:
            continue
        process.send_signal(signal.SIGKILL)
        process.communicate()
    path, checkpoint = newest_whole(tmp_path, lambda checkpoint: True)
    assert path.name in (LAST, PREVIOUS)
    assert checkpoint["step"] >= said
    assert torch.equal(checkpoint["weights"], torch.full((1 << 19,), float(checkpoint["step"])))
    remove_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_written_beside_its_place_and_never_moved_between_file_systems(tmp_path, monkeypatch):
    renamed, opened, work = [], [], tmp_path / "work"

    def rename(one, other):
        renamed.append((Path(one).parent, Path(other).parent))
        return real(one, other)

    def refuse(*arguments, **options):
        raise OSError(18, "Invalid cross-device link")

    work.mkdir()
    real = os.replace
    monkeypatch.setattr(os, "replace", rename)
    for module, name in ((os, "rename"), (shutil, "move"), (shutil, "copyfile")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))  # which does not exist
    monkeypatch.setattr(os, "fsync", opened.append)
    for step in range(2):
        WholeCheckpoints().save_checkpoint({"step": step}, work / LAST)
    assert {folder for pair in renamed for folder in pair} <= {work}
    assert len(opened) >= 2
    steps = [torch.load(work / name, weights_only=True)["step"] for name in (LAST, PREVIOUS)]
    assert steps == [1, 0]


def test_a_changed_bit_of_a_checkpoint_is_seen(tmp_path):
    WholeCheckpoints().save_checkpoint({"weights": torch.zeros(1000)}, tmp_path / LAST)
    content = bytearray((tmp_path / LAST).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / LAST).write_bytes(content)
    torch.load(tmp_path / LAST, weights_only=True)  # torch itself does not see it
    assert newest_whole(tmp_path, lambda checkpoint: True) is None


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(tmp_path):
    WholeCheckpoints().save_checkpoint({"step": 0}, tmp_path / LAST)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            WholeCheckpoints().save_checkpoint({"step": 1, "weights": torch.zeros(1 << 18)}, tmp_path / LAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    path, checkpoint = newest_whole(tmp_path, lambda checkpoint: True)
    assert (path.name, checkpoint["step"]) == (LAST, 0)
    assert len(list(tmp_path.iterdir())) == 1


def run(world, folder, on_step=lambda *step: None, report=lambda line: None):
    progress = SimpleNamespace(update=on_step, report=report)
    return train_stream(Store(world.store), load_split(world.split), "rgb", folder, TINY, progress)


class StopError(Exception):
    pass


def stop(done, total, note):
    if done == 3 * 3 + 1:  # in the fourth epoch: an epoch has 3 steps
        raise StopError


@pytest.fixture(scope="module")
def trainings(world, tmp_path_factory):
    """A bundle trained in one go, and the folder of a training that was broken off in its fourth epoch."""
    folder = tmp_path_factory.mktemp("trainings")
    whole = run(world, folder / "whole")
    with pytest.raises(StopError):
        run(world, folder / "stopped", stop)
    return folder, whole


@pytest.mark.parametrize("damage", ["last", "last and previous", "no last"])
def test_a_training_goes_on_from_the_one_before_to_the_same_weights(world, trainings, tmp_path, damage):
    folder, whole = trainings
    shutil.copytree(folder / "stopped", tmp_path / "bundle")
    work = tmp_path / "bundle" / "training" / "rgb"
    if damage == "no last":
        (work / LAST).unlink()
    for name in (LAST, PREVIOUS)[: damage.count(" and ") + 1 if damage != "no last" else 0]:
        content = (work / name).read_bytes()
        (work / name).write_bytes(content[: len(content) // 2])
    lines = []
    resumed = run(world, tmp_path / "bundle", report=lines.append)
    used = BEST if damage == "last and previous" else PREVIOUS
    assert f"last.ckpt is damaged or missing: going on from {used}, the one before it" in lines
    assert 1 <= resumed.resumed_epoch < 4
    assert resumed.curve == whole.curve
    one, other = (load_file(path / "rgb.safetensors") for path in (folder / "whole", tmp_path / "bundle"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(work.glob("*.ckpt"))


def test_a_damaged_best_epoch_is_one_line(world, trainings, tmp_path, monkeypatch):
    shutil.copytree(trainings[0] / "stopped", tmp_path / "bundle")

    def damage(done, total, note):
        if done == total:
            (tmp_path / "bundle" / "training" / "rgb" / BEST).write_bytes(b"damaged")

    monkeypatch.setattr("rgbflow.learn.train.StepReporter.on_fit_end", lambda *_: damage(1, 1, ""))
    with pytest.raises(InputError, match=r"best\.ckpt is damaged: delete .* to start again"):
        run(world, tmp_path / "bundle")
