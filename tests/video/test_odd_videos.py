"""Videos that are odd but play whole: their rates, times and frames are those that were filmed."""

import subprocess
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from rgbflow.cli import main
from rgbflow.data.doctor import check_videos
from rgbflow.data.layouts import SourceClip
from rgbflow.data.store import prepare_clip
from rgbflow.overlay import write_overlay
from rgbflow.prediction import Prediction
from rgbflow.stream import Preparation
from rgbflow.video.reading import VideoError, count_frames, decode, probe, resample

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "ultrafast")
VP8 = ("-c:v", "libvpx", "-deadline", "realtime")
MPEG4, MPEG2 = ("-c:v", "mpeg4"), ("-c:v", "mpeg2video")
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p", "-preset", "ultrafast")


def film(path, *options, frames=50, rate=25):
    """A film of so many frames, of which no two are alike."""
    source = f"testsrc2=size=64x48:rate={rate}:duration={frames / rate}"
    return ffmpeg(path, "-f", "lavfi", "-i", source, *options)


def ffmpeg(path, *arguments):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-nostdin", "-y", *map(str, arguments), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def stamped(path, source, pts):
    """A copy whose frame N has the time `pts`, of which PTS is the right one."""
    return ffmpeg(path, "-i", source, "-c", "copy", "-bsf:v", f"setts=pts='{pts}':dts=DTS")


