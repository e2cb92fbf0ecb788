"""The store's own format: a video in which any frame can be read without the frames before it."""

import json
import os
import zlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter

from rgbflow.errors import InputError
from rgbflow.limits import PIXELS
from rgbflow.records import convert, parse_json
from rgbflow.video import jpeg
from rgbflow.video.matroska import Matroska
from rgbflow.video.reading import VideoError, check_is_file
from rgbflow.video.writing import as_fraction, encoding

METADATA_TAG = "RGBFLOW"  # one JSON text holds all metadata, since Matroska upper-cases the names of tags
BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
MATROSKA_MAX_RATE = 500  # Matroska counts in milliseconds: far above this, two frames would get the same time


class IntraWriter:
    """Write frames that `IntraReader` gives back one by one: Matroska in which every frame is a key frame.

    A context manager. The file appears under its name when the block ends without error; otherwise there is no file.
    The same frames and metadata give the same bytes.

    Args:
        path: the file (.mkv), replaced where it exists.
        frames_per_second: above 0, only for players; values above 500 are written as 500.
        metadata: any keys and texts.
        jpeg_quality: 1 to 100 writes each frame as a JPEG (`jpeg.py`); None is lossless (FFV1).

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
        rate = min(as_fraction(frames_per_second), Fraction(MATROSKA_MAX_RATE))
        add_stream = partial(_add_intra, rate=rate, metadata=metadata, codec="mjpeg" if jpeg_quality else "ffv1")
        coded = partial(_jpeg_packet, quality=jpeg_quality) if jpeg_quality else _lossless_picture
        self._block = encoding(path, "matroska", {}, add_stream, coded)

    def __enter__(self) -> "IntraWriter":
        self._encoder = self._block.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._block.__exit__(kind, error, trace)

    def write(self, pixels: np.ndarray) -> None:
        """Append a frame.

        Args:
            pixels: (H, W) or (H, W, 3) uint8, at least 2×2, of the same shape as the first.

        Raises:
            ValueError: if it has another shape or type.
        """
        self._encoder.write(pixels)


def _add_intra(
    container: av.container.OutputContainer, rate: Fraction, metadata: dict[str, str], codec: Literal["ffv1", "mjpeg"]
) -> av.VideoStream:
    container.metadata[METADATA_TAG] = json.dumps(metadata, sort_keys=True)
    own = {"level": "3", "slicecrc": "1"} if codec == "ffv1" else {}
    stream = container.add_stream(codec, rate=rate, options={**own, "flags": "+bitexact"})
    if codec == "mjpeg":
        stream.pix_fmt = "yuvj444p"  # only for FFmpeg's encoder, which codes nothing: each JPEG tells its own
    stream.codec_context.gop_size = 1
    stream.codec_context.color_range = ColorRange.JPEG  # so that players do not stretch gray 16...235
    return stream


def _lossless_picture(pixels: np.ndarray, reformatter: VideoReformatter) -> av.VideoFrame:
    if pixels.ndim == 2:
        return av.VideoFrame.from_ndarray(pixels, "gray")
    return reformatter.reformat(av.VideoFrame.from_ndarray(pixels, "rgb24"), format="bgr0", threads=1)


def _jpeg_packet(pixels: np.ndarray, _: VideoReformatter, quality: int) -> av.Packet:
    return av.Packet(jpeg.encode(pixels, quality))


class IntraReader:
    """Reads any frames of a file made by `IntraWriter`, without reading or decoding others.

    A context manager, for one thread and one process.

    Attributes:
        num_frames: frames in the file.
        metadata: as given to `IntraWriter`.

    Raises:
        VideoError: if the file cannot be read, is incomplete or was not made by `IntraWriter`.
        InputError: if its pictures have more pixels than `limits` allows.
    """

    def __init__(self, path: str | os.PathLike):
        self._path = path
        check_is_file(Path(path))
        with ExitStack() as stack:
            try:
                self._file = Matroska(stack.enter_context(open(path, "rb")))
                self.metadata = _metadata(self._file)
            except OSError as error:
                raise VideoError(f"video ({path}) cannot be read ({error.strerror}): check the path") from error
            except (ValueError, IndexError) as error:  # IndexError: of a head that breaks off within an element
                raise VideoError(f"video ({path}) {error}: prepare the clip again") from error
            PIXELS.check(self._file.width * self._file.height, f"a picture of video ({path})")
            self.close = stack.pop_all().close
        self.num_frames = self._file.num_frames
        self._decode = jpeg.decode if self._file.codec == "V_MJPEG" else _lossless_decoder(self._file)

    def __enter__(self) -> "IntraReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the frames with these indices, in this order.

        Args:
            indices: N numbers from 0 to num_frames - 1, in any order, with repeats.

        Returns:
            (N, H, W) or (N, H, W, 3) uint8: exactly as written, or with the loss of JPEG.

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
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            where = f"video ({self._path}) is damaged at frame {index}"
            raise VideoError(f"{where}: prepare the clip again") from error


def _metadata(file: Matroska) -> dict[str, str]:
    """Raise ValueError where they are not those of an `IntraWriter`."""
    try:
        return convert(parse_json(file.tags[METADATA_TAG]), dict[str, str])
    except (KeyError, InputError) as error:
        raise ValueError("was not made by rgbflow") from error


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
