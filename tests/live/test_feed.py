"""Feeds driven step by step: which frames wait, which are dropped, what happens when the source fails."""

import threading
import time

import numpy as np
import pytest

from rgbflow import InputError
from rgbflow.live.camera import Arrival
from rgbflow.live.feed import Feed
from rgbflow.video.reading import VideoError


def frame(number, seconds=None):
    return Arrival(np.full((2, 2, 3), number, np.uint8), number / 10 if seconds is None else seconds)


def number_of(arrival):
    return int(arrival.pixels[0, 0, 0])


def drain(feed, numbers):
    while (arrival := feed.take()) is not None:
        numbers.append(number_of(arrival))


class Gate:
    """Lets a source go on in the test's own rhythm."""

    def __init__(self):
        self.steps, self.done = threading.Semaphore(0), threading.Semaphore(0)

    def frames(self, count):
        for number in range(count):
            assert self.steps.acquire(timeout=10)
            yield frame(number)
            self.done.release()  # the feed has put the frame into its slot and asks for the next one

    def step(self, count=1):
        for _ in range(count):
            self.steps.release()
            assert self.done.acquire(timeout=10)


def test_the_newest_frame_wins_and_the_others_are_counted():
    gate = Gate()
    with Feed(lambda: gate.frames(9)) as feed:
        gate.step()
        assert number_of(feed.take()) == 0
        gate.step(5)
        assert number_of(feed.take()) == 5
        assert (feed.received, feed.dropped) == (6, 4)
        gate.step(3)
        assert number_of(feed.take()) == 8  # the last one is not lost when the source ends
        assert feed.take() is None
        assert feed.take() is None
        assert (feed.received, feed.dropped, feed.lost) == (9, 6, 0)


def test_what_a_source_did_not_decode_is_counted_as_dropped_and_told_once():
    def open_source():
        for number in range(3):
            yield Arrival(np.zeros((2, 2, 3), np.uint8), float(number), skipped=2 * number)

    lines, numbers = [], []
    with Feed(open_source, report=lines.append) as feed:
        drain(feed, numbers)
    assert (feed.received, feed.skipped, feed.dropped) == (9, 6, 6 + 3 - len(numbers))
    assert lines == ["frames come faster than they can be decoded, so some are skipped: use a smaller picture"]


def test_a_source_that_fails_is_taken_up_again_and_time_goes_on():
    attempts, was_taken = [], threading.Event()

    def open_source():
        attempts.append(1)
        if len(attempts) == 1:
            yield frame(1, 100.0)
            raise VideoError("the camera is gone")
        assert was_taken.wait(10)
        if len(attempts) < 4:
            raise VideoError("still gone")
        yield frame(2, 0.0)  # a clock of its own

    lines = []
    with Feed(open_source, retry_seconds=0.01, report=lines.append) as feed:
        one = feed.take()
        was_taken.set()
        two = feed.take()
    assert (number_of(one), number_of(two)) == (1, 2)
    assert one.pts_seconds == 100.0
    assert two.pts_seconds - one.pts_seconds == pytest.approx(two.arrived - one.arrived)
    assert (len(attempts), feed.lost, feed.trouble, feed.dropped) == (4, 1, "", 0)
    assert lines == ["the camera is gone; waiting for it", "the source is back"]


def test_time_does_not_go_back_where_a_source_sends_again_what_came_before():
    openings, now = [], time.perf_counter()

    def open_source():
        openings.append(1)
        yield Arrival(np.zeros((2, 2, 3), np.uint8), 50.0, now - 8 * (len(openings) - 1))
        if len(openings) == 1:
            assert was_taken.wait(10)
            raise VideoError("reset")
        yield Arrival(np.zeros((2, 2, 3), np.uint8), 50.1, now - 7.9)

    was_taken, seen = threading.Event(), []
    with Feed(open_source, retry_seconds=0.01) as feed:
        while (arrival := feed.take()) is not None:
            seen.append(arrival.pts_seconds)
            was_taken.set()
    assert seen[0] == 50.0
    assert seen[-1] == pytest.approx(50.1)
    assert seen == sorted(seen)


def test_what_cannot_be_opened_in_the_first_place_is_told_at_once():
    def open_source():
        raise VideoError("no such camera")
        yield

    with Feed(open_source) as feed, pytest.raises(InputError, match="no such camera"):
        feed.take()


def test_a_file_that_breaks_ends_the_feed_with_its_error():
    def open_source():
        yield frame(1)
        raise VideoError("breaks after 1 frame")

    numbers = []
    with Feed(open_source, reopens=False) as feed, pytest.raises(InputError, match="breaks after 1 frame"):
        drain(feed, numbers)
    assert numbers == [1]
    assert feed.received == 1


def test_a_bug_in_a_source_is_not_taken_for_a_lost_camera():
    def open_source():
        yield frame(1)
        raise ZeroDivisionError

    with Feed(open_source) as feed, pytest.raises(ZeroDivisionError):
        drain(feed, [])


def test_closing_closes_the_source_and_frees_whoever_waits():
    opened, closed, may_send, taken = threading.Event(), threading.Event(), threading.Event(), []

    def open_source():
        opened.set()
        assert may_send.wait(10)
        try:
            while True:  # without an end
                yield frame(0)
        finally:
            closed.set()

    feed = Feed(open_source)
    waiting = threading.Thread(target=lambda: taken.append(feed.take()))
    waiting.start()
    assert opened.wait(10)
    feed.close()
    waiting.join(timeout=10)
    assert taken == [None]
    assert not closed.is_set()
    may_send.set()
    assert closed.wait(10)
    feed._thread.join(timeout=10)
    assert not feed._thread.is_alive()
