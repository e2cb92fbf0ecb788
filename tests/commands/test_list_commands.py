"""prepare and split with lists, through the command line as a user would."""

import json

import pytest

from rgbflow import cli
from rgbflow.commands.flags import EXIT_SOME_FAILED
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.video.writing import write_video

SIZES = ["--short-side", "48", "--bound", "8", "--workers", "1"]


@pytest.fixture
def films(tmp_path, moving_square):
    """Six clips of two classes in one folder, named with spaces, and no class folders."""
    for clip in range(6):
        write_video(tmp_path / "my films" / f"clip {clip}.mp4", moving_square(1, 0, 3, (64, 48), seed=clip), 25)
    return tmp_path / "my films"


@pytest.fixture
def rgbflow_command(capsys):
    def run(*arguments):
        capsys.readouterr()
        return cli.main([str(argument) for argument in arguments]), *capsys.readouterr()

    return run


def write_lists(folder, end="\r\n"):
    lines = [f"clip {clip}.mp4\t{'wave' if clip % 2 else 'brush hair'}\tperson{clip // 2}" for clip in range(6)]
    (folder / "train.txt").write_bytes(("\ufeff# mine" + end + end.join(lines[:4]) + end).encode())
    (folder / "test.txt").write_bytes(("clip 4.mp4" + "\t" + "brush hair" + end + lines[5] + end).encode())
    return [folder / "train.txt", folder / "test.txt"]


def test_videos_of_lists_become_a_store_and_its_split(rgbflow_command, films, tmp_path):
    lists = write_lists(tmp_path)
    code, out, error = rgbflow_command(
        "prepare", *lists, "--root", films, "--out", tmp_path / "store", *SIZES, "--json"
    )
    result = json.loads(out)
    assert (code, result["clips"], result["classes"], result["missing"]) == (0, 6, 2, []), error
    rows = Store(tmp_path / "store").rows
    assert {name: row.group for name, row in rows.items()} == {
        "brush hair/clip 0": "person0",
        "wave/clip 1": "person0",
        "brush hair/clip 2": "person1",
        "wave/clip 3": "person1",
        "brush hair/clip 4": "brush hair/clip 4",
        "wave/clip 5": "person2",
    }
    arguments = ["--protocol", "lists", "--lists", *lists, "--out", tmp_path / "split.json"]
    code, out, error = rgbflow_command("split", tmp_path / "store", *arguments)
    assert (code, "0.0 % of the test clips share a group" in out) == (0, True), error
    split = load_split(tmp_path / "split.json")
    assert [clip.name for clip in split.test] == ["brush hair/clip 4", "wave/clip 5"]
    assert len({clip.group for clip in split.train}) == len({clip.group for clip in split.val}) == 1


def test_a_split_never_replaces_a_list(rgbflow_command, world, tmp_path):
    (tmp_path / "test.txt").write_text("a.avi a\n")
    arguments = ["--protocol", "lists", "--lists", tmp_path / "test.txt", "--out", tmp_path / "test.txt"]
    code, _, error = rgbflow_command("split", world.store, *arguments)
    assert (code, error.count("\n")) == (1, 1)
    assert "test.txt) is a file that is read: choose another name" in error
    assert (tmp_path / "test.txt").read_text() == "a.avi a\n"


def test_a_list_needs_no_ending(rgbflow_command, films, tmp_path):
    (films / "train").write_text("gone.avi wave\n")
    code, _, error = rgbflow_command("prepare", films / "train", "--out", tmp_path / "store")
    assert (code, "none of 1 listed videos, such as gone.avi, is in" in error) == (1, True)


def test_missing_videos_are_named_and_the_rest_is_prepared(rgbflow_command, films, tmp_path):
    write_lists(films)
    with (films / "train.txt").open("a", encoding="utf-8") as file:
        file.write("gone.mp4\twave\tperson7\n")
    code, out, error = rgbflow_command("prepare", films / "train.txt", "--out", tmp_path / "store", *SIZES, "--json")
    assert (code, json.loads(out)["clips"], json.loads(out)["missing"]) == (EXIT_SOME_FAILED, 4, ["gone.mp4"])
    assert "note: 1 of the listed videos do not exist, such as gone.mp4." in error
    arguments = ["--protocol", "lists", "--lists", films, "--out", tmp_path / "split.json"]
    code, _, error = rgbflow_command("split", tmp_path / "store", *arguments)
    assert code == 1
    assert "none of the 2 clips that the lists have for test, such as clip 4.mp4, is in the data" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prepare", "--out", "store"], "no VIDEOS given: name a folder of class folders, or lists of videos"),
        (["prepare", "none.txt", "--out", "store"], "list none.txt cannot be read (No such file or directory)"),
        (
            ["prepare", "a.txt", "films", "--out", "store"],
            "films is not a list (.txt, .csv, .tsv, .json): give one folder",
        ),
        (["prepare", "films", "--root", "x", "--out", "store"], "--root x is for lists of videos, but films is not"),
    ],
)
def test_wrong_arguments_get_one_line(rgbflow_command, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, error = rgbflow_command(*arguments)
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith(f"rgbflow: {words}")
    assert list(tmp_path.iterdir()) == []


def test_numbers_of_several_splits_are_for_lists_only(rgbflow_command, world, tmp_path):
    options = ["--list-number", "2", "--out", tmp_path / "split.json"]
    code, _, error = rgbflow_command("split", world.store, *options)
    assert code == 1
    assert "list_number 2 is not for protocol group: use protocol lists" in error


@pytest.mark.parametrize("protocol", ["group", "paper"])
def test_lists_are_not_ignored_by_protocols_that_read_none(rgbflow_command, world, tmp_path, protocol):
    options = ["--protocol", protocol, "--lists", tmp_path, "--out", tmp_path / "split.json"]
    code, _, error = rgbflow_command("split", world.store, *options)
    assert (code, error.count("\n")) == (1, 1)
    assert f"--lists is not for --protocol {protocol}: pass --protocol lists" in error
    assert not (tmp_path / "split.json").exists()
