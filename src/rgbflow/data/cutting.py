"""A data set is cut into train, val and test: by group, over clips as the paper does, or by lists."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import permutations
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from rgbflow.data.layouts import plain
from rgbflow.data.lists import PARTS, read_listed
from rgbflow.data.matching import match_lists, note_clips, refuse_illegible
from rgbflow.data.official import read_pair
from rgbflow.data.splits import OFFICIAL, PROTOCOLS, UNKNOWN_PARTS, Split, SplitClip, SplitProtocol, by_name, labels_of
from rgbflow.errors import InputError

_DRAWS = 20  # seeds tried until every class is in every part


class NamedClip(Protocol):
    """A clip with a known name, class and group."""

    @property
    def name(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def group(self) -> str: ...


def make_split(
    clips: Sequence[NamedClip],
    protocol: str,
    seed: int = 0,
    holdout: Sequence[str] = (),
    lists: str | Path | Sequence[str | Path] | None = None,
    leave_out: Sequence[str] = (),
    list_number: int | None = None,
) -> Split:
    """Divide clips into train, val and test.

    group: 6:2:2, no group in two parts, every class in each part, its clips as near to 6:2:2 as whole groups
    allow (thirds where many classes have only three groups). With `holdout`, those groups are the test, and about a
    quarter of the rest is val. paper: 6:2:2 over the clips of each class, whatever their groups, as the paper of this
    method does; clips of one source are then on both sides, see `leak_percent`. official-1, -2, -3: UCF101's lists;
    about a fifth of the train list, whole groups, becomes val. Clips are matched by their file names; clips that only
    one side has are left out, and `notes` give their number. lists: lists of any form that `rgbflow.data.lists` knows.
    Without a val part, about a fifth of train, in whole groups, becomes val. A clip without a group takes the group
    that the list names. Clips are matched as above.

    The classes of `leave_out` are then taken out of all three parts. The first, third, ... of them form unknown_val,
    with their clips from val; the others form unknown_test, with their clips from test. Their other clips are not used.
    The threshold is thus tested on classes that it was not fitted on and, except in protocol paper, on other groups.

    Args:
        clips: objects with `name`, `label` and `group`, in any order.
        protocol: one of `PROTOCOLS`.
        seed: at least 0; the same clips and seed give the same split.
        holdout: names of the groups that form the test part; only for protocol group.
        lists: folder of classInd.txt, trainlist0N.txt and testlist0N.txt for the official protocols; for protocol
            lists one or more lists, or folders of them.
        leave_out: classes to leave out of training, at least 2 and not all.
        list_number: the split to take from a folder with several; the first if None; only for protocol lists.

    Raises:
        InputError: if an argument is not as above, or if a class has too few groups (protocol paper: clips) to be in
            every part.
    """
    clips = by_name(SplitClip(clip.name, clip.label, plain(clip.group)) for clip in clips)
    lists = [lists] if isinstance(lists, str | Path) else list(lists or ())
    holdout = _as_in_data(holdout, {clip.group for clip in clips})
    leave_out = _as_in_data(leave_out, {clip.label for clip in clips})
    _check_arguments(clips, protocol, seed, holdout, lists)
    _check_leave_out(clips, leave_out)
    if list_number is not None and protocol != "lists":
        raise InputError(f"list_number {list_number} is not for protocol {protocol}: use protocol lists")
    notes = _note_single_groups(clips)
    if protocol in OFFICIAL:
        train, test, unmatched = _match_lists(clips, lists[0], OFFICIAL.index(protocol) + 1)
        parts = [*_cut_validation(train, 5, seed), test]
        notes += unmatched
    elif protocol == "lists":
        clips, parts, unmatched = _parts_of_lists(clips, lists, list_number, seed)
        notes = _note_single_groups(clips) + unmatched
    elif protocol == "paper":
        parts = _cut_by_clip(clips, seed)
    else:
        parts = _cut_by_holdout(clips, holdout, seed) if holdout else _cut_by_group(clips, seed)
    parts, unknown = _take_out(parts, list(dict.fromkeys(leave_out)))
    for_train, for_val, for_test = (tuple(by_name(part)) for part in parts)
    classes = tuple(sorted(labels_of(for_train + for_val + for_test)))
    return Split(
        cast(SplitProtocol, protocol),
        seed,
        classes,
        for_train,
        for_val,
        for_test,
        notes + _note_missing(parts, classes),
        *unknown,
    )


def _cut_by_group(clips: Sequence[SplitClip], seed: int) -> list[list[SplitClip]]:
    """Train, val and test: no two share a group, and each has every class."""
    for label, groups in sorted(_groups_by_class(clips).items()):
        if len(groups) < 3:
            names = ", ".join(sorted(groups))
            raise InputError(
                f"class {label} has {len(groups)} group(s) ({names}), protocol group needs 3, one for each "
                "part: add clips of other groups, or name the test's groups by holdout"
            )
    # Five folds give 6:2:2. With fewer it is easier to have classes with few groups in every part.
    for count in range(_most_folds(clips, 5), 2, -1):
        for draw in range(_DRAWS):
            folds = _draw_folds(clips, count, _seed_of_draw(seed, draw))
            pair = _best_pair(folds)
            if pair:
                rest = [clip for index, fold in enumerate(folds) if index not in pair for clip in fold]
                return [rest, folds[pair[0]], folds[pair[1]]]
    raise InputError(
        f"no split by group with every class in each part was found in {_DRAWS} draws, since groups hold many"
        " classes at once: add groups, try another seed, or name the test's groups by holdout"
    )


def _best_pair(folds: Sequence[Sequence[SplitClip]]) -> tuple[int, int] | None:
    """The folds that make the best val and test: every class in each part, its clips nearest to 6:2:2."""
    labels = sorted(labels_of(clip for fold in folds for clip in fold))
    found = [Counter(clip.label for clip in fold) for fold in folds]
    counts = np.array([[fold[label] for label in labels] for fold in found])  # (folds, K)
    total = counts.sum(axis=0)
    best, least_error = None, np.inf
    for val, test in permutations(range(len(folds)), 2):
        parts = np.stack([total - counts[val] - counts[test], counts[val], counts[test]])
        error = np.abs(parts - np.outer([0.6, 0.2, 0.2], total)).sum()
        if parts.all() and error < least_error:
            best, least_error = (val, test), error
    return best


def _cut_by_holdout(clips: Sequence[SplitClip], holdout: Sequence[str], seed: int) -> list[list[SplitClip]]:
    """Train and val without the named groups, and test of exactly these groups."""
    groups = {clip.group for clip in clips}
    for name in holdout:
        if name not in groups:
            nearest = get_close_matches(name, sorted(groups), n=1, cutoff=0)[0]
            raise InputError(f"holdout {name} is not one of the {len(groups)} groups: do you mean {nearest}?")
    test = [clip for clip in clips if clip.group in holdout]
    rest = [clip for clip in clips if clip.group not in holdout]
    left_out = sorted(labels_of(clips) - labels_of(rest))
    if left_out:
        held = " ".join(holdout)
        raise InputError(f"holdout {held} leaves class {left_out[0]} without training clips: hold out fewer")
    train, val = _cut_validation(rest, 4, seed)
    if not val:
        raise InputError(
            f"holdout {' '.join(holdout)} leaves no group for val, since each other group is the last of a class: "
            "hold out fewer"
        )
    return [train, val, test]


def _cut_validation(clips: Sequence[SplitClip], share: int, seed: int) -> list[list[SplitClip]]:
    """Move about 1/share of the clips to val, by group, leaving every class in train.

    Of several draws it takes the one with most classes in val, then the one nearest to the share. Val is empty if each
    group is the last of a class.
    """
    groups_by_class = _groups_by_class(clips)
    last = {group for groups in groups_by_class.values() if len(groups) == 1 for group in groups}
    free = {clip.group for clip in clips} - last
    if not free:
        return [list(clips), []]
    folds = [
        {clip.group for clip in fold} & free
        for draw in range(4)
        for fold in _draw_folds(clips, _most_folds(clips, share), _seed_of_draw(seed, draw))
    ]
    sound = [fold for fold in folds if fold and all(groups - fold for groups in groups_by_class.values())]

    def merit(groups: set[str]) -> tuple[int, float]:
        val = [clip for clip in clips if clip.group in groups]
        return len(labels_of(val)), -abs(len(val) - len(clips) / share)

    # A free group alone never takes the last of a class.
    chosen = max(sound or [{group} for group in sorted(free)], key=merit)
    return [
        [clip for clip in clips if clip.group not in chosen],
        [clip for clip in clips if clip.group in chosen],
    ]


def _cut_by_clip(clips: Sequence[SplitClip], seed: int) -> list[list[SplitClip]]:
    """6:2:2 over the clips of each class; val and test get a fifth each, with every class."""
    from sklearn.model_selection import train_test_split

    counts = Counter(clip.label for clip in clips)
    rare, count = min(counts.items(), key=lambda item: item[1])
    if count < 3:
        raise InputError(f"class {rare} has {count} clip(s), protocol paper needs 3, one a part: add clips")
    fifth = max(round(len(clips) / 5), len(counts))
    train, parts = list(clips), []
    for draw in range(2):
        labels = [clip.label for clip in train]
        train, part = train_test_split(train, test_size=fifth, stratify=labels, random_state=_seed_of_draw(seed, draw))
        parts.append(part)
    return _fill_classes([train, *parts])


def _fill_classes(parts: list[list[SplitClip]]) -> list[list[SplitClip]]:
    """Move a clip of each class that a part lacks into it, from the part that has most of that class."""
    for label in sorted(labels_of(clip for part in parts for clip in part)):
        own = [[clip for clip in part if clip.label == label] for part in parts]
        for part, clips in zip(parts, own, strict=True):
            if not clips:
                donor = max(range(len(parts)), key=lambda index: len(own[index]))
                clip = own[donor].pop()
                parts[donor].remove(clip)
                part.append(clip)
    return parts


def _match_lists(
    clips: Sequence[SplitClip], folder: str | Path, number: int
) -> tuple[list[SplitClip], list[SplitClip], tuple[str, ...]]:
    """The clips of the train and of the test list, and notes on those that have no match."""
    by_stem = {_stem(clip): clip for clip in clips}
    lists = [[_stem(clip) for clip in part] for part in read_pair(folder, number)]
    train, test = ([by_stem[stem] for stem in part if stem in by_stem] for part in lists)
    matched, listed = len(train) + len(test), sum(map(len, lists))
    if not matched:
        raise InputError(f"lists {folder} name none of the {len(clips)} clips: use them with UCF101 only")
    notes = []
    if matched < listed:
        notes.append(f"{listed - matched} of the {listed} clips in the official lists are not in the data.")
    if matched < len(clips):
        notes.append(f"{len(clips) - matched} clips that the official lists do not name are left out.")
    return train, test, tuple(notes)


def _parts_of_lists(
    clips: Sequence[SplitClip], lists: Sequence[str | Path], number: int | None, seed: int
) -> tuple[list[SplitClip], list[list[SplitClip]], tuple[str, ...]]:
    """The clips that lists name, with their groups; their train, val and test; notes on those without a match."""
    listed = read_listed(lists, number, labels_of(clips))
    for clip in listed:
        if clip.part is None:
            raise InputError(f"{clip.place} names no part: name the file train..., val... or test..., or add a column")
    matched = match_lists(listed, {clip.name: clip.label for clip in clips})
    refuse_illegible(matched.missing)
    known = [_with_group(clip, matched.found[clip.name].group) for clip in clips if clip.name in matched.found]
    parts = [[clip for clip in known if matched.found[clip.name].part == part] for part in PARTS]
    listed_in = Counter(clip.part for clip in listed)
    for part, inside in zip(PARTS, parts, strict=True):
        if not inside and (listed_in[part] or part != "val"):
            raise InputError(_why_empty(part, [clip.path for clip in listed if clip.part == part]))
    if not listed_in["val"]:
        parts[:2] = _cut_validation(parts[0], 5, seed)
        if not parts[1]:
            raise InputError(
                "val can't be cut from train, since each of its groups is the last of a class: give a list for val too"
            )
    unlisted = [clip.name for clip in clips if clip.name not in matched.found]
    notes = (
        (f"{{}} of the {len(listed)} clips in the lists are not in the data", [clip.path for clip in matched.missing]),
        ("{} clips of the data are in no part of the lists and left out", unlisted),
    )
    repeated = (f"{matched.repeated} lines of the lists repeat a clip.",) if matched.repeated else ()
    return known, parts, (*(note_clips(words, names) for words, names in notes if names), *repeated)


def _why_empty(part: str, paths: Sequence[str]) -> str:
    if paths:
        missing = f"none of the {len(paths)} clips that the lists have for {part}, such as {paths[0]}, is in the data"
        return f"{missing}: prepare them, or give other lists"
    remedy = "rename val's list to test, and val is cut from train" if part == "test" else "give its list too"
    return f"the lists have no clip for {part}: {remedy}"


def _with_group(clip: SplitClip, group: str | None) -> SplitClip:
    """The clip with the group that a list names, unless the clip already has a group other than its own name."""
    return replace(clip, group=group) if group and clip.group == clip.name else clip


def _take_out(
    parts: Sequence[Sequence[SplitClip]], leave_out: Sequence[str]
) -> tuple[list[list[SplitClip]], list[tuple[SplitClip, ...]]]:
    """Train, val and test without some classes, and the two unknown parts, each with every second class."""
    _, val, test = parts
    pairs = ((val, leave_out[0::2]), (test, leave_out[1::2]))
    unknown = [tuple(by_name(clip for clip in part if clip.label in labels)) for part, labels in pairs]
    for name, clips in zip(UNKNOWN_PARTS, unknown, strict=True):
        if leave_out and not clips:
            raise InputError(f"leave_out {' '.join(leave_out)} gives {name} no clips: leave other classes out, or more")
    return [[clip for clip in part if clip.label not in leave_out] for part in parts], unknown


def _draw_folds(clips: Sequence[SplitClip], count: int, seed: int) -> list[list[SplitClip]]:
    """Divide clips into folds by group, the classes as balanced as can be."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels, groups = [clip.label for clip in clips], [clip.group for clip in clips]
    folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # It warns of a class with fewer clips than folds but goes on; the callers look for missing classes.
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        return [[clips[index] for index in fold] for _, fold in folds.split(labels, labels, groups)]


