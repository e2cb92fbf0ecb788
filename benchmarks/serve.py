"""The service under load on this machine; writes docs/results/serve.md.

    python benchmarks/serve.py VIDEO [--out runs/serve] [--minutes 2] [--clients 16]

A bundle of `lite` networks (random weights, which cost as much time as trained ones) is exported to OpenVINO and served
by `rgbflow serve` in a process of its own; the clients are coroutines of this process. They send VIDEO 320 pixels wide,
ten frames a second each. Measured are one session alone, all clients for some minutes, and four clients beside others
that do what they should not. It takes under four minutes more than --minutes, and the export before the first run takes
a minute more. Every other program on the machine makes the figures worse than they are.
"""

import argparse
import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from pages import rgbflow, write_page
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from rgbflow.origin import describe_origin
from rgbflow.serve.protocol import Picture

PAGE = Path(__file__).parents[1] / "docs" / "results" / "serve.md"
RATE, WIDTH = 10.0, 320  # frames per second of a client; pixels
ALONE_RATE = 25.0  # of the one client alone: that of its networks
ALONE_SECONDS, COMPANY_SECONDS, WARM_SECONDS = 20.0, 20.0, 5.0
SETTLE_SECONDS = 15.0  # after which what is gone is forgotten
STEADY = 4  # clients that are measured beside others
CLASSES = tuple(f"class {number}" for number in range(10))


def make_bundle(folder: Path) -> None:
    """Both streams of preset lite, random weights, exported to OpenVINO; kept if it is there."""
    from rgbflow.bundle import Bundle, save_stream
    from rgbflow.learn.presets import LITE
    from rgbflow.learn.spec import form_of_input
    from rgbflow.networks.stream_net import StreamNet
    from rgbflow.stream import STREAMS, FlowSettings, Preparation

    if (folder / "exported").exists():
        return
    split = {"protocol": "group", "seed": 0, "leak_percent": 0.0, "sha256": "0" * 64}
    preparation = Preparation(flow=FlowSettings(bound=10.0))
    for stream in STREAMS:
        spec = form_of_input(stream, LITE)
        addition = Bundle(CLASSES, preparation, {stream: spec}, split, frames_per_second=25.0)
        save_stream(folder, addition, stream, StreamNet(spec, len(CLASSES)).state_dict())
    rgbflow(f"export {shlex.quote(str(folder))} --to openvino")
    (folder / "exported").touch()


def pictures_of(video: Path) -> list[bytes]:
    """The frames of a file as JPEG."""
    from rgbflow.video.reading import decode

    found = []
    for frame in decode(video):
        height, width = frame.pixels.shape[:2]
        pixels = cv2.resize(frame.pixels, (WIDTH, round(height * WIDTH / width)), interpolation=cv2.INTER_AREA)
        found.append(cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())
    return found


@dataclass
class Server:
    """`rgbflow serve` in a process of its own."""

    process: subprocess.Popen
    address: str
    said: list[str]

    @property
    def memory(self) -> float:
        """MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024

    @property
    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(bundle: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "rgbflow", "serve", str(bundle), "--port", "0", "--max-sessions", "128"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "http://" in line)
            print(line.strip(), file=sys.stderr)
            said: list[str] = []
            reading = threading.Thread(target=said.extend, args=[process.stderr])  # or the pipe gets full
            reading.start()
            try:
                yield Server(process, "ws://" + line.split("http://")[1].split("/")[0] + "/live", said)
            finally:
                process.terminate()
                reading.join()
        finally:
            process.terminate()


@dataclass
class Client:
    """What one client saw; times in milliseconds, on its own clock.

    Attributes:
        lags: from sending a frame to its update, with the second at which each came.
        server: latencies as the service reports them.
    """

    lags: list[tuple[float, float]] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    sent: int = 0
    dropped: int = 0
    networks: list[float] = field(default_factory=list)


async def stream(server: Server, pictures: list[bytes], client: Client, seconds: float, rate: float = RATE) -> None:
    """Send frames for so long, and note what comes of them after the warm-up."""
    async with connect(server.address, subprotocols=["rgbflow.v1"], proxy=None, compression=None) as socket:
        began = time.monotonic()
        reading = asyncio.create_task(read(socket, client, began))
        for number in count():
            if (at := number / rate) >= seconds:
                break
            await asyncio.sleep(max(0.0, began + at - time.monotonic()))
            client.sent += 1
            await socket.send(Picture(number, time.monotonic(), pictures[number % len(pictures)]).pack())
        await asyncio.sleep(1)
        reading.cancel()


async def read(socket: ClientConnection, client: Client, began: float) -> None:
    async for text in socket:
        message = json.loads(text)
        now = time.monotonic()
        if message["type"] != "update":
            continue
        client.dropped = message["dropped"]
        if now - began > WARM_SECONDS:
            client.lags.append((now - began, 1000 * (now - message["time"])))
            client.server.append(1000 * message["latency_seconds"])
            client.networks.append(1000 * sum(v for name, v in message["seconds"].items() if "network" in name))


async def together(server: Server, pictures: list[bytes], number: int, seconds: float) -> list[Client]:
    """So many clients at once, not in step."""
    clients = [Client() for _ in range(number)]

    async def one(place: int, client: Client) -> None:
        await asyncio.sleep(0.137 * place)
        await stream(server, pictures[place:] + pictures[:place], client, seconds)

    await asyncio.gather(*(one(place, client) for place, client in enumerate(clients)))
    return clients


async def watched(server: Server, seconds: float) -> list[float]:
    """The service's memory, once a second."""
    found = []
    for _ in range(round(seconds)):
        found.append(server.memory)
        await asyncio.sleep(1)
    return found


