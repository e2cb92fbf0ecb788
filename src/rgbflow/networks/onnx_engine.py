"""ONNX Runtime as the engine of a bundle."""

from pathlib import Path

import numpy as np
import torch

from rgbflow.bundle import Bundle
from rgbflow.errors import InputError
from rgbflow.networks.exported import ExportedEngine, check_ends
from rgbflow.stream import EnginePrecision, Stream


class OnnxEngine(ExportedEngine):
    """ONNX Runtime on the CPU, for the files of `rgbflow export --to onnx`; it uses as many threads as torch.

    Args:
        folder: where the files lie.
        bundle: the bundle that they were made from.
        precision: "fp32" or "auto", which is the same here.

    Raises:
        InputError: for any other precision.
    """

    suffix = ".onnx"

    def __init__(self, folder: Path, bundle: Bundle, precision: EnginePrecision = "auto"):
        import onnxruntime

        if precision == "bf16":
            raise InputError("onnx computes in fp32, not in bf16: use openvino or torch")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # see `rgbflow.threads`
        self._sessions = {
            stream: onnxruntime.InferenceSession(folder / f"{stream}{self.suffix}", options, ["CPUExecutionProvider"])
            for stream in bundle.streams
        }
        for stream, session in self._sessions.items():
            ends = ([one.name for one in ends] for ends in (session.get_inputs(), session.get_outputs()))
            check_ends(folder / f"{stream}{self.suffix}", *ends)
        outputs = {stream: {one.name for one in session.get_outputs()} for stream, session in self._sessions.items()}
        takes_float = {
            stream: session.get_inputs()[0].type == "tensor(float)" for stream, session in self._sessions.items()
        }
        super().__init__("onnx fp32", bundle, outputs, takes_float)

    def _run(self, stream: Stream, values: np.ndarray, outputs: list[str]) -> list[np.ndarray]:
        return self._sessions[stream].run(outputs, {"snippets": values})
