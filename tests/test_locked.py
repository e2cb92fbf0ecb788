"""The packages that .ci/run installs: each is locked to a version that pyproject.toml allows, and to a hash."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LINES = (ROOT / ".ci" / "locked.txt").read_text(encoding="utf-8").splitlines()[1:]
LOCKED = {line.split("==")[0]: line.split("==")[1].split()[0] for line in LINES}


def test_every_line_has_a_version_and_a_hash_and_names_no_index():
    form = re.compile(r"[a-z0-9-]+==[0-9][^ ]* --hash=sha256:[0-9a-f]{64}")
    assert [line for line in LINES if not form.fullmatch(line)] == []
    assert len(LOCKED) == len(LINES) > 100


def test_every_package_that_the_tests_need_is_locked_to_a_version_that_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted, names = [*project["dependencies"]], ["test"]
    while names:
        for line in extras[names.pop()]:
            one = Requirement(line)
            names += one.extras if one.name == "rgbflow" else ()
            wanted += [line] if one.name != "rgbflow" else []
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(LOCKED[requirement.name.lower()]), f"{requirement}: run `make lock`"