# Clients that do what they should not, each until it is cancelled.


async def idle(server: Server, pictures: list[bytes], notes: dict[str, int]) -> None:
    """A hundred sessions that send nothing."""
    sockets = [await connect(server.address, proxy=None, compression=None) for _ in range(100)]
    notes["open"] = len(sockets)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


async def deaf(server: Server, pictures: list[bytes], notes: dict[str, int]) -> None:
    """A client that sends at 25 frames a second, asks for flow pictures and never reads."""
    notes |= {"sent": 0, "closed": 0}
    while True:
        with suppress(WebSocketException, OSError):
            async with connect(server.address, proxy=None, compression=None, max_queue=1, close_timeout=1) as socket:
                socket.transport.pause_reading()
                await socket.send('{"type": "settings", "flow_picture": true, "num_scores": 1000}')
                for number in count():
                    picture = pictures[number % len(pictures)]
                    await asyncio.wait_for(socket.send(Picture(number, number / 25, picture).pack()), 5)
                    notes["sent"] += 1
                    await asyncio.sleep(1 / 25)
        notes["closed"] += 1


async def slow(server: Server, pictures: list[bytes], notes: dict[str, int]) -> None:
    """A client that sends one frame a minute."""
    async with connect(server.address, proxy=None, compression=None) as socket:
        for number in count():
            await socket.send(Picture(number, 60.0 * number, pictures[0]).pack())
            notes["sent"] = number + 1
            await asyncio.sleep(60)


async def vanishing(server: Server, pictures: list[bytes], notes: dict[str, int]) -> None:
    """Ten clients a second that send three frames and are gone without a word."""
    notes["gone"] = 0
    while True:
        socket = await connect(server.address, proxy=None, compression=None)
        for number in range(3):
            await socket.send(Picture(number, number / 25, pictures[number]).pack())
        socket.transport.abort()
        notes["gone"] += 1
        await asyncio.sleep(0.1)


async def crowd(server: Server, pictures: list[bytes], notes: dict[str, int]) -> None:
    """Two hundred connections at once, every five seconds."""
    notes |= {"asked": 0, "refused": 0}

    async def one() -> None:
        notes["asked"] += 1
        try:
            async with connect(server.address, proxy=None, compression=None, open_timeout=30) as socket:
                await socket.recv()
        except InvalidStatus:
            notes["refused"] += 1
        except (OSError, WebSocketException, TimeoutError):
            notes["failed"] = notes.get("failed", 0) + 1

    while True:
        await asyncio.gather(*(one() for _ in range(200)))
        await asyncio.sleep(5)


COMPANY: dict[str, Callable[[Server, list[bytes], dict[str, int]], Coroutine[None, None, None]] | None] = {
    "nobody": None,
    "100 idle sessions": idle,
    "one that never reads": deaf,
    "one frame a minute": slow,
    "10 a second that vanish": vanishing,
    "200 connections at once, every 5 s": crowd,
}


async def beside(server: Server, pictures: list[bytes], name: str) -> tuple[list[Client], dict[str, int]]:
    """Steady clients beside one kind of company."""
    notes: dict[str, int] = {}
    steady = asyncio.create_task(together(server, pictures, STEADY, COMPANY_SECONDS + WARM_SECONDS))
    await asyncio.sleep(WARM_SECONDS / 2)  # they are there first
    other = COMPANY[name]
    task = asyncio.create_task(other(server, pictures, notes) if other else asyncio.sleep(0))
    clients = await steady
    if task.done():
        task.result()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return clients, notes


def percentiles(values: list[float], *which: float) -> str:
    return " / ".join(f"{value:.0f}" for value in np.percentile(values, which)) if values else "none"


def all_lags(clients: list[Client]) -> list[float]:
    return [lag for client in clients for _, lag in client.lags]


def rates(clients: list[Client], seconds: float) -> str:
    counts = [len(client.lags) / seconds for client in clients]
    return f"{min(counts):.1f} to {max(counts):.1f}"


def drops(clients: list[Client]) -> str:
    sent, dropped = sum(client.sent for client in clients), sum(client.dropped for client in clients)
    return f"{dropped:,} of {sent:,} ({100 * dropped / max(1, sent):.1f} %)"


