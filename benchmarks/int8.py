"""What 8-bit integers cost in accuracy: folds trained by strong.py, exported, on their test parts; writes int8.md.

    python benchmarks/int8.py [--runs runs/strong] [--snippets N] [--only ut-interaction]

Each fold's bundle is exported to OpenVINO twice, in 8-bit integers calibrated on its training part and without, and
both label its test part. What is there already is not made again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from pages import finished_folds, is_of, rgbflow, write_page
from strong import PROTOCOLS, Protocol

from rgbflow.bundle import load_bundle
from rgbflow.learn.metrics import group_interval, wilson_interval
from rgbflow.learn.runs import clip_hits, percent
from rgbflow.learn.scores import read_scores
from rgbflow.origin import describe_origin
from rgbflow.stream import NUM_SNIPPETS, STREAMS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "int8.md"
KINDS = ("exact", "int8")
SCORERS = (*STREAMS, "fused")


def scores_of(bundle: Path, store: Path, kind: str, snippets: int) -> dict[str, dict[str, np.ndarray]]:
    """Per scorer, of each test clip its scores and whether it was named rightly."""
    split, out = bundle.with_suffix(".json"), bundle.parent / "int8" / f"{bundle.name}-{kind}"
    scores = out / f"scores-{snippets}.npz"
    if not is_of(scores, bundle):
        flags = f"--int8 {store} --split {split}" if kind == "int8" else ""
        rgbflow(f"export {bundle} --to openvino --out {out} {flags}")
        rgbflow(
            f"evaluate {out} {store} --split {split} --engine openvino --snippets {snippets} --scores {scores}",
        )
    (file,) = read_scores([scores])
    streams = file.probabilities()
    streams["fused"] = load_bundle(bundle).fusion.fuse(streams)
    return {
        scorer: {"scores": values, "hits": clip_hits(file.names, values, file.labels)}
        for scorer, values in streams.items()
    }


def table(protocol: Protocol, runs: Path, snippets: int) -> tuple[str, dict]:
    """The rows of a protocol, and their figures."""
    bundles, store = finished_folds(runs / protocol.name), runs / protocol.folder / "store"
    folds = {kind: [scores_of(bundle, store, kind, snippets) for bundle in bundles] for kind in KINDS}
    rows, figures = [], {}
    for scorer in SCORERS:
        hits = {
            kind: {clip: hit for fold in folds[kind] for clip, hit in fold[scorer]["hits"].items()} for kind in KINDS
        }
        scores = {kind: np.concatenate([fold[scorer]["scores"] for fold in folds[kind]]) for kind in KINDS}
        lost = {clip: hits["exact"][clip] - hits["int8"][clip] for clip in hits["exact"]}
        changed = np.mean(scores["exact"].argmax(axis=1) != scores["int8"].argmax(axis=1))
        figures[scorer] = {
            "clips": len(lost),
            **{kind: percent(hits[kind]) for kind in KINDS},
            "lost": percent(lost),
            "lost_interval": group_interval(lost, {clip: clip for clip in lost}),
            "other_label": 100 * float(changed),
            "largest_difference": float(np.abs(scores["exact"] - scores["int8"]).max()),
        }
        row = figures[scorer]
        low, high = row["lost_interval"]
        intervals = wilson_interval(round(sum(hits["exact"].values())), len(lost))
        rows.append(
            f"| {protocol.name} | {'fusion' if scorer == 'fused' else scorer} | {len(lost)} | {row['exact']:.1f} "
            f"({intervals[0]:.1f} – {intervals[1]:.1f}) | {row['int8']:.1f} | {row['lost']:+.1f} ({low:+.1f} to "
            f"{high:+.1f}) | {row['other_label']:.1f} | {row['largest_difference']:.3f} |"
        )
    return "\n".join(rows), figures


def page(tables: list[str], arguments: argparse.Namespace) -> str:
    """The results page."""
    origin = describe_origin()
    return f"""# 8-bit integers

The folds of [strong.md](strong.md), exported to OpenVINO without and with `--int8` (NNCF, calibrated on the training
part): top-1 of whole test videos, {arguments.snippets} snippets of each stream, calibrated fusion. The interval of the
loss is over the clips. "Other label" is the share of clips whose label changes, for better or worse. The last column is
the largest difference of a score.

| clips of | stream | clips | top-1 % without (95 % interval) | in int8 | lost, points | other label % | apart |
|---|---|---|---|---|---|---|---|
{chr(10).join(tables)}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make int8` exports the networks that `make strong`
trained, labels the test parts and writes this page. It reuses files that exist already.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/strong"))
    parser.add_argument("--snippets", type=int, default=NUM_SNIPPETS)
    parser.add_argument("--only", default="", help="one protocol of strong.py")
    arguments = parser.parse_args()
    chosen = [
        one for one in PROTOCOLS if arguments.only in ("", one.name) and finished_folds(arguments.runs / one.name)
    ]
    made = {one.name: table(one, arguments.runs, arguments.snippets) for one in chosen}
    figures = {name: figures for name, (_, figures) in made.items()}
    PAGE.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_page(PAGE, page([text for text, _ in made.values()], arguments))


if __name__ == "__main__":
    main()
