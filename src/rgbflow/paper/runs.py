"""The runs behind a figure or table: each split with each seed, and what is said of them beside the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rgbflow.data.splits import load_split
from rgbflow.learn.config import RESULT_NEUTRAL
from rgbflow.paper.presets import Scale, scaled
from rgbflow.stream import Algorithm, Stream

SHOWN = ("backbone", "weights", "input_size", "stack_length", "epochs", "batch_size", "optimizer", "learning_rate")


@dataclass(frozen=True)
class Run:
    """One repetition: a split and a seed that no other run has."""

    name: str
    split: Path
    seed: int


def runs_of(splits: Sequence[Path], seeds: int) -> list[Run]:
    """Every split with `seeds` seeds; the seeds of all runs differ, so that none is lucky everywhere."""
    pairs = [split for split in splits for _ in range(seeds)]
    return [Run(f"run{index}", split, index) for index, split in enumerate(pairs)]


def splits_table(splits: Sequence[Path], seeds: int) -> list[dict]:
    """What a reader must know of each split: protocol, leak and clips."""
    rows = []
    for path in splits:
        split = load_split(path)
        rows.append(
            {
                "split": path.name,
                "protocol": split.protocol,
                "leak %": round(split.leak_percent, 1),
                "train": len(split.train),
                "val": len(split.val),
                "test": len(split.test),
                "classes": len(split.classes),
                "runs": seeds,
                "sha256": split.sha256[:12],
            }
        )
    return rows


def settings_table(scale: Scale, networks: Mapping[str, tuple[Stream, Algorithm]], paper_scale: Scale) -> list[dict]:
    """The settings of each network; a star marks what Table I has otherwise.

    Args:
        scale: of the runs.
        networks: from a name to stream and algorithm.
        paper_scale: the paper's own; Figure 4 has fewer epochs than Table I.
    """
    rows = []
    for name, (stream, algorithm) in networks.items():
        here, paper = (asdict(scaled(stream, algorithm, chosen, seed=0)) for chosen in (scale, paper_scale))
        hidden = [key for key in here if key not in (*SHOWN, *RESULT_NEUTRAL) and here[key] != paper[key]]
        rows.append(
            {
                "network": name,
                **{key: f"{here[key]}{'' if here[key] == paper[key] else ' *'}" for key in SHOWN},
                "also other": ", ".join(f"{key} {here[key]} *" for key in hidden) or "nothing",
            }
        )
    return rows