def _most_folds(clips: Sequence[SplitClip], wanted: int) -> int:
    """Number of folds that the clips allow: at most the number of groups and of clips of the largest class."""
    largest_class = max(Counter(clip.label for clip in clips).values())
    return min(wanted, len({clip.group for clip in clips}), largest_class)


def _seed_of_draw(seed: int, draw: int) -> int:
    """A seed for each draw, so that the second draw of seed 0 differs from the first of seed 1."""
    return int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])


def _groups_by_class(clips: Iterable[SplitClip]) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        groups[clip.label].add(clip.group)
    return groups


def _stem(clip: SplitClip) -> str:
    return clip.name.rpartition("/")[2]


def _note_single_groups(clips: Sequence[SplitClip]) -> tuple[str, ...]:
    if len({clip.group for clip in clips}) < len(clips):
        return ()
    return ("Each clip is its own group, so clips of one source may be on both sides unseen: give groups.",)


def _note_missing(parts: Sequence[Sequence[SplitClip]], classes: Sequence[str]) -> tuple[str, ...]:
    missing = zip(PARTS, (sorted(set(classes) - labels_of(part)) for part in parts), strict=True)
    return tuple(
        f"{part} has no clip of {len(labels)} of the {len(classes)} classes, such as {labels[0]}."
        for part, labels in missing
        if labels
    )


