"""Video files to frames: decode, count and describe them.

A frame read here equals, to the last bit, the frame that `ffmpeg -i FILE -pix_fmt rgb24` gives (`rgb.py`)."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import av
import numpy as np
from av.stream import Disposition
from msgspec import Meta

from rgbflow.errors import InputError
from rgbflow.limits import FRAMES, PIXELS
from rgbflow.records import check_argument
from rgbflow.video import webp
from rgbflow.video.integrity import (
    DamageError,
    damaged_place,
    has_further_recordings,
    head,
    header_size,
    is_joined,
    missing_bytes,
)
from rgbflow.video.rgb import RgbConverter, orientation_of, time_base_of
from rgbflow.video.times import JUMP_SECONDS, mended, rate_of

Picture = TypeVar("Picture")
SAME_TIME = 1e-6  # seconds; times closer than this differ by rounding only
WantedRate = Annotated[float, Meta(gt=0, le=1e9, description="25 frames per second are usual")]
AHEAD_PACKETS, AHEAD_BYTES = 500, 1 << 26  # of packets that are read, undecoded, to judge a time that jumps
RATE_FRAMES = 10_000  # at most, whose times tell the frame rate
RESTARTING_FORMATS = {"mpegts", "mpeg", "hls"}  # whose clock may start anew at any place: a longest gap of JUMP_SECONDS
LONGEST_GAP_SECONDS = 30 * 3600.0  # in the other formats; both as the ffmpeg program has them


class VideoError(InputError):
    """A video cannot be read or written; the message is one line with the remedy."""


class CutOffError(VideoError):
    """A recording behind an address lacks its end there too: to ask for it again would give the same."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, contiguous, upright (the file's rotation is applied).
        pts_seconds: presentation time from the start of the file; larger from frame to frame.
    """

    pixels: np.ndarray
    pts_seconds: float


@dataclass(frozen=True)
class VideoInfo:
    """The header of a video file, and the size of its first decoded frame.

    Attributes:
        width: pixels, after rotation.
        height: pixels, after rotation.
        frames_per_second: from the times of the frames (`times.rate_of`); from the header if the frames have no times
            or agree with it; 25 if the header has no rate either.
        codec: FFmpeg's name of the codec, such as "h264".
        duration_seconds: from the header, or None.
        header_frames: from the header, or None. It is often wrong; `count_frames` counts.
    """

    width: int
    height: int
    frames_per_second: float
    codec: str
    duration_seconds: float | None
    header_frames: int | None


def decode(
    path: str | os.PathLike, frame_rate: float | None = None, report: Callable[[str], None] = lambda line: None
) -> Iterator[Frame]:
    """Yield the frames of a video one after the other, in constant memory and one thread.

    With a `frame_rate` (per second), they are the frames shown at each multiple of its step, see `resample`.

    The first video stream that is not a cover picture is read. Rotation and mirroring by quarter turns are
    applied; alpha is dropped; non-square pixels stay as stored; a stream that changes its size midway is
    scaled to the size of its first frame. A missing or wrong time is corrected (`times.mended`); if a clock restarts,
    the times continue. If a recording starts between two key frames, the frames that can't be decoded are left out. An
    animated WebP is a video too.

    Args:
        path: the file.
        frame_rate: per second; None gives each frame of the file.
        report: called with a line, without the file's name, for each time that was corrected because others contradict
            it, and for other oddities of a file with all its frames.

    Raises:
        VideoError: if the file is missing, unreadable, no video or has no frames; or, after the frames before
            it (less a few that a decoder may hold back), where the video breaks: a decoder error, a picture
            that the decoder marks as damaged, a packet cut short, a Matroska or WebM file whose elements make no
            sense, or a file shorter than its own header or index says (AVI, Matroska, WebM, WebP, MP4, MOV).
            Where nothing in the file tells its length, a cut exactly between two packets cannot be seen:
            MPEG-TS and -PS, raw streams, FLV, ASF, and AVI, Matroska or fragmented MP4 recorded live; in GIF, Ogg and
            Y4M no cut can be seen. The decoders of Motion JPEG and VP9 hide most damage inside a picture.
        InputError: if there are more pixels in a picture, or more frames, than `limits` allows.
    """
    with _playing(path, report) as (pictures, to_rgb):
        for picture, seconds in _limited(path, resample(pictures, frame_rate)):
            yield Frame(to_rgb(picture), seconds)


def count_frames(path: str | os.PathLike, frame_rate: float | None = None) -> int:
    """Count the frames that `decode` yields, by decoding, never from the header.

    Raises:
        VideoError: for the reasons of `decode`.
    """
    with _playing(path) as (pictures, _):
        return sum(1 for _ in _limited(path, resample(pictures, frame_rate)))


def _limited(path: str | os.PathLike, timed_pictures: Iterable[Picture]) -> Iterator[Picture]:
    """Raise InputError after as many pictures as `limits` allows."""
    most = FRAMES.value
    for count, picture in enumerate(timed_pictures):
        if count == most:
            FRAMES.check(count + 1, f"video ({path})")
        yield picture


@contextmanager
def _playing(
    path: str | os.PathLike, report: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[Iterator[tuple[Any, float]], Callable[[Any], np.ndarray]]]:
    """The pictures of a file, each with its second, and the function that turns one into (H, W, 3) uint8 RGB.

    A picture is an object of PyAV or Pillow, which only this function reads, hence `Any`.
    """
    check_is_file(Path(path))
    if webp.is_animated(path):
        with open(path, "rb") as file:
            pictures = webp.pictures(file, f"video ({path})")
            yield _until_break(path, mended(pictures, webp.STEP_SECONDS, report=report)), np.asarray
        return
    with _open(path) as (container, stream):
        packets = PacketsAhead(container.demux(stream))
        decoded = timed(_pictures(path, packets, container, stream, report), packets, container, stream, report)
        yield _until_break(path, decoded), RgbConverter(stream)


def resample(timed: Iterable[tuple[Picture, float]], frame_rate: float | None) -> Iterator[tuple[Picture, float]]:
    """The pictures shown at the first picture's time and at each step of 1 / frame_rate after it.

    A picture is shown until the next one comes; the last is shown as long as the one before it. So a video with a
    higher rate loses pictures, and one with a lower rate repeats some. A gap of more than `JUMP_SECONDS` and ten times
    the step before it is not filled: the picture before it is shown for that step, and the next comes at its time.

    Args:
        timed: pictures of any kind, each with the second it is shown at, in increasing order.
        frame_rate: pictures per second of the result; None returns the input.

    Raises:
        InputError: if the rate is no number above 0.

    >>> list(resample([("a", 0.0), ("b", 0.04), ("c", 0.08)], 12.5))
    [('a', 0.0), ('c', 0.08)]
    """
    check_argument("frame_rate", frame_rate, WantedRate | None)
    if frame_rate is None:
        yield from timed
        return
    shown, first, last, step = None, 0.0, 0.0, 0.0  # a picture, its time, and the time from the one before it
    given = 0  # pictures of the result so far: the next one is due at first + given / frame_rate
    for picture, seconds in timed:
        if shown is None:
            first = last = seconds
        is_gap = seconds - last > max(JUMP_SECONDS, 10 * step)
        until = last + step if is_gap else seconds
        while shown is not None and (first + given / frame_rate < until - SAME_TIME or (is_gap and not given)):
            yield shown, first + given / frame_rate
            given += 1
        if is_gap:
            given = max(given, math.ceil((seconds - first - SAME_TIME) * frame_rate))
        shown, last, step = picture, seconds, seconds - last
    while shown is not None and (given == 0 or first + given / frame_rate < last + step - SAME_TIME):
        yield shown, first + given / frame_rate
        given += 1


def probe(path: str | os.PathLike) -> VideoInfo:
    """Read the header of a video, its first frame, and the times of its first 10,000 frames.

    Raises:
        VideoError: for the reasons of `decode`, up to the first frame.
    """
    check_is_file(Path(path))
    if webp.is_animated(path):
        return _probe_webp(path)
    with _open(path) as (container, stream):
        pictures = _pictures(path, container.demux(stream), container, stream)
        picture, _ = next(_until_break(path, ((picture, 0.0) for picture in pictures)))
        width, height = picture.width, picture.height
        if orientation_of(picture)[0]:
            width, height = height, width
        return VideoInfo(
            width=width,
            height=height,
            frames_per_second=_rate(path, stream),
            codec=stream.codec_context.codec.canonical_name,
            duration_seconds=_duration_seconds(container, stream),
            header_frames=stream.frames or None,
        )


def _probe_webp(path: str | os.PathLike) -> VideoInfo:
    with open(path, "rb") as file:
        picture, _ = next(_until_break(path, webp.pictures(file, f"video ({path})")))
        starts, duration = webp.times(file)
    rate = rate_of(starts) or 1 / webp.STEP_SECONDS
    return VideoInfo(*picture.size, rate, "webp", duration, len(starts))


def _rate(path: str | os.PathLike, stream: av.VideoStream) -> float:
    """Frames per second from the times of the packets, which need no decoding; from the header if these give none."""
    header_rate, stamps = float(_header_rate(stream)), []
    with _open(path) as (container, again), suppress(av.FFmpegError):
        for packet in islice(container.demux(again), RATE_FRAMES):
            if packet.pts is not None and packet.size and not packet.is_discard:
                stamps.append(float(packet.pts * time_base_of(again)))
    return rate_of(stamps, header_rate, float(time_base_of(stream))) or header_rate


@contextmanager
def _open(path: str | os.PathLike) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a file and choose its video stream; the file is closed at the end of the block."""
    path = Path(path)
    # "file:" keeps FFmpeg from taking a name such as "take:2.mp4" for a protocol; the whitelist keeps
    # playlists away from the network.
    options = {"protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", metadata_errors="replace", container_options=options, options=pixel_limit())
    except av.FFmpegError as error:
        raise VideoError(_why_not_opened(path, error)) from error
    with container:
        yield container, video_stream(path, container)


