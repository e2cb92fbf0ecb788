"""Send a camera or a video to `rgbflow serve` and print the actions it recognises. docs/protocol.md has the messages.

pip install websockets opencv-python-headless
python python_client.py clip.mp4
python python_client.py 0                                  # the first camera
python python_client.py 0 --server wss://host/live --token-file token
"""

import argparse
import asyncio
import json
import random
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

WIDTH = 320  # pixels; the service needs no more
LAST_SECONDS = 1.5  # until the end of the last action is reported: it ends half a second after the last frame
FIRST_WAIT, LONGEST_WAIT = 0.25, 8.0  # seconds before a new connection; the wait doubles after each failure


def pack(number: int, seconds: float, pixels: np.ndarray) -> bytes:
    """A frame as the service reads it: 16 bytes of header, little-endian, then a JPEG picture."""
    height, width = pixels.shape[:2]
    small = cv2.resize(pixels, (WIDTH, round(height * WIDTH / width)), interpolation=cv2.INTER_AREA)
    picture = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return struct.pack("<IId", number, 0, seconds) + picture.tobytes()


async def frames(source: str) -> AsyncIterator[tuple[float, np.ndarray]]:
    """The frames (height, width, 3) of a camera or a file at the rate at which they were taken, each with its time."""
    is_camera = source.isdigit()
    capture = cv2.VideoCapture(int(source) if is_camera else source)
    if not capture.isOpened():
        sys.exit(f"{source} can't be opened: give a video or the number of a camera")
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    start, count = time.monotonic(), 0
    try:
        while True:
            is_there, pixels = await asyncio.to_thread(capture.read)
            if not is_there:
                return
            seconds = time.monotonic() - start if is_camera else count / rate
            await asyncio.sleep(start + seconds - time.monotonic())  # a file is read faster than it was taken
            yield seconds, pixels
            count += 1
    finally:
        capture.release()


class Link:
    """The connection to the service: another socket after each interruption, and none in between."""

    def __init__(self) -> None:
        self.socket: ClientConnection | None = None

    async def send(self, message: bytes) -> None:
        """Send a frame; a frame that comes during an interruption is dropped, as nobody wants old ones."""
        if self.socket is not None:
            with suppress(ConnectionClosed):
                await self.socket.send(message)


async def send(link: Link, source: str) -> None:
    number = 0
    async for seconds, pixels in frames(source):
        number += 1
        await link.send(pack(number, seconds, pixels))
    await asyncio.sleep(LAST_SECONDS)


async def receive(socket: ClientConnection) -> None:
    """Print what the service reports, until the socket is closed."""
    label = None
    async for text in socket:
        message = json.loads(text)
        match message["type"]:
            case "hello" | "bundle":
                print(f"{message['bundle']['name']} recognises {', '.join(message['classes']) or 'nothing yet'}")
            case "update" if message["label"] != label:
                label = message["label"]
                print(f"{message['time']:6.2f} s  {label} {message['score']:.2f}")
            case "event" if message["kind"] == "start":
                print(f"{message['start_seconds']:6.2f} s  START {message['label']} {message['score']:.2f}")
            case "event":
                print(f"{message['end_seconds']:6.2f} s  END   {message['label']} {message['score']:.2f}")
            case "notice" | "error":
                print(message["message"], file=sys.stderr)


async def stay_connected(link: Link, server: str, token: str | None) -> None:
    """Receive for ever: after an interruption connect again, unless the service refuses this client."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    wait, was_connected = FIRST_WAIT, False
    while True:
        try:
            async with connect(server, subprotocols=["rgbflow.v1"], additional_headers=headers) as link.socket:
                wait, was_connected = FIRST_WAIT, True
                await receive(link.socket)
            reason = "the service has ended"
        except ConnectionClosed as error:
            if error.rcvd and 4400 <= error.rcvd.code < 4500:  # what this client sends can't be used
                raise
            reason = "the connection is lost"
        except (OSError, InvalidHandshake) as error:
            is_refused = isinstance(error, InvalidStatus) and error.response.status_code < 429
            if is_refused or not was_connected:
                raise
            reason = "the service does not answer"
        link.socket = None
        pause = wait * random.uniform(0.75, 1.25)  # not all clients of a service in the same moment
        print(f"{reason}: connecting again in {pause:.1f} s", file=sys.stderr)
        await asyncio.sleep(pause)
        wait = min(2 * wait, LONGEST_WAIT)


async def run(source: str, server: str, token: str | None) -> None:
    link = Link()
    receiving = asyncio.create_task(stay_connected(link, server, token))
    sending = asyncio.create_task(send(link, source))
    done, others = await asyncio.wait([receiving, sending], return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    for task in done:
        task.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a video, or the number of a camera")
    parser.add_argument("--server", default="ws://127.0.0.1:8000/live")
    parser.add_argument("--token-file", type=Path)
    given = parser.parse_args()
    token = given.token_file.read_text().strip() if given.token_file else None
    try:
        asyncio.run(run(given.source, given.server, token))
    except InvalidStatus as error:
        sys.exit(f"{given.server} refused: {error.response.body.decode()}")
    except (OSError, ConnectionClosed, InvalidHandshake) as error:
        sys.exit(f"{given.server}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
