import numpy as np
import pytest

from rgbflow.errors import InputError
from rgbflow.flow import FlowSettings, dequantise, flow_picture, make_estimator, quantise
from rgbflow.stream import Preparation

METHODS = [FlowSettings("dis", "medium"), FlowSettings("dis", "fast"), FlowSettings("farneback"), FlowSettings("tvl1")]


def texture(height, width, seed=0):
    """Smooth noise: what every method can follow."""
    import cv2

    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


def shifted_pair(dx, dy, size=128, margin=16):
    """Two gray frames of one texture, the second moved by (dx, dy) pixels to the right and down."""
    import cv2

    picture = texture(size + 2 * margin, size + 2 * margin)
    move = np.float32([[1, 0, dx], [0, 1, dy]])
    moved = cv2.warpAffine(picture, move, picture.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    inside = slice(margin, -margin)
    return [np.clip(p[inside, inside], 0, 255).astype(np.uint8) for p in (picture, moved)]


@pytest.mark.parametrize("settings", METHODS, ids=lambda s: f"{s.method}-{s.preset}")
def test_flow_is_the_known_motion_within_a_fifth_of_a_pixel(settings):
    estimate = make_estimator(settings)
    for dx, dy in [(0, 0), (1, 0), (0, 1), (-2, 1), (3, -3), (0.5, 0.25), (-1.5, -4)]:
        flow = estimate(*shifted_pair(dx, dy))
        assert flow.shape == (2, 128, 128)
        assert flow.dtype == np.float32
        inner = flow[:, 16:-16, 16:-16]
        assert np.abs(np.median(inner[0]) - dx) < 0.2
        assert np.abs(np.median(inner[1]) - dy) < 0.2
        assert np.abs(inner - np.array([dx, dy])[:, None, None]).mean() < 0.2


@pytest.mark.parametrize("size", [(256, 341), (341, 256), (256, 256), (192, 201), (256, 455)])
@pytest.mark.parametrize(("preset", "reduction"), [("ultrafast", 4), ("fast", 4), ("medium", 2)])
def test_a_reduced_dis_field_scaled_up_is_the_full_field_to_the_last_bit(size, preset, reduction):
    import cv2

    picture = np.uint8(texture(size[0] + 20, size[1] + 20))
    pair = [picture[:-20, :-20].copy(), picture[2 : 2 - 20, 3 : 3 - 20].copy()]
    field = make_estimator(FlowSettings("dis", preset), reduction)(*pair)
    assert field.shape == (2, size[0] // reduction, size[1] // reduction)
    full = make_estimator(FlowSettings("dis", preset))(*pair)
    np.testing.assert_array_equal(cv2.resize(field.transpose(1, 2, 0), size[::-1]).transpose(2, 0, 1), full)


@pytest.mark.parametrize("settings", METHODS, ids=lambda s: f"{s.method}-{s.preset}")
def test_a_reduced_field_is_in_pixels_of_the_frames(settings):
    reduction = Preparation(256, settings).flow_reduction
    assert reduction == {"fast": 4, "medium": 2}[settings.preset] if settings.method == "dis" else 2
    field = make_estimator(settings, reduction)(*shifted_pair(3, -2, size=192))
    inner = field[:, 8:-8, 8:-8]
    assert np.abs(inner - np.array([3, -2])[:, None, None]).mean() < 0.2


@pytest.mark.parametrize(("short_side", "expected"), [(256, 4), (192, 4), (191, 2), (96, 2), (95, 1), (32, 1)])
def test_a_field_that_would_get_too_small_is_reduced_less(short_side, expected):
    assert Preparation(short_side, FlowSettings("dis", "fast")).flow_reduction == expected


@pytest.mark.parametrize("settings", METHODS, ids=lambda s: f"{s.method}-{s.preset}")
def test_flow_of_mirrored_frames_is_the_mirrored_flow_with_u_negated(settings):
    estimate = make_estimator(settings)
    first, second = shifted_pair(2, -1)
    flow = estimate(first, second)
    mirrored = estimate(first[:, ::-1].copy(), second[:, ::-1].copy())[:, :, ::-1] * np.array([-1, 1])[:, None, None]
    assert np.abs(flow - mirrored)[:, 16:-16, 16:-16].mean() < 0.1


@pytest.mark.parametrize("size", [48, 64, 88, 128])  # a reused DIS object remembers at small sizes only
def test_an_estimator_keeps_no_memory_of_earlier_pairs(size):
    for settings in [*METHODS, FlowSettings("dis", "ultrafast")]:
        used = make_estimator(settings)
        for _ in range(2):
            used(*shifted_pair(4, 4, size))
        pair = shifted_pair(-1, 2, size)
        np.testing.assert_array_equal(used(*pair), make_estimator(settings)(*pair))


@pytest.mark.parametrize("bound", [1.0, 8.0, 20.0, 64.0])
def test_quantising_errs_by_at_most_bound_over_255(bound):
    flow = np.linspace(-bound, bound, 10_001, dtype=np.float32)
    stored = quantise(flow, bound)
    assert stored.dtype == np.uint8
    assert np.abs(dequantise(stored, bound) - flow).max() <= bound / 255 + 1e-6 * bound  # float32 noise
    assert (stored.min(), stored.max()) == (0, 255)


def test_larger_displacements_are_clipped_to_the_bound():
    assert quantise(np.float32([-100, 100]), 20).tolist() == [0, 255]


def test_negating_stored_flow_is_255_minus_it():
    stored = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(dequantise(255 - stored, 20), -dequantise(stored, 20), atol=1e-6)


def test_the_picture_shows_direction_as_hue_and_speed_as_saturation():
    def colour(u, v):
        return flow_picture(np.float32([[[u]], [[v]]]), full_scale=2)[0, 0].tolist()

    assert colour(0, 0) == [255, 255, 255]
    assert colour(2, 0) == [255, 0, 0]  # right: red
    assert colour(-2, 0) == [0, 255, 255]  # left: cyan
    assert colour(1, 0) == [255, 128, 128]  # half the speed: half the saturation
    assert colour(9, 0) == [255, 0, 0]  # beyond full scale
    assert np.argmax(colour(0, 2)) == 1  # down: green


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "lk"}, r"method \('lk'\) must be one of dis, farneback, tvl1"),
        ({"preset": "slow"}, r"preset \('slow'\) must be one of fast, medium, ultrafast"),
        ({"bound": 0}, r"bound \(0\) must be a number in 0.01…10,000: 20 pixels per frame step are usual"),
        ({"reduction": 3}, r"reduction \(3\) must be one of 0, 1, 2, 4"),
    ],
)
def test_wrong_settings_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        FlowSettings(**values)
