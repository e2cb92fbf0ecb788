"""What lists name, found in data sets and among files."""

import csv
import io
import random
import unicodedata

import pytest

from rgbflow.data.cutting import make_split
from rgbflow.data.layouts import SourceClip, read_class_folders
from rgbflow.data.lists import ListedClip, parse_list
from rgbflow.data.matching import listed_sources, match_lists, note_clips
from rgbflow.data.splits import SplitClip
from rgbflow.errors import InputError


def clips_of(classes="ab", groups=8, name="{label}{group}_{number}"):
    return [
        SplitClip(f"{label}/{name.format(label=label, group=group, number=number)}", label, f"{label}{group}")
        for label in classes
        for group in range(groups)
        for number in range(2)
    ]


def listed(clips, form="{clip.name}.avi"):
    return "".join(form.format(clip=clip, stem=clip.name.split("/")[1]) + "\n" for clip in clips)


def lists_in(folder, **parts):
    for name, text in parts.items():
        (folder / f"{name}.txt").write_text(text)
    return [folder]


def message_of(call, *arguments, **named):
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(part):
    return {clip.name for clip in part}


def test_the_parts_are_those_of_the_lists(tmp_path):
    clips = clips_of()
    lists = lists_in(tmp_path, train=listed(clips[:20]), val=listed(clips[20:26]), test=listed(clips[26:]))
    split = make_split(clips, "lists", lists=lists)
    assert [names(part) for part in (split.train, split.val, split.test)] == [
        names(clips[:20]),
        names(clips[20:26]),
        names(clips[26:]),
    ]
    assert split.protocol == "lists"
    assert all("of the data" not in note and "lists" not in note for note in split.notes)


def test_without_a_val_list_val_is_cut_from_train_by_group(tmp_path):
    clips = clips_of(groups=12)
    test = [clip for clip in clips if clip.group in ("a0", "b0")]
    lists = lists_in(tmp_path, train=listed(set(clips) - set(test)), test=listed(test))
    split = make_split(clips, "lists", lists=lists)
    assert names(split.test) == names(test)
    assert names(split.train) | names(split.val) == names(clips) - names(test)
    assert not {clip.group for clip in split.train} & {clip.group for clip in split.val}
    assert 5 <= len(split.val) <= 12


@pytest.mark.parametrize("number", [1, 2, 3])
def test_ucf101s_lists_give_its_official_splits(ucf101_lists, number):
    from rgbflow.data.official import read_lists

    clips = read_lists(ucf101_lists)
    one = make_split(clips, f"official-{number}", lists=ucf101_lists)
    other = make_split(clips, "lists", lists=ucf101_lists, list_number=number)
    assert (one.train, one.val, one.test) == (other.train, other.val, other.test)
    assert other.leak_percent == 0


def test_jhmdbs_lists_and_groups_give_parts_without_a_leak(jhmdb11):
    clips = read_class_folders(jhmdb11)
    split = make_split(clips, "lists", lists=jhmdb11)
    assert (len(split.train) + len(split.val), len(split.test), split.leak_percent) == (328, 135, 0)
    assert len(split.val) > 40
    assert split.notes == ()


def test_what_only_one_side_knows_is_counted_and_some_are_named(tmp_path):
    clips = clips_of()
    lists = lists_in(
        tmp_path, train=listed(clips[:22]) + "a/gone.avi a\nb/lost.avi b\nc/x.avi\nd/y.avi\n", test=listed(clips[26:])
    )
    split = make_split(clips, "lists", lists=lists)
    assert "4 of the 32 clips in the lists are not in the data, such as a/gone.avi, b/lost.avi, c/x.avi, ...." in (
        split.notes
    )
    missing = [clip.name for clip in clips[22:26]]
    assert note_clips("{} clips of the data are in no part of the lists and left out", missing) in split.notes
    assert names(split.all_clips) == names(clips) - set(missing)


def test_a_clip_is_found_by_its_file_name_whatever_its_folder_and_ending(tmp_path):
    clips = clips_of()
    forms = {"train": "C:\\data\\clips\\{stem}.MP4 {clip.label}", "test": "{stem} {clip.label}"}
    lists = lists_in(
        tmp_path,
        train=listed(clips[::2], forms["train"]),
        test=listed(clips[1::2], forms["test"]).replace("\n", "\r\n"),
    )
    split = make_split(clips, "lists", lists=lists)
    assert names(split.test) == names(clips[1::2])