def joined(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def seconds_of(path):
    return np.array([frame.pts_seconds for frame in decode(path)])


def pixels_of(path):
    return np.stack([frame.pixels for frame in decode(path)])


def notes_of(path):
    diagnosis = check_videos(path)
    assert diagnosis.ok, diagnosis.findings
    return [finding.message for finding in diagnosis.findings]


# The rate


@pytest.fixture
def browser_video(tmp_path):
    """A WebM as a browser records it: no duration, no rate in the header, times in milliseconds; 24 of 30 frames."""
    every = ("-vf", "select='not(eq(mod(n,5),4))'", "-fps_mode", "vfr")
    path = film(tmp_path / "browser.webm", *every, *VP8, "-f", "webm", "-live", "1", frames=75, rate=30)
    content = path.read_bytes()
    duration = content.index(b"\x23\xe3\x83\x84")  # DefaultDuration, four bytes; Void takes its place
    path.write_bytes(content[:duration] + b"\xec\x86" + bytes(6) + content[duration + 8 :])
    return path


def test_a_rate_that_no_header_tells_comes_from_the_times_everywhere(browser_video, tmp_path):
    assert probe(browser_video).header_frames is None
    assert probe(browser_video).frames_per_second == pytest.approx(24, rel=0.02)
    clip = SourceClip("a/browser", "a", "g", browser_video)
    row = prepare_clip(clip, tmp_path / "store", Preparation(48))
    assert (row.status, row.frames) == ("ok", 60)
    assert row.frames_per_second == pytest.approx(24, rel=0.02)
    prediction = Prediction(("a", "b"), np.float32([0.4, 0.6]), {}, 0.0, 2.5, {})
    write_overlay(browser_video, [prediction], tmp_path / "overlay.mp4")
    assert probe(tmp_path / "overlay.mp4").duration_seconds == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
@pytest.mark.parametrize(("kept", "rate"), [("lt(mod(n,7),3)", 90 / 7), ("if(lt(n,60),1,not(mod(n,3)))", 20)])
def test_a_variable_rate_is_the_mean(tmp_path, name, kept, rate):
    path = film(tmp_path / name, "-vf", f"select='{kept}'", "-fps_mode", "vfr", *H264, frames=120, rate=30)
    assert probe(path).frames_per_second == pytest.approx(rate, rel=0.03)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", H264), ("a.mkv", H264), ("a.webm", VP8), ("a.avi", MPEG4)])
@pytest.mark.parametrize("rate", ["25", "30000/1001", "50"])
def test_an_even_rate_is_exact(tmp_path, name, codec, rate):
    above, _, below = rate.partition("/")
    path = ffmpeg(tmp_path / name, "-f", "lavfi", "-i", f"testsrc2=size=64x48:rate={rate}:duration=1", *codec)
    assert probe(path).frames_per_second == pytest.approx(int(above) / int(below or 1), abs=1e-9)


# Wrong times


@pytest.fixture
def even(tmp_path):
    """Fifty frames, 25 a second, stored in the order in which they are shown."""
    return film(tmp_path / "even.mp4", *H264, "-bf", 0)


WRONG = {
    "300 s late": "if(eq(N,20),PTS+300/TB,PTS)",
    "three frames late": "if(eq(N,20),PTS+0.12/TB,PTS)",
    "two in a row": "if(between(N,20,21),PTS+300/TB,PTS)",
    "ten in a row": "if(between(N,15,24),PTS+300/TB,PTS)",
    "the last": "if(eq(N,49),PTS+300/TB,PTS)",
    "a million seconds": "if(eq(N,20),PTS+1000000/TB,PTS)",
    "some": "if(eq(mod(N,12),5),PTS+4/TB,PTS)",
}


@pytest.mark.parametrize("pts", WRONG.values(), ids=WRONG)
def test_a_wrong_time_shifts_no_other_and_check_names_it(even, tmp_path, pts):
    path = stamped(tmp_path / "wrong.mkv", even, pts)
    np.testing.assert_allclose(seconds_of(path), np.arange(50) / 25, atol=0.002)
    assert count_frames(path, 12.5) == 25
    assert probe(path).frames_per_second == pytest.approx(25, rel=0.1)  # the wrong ones leave holes
    notes = notes_of(path)
    assert notes
    assert all("says" in note or "more of its times" in note for note in notes)


def test_a_jump_of_the_clock_is_closed_and_named(even, tmp_path):
    path = stamped(tmp_path / "jump.mkv", even, "if(gte(N,20),PTS+1000000/TB,PTS)")
    np.testing.assert_allclose(seconds_of(path), np.arange(50) / 25, atol=0.002)
    assert any("clock jumps" in note and "after frame 20" in note for note in notes_of(path))


def test_a_gap_stays_is_named_and_resampling_does_not_fill_it(even, tmp_path):
    path = stamped(tmp_path / "gap.mkv", even, "if(gte(N,20),PTS+60/TB,PTS)")
    seconds = seconds_of(path)
    assert seconds[20] - seconds[19] == pytest.approx(60.04, abs=0.002)
    assert notes_of(path) == ["has a gap of 60.04 s after 0.76 s"]
    assert probe(path).frames_per_second == pytest.approx(25)
    assert count_frames(path, 12.5) == 25


@pytest.mark.parametrize("gap", [11.0, 3600.0, 1e6, 1e9])
@pytest.mark.parametrize("rate", [1.0, 12.5, 25.0, 60.0])
def test_resampling_fills_no_gap_and_stays_on_its_steps(gap, rate):
    times = [*np.arange(50) / 25, *(gap + np.arange(50, 100) / 25)]
    shown = list(resample(((number, time) for number, time in enumerate(times)), rate))
    assert len(shown) == pytest.approx(4 * rate, abs=2)
    seconds = np.array([time for _, time in shown])
    assert (np.diff(seconds) > 0).all()
    assert max(number for number, time in shown if time < gap) == pytest.approx(49, abs=25 / rate)
    np.testing.assert_allclose(seconds * rate, np.round(seconds * rate), atol=1e-3)


def test_a_slide_show_is_filled():
    shown = list(resample(((number, 20.0 * number) for number in range(4)), 1.0))
    assert [number for number, _ in shown[-40:]] == [2] * 20 + [3] * 20


# What plays whole


@pytest.mark.parametrize("codec", [H264, MPEG2, HEVC], ids=["h264", "mpeg2", "hevc"])
def test_joined_transport_streams_play_whole(tmp_path, codec):
    """With the same clock, a later and an earlier one."""
    one = film(tmp_path / "one.ts", *codec)
    other = film(tmp_path / "other.ts", "-vf", "hue=h=90", *codec, "-output_ts_offset", "40")
    ones, others = pixels_of(one), pixels_of(other)
    for parts in ((one, one), (one, other), (other, one), (one, one, other)):
        path = joined(tmp_path / "joined.ts", *parts)
        expected = np.concatenate([ones if part == one else others for part in parts])
        np.testing.assert_array_equal(pixels_of(path), expected)
        np.testing.assert_allclose(np.diff(seconds_of(path)), 1 / 25, atol=1e-6)
        notes = notes_of(path)
        assert any("several recordings in one file" in note for note in notes)
        assert any("clock jumps" in note and "after frame 50" in note for note in notes)


@pytest.mark.parametrize("codec", [MPEG4, ("-c:v", "mjpeg"), H264], ids=["mpeg4", "mjpeg", "h264"])
@pytest.mark.parametrize("more", [2, 8, 1_000_000])
def test_an_avi_that_promises_too_much_but_has_it_all_plays(tmp_path, codec, more):
    path = film(tmp_path / "a.avi", *codec)
    whole, content = pixels_of(path), bytearray(path.read_bytes())
    size = int.from_bytes(content[4:8], "little")
    content[4:8] = (size + more).to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_array_equal(pixels_of(path), whole)
    (note,) = notes_of(path)
    assert note.startswith(f"its header promises {more:,} bytes more than it has, but all its parts are there")
    for lost in (1, 8, 40, len(content) // 2):  # the index, and more
        path.write_bytes(content[:-lost])
        with pytest.raises(VideoError, match=r"breaks (after|before)"):
            list(decode(path))


def animated(path, durations, mode="RGB", **options):
    """An animated WebP of pictures of one colour each; the colours."""
    colours = [(12 * number, 255 - 12 * number, 90) for number in range(len(durations))]
    first, *rest = (Image.new("RGB", (64, 48), colour).convert(mode) for colour in colours)
    first.save(path, save_all=True, append_images=rest, duration=durations, **options)
    return colours


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_animated_webp_is_a_video(tmp_path, mode):
    path, durations = tmp_path / "a.webp", [40, 80, 60] * 6
    colours = animated(path, durations, mode, lossless=True)
    pixels = pixels_of(path)
    np.testing.assert_array_equal(pixels, np.broadcast_to(np.uint8(colours)[:, None, None], pixels.shape))
    assert seconds_of(path) == pytest.approx(np.cumsum([0, *durations[:-1]]) / 1000)
    info = probe(path)
    assert (info.width, info.height, info.codec, info.header_frames) == (64, 48, "webp", 18)
    assert info.frames_per_second == pytest.approx(1 / 0.06, rel=0.03)
    assert info.duration_seconds == pytest.approx(1.08)
    assert count_frames(path) == 18
    assert [note.split(": ")[1] for note in notes_of(path)] == ["a variable frame rate"]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError, match="breaks before its first frame: its end is missing"):
        list(decode(path))


def test_a_webp_without_durations_is_shown_as_browsers_do_and_a_still_one_is_one_frame(tmp_path):
    animated(tmp_path / "a.webp", [0] * 12)
    assert seconds_of(tmp_path / "a.webp") == pytest.approx(np.arange(12) / 10)
    Image.new("RGB", (64, 48)).save(tmp_path / "still.webp")
    assert count_frames(tmp_path / "still.webp") == 1


def test_joined_ogg_plays_whole_though_its_headers_come_again(tmp_path):
    one = film(tmp_path / "one.ogv", "-vf", "noise=alls=20:allf=t", "-c:v", "libtheora").read_bytes()
    (tmp_path / "two.ogv").write_bytes(one + one)
    assert count_frames(tmp_path / "two.ogv") == 100
    assert seconds_of(tmp_path / "two.ogv") == pytest.approx(np.arange(100) / 25, abs=1e-3)


def test_an_empty_packet_lets_the_picture_before_it_stay(tmp_path):
    """As Theora has it where nothing moves; the frames are those that the ffmpeg program gives."""
    path = film(tmp_path / "still.ogv", "-c:v", "libtheora")
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0) if packet.pts is not None]
    assert sizes.count(0) > 5
    raw = ffmpeg(tmp_path / "raw.rgb", "-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24")
    expected = np.fromfile(raw, np.uint8).reshape(-1, 48, 64, 3)
    np.testing.assert_array_equal(pixels_of(path), expected)
    assert len(expected) == len(sizes) - sizes.count(0)


