"""One picture of what was measured, accuracy against the processor time of a clip: docs/results/accuracy-time.png.

    python benchmarks/plot.py

Left, what was trained and tested here, from the figures that strong.py, int8.py, teach.py, inflation.py and
inference.py left in docs/results. Right, networks trained on Kinetics-400: times from video.py, the accuracy that
torchvision publishes with their weights, tested with as many snippets as it says.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from rgbflow.networks.video import NETWORKS, published_weights
from rgbflow.stream import NUM_SNIPPETS

RESULTS = Path(__file__).parents[1] / "docs" / "results"
PICTURE = RESULTS / "accuracy-time.png"
NEAR = 6  # percent; labels at points that are nearer cover each other
COLOURS = {"Weizmann": "#0072b2", "UT-Interaction": "#d55e00", "jhmdb-11": "#009e73", "Kinetics-400": "#555555"}
TITLES = {"weizmann": "Weizmann", "ut-interaction": "UT-Interaction", "jhmdb-11": "jhmdb-11"}
MARKS = {"openvino bf16": "o", "openvino int8": "^", "torch fp32": "s"}
TAKES = "5"  # of teach.py


@dataclass(frozen=True)
class Point:
    """A figure and what it cost: seconds of processor time of a clip, top-1 in percent with its interval.

    Without a label it stands beside another that has it.
    """

    label: str
    data: str
    seconds: float
    top1: float
    interval: tuple[float, float] | None = None
    mark: str = "o"


def read(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def two_streams() -> Iterator[Point]:
    """The preset `lite` on whole clips, in two number formats; a clip's time is that of its snippets' updates."""
    strong, int8, labels = read("strong"), read("int8"), read("inference")["contenders"]
    for name in ("weizmann", "ut-interaction"):
        for engine, mark in list(MARKS.items())[:2]:
            seconds = NUM_SNIPPETS * labels[f"rgbflow, lite × 2, {engine}"]["cpu_seconds"]
            own = strong[name]["fused"]
            top1 = own["top1"] if "bf16" in engine else int8[name]["fused"]["int8"]
            interval = tuple(own["interval"]) if "bf16" in engine else None
            label = "" if interval else "two streams"
            yield Point(label, TITLES[name], seconds, top1, interval, mark)


def taught() -> Iterator[Point]:
    """Five actions taught from few takes; of a clip five snippets and their mirror images are read."""
    seconds = 10 * read("inference")["contenders"]["rgbflow, lite × 2, torch bf16"]["cpu_seconds"]
    for name, takes in read("teach")["sets"].items():
        yield Point(f"taught from {TAKES} takes", TITLES[name], seconds, takes[TAKES]["fused"], mark="v")


def inflated() -> Iterator[Point]:
    """Single frames against the same network inflated, rgb alone; nothing before inflation.py has run."""
    if not (RESULTS / "inflation.json").exists():
        return
    for name, own in read("inflation")["sets"].items():
        for network, figures in own["networks"].items():
            mark = "D" if network == "inflated" else "P"
            interval = tuple(figures["interval"])
            yield Point(network, TITLES[name], figures["test_clip_ms"] / 1000, figures["top1"], interval, mark)


def published() -> Iterator[Point]:
    """torchvision's video networks; in 8-bit integers nobody knows their accuracy."""
    for network, engines in read("video")["results"].items():
        if network not in NETWORKS:
            continue
        meta, line = published_weights(network).meta, NETWORKS[network]
        said = dict(re.findall(r"`(clips_per_video|clip_len)=(\d+)`", meta["_docs"]))
        snippets = int(said["clips_per_video"]) * int(said["clip_len"]) / line.frames
        top1 = meta["_metrics"]["Kinetics-400"]["acc@1"]
        for engine, mark in MARKS.items():
            if engine in engines and "int8" not in engine:
                seconds, label = snippets * engines[engine]["snippet_ms"] / 1000, network if mark == "s" else ""
                yield Point(label, "Kinetics-400", seconds, top1, mark=mark)


def draw(axes: plt.Axes, points: list[Point], title: str) -> None:
    """Points on a logarithmic axis of milliseconds; of neighbours with the same label, one shows it."""
    for place, point in enumerate(points):
        colour = COLOURS[point.data]
        if point.interval:
            low, high = point.top1 - point.interval[0], point.interval[1] - point.top1
            axes.errorbar(1000 * point.seconds, point.top1, [[low], [high]], color=colour, alpha=0.4, capsize=3)
        axes.plot(1000 * point.seconds, point.top1, point.mark, color=colour, markersize=8)
        same = (other for other in points[:place] if (other.label, other.seconds) == (point.label, point.seconds))
        label = "" if any(abs(other.top1 - point.top1) < NEAR for other in same) else point.label
        axes.annotate(label, (1000 * point.seconds, point.top1), (8, -3), textcoords="offset points", fontsize=9)
    axes.set(xscale="log", xlabel="processor time of a clip, milliseconds", ylabel="top-1, percent", title=title)
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(lambda value, _: f"{value:,.0f}" if f"{value:e}"[0] in "125" else "")
    axes.grid(alpha=0.3, which="both")


def legend(axes: plt.Axes, marks: dict[str, tuple[str, str]]) -> None:
    for name, (mark, colour) in marks.items():
        axes.plot([], [], mark, color=colour, label=name)
    axes.legend(loc="lower right", fontsize=9)


def main() -> None:
    """Draw the picture."""
    mpl.use("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained", facecolor="white")
    here = [*two_streams(), *taught(), *inflated()]
    draw(left, here, "trained and tested here")
    draw(right, [*published()], "Kinetics-400: published accuracy, time measured here")
    left.set(ylim=(0, 103), xlim=(100, 2000))
    right.set(ylim=(60, 82), xlim=(700, 40000))
    gray = COLOURS["Kinetics-400"]
    sets = {name: ("o", COLOURS[name]) for name in TITLES.values() if name in {point.data for point in here}}
    legend(left, sets | {name: (mark, gray) for name, mark in list(MARKS.items())[:2]})
    legend(right, {name: (mark, gray) for name, mark in MARKS.items() if "int8" not in name})
    figure.savefig(PICTURE, dpi=110)
    print(PICTURE)


if __name__ == "__main__":
    main()
