"""Video files to frames: decode them, count them, say what they are.

A frame read here equals, to the last bit, the frame that `ffmpeg -i FILE -pix_fmt rgb24` gives (`rgb.py`)."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.stream import Disposition

from rgbflow.errors import InputError
from rgbflow.video.matroska import size_at
from rgbflow.video.rgb import RgbConverter, orientation_of, time_base_of

Picture = TypeVar("Picture")
SAME_TIME = 1e-6  # seconds; times closer than this differ by rounding only


class VideoError(InputError):
    """A video cannot be read or written; the message is one line with the remedy."""


class _DamageError(Exception):
    """What is wrong with a video at the place reached; `_timed_pictures` adds the place."""


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
    """What a file says about its video, and the size of its first decoded frame.

    Attributes:
        width: pixels, after rotation.
        height: pixels, after rotation.
        frames_per_second: mean rate by the header; 25 where it has none.
        codec: FFmpeg's name of the codec, such as "h264".
        duration_seconds: by the header, or None.
        header_frames: by the header, or None. Often wrong: `count_frames` counts.
    """

    width: int
    height: int
    frames_per_second: float
    codec: str
    duration_seconds: float | None
    header_frames: int | None


def decode(path: str | os.PathLike, frame_rate: float | None = None) -> Iterator[Frame]:
    """Yield the frames of a video one after the other, in constant memory and one thread.

    With a `frame_rate` (per second) they are what is shown at each multiple of its step, as `resample` says.

    The first video stream that is not a cover picture is read. Rotation and mirroring by quarter turns are
    applied; alpha is dropped; non-square pixels stay as stored; a stream that changes its size midway is
    scaled to the size of its first frame. A missing or backward time becomes the time before it plus one
    frame step. Where a recording starts between two key frames, the frames that no decoder can show are left
    out.

    Raises:
        VideoError: if the file is missing, unreadable, no video or has no frames; or, after the frames before
            it (less a few that a decoder may hold back), where the video breaks: a decoder error, a picture
            that the decoder marks as damaged, a packet cut short, or a file shorter than its own header or
            index says (AVI, Matroska, WebM, MP4, MOV).
            Where nothing in the file tells its length, a cut exactly between two packets cannot be seen:
            MPEG-TS and -PS, raw streams, FLV, ASF, and AVI, Matroska or fragmented MP4 recorded live; in GIF,
            Ogg and Y4M no cut can. The decoders of Motion JPEG and VP9 hide most damage inside a picture.
    """
    with _open(path) as (container, stream):
        to_rgb = RgbConverter(stream)
        for picture, seconds in resample(_timed_pictures(path, container, stream), frame_rate):
            yield Frame(to_rgb(picture), seconds)


def count_frames(path: str | os.PathLike, frame_rate: float | None = None) -> int:
    """Count the frames that `decode` yields, by decoding, never from the header.

    Raises:
        VideoError: as `decode`.
    """
    with _open(path) as (container, stream):
        return sum(1 for _ in resample(_timed_pictures(path, container, stream), frame_rate))


def resample(timed: Iterable[tuple[Picture, float]], frame_rate: float | None) -> Iterator[tuple[Picture, float]]:
    """What is shown at the first picture's time and at each step of 1 / frame_rate after it.

    A picture is shown until the next one comes, the last as long as the one before it. So a video with a higher rate
    loses pictures and one with a lower rate repeats some.

    Args:
        timed: pictures of any kind, each with the second it is shown at; the seconds grow.
        frame_rate: pictures per second of the result; None gives back what came.

    >>> list(resample([("a", 0.0), ("b", 0.04), ("c", 0.08)], 12.5))
    [('a', 0.0), ('c', 0.08)]
    """
    if frame_rate is None:
        yield from timed
        return
    shown, first, last, step, given = None, 0.0, 0.0, 0.0, 0
    for picture, seconds in timed:
        if shown is None:
            first = last = seconds
        while shown is not None and first + given / frame_rate < seconds - SAME_TIME:
            yield shown, first + given / frame_rate
            given += 1
        shown, last, step = picture, seconds, seconds - last
    while shown is not None and (given == 0 or first + given / frame_rate < last + step - SAME_TIME):
        yield shown, first + given / frame_rate
        given += 1


def probe(path: str | os.PathLike) -> VideoInfo:
    """Read the header and the first frame of a video.

    Raises:
        VideoError: as `decode`, for what the first frame shows.
    """
    with _open(path) as (container, stream):
        picture, _ = next(_timed_pictures(path, container, stream))
        width, height = picture.width, picture.height
        if orientation_of(picture)[0]:
            width, height = height, width
        return VideoInfo(
            width=width,
            height=height,
            frames_per_second=float(_rate(stream)),
            codec=stream.codec_context.codec.canonical_name,
            duration_seconds=_duration_seconds(container, stream),
            header_frames=stream.frames or None,
        )


@contextmanager
def _open(path: str | os.PathLike) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a file and choose its video stream; the file is closed at the end of the block."""
    path = Path(path)
    check_is_file(path)
    # "file:" keeps FFmpeg from taking a name such as "take:2.mp4" for a protocol; the whitelist keeps
    # playlists away from the network.
    options = {"protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", metadata_errors="replace", container_options=options)
    except av.FFmpegError as error:
        raise VideoError(_why_not_opened(path, error)) from error
    with container:
        yield container, video_stream(path, container)


