"""The overlay video with a panel for each stream beside it: frame or flow, lit where the stream found the answer."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from rgbflow.cam import spotlight
from rgbflow.clip import Preparer
from rgbflow.flow import dequantise, flow_picture
from rgbflow.overlay import (
    BRIGHT,
    GROUND,
    MARKS,
    Layout,
    blend,
    check_out,
    draw_panel,
    enlarged,
    font,
    percent,
    shortened,
)
from rgbflow.recognizer import Explanation
from rgbflow.stream import Preparation, Stream
from rgbflow.video.reading import Frame, decode, probe
from rgbflow.video.writing import write_video

ENLARGED = 1.5  # how much larger than in the plain overlay a small video becomes: the panels are half as high
SMALLEST_UNIT = 10  # px, font size of a caption


def write_why(video: str | Path, explanation: Explanation, preparation: Preparation, out: str | Path) -> int:
    """Write an overlay video with a panel for each stream at the right of the frame.

    The panels show what the streams read: the frame, and the flow from it to the next frame in colour. Both are lit
    where the stream found the answer. Above each panel stands the stream's own answer, filled with the stream's colour
    if it is the final answer. The video has the frames that the networks could read: at the bundle's frame rate, if it
    has one.

    Args:
        video: the source.
        explanation: of the source.
        preparation: the bundle's.
        out: the MP4 to write; it appears only when complete.

    Returns:
        The number of frames written.

    Raises:
        InputError: if `out` is the source, or a file cannot be read or written.
    """
    check_out(video, out)
    rate = preparation.frame_rate or probe(video).frames_per_second
    frames = decode(Path(video), preparation.frame_rate)
    if "flow" in explanation.maps:
        views = _with_flow(frames, preparation)
    else:
        views = ({"rgb": frame.pixels} for frame in frames)
    return write_video(out, _drawn_frames(views, explanation), rate)


def _with_flow(frames: Iterable[Frame], preparation: Preparation) -> Iterator[dict[Stream, np.ndarray]]:
    """Each frame with the flow to the next frame, in pixels per frame step; the last with the flow that led to it."""
    preparer = Preparer(preparation)
    view: dict[Stream, np.ndarray] = {}
    for frame in frames:
        stored = preparer.step(frame.pixels)[1]
        if stored is not None:
            view["flow"] = dequantise(stored, preparation.flow.bound)
            yield dict(view)
        view["rgb"] = frame.pixels
    yield view


def _drawn_frames(views: Iterable[dict[Stream, np.ndarray]], explanation: Explanation) -> Iterator[np.ndarray]:
    """The overlay's frame on the left, and on its right a column of captions and pictures of the same height."""
    streams = list(explanation.maps)
    panel: np.ndarray | None = None
    captions: dict[Stream, np.ndarray] = {}
    for place, view in enumerate(views):
        pixels = enlarged(view["rgb"], ENLARGED)
        height, width = pixels.shape[:2]
        layout = Layout(width, height)
        unit = max(SMALLEST_UNIT, min(layout.unit, width // (15 * len(streams))))
        rows = [len(rows) - 2 * unit for rows in np.array_split(np.arange(height), len(streams))]
        column = round(width * rows[-1] / height)
        if panel is None:
            panel = draw_panel(explanation.prediction, layout)
            captions = {stream: draw_caption(explanation, stream, column, unit) for stream in streams}
        parts = []
        for stream, row in zip(streams, rows, strict=True):
            parts += [captions[stream], stream_picture(explanation, stream, view[stream], place, (row, column))]
        blend(pixels, panel, layout.unit, height - layout.unit - len(panel))
        yield np.concatenate([pixels, np.concatenate(parts)], axis=1)


def stream_picture(
    explanation: Explanation, stream: Stream, read: np.ndarray, place: int, size: tuple[int, int]
) -> np.ndarray:
    """A frame or flow field that a stream read, lit where the stream found the answer.

    Args:
        explanation: explanation of the clip.
        stream: the stream.
        read: a frame (H, W, 3) uint8, or a flow field (2, h, w) float32 in pixels per frame step.
        place: its index in the clip.
        size: height and width of the picture.

    Returns:
        (*size, 3) uint8 RGB.
    """
    height, width = size
    if stream == "flow":
        read = read.transpose(1, 2, 0)
    shrinks = height < read.shape[0]
    picture = cv2.resize(read, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if stream == "flow":
        full_scale = explanation.full_scale or 1.0  # the least that `usual_speed` gives
        picture = flow_picture(picture.transpose(2, 0, 1), full_scale)
    return spotlight(picture, explanation.maps[stream].on_frame(place, height, width), MARKS[stream])


def draw_caption(explanation: Explanation, stream: Stream, width: int, unit: int) -> np.ndarray:
    """The caption with a stream's own answer: (2 * unit, width, 3) uint8 RGB, filled if it is the final answer.

    Args:
        explanation: explanation of the clip.
        stream: the stream.
        width: width of the caption, pixels.
        unit: font size, pixels.
    """
    decision = explanation.prediction.decision
    voice, gap, agrees = decision.voices[stream], unit // 2, decision.voices[stream].label == decision.answer
    ground, name_ink, ink = (MARKS[stream], GROUND, GROUND) if agrees else (GROUND, MARKS[stream], BRIGHT)
    image = Image.new("RGB", (width, 2 * unit), ground[:3])
    draw = ImageDraw.Draw(image)
    left = gap + font(unit, bold=True).getlength(stream) + gap
    score = percent(voice.score)
    room = width - left - font(unit).getlength(f" {score}") - gap
    draw.text((gap, unit), stream, name_ink[:3], font(unit, bold=True), "lm")
    draw.text((left, unit), f"{shortened(voice.label, room, unit)} {score}", ink[:3], font(unit), "lm")
    return np.asarray(image)
