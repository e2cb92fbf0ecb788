"""Training of one stream: Lightning runs it, the bundle receives it."""

import csv
import json
import logging
import math
import os
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from rgbflow.atomic import replacing, write_atomically
from rgbflow.bundle import RECORD, Bundle, load_bundle, save_stream, with_stream
from rgbflow.data.dataset import ClipDataset, DrawnBatch, DrawnDataset, EpochLoader, EpochSampler, collate_drawn, finish
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import Split, SplitClip, check_split
from rgbflow.errors import InputError
from rgbflow.learn.config import RESULT_NEUTRAL, TrainConfig
from rgbflow.learn.optimizers import learning_rate_factor, make_optimizer
from rgbflow.model import (
    StreamNet,
    check_input,
    choose_device,
    has_fast_bf16,
    image_statistics,
    initialise,
    later_batch_norms,
)
from rgbflow.origin import describe_origin
from rgbflow.processes import is_first_process
from rgbflow.sampling import segment_starts
from rgbflow.stream import SNIPPET_FRAMES, Stream, StreamSpec
from rgbflow.transforms import Augmentation, mean_of_fields, read_snippets

CURVES, LAST = "curves.csv", "last.ckpt"
Curve = list[dict[str, float]]


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to.

    Attributes:
        stream: which network.
        best_epoch: counted from 1; the one whose weights the bundle holds, chosen on the validation part alone.
        val_top1: percent, of that epoch.
        curve: a row per epoch: epoch, learning_rate, and loss and top1 (percent) of each part: train_loss, train_top1,
            val_loss, ... The training part's are those of the epoch's steps, augmented, with dropout.
        seconds: of training, before a resume and after it.
        resumed_epoch: the epoch an earlier run had finished, 0 for a fresh start or one in its first epoch.
    """

    stream: Stream
    best_epoch: int
    val_top1: float
    curve: Curve
    seconds: float
    resumed_epoch: int


class StreamTraining(L.LightningModule):
    """One stream under training: its loss, its figures on the validation part, its optimizer.

    Args:
        network: with its starting weights.
        config: the run's settings.
        parts: "train" and "val" data; also "test" for a curve of it, which decides nothing.

    Attributes:
        last_phase: the epoch, counted from 0, from which weights are averaged; earlier where patience has run out.
    """

    def __init__(self, network: StreamNet, config: TrainConfig, parts: dict[str, ClipDataset]):
        super().__init__()
        self.network, self.config, self.parts = network, config, parts
        self.last_phase = config.epochs - config.average_epochs
        self.frozen = later_batch_norms(network) if config.freeze_batch_norms else []
        for layer in self.frozen:
            layer.requires_grad_(False).eval()
        self.top1 = nn.ModuleDict(
            {
                f"{part}_top1": MulticlassAccuracy(num_classes=network.num_classes, average="micro")
                for part in self.watched_parts
            }
        )
        # This epoch's clips, sum of losses, right ones, of this process; DDP would make a buffer the same everywhere.
        self.seen = torch.zeros(3)

    def train(self, mode: bool = True) -> "StreamTraining":
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", self.config.batch_size)

    def val_dataloader(self) -> list[DataLoader]:
        batch_size = max(1, self.config.batch_size // validation_segments(self.config))
        return [self._loader(part, batch_size) for part in self.watched_parts]

    @property
    def watched_parts(self) -> list[str]:
        """The parts measured after each epoch: "val", perhaps "test"."""
        return [part for part in self.parts if part != "train"]

    def _loader(self, part: str, batch_size: int) -> DataLoader:
        dataset, training = self.parts[part], part == "train"
        sampler = EpochSampler(
            dataset,
            shuffle=training,
            seed=self.config.seed,
            replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            balanced=training and self.config.balanced,
        )
        sampler.set_epoch(self.trainer.current_epoch)  # Lightning draws a resumed run's first order before it says so
        return EpochLoader(
            DrawnDataset(dataset),
            batch_size,
            collate_fn=collate_drawn,
            sampler=sampler,
            drop_last=training and len(sampler) > batch_size and len(sampler) % batch_size == 1,  # breaks batch norm
            num_workers=self.config.workers,
            persistent_workers=self.config.workers > 0,
        )

    def transfer_batch_to_device(self, batch: DrawnBatch, device: torch.device, _: int) -> tuple[Tensor, Tensor]:
        return finish(batch, self.parts["train"].spec, device)

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        # Dropout draws from the global generator: seeded per step, a resumed run draws what the whole run drew.
        torch.manual_seed(self.config.seed * 1_000_003 + self.global_step + 1_000_000_007 * self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        inputs, labels = batch
        logits = self.network(inputs)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.config.label_smoothing)
        right = (logits.detach().argmax(1) == labels).sum()
        self.seen = self.seen.to(loss.device) + torch.stack(
            [torch.tensor(len(labels), device=loss.device), loss.detach() * len(labels), right]
        )
        return loss

    def on_validation_epoch_start(self) -> None:
        clips, loss, right = self.seen
        self.log("train_loss", loss / clips, sync_dist=True)
        self.log("train_top1", right / clips, sync_dist=True)
        self.seen = torch.zeros(3)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["seen"] = self.all_gather(self.seen.to(self.device)).reshape(-1, 3)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        seen, processes = checkpoint["seen"], self.trainer.world_size
        if seen.any():  # in mid-epoch
            if len(seen) != processes:
                raise InputError(f"the epoch was begun by {len(seen)} processes, not {processes}: go on with as many")
            self.seen = seen[self.global_rank]

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int, dataloader_idx: int = 0) -> None:
        inputs, labels = batch
        logits = self.network(inputs)
        self._log(self.watched_parts[dataloader_idx], F.cross_entropy(logits, labels), logits, labels)

    def _log(self, part: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep loss and top-1 of a part for its mean over the epoch and over all processes."""
        top1 = self.top1[f"{part}_top1"]
        top1.update(logits.detach(), labels)
        options = {"on_step": False, "on_epoch": True, "batch_size": len(labels), "add_dataloader_idx": False}
        self.log(f"{part}_loss", loss.detach(), sync_dist=True, **options)
        self.log(f"{part}_top1", top1, **options)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        # Small validation parts tie often; among equal top-1 the lower loss is the better epoch.
        rank = self.top1["val_top1"].compute() - self.trainer.callback_metrics["val_loss"] / 1000
        if self.current_epoch >= self.last_phase:
            rank += 2  # an early epoch is not to win by the luck of a small val part: averaging is there for that
        self.log("val_rank", rank, sync_dist=True)

    def configure_optimizers(self) -> dict:
        config = self.config
        optimizer = make_optimizer(self.parameters(), config)
        # Not the trainer's own estimate: for it, Lightning would take the loader before it has read the checkpoint.
        steps_per_epoch = len(self.train_dataloader())

        def factor(step: int) -> float:
            epoch = step / steps_per_epoch
            if epoch >= self.last_phase:  # which has the rates of the planned last epochs, whenever it begins
                epoch += config.epochs - config.average_epochs - self.last_phase
            return learning_rate_factor(config, epoch)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(
    store: AnyStore,
    split: Split,
    stream: Stream,
    folder: Path,
    config: TrainConfig,
    report: Callable[[str], None] = print,
    on_step: Callable[[int, int, str], None] = lambda done, total, note: None,
    replace_stream: bool = False,
    test_curve: bool = False,
) -> TrainResult:
    """Train one stream and put it into the bundle at `folder`; a killed run continues from its last checkpoint.

    Args:
        store: the prepared data set.
        split: its train part trains, its val part chooses the epoch, its test part isn't looked at (see test_curve).
        stream: which network.
        folder: the bundle; made if missing. Logs go to `folder/training/<stream>`.
        config: the run's settings.
        report: told one line about each thing worth knowing.
        on_step: told (steps done, all steps, a note on the last epoch) after each step.
        replace_stream: whether a stream that the bundle holds already is trained anew.
        test_curve: measure the test part after each epoch too, for a figure; nothing is chosen by it.

    One process of many (torchrun, SLURM) is told nothing of what the first one is told, and leaves the writing to it.

    Returns:
        The chosen epoch, its figure and the curves.

    Raises:
        InputError: if the split is for another store or has an empty part, a clip is too short or broken, the bundle
            holds something else, an unfinished run with other settings is there, another process trains the same
            stream into it, or the loss becomes infinite.
    """
    if not is_first_process():
        report, on_step = (lambda line: None), (lambda done, total, note: None)
    choose_device(config.device)
    check_split(split, store.rows)
    watched = ("val", "test") if test_curve else ("val",)
    _check_parts(split, ("train", *watched))
    spec = make_spec(store, split.train, stream, config)
    addition = make_bundle(store, split, spec, config)
    with_stream(_existing_bundle(folder, stream, replace_stream), addition)  # refuse before the work, not after it
    module = _make_module(store, split, watched, spec, config, report)
    work = folder / "training" / stream
    with _only_one(work):
        about = {"split": split.sha256, "preparation": store.preparation.as_dict(), "watched": watched}
        checkpoint, resumed_epoch = _find_checkpoint(work, about, spec, config)
        if checkpoint:
            report(f"{stream}: going on in epoch {min(resumed_epoch + 1, config.epochs)} of {config.epochs}")
        curve, best_epoch, seconds = _fit(module, work, checkpoint, on_step)
        module.trainer.strategy.barrier()  # every process has read the best epoch
        if module.trainer.is_global_zero:
            origin = {**describe_origin(), "epoch": best_epoch, "seconds": round(seconds, 1), "config": asdict(config)}
            addition.origin[stream] = origin
            save_stream(folder, addition, stream, module.network.state_dict())
            for name in ("best.ckpt", LAST):
                (work / name).unlink(missing_ok=True)
    return TrainResult(stream, best_epoch, curve[best_epoch - 1]["val_top1"], curve, seconds, resumed_epoch)


