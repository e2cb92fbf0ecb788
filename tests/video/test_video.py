"""Reading and writing are compared with the ffmpeg program (an independent build) and with OpenCV."""

import os
import re
import subprocess
import tracemalloc
from pathlib import Path

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from rgbflow import video
from rgbflow.errors import InputError
from rgbflow.video import jpeg
from rgbflow.video.intra import IntraReader, IntraWriter
from rgbflow.video.reading import VideoError, count_frames, decode, probe
from rgbflow.video.writing import write_video

DATA = Path(os.environ.get("RGBFLOW_DATA", Path(__file__).parents[3] / "shared" / "data"))
SOURCE = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=0.48"]  # 12 frames
LARGE = "testsrc=size=256x192:rate=25:duration=1"  # 25 frames


def ffmpeg(*arguments: object) -> subprocess.CompletedProcess:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True)


def make(path: Path, *arguments: object, source: list = SOURCE) -> Path:
    ffmpeg(*source, *arguments, path)
    return path


def ffmpeg_frames(path: Path, shape: tuple[int, ...], pixel_format: str = "rgb24") -> tuple[np.ndarray, list[float]]:
    """Frames and times by the ffmpeg program."""
    filters = ["-map", "0:V:0", "-fps_mode", "passthrough", "-vf", "showinfo"]
    done = ffmpeg("-i", path, *filters, "-f", "rawvideo", "-pix_fmt", pixel_format, "-")
    seconds = [float(found) for found in re.findall(rb"pts_time:([-\d.]+)", done.stderr)]
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape), seconds


def opencv_frames(path: Path) -> np.ndarray:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    capture.release()
    return np.stack(frames)


def pixels(path: Path) -> np.ndarray:
    return np.stack([frame.pixels for frame in decode(path)])


def until_break(path: Path) -> tuple[list[np.ndarray], str]:
    """The frames before a video breaks, and the message."""
    frames, decoded = [], decode(path)
    with pytest.raises(VideoError, match=re.escape(f"video ({path}) ")) as caught:
        frames.extend(frame.pixels for frame in decoded)
    assert "\n" not in str(caught.value)
    return frames, str(caught.value)


def is_start_of(frames: list[np.ndarray], whole: np.ndarray) -> bool:
    return all(np.array_equal(*pair) for pair in zip(frames, whole, strict=False))


H264 = ("-c:v", "libx264", "-pix_fmt")
FORMATS = {
    "h264.mp4": (*H264, "yuv420p"),
    "h264.mkv": (*H264, "yuv420p", "-bf", 3),
    "h264.ts": (*H264, "yuv420p"),
    "h264.flv": (*H264, "yuv420p"),
    "h264.264": (*H264, "yuv420p"),
    "h264_422.mp4": (*H264, "yuv422p"),
    "h264_444.mov": (*H264, "yuv444p"),
    "10bit.mp4": (*H264, "yuv420p10le"),
    "10bit_left_chroma.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv420p10le", "-chroma_sample_location", "left"),
    "gray.mp4": (*H264, "gray"),
    "gray16.mkv": ("-c:v", "ffv1", "-pix_fmt", "gray16le"),
    "full_range.mp4": (*H264, "yuvj420p"),
    "bt709.mp4": (
        *H264,
        "yuv420p",
        "-colorspace",
        "bt709",
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
    ),
    "rgb.mp4": (
        "-c:v",
        "libx264rgb",
    ),
    "xvid.avi": ("-c:v", "mpeg4", "-vtag", "XVID", "-bf", 2, "-g", 5),
    "mjpeg.avi": ("-c:v", "mjpeg"),
    "raw.avi": ("-c:v", "rawvideo", "-pix_fmt", "bgr24"),
    "mpeg2.mpg": ("-c:v", "mpeg2video"),
    "interlaced.mpg": ("-c:v", "mpeg2video", "-flags", "+ildct+ilme"),
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime"),
    "theora.ogv": ("-c:v", "libtheora"),
    "wmv.wmv": ("-c:v", "wmv2"),
    "alpha.mov": ("-c:v", "qtrle", "-vf", "colorchannelmixer=aa=0.5", "-pix_fmt", "argb"),
    "alpha10.mov": ("-c:v", "prores_ks", "-profile:v", 4, "-pix_fmt", "yuva444p10le"),
    "alpha.mkv": ("-c:v", "png", "-vf", "colorchannelmixer=aa=0.5", "-pix_fmt", "rgba"),
    "animation.gif": (),
    "odd_width.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv420p", "-vf", "crop=63:48"),
    "odd_height.mkv": ("-c:v", "ffv1", "-pix_fmt", "yuv420p", "-vf", "crop=64:47"),
    "odd.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-vf", "crop=63:47"),
    "one_frame.mp4": (*H264, "yuv420p", "-frames:v", 1),
    "one_frame.png": ("-frames:v", 1),
    "one_pixel.mkv": ("-c:v", "ffv1", "-vf", "crop=1:1", "-pix_fmt", "bgr0"),
    "variable_rate.mp4": (*H264, "yuv420p", "-vf", "select='not(mod(n,3))+lt(n,5)'", "-fps_mode", "vfr"),
    "late_start.mp4": (*H264, "yuv420p", "-output_ts_offset", 5),
    "long_timecode.ts": (*H264, "yuv420p", "-output_ts_offset", 40000),
}


