"""Networks that read videos, as torchvision has them: each a line here, with how it was published for Kinetics-400."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbflow.errors import InputError, first_line
from rgbflow.networks.family import Family, FeatureMap, ReadyMade, Statistics, Weights
from rgbflow.networks.fetching import fetch_weights
from rgbflow.stream import PLANES, Preparation, StreamSpec

if TYPE_CHECKING:
    from torchvision.models import Weights as WeightsRecord

Trunk = Any  # a network of torchvision without its head: their classes have no base that says what they share
LICENCE = (
    "derived from Kinetics-400; torchvision says that terms of that data set may hold for its weights: see "
    "https://github.com/pytorch/vision#pre-trained-model-license"
)
TEST_SNIPPETS = 5  # of a clip; torchvision's own tests take one to twelve


@dataclass(frozen=True)
class Published:
    """A network of torchvision and how its weights for Kinetics-400 were trained.

    Attributes:
        head: its classifier.
        first_conv: its first convolution.
        classifier: the linear layer within the head, as a state dict names it.
        frames: of a snippet.
        frame_rate: frames per second of a snippet.
        input_size: pixels.
        feature_map: from the trunk and a video (N, C, T, H, W) to what is pooled, (N, D, t, h, w); None for
            transformers.
        is_fixed: whether it reads no other number of frames and no other size.
    """

    head: str
    first_conv: str
    classifier: str
    frames: int
    frame_rate: float
    input_size: int
    feature_map: Callable[[Trunk, Tensor], Tensor] | None = None
    is_fixed: bool = False


def _of_resnet(trunk: Trunk, videos: Tensor) -> Tensor:
    return trunk.layer4(trunk.layer3(trunk.layer2(trunk.layer1(trunk.stem(videos)))))


def _of_s3d(trunk: Trunk, videos: Tensor) -> Tensor:
    return trunk.features(videos)


# Frames and rates are those that torchvision states beside the accuracy; of S3D, which it tests on 128 frames at once,
# those that it counts the operations of.
NETWORKS = {
    "s3d": Published("classifier", "features.0.0.0", "classifier.1", 16, 15.0, 224, _of_s3d),
    "r3d_18": Published("fc", "stem.0", "fc", 16, 15.0, 112, _of_resnet),
    "mc3_18": Published("fc", "stem.0", "fc", 16, 15.0, 112, _of_resnet),
    "r2plus1d_18": Published("fc", "stem.0", "fc", 16, 15.0, 112, _of_resnet),
    "mvit_v1_b": Published("head", "conv_proj", "head.1", 16, 7.5, 224, is_fixed=True),
    "mvit_v2_s": Published("head", "conv_proj", "head.1", 16, 7.5, 224, is_fixed=True),
    "swin3d_t": Published("head", "patch_embed.proj", "head", 32, 15.0, 224),
    "swin3d_s": Published("head", "patch_embed.proj", "head", 32, 15.0, 224),
    "swin3d_b": Published("head", "patch_embed.proj", "head", 32, 15.0, 224),
}


class VideoNetwork(nn.Module):
    """A network of torchvision on snippets of several frames, with a classifier of its own.

    Args:
        backbone: a key of `NETWORKS`.
        planes: 3 for rgb, 2 for flow.
        frames: of a snippet.
        input_size: pixels.
        num_classes: K.
        dropout: before the classifier.

    Raises:
        InputError: if there is no such network, or it reads another number of frames or another size.
    """

    def __init__(self, backbone: str, planes: int, frames: int, input_size: int, num_classes: int, dropout: float):
        super().__init__()
        published = _published(backbone)
        form = {"frames": (frames, published.frames), "input_size": (input_size, published.input_size)}
        for name, (found, wanted) in form.items():
            if published.is_fixed and found != wanted:
                raise InputError(f"{name} ({found}) must be {wanted} for {backbone}: s3d and r3d_18 read any")
        self.backbone, self.frames = backbone, frames
        self.trunk, width = _trunk(backbone, published, planes)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, snippets: Tensor) -> Tensor:
        """What the classifier reads of snippets (N, L · planes, H, W), frame after frame: (N, D).

        On a CPU it trains in float32: in bfloat16 oneDNN's gradient of the weights of a 3D convolution over two frames
        is garbage (infinite, or not a number) on processors with AVX-512 bf16 and no AMX; seen with torch 2.14.
        """
        videos = self.videos(snippets)
        if not self.training or videos.device.type != "cpu":
            return self.trunk(videos)
        with torch.autocast("cpu", enabled=False):
            return self.trunk(videos.float())

    def videos(self, snippets: Tensor) -> Tensor:
        """Snippets (N, L · planes, H, W) as torchvision's networks take them, (N, planes, L, H, W)."""
        return snippets.unflatten(1, (self.frames, -1)).transpose(1, 2)

    def forward(self, snippets: Tensor) -> Tensor:
        """Class logits (N, K) of snippets, as `embed` takes them."""
        return self.classifier(self.dropout(self.embed(snippets)))

    def logits_and_features(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and features (N, D) of snippets, in evaluation."""
        features = self.embed(snippets)
        return self.classifier(features), features


class ClippedMean(nn.Module):
    """The pooling of S3D, means over 2×7×7, or over less of it where a feature map is smaller."""

    def forward(self, features: Tensor) -> Tensor:
        kernel = [min(size, side) for size, side in zip((2, 7, 7), features.shape[2:], strict=True)]
        return F.avg_pool3d(features, kernel, stride=1)


def _published(backbone: str) -> Published:
    if backbone not in NETWORKS:
        raise InputError(f"backbone {backbone!r} is none of the video networks: use {', '.join(NETWORKS)}")
    return NETWORKS[backbone]


def _trunk(backbone: str, published: Published, planes: int) -> tuple[Trunk, int]:
    """The network with random weights, without its head, and D, how many numbers it gives."""
    import torchvision.models.video as networks  # takes as long to import as timm; exported networks do without it

    trunk = getattr(networks, backbone)()
    width = trunk.get_submodule(published.classifier).weight.shape[1]
    trunk.set_submodule(published.head, nn.Identity())
    if isinstance(trunk, networks.S3D):
        trunk.avgpool = ClippedMean()
    first = trunk.get_submodule(published.first_conv)
    if first.in_channels != planes:
        form = (first.out_channels, first.kernel_size, first.stride, first.padding)
        trunk.set_submodule(published.first_conv, nn.Conv3d(planes, *form, bias=first.bias is not None))
    trunk.pretrained_cfg = {"classifier": published.head, "first_conv": published.first_conv}  # as timm's models say it
    return trunk, width


def published_weights(backbone: str) -> WeightsRecord:
    """torchvision's record of the weights for Kinetics-400: their address, transforms and names of classes.

    Raises:
        InputError: if it has no such network.
    """
    from torchvision.models import get_model_weights

    _published(backbone)
    return cast("WeightsRecord", get_model_weights(backbone).DEFAULT.value)


def kinetics_weights(backbone: str) -> tuple[Weights, str]:
    """The published weights for Kinetics-400, and where they came from.

    Raises:
        InputError: if they can't be fetched, or are damaged.
    """
    url = published_weights(backbone).url
    try:
        return torch.load(fetch_weights(url), map_location="cpu", weights_only=True), url
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise InputError(f"{url} can't be read ({first_line(error)}): it is no state dict of torch") from error


def kinetics_bundle(backbone: str) -> ReadyMade:
    """The network with its weights for Kinetics-400, prepared as torchvision tests it but for the number of frames."""
    published, weights = _published(backbone), published_weights(backbone)
    height, *width = weights.transforms().resize_size  # of the shorter side alone, or of both
    preparation = Preparation(
        short_side=height,
        jpeg_quality=None,
        frame_rate=published.frame_rate,
        square=width == [height],
        width=None if width in ([], [height]) else width[0],
        resize="bilinear",
    )
    spec = StreamSpec(
        "rgb",
        backbone,
        published.input_size,
        published.frames,
        *kinetics_statistics(backbone),
        crop_fraction=published.input_size / height,
        algorithm=backbone,
        frame_rate=published.frame_rate,
    )
    return ReadyMade(tuple(weights.meta["categories"]), preparation, spec, weights.url, published.classifier)


def kinetics_statistics(backbone: str) -> Statistics:
    """Mean and std of RGB values in 0…1 that the published weights expect."""
    transforms = published_weights(backbone).transforms()
    return tuple(transforms.mean), tuple(transforms.std)


def _build(spec: StreamSpec, num_classes: int) -> VideoNetwork:
    planes = PLANES[spec.stream]
    return VideoNetwork(spec.backbone, planes, spec.stack_length, spec.input_size, num_classes, spec.dropout)


def _map_of(published: Published) -> FeatureMap[VideoNetwork] | None:
    find = published.feature_map
    if find is None:
        return None

    def read(network: VideoNetwork, feature_map: Tensor) -> Tensor:
        pooled = network.trunk.avgpool(feature_map).mean(dim=(2, 3, 4))
        return network.classifier(pooled)

    return FeatureMap(lambda network, snippets: find(network.trunk, network.videos(snippets)), read)


def _family(backbone: str, published: Published) -> Family[VideoNetwork]:
    return Family(
        build=_build,
        logits_and_features=VideoNetwork.logits_and_features,
        statistics=kinetics_statistics,
        backbones=(backbone,),
        frames=published.frames,
        frame_rate=published.frame_rate,
        published={"kinetics": lambda spec: kinetics_weights(spec.backbone)},
        licences={"kinetics": LICENCE},
        ready_made=kinetics_bundle,
        loaded_part=lambda network: network.trunk,
        classifier=lambda network: network.classifier,
        feature_map=_map_of(published),
        memory_format=torch.channels_last_3d,
        val_snippets=1,
        test_snippets=TEST_SNIPPETS,
        defaults={
            "backbone": backbone,
            "weights": "kinetics",
            "input_size": published.input_size,
            "num_segments": 1,
            "dropout": 0.5,
            "freeze_batch_norms": False,
        },
    )


FAMILIES = {backbone: _family(backbone, published) for backbone, published in NETWORKS.items()}
