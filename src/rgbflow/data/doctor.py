"""The check of source videos: decode all of them and list those that are broken, wrong or unlabelled."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rgbflow.data.layouts import (
    EXPECTED_FORM,
    ClassFolder,
    SourceClip,
    check_utf8,
    file_sha256,
    is_video,
    list_visible,
    read_class_folders,
    scan_class_folders,
)
from rgbflow.errors import InputError
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.stream import STACK_LENGTH
from rgbflow.video.reading import VideoInfo, decode, probe

Kind = Literal["broken", "wrong", "unlabelled", "note"]

FEWEST_FRAMES = STACK_LENGTH + 1
SMALLEST_SIDE = 32  # pixels; a network's input has 224
MOST_LINES = 3  # about the times of one file
GAP_SECONDS, GAP_STEPS = 0.5, 5  # longer than both, flow over it means nothing
UNEVEN_PERCENT = 20  # XviD's AVI files have up to 12 % of uneven steps, though they play evenly


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing about a file or folder.

    Attributes:
        path: the file or folder.
        kind: "broken" (cannot be decoded to its end), "wrong" (decodes, but cannot be used well),
            "unlabelled" (has no class, no second group, or two classes), or "note" (nothing to mend).
        message: the problem and its remedy, in one line.
    """

    path: Path
    kind: Kind
    message: str


@dataclass(frozen=True)
class Diagnosis:
    """The result of `check_videos`.

    Attributes:
        files: videos examined.
        frames: frames decoded from them.
        seconds: playing time of those frames.
        classes: class folders with a video.
        groups: groups of the clips; 0 for a single video, and where the groups are not known.
        findings: in the order of the files; findings about whole folders come first.
    """

    files: int
    frames: int
    seconds: float
    classes: int
    groups: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is broken, wrong or unlabelled."""
        return all(finding.kind == "note" for finding in self.findings)

    def as_dict(self) -> dict:
        """The result as plain values for JSON, with `ok`."""
        findings = [{**asdict(finding), "path": str(finding.path)} for finding in self.findings]
        return {**asdict(self), "ok": self.ok, "findings": findings}


def check_videos(path: str | Path, progress: Progress = SILENT) -> Diagnosis:
    """Decode a video, or every video of a folder of class folders, and report what is wrong with it.

    Args:
        path: a video, or a folder `<folder>/<Class>/<clip>.mp4`.
        progress: a step is a file.

    Raises:
        InputError: if the path does not exist, a folder cannot be read, or there is no video in it.
    """
    path = Path(path)
    if path.is_file():
        return _examine_all([path], progress)
    found = scan_class_folders(path)
    strays = [entry for entry in list_visible(path) if is_video(entry)]
    videos = strays + [video for folder in found for video in folder.videos]
    if not videos:
        raise InputError(f"folder {path} holds no video: {EXPECTED_FORM}")
    diagnosis = _examine_all(videos, progress)
    clips, errors = _read_clips(path, found)
    broken = {finding.path for finding in diagnosis.findings if finding.kind == "broken"}
    findings = [
        *errors,
        *_find_strays(strays),
        *_find_unnameable(videos),
        *_find_others(found),
        *_find_small_classes(path, [clip for clip in clips if clip.path not in broken]),
        *diagnosis.findings,
    ]
    return replace(
        diagnosis,
        classes=sum(bool(folder.videos) for folder in found),
        groups=len({clip.group for clip in clips}),
        findings=tuple(findings),
    )


@dataclass
class _Playback:
    """Counts and times of a video's frames, collected while it is decoded."""

    step_seconds: float = 0.0  # from frame to frame, by `probe`
    frames: int = 0
    uneven_steps: int = 0  # off by more than a quarter
    gaps: int = 0
    longest_gap: tuple[float, float] = (0.0, 0.0)  # seconds, and when it begins
    first_seconds: float = 0.0
    last_seconds: float = 0.0

    def add(self, pts_seconds: float) -> None:
        if self.frames == 0:
            self.first_seconds = pts_seconds
        else:
            step = pts_seconds - self.last_seconds
            self.uneven_steps += abs(step - self.step_seconds) > self.step_seconds / 4
            if step > max(GAP_SECONDS, GAP_STEPS * self.step_seconds):
                self.gaps += 1
                self.longest_gap = max(self.longest_gap, (step, self.last_seconds))
        self.last_seconds = pts_seconds
        self.frames += 1

    @property
    def seconds(self) -> float:
        """Playing time, with the average duration for the last frame; 0 for a single frame."""
        if self.frames < 2:
            return 0.0
        return (self.last_seconds - self.first_seconds) * self.frames / (self.frames - 1)


