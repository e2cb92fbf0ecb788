"""Results on standard output: JSON for machines, lines and tables for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rgbflow.processes import is_first_process
from rgbflow.shown import harmless, json_line, say

if TYPE_CHECKING:
    import numpy as np

    from rgbflow.fusion import Fusion
    from rgbflow.learn.ablate import Ablation
    from rgbflow.learn.calibrate import Calibration
    from rgbflow.learn.comparison import Compared
    from rgbflow.learn.evaluate import Evaluation
    from rgbflow.learn.fusing import FusedClips
    from rgbflow.learn.lesson import TeachReport
    from rgbflow.learn.metrics import Figures, UnknownFigures
    from rgbflow.paper.fig4 import Figure4
    from rgbflow.paper.plan import Plan
    from rgbflow.paper.table2 import Table2
    from rgbflow.prediction import Prediction
    from rgbflow.timeline import Timeline


def show(result: dict, as_json: bool, line: str = "") -> None:
    """Print a result as JSON, or as a line with its values filled in. Of several processes only the first prints."""
    if not is_first_process():
        return
    if as_json:
        print(json_line(result, sys.stdout.encoding), flush=True)
    else:
        say(line.format(**result))


def print_taught(report: TeachReport | None, out: Path, as_json: bool) -> None:
    """Print the report of a taught bundle."""
    if report is None:
        return
    if as_json:
        show({"bundle": str(out), **report.as_dict()}, True)
    else:
        for line in [*report.lines(), f"bundle: {out}"]:
            say(line)


def show_prediction(video: str | Path, prediction: Prediction, top: int, engine: str, as_json: bool) -> None:
    """Print the scores of the fusion and of each stream for a video, the engine, and the time of each stage."""
    if as_json:
        show({"video": str(video), **prediction.as_dict(top), "engine": engine}, True)
        return
    from rich.console import Console
    from rich.table import Table

    likeliest = "" if prediction.is_known else f"likeliest {prediction.top(1)[0].label}, "
    say(f"{video}: {prediction.label} ({likeliest}{prediction.score:.1%})")
    table = Table()
    columns: dict[str, np.ndarray] = {"fused": prediction.scores}
    columns |= {stream: scores for stream, scores in prediction.stream_scores.items()}
    for name in ("class", *columns):
        table.add_column(name, justify="left" if name == "class" else "right")
    for answer in prediction.top(top):
        index = prediction.classes.index(answer.label)
        table.add_row(_cell(answer.label), *(f"{scores[index]:.1%}" for scores in columns.values()))
    Console().print(table)
    say(("" if prediction.is_known else "among the known classes: ") + prediction.decision.line())
    stages = ", ".join(f"{stage} {1000 * seconds:.0f} ms" for stage, seconds in prediction.seconds.items())
    say(f"{engine}: {stages}")


def _cell(text: str) -> str:
    """Text of a file in a table of rich, which has a markup of its own."""
    from rich.markup import escape

    return escape(harmless(text))


def show_timeline(video: str | Path, timeline: Timeline, as_json: bool) -> None:
    """Print the segments of a long video."""
    if as_json:
        show({"video": str(video), "segments": [vars(segment) for segment in timeline.segments]}, True)
        return
    say(f"{video}:")
    for segment in timeline.segments:
        span = f"{segment.start_seconds:8.2f} – {segment.end_seconds:8.2f} s"
        say(f"  {span}  {segment.score:6.1%}  {segment.label}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures of an evaluation, with their protocol and leak."""
    print_figures(f"{len(evaluation.names)} clips of the {evaluation.part} part", evaluation.figures())
    leak = f"{evaluation.leak_percent:.1f} % of these clips share a group with a training clip"
    say(f"protocol {evaluation.protocol}: {leak}")
    before, after = evaluation.uncalibrated_error, evaluation.calibration_error
    say(f"calibration error {after:.1f} %" + (f", of the plain average {before:.1f} %" if before != after else ""))
    print_comparison(evaluation.comparison())
    unknown = evaluation.unknown_figures()
    if unknown:
        for line in _unknown_lines(unknown):
            say(line)


