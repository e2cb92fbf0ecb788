"""How long video networks take beside image networks, by engine: a clip, a live update, memory; writes video.md.

    python benchmarks/video.py DATA/ucf101-sample [--work runs/video] [--only s3d,mvit_v2_s] [--rounds N]

Each network has random weights, which cost as much time as trained ones, and one stream, rgb. Each pair of network and
engine runs in a process of its own, one thread, one after the other, so that its memory is its own. Exported files that
are there are not made again. Accuracy is no part of this.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "video.md"
IMAGE_NETWORKS = {"lite": ("tf_efficientnet_lite0", 192), "resnet101": ("resnet101", 224)}
NETWORKS = ("lite", "resnet101", "s3d", "r3d_18", "mc3_18", "r2plus1d_18", "i3d", "mvit_v2_s")
INFLATED = "tf_efficientnet_lite0"  # what the i3d of this page inflates
ENGINES = ("torch fp32", "torch bf16", "onnx fp32", "openvino fp32", "openvino bf16")
FRAMES = 90  # of the video that a live recogniser is shown


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


def make_files(folder: Path, network: str) -> None:
    """The bundle and its exported files, unless they are there."""
    from rgbflow.bundle import load_bundle
    from rgbflow.networks.export import export_bundle

    if not (folder / "rgb.safetensors").is_file():
        make_bundle(folder, network)
    for name, file in (("onnx", "rgb.onnx"), ("openvino", "rgb.xml")):
        if not (folder / file).is_file():
            export_bundle(folder, load_bundle(folder), folder, name)


def measure(folder: Path, engine: str, videos: Path, rounds: int) -> dict:
    """Processor milliseconds of a snippet, a clip and a live update (medians), and the peak memory of this process."""
    import torch

    from rgbflow import Recognizer
    from rgbflow.bundle import load_bundle
    from rgbflow.networks.loading import EXPORTED
    from rgbflow.networks.torch_engine import TorchEngine, load_networks
    from rgbflow.video.reading import decode

    torch.set_num_threads(1)
    name, precision = engine.split()
    bundle = load_bundle(folder)
    if name == "torch":
        runs = TorchEngine(bundle.streams, load_networks(folder, bundle), "cpu", precision)
    else:  # without loading.load_engine, whose comparison with torch would count as memory
        runs = EXPORTED[name](folder, bundle, precision)
    recognizer = Recognizer(bundle, runs)
    frames = [frame.pixels for _, frame in zip(range(FRAMES), decode(sorted(videos.rglob("*.avi"))[0]), strict=False)]
    spec, count = bundle.streams["rgb"], recognizer.usual_snippets
    side = bundle.preparation.short_side
    snippets = np.random.default_rng(0).integers(0, 256, (count, spec.channels, side, side * 4 // 3), dtype=np.uint8)
    runs.answers({"rgb": snippets[:1]})
    snippet = [_seconds(lambda: runs.answers({"rgb": snippets[:1]})) for _ in range(rounds)]
    clip = [
        _seconds(lambda: [runs.answers({"rgb": one[None]}) for one in snippets]) for _ in range(max(1, rounds // 3))
    ]
    return {
        "snippet_ms": 1000 * statistics.median(snippet),
        "clip_ms": 1000 * statistics.median(clip),
        "clip_snippets": count,
        "update_ms": 1000 * statistics.median(_updates(recognizer, frames, rounds)),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _seconds(function) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def _updates(recognizer, frames: list[np.ndarray], rounds: int) -> list[float]:
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


def page(results: dict, origin: dict) -> str:
    rows = []
    for network, engines in results.items():
        for engine, found in engines.items():
            rows.append(
                f"| {network} | {engine} | {found['snippet_ms']:.0f} | {found['clip_ms'] / 1000:.2f} "
                f"({found['clip_snippets']}) | {found['update_ms']:.0f} | {found['peak_mib']:.0f} |"
            )
    lines = "\n".join(rows)
    sizes = ", ".join(f"{name} is {backbone} at {size}×{size}" for name, (backbone, size) in IMAGE_NETWORKS.items())
    return f"""# Video networks: time and memory

One stream, rgb, random weights, one thread. {sizes}; i3d is {INFLATED} inflated, at 224×224. A clip is as many snippets
as `predict` takes, in brackets, one after the other. A live update is from a frame of a camera to the scores, with the
network's answer in it. All times are medians of processor time, which is that of the clock on a core that nobody else
uses; memory is the peak of the process, libraries included.

| network | engine | a snippet, ms | a clip, s (snippets) | a live update, ms | memory, MiB |
|---|---|---|---|---|---|
{lines}

The machine was shared with other work while this ran (load {origin["load"]} on {os.cpu_count()} cores), so compare
lines of this page with each other, and not with those of other pages.

Made by `{origin["command"]}` at commit {origin["commit"]} on {origin["machine"]}, {origin["date"]}.
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("videos", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/video"))
    parser.add_argument("--only", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "ENGINE"), help="measure this pair in this process")
    arguments = parser.parse_args()
    if arguments.one:
        network, engine = arguments.one
        print(json.dumps(measure(arguments.work / network, engine, arguments.videos, arguments.rounds)))
        return
    results: dict = {}
    for network in arguments.only.split(","):
        print(f"exporting {network}", file=sys.stderr)
        make_files(arguments.work / network, network)
    load = f"{os.getloadavg()[0]:.0f}"
    for network in arguments.only.split(","):
        for engine in ENGINES:
            command = [sys.executable, __file__, str(arguments.videos), "--work", str(arguments.work)]
            command += ["--rounds", str(arguments.rounds), "--one", network, engine]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            made = subprocess.run(command, env=environment, capture_output=True, text=True)
            if made.returncode:
                print(f"{network} {engine}: {made.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            results.setdefault(network, {})[engine] = json.loads(made.stdout)
            print(network, engine, made.stdout.strip(), file=sys.stderr)
    origin = {**describe_origin(), "load": load}
    PAGE.with_suffix(".json").write_text(json.dumps({"results": results, "origin": origin}, indent=2) + "\n")
    PAGE.write_text(page(results, origin))


if __name__ == "__main__":
    main()
