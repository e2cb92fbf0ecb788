"""Published weights, fetched once and checked: the file's name holds the first digits of its SHA-256, as torch's do."""

import hashlib
import re
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import torch

from rgbflow.atomic import replacing
from rgbflow.errors import InputError, first_line

TIMEOUT_SECONDS = 30
CHUNK = 1 << 20  # bytes


def weights_folder() -> Path:
    """Where torchvision keeps its weights too: `TORCH_HOME` moves it."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch_weights(url: str, folder: Path | None = None) -> Path:
    """The file of published weights: the one in the folder, or else a download into it.

    Args:
        url: whose last part is the file's name, such as s3d-d76dad2f.pth.
        folder: `weights_folder` if None.

    Raises:
        InputError: if the file can't be fetched, or is damaged or another one; the message says which file to put
            where.
    """
    folder = folder or weights_folder()
    path = folder / url.rpartition("/")[2]
    if path.is_file():
        _check(path, _digest(path))
        return path
    with replacing(path) as temporary:
        digest = hashlib.sha256()
        with temporary.open("wb") as file:
            for chunk in _chunks(url, folder):
                digest.update(chunk)
                file.write(chunk)
        _check(path, digest.hexdigest(), url)
    return path


def _chunks(url: str, folder: Path) -> Iterator[bytes]:
    try:
        with urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            missing = answer.length  # as the server promises; None if it doesn't
            while chunk := answer.read(CHUNK):
                missing = missing and missing - len(chunk)
                yield chunk
        if missing:
            raise ConnectionError(f"the connection ended {missing} bytes early")
    except (HTTPException, OSError) as error:
        cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, OSError) else error
        reason = first_line(cause)
        if isinstance(error, HTTPError):
            error.close()  # it is the answer, too, and holds the connection
            reason = f"the server answered {error.code}"
        raise InputError(
            f"{url.rpartition('/')[2]} could not be fetched ({reason}): try again, or bring {url} to this machine and "
            f"put it into {folder}"
        ) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, digest: str, url: str = "") -> None:
    found = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if found and not digest.startswith(found[1]):
        what = f"what {url} gave" if url else path
        remedy = f"try again, or put the right file into {path.parent}" if url else "remove it, and it is fetched anew"
        raise InputError(
            f"{what} is damaged, or another file: its SHA-256 begins with {digest[: len(found[1])]}, not "
            f"{found[1]}: {remedy}"
        )
