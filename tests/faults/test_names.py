"""Names as systems change them, and what they leave in folders."""

import os
import shutil
import unicodedata

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgbflow.cli import main
from rgbflow.data.cutting import make_split
from rgbflow.data.jpegs import JpegStore, open_store
from rgbflow.data.layouts import SourceClip, match_groups, read_class_folders, read_groups
from rgbflow.data.lists import read_listed
from rgbflow.data.matching import listed_sources, match_lists
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.video.writing import write_video

CLASS, CLIP, GROUP = "Crêpe", "wörfe_é", "Zoë"
FORMS = ("NFC", "NFD")


def form(kind, text):
    return unicodedata.normalize(kind, text)


@pytest.fixture(params=FORMS)
def on_disk(request, tmp_path, moving_square):
    """A class folder with a clip, named in one form of Unicode."""
    path = tmp_path / "videos" / form(request.param, CLASS) / form(request.param, f"{CLIP}.mp4")
    write_video(path, moving_square(1, 0, 4, (48, 36)), 20)
    return path


@pytest.mark.parametrize("written", FORMS)
def test_groups_name_clips_in_either_form(on_disk, tmp_path, written):
    for name in (f"{CLASS}/{CLIP}.mp4", f"{CLASS}/{CLIP}", f"{CLIP}.mp4", CLIP):
        (tmp_path / "videos" / "groups.tsv").write_text(form(written, f"{name}\t{GROUP}\n"), encoding="utf-8")
        (clip,) = read_class_folders(tmp_path / "videos")
        assert (clip.group, clip.path) == (form("NFC", GROUP), on_disk)


@pytest.mark.parametrize("written", FORMS)
@pytest.mark.parametrize("line", ["{clip}.mp4\t{label}\t{group}", "{label}/{clip}.mp4", "{label}/{clip}"])
def test_lists_name_clips_in_either_form(on_disk, tmp_path, written, line):
    text = form(written, line.format(clip=CLIP if "/" in line else f"{CLASS}/{CLIP}", label=CLASS, group=GROUP))
    (tmp_path / "videos" / "train.txt").write_text(text + "\n", encoding="utf-8")
    (clip,), missing = listed_sources([tmp_path / "videos" / "train.txt"])
    assert (clip.path, missing) == (on_disk, [])
    name = f"{on_disk.parent.name}/{on_disk.stem}"
    found = match_lists(read_listed([tmp_path / "videos" / "train.txt"]), {name: on_disk.parent.name})
    assert list(found.found) == [name]


def test_a_group_in_two_forms_is_one_group(tmp_path):
    (tmp_path / "groups.tsv").write_text(
        "".join(f"a/{kind}\t{form(kind, GROUP)}\n" for kind in FORMS), encoding="utf-8"
    )
    assert len(set(read_groups(tmp_path / "groups.tsv").values())) == 1
    clips = [
        SourceClip(f"{label}/{n}", label, form(FORMS[n % 2], f"{GROUP}{n // 2}"), tmp_path)
        for label in "ab"
        for n in range(12)
    ]
    split = make_split(clips, "group", holdout=[form("NFD", f"{GROUP}1")])
    assert {clip.group for clip in split.test} == {form("NFC", f"{GROUP}1")}
    assert len(split.test) == 4
    assert split.leak_percent == 0


def test_two_names_that_look_alike_are_told(tmp_path):
    for kind in FORMS:
        (tmp_path / form(kind, CLASS)).mkdir()
        (tmp_path / form(kind, CLASS) / f"{kind}.mp4").write_bytes(b"x")
    if len(list(tmp_path.iterdir())) == 2:  # a file system that keeps them apart
        with pytest.raises(InputError, match="look alike and would be two classes"):
            read_class_folders(tmp_path)


