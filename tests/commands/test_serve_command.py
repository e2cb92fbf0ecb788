"""`rgbflow serve`: wrong usage is one line before anything is loaded; Ctrl-C closes everything and is no error."""

import signal
import socket
import subprocess
import sys

import httpx
import pytest

from rgbflow.cli import main


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "give --token-file too"),
        (["--host", "192.168.1.5"], "give --token-file too"),
        (["--token-file", "short"], "at least 16 letters"),
        (["--token-file", "nowhere"], "No such file"),
        (["--origin", "game.example"], "--origin game.example must be"),
        (["--osc-map", "map.toml"], "needs --osc HOST:PORT"),
        (["--max-sessions", "0"], "must be at least 1"),
        (["nowhere"], "nowhere"),
        (["--port", "99999"], "--port 99999 can't be used"),
    ],
)
def test_wrong_usage_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("short\n")
    assert main(["serve", *arguments]) == 1
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one process")
def test_it_serves_a_bundle_until_ctrl_c(save_random_bundle, tmp_path):
    save_random_bundle(tmp_path / "bundle")
    command = [sys.executable, "-m", "rgbflow", "serve", str(tmp_path / "bundle"), "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        line = next(line for line in process.stderr if "http://" in line)
        address = "http://" + line.split("http://")[1].split("/")[0]
        with httpx.Client(trust_env=False, transport=httpx.HTTPTransport(retries=10), timeout=60) as client:
            assert client.get(f"{address}/classes").json()["classes"] == list("abcde")
            assert "<main" in client.get(f"{address}/").text
            assert "openapi.json" in client.get(f"{address}/docs").text
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