@pytest.mark.parametrize("ending", ["mp4", "mov", "flv"])
def test_a_second_recording_that_no_program_plays_is_named(tmp_path, ending):
    one = film(tmp_path / f"one.{ending}", *H264)
    two = tmp_path / f"two.{ending}"
    for content, count in ((one.read_bytes(), 0), (one.read_bytes() * 2, 1)):
        two.write_bytes(content)
        told = [found.message for found in check_videos(two).findings if found.kind == "note"]
        assert sum("of which only the first is played" in line for line in told) == count
        assert count_frames(two) == 50


def test_the_command_accepts_what_plays_whole(tmp_path, capsys):
    one = film(tmp_path / "one.ts", *H264)
    path = joined(tmp_path / "joined.ts", one, one)
    assert main(["check", str(path)]) == 0
    assert "several recordings" in "".join(capsys.readouterr())


@pytest.mark.parametrize("codec", [H264, VP8], ids=["h264", "vp8"])
def test_frames_that_ffmpeg_made_are_whole_in_every_form_of_matroska(tmp_path, codec):
    forms = {
        "plain": (),
        "front": ("-cues_to_front", 1),
        "reserved": ("-reserve_index_space", 20000),
        "live": ("-live", 1),
        "small": ("-cluster_size_limit", 1000),
        "titled": ("-metadata", "title=a", "-metadata:s:v", "language=deu"),
        "plain_groups": ("-bf", 2, "-write_crc32", 0),
    }
    for name, options in forms.items():
        path = film(tmp_path / f"{name}.mkv", *codec, *options)
        assert count_frames(path) == 50
        assert Path(path).stat().st_size > 1000
