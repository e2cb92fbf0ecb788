"""The common part of the engines of exported files: the input of such a file, and its limits."""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from rgbflow.bundle import Bundle
from rgbflow.errors import InputError, first_line
from rgbflow.flow import dequantise
from rgbflow.networks.engine import StreamAnswer
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import Crops, Preparation, Stream


class ExportedEngine:
    """Runs the files of `rgbflow export`, one for each stream; a subclass opens them and runs one.

    Args:
        name: name and number format of the engine.
        bundle: the bundle that the files were made from.
        outputs: per stream, the names of its file's outputs; files of older versions have no features.
        takes_float: per stream, whether its file was exported with float input.
    """

    networks: ClassVar[Mapping[Stream, StreamNet]] = {}

    def __init__(self, name: str, bundle: Bundle, outputs: dict[Stream, set[str]], takes_float: dict[Stream, bool]):
        self.name, self._num_classes = name, len(bundle.classes)
        self._preparation, self._outputs, self._takes_float = bundle.preparation, outputs, takes_float

    def answers(
        self, snippets: Mapping[Stream, np.ndarray], crops: Crops = 1, with_features: bool = False
    ) -> dict[Stream, StreamAnswer]:
        for stream, given in snippets.items():
            self._check(stream, given, crops, with_features)
        return {stream: self._answer(stream, given, with_features) for stream, given in snippets.items()}

    def _answer(self, stream: Stream, snippets: np.ndarray, with_features: bool) -> StreamAnswer:
        began = time.perf_counter()
        values = as_float(snippets, stream, self._preparation) if self._takes_float[stream] else snippets
        try:
            logits, *features = self._run(stream, values, ["logits", "features"] if with_features else ["logits"])
        except Exception as error:  # each runtime has its own
            raise InputError(
                f"the {stream} file of {self.name} can't read its input ({first_line(error)}): export the bundle again"
            ) from error
        if logits.shape != (len(snippets), self._num_classes):
            raise InputError(
                f"the {stream} file of {self.name} gives logits of shape {logits.shape}, not "
                f"{(len(snippets), self._num_classes)}: export the bundle again"
            )
        return StreamAnswer(logits, features[0] if features else None, time.perf_counter() - began)

    def _run(self, stream: Stream, values: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
        """Some outputs of a stream's file for (N, C, h, w), uint8 or float32."""
        raise NotImplementedError

    def _check(self, stream: Stream, snippets: np.ndarray, crops: Crops, with_features: bool) -> None:
        if crops != 1:
            raise InputError(f"{self.name} can't do {crops} crops, since its files use the centre crop: use torch")
        side, found = self._preparation.side_of(stream), min(snippets.shape[-2:])
        if side != found:
            raise InputError(
                f"these {stream} snippets have a short side of {found} pixels, but {self.name} expects {side}: "
                "prepare them as the bundle was, or use torch"
            )
        if with_features and "features" not in self._outputs[stream]:
            raise InputError(
                f"the {stream} file of {self.name} has no features, since an older rgbflow exported it: export the "
                "bundle again with `rgbflow export`, or use torch"
            )


def check_ends(path: Path, inputs: Collection[str], outputs: Collection[str]) -> None:
    """Raise InputError if a file has other inputs and outputs than those that `export` gives it."""
    if [*inputs] != ["snippets"] or "logits" not in outputs:
        raise InputError(
            f"{path} was not made by `rgbflow export`: it reads {', '.join(inputs) or 'nothing'} and gives "
            f"{', '.join(outputs) or 'nothing'}, not snippets and logits: export the bundle again"
        )


def as_float(snippets: np.ndarray, stream: Stream, preparation: Preparation) -> np.ndarray:
    """8-bit snippets as a file exported with float input takes them: frames 0…255, flow in pixels per frame step."""
    return snippets.astype(np.float32) if stream == "rgb" else dequantise(snippets, preparation.flow.bound)
