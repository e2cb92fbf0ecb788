import dataclasses
import json

import pytest

from rgbflow import cli
from rgbflow.bundle import load_bundle
from rgbflow.demo import run as demo
from rgbflow.fusion import Fusion
from rgbflow.stream import Preparation
from rgbflow.video.reading import count_frames


@pytest.fixture
def small(monkeypatch):
    """The demo at a scale that takes seconds; `make demo` runs it whole."""
    monkeypatch.setattr(demo, "NUM_GROUPS", 5)
    monkeypatch.setattr(demo, "CLIPS_PER_GROUP", 1)
    monkeypatch.setattr(demo, "PREPARATION", Preparation(short_side=32))
    config = dataclasses.replace(demo.CONFIG, backbone="test_resnet", input_size=32, epochs=1, workers=0)
    monkeypatch.setattr(demo, "CONFIG", config)
    monkeypatch.setattr(demo, "NUM_SNIPPETS", 1)


def test_the_demo_leaves_report_overlay_and_bundle_and_can_be_run_again(small, tmp_path, capsys):
    out = tmp_path / "demo"
    for _ in range(2):
        assert cli.main(["demo", "--out", str(out), "--workers", "1", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["clips"] == 12
        assert result["leak_percent"] == 0
        assert result["figures"].keys() == {"rgb", "flow", "fused"}
    assert "<html" in (out / "report.html").read_text()[:200]
    assert count_frames(out / "overlay.mp4") == 24
    assert set(load_bundle(out / "bundle").streams) == {"rgb", "flow"}
    assert "test" in load_bundle(out / "bundle").measured
    assert load_bundle(out / "bundle").fusion != Fusion()  # calibrated


def test_a_stopped_demo_goes_on_where_it_was(small, tmp_path, monkeypatch, capsys):
    evaluate = demo.evaluate_recognizer

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "evaluate_recognizer", stop)
    assert cli.main(["demo", "--out", str(tmp_path), "--workers", "1"]) == 130
    assert "goes on" in capsys.readouterr().err
    weights = (tmp_path / "bundle" / "rgb.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(demo, "evaluate_recognizer", evaluate)
    assert cli.main(["demo", "--out", str(tmp_path), "--workers", "1"]) == 0
    assert (tmp_path / "bundle" / "rgb.safetensors").stat().st_mtime_ns == weights


def test_the_demo_leaves_a_folder_of_somebody_else_alone(small, tmp_path, capsys):
    (tmp_path / "videos" / "jump").mkdir(parents=True)
    (tmp_path / "videos" / "jump" / "mine.avi").write_text("mine")
    (tmp_path / "report.html").write_text("mine too")
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["demo", "--out", str(tmp_path)]) == 1
    assert "holds other files: choose an empty or a new folder" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
