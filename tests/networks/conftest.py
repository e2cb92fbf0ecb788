"""Published weights that are not there: random ones of torchvision's networks, served by a server of this machine."""

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder whose files a server of this machine gives, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def cut_server() -> Iterator[Callable[..., str]]:
    """A function: the address of a server that promises all of a content, sends the first bytes and hangs up.

    With `stays` it sends no more, and doesn't hang up.
    """
    with ExitStack() as servers:

        def serve(content: bytes, sent: int, stays: bool = False) -> str:
            over = threading.Event()

            class Cutting(_Quiet):
                def do_GET(self) -> None:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content[:sent])
                    self.wfile.flush()
                    if stays:
                        over.wait()

            server = ThreadingHTTPServer(("127.0.0.1", 0), Cutting)
            servers.callback(server.server_close)
            servers.callback(server.shutdown)
            servers.callback(over.set)
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            return f"http://127.0.0.1:{server.server_port}"

        yield serve


@pytest.fixture
def stand_in(served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """A function: a network of torchvision with random weights from seed 0, which are published from now on."""
    import torch
    import torchvision.models.video as networks

    from rgbflow.networks import video

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    original = video.published_weights

    def publish(backbone: str):
        torch.manual_seed(0)
        network = getattr(networks, backbone)().eval()
        path = served[0] / "weights.pth"
        torch.save(network.state_dict(), path)
        name = f"{backbone}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
        path.rename(served[0] / name)
        weights = dataclasses.replace(original(backbone), url=f"{served[1]}/{name}")
        monkeypatch.setattr(video, "published_weights", lambda _: weights)
        return network

    return publish
