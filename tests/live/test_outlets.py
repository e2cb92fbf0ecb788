"""What updates and events are told as, read back from the file."""

import json

import numpy as np

from rgbflow import Prediction
from rgbflow.live.events import Event
from rgbflow.live.messages import event_messages, messages
from rgbflow.live.outlets import JsonLines
from rgbflow.live.session import Update

START = Event("start", "Wave ✋", 0.75, 1.5, None, 0.5, 2.5, 0.04)
END = Event("end", "Wave ✋", 0.5, 1.5, 4.25, 3.0, 5.0, 0.03)


def update(events=(), action="Wave ✋"):
    scores = np.array([0.125, 0.75, 0.0625, 0.0625])
    prediction = Prediction(("Sit", "Wave ✋", "Run", "Jump"), scores, {"rgb": scores}, 0.5, 2.5, {"flow": 0.001})
    return Update(prediction, action, tuple(events), 0.04)


def test_the_file_has_a_line_for_each_update_and_event_and_is_only_added_to(tmp_path):
    for _ in range(2):
        outlet = JsonLines(tmp_path / "live.jsonl")
        outlet.send(update([START]))
        lines = [json.loads(line) for line in (tmp_path / "live.jsonl").read_text(encoding="utf-8").splitlines()]
        outlet.send_events([END])
        outlet.close()
        assert lines[-1] == messages(update([START]))[1]  # there at once, for a reader that follows
    lines = [json.loads(line) for line in (tmp_path / "live.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["type"] for line in lines] == ["update", "event", "event"] * 2
    assert lines[:3] == [*messages(update([START])), *event_messages([END])]
    assert lines[2]["end_seconds"] == 4.25
