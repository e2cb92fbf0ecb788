import subprocess
import sys
from types import SimpleNamespace

import pytest

from rgbflow import progress
from rgbflow.progress import SILENT, Pace, counted, untracked


def test_pace_counts_clips_frames_and_failures(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = Pace()
    now[0] += 2
    assert pace.note(frames=50, failed=False) == "0.5 clips/s, 25 frames/s, 0 failed"
    now[0] += 2
    assert pace.note(frames=0, failed=True) == "0.5 clips/s, 12 frames/s, 1 failed"


def test_an_item_counts_when_the_next_one_is_asked_for():
    steps = []
    seen = SimpleNamespace(update=lambda *step: steps.append(step), report=None)
    items = counted("ab", 2, seen)
    assert steps == []
    assert next(items) == "a"
    assert steps == [(0, 2)]
    assert [*items] == ["b"]
    assert steps == [(0, 2), (1, 2), (2, 2)]


def test_an_item_whose_work_failed_does_not_count():
    steps = []
    items = counted([1, 0, 2], 3, SimpleNamespace(update=lambda *step: steps.append(step), report=None))
    with pytest.raises(ZeroDivisionError):
        _ = [1 / item for item in items]
    assert steps == [(0, 3), (1, 3)]


def test_nothing_is_printed_where_nobody_asks_for_it(capsys):
    with untracked("training", "steps") as quiet:
        for one in (quiet, SILENT):
            one.update(1, 2, "a note")
            one.report("a line")
    assert capsys.readouterr() == ("", "")


def test_a_library_that_reports_its_progress_needs_no_terminal():
    modules = "rgbflow.progress, rgbflow.data.store, rgbflow.learn.evaluate, rgbflow.learn.calibrate"
    code = f"import sys, {modules}; print(sorted(name for name in sys.modules if name.startswith('rgbflow.commands')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = "import sys, rgbflow.progress; print('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
