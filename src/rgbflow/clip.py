"""A clip at its working size: frames and 8-bit flow that any stream takes its snippets from."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from rgbflow.errors import InputError
from rgbflow.flow import from_pictures, make_estimator, quantise, to_picture
from rgbflow.limits import PIXELS
from rgbflow.stream import Preparation, Resize, Stream
from rgbflow.video import jpeg

SMALLEST_SIDE = 32  # pixels; below it OpenCV's DIS crashes on long frames
LATEST_SECONDS = 1e12  # beyond it, a float tells no frame from the next
LONGEST_SIDE = 32_766  # pixels; OpenCV maps no longer ones


class Extent(Protocol):
    """What has to be known of a clip to choose its snippets."""

    @property
    def name(self) -> str:
        """The clip's name in messages."""
        ...

    @property
    def num_frames(self) -> int: ...

    @property
    def frames_per_second(self) -> float:
        """Over the whole of it."""
        ...


@dataclass(frozen=True)
class FileExtent:
    """That of a file which is still to be read."""

    name: str
    num_frames: int
    frames_per_second: float


class Clip(Extent, Protocol):
    """What a snippet is read from: a stored clip, a file or the frames of a camera."""

    @property
    def start_seconds(self) -> float:
        """The time at which its first frame is shown."""
        ...

    @property
    def end_seconds(self) -> float:
        """The time at which its last frame has been shown."""
        ...

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        """Frames (N, 3, H, W) uint8 RGB or flow fields (N, 2, h, w) uint8 (u, v); field i leads from frame i to i+1.

        h, w are H, W divided by `Preparation.flow_reduction`; the displacements are in pixels of H, W.
        """
        ...


def mean_rate(num_frames: int, seconds: float) -> float:
    """Frames per second of a clip; 1 where it lasts no time, as a single picture."""
    return num_frames / seconds if seconds > 0 else 1.0


