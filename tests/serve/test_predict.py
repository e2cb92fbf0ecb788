"""Uploaded videos: the answer is that of `Recognizer.predict` and `timeline`; what can't be used is a clear 4xx."""

import socket
import tempfile
import time
from contextlib import suppress

import numpy as np
import pytest

from rgbflow.serve import running as server
from rgbflow.serve.limits import Limits


@pytest.fixture
def clip(square_video):
    return square_video(2, 1, frames=30)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def test_a_body_and_a_form_get_what_predict_says_and_nothing_is_kept(running, recognizer, clip, temporary):
    expected = recognizer.predict(clip)
    plain = running.request("POST", "/predict?top=3", content=clip.read_bytes())
    form = running.request("POST", "/predict", files={"file": ("../../etc/wave.mp4", clip.read_bytes(), "video/mp4")})
    assert (plain.status_code, form.status_code) == (200, 200)
    assert (plain.json()["video"], form.json()["video"]) == ("the upload", "wave.mp4")
    assert (len(plain.json()["top"]["fused"]), len(form.json()["top"]["fused"])) == (3, 5)
    for answer in (plain.json(), form.json()):
        assert answer["label"] == expected.label
        scores = {row["label"]: row["score"] for row in answer["top"]["flow"]}
        for row in expected.stream_top("flow", 3):
            assert scores[row.label] == pytest.approx(row.score, abs=1e-5)
    assert list(temporary.iterdir()) == []


def test_a_timeline_is_that_of_the_file(running, recognizer, clip):
    expected = recognizer.timeline(clip, 0.6, 0.3)
    answer = running.request("POST", "/predict?timeline=true&window=0.6&step=0.3", content=clip.read_bytes()).json()
    segments = [(one["start_seconds"], one["end_seconds"], one["label"]) for one in answer["segments"]]
    assert segments == [(one.start_seconds, one.end_seconds, one.label) for one in expected.segments]
    assert [one["label"] for one in answer["windows"]] == [one.label for one in expected.windows]
    np.testing.assert_allclose(
        [one["score"] for one in answer["windows"]], [one.score for one in expected.windows], atol=1e-5
    )


def test_what_is_no_video_is_named_and_not_kept(running, clip, temporary):
    answers = [
        running.request("POST", "/predict", content=b"no video"),
        running.request("POST", "/predict", files={"file": ("wave.mp4", b"no video")}),
        running.request("POST", "/predict?timeline=true&window=1&step=2", content=clip.read_bytes()),
    ]
    for answer in answers:
        assert answer.status_code == 422
        assert "\n" not in answer.json()["detail"]
        assert str(temporary) not in answer.json()["detail"]
    assert "wave.mp4" in answers[1].json()["detail"]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"content": b""}, 400),
        ({"data": {"name": "wave"}, "files": {}}, 422),  # no multipart: its bytes are no video
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"content": b"--b\r\n\r\n\r\n--b--", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=" + "b" * 5000}}, 400),
    ],
)
def test_a_body_without_a_video_is_refused(running, options, status):
    assert running.request("POST", "/predict", **options).status_code == status


@pytest.mark.parametrize("query", ["top=0", "top=x", "window=0", "window=nan", "step=-1", "timeline=perhaps"])
def test_a_query_out_of_range_is_refused(running, query):
    assert running.request("POST", f"/predict?{query}", content=b"x").status_code == 422


def test_a_body_that_is_too_large_is_refused_before_it_is_read(start, temporary):
    running = start(Limits(upload_bytes=10_000))
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        link.sendall(head)
        assert link.recv(4096).startswith(b"HTTP/1.1 413")

    def endless():
        for _ in range(100):
            yield b"x" * 1000

    assert running.request("POST", "/predict", content=endless()).status_code == 413
    assert list(temporary.iterdir()) == []


def test_a_body_that_comes_too_slowly_is_refused(start, wait_until, temporary):
    running = start(Limits(chunk_seconds=0.2))
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nonly this"
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        link.sendall(head)
        assert link.recv(4096).startswith(b"HTTP/1.1 408")
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        link.sendall(head)
    wait_until(lambda: not list(temporary.iterdir()))


def test_an_upload_that_trickles_is_refused_when_its_time_is_over(start, temporary):
    """Never silent for long, and yet never done."""
    running = start(Limits(upload_seconds=0.5))
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        link.sendall(head)
        link.settimeout(0.05)
        answer = b""
        while not answer:
            with suppress(TimeoutError):
                link.sendall(b"x")
                answer = link.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert list(temporary.iterdir()) == []


def test_a_head_that_never_ends_is_cut_off_and_a_long_request_is_not(start, monkeypatch):
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    running = start(Limits(chunk_seconds=2.0))
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        link.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Letter: ")
        assert link.recv(4096) == b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        link.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nonly this")
        assert link.recv(4096).startswith(b"HTTP/1.1 408")  # after its own time, which is longer
    client = running.connect()
    client.receive("hello")
    time.sleep(1.0)
    client.send({"type": "settings"})
    assert client.receive("settings")


def test_more_uploads_than_are_taken_are_turned_away(start, wait_until):
    running = start(Limits(uploads=1))
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as link:
        link.sendall(head)
        wait_until(lambda: running.service._uploads == 1)
        busy = running.request("POST", "/predict", content=b"x")
        assert busy.status_code == 429
        assert int(busy.headers["Retry-After"]) > 0


def test_the_description_of_the_paths_is_there(running):
    paths = running.get("/openapi.json").json()["paths"]
    assert {"/predict", "/classes", "/health", "/ready", "/metrics"} <= set(paths)
