"""The examples agree with rgbflow: the header of a frame, the flags of the commands, the paths of the service."""

import inspect
import re
import runpy
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from rgbflow.commands.live import live
from rgbflow.commands.serve import serve
from rgbflow.live.osc_map import read_rules

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
OWN_COPY = EXAMPLES / "browser" / "three"  # where a user puts three.js
FILES = sorted(
    path
    for path in EXAMPLES.rglob("*")
    if path.is_file() and OWN_COPY not in path.parents and "__pycache__" not in path.parts
)
# How each language writes the types of the protocol at an offset; None: one after the other.
WRITTEN = {
    "examples/unity/RgbflowClient.cs": {"uint32": r"writer\.Write\(\(uint\)", "float64": r"writer\.Write\(\(double\)"},
    "examples/godot/rgbflow.gd": {"uint32": r"\.encode_u32\({at},", "float64": r"\.encode_double\({at},"},
}


def text_of(path):
    return path.read_text(encoding="utf-8")


def header():
    """(first byte, type) of each field of a frame's header, as docs/protocol.md lists them."""
    fields = re.findall(r"^\| (\d+)–\d+ \| (uint32|float64) \|", PROTOCOL, re.MULTILINE)
    return [(int(at), kind) for at, kind in fields]


def test_the_python_client_packs_the_header_and_a_picture():
    client = runpy.run_path(str(EXAMPLES / "python_client.py"))
    message = client["pack"](7, 1.25, np.full((480, 640, 3), 90, np.uint8))
    assert [at for at, _ in header()] == [0, 4, 8]
    layout = "<" + "".join({"uint32": "I", "float64": "d"}[kind] for _, kind in header())
    assert struct.unpack_from(layout, message) == (7, 0, 1.25)
    picture = cv2.imdecode(np.frombuffer(message, np.uint8, offset=struct.calcsize(layout)), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)
    assert abs(float(picture.mean()) - 90) < 2


@pytest.mark.parametrize("name", WRITTEN)
def test_another_language_writes_the_same_header(name):
    steps = [WRITTEN[name][kind].format(at=at) for at, kind in header()]
    assert re.search(r"[^}]*?".join(steps), text_of(ROOT / name)), steps


def test_the_vrchat_mapping_is_read():
    rules = read_rules(EXAMPLES / "vrchat.toml")
    assert {rule.kind for rule in rules} == {"bool", "int", "float"}
    assert all(rule.address.startswith("/avatar/parameters/") for rule in rules)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_named_and_speaks_of_what_exists(path):
    text = text_of(path)
    if path != EXAMPLES / "README.md":
        assert str(path.relative_to(EXAMPLES)) in text_of(EXAMPLES / "README.md")
    for command, arguments in re.findall(r"rgbflow (serve|live) (.*)", text):
        known = inspect.signature({"serve": serve, "live": live}[command]).parameters
        for flag in re.findall(r"--([a-z-]+)", arguments):
            assert flag.replace("-", "_") in known, f"{command} --{flag}"
    for probed in re.findall(r"httpGet: \{path: (/\w+)", text):
        assert f"| `GET {probed}`" in PROTOCOL
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if path.suffix == ".md" else ():
        assert (path.parent / target).exists(), target
