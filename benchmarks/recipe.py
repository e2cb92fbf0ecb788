"""Candidates for the preset `lite`, compared on the validation parts of three sets: writes docs/results/recipe.md.

    python benchmarks/recipe.py DATA [--runs runs/recipe] [--only NAME ...] [--folds 2] [--test]

DATA holds jhmdb-11/, weizmann/ and ut-interaction/, class folders with a groups.tsv. Each candidate trains both
streams in two folds of each set, each fold with a seed and a validation part of its own; test parts are measured with
--test only. The stores are what `rgbflow prepare` makes without flags, or with those of a candidate. A stopped run goes
on; the page can be written when runs are missing, and then says so. What was tried before by a script outside the
project stands in recipe.json under "search", "frozen" and "between", and in tables of the page.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fusion import scored_part
from pages import rgbflow, write_page
from scipy.special import softmax
from sklearn.model_selection import StratifiedGroupKFold

from rgbflow.bundle import load_bundle, load_weights, save_stream
from rgbflow.data.jpegs import open_store
from rgbflow.data.layouts import SourceClip, read_class_folders
from rgbflow.data.manifest import MANIFEST
from rgbflow.data.splits import HeldOut, Split, SplitClip, load_split
from rgbflow.fusion import log_scores
from rgbflow.learn.config import NOT_USED
from rgbflow.learn.metrics import wilson_interval
from rgbflow.learn.presets import LITE
from rgbflow.learn.runs import clip_hits, mean_by_clip
from rgbflow.learn.tasks import Training, run_tasks
from rgbflow.origin import describe_origin
from rgbflow.stream import STREAMS, Stream

PAGE = Path(__file__).parents[1] / "docs" / "results" / "recipe.md"
SNIPPETS = 5
SCORERS = (*STREAMS, "fused")
# What each has otherwise than the preset. "before" is what the preset was until three sets were looked at.
CANDIDATES: dict[str, dict[str, object]] = {
    "lite": {},
    "flow-from-imagenet": {"weights": "imagenet"},
    "before": {"probe": False, "input_size": 160, "weights": "imagenet"},
    "no-probe-frozen-norms": {"probe": False, "freeze_batch_norms": True, "learning_rate": 0.003},
    "from-probe": {"probe_rate": 0.1},
    "from-probe-slowly": {"probe_rate": 0.03},
    "flow-frozen-norms": {"freeze_batch_norms": True, "learning_rate": 0.003, "probe_rate": 0.1},
    "160-pixels": {"input_size": 160},
    "224-pixels": {"input_size": 224},
    "one-segment": {"num_segments": 1},
    "colours-as-they-are": {"colour_jitter": 0.0},
    "dis-medium": {},
}
PREPARED = {"dis-medium": "--preset medium"}  # the flags of `prepare` for the flow of a candidate

Clips = Sequence[SourceClip]
Parts = tuple[list[SourceClip], list[SourceClip], list[SourceClip]]


def cut_jhmdb(clips: Clips, data: Path, fold: int) -> Parts:
    """The official test list; a quarter of the rest is val, no source video on two sides."""
    lines = (data / "testlist01.txt").read_text(encoding="utf-8").splitlines()
    tested = {line.split()[0].rsplit(".", 1)[0] for line in lines if line.strip()}
    rest = [clip for clip in clips if clip.name not in tested]
    cut = StratifiedGroupKFold(4, shuffle=True, random_state=0)
    folds = list(cut.split(rest, [clip.label for clip in rest], [clip.group for clip in rest]))
    train, val = ([rest[index] for index in part] for part in folds[fold])
    return train, val, [clip for clip in clips if clip.name in tested]


def cut_weizmann(clips: Clips, data: Path, fold: int) -> Parts:
    """Three persons test, of the other six two are val."""
    tested, val = {"lyova", "moshe", "shahar"}, ({"daria", "ido"}, {"denis", "ira"})[fold]
    return _by_group(clips, lambda group: 2 if group in tested else 1 if group in val else 0)


def cut_ut_interaction(clips: Clips, data: Path, fold: int) -> Parts:
    """One place trains; of the other every second sequence is val, the rest test."""
    place, other = ("set1", "set2") if fold == 0 else ("set2", "set1")
    val = set(sorted({clip.group for clip in clips if clip.group.startswith(other)})[::2])
    return _by_group(clips, lambda group: 0 if group.startswith(place) else 1 if group in val else 2)


def _by_group(clips: Clips, part_of: Callable[[str], int]) -> Parts:
    train, val, test = ([clip for clip in clips if part_of(clip.group) == part] for part in range(3))
    return train, val, test


SETS: dict[str, Callable[[Clips, Path, int], Parts]] = {
    "jhmdb-11": cut_jhmdb,
    "weizmann": cut_weizmann,
    "ut-interaction": cut_ut_interaction,
}


@dataclass(frozen=True)
class Fold:
    """A split of a set, and what is trained on it.

    Attributes:
        name: of the set.
        number: which clips are val, and the seed.
        videos: class folders.
        split: file.
        folder: of the bundles, one for each candidate.
    """

    name: str
    number: int
    videos: Path
    split: Path
    folder: Path

    def store(self, candidate: str) -> Path:
        """The prepared set: as the default has it, or with the candidate's flow."""
        flags = PREPARED.get(candidate)
        store = self.split.with_name(f"store-{candidate}" if flags else "store")
        if not (store / MANIFEST).is_file():
            rgbflow(f"prepare {self.videos} --out {store} {flags or ''}")
        return store

    def training(self, candidate: str, stream: Stream) -> Training:
        config = replace(LITE, **CANDIDATES[candidate], seed=self.number, workers=0)
        title = f"{candidate}, {self.name} {self.number}, {stream}"
        return Training(title, self.store(candidate), self.split, stream, self.folder / candidate, config)

    def borrow(self, candidate: str) -> None:
        """Take from the preset's bundle what the candidate changes nothing of, such as flow where colours vary."""
        source, folder = self.folder / "lite", self.folder / candidate
        for stream in STREAMS:
            other_flow = stream == "flow" and candidate in PREPARED
            if candidate == "lite" or other_flow or not set(CANDIDATES[candidate]) <= set(NOT_USED[stream]):
                continue
            if self.training("lite", stream).is_done() and not self.training(candidate, stream).is_done():
                bundle = load_bundle(source)
                alone = replace(
                    bundle,
                    streams={stream: bundle.streams[stream]},
                    origin={stream: bundle.origin[stream]},
                    files={},
                    preparation=open_store(self.store(candidate)).preparation,
                )
                save_stream(folder, alone, stream, load_weights(source, stream))

    def is_done(self, candidate: str) -> bool:
        return all(self.training(candidate, stream).is_done() for stream in STREAMS)

    def hits(self, candidate: str, part: HeldOut) -> dict[str, dict[str, float]]:
        """For each scorer and each clip of a part, 1.0 where its answer is right, else 0.0; fused is the product."""
        split = load_split(self.split)
        scored = scored_part(self.folder / candidate, open_store(self.store(candidate)), split, part, SNIPPETS)
        fused = softmax(sum(map(log_scores, scored.scores.values())), axis=1)
        names = [clip.name for clip in split.clips(part)]
        return {
            name: clip_hits(names, scores, scored.labels) for name, scores in {**scored.scores, "fused": fused}.items()
        }


