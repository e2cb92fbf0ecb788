"""From a video to a label: the recogniser that a bundle holds, and its answers."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from rgbflow import fusion
from rgbflow.bundle import Bundle, fetch_bundle, load_bundle
from rgbflow.cam import ActivationMaps, class_activation_maps
from rgbflow.clip import Clip, ClipWindow, FrameClip
from rgbflow.decision import Decision, decide
from rgbflow.errors import InputError
from rgbflow.events import EventRules
from rgbflow.flow import dequantise, usual_speed
from rgbflow.live import LiveRecognizer
from rgbflow.networks.engine import Engine, TorchEngine, load_engine
from rgbflow.networks.stream_net import StreamNet
from rgbflow.sampling import segment_starts, snippet_indices
from rgbflow.stream import STREAMS, ComputesIn, Crops, EngineName, Stream
from rgbflow.transforms import evaluation_input, read_snippets
from rgbflow.video.reading import Frame, count_frames, decode

UNKNOWN = "unknown"  # the label of what is none of the classes
NUM_SNIPPETS = 25  # of a clip at test time (Simonyan and Zisserman 2014, section 6)


@dataclass(frozen=True)
class Answer:
    """One class and its probability."""

    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """What a recogniser says about a clip.

    Attributes:
        classes: K names.
        scores: (K,) float64, probabilities after fusion.
        stream_scores: per stream (K,) float64, probabilities of that stream alone.
        start_seconds, end_seconds: the part of the video that was looked at.
        seconds: time spent per stage: decode (with resizing) and flow where a file was read, each network, fusion.
        threshold: the clip is none of the classes if no score is above it; None where the bundle has none.
    """

    classes: tuple[str, ...]
    scores: np.ndarray
    stream_scores: dict[Stream, np.ndarray]
    start_seconds: float
    end_seconds: float
    seconds: dict[str, float]
    threshold: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether it is one of the classes; asks the score, so a class may be named "unknown"."""
        return self.threshold is None or self.score > self.threshold

    @property
    def label(self) -> str:
        """The likeliest class, or "unknown" if it is not likely enough; `top` shows the classes all the same."""
        return self.top(1)[0].label if self.is_known else UNKNOWN

    @property
    def score(self) -> float:
        """The probability of the likeliest class."""
        return self.top(1)[0].score

    def top(self, count: int = 5) -> list[Answer]:
        """The likeliest classes after fusion, best first."""
        return self._top(self.scores, count)

    def stream_top(self, stream: Stream, count: int = 5) -> list[Answer]:
        """The likeliest classes for one stream alone, best first."""
        return self._top(self.stream_scores[stream], count)

    @property
    def decision(self) -> Decision:
        """Which stream the answer comes from, and how sure each was."""
        return decide(self.classes, self.scores, self.stream_scores)

    def as_dict(self, count: int = 5) -> dict:
        """A form for JSON."""
        answers = {"fused": self.top(count), **{name: self.stream_top(name, count) for name in self.stream_scores}}
        return {
            "label": self.label,
            "is_known": self.is_known,
            "score": self.score,
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "decision": self.decision.as_dict(),
            "top": {name: [vars(answer) for answer in row] for name, row in answers.items()},
            "seconds": self.seconds,
        }

    def _top(self, scores: np.ndarray, count: int) -> list[Answer]:
        best = np.argsort(-scores, kind="stable")[:count]
        return [Answer(self.classes[index], float(scores[index])) for index in best]


@dataclass(frozen=True)
class Explanation:
    """A prediction, and where each stream found its answer.

    Attributes:
        prediction: as `Recognizer.predict` gives it; its `decision` says which stream the answer comes from.
        maps: per stream, for the likeliest class after fusion, whatever the stream alone would have said.
        full_scale: speed in pixels per frame step that few places of the clip exceed, for its flow's picture; None
            without a flow stream.
    """

    prediction: Prediction
    maps: dict[Stream, ActivationMaps]
    full_scale: float | None


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
    """What a recogniser says about a long video, as it goes on: its windows and the segments they add up to."""

    segments: list[Segment]
    windows: list[Prediction]


