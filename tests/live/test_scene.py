import numpy as np

from rgbflow.live.scene import Scene


def looks(frames, rate=25):
    scene = Scene()
    return [index for index, frame in enumerate(frames) if scene.needs_look(frame, index / rate)]


def noisy(base, rng, sigma=6.0):
    return np.clip(base + rng.normal(0, sigma, base.shape), 0, 255).astype(np.uint8)


def test_a_still_scene_is_looked_at_once_a_second_even_with_a_noisy_camera():
    rng = np.random.default_rng(0)
    base = rng.integers(60, 200, (112, 144, 3)).astype(np.float64)
    assert looks([noisy(base, rng) for _ in range(100)]) == [0, 25, 50, 75]


def test_something_small_that_moves_is_looked_at_five_times_a_second():
    frames = []
    for step in range(50):
        frame = np.full((112, 144, 3), 100, np.uint8)
        frame[40:60, step * 2 : step * 2 + 12] = 200
        frames.append(frame)
    assert looks(frames) == list(range(0, 50, 5))


def test_a_cut_is_looked_at_at_once():
    first, second = np.full((112, 144, 3), 80, np.uint8), np.full((112, 144, 3), 110, np.uint8)
    assert looks([first] * 3 + [second] * 20) == [0, 3]


def test_a_forgotten_scene_is_new():
    scene, frame = Scene(), np.zeros((40, 40, 3), np.uint8)
    assert scene.needs_look(frame, 5.0)
    assert not scene.needs_look(frame, 5.1)
    scene.forget()
    assert scene.needs_look(frame, 0.0)
