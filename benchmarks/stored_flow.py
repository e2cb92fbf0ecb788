"""Flow as the store keeps it against flow as precise as 8 bits can be: does a flow stream trained from it lose by it?

    python benchmarks/stored_flow.py VIDEOS [--runs runs/stored-flow] [--seeds 4]

VIDEOS is Weizmann (Gorelick et al. 2007) as class folders with a groups.tsv that names the persons. They are dealt out
to three folds by the alphabet, so that every clip is tested once by each seed. A stopped run goes on.
"""

import argparse
from pathlib import Path

import numpy as np
from pages import rgbflow, write_page

from rgbflow.bundle import RECORD, load_bundle
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import MANIFEST
from rgbflow.data.store import Store
from rgbflow.learn.metrics import group_interval
from rgbflow.learn.runs import clip_hits, mean_by_clip, percent
from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "stored-flow.md"
STORES = {"default": "", "precise": "--jpeg-quality None --flow-reduction 1"}
TRAINING = (
    "--stream flow --preset lite --input-size 112 --epochs 20 --warmup-epochs 1 --average-epochs 5 --num-segments 1"
)
Hits = dict[str, float]


def train_all(videos: Path, runs: Path, seeds: int) -> tuple[dict[str, list[Hits]], list[str]]:
    """Whether each clip was labelled right, by store and run; and the commands."""
    commands = [f"prepare {videos} --out {runs}/{store} {options}".strip() for store, options in STORES.items()]
    for store, command in zip(STORES, commands, strict=True):
        if not (runs / store / MANIFEST).is_file():
            rgbflow(command)
    persons = sorted({clip.group for clip in read_class_folders(videos)})
    for fold in range(3):
        commands.append(f"split {runs}/default --holdout {' '.join(persons[fold::3])} --out {runs}/fold{fold}.json")
        rgbflow(commands[-1])
    hits: dict[str, list[Hits]] = {store: [] for store in STORES}
    for seed in range(seeds):
        for fold in range(3):
            for store in STORES:
                split, bundle = f"{runs}/fold{fold}.json", runs / f"{store}-fold{fold}-seed{seed}"
                commands.append(f"train {runs}/{store} --split {split} --out {bundle} --seed {seed} {TRAINING}")
                if not (bundle / RECORD).is_file():
                    rgbflow(commands[-1])
                commands.append(f"evaluate {bundle} {runs}/{store} --split {split} --scores {bundle}/scores.npz")
                if not (bundle / "scores.npz").is_file():
                    rgbflow(commands[-1])
                with np.load(bundle / "scores.npz") as scores:
                    hits[store].append(clip_hits(scores["names"].tolist(), scores["flow"], scores["labels"]))
    return hits, commands


def page(hits: dict[str, list[Hits]], persons: dict[str, str], folder: Path, seeds: int, commands: list[str]) -> str:
    """The results page."""
    means = {store: mean_by_clip(runs) for store, runs in hits.items()}
    difference = {clip: means["default"][clip] - means["precise"][clip] for clip in means["default"]}
    bounds = {store: Store(folder / store).preparation.flow.bound for store in STORES}
    bundles = [load_bundle(path.parent) for path in folder.glob(f"*/{RECORD}")]
    commits = sorted({bundle.origin["flow"]["commit"] for bundle in bundles})
    rows = [
        f"| {name} | {percent(values):{sign}.1f} | {low:{sign}.1f} – {high:{sign}.1f} |"
        for name, values, sign in (
            (
                f"the default store: a quarter of the size, JPEG of quality 96, bound {bounds['default']:g}",
                means["default"],
                "",
            ),
            (f"full size, FFV1: 8 bits, nothing else lost, bound {bounds['precise']:g}", means["precise"], ""),
            ("default less full size, clip by clip", difference, "+"),
        )
        for low, high in [group_interval(values, persons)]
    ]
    singles = [f"{store} {', '.join(f'{percent(run):.0f}' for run in runs)}" for store, runs in hits.items()]
    origin, table, lines = (
        describe_origin(),
        "\n".join(rows),
        "\n".join(f"rgbflow {line}" for line in commands[: len(STORES) + 5]),
    )
    return f"""# Training from stored flow, and from flow with 8-bit rounding only

{len(means["default"])} clips of Weizmann by {len(set(persons.values()))} persons (Gorelick et al. 2007), the flow
stream alone (EfficientNet-Lite0 at 112×112, L = 10, ImageNet weights). Three folds hold out three persons each, so each
of {seeds} seeds tests every clip once, with 25 snippets and the centre crop. Figures are percentages of whole videos,
with 95 % intervals by delete-one jackknife over the persons.

| flow stored at | top-1 % | 95 % interval |
|---|---|---|
{table}

## How it was made

Trained at commit {", ".join(commits)}, written at {origin["commit"]}; {origin["machine"]}; {origin["date"]}.
`make stored-flow VIDEOS=…` runs these commands, the last two for each store, fold and seed, and writes this page; a
stopped run resumes.

```
{lines}
```

Top-1 of each training, fold by fold and seed by seed: {"; ".join(singles)}.
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/stored-flow"))
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    found, done = train_all(arguments.videos, arguments.runs, arguments.seeds)
    groups = {clip.name: clip.group for clip in read_class_folders(arguments.videos)}
    write_page(PAGE, page(found, groups, arguments.runs, arguments.seeds, done))
