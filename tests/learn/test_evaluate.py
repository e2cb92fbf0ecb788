import dataclasses
import json
import shutil

import numpy as np
import pytest
import sklearn.metrics

from rgbflow import Recognizer
from rgbflow.bundle import load_bundle
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.learn.evaluate import evaluate, make_report, record_figures
from rgbflow.learn.report import write_report
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
        fused = (file["rgb"] + file["flow"]) / 2
    np.testing.assert_allclose(fused, evaluation.scores["fused"])


def test_the_bundle_keeps_figures_protocol_and_leak(world, evaluation, tmp_path):
    shutil.copytree(world.bundle, tmp_path / "bundle")
    record_figures(tmp_path / "bundle", evaluation)
    measured = load_bundle(tmp_path / "bundle").measured["test"]
    assert measured.pop("origin").keys() == {"command", "version", "commit", "machine", "date"}
    assert measured == json.loads(json.dumps(evaluation.as_dict()))
    assert measured["figures"]["fused"]["top1"] == evaluation.figures()["fused"].top1
    assert (measured["protocol"], measured["leak_percent"]) == ("group", 0.0)
    assert (
        "(16 clips, 3 snippets of each, protocol group; 0.0 % of them share"
        in (tmp_path / "bundle" / "README.md").read_text()
    )


def test_the_report_shows_the_evaluation(world, evaluation, tmp_path):
    report = make_report(evaluation, world.bundle, Store(world.store), "a title")
    assert [example.label for example in report.examples] == ["green", "left", "red", "right"]
    assert report.curves["rgb"][0]["epoch"] == 1
    text = write_report(tmp_path / "report.html", report).read_text()
    assert f"{evaluation.figures()['fused'].top1:.1f}" in text


def test_the_validation_part_can_be_measured_too(world):
    split = load_split(world.split)
    measured = evaluate(Recognizer.load(world.bundle), Store(world.store), split, "val", num_snippets=1)
    assert measured.names == [clip.name for clip in split.val]


def test_what_does_not_belong_together_is_refused(world):
    recognizer, store, split = Recognizer.load(world.bundle), Store(world.store), load_split(world.split)
    other = dataclasses.replace(split, train=split.val, val=split.train)
    with pytest.raises(InputError, match="trained on another split"):
        evaluate(recognizer, store, other)
    store.preparation = Preparation(short_side=99)
    with pytest.raises(InputError, match="the store was prepared with"):
        evaluate(recognizer, store, split)
