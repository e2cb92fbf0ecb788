import re

import pytest

from rgbflow.commands import terminal
from rgbflow.commands.terminal import track


@pytest.fixture
def now(monkeypatch):
    """A clock that a test moves."""
    if terminal.console.is_terminal:
        pytest.skip("standard error is a terminal")
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_line_now_and_then_has_the_rate_and_the_time_left(now, capsys):
    with track("preparing", "clips") as progress:
        progress.update(0, 10)
        for done in (1, 2):
            now[0] += 20
            progress.update(done, 10, "7 frames/s")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "preparing: 2 of 10 clips, 7 frames/s, 0:02:40 left"
    assert re.fullmatch(r"preparing: 2 clips in \d+ s", lines[1])


def test_the_time_left_counts_from_the_step_that_a_resumed_run_begins_with(now, capsys):
    with track("training rgb", "steps") as progress:
        for done in (900, 901, 902):
            progress.update(done, 1000)
            now[0] += 31
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == [
        "training rgb: 901 of 1000 steps, 0:51:09 left",  # 99 steps of 31 seconds
        "training rgb: 902 of 1000 steps, 0:50:38 left",
    ]


def test_another_piece_of_the_same_work_is_timed_anew(now, capsys):
    with track("UCF101", "MB") as progress:
        progress.update(1, 1, "downloading lists.zip")
        now[0] += 1000
        progress.update(0, 100, "downloading UCF101.zip")
        now[0] += 50
        progress.update(50, 100, "downloading UCF101.zip")
    assert "UCF101: 50 of 100 MB, downloading UCF101.zip, 0:00:50 left" in capsys.readouterr().err.splitlines()


def test_a_line_worth_keeping_is_printed_at_once_and_as_it_is(capsys):
    line = "note: [bold]Left[/bold] :smile: " + "and a long list " * 20
    with track("training flow", "steps") as progress:
        progress.report(line)
    assert capsys.readouterr().err.splitlines()[0] == f"training flow: {line}"