def validation_segments(config: TrainConfig) -> int:
    """Snippets of a clip that are looked at after each epoch; those of c3d and lrcn are 16 frames long."""
    return 3 if config.algorithm == "two-stream" else 1


@contextmanager
def _only_one(work: Path) -> Iterator[None]:
    """Keep a second training of the same stream out of the folder; the processes of one training count as one."""
    work.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(work / ".lock", timeout=0) if is_first_process() else nullcontext():
            yield
    except Timeout as error:
        raise InputError(f"{work} is being trained by another process: wait for it, or choose another --out") from error


def _make_module(
    store: AnyStore,
    split: Split,
    watched: tuple[str, ...],
    spec: StreamSpec,
    config: TrainConfig,
    report: Callable[[str], None],
) -> StreamTraining:
    """The network with its starting weights, and its data."""
    vary = Augmentation(config.flip, config.multi_scale, config.corner_crops, config.colour_jitter)
    parts = {"train": ClipDataset(store, split.train, split.classes, spec, config.num_segments, vary, config.seed)}
    for part in watched:
        clips = getattr(split, part)
        parts[part] = ClipDataset(store, clips, split.classes, spec, validation_segments(config))
    torch.manual_seed(config.seed)
    network = StreamNet(spec, len(split.classes))
    report(f"{spec.stream}: {config.backbone}, {initialise(network, spec, config.weights)}")
    if config.flip and (sided := [name for name in split.classes if _names_a_side(name)]):
        report(f"note: {', '.join(sided)} name a side, and a mirrored clip shows the other: consider --no-flip")
    check_input(network, spec)
    return StreamTraining(network.to(memory_format=network.memory_format).train(), config, parts)


