"""The engine of a bundle: the fastest of the candidates that give the scores of the weights."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from rgbflow.bundle import Bundle, check_file, weights_file
from rgbflow.device import choose_device
from rgbflow.errors import InputError, first_line
from rgbflow.fusion import probabilities
from rgbflow.networks.engine import Engine
from rgbflow.networks.families import check_form
from rgbflow.networks.headed_engine import HeadedEngine
from rgbflow.networks.onnx_engine import OnnxEngine
from rgbflow.networks.openvino_engine import OpenVinoEngine
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.torch_engine import TorchEngine, load_networks
from rgbflow.stream import EngineName, EnginePrecision, Stream

EXPORTED: dict[EngineName, type[OpenVinoEngine | OnnxEngine]] = {"openvino": OpenVinoEngine, "onnx": OnnxEngine}
# How far a score may be from that of torch in fp32, by what the engine computes in.
TOLERANCES = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.02, "int8": 0.15}


def load_engine(
    folder: Path,
    bundle: Bundle,
    device: str = "auto",
    engine: EngineName = "auto",
    report: Callable[[str], None] = lambda line: None,
    precision: EnginePrecision = "auto",
) -> Engine:
    """The engine of a bundle.

    Exported files are used only if their scores agree with torch's; without weights this can't be checked.

    Args:
        folder: of the bundle.
        bundle: the record of the bundle.
        device: "auto", or a torch device name; exported files run on the CPU.
        engine: "auto" takes the fastest of torch, if the folder has weights, and of OpenVINO and ONNX Runtime, if they
            are installed and the folder has files of theirs that agree. On a GPU it takes torch.
        report: called with one line for each engine that "auto" skipped although its files exist.
        precision: "auto" takes the engine's fastest; for files with 8-bit integers, these.

    Raises:
        InputError: if the requested engine can't be used, or if no engine can.
    """
    for spec in bundle.streams.values():
        check_form(spec)
    names = _candidates(folder, bundle, device, engine)
    has_to_load = "torch" in names or _has_weights(folder, bundle)
    networks = load_networks(folder, bundle) if has_to_load else {}
    open_one = partial(_open, folder, bundle, networks, device, precision)
    if engine != "auto":
        return open_one(engine)
    return _fastest(_agreeing(folder, names, open_one, report), bundle)


def _candidates(folder: Path, bundle: Bundle, device: str, engine: EngineName) -> list[EngineName]:
    """The engines to try: the requested one, or for "auto" all that have files or weights in the folder."""
    runs_on_cpu = choose_device(device).type == "cpu"
    if engine in EXPORTED and device not in ("auto", "cpu"):
        raise InputError(f"--engine {engine} runs on the CPU, not on {device}: leave --device out, or pass torch")
    exported = [name for name in EXPORTED if _is_exported(folder, bundle, name)]
    has_weights = _has_weights(folder, bundle)
    if engine in EXPORTED:
        if engine not in exported:
            makes = f"`rgbflow export {folder} --to {engine}` makes them"
            remedy = (
                makes if has_weights or not exported else f"pass --engine {exported[0]}, or export from the weights"
            )
            raise InputError(f"{folder} holds no files for {engine}: {remedy}")
        return [engine]
    names = exported if engine == "auto" and runs_on_cpu else []
    if exported and not names and not has_weights:
        raise InputError(
            f"{folder} holds no weights for torch, only files for {exported[0]}: use the bundle that they were "
            f"exported from, or to label or evaluate clips --engine {exported[0]}"
        )
    return [*names, "torch"] if has_weights or not names else names


def _agreeing(
    folder: Path, names: list[EngineName], open_one: Callable[[EngineName], Engine], report: Callable[[str], None]
) -> list[Engine]:
    """The candidates that can be used; the others are reported.

    Raises:
        InputError: if no candidate can be used.
    """
    engines, refused = [], ""
    for name in names:
        try:
            engines.append(open_one(name))
        except InputError as error:
            refused = str(error)
            report(refused)
    if not engines:
        raise InputError(f"{folder} holds no weights for torch, and {refused}")
    return engines


def _fastest(engines: list[Engine], bundle: Bundle) -> Engine:
    return min(engines, key=lambda one: update_seconds(one, bundle)) if len(engines) > 1 else engines[0]


def _has_weights(folder: Path, bundle: Bundle) -> bool:
    return all(weights_file(folder, stream).is_file() for stream in bundle.streams)


def _is_exported(folder: Path, bundle: Bundle, name: EngineName) -> bool:
    return all((folder / f"{stream}{EXPORTED[name].suffix}").is_file() for stream in bundle.streams)


def _open(
    folder: Path,
    bundle: Bundle,
    networks: dict[Stream, StreamNet],
    device: str,
    precision: EnginePrecision,
    name: EngineName,
) -> Engine:
    """An engine, checked to give the scores of the torch networks, if there are any.

    Raises:
        InputError: if its library is missing, a file is damaged, it has no such precision, or the scores differ.
    """
    if name == "torch":
        return TorchEngine(bundle.streams, networks, device, precision)
    engine = _open_files(name, folder, bundle, precision)
    if networks:
        _check_scores(engine, networks, bundle)
    return engine


def _check_scores(engine: Engine, networks: Mapping[Stream, StreamNet], bundle: Bundle) -> None:
    """Raise InputError if an engine's scores differ from those of the networks in torch."""
    tolerance = max(TOLERANCES[one] for one in engine.name.split()[1].split("/"))
    found = difference(engine, TorchEngine(bundle.streams, networks, "cpu", "fp32"), bundle)
    if not found <= tolerance:  # nor if it is no number
        raise InputError(
            f"{engine.name} is not used: its scores differ from those of the weights by up to {found:.2g}, more than "
            f"{tolerance:g}: `rgbflow export` makes its files again"
        )


