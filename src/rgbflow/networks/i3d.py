"""Image networks of timm inflated to read videos (Carreira and Zisserman 2017): convolutions reach over time too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbflow.networks.family import Family, FeatureMap, no_feature_map
from rgbflow.networks.image import create_backbone, image_statistics, imagenet_weights
from rgbflow.stream import PLANES, StreamSpec

if TYPE_CHECKING:
    from rgbflow.networks.image import TimmNetwork

FRAMES = 16  # of a snippet; the paper reads 64
FRAME_RATE = 15.0  # frames per second of a snippet, as of the 3D networks of torchvision; the paper has 25
DEPTH = 3  # frames that an inflated convolution reaches over; the paper's N×N become N×N×N
QUARTER = 4  # time is halved where rows and columns are, from this reduction of the input on: three times mostly
PROBED_SIZE = 64  # pixels of the input by which it is found where that is


class InflatedConvolution(nn.Module):
    """A 2D convolution of frames that lie in the batch, which reaches over their neighbours in time.

    Before the first frame it stands again, after the last that one: a still video stays still. A convolution of single
    pixels stays as it is.

    Args:
        flat: what is inflated.
        frames: of a snippet, as they come in.
        halves: whether every second frame is left out.
    """

    def __init__(self, flat: nn.Conv2d, frames: int, halves: bool):
        super().__init__()
        weight = flat.weight.detach()
        self.weight = nn.Parameter(inflated(weight) if max(flat.kernel_size) > 1 else weight)
        self.bias = None if flat.bias is None else nn.Parameter(flat.bias.detach())
        self.frames, self.halves, self.groups = frames, halves, flat.groups
        self.stride, self.dilation = flat.stride, flat.dilation
        self.is_padded_same = type(flat).__name__ == "Conv2dSame"  # timm's, padded as TensorFlow does
        self.padding = (0, 0) if self.is_padded_same else flat.padding

    def forward(self, images: Tensor) -> Tensor:
        """(N · frames, C, H, W) to (N · frames, D, h, w), or half as many frames."""
        if self.weight.ndim == 4:
            kept = _every_second(images, self.frames)
            return F.conv2d(kept, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if self.is_padded_same:
            images = _padded_same(images, self.weight.shape[-2:], self.stride, self.dilation)
        videos = images.unflatten(0, (-1, self.frames)).transpose(1, 2)
        videos = torch.cat([videos[:, :, :1], videos, videos[:, :, -1:]], dim=2)  # DEPTH frames are one on each side
        stride, padding, dilation = (2 if self.halves else 1, *self.stride), (0, *self.padding), (1, *self.dilation)
        found = F.conv3d(videos, self.weight, self.bias, stride, padding, dilation, self.groups)
        return found.transpose(1, 2).flatten(0, 1)


class HalvingPool(nn.Module):
    """A pooling of frames that lie in the batch, which leaves out every second one."""

    def __init__(self, pool: nn.Module, frames: int):
        super().__init__()
        self.pool, self.frames = pool, frames

    def forward(self, images: Tensor) -> Tensor:
        """(N · frames, C, H, W) to (N · half as many frames, C, h, w)."""
        return self.pool(_every_second(images, self.frames))


def inflated(weight: Tensor) -> Tensor:
    """A filter (out, in, h, w) repeated over DEPTH frames and divided by it: (out, in, DEPTH, h, w)."""
    return weight[:, :, None].repeat(1, 1, DEPTH, 1, 1) / DEPTH


def _every_second(images: Tensor, frames: int) -> Tensor:
    return images.unflatten(0, (-1, frames))[:, ::2].flatten(0, 1)


def _padded_same(images: Tensor, kernel: torch.Size, stride: tuple[int, ...], dilation: tuple[int, ...]) -> Tensor:
    sizes = zip(images.shape[-2:], kernel, stride, dilation, strict=True)
    missing = [max((-(-side // step) - 1) * step + (size - 1) * gap + 1 - side, 0) for side, size, step, gap in sizes]
    (top, bottom), (left, right) = ((one // 2, one - one // 2) for one in missing)
    return F.pad(images, (left, right, top, bottom))


def inflate(network: TimmNetwork, planes: int, frames: int) -> int:
    """Inflate a convolutional network in place.

    Convolutions of more than a pixel reach over DEPTH frames. Time is halved in every layer that halves what is a
    quarter of the input or less, as in the 3D networks of torchvision.

    Args:
        network: of timm; it then takes (N · frames, planes, H, W).
        planes: of a frame.
        frames: of a snippet.

    Returns:
        How many frames are left at the end.

    Raises:
        InputError: if it has no feature map, as transformers.
    """
    sides, map_side = _sides_read(network, planes)
    for name, side in sides.items():
        layer, coming = network.get_submodule(name), _frames_at(side, frames)
        halves = getattr(layer, "stride", 1) in (2, (2, 2)) and side * QUARTER <= PROBED_SIZE
        if isinstance(layer, nn.Conv2d) and (halves or max(layer.kernel_size) > 1):
            network.set_submodule(name, InflatedConvolution(layer, coming, halves))
        elif halves:
            network.set_submodule(name, HalvingPool(layer, coming))
    return _frames_at(map_side, frames)


def _sides_read(network: TimmNetwork, planes: int) -> tuple[dict[str, int], int]:
    """How high an input of PROBED_SIZE pixels is when each convolution and pooling reads it, and at the end."""
    sides: dict[str, int] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: sides.update({name: given[0].shape[-2]}))
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.AvgPool2d | nn.MaxPool2d)
    ]
    network.eval()
    try:
        with torch.inference_mode():
            found = network.forward_features(torch.zeros(1, planes, PROBED_SIZE, PROBED_SIZE))
    except (RuntimeError, AssertionError) as error:
        raise no_feature_map(network) from error
    for hook in hooks:
        hook.remove()
    if found.ndim != 4 or found.shape[1] != network.num_features:
        raise no_feature_map(network)
    return sides, found.shape[-2]


def _frames_at(side: int, frames: int) -> int:
    """How many frames are left where an input of PROBED_SIZE pixels is still so high."""
    halvings = max(0, round(math.log2(PROBED_SIZE / QUARTER / side)))
    return -(-frames // 2**halvings)


class I3D(nn.Module):
    """An inflated image network on snippets of several frames.

    Args:
        backbone: a convolutional network of timm.
        planes: 3 for rgb, 2 for flow.
        frames: of a snippet.
        num_classes: K.
        dropout: before the classifier.
    """

    def __init__(self, backbone: str, planes: int, frames: int, num_classes: int, dropout: float):
        super().__init__()
        self.network, self.planes = create_backbone(backbone, planes, num_classes, dropout), planes
        self.frames_left = inflate(self.network, planes, frames)

    def feature_map(self, snippets: Tensor) -> Tensor:
        """What is pooled of snippets (N, L · planes, H, W): (N · frames left, D, h, w).

        On a CPU it trains in float32, see `VideoNetwork.embed`.
        """
        images = snippets.unflatten(1, (-1, self.planes)).flatten(0, 1)
        if not self.training or images.device.type != "cpu":
            return self.network.forward_features(images)
        with torch.autocast("cpu", enabled=False):
            return self.network.forward_features(images.float())

    def over_time(self, answers: Tensor) -> Tensor:
        """The mean over the frames left, (N · frames left, D) to (N, D)."""
        return answers.unflatten(0, (-1, self.frames_left)).mean(dim=1)

    def forward(self, snippets: Tensor) -> Tensor:
        """Class logits (N, K) of snippets, frame after frame."""
        return self.over_time(self.network.forward_head(self.feature_map(snippets)))

    def logits_and_features(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and features (N, D) of snippets, in evaluation."""
        maps = self.feature_map(snippets)
        features = self.network.forward_head(maps, pre_logits=True)
        return self.over_time(self.network.forward_head(maps)), self.over_time(features)


