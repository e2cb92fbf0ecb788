"""The command that runs the paper's figure and table."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from rgbflow.commands.flags import Flag, Positional, check_positive
from rgbflow.commands.printing import print_fig4, print_plan, print_table2, show
from rgbflow.commands.terminal import track
from rgbflow.errors import InputError
from rgbflow.paper.presets import Scale
from rgbflow.stream import NUM_SNIPPETS, STREAMS


def paper(
    what: Annotated[Literal["fig4", "table2"], Positional, Flag(metavar="fig4|table2")],
    store: Annotated[Path, Positional, Flag(metavar="STORE")],
    split: Annotated[tuple[Path, ...], Flag(metavar="PATH ...")],
    scale: Annotated[Scale, Flag(name="")],
    out: Path = Path("paper"),
    seeds: int = 1,
    snippets: Annotated[
        int | None, Flag(help=f"snippets per test clip and stream, {NUM_SNIPPETS} if not given; for table2.")
    ] = None,
    stream: Literal["rgb", "flow", "both"] = "both",
    also: Annotated[str, Flag(metavar="NAME,...")] = "",
    plan: bool = False,
    json: bool = False,
) -> int:
    """Reproduce Figure 4 (optimizers) or Table II (algorithms) of the paper; a stopped run resumes when started again.

    Args:
        what: what to reproduce, fig4 or table2.
        store: prepared data set, or a folder in a published JPEG layout; for --plan, UCF101's lists are enough.
        split: one or more files from `rgbflow split`; every split is trained and tested.
        scale: changes to the paper's settings.
        out: folder for the bundles, and for fig4.png and fig4.json, or table2.html and table2.json.
        seeds: number of trainings of each network on each split.
        snippets: snippets per test clip and stream, NUM_SNIPPETS if not given; for table2.
        stream: the stream to train, or both; for fig4.
        also: video networks to add to table2, such as s3d,i3d,r2plus1d_18.
        plan: train nothing; measure a few steps on this machine and print the estimated images, hours and gigabytes.
        json: print the result as JSON.
    """
    from rgbflow.learn.tasks import Evaluating, free_devices, run_tasks
    from rgbflow.paper.fig4 import fig4_tasks, read_fig4
    from rgbflow.paper.plan import make_plan
    from rgbflow.paper.table2 import read_table2, table2_tasks

    check_positive(seeds=seeds, snippets=snippets)
    if what == "table2" and stream != "both":
        raise InputError(f"--stream {stream} is for fig4: table2 compares both streams")
    if what == "fig4" and (snippets or scale.c3d_backbone or scale.c3d_input_size):
        raise InputError("--snippets, --c3d-backbone and --c3d-input-size are for table2: leave them out")
    if what == "fig4" and also:
        raise InputError(f"--also {also} is for table2: leave it out")
    added = tuple(dict.fromkeys(name.strip() for name in also.split(",") if name.strip()))
    streams = STREAMS if stream == "both" else (stream,)
    evaluations: list[Evaluating] = []
    if what == "fig4":
        trainings = fig4_tasks(store, split, seeds, out, scale, streams)
    else:
        trainings, evaluations = table2_tasks(store, split, seeds, out, scale, snippets or NUM_SNIPPETS, added)
    if plan:
        with track("measuring", "trainings") as progress:
            made = make_plan(trainings, evaluations, scale.device, progress=progress)
        show(made.as_dict(), True) if json else print_plan(made)
        return 0
    devices = free_devices(scale.device)
    run_tasks(trainings, devices, track)
    run_tasks(evaluations, devices, track)
    if what == "fig4":
        figure4 = read_fig4(out, split, seeds, scale, streams)
        figure4.save(out)
        show(asdict(figure4), True) if json else print_fig4(figure4, out)
    else:
        table2 = read_table2(out, split, seeds, scale, snippets or NUM_SNIPPETS, added)
        table2.save(out)
        show(asdict(table2), True) if json else print_table2(table2, out)
    return 0
