"""The bundle: a folder that holds everything needed to use a trained recogniser. Nothing in it is ever unpickled."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import safetensors
import safetensors.torch
from filelock import FileLock
from msgspec import Meta
from torch import Tensor

from rgbflow import limits
from rgbflow.atomic import write_atomically
from rgbflow.errors import InputError, first_line
from rgbflow.fusion import Fusion
from rgbflow.records import ClassName, Count, Percent, Sha256, convert, parse_json, read_whole, refuse_unknown_keys
from rgbflow.shown import markdown_text
from rgbflow.stream import (
    STREAMS,
    FlowSettings,
    FrameRate,
    FusionMethod,
    Preparation,
    Stream,
    StreamSpec,
    as_made,
)

FORMAT_VERSION = 1
RECORD = "recognizer.json"
LOCK = ".lock"  # held while the record changes
EXPORTED_SUFFIXES = (".onnx", ".xml", ".bin")  # of the files that `rgbflow export` makes of a stream
NO_LICENCE = "not stated"
ASSUMED_RATE = 25.0  # frames per second of the training clips of a bundle that does not say
Classes = Annotated[tuple[ClassName, ...], Meta(min_length=1, max_length=100_000)]
Text = Annotated[str, Meta(max_length=1000)]
Strength = Annotated[float, Meta(gt=0, le=1e6)]  # of a fitted classifier, see `rgbflow.learn.probe`
FileName = Annotated[str, Meta(pattern=r"^(rgb|flow)\.(safetensors|onnx|xml|bin)$")]


class _Versioned(TypedDict):
    """What a record of any version says."""

    format_version: Annotated[int, Meta(ge=1)]


class SplitOrigin(TypedDict, total=False):
    """What a bundle says of the split that it was trained on."""

    protocol: Text
    seed: Count | None
    leak_percent: Percent
    sha256: Text


class MeasuredFigures(TypedDict):
    """Figures of a stream or of the fusion, as far as they are read again."""

    top1: Percent
    top1_interval: tuple[Percent, Percent]
    top5: Percent


class Measured(TypedDict):
    """What `evaluate` measured on a part, as far as it is read again."""

    protocol: Text
    leak_percent: Percent
    clips: Count
    snippets: Count
    figures: dict[Text, MeasuredFigures]
    engine: NotRequired[Text]


class CandidateOrigin(TypedDict):
    """A fusion that `calibrate` compared."""

    fusion: Fusion


class CalibrationOrigin(TypedDict, total=False):
    """What `calibrate` compared, as far as it is read again."""

    candidates: dict[FusionMethod, CandidateOrigin]


class StreamOrigin(TypedDict, total=False):
    """What made a stream, as far as it is read again."""

    config: dict[str, Any]
    seconds: Annotated[float, Meta(ge=0)]
    epoch: Count
    head_strength: Strength
    probe_strength: Strength  # of bundles of earlier versions


class _Kept(TypedDict):
    """The parts of a record that are kept as they are, with all that they say beside this."""

    split: SplitOrigin
    calibration: NotRequired[CalibrationOrigin]
    measured: NotRequired[dict[Text, Measured]]
    origin: NotRequired[dict[Stream, StreamOrigin]]


@dataclass(frozen=True)
class Bundle:
    """The content of `recognizer.json`.

    Attributes:
        classes: names in the order of the logits.
        preparation: working size and flow settings, shared by the streams.
        streams: the one or two streams of the bundle.
        split: protocol, seed, leak_percent and sha256 of the split it was trained on.
        fusion: how the streams' scores become one; average (the paper's) or product until `calibrate` fits another.
        calibration: what `calibrate` compared and measured on val, see `rgbflow.learn.calibrate`; empty before it ran.
        measured: per part, protocol, leak and figures, written by `evaluate`.
        origin: per stream, what made it: command, commit, machine, date, epoch, starting weights.
        licence: licence of the weights, as their author states it.
        frames_per_second: median over the training clips; None in bundles of older versions, which did not record it.
        files: SHA-256 of the files beside the record, by name, as they were written; older bundles say none.
        no_action: the class of clips that show none of the actions, if there is one: it is never a name.
    """

    classes: Classes
    preparation: Preparation
    streams: Annotated[dict[Stream, StreamSpec], Meta(min_length=1)]
    split: dict
    fusion: Fusion = field(default_factory=Fusion)
    calibration: dict = field(default_factory=dict)
    measured: dict = field(default_factory=dict)
    origin: dict = field(default_factory=dict)
    licence: Text = NO_LICENCE
    frames_per_second: FrameRate | None = None
    files: dict[FileName, Sha256] = field(default_factory=dict)
    no_action: Text | None = None

    @property
    def frame_rate(self) -> float:
        """The frame rate that the flow network was trained at; ASSUMED_RATE where the bundle doesn't record it."""
        return self.preparation.frame_rate or self.frames_per_second or ASSUMED_RATE

    @property
    def knows_frame_rate(self) -> bool:
        """Whether the bundle records `frame_rate`; else it is assumed."""
        return (self.preparation.frame_rate or self.frames_per_second) is not None


