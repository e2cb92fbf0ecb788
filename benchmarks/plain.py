"""What people do today, written as plainly as they do it: OpenCV, a JPEG for each frame and direction of flow.

Frames at 256 pixels, flow by TV-L1 or Farneback, clipped to ±20 pixels per frame step and stored in 8 bits, quality 95;
a training example is read from these files, cropped, scaled, mirrored and normalised with NumPy.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

SHORT_SIDE, BOUND, QUALITY = 256, 20, 95
CROP_SCALES = (1.0, 0.875, 0.75, 0.66)
FlowMethod = Callable[[np.ndarray, np.ndarray], np.ndarray]


def tvl1() -> FlowMethod:
    method = cv2.optflow.DualTVL1OpticalFlow_create()
    return lambda one, other: method.calc(one, other, None)


def farneback() -> FlowMethod:
    return lambda one, other: cv2.calcOpticalFlowFarneback(one, other, None, 0.5, 3, 15, 3, 5, 1.2, 0)


def extract(video: Path, folder: Path, method: FlowMethod, most: int) -> int:
    """Write img_00001.jpg, x_00001.jpg, y_00001.jpg, ... of the first `most` frames; how many there were."""
    folder.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    capture, previous, count = cv2.VideoCapture(str(video)), None, 0
    while count < most:
        found, frame = capture.read()
        if not found:
            break
        scale = SHORT_SIDE / min(frame.shape[:2])
        frame = cv2.resize(frame, None, fx=scale, fy=scale)
        gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        count += 1
        cv2.imwrite(str(folder / f"img_{count:05d}.jpg"), frame, quality)
        if previous is not None:
            flow = np.clip(method(previous, gray), -BOUND, BOUND)
            flow = np.round((flow + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)
            cv2.imwrite(str(folder / f"x_{count - 1:05d}.jpg"), flow[..., 0], quality)
            cv2.imwrite(str(folder / f"y_{count - 1:05d}.jpg"), flow[..., 1], quality)
        previous = gray
    capture.release()
    return count


def read_flow(folder: Path, start: int, length: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """An example of flow: (2 * length, size, size) float32, from field `start` (0 is the first) on."""
    planes = []
    for number in range(start + 1, start + length + 1):
        planes.append(cv2.imread(str(folder / f"x_{number:05d}.jpg"), cv2.IMREAD_GRAYSCALE))
        planes.append(cv2.imread(str(folder / f"y_{number:05d}.jpg"), cv2.IMREAD_GRAYSCALE))
    top, left, height, width = _random_square(*planes[0].shape, rng)
    planes = [cv2.resize(plane[top : top + height, left : left + width], (size, size)) for plane in planes]
    if rng.random() < 0.5:
        planes = [plane[:, ::-1] for plane in planes]
        planes[0::2] = [255 - plane for plane in planes[0::2]]
    return (np.stack(planes).astype(np.float32) / 255 - 0.5) / 0.1


def read_rgb(folder: Path, index: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """A training example of the rgb stream: (3, size, size) float32."""
    frame = cv2.cvtColor(cv2.imread(str(folder / f"img_{index + 1:05d}.jpg")), cv2.COLOR_BGR2RGB)
    top, left, height, width = _random_square(*frame.shape[:2], rng)
    frame = cv2.resize(frame[top : top + height, left : left + width], (size, size))
    if rng.random() < 0.5:
        frame = frame[:, ::-1]
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return np.ascontiguousarray(((frame.astype(np.float32) / 255 - mean) / std).transpose(2, 0, 1))


def _random_square(height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    side = int(min(height, width) * rng.choice(CROP_SCALES))
    return int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side, side
