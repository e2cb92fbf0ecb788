"""A picture as a JPEG file with its own checksum: what a store keeps of it, and so what every network sees of it.

The chroma is kept at full size (4:4:4), since scaling it up is where JPEG decoders differ.
"""

import zlib

import cv2
import numpy as np

_START, _COMMENT = b"\xff\xd8", b"\xff\xfe\x00\x0a"  # of a picture; of a comment of eight letters, the checksum
_HEAD = len(_START) + len(_COMMENT) + 8


def encode(pixels: np.ndarray, quality: int) -> bytes:
    """Code a picture.

    Args:
        pixels: (H, W, 3) uint8 RGB, or (H, W) uint8 gray.
        quality: 1 to 100, as JPEG libraries count it.

    Returns:
        A JPEG file any viewer shows; its comment holds the CRC-32 of what follows it. The same picture gives the
        same bytes.
    """
    full_chroma = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *full_chroma]
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    body = cv2.imencode(".jpg", ordered, options)[1].tobytes()[len(_START) :]
    return _START + _COMMENT + b"%08x" % zlib.crc32(body) + body


def decode(data: bytes) -> np.ndarray:
    """The picture that `encode` coded: of its shape, close to what was given and always the same.

    Raises:
        ValueError: if a bit of it has changed, or it is no JPEG.
    """
    checksum = data[_HEAD - 8 : _HEAD]
    if data[: _HEAD - 8] != _START + _COMMENT or checksum != b"%08x" % zlib.crc32(data[_HEAD:]):
        raise ValueError("the JPEG does not fit its checksum")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError("the JPEG can't be decoded")
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
