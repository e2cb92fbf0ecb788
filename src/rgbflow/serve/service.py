"""The networks of the service: shared by all sessions, and replaceable while clients are connected."""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rgbflow.live.batching import SharedEngine
from rgbflow.live.events import Event, EventRules
from rgbflow.live.outlets import Outlet
from rgbflow.live.session import LiveRecognizer, Update
from rgbflow.recognizer import Recognizer
from rgbflow.serve.limits import Limits
from rgbflow.serve.metrics import Metrics
from rgbflow.serve.protocol import About, BundleInfo, FusionInfo, Source

# Sessions that ask the networks at the same time. The others wait their turn before they take their newest state, not
# after: however many there are, what the networks get is no older than the few that are ahead of it.
ASKING = 4
SILENCE_SECONDS = 5.0  # after which another client may speak to the outlets

Result = TypeVar("Result")


class BusyError(Exception):
    """The service is fully busy."""


@dataclass(frozen=True, eq=False)
class Networks:
    """A recogniser and the engine that all sessions share.

    Attributes:
        recognizer: the loaded recogniser.
        name: name of its bundle for clients.
        source: where the bundle came from: given by name, the demo's, or no training at all.
        note: why no faster engine runs them; empty where that needs no explanation.
    """

    recognizer: Recognizer
    name: str
    source: Source
    note: str = ""
    engine: SharedEngine = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "engine", SharedEngine(self.recognizer.engine, ASKING))

    @property
    def known(self) -> tuple[int, float | None]:
        """The number of classes and the threshold of "unknown", from which the usual event rules follow."""
        bundle = self.recognizer.bundle
        return len(bundle.classes), bundle.fusion.threshold

    def live(self, window_seconds: float, rules: EventRules) -> LiveRecognizer:
        """A recogniser of one client's camera."""
        return self.recognizer.live(window_seconds, None, rules, self.engine)


class Stage:
    """The outlets, and the client that uses them: one client at a time, the first with a result.

    Args:
        outlets: they get the messages of this client.
    """

    def __init__(self, outlets: Sequence[Outlet] = ()):
        self._outlets = tuple(outlets)
        self._speaker: object = None
        self._spoke = 0.0

    def send(self, speaker: object, update: Update) -> None:
        """Send an update of a client to the outlets; nothing is sent while another client uses them."""
        now = time.monotonic()
        if self._speaker is not speaker:
            if self._speaker is not None and now - self._spoke < SILENCE_SECONDS:
                return
            self.leave(self._speaker, ())
            self._speaker = speaker
        self._spoke = now
        for outlet in self._outlets:
            outlet.send(update)

    def leave(self, speaker: object, events: Iterable[Event]) -> None:
        """Release the outlets of a client that is gone, with the events that end with it."""
        if speaker is not None and self._speaker is speaker:
            self._speaker = None
            for outlet in self._outlets:
                outlet.send_events(events)

    def close(self) -> None:
        for outlet in self._outlets:
            outlet.close()


class Service:
    """The part of the service that all clients share.

    Its coroutines belong to one event loop; `close` may be called from any thread.

    Args:
        networks: the networks that answer; None while nothing is taught.
        limits: limits on what clients may ask.
        outlets: they get the messages of one of the clients.

    Attributes:
        networks: the networks that answer now.
        sessions: number of open sessions.
    """

    def __init__(self, networks: Networks | None, limits: Limits | None = None, outlets: Sequence[Outlet] = ()):
        self.networks, self.limits, self.metrics = networks, limits or Limits(), Metrics()
        self.sessions = 0
        self.stage = Stage(outlets)
        self._replaced = asyncio.Event()
        cores = os.cpu_count() or 1
        self._seeing = ThreadPoolExecutor(max(2, cores), "rgbflow-see")
        self._asking = ThreadPoolExecutor(ASKING, "rgbflow-ask")
        self._working = ThreadPoolExecutor(1, "rgbflow-work")
        self._uploads = 0

    @property
    def is_ready(self) -> bool:
        return self.networks is not None

    async def see(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a computation on a frame; as many at once as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(self._seeing, function, *arguments)

    async def ask(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a call that waits for the networks."""
        return await asyncio.get_running_loop().run_in_executor(self._asking, function, *arguments)

    async def work(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run a task that takes seconds; one at a time."""
        return await asyncio.get_running_loop().run_in_executor(self._working, function, *arguments)

    @contextmanager
    def upload(self) -> Iterator[Path]:
        """A temporary place for an uploaded video, deleted afterwards.

        Raises:
            BusyError: if too many uploads are in progress.
        """
        if self._uploads >= self.limits.uploads:
            raise BusyError(f"{self._uploads} uploads are in progress: try later")
        self._uploads += 1
        try:
            with tempfile.TemporaryDirectory(prefix="rgbflow-") as folder:
                yield Path(folder) / "video"
        finally:
            self._uploads -= 1

    async def replace(self, networks: Networks) -> None:
        """Replace the networks; open sessions are notified."""
        before, self.networks = self.networks, networks
        replaced, self._replaced = self._replaced, asyncio.Event()
        replaced.set()
        if before is not None:
            await asyncio.to_thread(before.engine.close)

    async def replacement(self, networks: Networks | None) -> None:
        """Wait until these networks are replaced."""
        while self.networks is networks:
            await self._replaced.wait()

    def about(self, networks: Networks | None) -> About:
        """The description of the networks for clients."""
        if networks is None:
            nothing = BundleInfo(name="imagenet", source="imagenet", streams=[], frame_rate=None, engine=None)
            return About(classes=[], bundle=nothing, fusion=None)
        bundle, fusion = networks.recognizer.bundle, networks.recognizer.bundle.fusion
        info = BundleInfo(
            name=networks.name,
            source=networks.source,
            streams=list(bundle.streams),
            frame_rate=bundle.frame_rate,
            engine=networks.engine.name,
            engine_note=networks.note or None,
        )
        how = FusionInfo(method=fusion.method, temperature=fusion.temperature, threshold=fusion.threshold)
        return About(classes=list(bundle.classes), no_action=bundle.no_action, bundle=info, fusion=how)

    def close(self) -> None:
        """Stop the threads; waiting calls are answered first."""
        for pool in (self._seeing, self._asking, self._working):
            pool.shutdown(cancel_futures=True)
        if self.networks is not None:
            self.networks.engine.close()
        self.stage.close()
