"""The clock of the nominal rate, set by frames of any rate: plain numbers."""

import numpy as np
import pytest

from rgbflow.live.ticks import LONGEST_GAP_SECONDS, Step, Ticks


def steps(times, rate=25.0):
    ticks = Ticks(rate)
    return [ticks.step(float(time)) for time in times]


@pytest.mark.parametrize("rate", [25, 30, 29.97, 10, 12.5, 59.94])
def test_at_the_nominal_rate_each_frame_is_one_tick_unchanged(rate):
    found = steps(np.arange(5000) / rate, rate)
    assert found[0] == Step(0, starts=True)
    assert set(found[1:]) == {Step(1, 1.0)}


def test_a_file_that_counts_in_milliseconds_is_at_the_nominal_rate():
    found = steps(np.round(np.arange(3000) * 1000 / 30) / 1000, 30)
    assert set(found[1:]) == {Step(1, 1.0)}


@pytest.mark.parametrize("camera", [10, 12, 15, 20, 24, 25, 29.97, 30, 48, 50, 60, 90, 120, 240])
@pytest.mark.parametrize("nominal", [12.5, 25, 30])
@pytest.mark.parametrize("jitter", [0, 0.3])
def test_ticks_follow_the_clock_whatever_the_camera(camera, nominal, jitter):
    """The number of ticks is the time that passed; a field times its scale is the motion of one nominal step."""
    rng = np.random.default_rng(0)
    count = int(20 * camera)
    times = (np.arange(count) + jitter * rng.uniform(-0.5, 0.5, count)) / camera
    times = times[rng.random(count) > (0.2 if jitter else 0)]
    found, total, last = steps(times, nominal), 0, times[0]
    for time, step in zip(times[1:], found[1:], strict=True):
        if step is None:
            continue
        assert not step.starts
        passed, last = time - last, time
        assert step.scale * passed * nominal == pytest.approx(1, abs=0.031)
        total += step.ticks
    # Rates within 3 % count as the nominal one, and a clock that loses half a tick at a time is good enough.
    assert total == pytest.approx((last - times[0]) * nominal, rel=0.03, abs=1)


def test_a_fast_camera_has_some_frames_left_out_and_the_used_ones_lie_about_a_step_apart():
    used = [time for time, step in zip(np.arange(600) / 60, steps(np.arange(600) / 60), strict=True) if step]
    assert np.diff(used) == pytest.approx(np.full(len(used) - 1, 2 / 60))


def test_gaps_old_frames_and_opened_sources():
    ticks = Ticks(25)
    assert ticks.step(10.0).starts
    assert ticks.step(10.04) == Step(1)
    assert ticks.step(10.04) is None
    assert ticks.step(9.9) is None  # late on the way
    assert ticks.step(10.08) == Step(1)
    assert ticks.step(10.09 + LONGEST_GAP_SECONDS).starts
    assert ticks.step(0.0).starts  # another start
    assert ticks.step(0.04) == Step(1)


def test_a_slow_nominal_rate_has_longer_gaps():
    assert [step.starts for step in steps([0, 1, 3, 6.5], rate=1)] == [True, False, False, True]
