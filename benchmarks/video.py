"""How long video networks take beside image networks, by engine: a clip, a live update, memory; writes video.md.

    python benchmarks/video.py VIDEOS [--work runs/video] [--only s3d,mvit_v2_s] [--engines "onnx fp32"]

Each network has random weights, which cost as much time as trained ones, and one stream, rgb. Each pair of network and
engine runs in a process of its own, one thread, one after the other, so that its memory is its own. Exported files that
are there are not made again. Accuracy is no part of this: of bfloat16 and 8-bit integers, it compares the logits.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_page

from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "video.md"
INFLATION = PAGE.with_name("inflation.json")  # of inflation.py, whose figures stand in the page too
IMAGE_NETWORKS = {"lite": ("tf_efficientnet_lite0", 192), "resnet101": ("resnet101", 224)}
NETWORKS = ("lite", "resnet101", "s3d", "r3d_18", "mc3_18", "r2plus1d_18", "i3d", "mvit_v2_s")
INFLATED = "tf_efficientnet_lite0"  # what the i3d of this page inflates
ENGINES = ("torch fp32", "torch bf16", "onnx fp32", "openvino fp32", "openvino bf16", "openvino int8")
REFERENCE = ENGINES[0]
EXPORT = "export"  # what comes before the engines
FRAMES = 90  # of the video that a live recogniser is shown
SNIPPETS = 6  # each of a video of its own; as many others calibrate the 8-bit integers


def make_bundle(folder: Path, network: str) -> None:
    """A bundle of rgb with random weights."""
    import torch

    from rgbflow.bundle import Bundle, save_stream
    from rgbflow.learn.config import TrainConfig, changed, with_algorithm
    from rgbflow.learn.spec import form_of_input
    from rgbflow.networks.families import family_of
    from rgbflow.networks.stream_net import StreamNet
    from rgbflow.stream import Preparation

    image = IMAGE_NETWORKS.get(network)
    config = with_algorithm(TrainConfig(), "two-stream" if image else network)
    if image or network == "i3d":
        backbone, size = image or (INFLATED, 224)
        config = changed(config, {"backbone": backbone, "input_size": size})
    spec = form_of_input("rgb", config)
    torch.manual_seed(0)
    rate = family_of(config.algorithm).frame_rate
    preparation = Preparation(128 if spec.input_size == 112 else 256, jpeg_quality=None, frame_rate=rate)
    bundle = Bundle(tuple(f"class {number}" for number in range(101)), preparation, {"rgb": spec}, {"protocol": "none"})
    save_stream(folder, bundle, "rgb", StreamNet(spec, 101).state_dict())


def read_snippets_of(videos: Path, folder: Path) -> np.ndarray:
    """A snippet from the start of each of 2 · SNIPPETS videos: (N, C, h, w) uint8, all of one size."""
    import cv2

    from rgbflow.bundle import load_bundle
    from rgbflow.clip import FrameClip
    from rgbflow.transforms import read_snippets
    from rgbflow.video.reading import decode

    bundle, found = load_bundle(folder), []
    for path in sorted(videos.rglob("*.avi"))[:: max(1, len(list(videos.rglob("*.avi"))) // (2 * SNIPPETS))]:
        clip = FrameClip(bundle.preparation)
        for frame in decode(path):
            clip.push(cv2.resize(frame.pixels, (320, 240)), frame.pts_seconds)
            if clip.num_frames >= FRAMES:
                break
        found.append(read_snippets(clip, bundle.streams["rgb"], np.array([0])).numpy())
    return np.concatenate(found[: 2 * SNIPPETS])


def make_files(folder: Path, network: str, videos: Path) -> None:
    """The bundle, its exported files and what it is shown, unless they are there."""
    import openvino

    from rgbflow.atomic import write_atomically
    from rgbflow.bundle import load_bundle
    from rgbflow.networks.export import to_onnx, to_openvino
    from rgbflow.networks.torch_engine import load_networks

    if (folder / "done").exists():
        return
    make_bundle(folder, network)
    snippets = read_snippets_of(videos, folder)
    np.save(folder / "snippets.npy", snippets)
    bundle = load_bundle(folder)
    model = to_onnx(load_networks(folder, bundle)["rgb"], bundle.streams["rgb"], bundle.preparation)
    write_atomically(folder / "rgb.onnx", model.SerializeToString())
    for path, calibration in ((folder, ()), (folder / "int8", [one[None] for one in snippets[SNIPPETS:]])):
        try:
            openvino.save_model(to_openvino(model, calibration), path / "rgb.xml", compress_to_fp16=False)
        except Exception as error:  # nncf has many
            print(f"{network} {path.name}: {error}", file=sys.stderr)
    (folder / "done").touch()


def open_engine(folder: Path, bundle: Any, engine: str) -> Any:
    """An engine of a bundle, without `loading.load_engine`, whose comparison with torch would count as memory."""
    from rgbflow.networks.loading import EXPORTED
    from rgbflow.networks.torch_engine import TorchEngine, load_networks

    name, precision = engine.split()
    if name == "torch":
        return TorchEngine(bundle.streams, load_networks(folder, bundle), "cpu", precision)
    is_int8 = precision == "int8"
    return EXPORTED[name](folder / "int8" if is_int8 else folder, bundle, "auto" if is_int8 else precision)


def measure(folder: Path, engine: str, videos: Path, rounds: int) -> dict:
    """Processor milliseconds of a snippet and of a live update (medians), the peak memory of this process, and how far
    the logits are from torch's in fp32."""
    import torch

    from rgbflow import Recognizer
    from rgbflow.bundle import load_bundle
    from rgbflow.video.reading import decode

    torch.set_num_threads(1)
    bundle = load_bundle(folder)
    runs = open_engine(folder, bundle, engine)
    recognizer = Recognizer(bundle, runs)
    snippets = np.load(folder / "snippets.npy")[:SNIPPETS]
    seconds, logits = [], []
    runs.answers({"rgb": snippets[:1]})
    for one in snippets:
        seconds.append(_seconds(lambda one=one: logits.append(runs.answers({"rgb": one[None]})["rgb"].logits[0])))
    frames = [frame.pixels for _, frame in zip(range(FRAMES), decode(sorted(videos.rglob("*.avi"))[0]), strict=False)]
    updates = _updates(recognizer, frames, rounds)
    figures = {
        "snippet_ms": 1000 * statistics.median(seconds),
        "clip_snippets": recognizer.usual_snippets,
        "update_ms": 1000 * statistics.median(updates),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "off": _compare(folder / "logits.npy", np.array(logits), engine),
    }
    return {**figures, **_size(runs, bundle, snippets[:1])} if engine == REFERENCE else figures


