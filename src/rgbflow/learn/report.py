"""The report of an evaluation: one self-contained HTML file."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from rgbflow.atomic import write_atomically
from rgbflow.decision import Decision
from rgbflow.learn.charts import (
    MOST_COUNTED_CLASSES,
    MOST_NAMED_CLASSES,
    SCORERS,
    Rows,
    column,
    draw_confusions,
    draw_curves,
)
from rgbflow.learn.comparison import Compared
from rgbflow.learn.metrics import DECISIONS, Figures, UnknownFigures, confusion, deciding_stream, measure
from rgbflow.learn.page import interval_text, page, provenance_section, section, themed
from rgbflow.shown import html_text
from rgbflow.stream import Stream

PARTS = {"test": "test", "val": "validation"}
MOST_WRONG_CLIPS = 50
PICTURE_WIDTH = 360  # px; the widest a sample frame is shown, twice over for dense screens

DECISION_WORDS = {
    "both": "each stream alone",
    "rgb": "only rgb",
    "flow": "only flow",
    "fusion": "only the fusion",
    "wrong": "wrong",
}
WHY_WORDS = {
    "both": "both streams say so",
    "rgb": "rgb decided",
    "flow": "flow decided",
    "fusion": "neither stream alone says so",
}
CURVES = ("train_loss", "val_loss", "val_top1")


@dataclass(frozen=True)
class Example:
    """A clip to show: (n, H, W, 3) uint8 RGB frames and as many pictures of their flow, as large or smaller."""

    name: str
    label: str
    frames: np.ndarray
    flow_pictures: np.ndarray


@dataclass(frozen=True)
class Why:
    """A clip with its decision and what each stream looked at.

    Args:
        name: of the clip.
        label: its true class.
        score: the probability of the decision's answer, after fusion.
        decision: which stream the answer comes from.
        pictures: for each stream (H, W, 3) uint8 RGB: a frame or the flow in colour, lit where it found the answer.
    """

    name: str
    label: str
    score: float
    decision: Decision
    pictures: Mapping[Stream, np.ndarray]


@dataclass(frozen=True)
class Report:
    """What an evaluation found, and where it comes from.

    Args:
        title: the heading.
        classes: the K names, in the order of the scores.
        names: the N clips, in the order of the scores.
        labels: (N,) integers in 0 ... K - 1.
        scores: (N, K) probabilities under "rgb", "flow" or both; with both also "fused".
        part: which clips of the split these are: "test" or "val".
        protocol: how the split was made, as the split file calls it.
        leak_percent: share of these clips that share a group with a training clip; None if unknown.
        provenance: what made the figures: command, commit, machine, date and so on.
        curves: for each stream rows of "epoch", "train_loss", "val_loss" and "val_top1" (percent); all but
            the epoch may be missing or None.
        examples: clips to show.
        whys: clips to explain, or a line that says why none can be explained.
        calibration_errors: of the plain average and of the answers, percent; None if unknown.
        comparison: of the fusions fitted on val.
        unknown: how well clips of left-out classes are separated from these.

    Raises:
        ValueError: if the arrays or the keys do not fit together.
    """

    title: str
    classes: tuple[str, ...]
    names: list[str]
    labels: np.ndarray
    scores: Mapping[str, np.ndarray]
    part: str
    protocol: str
    leak_percent: float | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Rows] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    whys: list[Why] | str = field(default_factory=list)
    calibration_errors: tuple[float, float] | None = None
    comparison: list[Compared] = field(default_factory=list)
    unknown: UnknownFigures | None = None

    def __post_init__(self) -> None:
        if set(self.scores) not in ({"rgb"}, {"flow"}, {"rgb", "flow", "fused"}):
            raise ValueError(f"scores ({sorted(self.scores)}) must be rgb, or flow, or rgb, flow and fused")
        for key, values in self.scores.items():
            if np.shape(values) != (len(self.names), len(self.classes)):
                raise ValueError(
                    f"scores[{key!r}] {np.shape(values)} must be (clips, classes): "
                    f"there are {len(self.names)} names and {len(self.classes)} classes"
                )
        if self.part not in PARTS:
            raise ValueError(f"part ({self.part!r}) must be 'test' or 'val'")

    @property
    def scorers(self) -> list[str]:
        """The keys of the scores in the order they are shown: the fusion, if there is one, first."""
        return [key for key in ("fused", "rgb", "flow") if key in self.scores]

    def answers(self, key: str) -> np.ndarray:
        """(N,) indices of the classes answered by one scorer."""
        return np.asarray(self.scores[key]).argmax(axis=1)


def write_report(path: str | Path, report: Report) -> Path:
    """Write the report as one self-contained HTML file, whole or not at all.

    Raises:
        InputError: if the file cannot be written, or the scores do not fit the labels.
    """
    path = Path(path)
    # a file name can hold bytes that are no text; they must not cost the whole report
    write_atomically(path, render(report).encode("utf-8", errors="replace"))
    return path


def render(report: Report) -> str:
    """The whole page as HTML.

    Raises:
        InputError: if the scores do not fit the labels.
    """
    figures = {key: measure(report.scores[key], report.labels) for key in report.scorers}
    sections = [
        _header(report, figures),
        _examples(report.examples),
        _curves(report.curves),
        _table(report, figures),
        _decisions(report),
        _whys(report.whys),
        _calibration(report),
        _unknown(report.unknown),
        _confusions(report),
        _wrong_clips(report),
        provenance_section(report.provenance),
    ]
    return page(report.title, sections)


def _header(report: Report, figures: Mapping[str, Figures]) -> str:
    tiles = "".join(_tile(key, figures[key]) for key in report.scorers)
    return (
        f"<header>\n<h1>{html_text(report.title)}</h1>\n"
        f'<p class="headline">{_headline(report.scorers, figures)}</p>\n'
        f'<div class="tiles">\n{tiles}</div>\n'
        f'<p class="basis">{_basis(report)}</p>\n{_leak_warning(report)}</header>\n'
    )


def _headline(scorers: list[str], figures: Mapping[str, Figures]) -> str:
    """One sentence: how many clips the first scorer names right, and how far it is ahead of the others."""
    first, *others = scorers
    clips, top1 = figures[first].clips, figures[first].top1
    subject = "The fusion" if others else f"The {first} stream"
    sentence = f"{subject} names {round(top1 * clips / 100)} of {clips} clips right"
    compared = ", ".join(f"{_difference(top1 - figures[key].top1)} {key} alone" for key in others)
    return f"{sentence}: {compared}." if compared else f"{sentence}."


def _difference(points: float) -> str:
    if abs(points) < 0.05:
        return "as many as"
    return f"{abs(points):.1f}&nbsp;points {'above' if points > 0 else 'below'}"


def _tile(key: str, figures: Figures) -> str:
    low, high = figures.top1_interval
    return (
        f'<div class="tile {SCORERS[key]}"><span class="name">{SCORERS[key]}</span>'
        f'<span class="big">{figures.top1:.1f}<small>%</small></span>'
        f'<span class="whisker"><i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
        f'<b style="left:{figures.top1:.2f}%"></b></span>'
        f'<span class="interval">top-1, 95&nbsp;% interval {interval_text(figures.top1_interval)}</span></div>\n'
    )


def _basis(report: Report) -> str:
    if report.leak_percent is None:
        leak = "leak not known"
    elif report.leak_percent > 0:
        leak = f"leak {report.leak_percent:.1f}&nbsp;%"
    else:
        leak = "no group on both sides (leak 0&nbsp;%)"
    parts = [
        f"{len(report.names)} {PARTS[report.part]} clips",
        f"{len(report.classes)} classes",
        f"protocol {html_text(report.protocol)}",
        leak,
    ]
    return " · ".join(parts)


def _leak_warning(report: Report) -> str:
    if not report.leak_percent:
        return ""
    return (
        '<p class="warning"><strong>These figures are likely too good.</strong> '
        f"{report.leak_percent:.1f}&nbsp;% of the {PARTS[report.part]} clips share a group (the same person, "
        "scene or source video) with a training clip, so they say little about new videos. "
        "Split by group to know.</p>\n"
    )


def _examples(examples: list[Example]) -> str:
    if not examples:
        return ""
    note = "Each frame above its flow: the colour is the direction of the motion, its strength the speed."
    body = f'<div class="examples">\n{"".join(map(_example, examples))}</div>\n'
    return section("Frames and their flow", note, body)


def _example(example: Example) -> str:
    rows = ((example.frames, "frame"), (example.flow_pictures, "flow"))
    pictures = "".join(
        f'<img src="{_jpeg(picture)}" alt="{kind} {number}">'
        for pictures, kind in rows
        for number, picture in enumerate(pictures, start=1)
    )
    columns = f"grid-template-columns:repeat({len(example.frames)},1fr)"
    return (
        f'<figure><div class="strip" style="{columns}">{pictures}</div>'
        f"<figcaption><strong>{html_text(example.label)}</strong> {html_text(example.name)}</figcaption></figure>\n"
    )


def _jpeg(picture: np.ndarray) -> str:
    """A (H, W, 3) uint8 RGB picture as a data URI, made no wider than it is shown."""
    shrink = min(1.0, PICTURE_WIDTH / picture.shape[1])
    if shrink < 1:
        picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    blue_first = np.ascontiguousarray(picture[..., ::-1])
    encoded = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _curves(curves: Mapping[str, Rows]) -> str:
    shown = {stream: rows for stream, rows in curves.items() if any(column(rows, key)[1] for key in CURVES)}
    if not shown:
        return ""
    pictures = themed(lambda palette: draw_curves(shown, palette), "Training curves of each stream")
    note = "Loss of each stream and its top-1 on the validation clips, by epoch."
    return section("Training", note, pictures)


def _table(report: Report, figures: Mapping[str, Figures]) -> str:
    rows = "".join(_table_row(key, figures[key], len(report.classes)) for key in report.scorers)
    note = "Percent of whole videos, with the 95&nbsp;% Wilson interval. "
    note += f"An even guess gets a top-1 of {100 / len(report.classes):.1f}."
    if len(report.classes) <= 5:
        note += " Top-5 says nothing with five classes or fewer."
    table = (
        '<div class="wide"><table class="figures"><thead>\n'
        '<tr><th></th><th colspan="2">Top-1</th><th colspan="2">Top-5</th>'
        f"<th>Mean class accuracy</th></tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
    return section("Figures", note, table)


def _table_row(key: str, figures: Figures, num_classes: int) -> str:
    if num_classes > 5:
        top5, top5_interval = f"{figures.top5:.1f}", interval_text(figures.top5_interval)
    else:
        top5, top5_interval = "&ndash;", ""
    return (
        f'<tr class="{SCORERS[key]}"><th scope="row"><i class="dot"></i>{SCORERS[key]}</th>'
        f'<td>{figures.top1:.1f}</td><td class="interval">{interval_text(figures.top1_interval)}</td>'
        f'<td>{top5}</td><td class="interval">{top5_interval}</td>'
        f"<td>{figures.mean_class_accuracy:.1f}</td></tr>\n"
    )


def _decisions(report: Report) -> str:
    """A bar for each class: the streams that its right answers come from; the empty rest are wrong answers."""
    decided, kinds = _decided(report)
    num_classes = len(report.classes)
    counts = {kind: np.bincount(report.labels[decided == kind], minlength=num_classes) for kind in kinds}
    totals = np.bincount(report.labels, minlength=num_classes)
    share = sum(counts.values()) / np.maximum(totals, 1)
    bars = "".join(
        _bar(report.classes[k], {kind: int(counts[kind][k]) for kind in kinds}, int(totals[k]))
        for k in np.argsort(-share, kind="stable")
    )
    columns = " two" if num_classes > MOST_COUNTED_CLASSES else ""
    heading, note = "Classes", "The right answers of each class; best classes first."
    if len(kinds) > 1:
        heading = "Which stream decided"
        note = "The right answers of each class, by the stream that gives them alone; best classes first."
    return section(
        heading,
        note,
        f'{_legend(decided, kinds)}<div class="bars{columns}">\n{bars}</div>\n',
    )


def _decided(report: Report) -> tuple[np.ndarray, list[str]]:
    """(N,) what decided each clip, and the kinds of right answers there are."""
    kinds = [kind for kind in DECISIONS if kind != "wrong"] if "fused" in report.scores else report.scorers
    return deciding_stream(report.scores, report.labels), kinds


def _legend(decided: np.ndarray, kinds: list[str]) -> str:
    words = DECISION_WORDS if len(kinds) > 1 else {kinds[0]: f"{kinds[0]} right", "wrong": "wrong"}
    entries = "".join(
        f'<li><i class="swatch {kind}"></i>{word} <span>{np.sum(decided == kind)}</span></li>'
        for kind, word in words.items()
    )
    return f'<ul class="legend">{entries}</ul>\n'


def _bar(name: str, counts: Mapping[str, int], total: int) -> str:
    segments = "".join(
        f'<i class="{kind}" style="width:{100 * count / total:.2f}%" title="{kind} {count}"></i>'
        for kind, count in counts.items()
        if count
    )
    right = f"{sum(counts.values())}/{total}" if total else "no clips"
    return (
        f'<div class="bar"><span class="class" title="{html_text(name)}">{html_text(name)}</span>'
        f'<span class="track">{segments}</span><span class="count">{right}</span></div>\n'
    )


def _whys(whys: list[Why] | str) -> str:
    """Clips with the maps and the own answer of each stream."""
    if isinstance(whys, str):
        return section("Why", f"No class activation maps: {html_text(whys)}.", "")
    if not whys:
        return ""
    note = (
        "The input of each stream at the moment with the strongest evidence, lit where the stream found it (Grad-CAM), "
        "and the stream's own answer. For each kind of decision, the most confident clips are shown."
    )
    return section("Why", note, f'<div class="examples">\n{"".join(map(_why, whys))}</div>\n')


def _why(why: Why) -> str:
    decision = why.decision
    pictures = "".join(_said(stream, why) for stream in why.pictures)
    words = f" &middot; {WHY_WORDS[decision.by]}" if len(decision.voices) > 1 else ""
    truth = (
        "" if decision.answer == why.label else f'; <span class="mistake">the truth is {html_text(why.label)}</span>'
    )
    return (
        f'<figure><div class="strip" style="grid-template-columns:repeat({len(why.pictures)},1fr)">{pictures}</div>'
        f"<figcaption><strong>{html_text(decision.answer)}</strong>{100 * why.score:.0f}&nbsp;%{words}{truth}<br>"
        f"{html_text(why.name)}</figcaption></figure>\n"
    )


def _said(stream: Stream, why: Why) -> str:
    """The picture of one stream above its own answer."""
    voice = why.decision.voices[stream]
    mark = ' class="right"' if voice.label == why.label else ""
    return (
        f'<div class="said {stream}"><img src="{_jpeg(why.pictures[stream])}" alt="what {stream} looked at">'
        f"<b>{stream}</b> <span{mark}>{html_text(voice.label)}</span> {100 * voice.score:.0f}&nbsp;%</div>"
    )


def _calibration(report: Report) -> str:
    """How far stated probabilities lie from the truth, and the fusions that were fitted on val side by side."""
    if report.calibration_errors is None:
        return ""
    before, after = report.calibration_errors
    note = (
        f"Expected calibration error {after:.1f}&nbsp;%: how far the stated probabilities lie from the share of right "
        f"answers. The plain average has {before:.1f}&nbsp;%."
    )
    if not report.comparison:
        return section("Calibration", note, "")
    note += " The fusions below were fitted on the validation clips; their differences are to the average."
    rows = "".join(map(_compared_row, report.comparison))
    table = (
        '<div class="wide"><table class="figures"><thead>\n<tr><th></th><th colspan="2">Top-1</th>'
        f'<th colspan="2">Ahead</th><th>Calibration error</th></tr></thead><tbody>{rows}</tbody></table></div>\n'
    )
    return section("Fusion and calibration", note, table)


def _compared_row(row: Compared) -> str:
    ahead, interval = "", ""
    if row.ahead is not None and row.ahead_interval is not None:
        ahead, interval = f"{row.ahead:+.1f}", interval_text(row.ahead_interval)
    return (
        f'<tr><th scope="row">{row.name}</th><td>{row.top1:.1f}</td>'
        f'<td class="interval">{interval_text(row.top1_interval)}</td><td>{ahead}</td>'
        f'<td class="interval">{interval}</td><td>{row.calibration_error:.1f}</td></tr>\n'
    )


def _unknown(figures: UnknownFigures | None) -> str:
    if figures is None:
        return ""
    note = (
        f"{figures.unknown_clips} clips of classes that were left out of training, against {figures.known_clips} of "
        f"the classes above. The highest probability separates the two with an area under the ROC curve of "
        f"{figures.auroc:.1f}&nbsp;% ({interval_text(figures.auroc_interval)})."
    )
    if figures.false_alarms_interval is not None and figures.rejected_interval is not None:
        promise = "nothing" if figures.promised is None else f"at most {figures.promised:.3g}&nbsp;%"
        note += (
            f" {figures.false_alarms:.1f}&nbsp;% of them ({interval_text(figures.false_alarms_interval)}) get a "
            f"known label nevertheless; {promise} was promised. {figures.rejected:.1f}&nbsp;% "
            f"({interval_text(figures.rejected_interval)}) of the known clips are labelled unknown."
        )
    return section("Unknown classes", note, "")


def _confusions(report: Report) -> str:
    counts = {key: confusion(report.scores[key], report.labels) for key in report.scorers}
    pictures = themed(
        lambda palette: draw_confusions(counts, report.classes, palette),
        f"Confusion matrices of {', '.join(SCORERS[key] for key in counts)}; rows are the true classes",
    )
    note = "Rows: truth. Columns: answer. The stronger the colour, the greater the share of the class."
    if len(report.classes) > MOST_NAMED_CLASSES:
        note += " Classes in the order of the class list, from the top and from the left."
    return section("Confusion", note, pictures + _frequent_mistakes(counts, report.classes))


def _frequent_mistakes(counts: Mapping[str, np.ndarray], classes: tuple[str, ...], most: int = 8) -> str:
    """A line with the pairs that the first scorer takes for each other most often."""
    first = next(iter(counts))
    mistakes = counts[first] - np.diag(counts[first].diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:most]
    pairs = [(*np.unravel_index(index, mistakes.shape), mistakes.flat[index]) for index in order]
    shown = [
        f"<li>{html_text(classes[truth])} → {html_text(classes[answer])} <span>{count}</span></li>"
        for truth, answer, count in pairs
        if count
    ]
    if not shown:
        return ""
    heading = f"Most frequent mistakes of {SCORERS[first]}, truth → answer"
    return f'<p class="lead">{heading}</p><ul class="legend">{"".join(shown)}</ul>\n'


def _wrong_clips(report: Report) -> str:
    """The clips that the first scorer gets wrong, the most confident mistake first."""
    first = report.scorers[0]
    answers = report.answers(first)
    wrong = np.flatnonzero(answers != report.labels)
    if not len(wrong):
        return section("Wrong clips", "None: every answer was right.", "")
    sureness = np.asarray(report.scores[first])[wrong, answers[wrong]]
    listed = wrong[np.argsort(-sureness, kind="stable")][:MOST_WRONG_CLIPS]
    note = f"All {len(wrong)}" if len(listed) == len(wrong) else f"The {len(listed)} most confident of {len(wrong)}"
    heads = "".join(f'<th colspan="2">{SCORERS[key]}</th>' for key in report.scorers)
    rows = "".join(_wrong_row(report, clip) for clip in listed)
    table = (
        '<div class="wide"><table class="mistakes"><thead>\n'
        f"<tr><th>clip</th><th>truth</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
    note += ", the most confident mistake first. Each answer has its score in percent; right ones are marked."
    return section("Wrong clips", note, table)


def _wrong_row(report: Report, clip: int) -> str:
    truth = report.labels[clip]
    cells = []
    for key in report.scorers:
        answer = report.answers(key)[clip]
        mark = ' class="right"' if answer == truth else ""
        score = 100 * report.scores[key][clip][answer]
        cells.append(f'<td{mark}>{html_text(report.classes[answer])}</td><td class="score">{score:.0f}</td>')
    return (
        f'<tr><td class="clip">{html_text(report.names[clip])}</td><td>{html_text(report.classes[truth])}</td>'
        f"{''.join(cells)}</tr>\n"
    )
