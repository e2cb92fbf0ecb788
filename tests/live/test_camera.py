"""Cameras, addresses and files in real time; the clock and the camera are made up."""

import subprocess
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from rgbflow.live import camera
from rgbflow.live.camera import capture, in_real_time, is_address, is_device
from rgbflow.live.feed import Feed
from rgbflow.live.ticks import LONGEST_GAP_SECONDS
from rgbflow.video import jpeg
from rgbflow.video.broadcast import Broadcast
from rgbflow.video.reading import CutOffError, Frame, VideoError, decode


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


def ffmpeg(path, *arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-nostdin", "-y", *map(str, arguments), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


FILM = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=4")
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")
WRONG = ("-bsf:v", "setts=pts='if(eq(N,20),PTS+300/TB,PTS)':dts=DTS")
RECORDINGS = {
    "b_frames.avi": (*H264, "-bf", 3),
    "b_frames_xvid.avi": ("-c:v", "mpeg4", "-vtag", "XVID", "-bf", 2),
    "raw.264": H264,
    "raw.hevc": ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p"),
    "raw.m2v": ("-c:v", "mpeg2video"),
    "raw.mjpeg": ("-c:v", "mjpeg"),
    "late.ts": (*H264, "-output_ts_offset", 40),
    "wrong.mkv": (*H264, "-bf", 0, *WRONG),
    "ten_wrong.mkv": (*H264, "-bf", 0, *(word.replace("eq(N,20)", "between(N,20,29)") for word in WRONG)),
    "live.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-live", 1),
    "flash.flv": H264,
    "b_frames.mpg": ("-c:v", "mpeg2video", "-bf", 2),
    "b_frames.m2ts": (*H264, "-bf", 3),
    "noisy.ogv": ("-vf", "noise=alls=20:allf=t", "-c:v", "libtheora"),
    "index_at_its_end.mp4": (*H264, "-bf", 2, "-qp", 0),  # more than a server sends before the index is looked for
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_behind_an_address_has_the_frames_and_times_of_the_file(tmp_path, web, name):
    path = ffmpeg(tmp_path / name, *FILM, *RECORDINGS[name])
    with Broadcast(f"{web}/{name}", name, 5.0) as broadcast:
        received = list(broadcast.recording())
    read = list(decode(path))
    assert len(received) == len(read) == 100
    assert [one.pts_seconds for one in received] == pytest.approx([one.pts_seconds for one in read], abs=1e-6)
    assert np.diff([one.pts_seconds for one in read])[8:] == pytest.approx(0.04, abs=0.0011)  # in milliseconds
    for one, other in zip(received, read, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


CUT = {
    "index_first.mp4": (*H264, "-bf", 2, "-movflags", "+faststart"),
    "fragments.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov"),
    "cut.mkv": H264,
    "cut.webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "cut.avi": ("-c:v", "mpeg4"),
    "cut.ts": H264,
    "cut.mpg": ("-c:v", "mpeg2video"),
    "cut.264": H264,
}


@pytest.mark.parametrize("name", CUT)
def test_a_recording_that_is_cut_off_behind_an_address_ends_with_a_word(clock, tmp_path, web, name):
    """As a file does; and the feed does not ask for it again and again."""
    larger = (*FILM[:-1], FILM[-1].replace("64x48", "160x120"))  # a cut is inside of a picture, not between two
    path = ffmpeg(tmp_path / name, *larger, *CUT[name])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    with pytest.raises(VideoError):
        list(decode(path))
    frames = []
    with pytest.raises(CutOffError, match=r"breaks off \((its end is missing, [\d,]+ bytes|its last picture is cut)"):
        frames.extend(capture(f"{web}/{name}"))
    assert 0 < len(frames) < 100
    with Feed(lambda: capture(f"{web}/{name}"), reopens=True, retry_seconds=0) as feed, pytest.raises(CutOffError):
        list(iter(feed.take, None))
    assert (feed.received, feed.lost) == (len(frames), 0)


@pytest.mark.parametrize("offset", [0, 40, 1000])
def test_joined_recordings_behind_an_address_follow_on(clock, tmp_path, web, offset):
    one = ffmpeg(tmp_path / "one.ts", *FILM, *H264)
    other = ffmpeg(tmp_path / "other.ts", *FILM, *H264, "-output_ts_offset", offset)
    (tmp_path / "both.ts").write_bytes(one.read_bytes() + other.read_bytes())
    for source in (f"{web}/both.ts", f"{web}/both.ts".replace("http", "HTTP"), str(tmp_path / "both.ts")):
        clock.slept.clear()
        assert [frame.pts_seconds for frame in capture(source)] == pytest.approx(np.arange(200) / 25, abs=1e-4)
        assert sum(clock.slept) == pytest.approx(199 / 25, abs=0.1)


def test_an_address_without_a_picture_that_can_be_decoded_is_an_error(tmp_path, web):
    path = ffmpeg(tmp_path / "a.avi", *FILM, "-c:v", "mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(VideoError, match=r"pictures that can't be decoded|breaks off|can't be opened"):
        list(capture(f"{web}/a.avi"))


def test_an_animated_webp_behind_an_address_is_as_the_file(clock, tmp_path, web):
    first, *rest = (Image.new("RGB", (64, 48), (shade, 0, 0)) for shade in range(0, 200, 10))
    first.save(tmp_path / "a.webp", save_all=True, append_images=rest, duration=[40, 80] * 10)
    first.save(tmp_path / "still.webp")
    for name, count in (("a.webp", 20), ("still.webp", 1)):
        read, received = list(decode(tmp_path / name)), list(capture(f"{web}/{name}"))
        assert len(received) == len(read) == count
        assert [one.pts_seconds for one in received] == [one.pts_seconds for one in read]
        for one, other in zip(received, read, strict=True):
            np.testing.assert_array_equal(one.pixels, other.pixels)
    (tmp_path / "cut.webp").write_bytes((tmp_path / "a.webp").read_bytes()[:-40])
    with pytest.raises(VideoError, match="its end is missing, 40 bytes"):
        list(capture(f"{web}/cut.webp"))


@pytest.mark.parametrize("step", [0.04, 2.0])
def test_a_gap_is_not_waited_out(clock, step):
    times = [*np.arange(10) * step, *(1e6 + np.arange(10) * step)]
    frames = (Frame(np.zeros((2, 2, 3), np.uint8), float(seconds)) for seconds in times)
    assert [one.pts_seconds for one in in_real_time(frames)] == times
    assert max(clock.slept) <= max(LONGEST_GAP_SECONDS, 2 * step) + 1e-6
    assert sum(clock.slept) <= 20 * step + LONGEST_GAP_SECONDS


@pytest.mark.parametrize("start", [400, 100, None])
def test_a_live_sources_wrong_time_is_replaced_by_its_arrival(network_camera, monkeypatch, start):
    """Its clock starts anew at 400 or 100 seconds instead of 201.2, or the time of one picture alone is wrong."""
    monkeypatch.setattr(camera, "LATE_SECONDS", 60.0)  # a busy machine skips none
    pieces = h264_pieces("mpegts", {"output_ts_offset": "200000000"}, late=60 if start is None else None)
    if start is not None:
        pieces[60:] = h264_pieces("mpegts", {"output_ts_offset": f"{start}000000"})[60:]
    address, _ = network_camera("video/mp2t", pieces, 1 / RATE)
    seconds = np.array([frame.pts_seconds for frame in until_gone(capture(address))])
    assert len(seconds) > 90
    assert (np.diff(seconds) > -1).all()
    assert seconds.max() - seconds.min() < 20


def test_a_protocol_may_stand_in_capitals(monkeypatch):
    opened = []

    def no_server(source, **options):
        opened.append((source, options["options"]))
        raise av.ExitError(0, "nobody")

    monkeypatch.setattr(av, "open", no_server)
    for source in ("RTSP://Camera/Stream", "Http://Camera/A.mp4"):
        with pytest.raises(VideoError, match="can't be opened"):
            next(capture(source))
    assert opened == [("rtsp://Camera/Stream", {"rtsp_transport": "tcp"}), ("http://Camera/A.mp4", {})]


def test_an_address_that_does_not_answer_or_is_none_is_told(web):
    with pytest.raises(VideoError, match="can't be opened"):
        next(capture(f"{web}/nothing.mp4"))
    with pytest.raises(VideoError, match="use a file, a camera's number, or rtsp"):
        next(capture("gopher://here"))
    with pytest.raises(VideoError, match="does not exist"):
        next(capture("nothing.mp4"))


class Sender(BaseHTTPRequestHandler):
    """Sends pieces as a camera does, each when its pause is over, and notes the moment."""

    def __init__(self, content_type, pieces, pause, *arguments):
        self.content_type, self.pieces, self.pause = content_type, pieces, pause
        super().__init__(*arguments)

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", self.content_type)
        self.end_headers()
        began = time.perf_counter()
        for number, piece in enumerate(self.pieces):
            time.sleep(max(0.0, began + number * self.pause - time.perf_counter()))
            self.server.sent.append(time.perf_counter())
            self.wfile.write(piece)


@pytest.fixture
def network_camera():
    """Makes a camera of pieces: its address, and the moments at which they were sent."""
    servers = []

    def start(content_type, pieces, pause):
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Sender, content_type, pieces, pause))
        server.sent = []
        servers.append((server, thread := threading.Thread(target=server.serve_forever)))
        thread.start()
        return f"http://name:secret@127.0.0.1:{server.server_address[1]}/video", server.sent

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def until_gone(frames):
    """The frames of an address, which must end by telling that it is gone, without its password."""
    with pytest.raises(VideoError, match=r"^source http://127.* (has stopped sending|breaks off)"):
        yield from frames


