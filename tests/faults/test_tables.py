"""Tables and lists of people, of any content: each is read, or refused in one line that names its place."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rgbflow.data.layouts import read_groups
from rgbflow.data.lists import parse_list, read_listed
from rgbflow.errors import InputError

QUICKLY = settings(
    max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WORDS = st.sampled_from(
    ["a/v_Run_g01_c01.avi", "v_Run_g01_c01.avi", "1", "0", "-1", "walk", "path", "label", "group", "split", "train",
     "#", "youtube_id", "time_start", "time_end",
     "9" * 30, "ö\u0301", "\u202e", "'", '"', "../x.mp4", "/x.mp4", "a.mp4", "nan", "C:\\x.avi"]
)  # fmt: skip
LINES = st.lists(st.lists(WORDS | st.text(max_size=6), max_size=5), max_size=5)
NAMES = st.sampled_from(["trainlist01.txt", "val.csv", "test.tsv", "x.json", "brush_hair_test_split1.txt", "list.txt"])


@QUICKLY
@given(LINES, st.sampled_from(["\t", " ", ",", ";"]), st.sampled_from(["\n", "\r\n", "\r", "\u2028"]), NAMES)
def test_any_lines_make_clips_or_one_line_of_refusal(lines, between, ending, name):
    try:
        clips = parse_list(ending.join(between.join(words) for words in lines), name)
    except InputError as error:
        clips = []
        assert_names(str(error), name)
    for clip in clips:
        assert clip.path
        assert clip.part in (None, "train", "val", "test")
        assert clip.label is None or isinstance(clip.label, str)


def assert_names(told, name):
    assert "\n" not in told
    assert name in told


@QUICKLY
@given(st.binary(max_size=60) | st.text(max_size=40).map(str.encode), NAMES)
@example(b"[" * 5000, "x.json")
@example(b'[{"id": {}, "label": [1]}]', "x.json")
@example(b'[{"id": 1e400}]', "x.json")
@example(b"\xff\xfea", "list.txt")
@example(b"label,youtube_id,time_start,time_end,split\nrun,abc,inf,inf,train", "val.csv")
@example(b'[{"youtube_id": 3, "split": 1, "time_start": [], "time_end": 1}]', "x.json")
def test_any_bytes_are_read_as_a_list_or_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    told = ""
    try:
        read_listed([path])
    except InputError as error:
        told = str(error)
    assert "\n" not in told


@QUICKLY
@given(LINES, st.sampled_from(["\t", "\t\t", " "]), st.sampled_from(["", "\ufeff", "clip\tgroup\n"]))
def test_any_lines_make_a_table_of_groups_or_are_refused(tmp_path, lines, between, head):
    path = tmp_path / "groups.tsv"
    path.write_text(head + "\n".join(between.join(words) for words in lines), encoding="utf-8", errors="replace")
    told, groups = "", {}
    try:
        groups = read_groups(path)
    except InputError as error:
        told = str(error)
    assert "\n" not in told
    assert not told or str(path) in told
    assert all(clip.strip() and group.strip() and "\t" not in clip + group for clip, group in groups.items())


@QUICKLY
@given(st.binary(max_size=80))
def test_any_bytes_are_a_table_of_groups_or_refused(tmp_path, content):
    path = tmp_path / "groups.tsv"
    path.write_bytes(content)
    told = ""
    try:
        assert isinstance(read_groups(path), dict)
    except InputError as error:
        told = str(error)
    assert not told or str(path) in told


@pytest.mark.parametrize("rows", [[[]], [{"id": []}], {"id": "1"}, [{"id": None, "label": {}}], [1], "x"])
def test_json_of_another_form_is_refused(rows):
    with pytest.raises(InputError, match=r"x\.json"):
        parse_list(json.dumps(rows), "x.json")
