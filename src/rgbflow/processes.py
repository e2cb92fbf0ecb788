"""Work shared out among processes, with the results in order; and who is the first of many."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rgbflow.errors import InputError

Item, Result = TypeVar("Item"), TypeVar("Result")


def is_first_process() -> bool:
    """Whether this process is the first, or only one, of those that torchrun, SLURM or Lightning have started.

    The first one prints and writes; the others compute.
    """
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def map_in_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`map`, in this process for one worker, else in a pool of them.

    Raises:
        InputError: if a process dies, for lack of memory, say.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # Spawned, not forked: a fork of a process with running threads (torch, OpenCV) may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(function, items)
        except BrokenProcessPool as error:
            raise InputError(
                "a worker process died, perhaps for lack of memory: the same command with fewer --workers goes on"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
