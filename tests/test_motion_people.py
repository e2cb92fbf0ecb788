"""benchmarks/motion_people.py: synthetic flow is the displacement that it says."""

from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture
def people(benchmark_module) -> ModuleType:
    return benchmark_module("motion_people")


def test_a_limb_that_turns_about_an_end_moves_by_angle_times_distance(people):
    angle, length = 0.01, 0.4
    turned = [[np.cos(angle * step) * length, np.sin(angle * step) * length] for step in range(people.FIELDS + 1)]
    ends = torch.tensor([[[0.3, 0.5], [0.3 + x, 0.5 + y]] for x, y in turned]).float()[None]
    flow = torch.zeros(1, people.FIELDS, 2, people.SIZE, people.SIZE)
    people._paint_limb(flow, ends, torch.tensor([0.02]))
    row, columns = 32, torch.arange(24, 40)  # along the limb, where it is in the first field
    distance = (columns + 0.5) / people.SIZE - 0.3
    torch.testing.assert_close(flow[0, 0, 1, row, columns], angle * distance * people.FRAME, atol=0.02, rtol=0.02)
    assert not flow[0, 0, :, :10].any()  # nothing moves where the limb is not


def test_snippets_are_drawn_anew_from_their_seed_and_cover_every_motion(people):
    motions = people.draw_motions()
    assert len(motions) == people.NUM_MOTIONS
    source = people.People(motions)
    torch.manual_seed(0)
    flow, labels = source.draw(4, np.random.default_rng(1))
    torch.manual_seed(0)
    again, same = source.draw(4, np.random.default_rng(1))
    assert torch.equal(flow, again)
    assert torch.equal(labels, same)
    assert flow.shape == (4, 2 * people.FIELDS, people.SIZE, people.SIZE)
    torch.testing.assert_close(flow.mean((-1, -2)), torch.zeros(4, 20), atol=1e-4, rtol=0)


def test_stored_flow_is_back_within_half_a_step(people):
    flow = torch.linspace(-people.LARGEST, people.LARGEST, 1001)
    difference = people.from_bytes(people.to_bytes(flow)) - flow
    assert difference.abs().max() <= people.LARGEST / 255 + 1e-5
