"""The settings of a training run: each field declared here is also a flag and a TOML key."""

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
Frames = Annotated[int, Meta(ge=0, le=1000)]
Rate = Annotated[float, Meta(gt=0, le=10)]
RateShare = Annotated[float, Meta(ge=0, le=10)]
RateOrNone = Annotated[float, Meta(ge=0, le=1000)]
Decay = Annotated[float, Meta(gt=0, le=1)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
Epochs = Annotated[float, Meta(ge=0, le=100_000)]
Norm = Annotated[float, Meta(ge=0, le=1e6)]
Minutes = Annotated[float, Meta(ge=0, le=1e6)]
Workers = Annotated[int, Meta(ge=0, le=1024)]
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]
FileName = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(max_length=1000)]


@dataclass(frozen=True)
class TrainConfig:
    """How one stream is trained."""

    algorithm: Name = "two-stream"
    """Family of the network: two-stream is the paper's, an image classifier; the paper compares it with c3d and lrcn
    (an LSTM). Video networks are i3d (one of timm, inflated), s3d, r3d_18, mc3_18, r2plus1d_18, mvit_v1_b, mvit_v2_s,
    swin3d_t, swin3d_s, swin3d_b, videomae. All but two-stream change the defaults of backbone, input size and more."""
    backbone: Name = "resnet101"
    """Name of an image classifier of timm; for c3d: c3d, c3d_half or c3d_quarter; for videomae: videomae_base or
    videomae_large; for the other video networks but i3d their own name."""
    weights: FileName = "imagenet"
    """Starting weights: none, imagenet (i3d too), motion (flow of tf_efficientnet_lite0 with stacks of 10 begins with
    what motions of synthetic people teach; all else begins with imagenet), kinetics (the other video networks), a
    .safetensors or .pth file, or a bundle, such as one of `rgbflow teach`: its network of the same stream."""
    input_size: InputSize = 224
    """The network's input is input_size × input_size pixels."""
    crop_fraction: CropFraction = 0.875
    """Side of the centre crop used outside training, as a share of the frame's shorter side."""
    stack_length: StackLength = STACK_LENGTH
    """Flow fields in a snippet (L); 1 is the paper's single pair (u,v). Not used by rgb and by networks that read
    several frames."""
    frames: Frames = 0
    """Frames, or flow fields, in a snippet of a video network; 0 takes the number that its family is published with."""
    frame_rate: RateOrNone = 0.0
    """Frames per second of a snippet of a video network, whatever the rate of a clip; 0 takes the published rate."""
    num_segments: Number = 1
    """Snippets of a clip per training step (S); the loss is that of their mean logits."""
    epochs: Number = 50
    """Passes over the training part."""
    batch_size: Number = 16
    """Clips per step and process."""
    optimizer: Optimizer = "sgd-momentum"
    """One of the four optimizers that the paper compares."""
    learning_rate: Rate = 0.005
    """Learning rate after the warm-up."""
    schedule: Schedule = "cosine"
    """How the learning rate falls: cosine to zero, exponential by decay per epoch, or constant."""
    decay: Decay = 0.95
    """Factor per epoch of the exponential schedule."""
    warmup_epochs: Epochs = 1.0
    """The learning rate rises linearly from zero over these epochs."""
    momentum: BelowOne = 0.9
    """Momentum of sgd-momentum."""
    weight_decay: Share = 5e-4
    """Weight decay of the optimizer (L2)."""
    label_smoothing: BelowOne = 0.0
    """Share of each label that is spread evenly over all classes."""
    dropout: Dropout = 0.0
    """Dropout before the classifier."""
    flip: bool = True
    """Mirror half of the clips. Turn it off where classes differ only in left and right."""
    multi_scale: bool = True
    """Draw crops of random size and shape, not only of the size that a test uses."""
    corner_crops: bool = False
    """Draw crops only in the corners and the centre, not anywhere."""
    colour_jitter: Share = 0.0
    """Vary brightness, contrast and saturation of frames by up to this share. Not used by flow."""
    subtract_mean_flow: bool = False
    """Subtract from each flow field its mean, which comes from a moving camera. Not used by rgb."""
    balanced: bool = False
    """Show every class equally often, however many clips it has."""
    least_steps: NumberOrNone = 0
    """Steps of an epoch, at least: a small training part is shown several times in an epoch until it has as many, each
    time with other crops. 0 shows it once."""
    probe: bool = True
    """First fit a classifier on the features of the frozen starting weights. At the end, the bundle keeps the trained
    weights, unless the frozen ones, or some on the way between, are clearly better on the validation part. The kept
    weights get a classifier fitted on train and val. Not used with weights none, nor by c3d and lrcn."""
    probe_rate: RateShare = 0.1
    """Training starts from the probe's classifier with this share of the learning rate; a larger rate would destroy the
    features that it starts with. 0 starts from a random classifier; flow from weights of images always does so."""
    freeze_batch_norms: bool = False
    """Freeze all batch norms but the first at the starting weights. A stream that starts from its probe's classifier
    always freezes all of them."""
    average_epochs: NumberOrNone = 0
    """Number of last epochs in which the weights are averaged over the steps. The best of these epochs is kept; earlier
    ones do not count. 0 averages nothing."""
    patience: NumberOrNone = 0
    """After this many epochs without a better one on the validation part, go straight to the averaged epochs, or stop
    if there are none. 0 never stops early."""
    gradient_clip: Norm = 20.0
    """Largest norm of the gradient; 0 turns clipping off."""
    precision: Precision = "auto"
    """Number format to compute in; auto is bf16 where the hardware computes it fast, else fp32."""
    device: Name = "auto"
    """auto, cpu, cuda or mps."""
    workers: Workers = 1
    """Processes that read clips; 0 reads in the training process."""
    save_minutes: Minutes = 10.0
    """Minutes between checkpoints inside an epoch; 0 makes checkpoints only after whole epochs."""
    seed: Seed = 0
    """Seed of everything that training draws at random."""
    fusion: UnfittedFusion = DEFAULT_FUSION
    """How the bundle fuses its streams until `calibrate` fits a fusion: product of the probabilities, or average, as in
    the paper."""
    licence: Text = "not stated"
    """Licence of the trained weights, for the model card."""

    def __post_init__(self):
        check_fields(self)
        if self.average_epochs > self.epochs:
            raise InputError(f"average_epochs ({self.average_epochs}) must be at most epochs ({self.epochs}): lower it")
        if self.freeze_batch_norms and self.weights == "none":
            raise InputError("freeze_batch_norms keeps the statistics of the starting weights: give weights, not none")


