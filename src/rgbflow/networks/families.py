"""The table of all families of networks, by the names that `--algorithm` takes."""

from typing import Any

from rgbflow.errors import InputError
from rgbflow.networks import c3d, i3d, image, lrcn, video, videomae
from rgbflow.networks.family import Family
from rgbflow.stream import StreamSpec

FAMILIES: dict[str, Family[Any]] = {  # each has a class of networks of its own
    "two-stream": image.FAMILY,
    "c3d": c3d.FAMILY,
    "lrcn": lrcn.FAMILY,
    "i3d": i3d.FAMILY,
    **video.FAMILIES,
    "videomae": videomae.FAMILY,
}


def family_of(algorithm: str) -> Family[Any]:
    """The family with a name.

    Raises:
        InputError: if there is none.
    """
    if algorithm not in [*FAMILIES]:  # in a damaged record it may be a list, which no dictionary looks up
        raise InputError(f"algorithm {algorithm!r} is unknown to this rgbflow: use one of {', '.join(FAMILIES)}")
    return FAMILIES[algorithm]


def check_backbone(algorithm: str, backbone: str) -> None:
    """Check that a backbone belongs to a family: the form of the input and the settings are the family's.

    Raises:
        InputError: if there is no such family, or the backbone is another's.
    """
    own = family_of(algorithm).backbones
    if backbone in own:
        return
    homes = [name for name, family in FAMILIES.items() if backbone in family.backbones]
    if own or homes:
        hints = [f"use {', '.join(own) or 'a network of timm, such as resnet101'}"] + [
            f"or algorithm {home}" for home in homes
        ]
        raise InputError(f"backbone {backbone!r} is not for algorithm {algorithm}: {', '.join(hints)}")


def check_form(spec: StreamSpec) -> None:
    """Check that a stream's snippets have the length and stride that its family reads.

    Raises:
        InputError: if there is no such family, or if the length or stride of the snippets differs.
    """
    family = family_of(spec.algorithm)
    length = family.frames or (1 if spec.stream == "rgb" else spec.stack_length)
    if family.frame_rate and spec.frame_rate:  # both are what it was trained with
        return
    for name, found, wanted in (
        ("stack_length", spec.stack_length, length),
        ("stride", spec.stride, family.stride),
        ("frame_rate", spec.frame_rate, family.frame_rate),
    ):
        if found != wanted:
            raise InputError(f"{name} ({found}) must be {wanted} for {spec.stream} of {spec.algorithm}: train it again")
