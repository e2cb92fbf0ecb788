"""How large the displacements of a data set are, measured on some of its clips, so that 8 bits cover just that range.

Data sets differ in speed tenfold. A bound far above the real displacements wastes the 256 values: on Weizmann, where
people move slowly, the flow stream reached 58 % with a bound of 20 and 63 % with the measured one
(docs/results/stored-flow.md).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np

from rgbflow.clip import to_working_size
from rgbflow.data import manifest
from rgbflow.data.layouts import SourceClip
from rgbflow.errors import InputError
from rgbflow.flow import make_estimator
from rgbflow.stream import FlowSettings, Preparation
from rgbflow.video.reading import decode

NUM_CLIPS, NUM_FRAMES, EVERY = 16, 60, 6  # clips that are measured, their first frames, every how many a pair
SHARE = 0.999  # of all displacements that the bound keeps
SMALLEST = 4.0  # pixels per frame step


def usual_bound(sources: Sequence[SourceClip], preparation: Preparation, folder: Path) -> float:
    """The bound that keeps all but a thousandth of a data set's displacements, at least 4 and at most 20.

    Args:
        sources: the data set.
        preparation: the settings of the store; their bound does not matter.
        folder: the store. An existing store keeps its bound, so that more clips can be added to it.

    Returns:
        Whole pixels per frame step at the working size; 20 where nothing can be measured.
    """
    with suppress(InputError):  # there is none, or a damaged one, which is about to be replaced
        return manifest.read_preparation(folder).flow.bound
    chosen = [sources[index] for index in np.unique(np.linspace(0, len(sources) - 1, NUM_CLIPS).astype(int))]
    sizes = [size for source in chosen for size in _displacements(source, preparation)]
    if not sizes:
        return FlowSettings.bound
    return float(min(max(math.ceil(np.quantile(np.concatenate(sizes), SHARE)), SMALLEST), FlowSettings.bound))


def _displacements(source: SourceClip, preparation: Preparation) -> Iterator[np.ndarray]:
    """The larger of |u| and |v| at every point of some fields of a clip; of a broken clip, up to the break."""
    cv2.setNumThreads(1)
    estimate = make_estimator(preparation.flow, preparation.flow_reduction)
    try:
        frames = islice(decode(source.path, preparation.frame_rate), NUM_FRAMES)
        gray = (cv2.cvtColor(to_working_size(one.pixels, preparation), cv2.COLOR_RGB2GRAY) for one in frames)
        for before, after in islice(pairwise(gray), 0, None, EVERY):
            yield np.abs(estimate(before, after)).max(axis=0).ravel()
    except InputError:  # it is named when it is prepared
        return
