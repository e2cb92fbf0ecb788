"""rgbflow: two-stream action recognition, from a video to a label.

Shapes are written with these letters everywhere:

    B batch      S segments (snippets) of a clip      L flow fields in a snippet (stack_length)
    T frames     C channels     H, W height, width     K classes     N clips
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rgbflow.errors import InputError
    from rgbflow.recognizer import Explanation, Prediction, Recognizer, Timeline

__all__ = ["Explanation", "InputError", "Prediction", "Recognizer", "Timeline"]


def __getattr__(name: str):
    """Import the public names when they are used: torch takes seconds, `rgbflow --help` must not wait for it."""
    if name == "InputError":
        from rgbflow import errors

        return errors.InputError
    if name in __all__:
        from rgbflow import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module 'rgbflow' has no attribute {name!r}")
