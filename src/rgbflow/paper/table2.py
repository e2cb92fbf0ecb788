"""Table II of the paper: the two streams, their fusion, C3D and an LSTM, trained and tested alike."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rgbflow import fusion
from rgbflow.atomic import write_atomically
from rgbflow.bundle import load_bundle
from rgbflow.data.splits import load_split
from rgbflow.errors import InputError
from rgbflow.learn.metrics import group_interval, wilson_interval
from rgbflow.learn.page import PAGE_INCHES, grid, interval_text, page, provenance_section, section, themed
from rgbflow.learn.runs import Run, clip_hits, mean_by_clip, percent, runs_of, splits_table
from rgbflow.learn.scores import read_scores
from rgbflow.learn.tasks import SCORES, Evaluating, Training
from rgbflow.networks.families import family_of
from rgbflow.origin import describe_origin
from rgbflow.paper.presets import Scale, scaled, settings_table
from rgbflow.shown import html_text
from rgbflow.stream import STREAMS, Stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALGORITHMS: dict[str, tuple[Stream, ...]] = {"two-stream": STREAMS, "c3d": ("rgb",), "lrcn": ("rgb",)}
SPOKEN = {"ResNet101 only": "rgb alone", "ResNet101 with flow": "flow alone"}  # whichever backbone they have here
TITLE = "Table II: comparison of algorithms"
LEAK_NOTE = (
    "How far figures can be trusted depends on the leak: the share of the test clips whose group (person, scene, "
    "source video) is also trained on. On UCF101 the paper's protocol has 97.5&nbsp;%."
)


@dataclass(frozen=True)
class PaperRow:
    """A line of the paper's table.

    Attributes:
        name: as the paper calls it.
        algorithm: the algorithm of the bundle with the scores.
        scorer: which of its scores: "rgb", "flow" or "fused".
        top1, top5: percent, as published; the paper gives only one top-5.
    """

    name: str
    algorithm: str
    scorer: Stream | Literal["fused"]
    top1: float | None
    top5: float | None = None


PAPER = (
    PaperRow("ResNet101 only", "two-stream", "rgb", 78.59),
    PaperRow("ResNet101 with flow", "two-stream", "flow", 73.49),
    PaperRow("C3D", "c3d", "rgb", 77.41),
    PaperRow("LSTM", "lrcn", "rgb", 81.26),
    PaperRow("Two-stream", "two-stream", "fused", 85.75, 95.48),
)


def rows_with(also: Sequence[str]) -> tuple[PaperRow, ...]:
    """The lines of the table with those of further networks on rgb, which come before the two-stream's."""
    return (*PAPER[:-1], *(PaperRow(algorithm, algorithm, "rgb", None) for algorithm in also), PAPER[-1])


def algorithms_with(also: Sequence[str]) -> dict[str, tuple[Stream, ...]]:
    """The streams that are trained of each algorithm.

    Raises:
        InputError: if a further one is no video network.
    """
    for algorithm in also:
        if not family_of(algorithm).frame_rate:
            raise InputError(f"--also {algorithm} is in the table already: name video networks, such as s3d")
    return {**ALGORITHMS, **dict.fromkeys(also, ("rgb",))}


@dataclass(frozen=True)
class MeasuredRow:
    """A line of the table as measured here, over all runs.

    A clip that several runs test counts once, with the share of runs that are right: more seeds make the figure
    steadier, but the test part no larger.

    Attributes:
        name: as the paper calls it.
        network: backbone and input.
        paper_top1, paper_top5: percent, as published, on UCF101 and the paper's own split.
        clips: distinct clips tested.
        top1, top5: percent; top5 is None with five classes or fewer, where it says nothing.
        top1_interval: 95 % Wilson interval, percent, over the distinct clips.
        run_top1: percent, of each run.
        behind: points by which the two-stream is above this line; None in its own line.
        behind_interval: its 95 % interval over the groups of the clips (people, scenes), see `group_interval`.
        hours: hours of training, mean over the runs.
    """

    name: str
    network: str
    paper_top1: float | None
    paper_top5: float | None
    clips: int
    top1: float
    top1_interval: tuple[float, float]
    top5: float | None
    run_top1: list[float]
    behind: float | None
    behind_interval: tuple[float, float] | None
    hours: float


