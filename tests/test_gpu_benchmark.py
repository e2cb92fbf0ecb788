"""benchmarks/gpu.py on the CPU, with tiny networks: what it measures on a GPU, it measures here."""

import json
import math
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rgbflow.data.cutting import make_split
from rgbflow.data.official import read_lists


@pytest.fixture
def gpu(benchmark_module) -> ModuleType:
    return benchmark_module("gpu")


@pytest.fixture
def setup(gpu, world, tmp_path):
    """What the sections are given: tiny networks, and the store of the tests' world."""
    (tmp_path / "store").symlink_to(world.store)
    (tmp_path / "split.json").symlink_to(world.split)
    return gpu.gpu_sections.Setup("cpu", gpu.gpu_sections.SIZES["smoke"], tmp_path, world.videos)


@pytest.fixture
def record(gpu, tmp_path):
    """The file of an empty record."""
    settings = {"device": "cpu", "size": "smoke", "work": str(tmp_path), "videos": None, "command": "gpu.py"}
    origin = {"commit": "0", "machine": "none", "date": "today"}
    gpu.write_record(tmp_path / "gpu.json", {"settings": settings, "origin": origin, "missing": [], "sections": {}})
    return tmp_path / "gpu.json"


def figures(gpu, name, setup):
    rows = dict(gpu.SECTIONS[name].measure(setup))
    for row in rows.values():
        assert "failed" not in row, row
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    return rows


def test_without_a_gpu_it_refuses_in_one_line_and_writes_nothing(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"--device cuda needs an NVIDIA GPU, .*: pass --device cpu") as caught:
        gpu.main(["--out", str(tmp_path)])
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_try_on_the_cpu_leaves_a_record_and_no_page(gpu, tmp_path, capsys):
    assert gpu.main(["--device", "cpu", "--sections", "machine", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["sections"]["machine"]["ended"] == "done"
    assert record["sections"]["machine"]["rows"]["torch"] == {"found": torch.__version__}
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith("missing: ")
    assert f"| torch | {torch.__version__} |" in others


def test_on_a_gpu_a_page_is_written_and_what_was_read_in_its_figures_is_kept(gpu, tmp_path, monkeypatch):
    def measure(path, name, seconds):
        found = gpu.read_record(path)
        found["sections"][name] = {"ended": "done", "seconds": 1.0, "rows": {"GPU": {"found": "a card"}}}
        gpu.write_record(path, found)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "describe_origin", lambda: {"commit": "released", "machine": "a card", "date": "today"})
    monkeypatch.setattr(gpu, "run_section", measure)
    (tmp_path / "gpu.md").write_text("# Old\n\n## Reading\n\nIt is fast.\n")
    assert gpu.main(["--sections", "machine", "--out", str(tmp_path), "--commit", "abc"]) == 0
    page = (tmp_path / "gpu.md").read_text()
    assert "| GPU | a card |" in page
    assert "Commit abc; a card; today." in page
    assert page.endswith("## Reading\n\nIt is fast.\n")
    assert gpu.read_record(tmp_path / "gpu.json")["settings"]["size"] == "whole"


def test_given_clips_are_prepared_and_divided(gpu, setup, tmp_path):
    rows = figures(gpu, "clips", replace(setup, work=tmp_path / "own"))
    assert rows["clips"] == {"found": 80, "unit": "of 4 classes"}
    assert rows["set aside"]["found"] == 0
    assert (tmp_path / "own" / "split.json").is_file()


def test_steps_of_both_streams_are_measured(gpu, setup):
    rows = figures(gpu, "steps", setup)
    assert {name.split(",")[0] for name in rows} == {"rgb", "flow"}
    for row in rows.values():
        assert row["images/s"] == pytest.approx(row["images in a step"] / (row["step, ms"] / 1000))
    recipe = setup.size.recipe
    assert rows["rgb, bf16, the recipe"]["images in a step"] == recipe.batch_size * recipe.num_segments


def test_the_share_of_waiting_is_that_over_a_step_whose_inputs_are_there(gpu, setup):
    rows = figures(gpu, "loading", setup)
    assert [name for name in rows if "workers" in name]
    for stream in ("rgb", "flow"):
        ready = rows[f"{stream}, inputs are there"]
        for name, row in rows.items():
            if name.startswith(stream):
                assert row["waiting, %"] == pytest.approx(100 * (1 - ready["step, ms"] / row["step, ms"]))


def test_both_streams_are_trained_as_a_user_does_it(gpu, setup):
    rows = figures(gpu, "training", setup)
    assert list(rows) == ["rgb", "flow"]
    assert all(row["epochs"] == 2 and row["images/s"] > 0 for row in rows.values())


def test_live_and_predict_are_timed_by_stage(gpu, setup):
    rows = figures(gpu, "answering", setup)
    assert {"predict", "predict, flow network", "live, flow network", "live, rgb network"} <= set(rows)
    assert rows["predict"]["count"] == setup.size.predictions
    assert all(row["p50, ms"] <= row["p95, ms"] for row in rows.values() if "p50, ms" in row)


def test_the_plan_is_that_of_ucf101_with_the_strong_recipe(gpu, setup):
    rows = figures(gpu, "plan", setup)
    sizes, epochs = gpu.gpu_sections.UCF101, gpu.gpu_sections.STRONG.epochs
    images = 3 * epochs * (sizes["train"] + sizes["val"]) + 25 * sizes["test"]
    for name in ("rgb, workers: 1", "flow, workers: 1"):
        assert rows[name]["million images"] == pytest.approx(images / 1e6)
        assert rows[name]["hours"] == max(rows[name]["computing, h"], rows[name]["reading, h"])
    both = rows["both streams, workers: 1"]["hours"]
    assert both == pytest.approx(rows["rgb, workers: 1"]["hours"] + rows["flow, workers: 1"]["hours"])


def test_the_sizes_of_ucf101_are_those_of_its_lists(gpu, ucf101_lists):
    split = make_split(read_lists(ucf101_lists), "official-1", lists=ucf101_lists)
    assert {part: len(split.clips(part)) for part in ("train", "val", "test")} == gpu.gpu_sections.UCF101
    assert len(split.classes) == gpu.gpu_sections.NUM_CLASSES


def test_a_compiled_step_is_measured_or_said_to_lack_something(gpu, setup, monkeypatch):
    rows = figures(gpu, "compiled", setup)
    assert list(rows) == [f"{stream}, {how}" for stream in ("rgb", "flow") for how in ("not compiled", "torch.compile")]
    monkeypatch.setattr(gpu.gpu_sections, "missing_for_compiling", lambda: ["triton"])
    with pytest.raises(ModuleNotFoundError, match="needs triton"):
        next(gpu.gpu_sections.compiled(replace(setup, size=replace(setup.size, compiler="inductor"))))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run them")
def test_the_tests_that_need_cuda_are_found_and_skipped_without_one(gpu, tmp_path):
    rows = figures(gpu, "tests", gpu.gpu_sections.Setup("cpu", gpu.gpu_sections.SIZES["smoke"], tmp_path))
    assert len(rows) > 20
    assert {row["result"] for row in rows.values()} == {"skipped: no NVIDIA GPU is here"}


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("tests/test_cuda.py::test_a[fp16-rgb] PASSED                        [ 9%]", ("test_a[fp16-rgb]", "passed")),
        ("tests/test_cuda.py::test_b FAILED                                  [ 9%]", ("test_b", "failed")),
        (
            "tests/test_cuda.py::test_c SKIPPED (no NVIDIA GPU is here)         [ 9%]",
            ("test_c", "skipped: no NVIDIA GPU is here"),
        ),
        ("FAILED tests/test_cuda.py::test_b - assert 1 == 2", ("test_b", "failed: assert 1 == 2")),
        (
            "ERROR tests/test_cuda.py - ModuleNotFoundError: No module named 'x'",
            ("tests/test_cuda.py", "error: ModuleNotFoundError: No module named 'x'"),
        ),
        ("collected 43 items", None),
    ],
)
def test_results_are_read_from_what_pytest_prints(gpu, line, result):
    assert gpu.gpu_sections.test_result(line) == result


