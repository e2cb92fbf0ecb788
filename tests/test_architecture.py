"""The house stands as DESIGN says: imports point one way, and what is light stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "rgbflow"
TOP = ("__main__", "cli", "demo", "printing")  # what may import everything


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def imported(path):
    """Modules of this package that a file imports, inside functions too; for types only is not counted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rgbflow":
            base = node.module.removeprefix("rgbflow").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                yield name if (PACKAGE / (name.replace(".", "/") + ".py")).is_file() else base
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("rgbflow.") for a in node.names if a.name.startswith("rgbflow."))


def level(module):
    """0 the road, 1 data, 2 learn, 3 serve and paper, 4 the commands and their line."""
    if module in TOP or module.startswith("commands."):
        return 4
    return {"data": 1, "learn": 2, "serve": 3, "paper": 3}.get(module.split(".")[0] if "." in module else "", 0)


def wrong_arrows(arrows):
    return [(one, other) for one, other in arrows if level(other) > level(one)]


def test_imports_point_one_way():
    arrows = [(module, other) for module, path in modules() for other in imported(path) if module != "__init__"]
    assert len(arrows) > 50
    assert wrong_arrows(arrows) == []


def test_an_import_that_points_back_would_be_seen(tmp_path):
    path = tmp_path / "store.py"
    path.write_text("def f():\n    from rgbflow.learn.train import train\n")
    assert wrong_arrows([("data.store", other) for other in imported(path)]) == [("data.store", "learn.train")]


def test_no_file_imports_another_that_imports_it_in_turn():
    uses = {module: set(imported(path)) for module, path in modules() if not module.endswith("__init__")}

    def reached(module, seen):
        for other in uses.get(module, set()) - seen:
            seen.add(other)
            reached(other, seen)
        return seen

    assert [module for module in uses if module in reached(module, set())] == []


def test_only_one_file_imports_the_decoder():
    users = set()
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "av" for name in names):
                users.add(module)
    assert users == {"video"}


@pytest.mark.parametrize("statement", ["import rgbflow", "import rgbflow.cli"])
def test_importing_the_package_or_the_command_line_is_light(statement):
    heavy = "{'torch', 'cv2', 'av', 'lightning', 'torchmetrics', 'sklearn', 'scipy', 'matplotlib', 'pyarrow'}"
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
