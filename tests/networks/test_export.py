"""Exported files give what torch gives, for any number and size of snippets, and are a bundle again."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from rgbflow import InputError, Recognizer, cli
from rgbflow.bundle import load_bundle, save_bundle, save_stream
from rgbflow.data.dataset import training_snippets
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.flow import quantise
from rgbflow.fusion import Fusion, probabilities
from rgbflow.learn.evaluate import evaluate_recognizer
from rgbflow.networks.export import (
    REPLACED,
    StreamGraph,
    _kept_in_floats,
    export_bundle,
    scaling_matrix,
    to_onnx,
    to_openvino,
    with_opset,
)
from rgbflow.networks.loading import TOLERANCES
from rgbflow.networks.onnx_engine import OnnxEngine
from rgbflow.networks.openvino_engine import OpenVinoEngine
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.torch_engine import TorchEngine
from rgbflow.stream import FlowSettings, Preparation, StreamSpec
from rgbflow.transforms import snippets_to_input

SIZES = [(1, 80, 80), (3, 80, 107), (2, 121, 80), (25, 80, 142)]  # snippets, height, width


def noise(count, channels, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, height, width), dtype=np.uint8)


@torch.inference_mode()
def reference(network, spec, snippets):
    """Logits (N, K), the way every other part of the program makes them."""
    return network(snippets_to_input(torch.from_numpy(snippets), spec)[:, None]).numpy()


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("input_size", [56, 70, 96], ids=["smaller", "same", "larger"])
@pytest.mark.parametrize("subtract", [False, True])
def test_the_graph_prepares_its_input_as_every_other_way_does(stream, input_size, subtract):
    if stream == "rgb" and subtract:
        subtract = False
    planes, length = (3, 1) if stream == "rgb" else (2, 3)
    mean, std = (0.4, 0.5, 0.6)[:planes], (0.1, 0.2, 0.3)[:planes]
    spec = StreamSpec(stream, "test_resnet", input_size, length, mean, std, subtract_mean_flow=subtract)
    preparation = Preparation(80, FlowSettings(reduction=1))
    graph = StreamGraph(StreamNet(spec, 2), spec, preparation)
    for count, height, width in SIZES:
        snippets = torch.from_numpy(noise(count, spec.channels, height, width))
        torch.testing.assert_close(graph.input_of(snippets), snippets_to_input(snippets, spec), rtol=0, atol=2e-5)


def test_scaling_up_by_a_matrix_is_bilinear_with_half_pixel_centres():
    """Against the formula, for one row: output pixel i lies at (i + 0.5) * side / size - 0.5."""
    for side, size in [(5, 9), (56, 224), (3, 4)]:
        found = scaling_matrix(side, size).numpy()
        for row in range(size):
            place = min(max((row + 0.5) * side / size - 0.5, 0), side - 1)
            expected = [max(0.0, 1 - abs(place - column)) for column in range(side)]
            np.testing.assert_allclose(found[row], expected, atol=1e-5)


@pytest.mark.parametrize("opset", [18, 15])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_an_onnx_file_gives_torchs_logits_and_scores(exported, stream, opset):
    model = with_opset(onnx.load(exported.folder / f"{stream}.onnx"), opset)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", opset)]
    if opset == 15:
        assert model.ir_version <= 8  # older runtimes read no newer one
    assert "Resize" not in {node.op_type for node in model.graph.node}
    running, spec = session(model), exported.bundle.streams[stream]
    for count, height, width in SIZES:
        snippets = noise(count, spec.channels, height, width, seed=width)
        logits, scores = running.run(["logits", "scores"], {"snippets": snippets})
        expected = reference(exported.networks[stream], spec, snippets)
        assert np.ptp(softmax(expected[0])) > 0.2  # sure of something
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scores, softmax(expected.mean(axis=0)), atol=1e-4)


def test_displacements_in_pixels_give_what_their_8_bits_give(exported):
    spec, preparation = exported.bundle.streams["flow"], exported.bundle.preparation
    running = session(with_opset(to_onnx(exported.networks["flow"], spec, preparation, float_input=True), 15))
    pixels = np.random.default_rng(1).normal(0, 3, (2, 8, 80, 100)).astype(np.float32)  # some beyond the bound
    stored = quantise(pixels, preparation.flow.bound)
    assert (stored == 255).any()
    (logits,) = running.run(["logits"], {"snippets": pixels})
    np.testing.assert_allclose(logits, reference(exported.networks["flow"], spec, stored), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("algorithm", "backbone"), [("c3d", "c3d_quarter"), ("lrcn", "test_resnet")])
def test_the_papers_rivals_are_exported_too(algorithm, backbone):
    torch.manual_seed(0)
    spec = StreamSpec("flow", backbone, 32, 16, (0.5, 0.5), (0.2, 0.2), algorithm=algorithm)
    network = StreamNet(spec, 4).eval()
    model = to_onnx(network, spec, Preparation(48))
    for one in (model, with_opset(model, 15)):
        running = session(one)
        for count, width in [(1, 48), (3, 64)]:
            snippets = noise(count, 32, 48, width)
            logits, features = running.run(["logits", "features"], {"snippets": snippets})
            np.testing.assert_allclose(logits, reference(network, spec, snippets), rtol=1e-3, atol=1e-4)
            with torch.inference_mode():
                inputs = snippets_to_input(torch.from_numpy(snippets), spec)[None]
                (expected,) = network.features(inputs).numpy()
            np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


class AddsToSlices(torch.nn.Module):
    """Adds to slices in place: to inner ones, to one up to the end, to whole axes."""

    def forward(self, values):
        values = values.clone()
        values[:, 1:, 2:-1] += values[:, 1:, :3]
        values[:, :1] -= 7
        values[..., -2:] = 3
        return values


def test_slices_that_are_added_to_become_concatenations():
    values = torch.arange(2 * 4 * 6.0).reshape(2, 4, 6)
    program = torch.onnx.export(
        AddsToSlices().eval(),
        (values,),
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({0: torch.export.Dim("n")},),
        custom_translation_table=REPLACED,
        verbose=False,
    )
    model = program.model_proto
    assert "ScatterND" not in {node.op_type for node in model.graph.node}
    (found,) = session(model).run(None, {model.graph.input[0].name: values[:1].numpy()})
    np.testing.assert_array_equal(found, AddsToSlices().eval()(values[:1]).numpy())


def test_a_bundle_without_weights_labels_a_video_as_the_one_with_them(exported, tmp_path, square_video):
    video = square_video(2, 1)
    exact = TorchEngine(exported.bundle.streams, exported.networks, "cpu", "fp32")
    expected = Recognizer(exported.bundle, exact).predict(video, num_snippets=3)
    for to in ("onnx", "openvino"):
        folder = tmp_path / to
        if to == "onnx":
            save_bundle(folder, exported.bundle)
            for stream in exported.bundle.streams:
                shutil.copy(exported.folder / f"{stream}.onnx", folder)
        else:
            export_bundle(exported.folder, exported.bundle, folder, to)
        assert not list(folder.glob("*.safetensors"))
        recognizer = Recognizer.load(folder)
        assert recognizer.engine.name.split()[0] == to
        found = recognizer.predict(video, num_snippets=3)
        assert found.label == expected.label
        tolerance = TOLERANCES[recognizer.engine.name.split()[1]]
        for stream, scores in expected.stream_scores.items():
            np.testing.assert_allclose(found.stream_scores[stream], scores, atol=tolerance)
        np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance)
        with pytest.raises(InputError, match="holds no weights for torch"):
            Recognizer.load(folder, engine="torch")
        with pytest.raises(InputError, match=f"pass --engine {to}, or export from the weights"):
            Recognizer.load(folder, engine={"onnx": "openvino", "openvino": "onnx"}[to])
        with pytest.raises(InputError, match="load the bundle with the engine torch"):
            recognizer.explain(video)


def test_calibration_reads_training_clips_only(world, monkeypatch):
    split, read = load_split(world.split), []
    clip = Store.clip
    monkeypatch.setattr(Store, "clip", lambda self, name: read.append(name) or clip(self, name))
    spec = load_bundle(world.bundle).streams["flow"]
    for most in (5, 2 * len(split.train) + 1):
        read.clear()
        snippets = training_snippets(Store(world.store), split, spec, most)
        assert len(read) == len(set(read)) == min(most, len(split.train))
        assert len(snippets) == len(read) * max(1, most // len(split.train))
        assert len({one.tobytes() for one in snippets}) == len(snippets)  # two of a clip are two places of it
        assert set(read) <= {one.name for one in split.train}
        assert all(one.shape == (1, 6, 64, 64) and one.dtype == np.uint8 for one in snippets)
    assert {one.label for one in split.train} == {name.split("/")[0] for name in read}


def test_8_bit_integers_name_the_clips_that_torch_names(world, evaluation, tmp_path, monkeypatch):
    """Through the command, with every val and test clip poisoned."""
    split = load_split(world.split)
    poisoned = {one.name for one in split.val + split.test}

    def guarded(self, name, clip=Store.clip):
        assert name not in poisoned
        return clip(self, name)

    out = tmp_path / "int8"
    options = ["--out", out, "--int8", world.store, "--split", world.split]
    with monkeypatch.context() as during:
        during.setattr(Store, "clip", guarded)
        assert cli.main([str(one) for one in ("export", world.bundle, "--to", "openvino", *options)]) == 0
    recognizer = Recognizer.load(out)
    assert recognizer.engine.name == "openvino int8"
    with pytest.raises(InputError, match="openvino computes in int8 here, not in fp32: export the bundle without"):
        Recognizer.load(out, engine="openvino", precision="fp32")
    found = evaluate_recognizer(recognizer, Store(world.store), split, num_snippets=3)
    for name, scores in evaluation.scores.items():
        assert not np.array_equal(found.scores[name], scores)
        assert np.abs(found.scores[name] - scores).mean() < 0.03
    video = world.videos / "left" / "0.mp4"
    exact = Recognizer.load(world.bundle, engine="torch", precision="fp32").features(video, 3)
    for stream, features in recognizer.features(video, 3).items():
        lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(exact[stream], axis=1)
        cosines = (features * exact[stream]).sum(axis=1) / lengths
        assert (cosines > 0.97).all()
        assert not np.array_equal(features, exact[stream])
    assert np.mean(found.scores["fused"].argmax(axis=1) == evaluation.scores["fused"].argmax(axis=1)) >= 0.9


def test_the_network_is_in_8_bits_but_for_its_first_layers(exported):
    """The preparation and what reads at least half the input's resolution keep their precision."""
    model = onnx.load(exported.folder / "flow.onnx")
    quantised = to_openvino(model, [noise(1, 8, 80, 100, seed) for seed in range(8)])
    nodes = quantised.get_ordered_ops()
    layers = [node for node in nodes if node.get_type_name() == "Convolution"]
    sizes = [node.get_input_partial_shape(0)[2].get_length() for node in layers]
    for node, size in zip(layers, sizes, strict=True):
        weights = node.input_value(1).get_node().get_type_name()  # of 8 bits: what scales them back
        assert weights == ("Constant" if 2 * size >= sizes[0] else "Multiply")
    assert 0 < sum(2 * size >= sizes[0] for size in sizes) < len(sizes)
    first = nodes.index(layers[0])
    assert not [node for node in nodes[:first] if node.get_type_name() == "FakeQuantize"]


