"""The demo: the whole road on a data set it makes itself, in minutes, without a network."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from rgbflow.atomic import write_atomically
from rgbflow.bundle import RECORD, load_bundle
from rgbflow.data.layouts import read_class_folders
from rgbflow.data.splits import Split, make_split
from rgbflow.data.store import Store, prepare_store
from rgbflow.demo.synthetic import write_dataset
from rgbflow.errors import InputError
from rgbflow.learn.calibrate import calibrate_fusion, record_calibration
from rgbflow.learn.config import TrainConfig
from rgbflow.learn.evaluate import Evaluation, evaluate_recognizer, make_report, record_figures
from rgbflow.learn.report import write_report
from rgbflow.learn.train import train_stream
from rgbflow.prediction import Prediction
from rgbflow.progress import Track, untracked
from rgbflow.recognizer import Recognizer
from rgbflow.stream import STREAMS, FlowSettings, Preparation
from rgbflow.why import write_why

NUM_GROUPS = 20
CLIPS_PER_GROUP = 2  # of each class
PREPARATION = Preparation(short_side=128, flow=FlowSettings("dis", "medium", bound=10.0))
# A small network on small pictures: two cores train both streams in minutes. The default is ResNet101 at 224×224.
CONFIG = TrainConfig(
    backbone="resnet18",
    weights="none",
    input_size=96,
    stack_length=5,
    crop_fraction=1.0,  # the things in the hands may be at the edge
    epochs=32,
    learning_rate=0.1,
    gradient_clip=5.0,
    flip=False,  # step_left mirrored is step_right
    licence="Apache-2.0",
)
NUM_SNIPPETS = 5
MADE = ("videos", "store", "bundle", "split.json", "report.html", "overlay.mp4")
MARKER = ".rgbflow-demo"  # in a folder that the demo made and may empty


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured and where it left things."""

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
        """Where to look, and the next command."""
        return (
            f"held-out clip {self.clip}: {self.prediction.label} ({self.prediction.score:.0%})\n"
            f"{self.prediction.decision.line()}\n"
            f"report:  {self.report}\noverlay: {self.overlay}\n"
            f"try:     rgbflow predict {self.bundle} VIDEO"
        )


def run_demo(folder: Path, workers: int, seed: int, track: Track = untracked) -> DemoResult:
    """Make the data set, prepare it, train, calibrate and evaluate both streams, and label a clip, all inside `folder`.

    A demo that was stopped goes on; one that was finished, or had another seed, is made anew. A folder that holds
    anything but a demo is left alone.

    Args:
        folder: made if missing.
        workers: processes for making and preparing the videos.
        seed: of the data set, the split and the training.
        track: how each piece of the work shows its progress.
    """
    videos, bundle, report = folder / "videos", folder / "bundle", folder / "report.html"
    _take_folder(folder, seed, finished=report.exists())
    config = replace(CONFIG, seed=seed)
    store, split = _make_data(folder, videos, workers, seed, track)
    for stream in STREAMS:
        if not (bundle / RECORD).exists() or stream not in load_bundle(bundle).streams:
            with track(f"training {stream}", "steps") as progress:
                train_stream(store, split, stream, bundle, config, progress)
    with track("calibrating", "clips") as progress:
        recognizer = Recognizer.load(bundle, engine="torch")
        calibration = calibrate_fusion(recognizer, store, split, num_snippets=NUM_SNIPPETS, progress=progress)
    record_calibration(bundle, calibration)
    recognizer = Recognizer.load(bundle, engine="torch")  # which the explanations need
    with track("evaluating", "clips") as progress:
        evaluation = evaluate_recognizer(recognizer, store, split, num_snippets=NUM_SNIPPETS, progress=progress)
    record_figures(bundle, evaluation)
    clip = split.test[0].name
    source = Path(store.rows[clip].source)
    explanation = recognizer.explain(source, NUM_SNIPPETS)
    overlay = folder / "overlay.mp4"
    write_why(source, explanation, recognizer.bundle.preparation, overlay)
    write_report(report, make_report(evaluation, recognizer, bundle, store, title="rgbflow demo"))
    return DemoResult(evaluation, clip, explanation.prediction, report, overlay, bundle)


def _take_folder(folder: Path, seed: int, finished: bool) -> None:
    """Make the folder, or empty it if a demo made it that can't go on.

    Raises:
        InputError: if somebody else's files are in it.
    """
    marker, mark = folder / MARKER, f"made by rgbflow demo, seed {seed}\n"
    if folder.is_dir() and any(folder.iterdir()):
        if not marker.is_file():
            raise InputError(f"--out {folder} holds other files: choose an empty or a new folder")
        if finished or marker.read_text(encoding="utf-8") != mark:
            for made in MADE:
                shutil.rmtree(folder / made, ignore_errors=True)
                (folder / made).unlink(missing_ok=True)
    write_atomically(marker, mark)


def _make_data(folder: Path, videos: Path, workers: int, seed: int, track: Track) -> tuple[Store, Split]:
    with track("filming", "clips") as progress:
        write_dataset(
            videos,
            num_groups=NUM_GROUPS,
            clips_per_group=CLIPS_PER_GROUP,
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
