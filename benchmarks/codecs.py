"""What a frame costs in the store, by codec: size, time to write and to read, error. Prints the table of docs/data.md.

    python benchmarks/codecs.py VIDEOS          (UCF101 as class folders, or any other)

Five clips of up to 60 frames at 340×256, one thread, DIS flow at bound 20, u above v in one gray picture.
"""

import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import numpy as np

from rgbflow.clip import Preparer
from rgbflow.data.layouts import read_class_folders
from rgbflow.stream import Preparation
from rgbflow.video import decode

NUM_CLIPS, NUM_FRAMES, SIZE = 5, 60, (340, 256)
# name: (codec, pixel format of the file, of the frames, options)
CODECS = {
    "flow, FFV1": ("ffv1", "gray", "gray", {"level": "3", "slices": "4"}),
    "flow, x264 lossless, intra": ("libx264", "gray", "gray", {"qp": "0", "preset": "veryfast"}),
    "flow, x264 crf 12, intra": ("libx264", "gray", "gray", {"crf": "12", "preset": "veryfast"}),
    "rgb, FFV1": ("ffv1", "bgr0", "rgb24", {"level": "3", "slices": "4"}),
    "rgb, x264rgb lossless, intra": ("libx264rgb", "rgb24", "rgb24", {"qp": "0", "preset": "ultrafast"}),
}


def measure_codec(frames: list[np.ndarray], codec: str, stored: str, given: str, options: dict) -> tuple[float, ...]:
    """KiB, milliseconds to write, to read, and the mean error in levels of 255, of one frame."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mkv"
        began = time.perf_counter()
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = stored
            stream.codec_context.thread_count, stream.codec_context.gop_size = 1, 1
            stream.codec_context.color_range = 2
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, given)))
            container.mux(stream.encode(None))
        written = time.perf_counter()
        with av.open(str(path)) as container:
            container.streams.video[0].codec_context.thread_count = 1
            back = [picture.to_ndarray(format=given) for picture in container.decode(video=0)]
        read = time.perf_counter()
        error = np.mean([np.abs(one.astype(int) - other).mean() for one, other in zip(frames, back, strict=True)])
        per_frame = 1000 / len(frames)
        return (
            path.stat().st_size / 1024 / len(frames),
            (written - began) * per_frame,
            (read - written) * per_frame,
            error,
        )


def measure_jpeg(frames: list[np.ndarray]) -> tuple[float, ...]:
    """The same for one JPEG of quality 95 per picture, halves of a flow picture apart."""
    parts = [part for frame in frames for part in (np.split(frame, 2) if frame.ndim == 2 else [frame[..., ::-1]])]
    began = time.perf_counter()
    files = [cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for part in parts]
    written = time.perf_counter()
    back = [cv2.imdecode(file, cv2.IMREAD_UNCHANGED) for file in files]
    read = time.perf_counter()
    error = np.mean([np.abs(one.astype(int) - other).mean() for one, other in zip(parts, back, strict=True)])
    per_frame = 1000 / len(frames)
    size = sum(map(len, files)) / 1024 / len(frames)
    return size, (written - began) * per_frame, (read - written) * per_frame, error


def prepared(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The frames of a clip at the working size and its flow pictures."""
    preparer, rgb, flow = Preparer(Preparation()), [], []
    for _, decoded in zip(range(NUM_FRAMES), decode(path), strict=False):
        frame, field = preparer.step(cv2.resize(decoded.pixels, SIZE))
        rgb.append(frame)
        if field is not None:
            flow.append(field.reshape(-1, field.shape[-1]))
    return rgb, flow


def main(videos: Path) -> None:
    """Measure all codecs on evenly chosen clips and print the table."""
    cv2.setNumThreads(1)
    sources = read_class_folders(videos)
    chosen = sources[:: max(1, len(sources) // NUM_CLIPS)][:NUM_CLIPS]
    rows: dict[str, list] = {}
    for source in chosen:
        rgb, flow = prepared(source.path)
        for name, settings in CODECS.items():
            rows.setdefault(name, []).append(measure_codec(flow if name.startswith("flow") else rgb, *settings))
        rows.setdefault("flow, two JPEGs of quality 95 (u and v)", []).append(measure_jpeg(flow))
        rows.setdefault("rgb, JPEG of quality 95", []).append(measure_jpeg(rgb))
    print("| what | KiB a frame | encode ms | decode ms | error |\n|---|---|---|---|---|")
    for name in sorted(rows):
        size, encode, read, error = np.mean(rows[name], axis=0)
        print(f"| {name} | {size:.1f} | {encode:.1f} | {read:.1f} | {error:.2f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
