"""Training of one stream: Lightning runs it, the bundle receives it."""

import json
import logging
import math
import os
import re
import statistics
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.loggers import TensorBoardLogger

from rgbflow.atomic import write_atomically
from rgbflow.bundle import NO_LICENCE, RECORD, Bundle, load_bundle, save_stream, with_stream
from rgbflow.data.dataset import ClipDataset
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.lists import Part
from rgbflow.data.splits import HeldOut, Split, check_split
from rgbflow.device import choose_device, has_fast_bf16, total_memory
from rgbflow.errors import InputError, first_line
from rgbflow.fusion import Fusion
from rgbflow.learn import checkpoints
from rgbflow.learn.between import Place, keep_best, weights_of
from rgbflow.learn.callbacks import (
    CurveKeeper,
    LastEpochsAverage,
    MovableCheckpoint,
    Patience,
    StepReporter,
    StepSaver,
    diverged,
    has_exploded,
)
from rgbflow.learn.config import RESULT_NEUTRAL, TrainConfig
from rgbflow.learn.curve import Curve
from rgbflow.learn.probe import (
    SNIPPETS,
    USUAL_STRENGTH,
    Probe,
    fit_probe,
    is_fitted,
    load_probe,
    refit_head,
)
from rgbflow.learn.spec import make_spec, names_a_side
from rgbflow.learn.stream_training import StreamTraining
from rgbflow.networks.families import family_of
from rgbflow.networks.stream_net import StreamNet, check_input
from rgbflow.networks.weights import are_of_flow, initialise
from rgbflow.origin import describe_origin
from rgbflow.processes import check_workers, is_first_process
from rgbflow.progress import SILENT, Progress
from rgbflow.stream import Stream, StreamSpec
from rgbflow.transforms import Augmentation

# What Lightning calls an arithmetic
PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}
PROBE = "probe.safetensors"  # in the folder of a training: the frozen network with its fitted classifier


@dataclass(frozen=True)
class TrainResult:
    """The result of a training run.

    Attributes:
        stream: the trained stream.
        best_epoch: the epoch with the trained weights, counted from 1, chosen only on the validation part; 0 if the
            bundle holds the starting weights.
        trained_share: how far the weights in the bundle are on the way from the starting weights to those of that
            epoch: 0 is the frozen network, 1 the trained one (see `between`).
        val_top1: percent on the validation part with these weights.
        probe_top1: percent on the validation part of a classifier fitted on the frozen starting weights; None without
            such a start.
        curve: a row per epoch: epoch, learning_rate, and loss and top1 (percent) of each part: train_loss, train_top1,
            val_loss, ... The figures of the training part come from the epoch's steps, with augmentation and dropout.
        seconds: seconds of training, including those before a resume.
        resumed_epoch: the last epoch that an earlier run had finished; 0 if there was no earlier run, or none finished.
    """

    stream: Stream
    best_epoch: int
    trained_share: float
    val_top1: float
    probe_top1: float | None
    curve: Curve
    seconds: float
    resumed_epoch: int


