"""Predictions and timelines of uploaded videos, which are decoded in a separate process and share the networks."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rgbflow.clip import ArrayClip
from rgbflow.guard import decode_guarded
from rgbflow.networks.engine import Engine, StreamAnswer
from rgbflow.recognizer import Recognizer
from rgbflow.serve.limits import Limits
from rgbflow.serve.service import Networks
from rgbflow.stream import Crops, Stream
from rgbflow.timeline import Timeline

PIECE = 4  # snippets that a video asks for at once: live sessions take their turns in between


class Piecewise:
    """An engine that runs a few snippets at a time, so that other callers get their turn."""

    def __init__(self, engine: Engine):
        self.name, self.networks, self._engine = engine.name, engine.networks, engine

    def answers(
        self, snippets: Mapping[Stream, np.ndarray], crops: Crops = 1, with_features: bool = False
    ) -> dict[Stream, StreamAnswer]:
        return {stream: self._answer(stream, given, crops, with_features) for stream, given in snippets.items()}

    def _answer(self, stream: Stream, snippets: np.ndarray, crops: Crops, with_features: bool) -> StreamAnswer:
        pieces = [snippets[start : start + PIECE] for start in range(0, len(snippets), PIECE)]
        parts = [self._engine.answers({stream: piece}, crops, with_features)[stream] for piece in pieces]
        features = [part.features for part in parts if part.features is not None]
        return replace(
            parts[0],
            logits=np.concatenate([part.logits for part in parts]),
            features=np.concatenate(features) if features else None,
            seconds=sum(part.seconds for part in parts),
        )


def predict_upload(networks: Networks, path: Path, name: str, limits: Limits, top: int) -> dict[str, Any]:
    """Label an uploaded video.

    Raises:
        InputError: if it can't be used, or needs more than the allowance.
    """
    recognizer, clip = _opened(networks, path, name, limits)
    prediction = recognizer.predict(clip)
    return {"video": name, **prediction.as_dict(top), "engine": recognizer.engine.name}


def timeline_of_upload(
    networks: Networks, path: Path, name: str, limits: Limits, window_seconds: float, step_seconds: float
) -> dict[str, Any]:
    """Label an uploaded video window by window.

    Raises:
        InputError: for the reasons of `predict_upload`.
    """
    recognizer, clip = _opened(networks, path, name, limits)
    timeline = recognizer.timeline(clip, window_seconds, step_seconds)
    return {"video": name, **_as_dict(timeline), "engine": recognizer.engine.name}


def _opened(networks: Networks, path: Path, name: str, limits: Limits) -> tuple[Recognizer, ArrayClip]:
    bundle = networks.recognizer.bundle
    clip = decode_guarded(path, bundle.preparation, limits.allowance, name)
    return Recognizer(bundle, Piecewise(networks.engine)), clip


def _as_dict(timeline: Timeline) -> dict[str, Any]:
    """Segments with their labels, and of each window the likeliest class of the fusion and of each stream."""
    windows = [
        {
            "start_seconds": window.start_seconds,
            "end_seconds": window.end_seconds,
            "label": window.label,
            "score": window.score,
            "streams": {stream: vars(window.stream_top(stream, 1)[0]) for stream in window.stream_scores},
        }
        for window in timeline.windows
    ]
    return {"segments": [vars(segment) for segment in timeline.segments], "windows": windows}
