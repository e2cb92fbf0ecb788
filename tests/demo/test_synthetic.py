import functools
import itertools
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rgbflow.demo.painting import HELD_COLOURS, Brush, paint_held
from rgbflow.demo.puppet import (
    ANKLE_HEIGHT,
    FOREARM,
    SHIN,
    THIGH,
    UPPER_ARM,
    Style,
    drink,
    pick_person,
    pick_style,
    pick_up,
    raise_arms,
    step_left,
    wave_flag,
)
from rgbflow.demo.synthetic import ACTIONS, MOTIONS, NUM_FRAMES, pick_group, pick_take, render_clip, write_dataset
from rgbflow.errors import InputError
from rgbflow.video.reading import count_frames, decode, probe

SIZE = (80, 64)
ACTION = {action.name: action for action in ACTIONS}
REVERSED_TWINS = [
    ("step_left", "step_right"),
    ("raise_arms", "lower_arms"),
    ("pick_up_ball", "put_down_ball"),
    ("pick_up_melon", "put_down_melon"),
]
COLOUR_TWINS = [
    ("drink_red_cup", "drink_blue_cup"),
    ("wave_green_flag", "wave_pink_flag"),
    ("pick_up_ball", "pick_up_melon"),
    ("put_down_ball", "put_down_melon"),
]


@functools.cache
def render(name: str, group: int, clip: int = 1) -> np.ndarray:
    """(T, H, W, 3) frames of a small clip; callers must not write to it."""
    action = ACTION[name]
    take = pick_take(7, group, action.motion, clip)
    frames = render_clip(action, pick_group(7, group, SIZE), take, SIZE, num_frames=12)
    frames.flags.writeable = False
    return frames


@functools.cache
def measure_flow(name: str, group: int) -> np.ndarray:
    """(T-1, H, W, 2) displacement, pixels per frame step, by OpenCV's DIS."""
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in render(name, group)]
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.stack([dis.calc(before, after, None) for before, after in itertools.pairwise(gray)])


def draw_moves(motion, count=20):
    """Poses (moments) of `count` persons and styles, as (person, style, poses)."""
    rng = np.random.default_rng(3)
    for _ in range(count):
        person, style = pick_person(rng), pick_style(rng)
        yield person, style, [motion(person, style, time) for time in np.linspace(0, 1, NUM_FRAMES)]


def test_the_classes_form_pairs_of_which_each_stream_alone_can_solve_two_thirds():
    names = {action.name for action in ACTIONS}
    assert len(names) == len(ACTIONS) == 12
    assert {name for pair in REVERSED_TWINS + COLOUR_TWINS for name in pair} == names
    assert len({(action.motion, action.backwards) for action in ACTIONS}) == 8
    assert len({(action.motion, action.held) for action in ACTIONS}) == 8


@pytest.mark.parametrize(("forward", "backward"), REVERSED_TWINS)
def test_the_twin_in_time_shows_exactly_the_same_frames_in_reverse(forward, backward):
    for group in (1, 2, 3):
        assert np.array_equal(render(forward, group), render(backward, group)[::-1])
        assert not np.array_equal(render(forward, group), render(backward, group))


def test_every_stretch_of_six_frames_tells_the_direction():
    progress = {
        step_left: lambda pose: -pose.pelvis.real,
        raise_arms: lambda pose: sum(hand.imag for _, _, hand in pose.arms),
        pick_up: lambda pose: pose.held.imag,
    }
    for motion, measure in progress.items():
        for _, _, poses in draw_moves(motion):
            along = np.array([measure(pose) for pose in poses])
            gained = along[5:] - along[:-5]
            assert gained.min() > 0.03, motion.__name__
            assert np.diff(along).min() > -1e-9, motion.__name__


@pytest.mark.parametrize("style_field", ["begin", "end"])
def test_progress_starts_and_ends_where_the_style_says(style_field):
    for _, style, _ in draw_moves(raise_arms, count=5):
        time = {"begin": 0.0, "end": 1.0}[style_field]
        assert style.progress(time) == pytest.approx(getattr(style, style_field))


@pytest.mark.parametrize("motion", MOTIONS)
def test_bones_are_never_longer_than_they_are(motion):
    for person, _, poses in draw_moves(motion):
        for pose in poses:
            for limbs, bones, length in (
                (pose.arms, (UPPER_ARM, FOREARM), person.arm_length),
                (pose.legs, (THIGH, SHIN), person.leg_length),
            ):
                for root, joint, tip in limbs:
                    assert abs(joint - root) <= bones[0] * length + 1e-6
                    assert abs(tip - joint) <= bones[1] * length + 1e-6


