import torch
from torch import nn

from rgbflow.networks.image import create_backbone
from rgbflow.networks.lrcn import LRCN
from rgbflow.networks.stream_net import StreamNet
from rgbflow.stream import StreamSpec


def test_it_has_resnet101s_features_and_donahues_lstm():
    spec = StreamSpec("rgb", "resnet101", 224, 16, (0.5,) * 3, (0.5,) * 3, algorithm="lrcn")
    with torch.device("meta"):
        network = StreamNet(spec, 101)
    sizes = {name: sum(v.numel() for v in part.parameters()) for name, part in network.backbone.named_children()}
    # He et al. 2016 have 44,549,160 with the classifier of 1000 classes; torchvision counts the same.
    assert sizes["features"] == 44_549_160 - (2048 + 1) * 1000
    # Donahue et al. 2015, equation 2: input, forget, output and modulation gate each see the features and the last
    # answer; torch gives each gate two biases where the paper has one.
    assert sizes["lstm"] == 4 * (2048 * 256 + 256 * 256 + 2 * 256)
    assert sizes["classifier"] == (256 + 1) * 101


def test_it_computes_the_lstm_step_by_step():
    torch.manual_seed(0)
    features = create_backbone("test_resnet", 3, num_classes=0)
    network = LRCN(features, features.num_features, 5, 0.5).eval()
    cell = nn.LSTMCell(features.num_features, 256)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in network.lstm.state_dict().items()})
    snippet = torch.randn(2, 48, 32, 32)
    with torch.inference_mode():
        state, logits = None, []
        for frame in range(16):
            state = cell(features(snippet[:, 3 * frame : 3 * frame + 3]), state)
            logits.append(network.classifier(state[0]))
        torch.testing.assert_close(network(snippet), sum(logits) / 16, rtol=1e-4, atol=1e-5)
