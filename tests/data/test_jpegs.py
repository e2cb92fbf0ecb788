import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from rgbflow.clip import FrameClip
from rgbflow.data.cutting import make_split
from rgbflow.data.dataset import ClipDataset
from rgbflow.data.jpegs import JpegStore, open_store
from rgbflow.data.layouts import SourceClip
from rgbflow.data.official import read_lists
from rgbflow.data.splits import SplitClip, check_split
from rgbflow.data.store import Store, prepare_store, read_ahead, stored_file
from rgbflow.errors import InputError
from rgbflow.flow import FlowSettings
from rgbflow.sampling import segment_starts
from rgbflow.stream import Preparation, StreamSpec
from rgbflow.transforms import Augmentation, evaluation_input
from rgbflow.video.intra import IntraWriter
from rgbflow.video.writing import write_video

SAMPLE = Path(os.environ.get("RGBFLOW_DATA", Path(__file__).parents[3] / "shared" / "data")) / "jpeg-flow-sample"
SPECS = (
    StreamSpec("rgb", "test_resnet", 40, 1, (0.5,) * 3, (0.25,) * 3),
    StreamSpec("flow", "test_resnet", 40, 3, (0.5,) * 2, (0.1,) * 2),
)
CLIPS = {"left/v_left_g01_c01": 8, "left/v_left_g02_c01": 6, "right/v_right_g01_c01": 7, "right/v_right_g02_c01": 6}


def write_pictures(folder, name, pictures):
    """JPEGs of the best quality; pictures are (H, W) gray or (H, W, 3) RGB, and `name` makes a name from 0, 1, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        written = picture if picture.ndim == 2 else np.ascontiguousarray(picture[..., ::-1])
        assert cv2.imwrite(str(folder / name(index)), written, [cv2.IMWRITE_JPEG_QUALITY, 100])


def write_separate(folder, clip, frames, fields):
    """A clip in the layout jpegs_256/<clip>, tvl1_flow/u/<clip>, tvl1_flow/v/<clip>."""
    for place, pictures in (("jpegs_256", frames), ("tvl1_flow/u", fields[:, 0]), ("tvl1_flow/v", fields[:, 1])):
        write_pictures(folder / place / clip, lambda index: f"frame{index + 1:06d}.jpg", pictures)


def write_together(folder, clip, frames, fields):
    """A clip in the layout <clip>/img_00001.jpg, x_00001.jpg, y_00001.jpg."""
    for prefix, pictures in (("img", frames), ("x", fields[:, 0]), ("y", fields[:, 1])):
        write_pictures(folder / clip, lambda index, prefix=prefix: f"{prefix}_{index + 1:05d}.jpg", pictures)


def plain_clip(frames=6, size=(24, 16)):
    """Frames of one colour and fields of one motion each, which a gray JPEG keeps exactly: u is 8 i, v is 200 - i."""
    width, height = size
    colours = np.array([[250 - 5 * index, 20, 10 * index] for index in range(frames)], np.uint8)
    motions = np.array([[8 * index, 200 - index] for index in range(frames - 1)], np.uint8)
    return (
        np.broadcast_to(colours[:, None, None], (frames, height, width, 3)),
        np.broadcast_to(motions[:, :, None, None], (frames - 1, 2, height, width)),
    )


def all_of(clip, stream):
    return clip.read(stream, np.arange(clip.num_frames - (stream == "flow")))


@pytest.fixture
def prepared(tmp_path, moving_square):
    """A store of four clips."""
    sources = []
    for clip, (name, frames) in enumerate(CLIPS.items()):
        path = tmp_path / "videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = moving_square(-2 if "left" in name else 2, 1, frames=frames, size=(80 + clip, 60), seed=clip)
        write_video(path, pixels, 20)
        sources.append(SourceClip(name, name.split("/")[0], name.split("/")[1][:-4], path))
    prepare_store(sources, tmp_path / "store", Preparation(48, FlowSettings(bound=8.0)))
    return Store(tmp_path / "store")


def pixels_of(store, name):
    clip = store.clip(name)
    return all_of(clip, "rgb").transpose(0, 2, 3, 1), all_of(clip, "flow")


def write_lossless(path, pictures):
    with IntraWriter(path, 25, {}) as writer:
        for picture in pictures:
            writer.write(np.ascontiguousarray(picture))


def give_store_the_pixels_of(store, name, frame_files, u_files, v_files):
    """Replace the pixels of a stored clip by those that OpenCV's own reader finds in JPEG files."""
    frames = [cv2.imread(str(path))[..., ::-1] for path in frame_files]
    u, v = ([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files] for files in (u_files, v_files))
    fields = np.stack([u, v], axis=1)
    assert np.abs(fields.astype(int) - pixels_of(store, name)[1]).max() <= 3  # JPEG of the best quality loses little
    write_lossless(stored_file(store.folder, "rgb", name), frames)
    write_lossless(stored_file(store.folder, "flow", name), fields.reshape(len(fields), -1, fields.shape[-1]))


