"""Both streams trained at the same time: small networks use two cores better by a process each than by two threads."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.train import train
from rgbflow.processes import usable_cores
from rgbflow.progress import track
from rgbflow.stream import Stream


@dataclass(frozen=True)
class Job:
    """What is trained: the streams of one bundle, from one store and split, with the same settings."""

    store: Path
    split: Path
    bundle: Path
    config: TrainConfig

    def train(self, stream: Stream, on_step: Callable[[int, int, str], None]) -> None:
        """Train one stream in this process."""
        store, split = Store(self.store), load_split(self.split)
        train(store, split, stream, self.bundle, self.config, lambda line: None, on_step)


def train_one_by_one(job: Job, streams: Sequence[Stream]) -> None:
    """Train the streams in this process."""
    for stream in streams:
        with track(f"training {stream}", None, "steps") as tracker:
            job.train(stream, tracker.set)


def train_side_by_side(job: Job, streams: Sequence[Stream]) -> None:
    """Train each stream in a process of its own, with its share of the cores. The processes end with this one.

    Raises:
        InputError: if a training fails.
    """
    # Spawned, not forked: a fork of a process with running threads (torch, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    threads = max(1, usable_cores() // max(1, len(streams)))
    processes, news = {}, {}
    for stream in streams:
        news[stream], end = context.Pipe(duplex=False)
        processes[stream] = context.Process(target=_train_alone, args=(job, stream, threads, end), daemon=True)
        processes[stream].start()
        end.close()  # the process has its own; when that one is closed, the news have ended
    try:
        _show(news)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


def _train_alone(job: Job, stream: Stream, threads: int, news: Connection) -> None:
    """Train, and send (steps done, all steps, a note) after each step, True at the end, or the text of an error."""
    import torch

    def send(message: tuple[int, int, str] | bool | str) -> None:
        try:
            news.send(message)
        except BrokenPipeError:  # the parent was killed
            os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    torch.set_num_threads(threads)
    try:
        job.train(stream, lambda *step: send(step))
        send(True)
    except InputError as error:
        send(str(error))


def _show(news: dict[Stream, Connection]) -> None:
    """Show how far the trainings are, until all have ended.

    Raises:
        InputError: if one fails, or ends before its end.
    """
    steps, notes, note, waiting = {}, {}, "", dict(news)
    with track("training", None, "steps") as tracker:
        while waiting:
            for stream in [stream for stream, end in waiting.items() if end in wait(waiting.values())]:
                message = _receive(stream, waiting[stream])
                if message is True:
                    del waiting[stream]
                    continue
                done, total, told = message
                steps[stream] = done, total
                if notes.get(stream, "") != told:
                    notes[stream], note = told, f"{stream} {told}"
                tracker.set(*map(sum, zip(*steps.values(), strict=True)), note)


def _receive(stream: Stream, news: Connection) -> tuple[int, int, str] | bool:
    try:
        message = news.recv()
    except EOFError as error:
        raise InputError(
            f"the training of {stream} died, perhaps for lack of memory: the same command with --workers 1 goes on"
        ) from error
    if isinstance(message, str):
        raise InputError(message)
    return message
