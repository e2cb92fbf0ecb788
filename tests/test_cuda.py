"""What only an NVIDIA GPU shows: answers, inputs and trainings there against those of the CPU.

`benchmarks/gpu.py` runs these tests; where there is no GPU they are skipped.
"""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from rgbflow.clip import FrameClip
from rgbflow.data.dataset import ClipDataset, collate, collate_drawn, finish
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.device import choose_device, has_fast_bf16
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig, with_algorithm
from rgbflow.learn.spec import form_of_input
from rgbflow.learn.train import train_stream
from rgbflow.live.batching import SharedEngine
from rgbflow.networks.stream_net import StreamNet
from rgbflow.recognizer import Recognizer
from rgbflow.transforms import Augmentation, snippets_to_input

DEVICE = "cuda"
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU is here"),
]
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at its first product: the same sums every time

TINY = TrainConfig(
    backbone="test_resnet",
    weights="none",
    input_size=32,
    stack_length=3,
    epochs=3,
    learning_rate=0.05,
    dropout=0.3,
    flip=False,
    workers=0,
    precision="fp32",
    device=DEVICE,
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, save_random_bundle):
    """Folder and record of a bundle of two streams with random weights; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("cuda") / "bundle"
    return folder, save_random_bundle(folder)


@pytest.fixture
def same_sums():
    """Operations that give the same result each time, where CUDA has them."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def snippets_of(bundle, stream, count=3, width=107, seed=0):
    shape = (count, bundle.streams[stream].channels, bundle.preparation.side_of(stream), width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def step_of(spec):
    """Between two neighbouring 8-bit values, after normalisation."""
    return 1 / 255 / max(spec.std)


@pytest.fixture(scope="module")
def noise(saved):
    """A clip that looks like nothing."""
    clip, rng = FrameClip(saved[1].preparation), np.random.default_rng(0)
    for number in range(12):
        clip.push(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8), number / 25)
    return clip


def load(saved, device, precision="fp32"):
    return Recognizer.load(saved[0], device, "torch", precision=precision)


def assert_near(prediction, expected, tolerance):
    """That every score of each stream is near the expected one."""
    assert prediction.stream_scores.keys() == expected.stream_scores.keys() == {"rgb", "flow"}
    for stream, scores in expected.stream_scores.items():
        np.testing.assert_allclose(prediction.stream_scores[stream], scores, atol=tolerance)


def run(world, folder, stream="rgb", on_step=lambda done, total, note: None, **values):
    config = dataclasses.replace(TINY, **values)
    progress = SimpleNamespace(update=on_step, report=lambda line: None)
    return train_stream(Store(world.store), load_split(world.split), stream, folder, config, progress)


class StopError(Exception):
    pass


def stopped_at(last_step):
    """A function for `on_step` that breaks the training off."""

    def stop(done, total, note):
        if done == last_step:
            raise StopError

    return stop


def farthest(one, other):
    """The largest difference of two trainings' weights."""
    first, second = (load_file(folder / "rgb.safetensors") for folder in (one, other))
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


def test_auto_is_the_gpu_and_one_that_is_not_there_is_refused():
    assert choose_device().type == DEVICE
    assert choose_device("cuda:0") == torch.device("cuda", 0)
    with pytest.raises(InputError, match="device 'cuda:99' can't be used here"):
        choose_device("cuda:99")


def test_bf16_is_fast_from_ampere_on():
    assert has_fast_bf16(choose_device()) == (torch.cuda.get_device_capability()[0] >= 8)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("crops", [1, 10])
