"""The test that defines the project: what one stream cannot tell, the other can, and the fusion tells both."""

import numpy as np
import pytest

from rgbflow.data.splits import load_split

PAIRS = {"direction": {"left", "right"}, "colour": {"red", "green"}}


def accuracy_on(evaluation, stream, pair):
    """Share of the clips of a pair of classes that a stream names rightly."""
    chosen = [evaluation.classes[label] in PAIRS[pair] for label in evaluation.labels]
    return (evaluation.scores[stream].argmax(axis=1) == evaluation.labels)[chosen].mean()


@pytest.mark.parametrize(
    ("stream", "solves", "fails"), [("flow", "direction", "colour"), ("rgb", "colour", "direction")]
)
def test_each_stream_solves_its_pair_and_fails_the_other(evaluation, stream, solves, fails):
    assert accuracy_on(evaluation, stream, solves) >= 0.9
    assert accuracy_on(evaluation, stream, fails) <= 0.75  # chance is a half


def test_the_fusion_solves_both(evaluation):
    assert accuracy_on(evaluation, "fused", "direction") >= 0.9
    assert accuracy_on(evaluation, "fused", "colour") >= 0.9
    tops = {name: np.mean(scores.argmax(axis=1) == evaluation.labels) for name, scores in evaluation.scores.items()}
    assert tops["fused"] >= max(tops["rgb"], tops["flow"]) + 0.1


def test_no_group_of_the_test_part_was_trained_on(world, evaluation):
    assert evaluation.leak_percent == 0
    split = load_split(world.split)
    assert not {clip.group for clip in split.test} & {clip.group for clip in split.train + split.val}
