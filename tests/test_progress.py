import re

import pytest

from rgbflow import progress
from rgbflow.progress import Pace, track


def test_pace_counts_clips_frames_and_failures(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = Pace()
    now[0] += 2
    assert pace.note(frames=50, failed=False) == "0.5 clips/s, 25 frames/s, 0 failed"
    now[0] += 2
    assert pace.note(frames=0, failed=True) == "0.5 clips/s, 12 frames/s, 1 failed"


def test_without_a_terminal_a_line_now_and_then_tells_the_rate_and_the_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    if progress.console.is_terminal:
        pytest.skip("standard error is a terminal")
    with track("preparing", 10, "clips") as tracker:
        for _ in range(2):
            now[0] += 20
            tracker.advance("7 frames/s")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preparing: 2 of 10 clips, 7 frames/s, 0:02:40 left"
    assert re.fullmatch(r"preparing: 2 clips in \d+ s", lines[1])
