"""Takes of actions in a folder, and their features, which are kept beside them."""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from rgbflow.atomic import replacing, write_atomically
from rgbflow.clip import Clip, FileExtent, FrameClip, check_frame
from rgbflow.data.layouts import GROUPS_FILE, file_sha256, is_video, match_groups, read_groups, scan_class_folders
from rgbflow.errors import InputError
from rgbflow.flow import dequantise
from rgbflow.learn.idle import idle_clips
from rgbflow.learn.probe import classifier_of
from rgbflow.recognizer import Recognizer, features_in
from rgbflow.stream import Stream
from rgbflow.timeline import sliding_windows
from rgbflow.transforms import mirrored_snippets, read_snippets, snippet_starts
from rgbflow.video.reading import Frame, decode, probe
from rgbflow.video.writing import write_video

NONE_NAMES = ("none", "background")  # class folders of what is none of the actions
FEATURES = ".features"  # folder beside the takes
REMOVED = ".removed"  # where removed takes wait to be restored
SNIPPETS = 5  # of a take, and of each window of a recording of no action
WINDOW_SECONDS = 2.0  # of such a recording; as long as the window of `live`
# What Windows keeps for devices, and what the folder of the takes keeps for its table of groups
RESERVED = re.compile(rf"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|{re.escape(GROUPS_FILE)}")
LOOKS = 2  # as it is, and mirrored


@dataclass(frozen=True, eq=False)
class TakeFeatures:
    """What the frozen networks say of a take.

    Attributes:
        streams: per stream (W, LOOKS, S, D) float32; W windows of a recording of no action, 1 of an action.
        frames_per_second: of the file.
        motion: mean speed in pixels per frame step of what the flow network read; NaN without such a network.
        sha256: of the file.
    """

    streams: dict[Stream, np.ndarray]
    frames_per_second: float
    motion: float
    sha256: str


@dataclass(frozen=True)
class Take:
    """A video that shows an action once, or none.

    Attributes:
        name: the action; one of NONE_NAMES for none.
        path: of the video, in the folder of the takes.
        group: the person or place, as `groups.tsv` says; empty where nothing says it.
    """

    name: str
    path: Path
    group: str = ""

    @property
    def is_none(self) -> bool:
        """Whether it shows none of the actions."""
        return self.name in NONE_NAMES


def read_takes(folder: Path) -> list[Take]:
    """The takes of a folder of class folders, `<folder>/<action>/<take>.mp4`; none where there are none yet.

    Raises:
        InputError: if the folder or its `groups.tsv` can't be read.
    """
    paths = [path for one in scan_class_folders(folder) for path in one.videos]
    file = folder / GROUPS_FILE
    by_name = {f"{path.parent.name}/{path.stem}": path for path in paths}
    groups = match_groups(read_groups(file), by_name, may_name_others=True) if file.is_file() else {}
    return [Take(path.parent.name, path, groups.get(f"{path.parent.name}/{path.stem}", "")) for path in paths]


def recordings_in(folder: Path) -> list[Take]:
    """All videos in a folder and in those inside it, as recordings of none of the actions.

    Raises:
        InputError: if there are none.
    """
    found = [Take(NONE_NAMES[0], path) for path in sorted(folder.rglob("*")) if is_video(path)]
    if not found:
        raise InputError(f"folder {folder} holds no video: put recordings into it that show none of the actions")
    return found


def keep_take(
    folder: Path, name: str, video: Path | np.ndarray | Sequence[Frame], frames_per_second: float = 25.0
) -> Path:
    """Put a take into the folder, under a number of its own.

    Args:
        folder: of all takes.
        name: of the action.
        video: a file, which is copied unless it lies in the action's folder already; pixels (T, H, W, 3) uint8 RGB; or
            frames with their times, which tell the rate.
        frames_per_second: of pixels.

    Raises:
        InputError: if the name can't be a folder's, the video is none, or the file can't be read or written.
    """
    check_name(name)
    if isinstance(video, Path):
        if video.resolve().parent == (folder / name).resolve():
            return video
        path = free_path(folder / name, video.suffix)
        if not is_video(video):
            raise InputError(f"take {video} is no video file: record it again, or pass another")
        with replacing(path) as temporary:
            shutil.copyfile(video, temporary)
        return path
    if not isinstance(video, np.ndarray):
        check_frames(video)
        frames_per_second = rate_of_frames(video)
        video = np.stack([frame.pixels for frame in video])
    if video.ndim != 4 or video.shape[-1] != 3 or video.dtype != np.uint8 or not video.size:
        raise InputError(f"a take of shape {video.shape}, {video.dtype}, must be (T, H, W, 3) uint8 RGB")
    path = free_path(folder / name, ".mp4")
    write_video(path, video, frames_per_second)
    return path


