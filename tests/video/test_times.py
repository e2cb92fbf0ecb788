"""The times of frames, as plain numbers: what is right stays, what the others contradict is mended."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rgbflow.video.times import AHEAD, JUMP_SECONDS, ArrivalClock, mended, rate_of

STEPS = st.sampled_from([1 / 60, 1001 / 30000, 0.04, 0.1, 1.0])


def seconds_of(stamps, step=0.04, **options):
    """The mended times of these stamps, whose pictures must come in their order."""
    pairs = list(mended(enumerate(stamps), step, **options))
    assert [picture for picture, _ in pairs] == list(range(len(stamps)))
    return [seconds for _, seconds in pairs]


@given(st.lists(st.none() | st.floats(-1e7, 1e7)), st.floats(1e-4, 10), st.sampled_from([10.0, 1e5, float("inf")]))
def test_times_grow_whatever_the_stamps_are(stamps, step, longest_gap):
    seconds = seconds_of(stamps, step, longest_gap=longest_gap)
    assert len(seconds) == len(stamps)
    assert all(later > earlier for earlier, later in itertools.pairwise(seconds))


@given(STEPS, st.lists(st.floats(0.2, 9), max_size=60), st.floats(0, 1e5))
def test_growing_times_stay_as_they_are_to_the_last_bit(step, factors, start):
    """Whatever their steps: a variable frame rate contradicts nothing."""
    stamps = list(itertools.accumulate([start, *(step * factor for factor in factors)]))
    told = []
    assert seconds_of(stamps, step, report=told.append) == stamps
    assert told == []


@given(STEPS, st.integers(12, 80), st.data(), st.floats(2, 1e6) | st.floats(-1e6, -10))
def test_one_wrong_time_changes_no_other(step, count, data, steps_off):
    """At any place, forward or back, near or far; the header knows the rate or says nonsense."""
    place = data.draw(st.integers(0, count - 1))
    truth = np.arange(count) * step
    stamps = truth.copy()
    stamps[place] += steps_off * step
    # Nothing contradicts a first time before the others; the last have few followers: only a far one is surely wrong.
    assume(place > 0 or steps_off > 0)
    assume(place < count - 3 or abs(steps_off * step) > max(2 * JUMP_SECONDS, 20 * step))
    header_step = data.draw(st.sampled_from([step, 0.001, 1.0]))
    told = []
    seconds = np.array(seconds_of(stamps.tolist(), header_step, report=told.append))
    seconds -= seconds[1] - truth[1] if place == 0 else 0.0
    np.testing.assert_allclose(seconds, truth, rtol=0, atol=1e-6 + 1e-9 * abs(steps_off) + step / 100)
    assert len(told) == 1
    assert f"frame {place + 1} says" in told[0] or place == count - 1  # the last may have begun another clock


@pytest.mark.parametrize("wrong", [2, 3])
@pytest.mark.parametrize("off", [300.0, -300.0, 1e6])
def test_some_wrong_times_in_a_row(wrong, off):
    stamps = np.arange(50) * 0.04
    stamps[20 : 20 + wrong] += off
    assert seconds_of(stamps.tolist()) == pytest.approx(np.arange(50) * 0.04)


def known_ahead(stamps, step=0.04, **options):
    """The mended times where those to come are known, as the times of packets are before they are decoded."""
    taken, told = [], []

    def stamped():
        for stamp in stamps:
            taken.append(stamp)
            yield stamp, stamp

    def coming():
        return iter(stamps[len(taken) :])

    seconds = [seconds for _, seconds in mended(stamped(), step, report=told.append, coming=coming, **options)]
    return seconds, told


@pytest.mark.parametrize("wrong", [5, 8, 9, 30])
@pytest.mark.parametrize("off", [300.0, -300.0, 1e6, 3.0])
def test_many_wrong_times_in_a_row_where_those_to_come_are_known(wrong, off):
    truth = np.arange(150) * 0.04
    stamps = truth.copy()
    stamps[40 : 40 + wrong] += off
    seconds, told = known_ahead(stamps.tolist())
    assert seconds == pytest.approx(truth)
    assert len(told) == wrong


@given(STEPS, st.lists(st.floats(0.2, 9), max_size=60), st.floats(20, 1e6))
def test_growing_times_stay_whatever_is_to_come(step, factors, gap):
    stamps = list(itertools.accumulate([0.0, *(step * factor for factor in factors), gap, *([step] * 20)]))
    assert known_ahead(stamps, step) == (stamps, [])


@pytest.mark.parametrize("jumps", [(-4.0, 0.0), (60.0, 0.0), (1e5, -3.0), (-4.0, 40.0)])
def test_a_clock_that_starts_anew_is_no_wrong_time_whatever_is_to_come(jumps):
    truth = np.arange(400) * 0.04
    stamps = truth.copy()
    for place, jump in zip((100, 140), jumps, strict=True):
        stamps[place:] += jump
    seconds, told = known_ahead(stamps.tolist(), longest_gap=JUMP_SECONDS)
    assert seconds == pytest.approx(truth)
    assert len(told) == sum(jump != 0 for jump in jumps)
    assert all("its clock jumps" in line for line in told)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4), st.integers(9, 30))
def test_where_a_clock_starts_anew_the_frames_follow_on(starts, count):
    """Recordings in one file, each with a clock of its own."""
    step = 0.04
    stamps = np.concatenate([start + np.arange(count) * step for start in starts])
    steps = np.diff(np.array(starts)) - (count - 1) * step
    assume(np.all((steps > 11) | (steps < -20 * step - (count - 1) * step)))
    seconds = seconds_of(stamps.tolist(), step, longest_gap=JUMP_SECONDS)
    np.testing.assert_allclose(np.diff(seconds), step, atol=1e-6)


def test_a_gap_in_one_clock_stays():
    stamps = [*np.arange(20) * 0.04, *(60 + np.arange(20) * 0.04)]
    assert seconds_of(stamps) == stamps
    assert np.diff(seconds_of(stamps, longest_gap=10.0)) == pytest.approx(0.04)


def test_frames_without_times_follow_in_steps():
    assert seconds_of([None] * 20) == pytest.approx(np.arange(20) * 0.04)
    assert seconds_of([0.0, None, 0.08, 0.12, None, None, 0.24]) == pytest.approx(np.arange(7) * 0.04)


def test_a_header_that_lies_about_the_rate_is_not_believed():
    """A stamp is missing in a WebM that says 1000 frames a second, and in one that says 1."""
    stamps = [n * 0.04 for n in range(30)]
    for header_step in (0.001, 1.0):
        assert seconds_of([*stamps[:10], None, *stamps[11:]], header_step) == pytest.approx(stamps)


def test_no_more_pictures_are_held_than_said_and_an_error_comes_after_those_before_it():
    taken = []

    def stamped():
        for number in range(40):
            taken.append(number)
            yield number, number * 0.04
        raise OSError("broken")

    pairs = mended(stamped(), 0.04)
    for number in range(40):
        assert next(pairs)[0] == number
        assert len(taken) - number - 1 <= AHEAD
    with pytest.raises(OSError, match="broken"):
        next(pairs)


@given(STEPS, st.integers(20, 300), st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_the_rate_is_that_of_the_times_without_holes_gaps_and_wrong_ones(step, count, seed, jitter):
    rng = np.random.default_rng(seed)
    stamps = np.arange(count) * step + rng.uniform(-jitter, jitter, count) * step / 2
    stamps[count // 2 :] += 3600  # a gap
    stamps[count // 3] += 1e5  # a wrong time
    rng.shuffle(stamps)
    assert rate_of(stamps.tolist()) == pytest.approx(1 / step, rel=0.06)


@pytest.mark.parametrize(
    ("kept", "rate"),
    [
        (lambda n: n % 5 != 4, 24.0),  # a frame in five is left out: 24 of 30
        (lambda n: n % 7 < 3, 90 / 7),
        (lambda n: n < 150 or n % 3 == 0, 20.0),  # five seconds of 30, five of 10
        (lambda n: n != 100, 30.0),  # one lost frame does not change the rate
    ],
)
def test_a_variable_rate_is_the_mean(kept, rate):
    stamps = [n / 30 for n in range(300) if kept(n)]
    assert rate_of(stamps) == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize("every", [7, 10, 15])
def test_wrong_times_count_as_the_frames_they_are_of(every):
    stamps = [n / 25 + (100 + n if n % every == 3 else 0) for n in range(60)]
    assert rate_of(stamps, 30.0) == pytest.approx(25.0)


def test_times_that_stand_still_tell_no_rate():
    assert rate_of([0.0, *[500.04] * 48, 500.05], 25.0) is None


def test_a_headers_rate_is_exact_where_the_times_agree():
    milliseconds = [round(n * 1001 / 30) / 1000 for n in range(100)]
    assert rate_of(milliseconds, 30000 / 1001) == 30000 / 1001
    assert rate_of(milliseconds[:3], 30000 / 1001, resolution=0.001) == 30000 / 1001
    assert rate_of(milliseconds, 25.0) == pytest.approx(29.97, abs=0.01)
    assert rate_of([n / 25.2 for n in range(60)], 25.0) == pytest.approx(25.2)
    assert rate_of([], 25.0) is rate_of([1.0], 25.0) is rate_of([1.0, 1.0], 25.0) is None


# Live


@given(st.lists(st.floats(0.01, 2), min_size=1, max_size=50), st.integers(0, 1000), st.floats(-1e6, 1e6))
def test_a_live_clock_is_believed_though_its_frames_come_late_or_in_bursts(steps, seed, lead):
    stamps = list(itertools.accumulate(steps))
    late = np.random.default_rng(seed).uniform(0, 8, len(stamps))
    arrivals = np.maximum.accumulate(np.array(stamps) + late)
    clock = ArrivalClock()
    assert [clock.time_of(s + lead, a) for s, a in zip(stamps, arrivals, strict=True)] == [s + lead for s in stamps]


@pytest.mark.parametrize("off", [300.0, -300.0, 1e6])
def test_a_live_time_that_the_arrivals_contradict_is_replaced_and_a_clock_that_starts_anew_followed(off):
    truth = np.arange(60) * 0.04
    wrong, anew = truth.copy(), truth.copy()
    wrong[20] += off
    anew[20:] += off
    for stamps in (wrong, anew):
        clock = ArrivalClock()
        assert [clock.time_of(s, a) for s, a in zip(stamps, truth, strict=True)] == pytest.approx(truth)
