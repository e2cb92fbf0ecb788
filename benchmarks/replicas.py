"""A replica of the service is killed, and its clients are back on another; writes docs/results/replicas.md.

    python benchmarks/replicas.py BUNDLE VIDEO [--kills 3] [--clients 4]

Two replicas of BUNDLE run on this machine behind Ray Serve, and examples/python_client.py sends VIDEO to them from
several processes. Then one replica gets the signal KILL. Measured is the time until each client that it had has a
session again, on the clock of this program. It takes about two minutes.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from pages import write_page
from prometheus_client.parser import text_string_to_metric_families

from rgbflow.origin import describe_origin
from rgbflow.video import decode
from rgbflow.video.writing import write_video

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results" / "replicas.md"
CLIENT = ROOT / "examples" / "python_client.py"
PATIENCE = 600.0  # seconds: Ray starts half a dozen processes
REPLICAS = 2
# Ray gives its proxy 5 seconds to start, which a busy machine does not; and it reports home without this.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",  # 15 of its own accord, and then nothing runs beside other work
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "300",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "300",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}
SERVER = """
import sys
import ray
from ray import serve
from rgbflow.serve.replicas import Replicas, application

options = {"include_dashboard": False, "object_store_memory": 80 * 2**20}
ray.init(num_cpus=2, logging_level="ERROR", log_to_driver=False, **options)
given = Replicas(bundle=sys.argv[1], replicas=2, cores=0.5)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
serve.run(application(given), blocking=True)
"""


@dataclass
class Cluster:
    """Replicas behind Ray Serve, on this machine."""

    process: subprocess.Popen
    port: int

    def sessions(self) -> list[int]:
        """Open sessions of each replica, from as many answers as it takes to hear of both."""
        answers = [self._metrics() for _ in range(20)]
        newest = {one["process_start_time_seconds"]: int(one["rgbflow_sessions"]) for one in answers}
        return sorted(newest.values())

    def _metrics(self) -> dict[str, float]:
        text = self.get("/metrics")
        return {sample.name: sample.value for one in text_string_to_metric_families(text) for sample in one.samples}

    def get(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
                    return answer.read().decode()
            except urllib.error.HTTPError as error:
                if error.code != 429:  # on a fast machine the questions come more often than the service allows
                    raise
                time.sleep(1)

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "Ray has ended"
        try:
            return "true" in self.get("/ready")
        except OSError:
            return False

    def replicas(self) -> list[int]:
        """The process of each replica that runs."""
        return [pid for pid in _descendants(self.process.pid) if "ServeReplica" in _title(pid)]


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended meanwhile
        return ""


def _descendants(pid: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [*children, *(one for child in children for one in _descendants(child))]


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@contextmanager
def cluster(bundle: Path, port: int) -> Iterator[Cluster]:
    """Two replicas of a bundle."""
    command = [sys.executable, "-c", SERVER, str(bundle), str(port)]
    with subprocess.Popen(command, env=os.environ | ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
        made = Cluster(process, port)
        try:
            wait_until(made.is_ready)
            wait_until(lambda: len(made.replicas()) == REPLICAS and len(made.sessions()) == REPLICAS)
            yield made
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                process.kill()


@dataclass
class Client:
    """What examples/python_client.py prints, with the moment of each line."""

    process: subprocess.Popen
    lines: list[tuple[float, str]] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line))

    def times(self, words: str, since: float = 0.0) -> list[float]:
        return [at for at, line in self.lines if words in line and at >= since]


@contextmanager
def client(video: Path, port: int) -> Iterator[Client]:
    command = [sys.executable, str(CLIENT), str(video), "--server", f"ws://127.0.0.1:{port}/live"]
    with subprocess.Popen(
        command, env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        made = Client(process)
        thread = threading.Thread(target=made.read)
        thread.start()
        try:
            yield made
        finally:
            process.kill()
            thread.join()


@dataclass(frozen=True)
class Kill:
    """What became of the clients when a replica was killed.

    Attributes:
        before: sessions of each replica before.
        back: seconds until each client that it had has a session again.
        undisturbed: number of clients that noticed nothing.
        after: sessions of the replica that is left.
    """

    before: list[int]
    back: list[float]
    undisturbed: int
    after: list[int]


def kill_one(running: Cluster, clients: list[Client]) -> Kill:
    """Kill a replica that has clients, and wait until all of them are back."""
    before = running.sessions()
    began = time.monotonic()
    os.kill(running.replicas()[0], signal.SIGKILL)
    wait_until(lambda: any(one.times("connecting again", began) for one in clients))
    wait_until(lambda: sum(running.sessions()) == len(clients))
    after = running.sessions()
    lost = [one for one in clients if one.times("connecting again", began)]
    back = [one.times("recognises", began)[0] - began for one in lost]
    return Kill(before, back, len(clients) - len(lost), after)


def again_and_again(video: Path, path: Path) -> None:
    """A video's first frames over and over, for ten minutes."""
    few = [frame.pixels for frame in islice(decode(video), 25)]
    write_video(path, np.stack(few * 600), 25)


def measure(bundle: Path, video: Path, port: int, num_kills: int, num_clients: int) -> list[Kill]:
    """Kill a replica so many times, each time with both replicas there."""
    kills = []
    with tempfile.TemporaryDirectory() as folder, cluster(bundle, port) as running:
        long_one = Path(folder) / "long.mp4"
        again_and_again(video, long_one)
        for number in range(num_kills):
            with ExitStack() as stack:
                clients = [stack.enter_context(client(long_one, port)) for _ in range(num_clients)]
                wait_until(lambda: all(one.times("recognises") for one in clients))  # noqa: B023
                kills.append(kill_one(running, clients))
            print(f"{number + 1}: {kills[-1]}", file=sys.stderr)
            wait_until(lambda: len(running.replicas()) == REPLICAS and running.sessions() == [0] * REPLICAS)
    return kills


def page(kills: list[Kill], load: float) -> str:
    """The results page."""
    rows = "\n".join(
        f"| {' and '.join(map(str, one.before))} | {', '.join(f'{seconds:.2f}' for seconds in sorted(one.back))} | "
        f"{one.undisturbed} | {' and '.join(map(str, one.after))} |"
        for one in kills
    )
    back = [seconds for one in kills for seconds in one.back]
    origin = describe_origin()
    return f"""# A replica is killed

Two replicas of the service on one machine, behind Ray Serve, and {sum(kills[0].before)} clients
(`examples/python_client.py`), each in a process of its own. One replica gets the signal KILL. Its clients connect again
by themselves, and Ray Serve gives them to the other replica; Ray starts a new one meanwhile.

Seconds until a client has a session again: median {np.median(back):.2f}, at most {max(back):.2f}; the aim is 5.

| sessions of the replicas | seconds until each lost client was back | clients that noticed nothing | sessions after |
|---|---|---|---|
{rows}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. The load of the machine was {load:.1f} when it began.

```
python benchmarks/replicas.py {shlex.join(sys.argv[1:])}
```
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("video", type=Path)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    kills = measure(arguments.bundle, arguments.video, arguments.port, arguments.kills, arguments.clients)
    write_page(PAGE, page(kills, load))


if __name__ == "__main__":
    main()
