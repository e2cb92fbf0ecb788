"""The checker that `make test` runs finds arguments of a wrong shape in programs that use the package."""

import re
from pathlib import Path

from mypy import api

ROOT = Path(__file__).parents[1]
PROGRAM = """
import numpy as np
from rgbflow.fusion import Fusion, average
from rgbflow.sampling import segment_starts
from rgbflow.stream import Stream, StreamSpec

scores: dict[Stream, np.ndarray] = {"rgb": np.ones((2, 3)) / 3, "flow": np.ones((2, 3)) / 3}
average(scores) + Fusion().fuse(scores)
average({"clip of any origin": np.ones((2, 3)) / 3})
StreamSpec("rgb", "resnet18", 224, 1, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
segment_starts(30, 3, 10).max()

average("rgb")  # wrong
average({"rgb": "0.5"})  # wrong
Fusion().fuse(np.ones((2, 3)))  # wrong
Fusion("mean")  # wrong
StreamSpec("colour", "resnet18", 224, 1, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # wrong
segment_starts(30, 3, 10).upper()  # wrong
segment_starts("30", 3, 10)  # wrong
"""


def test_the_checker_finds_arguments_of_a_wrong_shape_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("MYPYPATH", str(ROOT / "src"))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    config, cache = ROOT / "pyproject.toml", ROOT / ".mypy_cache"  # which `mypy` leaves, and shares the work
    told, trouble, _ = api.run([f"--config-file={config}", f"--cache-dir={cache}", str(program)])
    assert trouble == ""
    found = {int(number) for number in re.findall(r"program\.py:(\d+): error", told)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), start=1) if line.endswith("# wrong")}
    assert found == wrong, told
