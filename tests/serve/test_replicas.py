"""The service on Ray Serve: sessions are spread over replicas, and clients of a killed one are soon on another."""

import socket
from pathlib import Path
from types import ModuleType

import pytest

CLIENTS = 4


@pytest.fixture
def replicas(benchmark_module) -> ModuleType:
    pytest.importorskip("ray.serve", reason="Ray Serve is not installed: pip install 'rgbflow[cluster,serve]'")
    return benchmark_module("replicas")


@pytest.mark.long
@pytest.mark.timeout(1800)  # Ray starts eight processes
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the processes of the replicas are found in /proc")
def test_the_clients_of_a_killed_replica_are_on_another_within_seconds(replicas, base, moving_square, tmp_path):
    from rgbflow.video.writing import write_video

    write_video(tmp_path / "clip.mp4", moving_square(2, 1, frames=25, size=(64, 48)), 25)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kills = replicas.measure(base, tmp_path / "clip.mp4", port, num_kills=2, num_clients=CLIENTS)
    for kill in kills:
        assert sum(kill.before) == CLIENTS
        assert min(kill.before) > 0  # they are spread
        assert 0 < len(kill.back) < CLIENTS
        assert kill.undisturbed == CLIENTS - len(kill.back)
        assert max(kill.after) == CLIENTS
    assert min(max(kill.back) for kill in kills) < 5  # one of them, because other programs take the processor too
