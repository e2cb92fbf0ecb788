"""A copy of a video with the answer drawn in: the label, the best scores, a strip with the timeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rgbflow.errors import InputError
from rgbflow.shown import harmless
from rgbflow.stream import Stream
from rgbflow.video.reading import decode, probe
from rgbflow.video.writing import write_video

if TYPE_CHECKING:
    from rgbflow.prediction import Prediction

SMALLEST_WIDTH, SMALLEST_HEIGHT = (
    200,
    320,
)  # px; smaller videos are enlarged, else no text could be read in them
NUM_BARS = 5

Colour = tuple[int, int, int, int]  # red, green, blue, opacity
# the ground is dark and thick enough to carry its text over a white frame
GROUND, TRACK = (13, 15, 18, 200), (92, 98, 105, 240)
BRIGHT, SOFT, BAR = (255, 255, 255, 255), (203, 208, 213, 255), (233, 236, 239, 255)
MARKS = {"rgb": (244, 128, 66, 255), "flow": (64, 160, 255, 255)}
LABEL_COLOURS = [
    (86, 180, 233, 255), (230, 159, 0, 255), (0, 158, 115, 255), (240, 228, 66, 255),
    (213, 94, 0, 255), (204, 121, 167, 255), (0, 114, 178, 255), (190, 190, 190, 255),
]  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Positions in a frame of `width` by `height` pixels; all lengths are in pixels.

    The panel is in the lower left corner, the strip along the bottom. A bar begins at `bar_left` in a panel,
    and a score of 1 is `bar_width` long.
    """

    width: int
    height: int

    @property
    def unit(self) -> int:
        """Font size of a row, the unit of all other lengths; it grows more slowly than the frame."""
        return max(10, round(min(3.5 + 0.028 * self.height, self.width / 22)))

    @property
    def padding(self) -> int:
        return round(0.8 * self.unit)

    @property
    def panel_width(self) -> int:
        return min(22 * self.unit, self.width - 2 * self.unit)

    @property
    def bar_left(self) -> int:
        return self.padding + round(0.42 * (self.panel_width - 2 * self.padding))

    @property
    def bar_width(self) -> int:
        return self.panel_width - self.padding - round(3.7 * self.unit) - self.bar_left

    @property
    def header_height(self) -> int:
        return round(2.1 * self.unit)

    @property
    def row_height(self) -> int:
        return round(1.5 * self.unit)

    @property
    def strip_height(self) -> int:
        return max(4, round(0.45 * self.unit))


def write_overlay(video_path: str | Path, predictions: Sequence[Prediction], out: str | Path) -> int:
    """Write a copy of a video with each prediction drawn into the frames that it covers.

    The copy has the frames of the source, at its mean rate; small videos are enlarged (`enlarged`). Where predictions
    overlap, as windows that slide over a long video do, a frame shows the prediction with the nearest middle. With
    several predictions, a strip along the bottom shows their labels over the whole video and marks the current frame.

    Args:
        video_path: the source.
        predictions: one of the whole video, or several of its parts.
        out: the MP4 to write; it appears only when complete.

    Returns:
        The number of frames written.

    Raises:
        InputError: if there are no predictions, `out` is the source, or a file cannot be read or written.
    """
    if not predictions:
        raise InputError("predictions (none) must be at least one: predict the video first")
    check_out(video_path, out)
    rate = probe(video_path).frames_per_second
    return write_video(out, _drawn_frames(video_path, predictions, 1 / rate), rate)


def check_out(video_path: str | Path, out: str | Path) -> None:
    """Raise InputError if the copy would be written over its source."""
    if Path(out).resolve() == Path(video_path).resolve():
        raise InputError(f"out ({out}) is the video itself: choose another name")


def enlarged(pixels: np.ndarray, least: float = 1.0) -> np.ndarray:
    """A copy of an (H, W, 3) uint8 frame, in proportion.

    It has at least `least` times `SMALLEST_WIDTH` and `SMALLEST_HEIGHT`.
    """
    height, width = pixels.shape[:2]
    factor = max(1.0, least * SMALLEST_HEIGHT / height, least * SMALLEST_WIDTH / width)
    if factor == 1:
        return pixels.copy()
    even = (2 * round(width * factor / 2), 2 * round(height * factor / 2))
    return cv2.resize(pixels, even, interpolation=cv2.INTER_CUBIC)