def test_the_8_bit_path_makes_the_inputs_of_the_cpu(saved, stream, crops):
    bundle = saved[1]
    for width in (80, 107):
        snippets, spec = torch.from_numpy(snippets_of(bundle, stream, width=width)), bundle.streams[stream]
        there, here = snippets_to_input(snippets.to(DEVICE), spec, crops), snippets_to_input(snippets, spec, crops)
        assert there.device.type == DEVICE
        assert there.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=step_of(spec) / 20)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_training_batch_made_on_the_gpu_is_that_of_the_cpu(world, stream):
    """Crops of all sizes, mirrored or not, in other colours, the mean of each field subtracted."""
    store, split = Store(world.store), load_split(world.split)
    config = dataclasses.replace(TINY, subtract_mean_flow=True)
    spec, vary = form_of_input(stream, config), Augmentation(corner_crops=True, colour=0.4)
    data = ClipDataset(store, split.train, split.classes, spec, 2, vary)
    keys = [(epoch, index) for epoch in range(3) for index in range(8)]
    there, labels = finish(collate_drawn([data.draw(key) for key in keys]), spec, torch.device(DEVICE))
    here, expected = collate([data[key] for key in keys])
    assert (there.device.type, labels.device.type) == (DEVICE, DEVICE)
    assert labels.tolist() == expected.tolist()
    # Each of the three changes of colour rounds to 8 bits, where a last bit may differ and is made larger by the next.
    tolerance = step_of(spec) * (5 if stream == "rgb" else 1 / 20)
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=tolerance)
    assert (there.cpu() - here).abs().mean() < tolerance / 50


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("num_snippets", [1, 25])
def test_fp32_without_tf32_gives_the_scores_of_the_cpu(saved, noise, num_snippets, crops, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    there, expected = load(saved, DEVICE), load(saved, "cpu").predict(noise, num_snippets, crops)
    assert there.engine.name == f"torch fp32 on {DEVICE}"
    assert min(np.ptp(scores) for scores in expected.stream_scores.values()) > 0.2  # sure of something
    assert_near(there.predict(noise, num_snippets, crops), expected, 1e-4)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", 0.02), ("bf16", 0.05)],  # fp32 has TF32 in its convolutions, unless told otherwise
)
def test_scores_are_near_those_of_the_cpu_in_fp32(saved, noise, precision, tolerance):
    assert_near(load(saved, DEVICE, precision).predict(noise, 8), load(saved, "cpu").predict(noise, 8), tolerance)


def test_auto_takes_torch_and_bf16_though_exported_files_are_there(saved, tmp_path):
    for path in saved[0].iterdir():
        (tmp_path / path.name).symlink_to(path)
    for stream in saved[1].streams:
        (tmp_path / f"{stream}.onnx").write_bytes(b"not opened")
    precision = "bf16" if has_fast_bf16(choose_device()) else "fp32"
    assert Recognizer.load(tmp_path).engine.name == f"torch {precision} on {DEVICE}"


def test_one_recogniser_serves_many_threads(saved, noise):
    recognizer, counts = load(saved, DEVICE), range(1, 13)
    alone = [recognizer.predict(noise, count) for count in counts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda count: recognizer.predict(noise, count), counts))
    for one, other in zip(together, alone, strict=True):
        assert_near(one, other, 1e-4)


def test_a_video_is_labelled_and_explained_as_on_the_cpu(saved, square_video):
    video = square_video(2, 1, frames=20)
    found, expected = (load(saved, device).explain(video, num_snippets=3) for device in (DEVICE, "cpu"))
    assert_near(found.prediction, expected.prediction, 0.02)
    for stream, maps in expected.maps.items():
        np.testing.assert_allclose(found.maps[stream].values, maps.values, atol=0.05)


@pytest.mark.parametrize("shared", [False, True])
def test_a_camera_is_followed_as_on_the_cpu(saved, moving_square, shared):
    there, expected, updates = load(saved, DEVICE), load(saved, "cpu").live(), 0
    with SharedEngine(there.engine, max_batch=2) as engine:
        live = there.live(engine=engine if shared else None)
        for number, pixels in enumerate(moving_square(2, 1, frames=20)):
            one, other = (session.push(pixels, number / 25) for session in (live, expected))
            assert (one is None) == (other is None)
            if one is not None:
                updates += 1
                assert_near(one.prediction, other.prediction, 0.02)
    assert updates > 10


