"""One engine for several callers: what goes together, who comes next, and overload: updates get fewer, not older."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from rgbflow import InputError
from rgbflow.bundle import Bundle
from rgbflow.live.batching import SharedEngine
from rgbflow.recognizer import Recognizer
from rgbflow.stream import Preparation, StreamSpec

FLOW = StreamSpec("flow", "none", 32, 1, (0.5,) * 2, (0.1,) * 2)
PICTURES = np.random.default_rng(0).integers(0, 255, (2, 32, 40, 3), dtype=np.uint8)


class Echo:
    """Answers each snippet with its first pixel, when it is let to; keeps the batches."""

    name = "echo"

    def __init__(self, is_open=True):
        self.batches, self.gate, self.entered = [], threading.Event(), threading.Semaphore(0)
        if is_open:
            self.gate.set()

    def logits(self, stream, snippets, crops=1):
        self.batches.append((stream, len(snippets)))
        self.entered.release()
        assert self.gate.wait(10)
        return snippets[:, 0, 0, :1].astype(np.float32)


def snippet(number, count=1, size=4):
    return np.full((count, 3, size, size), number, np.uint8)


def ask(engine, answers, key, stream, snippets):
    thread = threading.Thread(target=lambda: answers.__setitem__(key, engine.logits(stream, snippets)))
    thread.start()
    return thread


def waiting(engine, count):
    """Until so many requests wait."""
    with engine._changed:
        assert engine._changed.wait_for(lambda: len(engine._waiting) >= count, timeout=10)


def test_what_waits_at_the_same_time_goes_through_together_and_each_gets_its_own_answer():
    echo, answers = Echo(is_open=False), {}
    with SharedEngine(echo, max_batch=8) as engine:
        threads = [ask(engine, answers, 0, "flow", snippet(0))]
        assert echo.entered.acquire(timeout=10)
        for number, (stream, count, size) in enumerate(
            [("flow", 1, 4), ("rgb", 1, 4), ("flow", 2, 4), ("flow", 1, 8), ("flow", 1, 4)], start=1
        ):
            threads.append(ask(engine, answers, number, stream, snippet(number, count, size)))
            waiting(engine, number)
        echo.gate.set()
        for thread in threads:
            thread.join(timeout=10)
    assert echo.batches == [("flow", 1), ("flow", 4), ("rgb", 1), ("flow", 1)]
    for number, count in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 1), (5, 1)]:
        np.testing.assert_array_equal(answers[number], np.full((count, 1), number))


def test_a_batch_is_not_larger_than_it_may_be_but_one_request_is_never_cut():
    echo, answers = Echo(is_open=False), {}
    with SharedEngine(echo, max_batch=3) as engine:
        threads = [ask(engine, answers, 0, "rgb", snippet(0))]
        assert echo.entered.acquire(timeout=10)
        for number, count in enumerate([2, 2, 1, 5], start=1):
            threads.append(ask(engine, answers, number, "rgb", snippet(number, count)))
            waiting(engine, number)
        echo.gate.set()
        for thread in threads:
            thread.join(timeout=10)
    assert [count for _, count in echo.batches] == [1, 2, 3, 5]
    assert len(answers[4]) == 5


@pytest.fixture
def patient(monkeypatch):
    """Makes an engine that forgets no caller, and whose deadlines are far ahead: requests arrive by the real clock."""

    def make(echo):
        monkeypatch.setattr("rgbflow.live.batching.time", SimpleNamespace(monotonic=lambda: 0.0))
        return SharedEngine(echo, deadline_seconds=1.0)

    return make


def test_the_first_request_waits_for_the_other_caller(patient):
    echo, answers = Echo(), {}
    with patient(echo) as engine:
        engine.logits("rgb", snippet(1))  # the main thread is a caller now, so the next one waits for it
        other = ask(engine, answers, "other", "rgb", snippet(2))
        waiting(engine, 1)
        engine.logits("rgb", snippet(3))
        other.join(timeout=10)
        assert echo.batches == [("rgb", 1), ("rgb", 2)]


def test_a_request_waits_for_another_caller_until_the_deadline_and_no_longer():
    answers = {}
    with SharedEngine(Echo(), deadline_seconds=0.01) as engine:
        engine.logits("rgb", snippet(1))
        other = ask(engine, answers, "late", "rgb", snippet(2))  # nobody comes: served all the same
        other.join(timeout=10)
    assert answers["late"] == 2


def test_both_streams_of_a_caller_wait_side_by_side_and_count_as_one_caller():
    echo = Echo()
    with SharedEngine(echo, deadline_seconds=1.0) as engine, ThreadPoolExecutor(1) as other:
        other.submit(engine.logits, "rgb", snippet(0)).result()
        asked = [engine.submit(stream, snippet(number)) for number, stream in enumerate(("rgb", "flow"), start=1)]
        asked.append(other.submit(engine.logits, "rgb", snippet(3)))
        assert [future.result()[0, 0] for future in asked] == [1, 2, 3]
    assert echo.batches == [("rgb", 1), ("rgb", 2), ("flow", 1)]


@pytest.mark.parametrize("cameras", [2, 5])
def test_with_more_cameras_each_gets_fewer_updates_evenly_and_none_gets_old_ones(cameras):
    """The clock is the number of answers given: one frame of each camera comes at every tick of it."""
    answers, ages, counts, over = 100, [], [0] * cameras, threading.Event()

    class Slow:
        """Slower than the cameras: whenever it has answered, all the others wait already."""

        name, served = "slow", 0

        def logits(self, stream, snippets, crops=1):
            self.served += 1
            if self.served > answers:
                over.set()
            else:
                waiting(engine, cameras - 1)
            return np.zeros((len(snippets), 2), np.float32)

    slow = Slow()
    recognizer = Recognizer(Bundle(("a", "b"), Preparation(32), {"flow": FLOW}, {}), {}, "cpu")

    def run(camera):
        live = recognizer.live(engine=engine)
        live.see(PICTURES[-1], -1 / 25)
        while not over.is_set():
            tick = slow.served
            if (update := live.push(PICTURES[tick % 2], tick / 25)) is not None and not over.is_set():
                counts[camera] += 1
                ages.append(slow.served - round(update.pts_seconds * 25))

    with SharedEngine(slow, max_batch=1, deadline_seconds=0) as engine:
        threads = [threading.Thread(target=run, args=(camera,)) for camera in range(cameras)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    assert sum(counts) >= answers - 2 * cameras
    assert max(counts) - min(counts) <= 1  # the last answer may come after the end
    assert max(ages) <= 2 * cameras  # each waits for one turn of all the others, from the first update to the last


def test_an_error_reaches_the_caller_and_the_engine_lives_on():
    class Broken:
        name, calls = "broken", 0

        def logits(self, stream, snippets, crops=1):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("out of memory")
            return np.zeros((len(snippets), 2))

    with SharedEngine(Broken()) as engine:
        with pytest.raises(RuntimeError, match="out of memory"):
            engine.logits("rgb", snippet(0))
        assert engine.logits("rgb", snippet(0)).shape == (1, 2)
    with pytest.raises(RuntimeError, match="closed"):
        engine.logits("rgb", snippet(0))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="max_batch"):
        SharedEngine(Echo(), max_batch=0)
    with pytest.raises(InputError, match="deadline_seconds"):
        SharedEngine(Echo(), deadline_seconds=-1)
