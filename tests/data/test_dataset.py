import gc
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from rgbflow.data.dataset import ClipDataset, DrawnDataset, EpochLoader, EpochSampler, collate, collate_drawn, finish
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.splits import SplitClip
from rgbflow.data.store import Store, prepare_store
from rgbflow.errors import InputError
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.transforms import Augmentation
from rgbflow.video.writing import write_video

FLOW = StreamSpec("flow", "test_resnet", 32, 3, (0.5,) * 2, (0.1,) * 2)


@pytest.fixture
def store(tmp_path, moving_square):
    for clip in range(6):
        path = tmp_path / "videos" / "ab"[clip % 2] / f"{clip}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, moving_square(clip - 3, 1, frames=9, size=(60, 48), seed=clip), 25)
    prepare_store(read_class_folders(tmp_path / "videos"), tmp_path / "store", Preparation(short_side=40))
    return Store(tmp_path / "store")


def part_of(store):
    return [SplitClip(row.clip, row.label, row.group) for row in store.rows.values()]


def batches(dataset, epoch, workers):
    sampler = EpochSampler(dataset, shuffle=True, seed=5)
    sampler.set_epoch(epoch)
    return list(DataLoader(dataset, 2, sampler=sampler, num_workers=workers, collate_fn=collate))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
def test_what_is_drawn_depends_on_seed_and_epoch_not_on_the_workers(store):
    dataset = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 2, Augmentation(), seed=5)
    alone, shared, later = batches(dataset, 1, 0), batches(dataset, 1, 2), batches(dataset, 2, 0)
    for (inputs, labels), (others, other_labels) in zip(alone, shared, strict=True):
        assert torch.equal(inputs, others)
        assert torch.equal(labels, other_labels)
    assert not torch.equal(alone[0][0], later[0][0])
    other_seed = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 2, Augmentation(), seed=6)
    assert not torch.equal(dataset[1, 0][0], other_seed[1, 0][0])


def test_every_clip_comes_once_in_an_epoch_and_two_processes_share_them(store):
    dataset = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 1)
    halves = [list(EpochSampler(dataset, shuffle=True, seed=0, replicas=2, rank=rank)) for rank in (0, 1)]
    assert sorted(index for half in halves for _, index in half) == list(range(6))


def test_a_clip_that_balance_repeats_is_drawn_anew(store):
    clips = part_of(store)
    few = [clip for clip in clips if clip.label == "a"] + [next(clip for clip in clips if clip.label == "b")]
    dataset = ClipDataset(store, few, ("a", "b"), FLOW, 1, Augmentation(), seed=5)
    halves = [EpochSampler(dataset, True, 0, replicas=2, rank=rank, balanced=True) for rank in (0, 1)]
    keys = [key for half in halves for key in half]
    repeated = sorted(key for key in keys if key[1] == len(few) - 1)
    assert len(keys) == len(set(keys)) == 4
    assert repeated == [(0, 3), (0, 3, 1)]
    (one, _), (other, _), (again, _) = dataset[0, 3], dataset[0, 3, 1], dataset[0, 3, 1]
    assert torch.equal(other, again)
    assert not torch.equal(one, other)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_in_mid_epoch_and_has_the_next_one_whole(store, workers):
    dataset = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 1, Augmentation(), seed=5)

    def new_loader():
        sampler = EpochSampler(dataset, shuffle=True, seed=5)
        return EpochLoader(dataset, 2, sampler=sampler, num_workers=workers, persistent_workers=workers > 0)

    whole = list(new_loader())
    stopped = new_loader()
    for given in range(3):
        batches = iter(stopped)
        for _ in range(given):
            next(batches)
        going_on = new_loader()
        going_on.load_state_dict(stopped.state_dict() if given else {"given": 0})
        rest = list(going_on)
        assert len(rest) == 3 - given
        for (inputs, labels), (others, other_labels) in zip(rest, whole[given:], strict=True):
            assert torch.equal(inputs, others)
            assert torch.equal(labels, other_labels)
        assert going_on.state_dict() == {"given": 0}
        assert len(list(going_on)) == 3


