"""The four optimizers against the equations of their papers, written out."""

import math

import pytest
import torch
from torch import nn

from rgbflow.learn.config import TrainConfig
from rgbflow.learn.optimizers import learning_rate_factor, make_optimizer

RATE, DECAY = 0.1, 0.01


def sgd(w, gradient, state, step):
    return w - RATE * (gradient + DECAY * w)


def momentum(w, gradient, state, step):
    state["v"] = 0.9 * state.get("v", 0) + gradient + DECAY * w
    return w - RATE * state["v"]


def adam(w, gradient, state, step):  # Kingma and Ba 2015, algorithm 1, with L2 decay
    gradient = gradient + DECAY * w
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    return w - RATE * (state["m"] / (1 - 0.9**step)) / ((state["v"] / (1 - 0.999**step)) ** 0.5 + 1e-8)


def asgd(w, gradient, state, step):  # Bottou's, with its usual lambda 1e-4 and alpha 0.75
    rate = RATE / (1 + 1e-4 * RATE * (step - 1)) ** 0.75
    return w * (1 - 1e-4 * rate) - rate * (gradient + DECAY * w)


@pytest.mark.parametrize(("name", "update"), [("sgd", sgd), ("sgd-momentum", momentum), ("adam", adam), ("asgd", asgd)])
def test_each_takes_the_steps_of_its_equations(name, update):
    start, target = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.0, 1.0, 2.0])
    weight = nn.Parameter(start.clone())
    config = TrainConfig(optimizer=name, learning_rate=RATE, weight_decay=DECAY, momentum=0.9)
    optimizer = make_optimizer([weight], config)
    expected, state = start.double(), {}
    for step in range(1, 8):
        optimizer.zero_grad()
        ((weight - target) ** 2).sum().backward()
        optimizer.step()
        expected = update(expected, 2 * (expected - target), state, step)
        torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_follows_its_formula():
    cosine = TrainConfig(epochs=10, warmup_epochs=0)
    for epoch in range(11):
        assert learning_rate_factor(cosine, epoch) == pytest.approx((1 + math.cos(math.pi * epoch / 10)) / 2)
    exponential = TrainConfig(epochs=10, warmup_epochs=0, schedule="exponential", decay=0.9)
    assert [learning_rate_factor(exponential, epoch) for epoch in (0, 1.5, 3)] == pytest.approx([1, 0.9, 0.9**3])
    warm = TrainConfig(schedule="constant", warmup_epochs=2)
    assert [learning_rate_factor(warm, epoch) for epoch in (0, 1, 2, 5)] == pytest.approx([0, 0.5, 1, 1], abs=0.01)
