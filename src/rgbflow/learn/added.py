"""Actions added to a trained bundle: its classes keep their classifier, the new ones come by features."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rgbflow.bundle import Bundle
from rgbflow.data.jpegs import AnyStore
from rgbflow.data.lists import Part
from rgbflow.data.splits import Split, check_split
from rgbflow.data.store import read_ahead
from rgbflow.errors import InputError
from rgbflow.fusion import Fusion, probabilities
from rgbflow.learn.evaluate import check_belongs
from rgbflow.learn.few_takes import Examples, Fit, name_scores
from rgbflow.learn.lesson import PROTOCOL, Lesson, OldClasses, TeachReport
from rgbflow.learn.probe import Head, classifier_of
from rgbflow.learn.takes import SNIPPETS
from rgbflow.networks.stream_net import StreamNet
from rgbflow.progress import SILENT, Progress, counted
from rgbflow.recognizer import Recognizer
from rgbflow.stream import Stream


@dataclass(frozen=True, eq=False)
class OldClips:
    """Clips of the classes that were there before.

    Attributes:
        features: per stream (N, D) float32, the mean over each clip's snippets.
        labels: (N,) indices of the base's classes.
    """

    features: dict[Stream, np.ndarray]
    labels: np.ndarray


def has_classes_to_keep(bundle: Bundle) -> bool:
    """Whether a bundle is one of `train`: its classes are its owner's, not those of takes or of a published network."""
    split = bundle.split
    return split.get("protocol") not in (None, "none", PROTOCOL) and "weights" not in split


def read_old(base: Recognizer, store: AnyStore, split: Split, part: Part, progress: Progress = SILENT) -> OldClips:
    """The features of a part of the split that the base was trained on.

    Raises:
        InputError: if store, split and base do not belong together, or the part is empty.
    """
    check_split(split, store.rows)
    check_belongs(base.bundle, store, split)
    clips = split.clips(part)
    if not clips:
        raise InputError(f"the {part} part of the split is empty: old classes are kept with a split that has it")
    rows: dict[Stream, list[np.ndarray]] = {stream: [] for stream in base.bundle.streams}
    for clip in counted(clips, len(clips), progress):
        stored = store.clip(clip.name)
        ready = read_ahead(stored, base.wanted_indices(stored, SNIPPETS))
        for stream, values in base.features(ready, SNIPPETS).items():
            rows[stream].append(values.mean(axis=0))
    labels = np.array([base.bundle.classes.index(clip.label) for clip in clips])
    return OldClips({stream: np.stack(values) for stream, values in rows.items()}, labels)


def with_old(examples: Examples, old: OldClips) -> Examples:
    """The examples with clips of the old classes, which are none of the new actions."""
    count = len(old.labels)
    return replace(
        examples,
        features={stream: np.concatenate([rows, old.features[stream]]) for stream, rows in examples.features.items()},
        labels=np.append(examples.labels, np.full(count, examples.no_action)),
        folds=np.append(examples.folds, np.arange(count) % (examples.folds.max() + 1)),
        is_tested=np.append(examples.is_tested, np.zeros(count, bool)),
    )


def beside(networks: Mapping[Stream, StreamNet], examples: Examples, fit: Fit, num_old: int) -> dict[Stream, Head]:
    """Classifiers of the old classes as they were, and after them of the new ones.

    The logit of a new class is its lead over "no action", plus a number: the one that gives the left-out takes to the
    new classes and the left-out old clips to the old ones, an equal share of both counting the same.

    Args:
        networks: of the base.
        examples: of `with_old`.
        fit: of these.
        num_old: the number of old clips, which are the last rows.

    Raises:
        InputError: if a network has no linear classifier.
    """
    heads = {}
    for stream, network in networks.items():
        old, new = head_of(network), fit.heads[stream]
        lead = leads(fit.left_out[stream], examples)
        if not (seen := examples.is_tested & is_of_action(examples) & np.isfinite(lead).all(axis=1)).any():
            lead, seen = leads(new.logits(examples.features[stream]), examples), examples.is_tested  # one take each
            seen = seen & is_of_action(examples)
        highest = old.logits(examples.features[stream]).max(axis=1)
        own = lead[seen, [examples.actions.index(label) for label in examples.labels[seen]]]
        last = slice(len(highest) - num_old, None)
        raised = fairest(highest[seen] - own, highest[last] - np.nan_to_num(lead[last], nan=-np.inf).max(axis=1))
        added, shift = leads(new.weight.T, examples).T, leads(new.bias, examples) + raised
        heads[stream] = Head(
            np.concatenate([old.weight, added]).astype(np.float32),
            np.concatenate([old.bias, shift]).astype(np.float32),
            new.strength,
        )
    return heads


