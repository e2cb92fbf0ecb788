import json

import numpy as np
import pytest

from rgbflow.errors import InputError
from rgbflow.fusion import Fusion, average, probabilities, product


def test_average_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    rgb, flow = (probabilities(rng.normal(size=(20, 7))) for _ in range(2))
    fused = average({"rgb": rgb, "flow": flow})
    for clip in range(20):
        for label in range(7):
            assert fused[clip, label] == pytest.approx((rgb[clip, label] + flow[clip, label]) / 2)
    np.testing.assert_allclose(fused.sum(axis=1), 1)


def test_one_stream_alone_is_itself():
    rgb = probabilities(np.array([[1.0, 2.0, 3.0]]))
    np.testing.assert_array_equal(average({"rgb": rgb}), rgb)


def test_large_logits_do_not_overflow():
    np.testing.assert_allclose(probabilities(np.array([1000.0, 0.0])), [1, 0])


def test_logits_are_refused():
    with pytest.raises(InputError, match="scores of flow are not probabilities"):
        average({"flow": np.array([[3.0, 1.0]])})


RNG = np.random.default_rng(7)
SCORES = {stream: probabilities(2 * RNG.normal(size=(6, 3))) for stream in ("rgb", "flow")}
ROWS = {"rgb": (0.5, 0.9, 0.2), "flow": (1.0, 0.3, 0.6)}
FUSIONS = [
    Fusion(),
    Fusion(temperature=0.7),
    Fusion("product"),
    Fusion("product", temperature=1.6),
    Fusion("product", {"rgb": (0.5,), "flow": (1.4,)}, temperature=0.8),
    Fusion("weighted", {"rgb": (0.3,), "flow": (0.7,)}, temperature=2.5),
    Fusion("tempered", {"rgb": (0.4,), "flow": (1.8,)}, temperature=1.1),
    Fusion("reliability", ROWS, temperature=1.3, threshold=0.4, false_alarm_rate=0.05),
    Fusion("stacking", ROWS, (0.1, -0.4, 0.0), 0.9),
]


def fused_by_loop(fusion, rgb, flow):
    """One clip, class by class."""
    one, other = (fusion.weights.get(stream, (1.0,)) for stream in ("rgb", "flow"))
    one, other = (row * 3 if len(row) == 1 else row for row in (one, other))
    if fusion.method == "product":
        mixed = [rgb[k] ** one[k] * flow[k] ** other[k] for k in range(3)]
    elif fusion.method == "stacking":
        mixed = [np.exp(fusion.bias[k]) * rgb[k] ** one[k] * flow[k] ** other[k] for k in range(3)]
    elif fusion.method == "tempered":
        rgb, flow = ([row[k] ** power[k] for k in range(3)] for row, power in ((rgb, one), (flow, other)))
        mixed = [rgb[k] / sum(rgb) + flow[k] / sum(flow) for k in range(3)]
    else:
        mixed = [one[k] * rgb[k] + other[k] * flow[k] for k in range(3)]
    mixed = [value / sum(mixed) for value in mixed]
    sharpened = [value ** (1 / fusion.temperature) for value in mixed]
    return [value / sum(sharpened) for value in sharpened]


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: f"{fusion.method}-{fusion.temperature}")
def test_every_fusion_equals_a_plain_loop(fusion):
    fused = fusion.fuse(SCORES)
    for clip in range(6):
        expected = fused_by_loop(fusion, SCORES["rgb"][clip], SCORES["flow"][clip])
        np.testing.assert_allclose(fused[clip], expected)
        np.testing.assert_array_equal(fusion.fuse({name: rows[clip] for name, rows in SCORES.items()}), fused[clip])


def test_the_product_of_equal_streams_is_surer_than_either():
    rows = SCORES["rgb"]
    fused = product({"rgb": rows, "flow": rows})
    np.testing.assert_allclose(fused, rows**2 / (rows**2).sum(axis=1, keepdims=True))
    assert (fused.max(axis=1) > rows.max(axis=1)).all()
    np.testing.assert_array_equal(fused.argmax(axis=1), rows.argmax(axis=1))


def test_a_stream_with_weight_0_or_with_nothing_to_say_changes_nothing():
    rows = SCORES["flow"]
    np.testing.assert_allclose(product(SCORES, {"rgb": 0.0, "flow": 1.0}), rows)
    np.testing.assert_allclose(product({"rgb": np.full_like(rows, 1 / 3), "flow": rows}), rows)


