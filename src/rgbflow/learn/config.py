"""The settings of a training run; each is declared here once and is a flag and a TOML key by itself."""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from rgbflow.errors import InputError
from rgbflow.records import Share, check_fields, field_value, read_whole
from rgbflow.stream import (
    DEFAULT_FUSION,
    STACK_LENGTH,
    CropFraction,
    Dropout,
    InputSize,
    Name,
    StackLength,
    Stream,
    UnfittedFusion,
)

Optimizer = Literal["sgd-momentum", "sgd", "asgd", "adam"]
Schedule = Literal["cosine", "exponential", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Number = Annotated[int, Meta(ge=1, le=100_000)]
NumberOrNone = Annotated[int, Meta(ge=0, le=100_000)]
Rate = Annotated[float, Meta(gt=0, le=10)]
Decay = Annotated[float, Meta(gt=0, le=1)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
Epochs = Annotated[float, Meta(ge=0, le=100_000)]
Norm = Annotated[float, Meta(ge=0, le=1e6)]
Minutes = Annotated[float, Meta(ge=0, le=1e6)]
Workers = Annotated[int, Meta(ge=0, le=1024)]
Seed = Annotated[int, Meta(ge=0, lt=2**32)]
FileName = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(max_length=1000)]


@dataclass(frozen=True)
class TrainConfig:
    """How one stream is trained."""

    algorithm: Name = "two-stream"
    """The family of the network: two-stream (the paper's: an image classifier), or one that the paper compares with:
    c3d, or lrcn (an LSTM). These two read 16 frames in a row; c3d has a backbone, a size and a dropout of its own."""
    backbone: Name = "resnet101"
    """An image classifier of timm; for c3d: c3d, c3d_half or c3d_quarter."""
    weights: FileName = "imagenet"
    """Starting weights: none, imagenet, or a .safetensors or .pth file."""
    input_size: InputSize = 224
    """Pixels; the network sees input_size × input_size."""
    crop_fraction: CropFraction = 0.875
    """Side of the centre square that is shown outside training, as a share of the short side."""
    stack_length: StackLength = STACK_LENGTH
    """Flow fields in a snippet (L); the paper's single pair (u,v) is 1. Not used by rgb, c3d and lrcn."""
    num_segments: Number = 1
    """Snippets of a clip per training step (S); their consensus is trained."""
    epochs: Number = 50
    batch_size: Number = 16
    """Clips per step and process."""
    optimizer: Optimizer = "sgd-momentum"
    learning_rate: Rate = 0.005
    """At the start, after the warm-up."""
    schedule: Schedule = "cosine"
    """Cosine to zero; exponential by decay per epoch; or constant."""
    decay: Decay = 0.95
    """Factor per epoch of the exponential schedule."""
    warmup_epochs: Epochs = 1.0
    """The learning rate rises linearly from zero over these epochs."""
    momentum: BelowOne = 0.9
    """Of sgd-momentum."""
    weight_decay: Share = 5e-4
    label_smoothing: BelowOne = 0.0
    dropout: Dropout = 0.0
    """Before the classifier."""
    flip: bool = True
    """Mirror half of the clips. Wrong for classes that differ in left and right."""
    multi_scale: bool = True
    """Crops of random size and shape, not only of the size that a test sees."""
    corner_crops: bool = False
    """Crops lie in a corner or the centre, not anywhere."""
    colour_jitter: Share = 0.0
    """Brightness, contrast and saturation of frames vary by up to this share. Not used by flow."""
    subtract_mean_flow: bool = False
    """Subtract from each flow field its mean, which a moving camera makes. Not used by rgb."""
    balanced: bool = False
    """Show every class equally often, however many clips it has."""
    probe: bool = True
    """Fit a classifier on the features of the frozen starting weights first, and keep these weights if no epoch is
    better on the validation part. Training of rgb starts from it; flow's features must become others. Not used where
    weights are none, and by c3d and lrcn."""
    probe_rate: Rate = 0.1
    """Of the learning rate, for an rgb stream that starts from a probe: more would shake what it begins with."""
    freeze_batch_norms: bool = False
    """Keep all batch norms but the first as they came with the starting weights. An rgb stream that starts from a probe
    keeps all of them, whatever this says."""
    average_epochs: NumberOrNone = 0
    """In this many last epochs the weights are the mean over the steps so far, and the best of them is kept, whatever
    the epochs before; 0 averages nothing."""
    patience: NumberOrNone = 0
    """After this many epochs in a row without a better one on the validation part, go on with the last epochs, those
    that are averaged, or stop if none are; 0 never does so."""
    gradient_clip: Norm = 20.0
    """Largest norm of the gradient; 0 turns clipping off."""
    precision: Precision = "auto"
    """auto is bf16 where the hardware computes it fast, else fp32."""
    device: Name = "auto"
    """auto, cpu, cuda or mps."""
    workers: Workers = 1
    """Processes that read clips; 0 reads in the training process."""
    save_minutes: Minutes = 10.0
    """Time between checkpoints inside an epoch; 0 makes them after whole epochs only."""
    seed: Seed = 0
    fusion: UnfittedFusion = DEFAULT_FUSION
    """Of the bundle until `calibrate` fits one: average of the streams' probabilities, as in the paper, or product."""
    licence: Text = "not stated"
    """Of the trained weights, for the model card."""

    def __post_init__(self):
        check_fields(self)
        if self.average_epochs > self.epochs:
            raise InputError(f"average_epochs ({self.average_epochs}) must be at most epochs ({self.epochs})")
        if self.freeze_batch_norms and self.weights == "none":
            raise InputError("freeze_batch_norms keeps those of the starting weights: it needs weights, not none")


# Fields that a stream does not use: changed, they change nothing of it.
NOT_USED: dict[Stream, tuple[str, ...]] = {
    "rgb": ("stack_length", "subtract_mean_flow"),
    "flow": ("colour_jitter", "probe_rate"),
}
RESULT_NEUTRAL = ("workers", "save_minutes", "device", "fusion", "licence")  # fields that change nothing of the result


def changed(base: TrainConfig, changes: Mapping[str, object]) -> TrainConfig:
    """The base with other values of the fields that are named; `TrainConfig` checks them."""
    given: dict[str, Any] = dict(changes)  # which field a name means is known when it runs
    return replace(base, **given)


def with_algorithm(base: TrainConfig, algorithm: str) -> TrainConfig:
    """The base, changed to what networks of this family are usually trained with.

    Raises:
        InputError: if there is no such family.
    """
    if algorithm == base.algorithm:
        return base
    from rgbflow.networks.families import family_of  # imports torch, which the command line's help can't wait for

    return changed(base, {"algorithm": algorithm, **family_of(algorithm).defaults})


def completed(base: TrainConfig, given: Mapping[str, object]) -> TrainConfig:
    """The base with the fields that somebody gave; what nobody gave follows their algorithm and their epochs.

    Where fewer epochs are given than the base averages, or warms up in, half of them are averaged, and the warm-up ends
    in their middle.
    """
    if "algorithm" in given:
        base = with_algorithm(base, str(given["algorithm"]))
    if "epochs" not in given:
        return changed(base, given)
    epochs, fitting = field_value(TrainConfig, "epochs", given["epochs"]), {}
    if base.average_epochs > epochs:
        fitting["average_epochs"] = epochs // 2
    if base.warmup_epochs >= epochs:
        fitting["warmup_epochs"] = epochs / 2
    return changed(base, {**fitting, **given})


def load_config(path: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a TrainConfig from a TOML file whose keys are its fields.

    Args:
        path: the file.
        base: gives the fields that the file leaves out, the defaults if None; see `completed`.

    Raises:
        InputError: if the file is missing or no TOML, a key is unknown (the nearest right one is named) or a value
            has the wrong type or is out of its range.
    """
    return completed(base or TrainConfig(), read_config(path))


def read_config(path: Path) -> dict[str, Any]:
    """The fields of a TrainConfig that a TOML file names, each of the right type and in its range.

    Raises:
        InputError: as `load_config`.
    """
    values = _read_toml(path)
    fields = [field.name for field in dataclasses.fields(TrainConfig)]
    for key in values:
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"the keys are {', '.join(fields)}"
            raise InputError(f"--config {path}: unknown key {key[:60]!r}: {hint}")
    try:
        return {key: field_value(TrainConfig, key, value) for key, value in values.items()}
    except InputError as error:
        raise InputError(f"--config {path}: {error}") from None


def _read_toml(path: Path) -> dict[str, Any]:
    content = read_whole(path, "--config")
    try:
        return tomllib.loads(content.decode())
    except RecursionError:
        raise InputError(f"--config {path} is nested too deep: write lines such as epochs = 30") from None
    except ValueError as error:
        raise InputError(f"--config {path} is no TOML ({error}): write lines such as epochs = 30") from error
