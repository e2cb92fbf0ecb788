"""The updates and events of a live recogniser as JSON, for files, pages and other programs. docs/live.md."""

from collections.abc import Iterable
from dataclasses import asdict

from rgbflow.live.events import Event
from rgbflow.live.session import Update

VERSION = 1  # of the messages; a key more doesn't change it, another meaning of a key does
NUM_SCORES = 5  # classes of an update that are reported


def messages(update: Update, num_scores: int = NUM_SCORES) -> list[dict]:
    """An update and the events that came with it: one message for each, ready for `json.dumps`.

    Args:
        update: from a live recogniser.
        num_scores: how many of the likeliest classes the update lists.
    """
    return [_update_message(update, num_scores), *event_messages(update.events)]


def event_messages(events: Iterable[Event]) -> list[dict]:
    """Events that came without an update, as `LiveRecognizer.finish` gives them at the end: one message for each."""
    return [{"type": "event", "version": VERSION, **asdict(event)} for event in events]


def _update_message(update: Update, num_scores: int) -> dict:
    prediction = update.prediction
    return {
        "type": "update",
        "version": VERSION,
        "label": update.label,
        "score": prediction.score,
        "action": update.action,
        "pts_seconds": update.pts_seconds,
        "evidence_start_seconds": prediction.start_seconds,
        "latency_seconds": update.latency_seconds,
        "top": [asdict(answer) for answer in prediction.top(num_scores)],
        "seconds": prediction.seconds,
    }
