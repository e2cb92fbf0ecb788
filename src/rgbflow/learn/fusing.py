"""Fusion of the streams in score files: unfitted, or by numbers that were fitted without the clip's group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

import numpy as np

from rgbflow.data.layouts import match_groups, ucf101_group, without_ending
from rgbflow.errors import InputError
from rgbflow.fusion import UNFITTED, Fusion
from rgbflow.learn.comparison import Compared, compare
from rgbflow.learn.fits import FEWEST_CLIPS, ScoredClips, cross_validated, fit
from rgbflow.learn.metrics import Figures, measure
from rgbflow.learn.scores import bare_names
from rgbflow.stream import FusionMethod as Method


@dataclass(frozen=True)
class FusedClips:
    """The fused answers for N clips.

    Attributes:
        scores: (N, K) float64 probabilities; after a fit, each row by numbers that were fitted without the row's group.
        fusion: the fusion used; after a fit, the one fitted on all of these clips, for use with other clips.
        figures: figures of each stream and "fused"; empty without labels.
        compared: the plain average and this fusion on these clips; empty without labels, or if it is the average.
    """

    scores: np.ndarray
    fusion: Fusion
    figures: Mapping[str, Figures] = field(default_factory=dict)
    compared: tuple[Compared, ...] = ()


def fuse_clips(
    streams: Mapping[str, np.ndarray],
    names: Sequence[str],
    labels: np.ndarray | None,
    groups: np.ndarray,
    method: Method,
    with_fit: bool = False,
) -> FusedClips:
    """Fuse the streams, and measure them where there are labels.

    Args:
        streams: (N, K) probabilities of each stream.
        names: names of the N clips.
        labels: (N,) integers; None if unknown.
        groups: (N,) names.
        method: without a fit, average or product.
        with_fit: fit the method and a temperature to the labels, cross-validated by group.

    Raises:
        InputError: if a method or a fit needs labels, clips or streams that are missing.
    """
    _check(streams, labels, groups, method, with_fit)
    if labels is None:
        return FusedClips(Fusion(method).fuse(streams), Fusion(method))
    figures = {name: measure(scores, labels) for name, scores in streams.items()}  # refuses wrong labels
    clips, name = ScoredClips(streams, labels, groups), f"{method}, fitted" if with_fit else method
    fusion = fit(method, clips) if with_fit else Fusion(method)
    scores = cross_validated(partial(fit, method), clips) if with_fit else fusion.fuse(streams)
    figures["fused"] = measure(scores, labels)
    if fusion == Fusion():
        return FusedClips(scores, fusion, figures)
    beside = {"average, not fitted": Fusion().fuse(streams), name: scores}
    return FusedClips(scores, fusion, figures, tuple(compare(beside, labels, dict(zip(names, groups, strict=True)))))


def _check(
    streams: Mapping[str, np.ndarray], labels: np.ndarray | None, groups: np.ndarray, method: Method, with_fit: bool
) -> None:
    if not with_fit and method not in UNFITTED:
        raise InputError(f"--method {method} has numbers to fit: add --fit, or choose {' or '.join(UNFITTED)}")
    if not with_fit:
        return
    if labels is None:
        raise InputError("--fit needs labels, but the score files have none: leave it out, or add `labels` (N)")
    num_groups = len(set(groups))
    if len(labels) < FEWEST_CLIPS or num_groups < 2:
        raise InputError(
            f"--fit needs {FEWEST_CLIPS} clips of 2 groups, but there are {len(labels)} of {num_groups}: leave it out"
        )
    if len(streams) == 1 and method != "average":
        raise InputError(f"--fit of {method} needs two streams, but the files have one: use --method average")
    if len(streams) > 2 and method == "weighted":
        raise InputError(
            f"--fit of weighted takes two streams, but the files have {len(streams)}: use --method product"
        )


def clip_groups(names: Sequence[str], table: Mapping[str, str] | None = None) -> np.ndarray:
    """The group of each clip: from the table, else from its UCF101 name (v_Class_gNN_cNN), else the clip's own name.

    Args:
        names: names of the clips, with or without class folder and extension.
        table: from `rgbflow.data.layouts.read_groups`; it may name other clips too, and clips with another folder.

    Raises:
        InputError: if the table lacks clips, or if one of its lines fits two clips.
    """
    paths = {name: PurePosixPath(without_ending(name)) for name in names}
    bare = {without_ending(clip): group for clip, group in (table or {}).items()}
    by_path = match_groups(bare, {str(path): path for path in paths.values()}, may_name_others=True)
    by_file = dict(zip(bare_names([*bare]), bare.values(), strict=True))
    given = {name: by_file[file] for name, file in zip(names, bare_names(names), strict=True) if file in by_file}
    given |= {name: by_path[str(path)] for name, path in paths.items() if str(path) in by_path}
    missing = [name for name in names if name not in given]
    if table is not None and missing:
        raise InputError(f"the groups lack {len(missing)} of {len(names)} clips, such as {missing[0]}: add their lines")
    return np.array([given.get(name) or ucf101_group(path.name) or name for name, path in paths.items()])