@pytest.mark.parametrize("layout", ["separate", "together"])
def test_jpegs_and_a_store_give_the_same_tensors_for_the_same_frames(prepared, tmp_path, layout):
    folder = tmp_path / "jpegs"
    for name in CLIPS:
        clip = name.split("/")[1]
        if layout == "separate":
            write_separate(folder, clip, *pixels_of(prepared, name))
            patterns = [f"{root}/{clip}/*.jpg" for root in ("jpegs_256", "tvl1_flow/u", "tvl1_flow/v")]
        else:
            write_together(folder, name, *pixels_of(prepared, name))
            patterns = [f"{name}/{prefix}_*.jpg" for prefix in ("img", "x", "y")]
        give_store_the_pixels_of(prepared, name, *(sorted(folder.glob(pattern)) for pattern in patterns))

    jpegs = open_store(tmp_path / "jpegs")
    assert isinstance(jpegs, JpegStore)
    assert {name: row.frames for name, row in jpegs.rows.items()} == CLIPS
    part = [SplitClip(row.clip, row.label, row.group) for row in jpegs.rows.values()]
    assert part == [SplitClip(row.clip, row.label, row.group) for row in prepared.rows.values()]
    for spec in SPECS:
        for augmentation in (None, Augmentation()):
            one, other = (
                ClipDataset(store, part, ("left", "right"), spec, 3, augmentation, seed=1)
                for store in (prepared, jpegs)
            )
            for key in [(epoch, index) for epoch in range(4 if augmentation else 1) for index in range(len(part))]:
                assert torch.equal(one[key][0], other[key][0])
                assert one[key][0].std() > 0.1


def test_jpegs_and_frames_pushed_one_by_one_give_the_same_tensors(prepared, tmp_path):
    name = "left/v_left_g01_c01"
    write_together(tmp_path / "jpegs", name, *pixels_of(prepared, name))
    store = JpegStore(tmp_path / "jpegs")
    pushed = FrameClip(store.preparation, flow=())
    for path in sorted((tmp_path / "jpegs" / name).glob("img_*.jpg")):
        pushed.push(cv2.imread(str(path))[..., ::-1], 0.0)
    starts = segment_starts(8, 5, 1)
    stored = evaluation_input(store.clip(name), SPECS[0], starts)
    assert torch.equal(stored, evaluation_input(pushed, SPECS[0], starts))
    assert stored.std() > 0.1


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("digits", [1, 3, 6])
@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".JPG"])
@pytest.mark.parametrize("flow", ["", "flow_"])
@pytest.mark.parametrize("as_many", [False, True])
def test_every_way_to_number_and_name_pictures_is_read(tmp_path, first, digits, ending, flow, as_many):
    frames, fields = plain_clip(frames=12)
    written = fields
    if as_many:  # dense_flow's form: a field to the first frame, from one that isn't stored
        written = np.concatenate([np.full_like(fields[:1], 77), fields])
    for prefix, pictures in (("img_", frames), (f"{flow}x_", written[:, 0]), (f"{flow}y_", written[:, 1])):
        write_pictures(tmp_path / "jump" / "one", lambda i, p=prefix: f"{p}{i + first:0{digits}d}{ending}", pictures)
    (tmp_path / "jump" / "one" / "Thumbs.db").touch()
    (tmp_path / "jump" / "one" / "img_1.jpg.part").touch()
    clip = JpegStore(tmp_path).clip("jump/one")
    assert clip.num_frames == 12
    np.testing.assert_array_equal(all_of(clip, "flow"), fields)
    assert np.abs(all_of(clip, "rgb").astype(int) - frames.transpose(0, 3, 1, 2)).max() <= 3


