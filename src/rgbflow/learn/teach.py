"""Your own actions from a handful of takes: frozen networks, and a classifier that is fitted in under a second."""

import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from rgbflow.atomic import replace_folder
from rgbflow.bundle import LOCK, RECORD, load_bundle, save_stream
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.layouts import check_utf8
from rgbflow.data.lists import Part
from rgbflow.data.splits import Split
from rgbflow.errors import InputError
from rgbflow.learn.added import (
    OldClips,
    added_bundle,
    beside,
    has_classes_to_keep,
    measure_old,
    read_old,
    report_beside,
    with_old,
)
from rgbflow.learn.few_takes import fit_examples
from rgbflow.learn.lesson import PROTOCOL, Lesson, TeachReport, make_report
from rgbflow.learn.probe import with_head
from rgbflow.learn.start import IMAGENET, imagenet_start
from rgbflow.learn.takes import (
    REMOVED,
    FeatureCache,
    Take,
    check_group,
    check_name,
    free_path,
    keep_group,
    keep_take,
    read_takes,
    recordings_in,
)
from rgbflow.networks.torch_engine import TorchEngine
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.recognizer import Recognizer
from rgbflow.video.reading import Frame

SECONDS_BETWEEN_LOOKS = 0.5
State = tuple[tuple[Take, int, int], ...]