def _drawn_frames(
    video_path: str | Path, predictions: Sequence[Prediction], step_seconds: float
) -> Iterator[np.ndarray]:
    # a prediction may end at the time of its last frame; one step more, and no frame falls between two
    spans = np.array([[each.start_seconds, each.end_seconds + step_seconds] for each in predictions])
    colours = label_colours(predictions) if len(predictions) > 1 else {}
    strip: np.ndarray | None = None
    panel: np.ndarray | None = None
    shown = -1
    for frame in decode(video_path):
        pixels = enlarged(frame.pixels)
        layout = Layout(pixels.shape[1], pixels.shape[0])
        bottom = layout.height - layout.unit
        if colours:
            strip = draw_strip(predictions, spans, layout) if strip is None else strip
            bottom -= layout.strip_height
            blend(pixels, strip, layout.unit, bottom)
            _draw_place(pixels, layout, bottom, (frame.pts_seconds - spans.min()) / np.ptp(spans))
            bottom -= layout.unit // 2
        index = nearest_span(spans, frame.pts_seconds)
        if index is not None:
            if panel is None or index != shown:
                shown, prediction = index, predictions[index]
                panel = draw_panel(prediction, layout, colours.get(prediction.label))
            blend(pixels, panel, layout.unit, bottom - len(panel))
        yield pixels


def nearest_span(spans: np.ndarray, seconds: float) -> int | None:
    """Index of the span that contains a moment, of (P, 2) start and end in seconds; of several, the nearest middle.

    >>> nearest_span(np.array([[0.0, 2.0], [1.0, 3.0]]), 1.9)
    1
    >>> nearest_span(np.array([[0.0, 2.0], [1.0, 3.0]]), 3.5) is None
    True
    """
    inside = (spans[:, 0] <= seconds) & (seconds <= spans[:, 1])
    if not inside.any():
        return None
    return int(np.where(inside, np.abs(spans.mean(axis=1) - seconds), np.inf).argmin())


def label_colours(predictions: Sequence[Prediction]) -> dict[str, Colour]:
    """A colour for each label, in order of appearance; after the last colour, the first is used again."""
    labels = dict.fromkeys(prediction.label for prediction in predictions)
    return {label: LABEL_COLOURS[place % len(LABEL_COLOURS)] for place, label in enumerate(labels)}


def draw_strip(predictions: Sequence[Prediction], spans: np.ndarray, layout: Layout) -> np.ndarray:
    """The strip: (strip_height, width - 2 units, 4) uint8 RGBA, from the start of the spans to their end."""
    colours = label_colours(predictions)
    width = layout.width - 2 * layout.unit
    strip = np.empty((layout.strip_height, width, 4), np.uint8)
    for column, seconds in enumerate(np.linspace(spans.min(), spans.max(), width)):
        index = nearest_span(spans, seconds)
        strip[:, column] = GROUND if index is None else colours[predictions[index].label]
    return strip


def _draw_place(pixels: np.ndarray, layout: Layout, top: int, share: float) -> None:
    """Mark the place of the frame on the strip with a white line and a dark edge, visible on every colour."""
    thickness = max(2, layout.unit // 6)
    left = layout.unit + round(min(max(share, 0.0), 1.0) * (layout.width - 2 * layout.unit - thickness))
    reach = slice(top - thickness, top + layout.strip_height + thickness)
    pixels[reach, left - 1 : left + thickness + 1] = GROUND[:3]
    pixels[reach, left : left + thickness] = BRIGHT[:3]


def draw_panel(prediction: Prediction, layout: Layout, swatch: Colour | None = None) -> np.ndarray:
    """The panel of a prediction: (height, panel_width, 4) uint8 RGBA.

    The first line is the label with its probability, or "unknown" without one. Below are the best `NUM_BARS` classes,
    each with a bar for its fused score and, with two streams, a mark at the score of each stream.

    Args:
        prediction: what to show.
        layout: where.
        swatch: colour of the label on the strip, if there is a strip.
    """
    best = prediction.top(NUM_BARS)
    streams = list(prediction.stream_scores) if len(prediction.stream_scores) > 1 else []
    rows_top = layout.padding + layout.header_height
    rows_end = rows_top + len(best) * layout.row_height
    height = rows_end + layout.padding + (layout.unit if streams else 0)
    image = Image.new("RGBA", (layout.panel_width, height))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, layout.panel_width - 1, height - 1), layout.unit // 2, fill=GROUND)
    _draw_header(draw, prediction, layout, swatch)
    for row, answer in enumerate(best):
        is_answer = row == 0 and prediction.is_known
        place = prediction.classes.index(answer.label)
        marks = {stream: float(prediction.stream_scores[stream][place]) for stream in streams}
        _draw_row(draw, layout, rows_top + row * layout.row_height, answer.label, answer.score, marks, is_answer)
    _draw_legend(draw, layout, rows_end + layout.padding, streams)
    return np.asarray(image)


