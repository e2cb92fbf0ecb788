"""Actions taught from few takes: accuracy, what is named falsely, seconds, against nearest neighbour.

    python benchmarks/teach.py DATA CACHE [--base NAME=BUNDLE ...]

DATA holds weizmann, ut-interaction, jhmdb-11 and ucf101-sample. False starts are counted in joined clips of the other
sets. Features are computed once and kept in CACHE (about half an hour); what follows takes minutes. For each number of
takes: 20 draws of five actions and of their takes, tested on persons, a place or source videos that none of the takes
is of. Each --base is a bundle of `rgbflow train` on the set NAME, on whose networks the other sets' actions are taught
too.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from pages import write_page

from rgbflow.data.layouts import read_class_folders, without_ending
from rgbflow.fusion import probabilities, product
from rgbflow.learn.few_takes import FALSE_STARTS, Examples, Fit, fit_examples, name_scores
from rgbflow.learn.lesson import Lesson
from rgbflow.learn.start import imagenet_start
from rgbflow.learn.takes import LOOKS, WINDOW_SECONDS, FeatureCache, Take, TakeFeatures
from rgbflow.learn.teach import Teacher
from rgbflow.live.events import EventFinder, EventRules
from rgbflow.live.session import LiveRecognizer
from rgbflow.networks.engine import Engine
from rgbflow.origin import describe_origin
from rgbflow.recognizer import Recognizer
from rgbflow.stream import STREAMS
from rgbflow.video.reading import decode

TAKES, DRAWS, WAYS = (1, 2, 3, 5, 8), 20, 5
RECORDED_TAKES = 5  # the row with what takes long: fits with recordings, and the search for a quiet threshold
TAUGHT = ("weizmann", "ut-interaction", "jhmdb-11")
PLAYED = (*TAUGHT, "ucf101-sample")
LOOKS_PER_SECOND = 4
SIZE = (320, 240)  # of all joined clips: a camera's picture keeps its size
PAGE = Path(__file__).parents[1] / "docs" / "results" / "teach.md"


class Kept:
    """An engine that also keeps the features of the newest answer of each stream."""

    name, networks = "features", {}

    def __init__(self, engine: Engine):
        self._engine, self.newest = engine, {}

    def answers(self, snippets, crops=1, with_features=False):
        answers = self._engine.answers(snippets, crops, with_features=True)
        self.newest |= {stream: answer.features[0].astype(np.float16) for stream, answer in answers.items()}
        return answers


class Played:
    """The joined clips of a set as `live` sees them: the features of its newest snippets at every look.

    It has two halves, half minutes in turn: one may be given to a lesson as a recording of no action, while the other
    is counted.
    """

    def __init__(self, folder: Path, base: Recognizer, cache: Path):
        path = cache / f"played-{folder.name}.npz"
        if not path.is_file():
            self._play(folder, base, path)
        with np.load(path) as file:
            self.looks = {stream: file[stream].astype(np.float32) for stream in STREAMS}
        self.halves = (np.arange(len(self.looks["rgb"])) / LOOKS_PER_SECOND // 30 % 2).astype(int)

    @property
    def minutes(self) -> float:
        """How long it is."""
        return len(self.halves) / LOOKS_PER_SECOND / 60

    def _play(self, folder: Path, base: Recognizer, path: Path) -> None:
        engine, rows, time_ = Kept(base.engine), {stream: [] for stream in STREAMS}, 0.0
        live = LiveRecognizer(base.bundle, engine, WINDOW_SECONDS, LOOKS_PER_SECOND, EventRules())
        for clip in read_class_folders(folder):
            begin = time_ + 1 / 25
            for frame in decode(clip.path):
                time_ = begin + frame.pts_seconds
                if live.push(cv2.resize(frame.pixels, SIZE, interpolation=cv2.INTER_AREA), time_) is not None:
                    for stream, values in engine.newest.items():
                        rows[stream].append(values)
        np.savez(path, **{stream: np.stack(values) for stream, values in rows.items()})

    def recording(self, half: int) -> tuple[Take, TakeFeatures]:
        """A half, in windows."""
        length = int(LOOKS_PER_SECOND * WINDOW_SECONDS)
        windows = {}
        for stream, looks in self.looks.items():
            given = looks[self.halves == half]
            given = given[: len(given) // length * length].reshape(-1, 1, length, given.shape[-1])
            windows[stream] = given.repeat(LOOKS, axis=1)
        return Take("none", Path("joined.mp4")), TakeFeatures(windows, 25.0, 1.0, "joined")

    def running(self, fit: Fit) -> np.ndarray:
        """Fused probabilities of the window that ends with each look."""
        scores, length = {}, int(LOOKS_PER_SECOND * WINDOW_SECONDS)
        for stream, head in fit.heads.items():
            sums = np.cumsum(np.pad(head.logits(self.looks[stream]), ((1, 0), (0, 0))), axis=0)
            ends = np.arange(1, len(sums))
            begins = np.maximum(0, ends - length)
            scores[stream] = probabilities((sums[ends] - sums[begins]) / (ends - begins)[:, None])
        return fit.fusion.fuse(scores)


class Set:
    """The clips of a data set with their features."""

    def __init__(self, name: str, folder: Path, cache: FeatureCache):
        self.name = name
        self.takes, self.features = [], []
        for clip in read_class_folders(folder):
            take = Take(clip.label, clip.path, clip.group)
            self.takes.append(take)
            self.features.append(cache.of(take))
        self.labels = np.array([take.name for take in self.takes])
        self.groups = np.array([take.group for take in self.takes])
        self.folder = folder

    def splits(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Masks: what takes may be drawn from, and what is tested."""
        if self.name == "weizmann":
            tests = [self.groups == group for group in np.unique(self.groups)]
        elif self.name == "ut-interaction":
            places = np.array([take.path.name.startswith("set1") for take in self.takes])
            tests = [places, ~places]
        else:
            lines = (self.folder / "testlist01.txt").read_text().splitlines()
            names = {without_ending(line.split()[0]) for line in lines if line.strip()}
            tests = [np.array([f"{take.name}/{take.path.stem}" in names for take in self.takes])]
        return [(~test, test) for test in tests]


