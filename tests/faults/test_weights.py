"""Weights and networks of strangers: what is no file, no number or no network is one line, and nothing hangs."""

import json
import lzma
import os
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from rgbflow.bundle import RECORD, check_file, load_bundle, save_bundle, weights_file
from rgbflow.clip import FrameClip
from rgbflow.data.archives import _explaining_archive
from rgbflow.errors import InputError
from rgbflow.learn.scores import read_scores
from rgbflow.networks.loading import load_engine
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import initialise
from rgbflow.recognizer import Recognizer


@pytest.fixture
def folder(tmp_path, save_random_bundle):
    save_random_bundle(tmp_path / "bundle")
    return tmp_path / "bundle"


def told(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def load(folder):
    return Recognizer.load(folder, "cpu", "torch")


def rewrite(folder, change):
    """Other weights, in a bundle that says nothing of their hash."""
    path = weights_file(folder, "rgb")
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: change(value).contiguous() for name, value in weights.items()}, path)
    save_bundle(folder, replace(load_bundle(folder), files={}))


def change_record(folder, change):
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    change(record)
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_weights_that_are_no_regular_file_are_refused_at_once(folder, make):
    path = weights_file(folder, "rgb")
    path.unlink()
    make(path)
    assert "is no regular file" in told(load, folder)
    spec = load_bundle(folder).streams["rgb"]
    assert "is no regular file" in told(initialise, StreamNet(spec, 2), spec, str(path))
    assert "is no regular file" in told(read_scores, [path])


def test_a_file_of_terabytes_is_refused_before_it_is_read(folder):
    bundle = load_bundle(folder)
    for name in ("rgb.safetensors", "rgb.onnx"):
        with (folder / name).open("ab") as file:
            file.truncate(1 << 40)  # of holes, which take no room on the disk
        words = told(check_file, folder, bundle, name)
        assert "has 1,099,511,627,776 bytes, and at most 4,294,967,296 are read: set RGBFLOW_MAX_FILE" in words


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value.to(torch.int32), "holds torch.int32"),
        (lambda value: value > 0, "holds torch.bool"),
        (lambda value: value.to(torch.complex64), "complex"),
        (lambda value: torch.full_like(value, torch.nan) if value.is_floating_point() else value, "no numbers"),
        (lambda value: torch.full_like(value, -torch.inf) if value.is_floating_point() else value, "infinite"),
        (lambda value: value[:1] if value.ndim else value, "do not fit"),
    ],
    ids=range(6),
)
def test_weights_of_other_numbers_are_refused(folder, change, words):
    rewrite(folder, change)
    assert words in told(load, folder)


def test_weights_whose_sum_is_too_large_for_a_float_are_taken(folder):
    rewrite(folder, lambda value: torch.full_like(value, 1e38) if value.ndim > 3 else value)
    load(folder)  # a sum of infinity would have been refused as no finite number


def test_a_flipped_bit_of_the_weights_is_found_by_their_hash(folder):
    path = weights_file(folder, "flow")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    line = told(load, folder)
    assert "flow.safetensors is damaged, or of another bundle: its SHA-256 is" in line
    save_bundle(folder, replace(load_bundle(folder), licence="CC0-1.0"))  # as `evaluate` and `calibrate` write it
    assert told(load, folder) == line
    change_record(folder, lambda record: record.pop("files"))  # as older versions wrote it
    load(folder)


def test_exported_files_are_hashed_too_and_each_is_looked_at(exported, tmp_path):
    bundle = load_bundle(exported.folder)
    endings = ("safetensors", "onnx")
    assert bundle.files.keys() == {f"{stream}.{ending}" for stream in bundle.streams for ending in endings}
    for name in bundle.files:
        check_file(exported.folder, bundle, name)
    for name in ("rgb.onnx", "flow.onnx"):
        (tmp_path / name).write_bytes((exported.folder / name).read_bytes() + b"\0")
        assert f"{name} is damaged" in told(check_file, tmp_path, bundle, name)
    assert told(check_file, tmp_path, bundle, "rgb.bin").endswith("missing: train or copy the bundle again")


@pytest.mark.parametrize(
    "backbone", ["resnet18.foo", "x.hf-hub:y", "hf-hub:a/b", "local-dir:/etc", "../resnet18", "r*"]
)
def test_a_backbone_that_timm_does_not_have_is_refused(folder, backbone):
    change_record(folder, lambda record: record["streams"]["rgb"].update(backbone=backbone))
    assert f"backbone '{backbone}' is unknown to timm" in told(load, folder)


def test_a_network_that_cannot_be_built_or_read_its_input_is_refused(folder, moving_square):
    change_record(folder, lambda record: record["streams"]["rgb"].update(backbone="vit_tiny_patch16_224"))
    assert "do not fit vit_tiny_patch16_224" in told(load, folder)


def test_logits_that_are_no_numbers_are_no_answer(folder, moving_square):
    recognizer = load(folder)
    for parameter in recognizer.engine.networks["rgb"].parameters():
        parameter.data.fill_(torch.nan)
    clip = FrameClip(recognizer.bundle.preparation)
    for index, pixels in enumerate(moving_square(1, 0, 30)):
        clip.push(pixels, index / 25)
    assert "gives no finite logit" in told(recognizer.predict, clip, 2)


def test_exported_files_without_inputs_or_with_others_are_refused(folder):
    import onnx
    from onnx import TensorProto, helper

    bundle = replace(load_bundle(folder), files={})
    for name, inputs in (("none", []), ("other", ["pixels"])):
        made = [helper.make_tensor_value_info(one, TensorProto.FLOAT, [1]) for one in inputs]
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
        node = helper.make_node("Constant", [], ["logits"], value=value)
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])
        model = helper.make_model(helper.make_graph([node], name, made, [output]), ir_version=9)
        for stream in bundle.streams:
            onnx.save(model, folder / f"{stream}.onnx")
        assert "was not made by `rgbflow export`" in told(load_engine, folder, bundle, "cpu", "onnx")


def test_damaged_archives_are_named(tmp_path):
    path = tmp_path / "scores.npz"
    for compression in (zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("rgb.npy", np.random.default_rng(0).bytes(2000))
        content = bytearray(path.read_bytes())
        content[60:160] = bytes(100)
        path.write_bytes(content)
        assert "can't be read" in told(read_scores, [path])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rgb.npy", b"x")
    content = path.read_bytes().replace(b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x63\x00")  # compression 99
    path.write_bytes(content)
    assert "can't be read" in told(read_scores, [path])
    with pytest.raises(InputError, match="can't be extracted"), _explaining_archive(path):
        raise lzma.LZMAError("Corrupt input data")


def test_a_copied_bundle_is_whole(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    load(tmp_path / "copy")
