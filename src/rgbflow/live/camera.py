"""Cameras, addresses and files in real time: each frame with the moment of its arrival."""

import math
import re
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from rgbflow.live.ticks import LONGEST_GAP_SECONDS
from rgbflow.video.broadcast import Broadcast, Packet
from rgbflow.video.reading import Frame, VideoError, decode
from rgbflow.video.times import ArrivalClock

PROTOCOLS = ("rtsp", "rtsps", "http", "https", "rtmp", "rtmps", "rtp", "srt", "tcp", "udp")  # of addresses
MOST_CAMERAS = 99  # as a number; OpenCV takes hundreds for something else
SILENCE_SECONDS = 5.0  # without a picture from an address, it counts as gone
LATE_SECONDS = 0.5  # what has waited longer to be decoded is skipped
LONGEST_BLIND_SECONDS = 0.25  # but for one picture in so long
BURST_SECONDS = 0.1  # what comes so soon after the opening was read to find out what is sent
OPENING_SECONDS = 5.0  # for so long at most, that burst is to blame for what is late, and nothing is counted


@dataclass(frozen=True, eq=False)
class Arrival:
    """A frame that has arrived.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        pts_seconds: the source's time.
        arrived: `time.perf_counter()` at its arrival, for an address before decoding; now, if not given.
        skipped: frames left out since the previous one because decoding is slower than the source.
    """

    pixels: np.ndarray
    pts_seconds: float
    arrived: float = field(default_factory=time.perf_counter)
    skipped: int = 0


def is_device(source: str) -> bool:
    """Whether a source is a camera of this machine: its number, or /dev/video and its number."""
    number = source.removeprefix("/dev/video")
    return number.isascii() and number.isdigit()


def is_address(source: str) -> bool:
    """Whether a source is an address (rtsp://...), not a file."""
    return "://" in source


def without_password(source: str) -> str:
    """The source for display: rtsp://user:password@host without user and password.

    >>> without_password("rtsp://admin:secret@camera/stream")
    'rtsp://camera/stream'
    """
    return re.sub(r"(?<=://)[^/]*@", "", source)


def capture(source: str) -> Generator[Arrival]:
    """Yield the frames of a camera, an address or a file in real time.

    A file, or a recording behind an address, is played at its own speed to its end; other sources continue until they
    fail. If an address sends faster than frames can be decoded, those more than half a second late are skipped.

    Args:
        source: the number of a camera of this machine, an address (rtsp, http, ...), or the path of a file. If an
            address sends pictures without times (Motion JPEG by HTTP), the time of their arrival is used.

    Raises:
        VideoError: for a file for the reasons of `decode`; for other sources if they can't be opened or stop answering.
    """
    if is_device(source):
        return _camera(int(source.removeprefix("/dev/video")))
    return _address(source) if is_address(source) else in_real_time(decode(source))


def in_real_time(frames: Iterable[Frame]) -> Generator[Arrival]:
    """Yield each frame when its time has come, counted from the first one; late ones at once.

    Of a gap in the times, it waits only LONGEST_GAP_SECONDS, or twice the step before the gap if that is longer.
    """
    began, last, step = None, 0.0, 0.0
    for frame in frames:
        seconds = frame.pts_seconds
        if began is None:
            began, last = time.perf_counter() - seconds, seconds
        longest_step = max(LONGEST_GAP_SECONDS, 2 * step)
        began -= max(0.0, seconds - last - longest_step)
        last, step = seconds, min(seconds - last, longest_step)
        time.sleep(max(0.0, began + seconds - time.perf_counter()))
        yield Arrival(frame.pixels, seconds)


def _camera(number: int) -> Generator[Arrival]:
    """The frames of a camera, each with the time at which it came."""
    if number > MOST_CAMERAS:
        raise VideoError(f"camera {number} can't be opened: numbers begin at 0")
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # VideoError tells it in plainer words
    try:
        camera = cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(level)
    try:
        if not camera.isOpened():
            raise VideoError(f"camera {number} can't be opened: check that it is plugged in and not in use")
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what waits in the driver is late already
        began = time.perf_counter()
        while True:
            is_there, pixels = camera.read()
            arrived = time.perf_counter()
            if not is_there:
                raise VideoError(f"camera {number} has stopped sending: check that it is plugged in")
            yield Arrival(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), arrived - began, arrived)
    finally:
        camera.release()


