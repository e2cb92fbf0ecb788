"""A feed, a live recogniser and an engine that is slower than the camera, in the test's own rhythm."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from rgbflow import InputError
from rgbflow.bundle import Bundle
from rgbflow.live.camera import Arrival
from rgbflow.live.feed import Feed
from rgbflow.live.watch import watch
from rgbflow.networks.engine import StreamAnswer
from rgbflow.networks.torch_engine import TorchEngine
from rgbflow.recognizer import Recognizer
from rgbflow.stream import FlowSettings, Preparation, StreamSpec
from rgbflow.video.reading import VideoError

SPEC = StreamSpec("flow", "none", 32, 2, (0.5,) * 2, (0.1,) * 2)


def recognizer():
    bundle = Bundle(("a", "b"), Preparation(32, FlowSettings(bound=8)), {"flow": SPEC}, {})
    return Recognizer(bundle, TorchEngine({"flow": SPEC}, {}, "cpu"))


class SlowEngine:
    """Says of each snippet the same; waits for a permit, and tells when it has begun."""

    def __init__(self):
        self.permits, self.begun = threading.Semaphore(0), threading.Semaphore(0)

    def answers(self, snippets):
        self.begun.release()
        assert self.permits.acquire(timeout=20)
        return {name: StreamAnswer(np.zeros((len(one), 2), np.float32), None, 0.0) for name, one in snippets.items()}


class SureEngine:
    """Is sure of the first class."""

    def __init__(self, classes=2):
        self._logits = np.eye(classes, dtype=np.float32)[:1] * 9

    def answers(self, snippets):
        return {name: StreamAnswer(self._logits.repeat(len(one), 0), None, 0.0) for name, one in snippets.items()}


def frames(count, gate=None):
    rng = np.random.default_rng(0)
    for index in range(count):
        if gate is not None:
            assert gate.acquire(timeout=20)
        yield Arrival(rng.integers(0, 255, (32, 40, 3), dtype=np.uint8), index / 25)


class Pace:
    """Frames that come when the one before has been seen."""

    def __init__(self, live):
        self._gate, self._see = threading.Semaphore(1), live.see
        live.see = self._seen

    def frames(self, count):
        return frames(count, self._gate)

    def follow(self, see):
        """The `see` of a recogniser that goes on with these frames."""

        def seen(*frame):
            try:
                return see(*frame)
            finally:
                self._gate.release()

        return seen

    def _seen(self, *frame):
        try:
            return self._see(*frame)
        finally:
            self._gate.release()


def test_each_update_is_of_the_newest_frame_however_slow_the_networks_are():
    """During each update ten frames come: the next one is about the last of them, so the lag stays one update."""
    engine, gate = SlowEngine(), threading.Semaphore(0)
    live = recognizer().live(engine=engine)
    seen = threading.Semaphore(0)
    see = live.see
    live.see = lambda *frame: (see(*frame), seen.release())[0]

    def come(count):
        for _ in range(count):
            gate.release()
            assert seen.acquire(timeout=20)

    def camera():
        come(3)  # the first stack of 2
        for _ in range(8):
            assert engine.begun.acquire(timeout=20)
            come(10)
            engine.permits.release()

    driver = threading.Thread(target=camera)
    driver.start()
    feed = Feed(lambda: frames(83, gate))
    updates = watch(live, feed)
    times = [next(updates).pts_seconds for _ in range(8)]
    driver.join(timeout=20)
    engine.permits.release(5)
    updates.close()
    assert times == pytest.approx([(2 + 10 * number) / 25 for number in range(8)])
    assert (feed.received, feed.dropped) == (83, 0)  # flow saw them all


def test_frames_that_come_faster_than_flow_are_dropped_and_counted():
    engine, gate, slow = SlowEngine(), threading.Semaphore(0), threading.Semaphore(0)
    engine.permits.release(100)
    live = recognizer().live(engine=engine)
    see, taken, entered = live.see, [], threading.Semaphore(0)

    def slow_see(pixels, pts_seconds, arrived):
        entered.release()
        assert slow.acquire(timeout=20)
        taken.append(round(pts_seconds * 25))
        return see(pixels, pts_seconds, arrived)

    live.see = slow_see
    source_done = threading.Semaphore(0)

    def source():
        for frame in frames(13, gate):
            yield frame
            source_done.release()

    feed = Feed(source)
    found = []
    watching = threading.Thread(target=lambda: found.extend(watch(live, feed)))
    watching.start()
    for _ in range(4):  # while a frame is seen, three come: the newest of them is next
        for _ in range(3):
            gate.release()
            assert source_done.acquire(timeout=20)
        assert entered.acquire(timeout=20)
        slow.release()
    gate.release()
    slow.release(10)
    watching.join(timeout=20)
    assert not watching.is_alive()
    assert taken[-1] == 12
    assert taken == sorted(set(taken))
    assert feed.received == 13
    assert feed.dropped == 13 - len(taken)
    assert feed.dropped >= 4
    assert found[-1].pts_seconds == pytest.approx(12 / 25)


def test_news_that_come_as_the_waiting_ends_are_not_lost(monkeypatch):
    class JustMissed(threading.Event):
        """The first time, it is set just after the waiting has ended without."""

        missed = False

        def wait(self, timeout=None):
            came, first = super().wait(20), not self.missed
            self.missed |= came
            return came and not first

    monkeypatch.setattr(
        sys.modules[watch.__module__], "threading", SimpleNamespace(Event=JustMissed, Thread=threading.Thread)
    )
    engine, told, ended = SlowEngine(), threading.Event(), []
    engine.permits.release(100)

    def source():
        yield from pace.frames(3)  # the first stack of 2
        ended.append(not told.wait(10))

    live = recognizer().live(engine=engine)
    see = live.see
    live.see = lambda pixels, pts_seconds, arrived: see(pixels, pts_seconds, arrived) and pts_seconds > 1.5 / 25
    pace = Pace(live)
    updates = watch(live, Feed(source))
    assert next(updates).pts_seconds == pytest.approx(2 / 25)
    told.set()
    list(updates)
    assert ended == [False]


def test_the_end_of_the_source_ends_the_watching_after_its_last_frame():
    engine = SlowEngine()
    engine.permits.release(100)
    live = recognizer().live(engine=engine)
    pace = Pace(live)
    updates = list(watch(live, Feed(lambda: pace.frames(20))))
    assert updates[-1].pts_seconds == pytest.approx(19 / 25)


def test_a_source_that_cannot_be_opened_ends_it_with_the_error():
    def source():
        raise VideoError("no such camera")
        yield

    with pytest.raises(InputError, match="no such camera"):
        list(watch(recognizer().live(), Feed(source)))


def test_an_error_of_the_networks_ends_it_and_stops_the_threads():
    class Broken:
        def answers(self, snippets):
            raise RuntimeError("out of memory")

    live = recognizer().live(engine=Broken())
    pace = Pace(live)
    feed = Feed(lambda: pace.frames(1000))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(watch(live, feed))
    pace._gate.release()  # the camera may wait for its next frame to be seen
    feed._thread.join(timeout=20)
    assert not feed._thread.is_alive()


def test_pixels_that_are_no_frame_end_it_with_the_error():
    def source():
        yield Arrival(np.zeros((32, 40), np.uint8), 0.0)

    with pytest.raises(InputError, match="pixels of shape"):
        list(watch(recognizer().live(), Feed(source)))


def test_a_newer_recogniser_goes_on_with_the_frames_of_the_one_before():
    """The current action ends, and the next update has the new classes."""
    live, others = recognizer().live(engine=SureEngine()), []
    pace = Pace(live)
    names = Bundle(("c", "d", "e"), Preparation(32, FlowSettings(bound=8)), {"flow": SPEC}, {})

    def newer():
        if others or live._last is None or live._events.action is None:
            return None
        others.append(Recognizer(names, TorchEngine({"flow": SPEC}, {}, "cpu")).live(engine=SureEngine(3)))
        others[0].see = pace.follow(others[0].see)
        return others[0]

    with Feed(lambda: pace.frames(60), reopens=False) as feed:
        updates = list(watch(live, feed, newer=newer))
    classes = [update.prediction.classes for update in updates]
    assert set(classes) == {("a", "b"), ("c", "d", "e")}
    first = classes.index(("c", "d", "e"))
    assert classes[first:] == [("c", "d", "e")] * (len(classes) - first)
    (ended,) = (event for event in updates[first - 1].events if event.kind == "end")
    assert ended.label == "a"
    assert updates[-1].action == "c"


def test_a_newer_recogniser_waits_for_no_frame_anew():
    """Beside the first frame that it sees, it has those of the one before; alone it would need three for two fields."""
    one, other, alone = (recognizer().live(engine=SureEngine()) for _ in range(3))
    *before, new = frames(8)
    for arrival in before:
        one.see(arrival.pixels, arrival.pts_seconds)
    assert one.update() is not None
    other.take_over(one)
    for live in (other, alone):
        live.see(new.pixels, new.pts_seconds)
    update = other.update()
    assert update is not None
    assert update.pts_seconds == new.pts_seconds
    assert alone.update() is None


def test_a_newer_recogniser_that_reads_other_frames_begins_anew():
    one, other = (
        recognizer().live(),
        Recognizer(
            Bundle(("a", "b"), Preparation(48, FlowSettings(bound=8)), {"flow": SPEC}, {}),
            TorchEngine({"flow": SPEC}, {}, "cpu"),
        ).live(),
    )
    for arrival in frames(8):
        one.see(arrival.pixels, arrival.pts_seconds)
    other.take_over(one)
    assert other._ring.num_frames == 0
