"""Both streams trained at the same time: with small networks, two processes use two cores better than two threads."""

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.train import train_stream
from rgbflow.processes import usable_cores
from rgbflow.progress import Progress, Track
from rgbflow.stream import Stream


@dataclass(frozen=True)
class Job:
    """The streams of one bundle to train, from one store and split, with the same settings."""

    store: Path
    split: Path
    bundle: Path
    config: TrainConfig

    def train(self, stream: Stream, progress: Progress) -> None:
        """Train one stream in this process."""
        store, split = Store(self.store), load_split(self.split)
        train_stream(store, split, stream, self.bundle, self.config, progress)


def train_one_by_one(job: Job, streams: Sequence[Stream], track: Track) -> None:
    """Train the streams in this process."""
    for stream in streams:
        with track(f"training {stream}", "steps") as progress:
            job.train(stream, progress)


def train_side_by_side(job: Job, streams: Sequence[Stream], track: Track) -> None:
    """Train each stream in its own process, with its share of the cores. The processes end with this one.

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
        with track("training", "steps") as progress:
            _pass_on(news, progress)
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


class _Sender:
    """Sends the progress of a training to the process that shows it: steps done, all steps, a note; or a line."""

    def __init__(self, news: Connection):
        self._news = news

    def update(self, done: int, total: int, note: str = "") -> None:
        self.send((done, total, note))

    def report(self, line: str) -> None:
        self.send(line)

    def send(self, message: object) -> None:
        try:
            self._news.send(message)
        except BrokenPipeError:  # the process that shows it was killed
            os._exit(1)


def _train_alone(job: Job, stream: Stream, threads: int, news: Connection) -> None:
    """Train, and send the progress, then None at the end, or the error."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which ends this process
    torch.set_num_threads(threads)
    sender = _Sender(news)
    try:
        job.train(stream, sender)
        sender.send(None)
    except InputError as error:
        sender.send(error)


def _pass_on(news: Mapping[Stream, Connection], progress: Progress) -> None:
    """Report the progress of all trainings together until each has ended.

    Raises:
        InputError: if a training fails, or its process dies.
    """
    steps: dict[Stream, tuple[int, int]] = {}
    notes: dict[Stream, str] = {}
    waiting = dict(news)
    while waiting:
        for stream in [stream for stream, end in waiting.items() if end in wait(waiting.values())]:
            message = _receive(stream, waiting[stream])
            if message is None:
                del waiting[stream]
            elif isinstance(message, str):
                progress.report(f"{stream}: {message}")
            else:
                done, total, note = message
                steps[stream], notes[stream] = (done, total), f"{stream} {note}" if note else ""
                done, total = map(sum, zip(*steps.values(), strict=True))
                progress.update(done, total, "; ".join(filter(None, notes.values())))


def _receive(stream: Stream, news: Connection) -> tuple[int, int, str] | str | None:
    try:
        message = news.recv()
    except EOFError as error:
        raise InputError(
            f"the training of {stream} died, perhaps for lack of memory: run the command with --workers 1 to resume"
        ) from error
    if isinstance(message, InputError):
        raise message
    return message