class Recognizer:
    """The trained networks of a bundle, ready to label videos.

    Args:
        bundle: what `recognizer.json` says.
        networks: one per stream of the bundle, with its weights; none where another engine runs exported files.
        device: "auto", or a torch device name.
        engine: what runs the networks; torch if not given.
    """

    def __init__(
        self, bundle: Bundle, networks: dict[Stream, StreamNet], device: str = "auto", engine: Engine | None = None
    ):
        self.bundle = bundle
        self.networks = networks
        self.engine: Engine = engine or TorchEngine(bundle.streams, networks, device)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        device: str = "auto",
        engine: EngineName = "auto",
        report: Callable[[str], None] = lambda line: None,
        precision: ComputesIn = "auto",
    ) -> "Recognizer":
        """Load a bundle.

        Args:
            bundle: a folder, or the id of a Hugging Face Hub repository ("owner/name").
            device: "auto", or a torch device name.
            engine: "torch", "openvino", "onnx", or "auto", see `engine.load_engine`; `engine.name` says which it is.
            report: gets a line for each engine that "auto" could not use though its files are there.
            precision: "fp32", "bf16", or "auto", the fastest that the engine has.

        Raises:
            InputError: if there is no such bundle, it is damaged or of a newer format, or has no such engine.
        """
        folder = fetch_bundle(str(bundle))
        record = load_bundle(folder)
        chosen, networks = load_engine(folder, record, device, engine, report, precision)
        return cls(record, networks, engine=chosen)

    def predict(self, video: str | Path | Clip, num_snippets: int = NUM_SNIPPETS, crops: Crops = 1) -> Prediction:
        """Label a clip: every stream looks at `num_snippets` snippets spread over it, then their scores are fused.

        Args:
            video: a file, or a clip whose frames are there already.
            num_snippets: S.
            crops: of each snippet, 1 or 10, see `transforms.evaluation_crops`.

        Raises:
            InputError: if the video can't be read or is too short for the stack.
        """
        clip, seconds = self._open(video, num_snippets)
        logits = {}
        for stream, spec in self.bundle.streams.items():
            began = time.perf_counter()
            starts = self._starts(stream, clip.num_frames, clip.name, num_snippets)
            snippets = read_snippets(clip, spec, starts).numpy()
            logits[stream] = self.engine.logits(stream, snippets, crops).mean(axis=0)  # the consensus
            seconds[f"{stream} network"] = time.perf_counter() - began
        return self.conclude(logits, clip.start_seconds, clip.end_seconds, seconds)

    def conclude(
        self, logits: dict[Stream, np.ndarray], start_seconds: float, end_seconds: float, seconds: dict[str, float]
    ) -> Prediction:
        """Fuse what the streams say.

        Args:
            logits: per stream (K,) float32, the consensus of its snippets.
            start_seconds: of the part that was looked at.
            end_seconds: of it.
            seconds: time spent per stage so far.
        """
        began = time.perf_counter()
        stream_scores = {stream: fusion.probabilities(values) for stream, values in logits.items()}
        scores = self.bundle.fusion.fuse(stream_scores)
        seconds = {**seconds, "fusion": time.perf_counter() - began}
        span, threshold = (start_seconds, end_seconds), self.bundle.fusion.threshold
        return Prediction(self.bundle.classes, scores, stream_scores, *span, seconds, threshold)

    def live(
        self,
        window_seconds: float = 2.0,
        updates_per_second: float | None = None,
        rules: EventRules | None = None,
        engine: Engine | None = None,
    ) -> LiveRecognizer:
        """A recogniser of one camera: frames are pushed as they come, running scores and events come back.

        Args:
            window_seconds: the scores are those of the last so many seconds.
            updates_per_second: at most so many; None gives one for each frame that is used.
            rules: when an action starts and ends; None goes by the bundle's "unknown" threshold
                (`EventRules.suited_to`).
            engine: what runs the networks: a `batching.SharedEngine` of this recogniser where there are several
                cameras; None is this recogniser itself.

        Raises:
            InputError: if the window is too short for a stack, or updates_per_second is not above 0.
        """
        rules = rules or EventRules.suited_to(len(self.bundle.classes), self.bundle.fusion.threshold)
        return LiveRecognizer(self, window_seconds, updates_per_second, rules, engine)

    def explain(self, video: str | Path | Clip, num_snippets: int = NUM_SNIPPETS, crops: Crops = 1) -> Explanation:
        """Label a clip as `predict` does, and show where in its frames and its flow each stream found the answer.

        Args:
            video: a file, or a clip whose frames are there already.
            num_snippets: S.
            crops: of each snippet, for the prediction; the maps are those of the centre.

        Raises:
            InputError: as `predict`, or if a network has no class activation maps (c3d, lrcn, transformers), or
                another engine than torch runs it.
        """
        if not self.networks:
            raise InputError(f"maps are not for {self.engine.name}: load the bundle with the engine torch")
        clip, seconds = self._open(video, num_snippets)
        prediction = self.predict(clip, num_snippets, crops)
        began, maps, full_scale = time.perf_counter(), {}, None
        for stream, network in self.networks.items():
            spec = self.bundle.streams[stream]
            starts = self._starts(stream, clip.num_frames, clip.name, num_snippets)
            inputs = evaluation_input(clip, spec, starts, next(network.parameters()).device)
            values = class_activation_maps(network, inputs, int(prediction.scores.argmax()))
            square = self.bundle.preparation.square
            maps[stream] = ActivationMaps(values, starts + spec.stack_length // 2, spec.crop_fraction, square)
            if stream == "flow":
                fields = clip.read("flow", maps[stream].places)
                full_scale = usual_speed(dequantise(fields, self.bundle.preparation.flow.bound))
        seconds = {**seconds, **prediction.seconds, "maps": time.perf_counter() - began}
        return Explanation(replace(prediction, seconds=seconds), maps, full_scale)

    def timeline(
        self,
        video: str | Path,
        window_seconds: float = 2.0,
        step_seconds: float = 0.5,
        num_snippets: int = 5,
        crops: Crops = 1,
    ) -> Timeline:
        """Label a long video as it goes on; the memory needed does not grow with its length.

        Args:
            video: a file.
            window_seconds: length of the window that slides over it; a shorter video is one window.
            step_seconds: how far it moves each time, and the resolution of the segments.
            num_snippets: S of a window.
            crops: of each snippet, 1 or 10.

        Raises:
            InputError: if the video can't be read, or no window has frames enough for the stack.
        """
        if not 0 < step_seconds <= window_seconds:
            raise InputError(
                f"step_seconds ({step_seconds}) must be above 0 and at most window_seconds ({window_seconds})"
            )
        clip, frame_rate = FrameClip(self.bundle.preparation, name=Path(video).name), self.bundle.preparation.frame_rate
        predictions = []
        for window in sliding_windows(decode(Path(video), frame_rate), clip, window_seconds, step_seconds):
            if all(spec.num_items(window.num_frames) >= spec.stack_length for spec in self.bundle.streams.values()):
                predictions.append(self.predict(window, num_snippets, crops))  # frames may be missing in mid-recording
        if not predictions:
            self.wanted_indices(window.num_frames, window.name)  # says what is too short, and for what
        return Timeline(merge_windows(predictions, step_seconds), predictions)

    def _open(self, video: str | Path | Clip, num_snippets: int) -> tuple[Clip, dict[str, float]]:
        """The clip, and the seconds that each stage of reading it took, if it is a file."""
        if not isinstance(video, str | Path):
            return video, {}
        began = time.perf_counter()
        clip = self.sample(Path(video), num_snippets)
        return clip, {"decode": time.perf_counter() - began - clip.flow_seconds, "flow": clip.flow_seconds}

    def sample(self, video: Path, num_snippets: int) -> FrameClip:
        """The frames and flow fields of a file that its snippets need, and no others: two passes, little memory."""
        frame_rate = self.bundle.preparation.frame_rate
        wanted = self.wanted_indices(count_frames(video, frame_rate), video.name, num_snippets)
        frames, flow = (set(map(int, wanted.get(stream, ()))) for stream in STREAMS)
        clip = FrameClip(self.bundle.preparation, frames, flow, video.name)
        for frame in decode(video, frame_rate):
            clip.push(frame.pixels, frame.pts_seconds)
        return clip

    def wanted_indices(self, num_frames: int, name: str, num_snippets: int = NUM_SNIPPETS) -> dict[Stream, np.ndarray]:
        """Which frames (rgb) and flow fields (flow) of a clip its snippets need: sorted, each once.

        Raises:
            InputError: if the clip is too short for a stream's stack; `name` is named in the message.
        """
        wanted = {}
        for stream, spec in self.bundle.streams.items():
            starts = self._starts(stream, num_frames, name, num_snippets)
            wanted[stream] = np.unique(snippet_indices(starts, spec.stack_length))
        return wanted

    def _starts(self, stream: Stream, num_frames: int, name: str, num_snippets: int) -> np.ndarray:
        spec = self.bundle.streams[stream]
        spec.require_frames(num_frames, name)
        return segment_starts(spec.num_items(num_frames), num_snippets, spec.stack_length)


def sliding_windows(
    frames: Iterable[Frame], clip: FrameClip, window_seconds: float, step_seconds: float
) -> Iterator[ClipWindow]:
    """Push frames into a clip and give a window of it every `step_seconds`; frames behind the windows are forgotten.

    The last window ends with the last frame and is as long as the others; a video shorter than a window gives one.
    Steps in which no frame came give none. Each window is to be read before the next is asked for.
    """
    times: list[float] = []  # of all frames: 8 bytes each
    start, given = 0.0, 0  # of the next window, from the first frame on; frames there were when the last was given
    for frame in frames:
        while times and frame.pts_seconds - times[0] >= start + window_seconds:
            first = bisect_left(times, times[0] + start - 1e-9)
            if first < len(times) and given < len(times):
                yield ClipWindow(clip, first, len(times) - first, times[first], frame.pts_seconds)
                given = len(times)
            start += step_seconds
            # The last window may begin up to a step before the next.
            clip.forget(bisect_left(times, times[0] + start - step_seconds))
        clip.push(frame.pixels, frame.pts_seconds)
        times.append(frame.pts_seconds)
    if given < len(times):
        first = bisect_left(times, clip.end_seconds - window_seconds - 1e-9)
        yield ClipWindow(clip, first, len(times) - first, times[first], clip.end_seconds)


def merge_windows(windows: list[Prediction], step_seconds: float) -> list[Segment]:
    """Average overlapping windows over steps of the video and join neighbouring steps with the same label.

    The windows begin, and end, one after the other.
    Where no window was, because the recording has a gap, there is no segment.
    """
    if not windows:
        return []
    begin, end = windows[0].start_seconds, windows[-1].end_seconds
    edges = np.append(np.arange(begin, end - 1e-6, step_seconds), end)
    segments: list[Segment] = []
    first = last = 0  # the windows from first to before last hold the middle of the step
    for start, stop in pairwise(edges.tolist()):
        middle = (start + stop) / 2
        while last < len(windows) and windows[last].start_seconds <= middle:
            last += 1
        while first < last and windows[first].end_seconds < middle:
            first += 1
        if first < last:
            step = replace(windows[0], scores=np.mean([window.scores for window in windows[first:last]], axis=0))
            segments.append(Segment(start, stop, step.label, step.score, step.is_known))
    return _join_equal_neighbours(segments)


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
