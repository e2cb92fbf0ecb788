"""The web server of the service: its address, its time limits, its end."""

import asyncio
import logging
import socket
from contextlib import ExitStack

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from rgbflow.errors import InputError
from rgbflow.serve.limits import MIB

HEAD_SECONDS = 15.0  # that a connection may last without a request; uvicorn waits for ever for the rest of a head
LINGER_SECONDS = 5.0  # that a connection may take to be gone after its session has ended
MESSAGE_BYTES = 4 * MIB  # above it the socket itself closes; `Limits.frame_bytes` is what a client may use

SEND_BYTES = MIB // 4  # that wait for a client to read them; some more in the system


class _Requests(H11Protocol):
    """A connection that is ended where no request comes of it, as with a client that sends a letter a minute."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._end_without_request)

    def _end_without_request(self) -> None:
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # another one: it is a socket now
            return
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.loop.call_later(HEAD_SECONDS, self._end_without_request)


class _Connection(WebSocketsSansIOProtocol):
    """A socket that is gone soon after its session, also where the client reads nothing any more."""

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        InputError: if the address can't be used.
    """
    if not 0 <= port < 65536:
        raise InputError(f"--port {port} can't be used: choose one in 0…65535, such as 8000")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            listener.bind(address)
            listener.listen(2048)
            stack.pop_all()  # from here on it is the caller's
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--host {host} --port {port} can't be used ({reason}): choose another") from error
    return listener


def make_server(app: FastAPI, log_level: str = "warning") -> uvicorn.Server:
    """The web server of an application; `serve(sockets=[...])` runs it."""
    config = uvicorn.Config(
        app,
        http=_Requests,
        ws=_Connection,
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # pictures are compressed already
        log_level=log_level,
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_a_line)
    return uvicorn.Server(config)


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether the log gets a line: not of bytes that are no text, which uvicorn reports with a traceback for each."""
    return not str(record.msg).startswith("Invalid UTF-8")
