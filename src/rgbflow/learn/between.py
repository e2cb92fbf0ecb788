"""Which weights a training keeps: the starting ones, the trained ones, or some on the way between them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rgbflow.data.dataset import ClipDataset
from rgbflow.learn.probe import USUAL_STRENGTH, clip_features, fit_head, put_head, val_figures
from rgbflow.networks.family import Weights
from rgbflow.networks.stream_net import StreamNet

SHARES = (0.25, 0.5, 0.75, 1.0)  # of the way that are compared with its start


@dataclass(frozen=True)
class Kept:
    """The weights that a training keeps.

    Attributes:
        share: of the way from the starting weights to the trained ones: 0 for the frozen network, 1 for the trained.
        val_top1: percent on the validation part, by the network's own classifier or one fitted on the train part.
        val_loss: mean log loss there.
    """

    share: float
    val_top1: float
    val_loss: float


def between(start: Weights, end: Weights, share: float) -> Weights:
    """Weights on the straight way from one state dict to another; what is no float, such as a counter, is the end's."""
    return {name: start[name].lerp(value, share) if value.is_floating_point() else value for name, value in end.items()}


def keep_best(
    network: StreamNet,
    start: Weights,
    ends: tuple[Kept, Kept],
    train: ClipDataset,
    val: ClipDataset,
    groups: Sequence[str],
    device: torch.device | str = "cpu",
    workers: int = 0,
) -> Kept:
    """Give a trained network those weights between its start and its end that have the least log loss on val.

    Training on few clips can take a network too far. The weights on the way are networks, too, and often better than
    both ends (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). Each is measured with a classifier
    fitted on the train part, the end with its own as well. The log loss chooses, since it tells more of few clips than
    top-1 does.

    Args:
        network: on the device, with its trained weights.
        start: its state dict before training, with a fitted classifier.
        ends: figures of the start and of the trained network with its own classifier.
        train: the clips to fit on, without random variation.
        val: the clips to choose on, without random variation.
        groups: of the train clips.
        device: where to compute.
        workers: processes that read clips.
    """
    end, start = weights_of(network), {name: value.to(device) for name, value in start.items()}
    best, weights = (ends[1], end) if ends[1].val_loss < ends[0].val_loss else (ends[0], start)
    for share in SHARES:
        network.load_state_dict(between(start, end, share))
        features = clip_features(network, train, device, workers)
        if not np.isfinite(features).all():  # where training has exploded
            continue
        head = fit_head(features, train.labels, groups, network.num_classes, (USUAL_STRENGTH,))
        put_head(network, head)
        top1, loss = val_figures(head, clip_features(network, val, device, workers), val.labels)
        if loss < best.val_loss:
            best, weights = Kept(share, top1, loss), weights_of(network)
    network.load_state_dict(weights)
    return best


def weights_of(network: StreamNet) -> Weights:
    """A copy of a network's state dict, which later steps don't change."""
    return {name: value.clone() for name, value in network.state_dict().items()}
