"""What updates and events are told as: read back from the file, and by a real OSC server."""

import json
import queue
import socket
import threading

import numpy as np
import pytest
from pythonosc.dispatcher import Dispatcher
from pythonosc.osc_server import BlockingOSCUDPServer

from rgbflow import InputError, Prediction
from rgbflow.live.events import Event
from rgbflow.live.messages import event_messages, messages
from rgbflow.live.outlets import JsonLines, Osc
from rgbflow.live.session import Update

START = Event("start", "Wave ✋", 0.75, 1.5, None, 0.5, 2.5, 0.04)
END = Event("end", "Wave ✋", 0.5, 1.5, 4.25, 3.0, 5.0, 0.03)


def update(events=(), action="Wave ✋"):
    scores = np.array([0.125, 0.75, 0.0625, 0.0625])
    prediction = Prediction(("Sit", "Wave ✋", "Run", "Jump"), scores, {"rgb": scores}, 0.5, 2.5, {"flow": 0.001})
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


def test_an_osc_server_gets_label_action_scores_and_events(osc):
    port, got = osc
    outlet = Osc(f"127.0.0.1:{port}")
    outlet.send(update([START]))
    outlet.send_events([END])
    messages = [got.get(timeout=10) for _ in range(8)]
    outlet.close()
    assert messages[:6] == [
        ("/rgbflow/label", ("Wave ✋", 0.75)),
        ("/rgbflow/action", ("Wave ✋",)),
        ("/rgbflow/score", ("Wave ✋", 0.75)),
        ("/rgbflow/score", ("Sit", 0.125)),
        ("/rgbflow/score", ("Run", 0.0625)),
        ("/rgbflow/score", ("Jump", 0.0625)),
    ]
    assert messages[6] == ("/rgbflow/event", ("start", "Wave ✋", 0.75, 1.5, -1.0, pytest.approx(0.04)))
    assert messages[7] == ("/rgbflow/event", ("end", "Wave ✋", 0.5, 1.5, 4.25, pytest.approx(0.03)))


def test_a_receiver_that_is_not_there_is_no_error():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outlet = Osc(f"127.0.0.1:{port}")
    for _ in range(5):
        outlet.send(update([START], action=None))
    outlet.close()


@pytest.mark.parametrize("address", ["here", "127.0.0.1", ":9000", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1:osc"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InputError, match="must be HOST:PORT"):
        Osc(address)


def test_the_file_has_a_line_for_each_update_and_event_and_is_only_added_to(tmp_path):
    for _ in range(2):
        outlet = JsonLines(tmp_path / "live.jsonl")
        outlet.send(update([START]))
        lines = [json.loads(line) for line in (tmp_path / "live.jsonl").read_text(encoding="utf-8").splitlines()]
        outlet.send_events([END])
        outlet.close()
        assert lines[-1] == messages(update([START]))[1]  # there at once, for a reader that follows
    lines = [json.loads(line) for line in (tmp_path / "live.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["type"] for line in lines] == ["update", "event", "event"] * 2
    assert lines[:3] == [*messages(update([START])), *event_messages([END])]
    assert lines[2]["end_seconds"] == 4.25