@pytest.mark.parametrize("name", FORMATS)
def test_frames_and_times_equal_those_of_the_ffmpeg_program(tmp_path, name):
    path = make(tmp_path / name, *FORMATS[name])
    frames = list(decode(path))
    info = probe(path)
    expected, seconds = ffmpeg_frames(path, (info.height, info.width, 3))
    if name.endswith(".264"):  # a raw stream has no times; the rate gives them
        seconds = [index / 25 for index in range(12)]
    assert np.array_equal(np.stack([frame.pixels for frame in frames]), expected)
    assert [frame.pts_seconds for frame in frames] == pytest.approx(seconds, abs=1e-4)
    assert count_frames(path) == len(frames) == (1 if "one_frame" in name else 7 if "variable" in name else 12)
    assert all(frame.pixels.flags.c_contiguous and frame.pixels.flags.writeable for frame in frames)


@pytest.mark.parametrize("name", ["h264.mp4", "xvid.avi", "mjpeg.avi", "vp9.webm", "bt709.mp4", "odd_width.mkv"])
def test_frames_equal_those_of_opencv(tmp_path, name):
    path = make(tmp_path / name, *FORMATS[name])
    assert np.array_equal(pixels(path), opencv_frames(path))


@pytest.mark.parametrize("folder", ["weizmann", "ut-interaction", "ucf101-sample"])
def test_real_clips_equal_the_ffmpeg_program_and_opencv(folder):
    clips = sorted((DATA / folder).glob("*/*.avi"))
    if not clips:
        pytest.skip(f"no clips in {DATA / folder}: set RGBFLOW_DATA")
    for clip in clips[:: len(clips) // 4]:
        frames = pixels(clip)
        assert np.array_equal(frames, ffmpeg_frames(clip, frames.shape[1:])[0])
        assert np.array_equal(frames, opencv_frames(clip))


ORIENTATIONS = [
    (*turn, *flips)
    for turn in [(), ("-display_rotation", 90), ("-display_rotation", 180), ("-display_rotation", 270)]
    for flips in [(), ("-display_hflip",), ("-display_vflip",)]
]


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda options: "".join(map(str, options)) or "none")
def test_rotation_and_mirroring_are_applied(tmp_path, orientation):
    stored = make(tmp_path / "stored.mp4", *H264, "yuv444p", "-vf", "crop=63:47")
    path = make(tmp_path / "turned.mp4", "-c", "copy", source=[*orientation, "-i", stored])
    info = probe(path)
    assert (info.width, info.height) == ((47, 63) if 90 in orientation or 270 in orientation else (63, 47))
    assert np.array_equal(pixels(path), ffmpeg_frames(path, (info.height, info.width, 3))[0])


def test_a_quarter_turn_moves_the_corner_where_it_should(tmp_path):
    path = make(tmp_path / "turned.mp4", *H264, "yuv444p", "-vf", "drawbox=0:0:16:16:white:fill")
    turned = make(tmp_path / "left.mp4", "-c", "copy", source=["-display_rotation", 90, "-i", path])
    upright, left = pixels(path)[0], pixels(turned)[0]
    assert np.array_equal(left, np.rot90(upright))  # counter-clockwise: the white corner goes down


