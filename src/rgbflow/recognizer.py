"""The public class for a bundle: label a video, segment a long one, watch a camera, explain an answer."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from msgspec import Meta

from rgbflow.bundle import ASSUMED_RATE, Bundle, load_bundle
from rgbflow.cam import ActivationMaps, class_activation_maps, in_order, middles
from rgbflow.clip import ArrayClip, Clip, Extent, FileExtent, FrameClip
from rgbflow.errors import InputError
from rgbflow.flow import dequantise, usual_speed
from rgbflow.live.events import EventRules
from rgbflow.live.session import LiveRecognizer, usual_window_seconds
from rgbflow.networks.engine import Engine, StreamAnswer
from rgbflow.networks.families import family_of
from rgbflow.networks.loading import load_engine
from rgbflow.networks.ready_made import find_bundle
from rgbflow.prediction import Prediction, conclude
from rgbflow.records import check_argument
from rgbflow.stream import STREAMS, WINDOW_SNIPPETS, Crops, EngineName, EnginePrecision, Name, Stream
from rgbflow.timeline import Timeline, merge_windows, sliding_windows
from rgbflow.transforms import evaluation_input, read_snippets, snippet_places, snippet_starts
from rgbflow.video.reading import Frame, count_frames, decode, probe

NumSnippets = Annotated[int, Meta(ge=1, le=10_000, description="25 are usual")]
Seconds = Annotated[float, Meta(gt=0, le=86_400, description="2 are usual")]
StepSeconds = Annotated[float, Meta(ge=0.01, le=86_400, description="0.5 is usual")]  # each step is a window to label
FileName = Annotated[str, Meta(min_length=1, max_length=4096, description="give a bundle's folder or hub id")]
_ADDRESS = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path has one slash left; a drive has one letter


@dataclass(frozen=True)
class Explanation:
    """A prediction, and where each stream found its answer.

    Attributes:
        prediction: as `Recognizer.predict` gives it; its `decision` says which stream the answer comes from.
        maps: one per stream, for the likeliest class after fusion, even where the stream alone gives another answer.
        full_scale: speed in pixels per frame step that few places of the clip exceed, for drawing its flow; None
            without a flow stream.
    """

    prediction: Prediction
    maps: dict[Stream, ActivationMaps]
    full_scale: float | None


class Recognizer:
    """The trained networks of a bundle, ready to label videos.

    Args:
        bundle: the content of `recognizer.json`.
        engine: runs the networks.
    """

    def __init__(self, bundle: Bundle, engine: Engine):
        self.bundle = bundle
        self.engine = engine

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        device: str = "auto",
        engine: EngineName = "auto",
        report: Callable[[str], None] = lambda line: None,
        precision: EnginePrecision = "auto",
    ) -> "Recognizer":
        """Load a bundle.

        Args:
            bundle: a folder, the id of a Hugging Face Hub repository ("owner/name"), or a network published for
                Kinetics-400, such as "kinetics:s3d".
            device: "auto", or a torch device name.
            engine: "torch", "openvino", "onnx", or "auto", see `loading.load_engine`; `engine.name` is the one in use.
            report: called with one line for each engine that "auto" could not use although its files exist.
            precision: "fp32", "bf16", or "auto", the engine's fastest.

        Raises:
            InputError: if there is no such bundle, if it is damaged or of a newer format, or if the engine can't run
                it.
        """
        check_argument("bundle", str(bundle) if isinstance(bundle, Path) else bundle, FileName)
        check_argument("device", device, Name)
        check_argument("engine", engine, EngineName)
        check_argument("precision", precision, EnginePrecision)
        folder = find_bundle(str(bundle))
        record = load_bundle(folder)
        return cls(record, load_engine(folder, record, device, engine, report, precision))

    @property
    def usual_snippets(self) -> int:
        """Of a clip and stream, where nobody asks for another number."""
        return min(family_of(spec.algorithm).test_snippets for spec in self.bundle.streams.values())

    def predict(self, video: str | Path | Clip, num_snippets: int | None = None, crops: Crops = 1) -> Prediction:
        """Label a clip: each stream scores `num_snippets` snippets spread over the clip, then the scores are fused.

        Args:
            video: a file, or a clip whose frames are there already.
            num_snippets: S; None: as many as the networks are usually tested with, 25 or of video networks 5.
            crops: of each snippet, 1, 3 or 10, see `transforms.evaluation_crops`.

        Raises:
            InputError: if the video can't be read or is too short for the stack.
        """
        num_snippets = _checked(num_snippets, self.usual_snippets, crops)
        clip, seconds = self._open(video, num_snippets)
        snippets = {}
        for stream in self.bundle.streams:
            began = time.perf_counter()
            snippets[stream] = self._read(clip, stream, num_snippets)
            seconds[f"{stream} network"] = time.perf_counter() - began
        logits = {}
        for stream, answer in self.engine.answers(snippets, crops).items():
            logits[stream] = answer.logits.mean(axis=0)  # the consensus
            seconds[f"{stream} network"] += answer.seconds
        return conclude(self.bundle, logits, clip.start_seconds, clip.end_seconds, seconds)

    def features(
        self, video: str | Path | Clip, num_snippets: int | None = None, crops: Crops = 1
    ) -> dict[Stream, np.ndarray]:
        """Features of a clip's snippets, the vectors that each stream's classifier reads, for uses of your own.

        Args:
            video: a file, or a clip whose frames are there already.
            num_snippets: S; None: as many as the networks are usually tested with, 25 or of video networks 5.
            crops: of each snippet, 1, 3 or 10; the features are the means over them.

        Returns:
            Per stream (S, D) float32, in the order of time; D is 2048 for resnet101. They belong to the same snippets
            that `predict` looks at: the classifier turns them into the logits.

        Raises:
            InputError: for the reasons of `predict`, or if the engine runs exported files of an older version, which
                lack features.
        """
        num_snippets = _checked(num_snippets, self.usual_snippets, crops)
        clip, _ = self._open(video, num_snippets)
        snippets = {stream: self._read(clip, stream, num_snippets) for stream in self.bundle.streams}
        answers = self.engine.answers(snippets, crops, with_features=True)
        return {stream: features_in(answer) for stream, answer in answers.items()}

    def live(
        self,
        window_seconds: float | None = None,
        updates_per_second: float | None = None,
        rules: EventRules | None = None,
        engine: Engine | None = None,
    ) -> LiveRecognizer:
        """A recogniser for one camera: push frames as they come, and get running scores and events back.

        Args:
            window_seconds: length of the window that scores are computed over; None: 2, or the length of a snippet if
                that is longer.
            updates_per_second: the most updates per second; None gives one for each frame that is used.
            rules: when an action starts and ends; None derives them from the bundle's "unknown" threshold
                (`EventRules.suited_to`).
            engine: runs the networks. For several cameras pass a `batching.SharedEngine` of this recogniser; None takes
                this recogniser's own engine.

        Raises:
            InputError: if the window is too short for a stack, or updates_per_second is not above 0.
        """
        if rules is None:
            rules = EventRules.suited_to(len(self.bundle.classes), self.bundle.fusion.threshold)
        if engine is not None and not callable(getattr(engine, "answers", None)):
            raise InputError(f"engine ({type(engine).__name__}) must run networks, as a batching.SharedEngine does")
        window_seconds = usual_window_seconds(self.bundle) if window_seconds is None else window_seconds
        return LiveRecognizer(self.bundle, engine or self.engine, window_seconds, updates_per_second, rules)

    def explain(self, video: str | Path | Clip, num_snippets: int | None = None, crops: Crops = 1) -> Explanation:
        """Label a clip as `predict` does, and show where in its frames and its flow each stream found the answer.

        Args:
            video: a file, or a clip whose frames are there already.
            num_snippets: S; None: the usual number of the networks, 25 or for video networks 5.
            crops: crops of each snippet for the prediction; the maps are of the centre crop.

        Raises:
            InputError: for the reasons of `predict`, if a network has no class activation maps (c3d, lrcn,
                transformers), or if the engine is not torch.
        """
        if not self.engine.networks:
            raise InputError(f"maps can't be made by {self.engine.name}: load the bundle with the engine torch")
        num_snippets = _checked(num_snippets, self.usual_snippets, crops)
        clip, seconds = self._open(video, num_snippets)
        prediction = self.predict(clip, num_snippets, crops)
        began, maps, full_scale = time.perf_counter(), {}, None
        for stream, network in self.engine.networks.items():
            spec = self.bundle.streams[stream]
            starts = snippet_starts(clip, spec, num_snippets)
            inputs = evaluation_input(clip, spec, starts, next(network.parameters()).device)
            values = class_activation_maps(network, inputs, int(prediction.scores.argmax()))
            places = snippet_places(clip, spec, starts)[:, middles(spec.stack_length, values.shape[1])]
            maps[stream] = in_order(values, places, spec.crop_fraction, self.bundle.preparation.aspect)
            if stream == "flow":
                fields = clip.read("flow", maps[stream].places)
                full_scale = usual_speed(dequantise(fields, self.bundle.preparation.flow.bound))
        seconds = {**seconds, **prediction.seconds, "maps": time.perf_counter() - began}
        return Explanation(replace(prediction, seconds=seconds), maps, full_scale)

    def timeline(
        self,
        video: str | Path | ArrayClip,
        window_seconds: float = 2.0,
        step_seconds: float = 0.5,
        num_snippets: int | None = None,
        crops: Crops = 1,
    ) -> Timeline:
        """Label a long video window by window; the memory needed does not grow with the video's length.

        Args:
            video: a file, or a clip whose frames are all there.
            window_seconds: length of the window that slides over the video; a shorter video is one window.
            step_seconds: how far the window moves each time; also the resolution of the segments.
            num_snippets: S of a window; None: 5, or 1 for video networks, whose snippet is as long as a window.
            crops: of each snippet, 1, 3 or 10.

        Raises:
            InputError: if the video can't be read, or no window has enough frames for the stack.
        """
        check_argument("window_seconds", window_seconds, Seconds)
        check_argument("step_seconds", step_seconds, StepSeconds)
        if step_seconds > window_seconds:
            raise InputError(f"step_seconds ({step_seconds}) must be at most window_seconds ({window_seconds})")
        is_video = any(spec.frame_rate for spec in self.bundle.streams.values())
        num_snippets = _checked(num_snippets, 1 if is_video else WINDOW_SNIPPETS, crops)
        name, frames = self._shown(video)
        clip, predictions = FrameClip(self.bundle.preparation, name=name), []
        for window in sliding_windows(frames, clip, window_seconds, step_seconds):
            if self.fits(window):
                predictions.append(self.predict(window, num_snippets, crops))  # frames may be missing in mid-recording
        if not predictions:
            self.wanted_indices(window, num_snippets)  # says what is too short, and for what
        return Timeline(merge_windows(predictions, step_seconds), predictions)

    def fits(self, clip: Extent) -> bool:
        """Whether a clip has frames enough for a snippet of every stream."""
        return all(spec.num_items(clip.num_frames) >= spec.shortest for spec in self.bundle.streams.values())

    def _shown(self, video: str | Path | ArrayClip) -> tuple[str, Iterator[Frame]]:
        """The name of a video, and its frames as they follow each other."""
        if isinstance(video, ArrayClip):
            times = video.pts_seconds.tolist()
            return video.name, (Frame(pixels, at) for pixels, at in zip(video.frames, times, strict=True))
        path = _as_file(video, "a file's name or an ArrayClip")
        return path.name, decode(path, self.bundle.preparation.frame_rate)

    def _open(self, video: str | Path | Clip, num_snippets: int) -> tuple[Clip, dict[str, float]]:
        """The clip, and the seconds that each stage of reading it took, if it is a file."""
        if all(hasattr(video, name) for name in ("read", "num_frames", "name", "start_seconds")):
            clip = cast(Clip, video)
            self._check_preparation(clip)
            return clip, {}
        path, began = _as_file(video, "a file's name or a clip, such as clip.ArrayClip"), time.perf_counter()
        clip = self.sample(path, num_snippets)
        return clip, {"decode": time.perf_counter() - began - clip.flow_seconds, "flow": clip.flow_seconds}

    def _check_preparation(self, clip: Clip) -> None:
        """Raise InputError for a clip that says how it was prepared, and that the networks need it otherwise."""
        made, needed = getattr(clip, "preparation", self.bundle.preparation), self.bundle.preparation
        if made != needed:
            values, wanted = asdict(made), asdict(needed)
            name = next(name for name in values if values[name] != wanted[name])
            raise InputError(
                f"{clip.name} was prepared with {name} {values[name]}, but the bundle needs {wanted[name]}: "
                "prepare it with the bundle's preparation"
            )

    def sample(self, video: Path, num_snippets: int) -> FrameClip:
        """Only the frames and flow fields of a file that its snippets need: two passes, little memory."""
        frame_rate = self.bundle.preparation.frame_rate
        asks_rate = any(spec.frame_rate for spec in self.bundle.streams.values())
        rate = frame_rate or (probe(video).frames_per_second if asks_rate else ASSUMED_RATE)
        wanted = self.wanted_indices(FileExtent(video.name, count_frames(video, frame_rate), rate), num_snippets)
        frames, flow = (set(map(int, wanted.get(stream, ()))) for stream in STREAMS)
        clip = FrameClip(self.bundle.preparation, frames, flow, video.name, rate)
        for frame in decode(video, frame_rate):
            clip.push(frame.pixels, frame.pts_seconds)
        return clip

    def wanted_indices(self, clip: Extent, num_snippets: int) -> dict[Stream, np.ndarray]:
        """Which frames (rgb) and flow fields (flow) of a clip its snippets need: sorted, each once.

        Raises:
            InputError: if the clip is too short for a stream's stack.
        """
        return {
            stream: np.unique(snippet_places(clip, spec, snippet_starts(clip, spec, num_snippets)))
            for stream, spec in self.bundle.streams.items()
        }

    def _read(self, clip: Clip, stream: Stream, num_snippets: int) -> np.ndarray:
        """Snippets spread over a clip: (S, C, h, w) uint8."""
        spec = self.bundle.streams[stream]
        return read_snippets(clip, spec, snippet_starts(clip, spec, num_snippets)).numpy()


def _checked(num_snippets: int | None, usual: int, crops: Crops) -> int:
    """The number of snippets, after a look at both arguments."""
    check_argument("num_snippets", num_snippets, NumSnippets | None)
    check_argument("crops", crops, Crops)
    return usual if num_snippets is None else num_snippets


def _as_file(video: object, wanted: str) -> Path:
    """The path of a file; an address or anything else is refused with what takes it."""
    if not isinstance(video, str | Path):
        raise InputError(f"video ({type(video).__name__}) must be {wanted}, which holds frames with their times")
    if _ADDRESS.match(str(video)):
        raise InputError(f"{video} is an address: watch it with `rgbflow live --source {video}`, or download it first")
    if not str(video):
        raise InputError("video ('') must be a file's name")
    return Path(video)


def features_in(answer: StreamAnswer) -> np.ndarray:
    """The features of an answer that was asked for with them: (N, D) float32."""
    if answer.features is None:
        raise RuntimeError("the engine was asked for features and gave none")
    return answer.features
