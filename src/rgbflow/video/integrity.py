"""Whether a video file is complete, judged by its container; FFmpeg plays on over most holes."""

import math
import os
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

import av

from rgbflow.video.matroska import CLUSTER, SEGMENT, size_at
from rgbflow.video.rgb import time_base_of

EBML = bytes.fromhex("1a45dfa3")
# All elements of a Matroska file at the level of its clusters, and those inside of a cluster (RFC 9559, section 5).
TOP_ELEMENTS = {
    bytes.fromhex(name)
    for name in ("114d9b74", "1549a966", "1654ae6b", "1f43b675", "1c53bb6b", "1941a469", "1043a770", "1254c367")
}
ANYWHERE = {b"\xec", b"\xbf"}  # Void, CRC-32
CLUSTER_ELEMENTS = {bytes.fromhex(name) for name in ("e7", "5854", "a7", "ab", "a3", "a0", "af")}
BLOCKS = {b"\xa3", b"\xa0", b"\xaf"}
JOINED_STEPS = 1.5  # usual steps; where two recordings meet, the times go on within so much, or start anew
OTHER_CLOCK_SECONDS = 10.0
NEAR_PICTURES = 32  # a decoder holds up to 16 back


class DamageError(Exception):
    """The damage of a video, as half a sentence; the caller adds the place."""


def head(path: str | os.PathLike, size: int) -> bytes:
    """The first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(size)


def missing_bytes(path: str | os.PathLike, stream: av.VideoStream) -> int:
    """Number of bytes that a file lacks by its own header (AVI, Matroska) or index (MP4, MOV); 0 where unknown.

    An AVI with a header that promises too much counts as complete if all its parts are there, up to the final index.
    """
    size = os.path.getsize(path)
    promised = header_size(start := head(path, 64))
    if promised > size and start[:4] == b"RIFF" and _has_all_chunks(path):
        promised = 0
    return missing_of(promised, size, stream)


def missing_of(promised: int, size: int, stream: av.VideoStream) -> int:
    """Number of bytes that a video of `size` bytes lacks, whose header promises so many and whose index may, too."""
    entries = stream.index_entries
    if len(entries):
        promised = max(promised, entries[-1].pos + entries[-1].size)
    return max(0, promised - size)


def header_size(start: bytes) -> int:
    """The size in bytes of a complete AVI or Matroska file, by its first bytes; 0 where these don't say.

    >>> header_size(b"RIFF" + (1000).to_bytes(4, "little") + b"AVI ")
    1008
    """
    if start[:4] == b"RIFF":
        size = int.from_bytes(start[4:8], "little")
        return 0 if size == 0xFFFFFFFF else size + 8  # all ones: recorded live, size unknown
    if start[:4] != EBML:
        return 0
    segment = sum(size_at(start, 4))  # after the EBML header comes one element, the segment
    content, size = size_at(start, segment + 4)
    return content + size if size else 0


def _has_all_chunks(path: str | os.PathLike) -> bool:
    """Whether an AVI's chunks follow each other to its end, the index after the pictures among them."""
    size, place, end, has_index = os.path.getsize(path), 12, 12, False
    with open(path, "rb") as file:
        while place + 8 <= size:
            file.seek(place)
            name, length, kind = file.read(4), int.from_bytes(file.read(4), "little"), file.read(4)
            is_opened = name == b"LIST" and kind in (b"movi", b"rec ")  # its chunks come next, whatever its size says
            end = place + (12 if is_opened else 8 + length)
            place = end + (0 if is_opened else length % 2)
            has_index |= name == b"idx1"
    return has_index and end <= size


def has_further_recordings(path: str | os.PathLike) -> bool:
    """Whether an MP4, MOV or FLV file is followed by another one, which no program plays."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(9)
        if start[4:8] == b"ftyp":
            return sum(name == b"moov" for name in _boxes(file, size)) > 1
        return start[:3] == b"FLV" and _has_second_flv(file, int.from_bytes(start[5:9], "big") + 4, size)


def _boxes(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The names of the outer boxes of an MP4."""
    place = 0
    while place + 8 <= size:
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        yield head[4:8]
        if length < 8:  # 0: up to the end
            return
        place += length


def _has_second_flv(file: BinaryIO, place: int, size: int) -> bool:
    while place + 15 <= size:
        file.seek(place)
        tag = file.read(4)
        if tag[:3] == b"FLV":
            return True
        place += 15 + int.from_bytes(tag[1:], "big")
    return False


def damaged_place(path: str | os.PathLike) -> int | None:
    """The byte of a Matroska or WebM file where its elements stop making sense; None if all make sense.

    Inserted or lost bytes shift everything after them: FFmpeg then plays on from the next cluster that it finds. The
    byte returned is the start of the second block before, since the last block may hold the change, and what looks like
    a block may not be one. A file that only lacks its end counts as whole here.
    """
    with open(path, "rb") as file:
        start = file.read(64)
        if start[:4] != EBML:
            return None
        size, segment = os.fstat(file.fileno()).st_size, sum(size_at(start, 4))
        if start[segment : segment + 4] != SEGMENT:
            return None
        content, length = size_at(start, segment + 4)
        end = content + length if length else size
        return _walk(file, content, end) if end <= size else None


def _walk(file: BinaryIO, place: int, end: int) -> int | None:
    """Go over the elements of a segment and its clusters; returns the second block before the first bad one."""
    blocks = deque([place], maxlen=2)
    cluster_end = None  # outside of any cluster; `end` for one of unknown size
    while place < end:
        if place == cluster_end:
            cluster_end = None
        file.seek(place)
        data = file.read(12)
        name = data[: 9 - data[0].bit_length()]
        content, length = size_at(data, len(name))
        is_top = name in TOP_ELEMENTS and (cluster_end is None or cluster_end == end)
        is_inner = name in CLUSTER_ELEMENTS and cluster_end is not None
        if not (is_top or is_inner or name in ANYWHERE):
            return None if _is_padding(file, place, end) or data[:4] == EBML else blocks[0]
        after = place + content + length
        if after > (end if is_top or cluster_end is None else cluster_end):
            return blocks[0]
        if name in BLOCKS:
            blocks.append(place)
        if name == CLUSTER:
            cluster_end, after = after if length else end, place + content
        elif is_top:
            cluster_end = None
        place = after
    return None


def _is_padding(file: BinaryIO, place: int, end: int) -> bool:
    file.seek(place)
    while place < end and (data := file.read(min(1 << 16, end - place))):
        if data.strip(b"\0"):
            return False
        place += len(data)
    return True


def is_joined(path: str | os.PathLike) -> bool:
    """Whether an MPEG-TS with gaps between its packets is several complete recordings joined into one file.

    A joined file has such a gap where the next recording begins: the times continue or start again, and a strict
    decoder finds nothing wrong. If packets are lost, either the times or the decoder show it.
    """
    with av.open(f"file:{path}", metadata_errors="replace", container_options={"protocol_whitelist": "file"}) as opened:
        stream = opened.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}
        stream.codec_context.thread_count = 1
        usual, last, hole, place, number = float(1 / (stream.average_rate or 25)), None, -math.inf, -math.inf, 0
        try:
            for packet in opened.demux(stream):
                place = number if packet.is_corrupt else place
                for picture in packet.decode():
                    seconds, number = float((picture.pts or 0) * time_base_of(stream)), number + 1
                    if last is not None and JOINED_STEPS * usual < seconds - last < OTHER_CLOCK_SECONDS:
                        hole = number
                    if picture.is_corrupt or abs(hole - place) < NEAR_PICTURES:
                        return False
                    last = seconds
        except av.FFmpegError:
            return False
    return True
