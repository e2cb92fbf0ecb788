"""The messages: real ones against the schema in the repository, mutated ones against the reader."""

import json
import math
import runpy
import struct
from contextlib import suppress
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rgbflow.serve.protocol import Picture, ProtocolError, read_settings

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "protocol" / "messages.schema.json").read_text(encoding="utf-8"))


def test_the_documents_are_those_of_the_models():
    """`python docs/make_protocol.py` writes them again."""
    made = runpy.run_path(str(DOCS / "make_protocol.py"))["documents"]()
    for name, text in made.items():
        assert json.loads((DOCS / "protocol" / name).read_text(encoding="utf-8")) == json.loads(text)


def test_every_example_of_the_page_fits_the_schema():
    examples = []
    decoder, text = json.JSONDecoder(), (DOCS / "protocol.md").read_text(encoding="utf-8")
    for block in text.split("```json\n")[1:]:
        examples.append(decoder.decode(block.split("```")[0]))
    examples = [example for example in examples if "type" in example]  # of the socket
    assert {example["type"] for example in examples} == {"settings", "hello", "update", "event"}
    for example in examples:
        side = "client" if "version" not in example else "server"
        jsonschema.validate(example, {"$ref": f"#/$defs/{side}", **SCHEMA})
    wrong = {**examples[0], "start_score": 2}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, {"$ref": "#/$defs/client", **SCHEMA})


def test_what_the_service_sends_fits_the_schema(running, moving_square):
    client, got = running.connect(), []
    client.send({"type": "settings", "start_score": 0.0, "min_seconds": 0.0})
    client.send({"type": "settings", "start_score": 7})
    running.play(client, moving_square(2, 1, frames=8))
    while len({message["type"] for message in got}) < 5:
        got.append(client.receive("hello", "settings", "error", "update", "event"))
    client.send("no JSON")
    got.append(client.receive("error"))
    for message in got:
        jsonschema.validate(message, {"$ref": "#/$defs/server", **SCHEMA})


def test_the_header_is_sixteen_bytes_little_endian():
    message = struct.pack("<IId", 7, 0, 1.5) + b"picture"
    assert Picture.unpack(message) == Picture(7, 1.5, b"picture")
    assert Picture(7, 1.5, b"picture").pack() == message


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"", 4400),
        (struct.pack("<IId", 0, 0, 0.0), 4400),
        (struct.pack("<IId", 0, 1, 0.0) + b"x", 4400),
        (struct.pack("<IId", 0, 0, math.nan) + b"x", 4400),
        (struct.pack("<IId", 0, 0, math.inf) + b"x", 4400),
    ],
)
def test_a_frame_whose_header_is_wrong_is_refused(message, code):
    with pytest.raises(ProtocolError) as refused:
        Picture.unpack(message)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 4400),
        ("[]", 4400),
        ("3", 4400),
        ("{}", 4400),
        ('{"type": "sing"}', 4400),
        ('{"type": "settings", "volume": 3}', 4422),
        ('{"type": "settings", "start_score": "0.5"}', 4422),
        ('{"type": "settings", "start_score": NaN}', 4422),
        ('{"type": "settings", "min_seconds": -1}', 4422),
        ('{"type": "settings", "num_scores": 0}', 4422),
        ('{"type": "settings", "flow_picture": 1}', 4422),
        ('{"type": "settings", "window_seconds": 1e999}', 4422),
    ],
)
def test_settings_that_are_wrong_are_refused(text, code):
    with pytest.raises(ProtocolError) as refused:
        read_settings(text)
    assert refused.value.code == code


@given(st.binary(max_size=64) | st.text(max_size=64))
def test_nothing_but_a_protocol_error_comes_of_any_message(message):
    with suppress(ProtocolError):
        Picture.unpack(message) if isinstance(message, bytes) else read_settings(message)