def make_folds(data: Path, runs: Path, count: int) -> list[Fold]:
    """Cut the splits; a fold prepares its videos when they are wanted."""
    folds = []
    for name, cut in SETS.items():
        clips = read_class_folders(data / name)
        for number in range(count):
            path = runs / name / f"fold{number}.json"
            if not path.is_file():
                parts = [
                    tuple(SplitClip(clip.name, clip.label, clip.group) for clip in part)
                    for part in cut(clips, data / name, number)
                ]
                path.parent.mkdir(parents=True, exist_ok=True)
                Split("group", number, tuple(sorted({clip.label for clip in clips})), *parts).save(path)
            folds.append(Fold(name, number, data / name, path, runs / name / f"fold{number}"))
    return folds


def measure(folds: list[Fold], candidate: str, part: HeldOut) -> dict[str, dict[str, dict]]:
    """For each set and scorer: clips, percent named rightly, and more; a set of which a fold is missing is left out.

    A clip that several folds test counts once, with its mean.
    """
    figures: dict[str, dict[str, dict]] = {}
    for name in SETS:
        own = [fold for fold in folds if fold.name == name]
        if not all(fold.is_done(candidate) for fold in own):
            continue
        hits = [fold.hits(candidate, part) for fold in own]
        right = {scorer: np.array(list(mean_by_clip([one[scorer] for one in hits]).values())) for scorer in SCORERS}
        figures[name] = {
            scorer: {"clips": len(values), "right": float(values.sum()), "top1": 100 * float(values.mean())}
            for scorer, values in right.items()
        }
        origins = [load_bundle(fold.folder / candidate).origin for fold in own]
        for stream in STREAMS:
            ahead = right["fused"] - right[stream]
            variance = float(1e4 * ahead.var(ddof=1) / len(ahead))
            figures[name][stream] |= {"fused_ahead": float(100 * ahead.mean()), "variance": variance}
            probes = [origin[stream]["probe_val_top1"] for origin in origins if "probe_val_top1" in origin[stream]]
            figures[name][stream]["probe_val_top1"] = float(np.mean(probes)) if probes else None
            figures[name][stream]["trained_shares"] = [
                origin[stream].get("trained_share", float(origin[stream]["epoch"] > 0)) for origin in origins
            ]
    return figures


