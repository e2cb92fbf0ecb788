"""Text of files and strangers made harmless where it is shown: on a terminal, as JSON, in HTML and in Markdown."""

import html
import json
import re
import sys
from typing import TextIO

# What a terminal obeys, and what a reader can't see: control characters (C0, C1), line separators, marks of direction,
# invisible characters, and halves of pairs, which no encoding has. Joiners stay: emoji and many scripts need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_ACTIVE_IN_MARKDOWN = re.compile(r"[\\`*\[\]|~!#]")


def harmless(text: object) -> str:
    r"""Text in one line, with everything that a terminal would obey, or nobody would see, written as an escape.

    >>> harmless("\x1b]0;mine\x07 run")
    '\\x1b]0;mine\\x07 run'
    """
    return _UNSAFE.sub(lambda found: _escape(found[0]), str(text))


def _escape(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte of a file name that is not UTF-8, as Python keeps it
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape", "surrogatepass").decode()


def say(line: object, file: TextIO | None = None) -> None:
    """Print one line to standard output, or to a file, after `harmless`; what the encoding lacks becomes an escape."""
    stream = sys.stdout if file is None else file
    if stream is None:  # pythonw has none
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(harmless(line).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


def json_line(value: object, encoding: str | None = None) -> str:
    """JSON in one line: the same values, with unsafe characters and those that the encoding lacks as JSON's escapes."""
    text = json.dumps(value, ensure_ascii=False)
    text = _UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f", text)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def html_text(text: object) -> str:
    """Text in HTML, in quotes too."""
    return html.escape(harmless(text))


def markdown_text(text: object) -> str:
    """Text in Markdown, where HTML and links would be alive too.

    >>> markdown_text("<script>[run](http://x)")
    '&lt;script&gt;\\\\[run\\\\](http://x)'
    """
    return _ACTIVE_IN_MARKDOWN.sub(r"\\\g<0>", html.escape(harmless(text), quote=False))


def tolerate_encodings() -> None:
    """Let standard output and error write as an escape what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