@given(st.lists(st.tuples(st.text("ab é\u0301\u0327", min_size=1), st.text("xé\u0301", min_size=1)), max_size=4))
def test_groups_are_read_or_refused_in_one_line(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("groups") / "groups.tsv"
    path.write_text("".join(f"{clip}\t{group}\n" for clip, group in pairs), encoding="utf-8")
    try:
        groups = read_groups(path)
        given_groups = match_groups(groups, {form("NFC", clip): path for clip in groups}, may_name_others=True)
        assert set(given_groups.values()) <= set(groups.values())
    except InputError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


# Names that are not UTF-8

BAD = os.fsdecode(b"clip\xff.mp4")  # Latin-1's letter, as old archives have it


@pytest.fixture
def with_bad_names(tmp_path, moving_square):
    """Two sound clips, one with a bad name, and one in a class folder with a bad name."""
    videos = tmp_path / "videos"
    for label, dx in (("left", -1), ("right", 1)):
        write_video(videos / label / "0.mp4", moving_square(dx, 0, 4, (48, 36)), 20)
    for path in (videos / "left" / BAD, videos / os.fsdecode(b"ba\xe9d") / "0.mp4"):
        path.parent.mkdir(exist_ok=True)
        try:
            shutil.copy(videos / "left" / "0.mp4", path)
        except OSError:
            pytest.skip("this file system takes no such name")
    return videos


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_name_that_is_not_utf8_costs_its_clip_alone(with_bad_names, tmp_path, capsys):
    options = ["--short-side", 32, "--bound", 8, "--workers", 1]
    (with_bad_names / "groups.tsv").write_bytes(b"left/clip\xff.mp4\tg\nleft/0\tg\n")
    assert run("prepare", with_bad_names, "--out", tmp_path / "store", *options) == 3
    said = capsys.readouterr().err
    assert "set aside: file name clip\\xff.mp4 in " in said
    assert "set aside: file name ba\\xe9d in " in said
    store = Store(tmp_path / "store")
    assert {name: row.group for name, row in store.rows.items()} == {"left/0": "g", "right/0": "right/0"}
    assert [row.clip for row in store.failed] == [r"ba\xe9d/0", r"left/clip\xff"]
    assert run("prepare", with_bad_names, "--out", tmp_path / "store", *options) == 3
    assert run("check", tmp_path / "store") == 0
    run("split", tmp_path / "store", "--out", tmp_path / "split.json", "--protocol", "paper")
    assert r"note: 2 clips of the data set are set aside, such as ba\xe9d/0, left/clip\xff." in capsys.readouterr().err
    assert run("check", with_bad_names) == 3
    assert r"wrong: " + str(with_bad_names / "left" / r"clip\xff.mp4") + ": file name" in capsys.readouterr().out


def test_a_folder_around_the_data_set_may_have_any_name(with_bad_names, tmp_path):
    around = with_bad_names.rename(tmp_path / os.fsdecode(b"\xff"))
    (around / "left" / BAD).unlink()
    options = ["--out", tmp_path / "store", "--short-side", 32, "--bound", 8, "--workers", 1]
    assert run("prepare", around, *options) == 3
    assert [row.source for row in Store(tmp_path / "store").rows.values()] == [
        str(tmp_path / r"\xff" / label / "0.mp4") for label in ("left", "right")
    ]


def test_a_list_may_hold_a_name_that_is_not_utf8(with_bad_names, tmp_path, capsys):
    (with_bad_names / "all.txt").write_bytes(b"left/0.mp4 left\nleft/clip\xff.mp4 left\nright/0.mp4 right\n")
    sources, missing = listed_sources([with_bad_names / "all.txt"])
    assert ([clip.name for clip in sources], missing) == (["left/0", r"left/clip\xff", "right/0"], [])
    options = ["--out", tmp_path / "store", "--short-side", 32, "--bound", 8, "--workers", 1]
    assert run("prepare", with_bad_names / "all.txt", *options) == 3
    assert len(Store(tmp_path / "store").rows) == 2


@pytest.mark.parametrize(
    "content", [b"left/0.mp4 caf\xe9\n", b"left/0.mp4 left\nleft/caf\xe9.mp4 left\n", "left/0.mp4".encode("utf-16")]
)
def test_a_list_of_another_encoding_is_refused(with_bad_names, content):
    (with_bad_names / "all.txt").write_bytes(content)
    with pytest.raises(InputError, match="is not UTF-8 text: save"):
        listed_sources([with_bad_names / "all.txt"])


def test_a_clip_folder_of_jpegs_with_such_a_name_is_set_aside(tmp_path, capsys):
    try:
        write_layout(tmp_path / "jpegs", clips=("a/one", "b/two", os.fsdecode(b"b/bad\xff")))
    except OSError:
        pytest.skip("this file system takes no such name")
    store = JpegStore(tmp_path / "jpegs")
    assert list(store.rows) == ["a/one", "b/two"]
    assert [row.clip for row in store.failed] == [r"b/bad\xff"]
    assert run("check", tmp_path / "jpegs") == 0
    assert r"was set aside: file name bad\xff in " in capsys.readouterr().out


# What lies about in folders

LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "._img_00001.jpg", "desktop.ini", "@eaDir", "ehthumbs.db")


