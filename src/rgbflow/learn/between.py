"""Which weights a training keeps: the trained ones, unless the frozen ones or some on the way between are better."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rgbflow.data.dataset import ClipDataset
from rgbflow.learn.probe import USUAL_STRENGTH, Head, classifier_of, clip_features, fit_head, put_head
from rgbflow.networks.family import Weights
from rgbflow.networks.stream_net import StreamNet

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the way from the starting weights to the trained ones


@dataclass(frozen=True, eq=False)
class Place:
    """A network on the way from its starting weights to its trained ones, as measured on the validation part.

    Attributes:
        share: of the way: 0 for the frozen network, 1 for the trained one.
        head: the classifier with the lower log loss, its own or one fitted on the train part.
        losses: (N,), log loss of each clip; infinite where the network's features are no numbers.
        top1: percent.
    """

    share: float
    head: Head
    losses: np.ndarray
    top1: float

    def is_clearly_better_than(self, other: "Place") -> bool:
        """Whether the mean loss is lower by more than one standard error of the difference over the clips."""
        if not np.isfinite(other.losses).all():
            return True
        gains = other.losses - self.losses
        return bool(gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else False


def between(start: Weights, end: Weights, share: float) -> Weights:
    """Weights on the straight way from one state dict to another; what is no float, such as a counter, is the end's."""
    if share == 0:  # whatever the end holds
        return start
    return {name: start[name].lerp(value, share) if value.is_floating_point() else value for name, value in end.items()}


def keep_best(
    network: StreamNet,
    start: Weights,
    train: ClipDataset,
    val: ClipDataset,
    groups: Sequence[str],
    device: torch.device | str = "cpu",
    workers: int = 0,
) -> Place:
    """Give a trained network the weights of the best place on its way, where that is clearly better than the end.

    Training on few clips can take a network too far. The networks on the way are often better than both ends (Wortsman
    et al. 2022, "Robust fine-tuning of zero-shot models"). The log loss chooses, since it tells more of few clips than
    top-1 does; of places that are about equal the trained network is kept.

    Args:
        network: on the device, with its trained weights.
        start: its state dict before training, with a fitted classifier.
        train: the clips to fit classifiers on, without random variation.
        val: the clips to choose on, without random variation.
        groups: of the train clips.
        device: where to compute.
        workers: processes that read clips.
    """
    start, end = {name: value.to(device) for name, value in start.items()}, weights_of(network)
    places = []
    for share in SHARES:
        network.load_state_dict(between(start, end, share))
        known, new = (clip_features(network, part, device, workers) for part in (train, val))
        places.append(_measure(network, share, known, new, train.labels, val.labels, groups))
    best = min(places, key=lambda place: place.losses.mean())
    kept = best if best.is_clearly_better_than(places[-1]) else places[-1]
    network.load_state_dict(between(start, end, kept.share))
    put_head(network, kept.head)
    return kept


def _measure(
    network: StreamNet,
    share: float,
    train: np.ndarray,
    val: np.ndarray,
    train_labels: Sequence[int],
    val_labels: Sequence[int],
    groups: Sequence[str],
) -> Place:
    """The place with the features of its network: of the train part (M, D) and of the validation part (N, D)."""
    layer = classifier_of(network)
    assert layer is not None  # else no classifier could have been fitted before training
    own = Head(layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy(), USUAL_STRENGTH)
    if not (np.isfinite(train).all() and np.isfinite(val).all()):  # training has exploded
        return Place(share, own, np.full(len(val), np.inf), 0.0)
    fitted = fit_head(train, train_labels, groups, network.num_classes, (USUAL_STRENGTH,))
    places = []
    for head in (own, fitted):
        top1, losses = head.measure(val, val_labels)
        places.append(Place(share, head, losses, top1))
    return min(places, key=lambda place: place.losses.mean())


def weights_of(network: StreamNet) -> Weights:
    """A copy of a network's state dict, which later steps don't change."""
    return {name: value.clone() for name, value in network.state_dict().items()}
