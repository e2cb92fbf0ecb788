"""What goes out by OSC: read by python-osc's server and by liblo's oscdump; who sets what by a mapping, and when."""

import queue
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer

from rgbflow import InputError, Prediction
from rgbflow.live.events import Event
from rgbflow.live.osc import MappedOsc, Osc, open_osc
from rgbflow.live.osc_map import Rule, Switchboard, read_rules
from rgbflow.live.session import Update

CLASSES = ("Sit", "Wave ✋", "Run", "Jump")
START = Event("start", "Wave ✋", 0.75, 1.5, None, 0.5, 2.5, 0.04)
END = Event("end", "Wave ✋", 0.5, 1.5, 4.25, 3.0, 5.0, 0.03)
EMOTE, BOW = "/avatar/parameters/VRCEmote", "/avatar/parameters/Bow"


def update(events=(), action="Wave ✋"):
    scores = np.array([0.125, 0.75, 0.0625, 0.0625])
    prediction = Prediction(CLASSES, scores, {"rgb": scores}, 0.5, 2.5, {"flow": 0.001})
    return Update(prediction, action, tuple(events), 0.04)


@pytest.fixture
def osc():
    """The port of a server on this machine, and the messages that it gets."""
    got, dispatcher = queue.Queue(), Dispatcher()
    dispatcher.set_default_handler(lambda address, *values: got.put((address, values)))
    server = BlockingOSCUDPServer(("127.0.0.1", 0), dispatcher)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], got
    server.shutdown()
    thread.join()
    server.server_close()


def take(got, count):
    return [got.get(timeout=60) for _ in range(count)]


def test_an_osc_server_gets_label_action_scores_classes_and_events(osc):
    port, got = osc
    outlet = Osc(f"127.0.0.1:{port}")
    outlet.send(update([START]))
    outlet.close()
    messages = take(got, 15)
    assert messages[:6] == [
        ("/rgbflow/label", ("Wave ✋", 0.75)),
        ("/rgbflow/action", ("Wave ✋",)),
        ("/rgbflow/score", ("Wave ✋", 0.75)),
        ("/rgbflow/score", ("Sit", 0.125)),
        ("/rgbflow/score", ("Run", 0.0625)),
        ("/rgbflow/score", ("Jump", 0.0625)),
    ]
    assert messages[6:14] == [
        ("/rgbflow/action/Sit", (0.125,)),
        ("/rgbflow/active/Sit", (False,)),
        ("/rgbflow/action/Wave__", (0.75,)),
        ("/rgbflow/active/Wave__", (True,)),
        ("/rgbflow/action/Run", (0.0625,)),
        ("/rgbflow/active/Run", (False,)),
        ("/rgbflow/action/Jump", (0.0625,)),
        ("/rgbflow/active/Jump", (False,)),
    ]
    assert messages[14] == ("/rgbflow/event", ("start", "Wave ✋", 0.75, 1.5, -1.0, pytest.approx(0.04)))


@pytest.mark.parametrize("ending", ["events", "close"])
def test_every_class_is_off_at_the_end_whatever_ends_it(osc, ending):
    port, got = osc
    outlet = Osc(f"127.0.0.1:{port}")
    outlet.send(update([START]))
    assert take(got, 15)
    if ending == "events":
        outlet.send_events([END])
        assert take(got, 1) == [
            ("/rgbflow/event", ("end", "Wave ✋", 0.5, 1.5, 4.25, pytest.approx(0.03))),
        ]
    outlet.close()
    last = dict(take(got, 9))
    assert {address: value for address, (value,) in last.items()} == {
        **{f"/rgbflow/action/{name}": 0.0 for name in ("Sit", "Wave__", "Run", "Jump")},
        **{f"/rgbflow/active/{name}": False for name in ("Sit", "Wave__", "Run", "Jump")},
        "/rgbflow/action": "",
    }


def test_an_independent_receiver_reads_the_same(tmp_path):
    if shutil.which("oscdump") is None:
        pytest.skip("oscdump is not there: Debian's liblo-tools has it")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(["oscdump", "-L", str(port)], stdout=subprocess.PIPE, text=True) as dump:
        reader = _Lines(dump.stdout)
        plain = Osc(f"127.0.0.1:{port}")
        mapped = MappedOsc(f"127.0.0.1:{port}", [Rule("Wave ✋", EMOTE, "int", 3, 0), Rule("Sit", BOW)])
        while not reader.has("/rgbflow/active/Wave__ T"):  # until it listens
            plain.send(update([START]))
            mapped.send(update())
            time.sleep(0.05)
        mapped.close()
        plain.close()
        for text in ("/rgbflow/action/Wave__ f", "/rgbflow/event ", f"{EMOTE} i 0", f"{BOW} F"):
            while not reader.has(text):
                time.sleep(0.01)
        dump.terminate()
        reader.finish()  # before its stream is closed
    lines = "\n".join(reader.lines)
    assert re.search(r"/rgbflow/action/Wave__ f 0\.75", lines)
    assert re.search(r'/rgbflow/event sffff? ?"start"|/rgbflow/event ssffff "start"', lines)
    assert re.search(f"{BOW} F", lines)


class _Lines:
    """What a program prints, as it prints it."""

    def __init__(self, stream):
        self.lines = []
        self._reading = threading.Thread(target=lambda: self.lines.extend(stream), daemon=True)
        self._reading.start()
        self._end = time.monotonic() + 60

    def has(self, text):
        assert time.monotonic() < self._end, self.lines
        return any(text in line for line in self.lines)

    def finish(self):
        """Wait for the end of the stream."""
        self._reading.join(60)


