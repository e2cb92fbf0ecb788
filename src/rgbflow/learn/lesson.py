"""What there is to teach: rows from the features of takes, and what is said of the recogniser that comes of them."""

import hashlib
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from rgbflow.bundle import Bundle
from rgbflow.errors import InputError
from rgbflow.learn.few_takes import MOST_FOLDS, Examples, Fit, false_starts, name_scores
from rgbflow.learn.spec import names_a_side
from rgbflow.learn.takes import LOOKS, NONE_NAMES, WINDOW_SECONDS, Take, TakeFeatures
from rgbflow.origin import describe_origin

PROTOCOL = "takes"  # of the split that a taught bundle names: it holds no part for a test
FEW_TAKES = 3  # of an action; with fewer, no figure says much
STILL = 0.005  # pixels per frame step, the mean over the picture; below it nothing moves in a take
SAME_RATE = 1.25  # rates of takes may differ by this factor


@dataclass(frozen=True)
class OldClasses:
    """How the classes that were there before fare beside the new ones, on clips that nothing was fitted on.

    Attributes:
        clips: how many.
        before: percent that the base tells apart, whatever it is sure of.
        after: percent that the taught recogniser does.
        taken: percent that a new class now has.
    """

    clips: int
    before: float
    after: float
    taken: float

    def line(self) -> str:
        """For people."""
        return (
            f"classes that were there before, on {self.clips} clips: {self.before:.1f} % told apart before and "
            f"{self.after:.1f} % now; {self.taken:.1f} % are taken for a new action"
        )


@dataclass(frozen=True)
class TeachReport:
    """What is known of a taught recogniser without any clip but the takes; every figure leaves takes out.

    Attributes:
        takes: how many of each action.
        accuracy: percent of the takes that are told apart rightly by classifiers that have not seen them, whatever they
            are sure of; None where no take can be left out.
        found: percent of the takes that such classifiers also give their name, since they are sure enough.
        false_names: percent of the takes that get a name though their action was left out; None with one action.
        false_starts_per_hour: of actions, in the recordings of no action, each left out in turn; None without any.
        idle_seconds: how long these recordings are.
        seconds: of the fit.
        kept: how many classes of the base were kept.
        old: how these fare on clips of theirs; None where it was not measured.
        notes: what the figures do not say, and which takes could not be used; a line each.
    """

    takes: dict[str, int]
    accuracy: float | None
    found: float | None
    false_names: float | None
    false_starts_per_hour: float | None
    idle_seconds: float
    seconds: float
    notes: tuple[str, ...]
    kept: int = 0
    old: OldClasses | None = None

    def as_dict(self) -> dict:
        """A form for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people."""
        lines = ["taught: " + ", ".join(f"{name} ({count} takes)" for name, count in self.takes.items())]
        if self.kept:
            lines[0] += f", beside {self.kept} classes of the bundle"
        if self.accuracy is not None and self.found is not None:
            lines.append(
                f"each take left out in turn: {self.accuracy:.0f} % are told apart, {self.found:.0f} % are also sure "
                "enough to be named"
            )
        if self.false_names is not None:
            lines.append(f"each action left out in turn: {self.false_names:.0f} % of its takes get a wrong name")
        if self.false_starts_per_hour is not None:
            starts = f"{self.false_starts_per_hour:.1f} false starts an hour"
            lines.append(f"recordings of no action ({self.idle_seconds:.0f} s), each left out in turn: {starts}")
        if self.old is not None:
            lines.append(self.old.line())
        return lines + [f"note: {note}" for note in self.notes]


@dataclass(frozen=True)
class Lesson:
    """Takes and their features, and what was noticed about them.

    Attributes:
        takes: of actions, and recordings of none.
        features: of each.
        drawn: of clips of no action that the program draws itself.
        notes: a line each, such as on takes that were set aside.
    """

    takes: tuple[Take, ...]
    features: tuple[TakeFeatures, ...]
    drawn: TakeFeatures
    notes: tuple[str, ...] = field(default=())

    @property
    def actions(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted({take.name for take in self.takes if not take.is_none}))

    @property
    def classes(self) -> tuple[str, ...]:
        """The actions, and last the class of no action."""
        return (*self.actions, NONE_NAMES[0])

    @property
    def has_recordings(self) -> bool:
        """Whether there are recordings of no action."""
        return any(take.is_none for take in self.takes)

    def check(self, has_old: bool = False) -> None:
        """Raise InputError if there is not enough to teach; beside old classes, one action is."""
        if len(self.actions) + (self.has_recordings or has_old) < 2:
            found = ", ".join(self.actions) or "no action"
            raise InputError(
                f"the takes show {found}: give takes of at least two actions, or of one and a folder {NONE_NAMES[0]!r} "
                "with recordings in which it does not happen"
            )

    def examples(self) -> Examples:
        """The rows to fit on: the mean over snippets of each take, each window of a recording, each drawn clip.

        Mirrored ones are there too, unless an action's name says left or right.
        """
        looks = 1 if any(map(names_a_side, self.actions)) else LOOKS
        material = [*self.features, self.drawn]
        windows = [len(next(iter(one.streams.values()))) for one in material]
        folds = folds_of(self.takes, windows[:-1])
        drawn_folds = np.arange(windows[-1]) % (folds.max() + 1)
        is_shown = np.arange(sum(windows)) < len(folds)  # drawn clips count in no figure
        labels = [self.classes.index(NONE_NAMES[0] if take.is_none else take.name) for take in self.takes]
        labels.append(len(self.actions))
        means = {
            stream: np.concatenate([one.streams[stream].mean(axis=2) for one in material])
            for stream in self.drawn.streams
        }
        return Examples(
            features={stream: mean[:, :looks].reshape(-1, mean.shape[-1]) for stream, mean in means.items()},
            labels=np.repeat(labels, np.multiply(windows, looks)),
            folds=np.repeat(np.append(folds, drawn_folds), looks),
            is_tested=np.repeat(is_shown, looks) & np.tile(np.arange(looks) == 0, sum(windows)),
            num_classes=len(self.classes),
            no_action=len(self.actions),
        )

    def bundle(self, base: Bundle, fit: Fit) -> Bundle:
        """The record of the taught bundle."""
        digest = hashlib.sha256("".join(sorted(one.sha256 for one in self.features)).encode()).hexdigest()
        mirrored = not any(map(names_a_side, self.actions))
        rates = [one.frames_per_second for one in self.features]
        return replace(
            base,
            classes=self.classes,
            streams={stream: replace(spec, mirrored=mirrored) for stream, spec in base.streams.items()},
            split={"protocol": PROTOCOL, "seed": 0, "leak_percent": 0.0, "sha256": digest},
            fusion=fit.fusion,
            calibration={},
            measured={},
            origin={stream: {**describe_origin(), "base": base.origin.get(stream, {})} for stream in base.streams},
            frames_per_second=round(statistics.median(rates), 3),
            no_action=NONE_NAMES[0],
        )