@pytest.mark.parametrize("matrix", [0, 3, 8, 10, 11, 14, 16, 200])
def test_a_colour_matrix_that_makes_no_sense_is_ignored(tmp_path, matrix):
    plain = make(tmp_path / "plain.mp4", *H264, "yuv420p")
    setting = f"h264_metadata=matrix_coefficients={matrix}:transfer_characteristics={matrix}"
    strange = make(tmp_path / "strange.mp4", "-c", "copy", "-bsf:v", setting, source=["-i", plain])
    assert np.array_equal(pixels(strange), pixels(plain))


def test_audio_and_cover_pictures_are_passed_over(tmp_path):
    plain = make(tmp_path / "plain.mp4", *H264, "yuv420p")
    cover = make(tmp_path / "cover.png", "-frames:v", 1, "-vf", "scale=32:32")
    sound = ["-f", "lavfi", "-i", "sine=duration=0.5"]
    streams = ["-map", "0", "-map", "1", "-map", "2", "-c:v", "copy", "-disposition:v:0", "attached_pic"]
    mixed = make(tmp_path / "mixed.mp4", *streams, source=[*sound, "-i", cover, "-i", plain])
    assert np.array_equal(pixels(mixed), pixels(plain))
    song = make(tmp_path / "song.mp4", *streams[:4], *streams[6:], source=[*sound, "-i", cover])
    with pytest.raises(VideoError, match=r"song\.mp4\) has no video stream: give"):
        next(decode(song))


def test_a_stream_that_changes_its_size_keeps_that_of_its_first_frame(tmp_path):
    small = make(tmp_path / "small.264", *H264, "yuv420p")
    large = make(tmp_path / "large.264", *H264, "yuv420p", "-vf", "scale=128:96")
    both = tmp_path / "both.264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    scaled = ffmpeg("-i", large, "-vf", "scale=64:48", "-f", "rawvideo", "-pix_fmt", "rgb24", "-").stdout
    expected = np.frombuffer(scaled, np.uint8).reshape(12, 48, 64, 3)
    assert np.array_equal(pixels(both), np.concatenate([pixels(small), expected]))


def test_times_increase_even_where_the_file_says_otherwise(tmp_path):
    path = make(tmp_path / "back.mkv", *H264, "yuv420p", "-bf", 0, "-bsf:v", "setts=pts='if(eq(N,6),40,PTS)':dts=DTS")
    seconds = [frame.pts_seconds for frame in decode(path)]
    assert len(seconds) == 12
    assert np.diff(seconds).min() > 0


@pytest.mark.parametrize(
    "name", ["take:2.mp4", "Übung 日本.mp4", "-i.mp4", "50%03d.mp4", "a'b\"c.mp4", os.fsdecode(b"\xe9.mp4")]
)
def test_any_file_name_is_read_and_written(tmp_path, monkeypatch, moving_square, name):
    monkeypatch.chdir(tmp_path)  # a bare name, without a folder before it
    write_video(name, moving_square(1, 0, frames=3), 25)
    assert os.listdir() == [name]
    assert count_frames(name) == 3


def test_a_title_in_another_encoding_does_no_harm(tmp_path):
    path = make(tmp_path / "title.avi", "-c:v", "mpeg4", "-metadata", "title=abcdef")
    path.write_bytes(path.read_bytes().replace(b"abcdef", b"ab\xe9\xffef"))
    assert count_frames(path) == 12


def test_the_number_of_frames_comes_from_decoding(tmp_path):
    path = make(tmp_path / "wrong.avi", "-c:v", "mpeg4")
    content = bytearray(path.read_bytes())
    length = content.index(b"strh") + 8 + 32  # dwLength of the stream header
    content[length : length + 4] = (999).to_bytes(4, "little")
    path.write_bytes(content)
    assert probe(path).header_frames == 999
    assert count_frames(path) == 12


def test_probe_tells_what_was_written(square_video):
    info = probe(square_video(1, 0, frames=30, size=(100, 60)))
    assert info == video.VideoInfo(100, 60, 25.0, "h264", 1.2, 30)


# Broken files