def _draw_header(draw: ImageDraw.ImageDraw, prediction: Prediction, layout: Layout, swatch: Colour | None) -> None:
    size = round(1.35 * layout.unit)
    middle = layout.padding + layout.header_height // 2 - layout.unit // 3
    right = layout.panel_width - layout.padding
    score = percent(prediction.score) if prediction.is_known else ""
    draw.text((right, middle), score, BRIGHT, font(size), anchor="rm")
    left = layout.padding
    if swatch:
        half = layout.unit // 3
        draw.rectangle((left, middle - half, left + 2 * half, middle + half), fill=swatch)
        left += 2 * half + layout.unit // 2
    room = right - font(size).getlength(score) - layout.unit // 2 - left
    draw.text((left, middle), shortened(prediction.label, room, size, bold=True), BRIGHT, font(size, True), "lm")


def _draw_row(
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    top: int,
    label: str,
    score: float,
    marks: Mapping[Stream, float],
    first: bool,
) -> None:
    middle, half = top + layout.row_height // 2, max(2, round(0.2 * layout.unit))
    ink, left = BRIGHT if first else SOFT, layout.bar_left
    room = left - layout.padding - layout.unit // 2
    draw.text((layout.padding, middle), shortened(label, room, layout.unit), ink, font(layout.unit), "lm")
    draw.text((layout.panel_width - layout.padding, middle), percent(score), ink, font(layout.unit), "rm")
    _fill(draw, left, middle - half, layout.bar_width, 2 * half, TRACK)
    _fill(draw, left, middle - half, round(score * layout.bar_width), 2 * half, BAR)
    for stream, value in marks.items():
        _draw_mark(draw, stream, left + round(value * layout.bar_width), middle, half, layout.unit)


def _draw_mark(draw: ImageDraw.ImageDraw, stream: str, tip: int, middle: int, half: int, unit: int) -> None:
    """A triangle that points at the bar: rgb from above, flow from below, so that neither hides the other."""
    side = -1 if stream == "rgb" else 1
    reach = max(3, round(0.3 * unit))
    base = middle + side * (half + reach)
    corners = [(tip, middle + side * (half - 1)), (tip - reach, base), (tip + reach, base)]
    draw.polygon(corners, fill=MARKS[stream])


def _draw_legend(draw: ImageDraw.ImageDraw, layout: Layout, top: int, streams: Sequence[Stream]) -> None:
    size, left = max(9, round(0.85 * layout.unit)), layout.bar_left
    for stream in streams:
        text = f"{'▼' if stream == 'rgb' else '▲'} {stream}"
        draw.text((left, top), text, MARKS[stream], font(size), "lm")
        left += round(font(size).getlength(text)) + layout.unit


def _fill(draw: ImageDraw.ImageDraw, left: int, top: int, width: int, height: int, colour: Colour) -> None:
    if width > 0:  # the corners of a rectangle belong to it: one of no width cannot be drawn
        draw.rectangle((left, top, left + width - 1, top + height - 1), fill=colour)


def percent(score: float) -> str:
    return f"{100 * score:.0f} %"


def shortened(text: str, width: float, size: int, bold: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than `width` pixels in a font of `size` pixels."""
    text = harmless(" ".join(text.split()))  # a folder name may hold anything
    letters = font(size, bold)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "…") > width:
        text = text[:-1].rstrip()
    return text + "…"


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings along: Latin, Greek and Cyrillic letters on every machine."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def blend(pixels: np.ndarray, picture: np.ndarray, left: int, top: int) -> None:
    """Lay an (h, w, 4) uint8 RGBA picture over an (H, W, 3) uint8 frame, in place, where they overlap."""
    above = max(0, -top)
    picture = picture[above:, : pixels.shape[1] - left]
    region = pixels[top + above : top + above + len(picture), left : left + picture.shape[1]]
    opacity = picture[: len(region), :, 3:].astype(np.float32) / 255
    region[:] = np.rint(region + (picture[: len(region), :, :3] - region.astype(np.float32)) * opacity)
