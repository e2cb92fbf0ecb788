"""Score files: the scores of each stream for each clip, from this program or any other."""

import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
from msgspec import Meta

from rgbflow import fusion
from rgbflow.atomic import replacing
from rgbflow.data.layouts import plain, without_ending
from rgbflow.errors import InputError, first_line
from rgbflow.limits import TEXT
from rgbflow.records import ClassName, Count, convert

Kind = Literal["logits", "scores", "sums"]
SATURATED = 0.999  # above this for its first class, a softmax says nothing about the others
_ABOUT = ("names", "labels", "classes", "kind", "frames")


@dataclass(frozen=True)
class ScoreFile:
    """The content of a score file.

    Attributes:
        names: names of the N clips.
        classes: K names; empty where the file has none.
        labels: (N,) int64, index of the true class; None where the file has none.
        streams: per stream (N, K) float64.
        kind: "logits", "scores" (probabilities) or "sums" (of either over the frames of a clip).
        frames: number of frames that sums were taken over; 1 for the other kinds.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...]
    labels: np.ndarray | None
    streams: Mapping[str, np.ndarray]
    kind: Kind
    frames: float = 1

    @property
    def known_labels(self) -> np.ndarray:
        """The labels, which the caller needs.

        Raises:
            InputError: if the file has none.
        """
        if self.labels is None:
            raise InputError("the score file has no labels: write it again with `rgbflow evaluate --scores`")
        return self.labels

    def save(self, path: Path) -> None:
        """Write `names`, `labels`, `classes`, `kind` and one (N, K) array for each stream as .npz."""
        values: dict[str, np.ndarray | str | float] = {
            "names": np.array(self.names),
            "classes": np.array(self.classes),
            "kind": self.kind,
            **self.streams,
        }
        if self.labels is not None:
            values["labels"] = self.labels
        if self.kind == "sums":
            values["frames"] = self.frames
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **values)  # type: ignore[arg-type]  # NumPy's stub takes each name for `allow_pickle`

    def probabilities(self) -> dict[str, np.ndarray]:
        """Per stream (N, K) float64 probabilities: sums become means, logits go through one softmax.

        Raises:
            InputError: for the reasons of `as_probabilities`.
        """
        return {name: as_probabilities(values, self.kind, self.frames, name) for name, values in self.streams.items()}


def as_probabilities(values: np.ndarray, kind: Kind, frames: float = 1, stream: str = "stream") -> np.ndarray:
    """Turn (N, K) logits, scores or sums into probabilities.

    Sums of logits are divided by the number of frames before the softmax: the softmax of a sum would be so sharp that
    the stream with the larger numbers alone decides an average. Sums of probabilities are divided as well.

    Raises:
        InputError: names the stream, if its rows can't be of this kind.
    """
    mean = values / frames
    is_distribution = kind != "logits" and (mean >= 0).all() and np.allclose(mean.sum(axis=1), 1, atol=1e-3)
    if kind == "scores" and not is_distribution:
        raise InputError(
            f'{stream}: kind is "scores", but the rows are not probabilities that sum to 1: pass --kind logits'
        )
    looks_like, counted = guess_kind(values)
    if kind == "sums" and looks_like != "logits" and not is_distribution:
        raise InputError(
            f"{stream}: its rows are probabilities summed over {counted:g} frames, not {frames:g}: pass --frames "
            f"{counted:g}, or leave --frames out"
        )
    return mean if is_distribution else fusion.probabilities(mean)


def guess_kind(values: np.ndarray) -> tuple[Kind, float]:
    """Guess the kind of (N, K) values, and the number of frames.

    Rows of probabilities sum to 1, rows of their sums to the same number for all clips; all else is read as logits.

    >>> guess_kind(np.array([[0.25, 0.75], [1.0, 0.0]]))
    ('scores', 1)
    >>> guess_kind(np.array([[4.0, 15.0], [19.0, 0.0]]))
    ('sums', 19.0)
    >>> guess_kind(np.array([[-3.0, 2.0], [0.5, 9.0]]))
    ('logits', 1)
    """
    totals = values.sum(axis=1)
    if (values < 0).any() or not totals[0] > 0 or not np.allclose(totals, totals[0], rtol=1e-3):
        return "logits", 1
    return ("scores", 1) if np.isclose(totals[0], 1, atol=1e-3) else ("sums", round(float(totals[0]), 3))


def saturated_share(probabilities: np.ndarray) -> float:
    """The share of rows of (N, K) probabilities in which one class has nearly everything."""
    return float((probabilities.max(axis=1) > SATURATED).mean())


def read_scores(paths: Sequence[Path], kind: Kind | None = None, frames: float | None = None) -> list[ScoreFile]:
    """Read score files of any origin; several files may hold one stream each, with their clips in any order.

    Args:
        paths: .npz files with `names` (N) and one or more (N, K) arrays; `labels`, `classes`, `kind` and `frames` are
            optional. A stream that is called after its kind (`scores`, `logits`, `sums`) is named after its file.
        kind: overrides the kind in the files; None reads it, and guesses where a file has none.
        frames: number of frames that sums were taken over; None as for `kind`.

    Returns:
        One ScoreFile for each path, all with the clips and classes of the first file in the same order. Clips are the
        same if their file names are, see `bare_names`.

    Raises:
        InputError: if a file can't be read, streams share a name, or clips, labels or classes do not agree.
    """
    files = [_read(path, kind, frames) for path in paths]
    first, streams = files[0], [name for file in files for name in file.streams]
    if len(set(streams)) < len(streams):
        raise InputError(
            f"two score files hold a stream of the same name ({', '.join(streams)}): rename one of the arrays, or of "
            "the files if it is called scores"
        )
    return [first, *(_in_order_of(first, file, path) for file, path in zip(files[1:], paths[1:], strict=True))]


def bare_names(names: Sequence[str]) -> list[str]:
    """Names of clips without extension, and with no more folders than tell the clips apart.

    >>> bare_names(["Run/v_Run_g01_c01.avi", "Walk/1"]), bare_names(["x/Run/1.avi", "x/Walk/1.avi"])
    (['v_Run_g01_c01', '1'], ['Run/1', 'Walk/1'])
    """
    parts = [plain(without_ending(name.replace("\\", "/"))).split("/") for name in names]
    bare: list[str] = []
    for depth in range(1, max(map(len, parts), default=0) + 1):
        bare = ["/".join(one[-depth:]) for one in parts]
        if len(set(bare)) == len(bare):
            break
    return bare


_DAMAGED = (RuntimeError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # archives raise


def _read(path: Path, kind: Kind | None, frames: float | None) -> ScoreFile:
    if not path.is_file():
        problem = "is no regular file" if path.exists() else "does not exist"
        raise InputError(f"score file {path} {problem}: pass an .npz file")
    try:
        with path.open("rb") as opened:
            if not zipfile.is_zipfile(opened):
                raise ValueError("it is no .npz archive")
            opened.seek(0)
            with np.load(opened, allow_pickle=False) as file:
                TEXT.check(sum(member.file_size for member in file.zip.infolist()), f"score file {path}")
                content = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError, *_DAMAGED) as error:
        raise InputError(
            f"score file {path} can't be read ({first_line(error)}): write names (N) and an (N, K) array for each "
            "stream with numpy.savez, without pickles"
        ) from error
    return _checked(path, content, kind, frames)


@dataclass(frozen=True)
class _About:
    """What a score file says beside its scores."""

    names: Annotated[tuple[ClassName, ...], Meta(min_length=1)]
    classes: tuple[ClassName, ...] = ()
    labels: tuple[Count, ...] | None = None
    kind: Kind | None = None
    frames: Annotated[float, Meta(gt=0)] | None = None


def _checked(path: Path, content: dict[str, np.ndarray], kind: Kind | None, frames: float | None) -> ScoreFile:
    """The content of a file, after a check of each array and of their shapes against each other."""
    streams = {name: content[name] for name in content if name not in _ABOUT}
    if len(streams) == 1 and (name := next(iter(streams))) in get_args(Kind):
        streams = {path.stem: streams[name]}
    if not streams or "names" not in content:
        has = ", ".join(content) or "nothing"
        raise InputError(f"score file {path} needs names (N) and an array (N, K), but has {has}")
    try:
        about = convert({name: _plain_values(name, content[name]) for name in _ABOUT if name in content}, _About)
    except InputError as error:
        raise InputError(
            f"score file {path}: {error}: correct it, or write the file again with `rgbflow evaluate --scores`"
        ) from None
    for what, given in (("clip", about.names), ("class", about.classes)):
        if twice := next((name for name, count in Counter(map(plain, given)).items() if count > 1), None):
            raise InputError(f"score file {path} names a {what} twice, {twice}: give each its own name")
    streams = {name: _checked_rows(path, name, values, about.names) for name, values in streams.items()}
    _check_widths(path, streams, about)
    chosen, over = _kind_of(path, about, streams, kind, frames)
    labels = None if about.labels is None else np.array(about.labels, np.int64)
    return ScoreFile(about.names, about.classes, labels, streams, chosen, over)


def _checked_rows(path: Path, stream: str, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N, K) float64."""
    if not (values.dtype.kind in "fiu" and values.ndim == 2 and len(values) == len(names)):
        raise InputError(
            f"score file {path}: {stream} {values.shape} must be finite numbers of shape ({len(names)}, K)"
        )
    wrong = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(wrong):
        raise InputError(
            f"score file {path}: {stream} must be finite numbers, but is not for {len(wrong)} of {len(names)} clips, "
            f"such as {names[int(wrong[0])]}: score them again, or leave them out of every file"
        )
    return values.astype(np.float64)


