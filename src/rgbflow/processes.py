"""Work shared among processes of this machine or of a cluster, with results in order."""

import logging
import multiprocessing
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from rgbflow.errors import InputError, first_line

RETRIES = 5  # of a task whose node died; a task that raises is not tried again
SECONDS_TO_ANSWER = 10.0  # for a machine of the cluster
WORKERS_PER_CORE = 4
TASKS_AHEAD = 4  # for each core of the cluster, so that none waits for a slow one
Item = TypeVar("Item")
Result = TypeVar("Result")


def is_first_process() -> bool:
    """Whether this process is the first, or the only one, of those that torchrun, SLURM or Lightning started.

    The first process prints and writes; the others only compute.
    """
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def usable_cores() -> int:
    """Number of cores that this process may use; in many containers fewer than the machine has."""
    from joblib import cpu_count

    return cpu_count()


def check_workers(workers: int) -> None:
    """Refuse more worker processes than the machine's memory may hold; each has libraries of its own in memory.

    Raises:
        InputError: if there are more than `WORKERS_PER_CORE` for each core.
    """
    most = WORKERS_PER_CORE * max(2, usable_cores())
    if workers > most:
        raise InputError(
            f"workers ({workers}) must be at most {most} on this machine, {WORKERS_PER_CORE} for each core: lower it"
        )


def map_in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    instead: Callable[[Item], Result] | None = None,
) -> Iterator[Result]:
    """`map` in this process for one worker, else in a pool of worker processes.

    Args:
        function: importable.
        items: any number of items.
        workers: number of processes, see `check_workers`.
        instead: gives the result for an item that killed its process when it was alone in it; None gives up.

    Raises:
        InputError: if a process dies, for example for lack of memory, and `instead` is None.
    """
    if workers == 1:
        yield from map(function, items)
        return
    left = deque(items)
    while left:
        try:
            for result in _in_pool(function, list(left), workers):
                left.popleft()
                yield result
        except BrokenProcessPool as error:
            if instead is None:
                raise InputError(
                    "a worker process died, perhaps for lack of memory: run it again with fewer --workers to resume"
                ) from error
            yield _alone(function, left.popleft(), instead)  # one of the first that are left has done it


def _in_pool(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    # Spawned, not forked: a fork of a process with running threads (torch, OpenCV) may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)


def _alone(function: Callable[[Item], Result], item: Item, instead: Callable[[Item], Result]) -> Result:
    try:
        (result,) = _in_pool(function, [item], workers=1)
        return result
    except BrokenProcessPool:
        return instead(item)


def map_on_cluster(function: Callable[[Item], Result], items: Iterable[Item], address: str) -> Iterator[Result]:
    """`map` on a Ray cluster, with one task and one core per item; if a node dies, its tasks run again elsewhere.

    The call connects to the cluster at once; the work begins with the request for the first result.

    Args:
        function: importable on every node; it may run twice for an item.
        items: any number of items.
        address: as `ray.init` takes it: "auto" on one of the cluster's machines, "host:6379" or "ray://host:10001".

    Raises:
        InputError: if Ray isn't installed, the cluster can't be reached, or a task's nodes die again and again.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError(
            "--cluster needs Ray: pip install 'rgbflow[cluster]' on every machine of the cluster"
        ) from error
    _check_reachable(address)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(
            f"--cluster {address} can't be reached ({first_line(error)}): start one by `ray start`"
        ) from error
    return _map_by_ray(function, items, address)


def _check_reachable(address: str) -> None:
    """Refuse an address at which nobody listens; Ray would try it for more than a minute."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal() and int(port) < 1 << 16):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise InputError(f"--cluster {address} can't be reached ({error}): start one by `ray start`") from error


def _map_by_ray(function: Callable[[Item], Result], items: Iterable[Item], address: str) -> Iterator[Result]:
    import ray

    try:
        yield from _in_order(function, items)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise InputError(
            f"--cluster {address} failed ({first_line(error)}): run the command again to resume"
        ) from error
    finally:
        ray.shutdown()


def _in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    import ray

    apply: Callable[[Callable[[Item], Result], Item], Result] = _apply
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(apply)
    ahead = TASKS_AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting: deque = deque()
    for item in items:
        waiting.append(task.remote(function, item))
        if len(waiting) >= ahead:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())


def _apply(function: Callable[[Item], Result], item: Item) -> Result:
    return function(item)