def fairest(needed: np.ndarray, allowed: np.ndarray) -> float:
    """The number that is at least `needed` for many takes and below `allowed` for many old clips.

    >>> fairest(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    2.0
    """
    candidates = np.unique(np.concatenate([needed, allowed[np.isfinite(allowed)]]))
    gains = [(needed <= one).mean() + (allowed > one).mean() for one in candidates]
    return float(candidates[int(np.argmax(gains))])


def head_of(network: StreamNet) -> Head:
    """The classifier of a network.

    Raises:
        InputError: if it is not one linear layer.
    """
    layer = classifier_of(network)
    if layer is None:
        raise InputError(f"the networks of {network.family.title.format('this family')} have no linear classifier")
    weight, bias = (value.detach().float().cpu().numpy() for value in (layer.weight, layer.bias))
    return Head(weight, bias, float("nan"))


def is_of_action(examples: Examples) -> np.ndarray:
    """Which rows show an action."""
    return np.isin(examples.labels, examples.actions)


def leads(values: np.ndarray, examples: Examples) -> np.ndarray:
    """Of (..., K) numbers, those of the actions above that of no action: (..., A)."""
    assert examples.no_action is not None
    return values[..., examples.actions] - values[..., [examples.no_action]]


def widened(fusion: Fusion, added: int) -> Fusion:
    """The fusion for some further classes; where each class has numbers of its own, they get the mean."""
    weights = {
        name: row if len(row) == 1 else (*row, *[float(np.mean(row))] * added) for name, row in fusion.weights.items()
    }
    bias = (*fusion.bias, *[float(np.mean(fusion.bias))] * added) if fusion.bias else ()
    return replace(fusion, weights=weights, bias=bias)


def added_bundle(base: Bundle, lesson: Lesson, fit: Fit) -> Bundle:
    """The record of the base with further classes.

    Raises:
        InputError: where an action has the name of a class that is kept.
    """
    if both := sorted(set(base.classes) & set(lesson.actions)):
        raise InputError(f"{', '.join(both)}: the bundle has a class of that name already: rename the takes' folder")
    return replace(
        lesson.bundle(base, fit),
        classes=(*base.classes, *lesson.actions),
        fusion=widened(base.fusion, len(lesson.actions)),
        frames_per_second=base.frames_per_second,
        no_action=base.no_action,
    )


def measure_old(base: Recognizer, bundle: Bundle, heads: Mapping[Stream, Head], clips: OldClips) -> OldClasses:
    """How the old classes fare on clips that nothing was fitted on."""

    def answers(fusion: Fusion, used: Mapping[Stream, Head]) -> np.ndarray:
        scores = {stream: probabilities(head.logits(clips.features[stream])) for stream, head in used.items()}
        return fusion.fuse(scores).argmax(axis=1)

    before = answers(base.bundle.fusion, {stream: head_of(one) for stream, one in base.engine.networks.items()})
    after = answers(bundle.fusion, heads)
    shares = before == clips.labels, after == clips.labels, after >= len(base.bundle.classes)
    return OldClasses(len(clips.labels), *(100 * float(share.mean()) for share in shares))


def report_beside(
    report: TeachReport, bundle: Bundle, heads: Mapping[Stream, Head], examples: Examples, fit: Fit
) -> TeachReport:
    """The report with the figures of the left-out takes beside the old classes."""
    count = len(examples.actions)
    kept = len(bundle.classes) - count
    seen = examples.is_tested & is_of_action(examples) & np.isfinite(next(iter(fit.left_out.values()))).all(axis=1)
    report = replace(report, kept=kept, accuracy=None, found=None, false_names=None, false_starts_per_hour=None)
    if not seen.any():
        return report
    scores = {}
    for stream, head in heads.items():
        logits = head.logits(examples.features[stream][seen])
        raised = head.bias[kept:] - leads(fit.heads[stream].bias, examples)
        logits[:, kept:] = leads(fit.left_out[stream][seen], examples) + raised
        scores[stream] = probabilities(logits)
    fused = bundle.fusion.fuse(scores)
    right = fused.argmax(axis=1) - kept == [examples.actions.index(label) for label in examples.labels[seen]]
    known = name_scores(fused, None) > (bundle.fusion.threshold or 0.0)
    return replace(report, accuracy=100 * float(right.mean()), found=100 * float((right & known).mean()))