class Preparer:
    """Turns frames into working frames and 8-bit flow, one at a time. No other code does this.

    Args:
        preparation: working size and flow settings.

    Attributes:
        flow_seconds: time spent on flow so far.

    Raises:
        InputError: if the working size is too small for flow.
    """

    def __init__(self, preparation: Preparation):
        _check_preparation(preparation)
        if preparation.short_side < SMALLEST_SIDE:
            side = preparation.short_side
            raise InputError(f"short_side ({side}) must be at least {SMALLEST_SIDE} pixels: 256 suits 224×224 networks")
        self.preparation = preparation
        self.flow_seconds = 0.0
        self._estimator = make_estimator(preparation.flow, preparation.flow_reduction)
        self._previous: np.ndarray | None = None  # the last frame, resized; its gray is made only when flow is wanted

    def step(
        self, pixels: np.ndarray, want_flow: bool = True, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Take the next frame.

        Args:
            pixels: (H, W, 3) uint8 RGB, any size.
            want_flow: False skips the flow from the previous frame to this one.
            scale: factor for displacements before they become 8 bits. For a camera with another frame rate it is the
                frame step that the networks know, divided by the step that passed.

        Returns:
            The frame at the working size, (H, W, 3) uint8, and the flow that leads to it from the previous frame,
            (2, H // r, W // r) uint8 with r = `preparation.flow_reduction`, or None for the first frame and without
            `want_flow`.
        """
        frame = to_working_size(pixels, self.preparation)
        if frame is pixels:
            frame = pixels.copy()  # a camera's caller may fill the same array again
        flow = None
        if want_flow and self._previous is not None:
            began = time.perf_counter()
            displacement = self._estimator(_gray(self._previous), _gray(frame))
            if scale != 1:
                displacement *= np.float32(scale)
            flow = quantise(displacement, self.preparation.flow.bound)
            self.flow_seconds += time.perf_counter() - began
        self._previous = frame
        return frame, flow


def check_frame(pixels: object, pts_seconds: object) -> None:
    """Raise InputError for what can't be a frame, (H, W, 3) uint8 RGB, and the seconds at which it is shown."""
    if not isinstance(pixels, np.ndarray):
        raise InputError(f"pixels ({type(pixels).__name__}) must be an array (H, W, 3), uint8 RGB")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise InputError(f"pixels of shape {pixels.shape}, {pixels.dtype}, must be (H, W, 3) uint8 RGB")
    PIXELS.check(pixels.shape[0] * pixels.shape[1], "a frame")
    check_seconds("pts_seconds", pts_seconds)


def check_seconds(name: str, value: object) -> None:
    """Raise InputError for what is no number of seconds."""
    if not isinstance(value, int | float | np.integer | np.floating) or not -LATEST_SECONDS <= value <= LATEST_SECONDS:
        raise InputError(f"{name} ({value!r:.60}) must be a number of seconds, at most {LATEST_SECONDS:g}")


def _check_preparation(preparation: object) -> None:
    if not isinstance(preparation, Preparation):
        raise InputError(f"preparation ({type(preparation).__name__}) must be a Preparation, such as that of a bundle")


class FrameClip:
    """A clip held in memory, filled frame by frame: from a file, a camera or a browser.

    Args:
        preparation: working size and flow settings.
        frames: indices of the frames to keep; None keeps all.
        flow: indices of the flow fields to compute and keep; None keeps all.
        name: name of the clip in messages.
        frames_per_second: rate of the source, where it is known; None takes it from the times of the frames.
    """

    def __init__(
        self,
        preparation: Preparation,
        frames: Collection[int] | None = None,
        flow: Collection[int] | None = None,
        name: str = "the clip",
        frames_per_second: float | None = None,
    ):
        self.name = name
        self._rate = frames_per_second
        self.num_frames = 0
        self.start_seconds = 0.0
        self.end_seconds = 0.0
        self.preparation = preparation
        self._preparer = Preparer(preparation)
        self._quality = preparation.jpeg_quality
        self._wanted = {"rgb": frames, "flow": flow}
        self._kept: dict[Stream, dict[int, np.ndarray]] = {"rgb": {}, "flow": {}}

    @property
    def flow_seconds(self) -> float:
        """Time spent on flow so far."""
        return self._preparer.flow_seconds

    @property
    def frames_per_second(self) -> float:
        return self._rate or mean_rate(self.num_frames, self.end_seconds - self.start_seconds)

    def push(self, pixels: np.ndarray, pts_seconds: float) -> None:
        """Append the next frame, (H, W, 3) uint8 RGB, shown at `pts_seconds`.

        Raises:
            InputError: if the pixels or the time can't be those of a frame.
        """
        check_frame(pixels, pts_seconds)
        index = self.num_frames
        frame, flow = self._preparer.step(pixels, want_flow=self._wants("flow", index - 1))
        if self._wants("rgb", index):
            self._kept["rgb"][index] = stored_frame(frame, self._quality)
        if flow is not None:
            self._kept["flow"][index - 1] = stored_flow(flow, self._quality)
        self._keep_time(pts_seconds)
        self.num_frames += 1

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        return np.stack([self._kept[stream][int(index)] for index in indices])

    def forget(self, before: int) -> None:
        """Free the frames and flow fields with an index below `before`."""
        for kept in self._kept.values():
            for index in [index for index in kept if index < before]:
                del kept[index]

    def _wants(self, stream: Stream, index: int) -> bool:
        wanted = self._wanted[stream]
        return wanted is None or index in wanted

    def _keep_time(self, pts_seconds: float) -> None:
        """A frame is shown until the next one comes; the last is shown as long as the one before it."""
        if self.num_frames == 0:
            self.start_seconds, self._last_shown = pts_seconds, pts_seconds
        self.end_seconds = 2 * pts_seconds - self._last_shown
        self._last_shown = pts_seconds


@dataclass(frozen=True, eq=False)
class ArrayClip:
    """A clip with all its frames, in memory or in a mapped file; flow fields are computed when they are read.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB, at the working size or any other.
        pts_seconds: (T,) float64, when each is shown, each later than the one before.
        preparation: working size and flow settings, those of the bundle that is to label it.
        name: name of the clip in messages.

    Raises:
        InputError: if they are anything else.
    """

    frames: np.ndarray
    pts_seconds: np.ndarray
    preparation: Preparation
    name: str = "the clip"

    def __post_init__(self):
        _check_preparation(self.preparation)
        frames, times = self.frames, _as_times(self.pts_seconds)
        if not isinstance(frames, np.ndarray):
            raise InputError(f"frames ({type(frames).__name__}) must be an array (T, H, W, 3), uint8 RGB")
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
            raise InputError(f"frames of shape {frames.shape}, {frames.dtype}, must be (T, H, W, 3) uint8 RGB")
        PIXELS.check(frames.shape[1] * frames.shape[2], "a frame")
        if times.shape != (len(frames),) or not (abs(times) <= LATEST_SECONDS).all() or not (np.diff(times) > 0).all():
            raise InputError(f"pts_seconds of shape {times.shape} must be {len(frames)} seconds that rise, one a frame")
        object.__setattr__(self, "pts_seconds", times)

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def start_seconds(self) -> float:
        return float(self.pts_seconds[0])

    @property
    def end_seconds(self) -> float:
        """A frame is shown until the next one comes; the last is shown as long as the one before it."""
        return float(2 * self.pts_seconds[-1] - self.pts_seconds[max(0, self.num_frames - 2)])

    @property
    def frames_per_second(self) -> float:
        return mean_rate(self.num_frames, self.end_seconds - self.start_seconds)

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        wanted = np.unique(indices).tolist()
        held = dict(self._frames(wanted) if stream == "rgb" else self._fields(wanted))
        return np.stack([held[int(index)] for index in indices])

    def _frames(self, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        for index in wanted:
            frame = to_working_size(self.frames[index], self.preparation)
            yield index, stored_frame(frame, self.preparation.jpeg_quality)

    def _fields(self, wanted: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        preparer, last = Preparer(self.preparation), -1
        for index in wanted:
            if index != last:
                preparer.step(self.frames[index], want_flow=False)
            last = index + 1
            if (flow := preparer.step(self.frames[last])[1]) is not None:  # as it always is after a first frame
                yield index, stored_flow(flow, self.preparation.jpeg_quality)


def _as_times(values: object) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"pts_seconds ({type(values).__name__}) must be an array of numbers, one a frame") from None


@dataclass(frozen=True)
class ClipWindow:
    """A part of a clip, itself a clip: frames first … first + num_frames - 1."""

    clip: Clip
    first: int
    num_frames: int
    start_seconds: float
    end_seconds: float

    @property
    def name(self) -> str:
        return f"{self.clip.name} from {self.start_seconds:.2f} to {self.end_seconds:.2f} s"

    @property
    def frames_per_second(self) -> float:
        return mean_rate(self.num_frames, self.end_seconds - self.start_seconds)

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        return self.clip.read(stream, indices + self.first)


def as_stored(picture: np.ndarray, jpeg_quality: int | None) -> np.ndarray:
    """A working frame (H, W, 3) or flow picture (2h, w), uint8, with the loss of the store's JPEG."""
    return picture if jpeg_quality is None else jpeg.decode(jpeg.encode(picture, jpeg_quality))


def stored_frame(frame: np.ndarray, jpeg_quality: int | None) -> np.ndarray:
    """A working frame (H, W, 3) as a snippet holds it: (3, H, W), with the loss of the store's JPEG."""
    return as_stored(frame, jpeg_quality).transpose(2, 0, 1)


def stored_flow(flow: np.ndarray, jpeg_quality: int | None) -> np.ndarray:
    """An 8-bit field (2, h, w) as a snippet holds it, with the loss of the store's JPEG."""
    return from_pictures(as_stored(to_picture(flow), jpeg_quality)[None])[0]


def to_working_size(pixels: np.ndarray, preparation: Preparation) -> np.ndarray:
    """Scale a frame so that its shorter side has `preparation.short_side` pixels.

    The aspect ratio is kept, unless `preparation.square` or `preparation.width` gives the size of all frames.

    With `preparation.resize` "bilinear", a centre crop of the frame is torchvision's: where half a pixel is left over
    beside it, torchvision rounds to an even place, `centre_crop` down. They differ where the longer side is 3 more than
    a multiple of 4 (of crops whose side is such a multiple), so the first row or column of such a side is left out.

    Args:
        pixels: (H, W, 3) uint8.
        preparation: the working size.
    """
    height, width = pixels.shape[:2]
    side = preparation.short_side
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if preparation.resize != "area":  # torchvision and transformers leave a rest out
        size = (max(side, side * width // min(height, width)), max(side, side * height // min(height, width)))
    if preparation.square or preparation.width:
        size = (preparation.width or side, side)
    if size != (width, height):
        PIXELS.check(size[0] * size[1], f"a frame of {width}×{height} at the short side {side}")
        if max(size) > LONGEST_SIDE:
            long = f"is {max(size):,} pixels long, and at most {LONGEST_SIDE:,} can be"
            raise InputError(f"a frame of {width}×{height} at the short side {side} {long}: cut it")
        pixels = _resize(pixels, size, scale < 1, preparation.resize)
    if preparation.resize == "bilinear":
        top, left = (int(length % 4 == 3 and length > side) for length in pixels.shape[:2])
        pixels = pixels[top:, left:]
    return pixels


def _resize(pixels: np.ndarray, size: tuple[int, int], shrinks: bool, resize: Resize) -> np.ndarray:
    """A frame (H, W, 3) uint8 at another (width, height)."""
    if resize == "area":
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    import torch
    import torch.nn.functional as F

    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    if resize == "antialias":
        scaled = F.interpolate(planes, size[::-1], mode="bilinear", antialias=True)
    else:  # in floats, as torchvision does it: torch's own kernel for 8 bits rounds a fifth of the pixels otherwise
        scaled = F.interpolate(planes.float(), size[::-1], mode="bilinear").round().to(torch.uint8)
    return scaled[0].permute(1, 2, 0).contiguous().numpy()


def _gray(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
