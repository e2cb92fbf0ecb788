"""A family of networks: one record says how such a network is built, what it reads and what it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from rgbflow.stream import StreamSpec

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of RGB values in 0…1, three numbers each


@dataclass(frozen=True)
class FeatureMap:
    """Where a network has a feature map that class activation maps are made of.

    Attributes:
        make: from a backbone and its input (N, C, H, W) to the map, (N, D, h, w) for D features.
        read: from the backbone and the map to the logits (N, K).
    """

    make: Callable[[nn.Module, Tensor], Tensor]
    read: Callable[[nn.Module, Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    """A kind of network for a stream. A further kind is one file with such a record, and one line in `families.py`.

    Attributes:
        build: from a stream's record and the number of classes K to a backbone with random weights. The backbone maps
            snippets (N, C, H, W) float32 to logits (N, K).
        logits_and_features: from a backbone in evaluation and its snippets to the logits (N, K) and the features: the
            vectors (N, D) that the classifier reads.
        statistics: from a backbone's name to the mean and std that its published weights expect.
        frames: of a snippet, in both streams; None: one frame of rgb, `stack_length` fields of flow.
        stride: from one frame of a snippet to the next.
        images: how many images the network computes for a snippet; plans count them.
        image_part: the part of a backbone that takes ImageNet weights; None where no part does.
        feature_map: None where the network has none.
        memory_format: the layout in which its convolutions are fastest.
        val_snippets: of a clip that are looked at after each epoch.
        defaults: settings of training that differ from those of any base, such as `{"dropout": 0.5}`.
        title: how tables show a backbone of this family.
    """

    build: Callable[[StreamSpec, int], nn.Module]
    logits_and_features: Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]
    statistics: Callable[[str], Statistics]
    frames: int | None = None
    stride: int = 1
    images: int = 1
    image_part: Callable[[nn.Module], nn.Module] | None = None
    feature_map: FeatureMap | None = None
    memory_format: torch.memory_format = torch.channels_last
    val_snippets: int = 3
    defaults: Mapping[str, object] = field(default_factory=dict)
    title: str = "{}"