def test_the_product_with_weights_1_is_the_sum_of_the_logits():
    logits = np.random.default_rng(3).normal(size=(2, 5, 4))
    fused = product({"rgb": probabilities(logits[0]), "flow": probabilities(logits[1])})
    np.testing.assert_allclose(fused, probabilities(logits.sum(axis=0)))


@pytest.mark.parametrize("weight", [0.0, 1.0, 50.0])
def test_probabilities_of_0_stay_finite_in_a_product(weight):
    rows = {"rgb": np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]), "flow": np.array([[0.0, 0.0, 1.0], [0.0, 0.9, 0.1]])}
    fused = product(rows, {"rgb": weight, "flow": 1.0})
    assert np.isfinite(fused).all()
    np.testing.assert_allclose(fused.sum(axis=1), 1)
    assert fused[1].argmax() == 1


def test_logits_are_refused_by_the_product_too():
    with pytest.raises(InputError, match="scores of flow are not probabilities"):
        product({"flow": np.array([[3.0, 1.0]])})


def test_a_product_without_numbers_is_for_any_streams_and_says_that_nothing_was_fitted():
    plain, fitted = Fusion("product"), Fusion("product", {"rgb": (0.5,), "flow": (1.4,)})
    assert plain.as_dict() == {"method": "product"}
    assert (plain.is_fitted, fitted.is_fitted, Fusion().is_fitted) == (False, True, False)
    assert Fusion("product", temperature=1.5).is_fitted
    assert plain.fits({"rgb", "flow"}, 3)
    assert fitted.fits({"rgb", "flow"}, 3)
    assert not fitted.fits({"rgb"}, 3)
    assert not Fusion("product", ROWS).fits({"rgb", "flow"}, 3)  # a number for each class is not its form


def test_the_default_is_the_plain_average_to_the_last_bit():
    np.testing.assert_array_equal(Fusion().fuse(SCORES), average(SCORES))


def test_a_temperature_divides_the_logits():
    logits = 3 * np.random.default_rng(8).normal(size=(5, 4))
    np.testing.assert_allclose(
        Fusion(temperature=1.7).fuse({"rgb": probabilities(logits)}), probabilities(logits / 1.7)
    )


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion.method)
def test_a_class_that_a_stream_rules_out_breaks_nothing(fusion):
    fused = fusion.fuse({"rgb": np.array([1.0, 0.0, 0.0]), "flow": np.array([0.0, 1.0, 0.0])})
    assert np.isfinite(fused).all()
    assert fused.sum() == pytest.approx(1)


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion.method)
def test_a_fusion_survives_json(fusion):
    assert Fusion.from_dict(json.loads(json.dumps(fusion.as_dict()))) == fusion


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"method": "votes"}, r"method \('votes'\) must be one of average, product,"),
        ({"temperature": 0.0}, r"temperature \(0.0\) must be a number in"),
        ({"temperature": float("nan")}, r"temperature \(nan\) must be a number in"),
        ({"method": "weighted"}, "too many numbers or too few: run `rgbflow calibrate` again"),
        ({"weights": {"rgb": (1.0,)}}, "too many numbers or too few: run `rgbflow calibrate` again"),
        ({"method": "product", "bias": (0.1, 0.2, 0.3)}, "too many numbers or too few: run `rgbflow calibrate` again"),
        (
            {"method": "product", "weights": {"rgb": (float("inf"),), "flow": (1.0,)}},
            r"weights.rgb\[0\] \(inf\) must be a number in",
        ),
        ({"method": "stacking", "weights": ROWS}, "too many numbers or too few: run `rgbflow calibrate` again"),
    ],
)
def test_numbers_that_make_no_fusion_are_refused(numbers, words):
    with pytest.raises(InputError, match=words):
        Fusion(**numbers)


def test_a_threshold_without_a_promise_is_somebodys_choice():
    fusion = Fusion(threshold=0.5)
    assert Fusion.from_dict(fusion.as_dict()) == fusion
    np.testing.assert_array_equal(fusion.fuse(SCORES), average(SCORES))


@pytest.mark.parametrize(
    "shares",
    [{"threshold": 1.5}, {"threshold": -0.1}, {"threshold": float("nan")}, {"threshold": 0.5, "false_alarm_rate": 5},
     {"false_alarm_rate": 0.05}],
)  # fmt: skip
def test_a_threshold_that_is_no_probability_and_a_promise_without_one_are_refused(shares):
    with pytest.raises(InputError, match=r"must be a number in 0…1, or None|needs a threshold: run"):
        Fusion(**shares)
