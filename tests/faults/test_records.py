"""Records of strangers: each wrong value is one line that names file, key, value and rule, and none passes unseen."""

import copy
import json
import math
import os

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rgbflow.bundle import RECORD, Bundle, load_bundle, model_card, save_bundle
from rgbflow.data.splits import Split, load_split
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig, load_config
from rgbflow.records import parse_json
from rgbflow.stream import FlowSettings, Preparation, StreamSpec

QUICKLY = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
BUNDLE = {
    "format_version": 1,
    "classes": ["jump", "wave", "run"],
    "preparation": {
        "short_side": 48,
        "flow": {"method": "dis", "preset": "fast", "bound": 12.0, "reduction": 2},
        "jpeg_quality": 96,
        "frame_rate": None,
        "square": False,
    },
    "streams": {
        "rgb": {
            "stream": "rgb",
            "backbone": "test_resnet",
            "input_size": 32,
            "stack_length": 1,
            "mean": [0.4, 0.5, 0.6],
            "std": [0.2, 0.2, 0.2],
            "crop_fraction": 0.875,
            "dropout": 0.5,
        },
        "flow": {
            "stream": "flow",
            "backbone": "test_resnet",
            "input_size": 32,
            "stack_length": 5,
            "mean": [0.5, 0.5],
            "std": [0.1, 0.1],
        },
    },
    "split": {"protocol": "group", "seed": 3, "leak_percent": 0.0, "sha256": "ab" * 32},
    "fusion": {
        "method": "reliability",
        "weights": {"rgb": [0.5, 0.9, 1.0], "flow": [1.0, 0.25, 0.1]},
        "temperature": 0.8,
        "threshold": 0.6,
        "false_alarm_rate": 0.05,
    },
    "calibration": {"candidates": {"average": {"fusion": {"method": "average"}, "log_loss": 0.4}}, "clips": 20},
    "measured": {
        "test": {
            "protocol": "group",
            "leak_percent": 0.0,
            "clips": 30,
            "snippets": 25,
            "engine": "torch fp32",
            "figures": {"rgb": {"top1": 50.0, "top1_interval": [30.0, 70.0], "top5": 100.0}},
        }
    },
    "origin": {"rgb": {"config": {"flip": False}, "seconds": 12.5, "commit": "abc"}},
    "licence": "CC0-1.0",
    "frames_per_second": 25.0,
}
CLIP = {"name": "jump/one", "label": "jump", "group": "g1"}
SPLIT = {
    "format_version": 1,
    "protocol": "group",
    "seed": 0,
    "leak_percent": 0.0,
    "notes": ["a note"],
    "classes": ["jump", "wave"],
    "train": [CLIP],
    "val": [{"name": "wave/two", "label": "wave", "group": "g2"}],
    "test": [],
}
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        [0, 1, -1, 1e-300, 1e9, 2**63, "", " ", "rgb", "../escape/rgb", "\x1b]0;x\x07", "a\nb", "$x", "|"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(value, at=()):
    """Every place in nested dictionaries and lists."""
    yield at
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*at, key))


def with_value(record, place, value):
    """A copy with another value at a place; without the place for `...`."""
    made = copy.deepcopy(record)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return made


def refusal(load, path):
    """The line that a file is refused with; None where it is read."""
    told = None
    try:
        load(path)
    except InputError as error:
        told = str(error)
    assert told is None or ("\n" not in told and str(path) in told)
    return told


def bundle_at(folder, content):
    folder.mkdir(exist_ok=True)
    (folder / RECORD).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_the_examples_are_sound(tmp_path):
    bundle = load_bundle(bundle_at(tmp_path, BUNDLE))
    assert bundle.classes == ("jump", "wave", "run")
    assert bundle.streams["flow"].std == (0.1, 0.1)
    assert not bundle.streams["rgb"].mirrored
    (tmp_path / "split.json").write_text(json.dumps(SPLIT))
    assert load_split(tmp_path / "split.json").val[0].name == "wave/two"


