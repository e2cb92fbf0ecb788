"""A person made of limbs, and how its joints move during an action: numbers only, no pictures.

Points are complex numbers in body units: the real part is x to the right of the picture, the imaginary part
is y up, the origin is on the floor and 1 is about the height of the person. Angles are in radians.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import cos, pi, radians, sin

import numpy as np

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

Limb = tuple[complex, complex, complex]
"""Shoulder, elbow, hand; or hip, knee, ankle."""

TORSO = 0.29
HALF_SHOULDERS = 0.105
HALF_HIPS = 0.058
UPPER_ARM, FOREARM = 0.165, 0.155
THIGH, SHIN, ANKLE_HEIGHT = 0.24, 0.23, 0.035
HEAD_ABOVE_NECK = 0.115

# Clothes, like rooms, stay away from the vivid colours of the things in the hand, so that such a colour tells
# the thing and nothing else.
SKINS = [(240, 202, 174), (226, 182, 150), (205, 155, 118), (160, 112, 80), (112, 76, 56), (84, 58, 46)]
HAIRS = [(32, 27, 25), (66, 46, 36), (112, 80, 54), (188, 158, 108), (150, 148, 146), (96, 58, 44)]
CLOTHES = [
    *[(236, 234, 228), (190, 190, 192), (120, 124, 130), (58, 60, 66), (214, 198, 168), (166, 142, 112)],
    *[(112, 90, 74), (94, 112, 124), (128, 148, 150), (176, 166, 184), (120, 108, 134), (206, 186, 124)],
    *[(146, 146, 116), (52, 58, 78)],
]
HAIR_STYLES = ("short", "long", "bun", "bald")


@dataclass(frozen=True)
class Person:
    """One body and its clothes. Sizes are factors around 1."""

    height: float
    girth: float
    arm_length: float
    leg_length: float
    skin: Colour
    hair: Colour
    hair_style: str
    shirt: Colour
    stripes: Colour | None
    long_sleeves: bool
    trousers: Colour
    shoes: Colour


@dataclass(frozen=True)
class Style:
    """The manner of one clip's motion, drawn once for an action and its twins.

    Attributes:
        begin: fraction of the sweep already done in the first frame, 0 to 1.
        end: fraction of the sweep done in the last frame, above `begin`.
        unevenness: -0.5 to 0.5; how much faster (or slower) the sweep is at its ends than in its middle.
        cycles: repetitions in the clip, for motions that repeat.
        phase: where the first repetition starts, 0 to 1.
        reach: amplitude, a factor around 1.
        facing: +1 or -1: the side that a person turns to, or of the hand that acts.
    """

    begin: float
    end: float
    unevenness: float
    cycles: float
    phase: float
    reach: float
    facing: int

    def progress(self, time: float) -> float:
        """Fraction of the sweep done at `time` (0 first frame, 1 last frame); it never decreases."""
        even = time + self.unevenness * sin(2 * pi * time) / (2 * pi)
        return self.begin + (self.end - self.begin) * even

    def cycle(self, time: float) -> float:
        """Angle in the repetition at `time`."""
        return 2 * pi * (self.phase + self.cycles * time)


@dataclass(frozen=True)
class Pose:
    """The joints of a person at one moment.

    Attributes:
        arms, legs: the one at the left of the picture first; in a side view the far one first.
        facing: 0 towards the camera, +1 or -1 to the right or left of the picture.
        held: centre of what the hand holds, or of the grip for a flag.
        held_angle: its rotation against upright, anticlockwise.
        held_side: +1 or -1, the side of the hand that holds it.
    """

    pelvis: complex
    neck: complex
    head: complex
    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    facing: int = 0
    held: complex = 0j
    held_angle: float = 0.0
    held_side: int = 1


Motion = Callable[[Person, Style, float], Pose]
"""The pose of a person at a time from 0 (first frame) to 1 (last frame)."""


def pick_person(rng: np.random.Generator) -> Person:
    """Draw a body and its clothes."""
    shirt, trousers, shoes, stripes = (CLOTHES[i] for i in rng.choice(len(CLOTHES), 4, replace=False))
    return Person(
        height=rng.uniform(0.94, 1.05),
        girth=rng.uniform(0.85, 1.3),
        arm_length=rng.uniform(0.94, 1.06),
        leg_length=rng.uniform(0.95, 1.04),
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        shirt=shirt,
        stripes=stripes if rng.random() < 0.5 else None,
        long_sleeves=bool(rng.random() < 0.5),
        trousers=trousers,
        shoes=shoes,
    )


def pick_style(rng: np.random.Generator) -> Style:
    """Draw how a clip's motion is done."""
    return Style(
        begin=rng.uniform(0.0, 0.12),
        end=rng.uniform(0.88, 1.0),
        unevenness=rng.uniform(-0.4, 0.4),
        cycles=rng.uniform(1.6, 2.6),
        phase=rng.uniform(),
        reach=rng.uniform(0.92, 1.08),
        facing=int(rng.choice([-1, 1])),
    )


