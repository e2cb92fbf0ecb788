import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from rgbflow.errors import InputError
from rgbflow.learn.metrics import (
    DECISIONS,
    confusion,
    deciding_stream,
    measure,
    truth_ranks,
    wilson_interval,
)


def draw_scores(seed: int, clips: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores that favour the truth a little, without ties, and labels that hold every class."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.arange(clips) % classes)
    scores = generator.normal(size=(clips, classes))
    scores[np.arange(clips), labels] += 1.0
    return scores, labels


# Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998),
# table I, method 3
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05), (0, 20, 0.00, 16.11), (1, 29, 0.61, 17.18)],
)
def test_wilson_interval_equals_the_published_ones(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=0.005)


@pytest.mark.parametrize("trials", [1, 7, 100])
def test_wilson_interval_mirrors_and_stays_inside(trials):
    for successes in range(trials + 1):
        low, high = wilson_interval(successes, trials)
        assert 0 <= low <= 100 * successes / trials <= high <= 100
        mirrored = wilson_interval(trials - successes, trials)
        assert (100 - mirrored[1], 100 - mirrored[0]) == pytest.approx((low, high))


def test_wilson_interval_without_trials():
    with pytest.raises(InputError, match="at least 1"):
        wilson_interval(0, 0)


@pytest.mark.parametrize("classes", [6, 10, 101])
@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_scikit_learn(seed, classes):
    scores, labels = draw_scores(seed, clips=3 * classes + 7, classes=classes)
    figures = measure(scores, labels)
    names = np.arange(classes)
    answers = scores.argmax(axis=1)
    assert figures.clips == len(labels)
    assert figures.top1 == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=1, labels=names))
    assert figures.top5 == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=5, labels=names))
    assert figures.mean_class_accuracy == pytest.approx(100 * balanced_accuracy_score(labels, answers))
    np.testing.assert_array_equal(confusion(scores, labels), confusion_matrix(labels, answers, labels=names))


@pytest.mark.parametrize("seed", range(5))
def test_ranks_equal_a_hand_counted_loop_with_many_ties(seed):
    generator = np.random.default_rng(seed)
    scores, labels = generator.integers(0, 3, size=(40, 7)), generator.integers(0, 7, size=40)
    expected = []
    for row, label in zip(scores, labels, strict=True):
        better = sum(value > row[label] for value in row)
        equal_and_earlier = sum(value == row[label] for value in row[:label])
        expected.append(better + equal_and_earlier)
    assert truth_ranks(scores, labels).tolist() == expected
    assert measure(scores, labels).top1 == 100 * np.mean(scores.argmax(axis=1) == labels)


def test_a_constant_scorer_gets_the_share_of_the_first_classes():
    labels = np.repeat(np.arange(10), 4)
    figures = measure(np.full((40, 10), 0.1), labels)
    assert (figures.top1, figures.top5, figures.mean_class_accuracy) == (10, 50, 10)


def test_mean_class_accuracy_weighs_classes_and_leaves_absent_ones_out():
    labels = np.array([0] * 8 + [1] * 2)
    scores = np.zeros((10, 3))
    scores[:, 0] = 1
    figures = measure(scores, labels)
    assert (figures.top1, figures.mean_class_accuracy) == (80, 50)


@pytest.mark.parametrize("classes", [2, 5])
def test_top5_is_100_with_five_classes_or_fewer(classes):
    scores, labels = draw_scores(0, clips=20, classes=classes)
    assert measure(scores, labels).top5 == 100


def test_figures_do_not_depend_on_the_order_of_the_clips_or_on_a_softmax():
    scores, labels = draw_scores(4, clips=50, classes=9)
    order = np.random.default_rng(0).permutation(50)
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    assert measure(softmax[order], labels[order]) == measure(scores, labels)


def test_figures_go_through_json():
    figures = measure(*draw_scores(1, clips=30, classes=6))
    read = json.loads(json.dumps(figures.as_dict()))
    assert read["top1"] == figures.top1
    assert read["top1_interval"] == list(figures.top1_interval)
    assert set(read) == {"clips", "top1", "top1_interval", "top5", "top5_interval", "mean_class_accuracy"}


def test_confusion_has_the_truth_in_rows():
    scores = np.eye(3)[[1, 1, 2]]
    np.testing.assert_array_equal(confusion(scores, np.array([0, 1, 2])), [[0, 1, 0], [0, 1, 0], [0, 0, 1]])


def test_deciding_stream_in_every_case():
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    cases = [  # rgb, flow, fused, expected
        (right, right, right, "both"),
        (right, wrong, right, "rgb"),
        (wrong, right, right, "flow"),
        (wrong, wrong, right, "fusion"),
        (right, right, wrong, "wrong"),
        (right, wrong, wrong, "wrong"),
        (wrong, right, wrong, "wrong"),
        (wrong, wrong, wrong, "wrong"),
    ]
    scores = {key: np.array([case[i] for case in cases]) for i, key in enumerate(("rgb", "flow", "fused"))}
    decided = deciding_stream(scores, np.zeros(len(cases), dtype=int))
    assert decided.tolist() == [case[3] for case in cases]


def test_an_only_stream_decides_what_it_gets_right():
    scores = {"flow": np.eye(3)[[0, 1, 1]]}
    assert deciding_stream(scores, np.array([0, 1, 2])).tolist() == ["flow", "flow", "wrong"]


def test_deciding_stream_adds_up_to_the_fused_top1():
    labels = draw_scores(0, clips=60, classes=8)[1]
    generator = np.random.default_rng(1)
    scores = {key: generator.normal(size=(60, 8)) + np.eye(8)[labels] for key in ("rgb", "flow")}
    scores["fused"] = scores["rgb"] + scores["flow"]
    decided = deciding_stream(scores, labels)
    assert set(decided) == set(DECISIONS)  # this draw holds every case
    assert 100 * np.mean(decided != "wrong") == pytest.approx(measure(scores["fused"], labels).top1)


@pytest.mark.parametrize(
    ("scores", "labels", "rule"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), "one label for each clip"),
        (np.zeros(3), np.zeros(3, int), "one label for each clip"),
        (np.zeros((0, 2)), np.zeros(0, int), "part that has clips"),
        (np.zeros((2, 2)), np.array([0, 2]), "in 0 to 1"),
        (np.zeros((2, 2)), np.array([0, -1]), "in 0 to 1"),
        (np.zeros((2, 2)), np.array([0.0, 1.0]), "integers"),
        (np.zeros((2, 2)), np.array(["run", "jump"]), "integers"),
        (np.array([[0.1, 0.9], [np.nan, 0.5]]), np.array([1, 1]), "clip 1"),
    ],
)
@pytest.mark.parametrize("function", [measure, confusion, truth_ranks])
def test_arrays_that_do_not_fit_give_one_line(function, scores, labels, rule):
    with pytest.raises(InputError, match=rule) as caught:
        function(scores, labels)
    assert "\n" not in str(caught.value)