def test_training_a_stream_anew_removes_the_files_of_its_former_weights(exported, tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(exported.folder, folder)
    addition = replace(exported.bundle, streams={"rgb": exported.bundle.streams["rgb"]})
    save_stream(folder, addition, "rgb", exported.networks["rgb"].state_dict())
    assert not (folder / "rgb.onnx").exists()
    assert (folder / "flow.onnx").exists()
    assert Recognizer.load(folder).engine.name.startswith("torch")


def test_another_bundle_is_not_written_over(exported, tmp_path):
    other = tmp_path / "other"
    save_bundle(other, replace(exported.bundle, classes=tuple("vwxyz")))
    with pytest.raises(InputError, match="holds another bundle"):
        export_bundle(exported.folder, exported.bundle, other, "onnx")


def test_a_bundle_calibrated_since_it_was_exported_is_exported_again(exported, tmp_path):
    out = tmp_path / "out"
    export_bundle(exported.folder, exported.bundle, out, "openvino")
    save_bundle(out, replace(load_bundle(out), licence="CC0"))  # `evaluate` too leaves another record
    calibrated = replace(exported.bundle, fusion=replace(exported.bundle.fusion, temperature=0.5))
    export_bundle(exported.folder, calibrated, out, "openvino")
    assert replace(load_bundle(out), files=calibrated.files) == calibrated  # the files are others: those of OpenVINO


def test_of_c3d_the_layers_that_read_half_the_resolution_are_kept_in_floats():
    spec = StreamSpec("flow", "c3d_quarter", 32, 16, (0.5, 0.5), (0.2, 0.2), algorithm="c3d")
    model = to_openvino(to_onnx(StreamNet(spec, 4).eval(), spec, Preparation(48)))
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    assert [layer.get_input_partial_shape(0)[-1].get_length() for layer in layers] == [32, 16, 8, 8, 4, 4, 2, 2]
    kept = set(_kept_in_floats(model))
    assert [layer.get_friendly_name() in kept for layer in layers] == [True, True, *[False] * 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onnx", "--opset", "14"], "--opset (14) must be 15 to 18"),
        (["--to", "openvino", "--opset", "15"], "--opset is for --to onnx"),
        (["--to", "onnx", "--int8", "store", "--split", "split.json"], "use --to openvino"),
        (["--to", "openvino", "--int8", "store"], "--int8 STORE and --split go together"),
        (["--to", "openvino", "--split", "split.json"], "--int8 STORE and --split go together"),
    ],
)
def test_settings_that_do_not_fit_are_refused(exported, capsys, arguments, message):
    assert cli.main(["export", str(exported.folder), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_hub_id_needs_a_folder_to_write_to(capsys):
    assert cli.main(["export", "nobody/nothing", "--to", "onnx"]) == 1
    assert "pass --out" in capsys.readouterr().err


@pytest.mark.parametrize(("package", "to"), [("onnxscript", "onnx"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_its_extra(exported, tmp_path, monkeypatch, package, to):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    monkeypatch.setattr("rgbflow.networks.export.to_onnx", to_onnx if to == "onnx" else lambda *arguments: None)
    with pytest.raises(InputError, match=rf"pip install 'rgbflow\[{to}\]'"):
        export_bundle(exported.folder, exported.bundle, tmp_path / "out", to)


def test_float_input_loads_again_as_a_bundle(exported, tmp_path):
    """The engine hands frames and displacements over as such a file takes them."""
    bundle = replace(exported.bundle, streams={"flow": exported.bundle.streams["flow"]})
    snippets, logits = noise(3, 8, 80, 100), []
    for float_input in (True, False):
        out = tmp_path / str(float_input)
        export_bundle(exported.folder, bundle, out, "openvino", float_input=float_input)
        engine = OpenVinoEngine(out, bundle)
        logits.append(engine.answers({"flow": snippets})["flow"].logits)
    np.testing.assert_allclose(*logits, rtol=1e-3, atol=1e-3)
    if engine.name.endswith("fp32"):
        expected = reference(exported.networks["flow"], bundle.streams["flow"], snippets)
        np.testing.assert_allclose(logits[0], expected, rtol=1e-3, atol=1e-3)


def test_the_example_of_the_docs_runs(exported, tmp_path, monkeypatch, capsys):
    """It knows nothing of rgbflow."""
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert "rgbflow" not in example
    (tmp_path / "shared").mkdir()
    folder = shutil.copytree(exported.folder, tmp_path / "shared" / "mine")
    fitted = Fusion(temperature=0.5)
    save_bundle(folder, replace(exported.bundle, fusion=fitted))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/export.md", "exec"), {})
    label, score = capsys.readouterr().out.split()
    inputs = {"rgb": np.zeros((3, 3, 80, 80), np.uint8), "flow": np.full((3, 8, 80, 80), 127, np.uint8)}
    engine = OnnxEngine(folder, exported.bundle)
    answers = engine.answers(inputs).items()
    scores = fitted.fuse({name: probabilities(answer.logits.mean(axis=0)) for name, answer in answers})
    assert (label, float(score)) == (exported.bundle.classes[scores.argmax()], pytest.approx(scores.max(), abs=1e-4))
