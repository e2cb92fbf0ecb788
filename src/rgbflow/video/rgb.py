"""Decoded pictures to upright RGB arrays, to the last bit as the ffmpeg program makes them."""

from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

# FFmpeg's numbers for how colours are coded.
SCALER_MATRICES = frozenset({0, 1, 2, 3, 4, 5, 6, 7, 9})  # matrices that its scaler does not refuse
UNSPECIFIED = 2  # as a matrix, read like BT.601


class RgbConverter:
    """Turns the decoded pictures of one stream into (H, W, 3) uint8 RGB: upright, all of the size of the first."""

    def __init__(self, stream: av.VideoStream):
        self._time_base = time_base_of(stream)
        self._layout: tuple[int, int, str] | None = None
        self._graph: av.filter.Graph | None = None

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        layout = picture.width, picture.height, picture.format.name
        if self._layout is None:
            self._size, self._orientation = (picture.width, picture.height), orientation_of(picture)
        if self._graph is None or layout != self._layout:
            self._layout, self._graph = layout, _rgb_graph(picture, self._time_base, *self._size)
        return _upright(_rgb(self._graph, picture), self._orientation)


def time_base_of(stream: av.VideoStream) -> Fraction:
    """Seconds that one unit of the time stamps lasts."""
    return cast(Fraction, stream.time_base)  # None only in a stream that is written: FFmpeg gives each it opens one


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


def orientation_of(picture: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How to set a picture upright: (swap rows and columns, then mirror left-right, then mirror top-bottom).

    Angles between quarter turns count as the nearest one.
    """
    # The stubs of a frame's side data know a part of its kinds.
    matrix = picture.side_data.get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()  # shown x = a·x + c·y, shown y = b·x + d·y
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _upright(pixels: np.ndarray, orientation: tuple[bool, bool, bool]) -> np.ndarray:
    """Apply an `orientation_of`; the result is contiguous."""
    swap, mirror, flip = orientation
    if swap:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels[:: -1 if flip else 1, :: -1 if mirror else 1])
