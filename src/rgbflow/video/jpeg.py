"""A picture as a JPEG file with a checksum: the form in a store, and so the input of every network.

The chroma is kept at full size (4:4:4), since JPEG decoders differ in how they scale it up.
"""

import zlib

import cv2
import numpy as np

from rgbflow.limits import PIXELS

_START, _COMMENT = b"\xff\xd8", b"\xff\xfe\x00\x0a"  # of a picture; of a comment of eight letters, the checksum
# Markers (ITU T.81, B.1.1.3): of frames, which tell the size; and those without a length.
_SIZES, _ALONE = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}, {0x01, *range(0xD0, 0xDA)}
_HEAD = len(_START) + len(_COMMENT) + 8


def encode(pixels: np.ndarray, quality: int) -> bytes:
    """Encode a picture.

    Args:
        pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 gray.
        quality: 1 to 100, as JPEG libraries count it.

    Returns:
        A JPEG file that any viewer shows; its comment holds the CRC-32 of the rest. The same picture gives the same
        bytes.
    """
    full_chroma = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *full_chroma]
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    body = cv2.imencode(".jpg", ordered, options)[1].tobytes()[len(_START) :]
    return _START + _COMMENT + b"%08x" % zlib.crc32(body) + body


def decode(data: bytes) -> np.ndarray:
    """Decode a picture from `encode`: the same shape, nearly the same values, and always the same result.

    Raises:
        ValueError: if a bit of it has changed, if it is not a JPEG, or if it has more pixels than `limits` allows.
    """
    checksum = data[_HEAD - 8 : _HEAD]
    if data[: _HEAD - 8] != _START + _COMMENT or checksum != b"%08x" % zlib.crc32(data[_HEAD:]):
        raise ValueError("the JPEG does not fit its checksum")
    height, width = size(data)
    PIXELS.check(width * height, "a picture")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError("the JPEG can't be decoded") from error
    if pixels is None:
        raise ValueError("the JPEG can't be decoded")
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def size(data: bytes) -> tuple[int, int]:
    """(H, W) of a JPEG file by its header, without decoding; a picture that claims more than it has costs nothing here.

    Raises:
        ValueError: if it is not a JPEG, or breaks off before its size.

    >>> size(encode(np.zeros((48, 64), np.uint8), 90))
    (48, 64)
    """
    if not data.startswith(_START):
        raise ValueError("it is not a JPEG")
    place = len(_START)
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fills up
            place += 1
        elif marker in _SIZES:
            return int.from_bytes(data[place + 5 : place + 7], "big"), int.from_bytes(
                data[place + 7 : place + 9], "big"
            )
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    raise ValueError("the JPEG breaks off before its size")