def test_a_path_that_is_no_video_file(tmp_path):
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 1000)
    (tmp_path / "notes.nfo").write_text("this is not a video\n" * 1000)
    (tmp_path / "empty.avi").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    make(tmp_path / "sound.wav", source=["-f", "lavfi", "-i", "sine=duration=0.2"])
    make(tmp_path / "none.mkv", *H264, "yuv420p", "-vf", "select=0")
    rules = {
        "missing.mp4": "does not exist: check the path",
        "": "is a folder: give a video file",
        "text.mp4": "is not a readable video (Invalid data found when processing input): give",
        "notes.nfo": "has no video stream: give",
        "empty.avi": "is empty (0 bytes): copy",
        "pipe.mp4": "is not a regular file: give",
        "sound.wav": "has no video stream: give",
        "text.mp4/inside.mp4": "cannot be read (Not a directory): check",
        "nu\0ll.mp4": "does not exist: check",
    }
    for name, rule in rules.items():
        for read in (probe, count_frames, lambda path: next(decode(path))):
            with pytest.raises(VideoError, match=re.escape(f"video ({tmp_path / name}) {rule}")):
                read(tmp_path / name)
        with pytest.raises(VideoError, match=re.escape(f"video ({tmp_path / name}) ")) as caught:
            IntraReader(tmp_path / name)
        assert rule in str(caught.value) or "made by rgbflow: prepare the clip again" in str(caught.value)


def test_a_video_without_frames(tmp_path):
    path = make(tmp_path / "none.avi", "-c:v", "mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4].replace(content[4:8], bytes(4), 1))
    with pytest.raises(VideoError, match="has a video stream but no frames: copy or record it again"):
        list(decode(path))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser reads every file")
def test_an_unreadable_file(square_video):
    path = square_video(1, 0)
    path.chmod(0)
    with pytest.raises(VideoError, match="permission denied"):
        probe(path)


def test_an_unfinished_mp4_is_named(square_video):
    path = square_video(1, 0)
    whole = make(path.with_name("end.mp4"), "-c", "copy", source=["-i", path])  # its index comes last
    whole.write_bytes(whole.read_bytes()[:-2000])
    with pytest.raises(VideoError, match=r"has no index \(moov\), so it is cut off or unfinished: copy"):
        probe(whole)


@pytest.mark.parametrize("share", [0.45, 0.6, 0.75, 0.9])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cut.avi", ("-c:v", "mpeg4", "-g", 4)),
        ("cut_mjpeg.avi", ("-c:v", "mjpeg")),
        ("cut.mkv", (*H264, "yuv420p", "-g", 4)),
        ("cut.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime")),
        ("cut.mp4", (*H264, "yuv420p", "-movflags", "+faststart")),
        ("cut_fragments.mp4", (*H264, "yuv420p", "-movflags", "+empty_moov+frag_keyframe")),
        ("cut.mpg", ("-c:v", "mpeg2video", "-g", 4)),
    ],
)
def test_a_cut_file_gives_its_whole_frames_and_then_says_where_it_breaks(tmp_path, name, options, share):
    path = make(tmp_path / name, *options, source=[*SOURCE[:3], LARGE])
    whole, content = pixels(path), path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    frames, message = until_break(path)
    assert len(frames) < len(whole) == 25
    assert is_start_of(frames, whole)
    place = f"breaks after {len(frames)} frames ({(len(frames) - 1) / 25:.2f} s): " if frames else "before its first"
    assert place in message
    with pytest.raises(VideoError, match="breaks"):
        count_frames(path)


@pytest.mark.parametrize("name", ["between.avi", "between.mkv", "between.mp4"])
def test_a_cut_between_two_packets_is_seen_in_files_that_tell_their_length(tmp_path, name):
    codec = ("-c:v", "mpeg4") if name.endswith("avi") else (*H264, "yuv420p", "-bf", 0)
    path = make(tmp_path / name, *codec, "-movflags", "+faststart", "-cluster_time_limit", 1)
    whole, content = pixels(path), path.read_bytes()
    starts = {
        "between.avi": lambda: [found.start() for found in re.finditer(b"00dc", content)][:12],
        "between.mkv": lambda: [found.start() for found in re.finditer(b"\x1f\x43\xb6\x75", content)],  # clusters
        "between.mp4": lambda: content.index(b"mdat") + 4 + np.cumsum([0, *packet_sizes(path)])[:-1],
    }[name]()
    assert len(starts) == 12
    for index in range(1, 12):
        path.write_bytes(content[: starts[index]])
        frames, message = until_break(path)
        assert is_start_of(frames, whole)
        assert index - 1 <= len(frames) <= index  # a decoder may hold one picture back
        assert "its end is missing, " in message


