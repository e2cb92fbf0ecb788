"""From a camera's frames to running scores: a ring of frames and flow, a window of snippets, an update."""

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from msgspec import Meta

from rgbflow.bundle import Bundle
from rgbflow.clip import Preparer, check_frame, check_seconds, stored_flow, stored_frame
from rgbflow.errors import InputError
from rgbflow.flow import dequantise
from rgbflow.live.events import Event, EventFinder, EventRules, checked_rules
from rgbflow.live.scene import Scene
from rgbflow.live.ticks import Ticks
from rgbflow.networks.engine import Engine
from rgbflow.prediction import Prediction, conclude
from rgbflow.records import check_argument
from rgbflow.stream import Preparation, Stream, StreamSpec
from rgbflow.transforms import read_snippets

USUAL_WINDOW_SECONDS = 2.0
MOST_STARTS_WITHOUT_UPDATE = 4  # more of them in a row: something is wrong
UpdatesPerSecond = Annotated[float, Meta(gt=0, le=1000, description="10 suits most uses")]
WindowSeconds = Annotated[float, Meta(gt=0, le=3600, description="2 is usual")]


@dataclass(frozen=True)
class Update:
    """The current answer of a live recogniser.

    Attributes:
        prediction: the running scores over the window, with the times of the oldest and newest frame of the window. Its
            `seconds`: capture (from the arrival of the newest frame to the start of its flow), flow, the networks that
            ran, fusion.
        action: the current action by the events so far; None if there is none.
        events: starts and ends with this update.
        latency_seconds: seconds from the arrival of the newest frame to this update.
    """

    prediction: Prediction
    action: str | None
    events: tuple[Event, ...]
    latency_seconds: float

    @property
    def label(self) -> str:
        """The likeliest class, or "unknown"."""
        return self.prediction.label

    @property
    def pts_seconds(self) -> float:
        """Time of the newest frame."""
        return self.prediction.end_seconds

    def __repr__(self) -> str:
        events = "".join(f", {event.kind} of {event.label!r}" for event in self.events)
        return (
            f"Update({self.label!r} {self.prediction.score:.2f} at {self.pts_seconds:.2f} s, "
            f"action {self.action!r}{events})"
        )


class _KeptFrame:
    """A working frame; the loss of JPEG is applied when a network asks for it."""

    def __init__(self, frame: np.ndarray, jpeg_quality: int | None):
        self.frame, self._quality = frame, jpeg_quality

    @cached_property
    def planes(self) -> np.ndarray:
        return stored_frame(self.frame, self._quality)


class Ring:
    """The newest frames and flow fields of a camera, one for each tick of the nominal rate: an endless clip.

    Args:
        preparation: working size and flow settings.
        frame_rate: nominal, frames per second.
        lengths: per stream, how many of the newest are kept.

    Attributes:
        num_frames: number of ticks since the start, including those not kept.
        frames_per_second: the nominal rate.
        flow_seconds: time spent on flow so far.
    """

    name = "the camera"

    def __init__(self, preparation: Preparation, frame_rate: float, lengths: dict[Stream, int]):
        self.ticks, self.frames_per_second = Ticks(frame_rate), frame_rate
        self._preparer = Preparer(preparation)
        self._quality = preparation.jpeg_quality
        self._frames: deque[_KeptFrame] = deque(maxlen=lengths.get("rgb", 1))
        self._fields: deque[np.ndarray] = deque(maxlen=max(1, lengths.get("flow", 0)))
        self._times: deque[float] = deque(maxlen=max(lengths.values()) + 1)
        self._wants_flow = "flow" in lengths
        self._shape: tuple[int, ...] = ()
        self.num_frames = 0

    @property
    def flow_seconds(self) -> float:
        return self._preparer.flow_seconds

    @property
    def newest(self) -> np.ndarray:
        """The newest working frame, (H, W, 3) uint8."""
        return self._frames[-1].frame

    @property
    def newest_field(self) -> np.ndarray | None:
        """The newest flow field, (2, h, w) uint8, as it is stored; None where none leads to the newest frame."""
        return self._fields[-1] if self._fields else None

    @property
    def start_seconds(self) -> float:
        return self._times[0]

    @property
    def end_seconds(self) -> float:
        return self._times[-1]

    def time_of(self, index: int) -> float:
        """The time at which frame `index`, one of the newest, was shown."""
        return self._times[index - self.num_frames]

    def push(self, pixels: np.ndarray, pts_seconds: float) -> bool:
        """Take the next frame, (H, W, 3) uint8 RGB; returns whether it adds anything new.

        After a gap, or when the picture changes its size, the ring starts afresh: `num_frames` is 1.
        """
        if pixels.shape != self._shape:
            self._shape = pixels.shape
            self.ticks.restart()
        step = self.ticks.step(pts_seconds)
        if step is None:
            return False
        if step.starts:
            self.num_frames = 0
            for kept in (self._frames, self._fields, self._times):
                kept.clear()
        want_flow = self._wants_flow and step.ticks > 0
        frame, flow = self._preparer.step(pixels, want_flow, step.scale)
        count = step.ticks + step.starts  # a frame that starts the ring completes no tick, but is kept
        if flow is not None:
            self._fields.extend([stored_flow(flow, self._quality)] * count)
        self._frames.extend([_KeptFrame(frame, self._quality)] * count)
        self._times.extend(pts_seconds - (count - 1 - i) * self.ticks.step_seconds for i in range(count))
        self.num_frames += count
        return count > 0

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        """See `Clip.read`; only the newest items exist."""
        if stream == "flow":
            return np.stack([self._fields[index - (self.num_frames - 1)] for index in indices.tolist()])
        return np.stack([self._frames[index - self.num_frames].planes for index in indices.tolist()])


