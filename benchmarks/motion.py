"""Weights for flow networks that have learned to tell motions of synthetic people: makes them, and says what they are
worth.

    python benchmarks/motion.py weights [--steps 2500] [--out FILE]
    python benchmarks/motion.py compare DATA [--runs runs/recipe] [--folds 2]

`weights` trains EfficientNet-Lite0 from its ImageNet weights on endless synthetic flow (motion_people.py), about an
hour on one core, and writes src/rgbflow/networks/motion.safetensors, which `--weights motion` takes. `compare` measures
flow from these weights against flow from ImageNet's, on the same clips of three sets, and writes
docs/results/motion.md: a classifier on frozen features with few clips and with all, and the trainings of `lite` by
benchmarks/recipe.py.
"""

import argparse
import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from motion_people import NUM_MOTIONS, People, draw_motions, from_bytes, to_bytes
from pages import write_page
from recipe import SETS, Fold, make_folds
from torch import Tensor

from rgbflow.data.dataset import ClipDataset
from rgbflow.data.jpegs import open_store
from rgbflow.data.splits import load_split
from rgbflow.learn.depthwise import DepthwiseInFloat32
from rgbflow.learn.presets import LITE
from rgbflow.learn.probe import clip_features, fit_head, settle_first_batch_norm
from rgbflow.learn.spec import form_of_input, make_spec
from rgbflow.networks.image import MOTION_FILE
from rgbflow.networks.stream_net import StreamNet
from rgbflow.networks.weights import initialise
from rgbflow.origin import describe_origin

PAGE = Path(__file__).parents[1] / "docs" / "results" / "motion.md"
STEPS, BATCH, FRESH, KEPT = 2500, 32, 10, 16_000  # of a batch 10 snippets are new; those kept are drawn again
INPUT_SIZE, RATE, WEIGHT_DECAY, SMOOTHING, DROPOUT = 112, 1e-3, 0.02, 0.05, 0.1
STARTS = ("imagenet", "motion")
FEW, DRAWS, SNIPPETS = 5, 20, 5


def make_weights(steps: int, out: Path) -> None:
    """Train from ImageNet's weights to name the motion of a snippet, and keep all layers but the classifier."""
    torch.manual_seed(0)
    rng, people = np.random.default_rng(7), People(draw_motions())
    spec = form_of_input("flow", replace(LITE, input_size=INPUT_SIZE, dropout=DROPOUT))
    network = StreamNet(spec, NUM_MOTIONS)
    initialise(network, spec, "imagenet")
    network.to(memory_format=torch.channels_last)
    held_out = [people.draw(BATCH, np.random.default_rng(99 + number)) for number in range(6)]
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    kept, labels, count = torch.zeros(KEPT, 20, 64, 64, dtype=torch.uint8), torch.zeros(KEPT, dtype=torch.long), 0
    for step in range(steps):
        fresh = BATCH if count < 2000 else FRESH
        places = torch.arange(count, count + fresh) % KEPT
        flow, labels[places] = people.draw(fresh, rng)
        kept[places] = to_bytes(flow)
        count += fresh
        chosen = torch.from_numpy(rng.integers(0, min(count, KEPT), BATCH))
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2
        network.train()
        with DepthwiseInFloat32(), torch.autocast("cpu", torch.bfloat16):
            logits = network(_varied(from_bytes(kept[chosen]), rng))
        loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss:.2f}, held-out top-1 {_top1(network, held_out):.1f} %", flush=True)
    classifier = f"{network.backbone.pretrained_cfg['classifier']}."
    state = {
        name: value.half() if value.ndim == 4 else value  # a batch norm's small numbers need their 32 bits
        for name, value in network.backbone.state_dict().items()
        if not name.startswith(classifier)
    }
    safetensors.torch.save_file({name: value.contiguous() for name, value in state.items()}, out)


def _varied(flow: Tensor, rng: np.random.Generator) -> Tensor:
    """A crop of drawn size and form, at the network's size, at a drawn scale for each snippet: (N, 1, C, H, W)."""
    side = flow.shape[-1]
    share = rng.uniform(0.66, 1.0)
    height, width = int(side * share), int(side * min(1, share * rng.uniform(0.9, 1.1)))
    top, left = int(rng.integers(0, side - height + 1)), int(rng.integers(0, side - width + 1))
    scale = torch.from_numpy(np.exp(rng.normal(0, 0.35, (len(flow), 1, 1, 1))).astype(np.float32))
    return _resized(flow[..., top : top + height, left : left + width]) * scale


def _resized(flow: Tensor) -> Tensor:
    size = F.interpolate(flow, (INPUT_SIZE, INPUT_SIZE), mode="bilinear")
    return size.to(memory_format=torch.channels_last)[:, None]


@torch.inference_mode()
def _top1(network: StreamNet, batches: list[tuple[Tensor, Tensor]]) -> float:
    network.eval()
    hits = [network(_resized(flow)).argmax(1) == labels for flow, labels in batches]
    return 100 * torch.cat(hits).float().mean().item()


