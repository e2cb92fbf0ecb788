"""Optical flow: displacement between two frames, its 8-bit form and its picture.

The flow (u, v) obeys brightness constancy, I_x u + I_y v + I_t = 0 (the paper, section on the motion stream). It is
always in pixels per frame step at the working size of the frames it was computed from; u points right, v down.
"""

from collections.abc import Callable

import cv2
import numpy as np

from rgbflow.stream import FlowSettings

Estimator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def make_estimator(settings: FlowSettings) -> Estimator:
    """Build the function that computes the flow of one pair of gray frames.

    Returns:
        A function of two (H, W) uint8 frames that gives (2, H, W) float32, pixels per frame step, u then v. It keeps
        no memory of earlier pairs, so pairs may come in any order.
    """
    preset = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{settings.preset.upper()}")
    tvl1 = cv2.optflow.createOptFlow_DualTVL1() if settings.method == "tvl1" else None

    def estimate(previous: np.ndarray, current: np.ndarray) -> np.ndarray:
        if settings.method == "dis":
            # A DIS object adapts its scales to the pictures it has seen: used twice, it answers differently.
            flow = cv2.DISOpticalFlow_create(preset).calc(previous, current, None)
        elif tvl1 is not None:
            flow = tvl1.calc(previous, current, None)
        else:
            flow = cv2.calcOpticalFlowFarneback(previous, current, None, 0.5, 5, 15, 3, 7, 1.5, 0)
        return np.ascontiguousarray(flow.transpose(2, 0, 1))

    return estimate


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


def flow_picture(flow: np.ndarray, full_scale: float) -> np.ndarray:
    """Show a flow field in colour: the hue is the direction, the saturation the speed; standing still is white.

    Args:
        flow: (2, H, W) float32, pixels per frame step.
        full_scale: the speed in pixels per frame step that gets the full colour; faster shows the same.

    Returns:
        (H, W, 3) uint8 RGB. Right is red, down yellow-green, left cyan, up violet.
    """
    speed, angle = cv2.cartToPolar(flow[0], flow[1], angleInDegrees=True)
    saturation = np.minimum(speed / full_scale, 1)
    hsv = np.stack([angle, saturation, np.ones_like(speed)], axis=-1).astype(np.float32)
    return np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255).astype(np.uint8)
