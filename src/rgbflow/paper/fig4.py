"""Figure 4 of the paper: four optimizers with the same settings, epoch by epoch, on train and on test."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np

from rgbflow.atomic import replacing, write_atomically
from rgbflow.bundle import load_bundle
from rgbflow.data.splits import load_split
from rgbflow.learn.config import Optimizer
from rgbflow.learn.curve import read_curve
from rgbflow.learn.metrics import wilson_interval
from rgbflow.learn.page import PALETTES
from rgbflow.learn.runs import Run, runs_of, splits_table
from rgbflow.learn.tasks import Training
from rgbflow.origin import describe_origin
from rgbflow.paper.presets import Scale, scaled, settings_table
from rgbflow.stream import Stream

EPOCHS = 30
PAPER_SAYS = "SGD with momentum reached the lowest loss and the highest accuracy"
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
WIDTHS = {"sgd-momentum": 1.6, "sgd": 2.8, "asgd": 1.2, "adam": 1.6}  # sgd and asgd often lie on each other
LABELS = {"sgd-momentum": "SGD with momentum", "sgd": "SGD", "asgd": "ASGD", "adam": "Adam"}
COLOURS = {"sgd-momentum": "#c65f30", "sgd": "#2f7cac", "asgd": "#4c9067", "adam": "#7a5ba6"}
COLUMNS = ("train_loss", "train_top1", "test_loss", "test_top1")


@dataclass(frozen=True)
class OptimizerCurve:
    """One optimizer on one stream.

    Attributes:
        stream, optimizer: the stream and the optimizer.
        columns: for each of `COLUMNS` the mean over the runs, a value per epoch; top-1 in percent.
        runs: the same values for each run.
        final_test_top1: percent after the last epoch, mean over the runs; no epoch is chosen.
        final_interval: its 95 % Wilson interval over the distinct test clips.
        hours: hours of training, mean over the runs.
    """

    stream: Stream
    optimizer: Optimizer
    columns: dict[str, list[float]]
    runs: list[dict[str, list[float]]]
    final_test_top1: float
    final_interval: tuple[float, float]
    hours: float


@dataclass(frozen=True)
class Figure4:
    """Figure 4 as measured, its runs and settings, and its origin."""

    curves: list[OptimizerCurve]
    paper_says: str
    splits: list[dict]
    settings: list[dict]
    origin: dict[str, str]

    def save(self, folder: Path) -> None:
        """Write fig4.json and fig4.png."""
        write_atomically(folder / "fig4.json", json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        with replacing(folder / "fig4.png") as temporary:
            draw(self, temporary)


def with_epochs(scale: Scale) -> Scale:
    """The scale, with the figure's own number of epochs if none is given."""
    return replace(scale, epochs=scale.epochs or EPOCHS)


def fig4_tasks(
    store: Path, splits: Sequence[Path], seeds: int, folder: Path, scale: Scale, streams: Sequence[Stream]
) -> list[Training]:
    """All trainings of the figure.

    Args:
        store: the data set.
        splits: files of splits.
        seeds: trainings of each network on each split.
        folder: where the bundles go.
        scale: changes to Table I.
        streams: the streams to train.
    """
    tasks = []
    for run in runs_of(splits, seeds):
        for optimizer in OPTIMIZERS:
            for stream in streams:
                config = replace(scaled(stream, "two-stream", with_epochs(scale), run.seed), optimizer=optimizer)
                bundle = _bundle(folder, run, optimizer)
                name = f"{run.name} {optimizer} {stream}"
                tasks.append(Training(name, store, run.split, stream, bundle, config, test_curve=True))
    return tasks


def read_fig4(folder: Path, splits: Sequence[Path], seeds: int, scale: Scale, streams: Sequence[Stream]) -> Figure4:
    """The figure from the results of `fig4_tasks` in a folder."""
    runs, tables = runs_of(splits, seeds), splits_table(splits, seeds)
    clips = len({clip.name for split in splits for clip in load_split(split).test})
    curves = []
    for stream in streams:
        for optimizer in OPTIMIZERS:
            bundles = [_bundle(folder, run, optimizer) for run in runs]
            rows = [read_curve(bundle, stream) for bundle in bundles]
            single = [{column: [row[column] for row in curve] for column in COLUMNS} for curve in rows]
            mean = {column: np.mean([run[column] for run in single], axis=0).tolist() for column in COLUMNS}
            final = mean["test_top1"][-1]
            seconds = [load_bundle(bundle).origin[stream]["seconds"] for bundle in bundles]
            interval = wilson_interval(round(final / 100 * clips), clips)
            curves.append(
                OptimizerCurve(stream, optimizer, mean, single, final, interval, float(np.mean(seconds)) / 3600)
            )
    settings = settings_table(with_epochs(scale), {s: (s, "two-stream") for s in streams}, with_epochs(Scale()))
    return Figure4(curves, PAPER_SAYS, tables, settings, describe_origin())


def _bundle(folder: Path, run: Run, optimizer: Optimizer) -> Path:
    return folder / run.name / optimizer


def caption(figure4: Figure4) -> str:
    """The caption of the picture: the runs, the protocol and its leak."""
    protocols = sorted({f"protocol {split['protocol']}, leak {split['leak %']} %" for split in figure4.splits})
    runs = len(figure4.curves[0].runs)
    return f"mean of {runs} run(s), their range shaded; {'; '.join(protocols)}; the paper: {figure4.paper_says}"


def draw(figure4: Figure4, path: Path) -> None:
    """Draw the figure as the paper does: (a) train and (b) test, losses solid, accuracies dashed; a row per stream."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    palette = PALETTES["light"]
    streams = list(dict.fromkeys(curve.stream for curve in figure4.curves))
    edges = palette["soft"]
    with matplotlib.rc_context(
        {"font.size": 9, "axes.spines.top": False, "axes.edgecolor": edges, "axes.facecolor": "none"}
    ):
        figure = Figure(figsize=(10.5, 3.6 * len(streams) + 0.5), layout="constrained")
        grid = figure.subplots(len(streams), 2, squeeze=False)
        for axes, stream in zip(grid, streams, strict=True):
            for axis, part, letter in zip(axes, ("train", "test"), "ab", strict=True):
                accuracy = axis.twinx()
                for curve in (curve for curve in figure4.curves if curve.stream == stream):
                    colour = COLOURS[curve.optimizer]
                    for name, on, style in ((f"{part}_loss", axis, "-"), (f"{part}_top1", accuracy, "--")):
                        epochs = range(1, len(curve.columns[name]) + 1)
                        on.plot(epochs, curve.columns[name], style, color=colour, linewidth=WIDTHS[curve.optimizer])
                        singles = [run[name] for run in curve.runs]
                        on.fill_between(
                            epochs, np.min(singles, axis=0), np.max(singles, axis=0), color=colour, alpha=0.08
                        )
                axis.set(title=f"({letter}) {stream}, {part} part", xlabel="epoch", ylabel="loss (solid)")
                axis.set_ylim(bottom=0)
                axis.xaxis.get_major_locator().set_params(integer=True)
                accuracy.set_ylabel("top-1, % (dashed)")
                accuracy.set_ylim(0, 100)
        figure.supxlabel(caption(figure4), fontsize=8, color=palette["soft"])
        lines = [Line2D([], [], color=COLOURS[name], linewidth=WIDTHS[name]) for name in OPTIMIZERS]
        figure.legend(lines, [LABELS[name] for name in OPTIMIZERS], loc="outside upper center", ncols=4, frameon=False)
        figure.savefig(path, dpi=130, facecolor=palette["paper"], metadata={"Software": None})