def test_a_mapping_sends_what_it_says_and_nothing_else(osc):
    port, got = osc
    outlet = MappedOsc(f"127.0.0.1:{port}", [Rule("Wave ✋", EMOTE, "int", 3, 0), Rule("Sit", BOW)])
    assert sorted(take(got, 2)) == [(BOW, (False,)), (EMOTE, (0,))]  # from a known state
    outlet.send(update([START]))
    assert take(got, 1) == [(EMOTE, (3,))]
    outlet.send_events([END])
    assert take(got, 1) == [(EMOTE, (0,))]
    outlet.send(update(action="Sit"))
    assert take(got, 1) == [(BOW, (True,))]
    outlet.close()
    assert sorted(take(got, 2)) == [(BOW, (False,)), (EMOTE, (0,))]
    assert got.empty()


def test_on_is_held_and_values_are_a_tenth_of_a_second_apart():
    board = Switchboard([Rule("wave", EMOTE, "int", 1, 0, hold_seconds=2.0), Rule("bow", EMOTE, "int", 2, 0)])
    assert board.due(0.0) == [(EMOTE, 0)]
    board.act("wave")
    assert board.due(0.05) == []
    assert board.next_due() == pytest.approx(0.1)
    assert board.due(0.1) == [(EMOTE, 1)]
    assert board.next_due() is None
    board.act(None)
    assert board.due(2.0) == []
    board.act("bow")
    assert board.due(2.15) == [(EMOTE, 2)]
    board.act("jump")  # which the mapping doesn't know
    assert board.due(2.3) == [(EMOTE, 0)]


def test_an_address_never_gets_more_than_ten_values_a_second_and_ends_as_wanted():
    board, sent = Switchboard([Rule("wave", BOW)]), []
    for step in range(1000):
        board.act("wave" if step % 2 else None)
        sent += [(step / 100, value) for _, value in board.due(step / 100)]
    times = np.array([at for at, _ in sent])
    assert len(sent) > 50
    assert np.diff(times).min() >= 0.1 - 1e-9
    assert [sent[-1][1], *(value for _, value in board.due(11.0))][-1] is True
    assert list(board.off()) == [(BOW, False)]


def test_a_mapping_file_is_read(tmp_path):
    path = tmp_path / "vrchat.toml"
    path.write_text(
        f'[[send]]\naction = "wave"\naddress = "{EMOTE}"\ntype = "int"\non = 1\noff = 0\nhold_seconds = 2\n'
        f'[[send]]\naction = "bow"\naddress = "{BOW}"\n'
        '[[send]]\naction = "lean"\naddress = "/avatar/parameters/Lean"\ntype = "float"\non = -1\n'
    )
    assert read_rules(path) == (
        Rule("wave", EMOTE, "int", 1, 0, 2.0),
        Rule("bow", BOW, "bool", True, False),
        Rule("lean", "/avatar/parameters/Lean", "float", -1, 0.0),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("send", "is not TOML"),
        ("", r"must hold only tables \[\[send\]\]"),
        ("[send]\naction = 'a'", r"must hold only tables \[\[send\]\]"),
        ("[[send]]\naction = 'a'", "action and an address"),
        ("[[send]]\naction = 'a'\naddress = 'b'", "must begin with /"),
        ("[[send]]\naction = 'a'\naddress = '/b c'", "must begin with /"),
        ("[[send]]\naction = 'a'\naddress = '/b'\ntype = 'text'", "must be one of bool, int, float"),
        ("[[send]]\naction = 'a'\naddress = '/b'\nvalue = 3", r"key \(value\)"),
        ("[[send]]\naction = 'a'\naddress = '/b'\non = 3", "must be true or false"),
        (f"[[send]]\naction = 'a'\naddress = '{EMOTE}'\ntype = 'int'\non = 256", "0…255"),
        (f"[[send]]\naction = 'a'\naddress = '{EMOTE}'\ntype = 'int'\non = 1.5", "whole number"),
        (f"[[send]]\naction = 'a'\naddress = '{EMOTE}'\ntype = 'float'\non = 1.5", "-1…1"),
        (f"[[send]]\naction = 'a'\naddress = '{EMOTE}'\ntype = 'float'\non = nan", "must be a number"),
        ("[[send]]\naction = 'a'\naddress = '/b'\nhold_seconds = -1", "hold_seconds"),
        ("[[send]]\naction = 'a'\naddress = '/b'\n" * 2, "two rules for a"),
        ("[[send]]\naction = 'a'\naddress = '/b'\n[[send]]\naction = 'c'\naddress = '/b'\ntype = 'int'", "two types"),
    ],
)
def test_a_mapping_that_is_wrong_is_named(tmp_path, text, words):
    (tmp_path / "map.toml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_rules(tmp_path / "map.toml")


def test_a_receiver_that_is_not_there_is_no_error():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outlet = Osc(f"127.0.0.1:{port}")
    for _ in range(5):
        outlet.send(update([START], action=None))
    outlet.close()


@pytest.mark.parametrize("address", ["here", "127.0.0.1", ":9000", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1:osc"])
@pytest.mark.parametrize("mapping", [None, Path("vrchat.toml")])
def test_an_address_that_is_none_is_refused(address, mapping, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("vrchat.toml").write_text("[[send]]\naction = 'a'\naddress = '/b'")
    with pytest.raises(InputError, match="must be HOST:PORT"):
        open_osc(address, mapping)
