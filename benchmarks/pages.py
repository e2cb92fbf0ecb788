"""What the benchmarks share: commands run with --json, and results pages that keep what somebody wrote below them."""

import contextlib
import io
import json
import shlex
import sys
from pathlib import Path

from rgbflow.cli import main

READING = "## Reading"


def rgbflow(command: str) -> dict:
    """Run a command with --json; its result."""
    print(f"$ rgbflow {command}", file=sys.stderr)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main([*shlex.split(command), "--json"])
    if code:
        sys.exit(f"rgbflow {command}: exit code {code}")
    return json.loads(printed.getvalue())


def write_page(page: Path, content: str) -> None:
    """Write a page of results; its last section, which somebody wrote about the figures, is kept."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    reading = text[text.index(READING) :] if READING in text else f"{READING}\n"
    page.write_text(f"{content.rstrip()}\n\n{reading}", encoding="utf-8")
    print(page)