def step_left(person: Person, style: Style, time: float) -> Pose:
    """Seen from the front: side-steps towards the left of the picture, the legs open and close."""
    travel = 0.84 * style.reach
    stride = travel / (style.cycles + 0.6)
    walked = travel * style.progress(time) / stride + style.phase
    whole, part = divmod(walked, 1.0)
    lead, trail = _ease(2 * part), _ease(2 * part - 1)
    x = travel / 2 - travel * style.progress(time)
    opened = lead - trail  # 0 feet together, 1 feet a stride apart

    first_foot = x + stride * (walked - whole)  # where the body was when this step began
    ankles = (
        first_foot - stride * lead - 0.06 + 1j * _lift(lead),
        first_foot - stride * trail + 0.06 + 1j * _lift(trail),
    )
    pelvis = x + 1j * (_standing_height(person) - 0.045 * opened)
    down = radians(-74 + 34 * opened)
    return _front_view(person, pelvis, ankles, _arm_pair(person, (down, down - 0.1), (down, down - 0.1)))


def raise_arms(person: Person, style: Style, time: float) -> Pose:
    """Seen from the front: both straight arms go up sideways, from the hips to above the head."""
    angle = radians(-80 + 160 * style.progress(time))
    other = angle + 0.12 * style.facing * (style.reach - 1) / 0.08
    return _standing(person, style, time, _arm_pair(person, (angle, angle + 0.12), (other, other + 0.12)))


def drink(person: Person, style: Style, time: float) -> Pose:
    """Seen from the front: one hand brings a cup to the mouth and back, again and again."""
    up = 0.5 - 0.5 * cos(0.75 * style.cycle(time))
    upper = radians(-72 + 46 * up)
    fore = radians(-14 * style.reach + 146 * up)
    acting = (upper, fore, 1 - 0.42 * up)
    pose = _standing(person, style, time, _one_arm(person, style.facing, acting))
    hand = pose.arms[style.facing > 0][2]
    tilt = style.facing * radians(48) * max(0.0, up - 0.5) * 2
    cup = hand + (-0.045 * style.facing + 0.02j)
    return replace(pose, held=cup, held_angle=tilt, held_side=style.facing)


def wave_flag(person: Person, style: Style, time: float) -> Pose:
    """Seen from the front: one raised hand swings a flag from side to side."""
    swing = sin(style.cycle(time) * 1.2)
    upper = radians(8 + 10 * swing)
    fore = radians(72 - 40 * style.reach * swing)
    pose = _standing(person, style, time, _one_arm(person, style.facing, (upper, fore)))
    tilt = -style.facing * radians(12 + 36 * swing)
    hand = pose.arms[style.facing > 0][2]
    return replace(pose, held=hand, held_angle=tilt, held_side=style.facing)


def pick_up(person: Person, style: Style, time: float) -> Pose:
    """Seen from the side: bent down to a thing on the floor, the person rises and lifts it to the face."""
    side, up = style.facing, style.progress(time)
    down = 1 - up
    pelvis = complex(-0.15 * side * down, _standing_height(person) - 0.17 * down)
    lean = radians(3 + 62 * down)
    along = complex(side * sin(lean), cos(lean))
    neck = pelvis + TORSO * along
    held = complex(side * (0.27 + 0.05 * sin(pi * up)), 0.085 + (0.8 * style.reach - 0.085) * up)
    ankles = complex(-0.05 * side, ANKLE_HEIGHT), complex(0.05 * side, ANKLE_HEIGHT)
    shoulder = neck - 0.03 * along
    grip = held - 0.05 * side + 0.02j
    far_arm, near_arm = (_bend(shoulder, grip + lag, _arm_bones(person), -side) for lag in (0.03j, -0.03j))
    far_leg, near_leg = (_bend(pelvis, ankle, _leg_bones(person), side) for ankle in ankles)
    return Pose(
        pelvis=pelvis,
        neck=neck,
        head=neck + HEAD_ABOVE_NECK * complex(side * sin(0.75 * lean), cos(0.75 * lean)),
        arms=(far_arm, near_arm),
        legs=(far_leg, near_leg),
        facing=side,
        held=held,
        held_side=side,
    )


