"""The network of one stream: a backbone applied to each snippet, and the mean of its answers."""

import difflib
from types import ModuleType

import torch
from torch import Tensor, nn

from rgbflow.errors import InputError, first_line
from rgbflow.networks import c3d, lrcn
from rgbflow.stream import PLANES, Algorithm, StreamSpec


class StreamNet(nn.Module):
    """A backbone applied to each snippet, and the mean of its answers: the network of one stream.

    Args:
        spec: the stream. Its algorithm says what the backbone is: an image classifier of timm (two-stream: the
            paper's), one with an LSTM over its features (lrcn), or a 3D network (c3d).
        num_classes: K.
    """

    def __init__(self, spec: StreamSpec, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        planes = PLANES[spec.stream]
        if spec.algorithm == "c3d":
            self.backbone = c3d.C3D(spec.backbone, planes, spec.input_size, num_classes, spec.dropout)
        elif spec.algorithm == "lrcn":
            features = create_backbone(spec.backbone, planes, num_classes=0)
            self.backbone = lrcn.LRCN(features, features.num_features, num_classes, spec.dropout)
        else:
            self.backbone = create_backbone(spec.backbone, spec.channels, num_classes, spec.dropout)
        # The layout in which convolutions are fastest; a 3D network has another.
        self.memory_format = torch.channels_last_3d if spec.algorithm == "c3d" else torch.channels_last

    def forward(self, snippets: Tensor) -> Tensor:
        """Class logits of whole clips: the consensus (mean) over their snippets.

        Args:
            snippets: (B, S, C, H, W) float32, from `transforms.to_input`.

        Returns:
            (B, K) float32 logits.
        """
        return self.backbone(_as_images(snippets)).float().unflatten(0, snippets.shape[:2]).mean(dim=1)

    def features(self, snippets: Tensor) -> Tensor:
        """What the classifier reads of each snippet; the classifier's answer to it, in evaluation, is its logits.

        Args:
            snippets: (B, S, C, H, W) float32, from `transforms.to_input`.

        Returns:
            (B, S, D) float32.
        """
        return self._embed(_as_images(snippets)).float().unflatten(0, snippets.shape[:2])

    def _embed(self, images: Tensor) -> Tensor:
        if isinstance(self.backbone, c3d.C3D | lrcn.LRCN):
            return self.backbone.embed(images)
        return self.backbone.forward_head(self.backbone.forward_features(images), pre_logits=True)


def _as_images(snippets: Tensor) -> Tensor:
    return snippets.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def lazy_timm() -> ModuleType:
    """timm, which takes as long to import as torch; who runs exported networks does without it."""
    import timm

    return timm


def create_backbone(name: str, channels: int, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """A timm model with random weights; without its classifier for 0 classes.

    Raises:
        InputError: if timm has no such model; the message names the nearest one.
    """
    if not lazy_timm().is_model(name):
        nearest = difflib.get_close_matches(name, lazy_timm().list_models(), n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else "timm.list_models() lists them"
        raise InputError(f"backbone {name!r} is unknown to timm: {hint}")
    return lazy_timm().create_model(name, in_chans=channels, num_classes=num_classes, drop_rate=dropout)


def batch_norms(network: nn.Module) -> list[nn.Module]:
    """All batch norms in the order of the network.

    Frozen, they keep the statistics of the starting weights: small batches of small data sets give poor ones. All but
    the first can be frozen while that one learns the new input (Wang et al. 2016, section 3.2: partial BN).
    """
    return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def image_statistics(backbone: str, algorithm: Algorithm) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of RGB values in 0…1 that the backbone's published weights expect, three numbers each."""
    if algorithm == "c3d":
        return c3d.STATISTICS
    config = lazy_timm().get_pretrained_cfg(backbone)
    return (tuple(config.mean), tuple(config.std)) if config else ((0.5,) * 3, (0.5,) * 3)


def check_input(network: nn.Module, spec: StreamSpec) -> None:
    """Raise InputError if the backbone can't read inputs of the stream's size."""
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, 1, spec.channels, spec.input_size, spec.input_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"backbone {spec.backbone} can't read {spec.input_size}×{spec.input_size} inputs ({first_line(error)}): "
            "choose another input_size or backbone"
        ) from error