def check_is_file(path: Path) -> None:
    """Raise an error for a path that cannot be a video, in plainer words than FFmpeg's."""
    try:
        size = path.stat().st_size
    except (FileNotFoundError, ValueError) as error:  # ValueError: a null byte in the name
        raise VideoError(f"video ({path}) does not exist: check the path") from error
    except OSError as error:
        raise VideoError(f"video ({path}) cannot be read ({error.strerror}): check the path") from error
    if path.is_dir():
        raise VideoError(f"video ({path}) is a folder: give a video file")
    if not path.is_file():
        raise VideoError(f"video ({path}) is not a regular file: give a video file")
    if size == 0:
        raise VideoError(f"video ({path}) is empty (0 bytes): copy or record it again")


def _why_not_opened(path: Path, error: av.FFmpegError) -> str:
    """One line for a file that FFmpeg refuses to open."""
    if isinstance(error, PermissionError):
        return f"video ({path}) cannot be read (permission denied): change its permissions"
    if head(path, 8)[4:] == b"ftyp":
        return f"video ({path}) has no index (moov), so it is cut off or unfinished: copy or record it again"
    return f"video ({path}) is not a readable video ({error.strerror}): give a video file or copy it again"


def video_stream(path: str | os.PathLike, container: av.container.InputContainer) -> av.VideoStream:
    """The first stream of moving pictures, set to decode in this thread."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    # FFmpeg plays a text file with certain endings as a film of a terminal ("tty").
    if not streams or container.format.name == "tty":
        raise VideoError(f"video ({path}) has no video stream: give a file with moving pictures")
    stream = streams[0]
    if stream.codec_context is None:
        raise VideoError(f"video ({path}) uses a codec that FFmpeg does not know: convert it to H.264")
    PIXELS.check(stream.codec_context.width * stream.codec_context.height, f"a picture of video ({path})")
    stream.thread_type = "NONE"  # data sets are prepared by one process per core
    stream.codec_context.thread_count = 1
    stream.codec_context.options = pixel_limit()
    return stream


def pixel_limit() -> dict[str, str]:
    """What keeps FFmpeg's decoders from pictures above the limit, whatever the container's header says of them."""
    return {"max_pixels": str(min(PIXELS.value, 2**31 - 1))}


class PacketsAhead:
    """The packets of a stream one after the other, and before they are decoded the times of those to come.

    Args:
        packets: as `demux` gives them.
    """

    def __init__(self, packets: Iterable[av.Packet]):
        self._packets, self._waiting = iter(packets), deque[av.Packet]()
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[av.Packet]:
        while True:
            if self._waiting or self._read():
                yield self._waiting.popleft()
            elif self._error is not None:
                raise self._error
            else:
                return

    def stamps(self) -> Iterator[int]:
        """The times of packets to come, in units of the stream: of `AHEAD_PACKETS` packets or `AHEAD_BYTES` at most."""
        size = 0
        for place in range(AHEAD_PACKETS):
            if size > AHEAD_BYTES or (place == len(self._waiting) and not self._read()):
                return
            packet = self._waiting[place]
            size += packet.size
            if packet.pts is not None and packet.size and not packet.is_discard:
                yield packet.pts

    def _read(self) -> bool:
        """Read one more packet; False at the end, or at an error, which comes after the packets before it."""
        if self._error is not None:
            return False
        try:
            self._waiting.append(next(self._packets))
        except StopIteration:
            return False
        except Exception as error:
            self._error = error
            return False
        return True


def timed(
    pictures: Iterable[av.VideoFrame],
    packets: PacketsAhead,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Decoded pictures of a file or an address, each with its time from the start, as `mended` gives it."""
    start = (container.start_time or 0) / av.time_base
    base = time_base_of(stream)
    stamped = ((p, None if p.pts is None else float(p.pts * base) - start) for p in pictures)
    longest_gap = JUMP_SECONDS if container.format.name in RESTARTING_FORMATS else LONGEST_GAP_SECONDS

    def coming() -> Iterator[float]:
        return (float(stamp * base) - start for stamp in packets.stamps())

    return mended(stamped, float(1 / _header_rate(stream)), longest_gap, report, coming)


