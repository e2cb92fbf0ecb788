"""Results on standard output: JSON for machines, lines and tables for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rgbflow.processes import is_first_process

if TYPE_CHECKING:
    from rgbflow.learn.evaluate import Evaluation
    from rgbflow.learn.metrics import Figures
    from rgbflow.recognizer import Prediction, Timeline


def show(result: dict, as_json: bool, line: str = "") -> None:
    """Print a result: as JSON, or as a line with its values filled in. Of many processes only the first prints it."""
    if not is_first_process():
        return
    print(json.dumps(result, ensure_ascii=False) if as_json else line.format(**result))


def show_prediction(video: Path, prediction: Prediction, top: int, as_json: bool) -> None:
    """Print what each stream and the fusion say about a video, and the time each stage took."""
    if as_json:
        show({"video": str(video), **prediction.as_dict(top)}, True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    print(f"{video}: {prediction.label} ({prediction.score:.1%})")
    table = Table()
    columns = {"fused": prediction.scores, **prediction.stream_scores}
    for name in ("class", *columns):
        table.add_column(name, justify="left" if name == "class" else "right")
    for answer in prediction.top(top):
        index = prediction.classes.index(answer.label)
        table.add_row(escape(answer.label), *(f"{scores[index]:.1%}" for scores in columns.values()))
    Console().print(table)
    print(", ".join(f"{stage} {1000 * seconds:.0f} ms" for stage, seconds in prediction.seconds.items()))


def show_timeline(video: Path, timeline: Timeline, as_json: bool) -> None:
    """Print the segments of a long video."""
    if as_json:
        show({"video": str(video), "segments": [vars(segment) for segment in timeline.segments]}, True)
        return
    print(f"{video}:")
    for segment in timeline.segments:
        span = f"{segment.start_seconds:8.2f} – {segment.end_seconds:8.2f} s"
        print(f"  {span}  {segment.score:6.1%}  {segment.label}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures of an evaluation, with what they are."""
    print_figures(f"{len(evaluation.names)} clips of the {evaluation.part} part", evaluation.figures())
    leak = f"{evaluation.leak_percent:.1f} % of these clips share a group with a training clip"
    print(f"protocol {evaluation.protocol}: {leak}")


def print_figures(title: str, figures: Mapping[str, Figures]) -> None:
    """Print a table of figures, a row for each stream and the fusion; only the title where there are no figures."""
    from rich.console import Console
    from rich.table import Table

    if not figures:
        print(f"{title}, no labels")
        return
    print(title)
    table = Table()
    for name in ("stream", "top-1 %", "95 % interval", "top-5 %", "mean class accuracy %"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for name, row in figures.items():
        low, high = row.top1_interval
        table.add_row(
            name, f"{row.top1:.1f}", f"{low:.1f} – {high:.1f}", f"{row.top5:.1f}", f"{row.mean_class_accuracy:.1f}"
        )
    Console().print(table)
