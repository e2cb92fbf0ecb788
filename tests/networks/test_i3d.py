"""An inflated image network sees a still video as the image, and a moving one otherwise."""

import numpy as np
import pytest
import torch

from rgbflow import InputError
from rgbflow.cam import class_activation_maps
from rgbflow.networks.families import family_of
from rgbflow.networks.i3d import I3D
from rgbflow.networks.image import create_backbone
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import initialise
from rgbflow.stream import StreamSpec

BACKBONES = ("test_resnet", "resnet10t", "resnet50", "tf_efficientnet_lite0", "regnety_002")


def spec_of(backbone, stream="rgb", frames=16, size=64):
    planes = 3 if stream == "rgb" else 2
    return StreamSpec(
        stream, backbone, size, frames, (0.5,) * planes, (0.2,) * planes, algorithm="i3d", frame_rate=15.0
    )


@pytest.fixture
def saved(tmp_path):
    """A function: weights of an image network with random numbers, also in its norms, and the network."""

    def save(backbone):
        torch.manual_seed(0)
        flat = create_backbone(backbone, 3, 5)
        for name, value in flat.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
        torch.nn.init.normal_(flat.get_classifier().weight)
        torch.save(flat.state_dict(), tmp_path / "flat.pth")
        return flat.eval()

    return save


def inflated(backbone, flat, path, frames=16, size=64):
    network = StreamNet(spec_of(backbone, frames=frames, size=size), 5)
    initialise(network, spec_of(backbone, frames=frames, size=size), str(path / "flat.pth"))
    network.backbone.network.get_classifier().load_state_dict(flat.get_classifier().state_dict())
    return network.eval()


@pytest.mark.parametrize(("backbone", "frames"), [*((name, 16) for name in BACKBONES), ("test_resnet", 5)])
@torch.inference_mode()
def test_a_still_video_gets_the_logits_of_the_image(backbone, frames, saved, tmp_path):
    flat = saved(backbone)
    network = inflated(backbone, flat, tmp_path, frames)
    images = torch.randn(2, 3, 64, 64)
    expected = flat(images)
    logits, features = network.logits_and_features(images.repeat(1, frames, 1, 1)[:, None])
    assert expected.std() > 0.01
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features[:, 0], flat.forward_head(flat.forward_features(images), pre_logits=True))


@torch.inference_mode()
def test_the_order_of_time_counts(saved, tmp_path):
    network = inflated("test_resnet", saved("test_resnet"), tmp_path)
    video = torch.randn(1, 1, 16, 3, 64, 64)
    forwards, backwards = (network(one.flatten(2, 3)) for one in (video, video.flip(2)))
    shuffled = network(video[:, :, torch.randperm(16)].flatten(2, 3))
    assert (forwards - backwards).abs().max() > 1e-3
    assert (forwards - shuffled).abs().max() > 1e-3


def test_flow_starts_from_the_mean_of_the_colours(saved, tmp_path):
    flat = saved("test_resnet")
    network = StreamNet(spec_of("test_resnet", "flow"), 5)
    initialise(network, spec_of("test_resnet", "flow"), str(tmp_path / "flat.pth"))
    first = network.backbone.network.get_submodule(flat.pretrained_cfg["first_conv"]).weight
    expected = flat.get_submodule(flat.pretrained_cfg["first_conv"]).weight.mean(dim=1) / 3
    for plane in range(2):
        for frame in range(3):
            torch.testing.assert_close(first[:, plane, frame], expected)


def test_maps_are_the_classifiers_weights_on_each_step_of_time(saved, tmp_path):
    """Grad-CAM of a linear classifier on means is the sum of the features, each times its weight for the class."""
    network = inflated("test_resnet", saved("test_resnet"), tmp_path, size=96)
    snippets, backbone = torch.randn(2, 48, 96, 96), network.backbone
    maps = class_activation_maps(network, snippets, 3)
    with torch.inference_mode():
        features = network.family.feature_map.make(backbone, snippets)
        weight = backbone.network.get_classifier().weight[3]
        expected = torch.einsum("ndthw,d->nthw", features, weight).relu()
    assert maps.shape[:2] == (2, backbone.frames_left)
    np.testing.assert_allclose(maps, (expected / expected.max()).numpy(), atol=1e-5)
    assert np.ptp(maps, axis=1).max() > 0.01


def test_a_transformer_has_nothing_to_inflate():
    with pytest.raises(InputError, match="has no feature map"):
        I3D("test_vit", 3, 16, 5, 0.0)


def test_it_reads_frames_by_time():
    assert family_of("i3d").frame_rate == 15