def _check_arguments(
    clips: Sequence[SplitClip], protocol: str, seed: int, holdout: Sequence[str], lists: Sequence[str | Path]
) -> None:
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol {protocol} is unknown: choose one of {', '.join(PROTOCOLS)}")
    if not clips:
        raise InputError("there are no clips to split: prepare some videos first")
    if seed < 0:
        raise InputError(f"seed {seed} is negative: give 0 or more")
    if holdout and protocol != "group":
        raise InputError(f"holdout {' '.join(holdout)} is not for protocol {protocol}: use protocol group")
    if protocol == "lists" and not lists:
        raise InputError("protocol lists needs them: give as lists the files, or the folder, of train, val and test")
    if protocol in OFFICIAL and len(lists) != 1:
        number = protocol[-1]
        raise InputError(
            f"protocol {protocol} needs UCF101's lists: give as lists the folder of classInd.txt, "
            f"trainlist0{number}.txt and testlist0{number}.txt"
        )


def _as_in_data(names: Sequence[str], known: Collection[str]) -> list[str]:
    """Names in the form of Unicode that the data has them in."""
    by_form = {plain(name): name for name in known}
    return [name if name in known else by_form.get(plain(name), name) for name in names]


def _check_leave_out(clips: Sequence[SplitClip], leave_out: Sequence[str]) -> None:
    classes = labels_of(clips)
    for name in leave_out:
        if name not in classes:
            nearest = get_close_matches(name, sorted(classes), n=1, cutoff=0)[0]
            raise InputError(f"leave_out {name} is not one of the {len(classes)} classes: do you mean {nearest}?")
    if len(set(leave_out)) == 1:
        raise InputError(f"leave_out {leave_out[0]} must be 2 classes or more: one fits the threshold, one tests it")
    if leave_out and len(classes) - len(set(leave_out)) < 2:
        raise InputError(f"leave_out {' '.join(leave_out)} leaves fewer than 2 classes: leave out fewer")