def engine_of_taught(
    taught: Engine, classifiers: Mapping[Stream, nn.Linear], base: Engine, bundle: Bundle
) -> tuple[Engine, str]:
    """The faster engine for networks that differ from those of a base only in their last layers.

    Args:
        taught: torch with these networks.
        classifiers: their last layers.
        base: the engine of the base, whose files give the features.
        bundle: the record of the taught bundle.

    Returns:
        The engine, and a line that says why it is not the base's; empty where it is.
    """
    if isinstance(base, TorchEngine):
        return taught, ""
    engine = HeadedEngine(base, taught.networks, classifiers)
    try:
        _check_scores(engine, taught.networks, bundle)
    except InputError as error:
        return taught, str(error)
    faster = _fastest([engine, taught], bundle)
    return faster, "" if faster is engine else f"{taught.name} is faster here than {base.name}"


def _open_files(name: EngineName, folder: Path, bundle: Bundle, precision: EnginePrecision) -> Engine:
    for stream in bundle.streams:
        for suffix in (".xml", ".bin") if name == "openvino" else (".onnx",):
            check_file(folder, bundle, f"{stream}{suffix}")
    try:
        return EXPORTED[name](folder, bundle, precision)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{name} is not installed: pip install 'rgbflow[{name}]', or use torch") from error
    except Exception as error:  # each runtime has its own
        raise InputError(
            f"the files for {name} in {folder} can't be read ({first_line(error)}): export the bundle again"
        ) from error


def difference(one: Engine, other: Engine, bundle: Bundle) -> float:
    """The largest difference between the scores of two engines on snippets of smooth noise; NaN if a score is NaN."""
    snippets = {stream: _smooth_noise(bundle, stream, 2) for stream in bundle.streams}
    found, expected = (engine.answers(snippets) for engine in (one, other))
    apart = [probabilities(found[stream].logits) - probabilities(expected[stream].logits) for stream in snippets]
    return float(np.max([np.abs(values).max() for values in apart]))


def update_seconds(engine: Engine, bundle: Bundle) -> float:
    """Seconds that an engine takes for one snippet of every stream: the best of three, after a first run."""
    snippets, seconds = {stream: _smooth_noise(bundle, stream, 1) for stream in bundle.streams}, []
    for _ in range(4):
        began = time.perf_counter()
        engine.answers(snippets)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def _smooth_noise(bundle: Bundle, stream: Stream, count: int) -> np.ndarray:
    """(count, C, h, w) uint8 snippets, the same each time."""
    side, channels = bundle.preparation.side_of(stream), bundle.streams[stream].channels
    coarse = np.random.default_rng(0).integers(60, 196, (count, channels, 6, 8), dtype=np.uint8)
    return np.stack([[cv2.resize(plane, (side * 4 // 3, side)) for plane in snippet] for snippet in coarse])