def packet_sizes(path: Path) -> list[int]:
    lines = ffmpeg("-i", path, "-c", "copy", "-f", "framecrc", "-").stdout.decode().splitlines()
    return [int(line.split(",")[4]) for line in lines if not line.startswith("#")]


def test_noise_in_the_middle_breaks_there(tmp_path):
    path = make(tmp_path / "noise.avi", "-c:v", "mpeg4", "-q:v", 2, source=[*SOURCE[:3], LARGE])
    whole, content = pixels(path), bytearray(path.read_bytes())
    middle = (content.index(b"movi") + len(content)) // 2
    content[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(content)
    frames, message = until_break(path)
    assert 5 < len(frames) < 20
    assert is_start_of(frames, whole)
    assert f"after {len(frames)} frames ({(len(frames) - 1) / 25:.2f} s): the decoder reports" in message


# Resources


def test_memory_stays_constant(tmp_path):
    source = ["-f", "lavfi", "-i", "testsrc=size=64x48:rate=25:duration=160"]
    path = make(tmp_path / "long.avi", "-c:v", "mpeg4", source=source)
    page = os.sysconf("SC_PAGE_SIZE")
    used = {}
    tracemalloc.start()
    for count, _ in enumerate(decode(path), start=1):
        if count in (500, 4000):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            used[count] = (tracemalloc.get_traced_memory()[0], resident)
    tracemalloc.stop()
    assert used[4000][0] - used[500][0] < 50_000
    assert used[4000][1] - used[500][1] < 4_000_000  # 3,500 frames take 32 MB


def test_files_are_closed_when_the_reader_stops_early_or_fails(square_video):
    path = square_video(1, 0)
    broken = path.with_name("broken.mp4")
    broken.write_bytes(path.read_bytes()[:3000])

    def open_files() -> list[str]:
        links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
        return [os.readlink(link) for link in links if link.is_symlink() and "square" in os.path.realpath(link)]

    frames = decode(path)
    next(frames)
    assert open_files() == [str(path)]
    frames.close()
    probe(path)
    until_break(broken)
    assert open_files() == []


# Writing


@pytest.mark.parametrize("size", [(160, 120), (161, 121), (162, 119), (33, 17), (2, 2), (1, 1)])
def test_a_written_video_shows_what_was_given(tmp_path, moving_square, size):
    width, height = size
    frames = moving_square(2, 1, frames=6, size=(170, 130))[:, :height, :width]
    path = tmp_path / "out.mp4"
    assert write_video(path, iter(frames), 30000 / 1001, crf=5) == 6
    shown = pixels(path)
    assert shown.shape == (6, height + height % 2, width + width % 2, 3)
    assert np.abs(shown[:, :height, :width].astype(int) - frames).mean() < 6
    assert probe(path).frames_per_second == pytest.approx(30000 / 1001, abs=1e-6)
    assert np.array_equal(shown, opencv_frames(path))
    assert [frame.pts_seconds for frame in decode(path)] == pytest.approx(
        [n * 1001 / 30000 for n in range(6)], abs=1e-4
    )


def test_colours_survive_in_every_decoder(tmp_path):
    colours = np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 120, 40]])
    path = tmp_path / "colours.mp4"
    write_video(path, (np.full((64, 64, 3), colour) for colour in colours), 10)
    assert np.abs(pixels(path).astype(int) - colours[:, None, None]).max() <= 3
    assert np.abs(ffmpeg_frames(path, (64, 64, 3))[0].astype(int) - colours[:, None, None]).max() <= 3
    assert b"yuv420p(tv, smpte170m" in ffmpeg("-i", path, "-f", "null", "-").stderr


