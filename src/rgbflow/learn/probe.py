"""A linear classifier on the features of a network: fitted before training, which may start from it, and at the end."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn
from torch.utils.data import DataLoader

from rgbflow.atomic import write_atomically
from rgbflow.data.dataset import ClipDataset, DrawnDataset, collate_drawn, finish
from rgbflow.errors import InputError, first_line
from rgbflow.learn.config import TrainConfig
from rgbflow.networks.stream_net import StreamNet, batch_norms

STRENGTHS = tuple(10.0 ** np.arange(-4, 0.1, 0.5))  # inverse of the penalty on squared weights, from firm to free
USUAL_STRENGTH = 10.0**-1.5  # where held-out clips can't choose it; the middle of those chosen on three sets
SNIPPETS = 5  # of each clip, for the features that a classifier is fitted on
FOLDS = 5
MANY_CLIPS = 2000  # above it one fold tells the strength as well as five
SMALLEST_VARIANCE = 1e-12  # where all features are the same in all clips
NEVER = -30.0  # bias of a class without a clip
BATCH = 8  # clips whose features are computed at a time
Number = TypeVar("Number", float, Tensor)
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier in the form of a network's own last layer: logits = features @ weight.T + bias.

    Attributes:
        weight: (K, D) float32.
        bias: (K,) float32.
        strength: inverse of the penalty on its squared weights, for features of unit spread.
        top1: accuracy in percent of heads of this strength on held-out groups; NaN if no group could be held out, or
            if no strength had to be chosen.
    """

    weight: np.ndarray
    bias: np.ndarray
    strength: float
    top1: float = float("nan")

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The logits (N, K) of features (N, D)."""
        return features @ self.weight.T + self.bias

    def measure(self, features: np.ndarray, labels: Sequence[int]) -> tuple[float, np.ndarray]:
        """Top-1 in percent and the log loss of each clip, (N,) float32, of features (N, D) and labels (N,)."""
        logits, truth = torch.from_numpy(self.logits(features)), torch.tensor(labels)
        top1 = 100 * (logits.argmax(1) == truth).float().mean().item()
        return top1, F.cross_entropy(logits, truth, reduction="none").numpy()


def fit_head(
    features: np.ndarray,
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    num_classes: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Head:
    """Fit a multinomial logistic regression with the strength that has the least log loss on held-out groups.

    Args:
        features: (N, D), a row per clip.
        labels: (N,) class indices.
        groups: the group of each clip; where the strength is chosen, no group is on both sides.
        num_classes: K, the largest label plus one if None; a class without a clip is never the answer.
        strengths: to choose from; a single one is taken as it is.

    Raises:
        InputError: if the numbers of rows differ, a feature is not finite, or there are fewer than two classes.

    >>> head = fit_head(np.array([[0.0], [1.0], [5.0], [6.0]]), [0, 0, 1, 1], ["a", "b", "a", "b"])
    >>> head.logits(np.array([[0.5], [5.5]])).argmax(1)
    array([0, 1])
    """
    features, labels, groups = np.asarray(features, np.float64), np.asarray(labels), np.asarray(groups)
    if not len(features) == len(labels) == len(groups):
        raise InputError(
            f"features ({len(features)}), labels ({len(labels)}) and groups ({len(groups)}) must have the same "
            "length: give one of each for every clip"
        )
    if not np.isfinite(features).all():
        raise InputError("features must be finite numbers, but the network gives others: check its weights")
    if len(np.unique(labels)) < 2:
        raise InputError(f"labels hold one class ({labels[:1]}): a head needs two: add clips of another class")
    num_classes = num_classes or int(labels.max()) + 1
    strength, top1 = float(strengths[0]), float("nan")
    if len(strengths) > 1:
        strength, top1 = _choose_strength(features, labels, groups, num_classes, strengths)
    ((weight, bias),) = _fits(features, labels, (strength,), num_classes)
    return Head(weight.astype(np.float32), bias.astype(np.float32), strength, top1)


def _choose_strength(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, num_classes: int, strengths: Sequence[float]
) -> tuple[float, float]:
    """The strength with the least log loss on held-out groups, and its top-1 there in percent.

    (USUAL_STRENGTH, NaN) if no group can be held out.
    """
    losses, hits, count = np.zeros(len(strengths)), np.zeros(len(strengths)), 0
    for fitted, held_out in _group_folds(labels, groups):
        held_out = held_out[np.isin(labels[held_out], labels[fitted])]  # of other classes a head can't know
        if not len(held_out) or len(np.unique(labels[fitted])) < 2:
            continue
        count += len(held_out)
        for place, (weight, bias) in enumerate(_fits(features[fitted], labels[fitted], strengths, num_classes)):
            logits, truth = features[held_out] @ weight.T + bias, labels[held_out]
            losses[place] += F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth), reduction="sum").item()
            hits[place] += (logits.argmax(1) == truth).sum()
    if not count:
        return USUAL_STRENGTH, float("nan")
    best = int(losses.argmin())
    return float(strengths[best]), float(100 * hits[best] / count)


def _group_folds(labels: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of indices, fitted and held out, with no group in both; no pairs for a single group."""
    folds = min(FOLDS, len(np.unique(groups)), int(np.bincount(labels).max()))
    if folds < 2:
        return []
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*least populated class.*")
        pairs = list(cut.split(labels, labels, groups))
    return pairs if len(labels) <= MANY_CLIPS else pairs[:1]


