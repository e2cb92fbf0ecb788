"""What updates and events are as JSON: against the example and the tables of docs/live.md."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from rgbflow import Prediction
from rgbflow.live.events import Event
from rgbflow.live.messages import VERSION, event_messages, messages
from rgbflow.live.session import Update

PAGE = Path(__file__).parents[2] / "docs" / "live.md"
START = Event("start", "Wave ✋", 0.75, 1.5, None, 0.5, 2.5, 0.04)
END = Event("end", "Wave ✋", 0.5, 1.5, 4.25, 3.0, 5.0, 0.03)


def update(*events, threshold=None):
    scores = np.array([0.125, 0.75, 0.0625, 0.0625])
    classes = ("Sit", "Wave ✋", "Run", "Jump")
    prediction = Prediction(classes, scores, {"rgb": scores}, 0.5, 2.5, {"flow": 0.001}, threshold)
    return Update(prediction, "Wave ✋", events, 0.04)


def test_an_update_and_its_events_are_a_message_each_with_a_version():
    found = json.loads(json.dumps(messages(update(END, START), num_scores=2)))
    assert found[0] == {
        "type": "update",
        "version": VERSION,
        "label": "Wave ✋",
        "score": 0.75,
        "action": "Wave ✋",
        "pts_seconds": 2.5,
        "evidence_start_seconds": 0.5,
        "latency_seconds": 0.04,
        "top": [{"label": "Wave ✋", "score": 0.75}, {"label": "Sit", "score": 0.125}],
        "seconds": {"flow": 0.001},
    }
    assert found[1:] == event_messages([END, START])


def test_a_doubtful_update_is_unknown_with_the_score_of_the_likeliest():
    (found,) = messages(update(threshold=0.8))
    assert (found["label"], found["score"], found["top"][0]["label"]) == ("unknown", 0.75, "Wave ✋")


@pytest.mark.parametrize("event", [START, END], ids=["start", "end"])
def test_the_message_of_an_event_has_all_that_the_event_has(event):
    (found,) = json.loads(json.dumps(event_messages(iter([event]))))
    assert (found.pop("type"), found.pop("version")) == ("event", VERSION)
    assert found == {one.name: getattr(event, one.name) for one in fields(event)}


def test_the_docs_show_and_explain_every_key():
    page = PAGE.read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shown = [json.loads(line) for line in example.splitlines()]
    made = messages(update(START))
    assert [(one["type"], one["version"], list(one)) for one in shown] == [
        (one["type"], one["version"], list(one)) for one in made
    ]
    table = page[page.index("| key | meaning |") :].split("\n\n")[0]
    explained = {key for line in table.splitlines() for key in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert explained == {key for one in made for key in one}
