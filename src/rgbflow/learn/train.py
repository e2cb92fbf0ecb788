"""Training of one stream: Lightning runs it, the bundle receives it."""

import csv
import json
import logging
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from rgbflow.atomic import replacing, write_atomically
from rgbflow.bundle import RECORD, Bundle, load_bundle, save_stream, with_stream
from rgbflow.data.dataset import ClipDataset, EpochSampler
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import Split, SplitClip, check_split
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig
from rgbflow.model import StreamNet, check_input, choose_device, has_fast_bf16, image_statistics, initialise
from rgbflow.origin import describe_origin
from rgbflow.sampling import segment_starts
from rgbflow.stream import Stream, StreamSpec
from rgbflow.transforms import read_snippets

VALIDATION_SEGMENTS = 3
CURVES = "curves.csv"
Curve = list[dict[str, float]]


@dataclass(frozen=True)
class TrainResult:
    """What a training run came to.

    Attributes:
        stream: which network.
        best_epoch: counted from 1; the one whose weights the bundle holds, chosen on the validation part alone.
        val_top1: percent, of that epoch.
        curve: a row per epoch: epoch, train_loss, val_loss, val_top1, learning_rate.
        seconds: of this run, without the time before a resume.
        resumed_epoch: the epoch an earlier run had finished, 0 for a fresh start.
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
        parts: training and validation data.
    """

    def __init__(self, network: StreamNet, config: TrainConfig, parts: dict[str, ClipDataset]):
        super().__init__()
        self.network, self.config, self.parts = network, config, parts
        self.val_top1 = MulticlassAccuracy(num_classes=network.backbone.num_classes, average="micro")

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", self.config.batch_size)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", max(1, self.config.batch_size // VALIDATION_SEGMENTS))

    def _loader(self, part: str, batch_size: int) -> DataLoader:
        dataset, training = self.parts[part], part == "train"
        sampler = EpochSampler(
            dataset,
            shuffle=training,
            seed=self.config.seed,
            replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
        )
        sampler.set_epoch(self.trainer.current_epoch)  # Lightning draws a resumed run's first order before it says so
        return DataLoader(
            dataset,
            batch_size,
            sampler=sampler,
            drop_last=training and len(sampler) > batch_size and len(sampler) % batch_size == 1,  # breaks batch norm
            num_workers=self.config.workers,
            persistent_workers=self.config.workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        # Dropout draws from the global generator: seeded per step, a resumed run draws what the whole run drew.
        torch.manual_seed(self.config.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        inputs, labels = batch
        loss = F.cross_entropy(self.network(inputs), labels, label_smoothing=self.config.label_smoothing)
        self.log("train_loss", loss, on_epoch=True, on_step=False, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        inputs, labels = batch
        logits = self.network(inputs)
        self.val_top1(logits, labels)
        self.log("val_loss", F.cross_entropy(logits, labels), batch_size=len(labels), sync_dist=True)
        self.log("val_top1", self.val_top1, on_epoch=True, batch_size=len(labels))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        # Small validation parts tie often; among equal top-1 the lower loss is the better epoch.
        rank = self.val_top1.compute() - self.trainer.callback_metrics["val_loss"] / 1000
        self.log("val_rank", rank, sync_dist=True)

    def configure_optimizers(self) -> dict:
        config = self.config
        optimizer = torch.optim.SGD(
            self.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
        steps_per_epoch = max(1, self.trainer.estimated_stepping_batches // config.epochs)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(config, step / steps_per_epoch)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def learning_rate_factor(config: TrainConfig, epoch: float) -> float:
    """The share of the learning rate at a moment, counted in (partial) epochs from 0."""
    warmup = min(1.0, (epoch + 1e-2) / config.warmup_epochs) if config.warmup_epochs else 1.0
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / config.epochs)))
    return warmup * (config.decay ** int(epoch) if config.schedule == "exponential" else 1.0)


def train(
    store: AnyStore,
    split: Split,
    stream: Stream,
    folder: Path,
    config: TrainConfig,
    report: Callable[[str], None] = print,
    on_step: Callable[[int, int, str], None] = lambda done, total, note: None,
    replace_stream: bool = False,
) -> TrainResult:
    """Train one stream and put it into the bundle at `folder`; a killed run continues from its last whole epoch.

    Args:
        store: the prepared data set.
        split: its train part trains, its val part chooses the epoch, its test part isn't looked at.
        stream: which network.
        folder: the bundle; made if missing. Logs go to `folder/training/<stream>`.
        config: the run's settings.
        report: told one line about each thing worth knowing.
        on_step: told (steps done, all steps, a note on the last epoch) after each step.
        replace_stream: whether a stream that the bundle holds already is trained anew.

    Returns:
        The chosen epoch, its figure and the curves.

    Raises:
        InputError: if the split is for another store or has an empty part, a clip is too short or broken, the bundle
            holds something else, an unfinished run with other settings is there, or the loss becomes infinite.
    """
    began = time.perf_counter()
    choose_device(config.device)
    check_split(split, store.rows)
    _check_parts(split)
    spec = make_spec(store, split.train, stream, config)
    addition = make_bundle(store, split, spec, config)
    with_stream(_existing_bundle(folder, stream, replace_stream), addition)  # refuse before the work, not after it
    module = _make_module(store, split, spec, config, report)

    work = folder / "training" / stream
    checkpoint, resumed_epoch = _find_checkpoint(work, split, spec, config)
    if resumed_epoch:
        report(f"{stream}: going on after epoch {resumed_epoch} of {config.epochs}")
    curve, best_epoch = _fit(module, work, checkpoint, on_step)
    module.trainer.strategy.barrier()  # every process has read the best epoch
    if module.trainer.is_global_zero:
        addition.origin[stream] = {**describe_origin(), "epoch": best_epoch, "config": asdict(config)}
        save_stream(folder, addition, stream, module.network.state_dict())
        for name in ("best.ckpt", "last.ckpt"):
            (work / name).unlink(missing_ok=True)
    val_top1 = curve[best_epoch - 1]["val_top1"]
    return TrainResult(stream, best_epoch, val_top1, curve, time.perf_counter() - began, resumed_epoch)


def _make_module(
    store: AnyStore, split: Split, spec: StreamSpec, config: TrainConfig, report: Callable[[str], None]
) -> StreamTraining:
    """The network with its starting weights, and its data."""
    train_part = ClipDataset(
        store,
        split.train,
        split.classes,
        spec,
        config.num_segments,
        augment=True,
        flip=config.flip,
        seed=config.seed,
    )
    val_part = ClipDataset(store, split.val, split.classes, spec, VALIDATION_SEGMENTS, augment=False)
    torch.manual_seed(config.seed)
    network = StreamNet(spec, len(split.classes))
    report(f"{spec.stream}: {config.backbone}, {initialise(network, spec, config.weights)}")
    if config.flip and (sided := [name for name in split.classes if _names_a_side(name)]):
        report(f"note: {', '.join(sided)} name a side, and a mirrored clip shows the other: consider --no-flip")
    check_input(network, spec)
    network = network.to(memory_format=torch.channels_last).train()
    return StreamTraining(network, config, {"train": train_part, "val": val_part})


def _fit(
    module: StreamTraining, work: Path, checkpoint: Path | None, on_step: Callable[[int, int, str], None]
) -> tuple[Curve, int]:
    """Train to the end and give the module the weights of the best epoch; returns the curve and that epoch, from 1."""
    keeper = ModelCheckpoint(work, "best", monitor="val_rank", mode="max", save_last=True, enable_version_counter=False)
    curve = _CurveKeeper(work)
    with _quiet_lightning():
        trainer = _make_trainer(module.config, work, [curve, keeper, _StepTeller(on_step, curve)])
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
    best = torch.load(work / "best.ckpt", map_location="cpu", weights_only=True)
    module.load_state_dict(best["state_dict"])
    return curve.rows, best["epoch"] + 1


def make_spec(store: AnyStore, clips: tuple[SplitClip, ...], stream: Stream, config: TrainConfig) -> StreamSpec:
    """The stream's record: RGB statistics from the backbone, flow statistics from the training part."""
    spec = StreamSpec(
        stream,
        config.backbone,
        config.input_size,
        config.stack_length if stream == "flow" else 1,
        *(image_statistics(config.backbone) if stream == "rgb" else ((0.5, 0.5), (1.0, 1.0))),
        crop_fraction=config.crop_fraction,
        dropout=config.dropout,
    )
    return spec if stream == "rgb" else replace(spec, std=(flow_spread(store, clips, spec),) * 2)


def flow_spread(store: AnyStore, clips: tuple[SplitClip, ...], spec: StreamSpec, num_clips: int = 64) -> float:
    """Root mean square of the stored flow (0…1) about no motion, over at most `num_clips` evenly chosen clips.

    Data sets differ widely in speed; a network that starts from ImageNet weights expects inputs of about unit size.
    """
    chosen = clips[:: math.ceil(len(clips) / num_clips)]
    squares = []
    for clip in chosen:
        stored = store.clip(clip.name)
        spec.require_frames(stored.num_frames, clip.name)
        starts = segment_starts(spec.num_items(stored.num_frames), 1, spec.stack_length)
        values = read_snippets(stored, spec, starts).numpy().astype(np.float32) / 255 - 0.5
        squares.append(np.square(values).mean())
    return round(max(math.sqrt(np.mean(squares)), 1 / 255), 4)


def make_bundle(store: AnyStore, split: Split, spec: StreamSpec, config: TrainConfig) -> Bundle:
    """The record of a bundle that holds this one stream; its origin is filled in when it is trained."""
    about = {
        "protocol": split.protocol,
        "seed": split.seed,
        "leak_percent": split.leak_percent,
        "sha256": split.sha256,
    }
    return Bundle(split.classes, store.preparation, {spec.stream: spec}, about, licence=config.licence)


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

    def on_train_epoch_end(self, trainer: L.Trainer, module: StreamTraining) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        if not math.isfinite(metrics["train_loss"]):
            (self.work / "last.ckpt").unlink(missing_ok=True)  # other settings may start anew at once
            rate = module.config.learning_rate
            raise InputError(
                f"the training diverged in epoch {trainer.current_epoch + 1}: lower learning_rate ({rate})"
            )
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "train_loss": metrics["train_loss"],
                "val_loss": metrics["val_loss"],
                "val_top1": 100 * metrics["val_top1"],
                "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            }
        )
        if trainer.is_global_zero:
            with replacing(self.work / CURVES) as temporary, temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(self.rows[0]))
                writer.writeheader()
                writer.writerows(self.rows)

    def state_dict(self) -> dict:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict) -> None:
        self.rows = state["rows"]


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
    return L.Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=("auto" if device.index is None else [device.index]) if device.type == "cuda" else 1,
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