def _plain_values(name: str, values: np.ndarray) -> object:
    """An array as msgspec takes it; other programs' names may be numbers or bytes, and their labels 3.0."""
    if name in ("names", "classes") and values.dtype.kind in "iu":
        values = values.astype(str)
    if name == "labels" and values.dtype.kind == "f" and (values % 1 == 0).all():
        values = values.astype(np.int64)
    return np.char.decode(values, "utf-8", "replace").tolist() if values.dtype.kind == "S" else values.tolist()


def _check_widths(path: Path, streams: Mapping[str, np.ndarray], about: _About) -> None:
    """Raise InputError unless all arrays are of the same clips and classes."""
    widths = {name: values.shape[1] for name, values in streams.items()}
    if about.classes:
        widths["classes"] = len(about.classes)
    num_classes = max(widths.values())
    if num_classes == 0 or len(set(widths.values())) > 1:
        told = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise InputError(f"score file {path}: all of its arrays must have the same number of classes, K, not {told}")
    labels = about.labels
    if labels is not None and (len(labels) != len(about.names) or max(labels) >= num_classes):
        told = f"up to {max(labels)}" if len(labels) == len(about.names) else f"{len(labels)} of them"
        rule = f"{len(about.names)} integers in 0…{num_classes - 1}"
        raise InputError(f"score file {path}: labels ({told}) must be {rule}: count classes from 0")


