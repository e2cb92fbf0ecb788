"""Write the machine-readable forms of the protocol from the models of `rgbflow.serve.protocol`: docs/protocol/.

python docs/make_protocol.py
"""

import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from rgbflow.serve.protocol import HEADER, SUBPROTOCOL, ServerMessage, SettingsMessage

FOLDER = Path(__file__).parent / "protocol"
SCHEMA, ASYNCAPI = "messages.schema.json", "asyncapi.json"
ID = "https://json-schema.org/draft/2020-12/schema"
FRAME = {
    "name": "frame",
    "contentType": "application/octet-stream",
    "summary": f"{HEADER.size} bytes little-endian (uint32 number, uint32 flags = 0, float64 seconds), then a picture",
    "payload": {"type": "string", "format": "binary"},
}


def schema() -> dict[str, Any]:
    """Every JSON message: `#/$defs/client` of a client, `#/$defs/server` of the service."""
    client = SettingsMessage.model_json_schema(mode="validation")
    server = TypeAdapter(ServerMessage).json_schema(mode="serialization")
    definitions = server.pop("$defs") | client.pop("$defs", {})
    return {
        "$schema": ID,
        "title": f"Messages of {SUBPROTOCOL}",
        "$defs": {"client": client, "server": server, **definitions},
    }


def asyncapi() -> dict[str, Any]:
    """The socket as an AsyncAPI 3.0 document that refers to the schema."""

    def message(name: str) -> dict[str, Any]:
        return {"name": name, "contentType": "application/json", "payload": {"$ref": f"{SCHEMA}#/$defs/{name}"}}

    messages = {"settings": message("client"), "answer": message("server")}
    messages |= {"frame": {**FRAME}, "flowPicture": {**FRAME, "name": "flowPicture"}}

    def operation(action: str, *names: str) -> dict[str, Any]:
        channel = "#/channels/live"
        listed = [{"$ref": f"{channel}/messages/{name}"} for name in names]
        return {"action": action, "channel": {"$ref": channel}, "messages": listed}

    return {
        "asyncapi": "3.0.0",
        "info": {"title": "rgbflow live", "version": "1", "description": "docs/protocol.md says it in words"},
        "servers": {"local": {"host": "127.0.0.1:8000", "protocol": "ws"}},
        "channels": {"live": {"address": "/live", "messages": messages, "bindings": {"ws": {"method": "GET"}}}},
        "operations": {
            "frames": operation("receive", "settings", "frame"),
            "answers": operation("send", "answer", "flowPicture"),
        },
    }


def documents() -> dict[str, str]:
    """File name to text."""
    made = {SCHEMA: schema(), ASYNCAPI: asyncapi()}
    return {name: json.dumps(document, indent=1, ensure_ascii=False) + "\n" for name, document in made.items()}


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
