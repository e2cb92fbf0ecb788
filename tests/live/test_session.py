"""Live recognition of videos whose colour and motion are known, by networks that measure just these."""

import json
import tracemalloc
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from rgbflow import InputError, Recognizer
from rgbflow.bundle import Bundle
from rgbflow.clip import FrameClip
from rgbflow.fusion import Fusion
from rgbflow.live.events import EventRules
from rgbflow.live.messages import messages
from rgbflow.live.session import MOST_STARTS_WITHOUT_UPDATE, Ring
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.torch_engine import TorchEngine
from rgbflow.stream import FlowSettings, Preparation, StreamSpec
from rgbflow.transforms import evaluation_input, read_snippets
from rgbflow.video.reading import Frame, decode
from rgbflow.video.writing import write_video

PREPARATION = Preparation(64, FlowSettings(bound=8))
SPECS = {
    "rgb": StreamSpec("rgb", "none", 32, 1, (0.5,) * 3, (0.25,) * 3),
    "flow": StreamSpec("flow", "none", 32, 10, (0.5,) * 2, (0.1,) * 2),
}
CLASSES = ("left red", "right red", "left green", "right green")
ONES = (1.0,) * 4
FUSION = Fusion("stacking", {"rgb": ONES, "flow": ONES}, (0.0,) * 4)  # what both streams agree on


class Gauge(nn.Module):
    """Logits by the mean of u and of red against green; keeps what it was shown."""

    memory_format = torch.channels_last

    def __init__(self, stream):
        super().__init__()
        self.stream, self.seen = stream, []

    def forward(self, snippets):
        self.seen.append(snippets)
        if self.stream == "flow":
            right = 4 * snippets[:, :, 0::2].mean(dim=(2, 3, 4))
            logits = torch.stack([-right, right, -right, right], dim=-1)
        else:
            red = 4 * (snippets[:, :, 0] - snippets[:, :, 1]).mean(dim=(2, 3))
            logits = torch.stack([red, red, -red, -red], dim=-1)
        return logits.mean(dim=1)


def gauges(preparation=PREPARATION, specs=SPECS, fusion=FUSION, rate=None):
    engine = TorchEngine(specs, {stream: Gauge(stream) for stream in specs}, "cpu")
    return Recognizer(Bundle(CLASSES, preparation, specs, {}, fusion, frames_per_second=rate), engine)


_NOISE = cv2.GaussianBlur(np.random.default_rng(5).random((64, 800), dtype=np.float32), (0, 0), 2)
TEXTURE = np.repeat(cv2.normalize(_NOISE, None, 40, 200, cv2.NORM_MINMAX)[..., None], 3, axis=2)
ACTS = [(50, "red"), (-50, "red"), (-50, "green"), (50, "green"), (50, "red")]  # pixels per second, colour
ACT_SECONDS = 3.0
NAMES = ["right red", "left red", "left green", "right green", "right red"]


