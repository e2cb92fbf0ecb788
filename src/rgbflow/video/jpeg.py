"""A picture as a JPEG file with a checksum: the form in a store, and so the input of every network.

The chroma is kept at full size (4:4:4), since JPEG decoders differ in how they scale it up.
"""

import zlib

import cv2
import numpy as np

_START, _COMMENT = b"\xff\xd8", b"\xff\xfe\x00\x0a"  # of a picture; of a comment of eight letters, the checksum
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
        ValueError: if a bit of it has changed, or it is not a JPEG.
    """
    checksum = data[_HEAD - 8 : _HEAD]
    if data[: _HEAD - 8] != _START + _COMMENT or checksum != b"%08x" % zlib.crc32(data[_HEAD:]):
        raise ValueError("the JPEG does not fit its checksum")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the JPEG can't be decoded")
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