def train_stream(
    store: AnyStore,
    split: Split,
    stream: Stream,
    folder: Path,
    config: TrainConfig,
    progress: Progress = SILENT,
    replace_stream: bool = False,
    test_curve: bool = False,
) -> TrainResult:
    """Train one stream and put it into the bundle at `folder`; a killed run continues from its last checkpoint.

    Args:
        store: the prepared data set.
        split: its train part trains, its val part chooses the epoch, its test part is not used (but see test_curve).
        stream: the stream to train.
        folder: the bundle; made if missing. Logs go to `folder/training/<stream>`.
        config: the run's settings.
        progress: a step is an optimizer step; the figures of each epoch and notes are lines.
        replace_stream: whether to train a stream again that the bundle already holds.
        test_curve: also measure the test part after each epoch, for a figure; nothing is chosen by it.

    Of several processes (torchrun, SLURM), only the first reports and writes.

    Returns:
        The chosen epoch, its figure and the curves.

    Raises:
        InputError: if the split is for another store or has an empty part, if a clip is too short or broken, if the
            bundle does not fit, if it has an unfinished run with other settings, if another process trains the same
            stream into it, or if the loss becomes infinite.
    """
    if not is_first_process():
        progress = SILENT
    choose_device(config.device)
    check_workers(config.workers)
    check_split(split, store.rows)
    watched: tuple[HeldOut, ...] = ("val", "test") if test_curve else ("val",)
    _check_parts(split, ("train", *watched))
    spec = make_spec(store, split.train, stream, config)
    addition = make_bundle(store, split, spec, config)
    with_stream(_existing_bundle(folder, stream, replace_stream), addition)  # refuse before the work, not after it
    module = _make_module(store, split, watched, spec, config, progress)
    work = folder / "training" / stream
    with _locked(work):
        about = {"split": split.sha256, "preparation": store.preparation.as_dict(), "watched": watched}
        checkpoint, resumed_epoch = _find_checkpoint(work, about, spec, config, progress)
        if checkpoint:
            progress.report(f"resuming in epoch {min(resumed_epoch + 1, config.epochs)} of {config.epochs}")
        probe = _probe(module, split, work / PROBE, checkpoint is not None, progress)
        curve, best_epoch, seconds = _fit(module, work, checkpoint, progress)
        module.trainer.strategy.barrier()  # every process has read the best epoch
        share, val_top1 = 1.0, curve[best_epoch - 1]["val_top1"]
        if probe:
            kept = _keep_best(module, split, work / PROBE, progress)
            share, val_top1 = kept.share, kept.top1
            if share == 0:
                best_epoch, val_top1 = 0, probe.val_top1
        elif has_exploded(val_loss := curve[best_epoch - 1]["val_loss"], module):
            raise diverged(work, best_epoch, val_loss, module)
        if module.trainer.is_global_zero:
            origin = {**describe_origin(), "epoch": best_epoch, "seconds": round(seconds, 1), "config": asdict(config)}
            if probe:
                strength = USUAL_STRENGTH if best_epoch else probe.strength
                progress.report("fitting the classifier on train and val")
                _learn_val_too(module, split, strength)
                origin |= {"probe_val_top1": probe.val_top1, "trained_share": share, "head_strength": strength}
            addition.origin[stream] = origin
            save_stream(folder, addition, stream, module.network.state_dict())
            checkpoints.remove_all(work)
            (work / PROBE).unlink(missing_ok=True)
    probe_top1 = probe.val_top1 if probe else None
    return TrainResult(stream, best_epoch, share, val_top1, probe_top1, curve, seconds, resumed_epoch)


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Keep a second training of the same stream out of the folder; all processes of one training may enter."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / ".lock", timeout=0) if is_first_process() else nullcontext():
            yield
    except Timeout as error:
        raise InputError(f"{work} is being trained by another process: wait for it, or choose another --out") from error


def _make_module(
    store: AnyStore,
    split: Split,
    watched: tuple[HeldOut, ...],
    spec: StreamSpec,
    config: TrainConfig,
    progress: Progress,
) -> StreamTraining:
    """The network with its starting weights, and its data."""
    augmentation = Augmentation(config.flip, config.multi_scale, config.corner_crops, config.colour_jitter)
    shown = split.train * repeats(len(split.train), config)
    training = ClipDataset(store, shown, split.classes, spec, config.num_segments, augmentation, config.seed)
    snippets = family_of(spec.algorithm).val_snippets
    measured: dict[str, ClipDataset] = {
        part: ClipDataset(store, split.clips(part), split.classes, spec, snippets) for part in watched
    }
    torch.manual_seed(config.seed)
    network = StreamNet(spec, len(split.classes))
    progress.report(f"{config.backbone}, {initialise(network, spec, config.weights)}")
    if config.flip and (sided := [name for name in split.classes if names_a_side(name)]):
        progress.report(
            f"note: {', '.join(sided)} name a side, but a mirrored clip shows the other side: consider --no-flip"
        )
    _check_memory(check_input(network, spec), len(shown), config)
    network.to(memory_format=network.memory_format).train()
    return StreamTraining(network, config, {"train": training, **measured})