def measure_all(folds: list[Fold], candidates: Iterable[str], part: HeldOut) -> dict[str, dict[str, dict]]:
    """The figures of each candidate that is finished in these folds of a set."""
    return {name: found for name in candidates if (found := measure(folds, name, part))}


def leads(measured: dict[str, dict]) -> str:
    """By how much the fusion of the preset is ahead of each stream: the mean of the sets, with its 95 % interval."""
    if set(measured.get("lite", {})) != set(SETS):
        return ""
    words = []
    for stream in STREAMS:
        rows = [measured["lite"][name][stream] for name in SETS]
        mean = np.mean([row["fused_ahead"] for row in rows])
        half = 1.96 * np.sqrt(sum(row["variance"] for row in rows)) / len(rows)
        words.append(f"of {stream} by {mean:.1f} points ({mean - half:+.1f} to {mean + half:+.1f})")
    return f"The fusion of `lite` is ahead {' and '.join(words)}: mean of the sets, interval over the same clips.\n"


def table(measured: dict[str, dict], part: str) -> str:
    """A line for each candidate that is finished on a set; the mean where all sets are."""
    lines = [
        f"| candidate | scorer | mean of sets | {' | '.join(SETS)} |",
        f"|---|---|---|{'---|' * len(SETS)}",
    ]
    for candidate, figures in measured.items():
        for scorer in SCORERS:
            cells = []
            for name in SETS:
                if name not in figures:
                    cells.append("missing")
                    continue
                own = figures[name][scorer]
                low, high = wilson_interval(round(own["right"]), own["clips"])
                probe = own.get("probe_val_top1")
                frozen = f"; frozen {probe:.1f}" if part == "val" and probe is not None else ""
                cells.append(f"{own['top1']:.1f} ({low:.0f} – {high:.0f}{frozen})")
            mean = "" if len(figures) < len(SETS) else f"**{np.mean([figures[n][scorer]['top1'] for n in SETS]):.1f}**"
            lines.append(f"| {candidate} | {scorer} | {mean} | {' | '.join(cells)} |")
    return "\n".join(lines)


