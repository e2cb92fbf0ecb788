"""An engine runs the networks of a bundle: from 8-bit snippets to the logits of each stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import Crops, Stream


@dataclass(frozen=True, eq=False)
class StreamAnswer:
    """The output of one stream's network for N snippets.

    Attributes:
        logits: (N, K) float32.
        features: (N, D) float32, the vectors that the classifier reads; None if not requested.
        seconds: time until the answer, including the wait for other callers.
    """

    logits: np.ndarray
    features: np.ndarray | None
    seconds: float


class Engine(Protocol):
    """Runs the networks of a bundle, including crop, scaling and normalisation."""

    @property
    def name(self) -> str:
        """Name and number format, such as "torch fp32" or "openvino int8"."""
        ...

    @property
    def networks(self) -> Mapping[Stream, StreamNet]:
        """The torch networks that it runs; empty for an engine of exported files."""
        ...

    def answers(
        self, snippets: Mapping[Stream, np.ndarray], crops: Crops = 1, with_features: bool = False
    ) -> dict[Stream, StreamAnswer]:
        """Run the networks on the snippets of one or more streams.

        Args:
            snippets: per stream (N, C, h, w) uint8, from `transforms.read_snippets`; N may differ between streams.
            crops: of each snippet, 1, 3 or 10; logits and features of the snippet are the means over its crops.
            with_features: whether the answers hold features.

        Raises:
            InputError: if the engine can't do more than one crop, if its files give no features, or if the snippets
                differ in size from those of the bundle.
        """
        ...
