"""Splits against counts: of UCF101's published lists, and of small data sets made here."""

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest

from rgbflow.data.cutting import make_split
from rgbflow.data.official import read_lists
from rgbflow.data.splits import PARTS, Split, SplitClip, check_split, leak_percent, load_split
from rgbflow.errors import InputError

PERSONS = ("ann", "bob", "cy", "dee", "eva", "fay", "gus", "hal", "ida")


@pytest.fixture(scope="module")
def ucf101(ucf101_lists):
    """All clips of UCF101."""
    return read_lists(ucf101_lists)


@pytest.fixture
def small_lists(tmp_path):
    """Lists in the official form: two classes, groups 1 to 7 in test, 8 to 25 in train, two clips each."""
    (tmp_path / "classInd.txt").write_text("1 Archery\r\n2 HandstandPushups\r\n")
    files = {"Archery": "v_Archery", "HandstandPushups": "v_HandStandPushups"}
    for part, groups in {"test": range(1, 8), "train": range(8, 26)}.items():
        lines = [
            f"{label}/{name}_g{group:02}_c{clip:02}.avi" + (f" {index}" if part == "train" else "")
            for index, (label, name) in enumerate(files.items(), start=1)
            for group in groups
            for clip in (1, 2)
        ]
        text = "\ufeff" + "\r\n".join(lines) + "\r\n"  # as Windows' Notepad saves them
        (tmp_path / f"{part}list01.txt").write_text(text, encoding="utf-8")
    return tmp_path


def persons_clips(classes=("bend", "run", "wave"), persons=PERSONS, clips=2):
    """Every person does every class."""
    return [
        SplitClip(f"{label}/{person}_{number}", label, person)
        for label in classes
        for person in persons
        for number in range(clips)
    ]


def scene_clips(sizes):
    """Groups that belong to one class: `sizes` has, for each class, the clips of each of its groups."""
    return [
        SplitClip(f"{label}/{group}_{number}", label, f"{label}_{group}")
        for label, groups in sizes.items()
        for group, size in enumerate(groups)
        for number in range(size)
    ]


def message_of(call, *arguments, **named):
    """The one line with which a call refuses its input."""
    with pytest.raises(InputError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_sound(split, clips):
    """No clip is lost or doubled, and every class is in each part."""
    assert sorted(clip.name for clip in split.all_clips) == sorted(clip.name for clip in clips)
    for part in PARTS:
        assert {clip.label for clip in split.clips(part)} == set(split.classes)


def groups_of(part):
    return {clip.group for clip in part}


def test_the_official_lists_are_ucf101(ucf101):
    assert len(ucf101) == len({clip.name for clip in ucf101}) == 13320
    assert len({clip.label for clip in ucf101}) == 101
    assert len(groups_of(ucf101)) == 2525
    assert ucf101[0] == SplitClip("ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01", "ApplyEyeMakeup", "v_ApplyEyeMakeup_g01")
    assert len({clip.group for clip in ucf101 if clip.label == "HandstandPushups"}) == 25


@pytest.mark.parametrize(("protocol", "size"), [("official-1", 3783), ("official-2", 3734), ("official-3", 3696)])
def test_official_splits_have_their_published_sizes(ucf101, ucf101_lists, protocol, size):
    split = make_split(ucf101, protocol, lists=ucf101_lists)
    assert_sound(split, ucf101)
    listed = (ucf101_lists / f"testlist0{protocol[-1]}.txt").read_text().split()
    assert {clip.name + ".avi" for clip in split.test} == set(listed)
    assert len(split.test) == size
    assert abs(len(split.val) / (13320 - size) - 0.2) < 0.01
    assert not groups_of(split.val) & groups_of(split.train)
    assert split.leak_percent == 0
    assert split.notes == ()


def test_the_papers_split_of_ucf101_leaks_as_published(ucf101):
    split = make_split(ucf101, "paper", seed=3)
    assert_sound(split, ucf101)
    assert [len(split.clips(part)) for part in PARTS] == [7992, 2664, 2664]
    shared = 0
    for clip in split.test:
        if any(other.group == clip.group for other in split.train):
            shared += 1
    assert split.leak_percent == pytest.approx(100 * shared / 2664)
    assert abs(split.leak_percent - 97.5) < 1


def test_a_split_of_ucf101_by_group_is_6_2_2_in_every_class(ucf101):
    split = make_split(ucf101, "group")
    assert_sound(split, ucf101)
    assert [len(groups_of(split.clips(part))) for part in PARTS] == [1515, 505, 505]
    all_counts, test_counts = (Counter(clip.label for clip in part) for part in (ucf101, split.test))
    assert max(abs(test_counts[label] / count - 0.2) for label, count in all_counts.items()) < 0.03
    assert split.leak_percent == 0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "clips",
    [
        persons_clips(),
        persons_clips(persons=PERSONS[:3], clips=1),
        scene_clips({"a": [4] * 25, "b": [7] * 25, "c": [1, 9, 2, 5, 3]}),
        scene_clips({label: [2, 2, 2] for label in "abcdefgh"}),
        scene_clips({"a": [1, 1, 1], "b": [5] * 20, "c": [3] * 11}),
        scene_clips({"a": [1, 1, 1, 1]}) + persons_clips(),
    ],
    ids=["persons", "three persons", "scenes", "three scenes", "a rare class", "both"],
)
def test_no_group_is_on_two_sides(clips, seed):
    split = make_split(clips, "group", seed)
    assert_sound(split, clips)
    train, val, test = (groups_of(split.clips(part)) for part in PARTS)
    assert not train & val
    assert not train & test
    assert not val & test
    assert split.leak_percent == 0
    assert split.notes == ()


