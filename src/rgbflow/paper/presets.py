"""The paper's settings, for training at its own scale or at a smaller one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from rgbflow.learn.config import TrainConfig
from rgbflow.stream import Stream

PresetName = Literal["paper"]

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
    num_segments=1,
    flip=True,
    label_smoothing=0.0,
    dropout=0.0,
    gradient_clip=0.0,
)
MOTION_BATCH_SIZE = 12
FIGURE_4_EPOCHS = 30


def table_i(stream: Stream) -> TrainConfig:
    """Table I of the paper for one of its two networks."""
    return replace(TABLE_I, batch_size=MOTION_BATCH_SIZE) if stream == "flow" else TABLE_I


PRESETS: dict[PresetName, Callable[[Stream], TrainConfig]] = {"paper": table_i}
