"""Cameras, addresses and files in real time; the clock and the camera are made up."""

import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import numpy as np
import pytest

from rgbflow import camera, jpeg
from rgbflow.camera import capture, in_real_time, is_address, is_device
from rgbflow.video import Frame, VideoError, decode


class Clock:
    """A clock that goes on while somebody sleeps, and only then."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(camera, "time", clock)
    return clock


def test_frames_come_when_their_time_has_come_and_late_ones_at_once(clock):
    frames = (Frame(np.zeros((2, 2, 3), np.uint8), seconds) for seconds in (5.0, 5.1, 5.2, 5.3, 5.4))
    moments = []
    for number, _ in enumerate(in_real_time(frames)):
        moments.append(clock.now)
        clock.now += 0.25 if number == 1 else 0.0  # whoever takes them was slow once
    assert moments == pytest.approx([1000, 1000.1, 1000.35, 1000.35, 1000.4])


def test_a_file_is_played_at_its_own_speed(clock, square_video):
    path = square_video(2, 0)
    played, decoded = list(capture(str(path))), list(decode(path))
    assert [frame.pts_seconds for frame in played] == [frame.pts_seconds for frame in decoded]
    for one, other in zip(played, decoded, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
    assert sum(clock.slept) == pytest.approx(11 / 25)


@pytest.fixture
def web(tmp_path):
    """The address of the folder tmp_path on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_recording_behind_an_address_gives_the_frames_of_the_file_at_its_own_speed(clock, square_video, web):
    path = square_video(2, 0)
    played = list(capture(f"{web}/{path.name}"))
    assert len(played) == 12
    for one, other in zip(played, decode(path), strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.pts_seconds == pytest.approx(other.pts_seconds)
    assert sum(clock.slept) == pytest.approx(11 / 25)


def test_an_address_that_does_not_answer_or_is_none_is_told(web):
    with pytest.raises(VideoError, match="can't be opened"):
        next(capture(f"{web}/nothing.mp4"))
    with pytest.raises(VideoError, match="use a file, a camera's number, or rtsp"):
        next(capture("gopher://here"))
    with pytest.raises(VideoError, match="does not exist"):
        next(capture("nothing.mp4"))


@pytest.fixture
def network_camera():
    """Makes an address of this machine that sends what it is given, each piece when its pause is over, then ends."""
    servers = []

    def start(content_type, pieces, pause):
        class Sender(BaseHTTPRequestHandler):
            def log_message(self, *arguments):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)
                    time.sleep(pause)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Sender)
        servers.append((server, thread := threading.Thread(target=server.serve_forever)))
        thread.start()
        return f"http://name:secret@127.0.0.1:{server.server_address[1]}/video"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def until_gone(frames):
    """The frames of an address, which must end by telling that it is gone, without its password."""
    with pytest.raises(VideoError, match=r"^source http://127.* (has stopped sending|breaks off)"):
        yield from frames


def test_a_network_camera_without_times_gets_those_of_arrival(network_camera):
    """Motion JPEG by HTTP, ten pictures a second, which FFmpeg would take for 25 a second."""
    picture = jpeg.encode(np.full((48, 64, 3), 90, np.uint8), 90)
    head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    pieces = [head.encode() + picture + b"\r\n"] * 12
    frames = capture(network_camera("multipart/x-mixed-replace; boundary=next", pieces, 0.1))
    times = []
    for frame in until_gone(frames):
        assert frame.pixels.shape == (48, 64, 3)
        assert frame.pts_seconds == frame.arrived
        times.append(frame.pts_seconds)
    assert len(times) >= 11
    assert np.median(np.diff(times)) > 0.07


def live_matroska(pictures, rate, key_every):
    """H.264 as a camera sends it: the pieces of a file without a length, one for each picture."""

    class Pieces(list):
        def write(self, data):
            self.append(bytes(data))
            return len(data)

    pieces, whole = Pieces(), []
    options = {"live": "1", "cluster_time_limit": "1", "flush_packets": "1"}
    with av.open(pieces, "w", "matroska", options=options) as container:
        settings = {"g": str(key_every), "bf": "0", "preset": "ultrafast", "tune": "zerolatency", "crf": "1"}
        stream = container.add_stream("libx264", rate=rate, options=settings)
        stream.height, stream.width = pictures[0].shape[:2]
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
            whole.append(b"".join(pieces))
            pieces.clear()
        container.mux(stream.encode(None))
    return [*whole, b"".join(pieces)]


def test_what_a_network_camera_sends_faster_than_it_is_taken_is_left_out_up_to_a_key_frame(network_camera):
    """Two seconds, 50 frames each; whoever takes them needs five times as long for each."""
    count, rate = 100, 50
    pictures = [np.full((48, 64, 3), 20 + 2 * number, np.uint8) for number in range(count)]
    frames = capture(network_camera("video/x-matroska", live_matroska(pictures, rate, 10), 1 / rate))
    seen = []
    for frame in until_gone(frames):
        assert time.perf_counter() - frame.arrived < camera.LATE_SECONDS + 0.5  # it would be 8 s at the end
        number = round(frame.pts_seconds * rate)
        assert frame.pixels.mean() == pytest.approx(20 + 2 * number, abs=1)  # whole, and of this moment
        assert number == (seen[-1] + 1 if seen else 0) + frame.skipped
        assert not frame.skipped or number % 10 == 0
        seen.append(number)
        time.sleep(5 / rate)
    assert len(seen) < count / 2
    assert seen[-1] >= count - 30


class Camera:
    """Three frames, then nothing: as one that is unplugged."""

    def __init__(self, number):
        self.number, self.left, self.is_released = number, 3, False
        Camera.made = self

    def isOpened(self):  # noqa: N802
        return self.number == 7

    def set(self, name, value):
        return True

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((4, 6, 3), (10, 20, 30), np.uint8)

    def release(self):
        self.is_released = True


def test_a_camera_gives_rgb_with_the_time_it_came_at_and_tells_when_it_is_gone(clock, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    frames, found = capture("7"), []
    for _ in range(3):
        frame = next(frames)
        found.append((frame.pts_seconds, frame.pixels[0, 0].tolist()))
        clock.now += 0.5
    with pytest.raises(VideoError, match="camera 7 is gone"):
        next(frames)
    assert found == [(0.0, [30, 20, 10]), (0.5, [30, 20, 10]), (1.0, [30, 20, 10])]
    assert Camera.made.is_released
    for source in ("/dev/video3", "3"):
        with pytest.raises(VideoError, match="camera 3 can't be opened"):
            next(capture(source))
    with pytest.raises(VideoError, match="camera 99999999999 can't be opened"):
        next(capture("99999999999"))
    assert Camera.made.is_released


def test_what_a_source_is_shows_in_its_name():
    assert [is_device(name) for name in ("0", "/dev/video2", "0.mp4", "-1", "²", "")] == [True, True] + [False] * 4
    assert [is_address(name) for name in ("rtsp://a/b", "http://a", "a/b.mp4", "C:\\a.mp4")] == [True] * 2 + [False] * 2
