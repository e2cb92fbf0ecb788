import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rgbflow.learn.depthwise import DepthwiseInFloat32
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import StreamSpec


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (5, 1, 2), (3, 2, 1), (5, 2, 0)])
def test_gradients_are_those_of_float32(kernel, stride, padding):
    torch.manual_seed(0)
    images = torch.randn(4, 8, 13, 11).to(memory_format=torch.channels_last)
    layer = nn.Conv2d(8, 8, kernel, stride, padding, groups=8, bias=False)
    # Numbers that bfloat16 holds exactly, so that only the arithmetic may differ.
    images, layer.weight.data = images.bfloat16().float(), layer.weight.data.bfloat16().float()
    gradients = []
    for eased in (False, True):
        entry, own = images.clone().requires_grad_(), copy.deepcopy(layer)
        if eased:
            with DepthwiseInFloat32(), torch.autocast("cpu", torch.bfloat16):
                answer = own(entry.bfloat16())
            assert answer.dtype == torch.bfloat16
        else:
            answer = own(entry)
        answer.float().sum().backward()  # the gradient of a sum is one, exact too
        gradients.append((entry.grad, own.weight.grad))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "test_resnet"])
def test_a_network_gives_the_same_answers_in_it(backbone):
    torch.manual_seed(0)
    network = StreamNet(StreamSpec("rgb", backbone, 64, 1, (0.5,) * 3, (0.5,) * 3), 5).eval()
    inputs = torch.rand(2, 1, 3, 64, 64)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        expected = network(inputs)
        with DepthwiseInFloat32():
            torch.testing.assert_close(network(inputs), expected, rtol=0, atol=0)


def test_other_convolutions_are_left_as_they_are(monkeypatch):
    # Were one of these taken over, its bias or its form would be lost.
    monkeypatch.setattr("rgbflow.learn.depthwise._Depthwise.apply", None)
    images = torch.rand(1, 4, 8, 8).bfloat16()
    with DepthwiseInFloat32():
        F.conv2d(images, torch.rand(4, 4, 3, 3).bfloat16())
        nn.Conv2d(4, 4, 3, groups=4).bfloat16()(images)
        nn.Conv2d(4, 4, 3, groups=2, bias=False).bfloat16()(images)
        nn.Conv2d(4, 4, 3, groups=4, bias=False)(images.float())
        nn.Conv2d(4, 4, 3, groups=4, bias=False, padding="same").bfloat16()(images)
