"""What benchmarks/gpu.py measures: each section yields its figures one by one, so that a stopped one leaves some.

    python benchmarks/gpu_sections.py RECORD SECTION      (gpu.py runs this, a process for each section)

A figure is the name of a row and its columns. Imports are inside the functions: a package that is not installed costs
only the sections that need it.
"""

import importlib.util
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from rgbflow.atomic import write_atomically
from rgbflow.errors import first_line
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.presets import STRONG
from rgbflow.stream import NUM_SNIPPETS, STREAMS, Preparation, Stream, StreamSpec

if TYPE_CHECKING:
    import torch

    from rgbflow.data.dataset import ClipDataset, DrawnBatch
    from rgbflow.data.splits import Split
    from rgbflow.data.store import Store

Column = float | int | str | None
Row = dict[str, Column]
Figures = Iterator[tuple[str, Row]]

TESTS = Path(__file__).parents[1] / "tests" / "test_cuda.py"
NUM_CLASSES = 101
WARM_STEPS, BLOCK = 5, 5  # steps before the first block, and steps of a block, at whose end the device is waited for
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Clips of UCF101's official split 1, a fifth of its training list kept for val, as `rgbflow split` cuts it.
UCF101 = {"train": 7629, "val": 1908, "test": 3783}
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        recipe: the settings of training; its batch is that of every step where nothing else is said.
        preparation: of the clips.
        picture: (width, height) of the clips that are drawn where none are given.
        groups: of them; each has 12 classes.
        large_batch: images in a step of the row that shows what a larger batch gives.
        seconds: of each measurement.
        live_seconds: of live recognition, after as long again, at most 10 seconds, that warms up.
        predictions: clips that are labelled.
        compiler: the backend of torch.compile.
    """

    recipe: TrainConfig
    preparation: Preparation
    picture: tuple[int, int]
    groups: int
    large_batch: int
    seconds: float
    live_seconds: float
    predictions: int
    compiler: str


SIZES = {
    "whole": Size(
        replace(STRONG, epochs=3, average_epochs=1, warmup_epochs=0.0, least_steps=0),
        Preparation(),
        picture=(320, 240),
        groups=20,
        large_batch=192,
        seconds=2.0,
        live_seconds=10.0,
        predictions=40,
        compiler="inductor",
    ),
    "smoke": Size(
        replace(
            STRONG,
            backbone="test_resnet",
            input_size=32,
            stack_length=3,
            batch_size=4,
            epochs=2,
            average_epochs=1,
            warmup_epochs=0.0,
            least_steps=0,
        ),
        Preparation(short_side=48),
        picture=(64, 48),
        groups=5,
        large_batch=24,
        seconds=0.05,
        live_seconds=1.0,
        predictions=3,
        compiler="eager",
    ),
}


@dataclass(frozen=True)
class Setup:
    """What a section is given.

    Attributes:
        device: a torch device name.
        size: how much is measured.
        work: a folder that the sections share; `clips` puts the data set there.
        videos: class folders of clips; None draws people.
    """

    device: str
    size: Size
    work: Path
    videos: Path | None = None


def machine(setup: Setup) -> Figures:
    """The machine, and what of it the program takes."""
    import torch

    from rgbflow.device import choose_device, has_fast_bf16

    device = choose_device(setup.device)
    yield "cores that this process may use", {"found": usable_cores()}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        free, _ = torch.cuda.mem_get_info(device)
        yield "GPU", {"found": about.name}
        yield "its memory, GiB", {"found": about.total_memory / GIB}
        yield "of it free, GiB", {"found": free / GIB}
        yield "its multiprocessors", {"found": about.multi_processor_count}
        yield "compute capability", {"found": f"{about.major}.{about.minor}"}
        yield "driver", {"found": _printed("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")}
        yield "TF32 in convolutions of fp32", {"found": str(torch.backends.cudnn.allow_tf32)}
    yield "torch", {"found": torch.__version__}
    yield "CUDA that torch was built for", {"found": torch.version.cuda}
    yield "cuDNN", {"found": torch.backends.cudnn.version() if device.type == "cuda" else None}
    yield "device that `auto` chooses", {"found": str(choose_device())}
    yield "bf16 is taken", {"found": str(has_fast_bf16(device))}


def _printed(*command: str) -> str | None:
    """The first line that a program prints; None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else None


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def clips(setup: Setup) -> Figures:
    """The clips that the next sections read, prepared as `rgbflow prepare` does it.

    Where no folder is given they show drawn people; their files are smaller than those of films.
    """
    from rgbflow.data.cutting import make_split
    from rgbflow.data.layouts import read_class_folders
    from rgbflow.data.splits import SplitClip
    from rgbflow.data.store import Store, prepare_store
    from rgbflow.demo.synthetic import write_dataset

    size, workers = setup.size, 1 if setup.size.groups < 10 else usable_cores()
    videos, began = setup.videos, time.perf_counter()
    if videos is None:
        videos = setup.work / "videos"
        write_dataset(videos, num_groups=size.groups, clips_per_group=1, size=size.picture, workers=workers)
        yield "drawing them", {"found": time.perf_counter() - began, "unit": "s"}
    began = time.perf_counter()
    prepare_store(read_class_folders(videos), setup.work / "store", size.preparation, workers)
    yield "preparing them", {"found": time.perf_counter() - began, "unit": f"s, {workers} processes"}
    store = Store(setup.work / "store")
    split = make_split([SplitClip(row.clip, row.label, row.group) for row in store.rows.values()], "group")
    split.save(setup.work / "split.json")
    frames = sum(row.frames for row in store.rows.values())
    yield "clips", {"found": len(store.rows), "unit": f"of {len(split.classes)} classes"}
    yield "set aside", {"found": len(store.failed), "unit": "clips"}
    yield "clips to train on", {"found": len(split.train), "unit": ""}
    for stream in STREAMS:
        kept = sum(path.stat().st_size for path in (store.folder / stream).rglob("*.mkv"))
        yield f"{stream}, kept of a frame", {"found": kept / frames / 1000, "unit": "KB"}


