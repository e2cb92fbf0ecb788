"""One update of rgbflow against other ways to name what a video shows; writes docs/results/inference.md and .json.

    python benchmarks/inference.py VIDEOS [--updates 100] [--rounds 2] [--idle]      (a folder of videos)

Needs transformers. Every contender runs in a process of its own, one after another, in several rounds, on the same
frames. Weights are random: they cost as much time as trained ones. Without --idle it prints the figures of a busy
machine and writes no page; with it, it waits until nothing else runs.
"""

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from pages import write_page
from torch.utils.flop_counter import FlopCounterMode

from rgbflow import Recognizer
from rgbflow.atomic import write_atomically
from rgbflow.bundle import Bundle, load_bundle, save_bundle, save_stream
from rgbflow.clip import ClipWindow, FrameClip
from rgbflow.device import has_fast_bf16
from rgbflow.flow import make_estimator
from rgbflow.learn.presets import LITE
from rgbflow.networks.export import to_onnx, to_openvino
from rgbflow.networks.image import create_backbone
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.torch_engine import load_networks
from rgbflow.origin import describe_origin
from rgbflow.stream import FlowSettings, Preparation, StreamSpec
from rgbflow.transforms import read_snippets
from rgbflow.video.reading import decode, probe

PAGE = Path(__file__).parents[1] / "docs" / "results" / "inference.md"
CLASSES, STACK, CALIBRATION, WARM, MOST_SECONDS = 101, 10, 40, 3, 12.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {"ResNet101": ("resnet101", 224), "lite": (LITE.backbone, LITE.input_size)}
TORCHVISION = {  # network, its frames
    "r3d_18": ("R3D_18_Weights", 16),
    "r2plus1d_18": ("R2Plus1D_18_Weights", 16),
    "s3d": ("S3D_Weights", 16),
    "mvit_v2_s": ("MViT_V2_S_Weights", 16),
    "swin3d_t": ("Swin3D_T_Weights", 16),
}
Frames = list[np.ndarray]  # each (H, W, 3) uint8 RGB
Label = Callable[[Frames], np.ndarray]  # the frames up to now to scores (K,)


def precisions(engine: str) -> str:
    """What torch and OpenVINO compute in here."""
    return f"{engine} bf16" if has_fast_bf16(torch.device("cpu")) else f"{engine} fp32"


def contenders() -> dict[str, tuple[str, ...]]:
    """Per name, what makes it: see `make`."""
    found = {}
    for network in SIZES:
        pair = f"rgbflow, {network} × 2"
        found[f"{pair}, {precisions('torch')}"] = ("rgbflow", network, "torch")
        found[f"{pair}, onnx fp32"] = ("rgbflow", network, "onnx")
        found[f"{pair}, {precisions('openvino')}"] = ("rgbflow", network, "openvino")
        found[f"{pair}, openvino int8"] = ("rgbflow", network, "int8")
        found[f"rgbflow live, {network} × 2, openvino int8"] = ("live", network)
    for engine, name in (("torch", precisions("torch")), ("int8", "openvino int8")):
        for kind in ("warm", "new process"):
            found[f"rgbflow predict, ResNet101 × 2, {name}, {kind}"] = (kind, engine)
    found["plain PyTorch, ResNet101 × 2, fp32"] = ("plain",)
    for arithmetic in ("fp32", "bf16") if has_fast_bf16(torch.device("cpu")) else ("fp32",):
        for name, (_, frames) in TORCHVISION.items():
            found[f"torchvision {name}, {frames} frames, {arithmetic}"] = ("torchvision", name, arithmetic)
        found[f"VideoMAE-base, 16 frames, {arithmetic}"] = ("videomae", arithmetic)
    return found


def random_bundle(folder: Path, network: str) -> None:
    """A bundle of both streams with random weights."""
    backbone, size = SIZES[network]
    split = {"protocol": "none", "seed": 0, "sha256": "0" * 64}
    classes = tuple(f"class {number}" for number in range(CLASSES))
    specs = (
        StreamSpec("rgb", backbone, size, 1, MEAN, STD),
        StreamSpec("flow", backbone, size, STACK, (0.5, 0.5), (0.1, 0.1), subtract_mean_flow=network == "lite"),
    )
    for spec in specs:
        weights = StreamNet(spec, CLASSES).state_dict()
        save_stream(folder, Bundle(classes, Preparation(), {spec.stream: spec}, split), spec.stream, weights)


