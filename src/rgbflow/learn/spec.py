"""A stream's record, made from the settings and the train part."""

import math
from dataclasses import replace

import numpy as np

from rgbflow.data.jpegs import AnyStore
from rgbflow.data.splits import SplitClip
from rgbflow.errors import InputError
from rgbflow.learn.config import TrainConfig
from rgbflow.networks.families import check_backbone, family_of
from rgbflow.stream import Stream, StreamSpec
from rgbflow.transforms import mean_of_fields, read_snippets, snippet_starts


def make_spec(store: AnyStore, clips: tuple[SplitClip, ...], stream: Stream, config: TrainConfig) -> StreamSpec:
    """The stream's record: RGB statistics from the backbone, flow statistics from the training part."""
    spec = form_of_input(stream, config)
    return spec if stream == "rgb" else replace(spec, std=(flow_spread(store, clips, spec),) * 2)


def form_of_input(stream: Stream, config: TrainConfig) -> StreamSpec:
    """The stream's record without data: flow has no scale yet."""
    check_backbone(config.algorithm, config.backbone)
    family = family_of(config.algorithm)
    length, frame_rate = family.frames or (config.stack_length if stream == "flow" else 1), family.frame_rate
    if frame_rate:
        length, frame_rate = config.frames or length, config.frame_rate or frame_rate
    elif config.frames or config.frame_rate:
        raise InputError(
            f"frames and frame_rate are for video networks, such as s3d: leave them 0 for {config.algorithm}"
        )
    return StreamSpec(
        stream,
        config.backbone,
        config.input_size,
        length,
        *(family.statistics(config.backbone) if stream == "rgb" else ((0.5, 0.5), (1.0, 1.0))),
        crop_fraction=config.crop_fraction,
        dropout=config.dropout,
        algorithm=config.algorithm,
        subtract_mean_flow=config.subtract_mean_flow and stream == "flow",
        mirrored=config.flip,
        stride=family.stride,
        frame_rate=frame_rate,
    )


def names_a_side(label: str) -> bool:
    """Whether a class's name says left or right: its mirrored clips show the other."""
    words = "".join(letter if letter.isalnum() else " " for letter in label).lower().split()
    return "left" in words or "right" in words


def flow_spread(store: AnyStore, clips: tuple[SplitClip, ...], spec: StreamSpec, num_clips: int = 64) -> float:
    """Root mean square of the stored flow (0…1) about no motion, over at most `num_clips` evenly chosen clips.

    If the mean of each field is subtracted, it is the spread about that mean. Data sets differ widely in speed, and a
    network with ImageNet weights expects inputs of about unit size.
    """
    chosen = clips[:: math.ceil(len(clips) / num_clips)]
    squares = []
    for clip in chosen:
        stored = store.clip(clip.name)
        snippets = read_snippets(stored, spec, snippet_starts(stored, spec, 1))
        still = mean_of_fields(snippets) if spec.subtract_mean_flow else 127.5
        squares.append(((snippets - still) / 255).square().mean().item())
    return round(max(math.sqrt(np.mean(squares)), 1 / 255), 4)
