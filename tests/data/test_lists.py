"""Lists of every form, as their makers write them."""

import pytest

from rgbflow.data.lists import hmdb51_group, parse_list, part_of_name, read_listed
from rgbflow.errors import InputError


def told(text, file, classes=()):
    return [(clip.path, clip.label, clip.group, clip.part) for clip in parse_list(text, file, classes)]


def message_of(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("trainlist01.txt", "Archery/v_Archery_g08_c01.avi 3\n", ("Archery/v_Archery_g08_c01.avi", "3", None, "train")),
        ("testlist02.txt", "Archery/v_Archery_g01_c01.avi\n", ("Archery/v_Archery_g01_c01.avi", None, None, "test")),
        ("val.txt", "my films/a  clip.mp4 wave\n", ("my films/a  clip.mp4", "wave", None, "val")),
        ("val.txt", "a.mp4\t brush hair \n", ("a.mp4", "brush hair", None, "val")),
        ("mine.txt", "my clip.avi\twave\tanna maria\n", ("my clip.avi", "wave", "anna maria", None)),
        ("mine.txt", "my clip.avi 3 anna\n", ("my clip.avi", "3", "anna", None)),
        ("train.csv", "a.mp4, wave, anna\n", ("a.mp4", "wave", "anna", "train")),
        ("train.csv", '"a, b.mp4","pick up"\n', ("a, b.mp4", "pick up", None, "train")),
        ("mine.csv", "label,Path,Person,split\nwave,x/a.mp4,anna,Validation\n", ("x/a.mp4", "wave", "anna", "val")),
        ("mine.txt", "path label group\nmy a.mp4 wave 7\n", ("my a.mp4", "wave", "7", None)),
        ("train.csv", "clip_name,clip_path,label\na,x/a.avi,Run\n", ("x/a.avi", "Run", None, "train")),
        ("all.csv", "Video ID,label_id,Label,Set\na.mp4,7,wave,Testing\n", ("a.mp4", "wave", None, "test")),
        ("train.csv", "#file-name,frames\nx/a.avi,33\n", ("x/a.avi", None, None, "train")),
        ("train.csv", "Name;Class\na.avi;wave\n", ("a.avi", "wave", None, "train")),
        ("train.csv", "path,label\na.avi,3.0\n", ("a.avi", "3", None, "train")),
        ("train.txt", '"my films/a b.avi" wave\n', ("my films/a b.avi", "wave", None, "train")),
        ("train.txt", '"a b.avi" "brush hair" anna\n', ("a b.avi", "brush hair", "anna", "train")),
        ("train.txt", "films\\wave\\a.avi 0\n", ("films/wave/a.avi", "0", None, "train")),
        ("train.txt", "./a.avi 0\n", ("a.avi", "0", None, "train")),
        ("ucf101_rgb_train_split_1.txt", "v_Archery_g08_c01 120 2\n", ("v_Archery_g08_c01", "2", None, "train")),
        ("v1-validation.csv", "78687;Holding something\n", ("78687", "Holding something", None, "val")),
        ("v1-test.csv", "78687\n78688\n", ("78687", None, None, "test")),
        ("train.txt", "# clips of 2019\n\n  \na.avi wave\n", ("a.avi", "wave", None, "train")),
        ("clap_test_split1.txt", "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi 2 \n",
         ("#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi", "clap", "clap:#20_Rhythm", "test")),
    ],
)  # fmt: skip
def test_every_form_tells_path_class_group_and_part(file, text, expected, end):
    assert told(text.replace("\n", end), file)[0] == expected


def test_hmdb51_numbers_are_train_test_and_neither():
    text = "a_clap_u_nm_np1_fr_med_0.avi 1\nb_clap_u_nm_np1_fr_med_0.avi 0\nodd name.avi 2\n"
    assert told(text, "clap_test_split3.txt") == [
        ("a_clap_u_nm_np1_fr_med_0.avi", "clap", "clap:a", "train"),
        ("odd name.avi", "clap", None, "test"),
    ]
    assert "write the clip's file name, then 1 (train), 2 (test) or 0" in message_of(
        parse_list, "a.avi 3", "clap_test_split1.txt"
    )