WRONG = [
    ("streams.rgb.input_size", 32.5, "must be a whole number in 16…1,024"),
    ("streams.rgb.input_size", 3_000_000_000, "streams.rgb.input_size (3000000000) must be"),
    ("streams.rgb.input_size", "32", "streams.rgb.input_size ('32') must be"),
    ("streams.rgb.input_size", True, "streams.rgb.input_size (True) must be"),
    ("streams.rgb.crop_fraction", 0, "must be a number above 0 and at most 1"),
    ("streams.rgb.crop_fraction", 1e9, "streams.rgb.crop_fraction"),
    ("streams.rgb.crop_fraction", math.nan, "not JSON"),
    ("streams.rgb.dropout", 5, "must be a number at least 0 and below 1"),
    ("streams.rgb.mean", ["a", "b", "c"], "streams.rgb.mean[0] ('a') must be a number"),
    ("streams.rgb.mean", 0.5, "streams.rgb.mean (0.5) must be a list"),
    ("streams.rgb.std", [0, 0.1, 0.1], "streams.rgb.std[0] (0) must be"),
    ("streams.rgb.std", [0.1, 0.1], "mean and std of rgb need 3 values each"),
    ("streams.rgb.stream", "flow", "streams.rgb"),
    ("streams.rgb.stack_length", 10**9, "streams.rgb.stack_length"),
    ("streams.rgb.stride", 0, "streams.rgb.stride"),
    ("streams.rgb.mirrored", "yes", "must be true or false"),
    ("streams.rgb.algorithm", [], "streams.rgb.algorithm"),
    ("streams.rgb.backbone", None, "streams.rgb.backbone (None) must be text"),
    ("streams.rgb.backbone", "", "streams.rgb.backbone"),
    ("streams.rgb.colours", 4, "streams.rgb.colours is unknown to this rgbflow"),
    ("streams.../escape/rgb", BUNDLE["streams"]["rgb"], "('../escape/rgb') must be one of flow, rgb"),
    ("streams", {}, "streams"),
    ("streams", [], "streams ([]) must be"),
    ("classes", "abcd", "classes ('abcd') must be a list"),
    ("classes", ["a"] * 4, "classes name 'a' twice"),
    ("classes", [1, 2, 3], "classes[0] (1) must be text"),
    ("classes", [None, "b", "c"], "classes[0] (None) must be text"),
    ("classes", [["a"], "b", "c"], "classes[0] (['a']) must be text"),
    ("classes", ["", "b", "c"], "classes[0] ('')"),
    ("classes", [" ", "b", "c"], "classes[0] (' ')"),
    ("classes", [], "classes"),
    ("classes", ["a", "b"], "its fusion belongs to other streams or classes"),
    ("preparation.flow.bound", 1e999, "not JSON"),
    ("preparation.flow.bound", -3, "preparation.flow.bound (-3) must be"),
    ("preparation.flow.method", "brox", "must be one of dis, farneback, tvl1"),
    ("preparation.flow.reduction", 3, "preparation.flow.reduction (3) must be one of 0, 1, 2, 4"),
    ("preparation.flow", ..., "preparation.flow"),
    ("preparation.short_side", 10**9, "preparation.short_side"),
    ("preparation.jpeg_quality", 0, "preparation.jpeg_quality (0) must be"),
    ("preparation.frame_rate", 1e-300, "preparation.frame_rate (1e-300) must be a number in 0.01…1,000"),
    ("preparation.frame_rate", 1e9, "preparation.frame_rate"),
    ("frames_per_second", 1e9, "frames_per_second (1000000000.0) must be"),
    ("frames_per_second", 1e-300, "frames_per_second"),
    ("frames_per_second", [], "frames_per_second"),
    ("fusion.threshold", "0.5", "fusion.threshold ('0.5') must be"),
    ("fusion.threshold", None, "false_alarm_rate (0.05) needs a threshold"),
    ("fusion.temperature", 0, "fusion.temperature (0) must be"),
    ("fusion.weights.rgb", [0.5, "x", 1], "fusion.weights.rgb[1] ('x') must be"),
    ("fusion.weights.rgb", [0.5], "its fusion belongs to other streams or classes"),
    ("fusion.weights", ..., "too many numbers or too few"),
    ("fusion", ..., "fusion (None) must be an object"),
    ("fusion.jury", 12, "fusion.jury is unknown to this rgbflow"),
    ("measured", [], "measured ([]) must be an object"),
    ("measured.test.figures.rgb.top1", "half", "measured.test.figures.rgb.top1 ('half') must be"),
    ("measured.test.figures.rgb.top1_interval", [1], "measured.test.figures.rgb.top1_interval"),
    ("measured.test.leak_percent", 101, "measured.test.leak_percent (101)"),
    ("calibration", 3, "calibration (3) must be"),
    ("calibration.candidates.votes", {}, "('votes') must be one of"),
    ("calibration.candidates.average.fusion", "average", "calibration.candidates.average.fusion"),
    ("origin", "me", "origin ('me') must be"),
    ("origin.rgb.config", [], "origin.rgb.config ([]) must be"),
    ("origin.rgb.head_strength", "firm", "origin.rgb.head_strength ('firm') must be"),
    ("origin.rgb.head_strength", 0, "origin.rgb.head_strength (0) must be"),
    ("split", None, "split (None) must be"),
    ("split.seed", "three", "split.seed"),
    ("split.leak_percent", "none", "split.leak_percent"),
    ("licence", 5, "licence (5) must be text"),
    ("format_version", 1e999, "not JSON"),
    ("format_version", "1", "format_version ('1') must be"),
    ("format_version", 1.5, "format_version (1.5) must be"),
    ("format_version", 2, "has format 2, this rgbflow reads up to 1: upgrade rgbflow"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG, ids=lambda one: str(one)[:40])
def test_a_wrong_value_of_a_bundle_is_named_with_its_key_and_rule(tmp_path, key, value, words):
    place = ("streams", "../escape/rgb") if "escape" in key else tuple(key.split("."))
    told = refusal(load_bundle, bundle_at(tmp_path, with_value(BUNDLE, place, value)))
    assert told
    assert words in told


@pytest.mark.parametrize(
    "content",
    ["[" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, '{"format_version": 1, "x": ' + "[" * 5000 + "]" * 5000 + "}",
     "null", "3", '""', "\x00", '{"format_version": NaN}', '{"format_version": ' + "9" * 5000 + "}"],
    ids=range(9),
)  # fmt: skip
def test_what_is_no_record_at_all_is_refused_in_one_line(tmp_path, content):
    assert RECORD in refusal(load_bundle, bundle_at(tmp_path, content))
    for name, load in (("split.json", load_split), ("config.toml", load_config)):
        (tmp_path / name).write_text(content)
        assert refusal(load, tmp_path / name)


@QUICKLY
@given(st.sampled_from(sorted(set(places(BUNDLE)) - {()}, key=str)), JSON_VALUES)
@example(("classes",), ["a", "b\x9b31m", "c"])
@example(("streams", "rgb", "mean"), [10**400, 0, 0])
def test_any_value_anywhere_in_a_bundle_is_refused_or_makes_a_bundle_that_works(tmp_path, place, value):
    folder = bundle_at(tmp_path / "given", with_value(BUNDLE, place, value))
    if refusal(load_bundle, folder):
        return
    bundle = load_bundle(folder)
    assert_is_sane(bundle)
    save_bundle(tmp_path / "saved", bundle)
    assert load_bundle(tmp_path / "saved") == bundle
    assert model_card(bundle)


def assert_is_sane(bundle: Bundle):
    assert len(set(bundle.classes)) == len(bundle.classes) > 0
    assert all(isinstance(name, str) and name.strip() for name in bundle.classes)
    assert 0.01 <= bundle.frame_rate <= 1000
    assert set(bundle.streams) <= {"rgb", "flow"}
    for spec in bundle.streams.values():
        assert isinstance(spec, StreamSpec)
        assert isinstance(spec.input_size, int)
        assert 16 <= spec.input_size <= 1024
        assert 0 < spec.crop_fraction <= 1
        assert all(math.isfinite(number) for number in (*spec.mean, *spec.std, spec.dropout))
    assert math.isfinite(bundle.preparation.flow.bound)


@QUICKLY
@given(st.sampled_from(sorted(set(places(SPLIT)) - {()}, key=str)), JSON_VALUES)
@example(("seed",), math.inf)
@example(("train", 0, "name"), ["jump/one"])
def test_any_value_anywhere_in_a_split_is_refused_or_makes_a_split_that_works(tmp_path, place, value):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(with_value(SPLIT, place, value)))
    if refusal(load_split, path):
        return
    split = load_split(path)
    assert isinstance(split, Split)
    assert isinstance(split.seed, int)
    assert split.seed >= 0
    split.save(tmp_path / "again.json")
    assert load_split(tmp_path / "again.json") == split


