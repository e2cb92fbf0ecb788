from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ImageEnhance import Brightness, Color, Contrast

from rgbflow.clip import FrameClip
from rgbflow.flow import FlowSettings
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.transforms import (
    Augmentation,
    Crop,
    centre_crop,
    evaluation_crops,
    evaluation_input,
    random_crop,
    read_snippets,
    recoloured,
    to_input,
)

RGB = StreamSpec("rgb", "resnet18", 32, 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def flow_spec(stack_length, input_size=32):
    return StreamSpec("flow", "resnet18", input_size, stack_length, (0.5, 0.5), (0.1, 0.2))


class NumberedClip:
    """Flow whose u is the index of the field and whose v is 100 more."""

    num_frames = 40
    start_seconds = end_seconds = 0.0

    def read(self, stream, indices):
        planes = np.stack([indices, indices + 100], axis=1).astype(np.uint8)
        return np.broadcast_to(planes[:, :, None, None], (len(indices), 2, 8, 8)).copy()


@pytest.mark.parametrize("stack_length", range(1, 13))
def test_channels_stand_in_the_order_u0_v0_u1_v1(stack_length):
    starts = np.array([0, 5, 20])
    snippets = read_snippets(NumberedClip(), flow_spec(stack_length), starts)
    assert snippets.shape == (3, 2 * stack_length, 8, 8)
    for segment, start in enumerate(starts):  # written as a plain loop: nothing wraps, nothing is skipped
        for field in range(stack_length):
            assert snippets[segment, 2 * field, 0, 0] == start + field
            assert snippets[segment, 2 * field + 1, 0, 0] == start + field + 100


def test_normalisation_equals_a_plain_formula():
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    result = to_input(pixels, Crop(0, 0, 32, 32), RGB)
    for channel in range(3):
        expected = (pixels[:, channel].numpy() / 255 - RGB.mean[channel]) / RGB.std[channel]
        np.testing.assert_allclose(result[:, channel].numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", [RGB, flow_spec(3)], ids=lambda spec: spec.stream)
def test_scaling_up_is_bilinear_as_opencv_does_it(spec):
    snippets = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, spec.channels, 24, 30), dtype=np.uint8))
    crop = Crop(3, 5, 17, 21)
    result = to_input(snippets, crop, spec).numpy()
    mean, std = (np.tile(value, spec.stack_length) for value in (spec.mean, spec.std))
    for snippet in range(2):
        for channel in range(spec.channels):
            part = snippets[snippet, channel, 3:20, 5:26].numpy().astype(np.float32)
            enlarged = cv2.resize(part, (32, 32), interpolation=cv2.INTER_LINEAR)
            expected = (enlarged / 255 - mean[channel]) / std[channel]
            np.testing.assert_allclose(result[snippet, channel], expected, atol=1e-4)


def test_mean_and_std_of_flow_alternate_between_u_and_v():
    values = torch.full((1, 6, 32, 32), 255, dtype=torch.uint8)
    result = to_input(values, Crop(0, 0, 32, 32), flow_spec(3))[0, :, 0, 0]
    np.testing.assert_allclose(result.numpy(), [5, 2.5] * 3, rtol=1e-5)


def test_a_mirrored_flow_has_u_negated_and_v_kept():
    stored = torch.randint(0, 256, (2, 10, 32, 32), dtype=torch.uint8)
    before = stored.clone()
    plain = to_input(stored, Crop(0, 0, 32, 32), flow_spec(5))
    mirrored = to_input(stored, Crop(0, 0, 32, 32, flip=True), flow_spec(5))
    torch.testing.assert_close(mirrored[:, 0::2], -plain[:, 0::2].flip(-1))
    torch.testing.assert_close(mirrored[:, 1::2], plain[:, 1::2].flip(-1))
    assert torch.equal(stored, before)


