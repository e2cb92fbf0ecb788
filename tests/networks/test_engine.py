"""Every engine gives what torch gives, and the one that does not is not taken."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnx
import openvino
import pytest
import torch

from rgbflow import InputError, Recognizer, cli
from rgbflow.bundle import load_weights, weights_file
from rgbflow.fusion import probabilities
from rgbflow.networks.engine import StreamAnswer
from rgbflow.networks.export import to_openvino
from rgbflow.networks.loading import difference, load_engine, update_seconds
from rgbflow.networks.onnx_engine import OnnxEngine
from rgbflow.networks.openvino_engine import OpenVinoEngine
from rgbflow.networks.torch_engine import TorchEngine
from rgbflow.transforms import evaluation_crops, to_input


@pytest.fixture(scope="module")
def both(exported, tmp_path_factory):
    """A copy of the exported bundle that has OpenVINO's files too; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("engines") / "bundle"
    shutil.copytree(exported.folder, folder)
    for stream in exported.bundle.streams:
        model = to_openvino(onnx.load(folder / f"{stream}.onnx"))
        openvino.save_model(model, folder / f"{stream}.xml", compress_to_fp16=False)
    return folder


@pytest.fixture
def own(both, tmp_path):
    """A copy that may be changed."""
    return shutil.copytree(both, tmp_path / "own")


