"""The paper's settings, for training at its own scale or at a smaller one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from rgbflow.learn.config import RESULT_NEUTRAL, TrainConfig, changed, with_algorithm
from rgbflow.stream import Stream

# Table I, and below the line what the paper leaves open: docs/paper.md gives the reason for each.
TABLE_I = TrainConfig(
    backbone="resnet101",
    input_size=224,
    epochs=100,
    batch_size=16,  # of the spatial network; MOTION_BATCH_SIZE for the motion network
    optimizer="sgd-momentum",
    learning_rate=5e-4,
    schedule="exponential",
    stack_length=1,  # one (u, v) pair
    # ---
    decay=0.95,
    momentum=0.9,
    weight_decay=0.0,
    warmup_epochs=0.0,
    weights="imagenet",
    probe=False,
    num_segments=1,
    flip=True,
    label_smoothing=0.0,
    dropout=0.0,
    gradient_clip=0.0,
    fusion="average",
)
MOTION_BATCH_SIZE = 12
SHOWN = (
    "backbone",
    "weights",
    "input_size",
    "stack_length",
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
)  # of the settings beside a figure


@dataclass(frozen=True)
class Scale:
    """Changes to the paper's scale; a field that is None keeps the paper's value."""

    backbone: str | None = None
    """Backbone of both streams and of the LSTM's features; resnet101 if not given."""
    weights: str | None = None
    """Starting weights of these backbones: none, imagenet or a file; imagenet if not given."""
    input_size: int | None = None
    """Input size of these backbones in pixels; 224 if not given."""
    c3d_backbone: str | None = None
    """Backbone of C3D: c3d, or c3d_half or c3d_quarter with fewer channels; c3d if not given."""
    c3d_input_size: int | None = None
    """Input size of C3D in pixels; 112 if not given."""
    video_weights: str | None = None
    """Starting weights of the video networks that are added to table2: none, kinetics or a file; kinetics if not
    given."""
    video_frames: int | None = None
    """Frames in a snippet of these video networks; as many as their family is published with if not given."""
    video_input_size: int | None = None
    """Input size of these video networks in pixels; that which their family is published with if not given."""
    stack_length: int | None = None
    """Flow fields in a snippet (L); 1 if not given, a single pair (u,v)."""
    epochs: int | None = None
    """Epochs of every training; if not given 100, for fig4 30."""
    batch_size: int | None = None
    """Batch size of every training; if not given 16, of the flow stream 12."""
    learning_rate: float | None = None
    """Learning rate at the start of every training; 0.0005 if not given."""
    flip: bool = True
    """Mirror half of the clips. Turn it off where classes differ only in left and right."""
    device: str = "auto"
    """auto, cpu, cuda or mps; auto runs one training on each GPU."""
    workers: int = 1
    """Processes that read clips, for each training."""


def table_i(stream: Stream) -> TrainConfig:
    """Table I of the paper for one of its two networks."""
    return replace(TABLE_I, batch_size=MOTION_BATCH_SIZE) if stream == "flow" else TABLE_I


def scaled(stream: Stream, algorithm: str, scale: Scale, seed: int) -> TrainConfig:
    """Table I for a network of the paper, or one that the paper compares with, at another scale."""
    base = with_algorithm(table_i(stream), algorithm)
    changes = {
        **_form(algorithm, scale),
        "stack_length": scale.stack_length,
        "epochs": scale.epochs,
        "batch_size": scale.batch_size,
        "learning_rate": scale.learning_rate,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(changed(base, given), flip=scale.flip, device=scale.device, workers=scale.workers, seed=seed)


def _form(algorithm: str, scale: Scale) -> dict[str, object]:
    """What a scale says of the backbone and the input of one network."""
    if algorithm == "c3d":
        return {"backbone": scale.c3d_backbone, "input_size": scale.c3d_input_size}
    if algorithm in ("two-stream", "lrcn"):
        return {"backbone": scale.backbone, "weights": scale.weights, "input_size": scale.input_size}
    inflated = {"backbone": scale.backbone, "weights": scale.weights} if algorithm == "i3d" else {}
    return {
        "weights": scale.video_weights,
        "frames": scale.video_frames,
        "input_size": scale.video_input_size,
        **inflated,
    }


def settings_table(scale: Scale, networks: Mapping[str, tuple[Stream, str]], paper_scale: Scale) -> list[dict]:
    """The settings of each network; a star marks values that differ from Table I.

    Args:
        scale: scale of the runs.
        networks: stream and algorithm by name.
        paper_scale: the paper's scale; Figure 4 has fewer epochs than Table I.
    """
    rows = []
    for name, (stream, algorithm) in networks.items():
        here, paper = (asdict(scaled(stream, algorithm, chosen, seed=0)) for chosen in (scale, paper_scale))
        hidden = [key for key in here if key not in (*SHOWN, *RESULT_NEUTRAL) and here[key] != paper[key]]
        rows.append(
            {
                "network": name,
                **{key: f"{here[key]}{'' if here[key] == paper[key] else ' *'}" for key in SHOWN},
                "also other": ", ".join(f"{key} {here[key]} *" for key in hidden) or "nothing",
            }
        )
    return rows