@pytest.mark.parametrize("write", [write_separate, write_together])
@pytest.mark.parametrize("class_folder", ["", "Archery/"])
def test_the_class_is_in_the_folder_or_in_the_name(tmp_path, write, class_folder):
    write(tmp_path, f"{class_folder}v_Archery_g03_c02", *plain_clip())
    row = JpegStore(tmp_path).rows["Archery/v_Archery_g03_c02"]
    assert (row.label, row.group, row.frames) == ("Archery", "v_Archery_g03", 6)
    assert (row.width, row.height, row.status) == (24, 16, "ok")


def test_frames_are_red_green_blue_and_fields_u_v(tmp_path):
    frames, fields = plain_clip()
    write_together(tmp_path, "jump/one", frames, fields)
    clip = JpegStore(tmp_path).clip("jump/one")
    np.testing.assert_allclose(clip.read("rgb", np.array([2]))[0, :, 8, 8], [240, 20, 20], atol=3)
    np.testing.assert_array_equal(clip.read("flow", np.array([4, 0, 4]))[:, :, 3, 5], [[32, 196], [0, 200], [32, 196]])
    assert (clip.start_seconds, clip.end_seconds) == (0.0, 6 / 25)


def test_what_is_read_ahead_is_what_is_read(tmp_path):
    write_together(tmp_path, "jump/one", *plain_clip())
    clip = JpegStore(tmp_path).clip("jump/one")
    ahead = read_ahead(clip, {"rgb": np.array([0, 5]), "flow": np.array([1, 2, 4])})
    shutil.rmtree(tmp_path / "jump")
    assert ahead.num_frames == 6
    assert ahead.end_seconds == clip.end_seconds
    assert ahead.read("rgb", np.array([5, 0])).shape == (2, 3, 16, 24)
    np.testing.assert_array_equal(ahead.read("flow", np.array([4, 1]))[:, 0, 0, 0], [32, 8])


def test_sizes_may_differ_and_the_commonest_short_side_is_the_working_size(tmp_path):
    for number, size in enumerate([(40, 30), (48, 32), (32, 56), (64, 32)]):
        write_together(tmp_path, f"jump/{number}", *plain_clip(size=size))
    store = JpegStore(tmp_path)
    assert store.preparation == Preparation(32, FlowSettings("tvl1", "fast", 20.0, reduction=1), jpeg_quality=None)
    assert store.clip("jump/0").read("rgb", np.array([0])).shape == (1, 3, 30, 40)
    assert store.clip("jump/2").read("flow", np.array([0])).shape == (1, 2, 56, 32)