def episodes(data: Set, takes: int) -> Iterator[tuple[list[str], list[int], np.ndarray, np.ndarray]]:
    """Five actions, the clips to teach, the clips of these actions to test, and those of other actions."""
    splits, rng = data.splits(), np.random.default_rng(takes)
    for draw in range(max(DRAWS, 2 * len(splits))):
        train, test = splits[draw % len(splits)]
        chosen = sorted(rng.permutation(np.unique(data.labels))[:WAYS].tolist())
        pools = [np.flatnonzero(train & (data.labels == name)) for name in chosen]
        if min(map(len, pools)) < takes:
            continue
        taught = [int(one) for pool in pools for one in rng.choice(pool, takes, replace=False)]
        is_chosen = np.isin(data.labels, chosen)
        yield chosen, taught, np.flatnonzero(test & is_chosen), np.flatnonzero(test & ~is_chosen)


def means(features: list[TakeFeatures], stream: str) -> np.ndarray:
    """(N, D): of each clip as it is."""
    return np.stack([one.streams[stream][0, 0].mean(axis=0) for one in features])


def answers(fit: Fit, features: list[TakeFeatures]) -> dict[str, np.ndarray]:
    """Probabilities of each stream and fused."""
    scores = {
        stream: probabilities(means(features, stream) @ head.weight.T + head.bias) for stream, head in fit.heads.items()
    }
    return {**scores, "fused": fit.fusion.fuse(scores)}


def nearest(examples: Examples, features: list[TakeFeatures], stream: str) -> np.ndarray:
    """The class of the nearest taken row by the cosine of centred features."""
    is_action = examples.labels != examples.no_action
    rows, labels = examples.features[stream][is_action], examples.labels[is_action]
    centre = rows.mean(axis=0)
    one, other = (values - centre for values in (means(features, stream), rows))
    one, other = (values / np.linalg.norm(values, axis=1, keepdims=True) for values in (one, other))
    return labels[(one @ other.T).argmax(axis=1)]


def count_starts(fused: np.ndarray, no_action: int, threshold: float) -> int:
    """How many actions start in (T, K) probabilities of looks that follow each other, by the rules of `live`."""
    length = fused.shape[1]
    finder = EventFinder(tuple(map(str, range(length))), EventRules.suited_to(length, threshold))
    starts = 0
    for number, (scores, name_score) in enumerate(zip(fused, name_scores(fused, no_action), strict=True)):
        now = number / LOOKS_PER_SECOND
        events = finder.push(scores, now - WINDOW_SECONDS, now, bool(name_score > threshold))
        starts += sum(event.kind == "start" for event in events)
    return starts


def starts_an_hour(idle: list[np.ndarray], no_action: int, threshold: float) -> float:
    """Of actions, in recordings' running probabilities."""
    return sum(count_starts(one, no_action, threshold) for one in idle) / hours_of(idle)


def hours_of(idle: list[np.ndarray]) -> float:
    """How long recordings are."""
    return sum(map(len, idle)) / LOOKS_PER_SECOND / 3600