def print_comparison(rows: Sequence[Compared], title: str = "fusions, each fitted on val:") -> None:
    """Print a table that compares fusions; print nothing without rows."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    say(title)
    table = Table()
    for name in ("fusion", "top-1 %", "95 % interval", "ahead of average", "calibration error %"):
        table.add_column(name, justify="left" if name == "fusion" else "right")
    for row in rows:
        low, high = row.top1_interval
        ahead = ""
        if row.ahead is not None and row.ahead_interval is not None:
            ahead = f"{row.ahead:+.1f} ({row.ahead_interval[0]:+.1f} to {row.ahead_interval[1]:+.1f})"
        table.add_row(
            _cell(row.name), f"{row.top1:.1f}", f"{low:.1f} – {high:.1f}", ahead, f"{row.calibration_error:.1f}"
        )
    Console().print(table)


def print_fused(fused: FusedClips, num_clips: int, num_groups: int) -> None:
    """Print the accuracy of fused score files, and the fitted numbers."""
    print_figures(f"{num_clips} clips of {num_groups} groups", fused.figures)
    fusion = fused.fusion
    words = "each clip fused by a fit without its group:" if fusion.is_fitted else "compared with the average:"
    print_comparison(fused.compared, f"{fusion.method}, {words}")
    if fusion.is_fitted:
        numbers = f"temperature {fusion.temperature:.2f}", _weights_of(fusion)
        say(f"fitted on all clips: {', '.join(filter(None, numbers))}")


def _weights_of(fusion: Fusion) -> str:
    spans = (
        f"{stream} {min(values):.2f}" + (f" … {max(values):.2f}" if len(values) > 1 else "")
        for stream, values in fusion.weights.items()
    )
    return ", ".join(spans)


def _unknown_lines(figures: UnknownFigures) -> list[str]:
    low, high = figures.auroc_interval
    lines = [f"{figures.unknown_clips} clips of unseen classes: AUROC {figures.auroc:.1f} % ({low:.1f} – {high:.1f})"]
    if figures.false_alarms_interval is not None and figures.rejected_interval is not None:
        (low, high), (least, most) = figures.false_alarms_interval, figures.rejected_interval
        promise = "nothing promised" if figures.promised is None else f"promised {figures.promised:.3g} %"
        lines.append(
            f"given a name: {figures.false_alarms:.1f} % ({low:.1f} – {high:.1f}), {promise}; "
            f"known clips called unknown: {figures.rejected:.1f} % ({least:.1f} – {most:.1f})"
        )
    return lines


def print_calibration(calibration: Calibration) -> None:
    """Print the fusion fitted on the validation part, beside the candidates it was chosen from."""
    from rich.console import Console
    from rich.table import Table

    say(f"{calibration.clips} clips of {calibration.groups} groups of the val part")
    table = Table()
    for name in ("fusion", "log loss", "calibration error %", "temperature", "weights"):
        table.add_column(name, justify="left" if name in ("fusion", "weights") else "right")
    for method, row in calibration.candidates.items():
        name = f"→ {method}" if method == calibration.fusion.method else method
        figures = f"{row.log_loss:.3f}", f"{row.calibration_error:.1f}", f"{row.fusion.temperature:.2f}"
        table.add_row(name, *figures, _cell(_weights_of(row.fusion)))
    Console().print(table)
    say(
        "log loss and calibration error are cross-validated by group; "
        f"the plain average has a calibration error of {calibration.uncalibrated_error:.1f} %"
    )
    if calibration.fusion.threshold is not None:
        say(_threshold_line(calibration))


def _threshold_line(calibration: Calibration) -> str:
    fusion = calibration.fusion
    line = f"unknown: probabilities up to {fusion.threshold:.3f}"
    if fusion.false_alarm_rate is not None:
        line += (
            f", fitted on {calibration.unknown_clips} clips of {calibration.unknown_classes} unseen classes so that at "
            f"most {100 * fusion.false_alarm_rate:.3g} % of such clips get a name"
        )
    if calibration.rejected is not None:
        line += f"; it rejects {calibration.rejected:.1f} % of the val clips"
    return line


def print_plan(plan: Plan) -> None:
    """Print the estimated cost of a figure or table of the paper."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("training", "images", "forward only", "s a step", "hours", "GiB memory", "GiB disk"):
        table.add_column(name, justify="left" if name == "training" else "right", no_wrap=name == "training")
    for cost in plan.costs:
        counts = f"{cost.images:,}", f"{cost.measured_images:,}"
        costs = f"{cost.step_seconds:.2f}", f"{cost.hours:.2f}", f"{cost.memory_gib:.1f}", f"{cost.disk_gib:.2f}"
        table.add_row(cost.name, *counts, *costs)
    Console().print(table)
    total = plan.as_dict()["total"]
    say(
        f"estimated from a few steps on {plan.machine}: {total['images']:,} images, {total['hours']:.1f} hours with "
        f"{plan.devices} training(s) side by side, {total['disk_gib']:.1f} GiB of weights"
    )


