"""Draw the package into docs/architecture.md: every folder and file with the first sentence of its docstring.

python docs/draw_house.py
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rgbflow"
PAGE = ROOT / "docs" / "architecture.md"
HOUSE = re.compile(r"(## The house\n.*?```\n)(.*?)(```)", re.DOTALL)


def first_sentence(path: Path) -> str:
    """The first sentence of a file's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"\.( |\n|$)", text, maxsplit=1)[0].replace("\n", " ")


def draw() -> str:
    """The tree: the files of the package's own folder, then its folders."""
    return "".join(f"{name:<22} {sentence}\n" for name, sentence in _rooms())


def _rooms() -> Iterator[tuple[str, str]]:
    yield from _files(PACKAGE, "")
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        yield f"{folder.name}/", first_sentence(folder / "__init__.py")
        yield from _files(folder, "  ")


def _files(folder: Path, indent: str) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{indent}{path.name}", first_sentence(path)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(HOUSE.sub(lambda match: f"{match[1]}{draw()}{match[3]}", page), encoding="utf-8")