def _fits(
    features: np.ndarray, labels: np.ndarray, strengths: Sequence[float], num_classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weight (K, D) and bias (K,) of a head of each strength; each fit starts from the one before."""
    # Halfway between unit spread and the features as they are. A feature that hardly varies gets no large weight:
    # such a weight would trust what new people and places change first, and would shake the features under fine-tuning.
    mean, variance = features.mean(0), features.var(0)
    spread = np.sqrt((variance + max(variance.mean(), SMALLEST_VARIANCE)) / 2)
    rows, axes = (features - mean) / spread, None
    if len(rows) < rows.shape[1]:  # a penalty on squares keeps the weights in the span of the clips: fewer numbers
        left, sizes, axes = np.linalg.svd(rows, full_matrices=False)  # the axes of that span
        rows = left * sizes
    model = LogisticRegression(max_iter=1000, tol=1e-3, warm_start=True)
    for strength in strengths:
        model.set_params(C=strength).fit(rows, labels)
        own = model.coef_ if axes is None else model.coef_ @ axes
        own_bias = model.intercept_
        if len(own) == 1:  # of two classes scikit-learn gives the second's lead
            own, own_bias = np.concatenate([-own, own]) / 2, np.concatenate([-own_bias, own_bias]) / 2
        weight, bias = np.zeros((num_classes, features.shape[1])), np.full(num_classes, NEVER)
        weight[model.classes_] = own / spread
        bias[model.classes_] = own_bias - weight[model.classes_] @ mean
        yield weight, bias


@torch.inference_mode()
def clip_features(
    network: StreamNet, dataset: ClipDataset, device: torch.device | str = "cpu", workers: int = 0
) -> np.ndarray:
    """The features of each clip with the network as it is: the mean over the clip's snippets.

    Args:
        network: on the device; it is put into evaluation mode.
        dataset: without random variation, so that clips are read as in evaluation.
        device: the device to compute on.
        workers: processes that read clips; 0 reads in this process.

    Returns:
        (N, D) float32. For a linear classifier, the logits of the mean equal the consensus of the snippets.
    """
    network.eval()
    return np.concatenate(
        [network.features(inputs).mean(1).cpu().numpy() for inputs in _batches(dataset, device, workers)]
    )


def _batches(dataset: ClipDataset, device: torch.device | str, workers: int) -> Iterator[Tensor]:
    """All clips in their order, (B, S, C, H, W) each."""
    keys = [(0, index) for index in range(len(dataset))]
    loader = DataLoader(DrawnDataset(dataset), BATCH, sampler=keys, collate_fn=collate_drawn, num_workers=workers)
    for batch in loader:
        yield finish(batch, dataset.spec, torch.device(device))[0]


def put_head(network: StreamNet, head: Head) -> None:
    """Copy the head into the network's classifier.

    Raises:
        InputError: if the network's classifier is not one linear layer of that size.
    """
    layer = classifier_of(network)
    shape = layer and tuple(layer.weight.shape)
    if layer is None or shape != head.weight.shape:
        raise InputError(f"a head of {head.weight.shape} weights does not fit the network's classifier ({shape})")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))


def with_head(network: StreamNet, head: Head) -> StreamNet:
    """A network with another classifier, for as many classes as the head has; it shares all other layers.

    Raises:
        InputError: if the network's classifier is not one linear layer.
    """
    former = classifier_of(network)
    if former is None:
        raise InputError(f"the networks of {network.family.title.format('this family')} have no linear classifier")
    name = next(name for name, module in network.named_modules() if module is former)
    layer = nn.Linear(former.in_features, len(head.bias), device=former.weight.device)
    copied = _with_module(network, name, layer)
    copied.num_classes = len(head.bias)
    put_head(copied, head)
    return copied


def _with_module(module: Module, name: str, part: nn.Module) -> Module:
    """A copy of a module with another part at a dotted name; it shares all its other parts."""
    first, _, rest = name.partition(".")
    copied = copy.copy(module)
    copied._modules = {**module._modules, first: _with_module(getattr(module, first), rest, part) if rest else part}
    return copied


def classifier_of(network: StreamNet) -> nn.Linear | None:
    """The network's last layer, if its family names it and it is linear with a bias; else None."""
    find = network.family.classifier
    layer = find(network.backbone) if find else None
    return layer if isinstance(layer, nn.Linear) and layer.bias is not None else None


@torch.inference_mode()
def settle_first_batch_norm(
    network: StreamNet, dataset: ClipDataset, device: torch.device | str = "cpu", workers: int = 0
) -> None:
    """Measure the statistics of the network's first batch norm again; without batch norms nothing changes.

    The starting weights were trained on images. For flow, their first convolution gives values of another scale, but
    all later layers expect values as the first batch norm makes them from images.
    """
    layers = [layer for layer in batch_norms(network)[:1] if layer.track_running_stats]
    if not layers:
        return
    (first,), moments = layers, []  # of each batch: its values per channel, their sum, the sum of their squares

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].float().transpose(0, 1).flatten(1).cpu().double()
        moments.append((values.shape[1], values.sum(1), values.square().sum(1)))

    network.eval()
    with first.register_forward_pre_hook(note):
        for batch in _batches(dataset, device, workers):
            network.features(batch)
    counts, sums, squares = zip(*moments, strict=True)
    mean = sum(sums) / sum(counts)
    state = first.state_dict()  # shares the layer's memory
    state["running_mean"].copy_(mean)
    state["running_var"].copy_(sum(squares) / sum(counts) - mean.square())


