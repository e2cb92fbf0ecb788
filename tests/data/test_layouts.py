"""Class folders of empty files: a layout is names alone, so no video is needed here."""

from pathlib import Path

import pytest

from rgbflow.data.layouts import (
    SourceClip,
    check_utf8,
    match_groups,
    read_class_folders,
    read_groups,
    scan_class_folders,
    ucf101_group,
)
from rgbflow.errors import InputError


def fill(folder, *files):
    """Make empty files, with their folders."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def message_of(call, *arguments):
    """The one line with which a call refuses its input."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_clips_are_read_in_the_order_of_their_names(tmp_path):
    fill(tmp_path, "wave/b.AVI", "wave/a.mp4", "bend/c.MoV")
    assert read_class_folders(tmp_path) == [
        SourceClip("bend/c", "bend", "bend/c", tmp_path / "bend/c.MoV"),
        SourceClip("wave/a", "wave", "wave/a", tmp_path / "wave/a.mp4"),
        SourceClip("wave/b", "wave", "wave/b", tmp_path / "wave/b.AVI"),
    ]


def test_what_is_no_clip_is_passed_over_but_can_be_counted(tmp_path):
    fill(tmp_path, "wave/a.mp4", "wave/notes.txt", "wave/.b.mp4", "wave/in/c.mp4", "stray.mp4", ".x/d.mp4")
    (tmp_path / "wave/folder.mp4").mkdir()
    (tmp_path / "empty").mkdir()
    assert [clip.name for clip in read_class_folders(tmp_path)] == ["wave/a"]
    empty, wave = scan_class_folders(tmp_path)
    assert (empty.path.name, empty.videos, empty.others) == ("empty", (), ())
    assert [path.name for path in wave.others] == ["folder.mp4", "in", "notes.txt"]


@pytest.mark.parametrize(
    ("stem", "group"),
    [
        ("v_ApplyEyeMakeup_g01_c01", "v_ApplyEyeMakeup_g01"),
        ("v_HandStandPushups_g25_c07", "v_HandStandPushups_g25"),
        ("v_YoYo_g25_c05_copy", None),
        ("v_YoYo_g5_c05", None),
        ("YoYo_g25_c05", None),
        ("my_v_YoYo_g25_c05", None),
        ("v_Yo-Yo_g25_c05", None),
        ("daria_bend", None),
    ],
)
def test_only_official_ucf101_names_give_a_group(stem, group):
    assert ucf101_group(stem) == group


def test_groups_come_from_the_table_then_the_name_then_the_clip_itself(tmp_path):
    fill(tmp_path, "yoyo/v_YoYo_g01_c01.avi", "yoyo/v_YoYo_g01_c02.avi", "yoyo/mine.avi", "yoyo/other.avi")
    (tmp_path / "groups.tsv").write_text("yoyo/mine.avi\tme\nyoyo/v_YoYo_g01_c02.avi\tyou\n")
    assert {clip.name: clip.group for clip in read_class_folders(tmp_path)} == {
        "yoyo/mine": "me",
        "yoyo/other": "yoyo/other",
        "yoyo/v_YoYo_g01_c01": "v_YoYo_g01",
        "yoyo/v_YoYo_g01_c02": "you",
    }


def test_given_groups_replace_those_of_the_folder(tmp_path):
    fill(tmp_path, "a/x.avi", "a/y.avi")
    (tmp_path / "groups.tsv").write_text("a/x.avi\tfile\na/y.avi\tfile\n")
    clips = read_class_folders(tmp_path, {"a/x.avi": "given"})
    assert [clip.group for clip in clips] == ["given", "a/y"]


@pytest.mark.parametrize("written", ["bend/daria.avi", "bend/daria", "daria.avi", "daria"])
def test_a_clip_may_be_written_with_or_without_class_and_ending(written):
    clips = {"bend/daria": Path("bend/daria.avi"), "bend/eli": Path("bend/eli.avi")}
    assert match_groups({written: "d"}, clips) == {"bend/daria": "d"}


@pytest.mark.parametrize(
    "text",
    [
        "bend/a.avi\tann\nwave/a.avi\tann\n",
        "clip\tgroup\nbend/a.avi\tann\nwave/a.avi\tann",
        "Clip\tGroup\r\nbend/a.avi\tann\r\n\r\nwave/a.avi\t ann \r\n",
        "\ufeffbend/a.avi\tann\nwave/a.avi\tann\nwave/a.avi\tann\n",
    ],
)
def test_a_table_of_groups_is_read_with_and_without_header(tmp_path, text):
    path = tmp_path / "groups.tsv"
    path.write_bytes(text.encode())
    assert read_groups(path) == {"bend/a.avi": "ann", "wave/a.avi": "ann"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"bend/a.avi ann\n", "line 1"),
        (b"a.avi\tann\nb.avi\tbob\tbert\n", "line 2"),
        (b"a.avi\t\n", "line 1"),
        (b"a.avi\tann\na.avi\tbob\n", "already has another group"),
        (b"\xff\xfea\x00", "not UTF-8"),
    ],
)
def test_a_bad_table_of_groups_is_refused(tmp_path, content, words):
    path = tmp_path / "groups.tsv"
    path.write_bytes(content)
    assert words in message_of(read_groups, path)


def test_a_missing_table_of_groups_is_refused(tmp_path):
    assert "none.tsv cannot be read" in message_of(read_groups, tmp_path / "none.tsv")


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"bend/a": "ann", "bend/zoe.avi": "zoe", "bend/yan": "yan"}, "bend/zoe.avi, which is not a clip"),
        ({"a": "ann"}, "may be bend/a or wave/a"),
        ({"bend/a": "ann", "bend/a.avi": "bob"}, "two groups, ann and bob"),
    ],
)
def test_groups_that_fit_no_clip_or_two_are_refused(tmp_path, groups, words):
    fill(tmp_path, "bend/a.avi", "wave/a.avi")
    assert words in message_of(read_class_folders, tmp_path, groups)


def test_a_clip_cannot_have_two_files(tmp_path):
    fill(tmp_path, "wave/a.mp4", "wave/a.avi", "bend/a.avi")
    assert "would both be clip wave/a" in message_of(read_class_folders, tmp_path)


@pytest.mark.parametrize("files", [(), ("a.mp4", "b.avi"), ("train/wave/a.mp4",), ("wave/notes.txt",)])
def test_a_folder_without_class_folders_says_the_expected_form(tmp_path, files):
    message = message_of(read_class_folders, fill(tmp_path, *files))
    assert str(tmp_path) in message
    assert "expected <folder>/<Class>/<clip>.mp4" in message


def test_a_missing_folder_or_a_file_is_refused(tmp_path):
    fill(tmp_path, "a.mp4")
    assert "none does not exist" in message_of(read_class_folders, tmp_path / "none")
    assert "is a file, not a folder" in message_of(read_class_folders, tmp_path / "a.mp4")


def test_an_unreadable_folder_is_refused(tmp_path, monkeypatch):
    def refuse(folder):  # not by chmod, which does not stop a superuser
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be read (Permission denied)" in message_of(read_class_folders, tmp_path)


def test_a_name_that_is_not_utf8_is_told_with_its_bytes(tmp_path):
    try:
        fill(tmp_path, "wave/a.mp4", "wave/\udce4.mp4")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    bad, sound = read_class_folders(tmp_path)
    assert (bad.name, sound.name) == (r"wave/\xe4", "wave/a")
    assert r"file name \xe4.mp4 in " in message_of(check_utf8, bad.path)
