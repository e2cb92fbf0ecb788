"""Training and validation examples: snippets of stored clips, drawn by an explicit random generator."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torch.utils.data.distributed import DistributedSampler

from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import Split, SplitClip
from rgbflow.stream import StreamSpec
from rgbflow.transforms import Augmentation, Crop, centre_crop, random_crop, read_snippets, snippet_starts, to_input

Drawn = tuple[Tensor, Crop, int]  # snippets, (S, C, H, W) uint8; the crop to show; the label
DrawnBatch = tuple[list[np.ndarray], list[Crop], Tensor]


class ClipDataset(Dataset):
    """The clips of one part of a split, as inputs of one stream.

    Args:
        store: the prepared data set, or JPEG files.
        clips: the part of the split.
        classes: K names; a label is an index into them.
        spec: the stream.
        num_segments: S.
        augmentation: how training draws snippets and crops at random; None takes the middle ones.
        seed: fixes every random number together with the epoch and the clip's index, whatever the number of workers.

    The key of an item is (epoch, index), so that no hidden state decides what is drawn; the item is ((S, C, H, W)
    float32, label), and `collate` makes a batch of items. A third number in the key counts the earlier uses of the clip
    in this epoch, so that each use is drawn anew. Little travels to a worker process: names, labels, and the folder of
    a prepared data set.
    """

    def __init__(
        self,
        store: AnyStore,
        clips: Sequence[SplitClip],
        classes: Sequence[str],
        spec: StreamSpec,
        num_segments: int,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ):
        self.store, self.spec, self.num_segments = store, spec, num_segments
        self.augmentation, self.seed = augmentation, seed
        self.names = [clip.name for clip in clips]
        self.labels = [classes.index(clip.label) for clip in clips]
        for clip in clips:
            spec.require_frames(store.rows[clip.name].frames, clip.name)  # before the work, not in mid-epoch

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, ...]) -> tuple[Tensor, int]:
        snippets, crop, label = self.draw(key)
        return to_input(snippets, crop, self.spec), label

    def draw(self, key: tuple[int, ...]) -> Drawn:
        """The parts of an item: its snippets, (S, C, H, W) uint8, the crop to cut from them, and the label."""
        index = key[1]
        clip = self.store.clip(self.names[index])
        if self.augmentation is None:
            snippets = read_snippets(clip, self.spec, snippet_starts(clip, self.spec, self.num_segments))
            height, width = snippets.shape[-2:]
            return snippets, centre_crop(height, width, self.spec.crop_fraction), self.labels[index]
        rng = np.random.default_rng((self.seed, *key))
        starts = snippet_starts(clip, self.spec, self.num_segments, rng.random(self.num_segments))
        snippets = read_snippets(clip, self.spec, starts)
        height, width = snippets.shape[-2:]
        crop = random_crop(height, width, self.spec.crop_fraction, self.augmentation, rng)
        return snippets, crop, self.labels[index]


def training_snippets(store: AnyStore, split: Split, spec: StreamSpec, most: int) -> list[np.ndarray]:
    """At most `most` snippets, evenly spread over the training clips and over each clip: (1, C, h, w) uint8 each.

    Clips of val and test are not read.
    """
    chosen = np.unique(np.linspace(0, len(split.train) - 1, most).round().astype(int))
    clips = [split.train[index] for index in chosen]
    dataset = ClipDataset(store, clips, split.classes, spec, num_segments=max(1, most // len(clips)))
    return [snippet[None] for index in range(len(clips)) for snippet in dataset.draw((0, index))[0].numpy()]


class DrawnDataset(Dataset):
    """The same items before `to_input`, 8-bit and with flow at its stored size: worker processes send this form.

    `collate_drawn` makes a batch of them, and `finish` makes the network's inputs. Floats at the network's size have
    thirty times the bytes of stored flow: sending them would take longer than making them.
    """

    def __init__(self, dataset: ClipDataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, ...]) -> Drawn:
        return self.dataset.draw(key)


def collate(items: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    """A batch of items: (B, S, C, H, W) float32, channels last in memory as `to_input` gives them, and labels (B)."""
    inputs, labels = default_collate([(inputs.movedim(1, -1), label) for inputs, label in items])
    return inputs.movedim(-1, 2), labels


def collate_drawn(items: list[Drawn]) -> DrawnBatch:
    """A batch of drawn items; their snippets differ in height and width, so they stay a list.

    NumPy's arrays go through a pipe to the training process; for tensors, PyTorch would make a shared-memory file each.
    """
    snippets, crops, labels = zip(*items, strict=True)
    return [one.numpy() for one in snippets], list(crops), torch.tensor(labels)


def finish(batch: DrawnBatch, spec: StreamSpec, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same batch as `collate` makes, computed on the device: only 8-bit snippets travel there."""
    snippets, crops, labels = batch
    moved = [torch.from_numpy(one).to(device) for one in snippets]
    inputs = [to_input(one, crop, spec) for one, crop in zip(moved, crops, strict=True)]
    return collate(list(zip(inputs, labels.to(device), strict=True)))