def tests(setup: Setup) -> Figures:
    """The tests that need CUDA (tests/test_cuda.py); without a GPU they are skipped."""
    # Not the project's own options: they ask for plug-ins, and turn any warning of another version into a failure.
    options = ["-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider", "-W", "default"]
    command = [sys.executable, "-m", "pytest", "-v", "-rfE", "--color=no", *options, "-m", "cuda", str(TESTS)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "200"}
    results: dict[str, str] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            if found := test_result(line):
                name, results[name] = found[0], found[1]
                yield name, {"result": results[name]}
    failed = sum(not result.startswith(("passed", "skipped")) for result in results.values())
    if failed or process.returncode:
        raise RuntimeError(f"{failed} of {len(results)} tests failed (pytest's exit code: {process.returncode})")


def test_result(line: str) -> tuple[str, str] | None:
    """The name and result of a test, from a line that pytest prints after it, or of a failed one at the end."""
    if found := re.match(r"\S+?::(.+?) (PASSED|FAILED|ERROR|SKIPPED)(?: \((.*)\))?", line):
        name, result, why = found.groups()
    elif found := re.match(r"(FAILED|ERROR) (\S+) - (.*)", line):
        result, name, why = found.groups()
    else:
        return None
    return name.split("::")[-1], f"{result.lower()}: {why}" if why else result.lower()


def spec_of(stream: Stream, config: TrainConfig) -> StreamSpec:
    """A stream of the recipe; ImageNet's statistics for frames, usual ones for flow."""
    flow = stream == "flow"
    return StreamSpec(
        stream,
        config.backbone,
        config.input_size,
        config.stack_length if flow else 1,
        *(((0.5, 0.5), (0.1, 0.1)) if flow else (MEAN, STD)),
        dropout=config.dropout,
        subtract_mean_flow=config.subtract_mean_flow and flow,
    )


