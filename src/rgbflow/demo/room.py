"""Pictures of rooms: wall, floor and furniture, in muted colours only (see `painting.HELD_COLOURS`)."""

import cv2
import numpy as np

from rgbflow.demo.painting import shade
from rgbflow.demo.puppet import CLOTHES, Colour

WIDTH, HEIGHT = 400, 320
FLOOR_ROW = 216  # where the wall meets the floor

WALLS = [
    *[(224, 216, 202), (198, 206, 208), (212, 202, 206), (184, 190, 180), (168, 176, 188)],
    *[(232, 228, 220), (190, 172, 152)],
]
FLOORS = [(152, 120, 94), (122, 106, 94), (178, 152, 124), (138, 138, 140), (106, 94, 86), (160, 158, 150)]
WOODS = [(122, 94, 70), (98, 78, 62), (168, 140, 108), (222, 218, 210), (74, 68, 66)]
PAPER = (228, 224, 214)
SKY = (206, 220, 228)
METAL = (70, 66, 64)


def paint_room(rng: np.random.Generator) -> np.ndarray:
    """Paint an empty room; `rng` draws everything that differs between rooms.

    Returns:
        (HEIGHT, WIDTH, 3) uint8 RGB.
    """
    room = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    _paint_wall(rng, room[:FLOOR_ROW])
    _paint_floor(rng, room[FLOOR_ROW:])
    room[FLOOR_ROW - 6 : FLOOR_ROW + 1] = shade(_choose(rng, WOODS), 1.1)
    for slot, piece in enumerate(rng.permutation(len(FURNITURE))[:4]):
        left = int((slot + rng.uniform(0.05, 0.2)) * WIDTH / 4)
        FURNITURE[piece](rng, room, left)
    return _light(rng, room)


def _choose(rng: np.random.Generator, colours: list[Colour]) -> Colour:
    return colours[rng.integers(len(colours))]


