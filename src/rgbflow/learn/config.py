"""The settings of a training run; each is declared here once and is a flag and a TOML key by itself."""

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
    """The family of the network: two-stream (the paper's: an image classifier); c3d or lrcn (an LSTM), that the paper
    compares with; or a video network: i3d (one of timm, inflated), s3d, r3d_18, mc3_18, r2plus1d_18, mvit_v1_b,
    mvit_v2_s, swin3d_t, swin3d_s, swin3d_b. All but two-stream bring a backbone, a size and more of their own."""
    backbone: str = "resnet101"
    """An image classifier of timm; for c3d: c3d, c3d_half or c3d_quarter; of a video network but i3d its
    own name."""
    weights: str = "imagenet"
    """Starting weights: none, imagenet, for video networks kinetics, or a .safetensors or .pth file."""
    input_size: int = 224
    """Pixels; the network sees input_size × input_size."""
    crop_fraction: float = 0.875
    """Side of the centre square that is shown outside training, as a share of the short side."""
    stack_length: int = STACK_LENGTH
    """Flow fields in a snippet (L); the paper's single pair (u,v) is 1. Not used by rgb and by networks that read
    several frames."""
    frames: int = 0
    """Frames, or flow fields, in a snippet of a video network; 0 is what its family is published with."""
    frame_rate: float = 0.0
    """Frames per second of such a snippet, whatever the rate of a clip; 0 is what its family is published with."""
    num_segments: int = 1
    """Snippets of a clip per training step (S); their consensus is trained."""
    epochs: int = 50
    batch_size: int = 16
    """Clips per step and process."""
    optimizer: Optimizer = "sgd-momentum"
    learning_rate: float = 0.005
    """At the start, after the warm-up."""
    schedule: Schedule = "cosine"
    """Cosine to zero; exponential by decay per epoch; or constant."""
    decay: float = 0.95
    """Factor per epoch of the exponential schedule."""
    warmup_epochs: float = 1.0
    """The learning rate rises linearly from zero over these epochs."""
    momentum: float = 0.9
    """Of sgd-momentum."""
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    dropout: float = 0.0
    """Before the classifier."""
    flip: bool = True
    """Mirror half of the clips. Wrong for classes that differ in left and right."""
    multi_scale: bool = True
    """Crops of random size and shape, not only of the size that a test sees."""
    corner_crops: bool = False
    """Crops lie in a corner or the centre, not anywhere."""
    colour_jitter: float = 0.0
    """Brightness, contrast and saturation of frames vary by up to this share. Not used by flow."""
    subtract_mean_flow: bool = False
    """Subtract from each flow field its mean, which a moving camera makes. Not used by rgb."""
    balanced: bool = False
    """Show every class equally often, however many clips it has."""
    probe: bool = True
    """Fit a classifier on the features of the frozen starting weights first, and keep these weights if no epoch is
    better on the validation part. Training of rgb starts from it; flow's features must become others. Not used where
    weights are none, and by c3d and lrcn."""
    probe_rate: float = 0.1
    """Of the learning rate, for an rgb stream that starts from a probe: more would shake what it begins with."""
    freeze_batch_norms: bool = False
    """Keep all batch norms but the first as they came with the starting weights. An rgb stream that starts from a probe
    keeps all of them, whatever this says."""
    average_epochs: int = 0
    """In this many last epochs the weights are the mean over the steps so far, and the best of them is kept, whatever
    the epochs before; 0 averages nothing."""
    patience: int = 0
    """After this many epochs in a row without a better one on the validation part, go on with the last epochs, those
    that are averaged, or stop if none are; 0 never does so."""
    gradient_clip: float = 20.0
    """Largest norm of the gradient; 0 turns clipping off."""
    precision: Precision = "auto"
    """auto is bf16 where the hardware computes it fast, else fp32."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    workers: int = 1
    """Processes that read clips; 0 reads in the training process."""
    save_minutes: float = 10.0
    """Time between checkpoints inside an epoch; 0 makes them after whole epochs only."""
    seed: int = 0
    fusion: UnfittedFusion = DEFAULT_FUSION
    """Of the bundle until `calibrate` fits one: average of the streams' probabilities, as in the paper, or product."""
    licence: str = "not stated"
    """Of the trained weights, for the model card."""

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
            raise InputError(f"average_epochs ({self.average_epochs}) must be at most epochs ({self.epochs})")
        if self.freeze_batch_norms and self.weights == "none":
            raise InputError("freeze_batch_norms keeps those of the starting weights: it needs weights, not none")
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


def load_config(path: Path, base: TrainConfig | None = None) -> TrainConfig:
    """Read a TrainConfig from a TOML file whose keys are its fields.

    Args:
        path: the file.
        base: gives the fields that the file leaves out, the defaults if None; changed to the file's algorithm where
            it names one.

    Raises:
        InputError: if the file is missing or no TOML, a key is unknown (the nearest right one is named) or a value
            has the wrong type.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path} can't be read ({error.strerror}): pass a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is no TOML ({error}): write lines such as epochs = 30") from error
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
