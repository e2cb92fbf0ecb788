"""What only an NVIDIA GPU shows: answers, inputs and trainings there against those of the CPU.

`benchmarks/gpu.py` runs these tests; where there is no GPU they are skipped.
"""

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from rgbflow.data.dataset import ClipDataset, collate, collate_drawn, finish
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.device import choose_device, has_fast_bf16
from rgbflow.errors import InputError
from rgbflow.fusion import probabilities
from rgbflow.learn.config import TrainConfig, with_algorithm
from rgbflow.learn.spec import form_of_input
from rgbflow.learn.train import train
from rgbflow.live.batching import SharedEngine
from rgbflow.networks.engine import TOLERANCES, TorchEngine
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
STEP = 1 / 255 / 0.1  # between two neighbouring values of 8-bit flow, after normalisation by a spread of 0.1


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


def engine_of(saved, device, precision):
    return Recognizer.load(saved[0], device, "torch", precision=precision).engine


def scores_of(engine, stream, snippets, crops=1):
    return probabilities(engine.logits(stream, snippets, crops))


def run(world, folder, stream="rgb", on_step=lambda done, total, note: None, **values):
    config = dataclasses.replace(TINY, **values)
    return train(Store(world.store), load_split(world.split), stream, folder, config, lambda line: None, on_step)


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
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=STEP / 20)


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
    # The colours are rounded to 8 bits after each change: a last bit may differ, twice a step of a plane at most.
    tolerance = 3 / 255 / min(spec.std) if stream == "rgb" else STEP / 20
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=tolerance)
    assert (there.cpu() - here).abs().mean() < tolerance / 20


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("crops", [1, 10])
def test_fp32_without_tf32_gives_the_scores_of_the_cpu(saved, stream, crops, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    there, here = engine_of(saved, DEVICE, "fp32"), engine_of(saved, "cpu", "fp32")
    assert there.name == f"torch fp32 on {DEVICE}"
    for count, width in [(1, 80), (25, 142)]:
        snippets = snippets_of(saved[1], stream, count, width, seed=width)
        expected = scores_of(here, stream, snippets, crops)
        assert np.ptp(expected, axis=1).max() > 0.2  # sure of something
        np.testing.assert_allclose(scores_of(there, stream, snippets, crops), expected, atol=TOLERANCES["fp32"])


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [("fp32", 0.02), ("bf16", 0.05)],  # fp32 has TF32 in its convolutions, unless told otherwise
)
def test_scores_are_near_those_of_the_cpu_in_fp32(saved, stream, precision, tolerance):
    there, here = engine_of(saved, DEVICE, precision), engine_of(saved, "cpu", "fp32")
    snippets = snippets_of(saved[1], stream, count=8)
    np.testing.assert_allclose(scores_of(there, stream, snippets), scores_of(here, stream, snippets), atol=tolerance)


def test_auto_takes_torch_and_bf16_though_exported_files_are_there(saved, tmp_path):
    for name in [*(path.name for path in saved[0].iterdir())]:
        (tmp_path / name).symlink_to(saved[0] / name)
    for stream in saved[1].streams:
        (tmp_path / f"{stream}.onnx").write_bytes(b"not opened")
    engine = Recognizer.load(tmp_path).engine
    assert isinstance(engine, TorchEngine)
    assert engine.name == f"torch {'bf16' if has_fast_bf16(choose_device()) else 'fp32'} on {DEVICE}"


def test_one_engine_serves_many_threads(saved):
    engine = engine_of(saved, DEVICE, "fp32")
    given = [snippets_of(saved[1], "rgb", 2, 80 + seed, seed) for seed in range(12)]
    alone = [scores_of(engine, "rgb", snippets) for snippets in given]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda snippets: scores_of(engine, "rgb", snippets), given))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCES["fp32"])


def test_a_video_is_labelled_followed_and_explained_as_on_the_cpu(saved, square_video, moving_square):
    video = square_video(2, 1, frames=20)
    there, here = (Recognizer.load(saved[0], device, "torch", precision="fp32") for device in (DEVICE, "cpu"))
    np.testing.assert_allclose(there.predict(video).scores, here.predict(video).scores, atol=TOLERANCES["bf16"])
    explained, expected = there.explain(video, num_snippets=3), here.explain(video, num_snippets=3)
    for stream, maps in expected.maps.items():
        np.testing.assert_allclose(explained.maps[stream].values, maps.values, atol=0.05)
    with SharedEngine(there.engine, max_batch=2) as shared:
        for recognizer, engine in ((there, None), (there, shared)):
            live, reference = recognizer.live(engine=engine), here.live()
            for number, pixels in enumerate(moving_square(2, 1, frames=20)):
                one, other = (session.push(pixels, number / 25) for session in (live, reference))
                assert (one is None) == (other is None)
                if one is not None:
                    np.testing.assert_allclose(one.prediction.scores, other.prediction.scores, atol=TOLERANCES["bf16"])
            assert one is not None


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
