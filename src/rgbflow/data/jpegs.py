"""Published JPEG layouts, read as they are: for each clip, folders of numbered pictures of its frames, u and v.

    FOLDER/jpegs_256/<clip>/frame000001.jpg      with FOLDER/tvl1_flow/u/<clip>/frame000001.jpg, and v
    FOLDER/<Class>/<clip>/img_00001.jpg          with x_00001.jpg (u) and y_00001.jpg (v), or flow_x_ and flow_y_

The class is the name of the folder around the clip folders. Clip folders with a UCF101 name (v_Class_gGG_cCC) contain
the class and need no class folder. Numbers start at 0 or 1, with any padding. `rgbflow.json` in FOLDER may record how
the flow was made; the default is {"flow": {"method": "tvl1", "preset": "fast", "bound": 20.0}}.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np

from rgbflow.data.layouts import (
    GROUPS_FILE,
    check_utf8,
    is_visible,
    legible,
    list_visible,
    match_groups,
    read_groups,
    ucf101_group,
)
from rgbflow.data.manifest import MANIFEST, OK, Row
from rgbflow.data.store import Store
from rgbflow.errors import InputError
from rgbflow.limits import PIXELS
from rgbflow.records import convert, parse_json, read_whole, refuse_unknown_keys
from rgbflow.stream import FlowSettings, Preparation, Stream
from rgbflow.video import jpeg

SETTINGS_FILE = "rgbflow.json"
USUAL_FLOW = FlowSettings(method="tvl1", bound=20.0, reduction=1)  # what the published sets were made with
FRAMES_PER_SECOND = 25.0  # UCF101's; these layouts record no time
EXPECTED_FORM = (
    "expected <folder>/<Class>/<clip>/img_00001.jpg, or the <clip> folders alone if they have UCF101's names"
)

NAMES_READ = (
    "name each clip's frames img_00001.jpg, img_00002.jpg, … (in jpegs_256 frame000001.jpg, …), JPEG files numbered "
    "from 0 or 1 without a gap, with x_00001.jpg and y_00001.jpg, or flow_x_ and flow_y_, for the flow"
)
PICTURE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

_END_OF_IMAGE = b"\xff\xd9"


class _Settings(TypedDict):
    """What `rgbflow.json` says."""

    flow: FlowSettings


@dataclass(frozen=True)
class Pictures:
    """A sequence of numbered JPEG files without a gap: <folder>/<prefix><number><ending>.

    Attributes:
        digits: numbers are padded with zeros to this many.
        first: the first number, 0 or 1.
        count: how many there are.
    """

    folder: Path
    prefix: str
    digits: int
    first: int
    ending: str
    count: int

    def name(self, index: int) -> str:
        """File name of picture 0 … count - 1."""
        return f"{self.prefix}{self.first + index:0{self.digits}d}{self.ending}"

    def path(self, index: int) -> Path:
        """File of picture 0 … count - 1."""
        return self.folder / self.name(index)


@dataclass(frozen=True)
class JpegClip:
    """A clip of JPEG files, frames and flow; it reads only the files that are asked for.

    Attributes:
        name: "<Class>/<clip>".
        frames, u, v: its files; u and v have one file fewer than the frames, or as many.
        size: (H, W) of all of them, pixels.
    """

    name: str
    frames: Pictures
    u: Pictures
    v: Pictures
    size: tuple[int, int]
    start_seconds: float = 0.0

    @property
    def num_frames(self) -> int:
        return self.frames.count

    @property
    def end_seconds(self) -> float:
        return self.frames.count / FRAMES_PER_SECOND

    @property
    def frames_per_second(self) -> float:
        return FRAMES_PER_SECOND

    def read(self, stream: Stream, indices: np.ndarray) -> np.ndarray:
        """Frames (N, 3, H, W) uint8 RGB or flow fields (N, 2, H, W) uint8 (u, v); field i leads from frame i to i+1.

        Raises:
            InputError: if a file can't be read, is not a complete JPEG, or differs in size from the clip.
        """
        if stream == "rgb":
            frames = [_read_jpeg(self.frames.path(int(index)), cv2.IMREAD_COLOR, self.size) for index in indices]
            return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).transpose(2, 0, 1) for frame in frames])
        # The tool that writes as many fields as frames (dense_flow) stores with each field the frame it leads to, and
        # not the clip's very first frame: its first field leads to frame 0.
        skipped = self.u.count - (self.frames.count - 1)
        pairs = [(self.u.path(int(index) + skipped), self.v.path(int(index) + skipped)) for index in indices]
        return np.stack([[_read_jpeg(path, cv2.IMREAD_GRAYSCALE, self.size) for path in pair] for pair in pairs])


class JpegStore:
    """A data set of JPEG files, open for reading, as `Store` is for a prepared data set.

    The files keep their size, since flow is measured in pixels of that size. The short side of the preparation is that
    of most clips (256 in the published sets).

    Args:
        folder: a folder in one of the two layouts; a `groups.tsv` in it gives the clips their groups.

    Attributes:
        rows: rows as in a manifest. The source is the folder of the frames, its hash is empty, and the frame rate is
            that of UCF101, since the files record none.
        failed: clips with a name that is not UTF-8. No other clip is set aside: an incomplete clip is an error.

    Raises:
        InputError: if a clip has no class, a picture is missing, a clip's frames and flow differ in size, two clips
            have the same name, or `groups.tsv` or `rgbflow.json` can't be used.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        parts = _find_parts(self.folder)
        found = _find_clips(parts[0])
        self.failed = [row for name, path in sorted(found.items()) if (row := _row_of_unnameable(name, path))]
        found = {name: path for name, path in found.items() if name not in {row.clip for row in self.failed}}
        if not found:
            raise InputError(f"folder {parts[0].root} contains no clip folder: {EXPECTED_FORM}")
        self._clips = {name: _open_clip(name, path, parts) for name, path in sorted(found.items())}
        file = self.folder / GROUPS_FILE
        groups = match_groups(read_groups(file), found) if file.is_file() else {}
        self.rows = {name: _make_row(clip, groups.get(name)) for name, clip in self._clips.items()}
        ((short_side, _),) = Counter(min(clip.size) for clip in self._clips.values()).most_common(1)
        flow = _read_flow_settings(self.folder / SETTINGS_FILE)
        self.preparation = Preparation(short_side, flow, jpeg_quality=None)

    def clip(self, name: str) -> JpegClip:
        """One clip by its name, "<Class>/<clip>"."""
        return self._clips[name]


