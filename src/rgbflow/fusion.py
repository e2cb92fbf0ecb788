"""Late fusion: the scores of the streams become one probability per class."""

from collections.abc import Mapping

import numpy as np
from scipy.special import softmax

from rgbflow.errors import InputError


def average(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    """P = E(P_RGB, P_OF): the mean of the streams' class probabilities (the paper's fusion).

    Args:
        scores: per stream (..., K) probabilities, each row summing to 1.

    Returns:
        (..., K) probabilities.

    Raises:
        InputError: if a row does not sum to 1: logits or sums of frames must be normalised first, once.

    >>> average({"rgb": np.array([0.5, 0.5, 0.0]), "flow": np.array([0.5, 0.0, 0.5])})
    array([0.5 , 0.25, 0.25])
    """
    for stream, rows in scores.items():
        if not np.allclose(rows.sum(axis=-1), 1, atol=1e-3):
            raise InputError(f"the scores of {stream} are no probabilities: turn logits into scores by softmax first")
    return np.mean(list(scores.values()), axis=0)


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, in float64: logits (..., K) become scores."""
    return softmax(logits.astype(np.float64), axis=-1)
