"""Class activation maps: against plain autograd, laid where the network looked, and on the square that moves."""

import numpy as np
import pytest
import torch
from torch import nn

from rgbflow.cam import ActivationMaps, class_activation_maps, spotlight
from rgbflow.clip import FrameClip
from rgbflow.errors import InputError
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.transforms import centre_crop, evaluation_input

# What the docstring says the feature map is, by the name that timm gives the layer.
LAST_LAYER = {"test_resnet": "layer4", "test_efficientnet": "bn2"}


def spec_of(stream="rgb", backbone="test_resnet", stack_length=1, input_size=96, algorithm="two-stream"):
    planes = 3 if stream == "rgb" else 2
    mean, std = (0.5,) * planes, (0.25 if stream == "rgb" else 0.05,) * planes
    return StreamSpec(stream, backbone, input_size, stack_length, mean, std, crop_fraction=1.0, algorithm=algorithm)


@pytest.mark.parametrize("backbone", LAST_LAYER)
def test_maps_equal_plain_autograd_through_the_whole_network(backbone):
    torch.manual_seed(0)
    network = StreamNet(spec_of("flow", backbone, stack_length=2), 5).eval()
    snippets = torch.randn(4, 4, 96, 96)
    kept = []
    network.backbone.get_submodule(LAST_LAYER[backbone]).register_forward_hook(lambda *call: kept.append(call[-1]))
    logits = network(snippets[None])[0]
    answer = int(logits.argmax())
    (gradient,) = torch.autograd.grad(logits[answer], kept[0])
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1).relu().detach()
    assert expected.max() > 0
    maps = class_activation_maps(network, snippets, answer)
    np.testing.assert_allclose(maps[:, 0], (expected / expected.max()).numpy(), atol=1e-4)


def test_maps_need_no_gradients_around_them_and_leave_none():
    torch.manual_seed(0)
    network = StreamNet(spec_of(), 3).eval()
    snippets = torch.randn(2, 3, 96, 96)
    expected = class_activation_maps(network, snippets, 1)
    with torch.no_grad():
        np.testing.assert_array_equal(class_activation_maps(network, snippets, 1), expected)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_class_that_nothing_speaks_for_gives_dark_maps():
    network = StreamNet(spec_of(), 3).eval()
    nn.init.constant_(network.backbone.get_classifier().weight, -1.0)  # the features are at least 0
    assert not class_activation_maps(network, torch.randn(2, 3, 96, 96), 1).any()


@pytest.mark.parametrize(
    ("backbone", "algorithm", "stack_length"),
    [("test_vit", "two-stream", 1), ("c3d_quarter", "c3d", 16), ("test_resnet", "lrcn", 16)],
)
def test_networks_without_a_feature_map_are_refused_with_the_remedy(backbone, algorithm, stack_length):
    spec = spec_of("rgb", backbone, stack_length, 160, algorithm)
    network = StreamNet(spec, 3).eval()
    with pytest.raises(InputError, match=r"has no feature map before its pooling .* such as resnet101"):
        class_activation_maps(network, torch.zeros(1, spec.channels, 160, 160), 0)


@pytest.mark.parametrize(("height", "width"), [(120, 200), (200, 120), (97, 131), (64, 64)])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.875, 0.5])
@pytest.mark.parametrize("cell", [(0, 0), (1, 3), (2, 2)])
@pytest.mark.parametrize("square", [False, True])
def test_a_map_is_laid_where_the_network_looked(height, width, crop_fraction, cell, square):
    values = np.zeros((1, 4, 4), np.float32)
    values[0][cell] = 1
    laid = ActivationMaps(values, np.array([0]), crop_fraction, square).on_frame(0, height, width)
    crop = centre_crop(height, width, crop_fraction, square)
    assert laid.shape == (height, width)
    assert 0 <= laid.min() <= laid.max() <= 1
    y, x = np.unravel_index(laid.argmax(), laid.shape)
    high, wide = crop.height / 4, crop.width / 4
    assert crop.top + cell[0] * high - 1 <= y <= crop.top + (cell[0] + 1) * high
    assert crop.left + cell[1] * wide - 1 <= x <= crop.left + (cell[1] + 1) * wide
    outside = laid.copy()
    outside[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width] = 0
    assert not outside.any()


