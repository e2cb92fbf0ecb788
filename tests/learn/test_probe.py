import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.linear_model import LogisticRegression

from rgbflow.bundle import load_bundle
from rgbflow.data.dataset import ClipDataset
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.fusion import probabilities
from rgbflow.learn.calibrate import calibrate_fusion, fit_calibration, score_val
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.fits import ScoredClips
from rgbflow.learn.presets import LITE
from rgbflow.learn.probe import (
    SNIPPETS,
    Head,
    Probe,
    clip_features,
    fit_head,
    fit_probe,
    load_probe,
    put_head,
    settle_first_batch_norm,
)
from rgbflow.learn.spec import form_of_input, make_spec
from rgbflow.learn.stream_training import StreamTraining, probe_rate_of
from rgbflow.learn.train import train_stream
from rgbflow.networks.stream_net import StreamNet, batch_norms
from rgbflow.recognizer import Recognizer

TINY = TrainConfig(
    backbone="test_resnet",
    input_size=32,
    stack_length=3,
    epochs=2,
    learning_rate=0.01,
    flip=False,
    workers=0,
    precision="fp32",
    freeze_batch_norms=True,
)


def clouds(classes, per_class, size, distance, seed=0):
    """Clips of as many classes, in four groups that each have a place of their own."""
    rng = np.random.default_rng(seed)
    centres = distance * rng.normal(size=(classes, size))
    labels = np.repeat(np.arange(classes), per_class)
    groups = np.tile(np.arange(4), classes * per_class // 4)
    places = 0.5 * rng.normal(size=(4, size))
    return centres[labels] + places[groups] + rng.normal(size=(len(labels), size)), labels, groups


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("size", [5, 200])  # fewer features than clips, and more
@pytest.mark.parametrize("strength", [1e-3, 1e-1])
def test_a_head_is_the_logistic_regression_of_features_halfway_to_unit_spread(classes, size, strength):
    features, labels, groups = clouds(classes, 12, size, 0.5)
    features = features * np.linspace(0.1, 3, size) + 7
    head = fit_head(features, labels, groups, strengths=(strength,))
    variance = features.var(0)
    unit = (features - features.mean(0)) / np.sqrt((variance + variance.mean()) / 2)
    reference = LogisticRegression(C=strength, max_iter=5000, tol=1e-8).fit(unit, labels)
    logits = torch.from_numpy(head.logits(features.astype(np.float32)))
    np.testing.assert_allclose(logits.softmax(1), reference.predict_proba(unit), atol=5e-3)


def test_the_strength_is_chosen_by_groups_not_by_clips():
    # Every group repeats its own clips, and no feature is about the class: only a firm head is not misled.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 6)
    features = rng.normal(size=(12, 40))[groups]
    head = fit_head(features, groups % 3, groups)
    assert head.strength == pytest.approx(1e-4)
    assert head.top1 < 70
    features, labels, groups = clouds(4, 24, 10, 0.7)
    assert fit_head(features, labels, groups).strength > 1e-3


def test_the_figure_of_a_head_is_that_of_held_out_groups():
    features, labels, groups = clouds(3, 40, 30, 3.0)
    assert fit_head(features, labels, groups).top1 > 95
    noise = np.random.default_rng(0).normal(size=features.shape)
    assert fit_head(noise, labels, groups).top1 < 60


def test_without_groups_to_hold_out_a_usual_strength_is_taken():
    features, labels, _ = clouds(3, 8, 10, 3.0)
    for groups in (["one"] * 24, labels.astype(str)):  # in the second each class is one group
        head = fit_head(features, labels, groups)
        assert head.strength == pytest.approx(10**-1.5)
        assert np.isnan(head.top1)
        assert (head.logits(features).argmax(1) == labels).mean() > 0.9


def test_a_given_strength_is_taken_whatever_the_groups():
    features, labels, groups = clouds(3, 8, 10, 3.0)
    heads = [fit_head(features, labels, chosen, strengths=(1e-3,)) for chosen in (groups, ["one"] * 24)]
    assert [head.strength for head in heads] == [1e-3, 1e-3]
    np.testing.assert_array_equal(heads[0].weight, heads[1].weight)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_class_without_a_clip_is_never_the_answer(missing):
    features, labels, groups = clouds(2, 12, 6, 2.0)
    labels = np.delete(np.arange(3), missing)[labels]
    head = fit_head(features, labels, groups, num_classes=3)
    assert head.weight.shape == (3, 6)
    assert not (head.logits(features).argmax(1) == missing).any()
    assert (head.logits(features).argmax(1) == labels).mean() > 0.9


@pytest.mark.parametrize(
    ("features", "labels", "groups", "message"),
    [
        (np.zeros((3, 2)), [0, 1], ["a", "b"], "must have the same length"),
        (np.full((2, 2), np.nan), [0, 1], ["a", "b"], "must be finite"),
        (np.zeros((2, 2)), [1, 1], ["a", "b"], "one class"),
    ],
)
def test_what_cannot_be_fitted_is_refused(features, labels, groups, message):
    with pytest.raises(InputError, match=message):
        fit_head(features, labels, groups)


@pytest.fixture
def start(world, tmp_path):
    """A file with weights to start from."""
    split, store = load_split(world.split), Store(world.store)
    torch.manual_seed(1)
    network = StreamNet(make_spec(store, split.train, "rgb", TINY), len(split.classes))
    save_file(network.backbone.state_dict(), tmp_path / "start.safetensors")
    return str(tmp_path / "start.safetensors")


@pytest.fixture
def colour_blind_start(start):
    """The same file, but its first convolution sees the mean of the colours, by which alone the classes differ."""
    weights = load_file(start)
    weights["conv1.0.weight"] = weights["conv1.0.weight"].mean(1, keepdim=True).repeat(1, 3, 1, 1)
    save_file(weights, start)
    return start


def test_a_network_with_a_fitted_head_gives_the_heads_answers(world):
    split, store = load_split(world.split), Store(world.store)
    spec = make_spec(store, split.train, "rgb", TINY)
    network = StreamNet(spec, len(split.classes))
    dataset = ClipDataset(store, split.train, split.classes, spec, num_segments=3)
    features = clip_features(network, dataset)
    head = fit_head(features, dataset.labels, [clip.group for clip in split.train], len(split.classes))
    put_head(network, head)
    with torch.inference_mode():
        logits = torch.cat([network(dataset[0, index][0][None]) for index in range(len(dataset))])
    np.testing.assert_allclose(logits, head.logits(features), atol=1e-4)


def test_a_head_of_another_size_is_refused(world):
    split, store = load_split(world.split), Store(world.store)
    network = StreamNet(make_spec(store, split.train, "rgb", TINY), len(split.classes))
    with pytest.raises(InputError, match="does not fit the network's classifier"):
        put_head(network, Head(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), 0.1))


