"""The messages of the socket `/live`, version 1, in both directions. docs/protocol.md."""

import math
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rgbflow.live.events import Event
from rgbflow.live.session import Update
from rgbflow.prediction import Prediction
from rgbflow.stream import Stream

SUBPROTOCOL = "rgbflow.v1"
HEADER = struct.Struct("<IId")  # number, flags, time in seconds
BAD_MESSAGE, SLOW_READER, TOO_LARGE, BAD_PICTURE, BAD_SETTINGS, TOO_MANY = 4400, 4408, 4413, 4415, 4422, 4429

Source = Literal["given", "demo", "imagenet"]
Score = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class ProtocolError(Exception):
    """A client broke the rules: the close code of the socket, and the reason."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Picture:
    """A picture with its header: a frame of a client, or the flow that the service shows for it.

    Attributes:
        number: the client's number of the frame.
        time: seconds on the client's clock.
        data: the bytes of a JPEG or WebP file.
    """

    number: int
    time: float
    data: bytes

    @classmethod
    def unpack(cls, message: bytes) -> "Picture":
        """Read a binary message.

        Raises:
            ProtocolError: if it is too short, has unknown flags, or its time is not finite.
        """
        if len(message) <= HEADER.size:
            raise ProtocolError(BAD_MESSAGE, f"a frame of {len(message)} bytes: 16 bytes of header come before it")
        number, flags, seconds = HEADER.unpack_from(message)
        if flags:
            raise ProtocolError(BAD_MESSAGE, f"flags ({flags}) of a frame must be 0 in {SUBPROTOCOL}")
        if not math.isfinite(seconds):
            raise ProtocolError(BAD_MESSAGE, f"time ({seconds}) of a frame must be a finite number of seconds")
        return cls(number, seconds, message[HEADER.size :])

    def pack(self) -> bytes:
        return HEADER.pack(self.number, 0, self.time) + self.data


class SettingsMessage(BaseModel):
    """Of a client: how its session works from now on. What is left out stays; null is the usual value."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["settings"]
    start_score: Score | None = Field(default=None, description="an action starts when its score reaches this")
    end_score: Score | None = Field(default=None, description="it ends when its score falls below this")
    min_seconds: Annotated[float, Field(ge=0, le=60)] | None = Field(
        default=None, description="the shortest action reported"
    )
    window_seconds: Annotated[float, Field(gt=0, le=60)] | None = Field(
        default=None, description="the scores are of so long"
    )
    num_scores: Annotated[int, Field(ge=1, le=1000)] | None = Field(default=None, description="classes of an update")
    flow_picture: bool | None = Field(default=None, description="send the flow as a picture in colour")


class Settings(BaseModel):
    """How a session works."""

    model_config = ConfigDict(extra="forbid")

    start_score: Score
    end_score: Score
    min_seconds: Seconds
    window_seconds: Seconds
    num_scores: int
    flow_picture: bool


class BundleInfo(BaseModel):
    """The networks that answer."""

    name: str = Field(description="of the bundle's folder, or its hub id")
    source: Source = Field(description="given: by name; demo: the demo's; imagenet: only taught classes")
    streams: list[Stream]
    frame_rate: float | None = Field(description="frames per second that the networks know; null while there are none")
    engine: str | None = Field(description="what runs the networks")
    engine_note: str | None = Field(default=None, description="why it is not the engine that the service started with")


class FusionInfo(BaseModel):
    """The fusion of the streams' scores."""

    method: str
    temperature: float
    threshold: float | None = Field(description="below it a label is unknown; null where everything gets a name")


class About(BaseModel):
    """The classes, and the networks behind them."""

    classes: list[str] = Field(description="empty while nothing is taught")
    no_action: str | None = Field(
        default=None, description="the class of what is none of the actions; it is never a label"
    )
    bundle: BundleInfo
    fusion: FusionInfo | None = Field(description="null while nothing is taught")


class LimitsInfo(BaseModel):
    """The limits on what a client may send."""

    frame_bytes: int
    frame_pixels: int
    frame_side: int = Field(description="pixels that the shorter side of a picture has at least")
    messages_per_second: float


class _Message(BaseModel):
    version: Literal[1] = 1


class HelloMessage(About, _Message):
    """The first message of the service."""

    type: Literal["hello"] = "hello"
    settings: Settings
    limits: LimitsInfo