def test_two_clips_of_one_file_name_are_told_apart_by_class_or_folder(tmp_path):
    labels = {"a/1": "a", "b/1": "b"}
    found = match_lists(parse_list("x/a/1.avi\n1.avi b\n", "train.txt"), labels).found
    assert {name: clip.path for name, clip in found.items()} == {"a/1": "x/a/1.avi", "b/1": "1.avi"}
    words = message_of(match_lists, parse_list("1.avi\n", "train.txt"), labels)
    assert words == "list train.txt, line 1: 1.avi may be a/1 or b/1: write its class's folder too"


@pytest.mark.parametrize("as_listed", [{"a": "0", "b": "1"}, {"a": "Class A", "b": "B"}])
def test_lists_may_call_classes_otherwise_but_must_mean_the_same(tmp_path, as_listed):
    clips = clips_of()
    lines = [f"{clip.name}.avi\t{as_listed[clip.label]}" for clip in clips]
    labels = {clip.name: clip.label for clip in clips}
    assert len(match_lists(parse_list("\n".join(lines), "train.txt"), labels).found) == len(clips)
    lines[3] = f"{clips[3].name}.avi\t{as_listed['b']}"
    words = message_of(match_lists, parse_list("\n".join(lines), "train.txt"), labels)
    assert words.startswith(
        f"list train.txt, line 4: {clips[3].name}.avi is of class {as_listed['b']}, but of a in the"
    )
    assert words.endswith(f"others of {as_listed['b']} are of b: correct the line, or move the clip")


def test_a_clip_in_two_parts_is_refused_and_one_listed_twice_is_counted(tmp_path):
    clips = clips_of()
    lists = lists_in(tmp_path, train=listed(clips[:20] + clips[:3]), test=listed(clips[20:]))
    assert "3 lines of the lists repeat a clip." in make_split(clips, "lists", lists=lists).notes
    lists_in(tmp_path, test=listed(clips[19:]))
    words = message_of(make_split, clips, "lists", lists=lists)
    assert words.startswith(f"{clips[19].name}.avi is in two parts, ")
    assert "list train.txt, line 20" in words
    assert "list test.txt, line 1" in words
    lines = parse_list(f"{clips[0].name}.avi a\n{clips[0].name}.avi b\n", "train.txt")
    labels = {clip.name: clip.label for clip in clips}
    assert "is of class b, in list train.txt, line 1 a: keep one" in message_of(match_lists, lines, labels)
    lines = parse_list(f"{clips[0].name}.avi\ta\tp\n{clips[0].name}.avi\ta\tq\n", "train.txt")
    assert "is of group q, in list train.txt, line 1 p: keep one" in message_of(match_lists, lines, labels)


def test_an_empty_part_is_refused(tmp_path):
    clips = clips_of()
    lists = lists_in(tmp_path, train=listed(clips[:20]), val=listed(clips[20:]))
    assert "the lists have no clip for test: rename val's list to test" in message_of(
        make_split, clips, "lists", lists=lists
    )
    lists_in(tmp_path, test="a/gone.avi\n")
    words = message_of(make_split, clips, "lists", lists=lists)
    assert words.startswith("none of the 1 clips that the lists have for test, such as a/gone.avi, is in the data: ")
    lists_in(tmp_path, test="")
    assert "test.txt names no clip: leave it out" in message_of(make_split, clips, "lists", lists=lists)
    (tmp_path / "mine.csv").write_text(listed(clips))
    words = message_of(make_split, clips, "lists", lists=tmp_path / "mine.csv")
    assert "list mine.csv, line 1 names no part: name the file train..." in words
    assert "protocol lists needs them" in message_of(make_split, clips, "lists")


def test_val_that_can_only_be_empty_is_refused(tmp_path):
    clips = clips_of(groups=2)
    lists = lists_in(tmp_path, train=listed(clips[:2] + clips[4:6]), test=listed(clips[2:4] + clips[6:]))
    words = message_of(make_split, clips, "lists", lists=lists)
    assert words.startswith("val can't be cut from train, since each of its groups is the last of a class: give")