def picture(seconds, acts=ACTS):
    """What a camera sees at a time: a textured wall that slides, in coloured light."""
    speeds = np.array([speed for speed, _ in acts])
    spent = np.clip(seconds - ACT_SECONDS * np.arange(len(acts)), 0, ACT_SECONDS)
    to_place = np.float32([[1, 0, (speeds * spent).sum() - 350], [0, 1, 0]])
    wall = cv2.warpAffine(TEXTURE, to_place, (96, 64), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    colour = acts[min(int(seconds / ACT_SECONDS), len(acts) - 1)][1]
    light = (1.0, 0.4, 0.5) if colour == "red" else (0.4, 1.0, 0.5)
    return np.clip(wall * np.float32(light), 0, 255).astype(np.uint8)


def film(rate, jitter=0.0, dropped=0.0, acts=ACTS, seed=0):
    """Frames of a camera with a rate, jitter (share of a step) and a share of frames that never come."""
    rng = np.random.default_rng(seed)
    for index in range(int(len(acts) * ACT_SECONDS * rate)):
        seconds = max(0.0, (index + jitter * rng.uniform(-0.5, 0.5)) / rate)
        if index == 0 or rng.random() >= dropped:
            yield Frame(picture(seconds, acts), seconds)


def watched(live, frames):
    return [update for frame in frames if (update := live.push(frame.pixels, frame.pts_seconds)) is not None]


@pytest.mark.parametrize(
    ("preparation", "rate"),
    [
        (Preparation(64, FlowSettings("dis", bound=8)), 25.0),
        (Preparation(192, FlowSettings("dis", bound=8)), 30.0),  # flow at a quarter of the size
        (Preparation(64, FlowSettings("farneback", bound=8), jpeg_quality=None), 12.0),
        (Preparation(64, FlowSettings("dis", bound=8), frame_rate=15.0), 15.0),
    ],
    ids=str,
)
def test_at_the_nominal_rate_the_networks_see_what_predict_shows_them_to_the_last_bit(preparation, rate):
    recognizer = gauges(preparation, rate=rate)
    clip, live = FrameClip(preparation), recognizer.live()
    frames = list(film(rate, acts=ACTS[:1]))[:40]
    for count, frame in enumerate(frames, start=1):
        clip.push(frame.pixels, frame.pts_seconds)
        for network in recognizer.engine.networks.values():
            network.seen.clear()
        update = live.push(frame.pixels, frame.pts_seconds)
        assert (update is None) == (count < 11)
        if update is None:
            continue
        for stream, spec in SPECS.items():
            (shown,) = recognizer.engine.networks[stream].seen or [None]
            if shown is not None:
                start = spec.num_items(count) - spec.stack_length
                assert torch.equal(shown[:, 0], evaluation_input(clip, spec, np.array([start]))), f"{stream} {count}"
    assert update.prediction.seconds.keys() >= {"capture", "flow", "flow network", "fusion"}


@cache
def scores_by_time(rate, jitter=0.0, dropped=0.0):
    """At each tenth of a second the newest scores (N, 4), and their labels."""
    updates = watched(gauges().live(), film(rate, jitter, dropped))
    times = np.array([update.pts_seconds for update in updates])
    moments = np.arange(0.7, len(ACTS) * ACT_SECONDS, 0.1)
    rows = [updates[np.searchsorted(times, moment + 1e-6) - 1].prediction for moment in moments]
    return np.stack([row.scores for row in rows]), [row.label for row in rows]


@pytest.mark.parametrize(
    ("rate", "jitter", "dropped"),
    [(15, 0, 0), (30, 0, 0), (60, 0, 0), (24, 0, 0), (25, 0.4, 0.1), (15, 0.4, 0.1), (30, 0.5, 0.15), (60, 0.5, 0.4)],
)
def test_a_camera_of_any_rate_gets_the_answers_of_the_rate_that_was_trained_on(rate, jitter, dropped):
    """At each tenth of a second the newest scores are those of a perfect camera of 25 frames a second."""
    expected, labels = scores_by_time(25)
    found, other = scores_by_time(rate, jitter, dropped)
    assert len(set(labels)) == 4
    assert np.abs(found - expected).mean() < 0.02
    assert np.mean([one == two for one, two in zip(labels, other, strict=True)]) > 0.95
    share = {name: labels.count(name) / len(labels) for name in CLASSES}
    # A class has two borders, and each moves by up to two tenths where the newest of 15 frames a second was dropped.
    assert {name: other.count(name) / len(other) for name in CLASSES} == pytest.approx(share, abs=4 / len(labels))


@pytest.mark.parametrize("rate", [15, 25, 30, 60])
def test_flow_is_a_velocity_whatever_the_rate(rate):
    """50 pixels a second are 2 pixels in a step of 25 frames a second."""
    ring = Ring(Preparation(64, FlowSettings(bound=8, reduction=1), None), 25.0, {"flow": 10})
    for frame in film(rate, acts=[(50, "red")]):
        ring.push(frame.pixels, frame.pts_seconds)
    snippets = read_snippets(ring, SPECS["flow"], np.array([ring.num_frames - 11]))
    u = (snippets[0, 0::2, 8:-8, 16:-16].numpy() - 127.5) * 8 / 127.5
    assert np.abs(u.mean(axis=(1, 2)) - 2).max() < 0.2  # of DIS: tests/test_flow.py
    assert ring.num_frames == pytest.approx(75, abs=3)


def test_a_file_gives_the_segments_of_its_timeline(tmp_path):
    path = tmp_path / "long.mp4"
    write_video(path, (frame.pixels for frame in film(25)), 25)
    recognizer = gauges(rate=25.0)
    segments = recognizer.timeline(path, num_snippets=5).segments
    live = recognizer.live()
    events = [event for update in watched(live, decode(path)) for event in update.events]
    ends = [event for event in [*events, *live.finish()] if event.kind == "end"]
    assert [segment.label for segment in segments] == [event.label for event in ends] == NAMES
    for segment, event in zip(segments, ends, strict=True):
        assert event.start_seconds == pytest.approx(segment.start_seconds, abs=0.5)  # a step of the timeline
        assert event.end_seconds == pytest.approx(segment.end_seconds, abs=0.5)
    borders = [event.start_seconds for event in ends]
    assert borders == pytest.approx(ACT_SECONDS * np.arange(5), abs=0.35)  # the truth


def test_the_scores_are_the_consensus_of_the_snippets_in_the_window():
    recognizer = gauges(specs={"flow": SPECS["flow"]}, fusion=Fusion())
    live = recognizer.live(window_seconds=1.0)
    updates = watched(live, film(25))
    said = recognizer.engine.answers({"flow": np.zeros((1, 20, 8, 8), np.uint8)})["flow"]
    assert said.logits.shape == (1, 4)
    recognizer.engine.networks["flow"].seen.pop()
    logits = [network_input for network_input in recognizer.engine.networks["flow"].seen]
    with torch.inference_mode():
        rows = np.concatenate([recognizer.engine.networks["flow"](inputs).numpy() for inputs in logits])
    for index in (0, 3, 15, 16, 100, len(updates) - 1):
        # A snippet is 10 steps of 0.04 s long: 16 of them end in one second so that they lie within it.
        mean = rows[max(0, index - 15) : index + 1].astype(np.float64).mean(axis=0)
        expected = np.exp(mean) / np.exp(mean).sum()
        np.testing.assert_allclose(updates[index].prediction.scores, expected, atol=1e-6)
        first = updates[max(0, index - 15)].pts_seconds - 0.4
        assert updates[index].prediction.start_seconds == pytest.approx(first)


def test_rgb_runs_rarely_on_a_still_scene_and_at_once_after_a_cut():
    recognizer = gauges()
    live = recognizer.live()
    still = picture(0.0)
    for index in range(75):
        live.push(still, index / 25)
    rgb, flow = (len(recognizer.engine.networks[stream].seen) for stream in ("rgb", "flow"))
    assert (rgb, flow) == (3, 65)  # once a second; once a frame
    update = live.push(picture(ACT_SECONDS * 2 + 0.1), 75 / 25)  # red becomes green
    assert len(recognizer.engine.networks["rgb"].seen) == 4
    assert "rgb network" in update.prediction.seconds
    update = live.push(picture(ACT_SECONDS * 2 + 0.1), 76 / 25)
    assert "rgb network" not in update.prediction.seconds


def test_updates_can_be_limited():
    seconds = 65 / 25  # from the first full stack on
    for per_second in (None, 5, 8, 10, 12.5, 20, 100):
        updates = watched(gauges().live(updates_per_second=per_second), list(film(25))[:75])
        assert len(updates) == pytest.approx(seconds * min(per_second or 25, 25), abs=1)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test puts it forward."""
    clock = SimpleNamespace(now=1000.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("rgbflow.live.session.time", clock)
    return clock


def test_an_action_ends_when_its_camera_is_gone_and_says_how_late(clock):
    live = gauges().live()
    updates = watched(live, list(film(25, acts=ACTS[:1])))
    assert updates[-1].action == "right red"
    assert live.end_after_silence() is None  # frames still come, as far as it knows
    clock.now += live._ring.ticks.longest_gap_seconds + 0.05
    update = live.end_after_silence()
    (end,) = update.events
    assert (end.kind, end.label, update.action) == ("end", "right red", None)
    assert end.end_seconds == pytest.approx(ACT_SECONDS - 0.04)
    assert end.latency_seconds == update.latency_seconds == pytest.approx(0.55)
    assert live.end_after_silence() is None
    assert live.finish() == ()


def test_frames_that_are_late_but_come_end_nothing(clock):
    live = gauges().live()
    for frame in film(25, acts=ACTS[:1]):
        update = live.push(frame.pixels, frame.pts_seconds, arrived=clock.now - 0.6)
        assert live.end_after_silence() is None
    assert update.action == "right red"


def test_a_camera_too_slow_for_flow_is_told_so():
    live = gauges().live()
    for index, frame in enumerate(list(film(25))[:20]):
        assert live.trouble == "" or index >= 5
        assert live.push(frame.pixels, index * 0.6) is None
    assert "more than 0.5 s apart" in live.trouble
    assert watched(live, list(film(25))[:15])
    assert live.trouble == ""


def test_what_began_anew_while_the_networks_worked_is_not_forgotten():
    """As the thread of the frames would: while the networks work, frames come that are too far apart for flow."""
    recognizer, frames = gauges(), list(film(25))[:20]
    live, answers = recognizer.live(), recognizer.engine.answers

    def slow(snippets):
        for index in range(MOST_STARTS_WITHOUT_UPDATE + 1):
            assert live.see(frames[index].pixels, 10 + index * 0.6)
        return answers(snippets)

    assert [live.push(frame.pixels, frame.pts_seconds) for frame in frames[:10]] == [None] * 10
    recognizer.engine.answers = slow
    assert live.push(frames[10].pixels, frames[10].pts_seconds) is not None
    assert "more than 0.5 s apart" in live.trouble
    recognizer.engine.answers = answers
    late = [live.push(frame.pixels, 20 + frame.pts_seconds) for frame in frames]
    assert late[-1] is not None
    assert live.trouble == ""


def test_an_update_shows_its_answer():
    updates = watched(gauges().live(), film(25, acts=ACTS[:1]))
    assert repr(updates[-1]) == "Update('right red' 1.00 at 2.96 s, action 'right red')"
    (start,) = [update for update in updates if update.events]
    assert repr(start).endswith("action 'right red', start of 'right red')")


@pytest.mark.parametrize(("start_score", "label"), [(None, "unknown"), (0.9, "right red")])
def test_a_lower_start_score_takes_the_place_of_the_threshold(start_score, label):
    rules = start_score and EventRules(start_score, 0.2)
    live = gauges(fusion=replace(FUSION, threshold=1.0)).live(rules=rules)  # no score is above 1
    updates = watched(live, film(25, acts=ACTS[:1]))
    assert updates[-1].label == label
    assert updates[-1].action == (None if start_score is None else label)


def test_after_an_error_of_the_engine_it_goes_on():
    recognizer, frames = gauges(), list(film(25))
    live, answers, calls = recognizer.live(), recognizer.engine.answers, []

    def failing(snippets):
        calls.append(set(snippets))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        return answers(snippets)

    recognizer.engine.answers = failing
    assert [live.push(frame.pixels, frame.pts_seconds) for frame in frames[:10]] == [None] * 10
    with pytest.raises(RuntimeError, match="out of memory"):
        live.push(frames[10].pixels, frames[10].pts_seconds)
    update = live.push(frames[11].pixels, frames[11].pts_seconds)
    assert calls == [{"rgb", "flow"}] * 2  # rgb looks again, since its first look had no answer
    assert update.label == "right red"


def test_the_same_array_filled_anew_is_another_frame():
    frames = [frame.pixels for frame in film(25)][:13]
    buffer, labels = np.empty_like(frames[0]), []
    for is_reused in (False, True):
        live = gauges().live()
        for index, pixels in enumerate(frames):
            buffer[:] = pixels
            update = live.push(buffer if is_reused else pixels, index / 25)
        labels.append(update.prediction.scores)
    np.testing.assert_array_equal(*labels)


def test_a_gap_ends_the_action_and_begins_anew():
    live = gauges().live()
    frames = list(film(25, acts=ACTS[:1]))
    events = [event for update in watched(live, frames) for event in update.events]
    assert [(event.kind, event.label) for event in events] == [("start", "right red")]
    first = [live.push(frame.pixels, frame.pts_seconds + 20) for frame in frames[:11]]
    assert first[:10] == [None] * 10
    (end,) = first[10].events
    assert (end.kind, end.end_seconds) == ("end", pytest.approx(ACT_SECONDS - 0.04))
    assert first[10].prediction.start_seconds == pytest.approx(20)
    assert first[10].action is None


def test_a_camera_that_changes_its_picture_or_its_clock_begins_anew():
    live = gauges().live()
    frames = [frame.pixels for frame in film(25, acts=ACTS[:1])][:12]
    assert live.push(frames[0], 100.0) is None
    found = [live.push(pixels, 5 + index / 25) for index, pixels in enumerate(frames)]
    assert [update is None for update in found] == [True] * 10 + [False] * 2
    larger = [np.ascontiguousarray(pixels[:, :80]) for pixels in frames]
    found = [live.push(pixels, 6 + index / 25) for index, pixels in enumerate(larger)]
    assert [update is None for update in found] == [True] * 10 + [False] * 2


def test_memory_does_not_grow_with_the_length_of_the_session():
    recognizer = gauges()
    for network in recognizer.engine.networks.values():
        network.seen = type("Nothing", (), {"append": lambda self, item: None})()
    live = recognizer.live()
    frames = [frame.pixels for frame in film(25, acts=ACTS[:1])]
    tracemalloc.start()
    try:
        for index in range(900):
            live.push(frames[index % len(frames)], index / 25)
            if index == 300:
                before = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 50_000  # bytes; a frame is 18,432
    assert {stream: len(window) for stream, window in live._windows.items()} == {"rgb": 51, "flow": 41}


def test_networks_of_16_frames_and_single_streams_work_too():
    clips = {
        "rgb": StreamSpec("rgb", "c3d", 32, 16, (0.5,) * 3, (0.25,) * 3, algorithm="c3d"),
        "flow": StreamSpec("flow", "c3d", 32, 16, (0.5,) * 2, (0.1,) * 2, algorithm="c3d"),
    }
    networks = {stream: StreamNet(spec, 4) for stream, spec in clips.items()}
    recognizer = Recognizer(Bundle(CLASSES, PREPARATION, clips, {}), TorchEngine(clips, networks, "cpu"))
    frames = list(film(25, acts=ACTS[:1]))[:18]
    assert len(watched(recognizer.live(), frames)) == 2
    assert len(watched(gauges(specs={"rgb": SPECS["rgb"]}, fusion=Fusion()).live(), frames)) == 18


def test_an_update_is_json_and_tells_its_latency():
    live = gauges().live(rules=EventRules(0.4, 0.2, 0.2))
    updates = watched(live, film(25, acts=ACTS[:1]))
    told = json.loads(json.dumps(messages(updates[-1], 2)[0]))
    assert (told["label"], told["action"]) == ("right red", "right red")
    assert [row["label"] for row in told["top"]] == [answer.label for answer in updates[-1].prediction.top(2)]
    assert told["pts_seconds"] == pytest.approx(ACT_SECONDS - 0.04)
    assert told["evidence_start_seconds"] == pytest.approx(ACT_SECONDS - 0.04 - 2.0)
    (start,) = [event for update in updates for event in update.events]
    assert start.latency_seconds > 0
    stages = updates[-1].prediction.seconds
    assert updates[-1].latency_seconds >= stages["flow"] + stages["flow network"]


@pytest.mark.parametrize(
    ("pixels", "pts", "message"),
    [
        (np.zeros((64, 96), np.uint8), 0.0, r"pixels of shape \(64, 96\), uint8, must be \(H, W, 3\) uint8"),
        (np.zeros((64, 96, 3), np.float32), 0.0, "float32, must be"),
        (np.zeros((0, 96, 3), np.uint8), 0.0, "must be"),
        (np.zeros((64, 96, 3), np.uint8), float("nan"), r"pts_seconds \(nan\)"),
    ],
)
def test_what_is_no_frame_is_refused(pixels, pts, message):
    with pytest.raises(InputError, match=message):
        gauges().live().push(pixels, pts)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(
        InputError, match=r"window_seconds \(0.3\) must be at least 0.4, the length of a snippet of flow"
    ):
        gauges().live(window_seconds=0.3)
    with pytest.raises(InputError, match="window_seconds"):
        gauges().live(window_seconds=float("nan"))
    with pytest.raises(InputError, match="updates_per_second"):
        gauges().live(updates_per_second=0)
