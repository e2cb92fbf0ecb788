import json

import numpy as np
import pytest
from scipy.special import softmax

from rgbflow import cli
from rgbflow.errors import InputError
from rgbflow.learn.scores import ScoreFile, as_probabilities, guess_kind, read_scores, saturated_share

rng = np.random.default_rng(0)
NAMES = tuple(f"c/{index}" for index in range(40))
CLASSES = ("a", "b", "c", "d")
LABELS = np.arange(40) % 4
FRAME_LOGITS = {name: rng.normal(size=(40, 19, 4)) + 2 * np.eye(4)[LABELS][:, None] for name in ("rgb", "flow")}


def saved(path, streams, kind=None, order=slice(None), **more):
    values = {"names": np.array(NAMES)[order], "labels": LABELS[order], "classes": np.array(CLASSES), **more}
    if kind:
        values["kind"] = kind
    np.savez(path, **values, **{name: rows[order] for name, rows in streams.items()})
    return path


def test_what_is_written_is_read(tmp_path):
    scores = {name: softmax(rows.mean(axis=1), axis=1) for name, rows in FRAME_LOGITS.items()}
    ScoreFile(NAMES, CLASSES, LABELS, scores, "scores").save(tmp_path / "s.npz")
    (read,) = read_scores([tmp_path / "s.npz"])
    assert (read.names, read.classes, read.kind) == (NAMES, CLASSES, "scores")
    np.testing.assert_array_equal(read.labels, LABELS)
    for name, rows in read.probabilities().items():
        np.testing.assert_allclose(rows, scores[name])


def test_a_figure_of_scores_without_labels_is_refused():
    scores = {"rgb": np.full((1, 4), 0.25)}
    assert ScoreFile(("c/0",), CLASSES, LABELS[:1], scores, "scores").known_labels.tolist() == [0]
    with pytest.raises(InputError, match="no labels"):
        _ = ScoreFile(("c/0",), CLASSES, None, scores, "scores").known_labels


def test_kinds_are_told_apart():
    frames = FRAME_LOGITS["rgb"]
    assert guess_kind(frames.mean(axis=1)) == ("logits", 1)
    assert guess_kind(softmax(frames, axis=2).mean(axis=1)) == ("scores", 1)
    assert guess_kind(softmax(frames, axis=2).sum(axis=1)) == ("sums", 19)


def test_every_kind_comes_to_the_probabilities_of_a_plain_loop():
    frames = FRAME_LOGITS["flow"]
    for clip in range(5):
        mean = sum(frames[clip, frame] for frame in range(19)) / 19
        expected = np.exp(mean) / np.exp(mean).sum()
        for values, kind, count in ((frames.mean(axis=1), "logits", 1), (frames.sum(axis=1), "sums", 19)):
            np.testing.assert_allclose(as_probabilities(values, kind, count)[clip], expected)
    shares = softmax(frames, axis=2)
    np.testing.assert_allclose(as_probabilities(shares.sum(axis=1), "sums", 19), shares.mean(axis=1))


def test_sums_taken_for_logits_saturate_and_are_warned_of(tmp_path, capsys):
    sums = {name: rows.sum(axis=1) for name, rows in FRAME_LOGITS.items()}
    assert saturated_share(as_probabilities(sums["rgb"], "logits")) > 0.9
    path = saved(tmp_path / "sums.npz", sums)
    assert cli.main(["fuse", str(path)]) == 0
    error = capsys.readouterr().err
    assert "rgb, flow read as logits" in error
    assert "warning: rgb is above 0.999 in" in error
    assert "pass --kind sums --frames N" in error
    assert cli.main(["fuse", str(path), "--kind", "sums", "--frames", "19"]) == 0
    error = capsys.readouterr().err
    assert "read as sums over 19 frames" in error
    assert "warning" not in error


