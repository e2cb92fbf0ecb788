"""The page `/docs`: the paths of the service, made from its OpenAPI description, without scripts or other hosts."""

from collections.abc import Iterator
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 0 auto; padding: 1rem; }
h2 { font: 600 1.05rem/1.4 ui-monospace, monospace; margin: 2.2rem 0 .2rem; overflow-wrap: anywhere; }
h2 span { display: inline-block; min-width: 4.5rem; }
table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-top: 1px solid #8884; vertical-align: top; }
"""


def describe(openapi: dict[str, Any]) -> str:
    """The page of an OpenAPI description."""
    parts = "".join(
        _operation(method, path, operation)
        for path, operations in openapi["paths"].items()
        for method, operation in operations.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>rgbflow: the paths of the service</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><main><h1>rgbflow</h1>'
        '<p>The paths of this service, as <a href="openapi.json">openapi.json</a> describes them for machines. '
        "The socket <code>/live</code> is described in docs/protocol.md.</p>"
        f"{parts}</main></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    title = f"<h2><span>{method.upper()}</span> {escape(path)}</h2>"
    return f"{title}<p>{escape(operation.get('description', ''))}</p>{_table(_rows(operation))}"


def _rows(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        limits = [f"{words} {schema[key]}" for key, words in _LIMITS.items() if key in schema]
        said = ", ".join(filter(None, (parameter.get("description", ""), schema.get("type", ""), *limits)))
        usual = f"; {schema['default']} if not given" if "default" in schema else ""
        yield f"{parameter['name']} ({parameter['in']})", said + usual
    for status, response in operation["responses"].items():
        yield status, response["description"]


_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}


def _table(rows: Iterator[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(said)}</td></tr>" for name, said in rows)
    return f"<table>{lines}</table>"
