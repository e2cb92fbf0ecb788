"""Live recognition: from a camera's newest frame to running scores, starts and ends of actions, and their outlets."""

from rgbflow.live.batching import SharedEngine
from rgbflow.live.camera import capture
from rgbflow.live.events import Event, EventRules
from rgbflow.live.feed import Feed
from rgbflow.live.messages import event_messages, messages
from rgbflow.live.session import LiveRecognizer, Update
from rgbflow.live.watch import watch

__all__ = [
    "Event",
    "EventRules",
    "Feed",
    "LiveRecognizer",
    "SharedEngine",
    "Update",
    "capture",
    "event_messages",
    "messages",
    "watch",
]
