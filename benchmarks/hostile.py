"""Damaged frames, messages and requests against `rgbflow serve`, a thousand of each; writes docs/results/hostile.md.

    python benchmarks/hostile.py BUNDLE VIDEO [--count 1000]

Each frame and each message has a session of its own; each request has a connection of its own. They come from many
addresses of this machine, because the service limits what one address may ask. Counted is how the service answers. An
answer of 500 or above, an end without a code, and a traceback of the service are faults. It takes a few minutes.
"""

import argparse
import json
import shlex
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import cv2
import httpx
import numpy as np
from pages import write_page
from prometheus_client.parser import text_string_to_metric_families
from serve import SETTLE_SECONDS, Server, pictures_of, serving
from torture import mutated, mutated_json
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from rgbflow.origin import describe_origin
from rgbflow.serve.protocol import HEADER
from rgbflow.serve.running import HEAD_SECONDS

PAGE = Path(__file__).parents[1] / "docs" / "results" / "hostile.md"
AT_ONCE = 8
PATIENCE = 120.0  # seconds
ANSWER_SECONDS = 20.0  # an upload that does not come is refused after 15
SETTINGS = {"start_score": 0.5, "end_score": 0.25, "min_seconds": 0.5, "window_seconds": 2.0, "num_scores": 20}
LAST = {"type": "settings", "num_scores": 777}  # sent after a message: the answer to it ends the wait
TAKEN, WAITS, GONE = "taken", "waits for the rest", "closed without an answer"


@dataclass(frozen=True)
class Target:
    """A service, and how it is reached from many addresses."""

    port: int
    addresses: bool = True

    def source(self, number: int) -> tuple[str, int]:
        """An address of this machine for an attempt; each is used for about five."""
        place = number // 5 if self.addresses else 0
        return f"127.0.{place // 250}.{place % 250 + 1}", 0

    def get(self, path: str, number: int = 0) -> httpx.Response:
        transport = httpx.HTTPTransport(local_address=self.source(number)[0])
        with httpx.Client(transport=transport, timeout=PATIENCE) as client:
            return client.get(f"http://127.0.0.1:{self.port}{path}")


# What is sent


