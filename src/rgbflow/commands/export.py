"""The command that writes a bundle's networks for other runtimes."""

from pathlib import Path
from typing import Annotated, Literal

from rgbflow.commands.flags import Flag, Positional
from rgbflow.commands.printing import show
from rgbflow.commands.terminal import track
from rgbflow.errors import InputError

CALIBRATION_SNIPPETS = 300  # NNCF's own number


def export(
    bundle: Annotated[str, Positional, Flag(metavar="BUNDLE")],
    to: Literal["onnx", "openvino"],
    out: Annotated[Path | None, Flag(metavar="DIR")] = None,
    int8: Annotated[Path | None, Flag(metavar="STORE")] = None,
    split: Annotated[Path | None, Flag(metavar="PATH")] = None,
    opset: int | None = None,
    float_input: bool = False,
    json: bool = False,
) -> int:
    """Export a bundle for ONNX Runtime, OpenVINO or Unity: one file per stream, from pixels to scores.

    Args:
        bundle: folder from `rgbflow train`, a Hugging Face Hub id, owner/name, or kinetics:s3d and its like.
        to: format of the files. Once they exist, rgbflow can use them too, if their scores agree with the weights.
        out: folder for a new bundle without weights; by default the files go into BUNDLE.
        int8: compute in 8-bit integers, calibrated on the training part of this prepared data set; only for openvino.
        split: the split the bundle was trained on; for --int8.
        opset: ONNX operator set, 15 to 18; 18 if not given. Unity needs 15.
        float_input: let the files take floats, frames in 0…255 and flow in pixels per frame step, instead of 8 bits.
        json: print what was written as JSON.
    """
    if (int8 is None) != (split is None):
        raise InputError("--int8 STORE and --split go together: the calibration reads the training part of the split")
    if int8 and to != "openvino":
        raise InputError(f"--int8 is not for --to {to}: use --to openvino")
    if opset is not None and to != "onnx":
        raise InputError(f"--opset is for --to onnx, not for --to {to}: leave it out")
    if opset is not None and not 15 <= opset <= 18:
        raise InputError(f"--opset ({opset}) must be 15 to 18: 15 suits Unity, 18 everything newer")
    if out is None and not Path(bundle).is_dir():
        raise InputError(f"{bundle} is not a folder here: pass --out, the folder to write to")
    from rgbflow.bundle import load_bundle
    from rgbflow.networks.export import OPSETS, export_bundle
    from rgbflow.networks.ready_made import find_bundle

    folder = find_bundle(bundle)
    record, calibration = load_bundle(folder), None
    if int8 and split:
        from rgbflow.data.dataset import training_snippets
        from rgbflow.data.jpegs import open_store
        from rgbflow.data.splits import load_split
        from rgbflow.learn.evaluate import check_belongs

        store, parts = open_store(int8), load_split(split)
        check_belongs(record, store, parts)
        calibration = {
            stream: training_snippets(store, parts, spec, CALIBRATION_SNIPPETS)
            for stream, spec in record.streams.items()
        }
    with track("exporting", "streams") as progress:
        files = export_bundle(
            folder, record, out or folder, to, opset or OPSETS[-1], float_input, calibration, progress
        )
    show(
        {"bundle": bundle, "out": str(out or folder), "files": [str(path) for path in files]},
        json,
        "{out}: `rgbflow predict {out} clip.mp4` uses it",
    )
    return 0
