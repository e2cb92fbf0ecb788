"""Video files: decode them, count them, write them. The only file that imports the decoder (PyAV, FFmpeg).

A frame read here equals, to the last bit, the frame that `ffmpeg -i FILE -pix_fmt rgb24` gives: it goes
through FFmpeg's own scale filter with the same settings (`_rgb_graph`).
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from rgbflow import jpeg
from rgbflow.atomic import replacing
from rgbflow.errors import InputError
from rgbflow.matroska import Matroska, size_at

Picture = TypeVar("Picture")
Packet = av.Packet
SAME_TIME = 1e-6  # seconds; times closer than this differ by rounding only
METADATA_TAG = "RGBFLOW"  # one JSON text holds all metadata, since Matroska upper-cases the names of tags
# Formats whose pictures bring no times: FFmpeg invents 25 a second. mpjpeg is what network cameras send by HTTP.
UNTIMED_FORMATS = {"mpjpeg", "mjpeg", "h264", "hevc"}
PLAYLISTS = {"hls", "dash"}  # formats of which the address gives a list of files, not the video
BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
MATROSKA_MAX_RATE = 500  # Matroska counts in milliseconds: far above this, two frames would get the same time

# FFmpeg's numbers for how colours are coded.
SCALER_MATRICES = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 9})  # matrices that its scaler does not refuse
UNSPECIFIED = 2  # as a matrix, read like BT.601
BT601 = 6


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


# Reading


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
        to_rgb = _RgbConverter(stream)
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
        if _orientation(picture)[0]:
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
    _check_is_file(path)
    # "file:" keeps FFmpeg from taking a name such as "take:2.mp4" for a protocol; the whitelist keeps
    # playlists away from the network.
    options = {"protocol_whitelist": "file"}
    try:
        container = av.open(f"file:{path}", metadata_errors="replace", container_options=options)
    except av.FFmpegError as error:
        raise VideoError(_why_not_opened(path, error)) from error
    with container:
        yield container, _video_stream(path, container)


def _check_is_file(path: Path) -> None:
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


def _video_stream(path: Path, container: av.container.InputContainer) -> av.VideoStream:
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
    count, seconds = 0, -step
    try:
        for picture in _pictures(path, container, stream):
            stored = None if picture.pts is None else float(picture.pts * stream.time_base) - start
            # Packed B-frames in AVI give two frames almost the same time.
            usable = stored is not None and (count == 0 or stored > seconds + step / 10)
            seconds = stored if usable else seconds + step
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
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / av.time_base


class Broadcast:
    """The video behind an address (rtsp, http, ...), packet by packet; a context manager.

    What was damaged on the way is left out; the next pictures are whole again.

    Args:
        source: the address, of a protocol that FFmpeg knows.
        shown: what it is called in messages.
        silence_seconds: without a picture for so long, it counts as gone.

    Attributes:
        is_recording: whether it has an end, as a file has.
        has_times: whether its pictures bring their times.
        is_closing: set it to end `packets` soon.

    Raises:
        VideoError: if it can't be opened, and where it breaks off.
    """

    def __init__(self, source: str, shown: str, silence_seconds: float):
        options = {"rtsp_transport": "tcp"} if source.lower().startswith("rtsp") else {}  # by UDP they come in pieces
        self._shown, self._silence_seconds, self.is_closing = shown, silence_seconds, False
        try:
            self._container = av.open(source, options=options, timeout=silence_seconds, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"source {shown} can't be opened ({error.strerror}): check that it is on") from error
        with ExitStack() as stack:
            stack.enter_context(self._container)
            self._stream = _video_stream(shown, self._container)
            self.close = stack.pop_all().close
        # A live one may say that it is 0 seconds long; a recording made live doesn't know its length, but its bytes.
        has_size = self._container.size > 0 and self._container.format.name not in PLAYLISTS
        self.is_recording = (self._container.duration or 0) > 0 or has_size
        self.has_times = self.is_recording or self._container.format.name not in UNTIMED_FORMATS
        self._to_rgb = _RgbConverter(self._stream)

    def __enter__(self) -> "Broadcast":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def packets(self) -> Iterator[av.Packet]:
        """The coded pictures as they come, in any thread; the last one is empty (`size` 0)."""
        newest = time.monotonic()
        with self._telling():
            for packet in self._container.demux():  # sound too, so that it can't hide that no pictures come
                if packet.stream.index == self._stream.index:
                    yield packet
                    newest = time.monotonic()
                elif time.monotonic() - newest > self._silence_seconds:
                    raise VideoError(f"source {self._shown} sends no pictures: check that it is on")
                if self.is_closing:
                    return

    def seconds_of(self, packet: av.Packet) -> float | None:
        """When the picture of a packet is shown, as far as FFmpeg knows."""
        return None if packet.pts is None else float(packet.pts * self._stream.time_base)

    def frames(self, packet: av.Packet) -> Iterator[tuple[np.ndarray, float | None]]:
        """The whole pictures that a packet completes: (H, W, 3) uint8 RGB and the second, None where they have none."""
        with self._telling():
            for picture in self._whole_pictures(packet):
                seconds = float(picture.pts * self._stream.time_base) if self.has_times else None
                yield self._to_rgb(picture), seconds

    def pass_over(self, packet: av.Packet) -> int:
        """Decode a packet for the sake of those after it, which costs less; returns how many pictures it completes."""
        with self._telling():
            return len(self._whole_pictures(packet))

    def jump(self) -> None:
        """The next packet does not follow the last one that was decoded: it is a key frame."""
        self._stream.codec_context.flush_buffers()

    def _whole_pictures(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            pictures = packet.decode()
        except av.InvalidDataError:
            return []
        return [one for one in pictures if not one.is_corrupt and not (self.has_times and one.pts is None)]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"source {self._shown} breaks off ({error.strerror}): check that it is on") from error


# Pixels


class _RgbConverter:
    """Turns the decoded pictures of one stream into (H, W, 3) uint8 RGB: upright, all of the first one's size."""

    def __init__(self, stream: av.VideoStream):
        self._time_base = stream.time_base
        self._layout = self._graph = None

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        layout = picture.width, picture.height, picture.format.name
        if self._layout is None:
            self._size, self._orientation = (picture.width, picture.height), _orientation(picture)
        if layout != self._layout:
            self._layout, self._graph = layout, _rgb_graph(picture, self._time_base, *self._size)
        return _upright(_rgb(self._graph, picture), self._orientation)


