"""An engine runs the networks of a bundle: from 8-bit snippets to what each stream says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import Crops, Stream


@dataclass(frozen=True, eq=False)
class StreamAnswer:
    """What the network of one stream says of N snippets.

    Attributes:
        logits: (N, K) float32.
        features: (N, D) float32, what the classifier reads; None where nobody asked for them.
        seconds: how long the answer took, the waiting for other callers included.
    """

    logits: np.ndarray
    features: np.ndarray | None
    seconds: float


class Engine(Protocol):
    """Runs the networks of a bundle; crop, scaling and normalisation are its part too."""

    @property
    def name(self) -> str:
        """Such as "torch fp32" or "openvino int8"."""
        ...

    @property
    def networks(self) -> Mapping[Stream, StreamNet]:
        """Those that it runs in torch; empty where it runs exported files."""
        ...

    def answers(
        self, snippets: Mapping[Stream, np.ndarray], crops: Crops = 1, with_features: bool = False
    ) -> dict[Stream, StreamAnswer]:
        """What the networks say of the snippets of one or more streams.

        Args:
            snippets: per stream (N, C, h, w) uint8, from `transforms.read_snippets`; N may differ between streams.
            crops: of each snippet, 1, 3 or 10; logits and features of the snippet are the means over its crops.
            with_features: whether the answers hold features.

        Raises:
            InputError: if the engine has but one crop or its files no features, or if the snippets have another size
                than the bundle's.
        """
        ...
