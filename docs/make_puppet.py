"""Write the key frames of the page's puppet: `python docs/make_puppet.py`. A test compares them with the committed."""

import json
from dataclasses import replace
from pathlib import Path

from rgbflow.demo.painting import HELD_COLOURS
from rgbflow.demo.puppet import Person, Pose, Style, drink, pick_up, raise_arms, step_left, wave_flag

OUT = Path(__file__).parents[1] / "src/rgbflow/serve/page/puppet.json"
PERSON = Person(
    height=1.0,
    girth=1.0,
    arm_length=1.0,
    leg_length=1.0,
    skin=(205, 155, 118),
    hair=(66, 46, 36),
    hair_style="short",
    shirt=(94, 112, 124),
    stripes=None,
    long_sleeves=False,
    trousers=(58, 60, 66),
    shoes=(112, 90, 74),
)
STYLE = Style(begin=0.0, end=1.0, unevenness=0.0, cycles=2.0, phase=0.0, reach=1.0, facing=1)
STILL = replace(STYLE, end=0.0)

# The words of an action's name that make the puppet move so, the motion, its style, whether time runs backwards, its
# length in seconds. The first whose words all stand in the name is played.
MOTIONS = (
    ("step left", step_left, STYLE, False, 2.0),
    ("step right", step_left, STYLE, True, 2.0),
    ("raise arms", raise_arms, STYLE, False, 1.6),
    ("lower arms", raise_arms, STYLE, True, 1.6),
    ("pick up", pick_up, STYLE, False, 1.8),
    ("put down", pick_up, STYLE, True, 1.8),
    ("drink", drink, replace(STYLE, cycles=4 / 3), False, 2.2),
    ("wave", wave_flag, replace(STYLE, cycles=5 / 3), False, 1.8),
    ("", raise_arms, STILL, False, 5.0),  # idle
)
FRAMES = 25


def key_frames() -> dict:
    """Everything the page needs to draw the puppet; joints are [x, y] in body units, as in `rgbflow.demo.puppet`."""
    motions = []
    for words, motion, style, backwards, seconds in MOTIONS:
        frames = [joints(motion(PERSON, style, i / (FRAMES - 1))) for i in range(FRAMES)]
        motions.append({"words": words.split(), "seconds": seconds, "frames": frames[:: -1 if backwards else 1]})
    person = {key: getattr(PERSON, key) for key in ("skin", "hair", "shirt", "trousers", "shoes")}
    return {"person": person, "held": HELD_COLOURS, "motions": motions}


def joints(pose: Pose) -> dict:
    numbers = {
        "body": [point(joint) for joint in (pose.pelvis, pose.neck, pose.head)],
        "arms": [[point(joint) for joint in arm] for arm in pose.arms],
        "legs": [[point(joint) for joint in leg] for leg in pose.legs],
        "facing": pose.facing,
    }
    if pose.held:
        numbers |= {"held": point(pose.held), "held_angle": round(pose.held_angle, 3), "held_side": pose.held_side}
    return numbers


def point(joint: complex) -> list[float]:
    return [round(float(joint.real), 3), round(float(joint.imag), 3)]


def text() -> str:
    return json.dumps(key_frames(), separators=(",", ":")) + "\n"


if __name__ == "__main__":
    OUT.write_text(text(), encoding="utf-8")