def test_labels_are_indices_into_the_classes(store):
    dataset = ClipDataset(store, part_of(store), ("b", "a"), FLOW, 1)
    assert [dataset[0, index][1] for index in range(6)] == [1, 1, 1, 0, 0, 0]


def test_a_clip_too_short_for_the_stack_is_named_before_training_starts(store):
    long = StreamSpec("flow", "test_resnet", 32, 10, (0.5,) * 2, (0.1,) * 2)
    with pytest.raises(InputError, match=r"stack_length \(10\) needs 11 frames, but a/0 has 9: use a longer video"):
        ClipDataset(store, part_of(store), ("a", "b"), long, 1)


RGB = StreamSpec("rgb", "test_resnet", 32, 1, (0.4, 0.5, 0.6), (0.2,) * 3)


@pytest.mark.parametrize("spec", [RGB, FLOW], ids=lambda spec: spec.stream)
@pytest.mark.parametrize("augmentation", [None, Augmentation(corner_crops=True)], ids=["test", "training"])
def test_inputs_made_on_the_device_are_those_made_by_the_workers(store, spec, augmentation):
    """On the CPU as the device, to the last bit: the same functions, called later."""
    dataset = ClipDataset(store, part_of(store), ("a", "b"), spec, 2, augmentation, seed=5)
    keys = [(1, index) for index in range(6)]
    drawn = DataLoader(DrawnDataset(dataset), 3, sampler=keys, collate_fn=collate_drawn, num_workers=1)
    made = DataLoader(dataset, 3, sampler=keys, collate_fn=collate)
    for batch, (inputs, labels) in zip(drawn, made, strict=True):
        assert {one.dtype for one in batch[0]} == {np.dtype("uint8")}
        on_device = finish(batch, spec, torch.device("cpu"))
        assert torch.equal(on_device[0], inputs)
        assert torch.equal(on_device[1], labels)


def test_a_batch_is_its_items_channels_last_in_memory(store):
    dataset = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 2, Augmentation(flip=False), seed=5)
    items = [dataset[0, index] for index in range(4)]
    inputs, labels = collate(items)
    plain = default_collate(items)
    assert torch.equal(inputs, plain[0])
    assert torch.equal(labels, plain[1])
    assert inputs.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


def test_a_store_travels_to_a_worker_as_its_folder(store):
    assert len(store.rows) == 6
    sent = pickle.dumps(store)
    assert len(sent) < 300
    received = pickle.loads(sent)
    assert received.preparation == store.preparation
    assert received.rows == store.rows
    dataset = ClipDataset(store, part_of(store), ("a", "b"), FLOW, 1, Augmentation())
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[2, 3][0], dataset[2, 3][0])


def test_only_the_wanted_pictures_are_read(store, monkeypatch):
    from rgbflow.video import jpeg

    decoded = []
    decode = jpeg.decode
    monkeypatch.setattr(jpeg, "decode", lambda data: decoded.append(len(data)) or decode(data))
    for spec, wanted in ((FLOW, 2 * 3), (RGB, 2)):
        decoded.clear()
        ClipDataset(store, part_of(store), ("a", "b"), spec, 2)[0, 0]
        assert len(decoded) == wanted


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc to count pages in")
def test_reading_leaks_neither_memory_nor_files(store):
    def resident_mib():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    datasets = [ClipDataset(store, part_of(store), ("a", "b"), spec, 1, Augmentation()) for spec in (RGB, FLOW)]
    gc.collect()  # what other tests have left open
    for epoch in range(400):
        if epoch == 100:
            before, files = resident_mib(), len(os.listdir("/proc/self/fd"))
        for dataset in datasets:
            dataset[epoch, epoch % 6]
    assert resident_mib() < before + 4  # 600 readers kept open would take 50
    assert len(os.listdir("/proc/self/fd")) == files
