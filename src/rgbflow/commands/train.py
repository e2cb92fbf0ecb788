"""Commands that train: train, ablate."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from rgbflow.commands.flags import Flag, Positional, PresetName, check_positive
from rgbflow.commands.printing import print_ablation, show
from rgbflow.commands.settings import AblateFlags, TrainFlags, merge_settings
from rgbflow.commands.terminal import track
from rgbflow.stream import NUM_SNIPPETS


def train(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Path,
    stream: Literal["rgb", "flow"],
    out: Path,
    settings: TrainFlags,
    preset: PresetName | None = None,
    config: Annotated[Path | None, Flag(metavar="PATH")] = None,
    replace: bool = False,
    json: bool = False,
) -> int:
    """Train one stream and put it into a bundle; a stopped run resumes when started again.

    Args:
        store: prepared data set, or a folder in a published JPEG layout.
        split: file from `rgbflow split`.
        stream: the stream to train; train both into one bundle, which then fuses them.
        out: the bundle's folder.
        settings: any field of TrainConfig.
        preset: settings to start from. strong: with an NVIDIA GPU; lite: without one; paper: the paper's Table I;
            video: S3D from Kinetics weights; video-strong: MViTv2-S, on a GPU. By default strong or lite, by the
            machine; with another --algorithm than two-stream, the defaults of its family.
        config: TOML file with fields of TrainConfig; it overrides the preset, and flags override both.
        replace: train the stream again although the bundle already holds it.
        json: print the result as JSON.
    """
    from rgbflow.data.jpegs import open_store
    from rgbflow.data.splits import load_split
    from rgbflow.learn.train import train_stream

    merged = merge_settings(preset, stream, config, settings)
    data, parts = open_store(store), load_split(split)
    with track(f"training {stream}", "steps") as progress:
        result = train_stream(data, parts, stream, out, merged, progress, replace)
    best = f"epoch {result.best_epoch} was best" if result.best_epoch else "the frozen network was best"
    if 0 < result.trained_share < 1:
        best = f"{result.trained_share:.0%} of the way to epoch {result.best_epoch} was best"
    show(
        {
            "bundle": str(out),
            "stream": stream,
            "best_epoch": result.best_epoch,
            "trained_share": result.trained_share,
            "val_top1": result.val_top1,
            "probe_top1": result.probe_top1,
            "seconds": result.seconds,
            "resumed_epoch": result.resumed_epoch,
            "curve": result.curve,
        },
        json,
        "{bundle}: {stream} trained in {seconds:.0f} s; " + best + ", top-1 {val_top1:.1f} % on val",
    )
    return 0


def ablate(
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Annotated[tuple[Path, ...], Flag(metavar="PATH ...")],
    settings: AblateFlags,
    out: Path = Path("ablation"),
    parts: Annotated[tuple[str, ...], Flag(metavar="NAME ...")] = (),
    preset: Literal["strong", "lite"] | None = None,
    config: Annotated[Path | None, Flag(metavar="PATH")] = None,
    seeds: int = 1,
    snippets: int = NUM_SNIPPETS,
    jobs: int = 1,
    json: bool = False,
) -> int:
    """Train a recipe whole and without one part at a time, to show what each part is worth; a stopped run resumes.

    Args:
        store: prepared data set, or a folder in a published JPEG layout.
        split: one or more files from `rgbflow split`; every split is trained and tested.
        settings: any field of TrainConfig, for the whole recipe.
        out: folder for the bundles, and for ablation.html and ablation.json.
        parts: the parts to take away; all that the settings have, if none is named.
        preset: settings to start from. strong: with an NVIDIA GPU; lite: without one. By default the one for this
            machine.
        config: TOML file with fields of TrainConfig; it overrides the preset, and flags override both.
        seeds: number of trainings of each variant on each split.
        snippets: number of snippets per test clip and stream.
        jobs: number of trainings at a time, each with its share of the cores.
        json: print the result as JSON.
    """
    from rgbflow.learn.ablate import ablation_tasks, choose_parts, read_ablation
    from rgbflow.learn.tasks import free_devices, run_tasks

    check_positive(seeds=seeds, snippets=snippets, jobs=jobs)
    whole = merge_settings(preset, "rgb", config, settings)
    chosen = choose_parts(parts, whole)
    trainings, evaluations = ablation_tasks(store, split, seeds, out, whole, chosen, snippets)
    devices = free_devices(whole.device, jobs)
    run_tasks(trainings, devices, track)
    run_tasks(evaluations, devices, track)
    result = read_ablation(out, split, seeds, whole, chosen, snippets)
    result.save(out)
    show(asdict(result), True) if json else print_ablation(result, out)
    return 0