def weights_file(folder: Path, stream: Stream) -> Path:
    """The file of a bundle that holds the weights of a stream."""
    return folder / f"{stream}.safetensors"


def load_bundle(folder: Path) -> Bundle:
    """Read `recognizer.json`.

    Raises:
        InputError: if the folder holds no bundle, or a bundle that is damaged or of a newer format.
    """
    path = folder / RECORD
    if not path.is_file():
        raise InputError(f"{folder} is not a bundle: it has no {RECORD}; make one with `rgbflow train`")
    try:
        raw = parse_json(read_whole(path, "record"))
        version = convert(raw, _Versioned)["format_version"]
        bundle = _bundle_from_record(raw) if version <= FORMAT_VERSION else None
    except InputError as error:
        raise InputError(f"{path} is damaged ({error}): copy or train the bundle again, or upgrade rgbflow") from error
    if bundle is None:
        raise InputError(f"{path} has format {version}, this rgbflow reads up to {FORMAT_VERSION}: upgrade rgbflow")
    return bundle


def _bundle_from_record(raw: Mapping[str, Any]) -> Bundle:
    made = {"fusion": None, **raw, "preparation": as_made(raw.get("preparation"))}
    bundle = convert(made, Bundle)
    convert(made, _Kept)
    _refuse_unknown_parts(made)
    _check_agreement(bundle)
    # Older bundles say whether a stream was mirrored among the settings of its training.
    streams = {
        stream: replace(spec, mirrored=raw["streams"][stream].get("mirrored", _was_mirrored(bundle, stream)))
        for stream, spec in bundle.streams.items()
    }
    return replace(bundle, streams=streams)


def _refuse_unknown_parts(raw: Mapping[str, Any]) -> None:
    """A later rgbflow of the same format may say more of a bundle, but not more of what makes its input and answers."""
    refuse_unknown_keys(raw["fusion"], Fusion, "fusion")
    refuse_unknown_keys(raw["preparation"], Preparation, "preparation")
    refuse_unknown_keys(raw["preparation"]["flow"], FlowSettings, "preparation.flow")
    for stream, spec in raw["streams"].items():
        refuse_unknown_keys(spec, StreamSpec, f"streams.{stream}")


def _check_agreement(bundle: Bundle) -> None:
    """The rules about several parts of a record."""
    twice = [name for name, count in Counter(bundle.classes).items() if count > 1]
    if twice:
        raise InputError(f"classes name {twice[0]!r} twice")
    for stream, spec in bundle.streams.items():
        if spec.stream != stream:
            raise InputError(f"streams.{stream}.stream ({spec.stream}) must be {stream}")
    if bundle.no_action is not None and bundle.no_action not in bundle.classes:
        raise InputError(f"no_action ({bundle.no_action}) must be one of the classes")
    if not bundle.fusion.fits(bundle.streams.keys(), len(bundle.classes)):
        raise InputError("its fusion belongs to other streams or classes")


def _was_mirrored(bundle: Bundle, stream: Stream) -> bool:
    return bundle.origin.get(stream, {}).get("config", {}).get("flip", True) is not False


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write `recognizer.json` and the model card, each under a temporary name first."""
    streams = {stream: asdict(bundle.streams[stream]) for stream in STREAMS if stream in bundle.streams}
    record = {"format_version": FORMAT_VERSION, **asdict(bundle), "streams": streams, "fusion": bundle.fusion.as_dict()}
    record["short_sides"] = {stream: bundle.preparation.side_of(stream) for stream in streams}  # for other readers
    for name in ("calibration", "files"):
        if not record[name]:
            del record[name]
    for name in ("frames_per_second", "no_action"):
        if record[name] is None:
            del record[name]
    write_atomically(folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / "README.md", model_card(bundle))


def change_record(folder: Path, change: Callable[[Bundle | None], Bundle]) -> None:
    """Write the record that `change` makes of the present one; `change` may write files that the new record names.

    The present record is read under a lock. So a process that changes a bundle keeps what another process wrote into it
    a moment before.

    Args:
        folder: of the bundle, made if missing.
        change: gets the present record, or None if there is none yet.

    Raises:
        InputError: if the record is damaged, the folder can't be written, or for a reason of `change`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{folder} can't be written ({reason}): free space or choose another folder") from error
    try:
        save_bundle(folder, change(load_bundle(folder) if (folder / RECORD).is_file() else None))
    finally:
        lock.release()