def test_tests_that_fail_are_named_with_the_reason(gpu, tmp_path, monkeypatch):
    lines = ["import pytest", "pytestmark = pytest.mark.cuda", "def test_one(): pass", "def test_two(): assert 1 == 2"]
    (tmp_path / "test_own.py").write_text("\n".join(lines))
    monkeypatch.setattr(gpu.gpu_sections, "TESTS", tmp_path / "test_own.py")
    setup, rows = gpu.gpu_sections.Setup("cpu", gpu.gpu_sections.SIZES["smoke"], tmp_path), {}

    def keep_all():
        for name, row in gpu.gpu_sections.tests(setup):
            rows[name] = row["result"]

    with pytest.raises(RuntimeError, match="1 of 2 tests failed"):
        keep_all()
    assert rows == {"test_one": "passed", "test_two": "failed: assert 1 == 2"}


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (ModuleNotFoundError("No module named 'av'", name="av"), "missing: av"),
        (RuntimeError("CUDA error: an illegal access\nmore"), "failed: RuntimeError: CUDA error: an illegal access"),
    ],
)
def test_a_section_that_breaks_leaves_its_figures_and_says_why(gpu, record, monkeypatch, error, ended):
    def breaks(setup):
        yield "first", {"images/s": 3.0, "lost": float("nan")}
        raise error

    found = gpu.read_record(record)
    found["sections"]["steps"] = {"ended": "running", "seconds": 0.0, "rows": {}}
    gpu.write_record(record, found)
    monkeypatch.setitem(gpu.SECTIONS, "steps", gpu.gpu_sections.Section(breaks, 10))
    gpu.gpu_sections.run_section(record, "steps")
    section = gpu.read_record(record)["sections"]["steps"]
    assert section == {"ended": ended, "seconds": 0.0, "rows": {"first": {"images/s": 3.0, "lost": "nan"}}}


