"""The settings of a training run: each field declared here is also a flag and a TOML key."""

import dataclasses
import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rgbflow.errors import InputError
from rgbflow.stream import DEFAULT_FUSION, STACK_LENGTH, Stream, UnfittedFusion

Optimizer = Literal["sgd-momentum", "sgd", "asgd", "adam"]
Schedule = Literal["cosine", "exponential", "constant"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainConfig:
    """How one stream is trained."""

    algorithm: str = "two-stream"
    """Family of the network: two-stream is the paper's, an image classifier; the paper compares it with c3d and lrcn
    (an LSTM). Video networks are i3d (one of timm, inflated), s3d, r3d_18, mc3_18, r2plus1d_18, mvit_v1_b, mvit_v2_s,
    swin3d_t, swin3d_s, swin3d_b. All but two-stream change the defaults of backbone, input size and more."""
    backbone: str = "resnet101"
    """Name of an image classifier of timm; for c3d: c3d, c3d_half or c3d_quarter; for a video network other than i3d
    its own name."""
    weights: str = "imagenet"
    """Starting weights: none, imagenet, for video networks kinetics, or a .safetensors or .pth file."""
    input_size: int = 224
    """The network's input is input_size × input_size pixels."""
    crop_fraction: float = 0.875
    """Side of the centre crop used outside training, as a share of the frame's shorter side."""
    stack_length: int = STACK_LENGTH
    """Flow fields in a snippet (L); 1 is the paper's single pair (u,v). Not used by rgb and by networks that read
    several frames."""
    frames: int = 0
    """Frames, or flow fields, in a snippet of a video network; 0 takes the number that its family is published with."""
    frame_rate: float = 0.0
    """Frames per second of such a snippet, whatever the rate of a clip; 0 takes the published rate."""
    num_segments: int = 1
    """Snippets of a clip per training step (S); the loss is that of their mean logits."""
    epochs: int = 50
    """Passes over the training part."""
    batch_size: int = 16
    """Clips per step and process."""
    optimizer: Optimizer = "sgd-momentum"
    """One of the four optimizers that the paper compares."""
    learning_rate: float = 0.005
    """Learning rate after the warm-up."""
    schedule: Schedule = "cosine"
    """How the learning rate falls: cosine to zero, exponential by decay per epoch, or constant."""
    decay: float = 0.95
    """Factor per epoch of the exponential schedule."""
    warmup_epochs: float = 1.0
    """The learning rate rises linearly from zero over these epochs."""
    momentum: float = 0.9
    """Momentum of sgd-momentum."""
    weight_decay: float = 5e-4
    """Weight decay of the optimizer (L2)."""
    label_smoothing: float = 0.0
    """Share of each label that is spread evenly over all classes."""
    dropout: float = 0.0
    """Dropout before the classifier."""
    flip: bool = True
    """Mirror half of the clips. Turn it off where classes differ only in left and right."""
    multi_scale: bool = True
    """Draw crops of random size and shape, not only of the size that a test uses."""
    corner_crops: bool = False
    """Draw crops only in the corners and the centre, not anywhere."""
    colour_jitter: float = 0.0
    """Vary brightness, contrast and saturation of frames by up to this share. Not used by flow."""
    subtract_mean_flow: bool = False
    """Subtract from each flow field its mean, which comes from a moving camera. Not used by rgb."""
    balanced: bool = False
    """Show every class equally often, however many clips it has."""
    probe: bool = True
    """First fit a classifier on the features of the frozen starting weights. Training of rgb starts from it; training
    of flow does not, since flow needs other features. If no epoch is better on the validation part, the bundle keeps
    the frozen network. Not used with weights none, nor by c3d and lrcn."""
    probe_rate: float = 0.1
    """An rgb stream that starts from a probe uses this share of the learning rate; more would destroy what it starts
    with."""
    freeze_batch_norms: bool = False
    """Freeze all batch norms but the first at the starting weights. An rgb stream that starts from a probe always
    freezes all of them."""
    average_epochs: int = 0
    """Number of last epochs in which the weights are averaged over the steps; the best of these epochs is kept, and
    earlier ones do not count. 0 averages nothing."""
    patience: int = 0
    """After this many epochs without a better one on the validation part, go straight to the averaged epochs, or stop
    if there are none. 0 never stops early."""
    gradient_clip: float = 20.0
    """Largest norm of the gradient; 0 turns clipping off."""
    precision: Precision = "auto"
    """Number format to compute in; auto is bf16 where the hardware computes it fast, else fp32."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    workers: int = 1
    """Processes that read clips; 0 reads in the training process."""
    save_minutes: float = 10.0
    """Minutes between checkpoints inside an epoch; 0 makes checkpoints only after whole epochs."""
    seed: int = 0
    """Seed of everything that training draws at random."""
    fusion: UnfittedFusion = DEFAULT_FUSION
    """How the bundle fuses its streams until `calibrate` fits a fusion: average of the probabilities, as in the paper,
    or product."""
    licence: str = "not stated"
    """Licence of the trained weights, for the model card."""

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(f"{name} ({value}) must be a finite number: the default is {_default(name)}")
        if self.seed >= 2**32:
            raise InputError(f"seed ({self.seed}) must be below 2^32: the default is 0")
        for name in (
            "input_size",
            "stack_length",
            "num_segments",
            "epochs",
            "batch_size",
            "learning_rate",
            "decay",
            "probe_rate",
        ):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} ({getattr(self, name)}) must be above 0: the default is {_default(name)}")
        may_be_zero = (
            "frames",
            "frame_rate",
            "warmup_epochs",
            "momentum",
            "weight_decay",
            "average_epochs",
            "patience",
            "gradient_clip",
        )
        for name in (*may_be_zero, "workers", "save_minutes", "seed"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"{name} ({getattr(self, name)}) must not be negative: the default is {_default(name)}"
                )
        if self.average_epochs > self.epochs:
            raise InputError(f"average_epochs ({self.average_epochs}) must be at most epochs ({self.epochs}): lower it")
        if self.freeze_batch_norms and self.weights == "none":
            raise InputError("freeze_batch_norms keeps the statistics of the starting weights: give weights, not none")
        if not 0 < self.crop_fraction <= 1:
            raise InputError(f"crop_fraction ({self.crop_fraction}) must be in (0, 1]: the default is 0.875")
        if not 0 <= self.colour_jitter <= 1:
            raise InputError(f"colour_jitter ({self.colour_jitter}) must be in [0, 1]: 0.6 is strong, the default is 0")
        for name in ("label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} ({getattr(self, name)}) must be in [0, 1): the default is {_default(name)}")
        choices = {"optimizer": Optimizer, "schedule": Schedule, "precision": Precision, "fusion": UnfittedFusion}
        for name, allowed in choices.items():
            if getattr(self, name) not in get_args(allowed):
                raise InputError(f"{name} ({getattr(self, name)!r}) must be one of {', '.join(get_args(allowed))}")


# Fields that a stream does not use: to change them changes nothing of that stream.
NOT_USED: dict[Stream, tuple[str, ...]] = {
    "rgb": ("stack_length", "subtract_mean_flow"),
    "flow": ("colour_jitter", "probe_rate"),
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


def load_config(path: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a TrainConfig from a TOML file whose keys are its fields.

    Args:
        path: the file.
        base: settings for the fields that the file leaves out, the defaults if None. If the file names an algorithm,
            the usual settings of that algorithm come on top of the base.

    Raises:
        InputError: if the file is missing or not TOML, if a key is unknown (the message suggests the nearest one), or
            if a value has the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path} can't be read ({error.strerror}): pass a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is not TOML ({error}): write lines such as epochs = 30") from error
    fields = {field.name: field for field in dataclasses.fields(TrainConfig)}
    for key, value in values.items():
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"the keys are {', '.join(fields)}"
            raise InputError(f"--config {path}: unknown key {key!r}: {hint}")
        values[key] = _as_type_of(fields[key].default, key, value, path)
    base = base or TrainConfig()
    if "algorithm" in values:
        base = with_algorithm(base, values["algorithm"])
    return replace(base, **values)


def _as_type_of(default: object, key: str, value: object, path: Path) -> object:
    wanted = type(default)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise InputError(f"--config {path}: {key} = {value!r} must be a {wanted.__name__}, such as {default!r}")
    return value


def _default(name: str) -> object:
    return TrainConfig.__dataclass_fields__[name].default