def check_networks(folder: Path, present: Bundle | None, used: Bundle) -> Bundle:
    """The present record, if it is of the networks that were used.

    Raises:
        InputError: if another process put other networks into the folder meanwhile, or removed the record.
    """
    if present is None or not has_networks_of(present, used):
        raise InputError(f"the networks of {folder} were replaced meanwhile: run the command again")
    return present


def has_networks_of(one: Bundle, other: Bundle) -> bool:
    """Whether two records are of the same networks; fusion, calibration and figures may differ."""
    names = ("classes", "preparation", "streams", "split", "origin")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def save_stream(folder: Path, addition: Bundle, stream: Stream, weights: dict[str, Tensor]) -> None:
    """Put a trained stream into the bundle at `folder`: first its weights, then the record that names them."""
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}

    def add(present: Bundle | None) -> Bundle:
        bundle = with_stream(present, addition)
        hashes = {
            name: sha256
            for name, sha256 in (present.files if present else {}).items()
            if not name.startswith(f"{stream}.") and name.partition(".")[0] in bundle.streams
        }
        written = write_files(folder, {weights_file(folder, stream).name: safetensors.torch.save(weights)})
        for suffix in EXPORTED_SUFFIXES:  # of the former weights
            (folder / f"{stream}{suffix}").unlink(missing_ok=True)
        return replace(bundle, files={**hashes, **written})

    change_record(folder, add)


def write_files(folder: Path, contents: Mapping[FileName, bytes]) -> dict[FileName, Sha256]:
    """Write files of a bundle in this order; what its record has to say of them (`Bundle.files`)."""
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def check_file(folder: Path, bundle: Bundle, name: FileName) -> None:
    """Make sure that a file of a bundle is as it was written; an older bundle doesn't say how that was.

    Raises:
        InputError: if the file is missing, no regular file, larger than the limit, or not the one that was written.
    """
    path = folder / name
    if not path.is_file():
        reason = "no regular file" if path.exists() else "missing"
        raise InputError(f"{path} is {reason}: train or copy the bundle again")
    limits.FILE.check(path.stat().st_size, str(path))
    if name not in bundle.files:
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}): train or copy the bundle again") from error
    if found != bundle.files[name]:
        raise InputError(
            f"{path} is damaged, or of another bundle: its SHA-256 is {found[:12]}…, and {RECORD} says "
            f"{bundle.files[name][:12]}…: copy both again"
        )


def load_weights(folder: Path, stream: Stream) -> dict[str, Tensor]:
    """The weights of a stream, by the names of the network's tensors.

    Raises:
        InputError: if the file is missing, no regular file, or can't be read.
    """
    path = weights_file(folder, stream)
    if not path.is_file():
        reason = "no regular file" if path.exists() else "missing"
        raise InputError(f"{path} is {reason}: train or copy the bundle again")
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{path} can't be read ({first_line(error)}): train or copy the bundle again") from error


def with_stream(existing: Bundle | None, addition: Bundle) -> Bundle:
    """The existing bundle with the streams of `addition` added or replaced.

    The measured figures and the fitted fusion are dropped, since they no longer hold.

    Raises:
        InputError: if the two were trained on different classes, splits or working sizes.
    """
    if existing is None or existing.streams.keys() <= addition.streams.keys():
        return addition
    for name in ("classes", "preparation", "split"):
        if getattr(existing, name) != getattr(addition, name):
            raise InputError(
                f"the bundle's other stream was trained with another {name}: train both streams from one store "
                "and one split, or choose another --out"
            )
    licence = existing.licence if addition.licence == NO_LICENCE else addition.licence
    streams = {**existing.streams, **addition.streams}
    return replace(addition, streams=streams, origin={**existing.origin, **addition.origin}, licence=licence)


