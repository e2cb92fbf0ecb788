from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from rgbflow.data.dataset import ClipDataset
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.fusion import probabilities
from rgbflow.learn.between import SHARES, Place, between, keep_best, weights_of
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.probe import USUAL_STRENGTH, Head, clip_features, fit_probe
from rgbflow.learn.spec import make_spec
from rgbflow.networks.stream_net import StreamNet

TINY = TrainConfig(backbone="test_resnet", input_size=32, stack_length=3)


@pytest.fixture
def setup(world):
    """A network, the clips it learns from and those that choose."""
    split, store = load_split(world.split), Store(world.store)
    spec = make_spec(store, split.train, "flow", TINY)
    torch.manual_seed(3)
    network = StreamNet(spec, len(split.classes))
    train, val = (ClipDataset(store, part, split.classes, spec, 2) for part in (split.train, split.val))
    return SimpleNamespace(network=network, train=train, val=val, groups=[clip.group for clip in split.train])


def chosen(setup, start, end):
    """What is kept on the way from one state dict to another; the start has a fitted classifier."""
    setup.network.load_state_dict(start)
    fit_probe(setup.network, setup.train, setup.val, setup.groups, of_images=False)
    start = weights_of(setup.network)
    setup.network.load_state_dict(end)
    return start, keep_best(setup.network, start, setup.train, setup.val, setup.groups)


def other_weights(network, seed):
    """The network's weights with noise of their own size; counters stay."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + 0.5 * value.std() * torch.randn(value.shape, generator=generator)
        if value.ndim > 1
        else value.clone()
        for name, value in network.state_dict().items()
    }


def test_the_way_is_straight_and_counters_are_those_of_its_end():
    start = {"weight": torch.tensor([0.0, 4.0]), "count": torch.tensor(3)}
    end = {"weight": torch.tensor([2.0, 0.0]), "count": torch.tensor(8)}
    middle = between(start, end, 0.25)
    assert middle["weight"].tolist() == [0.5, 3.0]
    assert middle["count"] == 8
    for share, expected in ((0.0, start), (1.0, end)):
        assert torch.equal(between(start, end, share)["weight"], expected["weight"])


@pytest.mark.parametrize("seed", range(3))
def test_the_trained_weights_are_kept_unless_the_least_log_loss_on_the_way_is_clearly_lower(setup, seed):
    """Against scikit-learn's own classifiers on the features of each network on the way."""
    end = other_weights(setup.network, seed)
    start, kept = chosen(setup, weights_of(setup.network), end)
    result, losses = weights_of(setup.network), {}
    labels = np.array(setup.val.labels)
    for share in SHARES:
        weights = {name: start[name] * (1 - share) + end[name] * share for name in end}
        setup.network.load_state_dict(weights)
        train, val = (clip_features(setup.network, part).astype(float) for part in (setup.train, setup.val))
        scale = np.sqrt((train.var(0) + train.var(0).mean()) / 2)
        model = LogisticRegression(C=USUAL_STRENGTH, max_iter=5000, tol=1e-8)
        model.fit((train - train.mean(0)) / scale, setup.train.labels)
        own = val @ weights["backbone.fc.weight"].double().numpy().T + weights["backbone.fc.bias"].double().numpy()
        both = (model.predict_proba((val - train.mean(0)) / scale), softmax(own, axis=1))
        losses[share] = min((-np.log(one[np.arange(len(labels)), labels]) for one in both), key=np.mean)
    best = min(losses, key=lambda share: losses[share].mean())
    gains = losses[1.0] - losses[best]
    expected = best if gains.mean() > stats.sem(gains) else 1.0
    assert kept.share == expected
    np.testing.assert_allclose(kept.losses, losses[expected], rtol=0.02, atol=0.01)
    for name, value in result.items():
        if "backbone.fc." not in name:
            torch.testing.assert_close(value, between(start, end, expected)[name])
    setup.network.load_state_dict(result)
    shown = probabilities(clip_features(setup.network, setup.val) @ kept.head.weight.T + kept.head.bias)
    np.testing.assert_allclose(-np.log(shown[np.arange(len(labels)), labels]), kept.losses, rtol=1e-3, atol=1e-4)


def test_a_trained_network_that_is_about_as_good_stays_as_it_is(setup):
    fit_probe(setup.network, setup.train, setup.val, setup.groups, of_images=False)
    start = weights_of(setup.network)
    end = {name: value * 1.0001 if value.is_floating_point() else value for name, value in start.items()}
    setup.network.load_state_dict(end)
    assert keep_best(setup.network, start, setup.train, setup.val, setup.groups).share == 1
    assert all(torch.equal(value, end[name]) for name, value in setup.network.state_dict().items())


@pytest.mark.parametrize(
    ("losses", "is_clear"),
    [([0.9, 1.9, 2.9], True), ([0.0, 2.2, 3.1], False), ([1.0, 2.0, 3.0], False), ([2.0, 3.0, 4.0], False)],
)
def test_a_place_is_clearly_better_by_more_than_a_standard_error(losses, is_clear):
    head = Head(np.zeros((2, 3), np.float32), np.zeros(2, np.float32), 1.0)
    one, other = (Place(0.5, head, np.array(values), 50.0) for values in (losses, [1.0, 2.0, 3.0]))
    assert one.is_clearly_better_than(other) == is_clear


def test_weights_beyond_all_numbers_lose_to_the_start(setup):
    start = weights_of(setup.network)
    end = {name: value * torch.inf if value.is_floating_point() else value for name, value in start.items()}
    start, kept = chosen(setup, start, end)
    assert kept.share == 0
    weights = setup.network.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in start.items() if "backbone.fc." not in name)
