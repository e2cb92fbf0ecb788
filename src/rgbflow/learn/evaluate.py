"""Evaluation of a bundle on one part of a split; clips are labelled with the code of `predict`."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from rgbflow.bundle import Bundle, change_record, check_networks
from rgbflow.clip import Clip
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import HeldOut, Split, SplitClip, check_split, leak_percent
from rgbflow.data.store import read_ahead
from rgbflow.errors import InputError
from rgbflow.flow import dequantise, flow_picture, usual_speed
from rgbflow.fusion import Fusion
from rgbflow.learn.comparison import Compared, compare
from rgbflow.learn.curve import read_curve
from rgbflow.learn.metrics import (
    Figures,
    UnknownFigures,
    calibration_error,
    deciding_stream,
    measure,
    measure_unknown,
)
from rgbflow.learn.report import PICTURE_WIDTH, Example, Report, Why
from rgbflow.learn.scores import ScoreFile
from rgbflow.origin import describe_origin
from rgbflow.prediction import Prediction
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.recognizer import Recognizer
from rgbflow.stream import NUM_SNIPPETS, Crops
from rgbflow.why import stream_picture

EXAMPLE_FRAMES = 6


@dataclass(frozen=True)
class Evaluation:
    """The answers of a recogniser for one part of a split.

    Attributes:
        part: "test" or "val".
        protocol: protocol of the split.
        leak_percent: share of the clips with a group that is also in train.
        classes: K names.
        names: names of the N clips.
        labels: (N,) int64, index of the true class.
        num_snippets: snippets of each clip and stream.
        crops: crops of each snippet.
        scores: per stream and, if there are two, "fused": (N, K) float64 probabilities.
        groups: groups of the N clips.
        fusion: the bundle's fusion.
        candidates: every fusion that `calibrate` fitted on val, by method; empty before it ran.
        unknown_scores: (M, K) fused probabilities of the clips of left-out classes; None if no class was left out.
        engine: name and number format of the engine.
    """

    part: HeldOut
    protocol: str
    leak_percent: float
    classes: tuple[str, ...]
    names: list[str]
    labels: np.ndarray
    num_snippets: int
    crops: Crops
    scores: dict[str, np.ndarray]
    groups: list[str] = field(default_factory=list)
    fusion: Fusion = field(default_factory=Fusion)
    candidates: dict[str, Fusion] = field(default_factory=dict)
    unknown_scores: np.ndarray | None = None
    engine: str = ""

    @property
    def streams(self) -> dict[str, np.ndarray]:
        """The scores of the streams, without the fusion."""
        return {name: scores for name, scores in self.scores.items() if name != "fused"}

    @property
    def calibration_error(self) -> float:
        """Calibration error of the final probabilities, percent."""
        return calibration_error(self.fusion.fuse(self.streams), self.labels)

    @property
    def uncalibrated_error(self) -> float:
        """Calibration error of the plain average of the streams, percent."""
        return calibration_error(Fusion().fuse(self.streams), self.labels)

    def comparison(self) -> list[Compared]:
        """The fusions fitted on val, measured on these clips; empty without `calibrate` or a second stream."""
        if len(self.candidates) < 2:
            return []
        fused = {method: fusion.fuse(self.streams) for method, fusion in self.candidates.items()}
        return compare(fused, self.labels, dict(zip(self.names, self.groups, strict=True)))

    def unknown_figures(self) -> UnknownFigures | None:
        """How well the clips of left-out classes are separated from these; None if there are none."""
        if self.unknown_scores is None:
            return None
        known = self.fusion.fuse(self.streams)
        return measure_unknown(known, self.unknown_scores, self.fusion.threshold, self.fusion.false_alarm_rate)

    def figures(self) -> dict[str, Figures]:
        """Top-1, top-5 and mean class accuracy of each stream and of the fusion."""
        return {name: measure(scores, self.labels) for name, scores in self.scores.items()}

    def as_dict(self) -> dict:
        """The values for JSON, which the bundle keeps too."""
        unknown = self.unknown_figures()
        return {
            "protocol": self.protocol,
            "leak_percent": self.leak_percent,
            "clips": len(self.names),
            "snippets": self.num_snippets,
            "crops": self.crops,
            "engine": self.engine,
            "figures": {name: figures.as_dict() for name, figures in self.figures().items()},
            "calibration_error": self.calibration_error,
            "uncalibrated_error": self.uncalibrated_error,
            "fusions": [row.as_dict() for row in self.comparison()],
            "unknown": asdict(unknown) if unknown else None,
        }

    def save_scores(self, path: Path) -> None:
        """Write names, labels, classes, one (N, K) array per stream and kind = "scores" (probabilities) as .npz."""
        ScoreFile(tuple(self.names), self.classes, self.labels, self.streams, "scores").save(path)


def evaluate_recognizer(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    part: HeldOut = "test",
    num_snippets: int = NUM_SNIPPETS,
    crops: Crops = 1,
    progress: Progress = SILENT,
) -> Evaluation:
    """Label every clip of a part of a split, and the clips of its unknown part.

    Args:
        recognizer: the trained bundle.
        store: the prepared data set, made with the bundle's working size and flow.
        split: the split the bundle was trained on.
        part: "test", or "val" for anything that is chosen or fitted.
        num_snippets: S of a clip.
        crops: of each snippet, 1, 3 or 10.
        progress: a step is a clip.

    Raises:
        InputError: if store, split and bundle do not belong together, or a clip is too short.
    """
    clips, unknown = split.clips(part), split.unknown(part)
    if not clips:
        raise InputError(f"the {part} part of the split is empty: make a split with such a part")
    predictions = label_clips(recognizer, store, split, clips + unknown, num_snippets, crops, progress)
    fused = np.stack([prediction.scores for prediction in predictions])
    scores = stream_scores(predictions[: len(clips)])
    if len(scores) > 1:
        scores["fused"] = fused[: len(clips)]
    candidates = recognizer.bundle.calibration.get("candidates", {})
    return Evaluation(
        part=part,
        protocol=split.protocol,
        leak_percent=leak_percent(split.train, clips),
        classes=split.classes,
        names=[clip.name for clip in clips],
        labels=np.array([split.classes.index(clip.label) for clip in clips]),
        num_snippets=num_snippets,
        crops=crops,
        scores=scores,
        groups=[clip.group for clip in clips],
        fusion=recognizer.bundle.fusion,
        candidates={method: Fusion.from_dict(row["fusion"]) for method, row in candidates.items()},
        unknown_scores=fused[len(clips) :] if unknown else None,
        engine=recognizer.engine.name,
    )


def label_clips(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    clips: Sequence[SplitClip],
    num_snippets: int = NUM_SNIPPETS,
    crops: Crops = 1,
    progress: Progress = SILENT,
) -> list[Prediction]:
    """The predictions for some clips of a split, in their order.

    Args:
        recognizer: the trained bundle.
        store: the prepared data set, made with the bundle's working size and flow.
        split: the split the bundle was trained on.
        clips: some of its clips.
        num_snippets: S of a clip.
        crops: of each snippet, 1, 3 or 10.
        progress: a step is a clip.

    Raises:
        InputError: if store, split and bundle do not belong together, or a clip is too short.
    """
    ready = read_clips(recognizer, store, split, clips, num_snippets, progress)
    return [recognizer.predict(clip, num_snippets, crops) for clip in ready]


def read_clips(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    clips: Sequence[SplitClip],
    num_snippets: int = NUM_SNIPPETS,
    progress: Progress = SILENT,
) -> Iterator[Clip]:
    """Some clips of a split in their order, with the frames that a recogniser will look at in memory.

    Args and raises: as `label_clips`.
    """
    check_split(split, store.rows)
    check_belongs(recognizer.bundle, store, split)

    def read(clip: SplitClip) -> Clip:
        stored = store.clip(clip.name)
        return read_ahead(stored, recognizer.wanted_indices(stored, num_snippets))

    return counted(_ahead(read, clips), len(clips), progress)


def stream_scores(predictions: Sequence[Prediction]) -> dict[str, np.ndarray]:
    """The probabilities of N predictions: (N, K) per stream."""
    return {name: np.stack([each.stream_scores[name] for each in predictions]) for name in predictions[0].stream_scores}


def record_figures(folder: Path, used: Bundle, evaluation: Evaluation) -> None:
    """Write an evaluation's figures and their origin into a bundle and its model card.

    Args:
        folder: of the bundle.
        used: its record when it was evaluated.
        evaluation: what was measured.

    Raises:
        InputError: if the networks or the fusion were replaced meanwhile, or the folder can't be written.
    """

    def add(present: Bundle | None) -> Bundle:
        bundle = check_networks(folder, present, used)
        if bundle.fusion != used.fusion:
            raise InputError(f"the fusion of {folder} was fitted again meanwhile: evaluate it again")
        measured = {**bundle.measured, evaluation.part: {**evaluation.as_dict(), "origin": describe_origin()}}
        return replace(bundle, measured=measured)

    change_record(folder, add)


def make_report(evaluation: Evaluation, recognizer: Recognizer, folder: Path, store: AnyStore, title: str) -> Report:
    """The content of the HTML report of an evaluation.

    Args:
        evaluation: evaluation of the bundle in `folder`.
        recognizer: the same bundle, to explain some of its answers.
        folder: the bundle, for its training curves.
        store: the data set, for the sample frames.
        title: heading of the report.
    """
    curves = {name: read_curve(folder, name) for name in recognizer.bundle.streams}
    return Report(
        title=title,
        classes=evaluation.classes,
        names=evaluation.names,
        labels=evaluation.labels,
        scores=evaluation.scores,
        part=evaluation.part,
        protocol=evaluation.protocol,
        leak_percent=evaluation.leak_percent,
        provenance={"engine": evaluation.engine, **describe_origin()},
        curves={name: curve for name, curve in curves.items() if curve},
        examples=[make_example(store, name) for name in _one_per_class(evaluation)],
        whys=_whys(evaluation, recognizer, store),
        calibration_errors=(evaluation.uncalibrated_error, evaluation.calibration_error),
        comparison=evaluation.comparison(),
        unknown=evaluation.unknown_figures(),
    )


def make_example(store: AnyStore, name: str) -> Example:
    """A clip's film strip: evenly spaced frames, each with the flow to the next frame, in colour."""
    clip = store.clip(name)
    indices = np.linspace(0, clip.num_frames - 2, EXAMPLE_FRAMES).round().astype(np.int64)
    fields = dequantise(clip.read("flow", indices), store.preparation.flow.bound)
    full_scale = usual_speed(fields)
    pictures = np.stack([flow_picture(field, full_scale) for field in fields])
    return Example(name, store.rows[name].label, clip.read("rgb", indices).transpose(0, 2, 3, 1), pictures)