def write_layout(folder, layout="img", clips=("a/one", "b/two"), ending="jpg", first=1):
    picture = cv2.imencode(f".{ending}", np.zeros((32, 40), np.uint8))[1].tobytes()
    for clip in clips:
        for number in range(first, first + 4):
            if layout == "img":
                places = [folder / clip / f"{prefix}_{number:05d}.{ending}" for prefix in ("img", "x", "y")]
            else:
                roots = [folder / "jpegs_256", folder / "tvl1_flow" / "u", folder / "tvl1_flow" / "v"]
                places = [root / clip / f"frame{number:06d}.{ending}" for root in roots]
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(picture)


@pytest.mark.parametrize("layout", ["img", "jpegs_256"])
def test_litter_in_a_jpeg_layout_is_passed_over(tmp_path, layout):
    write_layout(tmp_path, layout)
    whole = set(JpegStore(tmp_path).rows)
    for folder in [tmp_path, *[path for path in tmp_path.rglob("*") if path.is_dir()]]:
        for name in LITTER:
            if name in ("__MACOSX", "@eaDir"):
                (folder / name / "a" / "one").mkdir(parents=True)
                (folder / name / "a" / "one" / "._img_00001.jpg").write_bytes(b"\0\5\x16\7")
                (folder / name / "img_00001.jpg").write_bytes(b"\0\5\x16\7")
            else:
                (folder / name).write_bytes(b"\0\5\x16\7")
    assert set(open_store(tmp_path).rows) == whole
    assert main(["check", str(tmp_path)]) == 0


def test_litter_in_class_folders_is_passed_over(on_disk, tmp_path, capsys):
    videos = tmp_path / "videos"
    for folder in (videos, on_disk.parent):
        for name in LITTER:
            (folder / name).mkdir()
            (folder / name / "._x.mp4").write_bytes(b"\0\5\x16\7")
            (folder / name / "x.mp4").write_bytes(b"\0\5\x16\7")
    (on_disk.parent / "._clip.mp4").write_bytes(b"\0\5\x16\7")
    assert [clip.path for clip in read_class_folders(videos)] == [on_disk]
    main(["check", str(videos)])
    printed = capsys.readouterr().out
    assert "files 1, " in printed
    assert not any(name in printed for name in LITTER)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("img_00001.png", "img_00002.png"), "img_00001.png"),
        (("frame_0001.jpg", "frame_0002.jpg"), "frame_0001.jpg"),
        (("0001.jpg", "0002.jpg"), "0001.jpg"),
        (("image-1.JPEG",), "image-1.JPEG"),
    ],
)
@pytest.mark.parametrize("where", ["a/one", "one"])
def test_pictures_of_other_names_are_told_which_names_are_read(tmp_path, names, told, where):
    for name in names:
        (tmp_path / "data" / where).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / where / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"has pictures such as .*{told}, whose names are not read: name each clip's"):
        open_store(tmp_path / "data")


def test_png_frames_beside_jpegs_are_told_too(tmp_path):
    write_layout(tmp_path)
    (tmp_path / "a" / "three").mkdir()
    (tmp_path / "a" / "three" / "img_00001.png").write_bytes(b"x")
    with pytest.raises(InputError, match=r"img_00001.png has a name that is not read: name each clip's frames img_0"):
        open_store(tmp_path)


def test_numbers_that_begin_elsewhere_are_told(tmp_path):
    write_layout(tmp_path, first=7)
    with pytest.raises(InputError, match=r"img_00001.jpg is missing: .* numbered from 0 or 1 without a gap"):
        open_store(tmp_path)
