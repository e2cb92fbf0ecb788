"""Published weights come whole and unchanged, or not at all."""

import hashlib
import re

import pytest

from rgbflow import InputError
from rgbflow.networks.fetching import fetch_weights

CONTENT = bytes(range(256)) * 8192  # 2 MiB
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


def test_a_file_is_fetched_once(served, tmp_path):
    folder, address = served
    (folder / NAME).write_bytes(CONTENT)
    path = fetch_weights(f"{address}/{NAME}", tmp_path / "new" / "cache")
    assert path == tmp_path / "new" / "cache" / NAME
    assert path.read_bytes() == CONTENT
    (folder / NAME).unlink()
    assert fetch_weights(f"{address}/{NAME}", tmp_path / "new" / "cache") == path


def test_a_refused_download_names_the_file_and_its_place(served, tmp_path):
    _, address = served
    wanted = rf"net-\w+\.pth could not be fetched \(the server answered 404\): bring {address}/{NAME} .* {tmp_path}$"
    with pytest.raises(InputError, match=wanted):
        fetch_weights(f"{address}/{NAME}", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_without_a_network_the_message_is_the_same(tmp_path):
    wanted = rf"could not be fetched \(.+\): bring http://127.0.0.1:9/{NAME} to this machine and put it into {tmp_path}"
    with pytest.raises(InputError, match=wanted):
        fetch_weights(f"http://127.0.0.1:9/{NAME}", tmp_path)


def test_another_file_is_refused_and_not_kept(served, tmp_path):
    folder, address = served
    (folder / NAME).write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(
        InputError, match=rf"what {address}/{NAME} gave is damaged, or another file: its SHA-256 begins"
    ):
        fetch_weights(f"{address}/{NAME}", tmp_path / "cache")
    assert not (tmp_path / "cache" / NAME).exists()


@pytest.mark.parametrize("there", [CONTENT[: len(CONTENT) // 2], b""])
def test_half_a_file_in_its_place_is_refused_by_name(tmp_path, there):
    (tmp_path / NAME).write_bytes(there)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / NAME} is damaged") + ".*: remove it"):
        fetch_weights(f"http://127.0.0.1:9/{NAME}", tmp_path)


def test_a_copy_that_lies_in_its_place_needs_no_network(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch_weights(f"http://127.0.0.1:9/{NAME}", tmp_path) == tmp_path / NAME