def frozen_hits(fold: Fold, start: str) -> dict[str, np.ndarray]:
    """For few and all clips to learn from: for each test clip how often a classifier on frozen features names it."""
    store, split = open_store(fold.store), load_split(fold.split)
    config = replace(LITE, weights=start)
    clips = split.train + split.val
    spec = make_spec(store, split.train, "flow", config)
    network = StreamNet(spec, len(split.classes))
    initialise(network, spec, start)
    learned, tested = (ClipDataset(store, part, split.classes, spec, SNIPPETS) for part in (clips, split.test))
    if start == "imagenet":
        settle_first_batch_norm(network, learned)
    known, asked = clip_features(network, learned), clip_features(network, tested)
    labels, groups, truth = np.array(learned.labels), np.array([clip.group for clip in clips]), np.array(tested.labels)

    def hits(rows: np.ndarray) -> np.ndarray:
        head = fit_head(known[rows], labels[rows], groups[rows], len(split.classes))
        return head.logits(asked).argmax(1) == truth

    draws = [np.random.default_rng(draw) for draw in range(DRAWS)]
    few = [
        np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:FEW] for label in np.unique(labels)])
        for rng in draws
    ]
    return {"few": np.mean([hits(rows) for rows in few], 0), "all": hits(np.arange(len(labels))).astype(float)}


def trained_hits(fold: Fold, candidate: str) -> np.ndarray | None:
    """Which test clips the trained flow stream names rightly; None if it was not trained."""
    if not fold.training(candidate, "flow").is_done():
        return None
    return fold.hits(candidate, "test")["flow"].astype(float)


def paired(pairs: dict[str, np.ndarray]) -> tuple[dict[str, tuple[float, float]], float, float, float]:
    """Top-1 in percent of both starts on each set, and the mean gain over the sets with its 95 % interval.

    Args:
        pairs: for each set the hits (2, N) of both starts on the same clips. The interval draws clips anew within sets.
    """
    rng, means = np.random.default_rng(0), {name: 100 * hits.mean(1) for name, hits in pairs.items()}
    gains = []
    for _ in range(2000):
        drawn = [hits[:, rng.integers(0, hits.shape[1], hits.shape[1])] for hits in pairs.values()]
        gains.append(np.mean([100 * (hits[1] - hits[0]).mean() for hits in drawn]))
    low, high = np.percentile(gains, (2.5, 97.5))
    gain = float(np.mean([after - before for before, after in means.values()]))
    return {name: (float(a), float(b)) for name, (a, b) in means.items()}, gain, float(low), float(high)


def page(rows: dict[str, tuple]) -> str:
    """The results page."""
    lines = [f"| flow | start | {' | '.join(SETS)} | mean gain |", f"|---|---|{'---|' * len(SETS)}---|"]
    for what, (means, gain, low, high) in rows.items():
        for number, start in enumerate(STARTS):
            cells = [f"{means[name][number]:.1f}" if name in means else "missing" for name in SETS]
            of = "" if len(means) == len(SETS) else f" (of {len(means)} sets)"
            last = f"{gain:+.1f} ({low:+.1f} to {high:+.1f}){of}" if number else ""
            lines.append(f"| {what} | {start} | {' | '.join(cells)} | {last} |")
    origin, table = describe_origin(), "\n".join(lines)
    return f"""# Flow that has seen synthetic people

Top-1 in percent on the test parts, of flow alone, from the ImageNet weights (their first convolution averaged over the
colours) and from `--weights motion`. Both have the same clips, crops and settings. The gain is the mean over the sets,
with a 95 % interval from drawing clips anew within the sets.

{table}

Few: {FEW} clips of each class, the mean of {DRAWS} draws. Frozen: a classifier fitted on {SNIPPETS} snippets of each
clip, with all clips that are not tested. Trained: preset `lite` with each start, `make recipe`.

## How it was made

Written at commit {origin["commit"]}; {origin["machine"]}; {origin["date"]}. `make motion` trains the weights (about an
hour on one core); `make motion-compare DATA=...` measures, after `make recipe`.
"""


def compare(data: Path, runs: Path, count: int) -> None:
    """Measure both starts on the folds of the recipe, and write the page."""
    figures: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for fold in make_folds(data, runs, count):
        frozen = [frozen_hits(fold, start) for start in STARTS]
        for amount in ("few", "all"):
            figures[f"frozen, {amount}"][fold.name].append(np.stack([hits[amount] for hits in frozen]))
        trained = [trained_hits(fold, candidate) for candidate in ("flow-from-imagenet", "lite")]
        if all(hits is not None for hits in trained):
            figures["trained, all"][fold.name].append(np.stack(trained))
    rows = {
        what: paired({name: np.concatenate(hits, 1) for name, hits in sets.items()}) for what, sets in figures.items()
    }
    write_page(PAGE, page(rows))
    PAGE.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("weights")
    making.add_argument("--steps", type=int, default=STEPS)
    making.add_argument("--out", type=Path, default=MOTION_FILE)
    comparing = commands.add_parser("compare")
    comparing.add_argument("data", type=Path)
    comparing.add_argument("--runs", type=Path, default=Path("runs/recipe"))
    comparing.add_argument("--folds", type=int, default=2, choices=(1, 2))
    arguments = parser.parse_args()
    if arguments.command == "weights":
        make_weights(arguments.steps, arguments.out)
    else:
        compare(arguments.data, arguments.runs, arguments.folds)
