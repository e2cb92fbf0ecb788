"""Text of strangers where it is shown: nothing that a terminal obeys, HTML runs or an encoding lacks gets through."""

import ast
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rgbflow
from rgbflow.bundle import RECORD, load_bundle, model_card, save_bundle
from rgbflow.shown import harmless, html_text, json_line, markdown_text, say

HOSTILE = ["\x1b]0;owned\x07walk", "\x9b31mrun", "<script>alert(1)</script>", "a\nrgbflow: all is well", "\u202eevil"]
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
QUICKLY = settings(max_examples=200, deadline=None, database=None)


def test_every_line_of_the_program_goes_through_one_function():
    """A `print` elsewhere would show what a stranger wrote as it is; JSON has a function of its own."""
    folder, found = Path(rgbflow.__file__).parent, []
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name) and node.id == "print":
                found.append(str(path.relative_to(folder)))
    assert sorted(found) == ["commands/printing.py", "shown.py"]


@QUICKLY
@given(st.text())
def test_any_text_is_one_line_that_no_terminal_obeys(text):
    shown = harmless(text)
    assert not OBEYED.search(shown)
    assert shown.splitlines() in ([shown], [])
    if text.isascii() and text.isprintable():
        assert shown == text
    assert json.loads(json_line({text: text})) == {text: text}
    assert not OBEYED.search(json_line([text]))
    assert not re.search("[<>]", html_text(text))
    assert not re.search("[<>]", markdown_text(text))


@pytest.mark.parametrize("text", ["père", "走る", "🏃🏽‍♀️", "می‌دود", "jump_rope"])
def test_names_of_any_script_stay(text):
    assert harmless(text) == text


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_a_character_gets_its_escape(encoding):
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    say("père 走る – →", file)
    assert b"p" in file.buffer.getvalue()
    assert json.loads(json_line("走る", encoding)) == "走る"


@pytest.fixture
def hostile_bundle(world, tmp_path):
    bundle = load_bundle(world.bundle)
    renamed = tuple(HOSTILE[: len(bundle.classes)])
    assert len(renamed) == len(bundle.classes) > 1
    for path in world.bundle.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    save_bundle(tmp_path, replace(bundle, classes=renamed, licence="<img src=x onerror=alert(1)>"))
    return tmp_path


def test_the_model_card_has_no_live_html(hostile_bundle):
    card = model_card(load_bundle(hostile_bundle))
    assert "<" not in card
    assert not OBEYED.search(card)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_the_commands_show_a_hostile_bundle_without_obeying_it(hostile_bundle, world, encoding):
    video = next(path for path in sorted(world.videos.rglob("*")) if path.is_file() and path.suffix != ".tsv")
    code = (
        "import sys; from rgbflow.cli import main; bundle, video, broken = sys.argv[1:]\n"
        "codes = [main(['predict', bundle, video, '--snippets', '2']),\n"
        "         main(['predict', bundle, video, '--snippets', '2', '--json']),\n"
        "         main(['predict', bundle, video, '--timeline']),\n"
        "         main(['predict', bundle, broken]), main(['check', broken])]\n"
        "print(codes)"
    )
    broken = hostile_bundle / "\x1b]0;x\x07 走 \u202e.mp4"
    broken.write_bytes(b"no video")
    ran = subprocess.run(
        [sys.executable, "-c", code, str(hostile_bundle), str(video), str(broken)],
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    out, err = ran.stdout.decode(encoding), ran.stderr.decode(encoding)
    assert "Traceback" not in err
    assert out.splitlines()[-1] == "[0, 0, 0, 1, 3]"
    assert not OBEYED.search(out + err)
    assert "\nrgbflow: all is well" not in out + err
    answer = next(json.loads(line) for line in out.splitlines() if line.startswith("{"))
    assert answer["label"] in [*HOSTILE, "unknown"]


def test_a_record_says_its_hostile_values_harmlessly_in_errors(hostile_bundle):
    path = hostile_bundle / RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    record["streams"]["rgb"]["backbone"] = ["\x1b[2J"]
    path.write_text(json.dumps(record))
    ran = subprocess.run(
        [sys.executable, "-m", "rgbflow", "predict", str(hostile_bundle), "x.mp4"], capture_output=True, check=False
    )
    assert ran.returncode == 1
    assert b"\x1b" not in ran.stderr
    assert ran.stderr.count(b"\n") == 1