def write_lossless(path: Path, frames, frames_per_second: float = 25, metadata: dict[str, str] | None = None) -> Path:
    with IntraWriter(path, frames_per_second, metadata or {}) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.mark.parametrize("shape", [(48, 64, 3), (47, 63, 3), (2, 2, 3), (48, 64), (47, 63), (120, 30), (512, 400)])
@pytest.mark.parametrize("frames_per_second", [25, 30000 / 1001, 6.25, 90000])
def test_lossless_frames_come_back_exactly(tmp_path, shape, frames_per_second):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, *shape), dtype=np.uint8)
    frames[1], frames[2] = 0, 255
    path = write_lossless(tmp_path / "exact.mkv", iter(frames), frames_per_second, {"Größe": '"a"\n', "b": ""})
    with IntraReader(path) as reader:
        assert reader.num_frames == 40
        assert reader.metadata == {"Größe": '"a"\n', "b": ""}
        assert np.array_equal(reader.read(range(40)), frames)
        for length in range(6):
            indices = rng.integers(0, 40, length)
            assert np.array_equal(reader.read(indices), frames[indices])
    assert np.array_equal(pixels(path), frames if len(shape) == 3 else np.repeat(frames[..., None], 3, axis=-1))
    pixel_format = "rgb24" if len(shape) == 3 else "gray"
    assert np.array_equal(ffmpeg_frames(path, shape, pixel_format)[0], frames)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("size", [(160, 120), (161, 119), (400, 300), (2, 2)])
def test_jpeg_frames_come_back_singly_as_any_decoder_shows_them(tmp_path, moving_square, size, gray):
    frames = moving_square(2, 1, frames=9, size=(400, 300))[:, : size[1], : size[0]]
    frames = frames[..., 1] if gray else frames
    path = tmp_path / "close.mkv"
    with IntraWriter(path, 25, {"a": "1"}, jpeg_quality=95) as writer:
        for frame in frames:
            writer.write(frame)
    with IntraReader(path) as reader:
        assert (reader.num_frames, reader.metadata) == (9, {"a": "1"})
        for indices in ([7, 0, 7, 3], range(9)):
            read = reader.read(indices)
            for index, frame in zip(indices, read, strict=True):
                assert np.array_equal(frame, jpeg.decode(jpeg.encode(frames[index], 95)))
    assert np.abs(read.astype(int) - frames).mean() < 1.5
    for shown in (pixels(path), ffmpeg_frames(path, read.shape[1:], "gray" if gray else "rgb24")[0]):
        shown = shown[..., 0] if shown.ndim > read.ndim else shown
        assert np.abs(shown.astype(int) - read).mean() < 1  # another decoder rounds otherwise


def test_a_changed_bit_of_a_jpeg_frame_is_seen(moving_square):
    data = jpeg.encode(moving_square(1, 0, frames=1)[0], 95)
    assert jpeg.decode(data).shape == (120, 160, 3)
    rng = np.random.default_rng(0)
    for place in [*range(14), *rng.integers(14, len(data), 50).tolist()]:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ValueError, match="does not fit its checksum"):
            jpeg.decode(bytes(changed))


def test_resampling_shows_what_is_shown_at_each_step():
    film = [("a", 1.0), ("b", 1.1), ("c", 1.2), ("d", 1.5)]  # d is shown until 1.8
    for rate in (0.5, 2, 7, 10, 24):
        times = [1 + n / rate for n in range(100) if n / rate < 0.8 - 1e-6]
        expected = [next(name for name, since in reversed(film) if since <= time + 1e-6) for time in times]
        got = list(video.resample(iter(film), rate))
        assert [name for name, _ in got] == expected
        assert [time for _, time in got] == pytest.approx(times)
    assert list(video.resample(iter(film), None)) == film
    assert list(video.resample(iter([("a", 3.0)]), 25)) == [("a", 3.0)]
    assert list(video.resample(iter([]), 25)) == []


def test_a_resampled_video_counts_what_it_yields(square_video):
    path = square_video(1, 0, frames=25)
    for rate in (10, 25, 30000 / 1001, 60):
        shown = list(decode(path, rate))
        assert len(shown) == count_frames(path, rate) == int(np.ceil(rate - 1e-6))
        assert [frame.pts_seconds for frame in shown] == pytest.approx([n / rate for n in range(len(shown))])


