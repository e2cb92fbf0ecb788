"""Export of a bundle to files for other runtimes: ONNX, and OpenVINO with or without 8-bit integers."""

import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rgbflow.bundle import RECORD, Bundle, change_record, check_networks, has_networks_of, load_bundle, write_files
from rgbflow.errors import InputError, first_line
from rgbflow.networks.exported import as_float
from rgbflow.networks.openvino_engine import openvino_core
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.torch_engine import load_networks
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.stream import Preparation, Stream, StreamSpec

if TYPE_CHECKING:
    import onnx
    import openvino

Format = Literal["onnx", "openvino"]
OPSETS = range(15, 19)  # 15: the last that Unity Sentis up to 2.5 reads; 18: what torch writes
# What torch's exporter says of its own code and of an LSTM's list of weights, which stays as it is.
EXPORT_WARNINGS = {
    "_check_is_size": FutureWarning,
    "The tensor attributes": UserWarning,
    "The .grad attribute of a Tensor that is not a leaf": UserWarning,
}


Value = TypeVar("Value")  # of a graph that is being written
LAST = sys.maxsize  # as the end of a slice: the end of its axis


class StreamGraph(nn.Module):
    """A network with its preparation: 8-bit snippets to logits, scores and features, in operations of any runtime.

    The scaling is two products with fixed matrices, since crop and input size never change. It gives the same numbers
    as `transforms.to_input`, without Resize, which differs between runtimes.

    Args:
        network: with its weights.
        spec: its stream.
        preparation: the size of the snippets and the bound of their flow.
        float_input: take frames as float32 0…255 and flow as float32 displacements in pixels per frame step.
    """

    indices: Tensor
    scaling: Tensor | None
    offset: Tensor
    factor: Tensor

    def __init__(self, network: StreamNet, spec: StreamSpec, preparation: Preparation, float_input: bool = False):
        super().__init__()
        self.family, self.backbone = network.family, network.backbone
        self.side = max(1, round(preparation.side_of(spec.stream) * spec.crop_fraction))
        self.subtract_mean_flow = spec.subtract_mean_flow
        self.bound = preparation.flow.bound if float_input and spec.stream == "flow" else None
        self.register_buffer("indices", torch.arange(self.side))
        is_scaled = self.side != spec.input_size
        self.register_buffer("scaling", scaling_matrix(self.side, spec.input_size) if is_scaled else None)
        mean, std = (torch.tensor(one).repeat(spec.stack_length)[:, None, None] for one in (spec.mean, spec.std))
        self.register_buffer("offset", -mean / std)
        self.register_buffer("factor", 1 / (255 * std))

    def forward(self, snippets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (N, K) of snippets (N, C, h, w), the scores (K,) of the clip that they are from, features (N, D)."""
        logits, features = self.family.logits_and_features(self.backbone, self.input_of(snippets))
        return logits, logits.mean(dim=0).softmax(dim=0), features

    def input_of(self, snippets: Tensor) -> Tensor:
        """The centre crop as `transforms.to_input` prepares it: (N, C, input_size, input_size) float32."""
        values = snippets.to(torch.float32)
        if self.bound:
            values = (127.5 + 127.5 / self.bound * values).round().clamp(0, 255)
        top, left = ((size - self.side) // 2 for size in snippets.shape[-2:])
        # Indices, where a slice would say the same: torch.export thinks four times as long about slices.
        cropped = values.index_select(-2, self.indices + top).index_select(-1, self.indices + left)
        if self.subtract_mean_flow:
            cropped = cropped - (values.mean(dim=(-2, -1), keepdim=True) - 127.5)
        cropped = cropped * self.factor + self.offset
        return cropped if self.scaling is None else self.scaling @ cropped @ self.scaling.T


def scaling_matrix(side: int, size: int) -> Tensor:
    """The matrix of bilinear scaling for a column of pixels, antialiased when scaling down: (size, side)."""
    scaled = F.interpolate(torch.eye(side)[None, None], (size, side), mode="bilinear", antialias=size < side)
    return scaled[0, 0]


def to_onnx(
    network: StreamNet, spec: StreamSpec, preparation: Preparation, float_input: bool = False
) -> "onnx.ModelProto":
    """The graph of a stream in opset 18: any number and size of snippets, the network in float32.

    Raises:
        InputError: if a package is missing, or torch can't export the network.
    """
    try:
        from onnxscript import optimizer  # torch's exporter is written in it
    except ImportError as error:
        raise InputError("onnx and onnxscript are not installed: pip install 'rgbflow[onnx]'") from error
    graph = StreamGraph(network.cpu(), spec, preparation, float_input).eval()
    side = preparation.side_of(spec.stream)
    dtype = torch.float32 if float_input else torch.uint8
    example = torch.zeros(2, spec.channels, side, side * 4 // 3, dtype=dtype)  # of 1 it would become fixed
    height, width = (torch.export.Dim(name, min=side) for name in ("height", "width"))
    free = {0: torch.export.Dim("snippets"), 2: height, 3: width}
    try:
        with warnings.catch_warnings():
            for message, category in EXPORT_WARNINGS.items():
                warnings.filterwarnings("ignore", message, category)
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                opset_version=OPSETS[-1],
                dynamic_shapes=(free,),
                input_names=["snippets"],
                output_names=["logits", "scores", "features"],
                custom_translation_table=REPLACED,
                optimize=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        raise InputError(
            f"{spec.backbone} of {spec.stream} can't be exported: {first_line(error.__cause__ or error)}"
        ) from error
    made = cast(torch.onnx.ONNXProgram, program)  # with dynamo=True torch always gives one
    # First what is quick: `optimize` takes time by the square of the number of operations.
    optimizer.fold_constants(made.model)
    optimizer.remove_unused_nodes(made.model)
    made.optimize()
    return made.model_proto


def slice_replaced(self: Value, src: Value, dim: int = 0, start: int = 0, end: int = LAST, step: int = 1) -> Value:
    """`torch.slice_scatter` as a concatenation: what is before the slice, `src`, what is after it."""
    from onnxscript import opset18

    op = cast(Any, opset18)  # its types are those of tensors, not of what a graph is written with
    if step != 1:
        raise NotImplementedError(f"a slice with step {step} can't be replaced")

    def part(first: int, last: int) -> Value:
        return op.Slice(self, *(op.Constant(value_ints=[number]) for number in (first, last, dim)))

    before = [part(0, start)] if start else []
    after = [part(end, LAST)] if end < LAST else []
    return op.Concat(*before, src, *after, axis=dim)


# Instead of a scatter by an index for each row, which torch writes. MViT adds to slices in each of its blocks.
REPLACED: dict[Callable, Callable] = {torch.ops.aten.slice_scatter.default: slice_replaced}


def with_opset(model: "onnx.ModelProto", opset: int) -> "onnx.ModelProto":
    """The same graph in an older opset.

    Raises:
        InputError: if that opset lacks an operation of the graph.
    """
    import onnx

    if opset == model.opset_import[0].version:
        return model
    for node in model.graph.node:  # at its default, and unknown to the older ones
        for attribute in [one for one in node.attribute if one.name == "noop_with_empty_axes" and one.i == 0]:
            node.attribute.remove(attribute)
    try:
        older = onnx.version_converter.convert_version(model, opset)
        older.ir_version = onnx.helper.find_min_ir_version_for(older.opset_import)
        onnx.checker.check_model(older, full_check=True)
    except (RuntimeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        newest = OPSETS[-1]
        raise InputError(
            f"the network can't be written in opset {opset} ({first_line(error)}): use --opset {newest}"
        ) from error
    return older


def to_openvino(model: "onnx.ModelProto", calibration: Sequence[np.ndarray] = ()) -> "openvino.Model":
    """The graph of a stream for OpenVINO; with calibration snippets, its network in 8-bit integers.

    Layers that read at least half of the input's resolution stay in floats.

    Args:
        model: from `to_onnx`.
        calibration: each (1, C, h, w), as the model takes them.

    Raises:
        InputError: if OpenVINO or NNCF is missing.
    """
    try:
        core = openvino_core()
    except ImportError as error:
        raise InputError("openvino is not installed: pip install 'rgbflow[openvino]'") from error
    read = core.read_model(model.SerializeToString())
    return _in_8_bits(read, calibration) if len(calibration) else read


def _in_8_bits(model: "openvino.Model", calibration: Sequence[np.ndarray]) -> "openvino.Model":
    try:
        import nncf
    except ImportError as error:
        raise InputError("--int8 needs nncf, which is not installed: pip install 'rgbflow[openvino]'") from error
    nncf.set_log_level(logging.WARNING)
    with contextlib.redirect_stdout(sys.stderr):  # its progress
        return nncf.quantize(
            model,
            nncf.Dataset(calibration),
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(names=_kept_in_floats(model)),
        )


def _kept_in_floats(model: "openvino.Model") -> list[str]:
    """The operations that prepare the input, and the layers that read at least half its resolution.

    These layers are few, and every later layer inherits their loss.
    """
    kept, size = [], 0
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in ("Convolution", "GroupConvolution"):
            reads = node.get_input_partial_shape(0)[-2].get_length()  # of a 3D convolution [2] is time
            size = size or reads
            if 2 * reads >= size:
                kept.append(node.get_friendly_name())
        elif not size and kind in ("MatMul", "Add", "Subtract", "Multiply", "ReduceMean"):
            kept.append(node.get_friendly_name())
    return kept


def export_bundle(
    folder: Path,
    bundle: Bundle,
    out: Path,
    to: Format,
    opset: int = OPSETS[-1],
    float_input: bool = False,
    calibration: Mapping[Stream, Sequence[np.ndarray]] | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """Write one file for each stream; if `out` is another folder, also the record, which makes `out` a bundle.

    Args:
        folder: of the bundle.
        bundle: the record of the bundle.
        out: folder to write to; it may be `folder` itself.
        to: "onnx" or "openvino".
        opset: operator set of ONNX, 15 to 18.
        float_input: see `StreamGraph`.
        calibration: for 8-bit integers, OpenVINO only: per stream snippets (1, C, h, w) uint8.
        progress: a step is a stream, with a line for its file.

    Raises:
        InputError: for the reasons of `to_onnx`, `with_opset` and `to_openvino`, if `out` is another bundle, or if it
            can't be written.
    """
    if (out / RECORD).is_file() and not has_networks_of(load_bundle(out), bundle):
        raise InputError(f"{out} holds another bundle: choose another folder to write to, or remove it")
    written: list[Path] = []
    contents: dict[str, bytes] = {}
    networks = load_networks(folder, bundle)
    for stream, network in counted(networks.items(), len(networks), progress):
        model = to_onnx(network, bundle.streams[stream], bundle.preparation, float_input)
        if to == "onnx":
            path = out / f"{stream}.onnx"
            contents[path.name] = with_opset(model, opset).SerializeToString()
        else:
            path = out / f"{stream}.xml"
            snippets = [
                as_float(one, stream, bundle.preparation) if float_input else one
                for one in (calibration or {}).get(stream, ())
            ]
            contents |= _openvino_files(path.name, to_openvino(model, snippets))
        progress.report(f"{stream}: {path}")
        written.append(path)

    def add(present: Bundle | None) -> Bundle:
        known = check_networks(out, present, bundle) if present else replace(bundle, files={})
        own = out.resolve() == folder.resolve()
        return replace(known if own else bundle, files={**known.files, **write_files(out, contents)})

    change_record(out, add)
    return written


def _openvino_files(name: str, model: "openvino.Model") -> dict[str, bytes]:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / name
        openvino.save_model(model, made, compress_to_fp16=False)
        files = [made.with_suffix(suffix) for suffix in (".bin", ".xml")]  # the one that is looked for comes last
        return {file.name: file.read_bytes() for file in files}
