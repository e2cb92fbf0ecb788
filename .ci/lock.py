"""Versions and hashes of all packages that the tests use: `make lock` writes them, `.ci/run` installs them.

    python .ci/lock.py write      resolve `.[test]` anew and write .ci/locked.txt
    python .ci/lock.py install    install what it lists, and nothing that differs from its hash

The file is for the Python and the machine that it names, since torch comes as another file for each kind of machine.
Elsewhere `install` does nothing. It names no index, so that any mirror of the same files will do.
"""

import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

LOCKED = Path(__file__).with_name("locked.txt")
PLATFORM = f"Python {'.'.join(platform.python_version_tuple()[:2])}, {sys.platform}, {platform.machine()}"
PIP = [sys.executable, "-m", "pip"]
NOT_THERE = "No matching distribution found"  # as pip says of a version that the index lacks


def write() -> int:
    """Write the lock file from what pip would install."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        resolve = [*PIP, "install", "--dry-run", "--ignore-installed", "--quiet", "--report", str(report)]
        subprocess.run([*resolve, "--editable", ".[test]", "setuptools>=77"], check=True)
        packages = json.loads(report.read_text(encoding="utf-8"))["install"]
    lines = sorted(line_of(package) for package in packages if package["metadata"]["name"] != "rgbflow")
    LOCKED.write_text(f"# {PLATFORM}; `make lock` writes this file\n" + "".join(lines), encoding="utf-8")
    print(f"{LOCKED}: {len(lines)} packages")
    return 0


def line_of(package: dict) -> str:
    """A line of the lock file, from pip's report of a package."""
    about, digest = package["metadata"], package["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{re.sub('[-_.]+', '-', about['name']).lower()}=={about['version']} --hash=sha256:{digest}\n"


def install() -> int:
    """Install the locked packages if they are for this Python; a file that differs from its hash ends with an error."""
    first = LOCKED.read_text(encoding="utf-8").partition(";")[0]
    if first != f"# {PLATFORM}":
        print(f"{LOCKED.name} is for {first[2:]}, this is {PLATFORM}: the newest packages are used")
        return 0
    command = [*PIP, "install", "--quiet", "--no-deps", "--require-hashes", "--requirement", str(LOCKED)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
    if done.returncode and NOT_THERE in done.stderr:
        print("the index lacks a locked version: the newest packages are used; `make lock` renews the list")
        return 0
    return done.returncode


if __name__ == "__main__":
    sys.exit({"write": write, "install": install}[sys.argv[1]]())
