"""The worth of each part of a recipe: training with the whole recipe, then without one part at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rgbflow.atomic import write_atomically
from rgbflow.data.splits import load_split
from rgbflow.errors import InputError
from rgbflow.fusion import Fusion
from rgbflow.learn.config import TrainConfig, changed
from rgbflow.learn.metrics import group_interval, wilson_interval
from rgbflow.learn.page import PAGE_INCHES, grid, page, provenance_section, section, themed
from rgbflow.learn.runs import Run, clip_hits, mean_by_clip, percent, runs_of, splits_table
from rgbflow.learn.scores import read_scores
from rgbflow.learn.tasks import SCORES, Evaluating, Training
from rgbflow.origin import describe_origin
from rgbflow.stream import STREAMS, Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE = "whole"
SCORERS = (*STREAMS, "fused")
TITLE = "Ablation: what each part is worth"


@dataclass(frozen=True)
class Part:
    """A part of a recipe.

    Attributes:
        name: name on the command line.
        words: name in the table.
        without: the fields of TrainConfig that take the part away.
        streams: the streams that it changes.
    """

    name: str
    words: str
    without: dict[str, object]
    streams: tuple[Stream, ...] = STREAMS

    def is_in(self, config: TrainConfig) -> bool:
        """Whether the settings have this part."""
        return any(getattr(config, name) != value for name, value in self.without.items())


FEWEST_SPLITS = 3  # for an interval over splits
PARTS = (
    Part("stack", "stacks of flow fields", {"stack_length": 1}, ("flow",)),
    Part("segments", "consensus of segments", {"num_segments": 1}),
    Part("weights", "starting weights", {"weights": "none", "freeze_batch_norms": False}),
    Part("probe", "classifiers fitted on features", {"probe": False}),
    Part("frozen", "frozen batch norms", {"freeze_batch_norms": False}),
    Part("dropout", "dropout", {"dropout": 0.0}),
    Part("flip", "mirroring", {"flip": False}),
    Part("scales", "crops of many scales", {"multi_scale": False}),
    Part("corners", "crops in corners", {"corner_crops": False}),
    Part("colour", "colours varied", {"colour_jitter": 0.0}, ("rgb",)),
    Part("mean-flow", "mean flow subtracted", {"subtract_mean_flow": False}, ("flow",)),
    Part("balance", "balanced classes", {"balanced": False}),
    Part("repeats", "small sets repeated", {"least_steps": 0}),
    Part("warm-up", "warm-up", {"warmup_epochs": 0.0}),
    Part("cosine", "cosine decay", {"schedule": "constant"}),
    Part("average", "averaged weights", {"average_epochs": 0}),
    Part("smoothing", "smoothed labels", {"label_smoothing": 0.0}),
)


@dataclass(frozen=True)
class AblationRow:
    """The figures of one scorer without one part.

    Attributes:
        part: name of the part; "whole" if nothing is taken away.
        words: name of the part in the table.
        scorer: "rgb", "flow" or "fused".
        top1: percent of whole videos; a clip tested by several runs counts once, with its mean.
        top1_interval: 95 % Wilson over the distinct clips.
        run_top1: percent, of each run.
        worth: points lost without the part, on the same clips of each split; None for the whole.
        worth_interval: 95 % interval of the worth (`metrics.group_interval`). With three splits or more, each split is
            one observation; with fewer, each group (person, scene), which ignores the randomness of training.
    """

    part: str
    words: str
    scorer: str
    top1: float
    top1_interval: tuple[float, float]
    run_top1: list[float]
    worth: float | None = None
    worth_interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Ablation:
    """The table, its runs and settings, and its origin."""

    rows: list[AblationRow]
    clips: int
    splits: list[dict]
    settings: dict[str, object]
    num_snippets: int
    origin: dict[str, str]

    def save(self, folder: Path) -> None:
        """Write ablation.json and ablation.html."""
        write_atomically(folder / "ablation.json", json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        write_atomically(folder / "ablation.html", render(self))


def choose_parts(names: Sequence[str], config: TrainConfig) -> list[Part]:
    """The parts with these names; without names, all parts that the settings have.

    Raises:
        InputError: if a name is unknown, or if the settings don't have the part.
    """
    known = {part.name: part for part in PARTS}
    for name in names:
        if name not in known:
            raise InputError(f"--parts {name} is unknown: use some of {', '.join(known)}")
        if not known[name].is_in(config):
            raise InputError(f"--parts {name}: the settings don't have this part: leave it out, or switch it on")
    return [part for part in PARTS if part.is_in(config) and (part.name in names or not names)]


def ablation_tasks(
    store: Path,
    splits: Sequence[Path],
    seeds: int,
    folder: Path,
    config: TrainConfig,
    parts: Sequence[Part],
    snippets: int,
) -> tuple[list[Training], list[Evaluating]]:
    """All trainings and evaluations, run after run, so that the table of the first runs is ready early.

    A part that only flow has is removed only from flow; the fusion then takes the rgb stream of the whole recipe.
    """
    trainings, evaluations = [], []
    for run in runs_of(splits, seeds):
        for name, changes, streams in [(WHOLE, {}, STREAMS), *((p.name, p.without, p.streams) for p in parts)]:
            bundle = folder / run.name / name
            for stream in streams:
                own = changed(config, {"seed": run.seed, **changes})
                trainings.append(Training(f"{run.name} {name} {stream}", store, run.split, stream, bundle, own))
            evaluations.append(Evaluating(f"{run.name} {name}", store, run.split, bundle, snippets))
    return trainings, evaluations


def read_ablation(
    folder: Path, splits: Sequence[Path], seeds: int, config: TrainConfig, parts: Sequence[Part], snippets: int
) -> Ablation:
    """The table from the results of `ablation_tasks` in a folder."""
    runs = runs_of(splits, seeds)
    groups = {clip.name: clip.group for split in splits for clip in load_split(split).test}
    fusion = Fusion(config.fusion)
    whole = {scorer: [_hits(folder, run, None, scorer, fusion) for run in runs] for scorer in SCORERS}
    rows = [_row(None, scorer, runs, whole[scorer], whole[scorer], groups) for scorer in SCORERS]
    for part in parts:
        for scorer in (*part.streams, "fused"):
            hits = [_hits(folder, run, part, scorer, fusion) for run in runs]
            rows.append(_row(part, scorer, runs, hits, whole[scorer], groups))
    return Ablation(rows, len(groups), splits_table(splits, seeds), asdict(config), snippets, describe_origin())


def _hits(folder: Path, run: Run, part: Part | None, scorer: str, fusion: Fusion) -> dict[str, float]:
    """For each test clip of a run, whether the scorer is right without the part."""
    (file,) = read_scores([folder / run.name / WHOLE / SCORES])
    scores = file.probabilities()
    if part:
        (without,) = read_scores([folder / run.name / part.name / SCORES])
        scores |= without.probabilities()
    return clip_hits(file.names, fusion.fuse(scores) if scorer == "fused" else scores[scorer], file.known_labels)


def _row(
    part: Part | None,
    scorer: str,
    runs: Sequence[Run],
    hits: Sequence[Mapping[str, float]],
    whole: Sequence[Mapping[str, float]],
    groups: Mapping[str, str],
) -> AblationRow:
    top1 = mean_by_clip(hits)
    interval = wilson_interval(round(sum(top1.values())), len(top1))
    figures = (scorer, percent(top1), interval, [percent(run) for run in hits])
    if part is None:
        return AblationRow(WHOLE, "everything", *figures)
    return AblationRow(part.name, part.words, *figures, *worth(runs, hits, whole, groups))


def worth(
    runs: Sequence[Run],
    hits: Sequence[Mapping[str, float]],
    whole: Sequence[Mapping[str, float]],
    groups: Mapping[str, str],
) -> tuple[float, tuple[float, float]]:
    """The worth of a part and its interval, see `AblationRow`, from the right answers of each run."""
    lost = defaultdict(list)
    for run, after, before in zip(runs, hits, whole, strict=True):
        for clip, hit in after.items():
            lost[run.split, clip].append(before[clip] - hit)
    has_splits = len({run.split for run in runs}) >= FEWEST_SPLITS
    drawn = {(split, clip): str(split) if has_splits else groups[clip] for split, clip in lost}
    means = {key: float(np.mean(values)) for key, values in lost.items()}
    return percent(means), group_interval(means, drawn)


def render(ablation: Ablation) -> str:
    """The table as a page."""
    runs = len(ablation.rows[0].run_top1)
    note = (
        f"Top-1, percent of whole videos: {ablation.clips} distinct test clips, {runs} runs, "
        f"{ablation.num_snippets} snippets of each clip and stream, fused by the {ablation.settings['fusion']}. A part "
        "is worth the points that are lost without it, measured on the same clips; its interval takes "
        + (
            "a split as one."
            if len(ablation.splits) >= FEWEST_SPLITS
            else "a group (person, scene) as one, and leaves out training's luck."
        )
    )
    body = grid([_cells(row) for row in ablation.rows]) + themed(lambda palette: _draw(ablation.rows, palette), TITLE)
    settings = [{"setting": name, "value": value} for name, value in ablation.settings.items()]
    sections = [
        f"<header>\n<h1>{TITLE}</h1>\n</header>\n",
        section("Without one part at a time", note, body),
        section("Data", "No honest figure has a leak.", grid(ablation.splits)),
        section("Settings of the whole", "", grid(settings)),
        provenance_section(ablation.origin),
    ]
    return page(TITLE, sections)


def _cells(row: AblationRow) -> dict[str, str]:
    low, high = row.top1_interval
    worth = ""
    if row.worth is not None and row.worth_interval is not None:
        worth = f"{row.worth:+.1f} ({row.worth_interval[0]:+.1f} to {row.worth_interval[1]:+.1f})"
    return {
        "without": "nothing" if row.part == WHOLE else row.words,
        "stream": "fusion" if row.scorer == "fused" else row.scorer,
        "top-1 %": f"{row.top1:.1f}",
        "95 % interval": f"{low:.1f}–{high:.1f}",
        "worth, points": worth,
    }


def _draw(rows: Sequence[AblationRow], palette: Mapping[str, str]) -> Figure:
    """What each part is worth to each stream and to the fusion, with its interval."""
    from matplotlib.figure import Figure

    measured = [row for row in rows if row.worth is not None]
    words = list(dict.fromkeys(row.words for row in measured))
    figure = Figure(figsize=(PAGE_INCHES, 1 + 0.42 * max(1, len(words))), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=palette["soft"], linewidth=1)
    for offset, scorer in zip((-0.22, 0.0, 0.22), SCORERS, strict=True):
        own = [row for row in measured if row.scorer == scorer]
        places = [words.index(row.words) + offset for row in own]
        colour = palette["fusion" if scorer == "fused" else scorer]
        for place, row in zip(places, own, strict=True):
            low, high = row.worth_interval or (np.nan, np.nan)
            axis.plot([low, high], [place, place], color=colour, alpha=0.4, linewidth=3)
        axis.plot([row.worth for row in own if row.worth is not None], places, "o", color=colour, markersize=5,
                  label="fusion" if scorer == "fused" else scorer)  # fmt: skip
    axis.set_yticks(range(len(words)), words)
    axis.invert_yaxis()
    axis.set_xlabel("worth: points of top-1 lost without the part")
    figure.legend(loc="outside right upper", frameon=False)
    return figure