def test_maps_are_mixed_between_snippets_and_hold_at_the_ends():
    values = np.array([0.0, 1.0, 1.0, 0.5], np.float32)[:, None, None] * np.ones((1, 2, 2), np.float32)
    maps = ActivationMaps(values, np.array([2, 6, 6, 8]), 1.0)  # a short clip repeats snippets
    for place, level in {0: 0, 2: 0, 3: 0.25, 5: 0.75, 6: 1, 7: 0.75, 8: 0.5, 99: 0.5}.items():
        np.testing.assert_allclose(maps.on_frame(place, 8, 8), level, atol=1e-6)
    assert maps.strongest_place == 6


def test_a_spotlight_dims_what_is_unlit_and_draws_a_line_around_what_is_lit():
    picture = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    light = np.zeros((60, 60), np.float32)
    light[20:40, 20:40] = 1
    lit = spotlight(picture, light, (255, 0, 0))
    np.testing.assert_array_equal(lit[23:37, 23:37], picture[23:37, 23:37])
    np.testing.assert_allclose(lit[:17], picture[:17] / 4, atol=0.51)
    assert (lit[20, 25:35, 0] > 200).all()
    assert (lit[20, 25:35, 1:] < 100).all()


class SmallNet(nn.Module):
    """Three convolutions, whose 12×12 features each see 17×17 of 96×96 pixels: few enough to point at a square."""

    num_features = 32

    def __init__(self, channels):
        super().__init__()
        sizes = [(channels, 16, 5), (16, 32, 3), (32, 32, 3)]
        layers = [(nn.Conv2d(one, other, side, 2, side // 2), nn.ReLU()) for one, other, side in sizes]
        self.forward_features = nn.Sequential(*(layer for pair in layers for layer in pair))
        self.forward_head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))

    def forward(self, images):
        return self.forward_head(self.forward_features(images))


SIDE, SIZE, STACK = 28, 96, 3
LOOKS = {  # motion and tint of two squares that one stream can tell apart
    "rgb": [((0, 1), (1, 0.2, 0.2)), ((0, 1), (0.2, 1, 0.2))],
    "flow": [((-2, 0), (1, 1, 1)), ((2, 0), (1, 1, 1))],
}


def filmed(moving_square, stream, spec, seed):
    """Network input of a small square somewhere in the picture, and which pixels are the square's halfway through."""
    motion, tint = LOOKS[stream][seed % 2]
    place = np.random.default_rng(seed).uniform(-28, 28, size=2)
    frames = moving_square(*motion, STACK + 1, (SIZE, SIZE), seed, tint, place, SIDE)
    clip = FrameClip(Preparation(short_side=SIZE))
    for index, frame in enumerate(frames):
        clip.push(frame, index / 25)
    rows, columns = np.indices((SIZE, SIZE))
    distance = np.maximum(np.abs(rows - SIZE / 2 - place[1]), np.abs(columns - SIZE / 2 - place[0]))
    return evaluation_input(clip, spec, np.array([1 if stream == "rgb" else 0])), distance <= SIDE / 2


@pytest.mark.parametrize("stream", LOOKS)
def test_the_map_points_at_the_moving_square(moving_square, stream):
    """Trained for seconds to tell two squares apart, a stream finds its evidence in the square, wherever that is."""
    torch.manual_seed(0)
    spec = spec_of(stream, stack_length=1 if stream == "rgb" else STACK)
    network = StreamNet(spec, 2)
    network.backbone = SmallNet(spec.channels)
    inputs, squares = zip(*(filmed(moving_square, stream, spec, seed) for seed in range(40)), strict=True)
    labels = torch.arange(40) % 2
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.stack(inputs[:20])), labels[:20]).backward()
        optimizer.step()
    network.eval()
    shares, hits = [], []
    for snippets, square, label in zip(inputs[20:], squares[20:], labels[20:], strict=True):  # not trained on
        assert network(snippets[None])[0].argmax() == label
        maps = ActivationMaps(
            class_activation_maps(network, snippets, int(label))[:, 0], np.array([0]), spec.crop_fraction
        )
        laid = maps.on_frame(0, SIZE, SIZE)
        shares.append(laid[square].sum() / laid.sum())
        hits.append(square.flat[laid.argmax()])
    chance = SIDE**2 / SIZE**2  # 0.085
    assert np.mean(shares) > 3 * chance  # measured: rgb 0.58, flow 0.29, whose field spreads beyond the square
    assert np.mean(hits) >= 0.8  # measured: 1 and 0.95
