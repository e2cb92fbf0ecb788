"""Actions taught over HTTP: takes come and go, a fit makes networks of them, and the service goes on with these."""

import asyncio
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from rgbflow.errors import InputError
from rgbflow.guard import decode_guarded
from rgbflow.learn.probe import classifier_of
from rgbflow.learn.takes import Take, read_takes
from rgbflow.learn.teach import Teacher, save_taught
from rgbflow.networks.loading import engine_of_taught
from rgbflow.recognizer import Recognizer
from rgbflow.serve.protocol import Source
from rgbflow.serve.service import BusyError, Networks, Service

MOST_TAKES = 1000
MOST_UNDOS = 100
TAUGHT = "taught"  # name of the bundle


class NothingError(Exception):
    """What a client asks for is not there."""


class Teaching:
    """A teacher at work for all clients of a service; what it does is done in one thread, in the order it was asked.

    Args:
        service: whose networks a fit replaces.
        base: whose networks are taught: a bundle's folder or hub id, or "imagenet". It is loaded when it is needed.
        source: of the base, as clients are told.
        takes: folder of the takes, which stay there; None is one that goes with the service.
        device: for the networks.
    """

    def __init__(self, service: Service, base: str, source: Source, takes: Path | None = None, device: str = "auto"):
        self._service, self.base, self._source, self._device = service, base, source, device
        self._temporary = None if takes else tempfile.TemporaryDirectory(prefix="rgbflow-takes-")
        self._folder = takes or Path(self._temporary.name if self._temporary else "")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._engine = service.networks.recognizer.engine if service.networks else None  # of the base
        self._teacher: Teacher | None = None
        self._taught: Recognizer | None = None
        self._undos: list[Callable[[], None]] = []
        self._is_fitting = self._is_current = False

    def state(self) -> dict[str, Any]:
        """What is there: the actions with their takes, the report of the last fit."""
        actions: dict[str, list[dict[str, str]]] = {}
        for take in read_takes(self._folder):
            actions.setdefault(take.name, []).append({"id": take.path.name, "group": take.group})
        report = self._teacher.report if self._teacher else None
        return {
            "base": self.base,
            "actions": [{"name": name, "takes": takes} for name, takes in actions.items()],
            "report": None if report is None else {**report.as_dict(), "lines": report.lines()},
            "is_fitting": self._is_fitting,
            "is_current": self._is_current,
            "can_undo": bool(self._undos),
        }

    async def add(self, name: str, video: Path) -> dict[str, Any]:
        """Take in a take.

        Raises:
            InputError: if the action's name or the video can't be used.
        """
        return await self._change(self._add, name, video)

    async def remove(self, name: str, identity: str | None = None) -> dict[str, Any]:
        """Remove a take, or an action with all its takes.

        Raises:
            NothingError: if it is not there.
        """
        return await self._change(self._remove, name, identity)

    async def rename(self, name: str, new_name: str) -> dict[str, Any]:
        """Give an action another name.

        Raises:
            NothingError: if there is no such action.
            InputError: if there is one of the new name, or it can't be a name.
        """
        return await self._change(self._rename, name, new_name)

    async def undo(self) -> dict[str, Any]:
        """Take back the last change.

        Raises:
            NothingError: if there is none.
        """
        return await self._change(self._undo)

    async def begin(self, report: Callable[[str], None]) -> None:
        """Teach the takes that are there at the start, if there are any; a line to `report` where they are too few."""
        try:
            if await asyncio.to_thread(read_takes, self._folder):
                await self.fit()
        except InputError as error:
            report(f"the takes are not taught: {error}")

    async def fit(self) -> dict[str, Any]:
        """Teach what is there; the service goes on with the networks that come of it.

        Raises:
            BusyError: if that is going on already.
            InputError: if there are too few takes.
        """
        if self._is_fitting:
            raise BusyError("a fit is going on: wait for it")
        self._is_fitting = True
        try:
            self._taught, networks = await self._service.work(self._fit)
            self._is_current = True
            await self._service.replace(networks)
        finally:
            self._is_fitting = False
        return await asyncio.to_thread(self.state)

    @asynccontextmanager
    async def bundle(self) -> AsyncIterator[Path]:
        """The taught bundle as a ZIP file, for as long as it is needed.

        Raises:
            NothingError: if nothing is taught.
        """
        if self._taught is None:
            raise NothingError("nothing is taught yet: record takes of two actions and fit")
        with tempfile.TemporaryDirectory(prefix="rgbflow-") as folder:
            yield await asyncio.to_thread(_zipped, self._taught, Path(folder))

    def close(self) -> None:
        """Forget the takes, unless they have a folder of their own."""
        if self._temporary is not None:
            self._temporary.cleanup()

    async def _change(self, function: Callable[..., None], *arguments: object) -> dict[str, Any]:
        await self._service.work(function, *arguments)
        self._is_current = False
        return await asyncio.to_thread(self.state)

    def _loaded(self) -> Teacher:
        if self._teacher is None:
            self._teacher = Teacher(self.base, self._folder, device=self._device)
        return self._teacher

    def _fit(self) -> tuple[Recognizer, Networks]:
        """What is taught, and the networks for it: on the engine of the base where it gives the same scores."""
        taught = self._loaded().fit()
        engine, note = taught.engine, ""
        if self._engine is not None:
            layers = {stream: classifier_of(network) for stream, network in engine.networks.items()}
            classifiers = {stream: layer for stream, layer in layers.items() if layer is not None}
            engine, note = engine_of_taught(engine, classifiers, self._engine, taught.bundle)
        return taught, Networks(Recognizer(taught.bundle, engine), TAUGHT, self._source, note)

    def _add(self, name: str, video: Path) -> None:
        if len(read_takes(self._folder)) >= MOST_TAKES:
            raise InputError(f"there are {MOST_TAKES} takes, and no more are taken: remove some")
        teacher = self._loaded()
        decode_guarded(video, teacher.base.bundle.preparation, self._service.limits.allowance, "the take")
        take = teacher.add(name, video)
        self._remember(lambda: teacher.remove(take))

    def _remove(self, name: str, identity: str | None) -> None:
        teacher, takes = self._loaded(), self._takes_of(name, identity)
        for take in takes:
            teacher.remove(take)

        def restore() -> None:
            for take in takes:
                teacher.restore(take)

        self._remember(restore)

    def _rename(self, name: str, new_name: str) -> None:
        teacher = self._loaded()
        self._takes_of(name)
        if any(take.name == new_name for take in teacher.takes):
            raise InputError(f"there is an action {new_name!r} already: choose another name")
        teacher.rename(name, new_name)
        self._remember(lambda: teacher.rename(new_name, name))

    def _undo(self) -> None:
        if not self._undos:
            raise NothingError("there is nothing to take back")
        self._undos.pop()()

    def _takes_of(self, name: str, identity: str | None = None) -> list[Take]:
        takes = [take for take in self._loaded().takes if take.name == name and identity in (None, take.path.name)]
        if not takes:
            what = f"action {name!r}" if identity is None else f"take {identity!r} of {name!r}"
            raise NothingError(f"there is no {what}")
        return takes

    def _remember(self, undo: Callable[[], None]) -> None:
        self._undos.append(undo)
        del self._undos[:-MOST_UNDOS]


def _zipped(recognizer: Recognizer, folder: Path) -> Path:
    """The bundle of a recogniser, written into a folder and packed."""
    bundle, out = folder / TAUGHT, folder / f"{TAUGHT}.zip"
    save_taught(recognizer, bundle)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # weights don't shrink
        for path in sorted(bundle.rglob("*")):
            archive.write(path, Path(TAUGHT) / path.relative_to(bundle))
    shutil.rmtree(bundle)
    return out
