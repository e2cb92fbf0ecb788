"""Where a result came from: command, version, commit, machine, date."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def describe_origin() -> dict[str, str]:
    """What a reader needs to reproduce a result; every value is one line of text."""
    program = Path(sys.argv[0]).name
    return {
        "command": shlex.join(["rgbflow" if program == "__main__.py" else program, *sys.argv[1:]]),
        "version": _version(),
        "commit": _commit(),
        "machine": describe_machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def describe_machine() -> str:
    """Processor, cores, Python and torch in one line."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return f"{device}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def _version() -> str:
    try:
        return version("rgbflow")
    except PackageNotFoundError:  # run from a checkout by way of PYTHONPATH
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """The commit of the checkout that this package runs from, marked when files differ; "released" without one."""
    folder = Path(__file__).parent
    if not (folder.parents[1] / ".git").exists():
        return "released"
    try:
        commit = _git(folder, "rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout.strip()
