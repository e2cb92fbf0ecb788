"""Training and validation examples: snippets of stored clips, drawn by an explicit random generator."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import SplitClip
from rgbflow.sampling import segment_starts
from rgbflow.stream import StreamSpec
from rgbflow.transforms import evaluation_input, random_crop, read_snippets, to_input


class ClipDataset(Dataset):
    """The clips of one part of a split, as inputs of one stream.

    Args:
        store: the prepared data set, or JPEG files.
        clips: the part of the split.
        classes: K names; a label is an index into them.
        spec: the stream.
        num_segments: S.
        augment: True draws snippets and crops at random, as training does; False takes the middle ones.
        flip: whether `augment` may mirror.
        seed: with the epoch and the clip's index it fixes every drawn number, whatever the number of workers.

    An item is asked for by (epoch, index), so that no hidden state decides what is drawn, and gives
    ((S, C, H, W) float32, label).
    """

    def __init__(
        self,
        store: AnyStore,
        clips: Sequence[SplitClip],
        classes: Sequence[str],
        spec: StreamSpec,
        num_segments: int,
        augment: bool,
        flip: bool = False,
        seed: int = 0,
    ):
        self.store, self.clips, self.spec, self.num_segments = store, clips, spec, num_segments
        self.augment, self.flip, self.seed = augment, flip, seed
        self.labels = [classes.index(clip.label) for clip in clips]
        for clip in clips:
            spec.require_frames(store.rows[clip.name].frames, clip.name)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        clip = self.store.clip(self.clips[index].name)
        num_items, length = self.spec.num_items(clip.num_frames), self.spec.stack_length
        if not self.augment:
            starts = segment_starts(num_items, self.num_segments, length)
            return evaluation_input(clip, self.spec, starts), self.labels[index]
        rng = np.random.default_rng((self.seed, epoch, index))
        starts = segment_starts(num_items, self.num_segments, length, rng.random(self.num_segments))
        snippets = read_snippets(clip, self.spec, starts)
        crop = random_crop(*snippets.shape[-2:], self.flip, rng)
        return to_input(snippets, crop, self.spec), self.labels[index]


class EpochSampler(DistributedSampler):
    """The order of a data set in one epoch, as (epoch, index); shuffled by seed and epoch, shared out among processes.

    Shuffled, every process gets as many clips, a few of them twice where they do not come out even; in order, as for
    measuring, every clip comes once. Lightning calls `set_epoch`.
    """

    def __init__(self, dataset: ClipDataset, shuffle: bool, seed: int, replicas: int = 1, rank: int = 0):
        super().__init__(dataset, num_replicas=replicas, rank=rank, shuffle=shuffle, seed=seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = super().__iter__() if self.shuffle else self._own()
        return ((self.epoch, index) for index in order)

    def __len__(self) -> int:
        return super().__len__() if self.shuffle else len(self._own())

    def _own(self) -> range:
        return range(self.rank, len(self.dataset), self.num_replicas)