def test_the_source_in_hmdb51_names_is_the_group_of_jhmdb(jhmdb11):
    lines = (jhmdb11 / "groups.tsv").read_text().splitlines()
    for clip, group in (line.split("\t") for line in lines):
        label, _, file = clip.partition("/")
        assert hmdb51_group(file.removesuffix(".avi"), label) == group


def test_kinetics_clips_are_called_after_their_video_and_its_seconds():
    text = "label,youtube_id,time_start,time_end,split,is_cc\nbaking cookies,-3B32lodo2M,59,69,validate,0\n"
    (clip,) = parse_list(text, "kinetics_validate.csv")
    assert clip.names == ("-3B32lodo2M_000059_000069", "-3B32lodo2M_59_69", "-3B32lodo2M")
    assert (clip.label, clip.group, clip.part) == ("baking cookies", "-3B32lodo2M", "val")
    words = message_of(parse_list, text.replace("59", "soon"), "kinetics.csv")
    assert "line 2: time_start (soon) and time_end (69) must be seconds" in words


def test_something_something_json():
    text = """[{"id": "78687", "label": "holding potato", "template": "Holding [something] next to [something]",
                "placeholders": ["potato", "vicks"]}, {"id": 42, "template": "Pushing [something]"}]"""
    assert told(text, "something-something-v2-train.json") == [
        ("78687", "Holding something next to something", None, "train"),
        ("42", "Pushing something", None, "train"),
    ]
    assert "is not JSON" in message_of(parse_list, "[", "train.json")
    assert "is not a list of clips" in message_of(parse_list, '{"a": 1}', "train.json")


def test_a_class_of_several_words_is_told_where_it_is_known_and_refused_where_it_is_in_doubt():
    assert told("a b.avi brush hair", "t.txt", {"brush hair"})[0][:3] == ("a b.avi", "brush hair", None)
    assert told("a.avi wave anna", "t.txt", {"wave"})[0][:3] == ("a.avi", "wave", "anna")
    assert told("brush hair/a b.avi brush hair", "t.txt")[0][:3] == ("brush hair/a b.avi", "brush hair", None)
    assert told("x\\wave\\a b.avi wave anna", "t.txt")[0][:3] == ("x/wave/a b.avi", "wave", "anna")
    for line in ("a.avi brush hair", "a.avi brush long hair", "a.avi 3 7"):
        words = message_of(parse_list, f"x.avi 1\n{line}", "t.txt")
        assert f"list t.txt, line 2 ({line!r})" in words
        assert "divide path, class and group by tabs" in words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\na.avi,wave,anna\n", "line 2 has 3 columns, the header has 2: complete the line"),
        ("a.avi,wave,anna,1\n", "line 1 has 4 columns: name them in a header line"),
        ("path,split\na.avi,holdout\n", "line 2: part 'holdout' is unknown: write train, val or test"),
        ('a.avi,"wave\nb.avi,run\n', "line 1 .* is not a line of a table"),
        ("path,label\n,wave\n", "line 2 names no clip"),
        ("x.avi,wave\na, b.avi,wave\n", "line 2: class 'b.avi' is the name of a video: write path, class and group in"),
        ("wave,a.avi\n", "line 1: class 'a.avi' is the name of a video"),
        ("vid,label\na.avi,wave\n", r"line 1 \('vid,label'\) names columns, but not that of the clips' paths: call it"),
        ('"path","label"\na.avi,wave\nb.avi\n', "line 3 has 1 columns, the header has 2: complete the line"),
    ],
)
def test_lines_that_are_wrong_are_named(text, words):
    with pytest.raises(InputError, match=words):
        parse_list(text, "mine.csv")


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("Train.TXT", "train"),
        ("hmdb51_val_split_2_videos.txt", "val"),
        ("testlist01.txt", "test"),
        ("all.csv", None),
        ("validation.csv", "val"),
        ("train_test.csv", None),
        ("latest.txt", None),
        ("training-set.csv", "train"),
    ],
)
def test_a_file_name_tells_the_part_or_does_not(file, part):
    assert part_of_name(file) == part


