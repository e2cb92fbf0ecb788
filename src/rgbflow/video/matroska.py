"""The frames of a Matroska file (RFC 9559), found by its index.

FFmpeg takes as long to open a file as to decode a frame. This module reads files of
`video.IntraWriter`: one track, and after the last frame an index with an entry for each frame.
"""

import os
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

HEAD = 16384  # bytes that hold all that stands before the first frame

# The names of elements; MASTERS are those made of elements, as far as they are looked into.
SEGMENT, CLUSTER, SIMPLE_BLOCK, INDEX = (bytes.fromhex(name) for name in ("18538067", "1f43b675", "a3", "1c53bb6b"))
SEEK_NAME, SEEK_PLACE, TAG_NAME, TAG_TEXT = (bytes.fromhex(name) for name in ("53ab", "53ac", "45a3", "4487"))
CODEC, CODEC_PRIVATE, WIDTH, HEIGHT = (bytes.fromhex(name) for name in ("86", "63a2", "b0", "ba"))
CLUSTER_PLACE, BLOCK_PLACE = b"\xf1", b"\xf0"
MASTERS = {  # SeekHead, Seek; Tracks, TrackEntry, Video; Tags, Tag, SimpleTag; CueTrackPositions
    bytes.fromhex(name) for name in ("114d9b74", "4dbb", "1654ae6b", "ae", "e0", "1254c367", "7373", "67c8", "b7")
}
INDEX_ENTRY = 0xBB
CRC_SIZE = 6  # bytes of the element that begins the index: two, and the CRC-32 of the rest, little-endian
BLOCK_HEAD = 4  # bytes of a block before its frame: track, time, flags


class Matroska:
    """The coded frames of a file, for one thread and one process.

    Args:
        file: open for reading; the caller closes it.

    Attributes:
        codec: such as "V_MJPEG".
        codec_private: data that the decoder needs before the first frame.
        width: pixels.
        height: pixels.
        tags: texts by name.
        num_frames: number of frames in the index.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is cut off, damaged before its first frame or in its index, or of another format.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        try:
            self._read_head()
        except (IndexError, KeyError, OverflowError, StopIteration, UnicodeDecodeError) as error:
            raise ValueError("is damaged, or was not made by rgbflow") from error

    def frame(self, index: int) -> bytes:
        """The coded frame with this index, 0 to num_frames - 1.

        Raises:
            OSError: if it cannot be read.
            ValueError: if there is no frame where the index says. Only the decoder can find damage inside a frame.
        """
        entry = dict(_leaves(self._index, *self._entries[index]))
        if not entry.keys() >= {CLUSTER_PLACE, BLOCK_PLACE}:
            raise ValueError("has a damaged index")
        cluster, _ = self._content(self._segment + _number(entry[CLUSTER_PLACE]), CLUSTER)
        content, size = self._content(cluster + _number(entry[BLOCK_PLACE]), SIMPLE_BLOCK)
        if not BLOCK_HEAD < size <= self._end - content:
            raise ValueError("has a damaged frame")
        self._file.seek(content + BLOCK_HEAD)
        return self._file.read(size - BLOCK_HEAD)

    def _read_head(self) -> None:
        """Read the part before the first frame, and the index."""
        head = self._file.read(HEAD)
        self._end = self._file.seek(0, os.SEEK_END)
        self._segment, size = self._content(sum(size_at(head, 4)), SEGMENT)  # after the header of EBML
        if missing := max(0, self._segment + size - self._end):
            raise ValueError(f"lacks its last {missing:,} bytes")
        leaves = list(_leaves(head, self._segment, len(head)))
        self._keep_head(leaves)
        places = [place for (name, name_of), (_, place) in pairwise(leaves) if name == SEEK_NAME and name_of == INDEX]
        if not places:
            raise ValueError("has no index")
        content, size = self._content(self._segment + _number(places[0]), INDEX)
        if not CRC_SIZE < size <= self._end - content:
            raise ValueError("has a damaged index")
        self._file.seek(content)
        self._index = self._file.read(size)
        if zlib.crc32(self._index[CRC_SIZE:]) != int.from_bytes(self._index[2:CRC_SIZE], "little"):
            raise ValueError("has a damaged index")
        self._entries = _entries(self._index)
        self.num_frames = len(self._entries)

    def _keep_head(self, leaves: list[tuple[bytes, bytes]]) -> None:
        values = dict(leaves)
        if not values.keys() >= {CODEC, WIDTH, HEIGHT}:
            raise ValueError("has a damaged head")
        self.codec, self.codec_private = values[CODEC].decode(), values.get(CODEC_PRIVATE, b"")
        self.width, self.height = _number(values[WIDTH]), _number(values[HEIGHT])
        named = [(name, name_of, content) for (name, name_of), (_, content) in pairwise(leaves)]
        self.tags = {name_of.decode(): text.decode() for name, name_of, text in named if name == TAG_NAME}

    def _content(self, start: int, name: bytes) -> tuple[int, int]:
        """Start and size of the content of the element at `start`, which must have this name."""
        self._file.seek(min(start, self._end))  # a place beyond what a file may have is no place
        data = self._file.read(len(name) + 8)
        if not data.startswith(name):
            raise ValueError(f"has unexpected content at byte {start:,}, or was not made by rgbflow")
        content, size = size_at(data, len(name))
        return start + content, size


def size_at(data: bytes, start: int) -> tuple[int, int]:
    """Start and size of the content of an element with its size field at `start` (size 0 if unknown).

    The number of leading zero bits gives the length of the size field; all ones mean unknown.

    >>> size_at(bytes([0x40, 0x7F]), 0)
    (2, 127)
    """
    if start >= len(data) or not data[start]:
        return start, 0
    if 0x80 <= data[start] < 0xFF:  # mostly
        return start + 1, data[start] - 0x80
    length = 9 - data[start].bit_length()
    mask = (1 << 7 * length) - 1
    size = int.from_bytes(data[start : start + length], "big") & mask
    return start + length, 0 if size == mask else size


def _leaves(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """The elements without children between two bytes, up to the first cluster: (name, content)."""
    while start < end:
        after_name = start + 9 - data[start].bit_length()
        name = data[start:after_name]
        if name == CLUSTER:
            return
        content, size = size_at(data, after_name)
        if name in MASTERS:  # its own elements come next
            start = content
        else:
            start = content + size
            yield name, data[content:start]


def _entries(index: bytes) -> list[tuple[int, int]]:
    """Start and end of the content of each entry of the index."""
    entries, start = [], CRC_SIZE
    while start < len(index):
        # An entry has fewer than 127 bytes: its size is one byte.
        end = start + 2 + index[start + 1] - 0x80 if start + 1 < len(index) else start
        if index[start] != INDEX_ENTRY or not start + 2 < end <= len(index):
            raise ValueError("has a damaged index")
        entries.append((start + 2, end))
        start = end
    return entries


def _number(content: bytes) -> int:
    return int.from_bytes(content, "big")