AnyStore = Store | JpegStore


def open_store(folder: str | Path) -> AnyStore:
    """Open a prepared data set, or a folder in one of the JPEG layouts.

    Raises:
        InputError: if the folder is neither, or can't be used.
    """
    folder = Path(folder)
    if folder.is_dir() and not (folder / MANIFEST).is_file():
        if has_jpegs(folder):
            return JpegStore(folder)
        if picture := _other_picture(folder):
            raise InputError(f"{folder} has pictures such as {picture}, whose names are not read: {NAMES_READ}")
    return Store(folder)


def _other_picture(folder: Path) -> str | None:
    """A picture in a folder of a folder that would be a clip's if it were named so, relative to the data set."""
    for clip in [one for label in filter(Path.is_dir, list_visible(folder)) for one in (label, *_folders_in(label))]:
        for name in sorted(_list_names(clip)):
            if name.lower().endswith(PICTURE_ENDINGS):
                return str((clip / name).relative_to(folder))
    return None


def _folders_in(folder: Path) -> list[Path]:
    return [entry for entry in list_visible(folder) if entry.is_dir()]


@dataclass(frozen=True)
class _Part:
    """The place of the frames, u or v of all clips, and the names of their files."""

    root: Path
    first_name: str  # of a clip's first picture, as it is usually called
    prefix: str  # a regular expression

    def matches(self, names: set[str]) -> list[re.Match[str]]:
        """The names of pictures among those of a folder, each as (prefix, number, ending)."""
        pattern = re.compile(rf"({self.prefix})([0-9]+)(\.(?:jpg|jpeg|JPG|JPEG))")
        return [match for match in map(pattern.fullmatch, names) if match]


def _find_parts(folder: Path) -> tuple[_Part, ...]:
    """Frames, u and v of the layout that a folder has."""
    frames, flow = folder / "jpegs_256", folder / "tvl1_flow"
    if frames.is_dir():
        return tuple(_Part(root, "frame000001.jpg", "frame") for root in (frames, flow / "u", flow / "v"))
    return (
        _Part(folder, "img_00001.jpg", "img_"),
        _Part(folder, "x_00001.jpg", "(?:flow_)?x_"),
        _Part(folder, "y_00001.jpg", "(?:flow_)?y_"),
    )


def has_jpegs(folder: Path) -> bool:
    """Whether a folder has one of the two layouts."""
    frames = _find_parts(folder)[0]
    return frames.root != folder or any(frames.matches(_list_names(clip)) for clip in _find_clips(frames).values())


def _find_clips(frames: _Part) -> dict[str, Path]:
    """The folder of each clip's frames, by the clip's name."""
    found: dict[str, Path] = {}
    for label, path in _walk_clips(frames):
        # UCF101 calls this class HandstandPushups, but not in its clips' names; some copies put the names right.
        name = legible(f"{label}/{path.name.replace('v_HandstandPushups_', 'v_HandStandPushups_')}")
        if found.setdefault(name, path) != path:
            raise InputError(f"{found[name]} and {path} would both be clip {name}: rename one")
    return found


def _walk_clips(frames: _Part) -> Iterator[tuple[str, Path]]:
    """Class and folder of each clip."""
    for folder in filter(Path.is_dir, list_visible(frames.root)):
        if ucf101_group(folder.name):
            yield folder.name.split("_")[1].replace("HandStandPushups", "HandstandPushups"), folder
            continue
        clips = [entry for entry in list_visible(folder) if entry.is_dir()]
        if not clips and frames.matches(_list_names(folder)):
            raise InputError(f"clip folder {folder} is not in a class folder: {EXPECTED_FORM}")
        yield from ((folder.name, clip) for clip in clips)


