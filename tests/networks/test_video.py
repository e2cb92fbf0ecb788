"""Video networks give what torchvision's own give: the same frames, the same pixels, the same logits."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rgbflow import InputError, Recognizer, cli
from rgbflow.bundle import Bundle, load_bundle, save_stream
from rgbflow.clip import FrameClip
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.device import has_fast_bf16
from rgbflow.learn.config import TrainConfig, with_algorithm
from rgbflow.learn.train import train_stream
from rgbflow.networks.export import export_bundle
from rgbflow.networks.families import family_of
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.video import NETWORKS, VideoNetwork, kinetics_bundle, published_weights
from rgbflow.networks.weights import initialise
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.transforms import read_snippets, snippets_to_input
from rgbflow.video.reading import decode
from rgbflow.video.writing import write_video

PAGE = Path(__file__).parents[2] / "docs" / "video.md"
FULL_SIZE = [pytest.mark.full_size, pytest.mark.timeout(3600)]  # minutes of one busy core
LONG = [pytest.param(name, marks=[] if name == "s3d" else FULL_SIZE) for name in NETWORKS]
SMALL = {"frames": 8, "input_size": 32, "epochs": 1, "flip": False, "workers": 0, "precision": "fp32"}


@pytest.mark.parametrize("backbone", NETWORKS)
def test_it_is_published_with_what_its_line_says(backbone):
    line, weights = NETWORKS[backbone], published_weights(backbone)
    said = dict(re.findall(r"`(frame_rate|clip_len)=([\d.]+)`", weights.meta["_docs"]))
    assert line.frame_rate == float(said["frame_rate"])
    assert line.frames == {"s3d": 16}.get(backbone, int(said["clip_len"]))
    assert weights.transforms().crop_size == [line.input_size] * 2
    assert weights.url.startswith("https://download.pytorch.org/models/")


@pytest.mark.parametrize("backbone", NETWORKS)
def test_parameters_and_operations_are_the_published_ones(backbone):
    line, meta = NETWORKS[backbone], published_weights(backbone).meta
    with torch.device("meta"), torch.no_grad():
        network = VideoNetwork(backbone, 3, 16, line.input_size, 400, 0.0).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 48, line.input_size, line.input_size))
    assert sum(value.numel() for value in network.parameters()) == meta["num_params"]
    assert counter.get_total_flops() / 2e9 == pytest.approx(meta["_ops"], abs=6e-4)  # it counts multiply-adds


@pytest.mark.parametrize("backbone", NETWORKS)
def test_the_page_tells_these_figures(backbone):
    line, meta = NETWORKS[backbone], published_weights(backbone).meta
    (row,) = re.findall(rf"^\| `{backbone}` \|(.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    figures = [f"{meta['num_params'] / 1e6:.1f}", f"{meta['_ops']:.1f}", str(line.frames), f"{line.frame_rate:g}"]
    assert [cell.strip() for cell in row.split("|")][:5] == [*figures, f"{line.input_size}×{line.input_size}"]


@pytest.mark.parametrize("size", [(320, 240), (640, 360), (270, 480), (131, 97)])  # beside two, half a pixel is left
@pytest.mark.parametrize("backbone", NETWORKS)
def test_frames_are_prepared_as_torchvision_does(backbone, size):
    width, height = size
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8)
    ready = kinetics_bundle(backbone)
    clip = FrameClip(ready.preparation)
    for place, pixels in enumerate(frames):
        clip.push(pixels, place / ready.spec.frame_rate)
    spec = dataclasses.replace(ready.spec, stack_length=2)
    found = snippets_to_input(read_snippets(clip, spec, np.array([0])), spec)[0]
    expected = published_weights(backbone).transforms()(torch.from_numpy(frames).permute(0, 3, 1, 2))
    torch.testing.assert_close(found.unflatten(0, (2, 3)).transpose(0, 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backbone", LONG)
def test_a_video_gets_the_logits_of_torchvision(backbone, stand_in, moving_square):
    network = stand_in(backbone)
    recognizer = Recognizer.load(f"kinetics:{backbone}", "cpu", "torch", precision="fp32")
    spec, frames = recognizer.bundle.streams["rgb"], moving_square(3, -1, NETWORKS[backbone].frames, (320, 200))
    clip = FrameClip(recognizer.bundle.preparation)
    for place, pixels in enumerate(frames):
        clip.push(pixels, place / spec.frame_rate)
    snippet = read_snippets(clip, spec, np.array([0]))
    found = recognizer.engine.answers({"rgb": snippet.numpy()})["rgb"].logits
    video = published_weights(backbone).transforms()(torch.from_numpy(frames).permute(0, 3, 1, 2))
    with torch.inference_mode():
        expected = network(video[None]).numpy()
    assert expected.std() > 0.005
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_ready_made_bundle_names_classes_and_licence_and_is_made_once(stand_in, square_video, served):
    stand_in("s3d")
    recognizer = Recognizer.load("kinetics:s3d", engine="torch")
    assert len(recognizer.bundle.classes) == 400
    assert "playing guitar" in recognizer.bundle.classes
    assert "Kinetics-400" in recognizer.bundle.licence
    for path in served[0].iterdir():
        path.unlink()
    prediction = Recognizer.load("kinetics:s3d", engine="torch").predict(square_video(1, 0, 30), num_snippets=1)
    assert prediction.label in recognizer.bundle.classes


def test_a_name_without_a_network_is_refused():
    with pytest.raises(
        InputError, match=r"kinetics:i4d is no ready-made bundle: after kinetics: write one of s3d, r3d"
    ):
        Recognizer.load("kinetics:i4d")


def test_weights_start_a_network_for_flow_and_other_classes(stand_in):
    published = stand_in("s3d").state_dict()
    spec = StreamSpec("flow", "s3d", 32, 8, (0.5,) * 2, (0.1,) * 2, algorithm="s3d", frame_rate=15.0)
    network = StreamNet(spec, 5)
    assert initialise(network, spec, "kinetics").startswith("weights from http://127.0.0.1")
    first = network.backbone.trunk.features[0][0][0].weight
    expected = published["features.0.0.0.weight"].mean(dim=1)
    assert first.shape[1] == 2
    for plane in range(2):
        torch.testing.assert_close(first[:, plane], expected)
    last = network.backbone.trunk.features[-1].branch0[0].weight
    torch.testing.assert_close(last, published["features.15.branch0.0.weight"])


@pytest.fixture(scope="module")
def small_bundle(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("video") / "bundle"
    for stream in ("rgb", "flow"):
        config = with_algorithm(TrainConfig(), "s3d")
        config = type(config)(**{**vars(config), **SMALL, "weights": "none"})
        train_stream(Store(world.store), load_split(world.split), stream, folder, config)
    return folder


def test_it_trains_predicts_explains_and_watches(small_bundle, world):
    record = load_bundle(small_bundle)
    assert [(spec.stack_length, spec.frame_rate) for spec in record.streams.values()] == [(8, 15.0)] * 2
    recognizer = Recognizer.load(small_bundle, engine="torch", precision="fp32")
    video = world.videos / "red" / "0.mp4"  # 12 frames at 25 a second: a snippet lasts longer
    assert recognizer.predict(video, num_snippets=2).label in record.classes
    maps = recognizer.explain(video, num_snippets=2).maps["rgb"]
    assert len(maps.values) == len(maps.places) == 2  # eight frames end as one step of time
    live = recognizer.live()
    frames = [frame.pixels for frame in decode(video)] * 3
    updates = [update for place, one in enumerate(frames) if (update := live.push(one, place / 25))]
    needed = round(7 * 25 / 15) + 1  # steps of 25 a second that eight frames at 15 a second span, and both ends
    assert len(updates) == len(frames) - needed  # flow needs a frame more


def test_it_is_measured_with_as_many_snippets_as_predict_takes(small_bundle, world, tmp_path, capsys):
    bundle = shutil.copytree(small_bundle, tmp_path / "bundle")
    assert cli.main(["evaluate", str(bundle), str(world.store), "--split", str(world.split), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["snippets"] == 5


EXPORTED = [
    ("mc3_18", 4, 32),
    *(pytest.param(name, 16, 224, marks=FULL_SIZE) for name in ("s3d", "mvit_v2_s")),
]


@pytest.mark.parametrize(("backbone", "frames", "size"), EXPORTED)
def test_exported_files_give_the_same_scores(backbone, frames, size, tmp_path):
    spec = StreamSpec(
        "rgb", backbone, size, frames, (0.45,) * 3, (0.225,) * 3, algorithm=backbone, frame_rate=15.0, crop_fraction=1.0
    )
    torch.manual_seed(0)
    split = {"protocol": "group", "seed": 0, "sha256": "0" * 64}
    bundle = Bundle(tuple("abcde"), Preparation(size), {"rgb": spec}, split)
    save_stream(tmp_path, bundle, "rgb", StreamNet(spec, 5).state_dict())
    for name in ("onnx", "openvino"):
        export_bundle(tmp_path, bundle, tmp_path, name)
        recognizer = Recognizer.load(tmp_path, engine=name, precision="fp32")  # refuses scores that differ by 1e-4
        assert recognizer.engine.name == f"{name} fp32"
    if has_fast_bf16(torch.device("cpu")):
        snippets = {"rgb": np.random.default_rng(0).integers(0, 256, (2, spec.channels, size, size), np.uint8)}
        engines = [Recognizer.load(tmp_path, engine=name, precision="bf16").engine for name in ("openvino", "torch")]
        exact = recognizer.engine.answers(snippets, with_features=True)["rgb"].features
        for engine in engines:
            assert engine.name.endswith("bf16")
            found = engine.answers(snippets, with_features=True)["rgb"].features
            assert np.square(found - exact).mean() < 0.05**2 * np.square(exact).mean()


def test_live_sees_the_snippet_of_the_file(small_bundle, world, moving_square, tmp_path):
    recognizer = Recognizer.load(small_bundle, engine="torch", precision="fp32")
    frames = moving_square(1, 1, 14, (64, 64))  # one snippet of flow
    write_video(tmp_path / "clip.mp4", frames, 25)
    live, last = recognizer.live(), None
    for frame in decode(tmp_path / "clip.mp4"):
        last = live.push(frame.pixels, frame.pts_seconds) or last
    prediction = recognizer.predict(tmp_path / "clip.mp4", num_snippets=1)
    np.testing.assert_allclose(last.prediction.stream_scores["flow"], prediction.stream_scores["flow"], atol=1e-6)


def test_snippets_cover_the_same_time_of_any_video(tmp_path, small_bundle):
    """Frames that show their own time, filmed at three rates."""
    recognizer = Recognizer.load(small_bundle, engine="torch", precision="fp32")
    seen = {}
    for rate in (12.5, 25, 50):
        clip = FrameClip(recognizer.bundle.preparation)
        for place in range(int(rate)):
            clip.push(np.full((64, 64, 3), round(200 * place / rate), np.uint8), place / rate)
        spec = recognizer.bundle.streams["rgb"]
        levels = read_snippets(clip, spec, np.array([0]))[0, ::3, 0, 0].float()
        seen[rate] = levels / 200
    expected = torch.arange(8) / 15
    for rate, times in seen.items():
        assert (times - expected).abs().max() <= 0.5 / rate + 0.01


def test_the_last_frame_stands_in_for_those_a_short_video_lacks(small_bundle):
    recognizer = Recognizer.load(small_bundle, engine="torch", precision="fp32")
    clip = FrameClip(recognizer.bundle.preparation)
    for place in range(4):
        clip.push(np.full((64, 64, 3), 40 * place, np.uint8), place / 15)
    levels = read_snippets(clip, recognizer.bundle.streams["rgb"], np.array([0]))[0, ::3, 0, 0]
    assert levels.tolist() == [0, 40, 80, 120, 120, 120, 120, 120]
    assert recognizer.predict(clip, num_snippets=2).label in recognizer.bundle.classes


def test_a_transformer_says_what_it_reads_and_that_it_has_no_maps():
    spec = StreamSpec("rgb", "mvit_v2_s", 112, 16, (0.45,) * 3, (0.225,) * 3, algorithm="mvit_v2_s", frame_rate=7.5)
    with pytest.raises(InputError, match=r"input_size \(112\) must be 224 for mvit_v2_s: s3d and r3d_18 read any"):
        family_of("mvit_v2_s").build(spec, 5)
    assert family_of("mvit_v2_s").feature_map is None
