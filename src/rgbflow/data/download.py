"""Downloads of large files: they resume after a kill and a broken connection, and never join parts of two versions."""

import re
import ssl
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from rgbflow.data.disk import CHUNK_BYTES, explaining_disk, megabytes, require_space, size_of
from rgbflow.errors import InputError
from rgbflow.progress import SILENT, Progress

TIMEOUT_SECONDS = 60
PAUSE_SECONDS = 1.0  # after the first failure; doubled after each further one
MOST_FAILURES = 5
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_WORTH_ANOTHER_TRY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class _TransferError(Exception):
    """A download failed in a way that another try may fix."""


def download(
    url: str,
    path: str | Path,
    num_bytes: int,
    progress: Progress = SILENT,
) -> None:
    """Download a file of known size; resume an earlier try, if the server supports that.

    The file grows as `<path>.part`, and `<path>.part.tag` holds the server's name for this version (ETag or date), so
    that parts of two versions are never joined. After a failure the download is tried again, until `MOST_FAILURES`
    tries in a row have brought nothing new.

    Args:
        url: address, http or https.
        path: where the whole file will be.
        num_bytes: its size.
        progress: a step is a megabyte.

    Raises:
        InputError: if the server refuses, can't be trusted, has a file of another size or fails again and again, or if
            the disk has no room for the file and its extracted copy.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    with explaining_disk(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if size_of(part) > num_bytes:
            part.unlink()
        require_space(path.parent, 2 * num_bytes - size_of(part))
        _try_until_whole(url, part, num_bytes, progress)
        part.replace(path)
        _tag_file(part).unlink(missing_ok=True)


def _try_until_whole(url: str, part: Path, num_bytes: int, progress: Progress) -> None:
    most, failures = size_of(part), 0
    while size_of(part) < num_bytes:
        try:
            _go_on(url, part, num_bytes, progress)
        except _TransferError as reason:
            failures = 1 if size_of(part) > most else failures + 1
            most = max(most, size_of(part))
            if failures == MOST_FAILURES:
                raise InputError(
                    f"{url} failed {failures} times in a row at {size_of(part)} of {num_bytes} bytes ({reason}): run "
                    f"again later, or {_by_hand(part)}"
                ) from None
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))


def _go_on(url: str, part: Path, num_bytes: int, progress: Progress) -> None:
    """Try once to download the rest of a file, or all of it."""
    with _connect(url, part) as response:
        done = _start(response, part, num_bytes)
        with part.open("ab" if done else "wb") as file:
            for chunk in _receive(response):
                done += len(chunk)
                if done > num_bytes:
                    raise _wrong_size(url, part, f"more than {num_bytes}", num_bytes)
                file.write(chunk)
                progress.update(megabytes(done), megabytes(num_bytes), f"downloading {part.stem}")
    if done < num_bytes:
        raise _TransferError("the connection ended too early")


def _connect(url: str, part: Path) -> HTTPResponse:
    """Request the bytes that `part` lacks."""
    headers = {"User-Agent": "rgbflow"}
    if size_of(part):
        headers["Range"] = f"bytes={size_of(part)}-"
        if _tag_file(part).exists():
            headers["If-Range"] = _tag_file(part).read_text(encoding="utf-8")
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        reason = f"{error.code} {error.reason}"
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        elif error.code < HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _WORTH_ANOTHER_TRY:
            raise InputError(f"{url} can't be downloaded ({reason}): {_by_hand(part)}") from None
        raise _TransferError(reason) from None
    except (OSError, HTTPException) as error:
        cause: object = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise InputError(
                f"{url} can't be trusted (its certificate: {cause.verify_message}): {_by_hand(part)}"
            ) from None
        raise _TransferError(cause) from None


def _start(response: HTTPResponse, part: Path, num_bytes: int) -> int:
    """The first byte of the file in a response: the size of `part`, or 0 if the server starts from the beginning.

    Raises:
        InputError: if the server's file has another size.
        _TransferError: if the response continues another file; `part` is then removed.
    """
    etag = response.headers.get("ETag", "")
    tag = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")  # a weak ETag identifies no bytes
    known = _tag_file(part).read_text(encoding="utf-8") if _tag_file(part).exists() else ""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != size_of(part) or (tag and known and tag != known):
            part.unlink(missing_ok=True)
            raise _TransferError("the server continues another file")
        start, total = size_of(part), match[2]
    else:
        start, total = 0, response.headers.get("Content-Length", "*")
        _tag_file(part).unlink(missing_ok=True)
    if total not in ("*", str(num_bytes)):
        raise _wrong_size(response.url, part, total, num_bytes)
    if tag and not start:
        _tag_file(part).write_text(tag, encoding="utf-8")
    return start


def _receive(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(CHUNK_BYTES):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _TransferError(error) from None


def _wrong_size(url: str, part: Path, announced: str, num_bytes: int) -> InputError:
    return InputError(
        f"{url} has {announced} bytes, but {part.stem} must have {num_bytes}: give another home, or extract the "
        f"archive by hand in {part.parent} and run again"
    )


def _by_hand(part: Path) -> str:
    return f"download it by hand into {part.parent} and run again"


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".tag")