def _address(source: str) -> Generator[Arrival]:
    shown, protocol = without_password(source), source.partition("://")[0].lower()
    if protocol not in PROTOCOLS:
        raise VideoError(f"source {shown} can't be read: use a file, a camera's number, or {', '.join(PROTOCOLS)}")
    with Broadcast(source, shown, SILENCE_SECONDS) as broadcast:
        if broadcast.is_recording:
            yield from in_real_time(broadcast.recording())
            return
        with _Packets(broadcast) as packets:
            yield from _decoded(broadcast, packets)
    raise VideoError(f"source {shown} has stopped sending: check that it is on")


def _decoded(broadcast: Broadcast, packets: "_Packets") -> Iterator[Arrival]:
    """The frames of a broadcast; of late frames only a few, so that no pause gets long."""
    skipped, newest, clock = 0, -math.inf, ArrivalClock()
    for packet, arrived, left_out in packets:
        if left_out:
            broadcast.jump()
        skipped += left_out
        now = time.perf_counter()
        if packet.size and now - arrived > LATE_SECONDS and now - newest < LONGEST_BLIND_SECONDS:
            skipped += broadcast.pass_over(packet)
            continue
        for pixels, seconds in broadcast.frames(packet):
            counted = 0 if packets.is_opening else skipped
            seconds = arrived if seconds is None else clock.time_of(seconds, arrived)
            yield Arrival(pixels, seconds, arrived, counted)
            skipped, newest = 0, time.perf_counter()


class _Packets:
    """The packets of a broadcast, read by its own thread so that none waits unseen in the socket.

    A context manager and an iterator: (packet, when it came, how many before it were left out). If the oldest packet
    has waited for longer than LATE_SECONDS, all packets before the newest waiting key frame are left out.

    Attributes:
        is_opening: True until the reader has waited once; until then, packets are late only because the source was
            opening.
    """

    def __init__(self, broadcast: Broadcast):
        self._broadcast = broadcast
        self._waiting: deque[tuple[Packet, float]] = deque()
        self._changed = threading.Condition()
        self._error: Exception | None = None
        self._is_over, self.is_opening = False, True
        self._opened = time.perf_counter()
        self._burst_lead = math.inf  # of our clock over the source's, by the newest packet of the first burst
        self._thread = threading.Thread(target=self._run, name="rgbflow-packets", daemon=True)

    def __enter__(self) -> "_Packets":
        self._thread.start()
        time.sleep(BURST_SECONDS)  # the burst is whole then, and tells when its pictures came
        return self

    def __exit__(self, *exception: object) -> None:
        self._broadcast.is_closing = True
        self._thread.join()  # the broadcast must not be closed while it reads; at most SILENCE_SECONDS

    def __iter__(self) -> Iterator[tuple[Packet, float, int]]:
        is_first = True
        while True:
            with self._changed:
                if not (self._waiting or is_first) or time.perf_counter() - self._opened > OPENING_SECONDS:
                    self.is_opening = False
                self._changed.wait_for(lambda: self._waiting or self._is_over)
                if not self._waiting:
                    break
                left_out = self._leave_out()
                packet, arrived = self._waiting.popleft()
            is_first = False
            yield packet, self._arrival(packet, arrived), left_out
        if self._error is not None:
            raise self._error

    def _leave_out(self) -> int:
        if time.perf_counter() - self._arrival(*self._waiting[0]) <= LATE_SECONDS:
            return 0
        keys = [place for place, (packet, _) in enumerate(self._waiting) if packet.is_keyframe]
        left_out = keys[-1] if keys else 0
        for _ in range(left_out):
            self._waiting.popleft()
        return left_out

    def _arrival(self, packet: Packet, read: float) -> float:
        """The arrival of a packet; packets of the burst at the opening had arrived before they could be read."""
        seconds = self._broadcast.seconds_of(packet)
        if seconds is None or read - self._opened >= BURST_SECONDS:
            return read
        return max(read - OPENING_SECONDS, min(read, seconds + self._burst_lead))  # a wrong time may say anything

    def _run(self) -> None:
        try:
            for packet in self._broadcast.packets():
                now, seconds = time.perf_counter(), self._broadcast.seconds_of(packet)
                with self._changed:
                    if now - self._opened < BURST_SECONDS and seconds is not None:
                        self._burst_lead = min(self._burst_lead, now - seconds)
                    self._waiting.append((packet, now))
                    self._changed.notify()
        except Exception as error:  # raised where the packets are taken
            self._error = error
        with self._changed:
            self._is_over = True
            self._changed.notify()
