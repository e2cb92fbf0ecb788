"""Actions added to the small world's trained bundle, whose classes keep their classifier."""

import numpy as np
import pytest

from rgbflow import InputError, Recognizer
from rgbflow.cli import main
from rgbflow.data.jpegs import open_store
from rgbflow.data.splits import load_split
from rgbflow.fusion import Fusion
from rgbflow.learn.added import fairest, has_classes_to_keep, head_of, widened
from rgbflow.learn.teach import Teacher
from rgbflow.video.writing import write_video


@pytest.fixture(scope="module")
def takes(tmp_path_factory, moving_square):
    """Three takes of an action that the world does not have, in two of its other looks."""
    folder = tmp_path_factory.mktemp("takes")
    for seed in range(3):
        pixels = moving_square(0, -2, frames=12, size=(64, 64), seed=40 + seed, tint=(1, 1, 0.1))
        write_video(folder / "up" / f"{seed}.mp4", pixels, 25)
    return folder


def test_a_new_action_comes_beside_the_old_classes_which_keep_their_classifier(world, takes, tmp_path, evaluation):
    base = Recognizer.load(world.bundle, "cpu", "torch", precision="fp32")
    teacher = Teacher(base, takes, keep=(open_store(world.store), load_split(world.split)))
    taught = teacher.fit()
    assert taught.bundle.classes == (*base.bundle.classes, "up")
    for stream, network in taught.engine.networks.items():
        old, new = head_of(base.engine.networks[stream]), head_of(network)
        np.testing.assert_array_equal(new.weight[:-1], old.weight)
        np.testing.assert_array_equal(new.bias[:-1], old.bias)
    for path in sorted((takes / "up").iterdir()):
        assert taught.predict(path, 5).top(1)[0].label == "up"
    old = teacher.report.old
    assert old.clips == len(evaluation.names)
    assert old.before == pytest.approx(evaluation.figures()["fused"].top1, abs=100 / old.clips + 1e-6)
    assert old.after >= old.before - 15
    assert (teacher.report.kept, teacher.report.takes) == (len(base.bundle.classes), {"up": 3})
    assert "classes that were there before" in "\n".join(teacher.report.lines())

    options = ["--keep", str(world.store), "--split", str(world.split), "--out", str(tmp_path / "out")]
    assert main(["teach", str(world.bundle), str(takes), *options, "--device", "cpu"]) == 0
    loaded = Recognizer.load(tmp_path / "out", "cpu", "torch", precision="fp32")
    assert loaded.bundle.classes == taught.bundle.classes


def test_a_name_that_is_there_already_is_refused(world, takes, tmp_path):
    (tmp_path / "left").mkdir()
    for path in (takes / "up").iterdir():
        (tmp_path / "left" / path.name).write_bytes(path.read_bytes())
    teacher = Teacher(world.bundle, tmp_path, keep=(open_store(world.store), load_split(world.split)))
    with pytest.raises(InputError, match="left: the bundle has a class of that name already"):
        teacher.fit()


def test_old_classes_need_their_store_and_their_split(world, takes, tmp_path, capsys):
    assert (
        main(["teach", str(world.bundle), str(takes), "--out", str(tmp_path / "out"), "--split", str(world.split)]) == 1
    )
    assert "--keep STORE and --split FILE go together" in capsys.readouterr().err
    assert has_classes_to_keep(Recognizer.load(world.bundle, "cpu", "torch").bundle)


def test_the_fairest_number_gives_both_sides_the_largest_shares():
    """Against every number on a fine grid."""
    rng = np.random.default_rng(0)
    needed, allowed = rng.normal(0, 1, 9), rng.normal(1, 1, 40)
    grid = np.linspace(-4, 5, 9001)[:, None]
    gains = (needed <= grid).mean(axis=1) + (allowed > grid).mean(axis=1)
    found = fairest(needed, allowed)
    assert (needed <= found).mean() + (allowed > found).mean() == pytest.approx(gains.max())


def test_a_fusion_with_numbers_for_each_class_gets_some_for_the_new_ones():
    fusion = widened(Fusion("stacking", {"rgb": (1.0, 3.0), "flow": (0.0, 2.0)}, (4.0, 6.0)), 1)
    assert (fusion.weights, fusion.bias) == ({"rgb": (1.0, 3.0, 2.0), "flow": (0.0, 2.0, 1.0)}, (4.0, 6.0, 5.0))
    single = Fusion("weighted", {"rgb": (0.5,), "flow": (0.5,)})
    assert widened(single, 2) == single