class Trainee:
    """A network of the recipe with random weights, and its training step.

    Args:
        stream: of the network.
        config: its backbone, loss, optimizer and whether batch norms are frozen.
        device: where it is trained.
        precision: bf16 or fp32.
        compiler: backend of torch.compile; none compiles nothing.
    """

    def __init__(self, stream: Stream, config: TrainConfig, device: str, precision: str, compiler: str | None = None):
        import torch

        from rgbflow.learn.optimizers import make_optimizer
        from rgbflow.networks.stream_net import StreamNet, batch_norms

        self.config, self.spec, self.device = config, spec_of(stream, config), torch.device(device)
        network = StreamNet(self.spec, NUM_CLASSES)
        network.to(self.device, memory_format=network.memory_format).train()
        for layer in batch_norms(network)[1:] if config.freeze_batch_norms else ():
            layer.requires_grad_(False).eval()
        self.parameters = [value for value in network.parameters() if value.requires_grad]
        self.optimizer = make_optimizer(self.parameters, config)
        self.network = torch.compile(network, backend=compiler) if compiler else network
        self.precision = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")

    def step(self, inputs: "torch.Tensor", labels: "torch.Tensor") -> None:
        """One step of training: inputs (B, S, C, H, W) float32, labels (B)."""
        import torch
        import torch.nn.functional as F

        with self.precision:
            loss = F.cross_entropy(self.network(inputs), labels, label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip)
        self.optimizer.step()

    def noise(self, num_clips: int) -> "tuple[torch.Tensor, torch.Tensor]":
        """Random inputs and labels of so many clips, on the device."""
        import torch

        shape = (num_clips, self.config.num_segments, self.spec.channels, *(self.spec.input_size,) * 2)
        labels = torch.randint(NUM_CLASSES, (num_clips,), device=self.device)
        return torch.randn(shape, device=self.device), labels

    def wait(self) -> None:
        """Until the device has done what it was given."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def seconds_per_step(trainee: Trainee, step: Callable[[], None], seconds: float) -> float:
    """Median over blocks of steps, measured for so many seconds after some steps that warm up."""
    for _ in range(WARM_STEPS):
        step()
    trainee.wait()
    blocks, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(blocks) < 3:
        began = time.perf_counter()
        for _ in range(BLOCK):
            step()
        trainee.wait()
        blocks.append((time.perf_counter() - began) / BLOCK)
    return statistics.median(blocks)


def peak_memory(device: str) -> Row:
    """GiB of the device that tensors took at most since the last call, and that torch holds for them."""
    import torch

    if torch.device(device).type != "cuda":
        return {}
    torch.cuda.init()  # before it, there is nothing to be reset
    peaks = {
        "tensors, GiB": torch.cuda.max_memory_allocated(device) / GIB,
        "held, GiB": torch.cuda.max_memory_reserved(device) / GIB,
    }
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return peaks


def measured(measure: Callable[[], Row]) -> Row:
    """What a function measures, or why it could not: one row that fails, such as for want of memory, costs no other."""
    try:
        return measure()
    except Exception as error:  # torch, CUDA and the compiler each raise their own
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {first_line(error)}"}


def measured_step(
    setup: Setup, stream: Stream, precision: str, num_clips: int, compiler: str | None = None, **changes: object
) -> Row:
    """Milliseconds of a training step on random inputs that are on the device already, and images a second."""
    peak_memory(setup.device)
    began = time.perf_counter()
    trainee = Trainee(stream, replace(setup.size.recipe, **changes), setup.device, precision, compiler)
    inputs = trainee.noise(num_clips)
    trainee.step(*inputs)
    trainee.wait()
    first = time.perf_counter() - began
    seconds, images = seconds_per_step(trainee, lambda: trainee.step(*inputs), setup.size.seconds), inputs[0].shape[:2]
    return {
        "images in a step": images.numel(),
        "step, ms": 1000 * seconds,
        "images/s": images.numel() / seconds,
        "first step, s": first,
        **peak_memory(setup.device),
    }


def steps(setup: Setup) -> Figures:
    """A training step on inputs that are there already: channels last, weights and inputs random.

    The recipe is that of the preset `strong`; an image is a frame, or a stack of flow fields.
    """
    recipe = setup.size.recipe
    large = setup.size.large_batch // recipe.num_segments
    ways: dict[str, tuple[str, int, dict]] = {
        "bf16, the recipe": ("bf16", recipe.batch_size, {}),
        "bf16, batch norms learn": ("bf16", recipe.batch_size, {"freeze_batch_norms": False}),
        "bf16, a large batch": ("bf16", large, {}),
        "fp32, the recipe": ("fp32", recipe.batch_size, {}),
    }
    for name, (precision, num_clips, changes) in ways.items():
        for stream in STREAMS:
            yield (
                f"{stream}, {name}",
                measured(lambda: measured_step(setup, stream, precision, num_clips, **changes)),  # noqa: B023
            )


def compiled(setup: Setup) -> Figures:
    """The recipe's step in bf16, without and with `torch.compile`; the first step includes compiling."""
    missing = missing_for_compiling() if setup.size.compiler == "inductor" else []
    if missing:
        raise ModuleNotFoundError(f"torch.compile needs {', '.join(missing)}", name=missing[0])
    for stream in STREAMS:
        for name, compiler in (("not compiled", None), ("torch.compile", setup.size.compiler)):
            yield (
                f"{stream}, {name}",
                measured(lambda: measured_step(setup, stream, "bf16", setup.size.recipe.batch_size, compiler)),  # noqa: B023
            )