def test_a_row_that_fails_costs_no_other(gpu):
    assert gpu.gpu_sections.measured(lambda: {"s": 1 / 0}) == {"failed": "ZeroDivisionError: division by zero"}


SLOW_SECTION = """
import json, subprocess, sys, time
from pathlib import Path

path, name = Path(sys.argv[1]), sys.argv[2]
record = json.loads(path.read_text())
record["sections"][name]["rows"]["first"] = {"images/s": 3.0}
worker = subprocess.Popen(["sleep", "600"])
path.write_text(json.dumps(record))
path.with_name("worker").write_text(str(worker.pid))
time.sleep(600)
"""


def test_a_section_that_takes_too_long_is_stopped_with_its_workers_and_leaves_its_figures(gpu, record, monkeypatch):
    worker = record.with_name("worker")

    class Impatient(subprocess.Popen):
        """Waits until the section is in its midst, not for a time."""

        def wait(self, timeout=None):
            if timeout is None:
                return super().wait()
            while not worker.is_file() or not worker.read_text():
                time.sleep(0.01)
            raise subprocess.TimeoutExpired(self.args, timeout)

    script = record.with_name("slow.py")
    script.write_text(SLOW_SECTION)
    monkeypatch.setattr(gpu.gpu_sections, "__file__", str(script))
    monkeypatch.setattr(subprocess, "Popen", Impatient)
    gpu.run_section(record, "steps", 30.0)
    section = gpu.read_record(record)["sections"]["steps"]
    assert (section["ended"], section["rows"]) == ("cut off after 30 s", {"first": {"images/s": 3.0}})
    while is_running(int(worker.read_text())):  # killed, it may take a moment to go
        time.sleep(0.01)


def test_a_run_that_is_stopped_leaves_what_it_has_and_no_process(gpu, tmp_path, monkeypatch, capsys):
    started = []

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            if timeout is None:
                return super().wait()
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--device", "cpu", "--sections", "machine,steps", "--out", str(tmp_path)])
    (process,) = started
    assert process.returncode == -9
    sections = gpu.read_record(tmp_path / "gpu.json")["sections"]
    assert {name: found["ended"] for name, found in sections.items()} == {
        "machine": "cut off: the whole run was stopped"
    }
    assert "**Cut off: the whole run was stopped.**" in capsys.readouterr().out


def is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_section_whose_process_dies_is_said_to_have_failed(gpu, record, monkeypatch):
    script = record.with_name("dies.py")
    script.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(gpu.gpu_sections, "__file__", str(script))
    gpu.run_section(record, "steps", 600.0)
    assert gpu.read_record(record)["sections"]["steps"]["ended"] == "failed: its process ended with code -9"


def test_what_is_not_installed_or_has_no_time_left_is_not_started(gpu, record, monkeypatch):
    monkeypatch.setattr(gpu, "is_installed", lambda module: module not in ("av", "cv2"))
    monkeypatch.setattr(gpu, "missing_for_compiling", lambda: ["triton"])
    assert gpu.missing_packages() == ["av", "opencv-contrib-python-headless", "triton"]
    monkeypatch.setattr(subprocess, "Popen", None)
    gpu.run_section(record, "loading", 100.0)
    gpu.run_section(record, "steps", 1.0)
    ended = {name: section["ended"] for name, section in gpu.read_record(record)["sections"].items()}
    assert ended == {"loading": "missing: av, cv2", "steps": "not started: the time was up"}


def test_sections_come_in_their_order_with_the_clips_that_they_read(gpu, capsys):
    assert gpu.parse(["--sections", "training,machine"]).sections == ["machine", "clips", "training"]
    with pytest.raises(SystemExit):
        gpu.parse(["--sections", "step"])
    assert "--sections step is unknown: use machine" in capsys.readouterr().err


def test_the_page_shows_every_row_and_how_a_section_ended(gpu, record):
    found = gpu.read_record(record)
    rows = {"rgb": {"images/s": 1234.5, "step, ms": 0.01234}, "flow": {"failed": "OutOfMemoryError: a|b"}}
    found["sections"]["steps"] = {"ended": "cut off after 75 s", "seconds": 75.2, "rows": rows}
    results = {"test_a": {"result": "passed"}, "test_b": {"result": "failed: why"}}
    found["sections"]["tests"] = {"ended": "failed: 1 of 2", "seconds": 9.0, "rows": results}
    page = gpu.page({**found, "missing": ["av"]})
    assert "| test_b | failed: why |\n\n1 passed; 9 s." in page
    assert "test_a" not in page
    assert "Missing on this machine: av." in page
    assert "**Cut off after 75 s.**" in page
    assert "| rgb | 1,234 | 0.0123 |  |" in page
    assert "| flow |  |  | OutOfMemoryError: a/b |" in page
    assert os.linesep.join(["```", "gpu.py", "```"]) in page
