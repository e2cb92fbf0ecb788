"""Work shared out among processes, and among the nodes of a Ray cluster of which one dies."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from rgbflow.data.layouts import read_class_folders
from rgbflow.data.store import Store, prepare_store
from rgbflow.errors import InputError
from rgbflow.processes import map_in_processes, map_on_cluster
from rgbflow.stream import Preparation
from rgbflow.video.writing import write_video


def square(number):
    return number * number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers):
    assert list(map_in_processes(square, range(7), workers)) == [0, 1, 4, 9, 16, 25, 36]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system binds no process to a core")
def test_a_process_bound_to_one_core_has_one():
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code += "; from rgbflow.processes import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


@pytest.fixture
def cluster(monkeypatch):
    """A head without a core and a second node with one, on this machine."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rgbflow[cluster]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    made = _start_cluster()
    yield made
    made.shutdown()


def _start_cluster(attempts=3):
    """On a busy machine a node may take longer to start than Ray waits for it."""
    from ray.cluster_utils import Cluster

    memory, made = {"object_store_memory": 80 * 2**20}, Cluster()
    try:
        made.add_node(num_cpus=0, include_dashboard=False, **memory)
        made.second = made.add_node(num_cpus=1, **memory)
        return made
    except Exception as error:
        made.shutdown()
        if "timed out during startup" not in str(error):
            raise
        if attempts == 1:
            pytest.skip("the machine is too busy to start a Ray cluster of its own")
        return _start_cluster(attempts - 1)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_node_dies_midway_and_the_store_is_the_same_to_the_last_byte(cluster, tmp_path, moving_square):
    for clip in range(10):
        pixels = moving_square(clip % 5 - 2, 1, frames=60, size=(256, 192), seed=clip)
        write_video(tmp_path / "videos" / "ab"[clip % 2] / f"{clip}.mp4", pixels, 25)
    sources, preparation = read_class_folders(tmp_path / "videos"), Preparation(192)
    prepare_store(sources, tmp_path / "alone", preparation)
    killed = []

    def kill_second_node(done, total, note=""):
        if not done or killed:
            return
        while not list((tmp_path / "shared" / "rgb").rglob(".*.mkv")):
            time.sleep(0.005)  # until the next clip is being written
        cluster.remove_node(cluster.second, allow_graceful=False)
        killed.append(done)
        cluster.add_node(num_cpus=2, object_store_memory=80 * 2**20)

    rows = prepare_store(
        sources,
        tmp_path / "shared",
        preparation,
        progress=SimpleNamespace(update=kill_second_node),
        cluster=cluster.address,
    )
    assert killed == [1]
    assert len(rows) == len(Store(tmp_path / "shared").rows) == 10
    alone, shared = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "alone", tmp_path / "shared")
    )
    assert shared == alone


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "[::1]:9", "no-such-host.invalid:6379"])
def test_an_address_at_which_nobody_listens_is_refused_at_once(address, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'rgbflow[cluster]'")
    monkeypatch.setattr(ray, "init", None)  # it would try for more than a minute
    with pytest.raises(InputError, match=r"can't be reached \(.*\): start one by `ray start`"):
        map_on_cluster(square, range(3), address)


@pytest.mark.timeout(120)
def test_a_cluster_that_is_not_there_is_one_line(monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'rgbflow[cluster]'")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "1")
    with pytest.raises(
        InputError, match=r"--cluster no-such-cluster can't be reached \(.*\): start one by `ray start`"
    ):
        map_on_cluster(square, range(3), "no-such-cluster")  # at once, before anything is changed
