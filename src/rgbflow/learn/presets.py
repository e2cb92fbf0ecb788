"""Presets besides the paper's: settings that make two-stream networks accurate, on a GPU and without one."""

from dataclasses import replace

from rgbflow.learn.config import TrainConfig

# Every part is a field of its own that can be switched off; docs/training.md gives their sources.
STRONG = TrainConfig(
    backbone="resnet101",
    weights="imagenet",  # of flow's first convolution the mean over red, green and blue, repeated for all 2L channels
    input_size=224,
    stack_length=10,
    num_segments=3,
    epochs=80,
    batch_size=16,
    learning_rate=0.003,
    warmup_epochs=2.0,
    schedule="cosine",
    weight_decay=5e-4,
    label_smoothing=0.1,
    dropout=0.5,
    flip=True,
    multi_scale=True,
    corner_crops=True,
    subtract_mean_flow=True,
    balanced=True,
    probe=True,
    probe_rate=0.1,
    freeze_batch_norms=True,
    average_epochs=10,
    patience=30,
)

# For machines without a GPU. Lite0's weights are installed with rgbflow. Flow's batch norms learn; those of rgb, which
# starts from a probe, stay. docs/results/recipe.md has what was tried.
LITE = replace(
    STRONG,
    backbone="tf_efficientnet_lite0",
    input_size=192,
    epochs=40,
    batch_size=8,
    learning_rate=0.01,
    probe_rate=0.03,
    freeze_batch_norms=False,
    average_epochs=5,
)
