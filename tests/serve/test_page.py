"""The page: what is served as it lies."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src/rgbflow/serve/page"
TEXTS = sorted(path for path in PAGE.iterdir() if path.suffix in {".html", ".css", ".js", ".svg"})


def test_the_puppet_of_the_page_is_the_demos():
    module = runpy.run_path(str(ROOT / "docs/make_puppet.py"))
    assert (PAGE / "puppet.json").read_text(encoding="utf-8") == module["text"]()


def used(path: Path) -> set[str]:
    """The files that a file of the page names, as the browser will ask for them."""
    text = path.read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    patterns = [r'\b(?:href|src)="([^"#]+)"', r'from "\./([^"]+)"', r'fetch\("([^"]+)"\)', r'url\("([^"]+)"\)']
    return {name for pattern in patterns for name in re.findall(pattern, code)}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_file_that_the_page_names_is_there_and_none_of_another_host(path):
    assert not [name for name in used(path) if not (PAGE / name).is_file()]
    addresses = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", path.read_text(encoding="utf-8")))
    assert addresses <= {"http://www.w3.org"}  # a name space, not an address


def test_no_file_of_the_page_is_left_over():
    assert {name for path in TEXTS for name in used(path)} | {"index.html"} == {path.name for path in PAGE.iterdir()}


def test_the_page_has_no_script_or_style_of_its_own_so_that_a_strict_policy_holds():
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", text) == []
