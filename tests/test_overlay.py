from dataclasses import dataclass, replace

import numpy as np
import pytest

from rgbflow.errors import InputError
from rgbflow.overlay import (
    BAR,
    BRIGHT,
    GROUND,
    LABEL_COLOURS,
    MARKS,
    SOFT,
    TRACK,
    Layout,
    blend,
    draw_panel,
    draw_strip,
    enlarged,
    font,
    label_colours,
    nearest_span,
    shortened,
    write_overlay,
)
from rgbflow.video.reading import decode, probe
from rgbflow.video.writing import write_video

SIZES = [(80, 60), (81, 61), (90, 160), (320, 240), (1920, 1080)]


@dataclass(frozen=True)
class Answer:
    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """As much of a prediction as an overlay needs."""

    scores: np.ndarray
    stream_scores: dict[str, np.ndarray]
    classes: tuple[str, ...] = ("wave", "raise", "jump", "squat", "clap", "kick")
    start_seconds: float = 0.0
    end_seconds: float = 1.0
    is_known: bool = True

    @property
    def label(self):
        return self.top(1)[0].label if self.is_known else "unknown"

    @property
    def score(self):
        return self.top(1)[0].score

    def top(self, count):
        best = np.argsort(-self.scores, kind="stable")[:count]
        return [Answer(self.classes[k], float(self.scores[k])) for k in best]


RGB = np.array([0.05, 0.60, 0.05, 0.20, 0.10, 0.00])
FLOW = np.array([0.15, 0.40, 0.25, 0.00, 0.10, 0.10])
PREDICTION = Prediction((RGB + FLOW) / 2, {"rgb": RGB, "flow": FLOW})


def predicted(label: str, start_seconds: float, end_seconds: float) -> Prediction:
    scores = np.full(6, 0.04)
    scores[PREDICTION.classes.index(label)] = 0.8
    spoken = replace(PREDICTION, scores=scores, start_seconds=start_seconds, end_seconds=end_seconds)
    return replace(spoken, stream_scores={"rgb": scores, "flow": scores})


def smooth_frames(width: int, height: int, count: int) -> list[np.ndarray]:
    """Colour ramps that move: detail that a codec keeps."""
    y, x = np.mgrid[:height, :width]
    ramps = [
        np.stack(
            [x * 200 // width + 4 * t, y * 200 // height + 20, (x + y) * 100 // (width + height) + 60],
            axis=-1,
        )
        for t in range(count)
    ]
    return [frame.astype(np.uint8) for frame in ramps]


def panel_rows(panel: np.ndarray, layout: Layout, count: int) -> list[np.ndarray]:
    """The middle line of each bar."""
    first = layout.padding + layout.header_height + layout.row_height // 2
    return [panel[first + row * layout.row_height] for row in range(count)]


def is_colour(pixels: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    return (pixels[..., :3] == colour[:3]).all(axis=-1)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_copy_has_the_frames_and_the_duration_of_the_source(tmp_path, width, height):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, smooth_frames(width, height, 8), 12.5)
    assert write_overlay(source, [PREDICTION], out) == 8
    before, after = probe(source), probe(out)
    assert sum(1 for _ in decode(out)) == 8
    assert after.frames_per_second == pytest.approx(before.frames_per_second)
    assert after.duration_seconds == pytest.approx(before.duration_seconds, abs=0.01)
    assert after.height >= 320
    assert after.width / after.height == pytest.approx(before.width / before.height, rel=0.01)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_bars_are_as_long_as_the_scores(width, height):
    layout = Layout(*enlarged(np.zeros((height, width, 3), np.uint8)).shape[1::-1])
    panel = draw_panel(replace(PREDICTION, stream_scores={"rgb": RGB}), layout)
    assert panel.shape[1] == layout.panel_width <= layout.width
    assert layout.bar_width >= 40  # a hundredth can be told from another by no less
    for line, answer in zip(panel_rows(panel, layout, 5), PREDICTION.top(5), strict=True):
        bar = np.flatnonzero(is_colour(line, BAR))
        assert len(bar) == round(answer.score * layout.bar_width)
        assert bar[0] == layout.bar_left
        track = np.flatnonzero(is_colour(line, TRACK))
        assert len(bar) + len(track) == layout.bar_width


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_marks_point_at_the_scores_of_the_streams(width, height):
    layout = Layout(*enlarged(np.zeros((height, width, 3), np.uint8)).shape[1::-1])
    panel = draw_panel(PREDICTION, layout)
    first = layout.padding + layout.header_height
    for row, answer in enumerate(PREDICTION.top(5)):
        band = panel[first + row * layout.row_height : first + (row + 1) * layout.row_height]
        middle = layout.row_height // 2
        for stream, scores in PREDICTION.stream_scores.items():
            lines, columns = np.nonzero(is_colour(band, MARKS[stream]))
            place = layout.bar_left + round(scores[PREDICTION.classes.index(answer.label)] * layout.bar_width)
            assert (columns.min() + columns.max()) / 2 == place
            tip = lines.max() if stream == "rgb" else lines.min()
            assert (tip < middle) == (stream == "rgb")
            assert columns[lines == tip].mean() == pytest.approx(place, abs=1)


def test_bars_in_the_video_are_as_long_as_the_scores(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, [np.full((720, 1280, 3), 60, np.uint8)] * 3, 10)
    write_overlay(source, [replace(PREDICTION, stream_scores={"rgb": RGB})], out)
    layout = Layout(1280, 720)
    top = 720 - layout.unit - len(draw_panel(replace(PREDICTION, stream_scores={"rgb": RGB}), layout))
    threshold = (BAR[0] + TRACK[0]) / 2
    bars = slice(layout.unit + layout.bar_left, layout.unit + layout.bar_left + layout.bar_width)
    for frame in decode(out):
        for line, answer in zip(panel_rows(frame.pixels[top:], layout, 5), PREDICTION.top(5), strict=True):
            assert np.sum(line[bars].mean(axis=-1) > threshold) == pytest.approx(answer.score * layout.bar_width, abs=2)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (480, 360)])
