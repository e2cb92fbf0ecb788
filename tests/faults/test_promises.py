"""docs/reliability.md: every promise names tests, and these exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def promises():
    table = PAGE.split("## Promises")[1].split("\n## ")[0]
    return [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ") and "| kept by |" not in line]


def names_a_test(name):
    file, _, function = name.partition("::")
    path = ROOT / file
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else ()
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in found)


def test_every_promise_is_kept_by_tests_that_exist():
    assert len(promises()) > 10
    for promise, tests in promises():
        named = re.findall(r"`([^`]+)`", tests)
        assert named, promise
        assert [name for name in named if not names_a_test(name)] == [], promise


def test_a_test_that_does_not_exist_would_be_seen():
    assert not names_a_test("tests/faults/test_promises.py::test_nothing")
    assert not names_a_test("tests/faults/test_nothing.py::test_nothing")