def search_table(search: list[dict]) -> str:
    """Every run of the script that searched, as it was."""
    lines = [
        "| what | set, fold | stream | frozen: top-1, loss | fine-tuned: top-1, loss | halfway between | train top-1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in search:
        pairs = [f"{run[key]['top1']:.1f}, {run[key]['nll']:.2f}" if run.get(key) else "" for key in ("probe", "val")]
        half = f"{run['half']['top1']:.1f}" if run.get("half") else ""
        lines.append(
            f"| {run['what']} | {run['set']}, {run['fold']} | {run['stream']} | {pairs[0]} | {pairs[1]} | {half} | "
            f"{run['train_top1']:.0f} |"
        )
    return "\n".join(lines)


def tables(measured: dict[str, dict[str, dict]], part: HeldOut) -> str:
    """The table of each number of folds."""
    return "\n".join(
        f"### {which.capitalize()}\n\n{table(found, part)}\n\n{leads(found)}"
        for which, found in measured.items()
        if found
    )


def words(candidate: str) -> str:
    """What a candidate has otherwise than the preset."""
    changes = [f"`{key}` {value}" for key, value in CANDIDATES[candidate].items()]
    if candidate in PREPARED:
        changes.append(f"`rgbflow prepare {PREPARED[candidate]}`")
    return ", ".join(changes) or "the preset itself"


def page(validated: dict, tested: dict, kept: dict) -> str:
    """The results page."""
    origin = describe_origin()
    changes = "\n".join(f"- `{name}`: {words(name)}" for name in CANDIDATES)
    test = f"## Test parts\n\n{tables(tested, 'test')}" if tested else ""
    return f"""# The recipe, chosen on three sets

Candidates for the preset `lite` on validation parts, in percent of whole videos ({SNIPPETS} snippets of each stream,
the centre crop, fused by the product). Each fold has a seed and a validation part of its own. Brackets give Wilson's
95 % interval over the clips and the figure of the frozen network with a classifier fitted on the train part. The
classifiers of these figures have not seen val; those of the test parts are fitted on train and val.

## Validation parts

{tables(validated, "val") or "No candidate is finished on a set."}
Changes of each candidate from the preset:

{changes}

{test}
## Earlier search by a script

Small budgets, one seed for each fold, most candidates in one fold of one set. It trained as `rgbflow train` does, in a
loop of its own; the settings stand in recipe.json. Not said otherwise: 300 steps of 8 clips, one snippet of each.

{search_table(kept.get("search", []))}

## Weights between the frozen and the trained ones

The weights at the end of a training with `lite`, those of the frozen network, and weights on the way between them, by a
script with the functions of `rgbflow train`, in bfloat16. Each share of the way has the log loss on val of a classifier
fitted on train and the top-1 on test of one fitted on train and val. Bold is what the rule keeps: the trained weights,
unless the least loss is lower by more than its standard error. `rgbflow train` also tries the trained network's own
classifier.

{between_table(kept.get("between", []))}

## The frozen network alone

Top-1 on val of a classifier fitted on five snippets of each clip. `short side` is that of the store; `crop` is the
share of it that the centre square covers.

{frozen_table(kept.get("frozen", []))}

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make recipe` prepares the videos, trains
what is missing and writes this page; `make recipe RECIPE="--test"` measures the test parts too.
"""


def between_table(rows: list[dict]) -> str:
    """Of each training the networks on the way; then how much better what is kept is than the trained weights."""
    shares = ("0.0", "0.25", "0.5", "0.75", "1.0")
    lines = [
        f"| set, fold | stream | val clips | {' | '.join(f'{float(share):.0%}' for share in shares)} |",
        f"|---|---|---|{'---|' * len(shares)}",
    ]
    for row in rows:
        cells = []
        for share in shares:
            own = row["shares"].get(share)
            cell = f"{own['val_loss']:.2f}, {own['test_top1']:.1f}" if own else ""
            cells.append(f"**{cell}**" if share == row["kept"] else cell)
        lines.append(f"| {row['set']} | {row['stream']} | {row['val_clips']} | {' | '.join(cells)} |")
    for stream in STREAMS:
        gains = [
            row["shares"][row["kept"]]["test_top1"] - row["shares"]["1.0"]["test_top1"]
            for row in rows
            if row["stream"] == stream
        ]
        if len(gains) > 1:
            mean, half = np.mean(gains), 1.96 * np.std(gains, ddof=1) / np.sqrt(len(gains))
            lines.append(
                f"\nWhat is kept of {stream} has {mean:+.1f} points ({mean - half:+.1f} to {mean + half:+.1f}) more "
                f"top-1 than the trained weights: the mean of {len(gains)} folds."
            )
    return "\n".join(lines)


def frozen_table(rows: list[dict]) -> str:
    """Every probe of the script that searched."""
    lines = [
        "| set, fold | stream | frames | input | crop | batch norms | mirrored too | top-1 | loss | cross-validated |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        norms = {False: "as published", "first": "first re-estimated", "all": "all re-estimated"}[row["rebn"]]
        mirrored = "yes" if row["mirror"] else "no"
        lines.append(
            f"| {row['set']}, {row['fold']} | {row['stream']} | {row['frames']} | {row['size']} | {row['crop']} "
            f"| {norms} | {mirrored} | {row['top1']:.1f} | {row['nll']:.2f} | {row['cv_top1']:.1f} |"
        )
    return "\n".join(lines)


def main(data: Path, runs: Path, only: Sequence[str], count: int, test: bool, write_only: bool) -> None:
    """Run what is missing, and write the page and beside it the figures as JSON."""
    folds = make_folds(data, runs, count)
    chosen = only or list(CANDIDATES)
    together = {"both folds": folds} if count > 1 else {}
    together["fold 0"] = [fold for fold in folds if fold.number == 0]
    for name in () if write_only else chosen:
        for fold in folds:
            fold.borrow(name)
        run_tasks([fold.training(name, stream) for fold in folds for stream in STREAMS], ["auto"])
    figures = PAGE.with_suffix(".json")
    kept = json.loads(figures.read_text(encoding="utf-8")) if figures.exists() else {}
    kept["val"] = {which: measure_all(some, CANDIDATES, "val") for which, some in together.items()}
    if test:
        kept["test"] = {which: measure_all(some, chosen, "test") for which, some in together.items()}
    write_page(PAGE, page(kept["val"], kept.get("test", {}), kept))
    figures.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    parser.add_argument("--only", nargs="*", default=(), choices=list(CANDIDATES), help="some candidates")
    parser.add_argument("--folds", type=int, default=2, choices=(1, 2))
    parser.add_argument("--test", action="store_true", help="measure the test parts of these candidates too")
    parser.add_argument("--write-only", action="store_true", help="the page of what is there, no training")
    arguments = parser.parse_args()
    main(arguments.data, arguments.runs, arguments.only, arguments.folds, arguments.test, arguments.write_only)
