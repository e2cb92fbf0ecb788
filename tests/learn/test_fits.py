"""Fits of fusions against truths: numbers the scores were drawn with, and plain loops."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from rgbflow.errors import InputError
from rgbflow.fusion import METHODS, Fusion, probabilities
from rgbflow.learn import fits
from rgbflow.learn.calibrate import fit_calibration
from rgbflow.learn.fits import (
    Candidate,
    ScoredClips,
    choose,
    cross_validated,
    fit,
    fit_candidates,
    fit_product,
    fit_reliability,
    fit_stacking,
    fit_temperature,
    fit_tempered,
    fit_weighted,
)
from rgbflow.learn.metrics import calibration_error


def drawn(rng, probabilities):
    """Labels drawn with the probabilities of each row."""
    return (rng.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


def scored(clips, classes=4, seed=0, rgb=2.0, flow=1.5, sharpness=1.0):
    """Clips of both streams: logits that favour the truth by `rgb` and `flow`, too sharp by a factor."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=clips)
    scores = {
        stream: probabilities(sharpness * (favour * np.eye(classes)[labels] + rng.normal(size=(clips, classes))))
        for stream, favour in {"rgb": rgb, "flow": flow}.items()
    }
    return ScoredClips(scores, labels, np.array([f"person{clip % 5}" for clip in range(clips)]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_scores_were_drawn_with_is_found(temperature):
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(20000, 5))
    labels = drawn(rng, probabilities(logits / temperature))
    assert fit_temperature(probabilities(logits), labels) == pytest.approx(temperature, rel=0.03)


def test_ten_of_ten_right_do_not_make_it_certain():
    """Ten clips alike, all right: with half a clip that is wrong, 10 of 10.5, not certainty."""
    scores = np.tile([0.6, 0.2, 0.2], (10, 1))
    temperature = fit_temperature(scores, np.zeros(10, int))
    assert Fusion(temperature=temperature).fuse({"rgb": scores})[0, 0] == pytest.approx(10 / 10.5, abs=0.002)


def test_each_stream_gets_the_temperature_that_its_scores_were_drawn_with():
    rng = np.random.default_rng(2)
    truth = probabilities(2 * rng.normal(size=(20000, 5)))
    labels = drawn(rng, truth)
    scores = {"rgb": probabilities(4 * np.log(truth)), "flow": probabilities(0.5 * np.log(truth))}
    weights = fit_tempered(ScoredClips(scores, labels, np.arange(20000))).weights
    assert weights["rgb"] == pytest.approx((0.25,), rel=0.03)
    assert weights["flow"] == pytest.approx((2.0,), rel=0.03)


@pytest.mark.parametrize(("clips", "flow"), [(12, 1.5), (200, 1.5), (200, 0.0)])
def test_the_weight_is_the_best_of_a_fine_grid(clips, flow):
    part = scored(clips, flow=flow)
    (weight,) = fit_weighted(part).weights["rgb"]

    def loss(weight):
        mixed = [
            weight * part.scores["rgb"][n, k] + (1 - weight) * part.scores["flow"][n, k]
            for n, k in enumerate(part.labels)
        ]
        return -np.log(mixed).sum() - np.log(weight) - np.log(1 - weight)

    grid = np.linspace(0.001, 0.999, 999)
    assert weight == pytest.approx(grid[np.argmin([loss(w) for w in grid])], abs=0.0015)
    if flow == 0:
        assert weight > 0.85


def test_reliability_is_the_share_of_a_class_probability_that_is_right():
    part = scored(15, classes=3)
    fusion = fit_reliability(part)
    for stream, scores in part.scores.items():
        overall = sum(scores[n, k] for n, k in enumerate(part.labels)) / 15
        for k in range(3):
            right = sum(scores[n, k] for n in range(15) if part.labels[n] == k)
            given = sum(scores[n, k] for n in range(15))
            assert fusion.weights[stream][k] == pytest.approx((right + overall) / (given + 1))


def test_stacking_is_the_optimum_of_its_loss():
    """Against an optimiser without gradients on a loss written as a loop."""
    part = scored(12, classes=3)
    logs = [np.log(rows) for rows in part.scores.values()]

    def fused(numbers):
        own, bias = numbers[2:8].reshape(2, 3), numbers[8:]
        return probabilities(sum((numbers[s] + own[s]) * logs[s] for s in range(2)) + bias)

    def loss(numbers):
        pull = sum((value - 0.5) ** 2 for value in numbers[:2]) + sum(value**2 for value in numbers[2:])
        return sum(-np.log(row[k]) for row, k in zip(fused(numbers), part.labels, strict=True)) + pull / 2

    best = minimize(loss, np.zeros(11), method="Powell", options={"maxiter": 20000, "xtol": 1e-7, "ftol": 1e-10})
    np.testing.assert_allclose(fit_stacking(part).fuse(part.scores), fused(best.x), atol=1e-3)


def test_stacking_finds_the_logarithmic_weights_that_labels_were_drawn_with():
    rng = np.random.default_rng(1)
    scores = {stream: probabilities(rng.normal(size=(8000, 3))) for stream in ("rgb", "flow")}
    labels = drawn(rng, Fusion("stacking", {"rgb": (1.5,) * 3, "flow": (0.4,) * 3}, (0.0,) * 3).fuse(scores))
    fusion = fit_stacking(ScoredClips(scores, labels, np.arange(8000)))
    assert fusion.weights["rgb"] == pytest.approx([1.5] * 3, abs=0.15)
    assert fusion.weights["flow"] == pytest.approx([0.4] * 3, abs=0.15)


@pytest.mark.parametrize("clips", [12, 60])
def test_the_product_is_the_optimum_of_its_loss(clips):
    """Against a fine grid on a loss written as a loop, of factors to each stream's own power."""
    part = scored(clips, classes=3, flow=0.8, sharpness=2.0)
    weights, own = fit_product(part).weights, {stream: power for stream, (power,) in fit_tempered(part).weights.items()}
    found = weights["rgb"][0] / own["rgb"], weights["flow"][0] / own["flow"]
    scores = {stream: rows ** own[stream] for stream, rows in part.scores.items()}

    def loss(one, other):
        total = 30 * ((one - 1) ** 2 + (other - 1) ** 2) / 2
        for n, label in enumerate(part.labels):
            fused = [scores["rgb"][n, k] ** one * scores["flow"][n, k] ** other for k in range(3)]
            total -= np.log(fused[label] / sum(fused))
        return total

    around = [(one, other) for one in np.linspace(0, 2, 21) for other in np.linspace(0, 2, 21)]
    assert loss(*found) <= min(loss(*pair) for pair in around)
    for step in (0.01, -0.01):
        assert loss(found[0] + step, found[1]) > loss(*found)
        assert loss(found[0], found[1] + step) > loss(*found)


def test_the_product_finds_the_temperatures_that_streams_were_made_too_sure_with():
    """Two independent observers of one truth: their right product is known, whatever each one's sureness."""
    part, unseen = scored(8000, seed=3), scored(8000, seed=4)
    true = Fusion("product", {"rgb": (2.0,), "flow": (1.5,)})  # logits favour·e + noise: Bayes takes favour times them
    spoiled = {"rgb": 5.0, "flow": 0.5}
    found = fit_product(
        dataclasses.replace(
            part, scores={s: probabilities(spoiled[s] * np.log(rows)) for s, rows in part.scores.items()}
        )
    ).weights
    assert found["rgb"][0] * spoiled["rgb"] == pytest.approx(2.0, rel=0.05)
    assert found["flow"][0] * spoiled["flow"] == pytest.approx(1.5, rel=0.05)
    assert calibration_error(true.fuse(unseen.scores), unseen.labels) < 2


def test_few_clips_leave_the_streams_an_equal_say():
    """And a stream that knows nothing is silent at once: its own temperature is high."""
    few = scored(6)
    weights, own = fit_product(few).weights, fit_tempered(few).weights
    assert weights["rgb"][0] / own["rgb"][0] == pytest.approx(weights["flow"][0] / own["flow"][0], abs=0.1)
    assert 0 <= fit_product(scored(40, flow=0.0)).weights["flow"][0] < 0.4


def test_how_sure_of_itself_a_stream_is_changes_nothing_in_the_fitted_product():
    part = scored(30)
    sharper = {**part.scores, "flow": probabilities(4 * np.log(part.scores["flow"]))}
    found = fit_product(dataclasses.replace(part, scores=sharper)).fuse(sharper)
    np.testing.assert_allclose(found, fit_product(part).fuse(part.scores), atol=1e-3)


def test_a_class_without_validation_clips_keeps_a_sensible_weight():
    part = scored(40, classes=4)
    part = part[part.labels != 2]
    weights = fit_stacking(part).weights["rgb"]
    assert min(weights) <= weights[2] <= max(weights)
    assert np.isfinite(fit("reliability", part).fuse(part.scores)).all()


@pytest.mark.parametrize("groups", [2, 5, 30, 1])
def test_no_group_is_scored_by_a_fit_that_saw_it(groups):
    part = dataclasses.replace(scored(60), groups=np.array([f"g{clip % groups}" for clip in range(60)]))
    seen = []

    def watched(rest):
        seen.append(set(zip(rest.groups, map(float, rest.scores["rgb"][:, 0]), strict=True)))
        return Fusion()

    fused = cross_validated(watched, part)
    np.testing.assert_array_equal(fused, Fusion().fuse(part.scores))
    everything = set(zip(part.groups, map(float, part.scores["rgb"][:, 0]), strict=True))
    held_out = [everything - rest for rest in seen]
    assert sum(map(len, held_out)) == 60
    assert set.union(*held_out) == everything
    if groups > 1:
        assert all(not {g for g, _ in out} & {g for g, _ in everything - out} for out in held_out)
        assert len(seen) == min(10, groups)


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_calibrated_on_clips_it_did_not_see(method, sharpness):
    part, unseen = scored(300, sharpness=sharpness), scored(4000, seed=1, sharpness=sharpness)
    fused = fit(method, part).fuse(unseen.scores)
    before, after = (calibration_error(rows, unseen.labels) for rows in (Fusion().fuse(unseen.scores), fused))
    assert before > 7
    # A temperature after the mean can't undo the shape that a mean of two oversure streams has.
    is_mean_of_oversure = sharpness > 1 and method not in ("stacking", "tempered", "product")
    assert after < (0.75 * before if is_mean_of_oversure else 2)
    if method == "average":  # a temperature changes no answer
        np.testing.assert_array_equal(fused.argmax(axis=1), Fusion().fuse(unseen.scores).argmax(axis=1))


def candidates_of(**losses):
    return {method: Candidate(Fusion(), loss, error, 0.0) for method, (loss, error) in losses.items()}


def test_the_average_stays_unless_another_is_clearly_better():
    assert choose(candidates_of(average=(1.0, 0.0), weighted=(1.0, 0.0))) == "average"
    assert choose(candidates_of(average=(1.0, 0.0), weighted=(0.75, 0.1), stacking=(1.2, 0.1))) == "average"
    assert choose(candidates_of(average=(1.0, 0.0), weighted=(0.75, 0.1), stacking=(0.65, 0.1))) == "stacking"
    assert choose(candidates_of(average=(1.0, 0.0), weighted=(0.85, 0.1)), errors=1) == "weighted"


def test_what_a_fit_has_to_beat_is_the_default(monkeypatch):
    candidates = candidates_of(average=(1.0, 0.1), product=(1.05, 0.0), weighted=(0.98, 0.1))
    assert choose(candidates) == "product"
    monkeypatch.setattr(fits, "DEFAULT_FUSION", "average")
    assert choose(candidates) == "average"
    assert choose(candidates_of(average=(1.0, 0.0))) == "average"  # of one stream


def test_two_oversure_streams_are_fused_by_their_product():
    """Where the average after a temperature can't be true, the product after its own can."""
    part, unseen = scored(300, sharpness=4.0), scored(4000, seed=1, sharpness=4.0)
    made = fit_calibration(part)
    assert made.fusion.method in ("product", "stacking")
    average, fused = (made.candidates[method].fusion.fuse(unseen.scores) for method in ("average", "product"))
    assert (fused.argmax(axis=1) == unseen.labels).mean() > (average.argmax(axis=1) == unseen.labels).mean() + 0.02
    assert calibration_error(fused, unseen.labels) < 2 < calibration_error(average, unseen.labels)


def test_a_stream_that_says_nothing_loses_its_say():
    part, unseen = scored(100, flow=0.0), scored(2000, seed=1, flow=0.0)
    made = fit_calibration(part)
    assert made.fusion.method != "average"
    fused, average = (fusion.fuse(unseen.scores) for fusion in (made.fusion, Fusion()))
    assert (fused.argmax(axis=1) == unseen.labels).mean() > (average.argmax(axis=1) == unseen.labels).mean() + 0.03


def test_one_stream_is_calibrated_and_has_nothing_to_fuse():
    part = scored(60, sharpness=4.0)
    alone = ScoredClips({"flow": part.scores["flow"]}, part.labels, part.groups)
    made = fit_calibration(alone)
    assert made.candidates.keys() == {"average"}
    assert made.fusion.temperature > 1.5
    assert made.calibration_error < made.uncalibrated_error
    with pytest.raises(InputError, match="fusion stacking needs two streams, the bundle has flow only: use average"):
        fit_calibration(alone, "stacking")


@pytest.mark.parametrize("groups", ["aaaab", "a" * 19 + "b", "aabbb"])
def test_a_group_of_one_clip_is_no_trouble(groups):
    part = scored(len(groups))
    made = fit_calibration(ScoredClips(part.scores, part.labels, np.array(list(groups))))
    assert made.groups == 2
    np.testing.assert_allclose(made.fusion.fuse(part.scores).sum(axis=1), 1)


def test_candidates_are_fitted_on_all_clips_and_measured_without_their_group():
    part = scored(30)
    candidates = fit_candidates(part)
    assert list(candidates) == list(METHODS)
    for method, row in candidates.items():
        assert row.fusion == fit(method, part)
        held_out = np.empty((30, 4))
        for group in set(part.groups):
            inside = part.groups == group
            held_out[inside] = fit(method, part[~inside]).fuse(part[inside].scores)
        assert row.log_loss == pytest.approx(-np.log(held_out[np.arange(30), part.labels]).mean())
        assert row.calibration_error == pytest.approx(calibration_error(held_out, part.labels))


# With real networks