def test_a_settings_file_tells_how_the_flow_was_made(tmp_path):
    write_together(tmp_path, "jump/one", *plain_clip())
    (tmp_path / "rgbflow.json").write_text('{"flow": {"method": "farneback", "bound": 15}}')
    assert JpegStore(tmp_path).preparation.flow == FlowSettings("farneback", "fast", 15.0, reduction=1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "rgbflow.json can't be used .* write"),
        ("[]", "rgbflow.json can't be used .* write"),
        ('{"bound": 20}', r"can't be used \(flow is missing\): write"),
        ('{"flow": {"bounds": 20}}', r"can't be used \(flow.bounds is unknown to this rgbflow.*: write"),
        ('{"flow": {"bound": "20"}}', "rgbflow.json can't be used .* write"),
        (
            '{"flow": {"bound": -1}}',
            r"rgbflow.json can't be used \(flow.bound \(-1\) must be a number in 0.01…10,000\)",
        ),
        ('{"flow": {"method": "brox"}}', r"can't be used \(flow.method \('brox'\) must be one of dis, farneback, tvl1"),
    ],
)
def test_a_wrong_settings_file_is_named(tmp_path, text, told):
    write_together(tmp_path, "jump/one", *plain_clip())
    (tmp_path / "rgbflow.json").write_text(text)
    with pytest.raises(InputError, match=told):
        JpegStore(tmp_path)


def test_groups_come_from_the_table_or_are_the_clip_itself(tmp_path):
    for name in ("one", "two", "three"):
        write_together(tmp_path, f"jump/{name}", *plain_clip(frames=2))
    (tmp_path / "groups.tsv").write_text("jump/one\tanna\ntwo\tben\n")
    rows = JpegStore(tmp_path).rows
    assert {name: row.group for name, row in rows.items()} == {
        "jump/one": "anna",
        "jump/two": "ben",
        "jump/three": "jump/three",
    }


@pytest.mark.parametrize("spelling", ["v_HandstandPushups_g01_c01", "v_HandStandPushups_g01_c01"])
@pytest.mark.parametrize("class_folder", ["", "HandstandPushups/"])
def test_the_class_that_is_spelt_in_two_ways_has_the_lists_names(tmp_path, spelling, class_folder):
    """The official lists say HandstandPushups/v_HandStandPushups_g01_c01; the published JPEG folders don't."""
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "classInd.txt").write_text("1 HandstandPushups\n")
    (tmp_path / "lists" / "trainlist01.txt").write_text("HandstandPushups/v_HandStandPushups_g01_c01.avi 1\n")
    (tmp_path / "lists" / "testlist01.txt").write_text("")
    write_separate(tmp_path / "jpegs", f"{class_folder}{spelling}", *plain_clip(frames=2))
    (row,) = JpegStore(tmp_path / "jpegs").rows.values()
    assert [SplitClip(row.clip, row.label, row.group)] == read_lists(tmp_path / "lists")


def test_open_store_tells_a_prepared_store_from_jpegs(prepared, tmp_path):
    assert isinstance(open_store(prepared.folder), Store)
    write_together(tmp_path / "together", "jump/one", *plain_clip(frames=2))
    write_separate(tmp_path / "separate", "jump/one", *plain_clip(frames=2))
    for layout in ("together", "separate"):
        store = open_store(tmp_path / layout)
        assert isinstance(store, JpegStore)
        assert store.failed == []
        assert pickle.loads(pickle.dumps(store)).rows == store.rows  # as the processes that read clips get it


@pytest.mark.parametrize("folder", ["videos", "store", "empty", "missing"])
def test_open_store_names_what_is_neither(prepared, tmp_path, folder):
    (tmp_path / "empty").mkdir()
    (tmp_path / "store" / "manifest.parquet").unlink()
    with pytest.raises(InputError, match=f"{folder} is not a prepared data set"):
        open_store(tmp_path / folder)


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        (["img_00003.jpg"], "img_00003.jpg"),
        (["img_00001.jpg"], "img_00001.jpg"),
        (["x_00002.jpg", "x_00004.jpg"], "x_00002.jpg"),
        (["y_00002.jpg"], "y_00002.jpg"),
        (["x_00005.jpg", "y_00005.jpg"], "x_00005.jpg"),
        (["y_00005.jpg"], "y_00005.jpg"),
        (["img_00005.jpg", "img_00006.jpg"], "img_00005.jpg"),
        ([f"{letter}_0000{number}.jpg" for letter in "xy" for number in range(1, 6)], "x_00001.jpg"),
        ([f"y_0000{number}.jpg" for number in range(1, 6)], "y_00001.jpg"),
    ],
)
def test_the_first_missing_picture_is_named(tmp_path, missing, named):
    write_together(tmp_path, "jump/one", *plain_clip(frames=6))
    for name in missing:
        (tmp_path / "jump" / "one" / name).unlink()
    with pytest.raises(InputError, match=f"one/{named} is missing: complete the clip"):
        JpegStore(tmp_path)


