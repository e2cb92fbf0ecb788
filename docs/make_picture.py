"""Draw docs/two-streams.png from a finished demo: `python docs/make_picture.py demo`."""

import sys
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rgbflow import Recognizer
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.flow import dequantise, flow_picture

LABELS = ("step_left", "step_right", "drink_red_cup", "drink_blue_cup")
FRAMES = 6
COLOURS = {"rgb": "#c8602c", "flow": "#2f78b0", "fused": "#4c9060"}


def draw(folder: Path, out: Path) -> None:
    """One row for each class: frames above flow, and each stream's probability for the four classes."""
    store, recognizer = Store(folder / "store"), Recognizer.load(folder / "bundle")
    test = load_split(folder / "split.json").test
    figure = plt.figure(figsize=(13, 2.6 * len(LABELS)), dpi=80)
    for label, (left, right) in zip(LABELS, figure.subfigures(len(LABELS), 2, width_ratios=[2, 1]), strict=True):
        clip = store.clip(next(clip.name for clip in test if clip.label == label))
        _draw_strip(left, clip, store.preparation.flow.bound)
        _draw_scores(right, recognizer.predict(clip, num_snippets=5), label)
    figure.savefig(out, pil_kwargs={"optimize": True})


def _draw_strip(figure, clip, bound: float) -> None:
    indices = np.linspace(4, clip.num_frames - 4, FRAMES).astype(np.int64)
    fields = dequantise(clip.read("flow", indices), bound)
    axes = figure.subplots(2, FRAMES, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    figure.subplots_adjust(0.005, 0.02, 0.995, 0.98)
    for column, (frame, field) in enumerate(zip(clip.read("rgb", indices), fields, strict=True)):
        axes[0, column].imshow(frame.transpose(1, 2, 0))
        axes[1, column].imshow(flow_picture(field, full_scale=4.0))
    for axis in axes.ravel():
        axis.set_axis_off()


def _draw_scores(figure, prediction, label: str) -> None:
    axis = figure.subplots()
    figure.subplots_adjust(0.36, 0.06, 0.97, 0.84)
    scores = {**prediction.stream_scores, "fused": prediction.scores}
    for index, (stream, values) in enumerate(scores.items()):
        chosen = [values[prediction.classes.index(name)] for name in LABELS]
        axis.barh(np.arange(len(LABELS)) + 0.25 * (index - 1), chosen, 0.22, color=COLOURS[stream], label=stream)
    axis.set_yticks(range(len(LABELS)), LABELS, fontsize=10)
    axis.get_yticklabels()[LABELS.index(label)].set_fontweight("bold")
    axis.set_xlim(0, 1)
    axis.set_xticks([])
    axis.invert_yaxis()
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(__file__).parent / "two-streams.png")
