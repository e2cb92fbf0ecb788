"""Videos with a hole in the middle are named: no frame is lost without a word."""

import re
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from rgbflow.cli import main
from rgbflow.video.integrity import damaged_place
from rgbflow.video.reading import VideoError, count_frames, decode

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "ultrafast")
CODECS = {
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8),
    "clusters.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-cluster_size_limit", 3000),
    "live.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-live", 1),
    "h264.mkv": (*H264, "-bf", 2),
}


def film(path, *options, frames=48):
    source = f"testsrc2=size=128x96:rate=24:duration={frames / 24}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-nostdin", "-y", "-f", "lavfi", "-i", source]
    subprocess.run([*command, *map(str, options), str(path)], check=True, capture_output=True)
    return path


def until_break(path):
    frames = []
    with pytest.raises(VideoError, match=re.escape(f"video ({path}) breaks ")):
        frames.extend(frame.pixels for frame in decode(path))
    return frames


def of_unknown_sizes(content):
    """A WebM whose clusters do not tell their sizes, as browsers write it."""
    unknown = b"\x1f\x43\xb6\x75\x01" + 7 * b"\xff"
    return re.sub(rb"\x1f\x43\xb6\x75\x01.{7}", lambda found: unknown, content, flags=re.DOTALL)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("unknown", [False, True], ids=["sizes", "no sizes"])
def test_bytes_put_into_a_matroska_file_are_seen(tmp_path, name, unknown):
    """Random ones, zeros, and a copy of what stands there, at any place."""
    path, rng = film(tmp_path / name, *CODECS[name]), np.random.default_rng(0)
    content = path.read_bytes()
    if unknown:
        content = of_unknown_sizes(content)
        path.write_bytes(content)
    whole = [frame.pixels for frame in decode(path)]
    assert (len(whole), damaged_place(path)) == (48, None)
    for place in rng.integers(len(content) // 5, len(content) * 4 // 5, 6).tolist():
        for inserted in (rng.bytes(100), bytes(100), content[place : place + 100], rng.bytes(1)):
            path.write_bytes(content[:place] + inserted + content[place:])
            frames = until_break(path)
            assert len(frames) < 48
            assert all(np.array_equal(*pair) for pair in zip(frames, whole, strict=False))


@pytest.mark.parametrize("name", ["vp8.webm", "live.webm", "h264.mkv"])
def test_bytes_taken_from_a_matroska_file_are_seen(tmp_path, name):
    path, rng = film(tmp_path / name, *CODECS[name]), np.random.default_rng(0)
    content = path.read_bytes()
    for place in rng.integers(len(content) // 5, len(content) * 4 // 5, 6).tolist():
        for count in (1, 100):
            path.write_bytes(content[:place] + content[place + count :])
            assert len(until_break(path)) < 48


def test_check_names_it_and_prepare_sets_it_aside(tmp_path, capsys):
    for number, label in enumerate("aabb"):
        (tmp_path / "videos" / label).mkdir(parents=True, exist_ok=True)
        film(tmp_path / "videos" / label / f"{number}.webm", *CODECS["vp8.webm"])
    path = tmp_path / "videos" / "a" / "0.webm"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + np.random.default_rng(0).bytes(100) + content[middle:])
    assert main(["check", str(path)]) == 3
    assert "missing, too much or changed" in "".join(capsys.readouterr())
    store = tmp_path / "store"
    assert main(["prepare", str(tmp_path / "videos"), "--out", str(store), "--short-side", "48", "--bound", "8"]) == 3


@pytest.mark.parametrize("codec", [H264, ("-c:v", "mpeg2video")], ids=["h264", "mpeg2"])
@pytest.mark.parametrize("lost", [0, 3, 20])
def test_a_transport_stream_that_lost_packets_is_no_joined_one(tmp_path, codec, lost):
    """Packets are lost in the middle, or it breaks off there and begins anew: what plays to the end has only whole
    frames, and all of them, unless it breaks off between two."""
    path, packet, broken = film(tmp_path / "a.ts", *codec), 188, 0
    content, whole = path.read_bytes(), [frame.pixels for frame in decode(path)]
    packets = len(content) // packet
    for middle in range(packets // 5, packets * 4 // 5, packets // 12):
        rest = content[(middle + lost) * packet :] if lost else content
        path.write_bytes(content[: middle * packet] + rest)
        try:
            frames = [frame.pixels for frame in decode(path)]
        except VideoError as error:
            broken += "breaks" in str(error)
            continue
        first = len(frames) - 48
        expected = whole[:first] + whole
        assert all(np.array_equal(*pair) for pair in zip(frames, expected, strict=True))
        assert first == 0 or not lost
    assert broken >= 3


def test_zeros_after_the_end_are_no_damage(tmp_path):
    path = film(tmp_path / "live.webm", *CODECS["live.webm"])
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert count_frames(path) == 48