@pytest.mark.parametrize("place", ["tvl1_flow", "tvl1_flow/v", "tvl1_flow/v/v_Archery_g03_c02"])
def test_a_missing_folder_of_flow_is_named_by_its_first_picture(tmp_path, place):
    write_separate(tmp_path, "v_Archery_g03_c02", *plain_clip())
    shutil.rmtree(tmp_path / place)
    with pytest.raises(InputError, match=r"/v_Archery_g03_c02/frame000001\.jpg is missing"):
        JpegStore(tmp_path)


def test_a_clip_of_one_frame_lacks_the_second(tmp_path):
    frames, fields = plain_clip(frames=2)
    write_together(tmp_path, "jump/one", frames[:1], fields)
    with pytest.raises(InputError, match=r"img_00002\.jpg is missing"):
        JpegStore(tmp_path)


def test_flow_of_another_size_than_the_frames_is_named(tmp_path):
    frames, _ = plain_clip(size=(48, 32))
    write_together(tmp_path, "jump/one", frames, plain_clip(size=(24, 16))[1])
    with pytest.raises(
        InputError, match=r"x_00001\.jpg has 24×16 pixels, but its clip's first frame has 48×32: compute"
    ):
        JpegStore(tmp_path)


def test_a_picture_of_another_size_than_the_first_is_named_when_it_is_read(tmp_path):
    write_together(tmp_path, "jump/one", *plain_clip())
    write_pictures(tmp_path / "jump" / "one", lambda index: "y_00003.jpg", plain_clip(size=(32, 32))[1][:1, 0])
    clip = JpegStore(tmp_path).clip("jump/one")
    clip.read("flow", np.array([0, 1, 3]))
    with pytest.raises(
        InputError, match=r"y_00003\.jpg has 32×32 pixels, but its clip's first frame has 24×16: extract"
    ):
        clip.read("flow", np.array([2]))