def test_the_fusion_is_the_product_of_the_probabilities(tmp_path, capsys):
    logits = {name: rows.mean(axis=1) for name, rows in FRAME_LOGITS.items()}
    path = saved(tmp_path / "s.npz", logits, "logits")
    assert cli.main(["fuse", str(path), "--out", str(tmp_path / "f.npz"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    fused = np.prod([softmax(rows, axis=1) for rows in logits.values()], axis=0)
    fused /= fused.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(read_scores([tmp_path / "f.npz"])[0].streams["fused"], fused)
    assert result["figures"]["fused"]["top1"] == pytest.approx(100 * (fused.argmax(axis=1) == LABELS).mean())
    assert result["kinds"] == {"rgb": "logits", "flow": "logits"}


def test_streams_of_two_files_are_matched_by_clip(tmp_path):
    logits = {name: rows.mean(axis=1) for name, rows in FRAME_LOGITS.items()}
    one = saved(tmp_path / "one.npz", {"rgb": logits["rgb"]}, "logits")
    other = saved(tmp_path / "other.npz", {"flow": logits["flow"]}, "logits", order=rng.permutation(40))
    first, second = read_scores([one, other])
    np.testing.assert_array_equal(second.streams["flow"], logits["flow"])
    np.testing.assert_array_equal(second.labels, first.labels)


@pytest.mark.parametrize("form", ["Run/{}.avi", "{}.MP4", "/data/clips/{}", "C:\\clips\\{}.mkv"])
def test_clips_are_the_same_if_their_file_names_are(tmp_path, form):
    names = np.array([f"ü{index}" for index in range(40)])
    others = np.array([form.format(f"u\u0308{index}") for index in range(40)])
    rows = {name: frames.mean(axis=1) for name, frames in FRAME_LOGITS.items()}
    one = saved(tmp_path / "one.npz", {"rgb": rows["rgb"]}, names=names)
    other = saved(tmp_path / "other.npz", {"flow": rows["flow"][::-1]}, names=others[::-1], labels=LABELS[::-1])
    np.testing.assert_array_equal(read_scores([one, other])[1].streams["flow"], rows["flow"])
    twice = np.array([f"{'ab'[index % 2]}/{index // 2}" for index in range(40)])
    others = np.array([f"/data/{name}.avi" for name in twice[::-1]])
    one = saved(tmp_path / "one.npz", {"rgb": rows["rgb"]}, names=twice)
    other = saved(tmp_path / "other.npz", {"flow": rows["flow"][::-1]}, names=others, labels=LABELS[::-1])
    np.testing.assert_array_equal(read_scores([one, other])[1].streams["flow"], rows["flow"])


def test_named_classes_may_be_in_any_order(tmp_path):
    rows, order = {name: frames.mean(axis=1) for name, frames in FRAME_LOGITS.items()}, np.array([2, 0, 3, 1])
    one = saved(tmp_path / "one.npz", {"rgb": rows["rgb"]})
    names, labels = np.array(CLASSES)[order], np.argsort(order)[LABELS]
    other = saved(tmp_path / "other.npz", {"flow": rows["flow"][:, order]}, classes=names, labels=labels)
    first, second = read_scores([one, other])
    np.testing.assert_array_equal(second.streams["flow"], rows["flow"])
    np.testing.assert_array_equal(second.labels, first.labels)
    assert second.classes == CLASSES


@pytest.mark.parametrize("name", ["scores", "logits", "sums"])
def test_a_stream_called_after_its_kind_is_named_after_its_file(tmp_path, name):
    path = saved(tmp_path / "spatial.npz", {name: FRAME_LOGITS["rgb"].mean(axis=1)})
    assert list(read_scores([path])[0].streams) == ["spatial"]


def test_a_number_of_frames_means_sums(tmp_path):
    path = saved(tmp_path / "s.npz", {"rgb": FRAME_LOGITS["rgb"].sum(axis=1)})
    assert (read_scores([path])[0].kind, read_scores([path], frames=19)[0].kind) == ("logits", "sums")
    with pytest.raises(InputError, match=r"frames \(19\) are for sums, not for logits: pass --kind sums"):
        read_scores([path], kind="logits", frames=19)
    path = saved(tmp_path / "s.npz", {"rgb": softmax(FRAME_LOGITS["rgb"], axis=2).sum(axis=1)})
    with pytest.raises(InputError, match="rgb: its rows are probabilities summed over 19 frames, not 25: pass"):
        read_scores([path], frames=25)[0].probabilities()


def test_rows_of_zeros_are_logits_and_not_sums_over_no_frame(tmp_path):
    (file,) = read_scores([saved(tmp_path / "s.npz", {"rgb": np.zeros((40, 4))})])
    np.testing.assert_array_equal(file.probabilities()["rgb"], np.full((40, 4), 0.25))


@pytest.mark.parametrize("first", ["rgb", "flow"])
def test_streams_of_several_kinds_in_one_file_are_refused(tmp_path, first):
    rows = {name: frames.mean(axis=1) for name, frames in FRAME_LOGITS.items()}
    rows[first] = softmax(rows[first], axis=1)
    with pytest.raises(InputError, match=r"streams of several kinds .*: save each in a file of its own"):
        read_scores([saved(tmp_path / "s.npz", rows)])


def test_labels_may_be_whole_numbers_of_any_type(tmp_path):
    (file,) = read_scores([saved(tmp_path / "s.npz", {"rgb": FRAME_LOGITS["rgb"].mean(axis=1)}, labels=LABELS * 1.0)])
    np.testing.assert_array_equal(file.labels, LABELS)


def test_labels_that_may_count_from_1_are_pointed_out(tmp_path, capsys):
    for labels, said in ((LABELS, False), (np.maximum(LABELS, 1), True)):
        path = saved(tmp_path / "s.npz", {"rgb": FRAME_LOGITS["rgb"].mean(axis=1)}, labels=labels)
        assert cli.main(["fuse", str(path)]) == 0
        assert ("note: no clip has label 0; labels count classes from 0" in capsys.readouterr().err) == said


def test_the_result_never_replaces_what_it_is_made_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "s.npz", {"rgb": FRAME_LOGITS["rgb"].mean(axis=1)})
    content = path.read_bytes()
    assert cli.main(["fuse", str(path), "--out", "s.npz"]) == 1
    assert "--out (s.npz) is a file that is read: choose another name" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path):
    rows = FRAME_LOGITS["rgb"].mean(axis=1)
    good = saved(tmp_path / "good.npz", {"rgb": rows})
    (tmp_path / "text.npz").write_text("no numbers")
    np.savez(tmp_path / "pickled.npz", names=np.array([object()]), allow_pickle=True)
    np.savez(tmp_path / "empty.npz", labels=LABELS)
    (tmp_path / "archive.npz").write_bytes(good.read_bytes()[:200])
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, rows)
    cases = {
        "can't be read": [tmp_path / "text.npz"],
        "without pickles": [tmp_path / "pickled.npz"],
        "needs names": [tmp_path / "empty.npz"],
        "stream of the same name": [good, good],
        "does not exist": [tmp_path / "none.npz"],
        "rgb must be finite numbers, but is not for 1 of 40 clips, such as c/7": [
            saved(tmp_path / "nan.npz", {"rgb": np.where(np.arange(40)[:, None] == 7, np.nan, rows)})
        ],
        r"kind \('votes'\) must be one of logits, scores, sums": [saved(tmp_path / "kind.npz", {"rgb": rows}, "votes")],
        "pass --frames": [saved(tmp_path / "sums.npz", {"rgb": rows}, "sums")],
        "few.npz lacks 10 of the first file's clips, such as c/30": [
            good,
            saved(tmp_path / "few.npz", {"flow": rows}, order=slice(0, 30)),
        ],
        "good.npz has 10 clips more than the first, such as c/30": [tmp_path / "few.npz", good],
        "other classes than the first file and lacks 1 of its 4, such as d": [
            good,
            saved(tmp_path / "classes.npz", {"flow": rows}, classes=np.array(list("abce"))),
        ],
        "another label than the first file for 40 of 40 clips, such as c/0": [
            good,
            saved(tmp_path / "labels.npz", {"flow": rows}, labels=(LABELS + 1) % 4),
        ],
        "names a class twice, a": [saved(tmp_path / "same.npz", {"rgb": rows}, classes=np.array(list("abca")))],
        "archive.npz can't be read": [tmp_path / "archive.npz"],
        "array.npz can't be read": [tmp_path / "array.npz"],
        "names a clip twice": [saved(tmp_path / "twice.npz", {"rgb": rows}, names=np.array(["a"] * 40))],
        r"labels\[0\] \('a'\) must be a whole number": [
            saved(tmp_path / "words.npz", {"rgb": rows}, labels=np.array(list("a" * 40)))
        ],
        "the same number of classes, K, not rgb 4, flow 3": [
            saved(tmp_path / "k.npz", {"rgb": rows, "flow": rows[:, :3]}, classes=np.array(()))
        ],
        "3 classes, but the first file has 4": [
            good,
            saved(tmp_path / "3.npz", {"flow": rows[:, :3]}, labels=LABELS % 3, classes=np.array(())),
        ],
        "rgb .* must be finite numbers": [saved(tmp_path / "text-rows.npz", {"rgb": rows.astype(str)})],
        r"frames \(\[1.0, .* must be a number above 0": [
            saved(tmp_path / "frames.npz", {"rgb": rows}, frames=np.ones(40))
        ],
        r"labels \(up to 7\) must be 40 integers in 0…3: count classes from 0": [
            saved(tmp_path / "high.npz", {"rgb": rows}, labels=LABELS + 4)
        ],
        r"labels\[0\] \(-1\) must be a whole number in 0": [
            saved(tmp_path / "low.npz", {"rgb": rows}, labels=LABELS * 0 - 1)
        ],
        r"names\[0\] \(0.0\) must be text": [saved(tmp_path / "n.npz", {"rgb": rows}, names=np.arange(40.0))],
        r"classes\[1\] \(''\) must be text": [
            saved(tmp_path / "empty-class.npz", {"rgb": rows}, classes=np.array(["a", "", "c", "d"]))
        ],
        r"frames \(nan\) must be a number above 0": [saved(tmp_path / "nf.npz", {"rgb": rows}, frames=np.nan)],
    }
    for message, paths in cases.items():
        with pytest.raises(InputError, match=message) as caught:
            read_scores(paths)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="the rows are not probabilities"):
        read_scores([good], kind="scores")[0].probabilities()
    with pytest.raises(InputError, match=r"frames \(0\) must be above 0"):
        read_scores([good], kind="sums", frames=0)


def test_names_may_be_bytes_or_numbers(tmp_path):
    for names, expected in ((np.array([b"a", "é".encode()]), ("a", "é")), (np.arange(2), ("0", "1"))):
        np.savez(tmp_path / "s.npz", names=names, rgb=np.eye(2))
        assert read_scores([tmp_path / "s.npz"])[0].names == expected
