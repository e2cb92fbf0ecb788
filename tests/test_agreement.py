"""The same frames give the same network input to the last bit, whichever way they come."""

import numpy as np
import pytest
import torch

from rgbflow.bundle import Bundle
from rgbflow.clip import FrameClip
from rgbflow.data.dataset import ClipDataset
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.splits import SplitClip
from rgbflow.data.store import Store, prepare_store, read_ahead
from rgbflow.flow import FlowSettings
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.torch_engine import TorchEngine
from rgbflow.recognizer import Recognizer
from rgbflow.sampling import segment_starts
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.timeline import sliding_windows
from rgbflow.transforms import Augmentation, evaluation_input
from rgbflow.video.reading import decode
from rgbflow.video.writing import write_video

SNIPPETS = 3
SPECS = {
    "rgb": StreamSpec("rgb", "test_resnet", 56, 1, (0.5,) * 3, (0.25,) * 3),
    "flow": StreamSpec("flow", "test_resnet", 56, 4, (0.5,) * 2, (0.1,) * 2),
}


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation(64, FlowSettings("dis")),
        Preparation(64, FlowSettings("farneback")),
        Preparation(64, FlowSettings("tvl1")),
        Preparation(192, FlowSettings("dis")),  # flow at a quarter of the size
        Preparation(100, FlowSettings("tvl1")),  # at half
        Preparation(64, FlowSettings("dis"), jpeg_quality=None, frame_rate=30.0),
    ],
    ids=lambda p: f"{p.flow.method}-{p.flow_reduction}-{p.jpeg_quality}-{p.frame_rate}",
)
def test_training_evaluation_file_window_and_frame_by_frame_agree(tmp_path, moving_square, preparation, monkeypatch):
    path = tmp_path / "videos" / "walk" / "clip.mp4"
    path.parent.mkdir(parents=True)
    write_video(path, moving_square(2, 1, frames=12, size=(110, 80)), 25)
    prepare_store(read_class_folders(tmp_path / "videos"), tmp_path / "store", preparation)
    store = Store(tmp_path / "store")
    bundle = Bundle(("walk", "run"), preparation, SPECS, {})
    networks = {stream: StreamNet(spec, 2) for stream, spec in SPECS.items()}
    recognizer = Recognizer(bundle, TorchEngine(SPECS, networks, "cpu"))

    def frames():
        return decode(path, preparation.frame_rate)

    seen = []  # what the networks are given, in the order rgb, flow
    monkeypatch.setattr(
        StreamNet, "forward", lambda self, inputs: seen.append(inputs[:, 0]) or torch.zeros(SNIPPETS, 2)
    )

    part = [SplitClip("walk/clip", "walk", "walk/clip")]
    stored = store.clip("walk/clip")
    num_frames = stored.num_frames
    assert num_frames == (15 if preparation.frame_rate else 12)
    ways = {
        "training and validation data": [
            ClipDataset(store, part, bundle.classes, spec, SNIPPETS)[0, 0][0] for spec in SPECS.values()
        ]
    }
    for name, video in {
        "evaluation": read_ahead(stored, recognizer.wanted_indices(stored, SNIPPETS)),
        "file": path,
        "window of a long video": next(sliding_windows(frames(), FrameClip(preparation), 9.0, 1.0)),
    }.items():
        seen.clear()
        recognizer.predict(video, SNIPPETS)
        ways[name] = list(seen)
    live = FrameClip(preparation)
    for frame in frames():
        live.push(frame.pixels, frame.pts_seconds)
    ways["frame by frame"] = [
        evaluation_input(live, spec, segment_starts(spec.num_items(num_frames), SNIPPETS, spec.stack_length))
        for spec in SPECS.values()
    ]

    first = ways.pop("training and validation data")
    assert first[1].std() > 0.1  # the flow is not all the same
    for name, inputs in ways.items():
        for stream, one, other in zip(SPECS, first, inputs, strict=True):
            assert torch.equal(one, other), f"{stream} of {name}"


def test_an_augmented_training_example_is_a_crop_of_the_same_pixels(tmp_path, moving_square):
    """Training reads the stored pixels that evaluation reads: only the crop, the flip and the place in time differ."""
    preparation = Preparation(short_side=64)
    path = tmp_path / "videos" / "walk" / "clip.mp4"
    path.parent.mkdir(parents=True)
    write_video(path, moving_square(2, 1, frames=5, size=(64, 64)), 25)
    prepare_store(read_class_folders(tmp_path / "videos"), tmp_path / "store", preparation)
    store = Store(tmp_path / "store")
    part = [SplitClip("walk/clip", "walk", "walk/clip")]
    spec = StreamSpec("rgb", "test_resnet", 64, 1, (0.0,) * 3, (1 / 255,) * 3, crop_fraction=1.0)
    dataset = ClipDataset(store, part, ("walk",), spec, 1, Augmentation(flip=False), seed=3)
    frames = store.clip("walk/clip").read("rgb", np.arange(5)).astype(np.float32)
    whole = [dataset[epoch, 0][0][0].numpy() for epoch in range(60)]
    exact = [any(np.abs(picture - frame).max() < 1e-2 for frame in frames) for picture in whole]
    assert any(exact)  # epochs that drew the full square show a stored frame, unchanged
    assert not all(exact)
