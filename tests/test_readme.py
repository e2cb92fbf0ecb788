"""What the README says is run: its commands, its Python, its links and its picture of the house."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rgbflow import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The README's commands train ResNet101 from ImageNet weights; here they get a small network and one epoch.
RECORDED = {"wave": ["--source", "long.mp4"], "clap": ["--source", "other.mp4"]}  # where the reader has a camera
SMALL = ["--backbone", "test_resnet", "--weights", "none", "--input-size", "32", "--stack-length", "3", "--epochs", "1"]


def blocks(language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [content for name, content in fenced if name == language]


def commands():
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


@pytest.fixture
def home(world, tmp_path, monkeypatch, moving_square):
    """A folder with the files that the README speaks of."""
    from rgbflow.video.writing import write_video

    shutil.copytree(world.videos, tmp_path / "videos")
    shutil.copy(world.videos / "red" / "0.mp4", tmp_path / "clip.mp4")
    write_video(tmp_path / "long.mp4", moving_square(1, 0, frames=80, size=(64, 64)), 25)
    write_video(tmp_path / "other.mp4", moving_square(0, 1, frames=80, size=(64, 64)), 25)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_runs(home, capsys):
    ran = []
    for line in commands():
        program, *arguments = shlex.split(line)
        if program == "make":  # this very run, and the demo, which takes minutes: tests/test_demo.py runs it small
            subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)
            continue
        assert program == "rgbflow"
        arguments += SMALL if arguments[0] == "train" else []
        if arguments[0] == "record":
            arguments += [*RECORDED[arguments[1]], "--seconds", "0.6", "--pause", "0.2", "--no-none"]
        if arguments == ["live", "runs/gestures"]:
            arguments += ["--source", "long.mp4"]
        if arguments[0] == "serve":  # it goes on until it is stopped: tests/serve has it
            arguments = ["serve", "--help"]
        assert cli.main(arguments) == 0, line
        ran.append(arguments[0])
    steps = ["record", "record", "teach", "live", "serve"]
    steps += ["check", "prepare", "split", "train", "train", "calibrate", "evaluate", "predict", "predict", "live"]
    assert ran == steps
    capsys.readouterr()
    for block in blocks("python"):
        assert len(block.splitlines()) <= 6
        exec(compile(block, "README.md", "exec"), {})
    assert "Answer(label=" in capsys.readouterr().out
    assert (home / "report.html").exists()
    assert (home / "overlay.mp4").exists()


def test_links_and_pictures_are_there():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                there = (page.parent / target).resolve()
                assert there.exists() or (there / "README.md").exists(), f"{page.name}: {target}"
