"""From stored pixels to what a network reads: the one place where crops, flips and normalisation happen."""

from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from rgbflow.clip import Clip, Extent
from rgbflow.sampling import segment_starts, snippet_indices
from rgbflow.stream import Crops, Stream, StreamSpec

Factors = tuple[float, float, float]  # of brightness, contrast and saturation
TRAIN_SCALES = (1.0, 0.875, 0.75, 0.66)  # crop sides as shares of the short side (Wang et al. 2016, section 4.1)


@dataclass(frozen=True)
class Crop:
    """A rectangle in pixels of the frames or fields it is cut from, perhaps mirrored, perhaps in changed colours."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False
    colour: Factors | None = None  # of frames only


@dataclass(frozen=True)
class Augmentation:
    """The random variation of clips in training.

    Attributes:
        flip: half of the clips are mirrored.
        multi_scale: crops of random size, height and width at most one step of TRAIN_SCALES apart, so that the aspect
            ratio varies a little too; False takes squares of the size used in evaluation.
        corner_crops: crops lie in a corner or in the centre; False puts them anywhere, which shows the borders less
            often (Wang et al. 2015, section 3).
        colour: brightness, contrast and saturation of frames vary by up to this share (as in Krizhevsky et al. 2012 and
            its followers): a network then can't recognise a place by its light. Flow has no colours.
    """

    flip: bool = True
    multi_scale: bool = True
    corner_crops: bool = False
    colour: float = 0.0


def centre_crop(height: int, width: int, fraction: float, aspect: float | None = None) -> Crop:
    """The centre crop used in evaluation: a square with a side of `fraction` of the shorter side.

    With `aspect`, for a frame that was squeezed to this width over height before: `fraction` of the height, and of
    the width the part that a square of the squeezed frame covers.
    """
    whole = (height, width / aspect) if aspect else (min(height, width),) * 2
    high, wide = (max(1, round(side * fraction)) for side in whole)
    return Crop(top=(height - high) // 2, left=(width - wide) // 2, height=high, width=wide)


def evaluation_crops(height: int, width: int, fraction: float, crops: Crops, mirrored: bool = True) -> list[Crop]:
    """The crops used in evaluation: the centre square alone, or centre and four corners, each as it is and mirrored.

    Three crops are the centre and both ends of the longer side, usual for video networks. Ten crops are those of
    Simonyan and Zisserman (2014), section 6. They are five without the mirrored ones, which are wrong where classes
    differ in left and right.
    """
    centre = centre_crop(height, width, fraction)
    if crops == 1:
        return [centre]
    bottom, right = height - centre.height, width - centre.width
    if crops == 3:
        ends = (
            [(centre.top, left) for left in (0, right)]
            if width >= height
            else [(0, centre.left), (bottom, centre.left)]
        )
        return [centre, *(replace(centre, top=top, left=left) for top, left in ends)]
    places = [(centre.top, centre.left), *product((0, bottom), (0, right))]
    return [
        replace(centre, top=top, left=left, flip=flip) for flip in (False, True)[: 1 + mirrored] for top, left in places
    ]


def random_crop(height: int, width: int, fraction: float, augmentation: Augmentation, rng: np.random.Generator) -> Crop:
    """A random crop for a training step (Wang et al. 2016, section 4.1).

    Args:
        height: height of the frames or fields, pixels.
        width: width of the frames or fields, pixels.
        fraction: side of the square without `multi_scale`, as a share of the shorter side.
        augmentation: what varies.
        rng: source of the random numbers.
    """
    sides = (fraction, fraction)
    if augmentation.multi_scale:
        step = int(rng.integers(len(TRAIN_SCALES)))
        other = min(max(step + int(rng.integers(-1, 2)), 0), len(TRAIN_SCALES) - 1)
        sides = (TRAIN_SCALES[step], TRAIN_SCALES[other])
    crop_height, crop_width = (max(1, round(min(height, width) * side)) for side in sides)
    free_height, free_width = height - crop_height, width - crop_width
    if augmentation.corner_crops:
        places = [(free_height // 2, free_width // 2), *product((0, free_height), (0, free_width))]
        top, left = places[rng.integers(len(places))]
    else:
        top, left = int(rng.integers(free_height + 1)), int(rng.integers(free_width + 1))
    flip = bool(augmentation.flip and rng.random() < 0.5)
    colour = (
        tuple(rng.uniform(1 - augmentation.colour, 1 + augmentation.colour, 3).tolist())
        if augmentation.colour
        else None
    )
    return Crop(top, left, crop_height, crop_width, flip, colour)


def snippet_starts(clip: Extent, spec: StreamSpec, num_segments: int, offsets: np.ndarray | None = None) -> np.ndarray:
    """First index of each of the S snippets spread over a clip, see `sampling.segment_starts`.

    Raises:
        InputError: if the clip is too short for one.
    """
    spec.require_frames(clip.num_frames, clip.name)
    num_items = spec.num_items(clip.num_frames)
    span = spec.span_at(clip.frames_per_second) if spec.frame_rate else spec.span
    return segment_starts(num_items, num_segments, min(span, num_items), offsets)


def snippet_places(clip: Extent, spec: StreamSpec, starts: np.ndarray) -> np.ndarray:
    """The indices of all frames or fields of the snippets that begin at `starts`: (S, L) int64.

    A snippet has the stream's stride, or with its `frame_rate` that of the clip; the clip's last frame or field stands
    in for those that it doesn't have.
    """
    if spec.frame_rate is None:
        return snippet_indices(starts, spec.stack_length, spec.stride)
    stride = spec.stride_at(clip.frames_per_second)
    return snippet_indices(starts, spec.stack_length, stride, spec.num_items(clip.num_frames))


def read_snippets(clip: Clip, spec: StreamSpec, starts: np.ndarray) -> torch.Tensor:
    """The snippets that begin at `starts`, as the network's channels.

    Args:
        clip: the clip to read from.
        spec: the stream.
        starts: (S,) int64, from `snippet_starts`.

    Returns:
        (S, C, H, W) uint8, the size of the frames, or of the flow fields, which may be smaller; C is 3L for rgb,
        2L for flow in the order u0, v0, u1, v1, ... (Simonyan and Zisserman 2014, section 3.1).
    """
    indices = snippet_places(clip, spec, starts)
    planes = torch.from_numpy(clip.read(spec.stream, indices.ravel()))
    return planes.reshape(len(starts), spec.channels, *planes.shape[2:])


def mirrored_snippets(snippets: np.ndarray, stream: Stream) -> np.ndarray:
    """Snippets (S, C, H, W) uint8 as a mirror shows them: what moves right moves left, so u is negated."""
    mirrored = snippets[..., ::-1].copy()
    if stream == "flow":
        mirrored[:, 0::2] = 255 - mirrored[:, 0::2]  # 8-bit flow is symmetric about 127.5
    return mirrored


def to_input(snippets: torch.Tensor, crop: Crop, spec: StreamSpec) -> torch.Tensor:
    """Crop, mirror, scale and normalise snippets.

    Args:
        snippets: (S, C, H, W) uint8, from `read_snippets`.
        crop: the part to cut out; the same for all snippets of a clip.
        spec: the stream; its mean and std are repeated for each frame or flow field of a snippet.

    Returns:
        (S, C, input_size, input_size) float32, channels last in memory, on the device of the snippets. In mirrored
        flow, u is negated: motion to the right becomes motion to the left. Where the spec says so, the mean
        displacement of each whole field is subtracted first (Simonyan and Zisserman 2014, section 3.1, "mean flow
        subtraction").
    """
    values = snippets[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    if spec.subtract_mean_flow:
        values = values - (mean_of_fields(snippets) - 127.5)
    if crop.flip:
        values = values.flip(-1)
        if spec.stream == "flow":
            values[:, 0::2] = 255 - values[:, 0::2]  # 8-bit flow is symmetric about 127.5
    if crop.colour and spec.stream == "rgb":
        values = recoloured(values, crop.colour)
    offset, factor = _normalisation(spec, values.device)
    # Planes side by side are scaled twice as fast, and the networks read them so.
    values = values.to(torch.float32, memory_format=torch.channels_last)
    values = torch.addcmul(offset, values, factor)  # before the scaling: mostly it is up, and here are fewer pixels
    size = (spec.input_size, spec.input_size)
    if values.shape[-2:] != size:
        scaling_down = max(values.shape[-2:]) > spec.input_size
        if scaling_down or spec.stream == "rgb":
            values = F.interpolate(values, size, mode="bilinear", antialias=scaling_down)
        else:
            values = _enlarge(values, spec.input_size)
    return values.contiguous(memory_format=torch.channels_last)


def recoloured(frames: torch.Tensor, factors: Factors) -> torch.Tensor:
    """Change brightness, contrast and saturation of frames, in this order: (S, 3L, H, W) uint8 to the same.

    Args:
        frames: the planes of one or more frames.
        factors: 1 changes nothing; contrast 0 is one gray, saturation 0 gray levels.
    """
    import torchvision.transforms.v2.functional as images  # slow to import, and only training needs it

    brightness, contrast, saturation = factors
    single = frames.reshape(-1, 3, *frames.shape[-2:])
    single = images.adjust_brightness(single, brightness)
    single = images.adjust_contrast(single, contrast)
    return images.adjust_saturation(single, saturation).reshape(frames.shape)


def mean_of_fields(snippets: torch.Tensor) -> torch.Tensor:
    """The mean of each plane of (S, C, H, W) uint8 snippets: (S, C, 1, 1) float32, as 8-bit values."""
    return snippets.to(torch.float32).mean(dim=(-2, -1), keepdim=True)


def _enlarge(values: torch.Tensor, size: int) -> torch.Tensor:
    """Bilinear scaling of many channels, (S, C, H, W) to (S, C, size, size), both channels last in memory.

    It scales first along the rows and then along the columns, where a whole row counts as adjacent channels. This takes
    two thirds of the time of scaling both at once.
    """
    snippets, channels, height, width = values.shape
    rows = values.permute(0, 2, 3, 1).reshape(snippets * height, 1, width, channels)
    rows = F.interpolate(rows.permute(0, 3, 1, 2), (1, size), mode="bilinear")
    columns = rows.permute(0, 2, 3, 1).reshape(snippets, height, 1, size * channels)
    columns = F.interpolate(columns.permute(0, 3, 1, 2), (size, 1), mode="bilinear")
    return columns.permute(0, 2, 3, 1).reshape(snippets, size, size, channels).permute(0, 3, 1, 2)


@cache
def _normalisation(spec: StreamSpec, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Offset and factor that normalise 8-bit channels, value · factor + offset: each (C, 1, 1) float32."""
    with torch.inference_mode(False):  # kept, it must serve training too
        mean, std = (
            torch.tensor(value, device=device).repeat(spec.stack_length)[:, None, None]
            for value in (spec.mean, spec.std)
        )
        return -mean / std, 1 / (255 * std)


def evaluation_input(
    clip: Clip, spec: StreamSpec, starts: np.ndarray, device: torch.device | str = "cpu", crops: Crops = 1
) -> torch.Tensor:
    """The network's input for a clip outside training: the given snippets, as `snippets_to_input` prepares them.

    Returns:
        (S · crops, C, input_size, input_size) float32, made on the device: the snippets travel there in 8 bits.
    """
    return snippets_to_input(read_snippets(clip, spec, starts).to(device), spec, crops)


def snippets_to_input(snippets: torch.Tensor, spec: StreamSpec, crops: Crops = 1) -> torch.Tensor:
    """The network's input outside training: the centre of each snippet, three crops or ten (five, if not
    `spec.mirrored`).

    Args:
        snippets: (N, C, H, W) uint8, from `read_snippets`.
        spec: the stream.
        crops: 1, 3 or 10, see `evaluation_crops`.

    Returns:
        (N · crops, C, input_size, input_size) float32 with 1, 3, 10 or 5 crops: all snippets of the first crop, then of
        the next.
    """
    height, width = snippets.shape[-2:]
    places = evaluation_crops(height, width, spec.crop_fraction, crops, spec.mirrored)
    return torch.cat([to_input(snippets, crop, spec) for crop in places])
