"""Fits on the validation part: the fusion of the streams, its temperature, and the threshold of "unknown".

The test part is never read. Source of the threshold: Vovk et al. 2005.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rgbflow.bundle import Bundle, change_record, check_networks
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import Split, SplitClip
from rgbflow.errors import InputError
from rgbflow.fusion import Fusion, probabilities
from rgbflow.learn.evaluate import label_clips, read_clips, stream_scores
from rgbflow.learn.fits import FEWEST_CLIPS, Candidate, ScoredClips, choose, fit_candidates
from rgbflow.learn.metrics import calibration_error
from rgbflow.learn.probe import SNIPPETS, fit_head
from rgbflow.origin import describe_origin
from rgbflow.progress import SILENT, Progress
from rgbflow.recognizer import Recognizer
from rgbflow.stream import NUM_SNIPPETS, Crops, Stream
from rgbflow.stream import FusionMethod as Method

Choice = Literal["auto", Method]


@dataclass(frozen=True)
class Calibration:
    """The result of the fits on the validation part.

    Attributes:
        fusion: the chosen fusion, with the threshold of "unknown" if there is one.
        candidates: the fusions it was chosen from, by method.
        clips, groups: number of validation clips and of their groups.
        uncalibrated_error: calibration error of the plain average, percent.
        snippets: snippets of each clip and stream.
        crops: crops of each snippet.
        unknown_clips, unknown_classes: number of clips and classes that the threshold was fitted on.
        rejected: percent of the validation clips that the threshold calls unknown; None without a threshold.
        engine: name and number format of the engine.
    """

    fusion: Fusion
    candidates: dict[Method, Candidate]
    clips: int
    groups: int
    uncalibrated_error: float
    snippets: int = NUM_SNIPPETS
    crops: Crops = 1
    unknown_clips: int = 0
    unknown_classes: int = 0
    rejected: float | None = None
    engine: str = ""

    @property
    def calibration_error(self) -> float:
        """Calibration error of the chosen fusion: percent, cross-validated."""
        return self.candidates[self.fusion.method].calibration_error

    def as_dict(self) -> dict:
        """The values for JSON; the bundle keeps them, without `fusion`, under `calibration`."""
        rows = {method: {**asdict(row), "fusion": row.fusion.as_dict()} for method, row in self.candidates.items()}
        return {**asdict(self), "fusion": self.fusion.as_dict(), "candidates": rows}


def calibrate_fusion(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    choice: Choice = "auto",
    false_alarm_rate: float | None = None,
    num_snippets: int = NUM_SNIPPETS,
    crops: Crops = 1,
    progress: Progress = SILENT,
) -> Calibration:
    """Fit the fusion, its temperature and perhaps a threshold on the val and unknown_val parts of a split.

    Args:
        recognizer: the trained bundle; its present fusion does not matter.
        store: the prepared data set.
        split: the split the bundle was trained on.
        choice: a method, or "auto", see `choose`.
        false_alarm_rate: share of clips of unseen classes, between 0 and 1, that may get a known name; None fits no
            threshold.
        num_snippets: S of a clip.
        crops: of each snippet, 1, 3 or 10.
        progress: a step is a clip.

    Raises:
        InputError: if store, split and bundle do not belong together, if val has fewer than 5 clips, if the rate can't
            be promised, or if the bundle has one stream and `choice` needs two.
    """
    _check_choice(choice, list(recognizer.bundle.streams))
    if false_alarm_rate is not None:
        check_rate(false_alarm_rate, len(split.unknown_val))
    if len(split.val) < FEWEST_CLIPS:
        raise InputError(f"the val part has {len(split.val)} clips, but fits need {FEWEST_CLIPS}: make a larger one")
    clips = score_val(recognizer, store, split, num_snippets, crops, progress)
    made = replace(fit_calibration(clips, choice), snippets=num_snippets, crops=crops, engine=recognizer.engine.name)
    if false_alarm_rate is None:
        return made
    unseen = split.unknown("val")
    unknown_scores = stream_scores(label_clips(recognizer, store, split, unseen, num_snippets, crops, progress))
    fusion = with_threshold(made.fusion, unknown_scores, false_alarm_rate)
    return replace(
        made,
        fusion=fusion,
        unknown_clips=len(unseen),
        unknown_classes=len({clip.label for clip in unseen}),
        rejected=100 * float((fusion.fuse(clips.scores).max(axis=1) <= fusion.threshold).mean()),
    )


def score_val(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    num_snippets: int = NUM_SNIPPETS,
    crops: Crops = 1,
    progress: Progress = SILENT,
) -> ScoredClips:
    """The streams' scores of val's clips, by classifiers that have not learned from these clips.

    Args:
        recognizer: the trained bundle.
        store: the prepared data set.
        split: the split that the bundle was trained on.
        num_snippets: S of a clip.
        crops: of each snippet, 1, 3 or 10.
        progress: a step is a clip.

    Raises:
        InputError: if store, split and bundle do not belong together.
    """
    streams, origin = recognizer.bundle.streams, recognizer.bundle.origin
    strengths = {stream: _strength_of_fit(origin.get(stream, {})) for stream in streams}
    fitted = {stream: strength for stream, strength in strengths.items() if strength is not None}
    found: dict[str, np.ndarray] = {}
    if whole := [stream for stream in streams if stream not in fitted]:
        ready = _of_streams(recognizer, whole)
        found |= stream_scores(label_clips(ready, store, split, split.val, num_snippets, crops, progress))
    if fitted:
        to_refit = _of_streams(recognizer, fitted)
        found |= _held_out_scores(to_refit, store, split, fitted, num_snippets, crops, progress)
    scores: dict[str, np.ndarray] = {stream: found[stream] for stream in streams}  # in the bundle's order
    labels = np.array([split.classes.index(clip.label) for clip in split.val])
    return ScoredClips(scores, labels, np.array([clip.group for clip in split.val]))


def _strength_of_fit(origin: Mapping[str, Any]) -> float | None:
    """The strength of a classifier that was fitted on train and val; None if no part of the network has seen val."""
    if "head_strength" in origin:
        return origin["head_strength"]
    return origin.get("probe_strength") if origin.get("epoch") == 0 else None  # bundles of earlier versions


def _held_out_scores(
    recognizer: Recognizer,
    store: AnyStore,
    split: Split,
    strengths: Mapping[Stream, float],
    num_snippets: int,
    crops: Crops,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Scores (N, K) of val per stream, by a classifier that is fitted anew, on the features of the train part alone."""

    def features(clips: Sequence[SplitClip], snippets: int, crops: Crops) -> dict[Stream, np.ndarray]:
        ready = read_clips(recognizer, store, split, clips, snippets, progress)
        rows = [recognizer.features(clip, snippets, crops) for clip in ready]
        return {stream: np.stack([row[stream].mean(axis=0) for row in rows]) for stream in strengths}

    labels = [split.classes.index(clip.label) for clip in split.train]
    groups = [clip.group for clip in split.train]
    seen, unseen = features(split.train, SNIPPETS, 1), features(split.val, num_snippets, crops)
    heads = {
        stream: fit_head(seen[stream], labels, groups, len(split.classes), (strength,))
        for stream, strength in strengths.items()
    }
    return {stream: probabilities(head.logits(unseen[stream])) for stream, head in heads.items()}