def fetch_bundle(name: str) -> Path:
    """The folder of a bundle: `name` itself if that folder exists, else a download from the Hugging Face Hub.

    Raises:
        InputError: if there is neither such a folder nor such a repository.
    """
    folder = Path(name)
    owner, _, repository = name.partition("/")
    is_hub_id = owner and repository and "/" not in repository and owner not in (".", "..", "~")
    if os.path.exists(folder) or os.path.exists(owner) or not is_hub_id:  # a Path's own raises for names too long
        if not os.path.isdir(folder):
            raise InputError(f"bundle {name} is not a folder: pass the folder given to `rgbflow train --out`")
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        suffixes = (".safetensors", *EXPORTED_SUFFIXES)
        patterns = [RECORD, "README.md", *(f"{stream}{suffix}" for stream in STREAMS for suffix in suffixes)]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"bundle {name} is neither a folder here nor reachable on the Hugging Face Hub ({reason})"
        ) from error


def model_card(bundle: Bundle) -> str:
    """The bundle's README.md: what it recognises, how well, and how to use it."""
    streams = "\n".join(
        f"- **{name}**: {markdown_text(spec.backbone)}, {spec.input_size}×{spec.input_size}, {spec.channels} channels"
        for name, spec in bundle.streams.items()
    )

    return f"""---
library_name: rgbflow
pipeline_tag: video-classification
tags: [action-recognition, optical-flow, two-stream]
---

# A two-stream action recogniser

It recognises {len(bundle.classes)} actions: {", ".join(map(markdown_text, bundle.classes))}.

{streams}

{_fusion_line(bundle)}

{_measured_lines(bundle)}

{_origin_line(bundle)}. Licence of the weights: {markdown_text(bundle.licence)}.

```python
from rgbflow import Recognizer

recognizer = Recognizer.load("path/to/this/folder")
print(recognizer.predict("clip.mp4").top(5))
```
"""


def _origin_line(bundle: Bundle) -> str:
    told = {name: markdown_text(bundle.split.get(name, "not stated")) for name in ("protocol", "seed", "sha256")}
    if "weights" in bundle.split:  # of a published network
        return f"Trained by its authors on {told['protocol']}; weights from {markdown_text(bundle.split['weights'])}"
    return f"Trained on a split of protocol {told['protocol']}, seed {told['seed']}, sha256\n{told['sha256']}"


def _fusion_line(bundle: Bundle) -> str:
    fusion = bundle.fusion
    without_threshold = replace(fusion, threshold=None, false_alarm_rate=None)
    if without_threshold.is_fitted:
        line = f"Fusion: {fusion.method}, temperature {fusion.temperature:.2f}, fitted on the val part."
    else:
        line = "" if without_threshold == Fusion() else f"Fusion: {fusion.method}. "
        line += "Its probabilities are not calibrated; `rgbflow calibrate` calibrates them."
    if fusion.threshold is None:
        return line
    line += f" A clip without a probability above {fusion.threshold:.3f} is labelled unknown; "
    if fusion.false_alarm_rate is None:
        return line + "the threshold was set by hand, so nothing is promised about clips of unseen classes."
    return line + (
        f"it was fitted so that at most {100 * fusion.false_alarm_rate:.3g} % of the clips of unseen classes "
        "get a known label."
    )


def _measured_lines(bundle: Bundle) -> str:
    if not bundle.measured:
        return "Not evaluated yet: `rgbflow evaluate` writes its figures here."
    lines = []
    for part, measured in bundle.measured.items():
        leak = f"{measured['leak_percent']:.1f} % of them share a group with a training clip"
        engine, protocol = (markdown_text(measured.get(name, f"{name} not noted")) for name in ("engine", "protocol"))
        lines.append(
            f"Measured on the {markdown_text(part)} part ({measured['clips']} clips, {measured['snippets']} snippets "
            f"of each, protocol {protocol}; {leak}; {engine}):\n"
        )
        lines.append("| stream | top-1 % | 95 % interval | top-5 % |\n|---|---|---|---|")
        for name, figures in measured["figures"].items():
            low, high = figures["top1_interval"]
            lines.append(
                f"| {markdown_text(name)} | {figures['top1']:.1f} | {low:.1f}–{high:.1f} | {figures['top5']:.1f} |"
            )
    return "\n".join(lines)