def export_all(folder: Path, clip: FrameClip) -> None:
    """Beside a bundle those of ONNX, of OpenVINO, and in 8-bit integers, calibrated on a clip."""
    import openvino

    bundle = load_bundle(folder)
    for stream, network in load_networks(folder, bundle).items():
        spec = bundle.streams[stream]
        starts = np.linspace(0, spec.num_items(clip.num_frames) - spec.span, CALIBRATION).astype(int)
        snippets = read_snippets(clip, spec, starts).numpy()
        model = to_onnx(network, spec, bundle.preparation)
        write_atomically(folder.with_suffix(".onnx") / f"{stream}.onnx", model.SerializeToString())
        for suffix, calibration in ((".openvino", ()), (".int8", [one[None] for one in snippets])):
            path = folder.with_suffix(suffix) / f"{stream}.xml"
            openvino.save_model(to_openvino(model, calibration), path, compress_to_fp16=False)
    for suffix in (".onnx", ".openvino", ".int8"):
        save_bundle(folder.with_suffix(suffix), bundle)


def make_bundles(folder: Path, videos: Path) -> tuple[Frames, FrameClip]:
    """The bundles of both sizes and their exports, unless they are there; the frames of a video, and its clip."""
    folder.mkdir(parents=True, exist_ok=True)
    frames, clip = read_frames(videos, 60), FrameClip(Preparation())
    for number, pixels in enumerate(frames):
        clip.push(pixels, number / 25)
    for network in SIZES:
        if not (folder / network).with_suffix(".int8").is_dir():
            random_bundle(folder / network, network)
            export_all(folder / network, clip)
    return frames, clip


def make_rgbflow(folder: Path, network: str, engine: str) -> Label:
    """One DIS flow field for the newest frame, both networks on one snippet, their fusion."""
    suffix = "" if engine == "torch" else f".{engine}"
    recognizer = Recognizer.load(
        (folder / network).with_suffix(suffix), "cpu", "openvino" if suffix == ".int8" else engine
    )
    clip = FrameClip(recognizer.bundle.preparation)

    def label(frames: Frames) -> np.ndarray:
        for pixels in frames[-1:] if clip.num_frames else frames:
            clip.push(pixels, clip.num_frames / 25)
        first = clip.num_frames - STACK - 1
        clip.forget(first)
        return recognizer.predict(ClipWindow(clip, first, STACK + 1, 0.0, 1.0), num_snippets=1).scores

    return label


def make_live(folder: Path, network: str) -> Label:
    """The same as a camera is watched: rgb runs only when the scene has changed, scores are a mean over a second."""
    live = Recognizer.load((folder / network).with_suffix(".int8"), "cpu", "openvino").live(updates_per_second=1000)
    seen = 0

    def label(frames: Frames) -> np.ndarray:
        nonlocal seen
        for pixels in frames[-1:] if seen else frames:
            update = live.push(pixels, seen / 25)
            seen += 1
        return update.prediction.scores

    return label


def make_predict(folder: Path, engine: str, is_new: bool) -> Label:
    """A whole clip, 25 snippets of each stream: in a process that has loaded the bundle, or with the command."""
    bundle, clip = (folder / "ResNet101").with_suffix("" if engine == "torch" else f".{engine}"), folder / "clip.avi"
    engine = "torch" if engine == "torch" else "openvino"
    if not is_new:
        recognizer = Recognizer.load(bundle, "cpu", engine)
        return lambda frames: recognizer.predict(clip).scores
    command = [sys.executable, "-m", "rgbflow", "predict", str(bundle), str(clip), "--engine", engine]

    def label(frames: Frames) -> np.ndarray:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return np.full(CLASSES, 1 / CLASSES)  # what it said is not looked at

    return label


