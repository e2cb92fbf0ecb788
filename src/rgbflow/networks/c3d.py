"""C3D, the 3D convolutional network that the paper compares with (Tran et al. 2015)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbflow.errors import InputError
from rgbflow.networks.family import Family
from rgbflow.stream import PLANES, StreamSpec

FRAMES = 16  # of a snippet (Tran et al. 2015, section 3.2)
WIDTHS = {"c3d": 64, "c3d_half": 32, "c3d_quarter": 16}  # channels of the first convolution; c3d is the published one
HIDDEN = 64  # neurons of fc6 and fc7 for each channel of the first convolution: 4096 in the published network
SMALLEST_INPUT = 32  # pixels; below, the pools leave nothing


class C3D(nn.Module):
    """Eight 3×3×3 convolutions, five max pools, two hidden layers and a classifier (Tran et al. 2015, section 3.3).

    The first pool does not reduce time, and the last is padded, so that 16 frames of 112×112 become 512×1×4×4. There is
    no batch norm. Layer names are those of the published network.

    Args:
        backbone: a key of `WIDTHS`.
        planes: 3 for rgb, 2 for flow.
        input_size: pixels; 112 in the paper.
        num_classes: K.
        dropout: dropout after fc6 and fc7; 0.5 in the published training.
    """

    def __init__(self, backbone: str, planes: int, input_size: int, num_classes: int, dropout: float):
        super().__init__()
        if backbone not in WIDTHS:
            raise InputError(f"backbone {backbone!r} is not for algorithm c3d: use {', '.join(WIDTHS)}")
        if input_size < SMALLEST_INPUT:
            raise InputError(f"input_size ({input_size}) must be at least {SMALLEST_INPUT} for c3d: 112 is usual")
        width = WIDTHS[backbone]
        self.pretrained_cfg = {"classifier": "fc8", "first_conv": "conv1"}  # as timm's models say it
        self.conv1 = _convolution(planes, width)
        self.conv2 = _convolution(width, 2 * width)
        self.conv3a = _convolution(2 * width, 4 * width)
        self.conv3b = _convolution(4 * width, 4 * width)
        self.conv4a = _convolution(4 * width, 8 * width)
        self.conv4b = _convolution(8 * width, 8 * width)
        self.conv5a = _convolution(8 * width, 8 * width)
        self.conv5b = _convolution(8 * width, 8 * width)
        side = (input_size // 16 + 2) // 2  # after four pools, and a fifth that is padded by one
        self.fc6 = nn.Linear(8 * width * side * side, HIDDEN * width)
        self.fc7 = nn.Linear(HIDDEN * width, HIDDEN * width)
        self.fc8 = nn.Linear(HIDDEN * width, num_classes)
        self.dropout = nn.Dropout(dropout)
        for layer in self.modules():
            if isinstance(layer, nn.Conv3d | nn.Linear):  # without batch norm, torch's own start lets the signal fade
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def embed(self, snippets: Tensor) -> Tensor:
        """The features that the classifier reads: the outputs of fc7.

        Args:
            snippets: (N, 16 · planes, H, W) float32, frame after frame, each with its planes.

        Returns:
            (N, HIDDEN · width).
        """
        x = snippets.unflatten(1, (FRAMES, -1)).transpose(1, 2)  # (N, planes, 16, H, W)
        x = F.max_pool3d(self.conv1(x).relu(), (1, 2, 2))
        x = F.max_pool3d(self.conv2(x).relu(), 2)
        x = F.max_pool3d(self.conv3b(self.conv3a(x).relu()).relu(), 2)
        x = F.max_pool3d(self.conv4b(self.conv4a(x).relu()).relu(), 2)
        x = self.conv5(x)
        x = F.max_pool3d(x, 2, padding=(0, 1, 1))
        x = self.dropout(self.fc6(torch.flatten(x, 1)).relu())
        return self.fc7(x).relu()

    def forward(self, snippets: Tensor) -> Tensor:
        """Class logits (N, K) of snippets, as `embed` takes them."""
        return self.fc8(self.dropout(self.embed(snippets)))

    def logits_and_features(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and features (N, D) of snippets, in evaluation."""
        features = self.embed(snippets)
        return self.fc8(features), features

    def conv5(self, x: Tensor) -> Tensor:
        """The last two convolutions, (N, 8 · width, 2, H, W) to the same.

        They train in float32 on a CPU: in bfloat16 oneDNN's gradient of the weights of a 3D convolution over two frames
        is wrong (infinite, or not a number) on processors with AVX-512 bf16 and no AMX; seen with torch 2.14.
        """
        if not self.training or x.device.type != "cpu":
            return self.conv5b(self.conv5a(x).relu()).relu()
        with torch.autocast("cpu", enabled=False):
            return self.conv5b(self.conv5a(x.float()).relu()).relu()


def _convolution(channels: int, out: int) -> nn.Conv3d:
    return nn.Conv3d(channels, out, kernel_size=3, padding=1)


def _build(spec: StreamSpec, num_classes: int) -> C3D:
    return C3D(spec.backbone, PLANES[spec.stream], spec.input_size, num_classes, spec.dropout)


FAMILY = Family(
    build=_build,
    logits_and_features=C3D.logits_and_features,
    backbones=tuple(WIDTHS),
    statistics=lambda backbone: ((0.5,) * 3, (0.5,) * 3),  # random weights expect no other
    frames=FRAMES,
    memory_format=torch.channels_last_3d,
    val_snippets=1,
    # Tran et al. 2015, section 3
    defaults={"backbone": "c3d", "weights": "none", "input_size": 112, "dropout": 0.5, "freeze_batch_norms": False},
)
