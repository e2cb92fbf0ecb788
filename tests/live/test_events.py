"""The state machine on made-up score series."""

import numpy as np
import pytest

from rgbflow import InputError
from rgbflow.live.events import EventFinder, EventRules

CLASSES = ("sit", "wave", "walk", "run", "jump")


def follow(series, rules=None, step=0.1, window=0.0, known=None):
    """Events of a series of (score of sit, score of wave), one each `step`; the others share the rest."""
    finder = EventFinder(CLASSES, rules or EventRules(0.5, 0.3, 0.3))
    found = []
    for index, (sit, wave) in enumerate(series):
        scores = np.array([sit, wave, *[(1 - sit - wave) / 3] * 3])
        now = index * step
        is_known = known is None or known[index]
        found += finder.push(scores, max(0.0, now - window), now, is_known)
    return found, finder


def told(events):
    return [(e.kind, e.label, pytest.approx(e.start_seconds), e.end_seconds) for e in events]


IDLE = (0.33, 0.33)


def test_an_action_starts_and_ends_when_it_began_and_was_over():
    events, finder = follow([IDLE] * 10 + [(0.9, 0.05)] * 10 + [IDLE] * 3 + [(0.2, 0.4)] * 10)
    assert [(e.kind, e.label) for e in events] == [("start", "sit"), ("end", "sit")]
    start, end = events
    assert (start.start_seconds, start.end_seconds) == (pytest.approx(1.0), None)
    assert start.evidence_end_seconds == pytest.approx(1.3)  # known after min_seconds
    assert (end.start_seconds, end.end_seconds) == (pytest.approx(1.0), pytest.approx(2.3))  # 0.33 is above end_score
    assert end.evidence_end_seconds == pytest.approx(2.6)
    assert end.score == pytest.approx((7 * 0.9 + 3 * 0.33) / 10)  # from the start event on, while it was not low
    assert finder.action is None


@pytest.mark.parametrize(("length", "events"), [(2, 0), (3, 0), (4, 2), (5, 2)])
def test_what_is_shorter_than_the_minimum_is_no_event(length, events):
    found, _ = follow([(0.3, 0.3)] * 5 + [(0.8, 0.1)] * length + [(0.2, 0.3)] * 8)
    assert len(found) == events


@pytest.mark.parametrize(("length", "events"), [(1, 1), (3, 1), (4, 3), (6, 3)])
def test_a_break_shorter_than_the_minimum_is_not_seen(length, events):
    found, finder = follow([(0.8, 0.1)] * 10 + [(0.2, 0.3)] * length + [(0.8, 0.1)] * 10)
    assert len(found) == events  # a start; or start, end, start
    assert finder.action == "sit"


def test_between_the_thresholds_nothing_changes():
    wobble = [(0.31, 0.3), (0.49, 0.3)] * 20
    assert follow(wobble)[0] == []
    found, finder = follow([(0.9, 0)] * 5 + wobble)
    assert told(found) == [("start", "sit", 0.0, None)]
    assert finder.action == "sit"


def test_one_threshold_would_flicker_where_two_do_not():
    noise = np.random.default_rng(0).uniform(0.35, 0.65, 400)
    series = [(0.9, 0.05)] * 5 + [(score, 0.2) for score in noise]
    assert len(follow(series, EventRules(0.5, 0.3, 0.0))[0]) == 1
    assert len(follow(series, EventRules(0.5, 0.5, 0.0))[0]) > 50


def test_another_action_ends_the_one_that_goes_on_and_leaves_no_gap():
    events, finder = follow([(0.6, 0.35)] * 10 + [(0.35, 0.6)] * 10)  # sit never falls below end_score
    assert [(e.kind, e.label) for e in events] == [("start", "sit"), ("end", "sit"), ("start", "wave")]
    assert events[1].end_seconds == events[2].start_seconds == pytest.approx(1.0)
    assert finder.action == "wave"


def test_times_are_the_middle_of_the_evidence_but_for_the_first():
    events, _ = follow([(0.9, 0)] * 30 + [(0, 0.9)] * 30, window=1.0)
    assert events[0].start_seconds == 0
    assert events[1].end_seconds == events[2].start_seconds == pytest.approx(2.5)
    assert events[2].evidence_start_seconds == pytest.approx(2.3)
    assert events[2].evidence_end_seconds == pytest.approx(3.3)


def test_what_has_no_name_does_not_start_and_an_action_outlives_a_doubt():
    series = [(0.6, 0.2)] * 30
    assert follow(series, known=[False] * 30)[0] == []
    found, finder = follow(series, known=[True] * 10 + [False] * 20)
    assert len(found) == 1
    assert finder.action == "sit"


def test_the_end_of_the_video_ends_the_action_and_what_follows_begins_anew():
    found, finder = follow([(0.9, 0)] * 10)
    (end,) = finder.finish()
    assert told([*found, end]) == [("start", "sit", 0.0, None), ("end", "sit", 0.0, pytest.approx(0.9))]
    assert finder.finish() == []
    assert finder.push(np.array([0.9, 0.1, 0, 0, 0]), 0.0, 0.1) == []  # a time from before is no trouble


def test_events_of_a_class_alternate_and_never_overlap_whatever_the_scores():
    total = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        series = [tuple(row[:2]) for row in rng.dirichlet([0.4] * 3, 300)]
        rules = EventRules(0.6, 0.4, float(rng.choice([0, 0.1, 0.2])))
        events, finder = follow(series, rules, window=0.5)
        events += finder.finish()
        assert [e.kind for e in events] == ["start", "end"] * (len(events) // 2)
        free_from = -1.0
        for start, end in zip(events[::2], events[1::2], strict=True):
            assert start.label == end.label
            assert free_from <= start.start_seconds == end.start_seconds <= end.end_seconds
            assert end.end_seconds <= end.evidence_end_seconds
            free_from = end.end_seconds
        total += len(events)
    assert total > 200


def test_without_rules_the_unknown_threshold_or_the_number_of_classes_decides():
    assert EventRules.suited_to(10, 0.25) == EventRules(0.25, 0.15, 0.5)
    assert EventRules.suited_to(2, None) == EventRules.suited_to(4, None) == EventRules(0.5, 0.3, 0.5)
    assert EventRules.suited_to(8, None) == EventRules(0.25, 0.15, 0.5)
    assert EventRules.suited_to(8, 0.2, 0.7, 0.6, 1.0) == EventRules(0.7, 0.6, 1.0)


@pytest.mark.parametrize("numbers", [(0.3, 0.5, 1), (1.2, 0.5, 1), (0.5, -0.1, 1), (0.5, 0.3, -1), (np.nan, 0.3, 1)])
def test_rules_that_make_no_sense_are_refused(numbers):
    with pytest.raises(InputError, match="usual"):
        EventRules(*numbers)
