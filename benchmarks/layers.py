"""Where the time of an update goes: its stages, and in each network the kinds of layers; writes docs/results/layers.md.

    python benchmarks/layers.py VIDEOS [--keep runs/live] [--updates 50]      (a folder of videos)

The bundles are those of inference.py, with random weights; the layers are timed by OpenVINO itself.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import openvino
import torch
from inference import SIZES, STACK, make_bundles, precisions, wait_until_idle
from pages import write_page

from rgbflow import Recognizer
from rgbflow.atomic import write_atomically
from rgbflow.clip import ClipWindow, FrameClip
from rgbflow.networks.openvino_engine import openvino_core
from rgbflow.origin import describe_origin
from rgbflow.stream import STREAMS
from rgbflow.transforms import read_snippets

PAGE = Path(__file__).parents[1] / "docs" / "results" / "layers.md"
ENGINES = {".openvino": precisions("openvino").split()[1], ".int8": "int8"}
STAGES = ("frame to working size", "flow", "rgb network", "flow network", "fusion")
WARM = 5


def stage_times(bundle: Path, frames: list[np.ndarray], updates: int) -> dict[str, float]:
    """Per stage of an update its median in milliseconds."""
    recognizer = Recognizer.load(bundle, "cpu", "openvino")
    clip, found = FrameClip(recognizer.bundle.preparation), defaultdict(list)
    for number in range(WARM + STACK + updates):
        spent = {"flow": -clip.flow_seconds}
        began = time.perf_counter()
        clip.push(frames[number % len(frames)], number / 25)
        pushed = time.perf_counter() - began
        spent["flow"] += clip.flow_seconds
        spent["frame to working size"] = pushed - spent["flow"]
        first = clip.num_frames - STACK - 1
        if first < WARM:
            continue
        clip.forget(first)
        spent |= recognizer.predict(ClipWindow(clip, first, STACK + 1, 0.0, 1.0), num_snippets=1).seconds
        for stage in STAGES:
            found[stage].append(1000 * spent[stage])
    return {stage: float(np.median(found[stage])) for stage in STAGES}


def layer_times(path: Path, snippet: np.ndarray, threads: int, runs: int) -> dict[str, dict[str, float]]:
    """Per kind of layer of a network: milliseconds (the median of its runs) and 10⁹ operations."""
    model = openvino_core().read_model(path)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    request = openvino_core().compile_model(model, "CPU", options).create_infer_request()
    nodes = {node.get_friendly_name(): node for node in model.get_ops()}
    found = defaultdict(lambda: {"ms": [0.0] * runs, "operations": 0.0})
    for run in range(-WARM, runs):
        request.infer({"snippets": snippet})
        is_before = True
        for layer in request.get_profiling_info() if run >= 0 else ():
            is_convolution = layer.node_type in ("Convolution", "GroupConvolution")
            is_before &= not is_convolution
            node = nodes[layer.node_name] if is_convolution else None
            kind = (
                kind_of(node, layer.exec_type) if node else "crop, scaling, mean and std" if is_before else "the rest"
            )
            found[kind]["ms"][run] += 1000 * layer.real_time.total_seconds()
            if node and run == 0:
                found[kind]["operations"] += operations_of(node)
    return {kind: {"ms": float(np.median(row["ms"])), "operations": row["operations"]} for kind, row in found.items()}


def kind_of(node: openvino.Node, executed: str) -> str:
    """What a convolution is called in the table: its kernel, and what it computes in."""
    kernel = "×".join(str(size) for size in node.input_value(1).get_partial_shape().get_min_shape()[-2:])
    grouped = "depthwise " if node.get_type_name() == "GroupConvolution" else ""
    precision = {"I8": "int8", "f32": "fp32"}.get(executed.split("_")[-1], executed.split("_")[-1])
    return f"{grouped}convolutions {kernel}, {precision}"


def operations_of(node: openvino.Node) -> float:
    """Of a convolution for one snippet, in thousand millions; a multiplication and an addition are two."""
    weights = node.input_value(1).get_partial_shape().get_min_shape()
    read = np.prod(weights[2:] if node.get_type_name() == "GroupConvolution" else weights[1:])
    made = np.prod([size.get_length() for size in list(node.get_output_partial_shape(0))[1:]])
    return 2 * float(read * made) / 1e9


def page(measured: dict, threads: int, updates: int) -> str:
    """The results page."""
    stages = "\n".join(
        f"| {name} | {' | '.join(f'{times[stage]:.2f}' for stage in STAGES)} | {sum(times.values()):.1f} |"
        for name, times in measured["stages"].items()
    )
    layers = "\n".join(
        f"| {name} | {kind} | {row['ms']:.2f} | {100 * row['ms'] / sum(one['ms'] for one in rows.values()):.0f} | "
        + (f"{row['operations']:.2f} | {1000 * row['operations'] / row['ms']:.0f} |" if row["operations"] else " | |")
        for name, rows in measured["layers"].items()
        for kind, row in sorted(rows.items(), key=lambda item: -item[1]["ms"])
        if row["ms"] >= 0.05
    )
    origin = describe_origin()
    return f"""# Where the time of an update goes

Medians of {updates} updates with {threads} threads, in milliseconds. In each update, a frame of a real video arrives,
its flow field is computed, both networks read one snippet, and their scores are fused.

| networks | {" | ".join(STAGES)} | together |
|---|{"---|" * (len(STAGES) + 1)}
{stages}

Inside the networks, by OpenVINO's own counters: the time of each kind of layer, its operations, and its operations per
second. Kinds that take less than 0.05 ms are left out.

| network | layers | ms | share % | 10⁹ operations | 10⁹ operations/s |
|---|---|---|---|---|---|
{layers}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make layers` writes this page.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the bundles, as of inference.py")
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measured = {"stages": {}, "layers": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        frames, clip = make_bundles(folder, arguments.videos)
        wait_until_idle()
        for network in SIZES:
            for suffix, precision in ENGINES.items():
                bundle = (folder / network).with_suffix(suffix)
                title = f"{network} × 2, {precision}"
                measured["stages"][title] = stage_times(bundle, frames, arguments.updates)
                specs = Recognizer.load(bundle, "cpu", "openvino").bundle.streams
                for stream in STREAMS:
                    snippet = read_snippets(clip, specs[stream], np.zeros(1, int)).numpy()
                    times = layer_times(bundle / f"{stream}.xml", snippet, arguments.threads, arguments.updates)
                    measured["layers"][f"{network}, {stream}, {precision}"] = times
    record = {"threads": arguments.threads, "origin": describe_origin(), **measured}
    write_atomically(PAGE.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
    write_page(PAGE, page(measured, arguments.threads, arguments.updates))


if __name__ == "__main__":
    main()