def test_bones_keep_their_length_in_a_side_view():
    for person, _, poses in draw_moves(pick_up):
        for pose in poses:
            for root, joint, tip in pose.legs:
                assert abs(joint - root) == pytest.approx(THIGH * person.leg_length)
                assert abs(tip - joint) == pytest.approx(SHIN * person.leg_length)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_foot_is_always_on_the_floor_and_none_below(motion):
    for _, _, poses in draw_moves(motion):
        heights = np.array([[leg[2].imag for leg in pose.legs] for pose in poses])
        assert heights.min() > ANKLE_HEIGHT - 0.01
        assert heights.min(axis=1).max() < ANKLE_HEIGHT + 0.01


@pytest.mark.parametrize("motion", [drink, wave_flag, pick_up])
def test_a_hand_is_at_the_held_thing(motion):
    for _, _, poses in draw_moves(motion):
        for pose in poses:
            assert min(abs(hand - pose.held) for _, _, hand in pose.arms) < 0.12


def test_the_cup_goes_to_the_mouth_and_back():
    for _, _, poses in draw_moves(drink):
        distances = [abs(pose.held - pose.head) for pose in poses]
        assert min(distances) < 0.13
        assert max(distances) > 0.28


def test_joints_move_without_jumps():
    for motion in MOTIONS:
        for _, style, _ in draw_moves(motion, count=5):
            person = pick_person(np.random.default_rng(1))
            poses = [motion(person, style, time) for time in np.linspace(0, 1, 500)]
            joints = np.array([[*np.ravel(p.arms), *np.ravel(p.legs), p.head, p.held] for p in poses])
            assert np.abs(np.diff(joints, axis=0)).max() < 0.02, motion.__name__


@pytest.mark.parametrize("pair", [("red cup", "blue cup"), ("green flag", "pink flag"), ("ball", "melon")])
def test_paired_things_have_the_same_luma_and_outline_but_other_colours(pair):
    colours = np.array([HELD_COLOURS[held] for held in pair], float)
    luma = colours @ [0.299, 0.587, 0.114]
    assert abs(luma[0] - luma[1]) < 6
    assert np.abs(colours[0] - colours[1]).max() > 150
    first, second = (cover_of(held) for held in pair)
    assert 500 < first.sum() < 6000
    assert np.abs(first - second).max() < 0.1


def cover_of(held: str) -> np.ndarray:
    """(H, W): how much of each pixel a thing in the hand covers, 0 to 1."""
    style = Style(begin=0, end=1, unevenness=0, cycles=2, phase=0.3, reach=1, facing=1)
    pose = drink(pick_person(np.random.default_rng(0)), style, 0.4)
    black, white = np.zeros((256, 256, 3), np.uint8), np.full((256, 256, 3), 255, np.uint8)
    for canvas in (black, white):
        paint_held(Brush(canvas, 80 + 240j, 200), held, pose)
    # what is seen is cover * colour + (1 - cover) * background
    return 1 - (white[..., 0].astype(int) - black[..., 0]) / 255


@pytest.mark.parametrize(("first", "second"), COLOUR_TWINS)
def test_colour_twins_differ_only_where_the_thing_is_and_hardly_in_flow(first, second):
    for group in (1, 2, 3):
        differs = (render(first, group) != render(second, group)).any(axis=3).mean(axis=(1, 2))
        assert differs.min() > 0.001
        assert differs.max() < 0.06
        flows = measure_flow(first, group), measure_flow(second, group)
        assert np.abs(flows[0] - flows[1]).mean() < 0.08 * np.abs(flows[0]).mean()


def test_measured_flow_shows_the_direction():
    for group in range(1, 6):
        u = [measure_flow(name, group)[..., 0].mean() for name in ("step_left", "step_right")]
        v = [
            np.where(np.abs(flow[..., 1]) > 0.5, flow[..., 1], 0).mean()
            for flow in (measure_flow("pick_up_ball", group), measure_flow("put_down_ball", group))
        ]
        assert u[0] < u[1]
        assert v[0] < v[1]


def flow_feature(name: str, group: int) -> np.ndarray:
    """Mean motion to the right, left, down and up, and how unsteady it is, in 8 x 5 parts of the picture."""
    flow = measure_flow(name, group)
    mean = flow.mean(axis=0)
    parts = np.concatenate([mean.clip(0), (-mean).clip(0), flow.std(axis=0)], axis=2)
    return cv2.resize(parts, (5, 8), interpolation=cv2.INTER_AREA).ravel()


