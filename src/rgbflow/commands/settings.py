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


def preset_config(preset: PresetName | None, stream: Stream) -> TrainConfig:
    """The settings of a preset for one stream; the defaults for None."""
    if preset is None:
        return TrainConfig()
    named = {"paper": table_i(stream), "strong": STRONG, "lite": LITE, "video": VIDEO, "video-strong": VIDEO_STRONG}
    return named[preset]


def settings_flags(default: TrainConfig, presets: Sequence[PresetName]) -> Any:
    """The type that the parser makes `Given` from: every setting is an optional flag.

    Args:
        default: the settings without a preset; `--help` shows them.
        presets: names of presets; `--help` shows where they differ from the default.
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


TrainFlags = settings_flags(TrainConfig(), ("paper", "strong", "lite", "video", "video-strong"))
AblateFlags = settings_flags(STRONG, ("lite",))


def merge_settings(base: TrainConfig, file: Path | None, given: Given) -> TrainConfig:
    """The base with the usual settings of its algorithm, overridden by a file and then by the command line.

    Raises:
        InputError: for the reasons of `load_config`, or if a value is out of its range.
    """
    return completed(base, {**(read_config(file) if file else {}), **given})