def snippets_of(bundle, stream, count=3, width=107, seed=0):
    shape = (count, bundle.streams[stream].channels, bundle.preparation.side_of(stream), width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def fp32(exported):
    return TorchEngine(exported.bundle.streams, exported.networks, "cpu", "fp32")


def logits(engine, stream, snippets, crops=1):
    return engine.answers({stream: snippets}, crops)[stream].logits


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("crops", [1, 10])
def test_logits_are_those_of_each_snippet_alone(exported, stream, crops):
    spec, snippets = exported.bundle.streams[stream], snippets_of(exported.bundle, stream)
    found = logits(fp32(exported), stream, snippets, crops)
    assert (found.shape, found.dtype) == ((3, 5), np.float32)
    for snippet, row in zip(snippets, found, strict=True):
        one = torch.from_numpy(snippet[None])
        looks = evaluation_crops(*one.shape[-2:], spec.crop_fraction, crops)
        with torch.inference_mode():
            inputs = torch.stack([to_input(one, crop, spec)[0] for crop in looks])
            expected = exported.networks[stream].backbone(inputs).mean(dim=0)
        np.testing.assert_allclose(row, expected.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("engine", "precision"),
    [(OnnxEngine, "auto"), (OnnxEngine, "fp32"), (OpenVinoEngine, "auto"), (OpenVinoEngine, "fp32")],
)
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_scores_of_other_engines_are_torchs(exported, both, engine, precision, stream):
    other, expected = engine(both, exported.bundle, precision), fp32(exported)
    assert precision in ("auto", other.name.split()[1])
    tolerance = 1e-4 if other.name.endswith("fp32") else 0.02  # OpenVINO takes bf16 where the CPU has it
    for count, width in [(1, 80), (3, 107), (25, 142), (2, 80)]:
        snippets = snippets_of(exported.bundle, stream, count, width, seed=width)
        found = logits(other, stream, snippets)
        assert (found.shape, found.dtype) == ((count, 5), np.float32)
        scores = probabilities(logits(expected, stream, snippets))
        assert np.ptp(scores, axis=1).max() > 0.2  # sure of something
        np.testing.assert_allclose(probabilities(found), scores, atol=tolerance)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_bf16_is_close(exported, stream):
    """Everywhere: a CPU without such arithmetic emulates it."""
    half = TorchEngine(exported.bundle.streams, exported.networks, "cpu", "bf16")
    assert (half.name, fp32(exported).name) == ("torch bf16", "torch fp32")
    snippets = snippets_of(exported.bundle, stream)
    one, other = (probabilities(logits(engine, stream, snippets)) for engine in (half, fp32(exported)))
    assert not np.array_equal(one, other)
    np.testing.assert_allclose(one, other, atol=0.02)


@pytest.mark.parametrize("crops", [1, 10])
def test_all_streams_at_once_give_what_each_gives_alone_and_features_when_asked(exported, crops):
    engine = fp32(exported)
    given = {stream: snippets_of(exported.bundle, stream, count) for stream, count in (("rgb", 2), ("flow", 3))}
    plain, both = engine.answers(given, crops), engine.answers(given, crops, with_features=True)
    assert list(plain) == list(both) == ["rgb", "flow"]
    for stream, snippets in given.items():
        np.testing.assert_array_equal(plain[stream].logits, logits(engine, stream, snippets, crops))
        assert plain[stream].features is None
        assert plain[stream].seconds > 0
        np.testing.assert_allclose(both[stream].logits, plain[stream].logits, rtol=1e-5, atol=1e-5)
        assert len(both[stream].features) == len(snippets)


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_features_times_the_classifier_are_the_logits(exported, both, stream, crops):
    """In every engine; the classifier's numbers are taken from the file of the weights."""
    weights, snippets = load_weights(exported.folder, stream), snippets_of(exported.bundle, stream)
    weight, bias = (weights[f"backbone.fc.{name}"].numpy() for name in ("weight", "bias"))
    engines = [fp32(exported)]
    if crops == 1:
        engines += [OnnxEngine(both, exported.bundle), OpenVinoEngine(both, exported.bundle, "fp32")]
    for engine in engines:
        answer = engine.answers({stream: snippets}, crops, with_features=True)[stream]
        assert (answer.features.shape, answer.features.dtype) == ((3, weight.shape[1]), np.float32)
        assert len({row.tobytes() for row in answer.features}) == 3
        np.testing.assert_allclose(answer.features @ weight.T + bias, answer.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("engine", [OnnxEngine, OpenVinoEngine])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_features_of_other_engines_are_torchs(exported, both, engine, stream):
    other, snippets = engine(both, exported.bundle), snippets_of(exported.bundle, stream)
    found, expected = (
        one.answers({stream: snippets}, with_features=True)[stream].features for one in (other, fp32(exported))
    )
    share = 1e-4 if other.name.endswith("fp32") else 0.02  # of the largest feature
    np.testing.assert_allclose(found, expected, atol=share * expected.max())


@pytest.mark.parametrize(("suffix", "engine"), [("onnx", OnnxEngine), ("xml", OpenVinoEngine)])
def test_files_from_before_there_were_features_give_logits_and_name_the_remedy(exported, own, suffix, engine):
    for path in own.glob("*.onnx"):
        model = onnx.load(path)
        (last,) = [one for one in model.graph.output if one.name == "features"]
        model.graph.output.remove(last)
        onnx.save(model, path)
        openvino.save_model(to_openvino(model), path.with_suffix(".xml"), compress_to_fp16=False)
    loaded, given = engine(own, exported.bundle), {"flow": snippets_of(exported.bundle, "flow")}
    assert loaded.answers(given)["flow"].logits.shape == (3, 5)
    with pytest.raises(
        InputError, match=r"flow file of \w+ \w+ has no features, .*again with `rgbflow export`, or use"
    ):
        loaded.answers(given, with_features=True)


def test_one_engine_serves_many_threads(exported, both):
    for engine in (OpenVinoEngine(both, exported.bundle), OnnxEngine(both, exported.bundle)):
        given = [snippets_of(exported.bundle, "rgb", 2, 80 + seed, seed) for seed in range(12)]
        alone = [logits(engine, "rgb", snippets) for snippets in given]
        with ThreadPoolExecutor(6) as pool:
            together = list(pool.map(lambda snippets, engine=engine: logits(engine, "rgb", snippets), given))
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_auto_takes_the_fastest_and_torch_where_nothing_is_exported(exported, both, tmp_path, monkeypatch):
    engines = {both: (OpenVinoEngine, OnnxEngine, TorchEngine), exported.folder: (OnnxEngine, TorchEngine)}
    for folder, faster in [(folder, one) for folder, there in engines.items() for one in there]:

        def measured(engine, bundle, faster=faster):
            return 1.0 if type(engine) is faster else 2.0

        with monkeypatch.context() as during:
            during.setattr("rgbflow.networks.loading.update_seconds", measured)
            first = load_engine(folder, exported.bundle, "cpu")
        assert type(first) is faster
        assert first.networks.keys() == ({"rgb", "flow"} if faster is TorchEngine else set())
    shutil.copytree(exported.folder, tmp_path / "bare", ignore=shutil.ignore_patterns("*.onnx"))
    third = load_engine(tmp_path / "bare", exported.bundle, "cpu")
    assert type(third) is TorchEngine
    assert third.networks.keys() == {"rgb", "flow"}


def test_files_of_other_weights_are_not_taken(exported, own):
    import safetensors.torch

    weights = load_weights(own, "flow")
    weights["backbone.fc.weight"] = weights["backbone.fc.weight"].flip(0).contiguous()
    weights_file(own, "flow").write_bytes(safetensors.torch.save(weights))
    said, bundle = [], replace(exported.bundle, files={})  # else their hashes would tell
    engine = load_engine(own, bundle, "cpu", report=said.append)
    assert type(engine) is TorchEngine
    assert len(said) == 2
    assert all("`rgbflow export` makes its files again" in line for line in said)
    for name in ("openvino", "onnx"):
        with pytest.raises(InputError, match="its scores differ from those of the weights by up to"):
            load_engine(own, bundle, "cpu", name)


def test_an_update_is_one_snippet_of_each_stream_at_its_best(exported, monkeypatch):
    clock, seen = iter([0, 9, 10, 13, 20, 22, 30, 34]), []  # the first of four is not counted

    class Noted:
        def answers(self, snippets):
            seen.append({stream: given.shape for stream, given in snippets.items()})

    monkeypatch.setattr("rgbflow.networks.loading.time.perf_counter", lambda: next(clock))
    assert update_seconds(Noted(), exported.bundle) == 2
    assert seen == [{"rgb": (1, 3, 80, 106), "flow": (1, 8, 80, 106)}] * 4


def test_the_difference_of_engines_is_seen(exported, both):
    one = OpenVinoEngine(both, exported.bundle)
    assert difference(one, fp32(exported), exported.bundle) < (1e-4 if one.name.endswith("fp32") else 0.02)

    class Turned(TorchEngine):
        def answers(self, snippets):
            found = super().answers(snippets)
            return {**found, "flow": replace(found["flow"], logits=found["flow"].logits + (np.arange(5) == 2))}

    turned = Turned(exported.bundle.streams, exported.networks, "cpu", "fp32")
    assert difference(one, turned, exported.bundle) > 1e-3


def test_an_engine_whose_scores_are_no_numbers_is_not_used(exported, both, monkeypatch):
    def no_numbers(self, snippets):
        return {name: StreamAnswer(np.full((len(one), 5), np.nan), None, 0.0) for name, one in snippets.items()}

    monkeypatch.setattr(OpenVinoEngine, "answers", no_numbers)
    with pytest.raises(InputError, match="its scores differ from those of the weights by up to nan"):
        load_engine(both, exported.bundle, "cpu", "openvino")


def test_a_library_that_is_not_installed_is_passed_by_or_named(exported, both, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr("rgbflow.networks.loading.update_seconds", lambda engine, bundle: type(engine) is TorchEngine)
    said = []
    engine = load_engine(both, exported.bundle, "cpu", report=said.append)
    assert type(engine) is OnnxEngine
    assert said == ["openvino is not installed: pip install 'rgbflow[openvino]', or use torch"]
    with pytest.raises(InputError, match="openvino is not installed"):
        load_engine(both, exported.bundle, "cpu", "openvino")


@pytest.mark.parametrize(("engine", "suffix"), [("openvino", "xml"), ("onnx", "onnx")])
def test_a_damaged_file_is_named(exported, own, engine, suffix):
    path = own / f"rgb.{suffix}"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=rf"the files for {engine} in .* can't be read .*: export the bundle again"):
        load_engine(own, replace(exported.bundle, files={}), "cpu", engine)  # as an older record, without hashes


@pytest.mark.parametrize("engine", [OnnxEngine, OpenVinoEngine])
def test_what_a_file_does_not_hold_is_refused(exported, both, engine):
    loaded = engine(both, exported.bundle)
    with pytest.raises(InputError, match="can't do 10 crops"):
        loaded.answers({"rgb": snippets_of(exported.bundle, "rgb")}, 10)
    with pytest.raises(InputError, match=r"short side of 64 pixels, but .* expects 80"):
        loaded.answers({"rgb": np.zeros((1, 3, 64, 90), np.uint8)})


def test_a_precision_that_an_engine_has_not_is_refused_or_passed_by(exported, both, monkeypatch):
    with pytest.raises(InputError, match="onnx computes in fp32, not in bf16"):
        load_engine(both, exported.bundle, "cpu", "onnx", precision="bf16")
    monkeypatch.setattr("rgbflow.networks.loading.update_seconds", lambda engine, bundle: type(engine) is TorchEngine)
    said = []
    engine = load_engine(exported.folder, exported.bundle, "cpu", report=said.append, precision="bf16")
    assert (engine.name, said) == ("torch bf16", ["onnx computes in fp32, not in bf16: use openvino or torch"])
    for name in ("torch", "openvino", "onnx"):
        assert load_engine(both, exported.bundle, "cpu", name, precision="fp32").name == f"{name} fp32"


def test_an_engine_without_files_names_the_command_that_makes_them(exported):
    with pytest.raises(InputError, match=r"`rgbflow export .* --to openvino` makes them"):
        Recognizer.load(exported.folder, engine="openvino")


def test_predict_says_which_engine(both, square_video, capsys):
    import json

    video = square_video(2, 1)
    for extra, name in [
        (["--engine", "openvino"], "openvino"),
        (["--engine", "onnx"], "onnx"),
        (["--crops", "10"], "torch"),
    ]:
        assert cli.main(["predict", str(both), str(video), "--json", "--snippets", "2", *extra]) == 0
        out, error = capsys.readouterr()
        assert json.loads(out)["engine"].split()[0] == name
        assert error == ""


DROPPED = """
import gc, os, signal, sys
from pathlib import Path
from rgbflow.bundle import load_bundle
from rgbflow.networks.openvino_engine import OpenVinoEngine

folder = Path(sys.argv[1])
first, second = (OpenVinoEngine(folder, load_bundle(folder)) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("interrupted"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_ctrl_c_is_no_crash_after_two_engines_were_dropped_in_the_order_they_were_made(both):
    done = subprocess.run([sys.executable, "-c", DROPPED, both], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
