"""Optical flow: displacement between two frames, its 8-bit form and its picture.

The flow (u, v) obeys brightness constancy, I_x u + I_y v + I_t = 0 (the paper, section on the motion stream). It is
always in pixels per frame step at the working size of its frames, even where the field itself is smaller; u points
right, v down.
"""

from collections.abc import Callable

import cv2
import numpy as np

from rgbflow.stream import DisPreset, FlowSettings

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def make_estimator(settings: FlowSettings, reduction: int = 1) -> Estimator:
    """Build the function that computes the flow of one pair of gray frames.

    Args:
        settings: method and preset.
        reduction: 1, 2 or 4: the field gets 1/reduction of the frames' size, rounded down.

    Returns:
        A function of two (H, W) uint8 frames that gives (2, H // reduction, W // reduction) float32, u then v, in
        pixels of the frames, not of the field, per frame step. The result does not depend on earlier pairs, so pairs
        may come in any order.
    """
    tvl1 = cv2.optflow.createOptFlow_DualTVL1() if settings.method == "tvl1" else None

    def estimate(previous: np.ndarray, current: np.ndarray) -> np.ndarray:
        if settings.method == "dis":
            flow = _dis(previous, current, settings.preset, reduction)
        else:
            if tvl1 is not None:
                flow = tvl1.calc(previous, current, None)  # type: ignore[call-overload]  # its stubs want a field to begin with
            else:
                flow = cv2.calcOpticalFlowFarneback(  # type: ignore[call-overload]  # likewise
                    previous, current, None, 0.5, 5, 15, 3, 7, 1.5, 0
                )
            flow = _reduced(flow, reduction)
        return np.ascontiguousarray(flow.transpose(2, 0, 1))

    return estimate


def _dis(previous: np.ndarray, current: np.ndarray, preset: DisPreset, reduction: int) -> np.ndarray:
    """The flow of DIS, (H // reduction, W // reduction, 2).

    OpenCV's DIS scales the frames down to 1/4 (fast, ultrafast) or 1/2 (medium), works there and scales its result up
    bilinearly. Given frames already scaled down, it gives the same numbers without the scaling up.
    """
    # A DIS object adapts its scales to the pictures it has seen: used twice, it answers differently.
    level = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}")
    dis = cv2.DISOpticalFlow_create(level)  # type: ignore[attr-defined]  # missing in OpenCV's stubs
    if reduction == 1:
        return dis.calc(previous, current, None)
    dis.setFinestScale(max(0, dis.getFinestScale() - reduction.bit_length() + 1))
    return dis.calc(_reduced(previous, reduction), _reduced(current, reduction), None) * np.float32(reduction)


def _reduced(picture: np.ndarray, reduction: int) -> np.ndarray:
    """The mean over squares of `reduction` × `reduction` pixels."""
    if reduction == 1:
        return picture
    height, width = picture.shape[:2]
    return cv2.resize(picture, (width // reduction, height // reduction), interpolation=cv2.INTER_AREA)


def quantise(flow: np.ndarray, bound: float) -> np.ndarray:
    """Store displacements in 8 bits: round(127.5 + 127.5 * displacement / bound), clipped to 0…255.

    Args:
        flow: any shape, float32, pixels per frame step.
        bound: the displacement that becomes 0 or 255.

    Returns:
        The same shape, uint8. Within the bound, `dequantise` gives each value back to within bound / 255.
    """
    return np.clip(np.rint(127.5 + 127.5 / bound * flow), 0, 255).astype(np.uint8)


def dequantise(stored: np.ndarray, bound: float) -> np.ndarray:
    """The displacements that 8-bit values stand for, float32, pixels per frame step; the inverse of `quantise`."""
    return (stored.astype(np.float32) - 127.5) * np.float32(bound / 127.5)


def to_picture(flow: np.ndarray) -> np.ndarray:
    """One gray picture of a field, u above v: (2, h, w) becomes (2h, w)."""
    return flow.reshape(-1, flow.shape[-1])


def from_pictures(pictures: np.ndarray) -> np.ndarray:
    """The fields of such pictures: (N, 2h, w) becomes (N, 2, h, w)."""
    return pictures.reshape(len(pictures), 2, -1, pictures.shape[-1])


def usual_speed(flow: np.ndarray) -> float:
    """A speed that few displacements of a clip exceed, in pixels per frame step: the full scale of its pictures.

    Args:
        flow: (N, 2, H, W) float32, pixels per frame step.

    Returns:
        At least 1, so that noise in a motionless clip stays pale.
    """
    return max(1.0, float(np.percentile(np.abs(flow), 99)))


def flow_picture(flow: np.ndarray, full_scale: float) -> np.ndarray:
    """Show a flow field in colour: the hue is the direction, the saturation the speed; no motion is white.

    Args:
        flow: (2, H, W) float32, pixels per frame step.
        full_scale: the speed in pixels per frame step that gets the full colour; higher speeds look the same.

    Returns:
        (H, W, 3) uint8 RGB. Right is red, down yellow-green, left cyan, up violet.
    """
    speed, angle = cv2.cartToPolar(flow[0], flow[1], angleInDegrees=True)
    saturation = np.minimum(speed / full_scale, 1)
    hsv = np.stack([angle, saturation, np.ones_like(speed)], axis=-1).astype(np.float32)
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)
