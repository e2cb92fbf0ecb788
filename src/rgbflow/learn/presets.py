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
    least_steps=15,  # a set of 42 clips has 6 of a batch of 8, and 240 steps taught it too little
    probe=True,
    probe_rate=0.1,
    freeze_batch_norms=True,
    average_epochs=10,
    patience=30,
)

# For machines without a GPU. Lite0's weights are installed with rgbflow. Batch norms learn, and no stream starts from
# its probe: where frozen features are a poor start (people and places that all classes share), gentle training stays
# there; where they are a good one, val keeps the bundle at or near them. Varied colours keep rgb from learning a place
# by its colours. docs/results/recipe.md has what was tried.
LITE = replace(
    STRONG,
    backbone="tf_efficientnet_lite0",
    weights="motion",  # flow begins with what synthetic people teach: docs/results/motion.md
    input_size=192,
    epochs=40,
    batch_size=8,
    learning_rate=0.01,
    probe_rate=0.0,
    freeze_batch_norms=False,
    colour_jitter=0.4,
    average_epochs=5,
)

# A network that has seen Kinetics starts nearer to the goal: fewer epochs, one snippet, which is a video already.
VIDEO = replace(
    STRONG,
    algorithm="s3d",
    backbone="s3d",
    weights="kinetics",
    num_segments=1,
    epochs=30,
    batch_size=8,
    freeze_batch_norms=False,
    average_epochs=5,
)

# For a GPU. Transformers learn by Adam, at rates far below those of convolutions (Li et al. 2022, MViTv2).
VIDEO_STRONG = replace(
    VIDEO, algorithm="mvit_v2_s", backbone="mvit_v2_s", optimizer="adam", learning_rate=5e-5, weight_decay=0.0
)
