"""An engine whose networks get other classifiers: what was taught on a bundle runs on that bundle's exported files."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from rgbflow.networks.engine import Engine, StreamAnswer
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import Crops, Stream


class HeadedEngine:
    """Computes features by one engine, and logits from them by the classifiers of other networks.

    Args:
        engine: gives the features.
        networks: per stream, a network that differs from the engine's only in its last layer.
        classifiers: per stream, this layer.
    """

    def __init__(self, engine: Engine, networks: Mapping[Stream, StreamNet], classifiers: Mapping[Stream, nn.Linear]):
        self.name, self.networks, self._engine = engine.name, networks, engine
        self._layers = {stream: (_values(layer.weight), _values(layer.bias)) for stream, layer in classifiers.items()}

    def answers(
        self, snippets: Mapping[Stream, np.ndarray], crops: Crops = 1, with_features: bool = False
    ) -> dict[Stream, StreamAnswer]:
        found = self._engine.answers(snippets, crops, with_features=True)
        return {stream: self._with_logits(stream, answer, with_features) for stream, answer in found.items()}

    def _with_logits(self, stream: Stream, answer: StreamAnswer, with_features: bool) -> StreamAnswer:
        weight, bias = self._layers[stream]
        assert answer.features is not None
        return replace(
            answer, logits=answer.features @ weight.T + bias, features=answer.features if with_features else None
        )


def _values(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
