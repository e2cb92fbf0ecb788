"""One engine for several callers: what goes together, who comes next, and overload: updates get fewer, not older."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

from rgbflow import InputError
from rgbflow.bundle import Bundle
from rgbflow.live.batching import SharedEngine
from rgbflow.networks.engine import StreamAnswer
from rgbflow.recognizer import Recognizer
from rgbflow.stream import Preparation, StreamSpec

FLOW = StreamSpec("flow", "none", 32, 1, (0.5,) * 2, (0.1,) * 2)
PICTURES = np.random.default_rng(0).integers(0, 255, (2, 32, 40, 3), dtype=np.uint8)


class Echo:
    """Answers each snippet with its first pixel, when it is let to; keeps the batches. Features are its negative."""

    name, networks = "echo", MappingProxyType({})

    def __init__(self, is_open=True):
        self.batches, self.gate, self.entered = [], threading.Event(), threading.Semaphore(0)
        if is_open:
            self.gate.set()

    def answers(self, snippets, crops=1, with_features=False):
        ((stream, given),) = snippets.items()
        self.batches.append((stream, len(given)))
        self.entered.release()
        assert self.gate.wait(10)
        logits = given[:, 0, 0, :1].astype(np.float32)
        return {stream: StreamAnswer(logits, -logits if with_features else None, 0.0)}


def logits(engine, stream, snippets):
    return engine.answers({stream: snippets})[stream].logits


def snippet(number, count=1, size=4):
    return np.full((count, 3, size, size), number, np.uint8)


def ask(engine, answers, key, stream, snippets):
    thread = threading.Thread(target=lambda: answers.__setitem__(key, logits(engine, stream, snippets)))
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
        logits(engine, "rgb", snippet(1))  # the main thread is a caller now, so the next one waits for it
        other = ask(engine, answers, "other", "rgb", snippet(2))
        waiting(engine, 1)
        logits(engine, "rgb", snippet(3))
        other.join(timeout=10)
        assert echo.batches == [("rgb", 1), ("rgb", 2)]


def test_a_request_waits_for_another_caller_until_the_deadline_and_no_longer():
    answers = {}
    with SharedEngine(Echo(), deadline_seconds=0.01) as engine:
        logits(engine, "rgb", snippet(1))
        other = ask(engine, answers, "late", "rgb", snippet(2))  # nobody comes: served all the same
        other.join(timeout=10)
    assert answers["late"] == 2


def test_both_streams_of_a_caller_wait_side_by_side_and_count_as_one_caller():
    echo = Echo()
    with (
        SharedEngine(echo, deadline_seconds=1.0) as engine,
        ThreadPoolExecutor(1) as main,
        ThreadPoolExecutor(1) as other,
    ):
        other.submit(logits, engine, "rgb", snippet(0)).result()
        one = main.submit(engine.answers, {"rgb": snippet(1), "flow": snippet(2)})
        waiting(engine, 2)
        three = other.submit(logits, engine, "rgb", snippet(3))
        found = one.result()
        assert [found["rgb"].logits[0, 0], found["flow"].logits[0, 0], three.result()[0, 0]] == [1, 2, 3]
        assert all(answer.seconds >= 0 for answer in found.values())
    assert echo.batches == [("rgb", 1), ("rgb", 2), ("flow", 1)]


def test_who_asks_for_features_gets_those_of_its_own_snippets_and_nobody_else_gets_any():
    echo, found = Echo(is_open=False), {}
    with SharedEngine(echo) as engine:

        def ask_for_features(key, *numbers):
            snippets = np.concatenate([snippet(number) for number in numbers])
            found[key] = engine.answers({"rgb": snippets}, with_features=True)["rgb"].features

        threads = [ask(engine, found, "logits", "rgb", snippet(1))]
        assert echo.entered.acquire(timeout=10)
        threads += [threading.Thread(target=ask_for_features, args=one) for one in (("two", 2, 3), ("one", 4))]
        for count, thread in enumerate(threads[1:], start=1):
            thread.start()
            waiting(engine, count)
        threads.append(ask(engine, found, "more logits", "rgb", snippet(5)))
        waiting(engine, 3)
        echo.gate.set()
        for thread in threads:
            thread.join(timeout=10)
    assert echo.batches == [("rgb", 1), ("rgb", 3), ("rgb", 1)]
    assert {key: rows.ravel().tolist() for key, rows in found.items()} == {
        "logits": [1],
        "two": [-2, -3],
        "one": [-4],
        "more logits": [5],
    }


@pytest.mark.parametrize("cameras", [2, 5])
def test_with_more_cameras_each_gets_fewer_updates_evenly_and_none_gets_old_ones(cameras):
    """The clock is the number of answers given: one frame of each camera comes at every tick of it."""
    answers, ages, counts, over = 100, [], [0] * cameras, threading.Event()

    class Slow:
        """Slower than the cameras: whenever it has answered, all the others wait already."""

        name, served, networks = "slow", 0, MappingProxyType({})

        def answers(self, snippets, crops=1, with_features=False):
            self.served += 1
            if self.served > answers:
                over.set()
            else:
                waiting(engine, cameras - 1)
            return {"flow": StreamAnswer(np.zeros((len(snippets["flow"]), 2), np.float32), None, 0.0)}

    slow = Slow()
    recognizer = Recognizer(Bundle(("a", "b"), Preparation(32), {"flow": FLOW}, {}), slow)

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
        name, calls, networks = "broken", 0, MappingProxyType({})

        def answers(self, snippets, crops=1, with_features=False):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("out of memory")
            return {"rgb": StreamAnswer(np.zeros((len(snippets["rgb"]), 2)), None, 0.0)}

    with SharedEngine(Broken()) as engine:
        with pytest.raises(RuntimeError, match="out of memory"):
            logits(engine, "rgb", snippet(0))
        assert logits(engine, "rgb", snippet(0)).shape == (1, 2)
    with pytest.raises(RuntimeError, match="closed"):
        logits(engine, "rgb", snippet(0))


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="max_batch"):
        SharedEngine(Echo(), max_batch=0)
    with pytest.raises(InputError, match="deadline_seconds"):
        SharedEngine(Echo(), deadline_seconds=-1)