def _rgb_graph(picture: av.VideoFrame, time_base: Fraction, width: int, height: int) -> av.filter.Graph:
    """FFmpeg's scale filter to (height, width) RGB, as the ffmpeg program sets it.

    The filter, unlike the bare scaler, honours the chroma position of 10-bit video and the fields of
    interlaced video.
    """
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=time_base)
    scale = graph.add("scale", f"{width}:{height}:flags=bicubic")
    graph.link_nodes(source, scale, graph.add("format", "rgb24"), graph.add("buffersink")).configure()
    return graph


def _rgb(graph: av.filter.Graph, picture: av.VideoFrame) -> np.ndarray:
    """Convert a picture to (H, W, 3) uint8."""
    # Wrong or rare metadata must not make a video unreadable; the scaler needs only the matrix and the range.
    picture.color_trc = picture.color_primaries = UNSPECIFIED
    if picture.colorspace not in SCALER_MATRICES:
        picture.colorspace = UNSPECIFIED
    graph.vpush(picture)
    return graph.vpull().to_ndarray()


def _orientation(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How to set a picture upright: (swap rows and columns, then mirror left-right, then mirror top-bottom).

    Angles between quarter turns count as the nearest one.
    """
    matrix = picture.side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()  # shown x = a·x + c·y, shown y = b·x + d·y
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _upright(pixels: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    """Apply an `_orientation`; the result is contiguous."""
    swap, mirror, flip = orientation
    if swap:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: -1 if flip else 1, :: -1 if mirror else 1])


# Writing


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], frames_per_second: float, crf: int = 18) -> int:
    """Write an H.264 MP4 (yuv420p, BT.601) that every browser and player shows.

    H.264 in yuv420p needs even sides: an odd one gets one more row or column, a copy of the last. The file
    appears under its name only when complete. The same frames give the same file.

    Args:
        path: the file, replaced where it exists.
        frames: (H, W, 3) uint8 each, all of one shape; a generator is taken one frame at a time.
        frames_per_second: above 0.
        crf: quality from 0 (best) to 51; 18 looks like the original.

    Returns:
        The number of frames written.

    Raises:
        InputError: if the file cannot be written (full disk, no permission) or there are no frames.
        ValueError: if the frames differ in shape or are not (H, W, 3) uint8.
    """
    add_stream = partial(_add_h264, rate=_fraction(frames_per_second), crf=crf)
    with _encoding(path, "mp4", {"movflags": "+faststart"}, add_stream, _yuv420p_picture) as encoder:
        for pixels in frames:
            encoder.write(pixels)
    return encoder.num_frames


class IntraWriter:
    """Write frames that `IntraReader` gives back one by one: Matroska in which every frame is a key frame.

    A context manager. The file appears under its name when the block ends well; after an error there is none.
    The same frames and metadata give the same bytes.

    Args:
        path: the file (.mkv), replaced where it exists.
        frames_per_second: above 0, for players only; above 500 it is written as 500.
        metadata: any keys and texts.
        jpeg_quality: 1 to 100 writes each frame as a JPEG (`rgbflow.jpeg`); None loses nothing (FFV1).

    Raises:
        InputError: if the file cannot be written (full disk, no permission) or gets no frames.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        frames_per_second: float,
        metadata: dict[str, str],
        jpeg_quality: int | None = None,
    ):
        rate = min(_fraction(frames_per_second), Fraction(MATROSKA_MAX_RATE))
        add_stream = partial(_add_intra, rate=rate, metadata=metadata, codec="mjpeg" if jpeg_quality else "ffv1")
        coded = partial(_jpeg_packet, quality=jpeg_quality) if jpeg_quality else _lossless_picture
        self._block = _encoding(path, "matroska", {}, add_stream, coded)

    def __enter__(self) -> "IntraWriter":
        self._encoder = self._block.__enter__()
        return self

    def __exit__(self, *exception: object) -> bool | None:
        return self._block.__exit__(*exception)

    def write(self, pixels: np.ndarray) -> None:
        """Append a frame.

        Args:
            pixels: (H, W) or (H, W, 3) uint8, at least 2×2, of the same shape as the first.

        Raises:
            ValueError: if it has another shape or type.
        """
        self._encoder.write(pixels)


