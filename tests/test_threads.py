import os
import re
import subprocess
import sys

import pytest

from rgbflow.threads import USERS_CHOICE, sleep_at_barriers

WAYS_IN = {
    "the library": "from rgbflow import Recognizer",
    "a module of it": "import rgbflow.networks.stream_net",
    "the command line": "import rgbflow.cli, torch",
}


def openmp_settings(code, **environment):
    """What OpenMP itself says that it was set to, as torch loads it in a new process."""
    kept = {name: value for name, value in os.environ.items() if name not in USERS_CHOICE}
    command = [sys.executable, "-c", code]
    environment = {**kept, "OMP_DISPLAY_ENV": "VERBOSE", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return set(re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch brings another OpenMP")
@pytest.mark.parametrize("code", WAYS_IN.values(), ids=WAYS_IN)
def test_threads_sleep_at_barriers_whatever_way_torch_is_loaded(code):
    assert openmp_settings(code) == {"0"}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere torch brings another OpenMP")
def test_the_choice_of_the_user_wins():
    assert openmp_settings(WAYS_IN["the library"], GOMP_SPINCOUNT="777") == {"777"}
    spins = int(*openmp_settings(WAYS_IN["the library"], OMP_WAIT_POLICY="ACTIVE"))
    assert spins > 1_000_000


@pytest.mark.parametrize("name", USERS_CHOICE)
def test_an_environment_that_says_how_to_wait_is_left_as_it_is(name):
    environment = {name: "1"}
    sleep_at_barriers(environment)
    assert environment == {name: "1"}


def test_processes_that_are_started_later_inherit_the_setting():
    environment = {"HOME": "/"}
    sleep_at_barriers(environment)
    assert environment == {"HOME": "/", "OMP_WAIT_POLICY": "PASSIVE"}
