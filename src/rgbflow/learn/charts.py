"""The drawings of a report: training curves and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rgbflow.learn.page import PAGE_INCHES
from rgbflow.shown import harmless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, float | None]]  # one per epoch
SCORERS = {"rgb": "rgb", "flow": "flow", "fused": "fusion"}  # key of the scores -> word on the page
MOST_NAMED_CLASSES = 30  # a confusion matrix with more classes carries no names
MOST_COUNTED_CLASSES = 12  # with more, none but colour fits into its cells


def draw_curves(curves: Mapping[str, Rows], palette: Mapping[str, str]) -> Figure:
    """The losses of each stream, and the top-1 of all on the validation part, by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_INCHES, 2.9), layout="constrained")
    *losses, top1 = figure.subplots(1, len(curves) + 1)
    for axis, (stream, rows) in zip(losses, curves.items(), strict=True):
        _draw_curve(axis, rows, "train_loss", palette[stream], "-", "training")
        _draw_curve(axis, rows, "val_loss", palette[stream], "--", "validation")
        axis.set_title(f"{stream}: loss", loc="left")
        axis.set_ylim(bottom=0)
        _draw_curve(top1, rows, "val_top1", palette[stream], "-", stream)
    top1.set_title("validation top-1, %", loc="left")
    top1.set_ylim(0, 100)
    for axis in (*losses, top1):
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        if axis.lines:
            axis.legend(frameon=False)
    return figure


def _draw_curve(axis: Axes, rows: Rows, key: str, colour: str, style: str, label: str) -> None:
    """Draw one column, if it has values; a short one with its points, since one epoch makes no line."""
    epochs, values = column(rows, key)
    if values:
        axis.plot(epochs, values, style, color=colour, label=label, marker="o" if len(values) < 4 else "")


def column(rows: Rows, key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of one column, without the epochs that have no value."""
    pairs = [(row["epoch"], row.get(key)) for row in rows]
    present = [(epoch, value) for epoch, value in pairs if epoch is not None and value is not None]
    return [epoch for epoch, _ in present], [value for _, value in present]


def draw_confusions(counts: Mapping[str, np.ndarray], classes: tuple[str, ...], palette: Mapping[str, str]) -> Figure:
    """A matrix for each scorer: rows are the true classes, columns the answers, (K, K) clips."""
    from matplotlib.figure import Figure

    longest = max(len(_shortened(name)) for name in classes) if len(classes) <= MOST_NAMED_CLASSES else 0
    names = 0.3 + longest * 0.6 * _name_size(classes) / 72  # inches that the names take on the left and below
    side = min(0.6 + 0.35 * len(classes), 4.6, (PAGE_INCHES - names) / len(counts) - 0.15)
    figure = Figure(figsize=(names + len(counts) * (side + 0.15), names + side + 0.3), layout="constrained")
    axes = figure.subplots(1, len(counts), squeeze=False)[0]
    for position, (axis, (key, matrix)) in enumerate(zip(axes, counts.items(), strict=True)):
        _draw_matrix(axis, matrix, palette)
        axis.set_title(SCORERS[key], loc="left")
        _name_classes(axis, classes, with_rows=position == 0)
    return figure


def _draw_matrix(axis: Axes, matrix: np.ndarray, palette: Mapping[str, str]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shade = np.sqrt(share)  # lifts single mistakes above the paper
    colours = LinearSegmentedColormap.from_list("share", [palette["paper"], palette["deep"]])
    axis.imshow(shade, cmap=colours, vmin=0, vmax=1, interpolation="none")
    if len(matrix) <= MOST_COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(matrix):
            ink = palette["paper"] if shade[row, column] > 0.55 else palette["ink"]
            axis.text(column, row, count or "", ha="center", va="center", color=ink, fontsize=8)
    axis.spines[:].set_visible(True)
    axis.grid(False)


def _name_classes(axis: Axes, classes: tuple[str, ...], with_rows: bool) -> None:
    """Write the class names on both axes while they can be read; the matrices share the names of the rows."""
    axis.tick_params(length=0)
    if len(classes) > MOST_NAMED_CLASSES:
        axis.set(xticks=[], yticks=[])
        return
    size = _name_size(classes)
    names = [_shortened(harmless(name)) for name in classes]
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=size, parse_math=False)
    row_names = names if with_rows else [""] * len(names)
    axis.set_yticks(range(len(names)), row_names, fontsize=size, parse_math=False)


def _name_size(classes: tuple[str, ...]) -> int:
    """Points of the class names beside a matrix."""
    return 8 if len(classes) <= MOST_COUNTED_CLASSES else 6


def _shortened(name: str, length: int = 22) -> str:
    name = name.encode("utf-8", "replace").decode()
    return name if len(name) <= length else name[: length - 1] + "…"
