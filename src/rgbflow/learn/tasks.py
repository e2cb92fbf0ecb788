"""The trainings and evaluations behind a figure or a table: each runs once, on the next free device."""

import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from rgbflow.bundle import RECORD, Bundle, load_bundle
from rgbflow.data.jpegs import open_store
from rgbflow.data.splits import load_split
from rgbflow.errors import InputError
from rgbflow.learn.config import NOT_USED, RESULT_NEUTRAL, TrainConfig
from rgbflow.learn.curve import read_curve
from rgbflow.learn.evaluate import evaluate_recognizer, record_figures
from rgbflow.learn.train import train_stream
from rgbflow.progress import Track, untracked
from rgbflow.recognizer import Recognizer
from rgbflow.shown import say
from rgbflow.stream import Stream

SCORES = "scores.npz"
# Settings that older bundles do not record, with the values that they were trained with, where these are not today's
# default.
OF_OLDER = {"probe": False}


@dataclass(frozen=True)
class Training:
    """One stream trained into a bundle.

    Attributes:
        name: name in messages, such as "two-stream rgb, run 1".
        store: folder of the data set.
        split: file of the split.
        stream: the stream to train.
        folder: the bundle.
        config: the settings.
        test_curve: whether the test part is measured after each epoch.
    """

    name: str
    store: Path
    split: Path
    stream: Stream
    folder: Path
    config: TrainConfig
    test_curve: bool = False

    def is_done(self) -> bool:
        """Whether the bundle already holds the stream, trained with these settings.

        Raises:
            InputError: if it was trained with other settings.
        """
        bundle = _bundle_at(self.folder)
        if not bundle or self.stream not in bundle.streams:
            return False
        trained = {**asdict(TrainConfig()), **OF_OLDER, **bundle.origin[self.stream]["config"]}
        wanted = asdict(self.config)
        may_differ = (*RESULT_NEUTRAL, *NOT_USED[self.stream])
        other = [name for name in wanted if name not in may_differ and trained.get(name) != wanted[name]]
        if bundle.split.get("sha256") != load_split(self.split).sha256:
            other.append("split")
        if bundle.preparation != open_store(self.store).preparation:
            other.append("preparation")
        if self.test_curve and "test_top1" not in next(iter(read_curve(self.folder, self.stream)), {}):
            other.append("curve of the test part")
        if other:
            raise InputError(f"{self.folder} was trained with another {other[0]}: choose another --out, or delete it")
        return True

    def run(self, device: str, track: Track = untracked) -> None:
        """Train, resuming an earlier run."""
        config = replace(self.config, device=device)
        store, split = open_store(self.store), load_split(self.split)
        with track(self.name, "steps") as progress:
            train_stream(store, split, self.stream, self.folder, config, progress, test_curve=self.test_curve)


@dataclass(frozen=True)
class Evaluating:
    """A bundle measured on the test part of its split; the scores go to a file in it.

    Attributes:
        name, store, split, folder: see `Training`.
        snippets: snippets of each clip and stream.
    """

    name: str
    store: Path
    split: Path
    folder: Path
    snippets: int

    @property
    def scores(self) -> Path:
        """The file with the scores."""
        return self.folder / SCORES

    def is_done(self) -> bool:
        """Whether the scores exist, from as many snippets; training a stream again deletes them from the bundle."""
        bundle = _bundle_at(self.folder)
        measured = bundle.measured.get("test", {}) if bundle else {}
        return self.scores.is_file() and measured.get("snippets") == self.snippets

    def run(self, device: str, track: Track = untracked) -> None:
        """Measure."""
        store, split = open_store(self.store), load_split(self.split)
        recognizer = Recognizer.load(self.folder, device, "torch")
        with track(f"{self.name}: test", "clips") as progress:
            evaluation = evaluate_recognizer(recognizer, store, split, num_snippets=self.snippets, progress=progress)
        evaluation.save_scores(self.scores)
        record_figures(self.folder, recognizer.bundle, evaluation)


Task = Training | Evaluating


def free_devices(device: str, jobs: int = 1) -> list[str]:
    """The devices for parallel tasks: every GPU for "auto" and "cuda", else the named device.

    Each device takes `jobs` tasks at a time, each in its own process with its share of the cores.
    """
    if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())] * jobs
    return [device] * jobs


def run_tasks(tasks: Sequence[Task], devices: Sequence[str], track: Track = untracked) -> None:
    """Run the tasks that are not done: in this process for one device, else each in its own process.

    Args:
        tasks: tasks of any kinds.
        devices: from `free_devices`.
        track: shows the progress of a task; a function that other processes can import.

    Raises:
        InputError: if a task fails, or was done with other settings.
    """
    missing = [task for task in tasks if not task.is_done()]
    if len(devices) == 1:
        for task in missing:
            task.run(devices[0], track)
        return
    free: queue.SimpleQueue[str] = queue.SimpleQueue()
    for device in devices:
        free.put(device)

    def run(task: Task) -> None:
        device = free.get()
        arguments = (task, device, track, max(1, torch.get_num_threads() // len(devices)))
        process = multiprocessing.get_context("spawn").Process(target=_run_as_child, args=arguments)
        process.start()
        process.join()
        free.put(device)
        if process.exitcode:
            raise InputError(f"{task.name} failed on {device} with exit code {process.exitcode}: see above")

    with ThreadPoolExecutor(len(devices)) as pool:
        try:
            list(pool.map(run, missing))
        finally:
            pool.shutdown(cancel_futures=True)


def _run_as_child(task: Task, device: str, track: Track, threads: int) -> None:
    """Run a task in a process that ends with its parent, even if that one is killed."""

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        task.run(device, track)
    except InputError as error:
        say(f"rgbflow: {task.name}: {error}", file=sys.stderr)
        sys.exit(1)


def _bundle_at(folder: Path) -> Bundle | None:
    return load_bundle(folder) if (folder / RECORD).is_file() else None