def _size(runs: Any, bundle: Any, snippet: np.ndarray) -> dict[str, Any]:
    """Parameters, multiply-adds of a snippet, and its form."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        runs.answers({"rgb": snippet})
    spec = bundle.streams["rgb"]
    return {
        "parameters": sum(value.numel() for value in runs.networks["rgb"].parameters()),
        "multiply_adds": counter.get_total_flops() / 2,
        "form": [spec.stack_length, spec.input_size],
    }


def _compare(kept: Path, logits: np.ndarray, engine: str) -> float | None:
    """How far logits (N, K) are from torch's in fp32, as a share of what tells snippets apart; None without torch's."""
    if engine == REFERENCE:
        np.save(kept, logits)
    if not kept.exists():
        return None
    expected = np.load(kept)
    spread = np.square(expected - expected.mean(axis=0)).mean()
    return float(np.sqrt(np.square(logits - expected).mean() / spread))


def _seconds(function: Callable[[], object]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def _updates(recognizer: Any, frames: list[np.ndarray], rounds: int) -> list[float]:
    """Seconds from a frame to the update that it brings, of a camera of 25 frames a second; the networks always run."""
    live, seconds = recognizer.live(), []
    for number in range(1000):
        pixels = frames[number % len(frames)]
        began = time.process_time()
        update = live.push(pixels, number / 25)
        if update and "rgb network" in update.prediction.seconds:
            seconds.append(time.process_time() - began)
        if len(seconds) > rounds:  # the first one prepares the ring's frames too
            return seconds[1:]
    return seconds


def sizes_table(results: dict) -> str:
    lines = [
        "| network | parameters, 10⁶ | frames of a snippet | input | 10⁹ multiply-adds of a snippet | of a clip |",
        "|---|---|---|---|---|---|",
    ]
    for network, engines in results.items():
        own = engines[REFERENCE]
        frames, side = own["form"]
        snippet, clip = own["multiply_adds"] / 1e9, own["multiply_adds"] * own["clip_snippets"] / 1e9
        lines.append(
            f"| {network} | {own['parameters'] / 1e6:.1f} | {frames} | {side}×{side} | {snippet:.1f} | {clip:.0f} |"
        )
    return "\n".join(lines)


def times_table(results: dict) -> str:
    lines = [
        "| network | engine | a snippet, ms | a clip, s (snippets) | a clip, times resnet101's | a live update, ms "
        "| memory, MiB | logits off, % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for network, engines in results.items():
        for engine in ENGINES:
            own = engines.get(engine)
            if own is None:
                lines.append(f"| {network} | {engine} | none, see below | | | | | |")
                continue
            usual = results.get("resnet101", {}).get(engine)
            against = "" if usual is None else f"{_clip_ms(own) / _clip_ms(usual):.2f}"
            off = "" if own["off"] is None or engine == REFERENCE else f"{100 * own['off']:.2g}"
            lines.append(
                f"| {network} | {engine} | {own['snippet_ms']:.0f} | {_clip_ms(own) / 1000:.2f} "
                f"({own['clip_snippets']}) | {against} | {own['update_ms']:.0f} | {own['peak_mib']:.0f} | {off} |"
            )
    return "\n".join(lines)


def _clip_ms(figures: dict) -> float:
    return figures["snippet_ms"] * figures["clip_snippets"]


def inflation_section(found: dict) -> str:
    """What inflation.py measured."""
    form, origin = found["form"], found["origin"]
    rows, leads = [], []
    for name, own in found["sets"].items():
        for network, figures in own["networks"].items():
            low, high = figures["interval"]
            rows.append(
                f"| {name} | {network} | {figures['top1']:.1f} ({low:.1f} – {high:.1f}) "
                f"| {figures['test_clip_ms']:.0f} |"
            )
        low, high = own["lead_interval"]
        budget = f"{own['epochs']} epochs, {own['input_size']}×{own['input_size']} pixels"
        leads.append(
            f"{name} ({own['train']} clips train, {own['test']} test, of {own['groups']} groups, {budget}): "
            f"{own['lead']:+.1f} points ({low:+.1f} to {high:+.1f})"
        )
    seen = form["frames"] * form["snippets"]
    return f"""## Inflation against single frames