def _check_memory(snippet_bytes: int, num_clips: int, config: TrainConfig) -> None:
    """Refuse a step that all memory of the device could not hold; the system would end the process without a word."""
    device = _own_device(config)
    if (memory := total_memory(device)) is None:
        return
    snippets = min(config.batch_size, num_clips) * config.num_segments
    needed = snippets * snippet_bytes // (1 if _precision(config, device) == "fp32" else 2)
    if needed > memory:
        raise InputError(
            f"a step of {snippets:,} snippets needs about {needed / 2**30:,.0f} GiB of memory, and {device} has "
            f"{memory / 2**30:,.0f}: lower batch_size, num_segments or input_size"
        )


def repeats(num_clips: int, config: TrainConfig) -> int:
    """How often each clip is shown in an epoch, so that it has `least_steps` steps.

    >>> repeats(42, TrainConfig(batch_size=8, least_steps=15)), repeats(9000, TrainConfig(least_steps=15))
    (3, 1)
    """
    steps = math.ceil(num_clips / config.batch_size)
    return max(1, math.ceil(config.least_steps / steps))


def _probe(module: StreamTraining, split: Split, path: Path, resumes: bool, progress: Progress) -> Probe | None:
    """Fit a classifier on the network's frozen features; None if the settings or the network don't allow it.

    A gentle training starts from this classifier. Every other training only compares its weights with the frozen ones.
    Each of several processes fits the same classifier. A resumed run reads the one it began with from `path`.
    """
    network, config, data = module.network, module.config, module.parts["train"]
    if not is_fitted(network, config):
        return None
    if resumes:
        probe = load_probe(network, path)
    else:
        progress.report("fitting a classifier on the features of the frozen network")
        clips = ClipDataset(data.store, split.train, split.classes, data.spec, SNIPPETS)
        groups, device = [clip.group for clip in split.train], _own_device(config)
        start = weights_of(network)
        of_images = not are_of_flow(config.weights, data.spec)
        probe = fit_probe(network.to(device), clips, module.parts["val"], groups, device, config.workers, of_images)
        module.to("cpu").train()  # the module knows which of its layers stay frozen
        if is_first_process():
            probe.save(network, path)
        if not module.is_gentle:
            network.load_state_dict(start)
    progress.report(f"the frozen network with a fitted classifier has top-1 {probe.val_top1:.1f} % on val")
    return probe


def _keep_best(module: StreamTraining, split: Split, path: Path, progress: Progress) -> Place:
    """Choose by val how far from its starting weights the network stays; each of several processes chooses the same."""
    network, config, data = module.network, module.config, module.parts["train"]
    trained = weights_of(network)
    load_probe(network, path)
    start = weights_of(network)
    module.trainer.strategy.barrier()  # every process has read the probe, which the first one will remove
    network.load_state_dict(trained)
    progress.report("comparing the trained weights with the frozen ones, and those between them, on val")
    train, val = (
        ClipDataset(data.store, part, split.classes, data.spec, SNIPPETS) for part in (split.train, split.val)
    )
    groups, device = [clip.group for clip in split.train], _own_device(config)
    kept = keep_best(network.to(device), start, train, val, groups, device, config.workers)
    network.to("cpu")
    if kept.share == 0:
        progress.report("the frozen network names val better than the trained one: the bundle keeps the frozen one")
    elif kept.share < 1:
        progress.report(
            f"weights {kept.share:.0%} of the way from the frozen to the trained ones name val better than both: the "
            "bundle keeps them"
        )
    return kept