class Teacher:
    """Teaches a recogniser your own actions, from takes that it keeps in a folder. Any thread may call it.

    A take's features are computed once, when it comes, and kept beside it; `fit` then takes less than a second.

    Args:
        base: whose networks are used as they are: a recogniser run by torch, a bundle's folder or hub id, or
            "imagenet" for networks that have learned no action yet (`start.imagenet_start`).
        takes: folder of class folders, `<action>/<take>.mp4`; made if missing. A class folder "none" or "background"
            holds recordings of none of the actions. None is a temporary folder that goes with the teacher.
        idle: a folder of further recordings of none of the actions, of any length.
        device: for the networks, where base is a name.
        keep: the store and the split that the base was trained on, to keep its classes beside the new ones: the new
            ones learn from its val part what they are not, and its test part says what the old ones lose.

    Raises:
        InputError: if the base can't be loaded or taught, or a folder can't be read.
    """

    def __init__(
        self,
        base: Recognizer | str | Path,
        takes: str | Path | None = None,
        idle: str | Path | None = None,
        device: str = "auto",
        keep: tuple[AnyStore, Split] | None = None,
    ):
        self.base = base if isinstance(base, Recognizer) else load_base(base, device)
        if keep is not None and not (isinstance(keep, tuple) and len(keep) == 2 and isinstance(keep[1], Split)):
            raise InputError(f"keep ({type(keep).__name__}) must be an opened data set and a loaded split, or None")
        if not isinstance(self.base.engine, TorchEngine):
            raise InputError(f"{self.base.engine.name} can't be taught: load the bundle with the engine torch")
        self._engine = self.base.engine
        if takes is None:
            takes = tempfile.mkdtemp(prefix="rgbflow-takes-")
            weakref.finalize(self, shutil.rmtree, takes, ignore_errors=True)
        self.folder = _made_folder(takes)
        self._idle = [] if idle is None else recordings_in(_folder("idle", idle))
        self._features = FeatureCache(self.folder, self.base)
        self._changing, self._fitting = threading.RLock(), threading.Lock()
        self._report: TeachReport | None = None
        self._keep = keep
        self._old: tuple[OldClips, OldClips] | None = None

    @property
    def takes(self) -> tuple[Take, ...]:
        """What lies in the folder now, sorted by action and name; recordings of no action too."""
        with self._changing:
            return tuple(read_takes(self.folder))

    def state(self) -> State:
        """What lies in the folder now, with the size and the time of each file, and who is in it."""
        found = []
        for take in (*self.takes, *self._idle):
            with suppress(OSError):  # gone since the folder was read
                status = take.path.stat()
                found.append((take, status.st_size, status.st_mtime_ns))
        return tuple(found)

    @property
    def report(self) -> TeachReport | None:
        """Of the last `fit`; None before."""
        return self._report

    def add(
        self,
        name: str,
        video: str | Path | np.ndarray | Sequence[Frame],
        frames_per_second: float = 25.0,
        group: str = "",
    ) -> Take:
        """Take in a take and compute its features.

        Args:
            name: of the action; "none" for a recording of no action.
            video: a file, which is copied into the folder; pixels (T, H, W, 3) uint8 RGB; or frames with their times.
            frames_per_second: of pixels.
            group: the person or place, so that figures can leave all takes of one out together.

        Raises:
            InputError: if the video can't be read or is too short; nothing is kept then.
        """
        source = Path(video) if isinstance(video, str | Path) else video
        check_group(group)
        with self._changing:
            path = keep_take(self.folder, name, source, frames_per_second)
        take = Take(name, path, group)
        try:
            if group:
                with self._changing:
                    keep_group(self.folder, path, group)
            self._features.of(take)
        except InputError:
            if not isinstance(source, Path) or path != source:
                path.unlink(missing_ok=True)
            raise
        return take

    def remove(self, take: Take) -> None:
        """Take a take out; `restore` brings it back.

        Raises:
            InputError: if it is no take of this folder, or gone already.
        """
        kept, removed = self._places(take)
        with self._changing:
            self._move(kept, removed)

    def restore(self, take: Take) -> None:
        """Bring a removed take back.

        Raises:
            InputError: if it is no take of this folder, or not removed.
        """
        kept, removed = self._places(take)
        with self._changing:
            self._move(removed, kept)

    def rename(self, name: str, new_name: str) -> None:
        """Give an action another name; where there is one of that name, it gets the takes.

        Raises:
            InputError: if there is no such action, or the new name can't be a folder's.
        """
        check_name(new_name)
        with self._changing:
            takes = [take for take in self.takes if take.name == name]
            if not takes:
                taught = ", ".join(sorted({take.name for take in self.takes})) or "nothing"
                raise InputError(f"action {name!r} has no takes: there are takes of {taught}")
            for take in takes:
                path = self.folder / new_name / take.path.name
                path = free_path(path.parent, path.suffix) if path.exists() else path
                self._move(take.path, path)
                if take.group:
                    keep_group(self.folder, path, take.group)

    def fit(self, progress: Progress = SILENT) -> Recognizer:
        """Teach what lies in the folder now; `report` then says how it went.

        Args:
            progress: a step is a take whose features are read or, the first time, computed.

        Raises:
            InputError: if there are fewer than two actions, or one and no recording of none.
        """
        with self._fitting:
            return self._fit(progress)

    def save(self, recognizer: Recognizer, out: str | Path) -> None:
        """Write what `fit` gave as a bundle; at any moment `out` holds the former bundle, or the new one, whole.

        Raises:
            InputError: if `out` holds something else than a taught bundle, or can't be written.
        """
        if not isinstance(recognizer, Recognizer):
            raise InputError(f"recognizer ({type(recognizer).__name__}) must be one that `fit` gave")
        save_taught(recognizer, Path(out))

    def _places(self, take: Take) -> tuple[Path, Path]:
        """Where a take lies, and where it lies when it is removed: never outside the folder of the takes."""
        if not isinstance(take, Take):
            raise InputError(f"take ({type(take).__name__}) must be one of `takes`")
        kept = self.folder / take.name / take.path.name
        if take.path != kept or take.name == ".." or Path(take.name).name != take.name:
            raise InputError(f"take {take.path} is not in {self.folder / take.name}: give one of `takes`")
        return kept, self.folder / REMOVED / take.name / take.path.name

    def _move(self, path: Path, target: Path) -> None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        except OSError as error:
            raise InputError(f"take {path} can't be moved ({error.strerror}): it may be gone already") from error

    def _fit(self, progress: Progress) -> Recognizer:
        if self._keep is not None and self._old is None:
            parts: tuple[Part, Part] = ("val", "test")
            val, test = (read_old(self.base, *self._keep, part, progress) for part in parts)
            self._old = val, test
        lesson = self._lesson(progress)
        began = time.perf_counter()
        lesson.check(self._old is not None)
        examples = lesson.examples()
        if self._old is None:
            fit = fit_examples(examples)
            heads, bundle = fit.heads, lesson.bundle(self.base.bundle, fit)
            self._report = make_report(lesson, examples, fit, time.perf_counter() - began)
        else:
            val, test = self._old
            examples = with_old(examples, val)
            fit = fit_examples(examples)
            bundle = added_bundle(self.base.bundle, lesson, fit)
            heads = beside(self._engine.networks, examples, fit, len(val.labels))
            report = make_report(lesson, examples, fit, time.perf_counter() - began)
            report = report_beside(report, bundle, heads, examples, fit)
            self._report = replace(report, old=measure_old(self.base, bundle, heads, test))
        networks = {stream: with_head(network, heads[stream]) for stream, network in self._engine.networks.items()}
        return Recognizer(bundle, self._engine.with_networks(networks))

    def _lesson(self, progress: Progress) -> Lesson:
        """The takes that can be used, each file once, and a note on every other one."""
        takes, features, notes = [], [], []
        if self._keep is None and has_classes_to_keep(self.base.bundle):
            count = len(self.base.bundle.classes)
            notes.append(f"the bundle's {count} classes are left out: `rgbflow teach --keep` keeps them")
        first: dict[str, Take] = {}
        found = [*self.takes, *self._idle]
        for take in counted(found, len(found), progress):
            try:
                check_utf8(take.path)
                one = self._features.of(take)
            except InputError as error:
                notes.append(f"{take.name}/{take.path.name} was set aside: {error}")
                continue
            twin = first.setdefault(one.sha256, take)
            if twin is not take:
                notes.append(f"{take.name}/{take.path.name} was set aside: it is the same file as {twin.path}")
                continue
            takes.append(take)
            features.append(one)
        return Lesson(tuple(takes), tuple(features), self._features.of_drawn(), tuple(notes))