def _ease(part: float) -> float:
    """0 before 0, 1 after 1, smooth between."""
    part = min(max(part, 0.0), 1.0)
    return part * part * (3 - 2 * part)


def _lift(part: float) -> float:
    """Height of the ankle while its foot has done `part` of a step."""
    return ANKLE_HEIGHT + 0.05 * sin(pi * part)


def _arm_bones(person: Person) -> tuple[float, float]:
    return UPPER_ARM * person.arm_length, FOREARM * person.arm_length


def _leg_bones(person: Person) -> tuple[float, float]:
    return THIGH * person.leg_length, SHIN * person.leg_length


def _standing_height(person: Person) -> float:
    """Height of the pelvis when the legs are almost straight."""
    return ANKLE_HEIGHT + 0.985 * sum(_leg_bones(person))


def _bend(root: complex, tip: complex, bones: tuple[float, float], side: int) -> Limb:
    """Place the middle joint of a two-bone limb; a tip out of reach is brought within it.

    Args:
        root: shoulder or hip.
        tip: wanted hand or ankle.
        bones: lengths of the upper and lower bone.
        side: +1 bends the joint anticlockwise of the line from root to tip, -1 clockwise.
    """
    upper, lower = bones
    line = tip - root
    reach = min(max(abs(line), abs(upper - lower) + 1e-6), upper + lower - 1e-6)
    direction = line / abs(line)
    corner = np.arccos((reach**2 + upper**2 - lower**2) / (2 * reach * upper))
    return root, root + upper * direction * np.exp(1j * side * corner), root + reach * direction


def _arm(person: Person, side: int, upper: float, fore: float, foreshortening: float = 1.0) -> Limb:
    """Arm of a person whose neck is at 0, from angles above the horizontal; an angle of 0 points outwards."""
    upper_bone, forearm = _arm_bones(person)
    shoulder = complex(side * HALF_SHOULDERS, -0.025)
    elbow = shoulder + foreshortening * upper_bone * complex(side * cos(upper), sin(upper))
    return shoulder, elbow, elbow + forearm * complex(side * cos(fore), sin(fore))


def _arm_pair(person: Person, left: tuple[float, ...], right: tuple[float, ...]) -> tuple[Limb, Limb]:
    return _arm(person, -1, *left), _arm(person, 1, *right)


def _one_arm(person: Person, side: int, acting: tuple[float, ...]) -> tuple[Limb, Limb]:
    """The arm at `side` acts, the other hangs."""
    hanging = (radians(-76), radians(-84))
    return _arm_pair(person, hanging, acting) if side > 0 else _arm_pair(person, acting, hanging)


def _front_view(
    person: Person,
    pelvis: complex,
    ankles: tuple[complex, complex],
    arms: tuple[Limb, Limb],
    lean: float = 0.0,
) -> Pose:
    """Put a front view together; `arms` are for a neck at 0, `lean` is the sideways shift of the neck."""
    neck = pelvis + complex(lean, TORSO)
    left_arm, right_arm = ((neck + shoulder, neck + elbow, neck + hand) for shoulder, elbow, hand in arms)
    hips = pelvis - HALF_HIPS, pelvis + HALF_HIPS
    left_leg, right_leg = (
        _bend(hip, ankle, _shortened(_leg_bones(person), ankle - hip), bend)
        for hip, ankle, bend in zip(hips, ankles, (-1, 1), strict=True)
    )
    return Pose(
        pelvis=pelvis,
        neck=neck,
        head=neck + complex(0.3 * lean, HEAD_ABOVE_NECK),
        arms=(left_arm, right_arm),
        legs=(left_leg, right_leg),
    )


def _shortened(bones: tuple[float, float], line: complex) -> tuple[float, float]:
    """Bones seen from the front: a knee bends towards the camera, so the leg looks shorter, not crooked."""
    factor = min(1.0, 1.006 * abs(line) / sum(bones))
    return bones[0] * factor, bones[1] * factor


def _standing(person: Person, style: Style, time: float, arms: tuple[Limb, Limb]) -> Pose:
    """On the spot, swaying a little as people do."""
    sway = 0.012 * sin(style.cycle(time) / 2)
    pelvis = complex(sway, _standing_height(person))
    ankles = complex(-0.075, ANKLE_HEIGHT), complex(0.075, ANKLE_HEIGHT)
    return _front_view(person, pelvis, ankles, arms, lean=sway)
