"""What inflation brings over single frames of the same network: writes inflation.json and a part of video.md.

    python benchmarks/inflation.py DATA [--runs runs/inflation]

DATA holds weizmann/ and jhmdb-11/, class folders with a groups.tsv. EfficientNet-Lite0 starts from ImageNet weights
twice: on single frames, whose logits are averaged, and inflated, on snippets of as many frames. Both see the same
number of frames in each step and at the test. The stores are what `rgbflow prepare` makes without flags. A stopped run
goes on.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from pages import rgbflow
from recipe import SETS
from video import write_results

from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import MANIFEST
from rgbflow.data.splits import Split, SplitClip, load_split
from rgbflow.learn.config import TrainConfig, changed
from rgbflow.learn.metrics import group_interval, wilson_interval
from rgbflow.learn.presets import LITE
from rgbflow.learn.runs import clip_hits, percent
from rgbflow.learn.scores import read_scores
from rgbflow.learn.tasks import Evaluating, Training
from rgbflow.origin import describe_origin

FIGURES = Path(__file__).parents[1] / "docs" / "results" / "inflation.json"
SECONDS = "test.seconds"
FRAMES, SNIPPETS = 8, 5  # of a snippet; snippets of a clip at the test
FRAME_RATE = 7.5  # per second: a snippet lasts as long as one of 16 frames at 15 a second, for half the work
# One stream, one thread, no fitted classifier: the two trainings are compared, not what guards them.
COMMON = replace(
    LITE,
    weights="imagenet",
    probe=False,
    least_steps=0,
    average_epochs=1,
    patience=0,
    workers=0,
    precision="fp32",
    device="cpu",
)
ARMS: dict[str, dict[str, object]] = {
    "single frames": {"num_segments": FRAMES},
    "inflated": {"algorithm": "i3d", "frames": FRAMES, "frame_rate": FRAME_RATE, "num_segments": 1},
}
TESTED = {"single frames": FRAMES * SNIPPETS, "inflated": SNIPPETS}  # snippets of a clip
# Small, for half an hour of one core in all. The fewer clips, the more epochs.
BUDGETS: dict[str, dict[str, int]] = {
    "weizmann": {"input_size": 112, "epochs": 30, "average_epochs": 3},
    "jhmdb-11": {"input_size": 96, "epochs": 4},
}


def prepare(data: Path, runs: Path, name: str) -> tuple[Path, Path]:
    """The store of a set, and its split: the first fold of recipe.py."""
    store, path = runs / name / "store", runs / name / "split.json"
    if not (store / MANIFEST).is_file():
        rgbflow(f"prepare {data / name} --out {store}")
    if not path.is_file():
        clips = read_class_folders(data / name)
        parts = [
            tuple(SplitClip(clip.name, clip.label, clip.group) for clip in part)
            for part in SETS[name](clips, data / name, 0)
        ]
        Split("group", 0, tuple(sorted({clip.label for clip in clips})), *parts).save(path)
    return store, path


def config_of(name: str, arm: str) -> TrainConfig:
    return changed(COMMON, {**BUDGETS[name], **ARMS[arm]})


def measure(store: Path, split: Path, folder: Path, name: str, arm: str) -> dict[str, float]:
    """Train and test what isn't yet; for each test clip, whether it is named rightly."""
    training = Training(f"{name}, {arm}", store, split, "rgb", folder, config_of(name, arm))
    evaluating = Evaluating(training.name, store, split, folder, TESTED[arm])
    if not training.is_done():
        training.run("cpu")
    if not evaluating.is_done():
        began = time.process_time()
        evaluating.run("cpu")
        (folder / SECONDS).write_text(str(time.process_time() - began))
    (file,) = read_scores([evaluating.scores])
    return clip_hits(file.names, file.probabilities()["rgb"], file.labels)


def compare(data: Path, runs: Path, name: str) -> dict:
    """Both networks on a set: top-1 with Wilson's interval, processor seconds, and what inflation brings."""
    store, path = prepare(data, runs, name)
    split = load_split(path)
    hits = {arm: measure(store, path, runs / name / arm.replace(" ", "-"), name, arm) for arm in ARMS}
    figures: dict = {"train": len(split.train), "test": len(split.test), **BUDGETS[name], "networks": {}}
    for arm, own in hits.items():
        folder = runs / name / arm.replace(" ", "-")
        figures["networks"][arm] = {
            "top1": percent(own),
            "interval": wilson_interval(round(sum(own.values())), len(own)),
            "test_clip_ms": 1000 * float((folder / SECONDS).read_text()) / len(own),
        }
    lead = {clip: hits["inflated"][clip] - hits["single frames"][clip] for clip in split_names(split)}
    groups = {clip.name: clip.group for clip in split.test}
    figures["lead"], figures["groups"] = percent(lead), len(set(groups.values()))
    figures["lead_interval"] = group_interval(lead, groups)
    return figures


def split_names(split: Split) -> list[str]:
    return [clip.name for clip in split.test]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/inflation"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = {name: compare(arguments.data, arguments.runs, name) for name in BUDGETS}
    form = {"frames": FRAMES, "frame_rate": FRAME_RATE, "snippets": SNIPPETS}
    FIGURES.write_text(json.dumps({"form": form, "sets": sets, "origin": describe_origin()}, indent=1) + "\n")
    write_results()


if __name__ == "__main__":
    main()