def test_a_kept_probe_is_read_as_it_was(world, tmp_path):
    split, store = load_split(world.split), Store(world.store)
    spec = make_spec(store, split.train, "rgb", TINY)
    network, other = (StreamNet(spec, len(split.classes)) for _ in range(2))
    probe = Probe(0.1, 55.5, 66.6, 1.25)
    probe.save(network, tmp_path / "probe.safetensors")
    assert load_probe(other, tmp_path / "probe.safetensors") == probe
    for name, value in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_a_settled_batch_norm_has_the_mean_and_variance_of_what_it_reads(world):
    split, store = load_split(world.split), Store(world.store)
    spec = make_spec(store, split.train, "flow", TINY)
    network = StreamNet(spec, len(split.classes))
    dataset = ClipDataset(store, split.train, split.classes, spec, num_segments=2)
    first, *others = batch_norms(network)
    before = [layer.running_mean.clone() for layer in others]
    given = []
    first.register_forward_hook(lambda layer, inputs, output: given.append(inputs[0]))
    first.running_mean.fill_(5), first.running_var.fill_(0.1)
    settle_first_batch_norm(network, dataset)
    given.clear()
    clip_features(network, dataset)
    values = torch.cat(given)
    torch.testing.assert_close(first.running_mean, values.mean(dim=(0, 2, 3)), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(first.running_var, values.var(dim=(0, 2, 3)), rtol=1e-3, atol=1e-3)
    assert all(torch.equal(layer.running_mean, was) for layer, was in zip(others, before, strict=True))
    assert not any(layer.training for layer in (first, *others))


@pytest.mark.parametrize("of_images", [True, False])
def test_only_weights_of_images_have_their_first_batch_norm_measured_again(world, of_images):
    split, store = load_split(world.split), Store(world.store)
    spec = make_spec(store, split.train, "flow", TINY)
    network = StreamNet(spec, len(split.classes))
    dataset = ClipDataset(store, split.train, split.classes, spec, num_segments=2)
    first = batch_norms(network)[0]
    before = first.running_mean.clone()
    fit_probe(network, dataset, dataset, [clip.group for clip in split.train], of_images=of_images)
    assert torch.equal(first.running_mean, before) is not of_images


@pytest.mark.parametrize("content", [None, b"", b"not tensors"])
def test_a_probe_that_cant_be_read_is_one_line_with_the_remedy(world, tmp_path, content):
    path = tmp_path / "probe.safetensors"
    if content is not None:
        path.write_bytes(content)
    spec = make_spec(Store(world.store), load_split(world.split).train, "rgb", TINY)
    with pytest.raises(InputError, match=r"probe.safetensors can't be read .*: delete .* to train from the beginning"):
        load_probe(StreamNet(spec, 4), path)


def progress_to(lines, update=lambda *step: None):
    """A progress that keeps its lines, and calls a function for each step."""
    return SimpleNamespace(update=update, report=lines.append)


def run(world, folder, lines, **values):
    config = dataclasses.replace(TINY, **values)
    return train_stream(Store(world.store), load_split(world.split), "rgb", folder, config, progress_to(lines))


def test_where_training_can_only_hurt_the_bundle_keeps_the_frozen_network(world, tmp_path, start):
    lines = []
    result = run(world, tmp_path / "hurt", lines, weights=start, learning_rate=10.0, gradient_clip=0.5)
    assert (result.best_epoch, result.trained_share) == (0, 0)
    assert result.val_top1 == result.probe_top1
    assert any("the bundle keeps the frozen one" in line for line in lines)
    origin = load_bundle(tmp_path / "hurt").origin["rgb"]
    assert (origin["epoch"], origin["trained_share"]) == (0, 0)
    assert origin["probe_val_top1"] == result.probe_top1
    kept, began = load_file(tmp_path / "hurt" / "rgb.safetensors"), load_file(start)
    assert all(torch.equal(kept[f"backbone.{name}"], began[name]) for name in began if not name.startswith("fc."))
    assert not torch.equal(kept["backbone.fc.weight"], began["fc.weight"])


@pytest.mark.parametrize(
    ("weights", "settings", "is_kept_frozen"),
    [
        ("start", {"learning_rate": 10.0, "gradient_clip": 0.5}, True),
        ("colour_blind_start", {"learning_rate": 0.03, "epochs": 10}, False),
    ],
)
def test_the_classifier_has_learned_from_val_and_calibration_has_not(
    world, tmp_path, request, weights, settings, is_kept_frozen
):
    folder, store, split = tmp_path / "bundle", Store(world.store), load_split(world.split)
    result = run(world, folder, [], weights=request.getfixturevalue(weights), **settings)
    assert (result.best_epoch == 0) == is_kept_frozen
    recognizer = Recognizer.load(folder, engine="torch", precision="fp32")
    strength = recognizer.bundle.origin["rgb"]["head_strength"]

    def fitted(clips):
        features = np.stack([recognizer.features(store.clip(clip.name), SNIPPETS)["rgb"].mean(0) for clip in clips])
        labels = [split.classes.index(clip.label) for clip in clips]
        return fit_head(features, labels, [clip.group for clip in clips], len(split.classes), (strength,))

    kept = load_file(folder / "rgb.safetensors")
    np.testing.assert_allclose(kept["backbone.fc.weight"], fitted(split.train + split.val).weight, rtol=1e-3, atol=1e-3)
    held_out = fitted(split.train)
    features = np.stack([recognizer.features(store.clip(clip.name), 3)["rgb"].mean(0) for clip in split.val])
    labels = np.array([split.classes.index(clip.label) for clip in split.val])
    scored = ScoredClips(
        {"rgb": probabilities(held_out.logits(features))}, labels, np.array([clip.group for clip in split.val])
    )
    scores = score_val(recognizer, store, split, num_snippets=3).scores["rgb"]
    np.testing.assert_allclose(scores, scored.scores["rgb"], atol=1e-3)
    seen = probabilities(fitted(split.train + split.val).logits(features))
    assert np.abs(scores - seen).max() > 0.01
    calibration = calibrate_fusion(recognizer, store, split, num_snippets=3)
    assert calibration.fusion.temperature == pytest.approx(fit_calibration(scored).fusion.temperature, rel=1e-3)


def test_where_training_helps_the_bundle_holds_what_it_learned(world, tmp_path, colour_blind_start):
    lines = []
    result = run(world, tmp_path / "helps", lines, weights=colour_blind_start, epochs=10, learning_rate=0.03)
    assert result.best_epoch > 0
    assert result.trained_share > 0
    assert result.curve[result.best_epoch - 1]["val_top1"] == max(row["val_top1"] for row in result.curve)
    assert any("with a fitted classifier has top-1" in line for line in lines)
    assert load_bundle(tmp_path / "helps").origin["rgb"]["epoch"] == result.best_epoch
    assert not (tmp_path / "helps" / "training" / "rgb" / "probe.safetensors").exists()


@pytest.mark.parametrize("values", [{"probe": False}, {"weights": "none", "freeze_batch_norms": False}])
def test_no_head_is_fitted_where_none_is_wanted_or_nothing_was_learned_before(world, tmp_path, start, values):
    lines = []
    result = run(world, tmp_path / "plain", lines, **{"weights": start, **values})
    assert result.probe_top1 is None
    assert result.best_epoch > 0
    assert not any("frozen" in line for line in lines)
    assert "probe_val_top1" not in load_bundle(tmp_path / "plain").origin["rgb"]


def test_a_run_that_goes_on_keeps_the_head_it_began_with(world, tmp_path, start):
    class StopError(Exception):
        pass

    def stop(done, total, note):
        if done == 4:  # in the second epoch
            raise StopError

    config = dataclasses.replace(TINY, weights=start)
    store, split = Store(world.store), load_split(world.split)
    with pytest.raises(StopError):
        train_stream(store, split, "rgb", tmp_path / "stopped", config, progress_to([], stop))
    lines = []
    resumed = train_stream(store, split, "rgb", tmp_path / "stopped", config, progress_to(lines))
    whole = run(world, tmp_path / "whole", [], weights=start)
    assert resumed.resumed_epoch == 1
    assert not any("fitting a classifier" in line for line in lines)
    assert (resumed.probe_top1, resumed.val_top1, resumed.curve) == (whole.probe_top1, whole.val_top1, whole.curve)
    one, other = (load_file(tmp_path / name / "rgb.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_flow_is_changed_gently_only_where_its_weights_know_flow(world, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "recognizer.json").touch()
    rates = {}
    for weights in ("motion", "imagenet", str(tmp_path / "bundle"), "flow.pth"):
        config = dataclasses.replace(LITE, weights=weights, probe_rate=0.2)
        rates[weights] = [probe_rate_of(config, form_of_input(stream, config)) for stream in ("rgb", "flow")]
    other = dataclasses.replace(
        LITE, stack_length=5, probe_rate=0.2
    )  # for such a stack there are only weights of images
    assert list(rates.values()) == [[0.2, 0.2], [0.2, 0.0], [0.2, 0.2], [0.2, 0.0]]
    assert probe_rate_of(other, form_of_input("flow", other)) == 0


@pytest.mark.parametrize(
    ("stream", "probe_rate", "rate", "first_norm_learns"),
    [("rgb", 0.1, 0.001, False), ("rgb", 0.0, 0.01, True), ("flow", 0.1, 0.01, True)],
)
def test_rgb_is_changed_gently_where_it_starts_from_its_probe(
    world, tmp_path, stream, probe_rate, rate, first_norm_learns
):
    store, split = Store(world.store), load_split(world.split)
    torch.manual_seed(1)
    network = StreamNet(make_spec(store, split.train, stream, TINY), len(split.classes))
    save_file(network.backbone.state_dict(), tmp_path / "start.safetensors")
    weights = str(tmp_path / "start.safetensors")
    values = {"schedule": "constant", "warmup_epochs": 0.0, "epochs": 1, "probe_rate": probe_rate}
    config = dataclasses.replace(TINY, weights=weights, **values)
    result = train_stream(store, split, stream, tmp_path / "out", config)
    assert result.curve[0]["learning_rate"] == pytest.approx(rate)
    data = ClipDataset(store, split.train, split.classes, make_spec(store, split.train, stream, config), 1)
    module, norms = StreamTraining(network, config, {"train": data}), batch_norms(network)
    assert module.frozen == norms[first_norm_learns:]