def test_a_list_in_another_encoding_is_refused_where_its_clips_are_not_found(tmp_path):
    clips = clips_of(name="ü{group}_{number}")
    (tmp_path / "train.txt").write_text(listed(clips[:20]))
    (tmp_path / "test.txt").write_bytes(listed(clips[20:]).encode("latin-1"))
    words = message_of(make_split, clips, "lists", lists=tmp_path)
    assert words == "list test.txt, line 1 is not UTF-8 text: save the list as UTF-8"


def test_a_group_of_the_list_counts_where_the_data_has_none(tmp_path):
    clips = [SplitClip(clip.name, clip.label, clip.name) for clip in clips_of(groups=9)]
    lines = [f"{clip.name}.avi\t{clip.label}\tperson{index // 6}" for index, clip in enumerate(clips)]
    lists = lists_in(tmp_path, train="\n".join(lines[:30]), test="\n".join(lines[30:]))
    split = make_split(clips, "lists", lists=lists)
    assert {clip.group for clip in split.all_clips} == {f"person{number}" for number in range(6)}
    assert not {clip.group for clip in split.val} & {clip.group for clip in split.train}
    assert not any("Each clip is its own group" in note for note in split.notes)
    own = [SplitClip(clip.name, clip.label, "mine") for clip in clips[:3]] + clips[3:]
    assert make_split(own, "lists", lists=lists).train[0].group == "mine"


# Videos that lists name