@pytest.mark.parametrize("parts", [1, 3])
def test_nothing_else_is_changed(tmp_path, width, height, parts):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, smooth_frames(width, height, 9), 9, crf=1)
    predictions = [replace(PREDICTION, start_seconds=k / parts, end_seconds=(k + 1) / parts) for k in range(parts)]
    write_overlay(source, predictions, out)
    for before, after in zip(decode(source), decode(out), strict=True):
        expected = enlarged(before.pixels)
        layout = Layout(expected.shape[1], expected.shape[0])
        drawn = np.zeros(expected.shape[:2], bool)
        height_of_all = layout.unit + len(draw_panel(PREDICTION, layout)) + (parts > 1) * 2 * layout.unit
        # the codec spreads an edge over the block of 8 pixels it lies in
        drawn[layout.height - height_of_all - 8 :, : layout.unit + layout.panel_width + 8] = True
        drawn[layout.height - 2 * layout.unit :] |= parts > 1
        change = np.abs(after.pixels.astype(int) - expected).max(axis=-1)
        assert change[~drawn].max() <= 16
        assert change[~drawn].mean() < 4
        assert change[drawn].max() > 100


@pytest.mark.parametrize("background", [0, 128, 255])
def test_text_stands_out_from_every_background(background):
    """WCAG 2 asks for a contrast of 4.5 for text and 3 for graphics."""
    frame = np.full((4, 4, 3), background, np.uint8)
    blend(frame, np.full((4, 4, 4), GROUND, np.uint8), 0, 0)
    for colour, least in ((BRIGHT, 7), (SOFT, 4.5), (BAR, 4.5), (MARKS["rgb"], 3), (MARKS["flow"], 3)):
        assert contrast(colour, frame[0, 0]) >= least


