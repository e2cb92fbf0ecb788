"""The demo: every step on a data set that it makes itself, in minutes, without a network connection."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from rgbflow.atomic import write_atomically
from rgbflow.bundle import RECORD, load_bundle
from rgbflow.data.cutting import make_split
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.splits import Split
from rgbflow.data.store import Store, prepare_store
from rgbflow.demo.synthetic import write_dataset
from rgbflow.demo.training import Job, train_one_by_one, train_side_by_side
from rgbflow.errors import InputError
from rgbflow.learn.calibrate import calibrate_fusion, record_calibration
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.evaluate import Evaluation, evaluate_recognizer, make_report, record_figures
from rgbflow.learn.report import write_report
from rgbflow.prediction import Prediction
from rgbflow.progress import Track, untracked
from rgbflow.recognizer import Recognizer
from rgbflow.stream import STREAMS, FlowSettings, Preparation, Stream
from rgbflow.why import write_why

PREPARATION = Preparation(short_side=128, flow=FlowSettings("dis", "medium", bound=10.0))


@dataclass(frozen=True)
class Plan:
    """The size of the demo's data set, and its training settings."""

    config: TrainConfig
    groups: int
    clips_per_group: int  # of each class


# Small pictures, and ImageNet's weights, which have learned to see already: two cores train both streams in minutes.
PLAN = Plan(
    TrainConfig(
        backbone="tf_efficientnet_lite0",
        weights="imagenet",
        input_size=96,
        stack_length=5,
        crop_fraction=1.0,  # the things in the hands may be at the edge
        num_segments=2,
        epochs=8,
        batch_size=8,
        learning_rate=0.02,
        gradient_clip=5.0,
        flip=False,  # step_left mirrored is step_right
        workers=0,
        precision="fp32",  # its depthwise convolutions are slower in bf16 than in fp32 on a CPU
        licence="Apache-2.0",
    ),
    groups=20,
    clips_per_group=1,
)
NUM_SNIPPETS = 5
MADE = ("videos", "store", "bundle", "split.json", "report.html", "overlay.mp4")
MARKER = ".rgbflow-demo"  # in a folder that the demo made and may empty


@dataclass(frozen=True)
class DemoResult:
    """The demo's figures and the paths of its files."""

    evaluation: Evaluation
    clip: str
    prediction: Prediction
    report: Path
    overlay: Path
    bundle: Path

    def as_dict(self) -> dict:
        """A form for JSON."""
        return {
            **self.evaluation.as_dict(),
            "clip": self.clip,
            "label": self.prediction.label,
            "report": str(self.report),
            "overlay": str(self.overlay),
            "bundle": str(self.bundle),
        }

    def summary(self) -> str:
        """The label of a clip, the paths to look at, and the next command."""
        return (
            f"held-out clip {self.clip}: {self.prediction.label} ({self.prediction.score:.0%})\n"
            f"{self.prediction.decision.line()}\n"
            f"report:  {self.report}\noverlay: {self.overlay}\n"
            f"try:     rgbflow predict {self.bundle} VIDEO"
        )


def run_demo(folder: Path, workers: int, seed: int, plan: Plan, track: Track = untracked) -> DemoResult:
    """Make the data set, prepare it, train, calibrate and evaluate both streams, and label a clip, all inside `folder`.

    A stopped demo resumes; a finished one, or one with another seed, starts again. A folder with other files is left
    alone.

    Args:
        folder: made if missing.
        workers: processes that draw and prepare the clips; with more than one, both streams train at the same time.
        seed: of the data set, the split and the training.
        plan: usually `PLAN`.
        track: how each piece of the work shows its progress.
    """
    bundle, report = folder / "bundle", folder / "report.html"
    _take_folder(folder, f"made by rgbflow demo, seed {seed}, {plan.config.backbone}\n", finished=report.exists())
    store, split = _make_data(folder, plan, workers, seed, track)
    missing = [stream for stream in STREAMS if stream not in _trained_streams(bundle)]
    job = Job(folder / "store", folder / "split.json", bundle, replace(plan.config, seed=seed))
    (train_one_by_one if workers == 1 else train_side_by_side)(job, missing, track)
    with track("calibrating", "clips") as progress:
        recognizer = Recognizer.load(bundle, engine="torch")
        calibration = calibrate_fusion(recognizer, store, split, num_snippets=NUM_SNIPPETS, progress=progress)
    record_calibration(bundle, recognizer.bundle, calibration)
    recognizer = Recognizer.load(bundle, engine="torch")  # which the explanations need
    with track("evaluating", "clips") as progress:
        evaluation = evaluate_recognizer(recognizer, store, split, num_snippets=NUM_SNIPPETS, progress=progress)
    record_figures(bundle, recognizer.bundle, evaluation)
    clip = split.test[0].name
    source = Path(store.rows[clip].source)
    explanation = recognizer.explain(source, NUM_SNIPPETS)
    overlay = folder / "overlay.mp4"
    write_why(source, explanation, recognizer.bundle.preparation, overlay)
    write_report(report, make_report(evaluation, recognizer, bundle, store, title="rgbflow demo"))
    return DemoResult(evaluation, clip, explanation.prediction, report, overlay, bundle)


def _trained_streams(bundle: Path) -> Collection[Stream]:
    return load_bundle(bundle).streams if (bundle / RECORD).exists() else ()


def _take_folder(folder: Path, mark: str, finished: bool) -> None:
    """Make the folder, or empty it if it holds a demo that can't be resumed.

    Args:
        folder: the demo's folder.
        mark: the line that identifies a demo; only the same demo is resumed.
        finished: whether the demo in the folder is finished.

    Raises:
        InputError: if it holds other files.
    """
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()):
        if not marker.is_file():
            raise InputError(f"--out {folder} holds other files: choose an empty or a new folder")
        if finished or marker.read_text(encoding="utf-8") != mark:
            for made in MADE:
                shutil.rmtree(folder / made, ignore_errors=True)
                (folder / made).unlink(missing_ok=True)
    write_atomically(marker, mark)


def _make_data(folder: Path, plan: Plan, workers: int, seed: int, track: Track) -> tuple[Store, Split]:
    videos = folder / "videos"
    with track("filming", "clips") as progress:
        write_dataset(
            videos,
            num_groups=plan.groups,
            clips_per_group=plan.clips_per_group,
            seed=seed,
            workers=workers,
            progress=progress,
        )
    sources = read_class_folders(videos)
    with track("preparing", "clips") as progress:
        prepare_store(sources, folder / "store", PREPARATION, workers, progress)
    split = make_split(sources, "group", seed)
    split.save(folder / "split.json")
    return Store(folder / "store"), split
