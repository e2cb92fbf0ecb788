"""How torch's threads wait for each other: asleep, so that other processes can use the cores meanwhile."""

import os
from collections.abc import MutableMapping

# Any of these says that the user has chosen how OpenMP's threads wait.
USERS_CHOICE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def sleep_at_barriers(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let OpenMP's threads sleep at barriers instead of spinning, unless the environment already sets this.

    OpenMP reads its settings once, when torch loads it, so call this before `import torch`. Worker processes inherit
    the setting. Spinning threads take cores away from other processes: docs/results/busy.md.
    """
    if not any(name in environment for name in USERS_CHOICE):
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
