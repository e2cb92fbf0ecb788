"""The command that runs every step, from videos to a label, in minutes."""

from pathlib import Path

from rgbflow.commands.printing import print_evaluation, show
from rgbflow.commands.terminal import track
from rgbflow.shown import say


def demo(out: Path = Path("demo"), workers: int = 0, seed: int = 0, json: bool = False) -> int:
    """Make a small data set, train both streams on it and show what each stream recognises.

    Args:
        out: folder for everything the demo makes.
        workers: number of processes; 0 means one per core.
        seed: seed of the data set, the split and the training.
        json: print the figures as JSON.
    """
    from rgbflow.demo import run
    from rgbflow.processes import usable_cores

    result = run.run_demo(out, workers or usable_cores(), seed, run.PLAN, track)
    if json:
        show(result.as_dict(), True)
    else:
        print_evaluation(result.evaluation)
        for line in result.summary().splitlines():
            say(line)
    return 0