def _learn_val_too(module: StreamTraining, split: Split, strength: float) -> None:
    """Fit the kept network's classifier on train and val: val has chosen, and its clips are too good to waste.

    What a few steps of training make of the last layer depends on their order; a fit has one answer. The strength can't
    be chosen on clips that the network was trained on, because their features are more certain than those of others.
    docs/results/recipe.md has what this fit is worth. `calibrate` knows such a stream by the `head_strength` in its
    origin, and scores val by a classifier that has not seen val.
    """
    network, config, data = module.network, module.config, module.parts["train"]
    clips, device = split.train + split.val, _own_device(config)
    dataset = ClipDataset(data.store, clips, split.classes, data.spec, SNIPPETS)
    refit_head(network.to(device), dataset, [clip.group for clip in clips], strength, device, config.workers)
    network.to("cpu")


def _own_device(config: TrainConfig) -> torch.device:
    """The device of this process, as Lightning gives it one."""
    device = choose_device(config.device)
    several = device.type == "cuda" and device.index is None
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if several else device


def _fit(module: StreamTraining, work: Path, checkpoint: Path | None, progress: Progress) -> tuple[Curve, int, float]:
    """Train to the end and give the module the weights of the best epoch; returns the curve, that epoch, seconds."""
    best = MovableCheckpoint(work, "best", monitor="val_rank", mode="max", enable_version_counter=False)
    last = MovableCheckpoint(work, "last", enable_version_counter=False)  # `save_last` saves better epochs alone
    curve = CurveKeeper(work)
    callbacks = [curve, best, last, StepReporter(progress, curve)]
    if module.config.average_epochs:
        callbacks.append(LastEpochsAverage())
    if module.config.patience:
        callbacks.append(Patience(module.config.patience))
    # Last, so that the others have done the step when it saves.
    callbacks.append(StepSaver(work / checkpoints.LAST, module.config.save_minutes))
    with _quiet_lightning():
        trainer = _make_trainer(module.config, work, callbacks)
        with _errors_in_one_line(work, module.config):
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    kept = checkpoints.read_best(work)
    module.load_state_dict(kept["state_dict"])
    return curve.rows, kept["epoch"] + 1, curve.seconds


@contextmanager
def _errors_in_one_line(work: Path, config: TrainConfig) -> Iterator[None]:
    """Within the block, errors that the user can do something about become an InputError of one line."""
    try:
        yield
    except InputError as error:  # from a loader's process it comes with the traceback as text
        line = str(error).strip().splitlines()[-1]
        raise InputError(re.sub(r"^rgbflow\.[\w.]+Error: ", "", line)) from error
    except ValueError as error:
        if "Expected more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"batch_size ({config.batch_size}) leaves a batch norm one value, which has no spread: use at least 2 "
            "clips, more num_segments, or weights with freeze_batch_norms"
        ) from error
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"a training step needs more memory than the device has ({first_line(error)}): lower batch_size, "
            "num_segments or input_size"
        ) from error
    except OSError as error:
        raise InputError(
            f"{work} can't be written ({error.strerror}): free space, then run the same command to resume"
        ) from error


def make_bundle(store: AnyStore, split: Split, spec: StreamSpec, config: TrainConfig) -> Bundle:
    """The record of a bundle that holds this one stream; its origin is filled in when it is trained."""
    about = {
        "protocol": split.protocol,
        "seed": split.seed,
        "leak_percent": split.leak_percent,
        "sha256": split.sha256,
    }
    rate = statistics.median(store.rows[clip.name].frames_per_second for clip in split.train)
    of_weights = family_of(config.algorithm).licences.get(config.weights, NO_LICENCE)
    return Bundle(
        classes=split.classes,
        preparation=store.preparation,
        streams={spec.stream: spec},
        split=about,
        fusion=Fusion(config.fusion),
        licence=of_weights if config.licence == NO_LICENCE else config.licence,
        frames_per_second=round(rate, 3),
    )


