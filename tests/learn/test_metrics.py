import json

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score, top_k_accuracy_score
from torchmetrics.functional.classification import multiclass_calibration_error

from rgbflow.errors import InputError
from rgbflow.learn.metrics import (
    DECISIONS,
    auroc_interval,
    calibration_error,
    calibration_error_by_chance,
    confusion,
    deciding_stream,
    group_interval,
    measure,
    measure_unknown,
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


def test_groups_of_one_size_get_the_t_interval_of_their_means():
    values = {"a0": 1.0, "a1": 0.0, "b0": 1.0, "b1": 1.0, "c0": 0.0, "c1": 0.0}
    groups = {clip: clip[0] for clip in values}
    expected = stats.ttest_1samp([0.5, 1, 0], 0).confidence_interval(0.95)
    assert group_interval(values, groups) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_one_group_says_nothing():
    assert group_interval({"a": 1.0, "b": 1.0}, {"a": "g", "b": "g"}) == (-100, 100)


def softmax(logits):
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(("clips", "classes", "sharpness"), [(1, 2, 1), (17, 3, 4), (500, 10, 2), (500, 101, 0.5)])
def test_the_calibration_error_equals_torchmetrics(clips, classes, sharpness):
    scores, labels = draw_scores(clips, clips, classes)
    scores = softmax(sharpness * scores)
    theirs = multiclass_calibration_error(torch.tensor(scores), torch.tensor(labels), classes, n_bins=15, norm="l1")
    assert calibration_error(scores, labels) == pytest.approx(100 * float(theirs), abs=1e-4)


def test_the_calibration_error_of_chance_is_that_of_true_probabilities():
    generator = np.random.default_rng(0)
    scores = softmax(2 * generator.normal(size=(60, 5)))
    drawn = [
        calibration_error(scores, (generator.random((60, 1)) > scores.cumsum(axis=1)).sum(axis=1)) for _ in range(400)
    ]
    assert calibration_error_by_chance(scores) == pytest.approx(np.mean(drawn), abs=0.5)
    assert np.mean(drawn) > 5  # 60 clips can't show less, however true the probabilities


def test_certain_and_right_is_calibrated_certain_and_wrong_is_not():
    certain = np.eye(3)
    assert calibration_error(certain, np.arange(3)) == 0
    assert calibration_error(certain, np.array([1, 2, 0])) == 100


def test_unknown_figures_are_those_of_an_independent_implementation():
    generator = np.random.default_rng(3)
    known, unknown = softmax(3 * generator.normal(size=(50, 4))), softmax(generator.normal(size=(30, 4)))
    figures = measure_unknown(known, unknown, threshold=0.6, promised=0.05)
    confidence, truth = [*known.max(axis=1), *unknown.max(axis=1)], [1] * 50 + [0] * 30
    assert figures.auroc == pytest.approx(100 * roc_auc_score(truth, confidence))
    assert figures.false_alarms == pytest.approx(100 * sum(row.max() > 0.6 for row in unknown) / 30)
    assert figures.rejected == pytest.approx(100 * sum(row.max() <= 0.6 for row in known) / 50)
    assert figures.false_alarms_interval == wilson_interval(round(figures.false_alarms * 0.3), 30)
    assert (figures.known_clips, figures.unknown_clips, figures.promised) == (50, 30, 5)
    assert measure_unknown(known, unknown).false_alarms is None


def test_the_interval_of_an_area_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    shift = 1.5
    truth = 100 * stats.norm.cdf(shift / np.sqrt(2))
    covered = []
    for _ in range(300):
        above, below = generator.normal(shift, 1, 20), generator.normal(0, 1, 15)
        low, high = auroc_interval(100 * float((above[:, None] > below).mean()), 20, 15)
        covered.append(low <= truth <= high)
    assert 0.91 < np.mean(covered) <= 1


def test_the_interval_of_an_area_stays_inside_and_is_one_also_at_the_ends():
    for found in (0, 0.5, 50, 99, 100):
        low, high = auroc_interval(found, 8, 8)
        assert 0 <= low <= found <= high <= 100
        assert high - low > 20
    wide, narrow = (auroc_interval(90, clips, clips) for clips in (10, 1000))
    assert wide[0] < narrow[0] < 90 < narrow[1] < wide[1]
    # With many clips it is the area ± 1.96 standard errors of Hanley and McNeil.
    pair, triple = 0.9 / 1.1, 2 * 0.81 / 1.9
    error = np.sqrt((0.9 * 0.1 + 99999 * (pair - 0.81) + 99999 * (triple - 0.81)) / 1e10)
    assert auroc_interval(90, 100000, 100000) == pytest.approx((90 - 196 * error, 90 + 196 * error), abs=0.01)