def _examine_all(videos: list[Path], progress: Progress) -> Diagnosis:
    """Check the files only, not their folders."""
    frames, seconds, findings = 0, 0.0, []
    first_with: dict[str, Path] = {}
    for path in counted(videos, len(videos), progress):
        playback, own = _examine(path)
        frames += playback.frames
        seconds += playback.seconds
        findings += own
        if not any(finding.kind == "broken" for finding in own):
            twin = first_with.setdefault(file_sha256(path), path)
            if twin != path:
                findings.append(Finding(path, "unlabelled", f"has the same content as {twin}: remove one of them"))
    return Diagnosis(len(videos), frames, seconds, classes=0, groups=0, findings=tuple(findings))


def _examine(path: Path) -> tuple[_Playback, list[Finding]]:
    playback, told = _Playback(), list[str]()
    try:
        info = probe(path)
        playback.step_seconds = 1 / info.frames_per_second
        for frame in decode(path, report=told.append):
            playback.add(frame.pts_seconds)
    except InputError as error:
        return playback, [Finding(path, "broken", str(error).removeprefix(f"video ({path}) "))]
    notes = told[:MOST_LINES]
    if len(told) > MOST_LINES:
        notes.append(f"{len(told) - MOST_LINES} more of its times are corrected")
    findings = [Finding(path, kind, message) for kind, message in _judge(info, playback)]
    return playback, [*findings, *(Finding(path, "note", line) for line in notes)]


def _judge(info: VideoInfo, playback: _Playback) -> Iterator[tuple[Kind, str]]:
    frames = playback.frames
    if frames < 2:
        yield "wrong", f"has {frames} frame(s), but motion needs 2: use a longer video"
    elif frames < FEWEST_FRAMES:
        need = f"stack_length {FEWEST_FRAMES - 1} needs {FEWEST_FRAMES}"
        yield "wrong", f"has {frames} frames, {need}: use a longer video, or train with a smaller stack"
    if min(info.width, info.height) < SMALLEST_SIDE:
        size = f"{info.width}x{info.height} pixels"
        yield "wrong", f"is {size}, but each side should have {SMALLEST_SIDE}: use a larger video"
    if info.header_frames is not None and info.header_frames != frames:
        yield "note", f"its header promises {info.header_frames} frames, but it holds {frames}"
    if 100 * playback.uneven_steps > UNEVEN_PERCENT * frames:
        late = f"{playback.uneven_steps} of its {frames} frames are not 1/{info.frames_per_second:.2f} s"
        yield "note", f"{late} after the one before: a variable frame rate"
    if playback.gaps:
        seconds, begin = playback.longest_gap
        gaps = f", the longest of {playback.gaps} gaps" if playback.gaps > 1 else ""
        yield "note", f"has a gap of {seconds:.2f} s after {begin:.2f} s{gaps}"


def _read_clips(folder: Path, found: list[ClassFolder]) -> tuple[list[SourceClip], list[Finding]]:
    """The clips as `rgbflow prepare` will see them, or the problems that prevent it."""
    if not any(class_folder.videos for class_folder in found):
        return [], []
    try:
        return read_class_folders(folder), []
    except InputError as error:
        return [], [Finding(folder, "wrong", str(error))]


def _find_strays(strays: list[Path]) -> list[Finding]:
    return [Finding(path, "unlabelled", f"is not in a class folder: {EXPECTED_FORM}") for path in strays]


def _find_unnameable(videos: list[Path]) -> Iterator[Finding]:
    for path in videos:
        try:
            check_utf8(path)
        except InputError as error:
            yield Finding(path, "wrong", str(error))


def _find_others(found: list[ClassFolder]) -> Iterator[Finding]:
    """Class folders without videos, and things in class folders that `prepare` ignores."""
    for folder in found:
        if not folder.videos:
            yield Finding(folder.path, "unlabelled", "class folder holds no video: add videos or remove it")
        elif folder.others:
            names = f"{len(folder.others)} thing(s) that are not video files, such as {folder.others[0].name}"
            yield Finding(folder.path, "unlabelled", f"holds {names}: remove them, or correct their extensions")


def _find_small_classes(folder: Path, clips: list[SourceClip]) -> Iterator[Finding]:
    """Classes that are too small to be in every part of a split by group."""
    if clips and len({clip.group for clip in clips}) == len(clips):
        message = "no two clips share a group: if some come from one source, list their groups in groups.tsv"
        yield Finding(folder, "note", message)
    for label in sorted({clip.label for clip in clips}):
        own = [clip for clip in clips if clip.label == label]
        groups = {clip.group for clip in own}
        if len(own) == 1:
            yield Finding(folder / label, "unlabelled", "class has only one sound clip: add clips of other groups")
        elif len(groups) == 1:
            message = f"class has one group ({own[0].group}): add clips of other groups"
            yield Finding(folder / label, "unlabelled", message)
        elif len(groups) == 2:
            yield Finding(folder / label, "note", "class has two groups: a split by group needs three")
