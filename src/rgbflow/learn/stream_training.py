"""The Lightning module that trains one stream."""

from dataclasses import replace
from functools import partial
from typing import cast

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from rgbflow.data.dataset import ClipDataset, DrawnBatch, DrawnDataset, EpochLoader, EpochSampler, collate_drawn, finish
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.depthwise import DepthwiseInFloat32
from rgbflow.learn.optimizers import learning_rate_factor, make_optimizer
from rgbflow.learn.probe import is_fitted, validation_rank
from rgbflow.networks.stream_net import StreamNet, batch_norms
from rgbflow.networks.weights import are_of_flow
from rgbflow.stream import StreamSpec


def probe_rate_of(config: TrainConfig, spec: StreamSpec) -> float:
    """The share of the learning rate for a start from the probe's classifier; 0 for flow from weights of images.

    Such flow needs other features than those that the classifier was fitted on.
    """
    return config.probe_rate if spec.stream == "rgb" or are_of_flow(config.weights, spec) else 0.0


class StreamTraining(L.LightningModule):
    """The training of one stream: loss, figures on the validation part, optimizer.

    Args:
        network: with its starting weights.
        config: the run's settings.
        parts: "train" and "val" data; also "test" for a curve of it, which decides nothing.

    Attributes:
        is_gentle: whether it starts from the probe's classifier: with all batch norms frozen, and with a share of the
            learning rate, so that the features change little at first.
        last_phase: the epoch, counted from 0, from which weights are averaged; earlier where patience has run out.
    """

    def __init__(self, network: StreamNet, config: TrainConfig, parts: dict[str, ClipDataset]):
        super().__init__()
        self.network, self.config, self.parts = network, config, parts
        self.last_phase = config.epochs - config.average_epochs
        # Where the features are good for this input already, a high rate and the statistics of small batches would
        # shake them.
        self._probe_rate = probe_rate_of(config, parts["train"].spec)
        self.is_gentle = self._probe_rate > 0 and is_fitted(network, config)
        norms = batch_norms(network)
        self.frozen = norms if self.is_gentle else norms[1:] if config.freeze_batch_norms else []
        for layer in self.frozen:
            layer.requires_grad_(False).eval()
        self.top1 = nn.ModuleDict(
            {
                f"{part}_top1": MulticlassAccuracy(num_classes=network.num_classes, average="micro")
                for part in self.watched_parts
            }
        )
        # This process's clips in this epoch, the sum of their losses, and how many were right. No buffer: DDP would
        # make it the same in all processes.
        self.seen = torch.zeros(3)

    def train(self, mode: bool = True) -> "StreamTraining":
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", self.config.batch_size)

    def val_dataloader(self) -> list[DataLoader]:
        batch_size = max(1, self.config.batch_size // self.network.family.val_snippets)
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
        with DepthwiseInFloat32():
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
        gathered = cast(Tensor, self.all_gather(self.seen.to(self.device)))  # of a tensor, one tensor
        checkpoint["seen"] = gathered.reshape(-1, 3)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        seen, processes = checkpoint["seen"], self.trainer.world_size
        if seen.any():  # in mid-epoch
            if len(seen) != processes:
                raise InputError(f"the epoch was begun by {len(seen)} processes, not {processes}: resume with as many")
            self.seen = seen[self.global_rank]

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int, dataloader_idx: int = 0) -> None:
        inputs, labels = batch
        logits = self.network(inputs)
        self._log(self.watched_parts[dataloader_idx], F.cross_entropy(logits, labels), logits, labels)

    def _log(self, part: str, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep loss and top-1 of a part for its mean over the epoch and over all processes."""
        top1 = self._top1_of(part)
        top1.update(logits.detach(), labels)
        log = partial(self.log, on_step=False, on_epoch=True, batch_size=len(labels), add_dataloader_idx=False)
        log(f"{part}_loss", loss.detach(), sync_dist=True)
        log(f"{part}_top1", top1)

    def _top1_of(self, part: str) -> MulticlassAccuracy:
        return cast(MulticlassAccuracy, self.top1[f"{part}_top1"])  # ModuleDict does not say what it holds

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        rank = validation_rank(100 * self._top1_of("val").compute(), self.trainer.callback_metrics["val_loss"])
        if self.current_epoch >= self.last_phase:
            rank += 2  # an early epoch is not to win by the luck of a small val part: averaging is there for that
        self.log("val_rank", rank, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        config = self.config
        rate = config.learning_rate * (self._probe_rate if self.is_gentle else 1)
        optimizer = make_optimizer(self.parameters(), replace(config, learning_rate=rate))
        # Not the trainer's own estimate: for it, Lightning would take the loader before it has read the checkpoint.
        steps_per_epoch = len(self.train_dataloader())

        def factor(step: int) -> float:
            epoch = step / steps_per_epoch
            if epoch >= self.last_phase:  # the last phase has the rates of the planned last epochs, whenever it begins
                epoch += config.epochs - config.average_epochs - self.last_phase
            return learning_rate_factor(config, epoch)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