@dataclass(frozen=True)
class Table2:
    """Table II as measured: its lines, runs and settings, and its origin."""

    rows: list[MeasuredRow]
    splits: list[dict]
    settings: list[dict]
    num_classes: int
    num_snippets: int
    origin: dict[str, str]

    def save(self, folder: Path) -> None:
        """Write table2.json and table2.html."""
        write_atomically(folder / "table2.json", json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        write_atomically(folder / "table2.html", render(self))


def table2_tasks(
    store: Path, splits: Sequence[Path], seeds: int, folder: Path, scale: Scale, snippets: int, also: Sequence[str] = ()
) -> tuple[list[Training], list[Evaluating]]:
    """All trainings and evaluations for the table.

    Args:
        store: the data set.
        splits: files of splits; each is trained and tested on.
        seeds: trainings of each network on each split.
        folder: where the bundles go.
        scale: changes to Table I.
        snippets: snippets of each test clip and stream.
        also: video networks beside those of the paper, on rgb.
    """
    trainings, evaluations = [], []
    for run in runs_of(splits, seeds):
        for algorithm, streams in algorithms_with(also).items():
            bundle = folder / run.name / algorithm
            for stream in streams:
                config = scaled(stream, algorithm, scale, run.seed)
                name = f"{run.name} {algorithm} {stream}"
                trainings.append(Training(name, store, run.split, stream, bundle, config))
            evaluations.append(Evaluating(f"{run.name} {algorithm}", store, run.split, bundle, snippets))
    return trainings, evaluations


def read_table2(
    folder: Path, splits: Sequence[Path], seeds: int, scale: Scale, snippets: int, also: Sequence[str] = ()
) -> Table2:
    """The table from the results of `table2_tasks` in a folder."""
    runs, lines = runs_of(splits, seeds), rows_with(also)
    groups = {clip.name: clip.group for split in splits for clip in load_split(split).test}
    hits = {row.name: list(_hits(row, runs, folder)) for row in lines}
    reference = mean_by_clip([top1 for top1, _ in hits[PAPER[-1].name]])
    num_classes = len(load_split(splits[0]).classes)
    rows = []
    for paper in lines:
        top1, top5 = (mean_by_clip([run[kind] for run in hits[paper.name]]) for kind in (0, 1))
        is_reference = paper is PAPER[-1]
        behind = None if is_reference else {clip: reference[clip] - top1[clip] for clip in top1}
        rows.append(
            MeasuredRow(
                name=paper.name,
                network=_network(folder / runs[0].name / paper.algorithm, paper),
                paper_top1=paper.top1,
                paper_top5=paper.top5,
                clips=len(top1),
                top1=percent(top1),
                top1_interval=wilson_interval(round(sum(top1.values())), len(top1)),
                top5=percent(top5) if num_classes > 5 else None,
                run_top1=[percent(run) for run, _ in hits[paper.name]],
                behind=None if behind is None else percent(behind),
                behind_interval=None if behind is None else group_interval(behind, groups),
                hours=float(np.mean([_hours(folder / run.name / paper.algorithm, paper) for run in runs])),
            )
        )
    settings = settings_table(
        scale, {f"{a} {s}": (s, a) for a, streams in algorithms_with(also).items() for s in streams}, Scale()
    )
    return Table2(rows, splits_table(splits, seeds), settings, num_classes, snippets, describe_origin())


def _hits(row: PaperRow, runs: Sequence[Run], folder: Path) -> Iterator[tuple[dict[str, float], dict[str, float]]]:
    """For each run, whether a clip's class came first, and whether it came among the first five."""
    for run in runs:
        (file,) = read_scores([folder / run.name / row.algorithm / SCORES])
        scores = file.probabilities()
        chosen = fusion.average(scores) if row.scorer == "fused" else scores[row.scorer]
        first, first_five = (clip_hits(file.names, chosen, file.known_labels, among) for among in (1, 5))
        yield first, first_five


def _streams(row: PaperRow) -> tuple[Stream, ...]:
    return STREAMS if row.scorer == "fused" else (row.scorer,)


def _hours(bundle: Path, row: PaperRow) -> float:
    return sum(load_bundle(bundle).origin[stream]["seconds"] for stream in _streams(row)) / 3600


def _network(bundle: Path, row: PaperRow) -> str:
    spec = load_bundle(bundle).streams[_streams(row)[0]]
    return f"{family_of(spec.algorithm).title.format(spec.backbone)}, {spec.input_size}×{spec.input_size}"


def render(table: Table2) -> str:
    """The table as a page."""
    rows = "".join(_row(row) for row in table.rows)
    head = (
        "<tr><th></th><th>network here</th><th>paper, top-1</th><th>here, top-1</th><th>95&nbsp;% interval</th>"
        "<th>single runs</th><th>two-stream ahead by</th><th>paper, top-5</th><th>here, top-5</th>"
        "<th>training, hours</th></tr>"
    )
    body = f'<div class="wide"><table class="grid"><thead>{head}</thead><tbody>{rows}</tbody></table></div>\n'
    clips, runs = table.rows[0].clips, len(table.rows[0].run_top1)
    note = (
        f"Percent of whole videos: {clips} distinct test clips, {runs} runs, {table.num_snippets} snippets of each "
        f"clip and stream, the centre crop; an even guess gets {100 / table.num_classes:.1f}. The interval is Wilson's "
        "over the distinct clips. How far the two-stream is ahead, in points, is measured on the same clips; its "
        "interval takes a group (person, scene) as one observation. The paper's figures are of UCF101."
    )
    sections = [
        f'<header>\n<h1>{TITLE}</h1>\n<p class="headline">{html_text(headline(table.rows))}</p>\n</header>\n',
        section("Paper and here", note, body + themed(lambda palette: _draw(table.rows, palette), TITLE)),
        section("Data", LEAK_NOTE, grid(table.splits)),
        section("Settings", "A star marks values that differ from Table&nbsp;I of the paper.", grid(table.settings)),
        provenance_section(table.origin),
    ]
    return page(TITLE, sections)


def headline(rows: Sequence[MeasuredRow]) -> str:
    """A sentence that compares the two-stream with the others, as far as the intervals allow."""
    compared = [(SPOKEN.get(row.name, row.name), row.behind_interval) for row in rows if row.behind_interval]
    ahead = [name for name, (low, _) in compared if low > 0]
    behind = [name for name, (_, high) in compared if high < 0]
    open_ = [name for name, _ in compared if name not in ahead + behind]
    parts = [f"is above {_listed(ahead)}"] if ahead else []
    parts += [f"is below {_listed(behind)}"] if behind else []
    parts += [f"can't be told from {_listed(open_)}"] if open_ else []
    return f"The two-stream ({rows[-1].top1:.1f} %) {_listed(parts)}."


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _row(row: MeasuredRow) -> str:
    def number(value: float | None) -> str:
        return "&ndash;" if value is None else f"{value:.1f}"

    ahead = ""
    if row.behind is not None and row.behind_interval is not None:
        low, high = row.behind_interval
        ahead = f"{row.behind:+.1f} ({low:+.1f} to {high:+.1f})".replace("-", "&minus;")
    runs = row.run_top1
    single = ", ".join(f"{value:.1f}" for value in runs) if len(runs) < 4 else f"{min(runs):.1f}&ndash;{max(runs):.1f}"
    cells = [
        html_text(row.network),
        "" if row.paper_top1 is None else f"{row.paper_top1:.2f}",
        f"<strong>{row.top1:.1f}</strong>",
        interval_text(row.top1_interval),
        single,
        ahead,
        "" if row.paper_top5 is None else f"{row.paper_top5:.2f}",
        number(row.top5),
        f"{row.hours:.2f}",
    ]
    return f'<tr><th scope="row">{row.name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'


def _draw(rows: Sequence[MeasuredRow], palette: Mapping[str, str]) -> Figure:
    """Each line's top-1 with its interval, beside the paper's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_INCHES, 1.1 + 0.3 * len(rows)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(rows):
        low, high = row.top1_interval
        axis.plot([low, high], [place, place], color=palette["flow"], linewidth=5, alpha=0.35, solid_capstyle="butt")
        axis.plot(row.top1, place, "o", color=palette["flow"], label="here, with its interval" if not place else None)
        axis.plot(row.run_top1, [place + 0.22] * len(row.run_top1), "|", color=palette["soft"], markersize=5,
                  label="single runs" if not place else None)  # fmt: skip
        if row.paper_top1 is not None:
            axis.plot(row.paper_top1, place, "D", markerfacecolor="none", color=palette["rgb"],
                      label="the paper, on UCF101" if not place else None)  # fmt: skip
    axis.set_yticks(range(len(rows)), [row.name for row in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xlabel("top-1, %")
    figure.legend(loc="outside right upper", frameon=False)
    return figure
