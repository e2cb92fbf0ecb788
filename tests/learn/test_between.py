from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from rgbflow.data.dataset import ClipDataset
from rgbflow.data.splits import load_split
from rgbflow.data.store import Store
from rgbflow.learn.between import SHARES, Kept, between, keep_best, weights_of
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.probe import USUAL_STRENGTH, clip_features, fit_probe
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


def chosen(setup, start, end, own_loss=np.inf):
    """What is kept on the way from one state dict to another, whose own classifier has this log loss on val."""
    setup.network.load_state_dict(start)
    probe = fit_probe(setup.network, setup.train, setup.val, setup.groups, of_images=False)
    start = weights_of(setup.network)
    setup.network.load_state_dict(end)
    ends = Kept(0.0, probe.val_top1, probe.val_loss), Kept(1.0, 50.0, own_loss)
    return probe, start, keep_best(setup.network, start, ends, setup.train, setup.val, setup.groups)


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
def test_the_weights_with_the_least_log_loss_on_val_are_kept(setup, seed):
    """Against scikit-learn's own classifier on the features of each network on the way."""
    end = other_weights(setup.network, seed)
    probe, start, kept = chosen(setup, weights_of(setup.network), end)
    found, result = {0.0: probe.val_loss}, weights_of(setup.network)
    for share in SHARES:
        setup.network.load_state_dict({name: start[name] * (1 - share) + end[name] * share for name in end})
        train, val = (clip_features(setup.network, part).astype(float) for part in (setup.train, setup.val))
        scale = np.sqrt((train.var(0) + train.var(0).mean()) / 2)
        model = LogisticRegression(C=USUAL_STRENGTH, max_iter=5000, tol=1e-8)
        model.fit((train - train.mean(0)) / scale, setup.train.labels)
        found[share] = log_loss(setup.val.labels, model.predict_proba((val - train.mean(0)) / scale))
    assert found[kept.share] == pytest.approx(min(found.values()), rel=1e-3)
    assert kept.val_loss == pytest.approx(found[kept.share], rel=1e-3)
    for name, value in result.items():
        if "backbone.fc." not in name:  # the classifier is fitted anew
            torch.testing.assert_close(value, between(start, end, kept.share)[name])


def test_a_trained_network_whose_own_classifier_is_best_stays_as_it_is(setup):
    end = other_weights(setup.network, 0)
    _, _, kept = chosen(setup, weights_of(setup.network), end, own_loss=0.01)
    assert kept == Kept(1.0, 50.0, 0.01)
    assert all(torch.equal(value, end[name]) for name, value in setup.network.state_dict().items())


def test_weights_beyond_all_numbers_lose_to_the_start(setup):
    start = weights_of(setup.network)
    end = {name: value * torch.inf if value.is_floating_point() else value for name, value in start.items()}
    probe, start, kept = chosen(setup, weights_of(setup.network), end, own_loss=np.nan)
    assert (kept.share, kept.val_top1, kept.val_loss) == (0.0, probe.val_top1, probe.val_loss)
    assert all(torch.equal(value, start[name]) for name, value in setup.network.state_dict().items())