def _build(spec: StreamSpec, num_classes: int) -> I3D:
    return I3D(spec.backbone, PLANES[spec.stream], spec.stack_length, num_classes, spec.dropout)


def _make_feature_map(network: I3D, snippets: Tensor) -> Tensor:
    return network.feature_map(snippets).unflatten(0, (-1, network.frames_left)).transpose(1, 2)


def _read_feature_map(network: I3D, feature_map: Tensor) -> Tensor:
    return network.over_time(network.network.forward_head(feature_map.transpose(1, 2).flatten(0, 1)))


FAMILY = Family(
    build=_build,
    logits_and_features=I3D.logits_and_features,
    statistics=image_statistics,
    frames=FRAMES,
    frame_rate=FRAME_RATE,
    published={"imagenet": lambda spec: imagenet_weights(spec.backbone)},
    loaded_part=lambda backbone: backbone.network,
    classifier=lambda backbone: backbone.network.get_classifier(),
    feature_map=FeatureMap(_make_feature_map, _read_feature_map),
    memory_format=torch.contiguous_format,  # it has 2D and 3D convolutions: no other layout is one of both
    val_snippets=1,
    test_snippets=5,
    defaults={
        "backbone": "resnet50",
        "weights": "imagenet",
        "num_segments": 1,
        "dropout": 0.5,
        "freeze_batch_norms": False,
    },
    title="inflated {}",
)
