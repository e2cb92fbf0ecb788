"""The bundle: a folder that holds everything needed to use a trained recogniser. Nothing in it is ever unpickled."""

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import safetensors
import safetensors.torch
from filelock import FileLock
from torch import Tensor

from rgbflow.atomic import write_atomically
from rgbflow.errors import InputError
from rgbflow.fusion import Fusion
from rgbflow.stream import STREAMS, Preparation, Stream, StreamSpec

FORMAT_VERSION = 1
RECORD = "recognizer.json"
EXPORTED_SUFFIXES = (".onnx", ".xml", ".bin")  # of the files that `rgbflow export` makes of a stream
NO_LICENCE = "not stated"
ASSUMED_RATE = 25.0  # frames per second of the training clips of a bundle that does not say


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
    """

    classes: tuple[str, ...]
    preparation: Preparation
    streams: dict[Stream, StreamSpec]
    split: dict
    fusion: Fusion = field(default_factory=Fusion)
    calibration: dict = field(default_factory=dict)
    measured: dict = field(default_factory=dict)
    origin: dict = field(default_factory=dict)
    licence: str = NO_LICENCE
    frames_per_second: float | None = None

    @property
    def frame_rate(self) -> float:
        """The frame rate that the flow network was trained at; ASSUMED_RATE where the bundle doesn't record it."""
        return self.preparation.frame_rate or self.frames_per_second or ASSUMED_RATE

    @property
    def knows_frame_rate(self) -> bool:
        """Whether the bundle records `frame_rate`; else it is assumed."""
        return (self.preparation.frame_rate or self.frames_per_second) is not None


def weights_file(folder: Path, stream: Stream) -> Path:
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
        record = json.loads(path.read_text(encoding="utf-8"))
        found = int(record["format_version"])
        if found > FORMAT_VERSION:
            raise InputError(f"{path} has format {found}, this rgbflow reads up to {FORMAT_VERSION}: upgrade rgbflow")
        return _bundle_from_record(record)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path} is damaged ({error!r}): train or copy the bundle again") from error


def _bundle_from_record(record: dict) -> Bundle:
    values = {one.name: record[one.name] for one in fields(Bundle) if one.name in record}  # a later one may say more
    values["classes"] = tuple(record["classes"])
    values["preparation"] = Preparation.from_dict(record["preparation"])
    values["streams"] = {
        # Older bundles say it among the settings of the training.
        stream: StreamSpec.from_dict({"mirrored": _trained_with(record, stream).get("flip", True), **spec})
        for stream, spec in record["streams"].items()
    }
    values["fusion"] = Fusion.from_dict(record["fusion"])
    if not values["fusion"].fits(values["streams"].keys(), len(values["classes"])):
        raise ValueError("its fusion belongs to other streams or classes")
    if "frames_per_second" in record and not 0 < float(record["frames_per_second"]) < math.inf:
        raise ValueError("its frames_per_second is not a positive number")
    return Bundle(**values)


def _trained_with(record: dict, stream: Stream) -> dict:
    return record.get("origin", {}).get(stream, {}).get("config", {})


def save_bundle(folder: Path, bundle: Bundle) -> None:
    """Write `recognizer.json` and the model card, each under a temporary name first."""
    streams = {stream: asdict(bundle.streams[stream]) for stream in STREAMS if stream in bundle.streams}
    record = {"format_version": FORMAT_VERSION, **asdict(bundle), "streams": streams, "fusion": bundle.fusion.as_dict()}
    record["short_sides"] = {stream: bundle.preparation.side_of(stream) for stream in streams}  # for other readers
    if not bundle.calibration:
        del record["calibration"]
    if bundle.frames_per_second is None:
        del record["frames_per_second"]
    write_atomically(folder / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / "README.md", model_card(bundle))


def save_stream(folder: Path, addition: Bundle, stream: Stream, weights: dict[str, Tensor]) -> None:
    """Put a trained stream into the bundle at `folder`: first its weights, then the record that names them.

    The record is read again under a lock, so that two simultaneous trainings into one bundle both end up in it.
    """
    lock = folder / "training" / ".lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with FileLock(lock):
        existing = load_bundle(folder) if (folder / RECORD).is_file() else None
        bundle = with_stream(existing, addition)
        write_atomically(weights_file(folder, stream), safetensors.torch.save(weights))
        for suffix in EXPORTED_SUFFIXES:  # of the former weights
            (folder / f"{stream}{suffix}").unlink(missing_ok=True)
        save_bundle(folder, bundle)


def load_weights(folder: Path, stream: Stream) -> dict[str, Tensor]:
    path = weights_file(folder, stream)
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} can't be read ({error}): train or copy the bundle again") from error


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
    if folder.exists() or Path(owner).exists() or not is_hub_id:
        if not folder.is_dir():
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
        f"- **{name}**: {spec.backbone}, {spec.input_size}×{spec.input_size}, {spec.channels} channels"
        for name, spec in bundle.streams.items()
    )
    return f"""---
library_name: rgbflow
pipeline_tag: video-classification
tags: [action-recognition, optical-flow, two-stream]
---

# A two-stream action recogniser

It recognises {len(bundle.classes)} actions: {", ".join(bundle.classes)}.

{streams}

{_fusion_line(bundle)}

{_measured_lines(bundle)}

{_origin_line(bundle)}. Licence of the weights: {bundle.licence}.

```python
from rgbflow import Recognizer

recognizer = Recognizer.load("path/to/this/folder")
print(recognizer.predict("clip.mp4").top(5))
```
"""


def _origin_line(bundle: Bundle) -> str:
    split = bundle.split
    if split["seed"] is None:  # of a published network
        return f"Trained by its makers on {split['protocol']}; weights from {split['sha256']}"
    return f"Trained on a split of protocol `{split['protocol']}`, seed {split['seed']}, sha256\n{split['sha256']}"


def _fusion_line(bundle: Bundle) -> str:
    fusion = bundle.fusion
    line = f"Fusion: {fusion.method}, temperature {fusion.temperature:.2f}, fitted on the val part."
    named = replace(fusion, threshold=None, false_alarm_rate=None)  # with its temperature and weights alone
    if not named.is_fitted:
        line = "" if named == Fusion() else f"Fusion: {fusion.method}. "
        line += "Its probabilities are not calibrated: `rgbflow calibrate` does it."
    if fusion.threshold is None:
        return line
    line += f" A clip whose highest probability is not above {fusion.threshold:.3f} is called unknown; "
    if fusion.false_alarm_rate is None:
        return line + "the threshold was set by hand, so nothing is promised about clips of unseen classes."
    return line + (
        f"it was fitted to give a name to at most {100 * fusion.false_alarm_rate:.3g} % of the clips of unseen classes."
    )


def _measured_lines(bundle: Bundle) -> str:
    if not bundle.measured:
        return "Not evaluated yet: `rgbflow evaluate` writes its figures here."
    lines = []
    for part, measured in bundle.measured.items():
        leak = f"{measured['leak_percent']:.1f} % of them share a group with a training clip"
        lines.append(
            f"Measured on the {part} part ({measured['clips']} clips, {measured['snippets']} snippets of each, "
            f"protocol {measured['protocol']}; {leak}; {measured.get('engine', 'engine not noted')}):\n"
        )
        lines.append("| stream | top-1 % | 95 % interval | top-5 % |\n|---|---|---|---|")
        for name, figures in measured["figures"].items():
            low, high = figures["top1_interval"]
            lines.append(f"| {name} | {figures['top1']:.1f} | {low:.1f}–{high:.1f} | {figures['top5']:.1f} |")
    return "\n".join(lines)
