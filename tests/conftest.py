"""Videos whose motion is known; no video is kept in git."""

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings

settings.register_profile("rgbflow", deadline=None, derandomize=True, database=None)  # a busy machine; nothing left
settings.load_profile("rgbflow")

# What a user has set for himself does not reach the tests, and they compute the same on a machine of many cores.
for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "HF_HUB_OFFLINE"):
    os.environ.pop(name, None)
for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # `make test` runs a process on each core

if TYPE_CHECKING:
    from rgbflow.bundle import Bundle
    from rgbflow.networks.stream_net import StreamNet
    from rgbflow.stream import Stream


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(H, W, 3) float32, 0 to 255: blobs of a few pixels, so that interpolated motion stays true."""
    noise = cv2.GaussianBlur(rng.random((height, width, 3), dtype=np.float32), (0, 0), 2)
    return cv2.normalize(noise, None, 20, 235, cv2.NORM_MINMAX)


def _moving_square(
    dx: float,
    dy: float,
    frames: int = 12,
    size: tuple[int, int] = (160, 120),
    seed: int = 0,
    tint: tuple[float, float, float] = (1, 1, 1),
    place: tuple[float, float] = (0, 0),
    side: int | None = None,
) -> np.ndarray:
    """A textured square that moves before a textured background that stands still.

    Args:
        dx: motion to the right, pixels per frame step; may be fractional.
        dy: motion down.
        frames: number of frames T.
        size: (W, H).
        seed: of both textures.
        tint: factors for red, green and blue of the square.
        place: where the square's centre is halfway through, in pixels right and down of the picture's.
        side: of the square; half the shorter side of the picture if not given.

    Returns:
        (T, H, W, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    side = side or min(size) // 2
    background, square = _texture(rng, width, height), _texture(rng, side, side) * np.float32(tint)
    left, top = (width - side) / 2 + place[0], (height - side) / 2 + place[1]
    pictures = []
    for step in np.arange(frames) - (frames - 1) / 2:
        to_place = np.float32([[1, 0, left + step * dx], [0, 1, top + step * dy]])
        moved = cv2.warpAffine(square, to_place, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.warpAffine(np.ones((side, side, 1), np.float32), to_place, size)[..., None]
        pictures.append(share * moved + (1 - share) * background)
    return np.clip(np.round(pictures), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def moving_square() -> Callable[..., np.ndarray]:
    """The function `_moving_square`: (dx, dy, frames, size, seed) to (T, H, W, 3) uint8."""
    return _moving_square


@pytest.fixture
def square_video(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a moving square to tmp_path (H.264, 25 frames a second); it returns the path."""
    from rgbflow.video.writing import write_video

    def write(dx: float, dy: float, frames: int = 12, size=(160, 120), name: str = "square.mp4") -> Path:
        write_video(tmp_path / name, _moving_square(dx, dy, frames, size), 25)
        return tmp_path / name

    return write


def _made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that one of the processes of this run fills, while those that need it too wait for it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = shared / name, shared / f"{name}.made"
    with FileLock(shared / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed at it
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@dataclass(frozen=True)
class World:
    """A small data set with its store and split, and the bundle trained on it; nothing in it may be changed.

    left and right differ only in the direction of motion, red and green only in colour.
    """

    videos: Path
    store: Path
    split: Path
    bundle: Path
    config: Path


WORLD_CONFIG = """\
backbone = "resnet10t"
weights = "none"
input_size = 56
crop_fraction = 1.0
stack_length = 3
epochs = 10
learning_rate = 0.1
gradient_clip = 5.0
flip = false
workers = 0
precision = "fp32"
# As plain as can be, whatever the presets have
num_segments = 1
batch_size = 16
dropout = 0.0
label_smoothing = 0.0
warmup_epochs = 1.0
corner_crops = false
subtract_mean_flow = false
balanced = false
least_steps = 0
average_epochs = 0
patience = 0
"""
LOOKS = {
    "left": ((-2, 0), (0.2, 0.3, 1)),
    "right": ((2, 0), (0.2, 0.3, 1)),
    "red": ((0, 2), (1, 0.2, 0.2)),
    "green": ((0, 2), (0.2, 1, 0.2)),
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Film, prepare, split and train once for all tests."""
    return _world_in(_made_once(tmp_path_factory, "world", lambda folder: _make_world(_world_in(folder))))


def _world_in(folder: Path) -> World:
    return World(*(folder / name for name in ("videos", "store", "split.json", "bundle", "config.toml")))


def _make_world(made: World) -> None:
    """Through the command line, as a user would."""
    from rgbflow.cli import main
    from rgbflow.video.writing import write_video

    made.config.write_text(WORLD_CONFIG)
    groups = []
    for label, (motion, tint) in LOOKS.items():
        for group in range(20):
            place = np.random.default_rng(group).uniform(-6, 6, size=2)  # the same for all classes of a group
            pixels = _moving_square(*motion, frames=12, size=(64, 64), seed=group, tint=tint, place=tuple(place))
            write_video(made.videos / label / f"{group}.mp4", pixels, 25)
            groups.append(f"{label}/{group}.mp4\tperson{group}\n")
    (made.videos / "groups.tsv").write_text("".join(groups))
    store, split, bundle = str(made.store), str(made.split), str(made.bundle)
    assert main(["prepare", str(made.videos), "--out", store, "--short-side", "64", "--bound", "8"]) == 0
    assert main(["split", store, "--out", split]) == 0
    for stream in ("rgb", "flow"):
        options = ["--split", split, "--stream", stream, "--out", bundle, "--config", str(made.config)]
        assert main(["train", store, *options]) == 0


@pytest.fixture(scope="session")
def ucf101_lists() -> Path:
    """Folder of UCF101's official lists."""
    data = Path(os.environ.get("RGBFLOW_DATA", Path(__file__).parents[1] / "../shared/data"))
    if not (data / "ucf101-lists/classInd.txt").is_file():
        pytest.skip("UCF101's lists are not there: set RGBFLOW_DATA")
    return data / "ucf101-lists"


@pytest.fixture(scope="session")
def jhmdb11() -> Path:
    """Folder of eleven actions of JHMDB, with lists and groups."""
    data = Path(os.environ.get("RGBFLOW_DATA", Path(__file__).parents[1] / "../shared/data"))
    if not (data / "jhmdb-11/classInd.txt").is_file():
        pytest.skip("JHMDB's eleven actions are not there: set RGBFLOW_DATA")
    return data / "jhmdb-11"


@dataclass(frozen=True)
class LongWorld:
    """A store of two classes, left and right, whose clips have frames enough for the networks that read 16, and its
    split; nothing in it may be changed."""

    store: Path
    split: Path


@pytest.fixture(scope="session")
def long_world(tmp_path_factory: pytest.TempPathFactory) -> LongWorld:
    """Film, prepare and split once for all tests."""
    folder = _made_once(tmp_path_factory, "long", _make_long_world)
    return LongWorld(folder / "store", folder / "split.json")


def _make_long_world(folder: Path) -> None:
    from rgbflow.cli import main
    from rgbflow.video.writing import write_video

    for label in ("left", "right"):
        for group in range(15):
            pixels = _moving_square(*LOOKS[label][0], frames=18, size=(48, 48), seed=group)
            write_video(folder / "videos" / label / f"v_{label}_g{group + 1:02d}_c01.mp4", pixels, 25)
    store, split = str(folder / "store"), str(folder / "split.json")
    assert main(["prepare", str(folder / "videos"), "--short-side", "48", "--bound", "8", "--out", store]) == 0
    assert main(["split", store, "--out", split]) == 0


@pytest.fixture(scope="session")
def evaluation(world: World):
    """The answers of the world's bundle for its test part."""
    from rgbflow import Recognizer
    from rgbflow.data.splits import load_split
    from rgbflow.data.store import Store
    from rgbflow.learn.evaluate import evaluate_recognizer

    return evaluate_recognizer(
        Recognizer.load(world.bundle), Store(world.store), load_split(world.split), num_snippets=3
    )


@dataclass(frozen=True)
class Exported:
    """A bundle of two streams with random weights that are sure of something, and its ONNX files beside them; nothing
    in it may be changed."""

    folder: Path
    bundle: "Bundle"
    networks: "dict[Stream, StreamNet]"


def _save_random_bundle(folder: Path) -> "Bundle":
    """Make a bundle of two streams with random weights that are sure of something; the same each time."""
    import torch

    from rgbflow.bundle import Bundle, load_bundle, save_stream
    from rgbflow.networks.stream_net import StreamNet
    from rgbflow.stream import FlowSettings, Preparation, StreamSpec

    specs = {
        "rgb": StreamSpec("rgb", "test_resnet", 56, 1, (0.45, 0.5, 0.4), (0.25, 0.2, 0.3)),
        "flow": StreamSpec("flow", "test_resnet", 56, 4, (0.5, 0.5), (0.1, 0.1), subtract_mean_flow=True),
    }
    preparation = Preparation(80, FlowSettings("farneback", bound=6.0, reduction=1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for stream, spec in specs.items():
            network = StreamNet(spec, 5)
            torch.nn.init.normal_(network.backbone.get_classifier().weight, std=4)
            split = {"protocol": "group", "seed": 0, "sha256": "0" * 64}
            addition = Bundle(tuple("abcde"), preparation, {stream: spec}, split)
            save_stream(folder, addition, stream, network.state_dict())
    return load_bundle(folder)


@pytest.fixture(scope="session")
def save_random_bundle() -> "Callable[[Path], Bundle]":
    """The function `_save_random_bundle`: a folder to the record of the bundle that it now is."""
    return _save_random_bundle


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle with random networks, to teach on."""
    folder = tmp_path_factory.mktemp("base")
    _save_random_bundle(folder)
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Make and export it once for all tests: torch takes some seconds for each stream."""
    from rgbflow.bundle import load_bundle
    from rgbflow.networks.export import export_bundle
    from rgbflow.networks.torch_engine import load_networks

    def make(folder: Path) -> None:
        export_bundle(folder, _save_random_bundle(folder), folder, "onnx")

    folder = _made_once(tmp_path_factory, "exported", make)
    bundle = load_bundle(folder)
    networks = {stream: network.eval() for stream, network in load_networks(folder, bundle).items()}
    return Exported(folder, bundle, networks)


@pytest.fixture
def benchmark_module(monkeypatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a benchmark by its name; what it imports from its own folder is forgotten afterwards."""
    folder, before = Path(__file__).parents[1] / "benchmarks", set(sys.modules)
    monkeypatch.syspath_prepend(folder)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == folder:
            del sys.modules[name]