def _of_streams(recognizer: Recognizer, streams: Collection[Stream]) -> Recognizer:
    """The same networks for some streams alone, fused as new bundles are."""
    bundle = recognizer.bundle
    kept = {stream: bundle.streams[stream] for stream in streams}
    return Recognizer(replace(bundle, streams=kept, fusion=Fusion()), recognizer.engine)


def fit_calibration(clips: ScoredClips, choice: Choice = "auto") -> Calibration:
    """Like `calibrate_fusion`, but from the streams' scores of the val clips, and without a threshold."""
    _check_choice(choice, list(clips.scores))
    candidates = fit_candidates(clips)
    fusion = candidates[choose(candidates) if choice == "auto" else choice].fusion
    uncalibrated = calibration_error(Fusion().fuse(clips.scores), clips.labels)
    return Calibration(fusion, candidates, len(clips), len(set(clips.groups)), uncalibrated)


def _check_choice(choice: Choice, streams: Sequence[str]) -> None:
    if len(streams) == 1 and choice not in ("auto", "average"):
        raise InputError(f"fusion {choice} needs two streams, the bundle has {streams[0]} only: use average")


def record_calibration(folder: Path, used: Bundle, calibration: Calibration) -> None:
    """Write the fitted fusion into a bundle and its model card; figures of the former fusion are dropped.

    Args:
        folder: of the bundle.
        used: its record when the fusion was fitted.
        calibration: what was fitted.

    Raises:
        InputError: if the networks were replaced meanwhile, or the folder can't be written.
    """
    kept = {name: value for name, value in calibration.as_dict().items() if name != "fusion"}
    kept["origin"] = describe_origin()

    def fit(present: Bundle | None) -> Bundle:
        bundle = check_networks(folder, present, used)
        return replace(bundle, fusion=calibration.fusion, calibration=kept, measured={})

    change_record(folder, fit)


def check_rate(rate: float, unknown_clips: int) -> None:
    """Refuse a false-alarm rate that this number of clips of unseen classes can't promise.

    Raises:
        InputError: if the rate is too low; the message gives the lowest possible rate.
    """
    if not 0 < rate < 1:
        raise InputError(f"false_alarm_rate ({rate}) must lie between 0 and 1: 0.05 is 5 %")
    if unknown_clips == 0:
        raise InputError(
            f"false_alarm_rate {rate} needs clips of unseen classes, the split has none: make a split with "
            "`rgbflow split --leave-out CLASS ...` and train on it"
        )
    if rate < 1 / (unknown_clips + 1):
        least = math.ceil(1000 / (unknown_clips + 1)) / 1000  # so that what is shown is not refused in turn
        raise InputError(
            f"false_alarm_rate {rate} can't be promised by {unknown_clips} clips of unseen classes, which can promise "
            f"{least:.3f} at best: ask for that, or leave more classes out"
        )


def with_threshold(fusion: Fusion, unknown: Mapping[str, np.ndarray], rate: float) -> Fusion:
    """The fusion with the lowest threshold that keeps the promise: at most `rate` of unseen clips get a known name.

    For a further unseen clip, drawn as the M clips were, each rank among them is equally likely: it ranks above the
    m-th highest with a chance of at most m / (M + 1) (conformal prediction, Vovk et al. 2005). The promise holds for
    clips like these; clips of classes more similar to the known ones get a known name more often.

    Args:
        fusion: fitted on known clips.
        unknown: per stream (M, K) probabilities of clips of classes that were left out.
        rate: between 1 / (M + 1) and 1.

    Raises:
        InputError: for the reasons of `check_rate`.
    """
    highest = np.sort(fusion.fuse(unknown).max(axis=1))[::-1]
    check_rate(rate, len(highest))
    place = min(int(rate * (len(highest) + 1) + 1e-9), len(highest))
    return replace(fusion, threshold=float(highest[place - 1]), false_alarm_rate=rate)