def quiet_threshold(idle: list[np.ndarray], no_action: int, lowest: float) -> float:
    """The lowest threshold at which recordings have at most FALSE_STARTS an hour."""
    scores = np.concatenate([name_scores(one, no_action) for one in idle])
    candidates = np.append(lowest, np.sort(scores[scores > lowest]))
    low, high = 0, len(candidates) - 1  # starts fall as the threshold rises, nearly always
    while low < high:
        middle = (low + high) // 2
        if starts_an_hour(idle, no_action, float(candidates[middle])) <= FALSE_STARTS:
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])


def share_found(fused: np.ndarray, truth: np.ndarray, no_action: int, threshold: float) -> float:
    """Of clips: named, and rightly."""
    return float(((name_scores(fused, no_action) > threshold) & (fused.argmax(1) == truth)).mean())


def with_recordings(
    lesson: Lesson, shown: list[TakeFeatures], truth: np.ndarray, idle: list[Played]
) -> dict[str, float]:
    """What is found, and false starts an hour, after a lesson with one half of the recordings; each half in turn."""
    found, starts, hours = [], 0, 0.0
    for half in (0, 1):
        recorded = [one.recording(half) for one in idle]
        takes = (*lesson.takes, *(take for take, _ in recorded))
        examples = Lesson(takes, (*lesson.features, *(one for _, one in recorded)), lesson.drawn).examples()
        fit, no_action = fit_examples(examples), len(lesson.actions)
        threshold = fit.fusion.threshold or 0.0
        found.append(share_found(answers(fit, shown)["fused"], truth, no_action, threshold))
        counted = [one.running(fit)[one.halves != half] for one in idle]
        starts += sum(count_starts(one, no_action, threshold) for one in counted)
        hours += hours_of(counted)
    return {"found with": float(np.mean(found)), "starts with": starts / hours}


def measure(data: Set, takes: int, drawn: TakeFeatures, idle: list[Played]) -> dict[str, float]:
    """Mean percentages over the draws; false starts an hour."""
    rows: list[dict[str, float]] = []
    for chosen, taught, tested, others in episodes(data, takes):
        lesson = Lesson(tuple(data.takes[one] for one in taught), tuple(data.features[one] for one in taught), drawn)
        began = time.perf_counter()
        examples = lesson.examples()
        fit = fit_examples(examples)
        seconds = time.perf_counter() - began
        truth = np.array([chosen.index(data.labels[one]) for one in tested])
        shown = [data.features[one] for one in tested]
        said = answers(fit, shown)
        said["equal powers"] = product({stream: said[stream] for stream in fit.heads})
        row = {name: float((p[:, :WAYS].argmax(1) == truth).mean()) for name, p in said.items()}
        row |= {f"nearest {s}": float((nearest(examples, shown, s) == truth).mean()) for s in examples.features}
        threshold, fused = fit.fusion.threshold or 0.0, said["fused"]
        no_action = len(chosen)
        row["found"] = share_found(fused, truth, no_action, threshold)
        if len(others):
            strange = answers(fit, [data.features[one] for one in others])["fused"]
            row["false names"] = float((name_scores(strange, no_action) > threshold).mean())
        row["seconds"] = seconds
        if idle:
            running = [one.running(fit) for one in idle]
            row["starts"] = starts_an_hour(running, no_action, threshold)
            if takes == RECORDED_TAKES:
                quiet = quiet_threshold(running, no_action, threshold)
                row["found quiet"] = share_found(fused, truth, no_action, quiet)
                row |= with_recordings(lesson, shown, truth, idle)
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    found = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
    plain = {"seconds", "starts", "starts with"}
    return {name: value if name in plain else 100 * value for name, value in found.items()} | {"draws": len(rows)}