@pytest.mark.parametrize("algorithm", ["two-stream", "c3d", "lrcn"])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_networks_of_each_family_answer_as_on_the_cpu(algorithm, stream, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    network, inputs, _ = network_and_batch(algorithm, stream)
    with torch.inference_mode():
        expected = network.eval()(inputs)
        network.to(DEVICE, memory_format=network.memory_format)
        torch.testing.assert_close(network(inputs.to(DEVICE)).cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("algorithm", ["two-stream", "c3d", "lrcn"])
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_gradients_in_half_precision_point_where_those_of_the_cpu_do(algorithm, precision):
    network, inputs, labels = network_and_batch(algorithm, "rgb")
    F.cross_entropy(network(inputs), labels).backward()
    expected = gradient_of(network).double()
    network.zero_grad()
    network.to(DEVICE, memory_format=network.memory_format)
    scale = 2.0**10 if precision is torch.float16 else 1.0  # below 6e-5 fp16 loses digits
    with torch.autocast(DEVICE, dtype=precision):
        loss = F.cross_entropy(network(inputs.to(DEVICE)), labels.to(DEVICE))
    (scale * loss).backward()
    found = gradient_of(network).double().cpu() / scale
    assert found.isfinite().all()
    assert F.cosine_similarity(found, expected, dim=0) > 0.95


def network_and_batch(algorithm, stream):
    """A small network with random weights and no dropout, inputs (4, 1, C, H, W) and labels; the same each time."""
    small = {"backbone": "c3d_quarter", "input_size": 48} if algorithm == "c3d" else {}
    config = dataclasses.replace(with_algorithm(TINY, algorithm), **small, dropout=0.0)
    spec = form_of_input(stream, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = StreamNet(spec, 5)
        inputs = torch.randn(4, 1, spec.channels, spec.input_size, spec.input_size)
    return network.to(memory_format=network.memory_format), inputs, torch.tensor([0, 1, 2, 3])


def gradient_of(network):
    return torch.cat([value.grad.flatten() for value in network.parameters()])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_training_in_half_precision_stays_finite_and_learns(world, tmp_path, stream, precision):
    result = run(world, tmp_path, stream, precision=precision, epochs=8, dropout=0.0)
    losses = [row[name] for row in result.curve for name in ("train_loss", "val_loss")]
    assert np.isfinite(losses).all()
    assert min(row["train_loss"] for row in result.curve[-3:]) < result.curve[0]["train_loss"]
    assert all(value.isfinite().all() for value in load_file(tmp_path / f"{stream}.safetensors").values())


@pytest.mark.usefixtures("same_sums")
@pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")
@pytest.mark.parametrize("parts", [{}, {"precision": "bf16"}, {"average_epochs": 2, "balanced": True, "workers": 1}])
@pytest.mark.parametrize("last_step", [5, 6])  # an epoch has 3 steps: in mid-epoch, and at the end of one
def test_a_resumed_training_is_as_near_an_unbroken_one_as_a_second_unbroken_one_is(world, tmp_path, parts, last_step):
    """Some operations of CUDA add in any order; where none of them is used, the three are the same to the last bit."""
    settings = {"save_minutes": 1e-9, **parts}
    with pytest.raises(StopError):
        run(world, tmp_path / "stopped", on_step=stopped_at(last_step), **settings)
    steps = []
    resumed = run(world, tmp_path / "stopped", on_step=lambda done, total, note: steps.append(done), **settings)
    assert steps[0] == last_step
    whole, again = (run(world, tmp_path / name, **parts) for name in ("whole", "again"))
    noise = farthest(tmp_path / "whole", tmp_path / "again")
    assert noise < 1e-3  # or else the comparison would say nothing
    assert farthest(tmp_path / "whole", tmp_path / "stopped") <= 10 * noise
    if noise == 0:
        assert resumed.curve == whole.curve == again.curve


def test_a_training_begun_on_the_gpu_goes_on_without_one_and_back(world, tmp_path):
    settings = {"save_minutes": 1e-9}
    for number, device in ((4, DEVICE), (7, "cpu")):
        with pytest.raises(StopError):
            run(world, tmp_path, on_step=stopped_at(number), device=device, **settings)
    steps = []
    result = run(world, tmp_path, on_step=lambda done, total, note: steps.append(done), **settings)
    assert (steps[0], result.resumed_epoch) == (7, 2)
    assert np.isfinite([row["train_loss"] for row in result.curve]).all()
