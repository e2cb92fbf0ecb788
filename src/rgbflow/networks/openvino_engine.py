"""OpenVINO as the engine of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch

from rgbflow.bundle import Bundle
from rgbflow.errors import InputError
from rgbflow.networks.exported import ExportedEngine, check_ends
from rgbflow.stream import EnginePrecision, Stream

if TYPE_CHECKING:
    import openvino


def openvino_core() -> openvino.Core:
    """The only OpenVINO core of this process, which is never freed.

    Each core that computes on the CPU replaces the process's signal stack by its own. If two cores are freed in the
    order they were made, the signal stack is a freed one, and the next signal that Python handles (Ctrl-C) ends the
    process with a segmentation fault; seen with OpenVINO 2026.4 on processors with AVX-512.

    Raises:
        ImportError: if OpenVINO is not installed.
    """
    import openvino

    return _the_only(openvino.Core)


@cache
def _the_only(make: Callable[[], openvino.Core]) -> openvino.Core:
    return make()


class OpenVinoEngine(ExportedEngine):
    """OpenVINO on the CPU, for the files of `rgbflow export --to openvino`; it uses as many threads as torch.

    It computes in 8-bit integers where the files were made with `--int8`.

    Args:
        folder: where the files lie.
        bundle: the bundle that they were made from.
        precision: "auto" takes the number format of the files, and bfloat16 where the hardware computes in it.

    Raises:
        InputError: if files or hardware compute in another precision.
    """

    suffix = ".xml"

    def __init__(self, folder: Path, bundle: Bundle, precision: EnginePrecision = "auto"):
        compiled = {stream: _compile(folder / f"{stream}{self.suffix}", precision) for stream in bundle.streams}
        found = "/".join(sorted({computes_in for _, computes_in in compiled.values()}))
        if precision not in ("auto", found):
            remedy = "export the bundle without --int8" if "int8" in found else "leave --precision out"
            raise InputError(f"openvino computes in {found} here, not in {precision}: {remedy}")
        self._requests = {stream: model.create_infer_request() for stream, (model, _) in compiled.items()}
        self._locks = {stream: Lock() for stream in compiled}
        outputs = {
            stream: set().union(*(one.get_names() for one in model.outputs)) for stream, (model, _) in compiled.items()
        }
        takes_float = {
            stream: model.inputs[0].get_element_type().to_string() == "f32" for stream, (model, _) in compiled.items()
        }
        super().__init__(f"openvino {found}", bundle, outputs, takes_float)

    def _run(self, stream: Stream, values: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
        with self._locks[stream]:  # a request holds the tensors of one call
            found = self._requests[stream].infer({"snippets": values}, share_inputs=True)
        return [found[name] for name in outputs]


def _compile(path: Path, precision: EnginePrecision) -> tuple[openvino.CompiledModel, str]:
    """The network of a file, and its number format: fp32, bf16, fp16 or int8."""
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    if precision != "auto":
        options["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
    model = openvino_core().read_model(path)
    check_ends(path, *([name for one in ends for name in one.get_names()] for ends in (model.inputs, model.outputs)))
    compiled = openvino_core().compile_model(model, "CPU", options)
    if any(node.get_type_name() == "FakeQuantize" for node in model.get_ops()):
        return compiled, "int8"
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return compiled, {"f32": "fp32", "f16": "fp16"}.get(hint, hint)