def _precision(config: TrainConfig, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    if config.precision == "auto":
        return "bf16" if has_fast_bf16(device) else "fp32"
    if config.precision == "fp16" and device.type == "cpu":
        raise InputError("precision fp16 needs a GPU: use bf16, fp32 or auto")
    return config.precision


def _make_trainer(config: TrainConfig, work: Path, callbacks: list[L.Callback]) -> L.Trainer:
    device = choose_device(config.device)
    launched, nodes = launched_processes()
    devices: int | list[int] | str
    if launched is not None:
        devices = launched
    elif device.type != "cuda":
        devices = 1
    else:
        devices = "auto" if device.index is None else [device.index]
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=devices,
        num_nodes=nodes,
        precision=PRECISIONS[_precision(config, device)],
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip or None,
        logger=TensorBoardLogger(work, name="", version="tensorboard"),
        callbacks=callbacks,
        plugins=[checkpoints.WholeCheckpoints()],
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def launched_processes() -> tuple[int | None, int]:
    """How torchrun or SLURM started this run: (processes per machine, machines); (None, 1) if neither did."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        here = int(environment["LOCAL_WORLD_SIZE"])
        return here, int(environment["WORLD_SIZE"]) // here
    if SLURMEnvironment.detect():
        nodes = int(environment.get("SLURM_NNODES", 1))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return None, 1


def _existing_bundle(folder: Path, stream: Stream, replace_stream: bool) -> Bundle | None:
    if not (folder / RECORD).is_file():
        return None
    bundle = load_bundle(folder)
    if stream not in bundle.streams:
        return bundle
    if not replace_stream:
        raise InputError(f"--out {folder} already holds a trained {stream} stream: pass --replace, or choose another")
    return bundle


def _check_parts(split: Split, parts: tuple[Part, ...]) -> None:
    launched, nodes = launched_processes()
    processes = nodes * (launched or 1)
    for part in parts:
        clips = len(split.clips(part))
        if not clips:
            raise InputError(f"the {part} part of the split is empty: make a split with such a part")
        if clips < processes:
            raise InputError(f"the {part} part has {clips} clips for {processes} processes: start fewer processes")
    if len(split.classes) < 2:
        raise InputError(f"the split has one class ({split.classes[0]}): training needs two")


def _find_checkpoint(
    work: Path, about: dict, spec: StreamSpec, config: TrainConfig, progress: Progress
) -> tuple[Path | None, int]:
    """The checkpoint to resume from and its number of finished epochs; (None, 0) for a fresh start.

    A run resumes only with the settings it began with: those of the data, the stream and the training, in `about`.
    """
    changing = {name: value for name, value in asdict(config).items() if name not in RESULT_NEUTRAL}
    # These follow from flip, frame_rate and algorithm, which `changing` has; the settings of older runs lack them here.
    following = ("mirrored", "stride", "frame_rate")
    form = {name: value for name, value in asdict(spec).items() if name not in following}
    settings = json.dumps({**about, "spec": form, "config": changing}, indent=2)
    settings_file, last = work / "settings.json", work / checkpoints.LAST
    if not checkpoints.are_there(work):
        write_atomically(settings_file, settings)
        return None, 0
    if not settings_file.is_file() or settings_file.read_text(encoding="utf-8") != settings:
        raise InputError(
            f"{work} holds an unfinished run with other settings: delete it to start again, or use its settings"
        )
    found = checkpoints.newest_whole(work, lambda checkpoint: CurveKeeper.__qualname__ in checkpoint["callbacks"])
    if found is None:
        raise InputError(f"{last} is damaged, or of another rgbflow: delete {work} to start again")
    path, checkpoint = found
    if path != last:
        progress.report(f"{last.name} is damaged or missing: going on from {path.name}, the one before it")
    return path, len(checkpoint["callbacks"][CurveKeeper.__qualname__]["rows"])


# Lightning warns of what is deliberate here: few workers, a folder that a resumed run writes to, and so on.
_EXPECTED_WARNINGS = (
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*LeafSpec.*",
    ".*in eval mode at.*",
    "Detected call of `lr_scheduler.step",  # fp16 leaves out steps whose scaled gradient is infinite: often the first
)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Within the block, hide Lightning's messages about itself and its warnings about deliberate choices."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)