def test_the_same_frames_give_the_same_bytes(tmp_path, moving_square):
    frames = moving_square(1, 1)
    lossless = [write_lossless(tmp_path / f"{n}.mkv", frames, 25, {"b": "1", "a": "2"}) for n in range(2)]
    assert lossless[0].read_bytes() == lossless[1].read_bytes()
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", frames, 25)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_only_the_frames_asked_for_are_decoded(tmp_path, moving_square):
    frames = moving_square(1, 0, frames=30)
    path = write_lossless(tmp_path / "hole.mkv", frames)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60] = np.random.default_rng(0).bytes(60)
    path.write_bytes(content)
    damaged = []
    with IntraReader(path) as reader:
        for index in [*range(30), 29, 0, 5]:  # a damaged frame raises, and hurts no other
            try:
                read = reader.read([index])[0]
            except VideoError:
                damaged.append(index)
            else:
                assert np.array_equal(read, frames[index])
        assert len(damaged) == 1
        with pytest.raises(VideoError, match=rf"is damaged at frame {damaged[0]}: prepare the clip again"):
            reader.read(range(30))
        rest = [index for index in range(30) if index not in damaged]
        assert np.array_equal(reader.read(rest), frames[rest])


def test_the_lossless_reader_refuses_what_it_cannot_give_exactly(tmp_path, square_video, moving_square):
    with pytest.raises(VideoError, match="was not made by rgbflow: prepare the clip again"):
        IntraReader(square_video(1, 0))
    path = write_lossless(tmp_path / "cut.mkv", moving_square(1, 0))
    with IntraReader(path) as reader:
        for index in (-1, 12):
            with pytest.raises(IndexError, match="outside"):
                reader.read([3, index])
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) - 100, len(content) // 2, 900):
        path.write_bytes(content[:size])
        with pytest.raises(VideoError, match=r"prepare the clip again|copy it again"):
            IntraReader(path)


@pytest.mark.parametrize("write", [lambda path, frames: write_video(path, frames, 25), write_lossless])
def test_a_file_appears_only_when_complete(tmp_path, moving_square, write):
    path = tmp_path / "out.mkv"
    path.write_text("old")

    def frames(last: object):
        for frame in moving_square(1, 0):
            assert path.read_text() == "old"
            yield frame
        yield last

    with pytest.raises(ValueError, match="frame 12 has shape"):
        write(path, frames(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises((ValueError, AttributeError)):
        write(path, frames("no frame"))
    with pytest.raises(VideoError, match="would have no frames: give at least one"):
        write(path, [])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.mkv"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full to act as a full disk")
@pytest.mark.parametrize("write", [lambda path, frames: write_video(path, frames, 25, crf=0), write_lossless])
def test_a_full_disk_is_one_line(tmp_path, monkeypatch, write):
    rng = np.random.default_rng(0)
    path = tmp_path / "out.mkv"

    def full(temporary: str, *arguments, **options):
        os.remove(temporary.removeprefix("file:"))
        os.symlink("/dev/full", temporary.removeprefix("file:"))
        return really_open(temporary, *arguments, **options)

    really_open = av.open
    monkeypatch.setattr(av, "open", full)
    with pytest.raises(InputError, match=re.escape(str(path)) + r".*No space left on device.*: free space") as caught:
        write(path, (rng.integers(0, 256, (120, 160, 3), dtype=np.uint8) for _ in range(50)))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("rate", [0, -25, float("nan"), float("inf")])
def test_a_rate_must_be_above_zero(tmp_path, moving_square, rate):
    with pytest.raises(VideoError, match="frames_per_second"):
        write_video(tmp_path / "out.mp4", moving_square(1, 0), rate)
    assert os.listdir(tmp_path) == []


# The videos of the tests themselves


@pytest.mark.parametrize(("dx", "dy"), [(3, 0), (0, -2), (-4, 2)])
def test_the_moving_square_moves_as_it_says(moving_square, dx, dy):
    frames = moving_square(dx, dy, frames=3, seed=1)
    inside = (slice(45, 75), slice(65, 95))
    moved = (slice(45 + dy, 75 + dy), slice(65 + dx, 95 + dx))
    assert np.array_equal(frames[1][inside], frames[2][moved])
    assert np.array_equal(frames[0][:20], frames[2][:20])