def time_a_take(base: Recognizer, clips: list[Path]) -> dict[str, float]:
    """Seconds of the features of a take, and from that take to the label of a clip."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = Teacher(base, folder)
        teacher.add("one", clips[0])
        teacher.add("two", clips[1])
        teacher.fit()
        began = time.perf_counter()
        teacher.add("two", clips[2])
        features = time.perf_counter() - began
        teacher.fit().predict(clips[3], 5)
        return {"features": features, "label": time.perf_counter() - began}


COLUMNS = {
    "rgb": "rgb",
    "flow": "flow",
    "fused": "fused",
    "equal powers": "equal powers",
    "nearest rgb": "nearest rgb",
    "nearest flow": "nearest flow",
    "found": "found",
    "false names": "false names",
    "starts": "starts",
    "found quiet": f"found at {FALSE_STARTS:g} starts",
    "found with": "found, with recordings",
    "starts with": "starts, with recordings",
}
FIRST_COLUMNS = ("rgb", "flow", "fused")


def table(rows: dict[int, dict[str, float]], columns: list[str]) -> list[str]:
    """A line for each number of takes."""
    lines = ["| takes | " + " | ".join(COLUMNS[one] for one in columns) + " | seconds | draws |"]
    lines.append("|" + "---|" * (len(columns) + 3))
    for takes, row in rows.items():
        values = " | ".join(f"{row[one]:.1f}" if one in row else "–" for one in columns)
        lines.append(f"| {takes} | {values} | {row['seconds']:.2f} | {row['draws']} |")
    return [*lines, ""]


def page(result: dict) -> str:
    """The page of results."""
    lines = [
        "# Actions taught from few takes",
        "",
        "Made by `make teach`: five actions of a set, drawn 20 times with their takes, taught on frozen networks and "
        "tested on clips of other persons (Weizmann, each in turn), of the other place (UT-Interaction) or of other "
        "source videos (jhmdb-11, the official test list). Percent of clips, means over the draws.",
        "",
        "- rgb, flow, fused: named rightly among the five. equal powers: fused with the power 1 for both streams. "
        "nearest: the class of the nearest take, by the cosine of the same features.",
        "- found: named rightly and above the threshold. false names: clips of the set's other actions that get a "
        "name; the threshold promises at most 20 %, from the takes alone.",
        "- starts: false starts an hour in joined clips of the other sets here, by the rules of `live`, four looks a "
        f"second. found at {FALSE_STARTS:g} starts: what is found where the threshold is raised until these clips have "
        f"at most {FALSE_STARTS:g} starts an hour.",
        "- with recordings: half of the joined clips was given as recordings of no action, half minutes in turn, and "
        "the other half is counted; then the halves change places. Such fits keep left-out recordings at "
        f"{FALSE_STARTS:g} starts an hour.",
        "- seconds: of a fit, one thread.",
        "",
        "## On the networks of `imagenet`",
        "",
    ]
    for name, rows in result["sets"].items():
        minutes = f"{result['minutes'][name]:.0f} minutes of joined clips."
        lines += [f"### {name}", "", minutes, "", *table(rows, list(COLUMNS))]
    seconds = result["take"]
    lines += [
        f"Features of a take: {seconds['features']:.1f} s. From the last take to the label of a clip, which is decoded "
        f"for it: {seconds['label']:.1f} s.",
        "",
    ]
    for base, sets in result["bases"].items():
        lines += [f"## On the networks of a bundle trained on {base}", ""]
        for name, rows in sets.items():
            columns = [one for one in FIRST_COLUMNS if one in rows[TAKES[0]]]
            lines += [f"### {name}, taught on {base}", "", *table(rows, columns)]
    origin = result["origin"]
    lines += ["## How it was made", "", f"Written at commit {origin['commit']}; {origin['machine']}; {origin['date']}:"]
    return "\n".join([*lines, f"`{origin['command']}`.", ""])


def measure_base(data: Path, name: str, base: Recognizer, cache: Path) -> dict[str, dict]:
    """Accuracy on a bundle trained on the set of this name, for the actions of the two others."""
    features = FeatureCache(cache, base)
    others = {other: Set(other, data / other, features) for other in TAUGHT if other != name}
    drawn = features.of_drawn()
    return {other: {takes: measure(one, takes, drawn, []) for takes in TAKES} for other, one in others.items()}


def main(data: Path, cache: Path, bases: dict[str, Path]) -> None:
    """Measure and write the page."""
    base = imagenet_start()
    features = FeatureCache(cache, base)
    played = {name: Played(data / name, base, cache) for name in PLAYED}
    result: dict = {"sets": {}, "minutes": {}, "bases": {}, "origin": describe_origin()}
    for name in TAUGHT:
        one, idle = Set(name, data / name, features), [played[other] for other in PLAYED if other != name]
        result["minutes"][name] = sum(other.minutes for other in idle)
        result["sets"][name] = {takes: measure(one, takes, features.of_drawn(), idle) for takes in TAKES}
        print(name, json.dumps(result["sets"][name]), flush=True)
    result["take"] = time_a_take(base, [clip.path for clip in read_class_folders(data / TAUGHT[0])])
    for name, folder in bases.items():
        result["bases"][name] = measure_base(data, name, Recognizer.load(folder, engine="torch"), cache)
        print(name, json.dumps(result["bases"][name]), flush=True)
    PAGE.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    write_page(PAGE, page(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--base", nargs="*", default=(), metavar="NAME=BUNDLE")
    arguments = parser.parse_args()
    bases = {name: Path(folder) for name, folder in (one.split("=", 1) for one in arguments.base)}
    main(arguments.data, arguments.cache, bases)
