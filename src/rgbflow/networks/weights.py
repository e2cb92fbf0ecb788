"""The starting weights of a network: published, from a file, or random."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rgbflow.bundle import RECORD
from rgbflow.errors import InputError, first_line
from rgbflow.networks.families import FAMILIES, family_of
from rgbflow.networks.family import Weights
from rgbflow.networks.image import has_motion_weights
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import StreamSpec

MOTION = "motion"
CLASSIFIER_STD = 0.01  # of the random classifier on loaded weights, so that the first loss is that of an even guess


class SkippedRandomStart(TorchFunctionMode):
    """Networks built in this context get no random weights, because all their weights are loaded next.

    Drawing the 85 million random numbers of two ResNet101s takes about a second. A normal distribution becomes its
    mean: `trunc_normal_`, the start of transformers, draws again until all values are within its bounds, and what
    happens to lie in fresh memory never is.
    """

    def __torch_function__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if function is Tensor.normal_:
            return args[0].fill_(args[1] if len(args) > 1 else kwargs.get("mean", 0.0))
        draws = function is Tensor.uniform_ or getattr(function, "__module__", "") == nn.init.__name__
        return [*args, *kwargs.values()][0] if draws else function(*args, **kwargs)  # the tensor comes first


def initialise(network: StreamNet, spec: StreamSpec, weights: str) -> str:
    """Give a network its starting weights.

    Args:
        network: changed in place.
        spec: its stream.
        weights: "none" (random), the name of published weights of the stream's family, such as "imagenet", the path of
            a .safetensors or .pth file with a state dict, or a bundle's folder, for the weights of its same stream.

    Returns:
        One line that says where the weights came from.

    Raises:
        InputError: if the weights can't be found or don't fit the backbone.
    """
    if weights == "none":
        return "random weights"
    family = family_of(spec.algorithm)
    if weights in family.published:
        state, origin = family.published[weights](spec)
    else:
        path = Path(weights)
        if (path / RECORD).is_file():
            path = path / f"{spec.stream}.safetensors"
        state, origin = family.present_names(_read_weights(str(path), spec.algorithm)), str(path)
    _load_weights(family.loaded_part(network.backbone), state, origin)
    return f"weights from {origin}"


def are_of_flow(weights: str, spec: StreamSpec) -> bool:
    """Whether starting weights of a flow stream were trained on flow: they expect its values, and tell u from v."""
    if spec.stream != "flow":
        return False
    return has_motion_weights(spec) if weights == MOTION else (Path(weights) / RECORD).is_file()


def load_published(network: StreamNet, spec: StreamSpec, weights: str, head: str) -> None:
    """Give a network published weights and the classifier that came with them.

    Args:
        network: changed in place; of as many classes as the weights.
        spec: its stream.
        weights: a name that the stream's family has published weights under.
        head: the linear layer of the published classifier.

    Raises:
        InputError: as `initialise`.
    """
    family = family_of(spec.algorithm)
    state, origin = family.published[weights](spec)
    _load_weights(family.loaded_part(network.backbone), state, origin)
    if family.classifier is None:
        raise InputError(f"{spec.algorithm} has no classifier to load: use one of the video networks")
    layer = family.classifier(network.backbone)
    layer.load_state_dict(
        {
            name: state[f"{head}.{name}"].flatten(1) if name == "weight" else state[f"{head}.{name}"]
            for name in ("weight", "bias")
        }
    )


def _read_weights(file: str, algorithm: str) -> Weights:
    path, names = Path(file), ", ".join(["none", *family_of(algorithm).published])
    if not path.is_file():
        if path.exists():
            raise InputError(f"weights file {path} is no regular file: give a .safetensors or .pth file")
        if any(file in family.published for family in FAMILIES.values()):
            raise InputError(f"--weights {file} is not for {algorithm}: pass {names}, or a file")
        raise InputError(f"weights file {path} does not exist: pass {names}, a .safetensors or .pth file, or a bundle")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = dict(state.get("state_dict", state))
        # As it stands in the file of a network that was trained on many GPUs.
        return {name.removeprefix("module."): value for name, value in state.items() if torch.is_tensor(value)}
    except Exception as error:  # a damaged file fails in many ways, pickled code among them: none is loaded
        raise InputError(f"weights file {path} can't be read ({first_line(error)}): pass a state dict") from error


def check_values(state: Weights, wanted: Mapping[str, Tensor], origin: str) -> None:
    """Refuse weights of another kind of number than the network's, and those that are none.

    Raises:
        InputError: that names the first such tensor.
    """
    for name, value in state.items():
        if name in wanted and value.is_floating_point() != wanted[name].is_floating_point():
            raise InputError(f"{origin}: {name} holds {value.dtype}, not {wanted[name].dtype}: give other weights")
        # A sum is a fourth of the work; it may be infinite where all values are finite.
        if value.is_floating_point() and not value.float().sum().isfinite() and not value.float().isfinite().all():
            raise InputError(f"{origin}: {name} holds values that are infinite or no numbers: give other weights")


def _load_weights(backbone: nn.Module, state: Weights, origin: str) -> None:
    """Copy all weights except those of the classifiers; the first convolutions are adapted to the stream's channels."""
    state = {name.removeprefix("backbone."): value for name, value in state.items()}
    classifiers = tuple(f"{name}." for name in _names(backbone, "classifier"))
    wanted = {name: value for name, value in backbone.state_dict().items() if not name.startswith(classifiers)}
    state = {name: value for name, value in state.items() if not name.startswith(classifiers)}
    state = {name: _inflated(value, wanted[name]) if name in wanted else value for name, value in state.items()}
    for name in _names(backbone, "first_conv"):
        first = f"{name}.weight"
        if first in state and first in wanted:
            state[first] = fit_first_convolution(state[first], wanted[first].shape[1])
    different = [name for name in wanted | state if name not in wanted or name not in state]
    different = [name for name in different if not name.endswith(".num_batches_tracked")]  # older files have none
    different += [name for name in wanted if name in state and wanted[name].shape != state[name].shape]
    if different:
        raise InputError(
            f"the weights from {origin} do not fit the backbone: {len(different)} tensors are missing, unknown or of "
            f"another shape, {different[0]!r} first"
        )
    check_values(state, wanted, origin)
    backbone.load_state_dict(state, strict=False)
    for name in _names(backbone, "classifier"):
        layer = backbone.get_submodule(name)
        if isinstance(layer, nn.Linear):  # timm's own start of some classifiers is so large that it shakes the rest
            nn.init.normal_(layer.weight, std=CLASSIFIER_STD)
            nn.init.zeros_(layer.bias)


def _inflated(weight: Tensor, wanted: Tensor) -> Tensor:
    """The filter of an image network for the same one inflated: repeated over time, and divided by how often."""
    if weight.ndim != 4 or wanted.ndim != 5:
        return weight
    depth = wanted.shape[2]
    return weight[:, :, None].repeat(1, 1, depth, 1, 1) / depth


def _names(backbone: nn.Module, what: str) -> tuple[str, ...]:
    """The modules timm calls "classifier" or "first_conv": one, several or none."""
    # torch takes each attribute of a module for a tensor or another module.
    config = cast(Mapping[str, str | Sequence[str]], backbone.pretrained_cfg)
    names = config.get(what) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def fit_first_convolution(weight: Tensor, channels: int) -> Tensor:
    """Average a first convolution over its input channels and repeat it for a stream with other channels.

    Args:
        weight: (out, in, ...); returned unchanged if `in` is already `channels`.
        channels: 2L for flow (Wang et al. 2016, section 4.1, cross-modality initialisation).
    """
    if weight.shape[1] == channels:
        return weight
    return weight.mean(dim=1, keepdim=True).repeat_interleave(channels, dim=1)