def test_a_network_camera_without_times_gets_those_of_arrival(network_camera, monkeypatch):
    """Motion JPEG by HTTP, ten pictures a second, which FFmpeg would take for 25 a second."""
    monkeypatch.setattr(camera, "LATE_SECONDS", 60.0)  # a busy machine skips none
    picture = jpeg.encode(np.full((48, 64, 3), 90, np.uint8), 90)
    head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
    pieces = [head.encode() + picture + b"\r\n"] * 12
    address, sent = network_camera("multipart/x-mixed-replace; boundary=next", pieces, 0.1)
    frames = list(until_gone(capture(address)))
    assert len(frames) >= 11
    assert all(frame.pixels.shape == (48, 64, 3) and frame.pts_seconds == frame.arrived for frame in frames)
    assert np.median(np.diff([frame.arrived for frame in frames])) == pytest.approx(np.median(np.diff(sent)), rel=0.3)


COUNT, RATE, KEY_EVERY = 100, 50, 10


class Pieces(list):
    """A file that keeps what is written to it, in pieces."""

    def write(self, data):
        self.append(bytes(data))
        return len(data)

    def take(self):
        """What was written since the last time."""
        taken = b"".join(self)
        self.clear()
        return taken


def h264_pieces(container_format, options=None, key_every=KEY_EVERY, late=None):
    """Two seconds of H.264 whose pictures show their number, as pieces of a file, one for each; the time of one
    may be 300 seconds late."""
    pieces, pictures = Pieces(), []
    with av.open(pieces, "w", container_format, options={"flush_packets": "1", **(options or {})}) as container:
        settings = {"g": str(key_every), "bf": "0", "preset": "ultrafast", "tune": "zerolatency", "crf": "1"}
        stream = container.add_stream("libx264", rate=RATE, options=settings)
        stream.height, stream.width = 48, 64
        for number in range(COUNT):
            pixels = np.full((48, 64, 3), 20 + 20 * (number % 10), np.uint8)
            pixels[:, :32] = 20 + 20 * (number // 10)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels)):
                if number == late:
                    packet.pts += round(300 / packet.time_base)
                container.mux(packet)
            pictures.append(pieces.take())
        container.mux(stream.encode(None))
    return [*pictures, pieces.take()]


def number_of(frame):
    tens, ones = (round((half.mean() - 20) / 20) for half in (frame.pixels[:, :30], frame.pixels[:, 34:]))
    return 10 * tens + ones


LIVE_MATROSKA = ("matroska", {"live": "1", "cluster_time_limit": "1"})
FORMATS = [LIVE_MATROSKA, ("mpegts", None), ("flv", {"flvflags": "no_duration_filesize"})]


@pytest.mark.parametrize(("container_format", "options"), FORMATS)
def test_a_network_cameras_frames_tell_when_they_were_sent(network_camera, monkeypatch, container_format, options):
    """Those too that FFmpeg reads to find out what is sent: up to 5 seconds of them, which come in one burst."""
    monkeypatch.setattr(camera, "LATE_SECONDS", 60.0)  # a busy machine skips none
    address, sent = network_camera("video/any", h264_pieces(container_format, options), 1 / RATE)
    numbers, leads = [], []
    for frame in until_gone(capture(address)):
        number = number_of(frame)
        assert frame.skipped == 0
        numbers.append(number)
        leads.append(frame.arrived - sent[number])
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == COUNT - 1
    assert -0.02 < np.median(leads) < 0.1


@pytest.mark.parametrize("key_every", [KEY_EVERY, COUNT])
def test_what_a_network_camera_sends_faster_than_it_is_taken_is_skipped_and_counted(
    network_camera, monkeypatch, key_every
):
    """Whoever takes them needs five times as long for each; with key frames to jump to, and without."""
    monkeypatch.setattr(camera, "OPENING_SECONDS", 0.1)
    pieces = h264_pieces(*LIVE_MATROSKA, key_every)
    address, sent = network_camera("video/x-matroska", pieces, 1 / RATE)
    lags, numbers, skipped = [], [], []
    for frame in until_gone(capture(address)):
        numbers.append(number_of(frame))
        skipped.append(frame.skipped)
        lags.append(time.perf_counter() - sent[numbers[-1]])
        assert frame.pts_seconds == pytest.approx(numbers[-1] / RATE, abs=0.002)
        time.sleep(5 * (sent[-1] - sent[0]) / len(sent))
    jumps = np.diff([-1, *numbers]) - 1
    is_counted = np.array(skipped) > 0
    assert is_counted.any()
    np.testing.assert_array_equal(np.array(skipped)[is_counted], jumps[is_counted])
    assert len(numbers) < COUNT / 2
    assert numbers[-1] > 0.7 * COUNT
    assert np.median(lags) < 2 * camera.LATE_SECONDS  # it would be 4 s in the middle, 8 s at the end


@pytest.mark.parametrize(("container_format", "options"), FORMATS[:2])
def test_a_recording_that_does_not_tell_its_length_is_played_whole(clock, web, tmp_path, container_format, options):
    (tmp_path / "recording").write_bytes(b"".join(h264_pieces(container_format, options)))
    assert [number_of(frame) for frame in capture(f"{web}/recording")] == list(range(COUNT))
    assert sum(clock.slept) == pytest.approx((COUNT - 1) / RATE, abs=0.01)


def test_a_live_playlist_is_no_recording_though_its_list_has_a_size(web, tmp_path):
    (tmp_path / "one.ts").write_bytes(b"".join(h264_pieces("mpegts")))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:2.0,", "one.ts"]
    for name, more, is_recording in (("live", [], False), ("whole", ["#EXT-X-ENDLIST"], True)):
        (tmp_path / f"{name}.m3u8").write_text("\n".join([*lines, *more, ""]))
        with Broadcast(f"{web}/{name}.m3u8", name, 5.0) as broadcast:
            assert broadcast.is_recording == is_recording


def test_a_camera_whose_sound_goes_on_without_pictures_is_gone(network_camera, monkeypatch):
    written, pieces = Pieces(), []
    options = {"flush_packets": "1", "max_interleave_delta": "1"}  # sound does not wait for pictures
    with av.open(written, "w", "mpegts", options=options) as container:
        picture, sound = container.add_stream("libx264", rate=RATE), container.add_stream("mp2", rate=48000)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        for number in range(250):
            if number < 50:
                container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
            if number == 50:
                container.mux(picture.encode(None))
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 48000 // RATE), np.int16), "s16", "mono")
            silence.sample_rate, silence.pts = 48000, number * 48000 // RATE
            container.mux(sound.encode(silence))
            pieces.append(written.take())
    monkeypatch.setattr(camera, "SILENCE_SECONDS", 1.5)
    address, sent = network_camera("video/mp2t", pieces, 1 / RATE)
    frames = capture(address)
    assert next(frames).pixels.shape == (48, 64, 3)
    with pytest.raises(VideoError, match="sends no pictures"):
        list(frames)
    assert len(sent) < 230  # it did not wait for the end


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
    with pytest.raises(VideoError, match="camera 7 has stopped sending"):
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