def contrast(one, other) -> float:
    def luminance(colour) -> float:
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(colour[:3]) / 255]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_frame_shows_the_prediction_of_its_time(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    plain = [np.full((360, 480, 3), 90, np.uint8)] * 20
    write_video(source, plain, 10)
    said = [predicted("wave", 0.0, 0.5), predicted("kick", 0.5, 0.9), predicted("jump", 1.4, 1.6)]
    write_overlay(source, said, out)
    layout = Layout(480, 360)
    seen = [shown_label(frame.pixels, said, layout) for frame in decode(out)]
    # a prediction holds for one frame step longer than it says; where two meet the nearer middle counts
    assert seen[:5] == ["wave"] * 5
    assert seen[6:10] == ["kick"] * 4
    assert seen[11:14] == [None] * 3
    assert seen[14:17] == ["jump"] * 3
    assert seen[18:] == [None] * 2


def shown_label(pixels: np.ndarray, predictions: list[Prediction], layout: Layout) -> str | None:
    """The prediction whose panel the frame holds."""
    colours = label_colours(predictions)
    for prediction in predictions:
        panel = draw_panel(prediction, layout, colours[prediction.label])
        expected = np.full((layout.height, layout.width, 3), 90, np.uint8)
        top = layout.height - layout.unit - layout.strip_height - layout.unit // 2 - len(panel)
        blend(expected, panel, layout.unit, top)
        region = (slice(top, top + len(panel)), slice(layout.unit, layout.unit + layout.panel_width))
        if np.abs(expected[region].astype(int) - pixels[region]).mean() < 4:
            return prediction.label
    return None


def test_the_mark_on_the_strip_moves_with_the_time(tmp_path):
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, [np.full((360, 480, 3), 90, np.uint8)] * 21, 10)
    write_overlay(source, [predicted("wave", 0.0, 1.0), predicted("kick", 1.0, 2.0)], out)
    layout = Layout(480, 360)
    line = layout.height - layout.unit - layout.strip_height // 2
    for number, frame in enumerate(decode(out)):
        strip = frame.pixels[line, layout.unit : -layout.unit].min(axis=-1)  # no colour of the strip is white
        expected = number * 0.1 / 2.1 * len(strip)
        assert strip.argmax() == pytest.approx(expected, abs=4)


def test_the_strip_is_coloured_by_label():
    said = [predicted("wave", 0, 1), predicted("kick", 1, 2), predicted("wave", 3, 4)]
    spans = np.array([[each.start_seconds, each.end_seconds] for each in said])
    strip = draw_strip(said, spans, Layout(427, 320))
    wave, kick = LABEL_COLOURS[:2]
    for share, colour in ((0.1, wave), (0.35, kick), (0.6, GROUND), (0.9, wave)):
        assert tuple(strip[0, round(share * strip.shape[1])]) == colour
    assert (strip == strip[:1]).all()


def test_label_colours_come_again_after_the_last():
    names = tuple(f"class {k}" for k in range(10))
    said = [replace(PREDICTION, classes=names, scores=np.eye(10)[k]) for k in range(10)]
    colours = list(label_colours(said).values())
    assert len(set(colours[:8])) == 8
    assert colours[8:] == colours[:2]


@pytest.mark.parametrize("seconds", np.linspace(-0.5, 6.5, 29))
def test_nearest_span_equals_a_loop(seconds):
    spans = np.array([[0.0, 2.0], [0.5, 2.5], [1.0, 3.0], [5.0, 6.0]])
    holding = [k for k, (start, end) in enumerate(spans) if start <= seconds <= end]
    expected = min(holding, key=lambda k: abs(spans[k].mean() - seconds), default=None)
    assert nearest_span(spans, seconds) == expected


@pytest.mark.parametrize("count", [2, 3, 6, 101])
def test_as_many_rows_as_there_are_classes_at_most_five(count):
    layout = Layout(640, 480)
    scores = np.full(count, 1 / count)
    names = tuple(f"class {k}" for k in range(count))
    panel = draw_panel(Prediction(scores, {"flow": scores}, names), layout)
    assert len(panel) == 2 * layout.padding + layout.header_height + min(count, 5) * layout.row_height


def test_one_stream_has_no_marks_of_its_own():
    panel = draw_panel(replace(PREDICTION, stream_scores={"rgb": RGB}), Layout(640, 480))
    assert not is_colour(panel, MARKS["rgb"]).any()
    assert is_colour(draw_panel(PREDICTION, Layout(640, 480)), MARKS["rgb"]).any()


@pytest.mark.parametrize("size", [10, 17, 40])
@pytest.mark.parametrize("text", ["wave", "a very long name of an action", "прыжок в длину, разбег", "Übergröße"])
def test_long_text_is_cut_to_the_width_and_no_shorter(text, size):
    letters = font(size)
    for width in (30, 60, 120, 1000):
        cut = shortened(text, width, size)
        if cut == text:
            assert letters.getlength(text) <= width
            continue
        assert cut.endswith("…")
        assert text.startswith(cut[:-1])
        assert letters.getlength(cut) <= max(width, letters.getlength("…"))
        one_more = text[: len(cut)]
        assert letters.getlength(one_more + "…") > width or one_more.endswith(" ")


