import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from rgbflow import Prediction
from rgbflow.live.dashboard import REMEMBERED, Dashboard, Lines, Times
from rgbflow.live.events import Event
from rgbflow.live.session import Update

START = Event("start", "wave", 0.75, 1.5, None, 0.5, 2.5, 0.04)
END = Event("end", "wave", 0.5, 1.5, 4.25, 3.0, 5.0, 0.03)


def update(latency=0.04, events=(), **seconds):
    scores = np.array([0.1, 0.75, 0.05, 0.04, 0.03, 0.03])
    classes = ("sit", "wave", "run [fast]", "jump", "lie", "fall")
    return Update(Prediction(classes, scores, {"rgb": scores}, 0.5, 2.5, seconds), "wave", tuple(events), latency)


def test_times_are_the_percentiles_of_the_last_updates():
    times, rng = Times(), np.random.default_rng(0)
    flow = rng.random(1000)
    for index, seconds in enumerate(flow):
        times.add(update(2 * seconds, flow=seconds, **({"rgb network": 0.5} if index % 10 == 0 else {})), index / 20)
    milliseconds = times.milliseconds()
    assert milliseconds["flow"] == pytest.approx(tuple(1000 * np.percentile(flow[-REMEMBERED:], [50, 95])))
    assert milliseconds["frame to label"][1] == pytest.approx(2 * milliseconds["flow"][1])
    assert milliseconds["rgb network"] == (500, 500)
    assert "fusion" not in milliseconds
    assert times.updates_per_second() == pytest.approx(20)


def test_the_terminal_shows_bars_drops_stages_events_and_what_is_wrong():
    feed = SimpleNamespace(received=10, dropped=3, skipped=2, lost=1, trouble="")
    console = Console(file=io.StringIO(), force_terminal=True, width=100, height=40, color_system=None)
    with Dashboard(feed, "camera 0", console) as board:
        board.send(update(flow=0.002, events=[START]))
        feed.trouble = "camera 0 is gone"
        board.send_events([END])
    text = console.file.getvalue()
    for part in (
        "camera 0 is gone; waiting for it",
        "3 of 10 frames dropped (2 not decoded), source lost 1 times",
        "wave   (action: wave)",
        "75.0%",
        "run [fast]",
        "frame to label",
        "start wave 75.0% at     1.50 s (reported 40 ms later)",
        "end   wave 50.0% at     4.25 s, since 1.50 s (reported 30 ms later)",
    ):
        assert part in text, part
    assert "fall" not in text  # the sixth


def test_elsewhere_there_is_a_line_for_each_event_and_none_for_updates(capsys):
    lines = Lines()
    lines.send(update(flow=0.002))
    lines.send(update(flow=0.002, events=[START]))
    lines.send_events([END])
    assert capsys.readouterr().out.splitlines() == [
        "start wave 75.0% at     1.50 s (reported 40 ms later)",
        "end   wave 50.0% at     4.25 s, since 1.50 s (reported 30 ms later)",
    ]
