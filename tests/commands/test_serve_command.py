"""`rgbflow serve`: wrong usage is one line, before anything is loaded."""

import socket

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