@pytest.mark.parametrize("content", [b"", b"no picture", "half", "without end"])
def test_a_broken_picture_is_named_when_it_is_read(tmp_path, content):
    write_together(tmp_path, "jump/one", *plain_clip())
    path = tmp_path / "jump" / "one" / "img_00004.jpg"
    whole = path.read_bytes()
    path.write_bytes({"half": whole[: len(whole) // 2], "without end": whole[:-2]}.get(content, content))
    clip = JpegStore(tmp_path).clip("jump/one")
    with pytest.raises(InputError, match=r"img_00004.jpg can't be read \(it is not a complete JPEG\): extract"):
        clip.read("rgb", np.array([2, 3]))
    path.unlink()
    with pytest.raises(InputError, match=r"img_00004.jpg can't be read \(No such file or directory\)"):
        clip.read("rgb", np.array([3]))


def test_a_first_picture_that_is_none_is_named(tmp_path):
    write_together(tmp_path, "jump/one", *plain_clip())
    (tmp_path / "jump" / "one" / "x_00001.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"x_00001.jpg can't be read \(it is not a complete JPEG\)"):
        JpegStore(tmp_path)


@pytest.mark.parametrize("write", [write_separate, write_together])
def test_a_clip_without_a_class_is_named(tmp_path, write):
    write(tmp_path, "some_clip", *plain_clip(frames=2))
    with pytest.raises(InputError, match=r"clip folder .*some_clip is not in a class folder: expected"):
        open_store(tmp_path)


def test_two_clips_of_one_name_are_named(tmp_path):
    for place in ("v_Archery_g03_c02", "Archery/v_Archery_g03_c02"):
        write_together(tmp_path, place, *plain_clip(frames=2))
    with pytest.raises(InputError, match="would both be clip Archery/v_Archery_g03_c02: rename one"):
        JpegStore(tmp_path)


def test_a_folder_without_clips_is_named(tmp_path):
    (tmp_path / "jpegs_256").mkdir()
    with pytest.raises(InputError, match="jpegs_256 contains no clip folder: expected"):
        open_store(tmp_path)


def test_split_train_and_evaluate_work_on_jpegs(tmp_path, moving_square):
    from rgbflow import Recognizer
    from rgbflow.learn.config import TrainConfig
    from rgbflow.learn.evaluate import evaluate_recognizer, make_report
    from rgbflow.learn.train import train_stream

    for clip in range(6):
        frames = moving_square(1, 0, frames=6, size=(40, 32), seed=clip)
        fields = np.full((5, 2, 32, 40), 120 + clip, np.uint8)
        write_separate(tmp_path / "jpegs", f"v_{'AB'[clip % 2]}_g0{clip // 2}_c01", frames, fields)
    store = open_store(tmp_path / "jpegs")
    split = make_split(list(map(row_as_source, store.rows.values())), "group")
    check_split(split, store.rows)
    config = TrainConfig(
        backbone="test_resnet", weights="none", input_size=32, stack_length=2, epochs=1, batch_size=2, workers=0
    )
    for stream in ("rgb", "flow"):
        train_stream(store, split, stream, tmp_path / "bundle", config)
    recognizer = Recognizer.load(tmp_path / "bundle", "cpu")
    assert recognizer.bundle.preparation == Preparation(32, FlowSettings("tvl1", reduction=1), jpeg_quality=None)
    evaluation = evaluate_recognizer(recognizer, store, split, num_snippets=2)
    assert [name.split("/")[0] for name in evaluation.names] == ["A", "B"]
    for clip, name in enumerate(evaluation.names):
        np.testing.assert_array_equal(
            evaluation.scores["fused"][clip], recognizer.predict(store.clip(name), num_snippets=2).scores
        )
    report = make_report(evaluation, recognizer, tmp_path / "bundle", store, "jpegs")
    assert report.examples[0].frames.shape == (6, 32, 40, 3)


def row_as_source(row):
    return SourceClip(row.clip, row.label, row.group, Path(row.source))


@pytest.fixture
def sample(tmp_path):
    """The published pictures, in a class folder."""
    if not SAMPLE.is_dir():
        pytest.skip(f"{SAMPLE} is not there: set RGBFLOW_DATA")
    folder = tmp_path / "some_action" / "clip"
    folder.mkdir(parents=True)
    for path in SAMPLE.glob("*.jpg"):
        shutil.copyfile(path, folder / path.name)
    return folder


def test_published_pictures_are_read_as_another_library_reads_them(sample):
    for number in range(7, 11):  # the sample has ten frames but five fields
        (sample / f"img_{number:05d}.jpg").unlink()
    store = open_store(sample.parents[1])
    clip = store.clip("some_action/clip")
    assert (store.preparation.short_side, clip.num_frames) == (240, 6)
    frames = [np.asarray(Image.open(sample / f"img_{number:05d}.jpg")) for number in range(1, 7)]
    u, v = ([np.asarray(Image.open(sample / f"{p}_{number:05d}.jpg")) for number in range(1, 6)] for p in "xy")
    # Decoders may round a colour by one; most pictures come out equal.
    assert np.abs(all_of(clip, "rgb").transpose(0, 2, 3, 1).astype(int) - frames).mean() < 0.5
    assert np.abs(all_of(clip, "flow").astype(int) - np.stack([u, v], axis=1)).mean() < 0.5
    assert 120 < all_of(clip, "flow").mean() < 135  # little moves: about 127.5


def test_a_published_clip_without_some_of_its_flow_is_named(sample):
    with pytest.raises(InputError, match=r"clip/x_00006\.jpg is missing"):
        open_store(sample.parents[1])