def _fit(
    module: StreamTraining, work: Path, checkpoint: Path | None, on_step: Callable[[int, int, str], None]
) -> tuple[Curve, int, float]:
    """Train to the end and give the module the weights of the best epoch; returns the curve, that epoch, seconds."""
    best = _Checkpoint(work, "best", monitor="val_rank", mode="max", enable_version_counter=False)
    last = _Checkpoint(work, "last", enable_version_counter=False)  # `save_last` saves better epochs alone
    curve = _CurveKeeper(work)
    callbacks = [curve, best, last, _StepTeller(on_step, curve)]
    if module.config.average_epochs:
        callbacks.append(_LastEpochsAverage())
    if module.config.patience:
        callbacks.append(_Patience(module.config.patience))
    callbacks.append(_StepSaver(work / LAST, module.config.save_minutes))  # last: the others have done the step
    with _quiet_lightning():
        trainer = _make_trainer(module.config, work, callbacks)
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True)
        except InputError as error:  # from a loader's process it comes with the traceback as text
            last = str(error).strip().splitlines()[-1]
            raise InputError(re.sub(r"^rgbflow\.[\w.]+Error: ", "", last)) from error
        except OSError as error:
            raise InputError(
                f"{work} can't be written ({error.strerror}): free space; the same command goes on"
            ) from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    kept = torch.load(work / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(kept["state_dict"])
    return curve.rows, kept["epoch"] + 1, curve.seconds


def make_spec(store: AnyStore, clips: tuple[SplitClip, ...], stream: Stream, config: TrainConfig) -> StreamSpec:
    """The stream's record: RGB statistics from the backbone, flow statistics from the training part."""
    spec = form_of_input(stream, config)
    return spec if stream == "rgb" else replace(spec, std=(flow_spread(store, clips, spec),) * 2)


def form_of_input(stream: Stream, config: TrainConfig) -> StreamSpec:
    """The stream's record as far as it is known without data: flow has no scale yet."""
    length = config.stack_length if stream == "flow" else 1
    return StreamSpec(
        stream,
        config.backbone,
        config.input_size,
        length if config.algorithm == "two-stream" else SNIPPET_FRAMES,
        *(image_statistics(config.backbone, config.algorithm) if stream == "rgb" else ((0.5, 0.5), (1.0, 1.0))),
        crop_fraction=config.crop_fraction,
        dropout=config.dropout,
        algorithm=config.algorithm,
        subtract_mean_flow=config.subtract_mean_flow and stream == "flow",
        mirrored=config.flip,
    )


def flow_spread(store: AnyStore, clips: tuple[SplitClip, ...], spec: StreamSpec, num_clips: int = 64) -> float:
    """Root mean square of the stored flow (0…1) about no motion, over at most `num_clips` evenly chosen clips.

    Where the mean of each field is subtracted, it is the spread about that.
    Data sets differ widely in speed; a network that starts from ImageNet weights expects inputs of about unit size.
    """
    chosen = clips[:: math.ceil(len(clips) / num_clips)]
    squares = []
    for clip in chosen:
        stored = store.clip(clip.name)
        spec.require_frames(stored.num_frames, clip.name)
        starts = segment_starts(spec.num_items(stored.num_frames), 1, spec.stack_length)
        snippets = read_snippets(stored, spec, starts)
        still = mean_of_fields(snippets) if spec.subtract_mean_flow else 127.5
        squares.append(((snippets - still) / 255).square().mean().item())
    return round(max(math.sqrt(np.mean(squares)), 1 / 255), 4)


def make_bundle(store: AnyStore, split: Split, spec: StreamSpec, config: TrainConfig) -> Bundle:
    """The record of a bundle that holds this one stream; its origin is filled in when it is trained."""
    about = {
        "protocol": split.protocol,
        "seed": split.seed,
        "leak_percent": split.leak_percent,
        "sha256": split.sha256,
    }
    rate = statistics.median(store.rows[clip.name].frames_per_second for clip in split.train)
    streams = {spec.stream: spec}
    return Bundle(
        split.classes, store.preparation, streams, about, licence=config.licence, frames_per_second=round(rate, 3)
    )


def read_curve(folder: Path, stream: Stream) -> Curve:
    """The curve a training run left in its bundle; empty where there is none."""
    path = folder / "training" / stream / CURVES
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


class _CurveKeeper(L.Callback):
    """Keeps the curve in the checkpoints and writes it after each epoch, in one file whatever the number of resumes."""

    def __init__(self, work: Path):
        self.work = work
        self.rows: Curve = []
        self.seconds = 0.0  # up to the last checkpoint
        self._began = 0.0  # what has not been added to them

    def on_train_start(self, trainer: L.Trainer, module: StreamTraining) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: StreamTraining) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(metrics["train_loss"]):
            (self.work / LAST).unlink(missing_ok=True)  # other settings may start anew at once
            rate = module.config.learning_rate
            raise InputError(
                f"the training diverged in epoch {trainer.current_epoch + 1}: lower learning_rate ({rate})"
            )
        row = {"epoch": trainer.current_epoch + 1}
        for part in module.parts:
            row[f"{part}_loss"] = metrics[f"{part}_loss"]
            row[f"{part}_top1"] = 100 * metrics[f"{part}_top1"]
        self.rows.append({**row, "learning_rate": trainer.optimizers[0].param_groups[0]["lr"]})
        if trainer.is_global_zero:
            with replacing(self.work / CURVES) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)

    def state_dict(self) -> dict:
        now = time.perf_counter()
        self.seconds, self._began = self.seconds + now - self._began, now
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.rows, self.seconds = state["rows"], state["seconds"]


