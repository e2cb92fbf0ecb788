from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rgbflow.errors import InputError
from rgbflow.networks.c3d import C3D


def count(network):
    return sum(value.numel() for value in network.parameters())


def test_the_published_network_has_as_many_parameters():
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]  # Tran et al. 2015, figure 3
    sizes = [*((27 * a + 1) * b for a, b in pairwise(channels))]
    sizes += [(512 * 4 * 4 + 1) * 4096, (4096 + 1) * 4096, (4096 + 1) * 101]
    with torch.device("meta"):
        network = C3D("c3d", 3, 112, 101, 0.5)
    assert count(network) == sum(sizes)
    assert round(count(network) / 1e6, 2) == 78.41  # as others report it for UCF101's 101 classes


def as_published(network, clips):
    """The layers in a row as figure 3 of the paper has them, with the fifth pool padded by its own means."""
    pool = [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
    groups = [["conv1"], ["conv2"], ["conv3a", "conv3b"], ["conv4a", "conv4b"]]
    x = clips
    for names, size in zip(groups, pool, strict=True):
        for name in names:
            x = F.relu(getattr(network, name)(x))
        x = nn.MaxPool3d(size, stride=size)(x)
    x = F.relu(network.conv5b(F.relu(network.conv5a(x))))
    x = nn.MaxPool3d((2, 2, 2), stride=(2, 2, 2), padding=(0, 1, 1))(x)
    x = F.relu(network.fc7(F.relu(network.fc6(x.flatten(1)))))
    return network.fc8(x)


@pytest.mark.parametrize("planes", [3, 2])
@pytest.mark.parametrize("size", [32, 56])
def test_it_computes_what_the_paper_draws(planes, size):
    torch.manual_seed(0)
    network = C3D("c3d_quarter", planes, size, 5, 0.5).eval()
    clips = torch.randn(2, planes, 16, size, size)
    snippets = torch.stack([torch.cat([clip[:, frame] for frame in range(16)]) for clip in clips])
    with torch.inference_mode():
        torch.testing.assert_close(network(snippets), as_published(network, clips), rtol=1e-4, atol=1e-4)


def test_the_order_of_frames_counts():
    torch.manual_seed(0)
    network = C3D("c3d_quarter", 3, 32, 5, 0.0).eval()
    snippet = torch.randn(1, 48, 32, 32)
    backwards = snippet.unflatten(1, (16, 3)).flip(1).flatten(1, 2)
    with torch.inference_mode():
        assert not torch.allclose(network(snippet), network(backwards), atol=1e-3)


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        ("resnet18", 112, "backbone 'resnet18' is not for algorithm c3d"),
        ("c3d", 16, r"input_size \(16\) must be at least"),
    ],
)
def test_what_does_not_fit_is_refused(backbone, size, message):
    with pytest.raises(InputError, match=message):
        C3D(backbone, 3, size, 5, 0.0)


def test_bfloat16_has_the_gradients_of_float32():
    """Some processors get those of convolutions over two frames wrong, see `C3D.conv5`."""
    torch.manual_seed(0)
    network, values = C3D("c3d_quarter", 3, 32, 5, 0.0).train(), torch.randn(4, 128, 2, 4, 4)
    gradients = []
    for bf16 in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = network.conv5(values.bfloat16() if bf16 else values)
        found.float().square().sum().backward()
        gradients.append([layer.weight.grad.clone() for layer in (network.conv5a, network.conv5b)])
    for exact, other in zip(*gradients, strict=True):
        assert (other - exact).norm() < 0.02 * exact.norm()
