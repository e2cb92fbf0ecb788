"""Access to the service: tokens, allowed pages, and the host names that it answers to."""

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rgbflow.errors import InputError

BEARER_PROTOCOL = "rgbflow.bearer."  # a subprotocol: the only header that a page can set on a socket
SHORTEST_TOKEN = 16  # characters


@dataclass(frozen=True)
class Access:
    """The clients that may use the service.

    Attributes:
        token: the token that every client must send; with None, the service answers only this machine.
        origins: origins of other pages that may use the service, such as "https://game.example"; its own page
            always may.
    """

    token: str | None = None
    origins: tuple[str, ...] = ()

    def admits(self, given: str | None) -> bool:
        """Whether a client with this token may use the service; compared in constant time."""
        return self.token is None or (given is not None and hmac.compare_digest(given.encode(), self.token.encode()))

    def answers_to(self, host: str) -> bool:
        """Whether a request for this Host is meant for the service.

        Without a token, only names of this machine count: with another name that leads here, a foreign page would pass
        for the service's own (DNS rebinding).
        """
        return self.token is not None or is_loopback(_hostname(host))

    def trusts(self, origin: str, host: str) -> bool:
        """Whether a page may use the service: its own page, or one of the allowed origins."""
        return origin in self.origins or (bool(host) and urlsplit(origin).netloc == host)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # half an IPv6 address
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, seen from itself.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def given_token(authorization: str, subprotocols: Iterable[str] = ()) -> str | None:
    """The token that a client sends: in `Authorization: Bearer`, or as base64url in a subprotocol; None if in neither.

    >>> given_token("Bearer secret"), given_token("", ["rgbflow.v1", "rgbflow.bearer.c2VjcmV0"])
    ('secret', 'secret')
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    for name in subprotocols:
        if name.startswith(BEARER_PROTOCOL):
            encoded = name.removeprefix(BEARER_PROTOCOL)
            try:
                return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True).decode()
            except (binascii.Error, UnicodeDecodeError, ValueError):
                return None
    return None


def read_token(path: Path) -> str:
    """The token in a file: its only line.

    Raises:
        InputError: if the file can't be read, or does not hold a token.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"--token-file {path} must hold plain letters and digits: write it again") from error
    if len(token) < SHORTEST_TOKEN or not token.isprintable() or " " in token:
        raise InputError(
            f"--token-file {path} must hold one line of at least {SHORTEST_TOKEN} letters and digits: "
            "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"
        )
    return token


def check_origin(origin: str) -> str:
    """An allowed origin in the form that browsers send.

    Raises:
        InputError: if it is not an origin.
    """
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.netloc or f"{parts.scheme}://{parts.netloc}" != origin:
        raise InputError(f"--origin {origin} must be SCHEME://HOST or SCHEME://HOST:PORT, such as https://game.example")
    return origin