def make_why(evaluation: Evaluation, recognizer: Recognizer, store: AnyStore, name: str) -> Why:
    """A clip's decision, with the input of each stream at the moment that spoke most for the answer.

    Raises:
        InputError: if a network has no class activation maps.
    """
    clip = store.clip(name)
    explanation = recognizer.explain(clip, evaluation.num_snippets, evaluation.crops)
    height, width = clip.read("rgb", np.zeros(1, np.int64)).shape[2:]
    size = round(PICTURE_WIDTH * height / width), PICTURE_WIDTH
    pictures = {}
    for stream, maps in explanation.maps.items():
        place = maps.strongest_place
        (read,) = clip.read(stream, np.array([place]))
        read = read.transpose(1, 2, 0) if stream == "rgb" else dequantise(read, store.preparation.flow.bound)
        pictures[stream] = stream_picture(explanation, stream, read, place, size)
    return Why(name, store.rows[name].label, explanation.prediction.score, explanation.prediction.decision, pictures)


def _whys(evaluation: Evaluation, recognizer: Recognizer, store: AnyStore) -> list[Why] | str:
    try:
        return [make_why(evaluation, recognizer, store, name) for name in clips_to_explain(evaluation)]
    except InputError as error:  # c3d, lrcn and transformers have no maps
        return str(error)