def colour_feature(name: str, group: int) -> np.ndarray:
    """How much of the picture has each of 12 hues, among the vivid pixels."""
    frames = render(name, group)
    vivid = np.ptp(frames.astype(int), axis=3) > 110
    hue = cv2.cvtColor(frames.reshape(-1, SIZE[0], 3), cv2.COLOR_RGB2HSV)[..., 0].reshape(vivid.shape)
    return np.sqrt(np.histogram(hue[vivid], bins=12, range=(0, 180))[0])


def classify(feature, classes: list[str], train_groups: range, test_groups: range) -> float:
    """Accuracy, in percent, on other groups of a linear classifier of a feature."""
    parts = []
    for groups in (train_groups, test_groups):
        samples = [(name, group) for group in groups for name in classes]
        parts.append(([feature(*sample) for sample in samples], [name for name, _ in samples]))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return 100 * model.fit(*parts[0]).score(*parts[1])


def test_each_stream_tells_its_pairs_and_is_blind_to_the_others():
    train, test = range(1, 9), range(9, 14)
    for pair in (
        ("pick_up_ball", "put_down_ball"),
        ("step_left", "step_right"),
        ("raise_arms", "lower_arms"),
    ):
        assert classify(flow_feature, pair, train, test) >= 80, pair
        assert classify(colour_feature, pair, train, test) == 50, pair
    for pair in COLOUR_TWINS[:3]:
        assert classify(colour_feature, pair, train, test) == 100, pair
        assert 20 <= classify(flow_feature, pair, train, test) <= 80, pair


def test_groups_and_clips_differ():
    groups = [pick_group(0, number, SIZE) for number in range(1, 16)]
    assert len({group.person for group in groups}) == 15
    assert len({group.room.tobytes() for group in groups}) == 15
    takes = {pick_take(0, 1, motion, clip) for motion in MOTIONS for clip in (1, 2)}
    assert len(takes) == 10
    assert pick_take(0, 1, drink, 1) != pick_take(1, 1, drink, 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The paths of a small data set, and the calls of its progress."""
    folder = tmp_path_factory.mktemp("synthetic")
    calls = []
    paths = write_dataset(
        folder / "videos",
        num_groups=2,
        clips_per_group=1,
        size=(48, 40),
        seed=5,
        progress=SimpleNamespace(update=lambda *step: calls.append(step), report=None),
    )
    return paths, calls


def test_written_files_are_the_promised_ones(dataset):
    paths, calls = dataset
    folder = paths[0].parents[1]
    expected = [f"{a.name}/g{group:02d}_{a.name}_01.mp4" for a in ACTIONS for group in (1, 2)]
    assert [path.relative_to(folder).as_posix() for path in paths] == expected
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.*")) == sorted([*expected, "groups.tsv"])
    assert calls == [(done, 24) for done in range(25)]
    lines = (folder / "groups.tsv").read_text(encoding="utf-8").splitlines()
    assert lines == [f"{name}\t{name.split('/')[1][:3]}" for name in expected]


def test_written_files_decode_to_what_was_drawn(dataset):
    paths, _ = dataset
    for path in paths:
        assert count_frames(path) == NUM_FRAMES
    info = probe(paths[0])
    assert (info.width, info.height, info.frames_per_second) == (48, 40, 12)
    action = ACTION["wave_green_flag"]
    drawn = render_clip(action, pick_group(5, 2, (48, 40)), pick_take(5, 2, action.motion, 1), (48, 40)).astype(int)
    (path,) = [p for p in paths if p.name == "g02_wave_green_flag_01.mp4"]
    assert np.abs(decode_all(path) - drawn).mean() < 8


def decode_all(path) -> np.ndarray:
    """(T, H, W, 3) int of a whole file."""
    return np.stack([frame.pixels for frame in decode(path)]).astype(int)


def test_the_clips_do_not_depend_on_the_number_of_workers(dataset, tmp_path):
    paths, _ = dataset
    again = write_dataset(tmp_path, num_groups=2, clips_per_group=1, size=(48, 40), seed=5, workers=2)
    assert [path.name for path in again] == [path.name for path in paths]
    for path, path_again in zip(paths, again, strict=True):
        # the encoder may round differently, another draw would differ by far more
        assert np.abs(decode_all(path) - decode_all(path_again)).mean() < 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_groups": 0}, "num_groups is 0"),
        ({"clips_per_group": -1}, "clips_per_group is -1"),
        ({"workers": 0}, "workers is 0"),
        ({"size": (160, 20)}, "size is 160x20"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_written(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message) as caught:
        write_dataset(tmp_path / "videos", **wrong)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "videos").exists()
