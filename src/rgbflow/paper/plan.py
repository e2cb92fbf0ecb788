"""The cost of a figure or table of the paper: images, hours and gigabytes, from a few steps on this machine."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from rgbflow.data.dataset import ClipDataset
from rgbflow.data.jpegs import open_store
from rgbflow.data.official import is_lists
from rgbflow.data.splits import Split, load_split
from rgbflow.device import choose_device, has_fast_bf16
from rgbflow.learn.config import Optimizer
from rgbflow.learn.optimizers import make_optimizer
from rgbflow.learn.spec import form_of_input
from rgbflow.learn.tasks import Evaluating, Training, free_devices
from rgbflow.networks.families import family_of
from rgbflow.networks.stream_net import StreamNet, bytes_kept
from rgbflow.origin import describe_machine
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.stream import StreamSpec
from rgbflow.transforms import Augmentation

CLIPS_READ = 8
STEPS = 3  # measured after one that warms up
MEASURED_IMAGES = 32  # at most in a measured step, so that networks of 16 frames fit into memory: 2 of their snippets
STATES: dict[Optimizer, int] = {"sgd": 0, "sgd-momentum": 1, "asgd": 1, "adam": 2}  # numbers kept for each weight
GIB = 2**30


@dataclass(frozen=True)
class Cost:
    """The cost of one training and of measuring its stream.

    Attributes:
        name: name of the training.
        images: frames or flow stacks that go through the network in training.
        measured_images: images that go through it forward only: val after each epoch, and the test part.
        step_seconds: seconds of a step with the real batch.
        computing_hours: hours to compute all of these images.
        reading_hours: hours to read the clips in worker processes, parallel to the computing; None without clips.
        memory_gib: memory of a step, for weights, gradients, optimizer and activations.
        disk_gib: disk space of the weights that are kept.
    """

    name: str
    images: int
    measured_images: int
    step_seconds: float
    computing_hours: float
    reading_hours: float | None
    memory_gib: float
    disk_gib: float

    @property
    def hours(self) -> float:
        """The longer of computing and reading, which run in parallel."""
        return max(self.computing_hours, self.reading_hours or 0.0)


@dataclass(frozen=True)
class Plan:
    """The estimated cost of all trainings of a figure or table.

    Attributes:
        costs: the cost of each training.
        devices: number of trainings that run in parallel.
        machine: the measured machine.
    """

    costs: list[Cost]
    devices: int
    machine: str

    @property
    def hours(self) -> float:
        """Hours of all trainings, shared evenly among the devices."""
        return sum(cost.hours for cost in self.costs) / self.devices

    def as_dict(self) -> dict:
        """A form for JSON."""
        total = {
            "images": sum(cost.images + cost.measured_images for cost in self.costs),
            "hours": self.hours,
            "disk_gib": sum(cost.disk_gib for cost in self.costs),
            "memory_gib": max(cost.memory_gib for cost in self.costs),
        }
        costs = [{**asdict(cost), "hours": cost.hours} for cost in self.costs]
        return {"estimate": True, "total": total, "devices": self.devices, "machine": self.machine, "trainings": costs}


@dataclass(frozen=True)
class _Speed:
    """The cost of one network: images, seconds and bytes per snippet, and bytes of the weights."""

    images: int
    train_snippet: float
    forward_snippet: float
    read_snippet: float | None
    snippet_bytes: int
    weight_bytes: int


def make_plan(
    trainings: Sequence[Training],
    evaluations: Sequence[Evaluating],
    device: str = "auto",
    measured_images: int = MEASURED_IMAGES,
    progress: Progress = SILENT,
) -> Plan:
    """Estimate the cost of trainings and evaluations from a few steps on random pixels and the reading of some clips.

    Args:
        trainings: all trainings, done or not.
        evaluations: the evaluations of their bundles.
        device: the device they will run on.
        measured_images: the most images in a measured step; a GPU is faster with the whole batch.
        progress: a step is a training; networks of one kind are measured once.
    """
    speeds: dict[StreamSpec, _Speed] = {}
    snippets = {task.folder: task.snippets for task in evaluations}
    costs = []
    for task in counted(trainings, len(trainings), progress):
        split, spec = load_split(task.split), form_of_input(task.stream, task.config)
        if spec not in speeds:
            speeds[spec] = _measure(task, split, spec, choose_device(device), measured_images)
        costs.append(_cost(task, split, snippets.get(task.folder, 0), speeds[spec]))
    return Plan(costs, min(len(free_devices(device)), len(trainings)), describe_machine())


def _cost(task: Training, split: Split, test_snippets: int, speed: _Speed) -> Cost:
    config = task.config
    clips = config.epochs * len(split.train) * config.num_segments
    watched = len(split.val) + (len(split.test) if task.test_curve else 0)
    forward = config.epochs * watched * family_of(config.algorithm).val_snippets + len(split.test) * test_snippets
    batch = config.batch_size * config.num_segments
    reading = None if speed.read_snippet is None else (clips + forward) * speed.read_snippet / max(1, config.workers)
    return Cost(
        name=task.name,
        images=clips * speed.images,
        measured_images=forward * speed.images,
        step_seconds=batch * speed.train_snippet,
        computing_hours=(clips * speed.train_snippet + forward * speed.forward_snippet) / 3600,
        reading_hours=None if reading is None else reading / 3600,
        memory_gib=(speed.weight_bytes * (2 + STATES[config.optimizer]) + batch * speed.snippet_bytes) / GIB,
        disk_gib=speed.weight_bytes / GIB,
    )


def _measure(task: Training, split: Split, spec: StreamSpec, device: torch.device, measured_images: int) -> _Speed:
    """Measure a training step and a forward pass on random pixels, and the reading of a few clips."""
    network = StreamNet(spec, len(split.classes))
    network.to(device).to(memory_format=network.memory_format).train()
    optimizer = make_optimizer(network.parameters(), task.config)
    images = network.family.images
    batch = min(task.config.batch_size * task.config.num_segments, measured_images // images)
    snippets = torch.randn(batch, 1, spec.channels, spec.input_size, spec.input_size, device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)
    precision = torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_fast_bf16(device))

    def step() -> None:
        with precision:
            loss = F.cross_entropy(network(snippets), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def look() -> None:
        with torch.inference_mode(), precision:
            network(snippets)

    with precision:
        kept = bytes_kept(network, snippets)
    train_seconds = _median_seconds(step, device)
    forward_seconds = _median_seconds(look, device)
    weights = sum(value.nbytes for value in network.state_dict().values())
    return _Speed(
        images=images,
        train_snippet=train_seconds / batch,
        forward_snippet=forward_seconds / batch,
        read_snippet=None if is_lists(task.store) else _reading_seconds(task, split, spec),
        snippet_bytes=kept // batch,
        weight_bytes=weights,
    )


def _median_seconds(function: Callable[[], None], device: torch.device) -> float:
    seconds = []
    for _ in range(1 + STEPS):
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def _reading_seconds(task: Training, split: Split, spec: StreamSpec) -> float:
    """Seconds to read, crop and scale one snippet of a training clip, in one process."""
    clips = split.train[:CLIPS_READ]
    data = ClipDataset(open_store(task.store), clips, split.classes, spec, 1, Augmentation())
    data[0, 0]  # the first one loads libraries
    began = time.perf_counter()
    for index in range(len(clips)):
        data[1, index]
    return (time.perf_counter() - began) / len(clips)
