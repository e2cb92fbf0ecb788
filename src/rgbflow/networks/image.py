"""The paper's network of one stream: an image classifier of timm, on a frame or on a stack of flow fields."""

import difflib
from types import ModuleType

from torch import Tensor, nn

from rgbflow.errors import InputError
from rgbflow.networks.family import Family, FeatureMap, Statistics
from rgbflow.stream import StreamSpec


def load_timm() -> ModuleType:
    """timm, which takes as long to import as torch; running exported networks does without it."""
    import timm

    return timm


def create_backbone(name: str, channels: int, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """A timm model with random weights; without its classifier for 0 classes.

    Raises:
        InputError: if timm has no such model; the message names the nearest one.
    """
    timm = load_timm()
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "timm.list_models() lists them"
        raise InputError(f"backbone {name!r} is unknown to timm: {hint}")
    return timm.create_model(name, in_chans=channels, num_classes=num_classes, drop_rate=dropout)


def image_statistics(backbone: str) -> Statistics:
    """Mean and std of RGB values in 0…1 that the published weights of a timm model expect."""
    config = load_timm().get_pretrained_cfg(backbone)
    return (tuple(config.mean), tuple(config.std)) if config else ((0.5,) * 3, (0.5,) * 3)


def _build(spec: StreamSpec, num_classes: int) -> nn.Module:
    return create_backbone(spec.backbone, spec.channels, num_classes, spec.dropout)


def _logits_and_features(backbone: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    feature_map = backbone.forward_features(images)
    return backbone.forward_head(feature_map), backbone.forward_head(feature_map, pre_logits=True)


# Every network of timm gives its last feature map and goes on from it, so no layer is named here: for ResNet it is what
# `layer4` puts out, for EfficientNet the output of the head's convolution.
FAMILY = Family(
    build=_build,
    logits_and_features=_logits_and_features,
    statistics=image_statistics,
    image_part=lambda backbone: backbone,
    feature_map=FeatureMap(
        make=lambda backbone, images: backbone.forward_features(images),
        read=lambda backbone, features: backbone.forward_head(features),
    ),
)
