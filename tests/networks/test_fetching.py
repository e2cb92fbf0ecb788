"""Published weights come whole and unchanged, or not at all."""

import hashlib
import re
from pathlib import Path

import huggingface_hub
import pytest

from rgbflow import InputError
from rgbflow.networks import fetching, videomae
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
    wanted = rf"{NAME} could not be fetched \(the server answered 404\): .* bring {address}/{NAME} .* {tmp_path}$"
    with pytest.raises(InputError, match=wanted):
        fetch_weights(f"{address}/{NAME}", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["served"]


def test_without_a_network_the_message_is_the_same(tmp_path):
    wanted = (
        rf"could not be fetched \(.+\): .* bring http://127.0.0.1:9/{NAME} to this machine and put it into {tmp_path}"
    )
    with pytest.raises(InputError, match=wanted):
        fetch_weights(f"http://127.0.0.1:9/{NAME}", tmp_path)


def test_another_file_is_refused_and_not_kept(served, tmp_path):
    folder, address = served
    (folder / NAME).write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(
        InputError,
        match=rf"what {address}/{NAME} gave is damaged, or another file: its SHA-256 begins .* into {tmp_path}/cache$",
    ):
        fetch_weights(f"{address}/{NAME}", tmp_path / "cache")
    assert not (tmp_path / "cache" / NAME).exists()


@pytest.mark.parametrize("sent", [0, 1000, len(CONTENT) - 1])
def test_a_connection_that_is_cut_leaves_nothing(cut_server, tmp_path, sent):
    """Whether the name holds a hash or not: the promised length alone tells it."""
    for name in (NAME, "net.pth"):
        url = f"{cut_server(CONTENT, sent)}/{name}"
        missing = len(CONTENT) - sent
        wanted = (
            rf"{name} could not be fetched \(the connection ended {missing} bytes early\): .* into {tmp_path}/cache"
        )
        with pytest.raises(InputError, match=wanted):
            fetch_weights(url, tmp_path / "cache")
        assert not list((tmp_path / "cache").iterdir())


def test_a_server_that_stops_in_the_middle_is_given_up(cut_server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.2)
    url = f"{cut_server(CONTENT, 1000, stays=True)}/{NAME}"
    with pytest.raises(InputError, match=rf"could not be fetched \(.*timed out.*\): .* put it into {tmp_path}/cache"):
        fetch_weights(url, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("there", [CONTENT[: len(CONTENT) // 2], b""])
def test_half_a_file_in_its_place_is_refused_by_name(tmp_path, there):
    (tmp_path / NAME).write_bytes(there)
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / NAME} is damaged") + ".*: remove it"):
        fetch_weights(f"http://127.0.0.1:9/{NAME}", tmp_path)


def test_a_copy_that_lies_in_its_place_needs_no_network(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch_weights(f"http://127.0.0.1:9/{NAME}", tmp_path) == tmp_path / NAME


def test_videomae_lies_where_the_message_says(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _no_network)
    with pytest.raises(
        InputError, match=r"config\.json of MCG-NJU/.* could not be fetched .*\(no route\).* into (.+)$"
    ) as caught:
        videomae.kinetics_bundle("videomae_base")
    folder = Path(str(caught.value).rpartition(" into ")[2])
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"id2label": {"0": "abseiling", "1": "zumba"}}')
    assert videomae.kinetics_bundle("videomae_base").classes == ("abseiling", "zumba")


def _no_network(*_: object) -> None:
    raise OSError("no route")
