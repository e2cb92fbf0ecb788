"""Imports point one way, from the command line down to the ground, and what is light stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "rgbflow"

# The rooms of the house, from the ground up: a file at the top of the package, or a folder. A room imports only from
# floors below its own.
FLOORS = (
    ("errors", "origin", "shown", "threads"),
    ("atomic", "device", "limits", "processes", "sampling"),
    ("records",),
    ("stream",),
    ("decision", "flow", "fusion", "progress", "video"),
    ("bundle", "clip"),
    ("guard", "prediction", "transforms"),
    ("data", "networks", "overlay", "timeline"),
    ("cam", "live"),
    ("recognizer",),
    ("__init__", "newest", "why"),  # __init__: what `import rgbflow` offers
    ("learn",),
    ("demo", "paper", "serve"),
    ("commands",),
    ("cli",),
    ("__main__",),
)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def imported(path):
    """Modules of this package that a file imports, inside functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rgbflow":
            base = node.module.removeprefix("rgbflow").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                stem = PACKAGE / name.replace(".", "/")
                yield name if stem.with_suffix(".py").is_file() or stem.is_dir() else base or "__init__"
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("rgbflow.") for a in node.names if a.name.startswith("rgbflow."))


def floor(module):
    room = module.split(".")[0]
    (found,) = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    return found


def wrong_arrows(arrows):
    return [
        (one, other) for one, other in arrows if one.split(".")[0] != other.split(".")[0] and floor(other) >= floor(one)
    ]


def test_imports_point_one_way():
    arrows = [(module, other) for module, path in modules() for other in imported(path)]
    assert len(arrows) > 50
    assert wrong_arrows(arrows) == []


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    assert {module.split(".")[0] for module, _ in modules()} == {room for rooms in FLOORS for room in rooms}


@pytest.mark.parametrize(
    "line", ["from rgbflow.learn.train import train", "from rgbflow.learn import train", "import rgbflow.learn.train"]
)
def test_an_import_that_points_back_would_be_seen(tmp_path, line):
    path = tmp_path / "store.py"
    path.write_text(f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {line}\n")
    assert wrong_arrows([("data.store", other) for other in imported(path)]) == [("data.store", "learn.train")]


def test_no_file_imports_another_that_imports_it_in_turn():
    uses = {module: set(imported(path)) for module, path in modules() if not module.endswith("__init__")}

    def reached(module, seen):
        for other in uses.get(module, set()) - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    assert [module for module in uses if module in reached(module, set())] == []


def test_only_one_folder_imports_the_decoder():
    users = set()
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "av" for name in names):
                users.add(module.split(".")[0])
    assert users == {"video"}


@pytest.mark.parametrize("statement", ["import rgbflow", "import rgbflow.cli"])
def test_importing_the_package_or_the_command_line_is_light(statement):
    heavy = (
        "{'torch', 'cv2', 'av', 'lightning', 'torchmetrics', 'sklearn', 'scipy', 'matplotlib', 'pyarrow', 'fastapi'}"
    )
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_exported_networks_run_without_timm_whose_import_takes_seconds():
    code = "import sys, rgbflow.recognizer, rgbflow.live; print('torch' in sys.modules, 'timm' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "False"]


def test_evaluating_does_not_wait_for_what_trains():
    code = "import sys, rgbflow.learn.evaluate; print(sorted({'lightning', 'torchmetrics'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_name_that_says_nothing():
    names = {path.stem for _, path in modules()}
    assert not names & {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
