"""Taught classifiers on the engine of the base: the scores are those of torch, or torch runs and the reason is told."""

import copy

import numpy as np
import pytest
import torch

from rgbflow.learn.probe import Head, classifier_of, with_head
from rgbflow.networks import loading
from rgbflow.networks.loading import engine_of_taught, load_engine
from rgbflow.networks.torch_engine import TorchEngine


@pytest.fixture
def taught(exported):
    """Torch with the networks of the exported bundle, whose classifiers are others."""
    generator, networks = np.random.default_rng(0), {}
    for stream, network in exported.networks.items():
        width = classifier_of(network).in_features
        head = Head(generator.normal(0, 2, (5, width)).astype(np.float32), np.float32([3, 0, 0, 0, -3]), 1.0)
        networks[stream] = with_head(network, head)
    return TorchEngine(exported.bundle.streams, networks, "cpu", "fp32")


@pytest.fixture
def base(exported):
    """The engine of the exported files."""
    return load_engine(exported.folder, exported.bundle, engine="onnx")


def classifiers(engine):
    return {stream: classifier_of(network) for stream, network in engine.networks.items()}


def ranked(monkeypatch, *names):
    """Let the engines be as fast as the order of their names says."""
    monkeypatch.setattr(loading, "update_seconds", lambda engine, bundle: names.index(engine.name.split()[0]))


def test_taught_classifiers_run_on_the_files_of_the_base(taught, base, exported, monkeypatch):
    ranked(monkeypatch, "onnx", "torch")
    engine, note = engine_of_taught(taught, classifiers(taught), base, exported.bundle)
    assert (engine.name, note) == (base.name, "")
    assert engine.networks is taught.networks
    snippets = {stream: loading._smooth_noise(exported.bundle, stream, 3) for stream in exported.bundle.streams}
    found, expected = engine.answers(snippets, with_features=True), taught.answers(snippets, with_features=True)
    for stream in snippets:
        np.testing.assert_allclose(found[stream].logits, expected[stream].logits, atol=1e-3)
        np.testing.assert_allclose(found[stream].features, expected[stream].features, atol=1e-3)
    assert engine.answers(snippets)["rgb"].features is None


def test_torch_runs_what_it_runs_faster(taught, base, exported, monkeypatch):
    ranked(monkeypatch, "torch", "onnx")
    engine, note = engine_of_taught(taught, classifiers(taught), base, exported.bundle)
    assert engine is taught
    assert note == f"{taught.name} is faster here than {base.name}"


def test_torch_runs_where_the_scores_would_be_others(taught, base, exported, monkeypatch):
    ranked(monkeypatch, "onnx", "torch")
    others = copy.deepcopy(classifiers(taught))
    with torch.no_grad():
        others["flow"].weight.neg_()
    engine, note = engine_of_taught(taught, others, base, exported.bundle)
    assert engine is taught
    assert "scores differ" in note


def test_a_base_on_torch_stays_there(taught, exported):
    base = load_engine(exported.folder, exported.bundle, engine="torch")
    assert engine_of_taught(taught, classifiers(taught), base, exported.bundle) == (taught, "")
