"""What a frame and a flow field cost in a store, by codec: size, time to read, error. The tables of docs/data.md.

    python benchmarks/codecs.py VIDEOS          (UCF101 as class folders, or any other)

Eight clips of up to 48 frames at 256 pixels, one thread, DIS flow at bound 20, u above v in one gray picture. The error
of flow is in pixels per frame step, against the unrounded field of full size; that of frames in levels of 255.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

from rgbflow.clip import to_working_size
from rgbflow.data.layouts import read_class_folders
from rgbflow.flow import dequantise, make_estimator, quantise, to_picture
from rgbflow.stream import FlowSettings, Preparation
from rgbflow.video import jpeg
from rgbflow.video.reading import decode

NUM_CLIPS, NUM_FRAMES, SHORT_SIDE, BOUND, REDUCTION = 8, 48, 256, 20.0, 4
Codec = Callable[[list[np.ndarray], Path], "Coded"]


@dataclass(frozen=True)
class Coded:
    """A coded clip: its size, the milliseconds to write and to read a picture, and the pictures it gives back."""

    size: int
    write: float
    read: float
    pictures: list[np.ndarray]


def stills(encode: Callable[[np.ndarray], bytes], decode: Callable[[bytes], np.ndarray]) -> Codec:
    """Each picture alone."""

    def code(pictures: list[np.ndarray], _: Path) -> Coded:
        began = time.perf_counter()
        coded = [encode(picture) for picture in pictures]
        written = time.perf_counter()
        back = [decode(data) for data in coded]
        per_picture = 1000 / len(pictures)
        write, read = (written - began) * per_picture, (time.perf_counter() - written) * per_picture
        return Coded(sum(map(len, coded)), write, read, back)

    return code


def video(codec: str, stored: str, options: dict[str, str], gop: int = 1, ending: str = ".mkv") -> Codec:
    """A video, read at random: from the key frame before a picture to the picture."""

    def code(pictures: list[np.ndarray], path: Path) -> Coded:
        path = path.with_suffix(ending)
        given = "gray" if pictures[0].ndim == 2 else "rgb24"
        began = time.perf_counter()
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = stored
            stream.codec_context.thread_count, stream.codec_context.gop_size = 1, gop
            stream.codec_context.color_range = 2
            for picture in pictures:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, given)))
            container.mux(stream.encode(None))
        written = time.perf_counter()
        back, read = _read_at_random(path, len(pictures), given)
        return Coded(path.stat().st_size, (written - began) * 1000 / len(pictures), read, back)

    return code


def _read_at_random(path: Path, count: int, given: str) -> tuple[list[np.ndarray], float]:
    back: list = [None] * count
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count, stream.thread_type = 1, "NONE"
        times = sorted(packet.pts for packet in container.demux(stream) if packet.size)
        began = time.perf_counter()
        for index in np.random.default_rng(0).permutation(count):
            container.seek(times[index], stream=stream)
            picture = next(picture for picture in container.decode(stream) if picture.pts == times[index])
            back[index] = picture.to_ndarray(format=given)
        return back, (time.perf_counter() - began) * 1000 / count


def two_jpegs(field: np.ndarray) -> bytes:
    """u and v as JPEG files of quality 95 one after the other, as the published sets hold them."""
    parts = [cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes() for part in np.split(field, 2)]
    return len(parts[0]).to_bytes(4, "little") + b"".join(parts)


def read_two_jpegs(data: bytes) -> np.ndarray:
    middle = 4 + int.from_bytes(data[:4], "little")
    parts = [cv2.imdecode(np.frombuffer(part, np.uint8), 0) for part in (data[4:middle], data[middle:])]
    return np.concatenate(parts)


def usual_jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def read_usual_jpeg(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def ours(quality: int) -> Codec:
    return stills(lambda picture: jpeg.encode(picture, quality), jpeg.decode)


FFV1 = {"level": "3", "slices": "4"}
LOSSLESS = {"qp": "0", "preset": "veryfast"}
FLOW = {  # name: (reduction of the field, codec)
    "full size, two JPEGs of quality 95 (u and v)": (1, stills(two_jpegs, read_two_jpegs)),
    "full size, FFV1": (1, video("ffv1", "gray", FFV1)),
    "full size, x264 crf 12, intra": (1, video("libx264", "gray", {"crf": "12", "preset": "veryfast"})),
    "full size, x264 crf 12, 12 frames a group": (1, video("libx264", "gray", {"crf": "12", "bf": "0"}, gop=12)),
    "full size, x265 crf 12, 12 frames a group": (
        1,
        video("libx265", "gray", {"crf": "12", "preset": "fast", "x265-params": "log-level=none:bframes=0"}, gop=12),
    ),
    "a quarter, FFV1": (REDUCTION, video("ffv1", "gray", {**FFV1, "slices": "1"})),
    "a quarter, JPEG of quality 95": (REDUCTION, ours(95)),
    "**a quarter, JPEG of quality 96**": (REDUCTION, ours(96)),
    "a quarter, JPEG of quality 98": (REDUCTION, ours(98)),
}
FRAMES = {
    "FFV1": video("ffv1", "bgr0", FFV1),
    "x264rgb lossless, intra": video("libx264rgb", "rgb24", LOSSLESS),
    "x264rgb crf 12, 12 frames a group": video("libx264rgb", "rgb24", {"crf": "12", "bf": "0"}, gop=12),
    "Ut Video, median": video("utvideo", "gbrp", {"pred": "median"}, ending=".avi"),
    "JPEG of quality 95, half chroma": stills(usual_jpeg, read_usual_jpeg),
    "**JPEG of quality 96, full chroma**": ours(96),
}


def measure_flow(fields: list[np.ndarray], reduced: list[np.ndarray], path: Path) -> dict[str, tuple[float, ...]]:
    """Bytes, ms to write, ms to read, mean and root mean square error in pixels, by name."""
    measured = {}
    for name, (reduction, codec) in FLOW.items():
        coded = codec([to_picture(quantise(field, BOUND)) for field in (fields if reduction == 1 else reduced)], path)
        errors = []
        for field, picture in zip(fields, coded.pictures, strict=True):
            told = dequantise(picture.reshape(2, -1, picture.shape[-1]), BOUND).transpose(1, 2, 0)
            errors.append(cv2.resize(told, field.shape[:0:-1]).transpose(2, 0, 1) - field)
        mean, square = np.mean([(np.abs(error).mean(), np.square(error).mean()) for error in errors], axis=0)
        measured[name] = (coded.size / len(fields), coded.write, coded.read, mean, square)
    return measured


def measure_frames(frames: list[np.ndarray], path: Path) -> dict[str, tuple[float, ...]]:
    """Bytes, ms to write, ms to read and mean error in levels, by name."""
    measured = {}
    for name, codec in FRAMES.items():
        coded = codec(frames, path)
        error = np.mean([np.abs(np.int16(a) - b).mean() for a, b in zip(frames, coded.pictures, strict=True)])
        measured[name] = (coded.size / len(frames), coded.write, coded.read, error)
    return measured


def read_clip(path: Path) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Working frames of even width, the unrounded flow between them, and the same as a store reduces it."""
    pairs = zip(range(NUM_FRAMES), decode(path), strict=False)
    frames = [to_working_size(frame.pixels, Preparation(SHORT_SIDE)) for _, frame in pairs]
    frames = [np.ascontiguousarray(frame[:, : frame.shape[1] // 8 * 8]) for frame in frames]  # x264 needs even sides
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    flows = []
    for reduction in (1, REDUCTION):
        estimate = make_estimator(FlowSettings(), reduction)
        flows.append([estimate(one, other) for one, other in pairwise(gray)])
    return frames, *flows


def print_table(rows: list[dict[str, tuple[float, ...]]], head: str) -> None:
    print(head + "\n" + "|".join(["", *["---"] * head.count("|")][:-1]) + "|---|")
    for name in rows[0]:
        size, write, read, *errors = np.mean([row[name] for row in rows], axis=0)
        if len(errors) == 2:
            errors[1] = errors[1] ** 0.5
        shown = " | ".join(f"{error:.3f}" for error in errors)
        print(f"| {name} | {size:.0f} | {write:.2f} | {read:.2f} | {shown} |")


def main(videos: Path) -> None:
    """Measure all codecs on evenly chosen clips and print the tables."""
    cv2.setNumThreads(1)
    sources = read_class_folders(videos)
    flow, frames = [], []
    with tempfile.TemporaryDirectory() as folder:
        for source in sources[:: max(1, len(sources) // NUM_CLIPS)][:NUM_CLIPS]:
            clip, fields, reduced = read_clip(source.path)
            flow.append(measure_flow(fields, reduced, Path(folder) / "flow"))
            frames.append(measure_frames(clip, Path(folder) / "rgb"))
    print_table(flow, "| flow | bytes a field | write ms | read ms | mean error, pixels | root mean square |")
    print_table(frames, "| frames | bytes a frame | write ms | read ms | mean error, levels |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
