"""One client of `/live`: its newest frame, its running scores, its messages."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from starlette.websockets import WebSocket, WebSocketDisconnect

from rgbflow.errors import InputError
from rgbflow.live.events import Event, EventRules
from rgbflow.live.session import LiveRecognizer, Update
from rgbflow.serve.limits import Bucket
from rgbflow.serve.pictures import FlowPainter, decode_picture
from rgbflow.serve.protocol import (
    BAD_SETTINGS,
    HEADER,
    SLOW_READER,
    TOO_LARGE,
    TOO_MANY,
    BundleMessage,
    ErrorMessage,
    HelloMessage,
    LimitsInfo,
    NoticeMessage,
    Picture,
    ProtocolError,
    Settings,
    SettingsMessage,
    SettingsReply,
    event_messages,
    read_settings,
    update_message,
)
from rgbflow.serve.service import Networks, Service

WINDOW_SECONDS, NUM_SCORES = 2.0, 20  # usual
KEPT_FRAMES = 256  # numbers of the newest frames: an update finds that of its own among them
SILENCE_SECONDS = 0.25  # how often a client that sends nothing is looked at while an action goes on
REASON_BYTES = 120  # of a close frame


@dataclass
class _Frame:
    """A frame of the client that waits for its update."""

    picture: Picture
    arrived: float  # on the clock of time.perf_counter
    decode_seconds: float = 0.0


class Session:
    """A connected client, until it goes.

    Args:
        socket: the accepted socket.
        service: gives the networks.
    """

    def __init__(self, socket: WebSocket, service: Service):
        self._socket, self._service = socket, service
        self._wishes: dict[str, Any] = {}  # settings that the client chose
        self._turn = asyncio.Lock()  # held where a recogniser is asked or replaced
        self._networks: Networks | None = None
        self._live: LiveRecognizer | None = None
        self._settings = self._begin(service.networks, {})
        self._waiting: _Frame | None = None
        self._has_frame, self._has_news = asyncio.Event(), asyncio.Event()
        self._seen: deque[_Frame] = deque(maxlen=KEPT_FRAMES)
        self._dropped = 0
        self._is_acting, self._trouble = False, ""
        self._painter = FlowPainter()
        self._bucket = Bucket(service.limits.messages_per_second, 2 * service.limits.messages_per_second)

    async def run(self) -> None:
        """Serve the client until it leaves or breaks the rules."""
        tasks: list[asyncio.Task[None]] = []
        try:
            await self._send(self._hello())
            work = (self._receive(), self._see(), self._update(), self._follow_networks())
            tasks = [asyncio.create_task(part) for part in work]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ProtocolError as error:
            await self._close(error)
        except WebSocketDisconnect:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._finish()

    # What comes

    async def _receive(self) -> None:
        limits = self._service.limits
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            if not self._bucket.takes():
                raise ProtocolError(TOO_MANY, f"more than {limits.messages_per_second:g} messages a second")
            if (data := message.get("bytes")) is not None:
                self._put(data)
            else:
                await self._take_text(message["text"])

    def _put(self, data: bytes) -> None:
        """Keep a frame until it can be used; a frame that already waits is dropped."""
        most = self._service.limits.frame_bytes + HEADER.size
        if len(data) > most:
            raise ProtocolError(TOO_LARGE, f"a frame of {len(data):,} bytes: at most {most:,} are taken")
        frame = _Frame(Picture.unpack(data), time.perf_counter())
        if self._waiting is not None:
            self._dropped += 1
            self._service.metrics.frames.labels("dropped").inc()
        self._waiting = frame
        self._has_frame.set()

    async def _take_text(self, text: str) -> None:
        if len(text) > self._service.limits.text_bytes:
            raise ProtocolError(TOO_LARGE, f"a message of {len(text):,} characters: at most 4,096 are read")
        try:
            await self._apply(read_settings(text))
        except ProtocolError as error:
            if error.code != BAD_SETTINGS:
                raise
            await self._send(ErrorMessage(code=error.code, message=str(error), closes=False))
        else:
            await self._send(SettingsReply(settings=self._settings))

    async def _apply(self, message: SettingsMessage) -> None:
        """Apply the client's settings, all or none."""
        given = message.model_dump(exclude_unset=True, exclude={"type"})
        wishes = {name: value for name, value in (self._wishes | given).items() if value is not None}
        try:
            settings = resolved(self._networks, wishes)
            if settings.window_seconds != self._settings.window_seconds:
                await self._begin_again(self._networks, wishes)
            elif self._live is not None:
                self._live.rules = _rules(settings)
        except InputError as error:
            raise ProtocolError(BAD_SETTINGS, str(error)) from error
        self._wishes, self._settings = wishes, settings

    # What is done with it

    def _begin(self, networks: Networks | None, wishes: dict[str, Any]) -> Settings:
        """Start with these networks and no frames; returns the settings in force."""
        settings = resolved(networks, wishes)
        self._live = None if networks is None else networks.live(settings.window_seconds, _rules(settings))
        self._networks = networks
        return settings

    async def _begin_again(self, networks: Networks | None, wishes: dict[str, Any]) -> None:
        """Switch to other networks; the current action ends."""
        async with self._turn:
            before = self._live
            self._settings = self._begin(networks, wishes)
        if before is not None:
            events = before.finish()
            self._service.stage.leave(self, events)
            await self._tell_events(events)

    async def _follow_networks(self) -> None:
        while True:
            await self._service.replacement(self._networks)
            await self._begin_again(self._service.networks, self._wishes)
            await self._send(BundleMessage(**dict(self._service.about(self._networks)), settings=self._settings))

    async def _see(self) -> None:
        """Use the newest frame, in a loop."""
        outcomes = self._service.metrics.frames
        while True:
            await self._has_frame.wait()
            self._has_frame.clear()
            frame, self._waiting = self._waiting, None
            if frame is None:
                continue
            self._seen.append(frame)
            try:
                is_news, flow = await self._service.see(self._look, frame, self._live, self._settings.flow_picture)
            except ProtocolError:
                outcomes.labels("refused").inc()
                raise
            outcomes.labels("seen" if is_news else "unused").inc()
            if is_news:
                self._has_news.set()
            if flow is not None:
                await self._send(replace(frame.picture, data=flow))

    def _look(self, frame: _Frame, live: LiveRecognizer | None, wants_flow: bool) -> tuple[bool, bytes | None]:
        """In a thread: whether the frame adds anything new, and its flow as a picture on request."""
        began = time.perf_counter()
        pixels = decode_picture(frame.picture.data, self._service.limits)
        frame.decode_seconds = time.perf_counter() - began
        frame.picture = replace(frame.picture, data=b"")  # its number and time are all that is needed from now on
        if live is None or not live.see(pixels, frame.picture.time, frame.arrived):
            return False, None
        field = live.newest_flow() if wants_flow else None
        return True, None if field is None else self._painter.paint(field)

    async def _update(self) -> None:
        """Run the networks on the newest state, in a loop; without frames, the current action ends."""
        while True:
            try:
                async with asyncio.timeout(SILENCE_SECONDS if self._is_acting else None):
                    await self._has_news.wait()
            except TimeoutError:
                pass
            is_news = self._has_news.is_set()
            self._has_news.clear()
            async with self._turn:
                live = self._live
                if live is None:
                    continue
                try:
                    update = await self._service.ask(live.update if is_news else live.end_after_silence)
                except RuntimeError:
                    if self._networks is self._service.networks:
                        raise
                    continue  # its networks were replaced meanwhile: the new ones begin anew
            if update is not None:
                self._service.stage.send(self, update)
                await self._tell(update, is_news)
            if live.trouble != self._trouble:
                self._trouble = live.trouble
                if self._trouble:
                    await self._send(NoticeMessage(message=self._trouble))

    # What goes out

    async def _tell(self, update: Update, is_news: bool) -> None:
        frame = next((one for one in reversed(self._seen) if one.picture.time == update.pts_seconds), self._seen[-1])
        self._is_acting = update.action is not None
        message = update_message(update, frame.picture, self._settings.num_scores, self._dropped)
        message.seconds = stages(message.seconds, frame.decode_seconds)
        if is_news:
            self._service.metrics.count_update(update.latency_seconds, message.seconds)
        await self._send(message)
        await self._tell_events(update.events)

    async def _tell_events(self, events: Iterable[Event]) -> None:
        for message in event_messages(events):
            self._service.metrics.events.labels(message.kind).inc()
            await self._send(message)

    async def _send(self, message: BaseModel | Picture) -> None:
        try:
            async with asyncio.timeout(self._service.limits.send_seconds):
                if isinstance(message, Picture):
                    await self._socket.send_bytes(message.pack())
                else:
                    await self._socket.send_text(message.model_dump_json())
        except TimeoutError:
            raise ProtocolError(
                SLOW_READER, "the service's messages are not read: read them, or ask for fewer"
            ) from None

    async def _close(self, error: ProtocolError) -> None:
        """Send the reason and close; the web server deals with a client that does not read."""
        with suppress(ProtocolError, WebSocketDisconnect, TimeoutError):
            if error.code != SLOW_READER:
                await self._send(ErrorMessage(code=error.code, message=str(error), closes=True))
            async with asyncio.timeout(1):
                await self._socket.close(error.code, str(error).encode()[:REASON_BYTES].decode(errors="ignore"))

    async def _finish(self) -> None:
        """End the current action, because the client is gone."""
        async with self._turn:
            events = () if self._live is None else self._live.finish()
        self._service.stage.leave(self, events)
        for event in events:
            self._service.metrics.events.labels(event.kind).inc()

    def _hello(self) -> HelloMessage:
        limits = LimitsInfo.model_validate(self._service.limits, from_attributes=True)
        return HelloMessage(**dict(self._service.about(self._networks)), settings=self._settings, limits=limits)


def resolved(networks: Networks | None, wishes: Mapping[str, Any]) -> Settings:
    """The settings in force: the client's, and the usual values for the others.

    Raises:
        InputError: if they contradict each other.
    """
    usual = (1, None) if networks is None else networks.known
    rules = EventRules.suited_to(
        *usual, wishes.get("start_score"), wishes.get("end_score"), wishes.get("min_seconds", EventRules.min_seconds)
    )
    return Settings(
        start_score=rules.start_score,
        end_score=rules.end_score,
        min_seconds=rules.min_seconds,
        window_seconds=wishes.get("window_seconds", WINDOW_SECONDS),
        num_scores=wishes.get("num_scores", NUM_SCORES),
        flow_picture=wishes.get("flow_picture", False),
    )


def _rules(settings: Settings) -> EventRules:
    return EventRules(settings.start_score, settings.end_score, settings.min_seconds)


def stages(seconds: Mapping[str, float], decode_seconds: float) -> dict[str, float]:
    """The stages of an update, with the decoding of the picture apart from the waiting before it."""
    rest = dict(seconds)
    capture = rest.pop("capture", decode_seconds)
    return {"wait": max(0.0, capture - decode_seconds), "decode": decode_seconds, **rest}
