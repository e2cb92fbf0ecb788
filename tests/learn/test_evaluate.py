import dataclasses
import json
import shutil

import numpy as np
import pytest
import sklearn.metrics

from rgbflow import Recognizer
from rgbflow.bundle import RECORD, load_bundle, save_bundle
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.learn.evaluate import clips_to_explain, evaluate_recognizer, make_report, record_figures
from rgbflow.learn.metrics import deciding_stream
from rgbflow.learn.report import PICTURE_WIDTH, write_report
from rgbflow.stream import Preparation


def test_a_stored_clip_is_labelled_as_its_file_is(world, evaluation):
    recognizer = Recognizer.load(world.bundle)
    for index, name in enumerate(evaluation.names[:3]):
        prediction = recognizer.predict(world.videos / f"{name}.mp4", num_snippets=3)
        np.testing.assert_array_equal(prediction.scores, evaluation.scores["fused"][index])


def test_figures_are_those_of_an_independent_implementation(evaluation):
    for name, figures in evaluation.figures().items():
        predicted = evaluation.scores[name].argmax(axis=1)
        assert figures.top1 == pytest.approx(100 * sklearn.metrics.accuracy_score(evaluation.labels, predicted))


def test_scores_are_written_as_documented(world, evaluation, tmp_path):
    evaluation.save_scores(tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz") as file:  # no pickle needed
        assert sorted(file.files) == ["classes", "flow", "kind", "labels", "names", "rgb"]
        assert str(file["kind"]) == "scores"
        assert file["classes"].tolist() == ["green", "left", "red", "right"]
        truth = [name.split("/")[0] for name in file["names"]]
        assert [file["classes"][label] for label in file["labels"]] == truth
        for stream in ("rgb", "flow"):
            np.testing.assert_allclose(file[stream].sum(axis=1), 1)
            np.testing.assert_array_equal(file[stream], evaluation.scores[stream])
        fused = file["rgb"] * file["flow"]
    np.testing.assert_allclose(fused / fused.sum(axis=1, keepdims=True), evaluation.scores["fused"])


def test_the_bundle_keeps_figures_protocol_and_leak(world, evaluation, tmp_path):
    shutil.copytree(world.bundle, tmp_path / "bundle")
    record_figures(tmp_path / "bundle", load_bundle(tmp_path / "bundle"), evaluation)
    measured = load_bundle(tmp_path / "bundle").measured["test"]
    assert measured.pop("origin").keys() == {"command", "version", "commit", "machine", "date"}
    assert measured == json.loads(json.dumps(evaluation.as_dict()))
    assert measured["figures"]["fused"]["top1"] == evaluation.figures()["fused"].top1
    assert (measured["protocol"], measured["leak_percent"]) == ("group", 0.0)
    assert (
        "(16 clips, 3 snippets of each, protocol group; 0.0 % of them share"
        in (tmp_path / "bundle" / "README.md").read_text()
    )


@pytest.mark.parametrize("changed", ["networks", "fusion"])
def test_figures_of_a_bundle_that_changed_meanwhile_are_refused(world, evaluation, tmp_path, changed):
    folder = tmp_path / "bundle"
    shutil.copytree(world.bundle, folder)
    used = load_bundle(folder)
    other = {
        "networks": {"origin": {**used.origin, "rgb": {**used.origin["rgb"], "date": "later"}}},
        "fusion": {"fusion": dataclasses.replace(used.fusion, temperature=used.fusion.temperature + 1)},
    }
    save_bundle(folder, dataclasses.replace(used, **other[changed]))
    kept = (folder / RECORD).read_bytes()
    with pytest.raises(InputError, match=f"the {changed} of {folder} w.* meanwhile: "):
        record_figures(folder, used, evaluation)
    assert (folder / RECORD).read_bytes() == kept


def test_the_report_shows_the_evaluation(world, evaluation, tmp_path):
    report = make_report(evaluation, Recognizer.load(world.bundle), world.bundle, Store(world.store), "a title")
    assert [example.label for example in report.examples] == ["green", "left", "red", "right"]
    assert report.curves["rgb"][0]["epoch"] == 1
    text = write_report(tmp_path / "report.html", report).read_text()
    assert f"{evaluation.figures()['fused'].top1:.1f}" in text


def test_the_report_explains_clips_of_every_kind_of_decision(world, evaluation):
    recognizer, store = Recognizer.load(world.bundle), Store(world.store)
    whys = make_report(evaluation, recognizer, world.bundle, store, "a title").whys
    assert [why.name for why in whys] == clips_to_explain(evaluation)
    decided = dict(zip(evaluation.names, deciding_stream(evaluation.scores, evaluation.labels), strict=True))
    assert {"rgb", "flow"} <= {decided[why.name] for why in whys}  # there are clips that only one of them tells
    for why in whys:
        clip = evaluation.names.index(why.name)
        assert why.score == evaluation.scores["fused"][clip].max()
        assert (decided[why.name] == "wrong") == (why.decision.answer != why.label)
        assert decided[why.name] in (why.decision.by, "wrong")
        for picture in why.pictures.values():
            assert picture.shape == (PICTURE_WIDTH, PICTURE_WIDTH, 3)
            assert picture.std() > 1


def test_the_clips_to_explain_are_the_surest_of_each_kind_and_of_different_classes(evaluation):
    labels = np.array([0, 0, 0, 1, 2, 2])
    rgb = np.eye(3)[labels] * np.array([0.5, 0.9, 0.8, 0.6, 0.7, 0.3])[:, None] + 0.01
    flow = np.roll(rgb, 1, axis=1) * 0.5  # always wrong, never surer
    scores = {"rgb": rgb, "flow": flow, "fused": rgb + flow}
    names = ["a", "b", "c", "d", "e", "f"]
    made = dataclasses.replace(evaluation, names=names, labels=labels, scores=scores)
    assert clips_to_explain(made) == ["b", "e"]
    assert clips_to_explain(made, of_each=4) == ["b", "e", "d", "c"]
    assert clips_to_explain(made, of_each=4, most=1) == ["b"]
    assert clips_to_explain(dataclasses.replace(made, scores={"rgb": rgb})) == ["b", "e"]
    scores["fused"] = flow
    assert clips_to_explain(made) == ["b", "e"]  # the surest mistakes


def test_a_network_without_maps_costs_the_report_only_these(world, evaluation, monkeypatch):
    recognizer = Recognizer.load(world.bundle)
    for network in recognizer.engine.networks.values():
        monkeypatch.setattr(network.backbone, "num_features", -1)  # as if its features were tokens
    report = make_report(evaluation, recognizer, world.bundle, Store(world.store), "a title")
    assert "has no feature map before its pooling" in report.whys


def test_the_validation_part_can_be_measured_too(world):
    split = load_split(world.split)
    measured = evaluate_recognizer(Recognizer.load(world.bundle), Store(world.store), split, "val", num_snippets=1)
    assert measured.names == [clip.name for clip in split.val]


def test_what_does_not_belong_together_is_refused(world):
    recognizer, store, split = Recognizer.load(world.bundle), Store(world.store), load_split(world.split)
    other = dataclasses.replace(split, train=split.val, val=split.train)
    with pytest.raises(InputError, match="trained on another split"):
        evaluate_recognizer(recognizer, store, other)
    store.preparation = Preparation(short_side=99)
    with pytest.raises(InputError, match="the store was prepared with"):
        evaluate_recognizer(recognizer, store, split)
