"""What runs the network of each stream: from 8-bit snippets to logits."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np
import torch

from rgbflow.bundle import Bundle, load_weights, weights_file
from rgbflow.device import choose_device, has_fast_bf16
from rgbflow.errors import InputError, first_line
from rgbflow.flow import dequantise
from rgbflow.fusion import probabilities
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import SkippedRandomStart
from rgbflow.stream import ComputesIn, Crops, EngineName, Preparation, Stream, StreamSpec
from rgbflow.transforms import snippets_to_input

if TYPE_CHECKING:
    import openvino

# How far a score may be from that of torch in fp32, by what the engine computes in.
TOLERANCES = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.02, "int8": 0.15}


class Engine(Protocol):
    """Runs the networks of a bundle; crop, scaling and normalisation are its part too."""

    name: str  # such as "torch fp32" or "openvino int8"

    def logits(self, stream: Stream, snippets: np.ndarray, crops: Crops = 1) -> np.ndarray:
        """Class logits of snippets.

        Args:
            stream: whose network.
            snippets: (N, C, h, w) uint8, from `transforms.read_snippets`.
            crops: of each snippet, 1 or 10; its logits are the mean over them.

        Returns:
            (N, K) float32.

        Raises:
            InputError: if the engine has no ten crops, or the snippets another size than the bundle's.
        """
        ...


class TorchEngine:
    """PyTorch, on any device.

    Args:
        specs: the streams.
        networks: one per stream, with its weights.
        device: "auto", or a torch device name.
        precision: "auto" takes bfloat16 where the hardware computes in it.
    """

    def __init__(
        self,
        specs: dict[Stream, StreamSpec],
        networks: dict[Stream, StreamNet],
        device: str = "auto",
        precision: ComputesIn = "auto",
    ):
        self.device = choose_device(device)
        self.specs = specs
        self.networks = {
            stream: network.to(self.device, memory_format=network.memory_format).eval()
            for stream, network in networks.items()
        }
        bf16 = has_fast_bf16(self.device) if precision == "auto" else precision == "bf16"
        self._precision = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False)
        place = "" if self.device.type == "cpu" else f" on {self.device}"
        self.name = f"torch {'bf16' if bf16 else 'fp32'}{place}"

    @torch.inference_mode()
    def logits(self, stream: Stream, snippets: np.ndarray, crops: Crops = 1) -> np.ndarray:
        inputs = snippets_to_input(torch.from_numpy(snippets).to(self.device), self.specs[stream], crops)
        with self._precision:
            logits = self.networks[stream](inputs[:, None])  # each snippet as a clip of its own
        return logits.unflatten(0, (-1, len(snippets))).mean(dim=0).cpu().numpy()


class OnnxEngine:
    """ONNX Runtime on the CPU, with the files of `rgbflow export --to onnx`; as many threads as torch has.

    Args:
        folder: where the files lie.
        bundle: what they were made from.
        precision: fp32, which "auto" is too.

    Raises:
        InputError: if it can't compute in that.
    """

    suffix = ".onnx"

    def __init__(self, folder: Path, bundle: Bundle, precision: ComputesIn = "auto"):
        import onnxruntime

        if precision == "bf16":
            raise InputError("onnx computes in fp32, not in bf16: use openvino or torch")
        self.name = "onnx fp32"
        self._bundle = bundle
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._sessions = {
            stream: onnxruntime.InferenceSession(folder / f"{stream}{self.suffix}", options, ["CPUExecutionProvider"])
            for stream in bundle.streams
        }

    def logits(self, stream: Stream, snippets: np.ndarray, crops: Crops = 1) -> np.ndarray:
        session = self._sessions[stream]
        takes_float = session.get_inputs()[0].type == "tensor(float)"
        return session.run(["logits"], {"snippets": _exported_input(self, stream, snippets, crops, takes_float)})[0]


def openvino_core() -> openvino.Core:
    """The one core of this process, which is never given up.

    Each core that computes on the CPU puts a signal stack of its own in the place of the one before. Two that are
    dropped in the order they were made leave one that is gone, and the next signal that Python handles (Ctrl-C) ends
    the process with a segmentation fault; seen with OpenVINO 2026.4 on processors with AVX-512.

    Raises:
        ImportError: if OpenVINO is not installed.
    """
    import openvino

    return _the_only(openvino.Core)


@cache
def _the_only(make: Callable[[], openvino.Core]) -> openvino.Core:
    return make()


class OpenVinoEngine:
    """OpenVINO on the CPU, with the files of `rgbflow export --to openvino`; as many threads as torch has.

    It computes in 8-bit integers where the files were made with `--int8`.

    Args:
        folder: where the files lie.
        bundle: what they were made from.
        precision: "auto" takes bfloat16 where the hardware computes in it, and whatever the files hold.

    Raises:
        InputError: if the files, or the hardware, compute in something else.
    """

    suffix = ".xml"

    def __init__(self, folder: Path, bundle: Bundle, precision: ComputesIn = "auto"):
        self._bundle = bundle
        core, precisions = openvino_core(), set()
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        if precision != "auto":
            options["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
        self._requests, self._locks = {}, {}
        for stream in bundle.streams:
            model = core.read_model(folder / f"{stream}{self.suffix}")
            compiled = core.compile_model(model, "CPU", options)
            is_int8 = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
            hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
            precisions.add("int8" if is_int8 else {"f32": "fp32", "f16": "fp16"}.get(hint, hint))
            self._requests[stream], self._locks[stream] = compiled.create_infer_request(), Lock()
        found = "/".join(sorted(precisions))
        if precision not in ("auto", found):
            remedy = "export the bundle without --int8" if "int8" in precisions else "leave --precision out"
            raise InputError(f"openvino computes in {found} here, not in {precision}: {remedy}")
        self.name = f"openvino {found}"

    def logits(self, stream: Stream, snippets: np.ndarray, crops: Crops = 1) -> np.ndarray:
        request = self._requests[stream]
        takes_float = request.model_inputs[0].get_element_type().to_string() == "f32"
        values = _exported_input(self, stream, snippets, crops, takes_float)
        with self._locks[stream]:  # a request holds the tensors of one call
            return request.infer({"snippets": values}, share_inputs=True)["logits"]


EXPORTED = {"openvino": OpenVinoEngine, "onnx": OnnxEngine}


def _exported_input(
    engine: OnnxEngine | OpenVinoEngine, stream: Stream, snippets: np.ndarray, crops: Crops, takes_float: bool
) -> np.ndarray:
    """Snippets as an exported file takes them: as they are, or as float frames and displacements."""
    if crops != 1:
        raise InputError(f"{crops} crops are not for {engine.name}, whose files hold the centre crop: use torch")
    preparation = engine._bundle.preparation
    side, found = preparation.side_of(stream), min(snippets.shape[-2:])
    if side != found:
        raise InputError(
            f"the short side of these {stream} snippets is {found} pixels, {engine.name} was exported for {side}: "
            "prepare them as the bundle was, or use torch"
        )
    return as_float(snippets, stream, preparation) if takes_float else snippets


def as_float(snippets: np.ndarray, stream: Stream, preparation: Preparation) -> np.ndarray:
    """8-bit snippets as a file exported with float input takes them: frames 0…255, flow in pixels per frame step."""
    return snippets.astype(np.float32) if stream == "rgb" else dequantise(snippets, preparation.flow.bound)


def load_engine(
    folder: Path,
    bundle: Bundle,
    device: str = "auto",
    engine: EngineName = "auto",
    report: Callable[[str], None] = lambda line: None,
    precision: ComputesIn = "auto",
) -> tuple[Engine, dict[Stream, StreamNet]]:
    """The engine of a bundle, and its networks in torch where torch is what runs them.

    Exported files are believed only if their scores agree with torch's, where the weights are there to ask it.

    Args:
        folder: of the bundle.
        bundle: what its record says.
        device: "auto", or a torch device name; exported files run on the CPU.
        engine: "auto" takes the fastest of torch, where the weights are there, and of OpenVINO and ONNX Runtime, where
            they are installed and their files lie in the folder and agree; beside a GPU it takes torch.
        report: gets a line for each engine that "auto" passed by though its files are there.
        precision: "auto" takes the fastest that the engine has; with 8-bit integers in its files, those.

    Raises:
        InputError: if the engine asked for can't be used, or none can.
    """
    place = choose_device(device).type
    if engine in EXPORTED and device not in ("auto", "cpu"):
        raise InputError(f"--engine {engine} runs on the CPU, not on {device}: leave --device out, or pass torch")
    names = [engine] if engine in EXPORTED else [*EXPORTED] if engine == "auto" and place == "cpu" else []
    there = [name for name in EXPORTED if _is_exported(folder, bundle, name)]
    names = [name for name in names if name in there]
    has_weights = all(weights_file(folder, stream).is_file() for stream in bundle.streams)
    if engine in EXPORTED and not names:
        makes = f"`rgbflow export {folder} --to {engine}` makes them"
        remedy = makes if has_weights or not there else f"pass --engine {there[0]}, or export from the weights"
        raise InputError(f"{folder} holds no files for {engine}: {remedy}")
    if there and not names and not has_weights:
        raise InputError(
            f"{folder} holds no weights for torch, only files for {there[0]}: use the bundle that they were exported "
            f"from, or to label or evaluate clips --engine {there[0]}"
        )
    networks = load_networks(folder, bundle) if has_weights or not names else {}
    agreeing: list[Engine] = []
    refused = ""
    for name in names:
        try:
            agreeing.append(_open_exported(name, folder, bundle, networks, precision))
        except InputError as error:
            if engine != "auto":
                raise
            refused = str(error)
            report(refused)
    if networks and not (agreeing and engine in EXPORTED):
        agreeing.append(TorchEngine(bundle.streams, networks, device, precision))
    if not agreeing:
        raise InputError(f"{folder} holds no weights for torch, and {refused}")
    fastest = min(agreeing, key=lambda one: update_seconds(one, bundle)) if len(agreeing) > 1 else agreeing[0]
    return fastest, networks if isinstance(fastest, TorchEngine) else {}


def load_networks(folder: Path, bundle: Bundle) -> dict[Stream, StreamNet]:
    """The networks of a bundle with their weights.

    Raises:
        InputError: if weights are missing, damaged or of another network.
    """
    networks = {}
    for stream, spec in bundle.streams.items():
        with SkippedRandomStart():
            networks[stream] = StreamNet(spec, len(bundle.classes))
        try:
            networks[stream].load_state_dict(load_weights(folder, stream))
        except RuntimeError as error:
            raise InputError(f"{folder}: the weights of {stream} do not fit {spec.backbone}") from error
    return networks


def _is_exported(folder: Path, bundle: Bundle, name: str) -> bool:
    return all((folder / f"{stream}{EXPORTED[name].suffix}").is_file() for stream in bundle.streams)


def _open_exported(
    name: str, folder: Path, bundle: Bundle, networks: dict[Stream, StreamNet], precision: ComputesIn
) -> Engine:
    """An engine for exported files.

    Raises:
        InputError: if its library is missing, a file is damaged, it has no such precision, or the scores are not those
            of the networks.
    """
    try:
        engine = EXPORTED[name](folder, bundle, precision)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{name} is not installed: pip install 'rgbflow[{name}]', or use torch") from error
    except Exception as error:  # each runtime has its own
        raise InputError(
            f"the files for {name} in {folder} can't be read ({first_line(error)}): export the bundle again"
        ) from error
    tolerance = max(TOLERANCES[one] for one in engine.name.split()[1].split("/"))
    found = difference(engine, TorchEngine(bundle.streams, networks, "cpu", "fp32"), bundle) if networks else 0
    if not found <= tolerance:  # nor if it is no number
        raise InputError(
            f"{engine.name} is not used: its scores differ from those of the weights by up to {found:.2g}, more than "
            f"{tolerance:g}: `rgbflow export` makes its files again"
        )
    return engine


def difference(one: Engine, other: Engine, bundle: Bundle) -> float:
    """The largest difference of two engines' scores on snippets of smooth noise; not a number if a score is none."""
    largest = []
    for stream in bundle.streams:
        snippets = _smooth_noise(bundle, stream, 2)
        scores = [probabilities(engine.logits(stream, snippets)) for engine in (one, other)]
        largest.append(np.abs(scores[0] - scores[1]).max())
    return float(np.max(largest))


def update_seconds(engine: Engine, bundle: Bundle) -> float:
    """How long an engine takes for one snippet of every stream: the best of three, after a first one."""
    snippets, seconds = {stream: _smooth_noise(bundle, stream, 1) for stream in bundle.streams}, []
    for _ in range(4):
        began = time.perf_counter()
        for stream, one in snippets.items():
            engine.logits(stream, one)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _smooth_noise(bundle: Bundle, stream: Stream, count: int) -> np.ndarray:
    """(count, C, h, w) uint8 snippets, the same each time."""
    side, channels = bundle.preparation.side_of(stream), bundle.streams[stream].channels
    coarse = np.random.default_rng(0).integers(60, 196, (count, channels, 6, 8), dtype=np.uint8)
    return np.stack([[cv2.resize(plane, (side * 4 // 3, side)) for plane in snippet] for snippet in coarse])
