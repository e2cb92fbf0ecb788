"""rgbflow: two-stream action recognition, from a video to a label.

Shapes are written with these letters everywhere:

    B batch      S segments (snippets) of a clip      L flow fields in a snippet (stack_length)
    T frames     C channels     H, W height, width     K classes     N clips
"""

import importlib
from typing import TYPE_CHECKING

from rgbflow.threads import sleep_at_barriers

if TYPE_CHECKING:
    from rgbflow.errors import InputError
    from rgbflow.prediction import Prediction
    from rgbflow.recognizer import Explanation, Recognizer
    from rgbflow.timeline import Timeline

sleep_at_barriers()  # here, since every way into the package imports this file before torch

__all__ = ["Explanation", "InputError", "Prediction", "Recognizer", "Timeline"]
_HOMES = {
    "Explanation": "rgbflow.recognizer",
    "InputError": "rgbflow.errors",
    "Prediction": "rgbflow.prediction",
    "Recognizer": "rgbflow.recognizer",
    "Timeline": "rgbflow.timeline",
}


def __getattr__(name: str) -> object:
    """Import public names on first use: torch takes seconds to import, and `rgbflow --help` must not wait for it."""
    module = _HOMES.get(name)
    if module is None:
        raise AttributeError(f"module 'rgbflow' has no attribute {name!r}")
    return getattr(importlib.import_module(module), name)
