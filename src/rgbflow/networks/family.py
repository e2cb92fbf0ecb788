"""A family of networks: one record says how its networks are built, what they read and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from rgbflow.errors import InputError
from rgbflow.stream import NUM_SNIPPETS, Preparation, StreamSpec

Weights = dict[str, Tensor]  # a state dict
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of RGB values in 0…1, three numbers each
Backbone = TypeVar("Backbone", bound=nn.Module)  # the class of a family's networks


@dataclass(frozen=True)
class FeatureMap(Generic[Backbone]):
    """The feature map of a network, from which class activation maps are made.

    Attributes:
        make: from a backbone and its input (N, C, H, W) to the map, (N, D, h, w) for D features, or
            (N, D, t, h, w) of a 3D network. It raises
            `no_feature_map` for a backbone without such a map.
        read: from the backbone and the map to the logits (N, K).
    """

    make: Callable[[Backbone, Tensor], Tensor]
    read: Callable[[Backbone, Tensor], Tensor]


@dataclass(frozen=True)
class ReadyMade:
    """A published network as it was trained: what a bundle of it says.

    Attributes:
        classes: K names.
        preparation: of its test.
        spec: of its rgb stream.
        source: where its weights are from, their hash included.
        head: the linear layer of its classifier, as the published state dict names it.
    """

    classes: tuple[str, ...]
    preparation: Preparation
    spec: StreamSpec
    source: str
    head: str


def no_feature_map(backbone: nn.Module) -> InputError:
    """The error for class activation maps of a network that has no feature map."""
    return InputError(
        f"backbone {type(backbone).__name__} has no feature map before its pooling to make class activation maps of: "
        "use a convolutional network of timm, such as resnet101, or do without the maps"
    )


def _unchanged(state: Weights) -> Weights:
    return state


def _whole(backbone: nn.Module) -> nn.Module:
    return backbone


@dataclass(frozen=True)
class Family(Generic[Backbone]):
    """A kind of network for a stream. A new kind takes one file with such a record, and one line in `families.py`.

    Attributes:
        build: from a stream's record and the number of classes K to a backbone with random weights. The backbone maps
            snippets (N, C, H, W) float32 to logits (N, K). Of a snippet of several frames, C holds frame after frame.
        logits_and_features: from a backbone in evaluation and its snippets to the logits (N, K) and the features: the
            vectors (N, D) that the classifier reads.
        backbones: names of its backbones; empty for a family whose backbones are timm's.
        statistics: from a backbone's name to the mean and std that its published weights expect.
        frames: frames of a snippet, in both streams; None: one frame of rgb, `stack_length` fields of flow.
        stride: distance from one frame of a snippet to the next.
        frame_rate: frames per second of a snippet, whatever the rate of a clip, as its published weights know them. A
            family with it reads videos; a training may choose another number of frames and another rate.
        published: how to get weights that have a name, such as "imagenet", which `--weights` takes: from a stream's
            record to a state dict and the origin of the weights.
        licences: by the same names, the licence on the card of a bundle that starts from these weights.
        ready_made: from a backbone's name to its published network as a bundle; None where there is none.
        present_names: from a state dict of published weights to the names that the backbone's layers have now.
        loaded_part: the part of a backbone that published weights and weights of a file belong to. Like a model of
            timm, it has a dictionary `pretrained_cfg` that names its "first_conv" and its "classifier".
        classifier: from a backbone to its last layer, which reads the features; None for a family without fitted heads.
        feature_map: None where the network has none.
        memory_format: the layout in which its convolutions are fastest.
        val_snippets: snippets per clip in the validation after each epoch.
        test_snippets: snippets per clip and stream where the user gives no other number.
        defaults: training settings that replace those of any base, such as `{"dropout": 0.5}`.
        title: name of a backbone of this family in tables.
    """

    build: Callable[[StreamSpec, int], Backbone]
    logits_and_features: Callable[[Backbone, Tensor], tuple[Tensor, Tensor]]
    statistics: Callable[[str], Statistics]
    backbones: tuple[str, ...] = ()
    frames: int | None = None
    stride: int = 1
    frame_rate: float | None = None
    published: Mapping[str, Callable[[StreamSpec], tuple[Weights, str]]] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    ready_made: Callable[[str], ReadyMade] | None = None
    present_names: Callable[[Weights], Weights] = _unchanged
    loaded_part: Callable[[Backbone], nn.Module] = _whole
    classifier: Callable[[Backbone], nn.Module] | None = None
    feature_map: FeatureMap[Backbone] | None = None
    memory_format: torch.memory_format = torch.channels_last
    val_snippets: int = 3
    test_snippets: int = NUM_SNIPPETS
    defaults: Mapping[str, object] = field(default_factory=dict)
    title: str = "{}"

    @property
    def images(self) -> int:
        """Images that the network computes for a snippet: each of its frames, unless a training chose
        another number, or one stack. Plans count them."""
        return self.frames or 1
