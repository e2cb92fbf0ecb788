"""The demo's data set: MP4 files of drawn people; some actions differ only in motion, some only in appearance.

| actions | differ in | recognised by | |---|---|---| | step_left, step_right; raise_arms, lower_arms | the direction of
time | flow | | drink_red_cup, drink_blue_cup; wave_green_flag, wave_pink_flag | the colour of the thing in the hand |
rgb | | pick_up_ball, put_down_ball, pick_up_melon, put_down_melon | both | only both together |

Such actions are *twins*: clip n of a group has the same body, room, motion, camera and light in each twin;
they differ only as the table says. An ideal rgb stream is therefore right on 8 of 12 clips (66.7 %), and so is an ideal
flow stream; both together can be right on all. "Left" is the left of the picture.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from rgbflow.atomic import write_atomically
from rgbflow.data.layouts import GROUPS_FILE
from rgbflow.demo.painting import Brush, paint_person, paint_shadow
from rgbflow.demo.puppet import (
    Motion,
    Person,
    Style,
    drink,
    pick_person,
    pick_style,
    pick_up,
    raise_arms,
    step_left,
    wave_flag,
)
from rgbflow.demo.room import paint_room
from rgbflow.errors import InputError
from rgbflow.processes import map_in_processes
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.video.writing import write_video

NUM_FRAMES = 24
FRAMES_PER_SECOND = 12
SMALLEST_SIDE = 32  # below this a person is no longer recognisable

# Everything is painted larger and shrunk, which smooths edges and gives sub-pixel motion.
OVERSAMPLING = 2
ROOM_MARGIN = 0.12  # of the picture's size, on each side, for the camera to move in
SHUTTER_MOMENTS = 3
SHUTTER_OPEN = 0.5  # of the time between two frames


@dataclass(frozen=True)
class Action:
    """One class of the data set: a motion, the direction of time, and what the hand holds."""

    name: str
    motion: Motion
    backwards: bool = False
    held: str | None = None


ACTIONS = (
    Action("step_left", step_left),
    Action("step_right", step_left, backwards=True),
    Action("raise_arms", raise_arms),
    Action("lower_arms", raise_arms, backwards=True),
    Action("drink_red_cup", drink, held="red cup"),
    Action("drink_blue_cup", drink, held="blue cup"),
    Action("wave_green_flag", wave_flag, held="green flag"),
    Action("wave_pink_flag", wave_flag, held="pink flag"),
    Action("pick_up_ball", pick_up, held="ball"),
    Action("put_down_ball", pick_up, backwards=True, held="ball"),
    Action("pick_up_melon", pick_up, held="melon"),
    Action("put_down_melon", pick_up, backwards=True, held="melon"),
)
MOTIONS = (step_left, raise_arms, drink, wave_flag, pick_up)


@dataclass(frozen=True)
class Group:
    """A person in a room; `room` is (H', W', 3) uint8 RGB, oversampled and with a margin on each side."""

    person: Person
    room: np.ndarray


@dataclass(frozen=True)
class Take:
    """The variation between the clips of a group; lengths are fractions of the picture's height, time is 0 to 1.

    Attributes:
        style: how the motion is done.
        scale: height of a person of height 1.
        position: of the feet, x from the middle of the picture to the right, 1j * y from the top downwards.
        pan: how far the camera moves during the clip.
        zoom: growth of the picture during the clip, a factor around 1.
        shake, shake_cycles, shake_phase: amplitude and rhythm of an unsteady hand.
        gamma, gain: tone curve; brightness of red, green and blue, factors around 1.
        flicker, flicker_cycles: amplitude and rhythm of the light.
        vignette: darkening of the corners, 0 to 1.
        blurred: whether the shutter stays open long enough to blur motion.
        crf: strength of the compression, see `rgbflow.video.write_video`.
    """

    style: Style
    scale: float
    position: complex
    pan: complex
    zoom: float
    shake: float
    shake_cycles: float
    shake_phase: float
    gamma: float
    gain: tuple[float, float, float]
    flicker: float
    flicker_cycles: float
    vignette: float
    blurred: bool
    crf: int


def write_dataset(
    folder: str | Path,
    *,
    num_groups: int = 15,
    clips_per_group: int = 2,
    size: tuple[int, int] = (160, 128),
    seed: int = 0,
    workers: int = 1,
    progress: Progress = SILENT,
) -> list[Path]:
    """Write the data set as class folders of MP4 files, and `groups.tsv`.

    The files are `<folder>/<class>/<group>_<class>_<n>.mp4`, each with NUM_FRAMES frames; `groups.tsv` has a
    line `<class>/<clip>.mp4<TAB><group>` for each. The frames don't depend on `workers`.

    Args:
        folder: made if missing; clips of the same name are replaced.
        num_groups: number of people, each in a separate room.
        clips_per_group: clips of each class in each group.
        size: (W, H) of the pictures.
        seed: another seed gives other people, rooms and clips.
        workers: processes that draw and encode; 1 works in this process.
        progress: a step is a clip.

    Returns:
        The paths of the clips, by class, group and number.

    Raises:
        InputError: if a number is too small, or a file can't be written.
    """
    _check_arguments(num_groups, clips_per_group, size, workers)
    folder = Path(folder)
    jobs = [
        (action, group, clip)
        for action in ACTIONS
        for group in range(1, num_groups + 1)
        for clip in range(1, clips_per_group + 1)
    ]
    written = map_in_processes(partial(_write_clip, folder, size, seed), jobs, workers)
    paths = list(counted(written, len(jobs), progress))
    _write_groups(folder, paths)
    return paths


def pick_group(seed: int, group: int, size: tuple[int, int]) -> Group:
    """Draw the person and the room of a group, for pictures of size (W, H)."""
    rng = np.random.default_rng([seed, group])
    person = pick_person(rng)
    room_size = [round(OVERSAMPLING * side * (1 + 2 * ROOM_MARGIN)) for side in size]
    return Group(person, cv2.resize(paint_room(rng), room_size, interpolation=cv2.INTER_AREA))


def pick_take(seed: int, group: int, motion: Motion, clip: int) -> Take:
    """Draw what clip number `clip` of a group shares with its twins: everything but the named difference."""
    rng = np.random.default_rng([seed, group, MOTIONS.index(motion), clip])
    brightness, warmth = rng.uniform(0.86, 1.12), rng.uniform(-0.045, 0.045)
    return Take(
        style=pick_style(rng),
        scale=rng.uniform(0.64, 0.76),
        position=complex(rng.uniform(-0.14, 0.14), rng.uniform(0.94, 0.97)),
        pan=complex(rng.uniform(-0.05, 0.05), rng.uniform(-0.02, 0.02)),
        zoom=rng.uniform(0.96, 1.04),
        shake=rng.uniform(0.0, 0.006),
        shake_cycles=rng.uniform(2.0, 6.0),
        shake_phase=rng.uniform(),
        gamma=rng.uniform(0.8, 1.25),
        gain=(brightness * (1 + warmth), brightness, brightness * (1 - warmth)),
        flicker=rng.uniform(0.0, 0.05),
        flicker_cycles=rng.uniform(0.5, 3.0),
        vignette=rng.uniform(0.0, 0.4),
        blurred=bool(rng.random() < 0.35),
        crf=int(rng.integers(18, 29)),
    )


def render_clip(
    action: Action, group: Group, take: Take, size: tuple[int, int], num_frames: int = NUM_FRAMES
) -> np.ndarray:
    """Draw the frames of a clip.

    Args:
        action: the class.
        group: the person and the room.
        take: everything else.
        size: (W, H) of the pictures, the one that `group` was made for.
        num_frames: T, at least 2.

    Returns:
        (T, H, W, 3) uint8 RGB. An action that runs backwards gives exactly the reversed frames of its twin.
    """
    times = np.linspace(0, 1, num_frames)
    if action.backwards:
        times = times[::-1]
    open_shutter = np.linspace(-0.5, 0.5, SHUTTER_MOMENTS) * SHUTTER_OPEN / (num_frames - 1)
    moments = open_shutter if take.blurred else np.zeros(1)
    corners = _vignette(take.vignette, size)
    frames = np.empty((num_frames, size[1], size[0], 3), np.uint8)
    for frame, time in zip(frames, times, strict=True):
        seen = _expose(action, group, take, size, time, moments)
        lit = cv2.LUT(seen, _tone_curve(take, time))
        cv2.multiply(lit, corners, dst=frame, scale=1 / 255)
    return frames


def _expose(
    action: Action, group: Group, take: Take, size: tuple[int, int], time: float, moments: np.ndarray
) -> np.ndarray:
    """What the camera sees around `time`, the mean over some moments: (H, W, 3) uint8 RGB."""
    width, height = (OVERSAMPLING * side for side in size)
    zoom, shift = _camera(take, time, width, height)
    room = _view_room(group.room, zoom, shift, (width, height))
    feet = shift + zoom * (width / 2 + height * take.position)
    seen = np.zeros((size[1], size[0], 3), np.float32)
    for moment in moments:
        brush = Brush(room.copy(), feet, zoom * height * take.scale * group.person.height)
        pose = action.motion(group.person, take.style, time + moment)
        paint_shadow(brush, pose)
        paint_person(brush, group.person, pose, action.held)
        cv2.accumulate(cv2.resize(brush.canvas, size, interpolation=cv2.INTER_AREA), seen)
    return cv2.convertScaleAbs(seen, alpha=1 / len(moments))


def _view_room(room: np.ndarray, zoom: float, shift: complex, size: tuple[int, int]) -> np.ndarray:
    """The room as the moving camera sees it."""
    margin = complex(room.shape[1], room.shape[0]) * ROOM_MARGIN / (1 + 2 * ROOM_MARGIN)
    corner = shift - zoom * margin
    view = np.array([[zoom, 0, corner.real], [0, zoom, corner.imag]])
    return cv2.warpAffine(room, view, size, borderMode=cv2.BORDER_REPLICATE)


def _camera(take: Take, time: float, width: int, height: int) -> tuple[float, complex]:
    """Scale and shift from canvas pixels of a still camera to those of the moving one."""
    middle, since_half = complex(width, height) / 2, time - 0.5
    zoom = 1 + (take.zoom - 1) * since_half
    angle = 2 * np.pi * (take.shake_phase + take.shake_cycles * time)
    shake = take.shake * complex(np.sin(angle), np.sin(1.3 * angle + 1))
    return zoom, middle - zoom * middle + height * (take.pan * since_half + shake)


def _tone_curve(take: Take, time: float) -> np.ndarray:
    """(1, 256, 3) uint8: what the light at `time` makes of each value of red, green and blue."""
    flicker = 1 + take.flicker * np.sin(2 * np.pi * take.flicker_cycles * time)
    curve = 255 * (np.arange(256) / 255) ** take.gamma
    return np.clip(curve[None, :, None] * flicker * np.array(take.gain), 0, 255).astype(np.uint8)


def _vignette(strength: float, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: 255 in the middle, darker by `strength` in the corners."""
    x, y = (np.linspace(-1, 1, side) for side in size)
    dark = strength * (x[None, :] ** 2 + y[:, None] ** 2) / 2
    return np.repeat((255 * (1 - dark)).astype(np.uint8)[..., None], 3, axis=2)


def _check_arguments(num_groups: int, clips_per_group: int, size: tuple[int, int], workers: int) -> None:
    counts = {"num_groups": num_groups, "clips_per_group": clips_per_group, "workers": workers}
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} is {count}, but at least 1 is needed: give 1 or more")
    if min(size) < SMALLEST_SIDE:
        raise InputError(
            f"size is {size[0]}x{size[1]}, but people can't be recognised below {SMALLEST_SIDE} pixels: "
            f"give a larger width and height"
        )


def _write_clip(folder: Path, size: tuple[int, int], seed: int, job: tuple[Action, int, int]) -> Path:
    action, group, clip = job
    take = pick_take(seed, group, action.motion, clip)
    frames = render_clip(action, pick_group(seed, group, size), take, size)
    path = folder / action.name / f"g{group:02d}_{action.name}_{clip:02d}.mp4"
    write_video(path, frames, FRAMES_PER_SECOND, crf=take.crf)
    return path


def _write_groups(folder: Path, paths: list[Path]) -> None:
    lines = [f"{path.parent.name}/{path.name}\t{path.name.split('_')[0]}\n" for path in paths]
    write_atomically(folder / GROUPS_FILE, "".join(lines))
