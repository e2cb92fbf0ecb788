"""What the benchmarks share: commands run with --json, finished folds, and pages that keep what was written below."""

import contextlib
import io
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from rgbflow.learn.config import TrainConfig
from rgbflow.stream import STREAMS

READING = "## Reading"


def rgbflow(command: str) -> dict:
    """Run a command with --json; its result."""
    from rgbflow.cli import main  # here: a page is written where not every package is installed, too

    print(f"$ rgbflow {command}", file=sys.stderr)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main([*shlex.split(command), "--json"])
    if code:
        sys.exit(f"rgbflow {command}: exit code {code}")
    return json.loads(printed.getvalue())


def settings_of(config: TrainConfig) -> dict[str, object]:
    """The settings of a training that are other than the defaults."""
    return {name: value for name, value in asdict(config).items() if value != getattr(TrainConfig(), name)}


def finished_folds(folder: Path) -> list[Path]:
    """The bundles in a folder of which both streams are trained."""
    from rgbflow.bundle import RECORD, load_bundle

    bundles = sorted(record.parent for record in folder.glob(f"*/{RECORD}"))
    return [bundle for bundle in bundles if len(load_bundle(bundle).streams) == len(STREAMS)]


def is_of(kept: Path, bundle: Path) -> bool:
    """Whether a file that was made with a bundle is there, and no older than its weights."""
    from rgbflow.bundle import load_bundle, weights_file

    weights = [weights_file(bundle, stream).stat().st_mtime for stream in load_bundle(bundle).streams]
    return kept.exists() and kept.stat().st_mtime >= max(weights)


def write_page(page: Path, content: str) -> None:
    """Write a page of results; its last section, which somebody wrote about the figures, is kept."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    reading = text[text.index(READING) :] if READING in text else f"{READING}\n"
    page.write_text(f"{content.rstrip()}\n\n{reading}", encoding="utf-8")
    print(page)