def folds_of(takes: Sequence[Take], windows: Sequence[int]) -> np.ndarray:
    """Which rows are left out together: a number for each window of each take.

    All takes of one group, where there are several groups and every action is in two of them; else one take of each
    action. Of recordings of no action, stretches: the windows beside each other look alike.
    """
    shown = [take for take in takes if not take.is_none]
    groups = sorted({take.group for take in shown if take.group})
    spread = {take.name: {other.group for other in shown if other.name == take.name} for take in shown}
    by_group = all(take.group for take in shown) and all(len(found) > 1 for found in spread.values())
    most = max(Counter(take.name for take in shown).values(), default=2)
    count = min(MOST_FOLDS, len(groups) if by_group else max(most, 2))
    seen: Counter[str] = Counter()
    folds, total, before = [], sum(n for take, n in zip(takes, windows, strict=True) if take.is_none), 0
    for take, number in zip(takes, windows, strict=True):
        if take.is_none:
            folds += [(before + window) * count // total for window in range(number)]
            before += number
        else:
            folds.append((groups.index(take.group) if by_group else seen[take.name]) % count)
            seen[take.name] += 1
    return np.array(folds)


def make_report(lesson: Lesson, examples: Examples, fit: Fit, seconds: float) -> TeachReport:
    """What the left-out takes say, see `TeachReport`."""
    threshold = fit.fusion.threshold or 0.0
    labels = examples.labels[examples.is_tested]
    asked = np.isfinite(fit.held_out).all(axis=1)
    is_action = labels != examples.no_action
    shown = asked & is_action
    answers = fit.held_out[:, examples.actions].argmax(axis=1)
    named = name_scores(fit.held_out, examples.no_action) > threshold
    right = answers == labels
    idle = asked & ~is_action
    starts = false_starts(fit.held_out[idle], examples.no_action, threshold)
    idle_seconds = float(WINDOW_SECONDS * np.count_nonzero(idle))
    return TeachReport(
        takes=dict(sorted(Counter(take.name for take in lesson.takes if not take.is_none).items())),
        accuracy=100 * float(right[shown].mean()) if shown.any() else None,
        found=100 * float((right & named)[shown].mean()) if shown.any() else None,
        false_names=100 * float((fit.strange > threshold).mean()) if len(fit.strange) else None,
        false_starts_per_hour=3600 * starts / idle_seconds if idle.any() else None,
        idle_seconds=idle_seconds,
        seconds=round(seconds, 3),
        notes=(*lesson.notes, *notes_on(lesson)),
    )


def notes_on(lesson: Lesson) -> list[str]:
    """What the figures of a lesson do not say, a line each."""
    shown = [take for take in lesson.takes if not take.is_none]
    counts, notes = Counter(take.name for take in shown), []
    few = [name for name, count in sorted(counts.items()) if count < FEW_TAKES]
    if few:
        notes.append(f"{', '.join(few)}: fewer than {FEW_TAKES} takes; more make answers and figures better")
    groups = {take.group for take in shown}
    if groups == {""}:
        notes.append("nothing says who is in which take (groups.tsv): the figures may say nothing about other persons")
    elif len(groups) == 1:
        notes.append(f"all takes are of {groups.pop()}: the figures say nothing about others")
    if not lesson.has_recordings:
        notes.append("there is no recording of no action: how often an action starts falsely is not known")
    if sided := [name for name in lesson.actions if names_a_side(name)]:
        notes.append(f"{', '.join(sided)} names a side: takes are not mirrored")
    rates = sorted(one.frames_per_second for one in lesson.features)
    if rates[-1] > SAME_RATE * rates[0]:
        notes.append(f"the takes have {rates[0]:.3g} to {rates[-1]:.3g} frames a second: flow differs with the rate")
    still = [take.path.name for take, one in zip(lesson.takes, lesson.features, strict=True) if one.motion < STILL]
    return notes + ([f"nothing moves in {', '.join(still)}"] if still else [])