EfficientNet-Lite0 with ImageNet weights, twice: on {form["frames"]} single frames of a clip, whose logits are averaged,
and inflated (`--algorithm i3d`), on snippets of {form["frames"]} frames at {form["frame_rate"]:g} a second. Each has as
many frames in a step and at the test ({seen} of a clip), but only the second knows their order. Both train rgb alone,
with the settings of the preset `lite` but for its size, its epochs and its fitted classifier: one fold, one seed.
Top-1 is in percent with Wilson's 95 % interval; the interval of the lead takes a person or a source video as one
observation. Milliseconds are processor time of one thread.

| set | network | top-1 % | a test clip, ms |
|---|---|---|---|
{chr(10).join(rows)}

Inflation brings: {"; ".join(leads)}.

Made by `make inflation` at commit {origin["commit"]} on {origin["machine"]}, {origin["date"]}.
"""


def page(results: dict, origin: dict, inflation: str) -> str:
    sizes = ", ".join(
        f"{name} is {backbone} at {size}×{size}" for name, (backbone, size) in IMAGE_NETWORKS.items() if name in results
    )
    inflated = f"; i3d is {INFLATED} inflated" if "i3d" in results else ""
    return f"""# Video networks: time and memory

One stream, rgb, random weights, one thread. {sizes}{inflated}.

{sizes_table(results)}

A snippet's time is that of the engine, its preparation from 8-bit frames included, the median of {SNIPPETS} snippets of
different videos; a clip is that time for as many snippets as `predict` takes. A live update is from a frame of a camera
to the scores, with the network's answer in it. All times are medians of processor time, which is that of the clock on a
core that nobody else uses; memory is the peak of the process, libraries included.

"Logits off" is how far the logits are from those of torch in fp32: the root mean square of the difference, as a share
of the spread of the logits over the {SNIPPETS} videos. A network with random weights tells videos apart by little, so
this judges number formats more severely than trained weights would; accuracy can't be judged without these. 8-bit
integers were calibrated on {SNIPPETS} other videos.

{times_table(results)}

The machine was shared with other work while this ran (load {origin["load"]} on {os.cpu_count()} cores), so compare
lines of this page with each other, and not with those of other pages.

{inflation}
## How it was made

`make video` at commit {origin["commit"]} on {origin["machine"]}, {origin["date"]}, in {origin["minutes"]:.0f} minutes.
"""


def write_results() -> None:
    """The page, from the figures that video.py and inflation.py left."""
    made = json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))
    inflation = inflation_section(json.loads(INFLATION.read_text(encoding="utf-8"))) if INFLATION.exists() else ""
    write_page(PAGE, page(made["results"], made["origin"], inflation))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("videos", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/video"))
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "ENGINE"), help="only this pair, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        network, engine = arguments.one
        folder = arguments.work / network
        if engine == EXPORT:
            make_files(folder, network, arguments.videos)
        else:
            print(json.dumps(measure(folder, engine, arguments.videos, arguments.rounds)))
        return
    own = ["--work", str(arguments.work), "--rounds", str(arguments.rounds)]
    began, load, results = time.time(), f"{os.getloadavg()[0]:.0f}", {}
    for network in arguments.only.split(","):
        for engine in (EXPORT, *arguments.engines.split(",")):
            found = in_own_process(arguments.videos, own, network, engine)
            print(f"{time.time() - began:.0f} s: {network}, {engine}: {found}", file=sys.stderr)
            if found:
                results.setdefault(network, {})[engine] = found
    origin = {**describe_origin(), "load": load, "minutes": (time.time() - began) / 60}
    PAGE.with_suffix(".json").write_text(json.dumps({"results": results, "origin": origin}, indent=1) + "\n")
    write_results()


def in_own_process(videos: Path, own: list[str], network: str, engine: str) -> dict | None:
    """The figures of a pair; this process stays small, since a child's peak of memory begins with its parent's."""
    command = [sys.executable, __file__, str(videos), *own, "--one", network, engine]
    made = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    if made.returncode:
        print(f"{network}, {engine}: {(made.stderr.strip().splitlines() or ['killed'])[-1]}", file=sys.stderr)
    lines = made.stdout.splitlines()
    return json.loads(lines[-1]) if lines and not made.returncode and engine != EXPORT else None


if __name__ == "__main__":
    main()