def test_names_of_any_kind_are_drawn():
    layout = Layout(640, 480)
    drawn = []
    for name in ("прыжок", "жжжжжж", "άλμα", "two\nlines", "\udcff", ""):
        names = (*PREDICTION.classes[:1], name, *PREDICTION.classes[2:])
        panel = draw_panel(replace(PREDICTION, classes=names), layout)
        drawn.append(panel[: layout.padding + layout.header_height].tobytes())
    assert len(set(drawn)) == len(drawn)  # letters the font lacks would all look the same


@pytest.mark.parametrize(("left", "top"), [(0, 0), (3, -2), (6, 5), (2, 9)])
def test_blend_mixes_by_opacity_and_cuts_off(left, top):
    generator = np.random.default_rng(0)
    frame = generator.integers(0, 256, (8, 9, 3), dtype=np.uint8)
    picture = generator.integers(0, 256, (4, 5, 4), dtype=np.uint8)
    expected = frame.astype(float)
    for y in range(4):
        for x in range(5):
            if 0 <= top + y < 8 and left + x < 9:
                share = picture[y, x, 3] / 255
                below = frame[top + y, left + x]
                expected[top + y, left + x] = below * (1 - share) + picture[y, x, :3] * share
    blend(frame, picture, left, top)
    np.testing.assert_allclose(frame, expected, atol=0.51)


def test_a_large_frame_is_copied_and_a_small_one_enlarged_in_proportion():
    frame = np.zeros((400, 300, 3), np.uint8)
    copy = enlarged(frame)
    copy[:] = 1
    assert frame.max() == 0
    assert copy.shape == frame.shape
    assert enlarged(np.zeros((60, 80, 3), np.uint8)).shape == (320, 426, 3)
    assert enlarged(np.zeros((400, 50, 3), np.uint8)).shape == (1600, 200, 3)


def test_input_that_cannot_be_used_gives_one_line_and_no_file(tmp_path):
    source = tmp_path / "in.mp4"
    write_video(source, smooth_frames(64, 48, 3), 10)
    before = source.read_bytes()
    (tmp_path / "text.mp4").write_text("no video")
    calls = [
        (source, [], tmp_path / "out.mp4", "predict the video first"),
        (source, [PREDICTION], tmp_path / "." / "in.mp4", "is the video itself"),
        (tmp_path / "none.mp4", [PREDICTION], tmp_path / "out.mp4", "does not exist"),
        (tmp_path / "text.mp4", [PREDICTION], tmp_path / "out.mp4", "text.mp4"),
        (source, [PREDICTION], tmp_path / "text.mp4" / "out.mp4", "out.mp4"),
    ]
    for video, predictions, out, rule in calls:
        with pytest.raises(InputError, match=rule) as caught:
            write_overlay(video, predictions, out)
        assert "\n" not in str(caught.value)
    assert source.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.mp4", "text.mp4"]


def test_an_unknown_clip_has_no_percentage_and_no_answer_among_the_bars():
    layout = Layout(640, 480)
    unknown = replace(PREDICTION, is_known=False)
    known, panel = draw_panel(PREDICTION, layout), draw_panel(unknown, layout)
    assert panel.shape == known.shape
    head = slice(0, layout.padding + layout.header_height - layout.unit // 3)
    right = layout.panel_width - round(3.7 * layout.unit)
    assert is_colour(known[head, right:], BRIGHT).any()
    assert not is_colour(panel[head, right:], BRIGHT).any()
    assert is_colour(panel[head], BRIGHT).any()
    below = slice(layout.padding + layout.header_height, None)
    assert is_colour(known[below], BRIGHT).any()
    assert not is_colour(panel[below], BRIGHT).any()
    for shown, drawn in zip(panel_rows(panel, layout, 5), panel_rows(known, layout, 5), strict=True):
        assert is_colour(shown, BAR).sum() == is_colour(drawn, BAR).sum()
