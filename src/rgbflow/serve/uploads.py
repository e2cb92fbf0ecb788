"""Videos that clients send: written to disk as they arrive, within limits, and deleted after the request."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import IO

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from rgbflow.serve.limits import Limits

LONGEST_NAME = 80  # characters of a file name that messages repeat
UNNAMED = "the upload"


async def save_upload(request: Request, path: Path, limits: Limits) -> str:
    """Write the video of a request to a file: its whole body, or the first file of a form.

    Args:
        request: the request, with its body not read yet.
        path: the file to write; the client's file name is never used as a path.
        limits: limits on bytes and time.

    Returns:
        The client's name of the file, for messages.

    Raises:
        HTTPException: 400 if the body is empty or not a form, or the client is gone; 408 if it comes too slowly; 413 if
            it is too large.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    with path.open("wb") as file:
        form = _Form(file, options.get(b"boundary", b"")) if kind == b"multipart/form-data" else None
        try:
            async with asyncio.timeout(limits.upload_seconds):
                async for chunk in _chunks(request, limits):
                    if form is None:
                        file.write(chunk)
                    else:
                        form.feed(chunk)
        except TimeoutError:
            raise HTTPException(408, f"the upload takes longer than {limits.upload_seconds:g} s: send less") from None
        except ClientDisconnect:
            raise HTTPException(400, "the upload broke off") from None
        if not file.tell():
            raise HTTPException(400, "the request holds no video: send the file as its body, or in a form")
    return UNNAMED if form is None else form.name


async def _chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body of a request as it arrives."""
    most = f"at most {limits.upload_bytes:,} bytes are taken: send a shorter or smaller video"
    claimed = request.headers.get("content-length", "0")
    if not claimed.isdigit() or int(claimed) > limits.upload_bytes:
        raise HTTPException(413, f"an upload of {claimed} bytes: {most}")
    body, total = request.stream(), 0
    while True:
        try:
            async with asyncio.timeout(limits.chunk_seconds):
                chunk = await anext(body)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(
                408, f"nothing arrived for {limits.chunk_seconds:g} s: send the video at once"
            ) from None
        total += len(chunk)
        if total > limits.upload_bytes:
            raise HTTPException(413, f"an upload of more than {limits.upload_bytes:,} bytes: {most}")
        yield chunk


class _Form:
    """The first file of a form, written as it arrives.

    Attributes:
        name: the client's name of the file.
    """

    def __init__(self, file: IO[bytes], boundary: bytes):
        self.name = UNNAMED
        self._file, self._header, self._value = file, b"", b""
        self._is_file, self._has_file = False, False
        callbacks = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_header(data[start:end], b""),
            "on_header_value": lambda data, start, end: self._add_header(b"", data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": self._write,
            "on_part_end": self._end,
        }
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError as error:
            raise HTTPException(400, f"the form can't be read ({error})") from None

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise HTTPException(400, f"the form can't be read ({error})") from None

    def _begin(self) -> None:
        self._is_file = False

    def _add_header(self, field: bytes, value: bytes) -> None:
        self._header, self._value = self._header + field, self._value + value

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition" and not self._has_file:
            options = parse_options_header(self._value)[1]
            if b"filename" in options:
                self._is_file, self.name = True, _plain(options[b"filename"].decode(errors="replace"))
        self._header = self._value = b""

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file.write(data[start:end])

    def _end(self) -> None:
        self._has_file = self._has_file or self._is_file


def _plain(name: str) -> str:
    """A file name for messages, without folders and unprintable characters.

    >>> _plain("../../etc/clip.mp4"), _plain("C:\\\\videos\\\\clip.mp4")
    ('clip.mp4', 'clip.mp4')
    """
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:LONGEST_NAME] or UNNAMED