class EpochSampler(DistributedSampler):
    """The order of a data set in one epoch, as (epoch, index): shuffled by seed and epoch, shared among processes.

    Shuffled, every process gets the same number of clips; if they don't divide evenly, a few come twice. In order, as
    for measuring, every clip comes once. Balanced, an epoch has the same length, but every class has the same share of
    it, whatever its number of clips; a repeated clip is (epoch, index, earlier uses). Lightning calls `set_epoch`.

    Attributes:
        skip: clips of this process that the next pass leaves out, since an earlier run has already used them.
    """

    dataset: ClipDataset

    def __init__(
        self, dataset: ClipDataset, shuffle: bool, seed: int, replicas: int = 1, rank: int = 0, balanced: bool = False
    ):
        super().__init__(dataset, num_replicas=replicas, rank=rank, shuffle=shuffle, seed=seed)
        self.balanced = balanced
        self.skip = 0

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        order = super().__iter__() if self.shuffle else self._own()
        keys: list[tuple[int, ...]] = [(index,) for index in range(len(self.dataset))]
        if self.balanced:
            keys, times = [], Counter[int]()
            for index in balanced_order(self.dataset.labels, np.random.default_rng((self.seed, self.epoch))):
                keys.append((index, times[index]) if times[index] else (index,))
                times[index] += 1
        skip, self.skip = self.skip, 0
        return ((self.epoch, *keys[place]) for place in islice(order, skip, None))

    def __len__(self) -> int:
        return super().__len__() if self.shuffle else len(self._own())

    def _own(self) -> range:
        return range(self.rank, len(self.dataset), self.num_replicas)


def balanced_order(labels: Sequence[int], rng: np.random.Generator) -> list[int]:
    """As many indices as labels, with every class equally often, or once less.

    The clips of a small class are repeated equally often, give or take one; some clips of a large class are left out.
    """
    classes = np.asarray(labels)
    turns = -(-len(labels) // len(np.unique(classes)))  # of each class, rounded up
    columns = []
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        rounds = -(-turns // len(own))
        columns.append(np.concatenate([rng.permutation(own) for _ in range(rounds)])[:turns])
    by_turns = np.stack([rng.permutation(row) for row in np.stack(columns, axis=1)])
    return by_turns.ravel()[: len(labels)].tolist()


class EpochLoader(DataLoader):
    """Batches in the order of an `EpochSampler`, with a state for checkpoints within an epoch (Lightning reads it).

    Attributes:
        given: batches of this epoch so far, including those of an earlier run.
    """

    sampler: EpochSampler
    batch_size: int
    given = 0

    def __iter__(self) -> Iterator[tuple]:  # type: ignore[override]  # torch's stub wants a private class of its own
        self.given = self.sampler.skip // self.batch_size
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"given": self.given % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.skip = state["given"] * self.batch_size