def test_nine_persons_become_five_two_and_two():
    tests = set()
    for seed in range(8):
        split = make_split(persons_clips(), "group", seed)
        assert [len(groups_of(split.clips(part))) for part in PARTS] == [5, 2, 2]
        tests.add(frozenset(groups_of(split.test)))
    assert len(tests) > 3  # the seed decides who


@pytest.mark.parametrize("sizes", [[3] * 10, [100] + [3] * 9, [3], [40, 60], [5, 4, 3, 3, 7, 9, 11]])
def test_the_papers_split_has_every_class_in_each_part(sizes):
    clips = scene_clips({f"class{number}": [1] * size for number, size in enumerate(sizes)})
    for seed in range(5):
        split = make_split(clips, "paper", seed)
        assert_sound(split, clips)
        for label, count in Counter(clip.label for clip in clips).items():
            held = Counter(clip.label for clip in split.test)[label]
            assert abs(held - count / 5) <= 1.5


def test_the_papers_split_divides_each_class_exactly_where_it_can():
    clips = scene_clips({"a": [10] * 4, "b": [5] * 12})
    split = make_split(clips, "paper")
    counts = [Counter(clip.label for clip in split.clips(part)) for part in PARTS]
    assert counts == [{"a": 24, "b": 36}, {"a": 8, "b": 12}, {"a": 8, "b": 12}]


@pytest.mark.parametrize("protocol", ["group", "paper"])
def test_a_split_depends_on_its_clips_and_seed_alone(protocol):
    clips = persons_clips()
    split = make_split(clips, protocol, seed=4)
    assert make_split(clips[::-1], protocol, seed=4) == split
    assert make_split(clips, protocol, seed=5).sha256 != split.sha256


def test_held_out_groups_are_the_test():
    split = make_split(persons_clips(), "group", holdout=["gus", "ann"])
    assert_sound(split, persons_clips())
    assert groups_of(split.test) == {"ann", "gus"}
    assert len(groups_of(split.val)) == 2  # about a quarter of seven
    assert not groups_of(split.val) & groups_of(split.train)
    assert split.leak_percent == 0
    drawn = {frozenset(groups_of(make_split(persons_clips(), "group", s, ["gus"]).val)) for s in range(8)}
    assert len(drawn) > 3


def test_holding_out_all_but_two_groups_leaves_one_each():
    split = make_split(persons_clips(), "group", holdout=PERSONS[2:])
    assert [len(groups_of(split.clips(part))) for part in PARTS] == [1, 1, 7]


def test_a_class_with_one_group_left_stays_in_train():
    clips = scene_clips({"a": [2] * 10, "b": [3, 3], "c": [1] * 8})
    for seed in range(10):
        split = make_split(clips, "group", seed, holdout=["b_0"])
        assert {clip.label for clip in split.train} == {"a", "b", "c"}
        assert {clip.label for clip in split.val} == {"a", "c"}
    assert split.notes == (
        "val has no clip of 1 of the 3 classes, such as b.",
        "test has no clip of 2 of the 3 classes, such as a.",
    )


