"""Pictures of clients: JPEG and WebP to frames, checked before they are decoded, and flow to JPEG."""

import io

import cv2
import numpy as np
from PIL import Image

from rgbflow.flow import flow_picture, usual_speed
from rgbflow.serve.limits import Limits
from rgbflow.serve.protocol import BAD_PICTURE, TOO_LARGE, ProtocolError

FORMATS = ("JPEG", "WEBP")
FLOW_QUALITY = 80  # of a JPEG


def decode_picture(data: bytes, limits: Limits) -> np.ndarray:
    """Decode a JPEG or WebP picture.

    Args:
        data: the file.
        limits: limits on its pixels; its header is checked before anything is decoded.

    Returns:
        (H, W, 3) uint8 RGB, upright.

    Raises:
        ProtocolError: if it is too large or too small, of another format, or damaged.
    """
    width, height = _claimed_size(data)
    if width * height > limits.frame_pixels:
        most = f"at most {limits.frame_pixels:,} pixels are taken"
        raise ProtocolError(TOO_LARGE, f"a picture of {width}×{height}: {most}, and 320×240 is enough")
    if min(width, height) < limits.frame_side:
        raise ProtocolError(
            BAD_PICTURE, f"a picture of {width}×{height}: each side must have {limits.frame_side} pixels"
        )
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ProtocolError(BAD_PICTURE, "a damaged picture: send whole JPEG or WebP files")
    return pixels


def _claimed_size(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ProtocolError(TOO_LARGE, "a picture of far too many pixels: 320×240 is enough") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise ProtocolError(BAD_PICTURE, "a picture that is neither JPEG nor WebP: send one of these") from error


class FlowPainter:
    """Flow as colour pictures; their scale follows the motion slowly, so that they do not flicker."""

    def __init__(self) -> None:
        self._full_scale = 1.0

    def paint(self, flow: np.ndarray) -> bytes:
        """A field (2, h, w) float32 in pixels per frame step as a JPEG file of h by w pixels."""
        speed = usual_speed(flow)
        self._full_scale = max(speed, self._full_scale + 0.1 * (speed - self._full_scale))
        picture = flow_picture(flow, self._full_scale)[..., ::-1]
        return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, FLOW_QUALITY])[1].tobytes()
