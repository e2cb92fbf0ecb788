"""Commands that train: train, ablate; and the settings that their flags start from."""

import argparse
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from rgbflow.commands.flags import Flag, Positional, PresetName, check_positive
from rgbflow.commands.printing import print_ablation, show
from rgbflow.learn.config import TrainConfig, load_config, with_algorithm
from rgbflow.learn.presets import LITE, STRONG
from rgbflow.paper.presets import table_i
from rgbflow.stream import Stream


def train(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Path,
    stream: Literal["rgb", "flow"],
    out: Path,
    settings: Annotated[TrainConfig, Flag(name="")],
    preset: PresetName | None = None,
    config: Annotated[Path | None, Flag(metavar="PATH")] = None,
    replace: bool = False,
    json: bool = False,
) -> int:
    """Train one stream and put it into a bundle; run it again after a kill and it goes on.

    Args:
        store: prepared data set, or a folder in a published JPEG layout.
        split: from `rgbflow split`.
        stream: which network; train both into one bundle for the fusion.
        out: the bundle's folder.
        settings: every field of TrainConfig.
        preset: settings to start from; paper: Table I and nothing else; strong: what makes it more accurate;
            lite: the same for a machine without a GPU.
        config: TOML file with fields of TrainConfig; it wins over the preset, flags win over both.
        replace: train a stream anew that the bundle holds already.
        json: print the result as JSON.
    """
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.train import train
    from rgbflow.progress import track

    tell = partial(print, file=sys.stderr)
    data, parts = open_store(store), load_split(split)
    with track(f"training {stream}", None, "steps") as tracker:
        result = train(data, parts, stream, out, settings, tell, tracker.set, replace)
    show(
        {
            "bundle": str(out),
            "stream": stream,
            "best_epoch": result.best_epoch,
            "val_top1": result.val_top1,
            "seconds": result.seconds,
            "resumed_epoch": result.resumed_epoch,
            "curve": result.curve,
        },
        json,
        "{bundle}: {stream} trained in {seconds:.0f} s; epoch {best_epoch} was best, top-1 {val_top1:.1f} % on val",
    )
    return 0


def ablate(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Annotated[tuple[Path, ...], Flag(metavar="PATH ...")],
    settings: Annotated[TrainConfig, Flag(name="")],
    out: Path = Path("ablation"),
    parts: Annotated[tuple[str, ...], Flag(metavar="NAME ...")] = (),
    preset: Literal["strong", "lite"] = "strong",
    config: Annotated[Path | None, Flag(metavar="PATH")] = None,
    seeds: int = 1,
    snippets: int = 25,
    jobs: int = 1,
    json: bool = False,
) -> int:
    """Train a recipe whole and without one part at a time: what is each part worth? Run it again and it goes on.

    Args:
        store: prepared data set, or a folder in a published JPEG layout.
        split: from `rgbflow split`; several are all trained and tested on.
        settings: every field of TrainConfig: the whole.
        out: folder for the bundles, and for ablation.html and ablation.json.
        parts: which to take away; every one that the settings have, if none is named.
        preset: settings to start from; strong: what makes it more accurate; lite: the same for a machine without a
            GPU.
        config: TOML file with fields of TrainConfig; it wins over the preset, flags win over both.
        seeds: trainings of each on each split.
        snippets: of each test clip and stream.
        jobs: trainings at a time, each with its share of the cores.
        json: print the result as JSON.
    """
    from rgbflow.learn.ablate import ablation_tasks, choose_parts, read_ablation
    from rgbflow.learn.tasks import free_devices, run_tasks

    check_positive(seeds=seeds, snippets=snippets, jobs=jobs)
    chosen = choose_parts(parts, settings)
    trainings, evaluations = ablation_tasks(store, split, seeds, out, settings, chosen, snippets)
    devices = free_devices(settings.device, jobs)
    run_tasks(trainings, devices)
    run_tasks(evaluations, devices)
    result = read_ablation(out, split, seeds, settings, chosen, snippets)
    result.save(out)
    show(asdict(result), True) if json else print_ablation(result, out)
    return 0


def preset_config(preset: PresetName | None, stream: Stream) -> TrainConfig:
    """The settings of a preset for one stream; the defaults for None."""
    return {"paper": table_i(stream), "strong": STRONG, "lite": LITE}.get(preset, TrainConfig())


def config_from(arguments: list[str], preset: PresetName | None = None) -> TrainConfig:
    """The settings that the flags then change: the preset's, changed to the algorithm and by `--config FILE`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--preset", "--stream", "--algorithm", "--config"):
        parser.add_argument(name, nargs="?")  # what is wrong with them is said by the real command line
    flags, _ = parser.parse_known_args(arguments)
    config = preset_config(flags.preset or preset, flags.stream)
    if flags.algorithm:
        config = with_algorithm(config, flags.algorithm)
    return load_config(Path(flags.config), config) if flags.config else config
