"""Frames to a video file that every browser and player shows."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from numbers import Real
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from rgbflow.atomic import replacing
from rgbflow.video.reading import VideoError

BT601 = 6
LONGEST_H264_SIDE = 16_384  # pixels, of x264


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
    add_stream = partial(_add_h264, rate=as_fraction(frames_per_second), crf=crf)
    with encoding(path, "mp4", {"movflags": "+faststart"}, add_stream, _yuv420p_picture) as encoder:
        for pixels in frames:
            encoder.write(pixels)
    return encoder.num_frames


@contextmanager
def encoding(
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
        self.reformatter, self.num_frames = VideoReformatter(), 0
        self.shape: tuple[int, ...] | None = None  # of the first frame

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
        if stream.codec_context.name == "libx264" and max(picture.width, picture.height) > LONGEST_H264_SIDE:
            size = f"{picture.width}×{picture.height} pixels, and H.264 has at most {LONGEST_H264_SIDE:,} a side"
            raise VideoError(f"frames have {size}: scale them down")
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


def as_fraction(frames_per_second: float) -> Fraction:
    if not isinstance(frames_per_second, Real) or not 1e-4 < frames_per_second < 1e6:
        raise VideoError(f"frames_per_second ({frames_per_second}) must be above 0: give the video's rate")
    return Fraction(frames_per_second).limit_denominator(100_000)  # 30000 / 1001 stays exact