def test_lists_of_windows_with_class_numbers_are_read(tmp_path):
    (tmp_path / "classInd.txt").write_bytes("\ufeff1 Apply Lipstick\r\n2 Archery\r\n".encode())
    (tmp_path / "trainlist01.txt").write_bytes("\ufeffArchery/v_Archery_g08_c01.avi 2\r\n\r\na b.avi 1\r\n".encode())
    (tmp_path / "testlist01.txt").write_bytes(b"Archery/v_Archery_g01_c01.avi\r\n")
    clips = read_listed([tmp_path])
    assert [(clip.path, clip.label, clip.part) for clip in sorted(clips, key=lambda clip: clip.path)] == [
        ("Archery/v_Archery_g01_c01.avi", None, "test"),
        ("Archery/v_Archery_g08_c01.avi", "Archery", "train"),
        ("a b.avi", "Apply Lipstick", "train"),
    ]
    assert {(clip.path, clip.label) for clip in read_listed(tmp_path.iterdir())} == {
        (clip.path, clip.label) for clip in clips
    }
    (tmp_path / "testlist01.txt").write_text("x.avi 02\n\ufeffy.avi 1\n", encoding="utf-8")  # two files, joined
    assert [(clip.path, clip.label) for clip in read_listed([tmp_path / "testlist01.txt"])] == [
        ("x.avi", "Archery"),
        ("y.avi", "Apply Lipstick"),
    ]
    (tmp_path / "testlist01.txt").write_text("x.avi 0")
    words = "line 1: class 0 is not in classInd.txt, which has 1 to 2: count both from 0, or both from 1"
    assert words in message_of(read_listed, [tmp_path])
    (tmp_path / "testlist01.txt").write_text("Archery/x.avi 1")
    words = "class 1 is Apply Lipstick in classInd.txt, but Archery/x.avi is in the folder of Archery: count both"
    assert words in message_of(read_listed, [tmp_path])
    for line in ("2 Wave", "3 Archery"):
        (tmp_path / "classInd.txt").write_text(f"1 Apply Lipstick\n2 Archery\n{line}")
        words = f"has '{line}', but its number or class is in an earlier line: keep one"
        assert words in message_of(read_listed, [tmp_path])


def test_of_a_folder_with_several_splits_one_is_read(tmp_path):
    for number in (1, 2, 3):
        for label in ("clap", "brush_hair"):
            folder = tmp_path / "testTrainMulti_7030_splits"
            folder.mkdir(exist_ok=True)
            (folder / f"{label}_test_split{number}.txt").write_text(f"{label}{number}.avi 1\n")
    assert {clip.path for clip in read_listed([tmp_path])} == {"clap1.avi", "brush_hair1.avi"}
    assert {clip.path for clip in read_listed([tmp_path], 3)} == {"clap3.avi", "brush_hair3.avi"}
    assert "--list-number 4 is none of those in" in message_of(read_listed, [tmp_path], 4)


def test_files_that_are_no_lists_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    assert "has no file named train" in message_of(read_listed, [tmp_path])
    (tmp_path / "train.txt").write_text("# nothing yet\n")
    assert "train.txt names no clip: leave it out" in message_of(read_listed, [tmp_path])
    (tmp_path / "train.txt").write_bytes(b"a.avi caf\xe9")
    assert "list train.txt, line 1 is not UTF-8 text: save the list as UTF-8" in message_of(read_listed, [tmp_path])
    assert "cannot be read (No such file or directory)" in message_of(read_listed, [tmp_path / "none.txt"])
    (tmp_path / "classInd.txt").write_text("Archery")
    assert "has the line 'Archery': write a number and the class's name" in message_of(read_listed, [tmp_path])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_ucf101_is_read_whole(ucf101_lists, number):
    clips = read_listed([ucf101_lists], number)
    tests = [clip for clip in clips if clip.part == "test"]
    assert (len(clips), len(tests)) == (13320, {1: 3783, 2: 3734, 3: 3696}[number])
    assert all(clip.label == clip.folder for clip in clips if clip.part == "train")


def test_jhmdb_is_read_whole(jhmdb11):
    clips = read_listed([jhmdb11])
    assert {part: sum(clip.part == part for clip in clips) for part in ("train", "val", "test")} == {
        "train": 328,
        "val": 0,
        "test": 135,
    }
    assert len({clip.label for clip in clips if clip.label}) == 11