@dataclass(frozen=True)
class _Look:
    """The answer of one network for one snippet."""

    start_seconds: float
    end_seconds: float
    logits: np.ndarray


class Window:
    """The answers of one network for the snippets of the last seconds."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self._looks: deque[_Look] = deque()

    def add(self, look: _Look) -> None:
        """Append the newest answer and drop those that are no longer within the window."""
        self._looks.append(look)
        while len(self._looks) > 1 and self._looks[0].start_seconds < look.end_seconds - self.seconds - 1e-6:
            self._looks.popleft()

    def clear(self) -> None:
        self._looks.clear()

    @property
    def last(self) -> np.ndarray:
        """The logits of the newest."""
        return self._looks[-1].logits

    @property
    def start_seconds(self) -> float:
        return self._looks[0].start_seconds

    def consensus(self) -> np.ndarray:
        """The mean of the logits, (K,) float32."""
        return np.mean([look.logits for look in self._looks], axis=0)

    def __len__(self) -> int:
        return len(self._looks)


@dataclass(frozen=True)
class _State:
    """The input of an update, taken from the ring at one moment."""

    snippets: dict[Stream, np.ndarray]  # of the networks that have to run: (1, C, h, w) uint8
    begins: dict[Stream, float]  # seconds, of each stream's newest snippet
    pts_seconds: float
    arrived: float
    seconds: dict[str, float]
    is_first: bool  # since the start or a gap
    starts: int  # beginnings before it, in a row, that no update came of


def usual_window_seconds(bundle: Bundle) -> float:
    """Two seconds, or as long as the longest snippet: the window of a video network is its snippet."""
    rate = bundle.frame_rate
    return max(USUAL_WINDOW_SECONDS, *(_seconds_of(spec, rate) for spec in bundle.streams.values()))


def _seconds_of(spec: StreamSpec, frame_rate: float) -> float:
    """From the first frame of a snippet to its last."""
    return (spec.span_at(frame_rate) + (spec.stream == "flow") - 1) / frame_rate


class LiveRecognizer:
    """A recogniser for one camera; made by `Recognizer.live`.

    `push` does everything for one frame. If frames come faster than the networks answer, one thread may call `see` for
    each frame and another `update` in a loop: flow then uses every frame, the networks the newest state.

    Args:
        bundle: gives the input of the streams and the fusion of their scores.
        engine: runs the networks.
        window_seconds: length of the window that scores are computed over.
        updates_per_second: the most updates per second; None gives one for each frame that is used.
        rules: when an action starts and ends.

    Raises:
        InputError: if the window is too short for a stack, or updates_per_second is not above 0.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        window_seconds: float,
        updates_per_second: float | None,
        rules: EventRules,
    ):
        check_argument("updates_per_second", updates_per_second, UpdatesPerSecond | None)
        check_argument("window_seconds", window_seconds, WindowSeconds)
        self._spans = {stream: spec.span_at(bundle.frame_rate) for stream, spec in bundle.streams.items()}
        for stream, spec in bundle.streams.items():
            needed = _seconds_of(spec, bundle.frame_rate)
            if not window_seconds >= needed:
                raise InputError(
                    f"window_seconds ({window_seconds}) must be at least {needed:.3g}, the length of a snippet of "
                    f"{stream} at {bundle.frame_rate:g} frames a second: 2 is usual"
                )
        self.bundle = bundle
        self._engine = engine
        self._ring = Ring(bundle.preparation, bundle.frame_rate, self._spans)
        self._windows = {stream: Window(window_seconds) for stream in bundle.streams}
        self._scene = Scene()
        self._events = EventFinder(bundle.classes, checked_rules(rules))
        self._rest_seconds = 0.0 if updates_per_second is None else 1 / updates_per_second
        self._lock = threading.Lock()  # of the ring, and of what follows down to _starts_without_update
        self._newest: tuple[float, dict[str, float]] = (0.0, {})  # arrival of the newest frame, seconds of its stages
        self._seen = 0.0  # `time.perf_counter()` when the newest frame was taken
        self._has_news, self._has_restarted = False, False  # since the last update
        self._starts_without_update = 0  # beginnings in a row, at the start or after a gap, that no update came of
        self._last_update = -np.inf  # pts_seconds of the newest frame of the last update
        self._due = -np.inf  # pts_seconds from which on the next update is due
        self._last: tuple[Prediction, float] | None = None  # of the last update, and the arrival of its newest frame

    def push(self, pixels: np.ndarray, pts_seconds: float, arrived: float | None = None) -> Update | None:
        """Take a frame and return the current answer; None if it adds nothing, or before the first stack is full.

        Args:
            pixels: (H, W, 3) uint8 RGB, any size.
            pts_seconds: the time at which it was shown, on any steady clock.
            arrived: `time.perf_counter()` when it came; now, if not given.

        Raises:
            InputError: if the pixels or the time can't be those of a frame.
        """
        return self.update() if self.see(pixels, pts_seconds, arrived) else None

    def see(self, pixels: np.ndarray, pts_seconds: float, arrived: float | None = None) -> bool:
        """Take a frame, which costs at most one flow field; returns whether it adds anything new."""
        began = time.perf_counter()
        arrived = began if arrived is None else arrived
        check_frame(pixels, pts_seconds)
        check_seconds("arrived", arrived)
        with self._lock:
            before = self._ring.flow_seconds
            if not self._ring.push(pixels, pts_seconds):
                return False
            if self._ring.num_frames == 1:
                self._has_restarted = True
                self._starts_without_update += 1
            self._seen = began
            self._newest = arrived, {"capture": began - arrived, "flow": self._ring.flow_seconds - before}
            self._has_news = True
        return True

    def update(self) -> Update | None:
        """Run the networks on the newest snippet of each stream and return the answer; None if there is nothing new."""
        with self._lock:
            state = self._take_state()
        if state is None:
            return None
        ended: tuple[Event, ...] = ()
        if state.is_first:
            ended = self.finish()
            for window in self._windows.values():
                window.clear()
        try:
            self._look(state)
        except Exception:
            self._scene.forget()  # what the networks did not answer they have not seen
            raise
        start = min(window.start_seconds for window in self._windows.values())
        consensus = {stream: window.consensus() for stream, window in self._windows.items()}
        prediction = self._as_sure(conclude(self.bundle, consensus, start, state.pts_seconds, state.seconds))
        events = self._events.push(prediction.scores, start, state.pts_seconds, prediction.is_known)
        latency = time.perf_counter() - state.arrived
        self._last = prediction, state.arrived
        with self._lock:
            self._starts_without_update -= state.starts  # frames went on coming: what began meanwhile still counts
        events = [replace(event, latency_seconds=latency) for event in events]
        return Update(prediction, self._events.action, (*ended, *events), latency)

    def _as_sure(self, prediction: Prediction) -> Prediction:
        """A score that is high enough to start an action is also high enough for a name."""
        threshold, start_score = prediction.threshold, self.rules.start_score
        if threshold is None or start_score >= threshold:
            return prediction
        return replace(prediction, threshold=start_score)

    def end_after_silence(self) -> Update | None:
        """End the current action if no frame has come for longer than a gap: an update that repeats the last scores.

        None while frames come, and without a current action. Call it from the thread that calls `update`.
        """
        with self._lock:
            seen = self._seen
        gone = time.perf_counter() - seen > self._ring.ticks.longest_gap_seconds
        if self._last is None or self._events.action is None or not gone:
            return None
        return self.end_action()

    def end_action(self) -> Update | None:
        """End the current action: an update that repeats the last scores; None without a current action."""
        if self._last is None or self._events.action is None:
            return None
        events = self.finish()
        return Update(self._last[0], None, events, events[0].latency_seconds)

    def take_over(self, former: "LiveRecognizer") -> None:
        """Go on with the frames and flow of another recogniser of the same camera, which gets no more frames.

        If the networks of the two read different frames or flow, this recogniser waits for its own.
        """
        one, other = self.bundle, former.bundle
        if (one.preparation, one.frame_rate, self._spans) != (other.preparation, other.frame_rate, former._spans):
            return
        with former._lock:
            self._lock, self._ring = former._lock, former._ring
            self._newest, self._seen, self._has_news = former._newest, former._seen, self._ring.num_frames > 0

    def finish(self) -> tuple[Event, ...]:
        """End the current action, as when the video is over; returns its end, if there is a current action.

        The latency of the end counts from the arrival of the newest frame of the last update.
        """
        latency = 0.0 if self._last is None else time.perf_counter() - self._last[1]
        return tuple(replace(event, latency_seconds=latency) for event in self._events.finish())

    @property
    def rules(self) -> EventRules:
        """When an action starts and ends; may be set while frames come."""
        return self._events.rules

    @rules.setter
    def rules(self, rules: EventRules) -> None:
        self._events.rules = checked_rules(rules)

    def newest_flow(self) -> np.ndarray | None:
        """The flow that led to the newest frame: (2, h, w) float32, pixels per nominal step; None where there is none.

        It is what the flow network reads: the field of a slow camera is scaled to the step that the network knows.
        """
        with self._lock:
            field = self._ring.newest_field
        return None if field is None else dequantise(field, self.bundle.preparation.flow.bound)

    @property
    def trouble(self) -> str:
        """The reason why no update comes although frames do; empty while updates come."""
        with self._lock:
            starts = self._starts_without_update
        if starts <= MOST_STARTS_WITHOUT_UPDATE:
            return ""
        gap = self._ring.ticks.longest_gap_seconds
        return (
            f"frames come or are taken more than {gap:g} s apart, and flow over so long means nothing: use a faster "
            "camera, or, where flow takes that long, networks trained with a faster --flow"
        )

    def _look(self, state: _State) -> None:
        """Run the networks, and put their answers into the windows."""
        answers = self._engine.answers(state.snippets)
        for stream, answer in answers.items():
            state.seconds[f"{stream} network"] = answer.seconds
        for stream, window in self._windows.items():
            # Where a network was not asked, the frame looks as the one that it saw: it would say the same.
            logits = answers[stream].logits[0] if stream in answers else window.last
            window.add(_Look(state.begins[stream], state.pts_seconds, logits))

    def _take_state(self) -> _State | None:
        """The newest snippets of the networks that have to run; None where nothing is due."""
        ring, specs, spans = self._ring, self.bundle.streams, self._spans
        if not self._has_news or any(spec.num_items(ring.num_frames) < spans[stream] for stream, spec in specs.items()):
            return None
        pts = ring.end_seconds
        if pts < self._last_update:  # of a source that was opened again
            self._due = -np.inf
        if pts < self._due - 1e-6:
            return None
        # From the time that was due rather than from this frame's, so that waiting for frames does not lower the rate.
        self._due = max(self._due, pts - ring.ticks.step_seconds) + self._rest_seconds
        is_first = self._has_restarted
        if is_first:
            self._scene.forget()
        snippets, begins = {}, {}
        for stream, spec in specs.items():
            first = spec.num_items(ring.num_frames) - spans[stream]
            begins[stream] = ring.time_of(first)
            # A network that reads several frames sees motion, and that changes with every frame.
            if stream == "flow" or spec.stack_length > 1 or self._scene.needs_look(ring.newest, pts):
                snippets[stream] = read_snippets(ring, spec, np.array([first])).numpy()
        self._has_news, self._has_restarted, self._last_update = False, False, pts
        arrived, seconds = self._newest
        return _State(snippets, begins, pts, arrived, dict(seconds), is_first, self._starts_without_update)