class _Checkpoint(ModelCheckpoint):
    """A checkpoint after each epoch, or of the best one so far, in a folder that may be moved between two runs.

    Lightning forgets what was best when the folder has another name; the next epoch would take its place.
    """

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state: dict) -> None:
        def here(path: str) -> str:
            return os.path.join(self.dirpath, os.path.basename(path)) if path else ""

        paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        ranks = {here(path): rank for path, rank in state["best_k_models"].items()}
        super().load_state_dict({**state, **paths, "best_k_models": ranks, "dirpath": self.dirpath})


class _LastEpochsAverage(WeightAveraging):
    """In the last phase what is validated and kept is the mean of the weights over all its steps so far.

    Until then it is the weights as they are: the average begins anew with each step.
    """

    def __init__(self):
        super().__init__(use_buffers=True)  # the statistics of batch norms too

    def on_train_batch_start(self, trainer: L.Trainer, module: StreamTraining, batch: tuple, batch_index: int) -> None:
        if trainer.current_epoch < module.last_phase or (
            trainer.current_epoch == module.last_phase and not batch_index
        ):
            self._average_model.n_averaged.zero_()


class _Patience(L.Callback):
    """Begins the last phase, which is the end where nothing is averaged, when no epoch has been better for some time.

    Lightning's own early stop would leave the averaged epochs out, and keep the luckiest of the others.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs
        self._best, self._waited, self._last_phase = -math.inf, 0, -1

    def on_train_start(self, trainer: L.Trainer, module: StreamTraining) -> None:
        if self._last_phase >= 0:  # of the run that this one goes on with
            self._begin(trainer, module, self._last_phase)

    def on_validation_end(self, trainer: L.Trainer, module: StreamTraining) -> None:
        rank, following = trainer.callback_metrics["val_rank"].item(), trainer.current_epoch + 1
        self._waited = 0 if rank > self._best else self._waited + 1
        self._best = max(rank, self._best)
        if self._waited >= self.epochs and following < module.last_phase:
            self._last_phase = following
            self._begin(trainer, module, following)
            for made in trainer.lr_scheduler_configs:  # the rate of the next step had been set by the plan
                schedule, groups = made.scheduler, made.scheduler.optimizer.param_groups
                for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
                    group["lr"] = base * factor(schedule.last_epoch)

    def _begin(self, trainer: L.Trainer, module: StreamTraining, epoch: int) -> None:
        module.last_phase = epoch
        trainer.fit_loop.max_epochs = epoch + module.config.average_epochs

    def state_dict(self) -> dict:
        return {"best": self._best, "waited": self._waited, "last_phase": self._last_phase}

    def load_state_dict(self, state: dict) -> None:
        self._best, self._waited, self._last_phase = state["best"], state["waited"], state["last_phase"]


class _StepSaver(L.Callback):
    """Makes a checkpoint every few minutes inside an epoch, where `ModelCheckpoint` makes one after each epoch.

    Not after an epoch's last step: a run that goes on from there would leave out the epoch's validation.
    """

    def __init__(self, path: Path, minutes: float):
        self.path, self.minutes = path, minutes
        self._saved = 0.0

    def on_train_start(self, trainer: L.Trainer, module: StreamTraining) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: StreamTraining, outputs: object, batch: object, batch_idx: int
    ) -> None:
        is_due = bool(self.minutes) and time.monotonic() - self._saved >= 60 * self.minutes
        if batch_idx + 1 < trainer.num_training_batches and trainer.strategy.broadcast(is_due):
            trainer.save_checkpoint(self.path)
            self._saved = time.monotonic()


class _StepTeller(L.Callback):
    """Tells how far the training is."""

    def __init__(self, on_step: Callable[[int, int, str], None], curve: _CurveKeeper):
        self.on_step, self.curve = on_step, curve

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.on_step(trainer.global_step, int(trainer.estimated_stepping_batches), _epoch_note(self.curve.rows))

    def on_fit_end(self, trainer: L.Trainer, *_: object) -> None:
        self.on_train_batch_end(trainer)


def _epoch_note(curve: Curve) -> str:
    if not curve:
        return ""
    last = curve[-1]
    return f"epoch {last['epoch']}: loss {last['train_loss']:.3f}, top-1 {last['val_top1']:.1f} % on val"


def _make_trainer(config: TrainConfig, work: Path, callbacks: list[L.Callback]) -> L.Trainer:
    device = choose_device(config.device)
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(device) else "fp32"
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision fp16 needs a GPU: use bf16, fp32 or auto")
    devices, nodes = launched_processes()
    if devices is None:
        devices = 1 if device.type != "cuda" else "auto" if device.index is None else [device.index]
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=devices,
        num_nodes=nodes,
        precision={"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[precision],
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip or None,
        logger=TensorBoardLogger(work, name="", version="tensorboard"),
        callbacks=callbacks,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def launched_processes() -> tuple[int | None, int]:
    """How torchrun or SLURM has started this run: (processes on each machine, machines); (None, 1) if neither has."""
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


def _check_parts(split: Split, parts: tuple[str, ...]) -> None:
    devices, nodes = launched_processes()
    processes = nodes * (devices or 1)
    for part in parts:
        clips = len(getattr(split, part))
        if not clips:
            raise InputError(f"the {part} part of the split is empty: make a split with such a part")
        if clips < processes:
            raise InputError(f"the {part} part has {clips} clips for {processes} processes: start fewer")
    if len(split.classes) < 2:
        raise InputError(f"the split has one class ({split.classes[0]}): there is nothing to tell apart")


def _find_checkpoint(work: Path, about: dict, spec: StreamSpec, config: TrainConfig) -> tuple[Path | None, int]:
    """The checkpoint to go on from and its number of finished epochs; (None, 0) for a fresh start.

    A run goes on with the settings it was begun with only: `about` the data, the stream's and those of training.
    """
    changing = {name: value for name, value in asdict(config).items() if name not in RESULT_NEUTRAL}
    form = {name: value for name, value in asdict(spec).items() if name != "mirrored"}  # which is config's flip
    settings = json.dumps({**about, "spec": form, "config": changing}, indent=2)
    path, last = work / "settings.json", work / LAST
    if last.is_file() and (not path.is_file() or path.read_text(encoding="utf-8") != settings):
        raise InputError(
            f"{work} holds an unfinished run with other settings: delete it to start anew, or use its settings"
        )
    write_atomically(path, settings)
    if not last.is_file():
        return None, 0
    try:
        checkpoint = torch.load(last, map_location="cpu", weights_only=True)
        return last, next(len(state["rows"]) for state in checkpoint["callbacks"].values() if "rows" in state)
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{last} is damaged: delete {work} to start anew") from error


def _names_a_side(label: str) -> bool:
    words = "".join(letter if letter.isalnum() else " " for letter in label).lower().split()
    return "left" in words or "right" in words


_MEANT_SO = (".*does not have many workers.*", ".*exists and is not empty.*", ".*LeafSpec.*", ".*in eval mode at.*")


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide what Lightning says of itself, and warnings of what is meant so here; put everything back afterwards."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in _MEANT_SO:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)
