"""Score files fused, against loops, and fits that must not see what they are measured on."""

import json

import numpy as np
import pytest

from rgbflow import cli
from rgbflow.errors import InputError
from rgbflow.fusion import METHODS, Fusion, probabilities
from rgbflow.learn.fits import ScoredClips, fit
from rgbflow.learn.fusing import clip_groups, fuse_clips
from rgbflow.learn.metrics import calibration_error, group_interval
from rgbflow.learn.scores import read_scores

RNG = np.random.default_rng(5)
LABELS = RNG.integers(4, size=60)
NAMES = tuple(f"Run/v_Run_g{clip % 6 + 1:02}_c{clip // 6 + 1:02}" for clip in range(60))
GROUPS = np.array([name.split("/")[1][:9] for name in NAMES])
FIRST = np.isin(GROUPS, GROUPS[0])
STREAMS = {
    name: probabilities(4 * (favour * np.eye(4)[LABELS] + RNG.normal(size=(60, 4))))
    for name, favour in {"rgb": 1.5, "flow": 1.2}.items()
}


@pytest.fixture
def score_file(tmp_path):
    np.savez(tmp_path / "s.npz", names=np.array(NAMES), labels=LABELS, kind="scores", **STREAMS)
    return tmp_path / "s.npz"


def run(capsys, *arguments):
    code = cli.main(["fuse", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_the_product_of_files_is_that_of_a_plain_loop(score_file, tmp_path, capsys):
    code, out, _ = run(capsys, score_file, "--method", "product", "--out", tmp_path / "f.npz", "--json")
    result = json.loads(out)
    (written,) = read_scores([tmp_path / "f.npz"])
    for clip in range(60):
        expected = [STREAMS["rgb"][clip, k] * STREAMS["flow"][clip, k] for k in range(4)]
        np.testing.assert_allclose(written.streams["fused"][clip], np.array(expected) / sum(expected))
    assert (code, result["groups"], result["fusion"]) == (0, 6, {"method": "product"})
    assert [row["name"] for row in result["fusions"]] == ["average, not fitted", "product"]


@pytest.mark.parametrize("method", ["average", "product", "tempered"])
def test_a_clip_is_fused_by_numbers_that_were_fitted_without_its_group(method):
    clips = ScoredClips(STREAMS, LABELS, GROUPS)
    fused = fuse_clips(STREAMS, NAMES, LABELS, GROUPS, method, with_fit=True)
    for group in set(GROUPS):
        inside = np.isin(GROUPS, group)
        np.testing.assert_allclose(fused.scores[inside], fit(method, clips[~inside]).fuse(clips[inside].scores))
    assert fused.fusion == fit(method, clips)
    row = fused.compared[1]
    right = (fused.scores.argmax(axis=1) == LABELS).astype(float) - (
        Fusion().fuse(STREAMS).argmax(axis=1) == LABELS
    ).astype(float)
    pairs = dict(zip(NAMES, right, strict=True))
    assert row.ahead == pytest.approx(100 * right.mean())
    assert row.ahead_interval == pytest.approx(group_interval(pairs, dict(zip(NAMES, GROUPS, strict=True))))
    assert row.calibration_error == pytest.approx(calibration_error(fused.scores, LABELS))


def test_changing_the_labels_of_a_group_does_not_change_its_own_scores():
    changed = np.where(FIRST, (LABELS + 1) % 4, LABELS)
    one, other = (fuse_clips(STREAMS, NAMES, labels, GROUPS, "product", True).scores for labels in (LABELS, changed))
    np.testing.assert_array_equal(one[FIRST], other[FIRST])
    assert (one != other).any()


def test_fuse_tells_what_it_fitted_and_the_figures_of_clips_it_did_not_fit_on(score_file, capsys):
    code, out, error = run(capsys, score_file, "--method", "product", "--fit")
    assert code == 0
    for words in (
        "60 clips of 6 groups",
        "each clip fused by a fit without its group",
        "product, fitted",
        "temperature",
        "rgb 0.",
    ):
        assert words in out
    assert "note" not in error
    assert run(capsys, score_file)[0] == 0  # the plain average, with nothing to compare


def test_groups_come_from_a_table_that_may_name_other_clips(tmp_path, capsys, score_file):
    table = tmp_path / "groups.tsv"
    lines = [f"{name}.avi\tperson{clip % 3}" for clip, name in enumerate(NAMES)]
    table.write_text("\n".join([*lines, "Run/elsewhere.avi\tperson9"]))
    code, out, _ = run(capsys, score_file, "--method", "product", "--fit", "--groups", table, "--json")
    assert (code, json.loads(out)["groups"]) == (0, 3)
    table.write_text("\n".join(f"Run/{line}" for line in lines))  # another folder
    code, out, _ = run(capsys, score_file, "--method", "product", "--fit", "--groups", table, "--json")
    assert (code, json.loads(out)["groups"]) == (0, 3)
    table.write_text("")
    assert "the groups lack 60 of 60 clips" in run(capsys, score_file, "--fit", "--groups", table)[2]
    table.write_text("\n".join(lines[:-2]))
    code, _, error = run(capsys, score_file, "--fit", "--groups", table)
    assert code == 1
    assert f"the groups lack 2 of 60 clips, such as {NAMES[58]}: add their lines" in error


@pytest.mark.parametrize("form", ["Run/v_Run_g03_c01", "v_Run_g03_c01.avi", "v_Run_g03_c01", "a/b/v_Run_g03_c01.mp4"])
def test_ucf101_names_give_groups_in_every_form(form):
    assert clip_groups([form, "other"]).tolist() == ["v_Run_g03", "other"]


def test_clips_without_groups_count_alone_and_that_is_said(tmp_path, capsys):
    names = np.array([f"clip{index}" for index in range(60)])
    np.savez(tmp_path / "s.npz", names=names, labels=LABELS, kind="scores", **STREAMS)
    _, _, error = run(capsys, tmp_path / "s.npz", "--method", "product", "--fit")
    assert "note: each clip counts as its own group; --groups says" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((LABELS, GROUPS, "tempered", False), "--method tempered has numbers to fit: add --fit, or choose average or"),
        ((None, GROUPS, "product", True), "--fit needs labels, but the score files have none"),
        ((LABELS, np.array(["g"] * 60), "product", True), "needs 5 clips of 2 groups, but there are 60 of 1: leave it"),
        ((LABELS + 9, GROUPS, "product", True), "labels .* must lie in 0 to 3"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_one_line(arguments, words):
    with pytest.raises(InputError, match=words) as caught:
        fuse_clips(STREAMS, NAMES, *arguments)
    assert "\n" not in str(caught.value)


def test_one_stream_has_a_temperature_and_nothing_to_fuse():
    one = {"flow": STREAMS["flow"]}
    assert fuse_clips(one, NAMES, LABELS, GROUPS, "average", True).fusion.temperature > 1
    with pytest.raises(
        InputError, match="--fit of product needs two streams, but the files have one: use --method average"
    ):
        fuse_clips(one, NAMES, LABELS, GROUPS, "product", True)


def test_methods_of_two_streams_are_refused_for_three():
    three = STREAMS | {"audio": STREAMS["rgb"]}
    for method in METHODS:
        if method == "weighted":
            with pytest.raises(InputError, match="--fit of weighted takes two streams, but the files have 3"):
                fuse_clips(three, NAMES, LABELS, GROUPS, method, True)
        else:
            assert fuse_clips(three, NAMES, LABELS, GROUPS, method, True).scores.shape == (60, 4)


def test_files_without_labels_are_fused_and_not_measured(tmp_path, capsys):
    np.savez(tmp_path / "s.npz", names=np.array(NAMES), kind="scores", **STREAMS)
    code, out, _ = run(capsys, tmp_path / "s.npz", "--method", "product")
    assert code == 0
    assert "60 clips of 6 groups; not measured, since there are no labels" in out
