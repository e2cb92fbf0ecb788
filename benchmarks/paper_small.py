"""The paper's Table II and Figure 4 at a scale for two cores: Weizmann and UT-Interaction, three folds, a seed each.

    python benchmarks/paper_small.py DATA [--runs runs/paper-small]

DATA holds weizmann/ and ut-interaction/, class folders with a groups.tsv. Every clip is tested once: the persons, or
the sequences, are dealt out to three folds by the alphabet. A stopped run goes on. It writes the page of the results
and, beside it, a folder with the plots and the figures as JSON. The settings were chosen on the validation part of
Weizmann's first fold.
"""

import argparse
import shutil
from dataclasses import dataclass
from pathlib import Path

from pages import rgbflow, write_page

from rgbflow.bundle import RECORD, load_bundle
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.manifest import MANIFEST
from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "paper-small.md"
SCALE = "--backbone tf_efficientnet_lite0 --input-size 80 --batch-size 8"
TABLE2 = f"{SCALE} --c3d-backbone c3d_quarter --c3d-input-size 56 --epochs 30 --learning-rate 0.01 --snippets 10"
RGB, FASTER = " --stream rgb", " --learning-rate 0.005"  # ten times Table I's rate


@dataclass(frozen=True)
class DataSet:
    """A data set as it is run here."""

    folder: str
    title: str
    groups: str
    dealt: bool  # groups dealt out like cards, not in blocks: sequences next to each other are of one place
    figures: dict[str, str]  # from the name of a Figure 4 to its options


DATA_SETS = (
    DataSet("weizmann", "Weizmann (Gorelick et al. 2007)", "persons", False, {"fig4": "", "fig4-faster": RGB + FASTER}),
    DataSet("ut-interaction", "UT-Interaction (Ryoo and Aggarwal 2009)", "sequences", True, {"fig4": RGB}),
)


def make_folds(data: DataSet, videos: Path, runs: Path) -> tuple[list[str], list[str]]:
    """Prepare the videos and cut the three folds; the splits and the commands that made them."""
    store, commands = runs / "store", []
    commands.append(f"prepare {videos} --out {store} --short-side 128 --bound 10")
    if not (store / MANIFEST).is_file():
        rgbflow(commands[-1])
    names = sorted({clip.group for clip in read_class_folders(videos)})
    size = len(names) // 3
    blocks = [names[start : start + size] for start in (0, size, 2 * size)]
    folds = [names[start::3] for start in (2, 0, 1)] if data.dealt else blocks
    for index, fold in enumerate(folds):
        commands.append(f"split {store} --holdout {' '.join(fold)} --out {runs}/fold{index}.json")
        rgbflow(commands[-1])
    return [f"{runs}/fold{index}.json" for index in range(3)], commands


def run(data: DataSet, videos: Path, runs: Path) -> str:
    """Everything from the videos to the section of the page."""
    splits, commands = make_folds(data, videos, runs)
    common = f"{runs}/store --split {' '.join(splits)}"
    commands.append(f"paper table2 {common} --out {runs}/table2 {TABLE2}")
    table = rgbflow(commands[-1])
    figures = {}
    for name, options in data.figures.items():
        commands.append(f"paper fig4 {common} --out {runs}/{name} {SCALE}{options}")
        figures[name] = rgbflow(commands[-1])
    kept = PAGE.with_suffix("")
    kept.mkdir(exist_ok=True)
    shutil.copy(runs / "table2" / "table2.json", kept / f"{data.folder}-table2.json")
    for name in data.figures:
        for ending in ("png", "json"):
            shutil.copy(runs / name / f"fig4.{ending}", kept / f"{data.folder}-{name}.{ending}")
    return section(data, table, figures, commands)