def test_flipping_the_input_equals_the_flow_of_flipped_frames(moving_square):
    preparation = Preparation(short_side=64, flow=FlowSettings("farneback"))
    frames = moving_square(3, 1, frames=7, size=(64, 64))
    spec = flow_spec(5, input_size=64)
    clips = [FrameClip(preparation), FrameClip(preparation)]
    for time, frame in enumerate(frames):
        clips[0].push(frame, time / 25)
        clips[1].push(np.ascontiguousarray(frame[:, ::-1]), time / 25)
    start = np.array([0])
    flipped = to_input(read_snippets(clips[0], spec, start), Crop(0, 0, 64, 64, flip=True), spec)
    direct = to_input(read_snippets(clips[1], spec, start), Crop(0, 0, 64, 64), spec)
    assert (flipped - direct).abs().mean() < 0.05 * direct.abs().mean()


def test_a_crop_shows_its_part_and_nothing_else():
    pixels = torch.zeros(1, 3, 40, 60, dtype=torch.uint8)
    pixels[:, :, 4:36, 20:52] = 200
    result = to_input(pixels, Crop(4, 20, 32, 32), StreamSpec("rgb", "resnet18", 32, 1, (0.0,) * 3, (1.0,) * 3))
    torch.testing.assert_close(result, torch.full((1, 3, 32, 32), 200 / 255))


def test_the_centre_crop_is_in_the_centre():
    assert centre_crop(256, 340, 0.875) == Crop(top=16, left=58, height=224, width=224)
    assert centre_crop(56, 40, 1e-9) == Crop(top=27, left=19, height=1, width=1)  # never without a pixel
    assert centre_crop(200, 400, 0.5, aspect=1.0) == Crop(top=50, left=100, height=100, width=200)


@pytest.mark.parametrize(("place", "enhance"), [(0, Brightness), (1, Contrast), (2, Color)])
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.6])
def test_colours_change_as_in_pillow(place, enhance, factor):
    frames = np.random.default_rng(0).integers(0, 256, (2, 6, 20, 30), dtype=np.uint8)
    factors = [1.0, 1.0, 1.0]
    factors[place] = factor
    changed = recoloured(torch.from_numpy(frames), tuple(factors)).numpy()
    for planes, found in zip(frames.reshape(4, 3, 20, 30), changed.reshape(4, 3, 20, 30), strict=True):
        expected = np.asarray(enhance(Image.fromarray(planes.transpose(1, 2, 0))).enhance(factor))
        np.testing.assert_allclose(found.transpose(1, 2, 0), expected.astype(int), atol=1.01)


def test_colours_vary_in_training_without_changing_where_it_looks_and_flow_has_none():
    plain, coloured = (
        [random_crop(100, 140, 0.875, augmentation, np.random.default_rng(seed)) for seed in range(200)]
        for augmentation in (Augmentation(), Augmentation(colour=0.6))
    )
    assert [replace(crop, colour=None) for crop in coloured] == plain
    factors = np.array([crop.colour for crop in coloured])
    assert factors.shape == (200, 3)
    np.testing.assert_allclose([factors.min(0), factors.max(0)], [[0.4] * 3, [1.6] * 3], atol=0.05)
    fields = torch.randint(0, 256, (1, 4, 100, 140), dtype=torch.uint8)
    assert torch.equal(to_input(fields, coloured[0], flow_spec(2)), to_input(fields, plain[0], flow_spec(2)))


def test_random_crops_stay_inside_and_use_every_side_and_both_directions():
    rng = np.random.default_rng(0)
    crops = [random_crop(100, 140, 0.875, Augmentation(), rng) for _ in range(500)]
    for crop in crops:
        assert 0 <= crop.top <= 100 - crop.height
        assert 0 <= crop.left <= 140 - crop.width
    assert {crop.height for crop in crops} == {100, 88, 75, 66}
    assert 0.4 < np.mean([crop.flip for crop in crops]) < 0.6
    assert len({(crop.top, crop.left) for crop in crops}) > 200
    assert not any(random_crop(100, 140, 0.875, Augmentation(flip=False), rng).flip for _ in range(50))


