"""The curve of a training: one row per epoch, kept beside the bundle's weights."""

import csv
from pathlib import Path

from rgbflow.atomic import replacing
from rgbflow.stream import Stream

CURVE = "curves.csv"
Curve = list[dict[str, float]]


def write_curve(work: Path, curve: Curve) -> None:
    with replacing(work / CURVE) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(curve[0]))
        writer.writeheader()
        writer.writerows(curve)


def read_curve(folder: Path, stream: Stream) -> Curve:
    """The curve of a bundle's training; empty where there is none."""
    path = folder / "training" / stream / CURVE
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
