"""The callbacks of a training: its curve, its checkpoints, its last phase, its progress."""

import math
import os
import time
from pathlib import Path
from typing import cast

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch.optim.lr_scheduler import LambdaLR

from rgbflow.errors import InputError
from rgbflow.learn.checkpoints import remove_all
from rgbflow.learn.curve import Curve, write_curve
from rgbflow.learn.stream_training import StreamTraining
from rgbflow.progress import Progress

EXPLODED = 100  # times the loss of an even guess


def _own(module: L.LightningModule) -> StreamTraining:
    return cast(StreamTraining, module)  # Lightning's hooks take any module, these trainers train no other


def has_exploded(loss: float, module: StreamTraining) -> bool:
    """Whether a loss is no number, or far above that of an even guess, which no step would bring back."""
    return not loss <= EXPLODED * math.log(max(2, module.network.num_classes))


def diverged(work: Path, epoch: int, loss: float, module: StreamTraining) -> InputError:
    """The error of a training whose loss has exploded; its checkpoints are removed: other settings start anew."""
    remove_all(work)
    rate = module.config.learning_rate
    return InputError(f"the training diverged in epoch {epoch} (loss {loss:.3g}): lower learning_rate ({rate})")


class CurveKeeper(L.Callback):
    """Keeps the curve in the checkpoints and writes it after each epoch to one file, also over several resumes."""

    def __init__(self, work: Path):
        self.work = work
        self.rows: Curve = []
        self.seconds = 0.0  # up to the last checkpoint
        self._began = 0.0  # what has not been added to them

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        # Of val a large loss may come of batch norms that have not settled yet; it counts for the epoch that is kept.
        if has_exploded(metrics["train_loss"], _own(module)) or not math.isfinite(metrics["val_loss"]):
            raise diverged(self.work, trainer.current_epoch + 1, metrics["train_loss"], _own(module))
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        for part in _own(module).parts:
            row[f"{part}_loss"] = metrics[f"{part}_loss"]
            row[f"{part}_top1"] = 100 * metrics[f"{part}_top1"]
        self.rows.append({**row, "learning_rate": trainer.optimizers[0].param_groups[0]["lr"]})
        if trainer.is_global_zero:
            write_curve(self.work, self.rows)

    def state_dict(self) -> dict:
        now = time.perf_counter()
        self.seconds, self._began = self.seconds + now - self._began, now
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.rows, self.seconds = state["rows"], state["seconds"]


class MovableCheckpoint(ModelCheckpoint):
    """A checkpoint after each epoch, or of the best epoch so far, in a folder that may be moved between two runs.

    If the folder has another name, Lightning forgets which epoch was best, and the next epoch would replace it.
    """

    @property
    def state_key(self) -> str:
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state: dict) -> None:
        def here(path: str) -> str:
            return os.path.join(self.dirpath or "", os.path.basename(path)) if path else ""

        paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        ranks = {here(path): rank for path, rank in state["best_k_models"].items()}
        super().load_state_dict({**state, **paths, "best_k_models": ranks, "dirpath": self.dirpath})


class LastEpochsAverage(WeightAveraging):
    """In the last phase, validates and keeps the mean of the weights over all steps of the phase so far.

    Before that phase it uses the weights as they are: the average restarts with each step.
    """

    def __init__(self):
        super().__init__(use_buffers=True)  # the statistics of batch norms too

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: tuple, batch_index: int
    ) -> None:
        last_phase, average = _own(module).last_phase, self._average_model
        is_before = trainer.current_epoch < last_phase or (trainer.current_epoch == last_phase and not batch_index)
        if is_before and average is not None:
            average.n_averaged.zero_()


class Patience(L.Callback):
    """Begins the last phase when no epoch has been better for some time; without averaging, this ends the training.

    Lightning's own early stop would skip the averaged epochs and keep the luckiest of the others.
    """

    def __init__(self, epochs: int):
        self.epochs = epochs
        self._best, self._waited, self._last_phase = -math.inf, 0, -1

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if self._last_phase >= 0:  # of the run that this one goes on with
            self._begin(trainer, _own(module), self._last_phase)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        rank, following = trainer.callback_metrics["val_rank"].item(), trainer.current_epoch + 1
        self._waited = 0 if rank > self._best else self._waited + 1
        self._best = max(rank, self._best)
        if self._waited >= self.epochs and following < _own(module).last_phase:
            self._last_phase = following
            self._begin(trainer, _own(module), following)
            for made in trainer.lr_scheduler_configs:  # the rate of the next step had been set by the plan
                schedule = cast(LambdaLR, made.scheduler)  # of `configure_optimizers`
                groups = schedule.optimizer.param_groups
                for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
                    group["lr"] = base * factor(schedule.last_epoch)

    def _begin(self, trainer: L.Trainer, module: StreamTraining, epoch: int) -> None:
        module.last_phase = epoch
        trainer.fit_loop.max_epochs = epoch + module.config.average_epochs

    def state_dict(self) -> dict:
        return {"best": self._best, "waited": self._waited, "last_phase": self._last_phase}

    def load_state_dict(self, state: dict) -> None:
        self._best, self._waited, self._last_phase = state["best"], state["waited"], state["last_phase"]


class StepSaver(L.Callback):
    """Makes a checkpoint every few minutes inside an epoch; `ModelCheckpoint` makes one after each epoch.

    It makes none after an epoch's last step: a run that resumed there would skip the epoch's validation.
    """

    def __init__(self, path: Path, minutes: float):
        self.path, self.minutes = path, minutes
        self._saved = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        is_due = bool(self.minutes) and time.monotonic() - self._saved >= 60 * self.minutes
        if batch_idx + 1 < trainer.num_training_batches and trainer.strategy.broadcast(is_due):
            trainer.save_checkpoint(self.path)
            self._saved = time.monotonic()


class StepReporter(L.Callback):
    """Reports each step, and the figures of each epoch, which the curve keeper must have noted before it."""

    def __init__(self, progress: Progress, curve: CurveKeeper):
        self.progress, self.curve = progress, curve

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        total = int(trainer.estimated_stepping_batches)
        self.progress.update(trainer.global_step, total, _epoch_note(self.curve.rows))

    def on_train_epoch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.progress.report(_epoch_note(self.curve.rows))

    def on_fit_end(self, trainer: L.Trainer, *_: object) -> None:
        self.on_train_batch_end(trainer)


def _epoch_note(curve: Curve) -> str:
    if not curve:
        return ""
    last = curve[-1]
    return f"epoch {last['epoch']}: loss {last['train_loss']:.3f}, top-1 {last['val_top1']:.1f} % on val"