def test_corner_crops_touch_two_borders_or_lie_in_the_centre():
    rng = np.random.default_rng(0)
    crops = [random_crop(100, 140, 0.875, Augmentation(corner_crops=True), rng) for _ in range(500)]
    places = Counter()
    for crop in crops:
        down, right = 100 - crop.height, 140 - crop.width
        place = "centre" if (crop.top, crop.left) == (down // 2, right // 2) else (crop.top > 0, crop.left > 0)
        assert place == "centre" or (crop.top in (0, down) and crop.left in (0, right))
        places[place] += 1
    assert len(places) == 5
    assert min(places.values()) > 40


def test_without_scales_training_sees_squares_of_the_tests_size():
    rng = np.random.default_rng(0)
    for _ in range(50):
        crop = random_crop(100, 140, 0.875, Augmentation(multi_scale=False), rng)
        assert (crop.height, crop.width) == (88, 88)


def test_three_crops_are_the_centre_and_both_ends_of_the_longer_side():
    wide, high = evaluation_crops(100, 200, 0.8, crops=3), evaluation_crops(200, 100, 0.8, crops=3)
    assert [(crop.top, crop.left) for crop in wide] == [(10, 60), (10, 0), (10, 120)]
    assert [(crop.top, crop.left) for crop in high] == [(60, 10), (0, 10), (120, 10)]
    assert not any(crop.flip for crop in wide)


def test_a_squeezed_frame_is_seen_where_the_square_of_the_squeezed_one_lies():
    assert centre_crop(720, 1280, 0.875, aspect=170 / 128) == Crop(top=45, left=218, height=630, width=843)


def test_ten_crops_are_the_centre_and_the_corners_and_their_mirror_images():
    crops = evaluation_crops(100, 140, 0.5, 10)
    assert [(crop.top, crop.left) for crop in crops] == 2 * [(25, 45), (0, 0), (0, 90), (50, 0), (50, 90)]
    assert [crop.flip for crop in crops] == 5 * [False] + 5 * [True]
    assert {(crop.height, crop.width) for crop in crops} == {(50, 50)}
    assert evaluation_crops(100, 140, 0.5, 1) == [centre_crop(100, 140, 0.5)]
    assert evaluation_crops(100, 140, 0.5, 10, mirrored=False) == crops[:5]


@pytest.mark.parametrize("flip", [False, True])
def test_subtracting_the_mean_flow_takes_away_what_a_moving_camera_adds(flip):
    """Against a loop over displacements in floating point; the mean is that of the whole field, not of the crop."""
    rng = np.random.default_rng(0)
    spec = replace(flow_spec(2), std=(1.0, 1.0), subtract_mean_flow=True)
    stored = torch.from_numpy(rng.integers(100, 160, (1, 4, 40, 60), dtype=np.uint8))
    crop = Crop(3, 5, 32, 32, flip)
    seen = to_input(stored, crop, spec)
    for plane in range(4):
        moved = stored[0, plane].double() - stored[0, plane].double().mean()
        part = moved[3:35, 5:37]
        expected = part.flip(-1) * (-1 if plane % 2 == 0 else 1) if flip else part
        torch.testing.assert_close(seen[0, plane].double(), expected / 255, atol=1e-5, rtol=0)
    panned = to_input(stored + 7, crop, spec)
    torch.testing.assert_close(panned, seen, atol=1e-5, rtol=0)


def test_a_batch_of_snippets_equals_its_parts(moving_square):
    clip = FrameClip(Preparation(short_side=72))
    for time, frame in enumerate(moving_square(1, 2, frames=12, size=(100, 80))):
        clip.push(frame, time / 25)
    for spec in (RGB, flow_spec(3)):
        starts = np.array([0, 2, 5, 8])
        together = evaluation_input(clip, spec, starts)
        apart = torch.cat([evaluation_input(clip, spec, starts[index : index + 1]) for index in range(4)])
        assert torch.equal(together, apart)
