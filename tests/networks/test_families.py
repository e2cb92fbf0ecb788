"""A further family costs one record: it then trains, makes a bundle, predicts, is exported and watches a camera."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rgbflow import InputError, Recognizer
from rgbflow.bundle import load_bundle
from rgbflow.cam import middles
from rgbflow.clip import FrameClip
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store, StoredClip
from rgbflow.fusion import probabilities
from rgbflow.learn.config import TrainConfig, with_algorithm
from rgbflow.learn.spec import form_of_input
from rgbflow.learn.train import train_stream
from rgbflow.networks.export import export_bundle
from rgbflow.networks.families import FAMILIES, check_form, family_of
from rgbflow.networks.family import Family
from rgbflow.sampling import snippet_indices
from rgbflow.stream import PLANES, StreamSpec
from rgbflow.transforms import read_snippets
from rgbflow.video.reading import decode


class Toy(nn.Module):
    """The mean of three frames, two frames apart, and one layer."""

    def __init__(self, spec: StreamSpec, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(PLANES[spec.stream] * spec.stack_length, num_classes)

    def logits_and_features(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        features = snippets.mean(dim=(-2, -1))
        return self.layer(features), features

    def forward(self, snippets: Tensor) -> Tensor:
        return self.logits_and_features(snippets)[0]


TOY = Family(
    Toy,
    Toy.logits_and_features,
    lambda backbone: ((0.5,) * 3, (0.5,) * 3),
    frames=3,
    stride=2,
    defaults={"weights": "none"},
)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(FAMILIES, "toy", TOY)


@pytest.fixture
def toy_bundle(world, toy, tmp_path):
    config = with_algorithm(TrainConfig(input_size=32, epochs=2, flip=False, workers=0, precision="fp32"), "toy")
    for stream in ("rgb", "flow"):
        train_stream(Store(world.store), load_split(world.split), stream, tmp_path / "toy", config)
    return tmp_path / "toy"


def test_it_trains_predicts_is_exported_and_watches(toy_bundle, world):
    record = load_bundle(toy_bundle)
    assert [(spec.stack_length, spec.stride, spec.span) for spec in record.streams.values()] == [(3, 2, 5)] * 2
    recognizer = Recognizer.load(toy_bundle, engine="torch", precision="fp32")
    video = world.videos / "red" / "0.mp4"
    prediction = recognizer.predict(video, num_snippets=3)
    export_bundle(toy_bundle, record, toy_bundle, "onnx")
    exported = Recognizer.load(toy_bundle, engine="onnx")
    np.testing.assert_allclose(exported.predict(video, num_snippets=3).scores, prediction.scores, atol=1e-4)
    features, others = (one.features(video, num_snippets=3) for one in (recognizer, exported))
    for stream, spec in record.streams.items():
        assert features[stream].shape == (3, spec.channels)
        np.testing.assert_allclose(others[stream], features[stream], atol=1e-4)
    live = recognizer.live(window_seconds=1)
    assert [update for frame in decode(video) if (update := live.push(frame.pixels, frame.pts_seconds))]


def test_live_sees_the_snippets_of_the_file(toy_bundle, world):
    recognizer = Recognizer.load(toy_bundle, engine="torch", precision="fp32")
    frames = [*decode(world.videos / "red" / "0.mp4")][:6]  # six frames hold one snippet of flow, five fields
    live = recognizer.live(window_seconds=0.2)
    updates = [live.push(frame.pixels, frame.pts_seconds) for frame in frames]
    assert updates[:5] == [None] * 5
    clip = FrameClip(recognizer.bundle.preparation)
    for frame in frames:
        clip.push(frame.pixels, frame.pts_seconds)
    spec = recognizer.bundle.streams["flow"]
    snippets = read_snippets(clip, spec, np.array([0])).numpy()
    answer = recognizer.engine.answers({"flow": snippets})["flow"]
    np.testing.assert_array_equal(updates[5].prediction.stream_scores["flow"], probabilities(answer.logits[0]))


def test_maps_lie_on_frames_that_the_snippets_hold():
    spec = StreamSpec("rgb", "toy", 32, 4, (0.5,) * 3, (0.5,) * 3, algorithm="toy", stride=2)
    (indices,) = snippet_indices(np.array([0]), spec.stack_length, spec.stride)
    assert indices[middles(spec.stack_length, 1)].tolist() == [4]  # of frames 0, 2, 4 and 6


def test_its_snippets_leave_out_every_second_frame(world, toy):
    spec = StreamSpec("rgb", "toy", 32, 3, (0.5,) * 3, (0.5,) * 3, algorithm="toy", stride=2)
    store = Store(world.store)
    clip: StoredClip = store.clip(next(iter(store.rows)))
    frames = clip.read("rgb", np.array([4, 6, 8]))
    (snippet,) = read_snippets(clip, spec, np.array([4]))
    assert torch.equal(snippet, torch.from_numpy(frames).flatten(0, 1))


def test_a_clip_shorter_than_its_span_is_refused():
    spec = StreamSpec("flow", "toy", 32, 3, (0.5,) * 2, (0.5,) * 2, algorithm="toy", stride=2)
    spec.require_frames(6, "clip.mp4")
    with pytest.raises(InputError, match=r"stack_length \(3\) with stride 2 needs 6 frames, but clip.mp4 has 5"):
        spec.require_frames(5, "clip.mp4")


def test_what_its_snippets_are_not_is_refused(toy):
    spec = StreamSpec("rgb", "toy", 32, 3, (0.5,) * 3, (0.5,) * 3, algorithm="toy", stride=2)
    check_form(spec)
    for change in ({"stride": 1}, {"stack_length": 2}):
        with pytest.raises(InputError, match=r"must be . for rgb of toy"):
            check_form(dataclasses.replace(spec, **change))


def test_a_name_that_is_no_family_is_refused_with_the_names():
    with pytest.raises(InputError, match=r"algorithm 'toy' is unknown to this rgbflow: use one of two-stream, c3d,"):
        family_of("toy")
    with pytest.raises(InputError, match=r"is unknown|must be text"):
        family_of([])  # in a damaged record


@pytest.mark.parametrize("algorithm", ["two-stream", "c3d", "lrcn", "s3d", "mc3_18"])
def test_a_family_reads_snippets_of_its_form(algorithm):
    family = family_of(algorithm)
    backbone = {"two-stream": "test_resnet", "lrcn": "test_resnet", "c3d": "c3d_quarter"}.get(algorithm, algorithm)
    length = 8 if family.frame_rate else family.frames or 1
    spec = StreamSpec("rgb", backbone, 32, length, (0.5,) * 3, (0.5,) * 3, algorithm=algorithm, stride=family.stride)
    network = family.build(spec, 5).eval()
    snippets = torch.zeros(2, spec.channels, 32, 32)
    logits, features = family.logits_and_features(network, snippets)
    assert logits.shape == (2, 5)
    assert features.ndim == 2
    torch.testing.assert_close(logits, network(snippets))


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_a_backbone_of_another_family_is_refused_and_its_own_family_named(algorithm):
    own = FAMILIES[algorithm].backbones
    for home, family in FAMILIES.items():
        for backbone in family.backbones:
            config = TrainConfig(algorithm=algorithm, backbone=backbone, weights="none")
            if backbone in own:
                assert form_of_input("flow", config).backbone == backbone
                continue
            with pytest.raises(InputError, match=f"'{backbone}' is not for algorithm {algorithm}: .*algorithm {home}$"):
                form_of_input("flow", config)
    if own:
        with pytest.raises(InputError, match=f"'resnet101' is not for algorithm {algorithm}: use {own[0]}"):
            form_of_input("flow", TrainConfig(algorithm=algorithm, weights="none"))
