"""The settings of a training on the command line: a flag for each, over a file, over a preset."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypedDict

import docstring_parser

from rgbflow.commands.flags import Flag, PresetName
from rgbflow.learn.config import TrainConfig, completed, read_config
from rgbflow.learn.presets import LITE, STRONG
from rgbflow.paper.presets import table_i
from rgbflow.stream import STREAMS, Stream

Given = Mapping[str, Any]  # the settings that the command line names, and no others


def preset_config(preset: PresetName | None, stream: Stream) -> TrainConfig:
    """The settings of a preset for one stream; the defaults for None."""
    if preset is None:
        return TrainConfig()
    return {"paper": table_i(stream), "strong": STRONG, "lite": LITE}[preset]


def settings_flags(default: TrainConfig, presets: Sequence[PresetName]) -> Any:
    """What the parser makes `Given` from: all settings, of which a command line may leave out any.

    Args:
        default: settings to start from where no preset is named; `--help` shows them.
        presets: the others; `--help` shows where they differ.
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
    made = TypedDict("Given", flags, total=False)  # type: ignore[misc]  # mypy knows none that is made at run time
    return Annotated[Given, Flag(name="", constructor=made)]


def _values(field: str, default: TrainConfig, presets: Sequence[PresetName]) -> str:
    """A field's value by default, and with each preset that has another, as `--help` shows them."""
    usual, parts = getattr(default, field), []
    for preset in presets:
        values = {stream: getattr(preset_config(preset, stream), field) for stream in STREAMS}
        if len({*values.values()}) > 1:
            parts.append(f"{preset}: " + ", ".join(f"{value} for {stream}" for stream, value in values.items()))
        elif {*values.values()} != {usual}:
            parts.append(f"{preset}: {values['rgb']}")
    return f"(default: {'; '.join([str(usual), *parts])})"


TrainFlags = settings_flags(TrainConfig(), ("paper", "strong", "lite"))
AblateFlags = settings_flags(STRONG, ("lite",))


def merge_settings(base: TrainConfig, file: Path | None, given: Given) -> TrainConfig:
    """The base, changed to what its algorithm is usually trained with (`completed`), by a file and by the command line.

    Raises:
        InputError: as `read_config`, or if a value is out of its range.
    """
    return completed(base, {**(read_config(file) if file else {}), **given})
