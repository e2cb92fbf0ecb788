"""Teaching from takes: what comes of them, what is left out, what is kept, and what can go wrong."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from rgbflow import InputError, Recognizer
from rgbflow.atomic import _exchange
from rgbflow.bundle import RECORD, load_bundle
from rgbflow.fusion import Fusion
from rgbflow.learn.few_takes import STRENGTHS, _left_out, false_starts, fit_linear, fit_product, with_limit, with_quiet
from rgbflow.learn.takes import FEATURES, Take, read_takes
from rgbflow.learn.teach import Teacher, follow_takes, load_base
from rgbflow.networks.export import export_bundle
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import initialise
from rgbflow.progress import SILENT
from rgbflow.video.reading import Frame, decode
from rgbflow.video.writing import write_video

TAKES = 3
MOTIONS = {"right": (2.0, 0.0), "down": (0.0, 2.0)}


@pytest.fixture(scope="module")
def filmed(tmp_path_factory, moving_square, base):
    """Takes of two actions and a recording of none, with their features; nothing in it may be changed."""
    folder = tmp_path_factory.mktemp("takes")
    for name, motion in MOTIONS.items():
        for seed in range(TAKES):
            write_video(folder / name / f"{seed}.mp4", moving_square(*motion, frames=14, seed=seed), 25)
    write_video(folder / "none" / "idle.mp4", moving_square(0, 0, frames=120, seed=9), 25)
    Teacher(base, folder).fit()
    return folder


@pytest.fixture
def takes(filmed, tmp_path):
    """The same takes, to be changed."""
    return shutil.copytree(filmed, tmp_path / "takes")


def weights(recognizer):
    return {
        f"{stream}.{name}": value.clone()
        for stream, network in recognizer.engine.networks.items()
        for name, value in network.state_dict().items()
    }


def same(one, other):
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(bool((one[name] == other[name]).all()) for name in one)


def test_takes_are_told_apart_and_the_bundle_says_the_same(base, takes, tmp_path, moving_square):
    teacher = Teacher(base, takes)
    taught = teacher.fit()
    assert taught.bundle.classes == ("down", "right", "none")
    teacher.save(taught, tmp_path / "out")
    loaded = Recognizer.load(tmp_path / "out", engine="torch")
    for path in (takes / "right/0.mp4", takes / "down/1.mp4", takes / "none/idle.mp4"):
        expected, found = taught.predict(path, 5), loaded.predict(path, 5)
        np.testing.assert_array_equal(found.scores, expected.scores)
        assert found.top(1)[0].label == path.parent.name
    assert not loaded.predict(takes / "none/idle.mp4", 5).is_known


def test_the_frozen_networks_stay_as_they_are(base, takes):
    recognizer = load_base(base)
    before = weights(recognizer)
    taught = Teacher(recognizer, takes).fit()
    after, new = weights(recognizer), weights(taught)
    assert all(bool((before[name] == after[name]).all()) for name in before)
    changed = {name for name in before if before[name].shape != new[name].shape or (before[name] != new[name]).any()}
    assert changed == {f"{stream}.backbone.fc.{what}" for stream in ("rgb", "flow") for what in ("weight", "bias")}


def test_features_survive_a_restart_and_are_made_again_for_other_networks(base, takes, tmp_path, save_random_bundle):
    shutil.rmtree(takes / FEATURES)
    first = Teacher(base, takes).fit()
    kept = sorted((takes / FEATURES).rglob("*.npz"))
    assert len(kept) == 2 * TAKES + 1 + 1  # and the drawn clips
    stamps = [path.stat().st_mtime_ns for path in kept]
    assert same(Teacher(base, takes).fit(), first)
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    other = load_base(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other.engine, "name", "another engine")
        Teacher(other, takes).fit()
    assert len(sorted((takes / FEATURES).rglob("*.npz"))) == 2 * len(kept)


def test_a_damaged_feature_file_is_made_again(base, takes):
    first = Teacher(base, takes).fit()
    path = sorted((takes / FEATURES).rglob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:-200])
    assert same(Teacher(base, takes).fit(), first)


def test_a_name_that_is_not_utf8_costs_its_take_alone(base, takes):
    first = Teacher(base, takes).fit()
    try:
        shutil.copy(takes / "right/0.mp4", takes / "right" / os.fsdecode(b"take\xff.mp4"))
        (takes / os.fsdecode(b"jump\xff")).mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    shutil.copy(takes / "right/0.mp4", takes / os.fsdecode(b"jump\xff") / "0.mp4")
    teacher = Teacher(base, takes)
    assert same(teacher.fit(), first)
    notes = [note for note in teacher.report.notes if "is not UTF-8" in note]
    assert [note.split(" was set aside: ")[1].split(" in ")[0] for note in notes] == [
        r"file name jump\xff",
        r"file name take\xff.mp4",
    ]


def test_add_remove_restore_and_rename(base, takes):
    teacher = Teacher(base, takes)
    before = teacher.fit()
    pixels = np.stack([frame.pixels for frame in decode(takes / "right/0.mp4")])
    take = teacher.add("up", pixels, 25)
    assert take.path.parent.name == "up"
    assert teacher.fit().bundle.classes == ("down", "right", "up", "none")
    teacher.remove(take)
    assert same(teacher.fit(), before)
    teacher.restore(take)
    teacher.rename("up", "other")
    assert [one.name for one in teacher.takes] == ["down"] * TAKES + ["none", "other"] + ["right"] * TAKES
    with pytest.raises(InputError, match="'gone' has no takes"):
        teacher.rename("gone", "other")


def test_frames_with_times_are_a_take(base):
    teacher = Teacher(base)
    frames = [Frame(np.full((96, 128, 3), 10 * i, np.uint8), i / 20) for i in range(12)]
    take = teacher.add("brighter", frames, group="me")
    assert read_takes(teacher.folder) == [take] == [Take("brighter", take.path, "me")]
    assert sum(1 for _ in decode(take.path)) == 12


@pytest.mark.parametrize("name", ["", " wave", "a/b", "..", ".hidden", "a\nb", "x" * 200, "what?"])
def test_a_name_that_is_no_folders_is_refused(base, name):
    with pytest.raises(InputError, match="must be a folder's name"):
        Teacher(base).add(name, np.zeros((12, 64, 64, 3), np.uint8))


def test_what_can_not_be_used_is_set_aside_and_named(base, takes, moving_square):
    expected = Teacher(base, takes).fit()
    (takes / "right/broken.mp4").write_bytes(b"no video at all")
    write_video(takes / "right/short.mp4", moving_square(2, 0, frames=3), 25)
    shutil.copy(takes / "right/0.mp4", takes / "down/same.mp4")
    teacher = Teacher(base, takes)
    taught = teacher.fit()
    notes = "\n".join(teacher.report.notes)
    assert "right/broken.mp4 was set aside" in notes
    assert "right/short.mp4 was set aside: stack_length (4) needs 5 frames" in notes
    assert "right/0.mp4 was set aside: it is the same file as" in notes  # the first of the two keeps its name
    assert teacher.report.takes == {"down": TAKES + 1, "right": TAKES - 1}
    assert taught.bundle.classes == expected.bundle.classes


def test_nothing_is_kept_of_a_take_that_can_not_be_used(base, takes, tmp_path):
    teacher = Teacher(base, takes)
    before = teacher.takes
    with pytest.raises(InputError, match="needs 5 frames"):
        teacher.add("right", np.zeros((3, 64, 64, 3), np.uint8))
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(InputError):
        teacher.add("right", tmp_path / "no.mp4")
    assert teacher.takes == before


def test_a_still_take_is_named(base, takes, moving_square):
    write_video(takes / "down/still.mp4", moving_square(0, 0, frames=14, seed=4), 25)
    teacher = Teacher(base, takes)
    teacher.fit()
    assert any("nothing moves in" in note and "still.mp4" in note for note in teacher.report.notes)


def test_two_actions_with_one_take_are_enough_and_no_figure_is_made_up(base, filmed, tmp_path):
    for name in MOTIONS:
        (tmp_path / "takes" / name).mkdir(parents=True)
        shutil.copy(filmed / name / "0.mp4", tmp_path / "takes" / name)
    shutil.copytree(filmed / FEATURES, tmp_path / "takes" / FEATURES)
    teacher = Teacher(base, tmp_path / "takes")
    taught = teacher.fit()
    for name in MOTIONS:
        assert taught.predict(tmp_path / "takes" / name / "0.mp4", 5).top(1)[0].label == name
    report = teacher.report
    assert (report.accuracy, report.found, report.false_starts_per_hour) == (None, None, None)
    assert report.as_dict()["takes"] == {"down": 1, "right": 1}


def test_a_take_left_out_is_really_out(base, takes):
    """What is said of each left-out take is what a teacher says who never had the take of this fold."""
    shutil.rmtree(takes / "none")
    teacher = Teacher(base, takes)
    lesson = teacher._lesson(SILENT)
    examples = lesson.examples()
    for stream, rows in examples.features.items():
        answers = _left_out(rows, examples)
        for fold in range(TAKES):
            out = examples.folds == fold
            poisoned = np.where(out[:, None], 1e3, rows)  # what the figures must not read
            weight, bias = fit_linear(rows[~out], examples.labels[~out], examples.num_classes, STRENGTHS)
            expected = rows[out] @ weight.transpose(0, 2, 1) + bias[:, None]
            np.testing.assert_allclose(answers[:, out], expected, rtol=1e-6)
            spoilt = _left_out(poisoned, replace(examples, features={stream: poisoned}))[:, out]
            same_heads = poisoned[out] @ weight.transpose(0, 2, 1) + bias[:, None]
            np.testing.assert_allclose(spoilt, same_heads, rtol=1e-6)


def test_the_classifier_is_penalised_least_squares():
    """Against the normal equations, written out."""
    rng = np.random.default_rng(0)
    rows, labels, strength = rng.normal(2, 3, (12, 5)), np.repeat([0, 1, 2], [2, 4, 6]), 0.3
    (weight,), (bias,) = fit_linear(rows, labels, 3, (strength,))
    shares = 1 / (3 * np.array([2, 4, 6])[labels])
    mean = shares @ rows
    spread = np.sqrt(shares @ (rows - mean) ** 2)
    unit, targets = (rows - mean) / spread, np.eye(3)[labels] - shares @ np.eye(3)[labels]
    gram = 12 * unit.T @ np.diag(shares) @ unit / 5 + strength * np.eye(5)
    expected = np.linalg.solve(gram, 12 * unit.T @ np.diag(shares) @ targets / 5).T / spread
    np.testing.assert_allclose(weight, expected, rtol=1e-6)
    np.testing.assert_allclose(bias, shares @ np.eye(3)[labels] - expected @ mean, rtol=1e-6)


def test_the_threshold_keeps_false_starts_in_recordings_of_no_action_down():
    """Of 1200 windows of two seconds, four begin a false action; six an hour are four, so one more is one too many."""
    fused = np.tile([0.1, 0.1, 0.8], (1200, 1))
    for place, score in ((100, 0.6), (101, 0.6), (300, 0.7), (500, 0.8), (700, 0.9)):
        fused[place] = [score, 1 - score, 0]
    assert false_starts(fused, 2, 0.5) == 4
    assert with_quiet(Fusion(threshold=0.5), fused, 2).threshold == 0.5
    fused[900] = [0.95, 0.05, 0]
    raised = with_quiet(Fusion(threshold=0.5, false_alarm_rate=0.2), fused, 2)
    assert (raised.threshold, raised.false_alarm_rate) == (0.6, 0.2)
    assert with_quiet(Fusion(), fused[:600], 2).threshold == 0.6  # two of three: as many as in twenty minutes
    assert with_quiet(Fusion(), fused[:0], 2).threshold is None


def test_nothing_that_is_tested_later_is_read(base, takes, tmp_path):
    """Garbage in place of the clips beside the takes, and others beside them: the same bundle."""
    (takes.parent / "test").mkdir()
    expected = Teacher(base, takes).fit()
    (takes.parent / "test/right.mp4").write_bytes(b"poison")
    (takes / "groups.tsv").write_text("gone/1.mp4\tanna\n")
    (takes / "notes.txt").write_text("poison")
    (takes / "loose.mp4").write_bytes(b"poison")
    assert same(Teacher(base, takes).fit(), expected)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_taught_bundle_says_the_same_in_every_engine(base, takes, tmp_path, engine):
    teacher = Teacher(base, takes)
    taught = teacher.fit()
    out = tmp_path / "out"
    teacher.save(taught, out)
    export_bundle(out, load_bundle(out), out, engine)
    loaded = Recognizer.load(out, engine=engine, precision="fp32")
    for path in (takes / "right/0.mp4", takes / "down/1.mp4", takes / "none/idle.mp4"):
        expected, found = (
            Recognizer.load(out, engine="torch", precision="fp32").predict(path, 5),
            loaded.predict(path, 5),
        )
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        assert found.label == expected.label


def test_takes_that_are_all_the_same_are_one(base, takes):
    for path in sorted((takes / "right").iterdir())[1:]:
        shutil.copy(takes / "right/0.mp4", path)
    teacher = Teacher(base, takes)
    teacher.fit()
    assert teacher.report.takes == {"down": TAKES, "right": 1}
    assert sum("it is the same file as" in note for note in teacher.report.notes) == TAKES - 1


def test_a_kill_in_mid_teach_leaves_the_former_bundle_and_the_next_run_goes_on(base, takes, tmp_path):
    """Killed while features are computed: what is kept of them is whole, and what comes of the next run is the same."""
    out, teacher = tmp_path / "out", Teacher(base, takes)
    expected = teacher.fit()
    teacher.save(expected, out)
    shutil.rmtree(takes / FEATURES)
    code = (
        "import os, signal; from rgbflow.learn import takes\n"
        "from rgbflow.learn.teach import Teacher\n"
        "make, done = takes.features_of, []\n"
        "def features_of(*given):\n"
        "    done.append(1)\n"
        "    if len(done) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return make(*given)\n"
        "takes.features_of = features_of\n"
        f"teacher = Teacher({str(base)!r}, {str(takes)!r}); teacher.save(teacher.fit(), {str(out)!r})"
    )
    process = subprocess.run([sys.executable, "-c", code], check=False)
    assert process.returncode == -signal.SIGKILL
    assert len(list((takes / FEATURES).rglob("*.npz"))) == 3
    assert same(Recognizer.load(out, engine="torch"), expected)
    assert same(Teacher(base, takes).fit(), expected)


def test_the_threshold_names_at_most_the_promised_share():
    strange = np.linspace(0, 1, 19)
    limited = with_limit(Fusion(), strange, 0.2)
    assert (limited.threshold, limited.false_alarm_rate) == (strange[-4], 0.2)
    assert with_limit(Fusion(), strange[:2], 0.2).false_alarm_rate is None  # too few for a promise
    assert with_limit(Fusion(), strange[:0], 0.2).threshold is None


def test_one_action_needs_a_recording_of_none(base, takes):
    shutil.rmtree(takes / "down")
    assert Teacher(base, takes).fit().bundle.classes == ("right", "none")
    shutil.rmtree(takes / "none")
    with pytest.raises(InputError, match="the takes show right: give takes of at least two actions"):
        Teacher(base, takes).fit()


def test_mirrored_takes_are_left_out_where_a_name_says_a_side(base, takes):
    teacher = Teacher(base, takes)
    assert teacher.fit().bundle.streams["flow"].mirrored is False  # "right"
    assert any("names a side" in note for note in teacher.report.notes)
    teacher.rename("right", "across")
    assert teacher.fit().bundle.streams["flow"].mirrored is True


def test_a_bundle_that_was_not_taught_is_not_overwritten(base, takes, tmp_path):
    teacher = Teacher(base, takes)
    taught = teacher.fit()
    with pytest.raises(InputError, match="did not make"):
        teacher.save(taught, base)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(InputError, match="did not make"):
        teacher.save(taught, tmp_path / "full")
    teacher.save(taught, tmp_path / "out")
    teacher.save(taught, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "flow.safetensors",
        RECORD,
        "rgb.safetensors",
    ]


def test_a_kill_at_any_time_leaves_a_whole_bundle_and_the_next_run_goes_on(base, takes, tmp_path):
    """A process that saves again and again is killed; what lies there is the taught bundle."""
    out = tmp_path / "out"
    expected = Teacher(base, takes).fit()
    code = (
        "import sys; from rgbflow.learn.teach import Teacher\n"
        f"teacher = Teacher({str(base)!r}, {str(takes)!r}); taught = teacher.fit()\n"
        f"while True: teacher.save(taught, {str(out)!r}); print('saved', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
    if (out / RECORD).is_file():
        assert same(Recognizer.load(out, engine="torch"), expected)
    teacher = Teacher(base, takes)
    teacher.save(teacher.fit(), out)
    assert same(Recognizer.load(out, engine="torch"), expected)
    assert load_bundle(out).no_action == "none"


def run_until(teacher, out, lines, steps):
    """Follow the takes; before each look one of the steps is done."""
    steps = iter(steps)

    def is_over():
        step = next(steps, "over")
        if callable(step):
            step()
        return step == "over"

    follow_takes(teacher, out, lambda report: lines.append(report.takes), lines.append, is_over)


def test_takes_are_followed_and_a_broken_one_changes_nothing(base, takes, tmp_path, monkeypatch, moving_square):
    monkeypatch.setattr("rgbflow.learn.teach.SECONDS_BETWEEN_LOOKS", 0)
    teacher, out, lines = Teacher(base, takes), tmp_path / "out", []
    up, broken = takes / "up/1.mp4", takes / "up/2.mp4"
    kept = []

    def film():
        write_video(up, moving_square(0, -2, frames=14, seed=5), 25)

    def begin():
        broken.write_bytes(up.read_bytes()[:900])

    def go_on():
        broken.write_bytes(up.read_bytes()[:1800])

    def forget():
        kept.append(Recognizer.load(out, engine="torch"))
        shutil.rmtree(takes / "down")
        shutil.rmtree(takes / "right")
        shutil.rmtree(takes / "none")

    run_until(teacher, out, lines, [None, None, film, None, None, begin, go_on, None, None, forget, None, None, None])
    three = {"down": TAKES, "right": TAKES}
    assert lines[:2] == [three, {**three, "up": 1}]
    assert lines[2] == {**three, "up": 1}  # once, after the broken take had come to rest
    assert "the takes are not taught, and a former bundle stays: the takes show up: give" in lines[3]
    assert len(lines) == 4
    assert kept[0].bundle.classes == ("down", "right", "up", "none")
    assert same(Recognizer.load(out, engine="torch"), kept[0])
    assert any("up/2.mp4 was set aside" in note for note in teacher.report.notes)


def test_a_reader_finds_a_whole_bundle_at_every_moment(base, takes, tmp_path):
    """On Linux two names are exchanged at once; where they can't be, a reader may have to look again."""
    out, teacher = tmp_path / "out", Teacher(base, takes)
    taught = teacher.fit()
    teacher.save(taught, out)
    if not _exchange(out, shutil.copytree(out, tmp_path / "other")):
        pytest.skip("this system can't exchange two names")
    code = f"import os\nwhile True: os.stat({str(out / RECORD)!r})"
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        for _ in range(20):
            teacher.save(taught, out)
        assert process.poll() is None
        process.kill()


def test_imagenet_tells_motions_apart_and_knows_images():
    start = load_base("imagenet")
    for stream, network in start.engine.networks.items():
        spec = start.bundle.streams[stream]
        fresh = StreamNet(spec, 1)
        initialise(fresh, spec, "imagenet")
        known = network.state_dict()
        pairs = [(value, known[name]) for name, value in fresh.state_dict().items() if "classifier" not in name]
        assert all(torch.equal(one, other) for one, other in pairs) == (stream == "rgb")
    assert start.bundle.streams["flow"].subtract_mean_flow


def test_motion_outvotes_an_equally_sure_picture():
    sure, other = np.array([[0.8, 0.1, 0.1]]), np.array([[0.1, 0.8, 0.1]])
    fused = fit_product({"rgb": sure, "flow": other}, np.array([1])).fuse({"rgb": sure, "flow": other})
    assert fused.argmax() == 1
    assert fit_product({"rgb": sure}, np.array([0])).fuse({"rgb": sure}).argmax() == 0