def section(data: DataSet, table: dict, figures: dict[str, dict], commands: list[str]) -> str:
    """A data set's part of the page."""
    clips, split = table["rows"][0]["clips"], table["splits"][0]
    leaks = ", ".join(f"{row['leak %']:.0f}" for row in table["splits"])
    blocks = "\n\n".join(figure_block(data, name, figure) for name, figure in figures.items())
    lines = "\n".join(f"rgbflow {command}" for command in commands)
    return f"""## {data.title}

{clips} test clips of {split["classes"]} classes, each tested in one of three folds. A fold uses about {split["train"]}
clips for training, {split["val"]} to choose the epoch and {split["test"]} for the test. No {data.groups} are in two
parts (leak {leaks} %). An even guess gets {100 / split["classes"]:.1f} %.

### Table II

| algorithm | network here | paper, top-1 % | here | 95 % interval | single runs | two-stream ahead by | hours |
|---|---|---|---|---|---|---|---|
{chr(10).join(map(table_row, table["rows"]))}

{blocks}

```
{lines}
```
"""


def table_row(row: dict) -> str:
    """A line of Table II."""
    low, high = row["top1_interval"]
    ahead = ""
    if row["behind"] is not None:
        ahead = f"{row['behind']:+.1f} ({row['behind_interval'][0]:+.1f} to {row['behind_interval'][1]:+.1f})"
    single = ", ".join(f"{value:.1f}" for value in row["run_top1"])
    figures = f"{row['paper_top1']:.2f} | **{row['top1']:.1f}** | {low:.1f} – {high:.1f} | {single} | {ahead}"
    return f"| {row['name']} | {row['network']} | {figures} | {row['hours']:.2f} |"


def figure_block(data: DataSet, name: str, figure: dict) -> str:
    """One Figure 4: where it ended, and its picture."""
    rate = figure["settings"][0]["learning_rate"].removesuffix(" *")
    rows = []
    for curve in figure["curves"]:
        low, high = curve["final_interval"]
        train, test = curve["columns"]["train_loss"][-1], curve["columns"]["test_loss"][-1]
        top1 = f"{curve['columns']['train_top1'][-1]:.1f} | {curve['final_test_top1']:.1f} | {low:.1f} – {high:.1f}"
        rows.append(f"| {curve['stream']} | {curve['optimizer']} | {train:.2f} | {test:.2f} | {top1} |")
    return f"""### Figure 4, learning rate {rate}

Values after the last epoch, means over the folds; no epoch is chosen.

| stream | optimizer | train loss | test loss | train top-1 % | test top-1 % | 95 % interval |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

![Loss and accuracy by epoch](paper-small/{data.folder}-{name}.png)"""


def page(sections: list[str], runs: Path) -> str:
    """The results page."""
    origin = describe_origin()
    bundles = [load_bundle(record.parent) for record in runs.glob(f"*/*/run*/*/{RECORD}")]
    trained = ", ".join(sorted({made["commit"] for bundle in bundles for made in bundle.origin.values()}))
    return f"""# The paper at small scale

`rgbflow paper` re-runs Table II and Figure 4 of the paper ([paper.md](../paper.md)); only the scale differs. The paper
trains ResNet101 on 224×224 pixels for 100 epochs on 7,992 clips. Here, EfficientNet-Lite0 (from ImageNet weights, which
need no download) reads 80×80 pixels for 30 epochs of 40 to 66 clips, C3D has a quarter of its channels and reads 56×56
pixels, and a batch has 8 clips. Figure 4 keeps Table I's learning rate of 0.0005. Table II uses 0.01, because a
training has only 150 to 270 steps (the paper's has 50,000). Figures are percentages of whole videos. Intervals are
Wilson's over the clips; the interval of a difference takes a person or sequence as one observation. Every fold has its
own seed.

{chr(10).join(sections)}
## How it was made

Trained at commit {trained}, written at {origin["commit"]}; {origin["machine"]}; {origin["date"]}.
`make paper-small` runs the commands above and writes this page; a stopped run resumes.
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/paper-small"))
    arguments = parser.parse_args()
    made = [run(data, arguments.data / data.folder, arguments.runs / data.folder) for data in DATA_SETS]
    write_page(PAGE, page(made, arguments.runs))