def missing_for_compiling() -> list[str]:
    """What torch.compile needs on a GPU and this machine lacks; nvcc is not needed."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    missing = [] if importlib.util.find_spec("triton") else ["triton"]
    return missing if compiler else [*missing, "a C compiler"]


def loading(setup: Setup) -> Figures:
    """Training steps of the recipe in bf16 that read their clips, by the number of worker processes.

    `waiting` is the share of a step by which it takes longer than one whose inputs are there already. In the row "made
    on the device" the 8-bit snippets are in memory, and crops, scaling and normalisation are what is added.
    """
    from rgbflow.data.splits import load_split
    from rgbflow.data.store import Store

    store, split = Store(setup.work / "store"), load_split(setup.work / "split.json")
    for stream in STREAMS:
        trainee = Trainee(stream, setup.size.recipe, setup.device, "bf16")
        data = training_part(store, split, trainee)
        inputs = trainee.noise(setup.size.recipe.batch_size)
        ready = seconds_per_step(trainee, lambda: trainee.step(*inputs), setup.size.seconds)  # noqa: B023
        yield f"{stream}, inputs are there", loading_row(ready, ready, setup)
        batch = next(drawn_batches(data, setup, workers=0))
        made = seconds_per_step(trainee, lambda: step_on(trainee, batch), setup.size.seconds)  # noqa: B023
        yield f"{stream}, made on the device", loading_row(made, ready, setup)
        for workers in worker_counts():
            seconds = seconds_with_reading(trainee, drawn_batches(data, setup, workers), workers, setup.size.seconds)
            yield f"{stream}, workers: {workers}", loading_row(seconds, ready, setup)


def worker_counts() -> list[int]:
    """1, 2, 4, ... and one fewer than the cores."""
    most = max(1, usable_cores() - 1)
    return [*(2**power for power in range(4) if 2**power < most), most]


def loading_row(seconds: float, ready: float, setup: Setup) -> Row:
    images = setup.size.recipe.batch_size * setup.size.recipe.num_segments
    return {"step, ms": 1000 * seconds, "images/s": images / seconds, "waiting, %": 100 * (1 - ready / seconds)}


def training_part(store: "Store", split: "Split", trainee: Trainee) -> "ClipDataset":
    """The training part of the clips, varied as the recipe varies it."""
    from rgbflow.data.dataset import ClipDataset
    from rgbflow.transforms import Augmentation

    config = trainee.config
    vary = Augmentation(config.flip, config.multi_scale, config.corner_crops, config.colour_jitter)
    return ClipDataset(store, split.train, split.classes, trainee.spec, config.num_segments, vary)


def drawn_batches(data: "ClipDataset", setup: Setup, workers: int) -> "Iterator[DrawnBatch]":
    """Batches of 8-bit snippets without end, from worker processes."""
    from torch.utils.data import DataLoader

    from rgbflow.data.dataset import DrawnDataset, collate_drawn

    keys = [(epoch, index) for epoch in range(100_000 // len(data)) for index in range(len(data))]
    batch = setup.size.recipe.batch_size
    return iter(DataLoader(DrawnDataset(data), batch, sampler=keys, num_workers=workers, collate_fn=collate_drawn))


def step_on(trainee: Trainee, batch: "DrawnBatch") -> None:
    """A step on a batch of 8-bit snippets, whose inputs are made on the device as in training."""
    from rgbflow.data.dataset import finish

    trainee.step(*finish(batch, trainee.spec, trainee.device))


def seconds_with_reading(trainee: Trainee, batches: "Iterator[DrawnBatch]", workers: int, seconds: float) -> float:
    """Of a step, after those whose batches the workers had read before the first one was taken."""
    for _ in range(2 * workers + 2):  # each worker reads two batches ahead
        step_on(trainee, next(batches))
    trainee.wait()
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or count < 3:
        step_on(trainee, next(batches))
        count += 1
    trainee.wait()
    return (time.perf_counter() - began) / count


def training(setup: Setup) -> Figures:
    """`rgbflow train` as a user runs it, a few epochs of each stream; a step is the median between two reports.

    The starting weights are random numbers in a file, so that batch norms are frozen as in the recipe.
    """
    from rgbflow.data.splits import load_split
    from rgbflow.data.store import Store
    from rgbflow.learn.train import train_stream

    store, split = Store(setup.work / "store"), load_split(setup.work / "split.json")
    for stream in STREAMS:
        config = replace(
            setup.size.recipe,
            weights=str(random_weights(stream, setup)),
            device=setup.device,
            workers=min(8, worker_counts()[-1]),
        )
        times: list[float] = []
        peak_memory(setup.device)
        result = train_stream(
            store,
            split,
            stream,
            setup.work / "trained",
            config,
            SimpleNamespace(
                update=lambda done, total, note: times.append(time.perf_counter()),  # noqa: B023
                report=lambda line: print(line, file=sys.stderr),
            ),
        )
        step = statistics.median(after - before for before, after in pairwise(times))
        yield (
            stream,
            {
                "step, ms": 1000 * step,
                "images/s": config.batch_size * config.num_segments / step,
                "workers": config.workers,
                "epochs": len(result.curve),
                "first loss": result.curve[0]["train_loss"],
                "last loss": result.curve[-1]["train_loss"],
                "whole, s": result.seconds,
                **peak_memory(setup.device),
            },
        )


def random_weights(stream: Stream, setup: Setup) -> Path:
    """A file of random weights for the recipe's network."""
    from safetensors.torch import save_file

    from rgbflow.networks.stream_net import StreamNet

    path = setup.work / f"{stream}-start.safetensors"
    save_file(StreamNet(spec_of(stream, setup.size.recipe), NUM_CLASSES).backbone.state_dict(), path)
    return path