@pytest.mark.parametrize("persons", [3, 4, 5])
def test_val_never_takes_the_last_of_a_class(persons):
    # Each class is done by two persons, so any two of them in val would leave a class out of train.
    pairs = list(combinations(PERSONS[:persons], 2))
    clips = [SplitClip(f"{a}+{b}/{person}", f"{a}+{b}", person) for a, b in pairs for person in (a, b)]
    clips.append(SplitClip("ann+bob/zoe", "ann+bob", "zoe"))
    for seed in range(5):
        split = make_split(clips, "group", seed, holdout=["zoe"])
        assert {clip.label for clip in split.train} == set(split.classes)
        assert len(groups_of(split.val)) == 1


CLASSES = ("bend", "jump", "run", "side", "wave")


@pytest.mark.parametrize("protocol", [{"protocol": "group"}, {"protocol": "group", "holdout": ("ida", "bob")}])
def test_classes_left_out_are_in_no_part_and_those_of_the_test_are_new_to_the_threshold(protocol):
    clips = persons_clips(CLASSES)
    whole = make_split(clips, **protocol)
    split = make_split(clips, **protocol, leave_out=("bend", "wave", "bend", "run"))
    assert split.classes == ("jump", "side")
    for part in PARTS:
        assert getattr(split, part) == tuple(clip for clip in getattr(whole, part) if clip.label in split.classes)
    assert {clip.label for clip in split.unknown_val} == {"bend", "run"}  # the first and the third
    assert {clip.label for clip in split.unknown_test} == {"wave"}
    assert groups_of(split.unknown_val) == groups_of(split.val)
    assert groups_of(split.unknown_test) == groups_of(split.test)
    assert not groups_of(split.unknown_test) & groups_of(split.train + split.val + split.unknown_val)


