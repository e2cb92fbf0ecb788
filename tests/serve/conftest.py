"""A service on a real web server, in a thread; the sockets of clients that speak to it."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import cv2
import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

if TYPE_CHECKING:
    from rgbflow.live.outlets import Outlet
    from rgbflow.recognizer import Recognizer
    from rgbflow.serve.access import Access
    from rgbflow.serve.limits import Limits
    from rgbflow.serve.service import Networks, Service
    from rgbflow.serve.teaching import Teaching

PATIENCE = 60  # seconds; a busy machine is slow


@dataclass
class Client:
    """A socket to `/live`."""

    socket: ClientConnection

    def send(self, message: str | bytes | dict) -> None:
        self.socket.send(json.dumps(message) if isinstance(message, dict) else message)

    def send_frame(self, pixels: np.ndarray, number: int, seconds: float, suffix: str = ".jpg") -> None:
        from rgbflow.serve.protocol import Picture

        self.send(Picture(number, seconds, cv2.imencode(suffix, pixels[..., ::-1])[1].tobytes()).pack())

    def receive(self, *types: str) -> dict:
        """The next message of one of the types; others are passed over."""
        while True:
            got = self.socket.recv(timeout=PATIENCE)
            if isinstance(got, str) and (message := json.loads(got))["type"] in types:
                return message

    def receive_picture(self) -> bytes:
        while True:
            got = self.socket.recv(timeout=PATIENCE)
            if isinstance(got, bytes):
                return got

    def close_code(self) -> int:
        """Read to the end; the code that the service closed with, 1006 where it came without one."""
        try:
            while True:
                self.socket.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


@dataclass
class Running:
    """A service that answers."""

    port: int
    service: "Service"
    loop: asyncio.AbstractEventLoop
    clients: ExitStack = field(default_factory=ExitStack)

    def connect(self, subprotocols=("rgbflow.v1",), **options) -> Client:
        address = f"ws://127.0.0.1:{self.port}/live"
        options = {"proxy": None, "max_size": None, "open_timeout": PATIENCE, "close_timeout": 1, **options}
        return Client(self.clients.enter_context(connect(address, subprotocols=list(subprotocols) or None, **options)))

    def request(self, method: str, path: str, **options) -> httpx.Response:
        address = f"http://127.0.0.1:{self.port}{path}"
        return httpx.request(method, address, trust_env=False, timeout=PATIENCE, **options)

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)

    def count(self, name: str, **labels: str) -> float:
        """What a metric stands at."""
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0

    def play(self, client: Client, clip: np.ndarray, rate: float = 25.0, start: int = 0) -> None:
        """Send the frames of a clip, each after the one before was looked at: none is dropped."""
        for number, pixels in enumerate(clip, start):
            before = self.num_seen()
            client.send_frame(pixels, number, number / rate)
            wait_until(lambda: self.num_seen() > before)  # noqa: B023

    def replace(self, networks: "Networks") -> None:
        """Let other networks answer."""
        asyncio.run_coroutine_threadsafe(self.service.replace(networks), self.loop).result(PATIENCE)

    def num_seen(self) -> float:
        return sum(self.count("rgbflow_frames_total", outcome=outcome) for outcome in ("seen", "unused", "refused"))


def wait_until(condition: Callable[[], object]) -> None:
    """Until it holds, a minute at most."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@contextmanager
def serving(
    service: "Service", access: "Access | None" = None, port: int = 0, teaching: "Teaching | None" = None
) -> Iterator[Running]:
    """A service on a port of this machine; 0 is a free one."""
    from rgbflow.serve.app import create_app
    from rgbflow.serve.running import listen, make_server

    server, loop = make_server(create_app(service, access, teaching)), asyncio.new_event_loop()
    with listen("127.0.0.1", port) as listener, closing(loop):
        thread = threading.Thread(target=loop.run_until_complete, args=[server.serve([listener])])
        thread.start()
        running = Running(listener.getsockname()[1], service, loop)
        try:
            yield running
        finally:
            running.clients.close()
            server.should_exit = True
            thread.join(timeout=PATIENCE)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def recognizer(save_random_bundle, tmp_path_factory) -> "Recognizer":
    """Two streams with random weights, run by torch."""
    from rgbflow.recognizer import Recognizer

    folder = tmp_path_factory.mktemp("served")
    save_random_bundle(folder)
    return Recognizer.load(folder, engine="torch")


@pytest.fixture
def start(recognizer) -> Iterator[Callable[..., Running]]:
    """A function that starts a service: (limits, access, outlets, networks) to what runs."""
    from rgbflow.serve.service import Networks, Service

    with ExitStack() as stack:

        def begin(
            limits: "Limits | None" = None,
            access: "Access | None" = None,
            outlets: "Sequence[Outlet]" = (),
            networks: "Networks | Literal['random'] | None" = "random",
        ) -> Running:
            answering = Networks(recognizer, "bundles/mine", "given") if networks == "random" else networks
            service = Service(answering, limits, outlets)
            return stack.enter_context(serving(service, access))

        yield begin


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], object]], None]:
    """The function `wait_until`."""
    return wait_until


@pytest.fixture(name="serving")
def serving_fixture() -> Callable[..., AbstractContextManager[Running]]:
    """The function `serving`."""
    return serving


@pytest.fixture
def running(start) -> Running:
    """A service with the usual limits."""
    return start()
