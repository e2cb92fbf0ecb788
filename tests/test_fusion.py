import numpy as np
import pytest

from rgbflow.errors import InputError
from rgbflow.fusion import average, probabilities


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
    with pytest.raises(InputError, match="scores of flow are no probabilities"):
        average({"flow": np.array([[3.0, 1.0]])})