def _existing_bundle(folder: Path, stream: Stream, replace_stream: bool) -> Bundle | None:
    if not (folder / RECORD).is_file():
        return None
    bundle = load_bundle(folder)
    if stream not in bundle.streams:
        return bundle
    if not replace_stream:
        raise InputError(f"--out {folder} already holds a trained {stream} stream: pass --replace, or choose another")
    return bundle


def _check_parts(split: Split) -> None:
    for part in ("train", "val"):
        if not getattr(split, part):
            raise InputError(f"the {part} part of the split is empty: make a split with such a part")
    if len(split.classes) < 2:
        raise InputError(f"the split has one class ({split.classes[0]}): there is nothing to tell apart")


def _find_checkpoint(work: Path, split: Split, spec: StreamSpec, config: TrainConfig) -> tuple[Path | None, int]:
    """The checkpoint to go on from and its number of finished epochs; (None, 0) for a fresh start."""
    result_neutral = ("workers", "device", "licence")
    changing = {name: value for name, value in asdict(config).items() if name not in result_neutral}
    settings = json.dumps({"split": split.sha256, "spec": asdict(spec), "config": changing}, indent=2)
    path, last = work / "settings.json", work / "last.ckpt"
    if last.is_file() and (not path.is_file() or path.read_text(encoding="utf-8") != settings):
        raise InputError(
            f"{work} holds an unfinished run with other settings: delete it to start anew, or use its settings"
        )
    write_atomically(path, settings)
    if not last.is_file():
        return None, 0
    try:
        return last, torch.load(last, map_location="cpu", weights_only=True)["epoch"] + 1
    except Exception as error:  # a damaged file fails in many ways
        raise InputError(f"{last} is damaged: delete {work} to start anew") from error


def _names_a_side(label: str) -> bool:
    words = "".join(letter if letter.isalnum() else " " for letter in label).lower().split()
    return "left" in words or "right" in words


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide what Lightning says of itself, and warnings of what is meant so here; put everything back afterwards."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (".*does not have many workers.*", ".*exists and is not empty.*", ".*LeafSpec.*"):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)
