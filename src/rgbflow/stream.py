"""A stream is data: one record says how its input is made and which network reads it. No heavy import."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, get_args

from rgbflow.errors import InputError

Stream = Literal["rgb", "flow"]  # the paper's spatial and motion network
STREAMS: tuple[Stream, ...] = ("rgb", "flow")
PLANES = {"rgb": 3, "flow": 2}  # red, green, blue; u, v
FlowMethod = Literal["dis", "farneback", "tvl1"]
DisPreset = Literal["ultrafast", "fast", "medium"]
# A field is kept at 1/reduction of the working size. DIS works at this size and scales its result up; of the others
# half the size keeps as much as JPEG does (docs/data.md).
OWN_REDUCTION = {"dis ultrafast": 4, "dis fast": 4, "dis medium": 2, "farneback": 2, "tvl1": 2}
SMALLEST_FIELD = 48  # pixels of the shorter side; a smaller field is not reduced so far
EngineName = Literal["auto", "torch", "openvino", "onnx"]  # what runs a network
EnginePrecision = Literal["auto", "fp32", "bf16"]  # what it computes in; auto: bf16 where the hardware is made for it
Crops = Literal[1, 3, 10]  # of each snippet at test time
NUM_SNIPPETS = 25  # of a clip at test time (Simonyan and Zisserman 2014, section 6)
WINDOW_SNIPPETS = 5  # of a window of a timeline
UnfittedFusion = Literal["average", "product"]  # needs no fitted numbers
FusionMethod = Literal[UnfittedFusion, "weighted", "tempered", "stacking", "reliability"]
Resize = Literal["area", "bilinear"]  # means of areas; or torch's bilinear scaling, which smooths nothing before
DEFAULT_FUSION: UnfittedFusion = "average"  # of a new bundle; what is fitted replaces it where that is clearly better
STACK_LENGTH = 10  # L of flow, unless a training says otherwise (Simonyan and Zisserman 2014, section 4.1)


@dataclass(frozen=True)
class FlowSettings:
    """How flow is computed and stored; recorded in the store and in the bundle."""

    method: FlowMethod = "dis"
    preset: DisPreset = "fast"  # of DIS; the other methods have none
    bound: float = 20.0  # pixels per frame step; larger displacements are clipped
    reduction: int = 0  # a field has 1/reduction of the working size, at least SMALLEST_FIELD; 0: OWN_REDUCTION

    def __post_init__(self):
        if self.method not in get_args(FlowMethod):
            raise InputError(f"flow method {self.method!r} is unknown: use one of {', '.join(get_args(FlowMethod))}")
        if self.preset not in get_args(DisPreset):
            raise InputError(f"DIS preset {self.preset!r} is unknown: use one of {', '.join(get_args(DisPreset))}")
        if not self.bound > 0:
            raise InputError(f"bound ({self.bound}) must be above 0 pixels per frame step: 20 is usual")
        if self.reduction == 0:
            name = f"dis {self.preset}" if self.method == "dis" else self.method
            object.__setattr__(self, "reduction", OWN_REDUCTION[name])
        if self.reduction not in (1, 2, 4):
            raise InputError(f"flow reduction ({self.reduction}) must be 1, 2 or 4: 1 stores fields at full size")


@dataclass(frozen=True)
class Preparation:
    """How every frame is prepared before any stream reads it; shared by both streams, the store and the bundle."""

    short_side: int = 256  # pixels of the shorter side of the working size
    flow: FlowSettings = field(default_factory=FlowSettings)
    jpeg_quality: int | None = 96  # of what is kept of frames and flow; None: nothing is lost
    frame_rate: float | None = None  # frames per second that a video is resampled to; None: as it is
    square: bool = False  # frames are squeezed to short_side × short_side: crops then see what is at the sides
    width: int | None = None  # frames are squeezed to short_side × width, where a network was trained so
    resize: Resize = "area"  # how a frame is made smaller; larger ones are bilinear

    def __post_init__(self):
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise InputError(f"jpeg_quality ({self.jpeg_quality}) must be in 1…100, or None for lossless: 96 is usual")
        if self.frame_rate is not None and not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise InputError(f"frame_rate ({self.frame_rate}) must be above 0 frames per second: 25 is usual")
        if self.resize not in get_args(Resize):
            raise InputError(f"resize {self.resize!r} is unknown: use one of {', '.join(get_args(Resize))}")
        if self.width is not None and self.width < self.short_side:
            raise InputError(f"width ({self.width}) must be at least short_side ({self.short_side}), or None")

    @property
    def aspect(self) -> float | None:
        """Width over height of what all frames are squeezed to; None where each keeps its own."""
        return 1.0 if self.square else self.width / self.short_side if self.width else None

    @property
    def flow_reduction(self) -> int:
        """How many times smaller than the working size a flow field is, in height and in width: 1, 2 or 4."""
        reduction = self.flow.reduction
        while reduction > 1 and self.short_side // reduction < SMALLEST_FIELD:
            reduction //= 2
        return reduction

    def side_of(self, stream: Stream) -> int:
        """Shorter side in pixels of what a store keeps for a stream: of a frame, or of a flow field."""
        return self.short_side // (self.flow_reduction if stream == "flow" else 1)

    def as_dict(self) -> dict:
        values, usual = asdict(self), Preparation()
        for name in ("square", "width", "resize"):  # as older stores say it: these are to stay valid
            if values[name] == getattr(usual, name):
                del values[name]
        return values

    @classmethod
    def from_dict(cls, values: dict) -> "Preparation":
        """Read what `as_dict` returned; a missing value means the setting that older versions always used."""
        flow = FlowSettings(**{"reduction": 1, **values["flow"]})
        return cls(**{"jpeg_quality": None, "frame_rate": None, **values, "flow": flow})


@dataclass(frozen=True)
class StreamSpec:
    """One stream: the form of its snippets and the backbone that reads them."""

    stream: Stream
    backbone: str
    input_size: int  # pixels; the network sees input_size × input_size
    stack_length: int  # L: frames or flow fields of a snippet
    mean: tuple[float, ...]  # per plane, of values scaled to 0…1
    std: tuple[float, ...]
    crop_fraction: float = 0.875  # side of the centre square that is shown, as a share of the short side
    dropout: float = 0.0  # before the classifier
    subtract_mean_flow: bool = False  # from each field its mean, which a moving camera makes
    algorithm: str = "two-stream"  # the family of its network, see `networks.families`
    mirrored: bool = True  # half of the training's snippets were mirrored, so a test may mirror too
    stride: float = 1  # from one frame or field of a snippet to the next; whole where there is no frame_rate
    frame_rate: float | None = None  # frames per second of a snippet: its stride is then that of each clip, see `paced`

    def __post_init__(self):
        planes = PLANES[self.stream]
        if self.subtract_mean_flow and self.stream == "rgb":
            raise InputError("subtract_mean_flow is for the flow stream: leave it out for rgb")
        if self.input_size < 16:
            raise InputError(f"input_size ({self.input_size}) must be at least 16 pixels: 224 is usual")
        if self.stack_length < 1:
            raise InputError(f"stack_length ({self.stack_length}) must be at least 1: 1 is the paper's pair (u,v)")
        if self.stride < 1 and self.frame_rate is None:
            raise InputError(f"stride ({self.stride}) must be at least 1: 1 leaves out no frame")
        if self.frame_rate is not None and not (math.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise InputError(f"frame_rate ({self.frame_rate}) of {self.stream} must be above 0 frames per second")
        if not len(self.mean) == len(self.std) == planes:
            raise InputError(f"mean and std of {self.stream} need {planes} values each, got {self.mean}, {self.std}")

    @property
    def channels(self) -> int:
        """Input channels of the network: 3L in the order r0 g0 b0 r1 ..., or 2L in the order u0 v0 u1 v1 ..."""
        return PLANES[self.stream] * self.stack_length

    @property
    def span(self) -> int:
        """Frames or fields from the first of a snippet to its last, both counted: L where the stride is 1."""
        return round((self.stack_length - 1) * self.stride) + 1

    def paced(self, frames_per_second: float) -> "StreamSpec":
        """The stream as it reads clips of this rate: with `frame_rate`, a snippet covers as many seconds of each."""
        if self.frame_rate is None:
            return self
        return replace(self, stride=round(frames_per_second / self.frame_rate, 3))

    def num_items(self, num_frames: int) -> int:
        """How many frames (rgb) or flow fields (flow) a clip of `num_frames` frames has."""
        return num_frames if self.stream == "rgb" else num_frames - 1

    @property
    def shortest(self) -> int:
        """Frames or fields that a clip must have: `span`; with `frame_rate` one, which stands in for the rest."""
        return self.span if self.frame_rate is None else 1

    def require_frames(self, num_frames: int, name: str) -> None:
        """Raise InputError if a clip is too short for one snippet."""
        needed = self.shortest + (self.stream == "flow")
        if num_frames < needed:
            if self.frame_rate is not None:
                raise InputError(
                    f"{self.stream} needs {needed} frames, but {name} has {num_frames}: use a longer video"
                )
            stride = "" if self.stride == 1 else f" with stride {self.stride}"
            raise InputError(
                f"stack_length ({self.stack_length}){stride} needs {needed} frames, but {name} has {num_frames}: "
                "use a longer video or window, or a model with a smaller stack"
            )

    @classmethod
    def from_dict(cls, values: dict) -> "StreamSpec":
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
