"""The command that shows the whole road in minutes."""

from pathlib import Path

from rgbflow.commands.printing import print_evaluation, show
from rgbflow.commands.terminal import track


def demo(out: Path = Path("demo"), workers: int = 0, seed: int = 0, json: bool = False) -> int:
    """Make a small data set, train both streams on it and show what each of them recognises.

    Args:
        out: folder for everything the demo makes.
        workers: processes; 0 is one per core.
        seed: of the data set, the split and the training.
        json: print the figures as JSON.
    """
    from rgbflow.demo.run import run_demo
    from rgbflow.processes import usable_cores

    result = run_demo(out, workers or usable_cores(), seed, track)
    if json:
        show(result.as_dict(), True)
    else:
        print_evaluation(result.evaluation)
        print(result.summary())
    return 0
