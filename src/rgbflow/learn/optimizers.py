"""The optimizers of Figure 4 of the paper and the schedules of their learning rate."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from rgbflow.learn.config import TrainConfig


def make_optimizer(parameters: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    """One of the four optimizers that the paper compares, each as torch has it by default.

    The configuration gives learning rate, weight decay and, for sgd-momentum, the momentum. asgd begins to average
    after a million steps (torch's t0), which no training here reaches: until then it is sgd with slowly shrinking
    steps.
    """
    parameters, rate, decay = list(parameters), config.learning_rate, config.weight_decay
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(parameters, rate, weight_decay=decay)
        case "asgd":
            return torch.optim.ASGD(parameters, rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(parameters, rate, momentum=config.momentum, weight_decay=decay)


def learning_rate_factor(config: TrainConfig, epoch: float) -> float:
    """The share of the learning rate at a time, given in (partial) epochs from 0."""
    warmup = min(1.0, (epoch + 1e-2) / config.warmup_epochs) if config.warmup_epochs else 1.0
    if config.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, epoch / config.epochs)))
    return warmup * (config.decay ** int(epoch) if config.schedule == "exponential" else 1.0)
