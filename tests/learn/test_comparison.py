import numpy as np
import pytest

from rgbflow.learn.comparison import compare
from rgbflow.learn.metrics import calibration_error, group_interval, wilson_interval


def test_scorers_are_compared_clip_by_clip_with_the_first():
    labels = np.array([0, 0, 1, 1])
    scores = {
        "plain": np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]]),
        "other": np.array([[0.9, 0.1], [0.7, 0.3], [0.3, 0.7], [0.1, 0.9]]),
    }
    groups = {"a": "ann", "b": "ann", "c": "bob", "d": "cy"}
    plain, other = compare(scores, labels, groups)
    assert (plain.name, plain.top1, plain.ahead, plain.ahead_interval) == ("plain", 50, None, None)
    assert (other.name, other.top1, other.ahead, other.clips) == ("other", 100, 50, 4)
    assert other.top1_interval == wilson_interval(4, 4)
    assert other.ahead_interval == group_interval({"a": 0, "b": 1, "c": 0, "d": 1}, groups)
    assert other.calibration_error == pytest.approx(calibration_error(scores["other"], labels))
