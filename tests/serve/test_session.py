"""A client of `/live`: what it is told is what `LiveRecognizer.push` says of the same frames."""

import struct
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rgbflow.recognizer import Recognizer
from rgbflow.serve import session
from rgbflow.serve.service import Networks

RATE = 25.0


class Recorder:
    """An outlet that keeps what it is told."""

    def __init__(self):
        self.updates, self.ends, self.is_closed = [], [], False

    def send(self, update):
        self.updates.append(update)

    def send_events(self, events):
        self.ends.append(tuple(events))

    def close(self):
        self.is_closed = True


def decoded(pixels):
    """What the service sees of a frame."""
    return cv2.imdecode(cv2.imencode(".jpg", pixels[..., ::-1])[1], cv2.IMREAD_COLOR_RGB)


def test_a_client_is_told_what_push_says_of_the_same_frames(running, recognizer, moving_square, wait_until):
    clip = moving_square(2, 1, frames=16)
    client, live = running.connect(), recognizer.live()
    hello = client.receive("hello")
    assert hello["classes"] == list(recognizer.bundle.classes)
    for number, pixels in enumerate(clip):
        client.send_frame(pixels, number, number / RATE)
        wait_until(lambda: running.count("rgbflow_frames_total", outcome="seen") > number)  # noqa: B023
        expected = live.push(decoded(pixels), number / RATE)
        if expected is None:
            continue
        update = client.receive("update")
        assert (update["number"], update["time"]) == (number, number / RATE)
        assert (update["label"], update["action"]) == (expected.label, expected.action)
        assert update["score"] == expected.prediction.score
        rows = {row["label"]: row for row in update["scores"]}
        for place, label in enumerate(recognizer.bundle.classes):
            assert rows[label]["fused"] == expected.prediction.scores[place]
            assert rows[label]["rgb"] == expected.prediction.stream_scores["rgb"][place]
            assert rows[label]["flow"] == expected.prediction.stream_scores["flow"][place]
        assert {"wait", "decode", "flow", "flow network", "fusion"} <= set(update["seconds"])
        assert update["dropped"] == 0


def test_an_action_starts_and_ends_when_the_client_falls_silent(running, recognizer, moving_square):
    client = running.connect()
    client.receive("hello")
    client.send({"type": "settings", "start_score": 0.0, "end_score": 0.0, "min_seconds": 0.0})
    assert client.receive("settings")["settings"]["start_score"] == 0
    running.play(client, moving_square(2, 1, frames=8))
    started, ended = client.receive("event"), client.receive("event")
    assert (started["kind"], ended["kind"]) == ("start", "end")
    assert started["label"] == ended["label"]
    assert ended["end_seconds"] <= 7 / RATE + 1e-9
    assert running.count("rgbflow_events_total", kind="start") == running.count("rgbflow_events_total", kind="end") == 1


def test_a_newer_frame_replaces_the_one_that_waits_and_the_drops_are_told(
    running, moving_square, monkeypatch, wait_until
):
    """While the first frame is looked at, three more come: two of them are dropped."""
    entered, gate = threading.Event(), threading.Event()
    decode = session.decode_picture

    def slow(data, limits):
        entered.set()
        assert gate.wait(60)
        return decode(data, limits)

    monkeypatch.setattr(session, "decode_picture", slow)
    clip, client = moving_square(2, 1, frames=12), running.connect()
    client.receive("hello")
    client.send_frame(clip[0], 0, 0.0)
    assert entered.wait(60)
    for number in (1, 2, 3):
        client.send_frame(clip[number], number, number / RATE)
    client.send({"type": "settings"})
    client.receive("settings")  # so that all have come
    assert running.count("rgbflow_frames_total", outcome="dropped") == 2
    gate.set()
    wait_until(lambda: running.num_seen() == 2)
    for number in range(4, 12):
        before = running.num_seen()
        client.send_frame(clip[number], number, number / RATE)
        wait_until(lambda: running.num_seen() > before)  # noqa: B023
    assert client.receive("update")["dropped"] == 2