@dataclass
class Measured:
    """Everything that is reported."""

    alone: Client
    many: list[Client]
    seconds: float
    memory: list[float]
    server_cores: float
    client_cores: float
    company: dict[str, tuple[list[Client], dict[str, int]]]
    files: tuple[int, int]
    memory_at_end: float


async def measure(server: Server, pictures: list[bytes], arguments: argparse.Namespace) -> Measured:
    files, alone, seconds = server.open_files, Client(), 60 * arguments.minutes
    await stream(server, pictures, alone, ALONE_SECONDS + WARM_SECONDS, ALONE_RATE)
    print("alone", percentiles(all_lags([alone]), 50, 95), file=sys.stderr)
    before, own = server.cpu_seconds, time.process_time()
    many, memory = await asyncio.gather(
        together(server, pictures, arguments.clients, seconds + WARM_SECONDS), watched(server, seconds + WARM_SECONDS)
    )
    cores = (server.cpu_seconds - before) / seconds, (time.process_time() - own) / seconds
    print("many", percentiles(all_lags(many), 50, 95), drops(many), file=sys.stderr)
    company = {}
    for name in COMPANY:
        company[name] = await beside(server, pictures, name)
        print(name, percentiles(all_lags(company[name][0]), 50, 95), company[name][1], file=sys.stderr)
    await asyncio.sleep(SETTLE_SECONDS)
    return Measured(alone, many, seconds, memory, *cores, company, (files, server.open_files), server.memory)


def page(arguments: argparse.Namespace, found: Measured, load: float) -> str:
    """The results page."""
    lags = all_lags(found.many)
    quarter = found.seconds / 4
    first = [lag for client in found.many for at, lag in client.lags if at < WARM_SECONDS + quarter]
    last = [lag for client in found.many for at, lag in client.lags if at > WARM_SECONDS + 3 * quarter]
    tenth = max(1, len(found.memory) // 10)
    grown = np.median(found.memory[-tenth:]) - np.median(found.memory[tenth : 2 * tenth])
    ceiling, total = len(found.alone.lags) / ALONE_SECONDS, len(lags) / found.seconds
    networks = percentiles([value for client in found.many for value in client.networks], 50)
    company = "\n".join(
        f"| {name} | {percentiles(all_lags(clients), 50, 95)} | {rates(clients, COMPANY_SECONDS)} | {drops(clients)} | "
        f"{', '.join(f'{key} {value}' for key, value in notes.items())} |"
        for name, (clients, notes) in found.company.items()
    )
    origin = describe_origin()
    return f"""# The service under load

`rgbflow serve` with both streams of preset `lite` (random weights, OpenVINO) and its clients on one machine. A client
sends JPEG pictures that are {WIDTH} pixels wide: {ALONE_RATE:.0f} a second where it is alone, else {RATE:.0f}. The lag
is from sending a frame to its update, on the client's clock.

| figure | one session, {ALONE_RATE:.0f} frames a second | {arguments.clients} sessions, {
        RATE:.0f} frames a second each |
|---|---|---|
| lag p50 / p95 / p99, ms | {percentiles(all_lags([found.alone]), 50, 95, 99)} | {percentiles(lags, 50, 95, 99)} |
| of it in the service p50 / p95, ms | {percentiles(found.alone.server, 50, 95)} | {
        percentiles([value for client in found.many for value in client.server], 50, 95)
    } |
| updates a second, all sessions | {ceiling:.1f} | {total:.1f} |
| updates a second of a session, least to most | | {rates(found.many, found.seconds)} |
| frames dropped for a newer one | {drops([found.alone])} | {drops(found.many)} |
| networks (with the wait for others) p50, ms | {percentiles(found.alone.networks, 50)} | {networks} |
| median lag in the first and the last quarter, ms | | {percentiles(first, 50)} and {percentiles(last, 50)} |
| memory of the service, second tenth to last | | {grown:+.1f} MiB of {found.memory[-1]:.0f} |
| cores that the service / the clients kept busy | | {found.server_cores:.2f} / {found.client_cores:.2f} |

## In bad company

{STEADY} steady clients for {COMPANY_SECONDS:.0f} seconds each time.

| beside | lag p50 / p95, ms | updates a second | dropped | what the others did |
|---|---|---|---|---|
{company}

{SETTLE_SECONDS:.0f} seconds after all this the service had {found.files[1]} open files ({found.files[0]} at the start)
and {found.memory_at_end:.0f} MiB.

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. The load of the machine was {load:.1f} when it began.

```
python benchmarks/serve.py {shlex.join(sys.argv[1:])}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("video", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/serve"))
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--clients", type=int, default=16)
    arguments = parser.parse_args()
    make_bundle(arguments.out / "bundle")
    pictures, load = pictures_of(arguments.video), os.getloadavg()[0]
    with serving(arguments.out / "bundle") as server:
        found = asyncio.run(measure(server, pictures, arguments))
    write_page(PAGE, page(arguments, found, load))


if __name__ == "__main__":
    main()
