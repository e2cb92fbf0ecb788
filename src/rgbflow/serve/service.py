"""The networks at work for many clients: shared by all sessions, and replaced while clients are connected."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from rgbflow.live.batching import SharedEngine
from rgbflow.live.events import EventRules
from rgbflow.live.session import LiveRecognizer
from rgbflow.recognizer import Recognizer
from rgbflow.serve.limits import Limits
from rgbflow.serve.metrics import Metrics
from rgbflow.serve.protocol import About, BundleInfo, FusionInfo, Source

MAX_BATCH = 8  # snippets that go through a network at once
ASKING = 2 * MAX_BATCH  # sessions that wait for the networks at the same time: while one batch runs, the next gathers

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Networks:
    """A recogniser and the engine that all sessions share.

    Attributes:
        recognizer: loaded.
        name: of its bundle, as clients are told.
        source: where the bundle came from: given by name, the demo's, or no training at all.
    """

    recognizer: Recognizer
    name: str
    source: Source
    engine: SharedEngine = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "engine", SharedEngine(self.recognizer.engine, MAX_BATCH))

    @property
    def known(self) -> tuple[int, float | None]:
        """How many classes there are, and the threshold of "unknown": what the usual event rules depend on."""
        bundle = self.recognizer.bundle
        return len(bundle.classes), bundle.fusion.threshold

    def live(self, window_seconds: float, rules: EventRules) -> LiveRecognizer:
        """A recogniser of one client's camera."""
        return self.recognizer.live(window_seconds, None, rules, self.engine)


class Service:
    """What all clients share. Its coroutines belong to one event loop; `close` may be called from anywhere.

    Args:
        networks: that answer; None while nothing is taught.
        limits: of what clients may ask.

    Attributes:
        networks: those that answer now.
        sessions: how many are open.
    """

    def __init__(self, networks: Networks | None, limits: Limits | None = None):
        self.networks, self.limits, self.metrics = networks, limits or Limits(), Metrics()
        self.sessions = 0
        self._replaced = asyncio.Event()
        cores = os.cpu_count() or 1
        self._seeing = ThreadPoolExecutor(max(2, cores), "rgbflow-see")
        self._asking = ThreadPoolExecutor(ASKING, "rgbflow-ask")

    @property
    def is_ready(self) -> bool:
        return self.networks is not None

    async def see(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run what computes on a frame: as many at once as there are cores."""
        return await asyncio.get_running_loop().run_in_executor(self._seeing, function, *arguments)

    async def ask(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Run what waits for the networks."""
        return await asyncio.get_running_loop().run_in_executor(self._asking, function, *arguments)

    async def replace(self, networks: Networks) -> None:
        """Let other networks answer from now on; open sessions are told."""
        before, self.networks = self.networks, networks
        replaced, self._replaced = self._replaced, asyncio.Event()
        replaced.set()
        if before is not None:
            await asyncio.to_thread(before.engine.close)

    async def replacement(self, networks: Networks | None) -> None:
        """Wait until others answer than these."""
        while self.networks is networks:
            await self._replaced.wait()

    def about(self, networks: Networks | None) -> About:
        """What clients are told of the networks that answer them."""
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
        )
        how = FusionInfo(method=fusion.method, temperature=fusion.temperature, threshold=fusion.threshold)
        return About(classes=list(bundle.classes), bundle=info, fusion=how)

    def close(self) -> None:
        """Stop the threads; what waits for the networks is answered first."""
        for pool in (self._seeing, self._asking):
            pool.shutdown(cancel_futures=True)
        if self.networks is not None:
            self.networks.engine.close()