def test_a_split_with_classes_left_out_survives_its_file_and_has_a_hash_of_its_own(tmp_path):
    clips = persons_clips(CLASSES)
    split = make_split(clips, "group", leave_out=("bend", "run"))
    split.save(tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split
    assert split.sha256 != replace(split, unknown_test=split.unknown_test[1:]).sha256
    with pytest.raises(InputError, match="the split is for another store: 4 of its"):
        check_split(split, [clip.name for clip in split.all_clips if clip not in split.unknown_test])


def test_the_hash_of_a_split_that_knows_all_classes_is_what_it_always_was():
    split = make_split(persons_clips(), "group")
    lists = [
        sorted([clip.name, clip.label, clip.group] for clip in part) for part in (split.train, split.val, split.test)
    ]
    assert split.sha256 == hashlib.sha256(json.dumps(lists).encode()).hexdigest()
    assert split.sha256 == "ca6a069bf642cccfd715862eb2d8ded3cf2a784be0ff045b231e08631f8011a9"


@pytest.mark.parametrize(
    ("leave_out", "words"),
    [
        (("run", "wafe"), "leave_out wafe is not one of the 5 classes: do you mean wave?"),
        (("run",), "leave_out run must be 2 classes or more"),
        (("run", "wave", "bend", "side"), "leaves fewer than 2 classes: leave out fewer"),
    ],
)
def test_classes_that_cannot_be_left_out_are_refused(leave_out, words):
    assert words in message_of(make_split, persons_clips(CLASSES), "group", leave_out=leave_out)


def test_unknown_classes_are_no_known_ones_and_on_one_side():
    split = make_split(persons_clips(CLASSES), "group", leave_out=("bend", "run"))
    with pytest.raises(ValueError, match="in both unknown parts"):
        replace(split, unknown_test=(SplitClip("bend/new", "bend", "new"),))
    with pytest.raises(ValueError, match="also a known one"):
        replace(split, unknown_test=(SplitClip("wave/new", "wave", "new"),))


def test_official_lists_and_data_are_matched_where_they_meet(small_lists):
    clips = [
        SplitClip("bow/v_Archery_g01_c01", "bow", "v_Archery_g01"),
        *(SplitClip(f"bow/v_Archery_g{n:02}_c01", "bow", f"v_Archery_g{n:02}") for n in range(8, 18)),
        SplitClip("bow/mine", "bow", "mine"),
    ]
    split = make_split(clips, "official-1", lists=small_lists)
    assert [clip.name for clip in split.test] == ["bow/v_Archery_g01_c01"]
    assert (len(split.train), len(split.val)) == (8, 2)
    assert split.classes == ("bow",)
    assert split.notes == (
        "Each clip is its own group, so clips of one source may be on both sides unseen: give groups.",
        "89 of the 100 clips in the official lists are not in the data.",
        "1 clips that the official lists do not name are left out.",
    )


def test_official_test_clips_alone_make_a_split_to_measure_on(small_lists):
    clips = [clip for clip in read_lists(small_lists) if int(clip.group[-2:]) <= 7]
    split = make_split(clips, "official-1", lists=small_lists)
    assert [len(split.clips(part)) for part in PARTS] == [0, 0, 28]
    assert "train has no clip of 2 of the 2 classes, such as Archery." in split.notes


def test_lists_name_groups_as_the_clips_do(small_lists):
    clips = read_lists(small_lists)
    assert len(clips) == 100
    assert clips[-1] == SplitClip(
        "HandstandPushups/v_HandStandPushups_g25_c02", "HandstandPushups", "v_HandStandPushups_g25"
    )


@pytest.mark.parametrize(
    ("train", "test", "percent"), [("aab", "abc", 200 / 3), ("ab", "cd", 0), ("a", "aaa", 100), ("a", "", 0)]
)
def test_the_leak_is_the_share_of_test_clips_whose_group_is_known(train, test, percent):
    train, test = ([SplitClip(f"x/{n}", "x", g) for n, g in enumerate(part)] for part in (train, test))
    assert leak_percent(train, test) == pytest.approx(percent)


def test_clips_without_known_groups_are_told():
    clips = scene_clips({"a": [1] * 9, "b": [1] * 9})
    for protocol in ("group", "paper"):
        assert make_split(clips, protocol).notes[0].startswith("Each clip is its own group")


@pytest.mark.parametrize("holdout", [(), ("ida",)])
def test_a_split_survives_its_file(tmp_path, holdout):
    clips = [SplitClip(f"Grüßen/{clip.name}", clip.label, clip.group) for clip in persons_clips()]
    split = make_split(clips, "group", seed=2**40, holdout=holdout)
    split.save(tmp_path / "new/split.json")
    assert load_split(tmp_path / "new/split.json") == split
    assert load_split(tmp_path / "new/split.json").sha256 == split.sha256
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["split.json"]


def test_the_file_is_plain_json_with_a_clip_a_line(tmp_path):
    split = make_split(persons_clips(), "paper", seed=1)
    split.save(tmp_path / "split.json")
    text = (tmp_path / "split.json").read_text(encoding="utf-8")
    data = json.loads(text)
    assert (data["protocol"], data["seed"], data["leak_percent"]) == ("paper", 1, split.leak_percent)
    assert [len(data[part]) for part in PARTS] == [len(split.clips(part)) for part in PARTS]
    assert set(data["test"][0]) == {"name", "label", "group"}
    assert len(re.findall(r"^  \{.*\},?$", text, flags=re.MULTILINE)) == len(split.all_clips)


def test_an_empty_part_survives_the_file(tmp_path):
    split = Split("official-1", 0, ("a",), (), (), (SplitClip("a/1", "a", "g"),))
    split.save(tmp_path / "split.json")
    assert load_split(tmp_path / "split.json") == split


def test_the_hash_tells_lists_apart_and_nothing_else():
    one, two, three = (SplitClip(f"a/{n}", "a", "g") for n in range(3))
    base = Split("group", 0, ("a",), (one, two), (), (three,))
    assert base.sha256 == Split("paper", 7, ("a",), (two, one), (), (three,), ("note",)).sha256
    moved = Split("group", 0, ("a",), (one,), (two,), (three,))
    regrouped = Split("group", 0, ("a",), (one, two), (), (SplitClip("a/2", "a", "h"),))
    assert len({base.sha256, moved.sha256, regrouped.sha256}) == 3


def test_a_split_refuses_a_clip_on_two_sides_and_unknown_classes():
    clip = SplitClip("a/1", "a", "g")
    with pytest.raises(ValueError, match="contains a clip twice"):
        Split("group", 0, ("a",), (clip,), (), (clip,))
    for classes in ((), ("b",), ("b", "a"), ("a", "a")):
        with pytest.raises(ValueError, match="classes are not sorted"):
            Split("group", 0, classes, (clip,), (), ())


GOOD_FILE = {
    "protocol": "group",
    "seed": 0,
    "notes": [],
    "classes": ["a"],
    "train": [],
    "val": [],
    "test": [],
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{not json", "it is not JSON"),
        ("[1, 2]", "it ([1, 2]) must be an object"),
        ("{}", "format_version is missing"),
        (json.dumps({"format_version": 2, "parts": 4}), "has format 2, this rgbflow reads up to 1"),
        (json.dumps({"format_version": 1}), "is not a valid split (notes (None) must be a list of text each)"),
        (json.dumps({"format_version": 1, **GOOD_FILE, "train": ["a/1"]}), "is not a valid split"),
        (json.dumps({"format_version": 1, **GOOD_FILE, "train": [{"name": "a/1"}]}), "train[0].label is missing"),
        (
            json.dumps({"format_version": 1, **GOOD_FILE, "val": [{"name": 1, "label": "a", "group": "g"}]}),
            "val[0].name (1) must be text",
        ),
        (
            json.dumps({"format_version": 1, **GOOD_FILE, "val": [{"name": "b/1", "label": "b", "group": "g"}] * 2}),
            "twice",
        ),
        (json.dumps({"format_version": 1, **GOOD_FILE, "classes": None}), "is not a valid split"),
        (b"\xff\xfe", "it is not JSON"),
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, content, words):
    path = tmp_path / "split.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = message_of(load_split, path)
    assert words in message
    assert str(path) in message


def test_a_missing_split_and_an_unwritable_place_are_refused(tmp_path):
    assert "none.json cannot be read" in message_of(load_split, tmp_path / "none.json")
    (tmp_path / "file").touch()
    assert "file" in message_of(make_split(persons_clips(), "group").save, tmp_path / "file/split.json")


def test_a_split_for_another_store_is_refused():
    clips = persons_clips()
    split = make_split(clips, "group")
    names = {clip.name for clip in clips}
    check_split(split, names)
    check_split(split, names | {"more/clip"})
    message = message_of(check_split, split, names - {"bend/ann_0", "wave/ida_1"})
    assert "2 of its 54 clips are not in this one" in message
    assert "bend/ann_0" in message or "wave/ida_1" in message


@pytest.mark.parametrize(
    ("clips", "arguments", "words"),
    [
        (persons_clips(), {"protocol": "random"}, "protocol random is unknown: choose one of group, paper"),
        ([], {"protocol": "group"}, "no clips to split"),
        (persons_clips(), {"protocol": "group", "seed": -1}, "seed -1 is negative"),
        (
            scene_clips({"a": [2, 2, 2], "bow": [4, 4]}),
            {"protocol": "group"},
            "class bow has 2 group(s) (bow_0, bow_1), protocol group needs 3",
        ),
        (scene_clips({"a": [9], "bow": [2]}), {"protocol": "paper"}, "class bow has 2 clip(s)"),
        (
            persons_clips(),
            {"protocol": "group", "holdout": ["gust"]},
            "holdout gust is not one of the 9 groups: do",
        ),
        (persons_clips(), {"protocol": "group", "holdout": ["gust"]}, "do you mean gus?"),
        (
            scene_clips({"a": [2, 2, 2], "bow": [4, 4]}),
            {"protocol": "group", "holdout": ["bow_0", "bow_1"]},
            "holdout bow_0 bow_1 leaves class bow without training clips",
        ),
        (
            scene_clips({"a": [2, 2], "bow": [4]}),
            {"protocol": "group", "holdout": ["a_0"]},
            "holdout a_0 leaves no group for val",
        ),
        (persons_clips(), {"protocol": "paper", "holdout": ["ann"]}, "holdout ann is not for protocol paper"),
        (persons_clips(), {"protocol": "official-2"}, "trainlist02.txt and testlist02.txt"),
        (
            persons_clips(),
            {"protocol": "official-2", "lists": "nowhere"},
            "list nowhere/classInd.txt cannot be",
        ),
    ],
)
def test_what_cannot_be_split_is_refused(clips, arguments, words):
    assert words in message_of(make_split, clips, **arguments)


def test_groups_that_tie_all_classes_together_are_refused():
    # Each pair of the four groups shares a class, so one part always lacks a class.
    clips = [
        SplitClip(f"{a}{b}{c}/{g}", f"{a}{b}{c}", g) for a, b, c in ("123", "124", "134", "234") for g in (a, b, c)
    ]
    assert "every class in each part" in message_of(make_split, clips, "group")


def test_lists_that_name_no_clip_are_refused(small_lists):
    message = message_of(make_split, persons_clips(), "official-1", lists=small_lists)
    assert "name none of the 54 clips" in message


@pytest.mark.parametrize("line", ["Archery v_Archery_g01_c01.avi", "Bowling/v_Bowling_g01_c01.avi", "Archery/x.avi 1"])
def test_a_list_of_another_form_is_refused(small_lists, line):
    (small_lists / "trainlist01.txt").write_text(line + "\n")
    assert repr(line) in message_of(read_lists, small_lists)


def test_a_missing_list_is_refused(small_lists):
    (small_lists / "testlist01.txt").unlink()
    assert "testlist01.txt cannot be read" in message_of(read_lists, small_lists)