def check_frames(frames: object) -> None:
    """Raise InputError for what is no sequence of frames of one size."""
    if not isinstance(frames, Sequence) or not all(isinstance(frame, Frame) for frame in frames):
        raise InputError(f"a take ({type(frames).__name__}) must be a file's name, pixels, or frames with their times")
    for frame in frames:
        check_frame(frame.pixels, frame.pts_seconds)
        if frame.pixels.shape != frames[0].pixels.shape:
            raise InputError(f"a take has frames of {frames[0].pixels.shape} and {frame.pixels.shape}: give one size")


def rate_of_frames(frames: Sequence[Frame]) -> float:
    """The mean rate of frames, per second.

    Raises:
        InputError: if there are fewer than two, or their times don't rise.
    """
    if len(frames) < 2 or not frames[-1].pts_seconds > frames[0].pts_seconds:
        raise InputError(f"a take of {len(frames)} frames must have at least two, at rising times: record it again")
    return (len(frames) - 1) / (frames[-1].pts_seconds - frames[0].pts_seconds)


def check_name(name: str) -> None:
    """Raise InputError if an action's name can't be the name of a folder on every system."""
    if not isinstance(name, str):
        raise InputError(f"the action's name ({name!r:.60}) must be text")
    is_sound = name.isprintable() and name == name.strip() and 0 < len(name.encode()) <= 100 and name[0] != "."
    if not is_sound or set(name) & set('/\\:*?"<>|') or name.endswith(".") or RESERVED.fullmatch(name):
        raise InputError(
            f"the action's name {name[:100]!r} must be a folder's name: 1 to 100 letters without / \\ : * ? \" < > | "
            f"that neither begin nor end with a dot or a space, and no name with another use, such as {GROUPS_FILE}"
        )


def check_group(group: str) -> None:
    """Raise InputError if a group can't stand in a line of `groups.tsv`; empty is none."""
    if not isinstance(group, str) or not group.isprintable() or group != group.strip() or len(group) > 200:
        raise InputError(f"group ({group!r:.60}) must be a name of at most 200 letters, without tabs and line ends")


def free_path(folder: Path, suffix: str) -> Path:
    """`<folder>/take-<number><suffix>` with the first number that no file has, removed takes included."""
    taken = {path.stem for place in (folder, folder.parent / REMOVED / folder.name) for path in place.glob("take-*")}
    number = next(count for count in range(1, len(taken) + 2) if f"take-{count:03d}" not in taken)
    return folder / f"take-{number:03d}{suffix}"


def keep_group(folder: Path, path: Path, group: str) -> None:
    """Note in `groups.tsv` which person or place a take is of.

    Raises:
        InputError: if the group can't stand there, or the file can't be written.
    """
    check_group(group)
    file = folder / GROUPS_FILE
    name = f"{path.parent.name}/{path.name}"
    lines = file.read_text(encoding="utf-8-sig").splitlines() if file.is_file() else []
    kept = [line for line in lines if line.split("\t")[0].strip() != name]
    write_atomically(file, "".join(f"{line}\n" for line in [*kept, f"{name}\t{group}"]))


class FeatureCache:
    """The features of videos, each computed once; kept in a folder under the hash of the file that they are of.

    Args:
        folder: of the takes.
        recognizer: whose frozen networks compute them. With other networks everything is computed anew.
    """

    def __init__(self, folder: Path, recognizer: Recognizer):
        self._recognizer = recognizer
        self._folder = folder / FEATURES / networks_sha256(recognizer)[:16]
        self._known: dict[tuple[Path, int, int, bool], TakeFeatures] = {}

    def of(self, take: Take) -> TakeFeatures:
        """The features of a take, which are computed and kept if they are not there yet.

        Raises:
            InputError: if the video can't be read or is too short.
        """
        try:
            status = os.stat(take.path)
        except OSError as error:
            raise _unreadable(take, error) from error
        key = (take.path, status.st_mtime_ns, status.st_size, take.is_none)
        if key not in self._known:
            self._known[key] = self._kept(take)
        return self._known[key]

    def of_drawn(self) -> TakeFeatures:
        """The features of the clips of no action that the program draws itself (`idle.idle_clips`), a window each."""
        return self._read_or_make("drawn", lambda: features_of_drawn(self._recognizer), "")

    def _kept(self, take: Take) -> TakeFeatures:
        try:
            sha256 = file_sha256(take.path)
        except OSError as error:
            raise _unreadable(take, error) from error
        name = f"{sha256}{'-windows' if take.is_none else ''}"
        return self._read_or_make(name, lambda: features_of(self._recognizer, take, sha256), sha256)

    def _read_or_make(self, name: str, make: Callable[[], TakeFeatures], sha256: str) -> TakeFeatures:
        path = self._folder / f"{name}.npz"
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                streams = {stream: file[stream] for stream in self._recognizer.bundle.streams}
                if all(self._may_be_features(stream, rows) for stream, rows in streams.items()):
                    return TakeFeatures(streams, float(file["frames_per_second"]), float(file["motion"]), sha256)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):  # damaged: computed again
            path.unlink(missing_ok=True)
        found = make()
        rows = {str(stream): values for stream, values in found.streams.items()}
        about = {"frames_per_second": np.array(found.frames_per_second), "motion": np.array(found.motion)}
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **rows, **about)
        return found

    def _may_be_features(self, stream: Stream, rows: np.ndarray) -> bool:
        classifier = classifier_of(self._recognizer.engine.networks[stream])
        is_sound = rows.dtype == np.float32 and rows.ndim == 4 and rows.shape[1:3] == (LOOKS, SNIPPETS) and len(rows)
        width = classifier.in_features if classifier else rows.shape[-1]
        return bool(is_sound and rows.shape[-1] == width and np.isfinite(rows).all())


