"""Clients that mean harm or are broken: each gets a close code or a refusal, and the others do not notice."""

import random
import struct
import threading
import zlib
from contextlib import suppress
from types import ModuleType

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rgbflow.serve import running as server
from rgbflow.serve.limits import Limits
from rgbflow.serve.pictures import decode_picture
from rgbflow.serve.protocol import Picture, ProtocolError
from rgbflow.video.writing import write_video

THREADS_OF_POOLS = 24  # that a service starts as they are needed, and keeps


def picture(height, width, suffix=".jpg"):
    return cv2.imencode(suffix, np.full((height, width, 3), 128, np.uint8))[1].tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(side=20_000):
    """A PNG of side×side pixels in a few hundred kilobytes."""
    body = zlib.compress(b"\0" * (side * (3 * side + 1) // 1000))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def claiming(width, height):
    """A small JPEG whose header claims to be large."""
    data = bytearray(picture(16, 16))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"no picture", 4415),
        (bomb(), 4415),
        (picture(64, 64, ".png"), 4415),
        (picture(64, 64, ".bmp"), 4415),
        (picture(1, 1), 4415),
        (picture(8, 200), 4415),
        (claiming(20_000, 20_000), 4413),
        (claiming(65_535, 65_535), 4413),
        (picture(8, 20_000), 4415),
        (picture(64, 64)[:200], 4415),
        (picture(64, 64, ".webp")[:30], 4415),
        (b"\xff\xd8\xff" + b"\0" * (1 << 20), 4413),
    ],
)
def test_a_picture_that_can_not_be_used_closes_the_socket_with_a_code(running, data, code):
    client = running.connect()
    client.send(Picture(0, 0.0, data).pack())
    error = client.receive("error")
    assert (error["code"], error["closes"]) == (code, True)
    assert client.close_code() == code


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"short", 4400), ("no JSON", 4400), ('{"type": "sing"}', 4400), ("x" * 5000, 4413), (b"x" * (2 << 20), 4413)],
)
def test_a_message_that_can_not_be_read_closes_the_socket_with_a_code(running, message, code):
    client = running.connect()
    with suppress(ConnectionClosed):  # it may be closed before all is sent
        client.send(message)
    assert client.close_code() == code


def test_bytes_that_are_no_text_close_the_socket_and_fill_no_log(running, caplog):
    client = running.connect()
    client.receive("hello")
    client.socket.send(b'{"type": "\xff\xfe"}', text=True)
    assert client.close_code() == 1007
    assert caplog.text == ""


def test_a_message_above_all_limits_is_cut_off(running):
    client = running.connect()
    with suppress(ConnectionClosed):
        client.send(b"x" * (5 << 20))
    assert client.close_code() in (1009, 1006)  # 1006: it is closed while the rest still comes


def test_webp_is_read_as_jpeg_is(moving_square):
    (pixels,) = moving_square(0, 0, frames=1)
    lossless = cv2.imencode(".webp", pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    np.testing.assert_array_equal(decode_picture(lossless, Limits()), pixels)
    lossy = decode_picture(cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes(), Limits())
    assert np.abs(lossy.astype(int) - pixels).mean() < 5


def test_a_thousand_mutated_pictures_are_refused_or_decoded_but_never_crash(moving_square):
    generator, refused = random.Random(0), 0
    (pixels,) = moving_square(0, 0, frames=1, size=(64, 48))
    originals = [cv2.imencode(suffix, pixels)[1].tobytes() for suffix in (".jpg", ".webp")]
    limits = Limits()
    for number in range(1000):
        data = bytearray(originals[number % 2])
        for _ in range(generator.randint(1, 8)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        try:
            decoded = decode_picture(bytes(data[: generator.randint(1, len(data))] if number % 3 else data), limits)
        except ProtocolError:
            refused += 1
        else:
            assert decoded.dtype == np.uint8
            assert decoded.shape[0] * decoded.shape[1] <= limits.frame_pixels
    assert 100 < refused < 1000


@pytest.fixture
def hostile(benchmark_module) -> ModuleType:
    return benchmark_module("hostile")


@pytest.mark.parametrize("count", [24, pytest.param(100, marks=pytest.mark.long)])
def test_damaged_frames_messages_and_requests_leave_the_service_and_the_others_well(
    hostile, start, moving_square, wait_until, tmp_path, monkeypatch, count
):
    """Each gets a code or a status below 500; the numbers of a run against the command: docs/results/hostile.md."""
    monkeypatch.setattr(hostile, "ANSWER_SECONDS", 60.0)
    monkeypatch.setattr(server, "HEAD_SECONDS", 1.0)
    running = start(Limits(requests_per_second=1e6, chunk_seconds=0.5, sessions=1000))
    well = running.connect()
    well.receive("hello")
    threads = threading.active_count()
    write_video(tmp_path / "clip.mp4", moving_square(2, 1, frames=12, size=(64, 48)), 25)
    pictures = [picture(48, 64), picture(48, 64, ".webp")]
    target = hostile.Target(running.port, addresses=False)
    found = hostile.attack(target, pictures, (tmp_path / "clip.mp4").read_bytes(), count)
    assert hostile.faults(found) == 0, found
    assert {kind: counts.total() for kind, counts in found.items()} == dict.fromkeys(found, count)
    assert 0 < found["frames"][hostile.TAKEN] < count
    wait_until(lambda: running.service.sessions == 1)
    wait_until(lambda: running.service._uploads == 0)
    running.play(well, moving_square(2, 1, frames=8))
    assert well.receive("update")["number"] >= 3
    assert threading.active_count() <= threads + THREADS_OF_POOLS


def test_a_flood_of_messages_is_closed_and_a_flood_of_requests_is_turned_away(start):
    running = start(Limits(messages_per_second=5, requests_per_second=0.5))
    client = running.connect()
    for _ in range(30):
        client.send('{"type": "settings"}')
    assert client.close_code() == 4429
    answers = {running.get("/health").status_code for _ in range(30)}
    assert answers == {200, 429}


def test_more_sessions_than_are_taken_are_refused_and_a_place_that_is_free_is_taken(start, wait_until):
    running = start(Limits(sessions=2))
    clients = [running.connect() for _ in range(2)]
    with pytest.raises(InvalidStatus) as refused:
        running.connect()
    assert refused.value.response.status_code == 503
    assert running.count("rgbflow_sessions") == 2
    clients[0].socket.socket.close()  # it vanishes, without a goodbye
    wait_until(lambda: running.service.sessions == 1)
    assert running.connect().receive("hello")


def test_a_client_that_never_reads_is_closed_and_the_others_go_on(start, wait_until, moving_square):
    running = start(Limits(send_seconds=0.5, messages_per_second=100_000))
    deaf, well = running.connect(max_queue=1), running.connect()
    with suppress(ConnectionClosed):
        while running.service.sessions == 2:
            deaf.send('{"type": "settings"}')
    wait_until(lambda: running.service.sessions == 1)
    running.play(well, moving_square(2, 1, frames=8))
    assert well.receive("update")