# Fields that a stream does not use: to change them changes nothing of that stream.
NOT_USED: dict[Stream, tuple[str, ...]] = {
    "rgb": ("stack_length", "subtract_mean_flow"),
    "flow": ("colour_jitter",),
}
RESULT_NEUTRAL = ("workers", "save_minutes", "device", "fusion", "licence")  # fields that do not change the result


def changed(base: TrainConfig, changes: Mapping[str, object]) -> TrainConfig:
    """The base with some fields changed; `TrainConfig` checks the values."""
    given: dict[str, Any] = dict(changes)  # the field names are known only at run time
    return replace(base, **given)


def with_algorithm(base: TrainConfig, algorithm: str) -> TrainConfig:
    """The base with the usual training settings of this family of networks.

    Raises:
        InputError: if there is no such family.
    """
    if algorithm == base.algorithm:
        return base
    from rgbflow.networks.families import family_of  # imports torch, which is too slow for --help

    return changed(base, {"algorithm": algorithm, **family_of(algorithm).defaults})


def completed(base: TrainConfig, given: Mapping[str, object]) -> TrainConfig:
    """The base with the given fields; fields not given follow the given algorithm and epochs.

    If the given epochs are fewer than the base averages, half of them are averaged; if they are no more than those of
    the base's warm-up, the warm-up ends in their middle. Random starting weights have no batch norms worth freezing.
    """
    if "algorithm" in given:
        base = with_algorithm(base, str(given["algorithm"]))
    fitting: dict[str, object] = {"freeze_batch_norms": False} if given.get("weights") == "none" else {}
    epochs = field_value(TrainConfig, "epochs", given.get("epochs", base.epochs))
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
        InputError: for the reasons of `load_config`.
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
        raise InputError(f"--config {path} is not TOML ({error}): write lines such as epochs = 30") from error
