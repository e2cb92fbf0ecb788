"""Score files: the scores of each stream for each clip, from this program or any other."""

import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta

from rgbflow import fusion
from rgbflow.atomic import replacing
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
        """Per stream (N, K) float64 probabilities: sums become means, logits go through one softmax."""
        return {name: as_probabilities(values, self.kind, self.frames) for name, values in self.streams.items()}


def as_probabilities(values: np.ndarray, kind: Kind, frames: float = 1) -> np.ndarray:
    """Turn (N, K) logits, scores or sums into probabilities.

    Sums of logits are divided by the number of frames before the softmax: the softmax of a sum would be so sharp that
    the stream with the larger numbers alone decides an average. Sums of probabilities are divided as well.
    """
    mean = values / frames
    is_distribution = kind != "logits" and (mean >= 0).all() and np.allclose(mean.sum(axis=1), 1, atol=1e-3)
    if kind == "scores" and not is_distribution:
        raise InputError('kind is "scores", but the rows are not probabilities that sum to 1: pass --kind logits')
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
    if (values < 0).any() or not np.allclose(totals, totals[0], rtol=1e-3):
        return "logits", 1
    return ("scores", 1) if np.isclose(totals[0], 1, atol=1e-3) else ("sums", round(float(totals[0]), 3))


def saturated_share(probabilities: np.ndarray) -> float:
    """The share of rows of (N, K) probabilities in which one class has nearly everything."""
    return float((probabilities.max(axis=1) > SATURATED).mean())


def read_scores(paths: Sequence[Path], kind: Kind | None = None, frames: float | None = None) -> list[ScoreFile]:
    """Read score files of any origin; several files may hold one stream each, with their clips in any order.

    Args:
        paths: .npz files with `names` (N) and one or more (N, K) arrays; `labels`, `classes`, `kind` and `frames` are
            optional. A stream without its own name (`scores`) is named after its file.
        kind: overrides the kind in the files; None reads it, and guesses where a file has none.
        frames: number of frames that sums were taken over; None as for `kind`.

    Returns:
        One ScoreFile for each path, all with the clips of the first file in the same order.

    Raises:
        InputError: if a file can't be read, streams share a name, or clips, labels or classes do not agree.
    """
    files = [_read(path, kind, frames) for path in paths]
    first, streams = files[0], [name for file in files for name in file.streams]
    if len(set(streams)) < len(streams):
        raise InputError(f"two score files hold a stream of the same name ({', '.join(streams)}): rename one of them")
    return [first, *(_in_order_of(first, file, path) for file, path in zip(files[1:], paths[1:], strict=True))]


_DAMAGED = (RuntimeError, OverflowError, MemoryError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)  # archives raise


def _read(path: Path, kind: Kind | None, frames: float | None) -> ScoreFile:
    if path.exists() and not path.is_file():
        raise InputError(f"score file {path} is no regular file: pass an .npz file")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            TEXT.check(sum(member.file_size for member in file.zip.infolist()), f"score file {path}")
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, TypeError, KeyError, *_DAMAGED) as error:
        reason = first_line(error)
        raise InputError(f"score file {path} can't be read ({reason}): pass an .npz file without pickles") from error
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
    streams = {(path.stem if name == "scores" else name): content[name] for name in content if name not in _ABOUT}
    if not streams or "names" not in content:
        has = ", ".join(content) or "nothing"
        raise InputError(f"score file {path} needs names (N) and an array (N, K), but has {has}")
    try:
        about = convert({name: _plain_values(name, content[name]) for name in _ABOUT if name in content}, _About)
    except InputError as error:
        raise InputError(f"score file {path}: {error}: write it again with `rgbflow evaluate --scores`") from None
    if len(set(about.names)) < len(about.names):
        raise InputError(f"score file {path} names a clip twice: give each clip one row")
    for name, values in streams.items():
        is_table = values.dtype.kind in "fiu" and values.ndim == 2 and len(values) == len(about.names)
        if not is_table or not np.isfinite(values).all():
            raise InputError(
                f"score file {path}: {name} {values.shape} must be finite numbers of shape ({len(about.names)}, K)"
            )
        streams[name] = values.astype(np.float64)
    _check_widths(path, streams, about)
    chosen, over = _kind_of(path, about, next(iter(streams.values())), kind, frames)
    labels = None if about.labels is None else np.array(about.labels, np.int64)
    return ScoreFile(about.names, about.classes, labels, streams, chosen, over)


def _plain_values(name: str, values: np.ndarray) -> object:
    """An array as msgspec takes it; other programs' names may be numbers or bytes."""
    if name in ("names", "classes") and values.dtype.kind in "iu":
        values = values.astype(str)
    return np.char.decode(values, "utf-8", "replace").tolist() if values.dtype.kind == "S" else values.tolist()


def _check_widths(path: Path, streams: Mapping[str, np.ndarray], about: _About) -> None:
    """Raise InputError unless all arrays are of the same clips and classes."""
    widths = {values.shape[1] for values in streams.values()}
    if widths == {0} or len(widths) > 1 or (about.classes and {len(about.classes)} != widths):
        raise InputError(f"score file {path}: its arrays and classes must have the same number of classes, K")
    if about.labels is not None and (len(about.labels) != len(about.names) or max(about.labels) >= max(widths)):
        rule = f"{len(about.names)} integers in 0…{max(widths) - 1}, indices of classes"
        raise InputError(f"score file {path}: labels ({len(about.labels)}) must be {rule}")


def _kind_of(
    path: Path, about: _About, values: np.ndarray, kind: Kind | None, frames: float | None
) -> tuple[Kind, float]:
    """The kind of the scores and the number of frames: as given, else as the file says, else guessed."""
    guessed, counted = guess_kind(values)
    chosen = kind or about.kind or guessed
    over = next((one for one in (frames, about.frames) if one is not None), counted if chosen == "sums" else 1)
    if not over > 0:
        raise InputError(f"score file {path}: frames ({over:g}) must be above 0")
    if chosen == "sums" and over == 1:
        raise InputError(f"score file {path} holds sums, but not over how many frames: pass --frames")
    return chosen, over


def _num_classes(file: ScoreFile) -> int:
    return next(iter(file.streams.values())).shape[1]


def _in_order_of(first: ScoreFile, file: ScoreFile, path: Path) -> ScoreFile:
    if sorted(first.names) != sorted(file.names):
        raise InputError(f"score file {path} has other clips than the first file: fuse scores of the same clips")
    order = [file.names.index(name) for name in first.names]
    labels = None if file.labels is None else file.labels[order]
    if (one := _num_classes(first)) != (other := _num_classes(file)):
        raise InputError(
            f"score file {path} has {other} classes, but the first file has {one}: fuse scores of the same classes"
        )
    if first.classes and file.classes and first.classes != file.classes:
        raise InputError(
            f"score file {path} has other classes, or another order: sort its columns like the first file's"
        )
    if labels is not None and first.labels is not None and (labels != first.labels).any():
        raise InputError(f"score file {path} has other labels than the first file: check where they come from")
    streams = {name: values[order] for name, values in file.streams.items()}
    return ScoreFile(first.names, file.classes or first.classes, labels, streams, file.kind, file.frames)