def _box(room: np.ndarray, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
    cv2.rectangle(room, (int(left), int(top)), (int(right), int(bottom)), colour, cv2.FILLED)


def _paint_wall(rng: np.random.Generator, wall: np.ndarray) -> None:
    """Plain, striped, of bricks, or panelled."""
    wall[:] = colour = _choose(rng, WALLS)
    darker, step = rng.uniform(0.86, 0.94), int(rng.integers(19, 35))
    kind = rng.choice(["plain", "stripes", "bricks", "panels"])
    if kind == "stripes":
        for left in range(0, WIDTH, 2 * step):
            _box(wall, left, 0, left + step, FLOOR_ROW, shade(colour, darker))
    elif kind == "bricks":
        for row, top in enumerate(range(0, FLOOR_ROW, step)):
            for left in range(-(row % 2) * step, WIDTH, 2 * step):
                brick = shade(colour, darker * rng.uniform(0.94, 1.06))
                _box(wall, left, top, left + 2 * step - 3, top + step - 3, brick)
    elif kind == "panels":
        _box(wall, 0, 134, WIDTH, FLOOR_ROW, shade(colour, 0.82))
        for left in range(0, WIDTH, 3 * step):
            _box(wall, left, 147, left + 2.4 * step, 201, shade(colour, 0.76))


def _paint_floor(rng: np.random.Generator, floor: np.ndarray) -> None:
    """Planks or tiles in perspective, or a carpet."""
    floor[:] = colour = _choose(rng, FLOORS)
    kind, eye = rng.choice(["planks", "tiles", "carpet"]), WIDTH * rng.uniform(0.35, 0.65)
    depth, seam = len(floor), shade(colour, 0.8)
    if kind == "carpet":
        floor[:] = np.clip(floor + rng.normal(0, 9, (depth, WIDTH, 1)), 0, 255)
        return
    for x in range(-2 * WIDTH, 3 * WIDTH, WIDTH // 9):
        cv2.line(floor, (int(eye + 0.45 * (x - eye)), 0), (x, depth), seam, 2, cv2.LINE_AA)
    if kind == "tiles":
        for row in (6, 21, 44, 78):
            cv2.line(floor, (0, row), (WIDTH, row), seam, 2)


def _paint_window(rng: np.random.Generator, room: np.ndarray, left: int) -> None:
    frame = _choose(rng, WOODS)
    _box(room, left - 5, 25, left + 73, 139, frame)
    _box(room, left, 30, left + 68, 134, SKY)
    _box(room, left + 32, 30, left + 36, 134, frame)
    _box(room, left, 80, left + 68, 84, frame)
    _box(room, left - 10, 138, left + 78, 144, shade(frame, 0.85))


def _paint_door(rng: np.random.Generator, room: np.ndarray, left: int) -> None:
    wood = _choose(rng, WOODS)
    _box(room, left - 6, 20, left + 66, FLOOR_ROW, shade(wood, 0.75))
    _box(room, left, 26, left + 60, FLOOR_ROW, wood)
    for top, bottom in ((41, 112), (130, 201)):
        _box(room, left + 10, top, left + 50, bottom, shade(wood, 0.86))
    cv2.circle(room, (left + 54, 130), 4, (206, 196, 160), cv2.FILLED, cv2.LINE_AA)


def _paint_pictures(rng: np.random.Generator, room: np.ndarray, left: int) -> None:
    for top in (30, 91):
        right, bottom = left + int(rng.integers(40, 70)), top + int(rng.integers(35, 50))
        _box(room, left, top, right, bottom, _choose(rng, WOODS))
        _box(room, left + 4, top + 4, right - 4, bottom - 4, PAPER)
        _box(room, left + 9, top + 9, right - 9, bottom - 20, _choose(rng, WALLS))
        _box(room, left + 9, bottom - 20, right - 9, bottom - 9, _choose(rng, FLOORS))


def _paint_shelf(rng: np.random.Generator, room: np.ndarray, left: int) -> None:
    wood = _choose(rng, WOODS)
    _box(room, left, 43, left + 72, FLOOR_ROW + 4, wood)
    for board in (84, 128, 172, 216):
        _box(room, left + 5, board - 36, left + 67, board, shade(wood, 0.55))
        spine = left + 7
        while spine < left + 58:
            thick, tall = int(rng.integers(5, 10)), int(rng.integers(22, 34))
            _box(room, spine, board - tall, spine + thick - 1, board, _choose(rng, CLOTHES))
            spine += thick


def _paint_sofa(rng: np.random.Generator, room: np.ndarray, left: int) -> None:
    cloth = _choose(rng, CLOTHES)
    _box(room, left, 143, left + 104, 225, shade(cloth, 0.85))
    for cushion in (left + 10, left + 54):
        _box(room, cushion, 151, cushion + 40, 181, cloth)
    _box(room, left + 6, 181, left + 98, 193, shade(cloth, 1.1))
    for arm in (left, left + 94):
        _box(room, arm, 167, arm + 10, 225, shade(cloth, 0.75))


def _paint_lamp(rng: np.random.Generator, room: np.ndarray, left: int) -> None:
    middle = left + 32
    _box(room, middle - 2, 90, middle + 2, FLOOR_ROW, METAL)
    _box(room, middle - 10, 214, middle + 10, 221, METAL)
    hood = [(middle - 20, 99), (middle + 20, 99), (middle + 10, 65), (middle - 10, 65)]
    cv2.fillConvexPoly(room, np.array(hood, np.int32), _choose(rng, WALLS), cv2.LINE_AA)


FURNITURE = (_paint_window, _paint_door, _paint_pictures, _paint_shelf, _paint_sofa, _paint_lamp)


def _light(rng: np.random.Generator, room: np.ndarray) -> np.ndarray:
    """Light from one side, and the fine grain that every real surface has."""
    first, last = rng.permutation([1.0, rng.uniform(0.78, 0.95)])
    light = np.linspace(first, last, WIDTH)[:, None]
    grain = cv2.GaussianBlur(rng.normal(0, 14, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 1.5)
    return np.clip(room * light + grain[..., None], 0, 255).astype(np.uint8)