@contextmanager
def _encoding(
    path: str | os.PathLike,
    container_format: str,
    options: dict[str, str],
    add_stream: Callable[[av.container.OutputContainer], av.VideoStream],
    to_picture: Callable[[np.ndarray, VideoReformatter], av.VideoFrame | av.Packet],
) -> Iterator["_Encoder"]:
    """Open a new file with one video stream, complete it and give it its name when the block ends well."""
    options = {"fflags": "+bitexact", **options}
    with (
        replacing(Path(path)) as temporary,
        av.open(f"file:{temporary}", "w", container_format, options=options) as container,
    ):
        encoder = _Encoder(container, add_stream(container), to_picture)
        yield encoder
        if encoder.num_frames == 0:
            raise VideoError(f"file ({path}) would have no frames: give at least one")
        container.mux(encoder.stream.encode(None))


class _Encoder:
    """The video stream of a new file, which takes its size from the first frame.

    `to_picture` makes of a frame a picture for the stream's encoder, or a packet that is coded already.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        stream: av.VideoStream,
        to_picture: Callable[[np.ndarray, VideoReformatter], av.VideoFrame | av.Packet],
    ):
        stream.codec_context.thread_count = 1  # with more, the bytes would depend on the machine
        self.container, self.stream, self.to_picture = container, stream, to_picture
        self.reformatter, self.num_frames, self.shape = VideoReformatter(), 0, None

    def write(self, pixels: np.ndarray) -> None:
        picture, stream = self.to_picture(pixels, self.reformatter), self.stream
        if self.shape is None:
            self._start(pixels, picture)
        if pixels.shape != self.shape:
            raise ValueError(f"frame {self.num_frames} has shape {pixels.shape}, the first has {self.shape}")
        picture.pts, picture.time_base = self.num_frames, 1 / stream.codec_context.framerate
        if isinstance(picture, av.Packet):
            picture.stream, picture.dts, picture.is_keyframe = stream, picture.pts, True
            self.container.mux(picture)
        else:
            self.container.mux(stream.encode(picture))
        self.num_frames += 1

    def _start(self, pixels: np.ndarray, picture: av.VideoFrame | av.Packet) -> None:
        self.shape, stream = pixels.shape, self.stream
        if isinstance(picture, av.Packet):
            stream.height, stream.width = pixels.shape[:2]
            return
        stream.width, stream.height, stream.pix_fmt = picture.width, picture.height, picture.format.name
        if stream.codec_context.name == "ffv1":
            # The least that FFmpeg takes for the size; each slice has its own checksum.
            slices = "1" if picture.width <= 352 and picture.height <= 288 else "4"
            stream.codec_context.options = {**stream.codec_context.options, "slices": slices}


def _add_h264(container: av.container.OutputContainer, rate: Fraction, crf: int) -> av.VideoStream:
    # Without mbtree=0 the bytes differ from run to run on processors with AVX-512.
    options = {"crf": str(crf), "preset": "veryfast", "x264-params": "mbtree=0"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.codec_context.colorspace = BT601
    stream.codec_context.color_range = ColorRange.MPEG
    return stream


def _add_intra(
    container: av.container.OutputContainer, rate: Fraction, metadata: dict[str, str], codec: str
) -> av.VideoStream:
    container.metadata[METADATA_TAG] = json.dumps(metadata, sort_keys=True)
    own = {"level": "3", "slicecrc": "1"} if codec == "ffv1" else {}
    stream = container.add_stream(codec, rate=rate, options={**own, "flags": "+bitexact"})
    if codec == "mjpeg":
        stream.pix_fmt = "yuvj444p"  # only for FFmpeg's encoder, which codes nothing: each JPEG tells its own
    stream.codec_context.gop_size = 1
    stream.codec_context.color_range = ColorRange.JPEG  # so that players do not stretch gray 16...235
    return stream


def _yuv420p_picture(pixels: np.ndarray, reformatter: VideoReformatter) -> av.VideoFrame:
    height, width = pixels.shape[:2]
    even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return reformatter.reformat(
        av.VideoFrame.from_ndarray(even, "rgb24"),
        format="yuv420p",
        dst_colorspace=Colorspace.ITU601,
        dst_color_range=ColorRange.MPEG,
        interpolation=Interpolation.BICUBIC,
        threads=1,
    )


def _lossless_picture(pixels: np.ndarray, reformatter: VideoReformatter) -> av.VideoFrame:
    if pixels.ndim == 2:
        return av.VideoFrame.from_ndarray(pixels, "gray")
    return reformatter.reformat(av.VideoFrame.from_ndarray(pixels, "rgb24"), format="bgr0", threads=1)


def _jpeg_packet(pixels: np.ndarray, _: VideoReformatter, quality: int) -> av.Packet:
    return av.Packet(jpeg.encode(pixels, quality))


def _fraction(frames_per_second: float) -> Fraction:
    if not 1e-4 < frames_per_second < 1e6:
        raise VideoError(f"frames_per_second ({frames_per_second}) must be above 0: give the video's rate")
    return Fraction(frames_per_second).limit_denominator(100_000)  # 30000 / 1001 stays exact


# Reading single frames


class IntraReader:
    """Read any frames of a file made by `IntraWriter`, reading and decoding these only.

    A context manager, for one thread and one process.

    Attributes:
        num_frames: frames in the file.
        metadata: as given to `IntraWriter`.

    Raises:
        VideoError: if the file cannot be read, is incomplete or was not made by `IntraWriter`.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
        _check_is_file(Path(path))
        with ExitStack() as stack:
            try:
                self._file = Matroska(stack.enter_context(open(path, "rb")))
                self.metadata: dict[str, str] = json.loads(self._file.tags[METADATA_TAG])
            except OSError as error:
                raise VideoError(f"video ({path}) cannot be read ({error.strerror}): check the path") from error
            except (KeyError, json.JSONDecodeError) as error:
                raise VideoError(f"video ({path}) was not made by rgbflow: prepare the clip again") from error
            except ValueError as error:
                raise VideoError(f"video ({path}) {error}: prepare the clip again") from error
            self.close = stack.pop_all().close
        self.num_frames = self._file.num_frames
        self._decode = jpeg.decode if self._file.codec == "V_MJPEG" else _lossless_decoder(self._file)

    def __enter__(self) -> "IntraReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Return the frames with these indices, in this order.

        Args:
            indices: N numbers from 0 to num_frames - 1, in any order, with repeats.

        Returns:
            (N, H, W) or (N, H, W, 3) uint8: exactly what was written, or what JPEG leaves of it.

        Raises:
            IndexError: if an index is outside the file.
            VideoError: if a frame is damaged.
        """
        wanted = [int(index) for index in indices]
        for index in wanted:
            if not 0 <= index < self.num_frames:
                raise IndexError(f"frame {index} is outside 0...{self.num_frames - 1}")
        if not wanted:
            return self.read([0])[:0]
        pictures = {index: self._picture(index) for index in sorted(set(wanted))}
        return np.stack([pictures[index] for index in wanted])

    def _picture(self, index: int) -> np.ndarray:
        try:
            return self._decode(self._file.frame(index))
        except (av.FFmpegError, OSError, ValueError) as error:
            where = f"video ({self._path}) is damaged at frame {index}"
            raise VideoError(f"{where}: prepare the clip again") from error


def _lossless_decoder(file: Matroska) -> Callable[[bytes], np.ndarray]:
    """A function from a frame coded by FFV1 to its pixels; it raises ValueError where a bit has changed."""
    context, reformatter = av.CodecContext.create("ffv1", "r"), VideoReformatter()
    context.extradata, context.width, context.height = file.codec_private, file.width, file.height
    context.thread_count = 1

    def decode(data: bytes) -> np.ndarray:
        if not _is_undamaged_slice(data):
            raise ValueError("the frame does not fit its checksum")
        (picture,) = context.decode(av.Packet(data))
        if picture.format.name == "gray":
            return picture.to_ndarray()
        return reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()

    return decode


def _is_undamaged_slice(data: bytes) -> bool:
    """Verify a coded frame's checksum; FFmpeg does it too, but repairs the picture and says nothing.

    The CRC-32 of an FFV1 slice (RFC 9043, 4.9.3) starts at 0, takes the highest bit of a byte first, and is 0
    over the slice with its checksum. zlib takes the lowest bit first and inverts at both ends.
    """
    return zlib.crc32(data.translate(BIT_REVERSED), 0xFFFFFFFF) == 0xFFFFFFFF
