"""The network of one stream: a backbone applied to each snippet, and the mean of its logits."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rgbflow.errors import InputError, first_line
from rgbflow.networks.families import check_form, family_of
from rgbflow.stream import StreamSpec


class StreamNet(nn.Module):
    """The network of one stream: a backbone applied to each snippet, and the mean of its logits.

    Args:
        spec: the stream; its algorithm names the family that builds the backbone.
        num_classes: K.
    """

    def __init__(self, spec: StreamSpec, num_classes: int):
        super().__init__()
        self.num_classes = num_classes
        self.family = family_of(spec.algorithm)
        check_form(spec)
        self.backbone = self.family.build(spec, num_classes)

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout in which its convolutions are fastest."""
        return self.family.memory_format

    def forward(self, snippets: Tensor) -> Tensor:
        """Class logits of whole clips: the consensus (mean) over their snippets.

        Args:
            snippets: (B, S, C, H, W) float32, from `transforms.to_input`.

        Returns:
            (B, K) float32 logits.
        """
        return self.backbone(_as_images(snippets)).float().unflatten(0, snippets.shape[:2]).mean(dim=1)

    def features(self, snippets: Tensor) -> Tensor:
        """The features of each snippet; in evaluation the classifier turns them into the snippet's logits.

        Args:
            snippets: (B, S, C, H, W) float32, from `transforms.to_input`.

        Returns:
            (B, S, D) float32.
        """
        return self.logits_and_features(snippets)[1]

    def logits_and_features(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features of each snippet in one pass: (B, S, K) and (B, S, D) float32, in evaluation."""
        logits, features = self.family.logits_and_features(self.backbone, _as_images(snippets))
        batch = snippets.shape[:2]
        return logits.float().unflatten(0, batch), features.float().unflatten(0, batch)


def _as_images(snippets: Tensor) -> Tensor:
    return snippets.flatten(0, 1).contiguous(memory_format=torch.channels_last)


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """All batch norms in the order of the network.

    Frozen batch norms keep the statistics of the starting weights, since small batches of small data sets give poor
    ones. All but the first can be frozen while the first adapts to the new input (Wang et al. 2016, section 3.2:
    partial BN).
    """
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def bytes_kept(network: nn.Module, snippets: Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass beside the weights, counting each storage once."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(snippets)
    weights = {value.untyped_storage().data_ptr() for value in network.parameters()}
    return sum(size for storage, size in kept.items() if storage not in weights)


def check_input(network: nn.Module, spec: StreamSpec) -> int:
    """Make sure that the backbone can read inputs of the stream's size.

    Returns:
        The bytes that a snippet keeps for the backward pass, in float32.

    Raises:
        InputError: if it can't.
    """
    network.eval()
    snippet = torch.zeros(1, 1, spec.channels, spec.input_size, spec.input_size)
    try:
        return bytes_kept(network, snippet)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"backbone {spec.backbone} can't read {spec.input_size}×{spec.input_size} inputs ({first_line(error)}): "
            "choose another input_size or backbone"
        ) from error