def _open_clip(name: str, folder: Path, parts: tuple[_Part, ...]) -> JpegClip:
    place = folder.relative_to(parts[0].root)
    folders = [part.root / place for part in parts]
    names = {folder: _list_names(folder) for folder in set(folders)}  # often one folder: it is listed once
    frames, u, v = (_find_pictures(part, folder, names[folder]) for part, folder in zip(parts, folders, strict=True))
    fields = max(frames.count - 1, u.count, v.count)
    for pictures, needed in ((u, fields), (v, fields), (frames, max(fields, 2))):
        if pictures.count < needed:
            raise _missing(pictures.path(pictures.count))
    size, *flow_sizes = (_read_size(pictures.path(0)) for pictures in (frames, u, v))
    for pictures, other in zip((u, v), flow_sizes, strict=True):
        if other != size:
            raise InputError(f"{pictures.path(0)} {_two_sizes(other, size)}: compute the flow at the frames' size")
    return JpegClip(name, frames, u, v, size)


def _find_pictures(part: _Part, folder: Path, names: set[str]) -> Pictures:
    matches = part.matches(names)
    if not matches:
        others = sorted(name for name in names if name.lower().endswith(PICTURE_ENDINGS))
        if others and part.prefix in ("img_", "frame"):
            raise InputError(f"{folder / others[0]} has a name that is not read: {NAMES_READ}")
        raise _missing(folder / part.first_name)
    prefix, number, ending = min(matches, key=lambda match: int(match[2])).groups()
    pictures = Pictures(folder, prefix, len(number), min(int(number), 1), ending, len(matches))
    for index in range(pictures.count):
        if pictures.name(index) not in names:
            raise _missing(pictures.path(index))
    return pictures


def _missing(path: Path) -> InputError:
    complete = (
        "complete the clip's frames, u and v, which are numbered from 0 or 1 without a gap, or remove its folders"
    )
    return InputError(f"{path} is missing: {complete}")


def _list_names(folder: Path) -> set[str]:
    """Names of the files in a folder; a missing folder has none."""
    try:
        return set(filter(is_visible, os.listdir(folder)))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise InputError(f"folder {folder} can't be read ({error.strerror}): check its permissions") from None


def _make_row(clip: JpegClip, group: str | None) -> Row:
    label, folder = clip.name.split("/", maxsplit=1)
    height, width = clip.size
    return Row(
        clip=clip.name,
        label=label,
        group=group or ucf101_group(folder) or clip.name,
        frames=clip.num_frames,
        frames_per_second=FRAMES_PER_SECOND,
        width=width,
        height=height,
        source=legible(clip.frames.folder),
        sha256="",
        status=OK,
    )


def _row_of_unnameable(name: str, folder: Path) -> Row | None:
    """The row of a clip that is set aside for its name; None for all others."""
    try:
        check_utf8(folder)
    except InputError as error:
        return Row(name, name.partition("/")[0], name, 0, 0.0, 0, 0, legible(folder), "", str(error))
    return None


def _read_flow_settings(path: Path) -> FlowSettings:
    """The flow settings in `rgbflow.json`; the usual ones for what it leaves out or where it is missing."""
    if not path.is_file():
        return USUAL_FLOW
    try:
        raw = parse_json(read_whole(path, "settings"))
        given = convert(raw, _Settings)
        refuse_unknown_keys(raw["flow"], FlowSettings, "flow")
        return replace(USUAL_FLOW, **{name: getattr(given["flow"], name) for name in raw["flow"]})
    except InputError as error:
        form = json.dumps({"flow": {"method": "tvl1", "preset": "fast", "bound": 20.0}})
        raise InputError(f"{path} can't be used ({error}): write {form}") from None


def _read_size(path: Path) -> tuple[int, int]:
    """(H, W) of a picture, from its header."""
    height, width = _size_in(path, _read(path))
    PIXELS.check(height * width, str(path))
    return height, width


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or "it can't be read") from None


def _size_in(path: Path, content: bytes) -> tuple[int, int]:
    try:
        return jpeg.size(content)
    except ValueError as error:
        raise _unreadable(path, "it is not a complete JPEG") from error


def _read_jpeg(path: Path, flags: int, size: tuple[int, int]) -> np.ndarray:
    """Decode a file with a known size: (H, W) uint8 or (H, W, 3) uint8 BGR."""
    content = _read(path)
    if (claimed := _size_in(path, content)) != size:  # before memory is taken for it
        raise InputError(f"{path} {_two_sizes(claimed, size)}: extract the clip again")
    # The end is looked for since OpenCV 4 fills up a picture that breaks off.
    pixels = None
    if _END_OF_IMAGE in content:
        with suppress(cv2.error):
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if pixels is None:
        raise _unreadable(path, "it is not a complete JPEG")
    if pixels.shape[:2] != size:
        raise InputError(f"{path} {_two_sizes(pixels.shape[:2], size)}: extract the clip again")
    return pixels


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path} can't be read ({reason}): extract the clip again")


def _two_sizes(size: tuple[int, ...], clip_size: tuple[int, int]) -> str:
    return f"has {size[1]}×{size[0]} pixels, but its clip's first frame has {clip_size[1]}×{clip_size[0]}"