def _unreadable(take: Take, error: OSError) -> InputError:
    return InputError(f"take {take.path} can't be read ({error.strerror}): record it again")


def features_of(recognizer: Recognizer, take: Take, sha256: str) -> TakeFeatures:
    """Ask the frozen networks about a take.

    Raises:
        InputError: if the video can't be read or is too short.
    """
    rate = probe(take.path).frames_per_second
    found = _features_of_clips(recognizer, _clips_of(recognizer, take), rate, sha256)
    if not found.streams:
        recognizer.wanted_indices(FileExtent(take.path.name, 0, 1.0), SNIPPETS)  # says what is too short, and for what
    return found


def features_of_drawn(recognizer: Recognizer) -> TakeFeatures:
    """Ask the frozen networks about the clips of no action that the program draws."""
    rate = recognizer.bundle.frame_rate

    def clips() -> Iterator[Clip]:
        for pictures in idle_clips():
            clip = FrameClip(recognizer.bundle.preparation, name="a drawn clip")
            for number, pixels in enumerate(pictures):
                clip.push(pixels, number / rate)
            yield clip

    return _features_of_clips(recognizer, clips(), rate, "")


def _features_of_clips(recognizer: Recognizer, clips: Iterator[Clip], rate: float, sha256: str) -> TakeFeatures:
    """Of no clip, no streams."""
    bound, looks, motion = recognizer.bundle.preparation.flow.bound, [], []
    for clip in clips:
        snippets = _snippets_of(recognizer, clip)
        if "flow" in snippets:
            speeds = np.abs(dequantise(snippets["flow"][:SNIPPETS], bound)) - bound / 255  # 0 is no 8-bit value
            motion.append(float(np.maximum(speeds, 0).mean()))
        answers = recognizer.engine.answers(snippets, with_features=True)
        looks.append({stream: features_in(answer).reshape(LOOKS, SNIPPETS, -1) for stream, answer in answers.items()})
    streams = {stream: np.stack([look[stream] for look in looks]) for stream in looks[0]} if looks else {}
    return TakeFeatures(streams, rate, float(np.mean(motion)) if motion else float("nan"), sha256)


def _clips_of(recognizer: Recognizer, take: Take) -> Iterator[Clip]:
    if not take.is_none:
        yield recognizer.sample(take.path, SNIPPETS)
        return
    preparation = recognizer.bundle.preparation
    clip = FrameClip(preparation, name=take.path.name)
    frames = decode(take.path, preparation.frame_rate)
    for window in sliding_windows(frames, clip, WINDOW_SECONDS, WINDOW_SECONDS):
        if recognizer.fits(window):
            yield window


def _snippets_of(recognizer: Recognizer, clip: Clip) -> dict[Stream, np.ndarray]:
    """Snippets spread over a clip, as they are and then mirrored: per stream (LOOKS · S, C, h, w) uint8."""
    snippets = {}
    for stream, spec in recognizer.bundle.streams.items():
        read = read_snippets(clip, spec, snippet_starts(clip, spec, SNIPPETS)).numpy()
        snippets[stream] = np.concatenate([read, mirrored_snippets(read, stream)])
    return snippets


def networks_sha256(recognizer: Recognizer) -> str:
    """A hash of what features depend on: the frozen networks without their classifiers, and what they are shown."""
    bundle, digest = recognizer.bundle, hashlib.sha256()
    about = [bundle.preparation.as_dict(), *map(asdict, bundle.streams.values()), recognizer.engine.name, SNIPPETS]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for network in recognizer.engine.networks.values():
        former = classifier_of(network)
        classifier = set() if former is None else {id(value) for value in former.parameters()}
        for name, value in network.state_dict(keep_vars=True).items():
            if id(value) not in classifier:
                digest.update(name.encode())
                digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