@dataclass(frozen=True)
class Probe:
    """The figures of a frozen network with a fitted head.

    Attributes:
        strength: strength of its head.
        cross_validated_top1: percent on held-out groups of the train part; NaN if no group could be held out.
        val_top1: percent on the validation part.
        val_loss: mean log loss on the validation part.
    """

    strength: float
    cross_validated_top1: float
    val_top1: float
    val_loss: float

    def save(self, network: StreamNet, path: Path) -> None:
        """Save the figures and the network."""
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        figures = {name: str(value) for name, value in asdict(self).items()}
        write_atomically(path, safetensors.torch.save(state, figures))


def load_probe(network: StreamNet, path: Path) -> Probe:
    """Read the file of `Probe.save`: load the weights into the network and return the figures.

    Raises:
        InputError: if the file is missing, damaged, or of another network.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            return Probe(**{name: float(value) for name, value in file.metadata().items()})
    except (OSError, safetensors.SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{path} can't be read ({first_line(error)})"
        raise InputError(f"{reason}: delete {path.parent} to train from the beginning") from error


def fit_probe(
    network: StreamNet,
    train: ClipDataset,
    val: ClipDataset,
    groups: Sequence[str],
    device: torch.device | str = "cpu",
    workers: int = 0,
    of_images: bool = True,
) -> Probe:
    """Fit a head on the features of a network with starting weights, put it into the network, and measure it.

    Args:
        network: on the device.
        train: the clips to fit on, without random variation.
        val: the clips to measure on, read as after each epoch.
        groups: the groups of the train clips.
        device: the device to compute on.
        workers: processes that read clips.
        of_images: whether the starting weights were trained on images; then the first batch norm of a flow network is
            measured again.
    """
    if train.spec.stream == "flow" and of_images:
        settle_first_batch_norm(network, train, device, workers)
    head = fit_head(clip_features(network, train, device, workers), train.labels, groups, network.num_classes)
    put_head(network, head)
    top1, losses = head.measure(clip_features(network, val, device, workers), val.labels)
    return Probe(head.strength, head.top1, top1, float(losses.mean()))


def refit_head(
    network: StreamNet,
    clips: ClipDataset,
    groups: Sequence[str],
    strength: float,
    device: torch.device | str = "cpu",
    workers: int = 0,
) -> None:
    """Give a network a head fitted on its features, at a strength that is known.

    Args:
        network: on the device.
        clips: all clips that may be learned from, train and val, without variation.
        groups: of these clips.
        strength: of the head.
        device: where to compute.
        workers: processes that read clips.
    """
    features = clip_features(network, clips, device, workers)
    put_head(network, fit_head(features, clips.labels, groups, network.num_classes, (strength,)))


def is_fitted(network: StreamNet, config: TrainConfig) -> bool:
    """Whether training the network with these settings starts from a fitted head."""
    return config.probe and config.weights != "none" and classifier_of(network) is not None


def validation_rank(top1: Number, loss: Number) -> Number:
    """The sort key of epochs: top-1 (percent), and among equals the lower loss. Small validation parts tie often."""
    return top1 / 100 - loss / 1000
