"""A long video: windows that slide over it, and the labelled segments that the windows add up to."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from rgbflow.clip import ClipWindow, FrameClip
from rgbflow.prediction import Prediction
from rgbflow.video.reading import Frame

SHOWN_SEGMENTS = 5  # in the repr of a timeline


@dataclass(frozen=True)
class Segment:
    """A stretch of a long video with one label, perhaps "unknown"; its score, of the likeliest class, is the mean over
    the stretch."""

    start_seconds: float
    end_seconds: float
    label: str
    score: float
    is_known: bool = True


@dataclass(frozen=True)
class Timeline:
    """The answer for a long video: the predictions of its windows, and the segments that they add up to."""

    segments: list[Segment]
    windows: list[Prediction]

    def __repr__(self) -> str:
        shown = [
            f"{one.start_seconds:.2f}–{one.end_seconds:.2f} s {one.label!r} {one.score:.2f}"
            for one in self.segments[:SHOWN_SEGMENTS]
        ]
        more = len(self.segments) - SHOWN_SEGMENTS
        return f"Timeline({', '.join(shown)}{f', and {more} more' if more > 0 else ''})"


def sliding_windows(
    frames: Iterable[Frame], clip: FrameClip, window_seconds: float, step_seconds: float
) -> Iterator[ClipWindow]:
    """Push frames into a clip and yield a window of it every `step_seconds`; frames before the window are dropped.

    The last window ends with the last frame and is as long as the others; a video shorter than a window gives one.
    A step without a new frame gives no window. Read each window before asking for the next.
    """
    times: list[float] = []  # of all frames: 8 bytes each
    start, given = 0.0, 0  # of the next window, from the first frame on; frames there were when the last was given
    for frame in frames:
        while times and frame.pts_seconds - times[0] >= start + window_seconds:
            first = bisect_left(times, times[0] + start - 1e-9)
            if first < len(times) and given < len(times):
                is_gap = frame.pts_seconds - times[-1] > window_seconds  # the last frame is not shown all that time
                end = clip.end_seconds if is_gap else frame.pts_seconds
                yield ClipWindow(clip, first, len(times) - first, times[first], end)
                given = len(times)
            steps = 1 if given < len(times) else (frame.pts_seconds - times[0] - window_seconds - start) // step_seconds
            start += max(1, steps) * step_seconds
            # The last window may begin up to a step before the next.
            clip.forget(bisect_left(times, times[0] + start - step_seconds))
        clip.push(frame.pixels, frame.pts_seconds)
        times.append(frame.pts_seconds)
    if given < len(times):
        first = bisect_left(times, clip.end_seconds - window_seconds - 1e-9)
        yield ClipWindow(clip, first, len(times) - first, times[first], clip.end_seconds)


def merge_windows(windows: list[Prediction], step_seconds: float) -> list[Segment]:
    """Average overlapping windows over steps of the video and join neighbouring steps with the same label.

    The windows are in order of their starts and ends. A gap in the recording has no window and no segment.
    """
    if not windows:
        return []
    segments: list[Segment] = []
    first = last = 0  # the windows from first to before last hold the middle of the step
    for start, stop in _steps(windows, step_seconds):
        middle = (start + stop) / 2
        while last < len(windows) and windows[last].start_seconds <= middle:
            last += 1
        while first < last and windows[first].end_seconds < middle:
            first += 1
        if first < last:
            step = replace(windows[0], scores=np.mean([window.scores for window in windows[first:last]], axis=0))
            segments.append(Segment(start, stop, step.label, step.score, step.is_known))
    return _join_equal_neighbours(segments)


def _steps(windows: list[Prediction], step_seconds: float) -> Iterator[tuple[float, float]]:
    """The steps that windows lie on, from the first window's start to the last one's end; long gaps are left out."""
    begin, end = windows[0].start_seconds, windows[-1].end_seconds
    count, given = math.ceil((end - 1e-6 - begin) / step_seconds), 0
    length = (begin + step_seconds) - begin  # as it is added
    for window in windows:
        near = [int((seconds - begin) / step_seconds) for seconds in (window.start_seconds, window.end_seconds)]
        for step in range(max(given, near[0] - 1), min(count, near[1] + 2)):
            yield begin + step * length, begin + (step + 1) * length if step + 1 < count else end
            given = step + 1


def _join_equal_neighbours(steps: list[Segment]) -> list[Segment]:
    joined = steps[:1]
    for step in steps[1:]:
        last = joined[-1]
        if (step.label, step.is_known) != (last.label, last.is_known) or step.start_seconds > last.end_seconds:
            joined.append(step)
            continue
        old, new = last.end_seconds - last.start_seconds, step.end_seconds - step.start_seconds
        score = (last.score * old + step.score * new) / (old + new)
        joined[-1] = replace(last, end_seconds=step.end_seconds, score=score)
    return joined