@pytest.fixture
def videos(tmp_path):
    """Files that nobody opens: a/1.avi, a/2.mp4, b/1.avi, flat/v_Run_g01_c01.avi."""
    for name in ("a/1.avi", "a/2.mp4", "b/1.avi", "flat/v_Run_g01_c01.avi"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "videos"


def sources_of(folder, text, file="train.txt", **named):
    (folder / file).write_text(text)
    return listed_sources([folder / file], **named)


def test_videos_are_found_beside_the_list_or_under_a_root(videos, tmp_path):
    expected = [
        SourceClip("run/1", "run", "anna", videos / "a/1.avi"),
        SourceClip("walk/1", "walk", "walk/1", videos / "b/1.avi"),
    ]
    text = "a/1.avi\trun\tanna\nb/1.avi\twalk\t\n"
    assert sources_of(videos, text) == (expected, [])
    assert sources_of(tmp_path, text, root=videos) == (expected, [])
    assert sources_of(tmp_path, text, root=videos, groups={"b/1.avi": "bob", "other": "x"})[0][1].group == "bob"


def test_numbers_become_the_names_of_folders_where_each_has_its_own(videos):
    assert [clip.label for clip in sources_of(videos, "a/1.avi 0\na/2.mp4 0\nb/1.avi 1\n")[0]] == ["a", "a", "b"]
    assert [clip.label for clip in sources_of(videos, "a/1.avi 0\na/2.mp4 1\nb/1.avi 1\n")[0]] == ["0", "1", "1"]
    (videos / "classInd.txt").write_text("0 jump high\n1 run")
    assert [clip.name for clip in sources_of(videos, "a/1.avi 0\nb/1.avi 1\n")[0]] == ["jump high/1", "run/1"]


def test_lists_that_count_classes_from_0_and_from_1_are_refused(videos):
    (videos / "test.txt").write_text("a/2.mp4 0\nb/1.avi 1\n")
    (videos / "train.txt").write_text("a/1.avi 1\nb/1.avi 2\n")
    words = message_of(listed_sources, [videos / "train.txt", videos / "test.txt"])
    assert words.startswith(
        "train.txt and test.txt number the classes differently, as their folders show: count from 0"
    )
    (videos / "train.txt").write_text("a/1.avi 0\nb/1.avi 1\n")
    assert {clip.label for clip in listed_sources([videos / "train.txt", videos / "test.txt"])[0]} == {"a", "b"}
    (videos / "train.txt").write_text("a/1.avi 0\n")
    (videos / "test.txt").write_text("a/2.mp4 1\n")  # two classes in one folder
    assert {clip.label for clip in listed_sources([videos / "train.txt", videos / "test.txt"])[0]} == {"0", "1"}


@pytest.mark.parametrize("other", ["/home/anna/videos/", "C:\\Users\\anna\\videos\\"])
def test_absolute_paths_of_another_machine_are_found_by_their_end_below_the_root(videos, tmp_path, other):
    (expected, _) = sources_of(videos, "a/1.avi a\nb/1.avi b\n")
    assert sources_of(tmp_path, f"{other}a/1.avi a\n{other}b/1.avi b\n", root=videos) == (expected, [])
    words = message_of(sources_of, tmp_path, f"{other}c/9.avi c\n", root=videos)
    assert words.endswith(f"is in {videos}: pass another --root")


def test_a_class_index_among_the_lists_is_no_list_of_videos(videos):
    (videos / "classInd.txt").write_text("0 jump\n1 run")
    (videos / "train.txt").write_text("a/1.avi 0\nb/1.avi 1\n")
    sources, _ = listed_sources(sorted(videos.glob("*.txt")))
    assert [clip.name for clip in sources] == ["jump/1", "run/1"]
    (videos / "elsewhere").mkdir()
    index = (videos / "classInd.txt").rename(videos / "elsewhere" / "classInd.txt")
    assert listed_sources([videos / "train.txt", index])[0] == sources
    assert "classInd.txt cannot be read (No such file" in message_of(
        listed_sources, [videos / "train.txt", videos / "classInd.txt"]
    )
    assert "classInd.txt names no video: give lists" in message_of(listed_sources, [videos / "classInd.txt"])


def test_a_class_is_taken_from_the_folder_or_the_ucf101_name_where_the_list_tells_none(videos):
    (one, other), _ = sources_of(videos, "a/1.avi\nflat/v_Run_g01_c01.avi\n")
    assert (one.name, other.name, other.group) == ("a/1", "flat/v_Run_g01_c01", "v_Run_g01")
    ((clip,), _) = sources_of(videos / "flat", "v_Run_g01_c01.avi\n")
    assert clip.name == "Run/v_Run_g01_c01"


def test_an_ending_may_be_missing_or_another(videos):
    (one, other), missing = sources_of(videos, "a/1 x\na/2.webm x\na/3.avi x\na/3.avi x\n")
    assert (one.path.name, other.path.name, missing) == ("1.avi", "2.mp4", ["a/3.avi"])
    clips = parse_list("label,youtube_id,time_start,time_end,split\na,1,59,69,train\n", "train.csv")
    assert clips[0].names[-1] == "1"
    ((clip,), _) = sources_of(videos, "label,youtube_id,time_start,time_end,split\na,1,59,69,train\n", "train.csv")
    assert (clip.name, clip.group) == ("a/1", "1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("c/1.avi x\nc/2.avi x\n", "none of 2 listed videos, such as c/1.avi, is in .*: pass --root FOLDER"),
        ("a/1.avi x\nb/1.avi x\n", "line 2: .*a/1.avi and .*b/1.avi would both be clip x/1: rename one"),
        ("a/1.avi x\na/1.avi y\n", "line 2: a/1.avi is of class y, in list train.txt, line 1 x: keep one"),
        ("a/1.avi x\na/1.avi\n", "line 2: a/1.avi is of class a, in list train.txt, line 1 x: keep one"),
        ("a/1.avi\tx\tp\na/1.mp4\tx\tq\n", "line 2: a/1.mp4 is of group q, in list train.txt, line 1 p: keep one"),
        ("a/1.avi\tup/down\n", "line 1: class 'up/down' can't be a folder's name: write the class"),
    ],
)
def test_lists_of_videos_that_cannot_be_prepared_are_refused(videos, text, words):
    with pytest.raises(InputError, match=words):
        sources_of(videos, text)


def test_a_clip_without_any_class_is_refused(videos):
    (videos / "loose.avi").touch()
    assert "line 1: loose.avi has no class: write the class after the path" in message_of(
        sources_of, videos, "loose.avi\n"
    )


def test_all_of_jhmdb_is_found_by_its_lists(jhmdb11):
    lists = [jhmdb11 / "trainlist01.txt", jhmdb11 / "testlist01.txt"]
    from rgbflow.data.layouts import read_groups

    sources, missing = listed_sources(lists, groups=read_groups(jhmdb11 / "groups.tsv"))
    assert (sources, missing) == (read_class_folders(jhmdb11), [])


