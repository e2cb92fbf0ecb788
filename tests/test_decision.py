import numpy as np
import pytest

from rgbflow.decision import decide

CLASSES = ("wave", "jump", "kick")


def decision_of(**stream_scores):
    scores = {stream: np.array(values) for stream, values in stream_scores.items()}
    return decide(CLASSES, np.mean(list(scores.values()), axis=0), scores)


@pytest.mark.parametrize(
    ("rgb", "flow", "answer", "by"),
    [
        ([0.6, 0.3, 0.1], [0.5, 0.3, 0.2], "wave", "both"),
        ([0.9, 0.1, 0.0], [0.2, 0.5, 0.3], "wave", "rgb"),
        ([0.3, 0.4, 0.3], [0.0, 0.1, 0.9], "kick", "flow"),
        ([0.5, 0.4, 0.1], [0.1, 0.4, 0.5], "jump", "fusion"),
    ],
)
def test_who_decided(rgb, flow, answer, by):
    decision = decision_of(rgb=rgb, flow=flow)
    assert (decision.answer, decision.by) == (answer, by)


def test_how_sure_each_stream_was():
    decision = decision_of(rgb=[0.9, 0.1, 0.0], flow=[0.2, 0.5, 0.3])
    rgb, flow = decision.voices["rgb"], decision.voices["flow"]
    assert (rgb.label, rgb.score, rgb.answer_score) == ("wave", 0.9, 0.9)
    assert rgb.margin == pytest.approx(0.8)
    assert (flow.label, flow.score, flow.answer_score) == ("jump", 0.5, 0.2)
    assert flow.margin == pytest.approx(-0.3)


def test_a_margin_is_below_zero_where_a_stream_says_something_else():
    generator = np.random.default_rng(0)
    for rgb, flow in generator.dirichlet(np.ones(3), (200, 2)):
        for voice in decision_of(rgb=rgb, flow=flow).voices.values():
            assert (voice.margin >= 0) == (voice.score == voice.answer_score)


@pytest.mark.parametrize(
    ("scores", "line"),
    [
        (
            {"rgb": [0.6, 0.3, 0.1], "flow": [0.5, 0.3, 0.2]},
            "both streams say wave: rgb 60%, 30 points ahead of the next class; "
            "flow 50%, 20 points ahead of the next class",
        ),
        (
            {"rgb": [0.9, 0.1, 0.0], "flow": [0.2, 0.5, 0.3]},
            "rgb decided: wave 90%, 80 points ahead of the next class; flow alone would have said jump (50%; wave 20%)",
        ),
        (
            {"rgb": [0.5, 0.4, 0.1], "flow": [0.1, 0.4, 0.5]},
            "neither stream alone says jump: rgb alone would have said wave (50%; jump 40%) and "
            "flow alone would have said kick (50%; jump 40%)",
        ),
        ({"flow": [0.1, 0.2, 0.7]}, "flow is the only stream: kick 70%, 50 points ahead of the next class"),
    ],
)
def test_the_line_for_people(scores, line):
    assert decision_of(**scores).line() == line


def test_a_recogniser_of_one_class_decides_too():
    decision = decide(("wave",), np.array([1.0]), {"rgb": np.array([1.0])})
    assert (decision.by, decision.voices["rgb"].margin) == ("rgb", 1.0)
