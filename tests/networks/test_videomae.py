"""VideoMAE gives what transformers' own gives, whatever its files call the biases."""

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from rgbflow import InputError
from rgbflow.clip import FrameClip
from rgbflow.networks import videomae
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import initialise, load_published
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.transforms import read_snippets, snippets_to_input

TOY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SPEC = StreamSpec(
    "rgb", "toy", 32, 4, videomae.MEAN, videomae.STD, crop_fraction=1.0, algorithm="videomae", frame_rate=7.5
)


@pytest.fixture
def published(monkeypatch, tmp_path):
    """A small VideoMAE of transformers with random weights, and its file as the authors' file names its tensors."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification

    monkeypatch.setitem(videomae.SIZES, "toy", TOY)
    torch.manual_seed(0)
    network = VideoMAEForVideoClassification(VideoMAEConfig(**TOY, image_size=32, num_frames=4, num_labels=5)).eval()
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.2)
    present = network.state_dict()
    state = {name.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): present[name] for name in present}
    assert sum(name.endswith("_bias") for name in state) == 4
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    monkeypatch.setattr(videomae, "_fetch", lambda backbone, file: tmp_path / file)
    monkeypatch.setitem(videomae.HOMES, "toy", "makers/toy")
    return network, state


@torch.inference_mode()
def test_a_video_gets_the_logits_of_transformers(published):
    network = StreamNet(SPEC, 5).eval()
    load_published(network, SPEC, "kinetics", "classifier")
    videos = torch.randn(2, 4, 3, 32, 32)
    expected = published[0](videos).logits
    assert expected.std() > 0.05
    torch.testing.assert_close(network(videos.flatten(1, 2)[:, None]), expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_biases_of_queries_and_values_are_those_of_the_file(published, tmp_path):
    network = StreamNet(SPEC, 5).eval()
    initialise(network, SPEC, str(tmp_path / "model.safetensors"))
    found = network.backbone.trunk.videomae.encoder.layer[0].attention.attention
    tokens, prefix = torch.randn(1, 7, 16), "videomae.encoder.layer.0.attention.attention."
    state = {name.removeprefix(prefix): value for name, value in published[1].items() if name.startswith(prefix)}
    query = F.linear(tokens, state["query.weight"], state["q_bias"])
    key = F.linear(tokens, state["key.weight"])
    value = F.linear(tokens, state["value.weight"], state["v_bias"])
    heads = [one.unflatten(-1, (2, 8)).transpose(1, 2) for one in (query, key, value)]
    expected = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    torch.testing.assert_close(found(tokens)[0], expected, atol=1e-5, rtol=1e-5)


def test_a_file_without_these_biases_is_refused(published, tmp_path):
    state = {name: value for name, value in published[1].items() if not name.endswith("q_bias")}
    safetensors.torch.save_file(state, tmp_path / "without.safetensors")
    with pytest.raises(InputError, match="2 tensors are missing"):
        initialise(StreamNet(SPEC, 5), SPEC, str(tmp_path / "without.safetensors"))


@pytest.mark.parametrize("size", [(400, 300), (320, 240), (341, 256), (270, 481)])
def test_frames_are_prepared_as_its_processor_does(size):
    from transformers import VideoMAEImageProcessor

    width, height = size
    frames = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), np.uint8)
    clip = FrameClip(Preparation(224, jpeg_quality=None, frame_rate=7.5, resize="antialias"))
    for place, pixels in enumerate(frames):
        clip.push(pixels, place / 7.5)
    spec = StreamSpec(**{**vars(SPEC), "input_size": 224})
    found = snippets_to_input(read_snippets(clip, spec, np.array([0])), spec)
    published = VideoMAEImageProcessor(image_mean=list(videomae.MEAN), image_std=list(videomae.STD))  # as its file says
    expected = published(list(frames), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found.unflatten(1, (4, 3)), expected, atol=1e-5, rtol=1e-5)


def test_blocks_of_frames_and_pixels_must_fit(published):
    with pytest.raises(InputError, match=r"frames \(5\) must be a multiple of 2"):
        videomae.VideoMAE("toy", 3, 5, 32, 5, 0.0)
