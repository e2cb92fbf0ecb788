"""Videos whose motion is known; no video is kept in git."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


def _texture(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(H, W, 3) float32, 0 to 255: blobs of a few pixels, so that interpolated motion stays true."""
    noise = cv2.GaussianBlur(rng.random((height, width, 3), dtype=np.float32), (0, 0), 2)
    return cv2.normalize(noise, None, 20, 235, cv2.NORM_MINMAX)


def _moving_square(
    dx: float, dy: float, frames: int = 12, size: tuple[int, int] = (160, 120), seed: int = 0
) -> np.ndarray:
    """A textured square that moves before a textured background that stands still.

    Args:
        dx: motion to the right, pixels per frame step; may be fractional.
        dy: motion down.
        frames: number of frames T.
        size: (W, H). The square's side is half the shorter one; halfway through, its centre is the picture's.
        seed: of both textures.

    Returns:
        (T, H, W, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    side = min(size) // 2
    background, square = _texture(rng, width, height), _texture(rng, side, side)
    pictures = []
    for step in np.arange(frames) - (frames - 1) / 2:
        place = np.float32([[1, 0, (width - side) / 2 + step * dx], [0, 1, (height - side) / 2 + step * dy]])
        moved = cv2.warpAffine(square, place, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.warpAffine(np.ones((side, side, 1), np.float32), place, size)[..., None]
        pictures.append(share * moved + (1 - share) * background)
    return np.clip(np.round(pictures), 0, 255).astype(np.uint8)


@pytest.fixture
def moving_square() -> Callable[..., np.ndarray]:
    """The function `_moving_square`: (dx, dy, frames, size, seed) to (T, H, W, 3) uint8."""
    return _moving_square


@pytest.fixture
def square_video(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a moving square to tmp_path (H.264, 25 frames a second); it returns the path."""
    from rgbflow.video import write_video

    def write(dx: float, dy: float, frames: int = 12, size=(160, 120), name: str = "square.mp4") -> Path:
        write_video(tmp_path / name, _moving_square(dx, dy, frames, size), 25)
        return tmp_path / name

    return write