def _until_break(
    path: str | os.PathLike, timed_pictures: Iterator[tuple[Picture, float]]
) -> Iterator[tuple[Picture, float]]:
    """Pass on what is decoded; raise VideoError where the video breaks."""
    count, seconds = 0, 0.0
    try:
        for picture, seconds in timed_pictures:
            count += 1
            yield picture, seconds
    except (av.FFmpegError, DamageError) as error:
        place = f"after {count} frames ({seconds:.2f} s)" if count else "before its first frame"
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        if isinstance(error, av.ArgumentError):  # as decoders call a picture above the limit, among others
            reason = f"{reason}, perhaps a picture of more than {PIXELS.value:,} pixels"
        raise VideoError(f"video ({path}) breaks {place}: {reason}: copy or record it again") from error
    if count == 0:
        raise VideoError(f"video ({path}) has a video stream but no frames: copy or record it again")


def _pictures(
    path: str | os.PathLike,
    packets: Iterable[av.Packet],
    container: av.container.InputContainer,
    stream: av.VideoStream,
    report: Callable[[str], None] = lambda line: None,
) -> Iterator[av.VideoFrame]:
    """Decode to the end or to the break.

    At a break, pictures still inside the decoder are dropped, since some before them may be missing.
    """
    damaged, is_known_as_joined = damaged_place(path), False
    for packet in packets:
        is_end = packet.size == 0 and packet.pts is None and packet.dts is None
        if packet.is_corrupt and not is_known_as_joined:
            if container.format.name != "mpegts" or not is_joined(path):
                raise DamageError("a packet is cut short")
            report("is several recordings in one file, all of them complete")
            is_known_as_joined = True
        if damaged is not None and (is_end or (packet.pos or 0) >= damaged):
            raise DamageError(f"from byte {damaged:,} on some of it is missing, too much or changed")
        if is_end and (missing := missing_bytes(path, stream)):
            raise DamageError(f"its end is missing, {missing:,} bytes or more")
        if is_without_picture(packet, stream):
            continue
        for picture in packet.decode():
            if picture.is_corrupt:
                raise DamageError("the decoder reports a damaged picture")
            yield picture
    if has_further_recordings(path):
        report("is several recordings in one file, of which only the first is played")
    promised, size = header_size(head(path, 64)), os.path.getsize(path)
    if promised > size:
        report(f"its header promises {promised - size:,} bytes more than it has, but all its parts are there")


def is_without_picture(packet: av.Packet, stream: av.VideoStream) -> bool:
    """Whether a packet has no picture: an empty one, where the picture stays, or a header of Theora in a joined file.

    A decoder takes an empty packet for the end.
    """
    if not packet.size:
        return packet.pts is not None or packet.dts is not None
    if stream.codec_context.codec.canonical_name != "theora":
        return False
    content = bytes(packet)
    is_comment = content[:7] == b"\x81theora"
    return is_comment or (content[:1] in (b"\x80", b"\x82") and content in (stream.codec_context.extradata or b""))


def _header_rate(stream: av.VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _duration_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * time_base_of(stream))
    return None if container.duration is None else container.duration / av.time_base
