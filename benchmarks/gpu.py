"""What needs a GPU, measured in one command of under 8 minutes; writes docs/results/gpu.md and gpu.json.

    python benchmarks/gpu.py [--sections steps,loading] [--seconds-budget 470] [--out FOLDER]
                             [--videos FOLDER] [--commit TEXT] [--device cuda]

No network is needed, no weights and no data set: weights are random, and clips are drawn unless --videos gives class
folders of them. A checkout whose `src` is in PYTHONPATH is enough. Packages that are not installed are listed first and
cost only the sections that need them. Each section is a process with a time limit of its own, and gpu.json holds each
figure as soon as it is measured. `--device cpu` tries the program with tiny networks; its figures mean nothing.
"""

import argparse
import contextlib
import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import gpu_sections
from gpu_sections import (
    SECTIONS,
    USES_CLIPS,
    Row,
    is_installed,
    missing_for_compiling,
    read_record,
    write_record,
)
from pages import write_page

from rgbflow.origin import describe_origin

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGE, RECORD = "gpu.md", "gpu.json"
MODULES = {  # of packages whose module has another name
    "opencv-contrib-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
}
LEAST_SECONDS = 5  # a section is not started with less of the budget left


def missing_packages() -> list[str]:
    """What the program depends on, or a section needs, and is not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    names = [name for name in [*names, "pytest"] if not is_installed(MODULES.get(name, name.replace("-", "_")))]
    return names + missing_for_compiling()


def run_section(record_path: Path, name: str, seconds: float) -> None:
    """Run a section in a process of its own, stop it after so many seconds, and note in the record how it ended."""
    record = read_record(record_path)
    lacking = [module for module in SECTIONS[name].needs if not is_installed(module)]
    record["sections"][name] = {"ended": "running", "seconds": 0.0, "rows": {}}
    if lacking:
        record["sections"][name]["ended"] = f"missing: {', '.join(lacking)}"
    elif seconds < LEAST_SECONDS:
        record["sections"][name]["ended"] = "not started: the time was up"
    write_record(record_path, record)
    if record["sections"][name]["ended"] != "running":
        return
    began = time.perf_counter()
    command = [sys.executable, gpu_sections.__file__, str(record_path), name]
    # A group of its own, so that the processes that it has started are stopped too.
    process = subprocess.Popen(command, process_group=0)
    ended = "cut off: the whole run was stopped"
    try:
        ended = f"failed: its process ended with code {process.wait(seconds)}"
    except subprocess.TimeoutExpired:
        ended = f"cut off after {seconds:.0f} s"
    finally:
        stop(process)
        record = read_record(record_path)
        found = record["sections"][name]
        found["seconds"] = time.perf_counter() - began
        if found["ended"] == "running":  # else the process itself has said how it ended
            found["ended"] = ended
        write_record(record_path, record)


def stop(process: subprocess.Popen) -> None:
    """Kill what is left of a process and of those that it started."""
    with contextlib.suppress(ProcessLookupError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def text_of(value: object) -> str:
    """A cell of a table: numbers to three digits, or whole."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value).replace("|", "/")


def table(rows: dict[str, Row]) -> str:
    """A Markdown table with a column for each name that a row has."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name.replace('|', '/')} | " + " | ".join(text_of(row.get(column)) for column in columns) + " |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def section_text(name: str, found: dict) -> str:
    """A section of the page: what was measured, how it ended, its figures."""
    about = "\n".join(line.strip() for line in (SECTIONS[name].measure.__doc__ or "").strip().splitlines())
    ended = "" if found["ended"] == "done" else f"\n**{found['ended'].capitalize()}.**\n"
    shown = {row: columns for row, columns in found["rows"].items() if columns.get("result") != "passed"}
    passed = len(found["rows"]) - len(shown)
    rows = f"\n{table(shown)}\n" if shown else ""
    took = f"{passed} passed; {found['seconds']:.0f} s." if passed else f"{found['seconds']:.0f} s."
    return f"## {name.capitalize()}\n\n{about}\n{ended}{rows}\n{took}"


def page(record: dict) -> str:
    """The results, as a page and as the summary on standard output."""
    sections = "\n\n".join(section_text(name, found) for name, found in record["sections"].items())
    origin, missing = record["origin"], ", ".join(record["missing"]) or "nothing"
    tiny = (
        "" if record["settings"]["size"] == "whole" else "**A try with tiny networks: the figures mean nothing.**\n\n"
    )
    return f"""# On a GPU

{tiny}ResNet101 at 224×224 where nothing else is said. Weights are random: they cost as much time as trained ones.
Missing on this machine: {missing}.

{sections}

## How it was made

Commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}.

```
{record["settings"]["command"]}
```
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of them, with commas between")
    parser.add_argument(
        "--seconds-budget", type=float, default=470.0, help="sections that find none of it left are left out"
    )
    parser.add_argument("--out", type=Path, help="folder of gpu.md and gpu.json; docs/results on a GPU")
    parser.add_argument("--videos", type=Path, help="class folders of clips; people are drawn if not given")
    parser.add_argument("--commit", help="of a copy of the checkout that has no .git")
    parser.add_argument("--device", default="cuda", help="cpu for a try with tiny networks")
    parsed = parser.parse_args(arguments)
    parsed.sections = parsed.sections.split(",")
    for name in parsed.sections:
        if name not in SECTIONS:
            parser.error(f"--sections {name} is unknown: use {', '.join(SECTIONS)}")
    if set(USES_CLIPS) & set(parsed.sections):
        parsed.sections = list(dict.fromkeys(["clips", *parsed.sections]))
    parsed.sections = [name for name in SECTIONS if name in parsed.sections]
    return parsed


def refuse_without_gpu(device: str) -> None:
    """Exit with one line where the device is a GPU and none is there."""
    if importlib.util.find_spec("torch") is None:
        sys.exit("gpu.py: torch is not installed: install it first")
    import torch

    if device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"gpu.py: --device {device} needs an NVIDIA GPU, and torch finds none: pass --device cpu for a try")


def main(arguments: Sequence[str]) -> int:
    began, parsed = time.perf_counter(), parse(arguments)
    refuse_without_gpu(parsed.device)
    on_gpu = parsed.device != "cpu"
    missing = missing_packages()
    print(f"missing: {', '.join(missing) or 'nothing'}", flush=True)
    with tempfile.TemporaryDirectory() as work:
        folder = parsed.out or (RESULTS if on_gpu else Path(work))
        record = {
            "settings": {
                "command": f"python benchmarks/gpu.py {shlex.join(arguments)}".strip(),
                "device": parsed.device,
                "size": "whole" if on_gpu else "smoke",
                "work": work,
                "videos": parsed.videos and str(parsed.videos.resolve()),
            },
            "origin": describe_origin() | ({"commit": parsed.commit} if parsed.commit else {}),
            "missing": missing,
            "sections": {},
        }
        path = (folder / RECORD).resolve()
        write_record(path, record)
        try:
            for name in parsed.sections:
                left = parsed.seconds_budget - (time.perf_counter() - began)
                run_section(path, name, min(SECTIONS[name].seconds, left))
        finally:  # a run that is stopped leaves a page too
            record = read_record(path)
            if on_gpu:
                write_page(folder / PAGE, page(record))
            print(page(record))
    return 0 if all(found["ended"] == "done" for found in record["sections"].values()) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the section's processes are stopped too
    sys.exit(main(sys.argv[1:]))