def clips_to_explain(evaluation: Evaluation, of_each: int = 2, most: int = 8) -> list[str]:
    """The most confident clips of each kind of decision, of different classes if possible.

    Clips that only one stream or only the fusion got right come first, then mistakes, then clips that both got right.
    """
    decided = deciding_stream(evaluation.scores, evaluation.labels)
    sureness = evaluation.scores.get("fused", next(iter(evaluation.scores.values()))).max(axis=1)
    chosen = []
    for kind in ("rgb", "flow", "fusion", "wrong", "both"):
        surest = sorted(np.flatnonzero(decided == kind), key=lambda clip: -sureness[clip])
        first_of_class = {evaluation.labels[clip]: clip for clip in reversed(surest)}.values()
        chosen += sorted(surest, key=lambda clip: clip not in first_of_class)[:of_each]  # stable: surest first
    return [evaluation.names[clip] for clip in chosen[:most]]


def _one_per_class(evaluation: Evaluation, most: int = 12) -> list[str]:
    first = {int(label): name for label, name in reversed(list(zip(evaluation.labels, evaluation.names, strict=True)))}
    return [first[label] for label in sorted(first)][:most]


def check_belongs(bundle: Bundle, store: AnyStore, split: Split) -> None:
    """Raise InputError if a bundle was trained on another store or split."""
    if store.preparation != bundle.preparation:
        raise InputError(
            f"the store was prepared with {store.preparation.as_dict()}, but the bundle needs "
            f"{bundle.preparation.as_dict()}: prepare the videos with the bundle's settings"
        )
    if split.classes != bundle.classes:
        raise InputError("the split has other classes than the bundle: use the split the bundle was trained on")
    trained_on = bundle.split.get("sha256", "not stated")
    if split.sha256 != trained_on:
        raise InputError(
            f"the bundle was trained on another split (sha256 {trained_on[:12]}, this one is "
            f"{split.sha256[:12]}): its training clips may be among these; use its own split"
        )


def _ahead(read: Callable[[SplitClip], Clip], clips: Iterable[SplitClip], depth: int = 2) -> Iterator[Clip]:
    """Read clips in threads, `depth` of them ahead; decoding frees the interpreter's lock."""
    with ThreadPoolExecutor(depth) as pool:
        waiting: deque = deque()
        for clip in clips:
            waiting.append(pool.submit(read, clip))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