class BundleMessage(About, _Message):
    """The networks were replaced; all later messages come from the new ones."""

    type: Literal["bundle"] = "bundle"
    settings: Settings


class SettingsReply(_Message):
    """All settings that apply from now on."""

    type: Literal["settings"] = "settings"
    settings: Settings


class ClassScores(BaseModel):
    """The scores of one class."""

    label: str
    fused: Score
    rgb: Score | None = Field(description="null where the bundle has no such stream")
    flow: Score | None = Field(description="null where the bundle has no such stream")


class UpdateMessage(_Message):
    """The current answer."""

    type: Literal["update"] = "update"
    number: int = Field(description="of the newest frame that this says something about")
    time: float = Field(description="of that frame, as the client gave it")
    label: str = Field(description='the likeliest class, or "unknown"')
    score: Score = Field(description="of the likeliest class")
    action: str | None = Field(description="the action in progress; null when idle")
    evidence_start_seconds: float = Field(description="time of the oldest frame behind the scores")
    scores: list[ClassScores] = Field(description="of the likeliest classes, best first")
    latency_seconds: Seconds = Field(description="from the arrival of that frame at the service to this message")
    seconds: dict[str, float] = Field(description="of each stage that ran")
    dropped: int = Field(description="frames of this session that a newer one replaced before they were read")


class EventMessage(_Message):
    """An action started or ended."""

    type: Literal["event"] = "event"
    kind: Literal["start", "end"]
    label: str
    score: Score = Field(description="at the start; at the end the mean over the action")
    start_seconds: float
    end_seconds: float | None = Field(description="null during the action")
    evidence_start_seconds: float
    evidence_end_seconds: float
    latency_seconds: Seconds


class NoticeMessage(_Message):
    """A notice to show; the session continues."""

    type: Literal["notice"] = "notice"
    message: str


class ErrorMessage(_Message):
    """Something that the client sent can't be used."""

    type: Literal["error"] = "error"
    code: int = Field(ge=4400, le=4499, description="the code that the socket is closed with, where it is")
    message: str
    closes: bool = Field(description="whether the socket is closed now")


ServerMessage = Annotated[
    HelloMessage | BundleMessage | SettingsReply | UpdateMessage | EventMessage | NoticeMessage | ErrorMessage,
    Field(discriminator="type"),
]


def read_settings(text: str) -> SettingsMessage:
    """Read a JSON message of a client.

    Raises:
        ProtocolError: if it is not JSON or of an unknown type (4400), or a setting is unknown or out of range (4422).
    """
    try:
        return SettingsMessage.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        is_unreadable = first["type"] in ("json_invalid", "model_type") or place == "type"
        subject = f"setting {place}" if place else "message"
        code = BAD_MESSAGE if is_unreadable else BAD_SETTINGS
        raise ProtocolError(code, f"{subject}: {first['msg']}") from error


def update_message(update: Update, picture: Picture, num_scores: int, dropped: int) -> UpdateMessage:
    """An update as a message.

    Args:
        update: from a live recogniser.
        picture: the newest frame that the scores describe.
        num_scores: number of the likeliest classes in it.
        dropped: frames dropped so far.
    """
    prediction = update.prediction
    return UpdateMessage(
        number=picture.number,
        time=picture.time,
        label=update.label,
        score=prediction.score,
        action=update.action,
        evidence_start_seconds=prediction.start_seconds,
        scores=class_scores(prediction, num_scores),
        latency_seconds=update.latency_seconds,
        seconds=prediction.seconds,
        dropped=dropped,
    )


def class_scores(prediction: Prediction, count: int) -> list[ClassScores]:
    """Scores of the likeliest classes, best first."""
    rows = []
    for answer in prediction.top(count):
        index = prediction.classes.index(answer.label)
        streams = {stream: float(scores[index]) for stream, scores in prediction.stream_scores.items()}
        rgb, flow = streams.get("rgb"), streams.get("flow")
        rows.append(ClassScores(label=answer.label, fused=answer.score, rgb=rgb, flow=flow))
    return rows


def event_messages(events: Iterable[Event]) -> list[EventMessage]:
    """Events as messages."""
    return [EventMessage(**asdict(event)) for event in events]
