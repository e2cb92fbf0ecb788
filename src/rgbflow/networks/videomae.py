"""VideoMAE (Tong et al. 2022), a transformer on videos, through transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from rgbflow.errors import InputError, first_line
from rgbflow.networks.family import Family, ReadyMade, Statistics, Weights
from rgbflow.networks.fetching import weights_folder
from rgbflow.stream import PLANES, Preparation, StreamSpec

if TYPE_CHECKING:
    from transformers import VideoMAEConfig

FRAMES, FRAME_RATE = 16, 7.5  # of a snippet: every fourth frame of 30 a second
SIZE = 224  # pixels
BLOCK = (2, 16)  # frames and pixels of what becomes a token
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES: dict[str, dict[str, Any]] = {  # by backbone: what is not as `VideoMAEConfig` has it
    "videomae_base": {},
    "videomae_large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
HOMES = {
    "videomae_base": "MCG-NJU/videomae-base-finetuned-kinetics",
    "videomae_large": "MCG-NJU/videomae-large-finetuned-kinetics",
}
LICENCE = "CC BY-NC 4.0, as VideoMAE's weights are, which are derived from Kinetics-400: not for commercial use"


class VideoMAE(nn.Module):
    """VideoMAE on snippets of several frames, with a classifier of its own.

    Args:
        backbone: a key of `SIZES`.
        planes: 3 for rgb, 2 for flow.
        frames: of a snippet, an even number.
        input_size: pixels, a multiple of 16.
        num_classes: K.
        dropout: before the classifier.

    Raises:
        InputError: if there is no such backbone, or transformers is missing.
    """

    def __init__(self, backbone: str, planes: int, frames: int, input_size: int, num_classes: int, dropout: float):
        super().__init__()
        config = _config(backbone, num_channels=planes, num_frames=frames, image_size=input_size)
        if frames % BLOCK[0] or input_size % BLOCK[1]:
            raise InputError(
                f"frames ({frames}) must be a multiple of {BLOCK[0]}, input_size ({input_size}) of {BLOCK[1]}: "
                f"{backbone} reads videos in blocks"
            )
        from transformers import VideoMAEForVideoClassification

        self.frames = frames
        self.trunk = cast(Any, VideoMAEForVideoClassification(config))  # which says of itself less than it has
        self.trunk.classifier = nn.Identity()
        first = "videomae.embeddings.patch_embeddings.projection"
        self.trunk.pretrained_cfg = {"classifier": "classifier", "first_conv": first}  # as timm's models say it
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(config.hidden_size, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, snippets: Tensor) -> Tensor:
        """What the classifier reads of snippets (N, L · planes, H, W), frame after frame: (N, D)."""
        return self.trunk(snippets.unflatten(1, (self.frames, -1)).contiguous()).logits

    def forward(self, snippets: Tensor) -> Tensor:
        """Class logits (N, K) of snippets, as `embed` takes them."""
        return self.classifier(self.dropout(self.embed(snippets)))

    def logits_and_features(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and features (N, D) of snippets, in evaluation."""
        features = self.embed(snippets)
        return self.classifier(features), features


def _config(backbone: str, **changes: Any) -> VideoMAEConfig:
    if backbone not in SIZES:
        raise InputError(f"backbone {backbone!r} is none of VideoMAE's: use {', '.join(SIZES)}")
    try:
        from transformers import VideoMAEConfig
    except ImportError as error:
        raise InputError("transformers is not installed: pip install 'rgbflow[transformers]'") from error
    return VideoMAEConfig(**{**SIZES[backbone], **changes})


def in_present_names(state: Weights) -> Weights:
    """The published weights by the names that transformers has now.

    It once called the biases of queries and values `q_bias` and `v_bias`. Its version 5 knows these names no more: it
    loads zeros instead, and the network gives other answers.
    """
    names = {"q_bias": "query.bias", "v_bias": "value.bias"}
    renamed = {}
    for name, value in state.items():
        rest, _, last = name.rpartition(".")
        renamed[f"{rest}.{names[last]}" if last in names else name] = value
    return renamed


def kinetics_weights(backbone: str) -> tuple[Weights, str]:
    """The published weights for Kinetics-400, and where they came from.

    Raises:
        InputError: if they can't be fetched.
    """
    path = _fetch(backbone, "model.safetensors")
    return in_present_names(safetensors.torch.load_file(path)), f"{HOMES[backbone]} on the Hugging Face Hub"


def kinetics_bundle(backbone: str) -> ReadyMade:
    """The network with its weights for Kinetics-400, prepared as its processor does."""
    labels = json.loads(_fetch(backbone, "config.json").read_text(encoding="utf-8"))["id2label"]
    classes = tuple(labels[str(index)] for index in range(len(labels)))
    preparation = Preparation(SIZE, jpeg_quality=None, frame_rate=FRAME_RATE, resize="antialias")
    spec = StreamSpec(
        "rgb", backbone, SIZE, FRAMES, MEAN, STD, crop_fraction=1.0, algorithm="videomae", frame_rate=FRAME_RATE
    )
    return ReadyMade(classes, preparation, spec, HOMES[backbone], "classifier")


def _fetch(backbone: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download

    home = HOMES[backbone]
    path = weights_folder() / home.replace("/", "--") / file
    if path.is_file():
        return path
    try:
        return Path(hf_hub_download(home, file))
    except Exception as error:  # each failure of the hub and of its transport has a class of its own
        raise InputError(
            f"{file} of {home} could not be fetched from the Hugging Face Hub ({first_line(error)}): bring its "
            f"config.json and model.safetensors to this machine and put them into {path.parent}"
        ) from error


def _statistics(_: str) -> Statistics:
    return MEAN, STD


def _build(spec: StreamSpec, num_classes: int) -> VideoMAE:
    planes = PLANES[spec.stream]
    return VideoMAE(spec.backbone, planes, spec.stack_length, spec.input_size, num_classes, spec.dropout)


FAMILY = Family(
    build=_build,
    logits_and_features=VideoMAE.logits_and_features,
    backbones=tuple(SIZES),
    statistics=_statistics,
    frames=FRAMES,
    frame_rate=FRAME_RATE,
    published={"kinetics": lambda spec: kinetics_weights(spec.backbone)},
    licences={"kinetics": LICENCE},
    ready_made=lambda _: kinetics_bundle("videomae_base"),
    present_names=in_present_names,
    loaded_part=lambda network: network.trunk,
    classifier=lambda network: network.classifier,
    memory_format=torch.contiguous_format,
    val_snippets=1,
    test_snippets=5,
    defaults={
        "backbone": "videomae_base",
        "weights": "kinetics",
        "input_size": SIZE,
        "num_segments": 1,
        "dropout": 0.5,
    },
)
