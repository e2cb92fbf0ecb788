"""A client of `/live`: what it is told is what `LiveRecognizer.push` says of the same frames."""

import cv2

RATE = 25.0


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
