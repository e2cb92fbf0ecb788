"""Is what was never taught called unknown? Classes left out in turn, on the frozen networks of `lite`.

    python benchmarks/unknown.py DATA [--runs runs/unknown] [--rate 0.2]

DATA holds weizmann/, ut-interaction/ and jhmdb-11/, class folders with a groups.tsv. In each turn the next classes of
the alphabet are left out, so that every class of a set is left out as often as any other. The first and third of them
fit the threshold, on clips of val's groups; the others test it, on clips of the test part's groups. Networks are the
starting weights of the preset, frozen; the classifiers, the fusion and the threshold are fitted as `train` and
`calibrate` do it for a stream that stays frozen. It writes docs/results/unknown.md and, beside it, the figures.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pages import rgbflow, write_page

from rgbflow.data.cutting import make_split
from rgbflow.data.dataset import ClipDataset
from rgbflow.data.manifest import MANIFEST
from rgbflow.data.splits import Split, SplitClip
from rgbflow.data.store import Store
from rgbflow.fusion import probabilities
from rgbflow.learn.calibrate import fit_calibration, with_threshold
from rgbflow.learn.fits import ScoredClips
from rgbflow.learn.metrics import measure_unknown, wilson_interval
from rgbflow.learn.presets import LITE
from rgbflow.learn.probe import SNIPPETS, Head, clip_features, fit_head
from rgbflow.learn.spec import make_spec
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import initialise
from rgbflow.origin import describe_origin
from rgbflow.stream import STREAMS, Stream

PAGE = Path(__file__).parents[1] / "docs" / "results" / "unknown.md"
LEFT_OUT = {"weizmann": 4, "ut-interaction": 2, "jhmdb-11": 4}  # classes of a turn
Features = dict[Stream, dict[str, np.ndarray]]  # per stream, by a clip's name: (D,)


def frozen_features(store: Store) -> Features:
    """What the frozen networks make of each clip; the scale of flow comes from all clips."""
    clips = tuple(SplitClip(row.clip, row.label, row.group) for row in store.rows.values())
    classes = tuple(sorted({clip.label for clip in clips}))
    found: Features = {}
    for stream in STREAMS:
        spec = make_spec(store, clips, stream, LITE)
        torch.manual_seed(0)
        network = StreamNet(spec, len(classes))
        initialise(network, spec, LITE.weights)
        rows = clip_features(network, ClipDataset(store, clips, classes, spec, SNIPPETS))
        found[stream] = {clip.name: row for clip, row in zip(clips, rows, strict=True)}
    return found


def fitted(
    features: Features, stream: Stream, split: Split, clips: Sequence[SplitClip], strength: float | None = None
) -> Head:
    """A stream's classifier, of a given strength or one chosen on held-out groups."""
    rows = np.stack([features[stream][clip.name] for clip in clips])
    labels, groups = [split.classes.index(clip.label) for clip in clips], [clip.group for clip in clips]
    chosen = {} if strength is None else {"strengths": (strength,)}
    return fit_head(rows, labels, groups, len(split.classes), **chosen)


def answers(features: Features, heads: dict[Stream, Head], clips: Sequence[SplitClip]) -> dict[str, np.ndarray]:
    """Per stream the probabilities (N, K) of clips."""
    return {
        stream: probabilities(head.logits(np.stack([features[stream][clip.name] for clip in clips])))
        for stream, head in heads.items()
    }


def fit_streams(features: Features, split: Split) -> tuple[dict[Stream, Head], dict[Stream, Head]]:
    """The classifiers of train, which have not seen val, and those of train and val, of the same strength."""
    first = {stream: fitted(features, stream, split, split.train) for stream in STREAMS}
    both = split.train + split.val
    return first, {stream: fitted(features, stream, split, both, head.strength) for stream, head in first.items()}


def scored(features: Features, heads: dict[Stream, Head], split: Split, clips: Sequence[SplitClip]) -> ScoredClips:
    """What the classifiers say of known clips."""
    labels = np.array([split.classes.index(clip.label) for clip in clips])
    return ScoredClips(answers(features, heads, clips), labels, np.array([clip.group for clip in clips]))


def turn(features: Features, split: Split, rate: float) -> dict:
    """The figures of one turn."""
    first, heads = fit_streams(features, split)
    val = scored(features, first, split, split.val)
    fusion = with_threshold(fit_calibration(val).fusion, answers(features, heads, split.unknown_val), rate)
    known = fusion.fuse(answers(features, heads, split.test))
    figures = asdict(
        measure_unknown(known, fusion.fuse(answers(features, heads, split.unknown_test)), fusion.threshold, rate)
    )
    truth = [split.classes.index(clip.label) for clip in split.test]
    return {**figures, "top1": 100 * float((known.argmax(1) == truth).mean()), "fitted_on": len(split.unknown_val)}


