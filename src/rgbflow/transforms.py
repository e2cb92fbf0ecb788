"""From stored pixels to what a network reads: the one place where crops, flips and normalisation happen."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from rgbflow.clip import Clip
from rgbflow.sampling import snippet_indices
from rgbflow.stream import StreamSpec

TRAIN_SCALES = (1.0, 0.875, 0.75, 0.66)  # crop sides as shares of the short side (Wang et al. 2016, section 4.1)


@dataclass(frozen=True)
class Crop:
    """A rectangle in pixels of the frames or fields it is cut from, shown mirrored or not."""

    top: int
    left: int
    height: int
    width: int
    flip: bool = False


def centre_crop(height: int, width: int, fraction: float) -> Crop:
    """The centre square whose side is `fraction` of the shorter side: what every test sees."""
    side = round(min(height, width) * fraction)
    return Crop(top=(height - side) // 2, left=(width - side) // 2, height=side, width=side)


def random_crop(height: int, width: int, flip: bool, rng: np.random.Generator) -> Crop:
    """A square of random scale and place; mirrored half of the time if `flip`.

    Sides are drawn one by one from TRAIN_SCALES, height and width at most one step apart, so that the aspect ratio
    varies a little too (Wang et al. 2016, section 4.1).
    """
    step = int(rng.integers(len(TRAIN_SCALES)))
    other = int(np.clip(step + rng.integers(-1, 2), 0, len(TRAIN_SCALES) - 1))
    short = min(height, width)
    crop_height, crop_width = round(short * TRAIN_SCALES[step]), round(short * TRAIN_SCALES[other])
    return Crop(
        top=int(rng.integers(height - crop_height + 1)),
        left=int(rng.integers(width - crop_width + 1)),
        height=crop_height,
        width=crop_width,
        flip=bool(flip and rng.random() < 0.5),
    )


def read_snippets(clip: Clip, spec: StreamSpec, starts: np.ndarray) -> torch.Tensor:
    """The snippets that begin at `starts`, as the network's channels.

    Args:
        clip: the clip to read from.
        spec: the stream.
        starts: (S,) int64, from `sampling.segment_starts`.

    Returns:
        (S, C, H, W) uint8, the size of the frames, or of the flow fields, which may be smaller; C is 3L for rgb,
        2L for flow in the order u0, v0, u1, v1, ... (Simonyan and Zisserman 2014, section 3.1).
    """
    indices = snippet_indices(starts, spec.stack_length)
    planes = torch.from_numpy(clip.read(spec.stream, indices.ravel()))
    return planes.reshape(len(starts), spec.channels, *planes.shape[2:])


def to_input(snippets: torch.Tensor, crop: Crop, spec: StreamSpec) -> torch.Tensor:
    """Crop, mirror, scale and normalise snippets.

    Args:
        snippets: (S, C, H, W) uint8, from `read_snippets`.
        crop: the part to show; the same for all snippets of a clip.
        spec: the stream; its mean and std are repeated for each frame or flow field of a snippet.

    Returns:
        (S, C, input_size, input_size) float32, channels last in memory, on the device of the snippets. A mirrored
        flow has its u negated: what moved right now moves left.
    """
    values = snippets[..., crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
    if crop.flip:
        values = values.flip(-1)
        if spec.stream == "flow":
            values[:, 0::2] = 255 - values[:, 0::2]  # 8-bit flow is symmetric about 127.5
    mean, std = (
        torch.tensor(value, device=values.device).repeat(spec.stack_length)[:, None, None]
        for value in (spec.mean, spec.std)
    )
    scaling_up = spec.input_size >= max(values.shape[-2:])
    # Planes side by side are scaled up twice as fast, and the networks read them so.
    values = values.to(torch.float32, memory_format=torch.channels_last if scaling_up else torch.contiguous_format)
    values = torch.addcmul(-mean / std, values, 1 / (255 * std))  # before the scaling up: there are fewer pixels
    if values.shape[-2:] != (spec.input_size, spec.input_size):
        size = (spec.input_size, spec.input_size)
        values = F.interpolate(values, size, mode="bilinear", antialias=not scaling_up)
    return values.contiguous(memory_format=torch.channels_last)


def evaluation_input(
    clip: Clip, spec: StreamSpec, starts: np.ndarray, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """What the network sees of a clip outside training: the centre crop of the given snippets.

    Returns:
        (S, C, input_size, input_size) float32, made on the device: the snippets travel there in 8 bits.
    """
    snippets = read_snippets(clip, spec, starts).to(device)
    return to_input(snippets, centre_crop(*snippets.shape[-2:], spec.crop_fraction), spec)