def test_the_flow_is_shown_in_colour_where_it_is_asked_for(running, moving_square):
    client = running.connect()
    client.send({"type": "settings", "flow_picture": True})
    client.receive("settings")
    running.play(client, moving_square(4, 0, frames=4))
    message = client.receive_picture()
    number, flags, seconds = struct.unpack_from("<IId", message)
    assert (number, flags, seconds) == (1, 0, 1 / RATE)
    picture = cv2.imdecode(np.frombuffer(message[16:], np.uint8), cv2.IMREAD_COLOR_RGB).astype(int)
    middle = picture[picture.shape[0] // 2, picture.shape[1] // 2]
    assert middle[0] > 200  # to the right is red
    assert middle[1:].max() < 150
    assert picture[1, 1].min() > 200  # what stands still is white


def test_settings_that_contradict_each_other_change_nothing(running):
    client = running.connect()
    usual = client.receive("hello")["settings"]
    for wrong in ({"end_score": 0.9, "start_score": 0.1}, {"window_seconds": 0.01}, {"volume": 3}):
        client.send({"type": "settings", **wrong})
        error = client.receive("error")
        assert (error["code"], error["closes"]) == (4422, False)
    client.send({"type": "settings"})
    assert client.receive("settings")["settings"] == usual
    client.send({"type": "settings", "start_score": 0.8, "min_seconds": 0.1})
    assert client.receive("settings")["settings"] == usual | {
        "start_score": 0.8,
        "end_score": pytest.approx(0.48),
        "min_seconds": 0.1,
    }
    client.send({"type": "settings", "start_score": None, "min_seconds": None})
    assert client.receive("settings")["settings"] == usual


def test_other_networks_take_over_and_open_sessions_are_told(running, recognizer, moving_square):
    client = running.connect()
    client.receive("hello")
    client.send({"type": "settings", "start_score": 0.0, "end_score": 0.0, "min_seconds": 0.0})
    running.play(client, moving_square(2, 1, frames=8))
    assert client.receive("event")["kind"] == "start"
    bundle = replace(recognizer.bundle, classes=tuple("vwxyz"))
    running.replace(Networks(Recognizer(bundle, recognizer.engine), "taught", "imagenet"))
    assert client.receive("event", "bundle")["kind"] == "end"
    told = client.receive("bundle")
    assert (told["classes"], told["bundle"]["source"]) == (list("vwxyz"), "imagenet")
    assert told["settings"]["start_score"] == 0
    running.play(client, moving_square(2, 1, frames=16)[8:], start=8)
    assert client.receive("update")["label"] in bundle.classes
    assert running.get("/classes").json()["classes"] == list("vwxyz")


def test_where_nothing_is_taught_a_session_opens_and_waits_for_networks(start, recognizer, moving_square):
    running = start(networks=None)
    assert running.get("/ready").status_code == 503
    assert running.request("POST", "/predict", content=b"x").status_code == 409
    client = running.connect()
    hello = client.receive("hello")
    assert (hello["classes"], hello["fusion"], hello["bundle"]["source"]) == ([], None, "imagenet")
    running.play(client, moving_square(2, 1, frames=8))
    running.replace(Networks(recognizer, "taught", "imagenet"))
    assert client.receive("bundle")["classes"] == list(recognizer.bundle.classes)
    running.play(client, moving_square(2, 1, frames=8))
    assert client.receive("update")
    assert running.get("/ready").status_code == 200


def test_one_client_at_a_time_speaks_to_the_outlets_and_its_actions_end_with_it(start, moving_square, wait_until):
    outlet = Recorder()
    running = start(outlets=[outlet])
    clients = [running.connect() for _ in range(2)]
    for client in clients:
        client.send({"type": "settings", "start_score": 0.0, "end_score": 0.0, "min_seconds": 0.0})
        client.receive("settings")
        running.play(client, moving_square(2, 1, frames=8))
        client.receive("event")
    spoken = len(outlet.updates)
    assert 0 < spoken <= 5  # 8 frames of which the first update needs 4
    clients[0].socket.close()
    wait_until(lambda: outlet.ends)
    assert [[event.kind for event in events] for events in outlet.ends] in ([[]], [["end"]])  # [] after a silence
    running.play(clients[1], moving_square(2, 1, frames=16)[8:], start=8)
    wait_until(lambda: len(outlet.updates) > spoken)