def test_a_note_names_three_clips_at_most():
    assert note_clips("{} are gone", ["a", "b"]) == "2 are gone, such as a, b."
    assert note_clips("{} are gone", list("abcd")) == "4 are gone, such as a, b, c, ...."


def test_the_folder_of_a_listed_clip():
    assert ListedClip("x/y/z.avi", "").folder == "y"
    assert ListedClip("z.avi", "").folder == ""


# Lists as many people write them: a draw of every choice at once

STEMS = ("a b", "Über 1", "x.v2.3", "it's", "#20_z", "comma, here", 'quo"te', "v_Run_g01_c01", "7", "αβγ")
CLASSES = ("brush hair", "wave", "Käse")
HEADERS = (("path", "Video Path", "file_name", "Clip"), ("label", "Class Name", "action"), ("group", "Subject"))


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory):
    """Thirty clips of three classes, their files (empty) and their parts."""
    root = tmp_path_factory.mktemp("films")
    clips = {}
    for number, (label, stem) in enumerate((label, stem) for label in CLASSES for stem in STEMS):
        path = root / label / f"{stem}_{number}{('.avi', '.MP4', '.WebM')[number % 3]}"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        clip = SourceClip(f"{label}/{path.stem}", label, f"person {number // 2}", path)
        clips[clip] = ("train", "val", "test")[number // 2 % 3]
    return root, clips


def write_in_some_form(draw, folder, root, clips):
    """Write lists of the clips; every choice of form is drawn."""
    separator, in_header = draw.choice("\t;, "), draw.random() < 0.5
    numbers, first = draw.random() < 0.4, draw.choice((0, 1))
    ending = draw.choice((lambda suffix: suffix, str.lower, lambda _: ".mkv", lambda _: ""))
    prefix, end = draw.choice(("", "./", "/other/place/", "C:\\films\\")), draw.choice(("\n", "\r\n"))
    order = draw.sample(range(3), 3) if in_header and separator != " " else range(3)
    files = {part: [] for part in ("train", "val", "test")}
    for clip, part in draw.sample([*clips.items()], len(clips)) + draw.sample([*clips.items()], 3):
        path = prefix + str(clip.path.relative_to(root).with_suffix("")) + ending(clip.path.suffix)
        path = path.replace("/", "\\") if "\\" in prefix else path
        cells = (path, str(CLASSES.index(clip.label) + first) if numbers else clip.label, clip.group)
        text = io.StringIO()
        quoting = csv.QUOTE_ALL if separator == " " else csv.QUOTE_MINIMAL
        csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=end).writerow(cells[one] for one in order)
        files[part].append(text.getvalue())
    if numbers and draw.random() < 0.5:
        index = end.join(f"{number} {label}" for number, label in enumerate(CLASSES, first))
        (folder / "classInd.txt").write_bytes(index.encode())
    for part, lines in files.items():
        names = [draw.choice(HEADERS[one]) for one in order]
        header = separator.join(names) + end if in_header and separator != " " else ""
        text = draw.choice(("", "\ufeff")) + draw.choice(("", f"# mine{end}{end}")) + header + "".join(lines)
        text = unicodedata.normalize(draw.choice(("NFC", "NFD")), text)
        (folder / f"{part}{draw.choice(('.txt', '.csv', ''))}").write_bytes(text.encode())
    return sorted(folder.iterdir())


@pytest.mark.parametrize("seed", range(60))
def test_the_form_of_a_list_makes_no_difference(oddly_named, tmp_path, seed):
    root, clips = oddly_named
    lists = write_in_some_form(random.Random(seed), tmp_path, root, clips)
    assert listed_sources(lists, root) == (sorted(clips, key=lambda clip: clip.name), [])
    split = make_split([SplitClip(clip.name, clip.label, clip.name) for clip in clips], "lists", lists=lists)
    for part in ("train", "val", "test"):
        expected = {(clip.name, clip.label, clip.group) for clip, own in clips.items() if own == part}
        assert {(clip.name, clip.label, clip.group) for clip in split.clips(part)} == expected
