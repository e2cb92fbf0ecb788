"""What the pages say is there: the tree and the names of architecture.md, the flags of all commands, and the Python."""

import ast
import importlib
import re
import runpy
import shutil
from pathlib import Path

import pytest

from rgbflow import Recognizer, cli

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rgbflow"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def section(title):
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def names_on_the_roads():
    drawn = [
        line.split()[0]
        for block in re.findall(r"```\n(.*?)```", section("The path"), re.DOTALL)
        for line in block.splitlines()
    ]
    return [*drawn, *re.findall(r"`([a-z_]+\.[A-Za-z_.]+)`", section("The path"))]


def resolve(name):
    """The object that a dotted name of this package stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if (PACKAGE / "/".join(parts[:length])).with_suffix(".py").is_file():
            found = importlib.import_module(".".join(["rgbflow", *parts[:length]]))
            for part in parts[length:]:
                found = getattr(found, part)
            return found
    raise AttributeError(f"no module of this package begins {name}")


@pytest.mark.parametrize("name", names_on_the_roads())
def test_a_name_on_the_road_exists(name):
    resolve(name)


def test_a_name_that_does_not_exist_would_be_seen():
    with pytest.raises(AttributeError):
        resolve("recognizer.Recognizer.guess")
    assert len(names_on_the_roads()) > 20


def test_the_tree_is_the_package():
    """`python docs/draw_house.py` draws it again."""
    tree = runpy.run_path(str(ROOT / "docs" / "draw_house.py"))["draw"]()
    assert f"```\n{tree}```" in section("The house")
    for line in tree.splitlines():
        assert len(line.split()) > 2, f"{line.split()[0]} has no sentence"
        assert len(line) <= 140, line


def test_every_clip_is_named():
    """Whatever can be read as a clip is in the sentence that lists them."""
    readers = {
        f"{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}.{made.name}"
        for path in PACKAGE.rglob("*.py")
        for made in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(made, ast.ClassDef)
        for method in made.body
        if isinstance(method, ast.FunctionDef)
        and [one.arg for one in method.args.args] == ["self", "stream", "indices"]
    }
    (listed,) = re.findall(r"Every source of snippets is a .*?\. ", section("The path"), re.DOTALL)
    assert {*re.findall(r"`(.*?)`", listed)} == readers
    assert len(readers) > 5


def commands_shown():
    """The commands of all pages: (page, command, its flags), from blocks of code and from code within a sentence."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        lines = [line for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        for shown in [*lines, *re.findall(r"`([^`]+)`", prose)]:
            if command := re.match(r"(?:\S+ -m )?rgbflow ([a-z0-9]+)([^#]*)", shown):
                found.append((page.name, command[1], re.findall(r"(?<!\S)--[a-z0-9-]+", command[2])))
    return found


def test_the_flags_of_every_command_shown_exist(capsys):
    helps = {}
    for _, command, _ in commands_shown():
        if command not in helps:
            assert cli.main([command, "--help"]) == 0, command
            helps[command] = {*re.findall(r"--[a-z0-9-]+", capsys.readouterr().out)}
    assert [shown for shown in commands_shown() if not {*shown[2]} <= helps[shown[1]]] == []
    assert sum(len(flags) for _, _, flags in commands_shown()) > 150


@pytest.mark.parametrize("page", ["training.md", "live.md", "reliability.md", "serve.md"])
def test_the_python_of_a_page_runs(world, tmp_path, monkeypatch, capsys, page):
    shutil.copytree(world.bundle, tmp_path / "runs" / "mine")
    for name in ("clip.mp4", "upload.mp4"):
        shutil.copy(world.videos / "red" / "0.mp4", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    names = {"Recognizer": Recognizer, "recognizer": Recognizer.load("runs/mine"), "cameras": [0, 1]}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert blocks
