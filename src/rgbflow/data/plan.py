"""The cost of preparing a data set, estimated by preparing and measuring a few of its clips."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rgbflow.data.layouts import SourceClip
from rgbflow.data.manifest import OK
from rgbflow.data.store import prepare_clip, stored_file
from rgbflow.errors import InputError
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.stream import STREAMS, Preparation

NUM_CLIPS = 8  # that are measured


@dataclass(frozen=True)
class Plan:
    """The cost of preparing a data set, scaled up by bytes from the measured clips.

    Attributes:
        clips: number of clips in the data set.
        measured: number of clips that were prepared for the estimate; `failed` of them could not be.
        frames: frames of the data set; an estimate, as are all values below.
        core_hours: hours on one core as busy as now; N processes on N free cores take 1/N of it.
        gigabytes: size of the store, 10^9 bytes.
        error_percent: standard error of core_hours, from the spread of the measured clips.
    """

    clips: int
    measured: int
    failed: int
    frames: int
    core_hours: float
    gigabytes: float
    error_percent: float

    def as_dict(self) -> dict:
        """A form for JSON."""
        return asdict(self)


def plan_preparation(sources: Sequence[SourceClip], preparation: Preparation, progress: Progress = SILENT) -> Plan:
    """Prepare a few evenly chosen clips into a temporary folder and extrapolate.

    Args:
        sources: the data set.
        preparation: the settings of the store.
        progress: a step is a measured clip.

    Raises:
        InputError: if none of the chosen clips can be prepared.
    """
    chosen = [sources[index] for index in np.unique(np.linspace(0, len(sources) - 1, NUM_CLIPS).astype(int))]
    costs = []  # source bytes, frames, seconds, stored bytes
    with tempfile.TemporaryDirectory() as folder:
        for source in counted(chosen, len(chosen), progress):
            began = time.perf_counter()
            row = prepare_clip(source, Path(folder), preparation)
            seconds = time.perf_counter() - began
            if row.status == OK:
                stored = sum(stored_file(Path(folder), stream, row.clip).stat().st_size for stream in STREAMS)
                costs.append((source.path.stat().st_size, row.frames, seconds, stored))
    if not costs:
        raise InputError(
            f"none of {len(chosen)} chosen clips can be prepared, the last {row.status}: try `rgbflow check`"
        )
    return _extrapolate(np.array(costs, float), sources, len(chosen))


def _extrapolate(costs: np.ndarray, sources: Sequence[SourceClip], num_chosen: int) -> Plan:
    """Ratio estimate (Cochran 1977, chapter 6): it assumes that the cost of a clip is proportional to its size."""
    whole = sum(source.path.stat().st_size for source in sources)
    size, frames, seconds, stored = costs.T
    frames_, seconds_, stored_ = (whole * values.sum() / size.sum() for values in (frames, seconds, stored))
    rest = seconds - size * seconds.sum() / size.sum()
    error = np.sqrt(np.square(rest).sum() * len(costs) / max(1, len(costs) - 1)) / seconds.sum()
    failed = num_chosen - len(costs)
    return Plan(len(sources), num_chosen, failed, round(frames_), seconds_ / 3600, stored_ / 1e9, 100 * error)