def frames(pictures: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Frames of JPEG and WebP with damages: in the header in every fourth, else in the picture."""
    for number in range(count):
        picture = pictures[number % len(pictures)]
        header = HEADER.pack(number, 0, number / 25)
        yield mutated(header, number) + picture if number % 4 == 0 else header + mutated(picture, number)


def messages(count: int) -> Iterator[bytes]:
    """Settings with damages: in their values, in every fourth in their bytes."""
    text = json.dumps({"type": "settings", **SETTINGS, "flow_picture": True}).encode()
    yield from (mutated_json(text, number) for number in range(count))


def requests(video: bytes, count: int) -> Iterator[bytes]:
    """Requests with damages: in every second in the head, else in the body."""
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="clip.mp4"\r\n\r\n' + video + b"\r\n--b--\r\n"
    kinds = [
        _request("POST", "/predict?top=3", video),
        _request("POST", "/predict?timeline=true&window=1&step=0.5", video),
        _request("POST", "/predict", form, "multipart/form-data; boundary=b"),
        _request("POST", "/teach/actions/wave/takes", video, "video/mp4"),
        _request("PATCH", "/teach/actions/wave", b'{"name": "jump"}', "application/json"),
        _request("DELETE", "/teach/actions/wave/takes/take-001.mp4"),
        _request("POST", "/teach/undo"),
        _request("GET", "/classes"),
        _request("GET", "/rgbflow.js"),
        _request("GET", "/live", upgrade=True),
    ]
    for number in range(count):
        head, body = kinds[number % len(kinds)]
        yield mutated(head, number) + body if number % 2 else head + mutated(body, number)


def _request(method: str, path: str, body: bytes = b"", kind: str = "", upgrade: bool = False) -> tuple[bytes, bytes]:
    headers = {"Host": "localhost", "Connection": "close"}
    if body:
        headers |= {"Content-Length": str(len(body)), "Content-Type": kind or "application/octet-stream"}
    if upgrade:
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
        headers |= {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Protocol": "rgbflow.v1", **key}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode(), body


# How it is answered


def on_message(target: Target, message: bytes, number: int) -> str:
    """The code of the error that a text message gets, or that it was taken."""
    with _session(target, number) as link:
        came = TAKEN
        try:
            link.send(message, text=True)
            link.send(json.dumps(LAST))
            while True:
                answer = json.loads(link.recv(timeout=PATIENCE))
                if answer["type"] == "error":
                    came = str(answer["code"])
                elif answer.get("settings", {}).get("num_scores") == LAST["num_scores"]:
                    return came
        except ConnectionClosed as closed:
            return _code(closed)


def on_frame(target: Target, frame: bytes, number: int) -> str:
    """The code that a frame ends its session with, or that it was taken; one at a time, as the service counts them."""
    before = _frames_seen(target, number)
    with _session(target, number) as link:
        try:
            link.send(frame)
            while True:
                try:
                    link.recv(timeout=0.02)
                except TimeoutError:
                    if _frames_seen(target, number) > before:
                        return TAKEN
        except ConnectionClosed as closed:
            return _code(closed)


@contextmanager
def _session(target: Target, number: int) -> Iterator[ClientConnection]:
    with connect(
        f"ws://127.0.0.1:{target.port}/live",
        subprotocols=["rgbflow.v1"],
        proxy=None,
        open_timeout=PATIENCE,
        source_address=target.source(number),
    ) as link:
        link.recv(timeout=PATIENCE)  # the greeting
        yield link


def _code(closed: ConnectionClosed) -> str:
    return str(closed.rcvd.code) if closed.rcvd else GONE


def _frames_seen(target: Target, number: int) -> float:
    families = text_string_to_metric_families(target.get("/metrics", number).text)
    counts = {
        sample.labels["outcome"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "rgbflow_frames_total"
    }
    return counts.get("seen", 0) + counts.get("unused", 0)


def on_request(target: Target, request: bytes, number: int) -> str:
    """The status of the answer to a request."""
    with socket.create_connection(("127.0.0.1", target.port), PATIENCE, target.source(number)) as link:
        link.settimeout(ANSWER_SECONDS)
        with suppress(ConnectionError):  # it may be answered and closed before all is sent
            link.sendall(request)
        try:
            line = link.makefile("rb").readline(1000)
        except TimeoutError:
            return WAITS
        except ConnectionError:
            return GONE
    return line.split()[1].decode() if line.startswith(b"HTTP/1.1 ") else GONE


def attack(target: Target, pictures: Sequence[bytes], video: bytes, count: int) -> dict[str, Counter]:
    """So many frames, messages and requests; how many of each were answered in what way."""
    found = {"frames": Counter(on_frame(target, frame, i) for i, frame in enumerate(frames(pictures, count)))}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        kinds = {"messages": (on_message, messages(count)), "requests": (on_request, requests(video, count))}
        for kind, (judge, items) in kinds.items():
            found[kind] = Counter(pool.map(judge, repeat(target), items, range(count)))
    return found


def faults(found: dict[str, Counter]) -> int:
    """Answers of 500 and above, and ends without a code."""
    codes = {"frames": GONE, "messages": GONE, "requests": ""}
    return sum(
        number
        for kind, counts in found.items()
        for answer, number in counts.items()
        if answer == codes[kind] or answer in ("1011", "1006") or (kind == "requests" and answer.startswith("5"))
    )


@dataclass(frozen=True)
class State:
    """What a service holds."""

    memory: float  # MiB
    files: int
    threads: int
    sessions: int

    @classmethod
    def of(cls, server: Server, target: Target) -> "State":
        lines = target.get("/metrics").text.splitlines()
        (sessions,) = [line.split()[1] for line in lines if line.startswith("rgbflow_sessions ")]
        threads = len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))
        return cls(server.memory, server.open_files, threads, round(float(sessions)))


def page(found: dict[str, Counter], states: Sequence[State], tracebacks: int) -> str:
    """The results page."""
    rows = "\n".join(
        f"| {kind} | {counts.total():,} | {', '.join(f'{answer}: {n:,}' for answer, n in sorted(counts.items()))} |"
        for kind, counts in found.items()
    )
    held = "\n".join(
        f"| {when} | {one.memory:.0f} | {one.files} | {one.threads} | {one.sessions} |"
        for when, one in zip(("after a tenth as many", "after all"), states, strict=True)
    )
    origin = describe_origin()
    return f"""# Damaged frames, messages and requests

`rgbflow serve` gets frames, text messages and HTTP requests with one to four damages each: bits, bytes and numbers
changed, lost or put in; values of the settings replaced by odd ones. A code is that of the closed socket or of an error
message ([protocol.md](../protocol.md)), or the status of an HTTP answer.

| sent | number | answered |
|---|---|---|
{rows}

Faults (a status of 500 or above, an end without a code, a traceback): {faults(found) + tracebacks}. "{WAITS}" are
requests that claim more than comes: the client gave up after {ANSWER_SECONDS:.0f} seconds. "{GONE}" are
requests whose head never ends: the service closes them after {HEAD_SECONDS:.0f} seconds.

| the service | memory, MiB | open files | threads | sessions |
|---|---|---|---|---|
{held}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}.

```
python benchmarks/hostile.py {shlex.join(sys.argv[1:])}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    arguments = parser.parse_args()
    pictures, video, states = pictures_of(arguments.video)[:20], arguments.video.read_bytes(), []
    pictures += [_as_webp(picture) for picture in pictures]
    with serving(arguments.bundle) as server:
        target = Target(int(server.address.split(":")[2].split("/")[0]))
        for count in (arguments.count // 10, arguments.count):
            found = attack(target, pictures, video, count)
            time.sleep(SETTLE_SECONDS)
            states.append(State.of(server, target))
            print(found, states[-1], file=sys.stderr)
        tracebacks = sum("Traceback" in line for line in server.said)
    write_page(PAGE, page(found, states, tracebacks))


def _as_webp(picture: bytes) -> bytes:
    return cv2.imencode(".webp", cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR))[1].tobytes()


if __name__ == "__main__":
    main()