def check_is_file(path: Path) -> None:
    """Raise where a path cannot be a video, in plainer words than FFmpeg's."""
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
    if _head(path, 8)[4:] == b"ftyp":
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
    stream.thread_type = "NONE"  # data sets are prepared by one process per core
    stream.codec_context.thread_count = 1
    return stream


def _timed_pictures(
    path: str | os.PathLike, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield decoded pictures with strictly increasing seconds; raise VideoError where the video breaks."""
    start, step = (container.start_time or 0) / av.time_base, float(1 / _rate(stream))
    time_base, count, seconds = time_base_of(stream), 0, -step
    try:
        for picture in _pictures(path, container, stream):
            stored = None if picture.pts is None else float(picture.pts * time_base) - start
            # Packed B-frames in AVI give two frames almost the same time.
            if stored is None or (count > 0 and stored <= seconds + step / 10):
                stored = seconds + step
            seconds = stored
            count += 1
            yield picture, seconds
    except (av.FFmpegError, _DamageError) as error:
        place = f"after {count} frames ({seconds:.2f} s)" if count else "before its first frame"
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        raise VideoError(f"video ({path}) breaks {place}: {reason}: copy or record it again") from error
    if count == 0:
        raise VideoError(f"video ({path}) has a video stream but no frames: copy or record it again")


def _pictures(
    path: str | os.PathLike, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """Decode to the end or to the break.

    At a break, pictures that the decoder holds back stay there, since some before them may be missing.
    """
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise _DamageError("a packet is cut short")
        is_end = packet.size == 0
        if is_end and (missing := _missing_bytes(path, stream)):
            raise _DamageError(f"its end is missing, {missing:,} bytes or more")
        for picture in packet.decode():
            if picture.is_corrupt:
                raise _DamageError("the decoder reports a damaged picture")
            yield picture


def _missing_bytes(path: str | os.PathLike, stream: av.VideoStream) -> int:
    """How many bytes a file lacks by its own header (AVI, Matroska) or index (MP4, MOV); 0 where unknown."""
    promised, entries = _header_size(_head(path, 64)), stream.index_entries
    if len(entries):
        promised = max(promised, entries[-1].pos + entries[-1].size)
    return max(0, promised - os.path.getsize(path))


def _header_size(head: bytes) -> int:
    """The size in bytes of a whole AVI or Matroska file, by its first bytes; 0 where they do not tell.

    >>> _header_size(b"RIFF" + (1000).to_bytes(4, "little") + b"AVI ")
    1008
    """
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return 0 if size == 0xFFFFFFFF else size + 8  # all ones: recorded live, size unknown
    if head[:4] != b"\x1a\x45\xdf\xa3":
        return 0
    segment = sum(size_at(head, 4))  # after the EBML header comes one element, the segment
    content, size = size_at(head, segment + 4)
    return content + size if size else 0


def _head(path: str | os.PathLike, size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(size)


def _rate(stream: av.VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def _duration_seconds(container: av.container.InputContainer, stream: av.VideoStream) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * time_base_of(stream))
    return None if container.duration is None else container.duration / av.time_base