def print_fig4(result: Figure4, out: Path) -> None:
    """Print the final figures of each optimizer of the paper's Figure 4, and the paths of the files."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("stream", "optimizer", "final test loss", "final test top-1 %", "95 % interval"):
        table.add_column(name, justify="right" if "final" in name else "left")
    for curve in result.curves:
        low, high = curve.final_interval
        loss, top1 = f"{curve.columns['test_loss'][-1]:.3f}", f"{curve.final_test_top1:.1f}"
        table.add_row(curve.stream, curve.optimizer, loss, top1, f"{low:.1f} – {high:.1f}")
    Console().print(table)
    say(f"the paper: {result.paper_says}")
    _print_origin(result, out, "fig4.png", "fig4.json")


def print_table2(result: Table2, out: Path) -> None:
    """Print the paper's Table II beside the figures measured here, and the paths of the files."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("", "paper top-1 %", "top-1 %", "95 % interval", "two-stream ahead by", "hours"):
        table.add_column(name, justify="right" if name else "left")
    for row in result.rows:
        low, high = row.top1_interval
        figures = (
            "" if row.paper_top1 is None else f"{row.paper_top1:.2f}",
            f"{row.top1:.1f}",
            f"{low:.1f} – {high:.1f}",
        )
        ahead = ""
        if row.behind is not None and row.behind_interval is not None:
            ahead = f"{row.behind:+.1f} ({row.behind_interval[0]:+.1f} to {row.behind_interval[1]:+.1f})"
        table.add_row(row.name, *figures, ahead, f"{row.hours:.2f}")
    Console().print(table)
    _print_origin(result, out, "table2.html", "table2.json")


def print_ablation(result: Ablation, out: Path) -> None:
    """Print what each part of a recipe is worth, and the paths of the files."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in ("without", "stream", "top-1 %", "95 % interval", "worth, points"):
        table.add_column(name, justify="left" if name in ("without", "stream") else "right")
    for row in result.rows:
        low, high = row.top1_interval
        worth = ""
        if row.worth is not None and row.worth_interval is not None:
            worth = f"{row.worth:+.1f} ({row.worth_interval[0]:+.1f} to {row.worth_interval[1]:+.1f})"
        table.add_row(row.words, row.scorer, f"{row.top1:.1f}", f"{low:.1f} – {high:.1f}", worth)
    Console().print(table)
    _print_origin(result, out, "ablation.html", "ablation.json")


def _print_origin(result: Ablation | Figure4 | Table2, out: Path, *files: str) -> None:
    for split in result.splits:
        say(f"{split['split']}: protocol {split['protocol']}, leak {split['leak %']} %, {split['test']} test clips")
    for name in files:
        say(out / name)


def print_figures(title: str, figures: Mapping[str, Figures]) -> None:
    """Print a table of figures with a row for each stream and the fusion; without figures print only the title."""
    from rich.console import Console
    from rich.table import Table

    if not figures:
        say(f"{title}; not measured, since there are no labels")
        return
    say(title)
    table = Table()
    for name in ("stream", "top-1 %", "95 % interval", "top-5 %", "mean class accuracy %"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for name, row in figures.items():
        low, high = row.top1_interval
        table.add_row(
            _cell(name),
            f"{row.top1:.1f}",
            f"{low:.1f} – {high:.1f}",
            f"{row.top5:.1f}",
            f"{row.mean_class_accuracy:.1f}",
        )
    Console().print(table)