def answering(setup: Setup) -> Figures:
    """Both networks with random weights: a live camera of 30 frames a second, and whole files.

    Live counts from a frame's arrival to its scores, as `rgbflow live` runs it. To label a file, `predict` decodes it,
    computes its flow and shows each network 25 snippets.
    """
    import live as soak

    from rgbflow import Recognizer

    folder = setup.work / "random"
    make_random_bundle(folder, setup)
    peak_memory(setup.device)
    recognizer = Recognizer.load(folder, setup.device, "torch")
    video = next(iter(sorted((setup.videos or setup.work / "videos").rglob("*.*"))))
    recognizer.predict(video)  # the networks have their memory now
    run = soak.run(recognizer.live(), video, setup.size.live_seconds, min(10.0, setup.size.live_seconds))
    yield f"live, {recognizer.engine.name}", milliseconds(run.latencies)
    for stage, values in run.stages.items():
        yield f"live, {stage}", milliseconds(values)
    yield "live, frames that were dropped", {"count": run.dropped}
    stages: dict[str, list[float]] = {}
    for _ in range(setup.size.predictions):
        began = time.perf_counter()
        seconds = recognizer.predict(video).seconds
        for stage, value in {"": time.perf_counter() - began, **seconds}.items():
            stages.setdefault(stage, []).append(1000 * value)
    for stage, values in stages.items():
        yield f"predict{stage and f', {stage}'}", milliseconds(values)
    yield "memory of both networks", peak_memory(setup.device)


def make_random_bundle(folder: Path, setup: Setup) -> None:
    """A bundle of the recipe's two networks with random weights."""
    from rgbflow.bundle import Bundle, save_stream
    from rgbflow.networks.stream_net import StreamNet

    classes = tuple(f"class {number:03d}" for number in range(NUM_CLASSES))
    split = {"protocol": "none", "seed": 0, "sha256": "0" * 64}
    for stream in STREAMS:
        spec = spec_of(stream, setup.size.recipe)
        addition = Bundle(classes, setup.size.preparation, {stream: spec}, split)
        save_stream(folder, addition, stream, StreamNet(spec, NUM_CLASSES).state_dict())


def milliseconds(values: list[float]) -> Row:
    """Percentiles of times in milliseconds."""
    import numpy as np

    low, high = np.percentile(values, (50, 95))
    return {"p50, ms": float(low), "p95, ms": float(high), "count": len(values)}