FIELDS = {"TrainConfig": TrainConfig(), "Preparation": Preparation(48), "FlowSettings": FlowSettings()}


@QUICKLY
@given(st.sampled_from([(name, field) for name, record in FIELDS.items() for field in vars(record)]), JSON_VALUES)
@example(("TrainConfig", "momentum"), 5.0)
@example(("TrainConfig", "learning_rate"), 1e6)
@example(("TrainConfig", "weight_decay"), math.nan)
@example(("FlowSettings", "bound"), math.inf)
def test_a_record_that_code_makes_is_checked_like_one_of_a_file(which, value):
    name, field = which
    record = FIELDS[name]
    try:
        made = type(record)(**{**vars(record), field: value})
    except InputError as error:
        made = str(error)
    if isinstance(made, str):
        assert field in made
        return
    assert not isinstance(value, dict | list)
    assert all(math.isfinite(one) for one in vars(made).values() if isinstance(one, float))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("momentum = 5", "momentum (5) must be a number at least 0 and below 1: the default is 0.9"),
        ("momentum = 1.0", "momentum (1.0)"),
        ("learning_rate = 1e6", "learning_rate (1000000.0) must be a number above 0 and at most 10"),
        ("learning_rate = inf", "learning_rate (inf)"),
        ("weight_decay = -0.1", "weight_decay (-0.1)"),
        ("epochs = 1000000000", "epochs (1000000000)"),
        ("epochs = true", "epochs (True)"),
        ("flip = 1", "flip (1) must be true or false"),
        ("batch_size = 0", "batch_size (0)"),
        ("workers = -1", "workers (-1)"),
        ("backbone = 3", "backbone (3) must be text"),
        ("seed = 1979-05-27", "seed (datetime.date(1979, 5, 27)) must be a whole number"),
        ("a = " + "[" * 100_000, "nested too deep"),  # hypothesis raises the limit of recursion
    ],
    ids=range(13),
)
def test_a_wrong_setting_is_named_with_its_rule(tmp_path, line, words):
    path = tmp_path / "config.toml"
    path.write_text(line)
    assert words in refusal(load_config, path)


@pytest.mark.parametrize("load", [load_split, load_config])
def test_a_pipe_a_folder_or_a_device_is_not_read_as_a_record(tmp_path, load):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero"):
        assert "is not a regular file" in refusal(load, type(tmp_path)(path))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"c": 1, "d": 2, "c": 3}}]', '{"\\u0061": 1, "a": 2}'])
def test_a_key_that_stands_twice_is_refused(text):
    with pytest.raises(InputError, match=r"it gives '[ac]' twice: keep one"):
        parse_json(text)
