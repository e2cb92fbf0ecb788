"""Clips of no action that the program draws itself: figures that move their limbs at random, and drifting textures.

They are no action of anybody's. Beside real takes they teach a classifier what pictures and motion can be besides
(docs/results/teach.md has what they are worth).
"""

from collections.abc import Iterator

import cv2
import numpy as np

NUM_CLIPS = 16
NUM_FRAMES = 30
SIZE = (320, 240)  # width and height, pixels
SWING = 2.2  # radians; the largest amplitude of a limb
SPEED = 0.35  # radians per frame; the fastest rhythm of a limb


def idle_clips(seed: int = 0) -> Iterator[np.ndarray]:
    """NUM_CLIPS clips, (NUM_FRAMES, H, W, 3) uint8 RGB each; the same for a seed. Every other one has a figure."""
    for number in range(NUM_CLIPS):
        rng = np.random.default_rng((seed, number))
        yield draw_clip(rng, has_figure=number % 2 == 0)


def draw_clip(rng: np.random.Generator, has_figure: bool) -> np.ndarray:
    """A textured background that stands or drifts, with up to three drifting patches and perhaps a figure."""
    width, height = SIZE
    background = _texture(rng, 2 * width, 2 * height, rng.uniform(2, 20)) * rng.uniform(0.3, 1)
    pan = rng.normal(0, 1, 2) * (rng.random() < 0.5)
    patches = [_Patch(rng) for _ in range(rng.integers(0, 4))]
    figure = _Figure(rng) if has_figure else None
    pictures = []
    for time in range(NUM_FRAMES):
        picture = _moved(background, pan * time - np.array(SIZE) / 2)
        for patch in patches:
            picture = patch.over(picture, time)
        if figure:
            figure.draw(picture, time)
        pictures.append(picture.clip(0, 255).astype(np.uint8))
    return np.stack(pictures)


class _Patch:
    """A textured square that drifts and trembles."""

    def __init__(self, rng: np.random.Generator):
        side = int(rng.integers(30, 160))
        self.texture = _texture(rng, side, side, rng.uniform(1, 8)) * rng.uniform(0.3, 1, 3).astype(np.float32)
        self.place, self.step = rng.uniform(-side / 2, np.array(SIZE) - side / 2), rng.normal(0, 3, 2)
        self.phase, self.amplitude = rng.uniform(0, 2 * np.pi), rng.uniform(0, 20)

    def over(self, picture: np.ndarray, time: int) -> np.ndarray:
        place = self.place + self.step * time + self.amplitude * np.sin(self.phase + time / 3)
        share = cv2.GaussianBlur(_moved(np.ones_like(self.texture), place), (0, 0), 2)
        return share * _moved(self.texture, place) + (1 - share) * picture


class _Figure:
    """A person of a head, a trunk, and arms and legs of two parts that swing in rhythms of their own."""

    def __init__(self, rng: np.random.Generator):
        width, height = SIZE
        self.tall = height * rng.uniform(0.5, 0.95)
        self.place = np.array([width * rng.uniform(0.3, 0.7), height * rng.uniform(0.45, 0.6)])
        self.step = rng.normal(0, 1.5, 2) * [1, 0.1]
        self.colours = rng.uniform(20, 235, (4, 3))  # trunk, arms, legs, skin
        active = rng.random((4, 2)) < 0.6  # of the parts of two arms and two legs
        self.rest = rng.normal(0, 0.3, (4, 2)) + np.array([[0.3, 0], [-0.3, 0], [0.15, 0], [-0.15, 0]])
        self.amplitude = active * rng.uniform(0, SWING, (4, 2)) * np.array([[1], [1], [0.4], [0.4]])
        self.speed, self.phase = rng.uniform(0.05, SPEED, (4, 2)), rng.uniform(0, 2 * np.pi, (4, 2))

    def draw(self, picture: np.ndarray, time: int) -> None:
        hips = self.place + self.step * time
        part, thick = 0.22 * self.tall, max(2, round(0.07 * self.tall))
        neck = hips - [0, 0.3 * self.tall]
        angles = self.rest + self.amplitude * np.sin(self.phase + self.speed * time)
        for limb, (upper, lower) in enumerate(angles):
            start, colour = (neck, self.colours[1]) if limb < 2 else (hips, self.colours[2])
            middle = start + part * np.array([np.sin(upper), np.cos(upper)])
            end = middle + part * np.array([np.sin(upper + lower), np.cos(upper + lower)])
            _line(picture, start, middle, colour, thick)
            _line(picture, middle, end, self.colours[3] if limb < 2 else colour, thick)
        _line(picture, neck, hips, self.colours[0], round(2.2 * thick))
        head = np.round(neck - [0, 0.12 * self.tall]).astype(int).tolist()
        cv2.circle(picture, head, round(0.07 * self.tall), self.colours[3].tolist(), -1, cv2.LINE_AA)


def _line(picture: np.ndarray, start: np.ndarray, end: np.ndarray, colour: np.ndarray, thick: int) -> None:
    first, last = (np.round(point).astype(int).tolist() for point in (start, end))
    cv2.line(picture, first, last, colour.tolist(), thick, cv2.LINE_AA)


def _texture(rng: np.random.Generator, width: int, height: int, blur: float) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.random((height, width, 3), dtype=np.float32), (0, 0), blur)
    return cv2.normalize(noise, np.empty_like(noise), 0, 255, cv2.NORM_MINMAX)


def _moved(texture: np.ndarray, place: np.ndarray) -> np.ndarray:
    """A texture with its upper left corner at a place of an empty picture."""
    matrix = np.array([[1, 0, place[0]], [0, 1, place[1]]])
    return cv2.warpAffine(texture, matrix, SIZE)