def plan(setup: Setup) -> Figures:
    """What UCF101's split 1 costs with the preset `strong`, by `rgbflow.paper.plan`: measured steps of the whole batch.

    Reading is measured on the clips above, in one process, and shared out among the workers; it goes on beside the
    computing, and the longer of the two counts.
    """
    from rgbflow.learn.tasks import Evaluating, Training
    from rgbflow.paper.plan import make_plan

    path = setup.work / "ucf101.json"
    ucf101_sized(setup).save(path)
    config = replace(setup.size.recipe, epochs=STRONG.epochs, average_epochs=STRONG.average_epochs)
    trainings, tests = [], []
    for workers in sorted({1, worker_counts()[-1]}):
        folder = setup.work / f"plan-{workers}"
        tests.append(Evaluating(f"{workers}", setup.work / "store", path, folder, NUM_SNIPPETS))
        for stream in STREAMS:
            name = f"{stream}, workers: {workers}"
            trainings.append(
                Training(name, setup.work / "store", path, stream, folder, replace(config, workers=workers))
            )
    whole = make_plan(trainings, tests, setup.device, measured_images=config.batch_size * config.num_segments)
    for cost in whole.costs:
        yield (
            cost.name,
            {
                "million images": (cost.images + cost.measured_images) / 1e6,
                "step, ms": 1000 * cost.step_seconds,
                "computing, h": cost.computing_hours,
                "reading, h": cost.reading_hours,
                "hours": cost.hours,
                "memory, GiB": cost.memory_gib,
            },
        )
    for one, other in zip(whole.costs[::2], whole.costs[1::2], strict=True):
        yield f"both streams, {one.name.split(', ')[1]}", {"hours": one.hours + other.hours}


def ucf101_sized(setup: Setup) -> "Split":
    """A split as large as UCF101's first, of as many classes; the first clips of train are the store's, to be read."""
    from rgbflow.data.splits import Split, SplitClip
    from rgbflow.data.store import Store

    there = [SplitClip(row.clip, row.label, row.group) for row in list(Store(setup.work / "store").rows.values())[:8]]
    classes = sorted({clip.label for clip in there})
    classes += [f"zz {number:03d}" for number in range(NUM_CLASSES - len(classes))]
    made = {
        part: tuple(SplitClip(f"{classes[-1]}/{part} {n}", classes[-1], part) for n in range(count))
        for part, count in UCF101.items()
    }
    train = (*there, *made["train"][len(there) :])
    return Split("official-1", 0, tuple(classes), train, made["val"], made["test"])


@dataclass(frozen=True)
class Section:
    """A part of the benchmark.

    Attributes:
        measure: yields its figures.
        seconds: after which it is stopped.
        needs: modules without which it does not start.
    """

    measure: Callable[[Setup], Figures]
    seconds: float
    needs: tuple[str, ...] = ()


READS = ("av", "cv2", "pyarrow", "sklearn", "timm")
TRAINS = (*READS, "lightning", "torchmetrics", "safetensors", "filelock", "tensorboard")
SECTIONS = {  # what matters most comes first: the last ones have what is left of the time
    "machine": Section(machine, 40),
    "clips": Section(clips, 60, READS),
    "steps": Section(steps, 75, ("timm",)),
    "compiled": Section(compiled, 130, ("timm",)),
    "tests": Section(tests, 130, ("pytest", *TRAINS)),
    "answering": Section(answering, 60, (*READS, "safetensors", "filelock")),
    "loading": Section(loading, 100, READS),
    "plan": Section(plan, 50, TRAINS),
    "training": Section(training, 80, TRAINS),
}
USES_CLIPS = ("answering", "loading", "plan", "training")


def is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def read_record(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def write_record(path: Path, record: dict) -> None:
    write_atomically(path, json.dumps(record, indent=2) + "\n")


def run_section(path: Path, name: str) -> None:
    """Measure a section and put each figure into the record as soon as it is there."""
    record = read_record(path)
    settings, found = record["settings"], record["sections"][name]
    videos = settings["videos"] and Path(settings["videos"])
    setup = Setup(settings["device"], SIZES[settings["size"]], Path(settings["work"]), videos)
    try:
        for row, columns in SECTIONS[name].measure(setup):
            print(f"{name}: {row}: {columns}", file=sys.stderr, flush=True)
            found["rows"][row] = {key: as_json(value) for key, value in columns.items()}
            write_record(path, record)
        found["ended"] = "done"
    except ModuleNotFoundError as error:
        found["ended"] = f"missing: {error.name}"
    except Exception as error:  # whatever it is, it is part of the result
        traceback.print_exc()
        found["ended"] = f"failed: {type(error).__name__}: {first_line(error)}"
    write_record(path, record)


def as_json(value: Column) -> Column:
    """A value that JSON has: it has no infinity."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    run_section(Path(sys.argv[1]), sys.argv[2])
