"""A stream is data: one record says how its input is made and which network reads it. No heavy import."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from msgspec import Meta

from rgbflow.errors import InputError
from rgbflow.records import check_fields, convert

Stream = Literal["rgb", "flow"]  # the paper's spatial and motion network
STREAMS: tuple[Stream, ...] = ("rgb", "flow")
PLANES = {"rgb": 3, "flow": 2}  # red, green, blue; u, v
FlowMethod = Literal["dis", "farneback", "tvl1"]
DisPreset = Literal["ultrafast", "fast", "medium"]
Reduction = Literal[0, 1, 2, 4]
# A field is kept at 1/reduction of the working size. DIS works at this size and scales its result up; of the others
# half the size keeps as much as JPEG does (docs/data.md).
OWN_REDUCTION: dict[str, Reduction] = {"dis ultrafast": 4, "dis fast": 4, "dis medium": 2, "farneback": 2, "tvl1": 2}
SMALLEST_FIELD = 48  # pixels of the shorter side; a smaller field is not reduced so far
EngineName = Literal["auto", "torch", "openvino", "onnx"]  # what runs a network
EnginePrecision = Literal["auto", "fp32", "bf16"]  # what it computes in; auto: bf16 where the hardware is made for it
Crops = Literal[1, 3, 10]  # of each snippet at test time
NUM_SNIPPETS = 25  # of a clip at test time (Simonyan and Zisserman 2014, section 6)
WINDOW_SNIPPETS = 5  # of a window of a timeline
UnfittedFusion = Literal["average", "product"]  # needs no fitted numbers
FusionMethod = Literal[UnfittedFusion, "weighted", "tempered", "stacking", "reliability"]
# How a frame is made smaller: means of areas; torchvision's bilinear scaling; or torch's of 8 bits, smoothed.
Resize = Literal["area", "bilinear", "antialias"]
DEFAULT_FUSION: UnfittedFusion = "product"  # of a new bundle; what is fitted replaces it where that is clearly better
STACK_LENGTH = 10  # L of flow, unless a training says otherwise (Simonyan and Zisserman 2014, section 4.1)
Name = Annotated[str, Meta(min_length=1, max_length=200)]
FrameRate = Annotated[float, Meta(ge=0.01, le=1000, description="25 frames per second are usual")]
Bound = Annotated[float, Meta(ge=0.01, le=10_000, description="20 pixels per frame step are usual")]
ShortSide = Annotated[int, Meta(ge=1, le=4096, description="256 suits 224×224 networks")]
JpegQuality = Annotated[int, Meta(ge=1, le=100, description="96 is usual, None loses nothing")]
Stride = Annotated[int, Meta(ge=1, le=1000, description="1 leaves out no frame")]
InputSize = Annotated[int, Meta(ge=16, le=1024, description="224 pixels are usual")]
StackLength = Annotated[int, Meta(ge=1, le=1000, description="the paper's pair (u,v) is 1, 10 is usual")]
CropFraction = Annotated[float, Meta(gt=0, le=1, description="0.875 is usual")]
Dropout = Annotated[float, Meta(ge=0, lt=1, description="0.5 is strong")]


@dataclass(frozen=True)
class FlowSettings:
    """How flow is computed and stored; recorded in the store and in the bundle."""

    method: FlowMethod = "dis"
    preset: DisPreset = "fast"  # of DIS; the other methods have none
    bound: Bound = 20.0  # pixels per frame step; larger displacements are clipped
    reduction: Reduction = 0  # a field has 1/reduction of the working size, at least SMALLEST_FIELD; 0: OWN_REDUCTION

    def __post_init__(self):
        check_fields(self)
        if self.reduction == 0:
            name = f"dis {self.preset}" if self.method == "dis" else self.method
            object.__setattr__(self, "reduction", OWN_REDUCTION[name])


@dataclass(frozen=True)
class Preparation:
    """How every frame is prepared before any stream reads it; shared by both streams, the store and the bundle."""

    short_side: ShortSide = 256  # pixels of the shorter side of the working size
    flow: FlowSettings = field(default_factory=FlowSettings)
    jpeg_quality: JpegQuality | None = 96  # of what is kept of frames and flow; None: nothing is lost
    frame_rate: FrameRate | None = None  # frames per second that a video is resampled to; None: as it is
    square: bool = False  # frames are squeezed to short_side × short_side: crops then see what is at the sides
    width: ShortSide | None = None  # frames are squeezed to short_side × width, where a network was trained so
    resize: Resize = "area"  # how a frame is made smaller; larger ones are bilinear

    def __post_init__(self):
        check_fields(self)
        if self.width is not None and self.width < self.short_side:
            raise InputError(f"width ({self.width}) must be at least short_side ({self.short_side}), or None")

    @property
    def aspect(self) -> float | None:
        """Width over height of what all frames are squeezed to; None where each keeps its own."""
        return 1.0 if self.square else self.width / self.short_side if self.width else None

    @property
    def flow_reduction(self) -> int:
        """How many times smaller than the working size a flow field is, in height and in width: 1, 2 or 4."""
        reduction: int = self.flow.reduction
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
    def from_dict(cls, values: object, key: str = "") -> "Preparation":
        """Read what `as_dict` gave; what older stores and bundles don't say is how these were made.

        Raises:
            InputError: for the reasons of `records.convert`.
        """
        return convert(as_made(values), cls, key)


def as_made(values: object) -> object:
    """The form of a `Preparation`, with what older records leave out since it was always so."""
    if not isinstance(values, Mapping):
        return values
    flow = values.get("flow")  # which is always told
    flow = {"reduction": 1, **flow} if isinstance(flow, Mapping) else flow
    return {"jpeg_quality": None, **values, "flow": flow}


@dataclass(frozen=True)
class StreamSpec:
    """One stream: the form of its snippets and the backbone that reads them."""

    stream: Stream
    backbone: Name
    input_size: InputSize  # the network sees input_size × input_size
    stack_length: StackLength  # L: frames or flow fields of a snippet
    mean: tuple[Annotated[float, Meta(ge=-10, le=10)], ...]  # per plane, of values scaled to 0…1
    std: tuple[Annotated[float, Meta(ge=1e-6, le=1000)], ...]
    crop_fraction: CropFraction = 0.875  # side of the centre square that is shown, as a share of the short side
    dropout: Dropout = 0.0  # before the classifier
    subtract_mean_flow: bool = False  # from each field its mean, which a moving camera makes
    algorithm: Name = "two-stream"  # the family of its network, see `networks.families`
    mirrored: bool = True  # half of the training's snippets were mirrored, so a test may mirror too
    stride: Stride = 1  # from one frame or field of a snippet to the next
    frame_rate: FrameRate | None = None  # frames per second of a snippet, of any clip; the stride then counts nothing

    def __post_init__(self):
        check_fields(self)
        planes = PLANES[self.stream]
        if self.subtract_mean_flow and self.stream == "rgb":
            raise InputError("subtract_mean_flow is for the flow stream: leave it out for rgb")
        if not len(self.mean) == len(self.std) == planes:
            raise InputError(f"mean and std of {self.stream} need {planes} values each, got {self.mean}, {self.std}")

    @property
    def channels(self) -> int:
        """Input channels of the network: 3L in the order r0 g0 b0 r1 ..., or 2L in the order u0 v0 u1 v1 ..."""
        return PLANES[self.stream] * self.stack_length

    @property
    def span(self) -> int:
        """Frames or fields from the first of a snippet to its last, both counted: L where the stride is 1."""
        return (self.stack_length - 1) * self.stride + 1

    def stride_at(self, frames_per_second: float) -> float:
        """From one frame or field of a snippet to the next, in a clip of this rate: any number with `frame_rate`."""
        return self.stride if self.frame_rate is None else round(frames_per_second / self.frame_rate, 3)

    def span_at(self, frames_per_second: float) -> int:
        """`span` in a clip of this rate."""
        return round((self.stack_length - 1) * self.stride_at(frames_per_second)) + 1

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
