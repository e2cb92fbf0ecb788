"""Pictures of a posed person and of what the hand holds, painted in place on a canvas."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rgbflow.demo.puppet import HALF_HIPS, HALF_SHOULDERS, Colour, Limb, Person, Pose

# The two things of a pair have the same outline and the same luma (0.299 R + 0.587 G + 0.114 B), so that
# optical flow, which is computed from gray frames, cannot tell them apart.
HELD_COLOURS = {
    "red cup": (226, 38, 38),
    "blue cup": (26, 92, 255),
    "green flag": (16, 188, 60),
    "pink flag": (246, 52, 166),
    "ball": (246, 108, 14),
    "melon": (56, 200, 36),
}

HEAD_RADIUS = 0.078
RIM = 0.008
_CIRCLE = np.exp(2j * np.pi * np.arange(20) / 20)
_FRACTION_BITS = 4


@dataclass(frozen=True)
class Brush:
    """Paints shapes given in body units on a canvas.

    Attributes:
        canvas: (H, W, 3) uint8 RGB, painted in place.
        origin: where the body's origin lies, canvas pixels, x right + 1j * y down.
        scale: canvas pixels per body unit.
    """

    canvas: np.ndarray
    origin: complex
    scale: float

    def polygon(self, points: Sequence[complex] | np.ndarray, colour: Colour) -> None:
        """Fill a simple polygon."""
        cv2.fillPoly(self.canvas, [self._pixels(points)], colour, cv2.LINE_AA, _FRACTION_BITS)

    def hull(self, centres: Sequence[complex], radii: Sequence[float] | np.ndarray, colour: Colour) -> None:
        """Fill the convex hull of circles: a disc for one, a limb for two, a trunk for four."""
        points = np.concatenate([c + r * _CIRCLE for c, r in zip(centres, radii, strict=True)])
        outline = cv2.convexHull(self._pixels(points))
        cv2.fillConvexPoly(self.canvas, outline, colour, cv2.LINE_AA, _FRACTION_BITS)

    def stroke(self, start: complex, end: complex, width: float, colour: Colour) -> None:
        """Draw a straight line with round ends."""
        self.hull([start, end], [width / 2, width / 2], colour)

    def chain(self, limb: Limb, radii: Sequence[float], colours: tuple[Colour, Colour]) -> None:
        """Paint a limb: both rims first, so that no rim crosses the joint."""
        upper, lower = (limb[:2], radii[:2]), (limb[1:], radii[1:])
        for (ends, thick), colour in zip((upper, lower), colours, strict=True):
            self.hull(ends, [r + RIM for r in thick], shade(colour, 0.72))
        for (ends, thick), colour in zip((upper, lower), colours, strict=True):
            self.hull(ends, thick, colour)

    def _pixels(self, points: Sequence[complex] | np.ndarray) -> np.ndarray:
        place = (self.origin + self.scale * np.conj(points)) * 2**_FRACTION_BITS
        return np.rint(place.view(np.float64)).astype(np.int32).reshape(-1, 2)


def shade(colour: Colour, factor: float) -> Colour:
    """The same hue, darker (factor < 1) or lighter."""
    red, green, blue = (int(min(255, channel * factor)) for channel in colour)
    return red, green, blue


def paint_person(brush: Brush, person: Person, pose: Pose, held: str | None) -> None:
    """Paint a person, the far parts first.

    Args:
        brush: its origin is where the person stands.
        person: the body and its clothes.
        pose: the joints.
        held: a key of HELD_COLOURS, or None for empty hands.
    """
    _paint_hair_behind(brush, person, pose)
    if pose.facing:
        _paint_arm(brush, person, pose.arms[0], light=0.8)
    for leg, light in zip(pose.legs, (0.8 if pose.facing else 1.0, 1.0), strict=True):
        _paint_leg(brush, person, leg, pose.facing, light)
    _paint_trunk(brush, person, pose)
    _paint_head(brush, person, pose)
    if held and pose.facing:
        paint_held(brush, held, pose)
    for arm in pose.arms[1:] if pose.facing else pose.arms:
        _paint_arm(brush, person, arm, light=1.0)
    if held and not pose.facing:
        paint_held(brush, held, pose)
        hand = pose.arms[pose.held_side > 0][2]
        brush.hull([hand], [0.028], person.skin)


def _paint_leg(brush: Brush, person: Person, leg: Limb, facing: int, light: float) -> None:
    thick = 0.8 + 0.2 * person.girth
    cloth = shade(person.trousers, light)
    ankle, heel = leg[2], leg[2] - 0.012j
    outwards = facing * 0.075 if facing else 0.022 * np.sign(ankle.real - leg[0].real or 1)
    brush.chain(leg, [0.062 * person.girth, 0.047 * thick, 0.036 * thick], (cloth, cloth))
    shoe = shade(person.shoes, 0.8 * light)
    brush.hull([heel, heel + outwards - 0.004j], [0.03, 0.024], shade(shoe, 0.6))
    brush.hull([heel + 0.003j, heel + outwards], [0.026, 0.02], shoe)


def _paint_arm(brush: Brush, person: Person, arm: Limb, light: float) -> None:
    thick = 0.75 + 0.25 * person.girth
    sleeve, skin = shade(person.shirt, 0.93 * light), shade(person.skin, light)
    brush.hull([arm[2]], [0.03 + RIM], shade(skin, 0.72))
    brush.chain(arm, [0.044 * thick, 0.034 * thick, 0.026 * thick], (sleeve, sleeve if person.long_sleeves else skin))
    brush.hull([arm[2]], [0.03], skin)


def _paint_trunk(brush: Brush, person: Person, pose: Pose) -> None:
    """Shirt and hips: four round corners from the front, two from the side."""
    along = (pose.neck - pose.pelvis) / abs(pose.neck - pose.pelvis)
    shoulder, hip = pose.neck - 0.045 * along, pose.pelvis + 0.035 * along
    half_shoulders = 0.015 if pose.facing else HALF_SHOULDERS - 0.02
    half_hips = 0.01 if pose.facing else HALF_HIPS
    top, bottom = (0.07 if pose.facing else 0.05), 0.066 * person.girth
    across = -1j * along
    corners = [shoulder - half_shoulders * across, shoulder + half_shoulders * across]
    waist = [hip + half_hips * across, hip - half_hips * across]
    radii = np.array([top * (0.7 + 0.3 * person.girth)] * 2 + [bottom] * 2)

    brush.hull([w - 0.045 * along for w in waist], [bottom] * 2, person.trousers)
    brush.hull(corners + waist, radii + RIM, shade(person.shirt, 0.72))
    brush.hull(corners + waist, radii, person.shirt)
    if person.stripes:
        for part in (0.2, 0.45, 0.7, 0.95):
            left = corners[0] + part * (waist[1] - corners[0])
            right = corners[1] + part * (waist[0] - corners[1])
            reach = (radii[0] + part * (radii[2] - radii[0]) - 0.02) * across
            brush.stroke(left - reach, right + reach, 0.034, person.stripes)
    brush.stroke(pose.neck - 0.02 * along, pose.head, 0.07, shade(person.skin, 0.85))


def _paint_hair_behind(brush: Brush, person: Person, pose: Pose) -> None:
    up = _head_up(pose)
    back = -pose.facing * 0.4 * HEAD_RADIUS * (-1j * up)
    if person.hair_style == "long":
        ends = pose.head - 1.55 * HEAD_RADIUS * up + 2 * back
        brush.hull([pose.head + back, ends], [1.08 * HEAD_RADIUS, 0.75 * HEAD_RADIUS], shade(person.hair, 0.85))
    elif person.hair_style == "bun":
        brush.hull([pose.head + 1.15 * HEAD_RADIUS * up + 1.6 * back], [0.45 * HEAD_RADIUS], person.hair)


def _paint_head(brush: Brush, person: Person, pose: Pose) -> None:
    up = _head_up(pose)
    right, radius = -1j * up, HEAD_RADIUS
    chin = pose.head - 0.25 * radius * up + 0.12 * pose.facing * radius * right
    brush.hull([pose.head, chin], [radius + RIM, 0.85 * radius + RIM], shade(person.skin, 0.72))
    brush.hull([pose.head, chin], [radius, 0.85 * radius], person.skin)
    if pose.facing:
        brush.hull([pose.head + pose.facing * radius * right - 0.1 * radius * up], [0.22 * radius], person.skin)
    if person.hair_style != "bald":
        # The hair covers an arc around the crown; seen from the side it reaches down to the neck at the back.
        front, back = (0.35 * np.pi, 1.05 * np.pi) if pose.facing else (0.12 * np.pi, 0.88 * np.pi)
        arc = 1.1 * radius * np.exp(1j * np.linspace(front, back, 12))
        outline = arc if pose.facing >= 0 else -arc.conj()
        brush.polygon(pose.head + outline * right, person.hair)
    eyes = [0.5 * pose.facing] if pose.facing else [-0.38, 0.38]
    for x in eyes:
        brush.hull([pose.head + radius * (x * right - 0.02 * up)], [0.15 * radius], (30, 26, 26))
    mouth = pose.head - 0.55 * radius * up + 0.6 * pose.facing * radius * right
    brush.stroke(mouth - 0.22 * radius * right, mouth + 0.22 * radius * right, 0.012, shade(person.skin, 0.55))


def _head_up(pose: Pose) -> complex:
    return (pose.head - pose.neck) / abs(pose.head - pose.neck)


def paint_held(brush: Brush, held: str, pose: Pose) -> None:
    """Paint what the hand holds: a key of HELD_COLOURS."""
    colour, turn = HELD_COLOURS[held], np.exp(1j * pose.held_angle)
    if held.endswith("cup"):
        _paint_cup(brush, colour, pose.held, turn, pose.held_side)
    elif held.endswith("flag"):
        _paint_flag(brush, colour, pose.held, turn, pose.held_side, pose.held_angle)
    else:
        _paint_round(brush, colour, pose.held, seams=held == "ball")


def _paint_cup(brush: Brush, colour: Colour, centre: complex, turn: complex, side: int) -> None:
    handle = centre + 0.07 * side * turn
    brush.hull([handle], [0.042], shade(colour, 0.7))
    brush.hull([handle], [0.02], shade(colour, 0.45))
    cup = np.array([-0.068 + 0.085j, 0.068 + 0.085j, 0.055 - 0.085j, -0.055 - 0.085j])
    brush.polygon(centre + turn * cup * 1.09, shade(colour, 0.7))
    brush.polygon(centre + turn * cup, colour)
    brush.stroke(centre + turn * (-0.062 + 0.08j), centre + turn * (0.062 + 0.08j), 0.02, shade(colour, 0.55))


def _paint_flag(brush: Brush, colour: Colour, hand: complex, turn: complex, side: int, flutter: float) -> None:
    brush.stroke(hand - 0.06j * turn, hand + 0.27j * turn, 0.022, (92, 78, 62))
    along = np.linspace(0, 1, 8)
    wave = 0.022 * along * np.sin(2 * np.pi * along + 3 * flutter)
    edge = 0.24 * side * along + 1j * wave
    brush.polygon(hand + turn * np.concatenate([edge + 0.27j, (edge + 0.09j)[::-1]]), colour)
    brush.polygon(hand + turn * np.concatenate([edge + 0.12j, (edge + 0.09j)[::-1]]), shade(colour, 0.75))


def _paint_round(brush: Brush, colour: Colour, centre: complex, seams: bool) -> None:
    radius = 0.085
    brush.hull([centre], [radius], shade(colour, 0.6))
    brush.hull([centre], [0.9 * radius], colour)
    dark = shade(colour, 0.4)
    if seams:
        brush.stroke(centre - 0.85 * radius, centre + 0.85 * radius, 0.012, dark)
        brush.stroke(centre - 0.85j * radius, centre + 0.85j * radius, 0.012, dark)
    else:
        for x in (-0.5, 0.0, 0.5):
            brush.stroke(centre + radius * (x - 0.68j), centre + radius * (x + 0.68j), 0.016, dark)


def paint_shadow(brush: Brush, pose: Pose) -> None:
    """Darken the floor around the feet."""
    feet = [leg[2].real for leg in pose.legs]
    middle = brush.origin + brush.scale * (min(feet) + max(feet)) / 2
    width, height = brush.scale * ((max(feet) - min(feet)) / 2 + 0.11), brush.scale * 0.04
    top, left = max(int(middle.imag - height), 0), max(int(middle.real - width), 0)
    floor = brush.canvas[top : int(middle.imag + height) + 1, left : int(middle.real + width) + 1]
    y, x = np.ogrid[top : top + floor.shape[0], left : left + floor.shape[1]]
    distance = ((x - middle.real) / width) ** 2 + ((y - middle.imag) / height) ** 2
    light = 1 - 0.5 * np.clip(1 - distance, 0, 1)
    floor[:] = floor * light[..., None]