def _kind_of(
    path: Path, about: _About, streams: Mapping[str, np.ndarray], kind: Kind | None, frames: float | None
) -> tuple[Kind, float]:
    """The kind of the scores and the number of frames: as given, else as the file says, else guessed."""
    over = about.frames if frames is None else frames
    if over is not None and not over > 0:
        raise InputError(f"score file {path}: frames ({over:g}) must be above 0")
    guesses = {name: guess_kind(values) for name, values in streams.items()}
    guessed, counted = next(iter(guesses.values()))
    chosen = kind or about.kind or (guessed if over is None else "sums")
    if not (kind or about.kind or over) and len({one for one, _ in guesses.values()}) > 1:
        told = ", ".join(f"{name} like {one}" for name, (one, _) in guesses.items())
        raise InputError(f"score file {path} holds streams of several kinds ({told}): save each in a file of its own")
    if chosen != "sums":
        if over is not None:
            raise InputError(f"score file {path}: frames ({over:g}) are for sums, not for {chosen}: pass --kind sums")
        return chosen, 1
    if over is None and guessed != "sums":
        raise InputError(f"score file {path} holds sums, but not over how many frames: pass --frames")
    return chosen, counted if over is None else over


def _in_order_of(first: ScoreFile, file: ScoreFile, path: Path) -> ScoreFile:
    """The same file with its clips and classes in the order of the first file."""
    rows, columns = _rows_of(first, file, path), _columns_of(first, file, path)
    labels = None if file.labels is None else np.argsort(columns)[file.labels[rows]]
    if labels is not None and first.labels is not None and (wrong := np.flatnonzero(labels != first.labels)).size:
        raise InputError(
            f"score file {path} has another label than the first file for {len(wrong)} of {len(rows)} clips, such as "
            f"{first.names[wrong[0]]}: check where they come from"
        )
    streams = {name: values[rows][:, columns] for name, values in file.streams.items()}
    return replace(file, names=first.names, classes=first.classes or file.classes, labels=labels, streams=streams)


def _rows_of(first: ScoreFile, file: ScoreFile, path: Path) -> list[int]:
    """The row of each clip of the first file in another one."""
    row_of = {name: row for row, name in enumerate(bare_names(file.names))}
    wanted = dict(zip(bare_names(first.names), first.names, strict=True))
    lacking = [name for bare, name in wanted.items() if bare not in row_of]
    others = [file.names[row] for bare, row in row_of.items() if bare not in wanted]
    for words, names in (("lacks {} of the first file's clips", lacking), ("has {} clips more than the first", others)):
        if names:
            told = words.format(len(names))
            raise InputError(f"score file {path} {told}, such as {names[0]}: fuse scores of the same clips")
    return [row_of[bare] for bare in wanted]


def _columns_of(first: ScoreFile, file: ScoreFile, path: Path) -> list[int]:
    """The column of each class of the first file in another one; as they are where a file does not name its classes."""
    one, other = (next(iter(each.streams.values())).shape[1] for each in (first, file))
    if one != other:
        raise InputError(
            f"score file {path} has {other} classes, but the first file has {one}: fuse scores of the same classes"
        )
    if not (first.classes and file.classes):
        return list(range(one))
    column_of = {plain(name): column for column, name in enumerate(file.classes)}
    lacking = [name for name in first.classes if plain(name) not in column_of]
    if lacking:
        raise InputError(
            f"score file {path} has other classes than the first file and lacks {len(lacking)} of its {one}, such as "
            f"{lacking[0]}: call the same classes alike"
        )
    return [column_of[plain(name)] for name in first.classes]