def open_set(videos: Path, store: Path) -> tuple[list[SplitClip], Features]:
    """The clips of a set, which is prepared if it is not, and their features."""
    if not (store / MANIFEST).is_file():
        rgbflow(f"prepare {videos} --out {store}")
    opened = Store(store)
    return [SplitClip(row.clip, row.label, row.group) for row in opened.rows.values()], frozen_features(opened)


def run_set(videos: Path, store: Path, rate: float, num_left_out: int) -> list[dict]:
    """The turns of a set."""
    clips, features = open_set(videos, store)
    classes, turns = sorted({clip.label for clip in clips}), []
    for number in range(len(classes)):
        left_out = [classes[(number + step) % len(classes)] for step in range(num_left_out)]
        split = make_split(clips, "group", seed=number, leave_out=left_out)
        turns.append({"left_out": left_out, **turn(features, split, rate)})
        print(videos.name, turns[-1], flush=True)
    return turns


def pool(turns: list[dict]) -> dict:
    """All turns as one: counts of named unseen clips and of rejected known ones, and the mean area under the curve."""
    aurocs = [row["auroc"] for row in turns]
    pooled: dict = {"auroc": float(np.mean(aurocs)), "auroc_error": float(np.std(aurocs, ddof=1) / len(turns) ** 0.5)}
    for share, clips in (("false_alarms", "unknown_clips"), ("rejected", "known_clips")):
        total = sum(row[clips] for row in turns)
        count = round(sum(row[share] * row[clips] for row in turns) / 100)
        pooled |= {share: 100 * count / total, f"{share}_interval": wilson_interval(count, total), clips: total}
    hits = sum(row["top1"] * row["known_clips"] for row in turns) / pooled["known_clips"]
    return {**pooled, "top1": hits, "turns": len(turns)}


def pooled_row(name: str, row: dict) -> str:
    alarms, rejected = row["false_alarms_interval"], row["rejected_interval"]
    return (
        f"| {name} | {row['turns']} | {row['unknown_clips']} | **{row['false_alarms']:.1f}** ({alarms[0]:.1f} – "
        f"{alarms[1]:.1f}) | {row['known_clips']} | {row['rejected']:.1f} ({rejected[0]:.1f} – {rejected[1]:.1f}) | "
        f"{row['auroc']:.1f} ± {row['auroc_error']:.1f} | {row['top1']:.1f} |"
    )


def turn_row(row: dict) -> str:
    names = f"{', '.join(row['left_out'][0::2])} | {', '.join(row['left_out'][1::2])}"
    shares = f"{row['false_alarms']:.0f} | {row['rejected']:.0f} | {row['auroc']:.1f} | {row['top1']:.0f}"
    return f"| {names} | {row['fitted_on']} | {row['unknown_clips']} | {shares} |"


def page(sets: dict[str, list[dict]], rate: float, origin: dict[str, str]) -> str:
    """The results page."""
    lines = "\n".join(pooled_row(name, pool(turns)) for name, turns in sets.items())
    head = "| threshold | test | clips | test clips | false alarms % | rejected % | AUROC % | top-1 % of known |"
    parts = "\n".join(
        f"### {name}\n\n{head}\n|---|---|---|---|---|---|---|---|\n{chr(10).join(map(turn_row, turns))}\n"
        for name, turns in sets.items()
    )
    return f"""# Unknown classes

In each turn other classes are left out of training. Clips of half of these classes fit a threshold for at most
{100 * rate:.3g} % false alarms: clips of unseen classes that get a known label. The other half tests it, so the test
has other classes and other groups. Rejected are known clips that are called unknown.

| set | turns | unseen clips | false alarms % | known clips | rejected % | AUROC % | top-1 % of known |
|---|---|---|---|---|---|---|---|
{lines}
{pooled_row("all", pool([row for turns in sets.values() for row in turns]))}

Brackets are Wilson's 95 % intervals, which treat clips as independent. Clips of one class are not, and a clip is in
several turns, so the intervals are too narrow. Behind AUROC stands the standard error over the turns.

The networks are the starting weights of the preset `lite` ([training.md](../training.md)), frozen. The classifiers, the
fusion and the threshold are fitted as `train` and `calibrate` fit them for a stream that stays frozen: five snippets of
a clip, a classifier of train for val, one of train and val for the rest.

## Turns

{parts}
## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make unknown` computes the features once
for each set, and writes this page. unknown.json has the figures of each turn.
"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/unknown"))
    parser.add_argument("--rate", type=float, default=0.2)
    given = parser.parse_args()
    origin = describe_origin()
    sets = {
        name: run_set(given.data / name, given.runs / name / "store", given.rate, count)
        for name, count in LEFT_OUT.items()
    }
    record = json.dumps({"rate": given.rate, "sets": sets, "origin": origin}, indent=1)
    PAGE.with_suffix(".json").write_text(record + "\n", encoding="utf-8")
    write_page(PAGE, page(sets, given.rate, origin))
