import pytest
import torch

from rgbflow.data.dataset import ClipDataset, EpochSampler
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.splits import SplitClip
from rgbflow.data.store import Store, prepare
from rgbflow.errors import InputError
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.video import write_video

FLOW = StreamSpec("flow", "test_resnet", 32, 3, (0.5,) * 2, (0.1,) * 2)


@pytest.fixture
def store(tmp_path, moving_square):
    for clip in range(6):
        path = tmp_path / "videos" / "ab"[clip % 2] / f"{clip}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_square(clip - 3, 1, frames=9, size=(60, 48), seed=clip), 25)
    prepare(read_class_folders(tmp_path / "videos"), tmp_path / "store", Preparation(short_side=40))
    return Store(tmp_path / "store")


def part_of(store):
    return [SplitClip(row.clip, row.label, row.group) for row in store.rows.values()]


def batches(dataset, epoch, workers):
    sampler = EpochSampler(dataset, shuffle=True, seed=5)
    sampler.set_epoch(epoch)
    return list(torch.utils.data.DataLoader(dataset, 2, sampler=sampler, num_workers=workers))


def test_what_is_drawn_depends_on_seed_and_epoch_not_on_the_workers(store):
    dataset = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 2, augment=True, flip=True, seed=5)
    alone, shared, later = batches(dataset, 1, 0), batches(dataset, 1, 2), batches(dataset, 2, 0)
    for (inputs, labels), (others, other_labels) in zip(alone, shared, strict=True):
        assert torch.equal(inputs, others)
        assert torch.equal(labels, other_labels)
    assert not torch.equal(alone[0][0], later[0][0])
    other_seed = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 2, augment=True, flip=True, seed=6)
    assert not torch.equal(dataset[1, 0][0], other_seed[1, 0][0])


def test_every_clip_comes_once_in_an_epoch_and_two_processes_share_them(store):
    dataset = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 1, augment=False)
    halves = [list(EpochSampler(dataset, shuffle=True, seed=0, replicas=2, rank=rank)) for rank in (0, 1)]
    assert sorted(index for half in halves for _, index in half) == list(range(6))


def test_labels_are_indices_into_the_classes(store):
    dataset = ClipDataset(store, part_of(store), ("b", "a"), FLOW, 1, augment=False)
    assert [dataset[0, index][1] for index in range(6)] == [1, 1, 1, 0, 0, 0]


def test_a_clip_too_short_for_the_stack_is_named_before_training_starts(store):
    long = StreamSpec("flow", "test_resnet", 32, 10, (0.5,) * 2, (0.1,) * 2)
    with pytest.raises(InputError, match=r"stack_length \(10\) needs 11 frames, but a/0 has 9: use a longer video"):
        ClipDataset(store, part_of(store), ("a", "b"), long, 1, augment=False)
