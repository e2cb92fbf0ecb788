"""The video behind a network address, packet by packet."""

import errno
import io
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import av
import numpy as np

from rgbflow.video import webp
from rgbflow.video.integrity import DamageError, header_size, missing_of
from rgbflow.video.reading import (
    CutOffError,
    Frame,
    PacketsAhead,
    VideoError,
    decode,
    is_without_picture,
    timed,
    video_stream,
)
from rgbflow.video.rgb import RgbConverter, time_base_of
from rgbflow.video.times import mended

Packet = av.Packet
# Formats whose pictures bring no times: FFmpeg invents 25 a second. mpjpeg is what network cameras send by HTTP.
UNTIMED_FORMATS = {"mpjpeg", "mjpeg", "h264", "hevc"}
WEBP = "webp_pipe"  # FFmpeg's name; it has an end, whether the address tells its length or not
HEAD_BYTES = 64  # of a file, enough for the size that it promises
PLAYLISTS = {"hls", "dash"}  # formats of which the address gives a list of files, not the video


class Broadcast:
    """The video behind an address (rtsp, http, ...), packet by packet; a context manager.

    Pictures that were damaged on the way are left out.

    Args:
        source: the address, of a protocol that FFmpeg knows.
        shown: the name of the source in messages.
        silence_seconds: the source counts as gone after so long without a picture.

    Attributes:
        is_recording: whether the source has an end, as a file has.
        has_times: whether its pictures carry times.
        is_closing: set this to end `packets` soon.

    Raises:
        VideoError: if the source can't be opened, or breaks off.
    """

    def __init__(self, source: str, shown: str, silence_seconds: float):
        protocol, separator, rest = source.partition("://")
        source = protocol.lower() + separator + rest  # FFmpeg knows protocols in small letters alone
        options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}  # by UDP they come in pieces
        self._source, self._shown, self._silence_seconds, self.is_closing = source, shown, silence_seconds, False
        self._is_cut_short = False  # the newest packet, or the newest picture
        try:
            self._container = av.open(source, options=options, timeout=silence_seconds, metadata_errors="replace")
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"source {shown} can't be opened ({error.strerror}): check that it is on") from error
        with ExitStack() as stack:
            stack.enter_context(self._container)
            self._stream = video_stream(shown, self._container)
            self.close = stack.pop_all().close
        # A live one may say that it is 0 seconds long; a recording made live doesn't know its length, but its bytes.
        has_size = self._container.size > 0 and self._container.format.name not in PLAYLISTS
        self.is_recording = (self._container.duration or 0) > 0 or has_size or self._container.format.name == WEBP
        self.has_times = self.is_recording or self._container.format.name not in UNTIMED_FORMATS
        self._to_rgb, self._time_base = RgbConverter(self._stream), time_base_of(self._stream)

    def __enter__(self) -> "Broadcast":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def packets(self) -> Iterator[av.Packet]:
        """The coded pictures as they come, in any thread; the last one is empty (`size` 0)."""
        newest = time.monotonic()
        with self._as_video_errors():
            for packet in self._container.demux():  # sound too, so that it can't hide that no pictures come
                if packet.stream.index == self._stream.index:
                    yield packet
                    newest = time.monotonic()
                elif time.monotonic() - newest > self._silence_seconds:
                    raise VideoError(f"source {self._shown} sends no pictures: check that it is on")
                if self.is_closing:
                    return

    def recording(self) -> Iterator[Frame]:
        """The frames of a recording with their times, as `decode` gives those of a file; damaged frames are left out.

        Raises:
            VideoError: if there are no frames, or the recording breaks off.
            CutOffError: after all frames, if the server's copy lacks its end, as far as its last packet, an index, or
                the header of a Matroska file tell.
        """
        is_empty, frames = True, self._frames_of_webp if self._container.format.name == WEBP else self._sent_frames
        with self._as_video_errors():
            try:
                for frame in frames():
                    is_empty = False
                    yield frame
            except VideoError as error:
                can_help = is_empty and self._source.startswith("http")
                if not can_help or getattr(error.__cause__, "errno", 0) != errno.EIO:
                    raise
                for frame in self._downloaded_frames():
                    is_empty = False
                    yield frame
        if is_empty and not self.is_closing:
            what = "sends no pictures, or pictures that can't be decoded: check the source, or download it as a file"
            raise VideoError(f"source {self._shown} {what}")
        if not self.is_closing and (lack := self._lack()):
            raise CutOffError(f"source {self._shown} breaks off ({lack}): make the file again")

    def _lack(self) -> str:
        """What the recording lacks at its end; empty where nothing tells of it."""
        size = self._container.size
        promised = header_size(self._head()) if self._container.format.name.startswith("matroska") else 0
        if size > 0 and (missing := missing_of(promised, size, self._stream)):
            return f"its end is missing, {missing:,} bytes or more"
        return "its last picture is cut short" if self._is_cut_short else ""

    def _head(self) -> bytes:
        """The first bytes behind the address, once more; none where the server, or the address, can't be asked so."""
        request = Request(self._source, headers={"Range": f"bytes=0-{HEAD_BYTES - 1}"})
        with suppress(OSError, ValueError), urlopen(request, timeout=self._silence_seconds) as response:
            return response.read(HEAD_BYTES)
        return b""

    def _downloaded_frames(self) -> Iterator[Frame]:
        """The frames of a file with its index at its end (MP4), of a server that sends it only from its start."""
        with TemporaryDirectory(prefix="rgbflow-") as folder:
            path = Path(folder) / "video"
            with urlopen(self._source, timeout=self._silence_seconds) as response, path.open("wb") as file:
                shutil.copyfileobj(response, file)
            try:
                yield from decode(path)
            except VideoError as error:
                raise VideoError(str(error).replace(f"video ({path})", f"source {self._shown}")) from error

    def _sent_frames(self) -> Iterator[Frame]:
        packets = PacketsAhead(self.packets())
        pictures = (picture for packet in packets for picture in self._whole_pictures(packet))
        for picture, seconds in timed(pictures, packets, self._container, self._stream):
            yield Frame(self._to_rgb(picture), seconds)

    def _frames_of_webp(self) -> Iterator[Frame]:
        """FFmpeg gives an animated WebP as one packet and can't decode it; of a still one it can."""
        for packet in self.packets():
            content = bytes(packet)
            if webp.begins_animated(content):
                pictures = webp.pictures(io.BytesIO(content), f"source {self._shown}")
                for picture, seconds in mended(pictures, webp.STEP_SECONDS):
                    yield Frame(np.asarray(picture), seconds)
            else:
                yield from (Frame(self._to_rgb(picture), 0.0) for picture in self._whole_pictures(packet))

    def seconds_of(self, packet: av.Packet) -> float | None:
        """The time at which the picture of a packet is shown, as far as FFmpeg knows."""
        return None if packet.pts is None else float(packet.pts * self._time_base)

    def frames(self, packet: av.Packet) -> Iterator[tuple[np.ndarray, float | None]]:
        """The intact pictures that a packet completes: (H, W, 3) uint8 RGB and the second, or None without a time."""
        with self._as_video_errors():
            for picture in self._whole_pictures(packet):
                pts = picture.pts if self.has_times else None
                if self.has_times and pts is None:
                    continue
                seconds = None if pts is None else float(pts * self._time_base)
                yield self._to_rgb(picture), seconds

    def pass_over(self, packet: av.Packet) -> int:
        """Decode a packet only because later ones need it, which is cheaper; returns the number of pictures in it."""
        with self._as_video_errors():
            return len(self._whole_pictures(packet))

    def jump(self) -> None:
        """Start again at the next packet, a key frame that does not follow the last decoded packet."""
        self._stream.codec_context.flush_buffers()

    def _whole_pictures(self, packet: av.Packet) -> list[av.VideoFrame]:
        if is_without_picture(packet, self._stream):
            return []
        if packet.size:
            self._is_cut_short = packet.is_corrupt
        try:
            pictures = packet.decode()
        except av.InvalidDataError:
            self._is_cut_short = True
            return []
        self._is_cut_short |= any(one.is_corrupt for one in pictures)
        return [one for one in pictures if not one.is_corrupt]

    @contextmanager
    def _as_video_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise VideoError(
                f"source {self._shown} breaks off ({error.strerror or error}): check that it is on"
            ) from error
        except DamageError as error:
            raise VideoError(f"source {self._shown} breaks off ({error}): make the file again") from error
