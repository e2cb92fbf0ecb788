"""Endless optical flow of synthetic people: 200 motions, drawn bodies, cameras and speeds, no pictures.

A person is a skeleton of eleven limbs in space whose joint angles follow a motion's curves. A limb is painted as a
thick line, and the flow inside it is the displacement of its two ends, mixed along the line: exact, without estimating
it from pictures. Lengths are metres, angles radians; x is right, y up, z towards the camera at rest.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

# What a motion moves. Names of pairs stand for the left one; the right one follows.
MOVED = 18
SIDE, UP, FORWARD, TURN, BEND, LEAN = range(6)  # of the whole body; bend and lean are the trunk's
ARM_RAISE, ARM_SPREAD, ELBOW, LEG_RAISE, LEG_SPREAD, KNEE = range(6, MOVED, 2)
STILL, SWING, SWEEP, THERE_AND_BACK, DRIFT = range(5)  # the curves

NUM_MOTIONS, NUM_REPEATED = 200, 120  # the others happen once, each forwards and backwards
FIELDS, SIZE = 10, 64  # fields a snippet; 64 pixels are what `prepare` stores of a frame of 256
FRAME_STEP = 0.04  # seconds
FRAME = 256  # flow is in pixels of a frame of this height
LARGEST = 13.0  # pixels a step, as `prepare` measures it on films


@dataclass(frozen=True, eq=False)
class Motion:
    """The curve of everything that moves: base + amplitude * curve(multiple * time + phase).

    Attributes:
        base, amplitude, curve, multiple, phase: (18,) each.
        period: seconds of one repetition, or of the whole motion.
        repeats: whether it goes on and on.
        backwards: whether time runs backwards.
    """

    base: np.ndarray
    amplitude: np.ndarray
    curve: np.ndarray
    multiple: np.ndarray
    phase: np.ndarray
    period: float
    repeats: bool
    backwards: bool = False


def draw_motions(seed: int = 0) -> list[Motion]:
    """The classes: the same for the same seed."""
    rng, motions = np.random.default_rng(seed), []
    for number in range(NUM_REPEATED + (NUM_MOTIONS - NUM_REPEATED) // 2):
        repeats = number < NUM_REPEATED
        motion = _standing(repeats, rng)
        kind = rng.choice(5, p=[0.4, 0.1, 0.15, 0.15, 0.2]) if repeats else rng.choice([0, 1, 3, 4], p=_ONCE)
        if kind in (0, 4):
            _move_arms(motion, rng)
        if kind == 1 or (kind == 4 and rng.random() < 0.4):
            _move_legs(motion, rng)
        elif kind in (3, 4):
            _move_body(motion, rng)
        elif kind == 2:
            _walk(motion, rng)
        period = rng.uniform(0.55, 1.5) if repeats else rng.uniform(0.5, 1.2)
        motions.append(replace(motion, period=period))
        if not repeats:
            motions.append(replace(motion, period=period, backwards=True))
    return motions


_ONCE = [0.45, 0.15, 0.2, 0.2]  # shares of arms, legs, body, arms with legs or body


def _standing(repeats: bool, rng: np.random.Generator) -> Motion:
    base = np.zeros(MOVED)
    base[[ARM_RAISE, ARM_RAISE + 1]] = rng.uniform(-0.2, 0.3, 2)
    base[[ARM_SPREAD, ARM_SPREAD + 1]] = rng.uniform(0.05, 0.35, 2)
    base[[ELBOW, ELBOW + 1]] = rng.uniform(0.1, 0.5, 2)
    base[[KNEE, KNEE + 1]] = 0.1
    return Motion(base, np.zeros(MOVED), np.zeros(MOVED, int), np.ones(MOVED), np.zeros(MOVED), 1.0, repeats)


def _move_arms(motion: Motion, rng: np.random.Generator) -> None:
    """One arm, or both together or in turn, from a drawn position."""
    which = rng.choice([0, 1, 2, 3], p=[0.3, 0.3, 0.25, 0.15])
    sides = [0, 1] if which > 1 else [int(rng.integers(2))]
    high, moved = rng.random() < 0.5, {}
    for part, (least, most) in {ARM_RAISE: (0.4, 1.5), ARM_SPREAD: (0.3, 1.3), ELBOW: (0.4, 1.2)}.items():
        if rng.random() < 0.62:
            amplitude = rng.uniform(least, most) * rng.choice([-1, 1])
            curve, multiple = int(rng.choice([1, 2, 3])), rng.choice([1, 1, 1, 2])
            moved[part] = amplitude, curve, multiple, rng.uniform(0, 2 * np.pi)
    moved = moved or {ARM_RAISE: (1.2, 1, 1, 0.0)}
    position = rng.uniform(0, 2.6) if high else rng.uniform(-0.2, 0.8), rng.uniform(0, 1.4), rng.uniform(0.2, 1.6)
    for side in sides:
        motion.base[[ARM_RAISE + side, ARM_SPREAD + side, ELBOW + side]] = position
        for part, (amplitude, curve, multiple, phase) in moved.items():
            place = part + side
            motion.amplitude[place] = amplitude
            motion.curve[place] = SWING if motion.repeats else SWEEP if curve < 3 else THERE_AND_BACK
            motion.multiple[place] = multiple if motion.repeats else 1
            motion.phase[place] = phase + (np.pi if which == 3 and side else 0)


def _move_legs(motion: Motion, rng: np.random.Generator) -> None:
    """Kicks and steps on the spot, of one leg or of both."""
    side, both = int(rng.integers(2)), rng.random() < 0.4
    for one in [0, 1] if both else [side]:
        for part, (least, most) in {LEG_RAISE: (0.4, 1.4), LEG_SPREAD: (0.1, 0.6), KNEE: (0.4, 1.3)}.items():
            if rng.random() < 0.65:
                place = part + one
                motion.amplitude[place] = rng.uniform(least, most) * (1 if part == KNEE else rng.choice([-1, 1]))
                motion.curve[place] = SWING if motion.repeats else int(rng.choice([SWEEP, THERE_AND_BACK]))
                motion.phase[place] = rng.uniform(0, 2 * np.pi)


def _walk(motion: Motion, rng: np.random.Generator) -> None:
    """Legs in turn, arms against them, the body going somewhere: walks, runs, side steps."""
    step, knee, arms = rng.uniform(0.3, 0.9), rng.uniform(0.3, 1.1), rng.uniform(0, 0.9)
    for side in (0, 1):
        turn = np.pi * side
        motion.amplitude[LEG_RAISE + side], motion.phase[LEG_RAISE + side] = step, turn
        motion.amplitude[KNEE + side], motion.base[KNEE + side] = knee, knee * 0.8
        motion.phase[KNEE + side] = turn + rng.uniform(0.6, 1.4)
        motion.amplitude[ARM_RAISE + side], motion.phase[ARM_RAISE + side] = arms, turn + np.pi
        motion.curve[[LEG_RAISE + side, KNEE + side, ARM_RAISE + side]] = SWING
    motion.base[[ELBOW, ELBOW + 1]] = rng.uniform(0.1, 1.6)
    motion.amplitude[UP], motion.curve[UP], motion.multiple[UP] = rng.uniform(0.01, 0.08), SWING, 2
    motion.phase[UP] = rng.uniform(0, 6.28)
    ahead = rng.random() < 0.75
    place = FORWARD if ahead else SIDE
    speed = rng.uniform(0.5, 2.2) * rng.choice([1, 1, 1, -1]) if ahead else rng.uniform(0.3, 1.2) * rng.choice([-1, 1])
    motion.amplitude[place], motion.curve[place] = speed, DRIFT


def _move_body(motion: Motion, rng: np.random.Generator) -> None:
    """Bending, leaning, squatting, jumping or turning."""
    what = rng.choice(5)
    curve = SWING if motion.repeats else int(rng.choice([SWEEP, THERE_AND_BACK]))
    if what == 0:
        motion.amplitude[BEND], motion.base[BEND] = rng.uniform(0.4, 1.4), rng.uniform(0, 0.3)
    elif what == 1:
        motion.amplitude[LEAN] = rng.uniform(0.3, 0.8) * rng.choice([-1, 1])
    elif what == 2:
        depth = rng.uniform(0.5, 1.1)
        for side in (0, 1):
            motion.amplitude[LEG_RAISE + side] += depth
            motion.amplitude[KNEE + side] = 2 * depth
            motion.curve[[LEG_RAISE + side, KNEE + side]] = curve
            motion.phase[[LEG_RAISE + side, KNEE + side]] = 0
        motion.amplitude[UP] = -0.45 * depth
    elif what == 3:
        motion.amplitude[UP] = rng.uniform(0.15, 0.5)
        curve = SWING if motion.repeats else THERE_AND_BACK
    else:
        motion.amplitude[TURN] = rng.uniform(0.6, 2.5) * rng.choice([-1, 1])
    motion.curve[(BEND, LEAN, UP, UP, TURN)[what]] = curve


class People:
    """A source of snippets of people in motion.

    Args:
        motions: the classes.
    """

    def __init__(self, motions: list[Motion]) -> None:
        self.motions = motions
        self._curves = [np.stack([getattr(motion, name) for motion in motions]) for name in _CURVE]

    def draw(self, count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Snippets, and the number of the motion that each shows.

        A fifth has a second person behind the first, half a moving camera, half is mirrored.

        Returns:
            (N, 20, 64, 64) float32, u0, v0, u1, ... in pixels of a frame of 256, each field's mean subtracted; (N,)
            int64.
        """
        labels = rng.integers(0, len(self.motions), count)
        flow = torch.zeros(count, FIELDS, 2, SIZE, SIZE)
        camera, seen_behind = _camera(count, rng)
        company = np.where(rng.random(count) < 0.2)[0]
        if len(company):
            behind = torch.zeros(len(company), FIELDS, 2, SIZE, SIZE)
            self._paint(behind, rng.integers(0, len(self.motions), len(company)), 0.25, rng)
            flow[company] = behind
        self._paint(flow, labels, 0.1, rng)
        flow = _estimated(flow + camera * torch.maximum(seen_behind, (flow != 0).float()), rng)
        mirrored = torch.from_numpy(rng.random(count) < 0.5)
        flow[mirrored] = flow[mirrored].flip(-1)
        flow[mirrored, :, 0] *= -1
        flow = flow - flow.mean((-1, -2), keepdim=True)
        return flow.view(count, FIELDS * 2, SIZE, SIZE), torch.from_numpy(labels)

    def _paint(self, flow: torch.Tensor, labels: np.ndarray, spread: float, rng: np.random.Generator) -> None:
        """Paint a person into each snippet of flow (N, 10, 2, 64, 64); `spread` is that of where people stand."""
        joints, radii = _skeletons(self._pose(labels, rng), rng)
        ends, sizes = _seen(joints, spread, rng)
        order = np.argsort(ends[:, FIELDS // 2, :, :, 2].mean(-1), 1)  # what is near covers what is far
        places = torch.from_numpy(ends[..., :2].astype(np.float32))
        thickness = torch.from_numpy((radii * sizes[:, None]).astype(np.float32))
        row = torch.arange(len(labels))
        for limb in torch.from_numpy(order).unbind(1):
            _paint_limb(flow, places[row, :, limb], thickness[row, limb])

    def _pose(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What moves (N, 11, 18) in the frames of a snippet that begins at a drawn moment, at a drawn speed."""
        count, chosen = len(labels), [self.motions[label] for label in labels]
        period, repeats, backwards = (
            np.array([getattr(motion, name) for motion in chosen]) for name in ("period", "repeats", "backwards")
        )
        speed = np.exp(rng.normal(0, 0.22, count)) / period
        begin = np.where(repeats, rng.uniform(0, 1, count), rng.uniform(-0.08, 0.6, count))
        time = begin[:, None] + np.arange(FIELDS + 1) * FRAME_STEP * speed[:, None]
        time = np.where(backwards[:, None], 1 - time, time)[..., None]
        base, amplitude, curve, multiple, phase = (values[labels][:, None] for values in self._curves)
        done = np.clip(time, 0, 1)
        ways = [0.0, np.sin(2 * np.pi * multiple * time + phase), done * done * (3 - 2 * done)]
        return base + amplitude * np.choose(curve, [*ways, np.sin(np.pi * done) ** 2, time])


_CURVE = ("base", "amplitude", "curve", "multiple", "phase")


def _camera(count: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Displacement by pan, shake and zoom (N, 10, 2, 64, 64), and where the background has structure to show it."""
    moves = rng.random(count) < 0.5
    pan = rng.normal(0, 1.2, (count, 1, 2)) + rng.normal(0, 0.4, (count, FIELDS, 2))
    zoom = rng.normal(0, 0.004, count) * moves * FRAME
    panned = torch.from_numpy((pan * moves[:, None, None]).astype(np.float32))[..., None, None]
    zoomed = torch.from_numpy(zoom.astype(np.float32))[:, None, None, None, None] * (_PLACES - 0.5)
    behind = torch.from_numpy((rng.random(count) < 0.8).astype(np.float32))[:, None, None, None, None]
    return panned + zoomed, behind


def _rotation(axis: str, angle: np.ndarray) -> np.ndarray:
    """Rotations (..., 3, 3) about the axis x, y or z."""
    turned, first, second = np.zeros((*angle.shape, 3, 3)), *{"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    turned[..., 3 - first - second, 3 - first - second] = 1
    turned[..., first, first] = turned[..., second, second] = np.cos(angle)
    turned[..., second, first] = np.sin(angle)
    turned[..., first, second] = -turned[..., second, first]
    return turned


def _skeletons(pose: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the limbs (N, 11, limbs, 2, 3) of drawn bodies, and the limbs' radii (N, limbs)."""
    count = len(pose)
    size, girth = rng.uniform(0.85, 1.15, (count, 1, 1)), rng.uniform(0.75, 1.35, (count, 1))
    pelvis = np.stack([pose[..., SIDE], 0.92 + pose[..., UP], pose[..., FORWARD]], -1)
    heading = _rotation("y", pose[..., TURN])
    trunk = heading @ _rotation("x", pose[..., BEND]) @ _rotation("z", pose[..., LEAN])
    neck = pelvis + trunk @ [0, 0.52, 0]
    head = neck + trunk @ [0, 0.2, 0.03]
    limbs = []
    for side, outwards in ((0, -1), (1, 1)):
        hip = pelvis + heading @ [0.1 * outwards, 0, 0]
        thigh = heading @ _rotation("x", -pose[..., LEG_RAISE + side])
        thigh = thigh @ _rotation("z", outwards * np.abs(pose[..., LEG_SPREAD + side]))
        knee = hip + thigh @ [0, -0.44, 0]
        shin = thigh @ _rotation("x", np.clip(pose[..., KNEE + side], 0, 2.4))
        ankle = knee + shin @ [0, -0.43, 0]
        limbs += [(hip, knee, 0.085), (knee, ankle, 0.06), (ankle, ankle + shin @ [0, -0.05, 0.18], 0.045)]
    limbs += [(pelvis, neck, 0.15), (head, head + 1e-3, 0.115)]
    for side, outwards in ((0, -1), (1, 1)):
        shoulder = neck + trunk @ [0.19 * outwards, -0.04, 0]
        upper = trunk @ _rotation("x", -pose[..., ARM_RAISE + side])
        upper = upper @ _rotation("z", outwards * pose[..., ARM_SPREAD + side])
        elbow = shoulder + upper @ [0, -0.29, 0]
        fore = upper @ _rotation("x", -np.clip(pose[..., ELBOW + side], 0, 2.5))
        limbs += [(shoulder, elbow, 0.055), (elbow, elbow + fore @ [0, -0.33, 0], 0.05)]
    ends = np.stack([np.stack(limb[:2], -2) for limb in limbs], 2) * size[..., None, None]
    return ends, np.array([radius for *_, radius in limbs]) * girth * size[:, :, 0]


def _seen(joints: np.ndarray, spread: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Project joints by drawn cameras: x right and y down in shares of the frame, z metres towards the camera.

    Returns:
        (N, 11, limbs, 2, 3), and the size of a metre (N,) as a share of the frame: from people far away to the upper
        body alone.
    """
    count, middle = len(joints), FIELDS // 2
    view = _rotation("x", rng.uniform(-0.1, 0.4, count)) @ _rotation("y", rng.uniform(-np.pi, np.pi, count))
    turned = np.einsum("nij,ntlej->ntlei", view, joints)
    size = np.exp(rng.uniform(np.log(0.4), np.log(1.8), count)) / 1.75
    distance = np.maximum(rng.uniform(2.5, 8, count) * (0.5 / size / 1.75) ** 0.5, 2.0)
    nearer = turned[..., 2] - turned[:, :1, 3:4, :1, 2]
    depth = np.maximum(1 - nearer / distance[:, None, None, None], 0.4)
    pelvis = turned[:, middle, 0, 0, :2]
    aim = pelvis + 0.6 * rng.uniform(0, 1, count)[:, None] * (turned[:, middle, 7].mean(1)[:, :2] - pelvis)
    flat = (turned[..., :2] - aim[:, None, None, None]) * size[:, None, None, None, None] / depth[..., None]
    flat[..., 1] *= -1
    flat += np.stack([rng.normal(0.5, spread, count), rng.normal(0.5, 0.07, count)], -1)[:, None, None, None]
    return np.concatenate([flat, turned[..., 2:]], -1), size


_PLACES = torch.stack(torch.meshgrid(*[(torch.arange(SIZE) + 0.5) / SIZE] * 2, indexing="xy"))  # x, y of each pixel


def _paint_limb(flow: torch.Tensor, ends: torch.Tensor, radius: torch.Tensor) -> None:
    """Paint a limb with ends (N, 11, 2, 2) and radius (N,) over the flow (N, 10, 2, 64, 64)."""
    first, second = ends[:, :-1, 0], ends[:, :-1, 1]
    of_first, of_second = ((ends[:, 1:, end] - ends[:, :-1, end]) * FRAME for end in (0, 1))
    line = second - first
    across, down = (_PLACES[axis] - first[..., axis, None, None] for axis in (0, 1))
    (line_x, line_y), length = (line[..., axis, None, None] for axis in (0, 1)), line.square().sum(-1).clamp_min(1e-6)
    along = ((across * line_x + down * line_y) / length[..., None, None]).clamp_(0, 1)
    away = (across - along * line_x).square_() + (down - along * line_y).square_()
    inside = away < radius.square()[:, None, None, None]
    for axis in (0, 1):
        begin, end = of_first[..., axis, None, None], of_second[..., axis, None, None]
        flow[:, :, axis] = torch.where(inside, begin + along * (end - begin), flow[:, :, axis])


def _estimated(flow: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Exact flow as a method would estimate and `prepare` store it: soft at edges, unsteady, bounded, in 8 bits."""
    count = len(flow)
    width, taps = float(np.exp(rng.uniform(np.log(0.4), np.log(1.6)))), torch.arange(-4, 5).float()
    kernel = torch.exp(-taps.square() / 2 / width**2)
    kernel /= kernel.sum()
    planes = F.pad(flow.reshape(count * FIELDS * 2, 1, SIZE, SIZE), (4, 4, 4, 4), mode="replicate")
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    noise = torch.randn(count * FIELDS * 2, 1, 10, 10)
    noise *= torch.from_numpy((0.25 * rng.uniform(0, 1, count) ** 2).astype(np.float32)).repeat_interleave(FIELDS * 2)[
        :, None, None, None
    ]
    planes = (planes + F.interpolate(noise, (SIZE, SIZE), mode="bilinear")).view(count, FIELDS, 2, SIZE, SIZE)
    return from_bytes(to_bytes(planes))


def to_bytes(flow: torch.Tensor) -> torch.Tensor:
    """Flow in pixels as `prepare` stores it: uint8, 127.5 is no motion."""
    return (flow * (127.5 / LARGEST) + 127.5).round().clamp(0, 255).to(torch.uint8)


def from_bytes(stored: torch.Tensor) -> torch.Tensor:
    """The reverse of `to_bytes`."""
    return (stored.float() - 127.5) * (LARGEST / 127.5)