def make_plain() -> Label:
    """The same two networks as people write them: eager, fp32, NCHW, DIS at the full size, a deque of fields."""
    import timm

    rgb, flow = (timm.create_model("resnet101", in_chans=c, num_classes=CLASSES).eval() for c in (3, 2 * STACK))
    estimate, fields, last = make_estimator(FlowSettings()), [], []

    def resized(pixels: np.ndarray) -> np.ndarray:
        scale = 256 / min(pixels.shape[:2])
        return cv2.resize(pixels, None, fx=scale, fy=scale)

    def centre(planes: np.ndarray) -> torch.Tensor:
        top, left = ((size - 224) // 2 for size in planes.shape[-2:])
        return torch.from_numpy(np.ascontiguousarray(planes[:, top : top + 224, left : left + 224])).float()[None]

    @torch.inference_mode()
    def label(frames: Frames) -> np.ndarray:
        for pixels in frames[-1:] if last else frames:
            frame = resized(pixels)
            gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            if last:
                fields.append(estimate(last.pop(), gray))
                del fields[:-STACK]
            last.append(gray)
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        image = (centre(frame.transpose(2, 0, 1)) / 255 - mean) / std
        stack = centre(np.concatenate(fields)) / 20
        scores = [network(one).softmax(dim=1) for network, one in ((rgb, image), (flow, stack))]
        return ((scores[0] + scores[1]) / 2)[0].numpy()

    return label


def make_torchvision(name: str, arithmetic: str) -> Label:
    """A video network with the preparation that its published weights come with."""
    import torchvision.models.video as models

    weights, count = TORCHVISION[name]
    prepare = getattr(models, weights).DEFAULT.transforms()
    network = getattr(models, name)(num_classes=CLASSES).eval()

    @torch.inference_mode()
    def label(frames: Frames) -> np.ndarray:
        clip = prepare(torch.from_numpy(np.stack(frames[-count:])).permute(0, 3, 1, 2))
        with torch.autocast("cpu", torch.bfloat16, enabled=arithmetic == "bf16"):
            return network(clip[None]).float().softmax(dim=1)[0].numpy()

    return label


def make_videomae(arithmetic: str) -> Label:
    """Hugging Face's VideoMAE-base with the preparation of its pipeline."""
    from transformers import VideoMAEConfig, VideoMAEForVideoClassification, VideoMAEImageProcessor

    network = VideoMAEForVideoClassification(VideoMAEConfig(num_labels=CLASSES)).eval()
    prepare = VideoMAEImageProcessor()

    @torch.inference_mode()
    def label(frames: Frames) -> np.ndarray:
        pixels = prepare(list(frames[-16:]), return_tensors="pt")["pixel_values"]
        with torch.autocast("cpu", torch.bfloat16, enabled=arithmetic == "bf16"):
            return network(pixels).logits.float().softmax(dim=1)[0].numpy()

    return label


def make(folder: Path, kind: str, *arguments: str) -> Label:
    """The contender that one row of `contenders` says."""
    if kind in ("rgbflow", "live"):
        return {"rgbflow": make_rgbflow, "live": make_live}[kind](folder, *arguments)
    if kind in ("warm", "new process"):
        return make_predict(folder, *arguments, is_new=kind == "new process")
    return {"plain": make_plain, "torchvision": make_torchvision, "videomae": make_videomae}[kind](*arguments)


def run_one(folder: Path, updates: int, threads: int, what: list[str]) -> dict:
    """Measure a contender in this process."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.manual_seed(0)
    frames = list(np.load(folder / "frames.npy"))
    label = make(folder, *what)
    milliseconds, started = [], time.monotonic()
    for number in range(WARM + updates):
        if len(milliseconds) > WARM and time.monotonic() - started > MOST_SECONDS:
            break
        end = 17 + number % (len(frames) - 17)
        if number == WARM:
            cpu = sum(os.times()[:4])  # of children too
        began = time.perf_counter()
        scores = label(frames[:end])
        milliseconds.append(1000 * (time.perf_counter() - began))
        if not (scores.shape == (CLASSES,) and abs(scores.sum() - 1) < 1e-3):
            sys.exit(f"{what}: these are no scores: {scores}")
    status = Path("/proc/self/status").read_text()  # ru_maxrss would know the parent's too
    own, child = int(re.search(r"VmHWM:\s+(\d+)", status)[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "ms": milliseconds[WARM:],
        "cpu": (sum(os.times()[:4]) - cpu) / (len(milliseconds) - WARM),
        "memory": max(own, child) / 1024,
    }


def read_frames(videos: Path, count: int) -> Frames:
    """The first `count` frames of the first video that has them."""
    for path in sorted(one for one in videos.rglob("*") if one.suffix in (".avi", ".mp4", ".mkv")):
        frames = [frame.pixels for _, frame in zip(range(count), decode(path), strict=False)]
        if len(frames) == count:
            print(path.name, frames[0].shape, file=sys.stderr)
            return frames
    sys.exit(f"{videos} holds no video of {count} frames")


def seven_seconds(videos: Path) -> Path:
    """The video whose length is nearest to 7 seconds."""
    found = sorted(one for one in videos.rglob("*") if one.suffix in (".avi", ".mp4", ".mkv"))
    return min(found, key=lambda path: abs((probe(path).duration_seconds or 0) - 7))


def wait_until_idle() -> None:
    """Return when the processors have done nothing for five seconds."""
    while True:
        shares = []
        for _ in range(2):
            with open("/proc/stat") as stat:
                shares.append(np.array(stat.readline().split()[1:9], float))
            time.sleep(5)
        spent = shares[1] - shares[0]
        if spent[3] / spent.sum() > 0.95:
            return
        print(f"waiting: the machine is {100 * (1 - spent[3] / spent.sum()):.0f} % busy", file=sys.stderr)


def product_rates(threads: int) -> dict[str, float]:
    """Per precision the rate of a product of 2048×2048 matrices, giga-operations per second."""
    torch.set_num_threads(threads)
    factors = [torch.randn(2048, 2048) for _ in range(2)]
    exact = precisions("torch").split()[1]
    kinds = {
        exact: (torch.bfloat16 if exact == "bf16" else torch.float32, torch.mm),
        "int8": (torch.int8, torch._int_mm),
    }
    rates = {}
    for name, (dtype, product) in kinds.items():
        one, other = ((32 * factor).to(dtype) for factor in factors)
        seconds = []
        for _ in range(12):
            began = time.perf_counter()
            product(one, other)
            seconds.append(time.perf_counter() - began)
        rates[name] = 2 * 2048**3 / float(np.median(seconds[2:])) / 1e9
    return rates


def operations() -> dict[str, float]:
    """Of an update of each pair of networks, in thousand millions."""
    found = {}
    for network, (backbone, size) in SIZES.items():
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            for channels in (3, 2 * STACK):
                create_backbone(backbone, channels, CLASSES)(torch.zeros(1, channels, size, size))
        found[network] = counter.get_total_flops() / 1e9
    return found


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, dict]:
    """Per contender what `run_one` found, of all rounds together."""
    found: dict[str, dict] = {}
    for _ in range(arguments.rounds):
        for name, what in contenders().items():
            if arguments.only and arguments.only not in name:
                continue
            if arguments.idle:
                wait_until_idle()
            settings = [str(folder), str(arguments.updates), str(arguments.threads)]
            command = [sys.executable, __file__, "--contender", *settings, *what]
            environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            one = json.loads(done.stdout.splitlines()[-1])
            row = found.setdefault(name, {"ms": [], "cpu": [], "memory": []})
            row["ms"] += one["ms"]
            row["cpu"].append(one["cpu"])
            row["memory"].append(one["memory"])
            print(f"{name}: {np.median(one['ms']):.1f} ms", file=sys.stderr)
    return found


def figures(found: dict[str, dict]) -> dict[str, dict[str, float]]:
    """p50, p95, labels a second, CPU seconds and peak memory of each contender."""
    return {
        name: {
            "p50_ms": float(np.median(row["ms"])),
            "p95_ms": float(np.percentile(row["ms"], 95)),
            "labels_per_second": 1000 / float(np.mean(row["ms"])),
            "cpu_seconds": float(np.mean(row["cpu"])),
            "peak_mib": max(row["memory"]),
        }
        for name, row in found.items()
    }


def table(rows: dict[str, dict[str, float]]) -> str:
    lines = ["| contender | p50 ms | p95 ms | labels/s | CPU s a label | peak MiB |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['p50_ms']:.1f} | {row['p95_ms']:.1f} | {row['labels_per_second']:.1f} | "
            f"{row['cpu_seconds']:.3f} | {row['peak_mib']:.0f} |"
        )
    return "\n".join(lines)


def ratios(rows: dict[str, dict[str, float]]) -> str:
    """How many times as fast rgbflow is, by medians, beside the aims, which were set for a CPU with AMX."""

    def least(figure: str, start: str, end: str = "") -> float:
        found = (row[figure] for name, row in rows.items() if name.startswith(start) and name.endswith(end))
        return min(found, default=np.nan)

    own, exact = "rgbflow, ResNet101 × 2", precisions("openvino")
    same = exact.split()[1]

    def p95(*name: str) -> str:
        return f"p95 {least('p95_ms', *name):.1f} ms"

    def times(other: str, precision: str, others_precision: str = "fp32") -> str:
        return f"{least('p50_ms', other, others_precision) / least('p50_ms', own, precision):.1f} times"

    def seconds(kind: str) -> str:
        return f"{least('p50_ms', 'rgbflow predict', kind) / 1000:.1f} s"

    lines = [
        (f"an update, ResNet101 × 2, {exact}", p95(own, exact), "35 ms (bf16)"),
        ("the same in int8", p95(own, "int8"), "20 ms"),
        ("the same live in int8, rgb when the scene has changed", p95("rgbflow live, ResNet101"), "20 ms"),
        (f"plain fp32 PyTorch over {exact}", times("plain", exact), "7 (bf16)"),
        ("plain fp32 PyTorch over int8", times("plain", "int8"), "12"),
        (f"VideoMAE-base, fp32, over {exact}", times("VideoMAE", exact), "35 (fp32 over bf16)"),
        *([(f"VideoMAE-base, {same}, over {exact}", times("VideoMAE", exact, same), "11")] if same == "bf16" else []),
        (f"VideoMAE-base, {same}, over int8", times("VideoMAE", "int8", same), ""),
        (f"torchvision's fastest, {same}, over {exact}", times("torchvision", exact, same), "3.5 (both bf16)"),
        (f"torchvision's fastest, {same}, over int8", times("torchvision", "int8", same), ""),
        ("an update of `lite`, fastest engine", p95("rgbflow, lite"), "12 ms"),
        ("`predict` of a clip, from the start of the process", seconds("new process"), "6 s"),
        ("`predict` of a clip, warm", seconds("warm"), "1.5 s"),
    ]
    rows_of_text = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join(["| figure | measured | aim with AMX |", "|---|---|---|", *rows_of_text])


def page(rows: dict[str, dict[str, float]], rates: dict[str, float], arguments: argparse.Namespace) -> str:
    """The results page."""
    floors = "\n".join(
        f"| {network} × 2 | {precision} | {count:.1f} | {rate:.0f} | {1000 * count / rate:.1f} |"
        for network, count in operations().items()
        for precision, rate in rates.items()
    )
    origin = describe_origin()
    count = arguments.updates * arguments.rounds
    return f"""# An update of both streams, against other networks

Each contender labels the newest frames of a real video with {arguments.threads} threads: up to {count} labels in
{arguments.rounds} rounds, each in its own process and at most {MOST_SECONDS:.0f} seconds long. rgbflow and plain
PyTorch compute one DIS flow field at 256 pixels, run both networks on one snippet (a frame, and {STACK} fields) and
fuse their scores. ResNet101 reads 224×224 pixels; `lite` is {LITE.backbone} at {LITE.input_size}×{LITE.input_size}.
"Live" runs the rgb network only when the scene has changed. `predict` labels a whole clip of about 7 seconds from 25
snippets of each stream, either in a process that has already loaded the bundle or as a new process. The other
contenders run the preparation of their published weights, and the network on its frames. All weights are random. The
8-bit ones were calibrated on frames of the same video, so nothing here measures their accuracy. bf16 rows appear only
if the processor computes in bf16.

{table(rows)}

{ratios(rows)}

The floor is the operations of both networks divided by the rate of torch's product of 2048×2048 matrices in the same
precision.

| networks | precision | 10⁹ operations | 10⁹ operations/s of the product | floor, ms |
|---|---|---|---|---|
{floors}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}; nothing else ran on the machine.

```
python benchmarks/inference.py VIDEOS --updates {arguments.updates} --rounds {arguments.rounds} --idle
```
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("videos", type=Path)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="", help="contenders whose name holds this; writes no page")
    parser.add_argument("--idle", action="store_true", help="wait until nothing else runs, then write the page")
    parser.add_argument("--keep", type=Path, help="folder for the bundles, which live.py can watch with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        frames, _ = make_bundles(folder, arguments.videos)
        np.save(folder / "frames.npy", np.stack(frames))
        shutil.copy(seven_seconds(arguments.videos), folder / "clip.avi")
        if arguments.idle:
            wait_until_idle()
        rates = product_rates(arguments.threads)
        print(rates, file=sys.stderr)
        rows = figures(measure(folder, arguments))
    print(table(rows))
    print(ratios(rows))
    if arguments.idle and not arguments.only:
        record = {"threads": arguments.threads, "origin": describe_origin(), "product_rates": rates, "contenders": rows}
        write_atomically(PAGE.with_suffix(".json"), json.dumps(record, indent=2) + "\n")
        write_page(PAGE, page(rows, rates, arguments))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contender"]:
        print(json.dumps(run_one(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])))
    else:
        main()