def follow_takes(
    teacher: Teacher,
    out: Path,
    told: Callable[[TeachReport], None],
    report: Callable[[str], None],
    is_over: Callable[[], bool] = lambda: False,
    progress: Progress = SILENT,
) -> None:
    """Teach again and again: whenever a take comes, changes or goes, once no file has changed for a moment.

    Args:
        teacher: whose folder is looked at.
        out: gets the bundle, see `Teacher.save`; where a fit fails, the former one stays there.
        told: gets the report of each fit.
        report: gets a line when a fit fails.
        is_over: asked between two looks; true ends it.
        progress: of each fit.
    """
    taught: State | None = None
    before: State | None = None
    trouble = ""
    while not is_over():
        try:
            found = teacher.state()
            if found != before:  # a file may still be written
                before = found
            elif found != taught:
                taught = found
                teacher.save(teacher.fit(progress), out)
                if teacher.report is not None:
                    told(teacher.report)
            trouble = ""
        except InputError as error:
            if str(error) != trouble:
                trouble = str(error)
                report(f"the takes are not taught, and a former bundle stays: {error}")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _folder(name: str, given: object) -> Path:
    if not isinstance(given, str | Path) or not str(given) or "\0" in str(given):
        raise InputError(f"{name} ({given!r:.60}) must be a folder's name")
    return Path(given)


def _made_folder(given: object) -> Path:
    folder = _folder("takes", given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"folder {folder} can't be made ({error.strerror}): choose another for the takes") from error
    return folder


def load_base(name: str | Path, device: str = "auto") -> Recognizer:
    """The recogniser of a name as `Teacher` takes it, run by torch."""
    return imagenet_start(device) if str(name) == IMAGENET else Recognizer.load(name, device, "torch")


def save_taught(recognizer: Recognizer, out: Path) -> None:
    """Write a taught recogniser as a bundle, in the place of a former one.

    A folder of another name is filled first and then takes the place (`atomic.replace_folder`); a run that is killed
    leaves that folder behind, and the next one removes it.

    Raises:
        InputError: if `out` holds something that no teacher made, or can't be written.
    """
    if out.exists() and not _is_taught(out):
        raise InputError(f"{out} holds something that `rgbflow teach` did not make: choose another --out")
    bundle = recognizer.bundle
    new = out.with_name(f".{out.name}.new")
    try:
        shutil.rmtree(new, ignore_errors=True)
        for stream, network in recognizer.engine.networks.items():
            save_stream(new, bundle, stream, network.state_dict())
        (new / LOCK).unlink(missing_ok=True)
        replace_folder(new, out)
    except OSError as error:
        raise InputError(f"{out} can't be written ({error.strerror}): free space or choose another folder") from error


def _is_taught(folder: Path) -> bool:
    return (folder / RECORD).is_file() and load_bundle(folder).split.get("protocol") == PROTOCOL
