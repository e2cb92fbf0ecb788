"""The settings of a training on the command line: a preset, which a file overrides, which flags override."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypedDict

import docstring_parser

from rgbflow.commands.flags import Flag, PresetName
from rgbflow.learn.config import TrainConfig, completed, read_config
from rgbflow.learn.presets import LITE, STRONG, VIDEO, VIDEO_STRONG
from rgbflow.paper.presets import table_i
from rgbflow.stream import STREAMS, Stream

Given = Mapping[str, Any]  # the settings that the command line names, and no others


def preset_config(preset: PresetName, stream: Stream) -> TrainConfig:
    """The settings of a preset for one stream."""
    named = {"paper": table_i(stream), "strong": STRONG, "lite": LITE, "video": VIDEO, "video-strong": VIDEO_STRONG}
    return named[preset]


def settings_flags(default: TrainConfig, presets: Sequence[PresetName]) -> Any:
    """The type that the parser makes `Given` from: every setting is an optional flag.

    Args:
        default: the settings without a preset and without a GPU; `--help` shows them.
        presets: names of other presets; `--help` shows where they differ from the default.
    """
    words = {param.arg_name: param.description for param in docstring_parser.parse_from_object(TrainConfig).params}
    flags = {
        field.name: Annotated[
            field.type,
            Flag(
                help=" ".join((words.get(field.name) or "").split()) or None,
                help_behavior_hint=_values(field.name, default, presets),
            ),
        ]
        for field in fields(TrainConfig)
    }
    made = TypedDict("Given", flags, total=False)  # type: ignore[misc]  # mypy knows no TypedDict made at run time
    return Annotated[Given, Flag(name="", constructor=made)]


def _values(field: str, default: TrainConfig, presets: Sequence[PresetName]) -> str:
    """The default value of a field, and the value in each preset that differs, as `--help` shows them."""
    usual, parts = getattr(default, field), []
    for preset in presets:
        values = {stream: getattr(preset_config(preset, stream), field) for stream in STREAMS}
        if len({*values.values()}) > 1:
            parts.append(f"{preset}: " + ", ".join(f"{value} for {stream}" for stream, value in values.items()))
        elif {*values.values()} != {usual}:
            parts.append(f"{preset}: {values['rgb']}")
    return f"(default: {'; '.join([str(usual), *parts])})"


TrainFlags = settings_flags(LITE, ("strong", "paper", "video", "video-strong"))
AblateFlags = settings_flags(LITE, ("strong",))


def merge_settings(preset: PresetName | None, stream: Stream, file: Path | None, given: Given) -> TrainConfig:
    """The settings of a preset, overridden by a file and then by the command line.

    Without a preset, they start from `usual_config`.

    Raises:
        InputError: for the reasons of `load_config`, or if a value is out of its range.
    """
    values = {**(read_config(file) if file else {}), **given}
    return completed(preset_config(preset, stream) if preset else usual_config(values), values)


def usual_config(given: Given) -> TrainConfig:
    """What a training starts from without a preset: the best recipe that this machine can train in a reasonable time.

    That is `strong` on an NVIDIA GPU, else `lite`. The recipes are for the two-stream family; others have defaults of
    their own.
    """
    if given.get("algorithm", TrainConfig.algorithm) != TrainConfig.algorithm:
        return TrainConfig()
    from rgbflow.device import choose_device  # imports torch, which is too slow for --help

    return STRONG if choose_device(given.get("device", TrainConfig.device)).type == "cuda" else LITE
