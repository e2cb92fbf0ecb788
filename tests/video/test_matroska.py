"""FFmpeg's demuxer is the truth that the reader is held against."""

import av
import numpy as np
import pytest

from rgbflow.video import jpeg
from rgbflow.video.intra import IntraWriter
from rgbflow.video.matroska import Matroska


def write(path, frames, jpeg_quality, metadata=None):
    with IntraWriter(path, 25, metadata or {"a": "b"}, jpeg_quality) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("jpeg_quality", [96, None])
@pytest.mark.parametrize("shape", [(128, 85), (48, 64, 3), (300, 400, 3)])
@pytest.mark.parametrize("num_frames", [1, 130])  # more than fits into one cluster of small frames
def test_frames_and_tags_are_those_that_ffmpeg_finds(tmp_path, shape, num_frames, jpeg_quality):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (num_frames, *shape), dtype=np.uint8)
    path = write(tmp_path / "a.mkv", frames, jpeg_quality, {"Größe": "x" * 2000})
    with av.open(str(path)) as container, path.open("rb") as file:
        ours, stream = Matroska(file), container.streams.video[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        assert ours.num_frames == num_frames == len(packets)
        for index in [*rng.permutation(num_frames).tolist(), 0, 0]:
            assert ours.frame(index) == packets[index]
        assert (ours.width, ours.height) == (stream.width, stream.height)
        assert ours.codec_private == (stream.codec_context.extradata or b"")
        assert ours.codec == {"mjpeg": "V_MJPEG", "ffv1": "V_FFV1"}[stream.codec_context.name]
        assert ours.tags["RGBFLOW"] == container.metadata["RGBFLOW"]


def test_a_changed_bit_never_gives_another_frame(tmp_path, moving_square):
    """Whatever byte of the file's structure changes: the frame asked for comes, or ValueError."""
    frames = moving_square(2, 1, frames=6, size=(24, 16))
    path = write(tmp_path / "a.mkv", frames, 90)
    coded = [jpeg.encode(frame, 90) for frame in frames]
    whole = path.read_bytes()
    inside = {place for data in coded for place in range(whole.index(data), whole.index(data) + len(data))}
    rng = np.random.default_rng(0)
    refused = 0
    for place in sorted(set(range(len(whole))) - inside):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        with path.open("rb") as file:
            try:
                ours = Matroska(file)
                got = [ours.frame(index) for index in range(6)]
                assert ours.num_frames == 6
                pixels = [jpeg.decode(data) for data in got]
            except ValueError:
                refused += 1
            else:
                assert got == coded
                assert len(pixels) == 6
    assert refused > 150  # the index alone has more bytes


def test_a_file_cut_off_anywhere_is_refused(tmp_path, moving_square):
    path = write(tmp_path / "a.mkv", moving_square(2, 1, frames=6, size=(24, 16)), 90)
    whole = path.read_bytes()
    for size in [*range(1, 800, 7), *range(800, len(whole), 101), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with path.open("rb") as file, pytest.raises(ValueError, match=r"lacks its last|made by rgbflow"):
            Matroska(file)
