"""Hostile videos, damaged records, kills, full disks and long runs, counted; writes docs/results/torture.md.

    python benchmarks/torture.py [--runs runs/torture] [--share 1.0] [--only PART ...] [--live-minutes 30]

Each part is a function below; its counts go to docs/results/torture.json when it is done, so that a broken-off run goes
on with the next part. `--share 0.1` does a tenth of everything; a part that has been done with as large a share, on the
same commit, is not done again. What hangs or crashes is ended and counted. One process works at a time, beside `live`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the children are forks of this process

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import random
import resource
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pages import write_page

from rgbflow.errors import InputError
from rgbflow.origin import describe_origin

ROOT = Path(__file__).parents[1]
COUNTS = ROOT / "docs" / "results" / "torture.json"
PAGE = COUNTS.with_suffix(".md")
RELIABILITY = ROOT / "docs" / "reliability.md"
HANG_SECONDS = 60.0  # of the clock, on a machine that others use too
SLOW_SECONDS = 10.0  # of the processor
FULL_AT = (0, 1000, 100_000)  # bytes after which a disk is full

# What an attempt came to. The last four are faults.
SAME, REFUSED, OTHER, TRACEBACK, CRASH, HANG, SLOW = "same", "one line", "other", "traceback", "crash", "hang", "slow"
FAULTS = (TRACEBACK, CRASH, HANG, SLOW)
TOO_LATE = "was done before the kill"


PIPES: dict[int, int] = {}  # what each running command says

# How attempts are made


def attempts(judge: Callable[[Any], str], items: Sequence[Any]) -> tuple[Counter, list[str]]:
    """Try each item in a child process; what ends or holds up the child is counted, and another child goes on.

    Args:
        judge: says what became of an item, in one of the words above.
        items: whatever it takes.

    Returns:
        How many came to what, and a line for each fault.
    """
    counts, faults, place = Counter(), [], 0
    while place < len(items):
        here, there = multiprocessing.Pipe()
        child = _fork(lambda first=place, end=there: _judge_all(judge, items[first:], end))
        there.close()
        while place < len(items):
            try:
                came = here.recv() if here.poll(HANG_SECONDS) else HANG
            except EOFError:
                came = CRASH
            counts[came.partition(":")[0]] += 1
            if came.partition(":")[0] in FAULTS:
                faults.append(f"{items[place]!r:.80}: {came}")
            place += 1
            if came in (HANG, CRASH):
                break
        _end(child)
    return counts, faults


def _judge_all(judge: Callable[[Any], str], items: Sequence[Any], end: Any) -> None:
    for item in items:
        began = time.process_time()
        try:
            came = judge(item)
        except (InputError, OSError) as error:
            came = TRACEBACK + ": two lines" if "\n" in str(error) else REFUSED
        except BaseException as error:
            came = f"{TRACEBACK}: {type(error).__name__}: {error!s:.200}"
        end.send(SLOW if time.process_time() - began > SLOW_SECONDS else came)


def _fork(work: Callable[[], object]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end(child: int) -> int:
    """Kill a child; its exit code, or minus the signal that ended it."""
    if child in PIPES:
        os.close(PIPES.pop(child))
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def command(arguments: Sequence[str | Path], full_at: int | None = None, out: str = os.devnull) -> int:
    """Start `rgbflow` with these arguments in a fork; what it says goes into a pipe, which no full disk stops."""
    reading, writing = os.pipe()

    def work() -> int:
        from rgbflow.cli import main

        os.dup2(writing, 2)
        os.dup2(os.open(out, os.O_WRONLY), 1)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        if full_at is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (full_at, full_at))
        return main(list(map(str, arguments)))

    child = _fork(work)
    os.close(writing)
    PIPES[child] = reading
    return child


def finish(child: int, log: Path, seconds: float = 600.0) -> str:
    """Wait for a command; what it came to. What it has said is in the log then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            with open(PIPES.pop(child), errors="replace") as pipe:
                code, said = os.waitstatus_to_exitcode(status), pipe.read()
            log.write_text(said)
            if code < 0:
                return f"{CRASH}: signal {-code}"
            if "Traceback" in said or code == 70:
                return f"{TRACEBACK}: {said.strip().splitlines()[-1] if said.strip() else code}"
            return REFUSED if code else SAME
        time.sleep(0.005)
    _end(child)
    return HANG


def hashes(folder: Path, without: Sequence[str] = ()) -> dict[str, str]:
    """SHA-256 of every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in without
    }


def memory() -> float:
    """MiB of this process now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024


# What is damaged


def mutated(content: bytes, seed: int) -> bytes:
    """Content with one to four damages: changed bits, zeros, noise, numbers at their ends, bytes lost or put in."""
    draw, data = random.Random(seed), bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place, length = draw.randrange(len(data) or 1), draw.choice((1, 2, 4, 8, 64, 1000))
        kind = draw.randrange(7)
        if kind == 0 and data:
            data[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            data[place : place + length] = bytes(length)
        elif kind == 2:
            data[place : place + length] = draw.randbytes(length)
        elif kind == 3:
            data[place : place + 4] = draw.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x01"))
        elif kind == 4:
            del data[place : place + length]
        elif kind == 5:
            data[place:place] = draw.randbytes(length)
        else:
            del data[place:]
    return bytes(data)


WEIRD = (None, True, -1, 0, 1, 0.5, 1e300, -1e300, 10**30, float("nan"), float("inf"), "", "a", "\x1b]0;x\x07", "../x")
WEIRD = (*WEIRD, [], [None], ["a", "a"], {}, {"a": 1}, "9" * 5000, "\ud800", [[]] * 50, 2**63, 3_000_000_000)


def mutated_json(text: bytes, seed: int) -> bytes:
    """A JSON text with one value replaced, removed or added; every fourth is damaged as bytes instead."""
    draw = random.Random(seed)
    if seed % 4 == 0:
        return mutated(text, seed)
    values = json.loads(text)
    holders = [one for one in _walk(values) if isinstance(one, dict | list) and one]
    holder = draw.choice(holders)
    key = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
    what = draw.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[draw.choice(("new", "../x", ""))] = draw.choice(WEIRD)
    else:
        holder[key] = draw.choice(WEIRD)
    return json.dumps(values).encode("utf-8", "surrogatepass")


def _walk(value: Any) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _walk(inner)


# The parts


CONTAINERS = {
    "mp4": ("-c:v", "libx264", "-bf", "2"),
    "mkv": ("-c:v", "libx264"),
    "webm": ("-c:v", "libvpx", "-deadline", "realtime"),
    "avi": ("-c:v", "mpeg4"),
    "mov": ("-c:v", "mjpeg"),
    "ts": ("-c:v", "mpeg2video"),
    "flv": ("-c:v", "flv1"),
    "gif": (),
}


def videos(world: Any, work: Path, share: float) -> dict:
    """Videos of eight containers with damage, decoded to the end."""
    import imageio_ffmpeg

    from rgbflow.video.reading import decode

    results, faults, number = {}, [], max(1, round(250 * share))
    for ending, options in CONTAINERS.items():
        whole = work / f"whole.{ending}"
        film = ["-f", "lavfi", "-i", "testsrc2=size=128x96:rate=24:duration=1", "-pix_fmt", "yuvj420p"]
        film = film if ending == "mov" else [*film[:-1], "yuv420p"] if ending != "gif" else film[:-2]
        run = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", *film, *options, str(whole)]
        subprocess.run(run, check=True, stdin=subprocess.DEVNULL)
        content, path = whole.read_bytes(), work / f"damaged.{ending}"
        right = [hashlib.sha256(frame.pixels.data).digest() for frame in decode(whole)]

        def judge(seed: int, content: bytes = content, path: Path = path, right: list[bytes] = right) -> str:
            path.write_bytes(mutated(content, seed))
            shown = [hashlib.sha256(frame.pixels.data).digest() for frame in decode(path)]
            return SAME if shown == right else f"{OTHER}, fewer" if len(shown) < len(right) else f"{OTHER}, as many"

        counts, found = attempts(judge, range(number))
        results[ending] = dict(counts)
        faults += [f"{ending} {line}" for line in found]
    return {"tried": number * len(CONTAINERS), "counts": results, "faults": faults}


def records(world: Any, work: Path, share: float) -> dict:
    """Records with one wrong value or with damage, read as the commands read them."""
    from rgbflow.bundle import load_bundle
    from rgbflow.data.jpegs import _read_flow_settings as read_flow
    from rgbflow.data.layouts import read_groups
    from rgbflow.data.lists import read_listed
    from rgbflow.data.manifest import HASH, MANIFEST
    from rgbflow.data.splits import load_split
    from rgbflow.data.store import Store
    from rgbflow.learn.scores import read_scores

    (work / "rgbflow.json").write_text(json.dumps({"flow": {"method": "tvl1", "preset": "fast", "bound": 20.0}}))
    (work / "list.txt").write_text("".join(f"Run/v_Run_g{n:02d}_c01.avi {n % 3}\n" for n in range(1, 20)))
    (work / "list.csv").write_text("label,path,split\n" + "".join(f"run,a/{n}.mp4,train\n" for n in range(20)))
    bundle, store = work / "bundle", work / "store"
    shutil.copytree(world.bundle, bundle, dirs_exist_ok=True)
    store.mkdir(exist_ok=True)
    scores = work / "scores.npz"
    np.savez(scores, rgb=np.random.default_rng(0).random((9, 4)), clips=np.array([f"c{n}" for n in range(9)]))
    made, kinds = work / "in", {}
    kinds |= {
        "recognizer.json": (world.bundle / "recognizer.json", bundle, load_bundle, mutated_json),
        "split.json": (world.split, made, lambda folder: load_split(folder / "split.json"), mutated_json),
        "rgbflow.json": (work / "rgbflow.json", made, lambda f: read_flow(f / "rgbflow.json"), mutated_json),
        "groups.tsv": (world.videos / "groups.tsv", made, lambda folder: read_groups(folder / "groups.tsv"), mutated),
        "list.txt": (work / "list.txt", made, lambda folder: read_listed([folder / "list.txt"]), mutated),
        "list.csv": (work / "list.csv", made, lambda folder: read_listed([folder / "list.csv"]), mutated),
        MANIFEST: (world.store / MANIFEST, store, lambda folder: Store(folder).rows, mutated),
        "scores.npz": (scores, made, lambda folder: read_scores([folder / "scores.npz"]), mutated),
    }
    results, faults, number = {}, [], max(1, round(1000 * share))
    made.mkdir(exist_ok=True)
    (store / HASH).unlink(missing_ok=True)
    for name, (source, folder, read, damage) in kinds.items():
        content = source.read_bytes()

        def judge(seed: int, content=content, folder=folder, name=name, read=read, damage=damage) -> str:
            (folder / name).write_bytes(damage(content, seed))
            read(folder)
            return SAME

        counts, found = attempts(judge, range(number))
        results[name] = dict(counts)
        faults += [f"{name} {line}" for line in found]
    return {"tried": number * len(kinds), "counts": results, "faults": faults}


def stored_files(world: Any, work: Path, share: float) -> dict:
    """Stored files with damage: `check` finds each, `prepare` makes each again."""
    from rgbflow.data.inspection import check_store
    from rgbflow.data.layouts import read_class_folders
    from rgbflow.data.store import Store, prepare_store

    videos = work / "videos"
    for label in ("left", "right"):
        (videos / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(world.videos / label / "0.mp4", videos / label)
    store, sources, preparation = work / "store", read_class_folders(videos), Store(world.store).preparation
    prepare_store(sources, store, preparation)
    right = hashes(store)
    whole = {path: path.read_bytes() for path in sorted(store.rglob("*.mkv"))}

    def judge(seed: int) -> str:
        path = sorted(whole)[seed % len(whole)]
        damaged = mutated(whole[path], seed)
        if damaged == whole[path]:
            return SAME
        path.write_bytes(damaged)
        found = [one for one in check_store(store).findings if one.kind != "note"]
        if [one.path for one in found] != [path] or "\n" in found[0].message:
            return f"{TRACEBACK}: not found by check"
        prepare_store(sources, store, preparation)
        return "found and made again" if hashes(store) == right else f"{TRACEBACK}: not mended"

    number = max(1, round(500 * share))
    counts, faults = attempts(judge, range(number))
    return {"tried": number, "counts": {"stored files": dict(counts)}, "faults": faults}


def kills_of_prepare(world: Any, work: Path, share: float) -> dict:
    """`prepare` killed at any moment, then run to its end: the same bytes as without a kill."""
    options = ["prepare", world.videos, "--short-side", "64", "--bound", "8", "--workers", "1", "--out"]
    began = time.monotonic()
    assert finish(command([*options, work / "whole"]), work / "log") == SAME
    seconds, right = time.monotonic() - began, hashes(work / "whole")
    return _kills(
        work, max(1, round(50 * share)), seconds, lambda out: [*options, out], lambda out: hashes(out) == right
    )


def kills_of_train(world: Any, work: Path, share: float) -> dict:
    """`train` killed at any moment, then run to its end: the same weights, bit for bit."""
    options = ["train", world.store, "--split", world.split, "--stream", "rgb", "--config", world.config]
    options += ["--epochs", "6", "--save-minutes", "0.00001", "--out"]
    began = time.monotonic()
    assert finish(command([*options, work / "whole"]), work / "log") == SAME
    seconds, right = time.monotonic() - began, (work / "whole" / "rgb.safetensors").read_bytes()

    def is_right(out: Path) -> bool:
        return (out / "rgb.safetensors").read_bytes() == right

    return _kills(work, max(1, round(10 * share)), seconds, lambda out: [*options, out], is_right)


def kills_of_table2(world: Any, work: Path, share: float) -> dict:
    """`paper table2` killed at any moment, then run to its end: the same figures."""
    store, split = _clips_of_twenty_frames(work)
    options = ["paper", "table2", store, "--split", split, "--epochs", "1", "--backbone", "test_resnet"]
    options += ["--weights", "none", "--input-size", "32", "--snippets", "2", "--device", "cpu"]
    options += ["--c3d-backbone", "c3d_quarter", "--c3d-input-size", "32", "--out"]

    def figures(out: Path) -> list:
        rows = json.loads((out / "table2.json").read_text())["rows"]
        return [{name: value for name, value in row.items() if name != "hours"} for row in rows]

    began = time.monotonic()
    came = finish(command([*options, work / "whole"]), work / "log", 1200)
    if came != SAME:
        return {"tried": 0, "counts": {}, "faults": [f"{came}: {(work / 'log').read_text()[-200:]}"]}
    seconds, right = time.monotonic() - began, figures(work / "whole")
    return _kills(
        work, max(1, round(10 * share)), seconds, lambda out: [*options, out], lambda out: figures(out) == right
    )


def _clips_of_twenty_frames(work: Path) -> tuple[Path, Path]:
    """A store and a split of longer clips than the tests' own: C3D reads 16 frames."""
    from rgbflow.video.writing import write_video

    moving_square, groups = runpy.run_path(str(ROOT / "tests" / "conftest.py"))["_moving_square"], []
    for label, dx in (("left", -2), ("right", 2)):
        for group in range(6):
            write_video(work / "videos" / label / f"{group}.mp4", moving_square(dx, 0, 20, (64, 64), group), 25)
            groups.append(f"{label}/{group}.mp4\tperson{group}\n")
    (work / "videos" / "groups.tsv").write_text("".join(groups))
    store, split = work / "store", work / "split.json"
    prepared = ["prepare", work / "videos", "--out", store, "--short-side", "64", "--bound", "8", "--workers", "1"]
    for arguments in (prepared, ["split", store, "--out", split]):
        assert finish(command(arguments), work / "log") == SAME, (work / "log").read_text()
    return store, split


def _kills(
    work: Path, number: int, seconds: float, options: Callable[[Path], list], is_right: Callable[[Path], bool]
) -> dict:
    """Kill a command so many times; a run that ends before its kill counts apart, and tells how long one takes now."""
    counts, faults, draw, tries = Counter(), [], random.Random(0), 0
    while sum(counts.values()) - counts[TOO_LATE] < number and tries < 3 * number:
        out, log, tries, began = work / f"killed{tries}", work / "log", tries + 1, time.monotonic()
        child = command(options(out))
        if _ends_within(child, draw.uniform(0, seconds)):
            seconds = time.monotonic() - began
        ended_by_itself = _end(child) == 0
        came = finish(command(options(out)), log, 1200)
        if came in (SAME, REFUSED) and ended_by_itself:  # a finished training refuses a second one
            counts[TOO_LATE] += 1
        elif came == SAME and is_right(out):
            counts["ended the same"] += 1
        else:
            counts["ended otherwise"] += 1
            faults.append(f"kill {tries}: {came}: {log.read_text(errors='replace')[-200:]}")
        shutil.rmtree(out, ignore_errors=True)
    return {"tried": tries, "counts": {"kills": dict(counts)}, "faults": faults}


def _ends_within(child: int, seconds: float) -> bool:
    """Wait so long, or until the child ends by itself; whoever kills it collects its exit code."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.005)
    return False


def writing_commands(world: Any, work: Path, name: str) -> dict[str, list]:
    """Every command that writes, with arguments that write into `work / name`."""
    out = work / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    bundle = out / "bundle"
    shutil.copytree(world.bundle, bundle)
    clip = sorted((world.videos / "left").glob("*.mp4"))[0]
    scores = work / "scores.npz"
    if not scores.exists():
        made = ["evaluate", world.bundle, world.store, "--split", world.split, "--snippets", "2", "--scores", scores]
        assert finish(command(made), work / "log") == SAME
    usual = [world.store, "--split", world.split]
    kept = ["--scores", out / "s.npz", "--report", out / "r.html"]
    return {
        "prepare": ["prepare", world.videos, "--out", out / "store", "--short-side", "64", "--workers", "1"],
        "split": ["split", world.store, "--out", out / "split.json"],
        "train": ["train", *usual, "--stream", "rgb", "--config", world.config, "--epochs", "2", "--out", out / "new"],
        "evaluate": ["evaluate", bundle, *usual, "--snippets", "2", *kept],
        "calibrate": ["calibrate", bundle, *usual, "--snippets", "2"],
        "fuse": ["fuse", scores, "--out", out / "fused.npz"],
        "export": ["export", bundle, "--to", "onnx"],
        "predict": ["predict", bundle, clip, "--overlay", out / "overlay.mp4"],
    }


def full_disk(world: Any, work: Path, share: float) -> dict:
    """Every command that writes, on a disk that is full at once, after 1 kB, after 100 kB, and with a full output."""
    results, faults = {}, []
    for name in writing_commands(world, work, "full"):
        counts = Counter()
        for full_at in FULL_AT[: max(1, round(len(FULL_AT) * share))]:
            arguments = writing_commands(world, work, "full")[name]
            came = finish(command(arguments, full_at), work / "log")
            counts[came.partition(":")[0]] += 1
            if came.partition(":")[0] in FAULTS:
                faults.append(f"{name}, full at {full_at}: {came}")
        came = finish(command(writing_commands(world, work, "full")[name], out="/dev/full"), work / "log")
        counts[f"full output: {came.partition(':')[0]}"] += 1
        if came.partition(":")[0] in FAULTS:
            faults.append(f"{name}, full output: {came}")
        results[name] = dict(counts)
    return {"tried": sum(sum(one.values()) for one in results.values()), "counts": results, "faults": faults}


def two_at_once(world: Any, work: Path, share: float) -> dict:
    """Two of each command that writes, at once, into the same place: one line, or both done."""
    results, faults = {}, []
    for name, arguments in writing_commands(world, work, "two").items():
        logs = [work / f"log{number}" for number in range(2)]
        children = [command(arguments) for _ in logs]
        counts = Counter(finish(child, log).partition(":")[0] for child, log in zip(children, logs, strict=True))
        results[name] = dict(counts)
        if set(counts) & set(FAULTS) or not counts[SAME]:
            faults.append(f"{name}: {dict(counts)}: {logs[0].read_text()[-200:]} {logs[1].read_text()[-200:]}")
    return {"tried": 2 * len(results), "counts": results, "faults": faults}


def reads(world: Any, work: Path, share: float) -> dict:
    """Random frames and fields of a store, read by one process whose memory must not grow."""
    from rgbflow.data.store import Store

    store, rng, number = Store(world.store), np.random.default_rng(0), max(100, round(20_000 * share))
    names, measured = sorted(store.rows), []
    for count in range(number):
        clip = store.clip(names[int(rng.integers(len(names)))])
        stream = ("rgb", "flow")[count % 2]
        clip.read(stream, rng.integers(0, clip.num_frames - 1, 3))
        if count >= number // 5 and count % 100 == 0:
            measured.append(memory())
    growth = measured[-1] - measured[0]
    faults = [f"memory grew by {growth:.1f} MiB"] if growth > 8 else []
    figures = {"memory, MiB": round(measured[-1]), "growth, MiB": round(growth, 1)}
    return {"tried": number, "counts": {"reads": figures}, "faults": faults}


def live(world: Any, work: Path, share: float, minutes: float = 30.0) -> dict:
    """A camera of 25 frames a second, for minutes, by one process whose memory must not grow."""
    from rgbflow import Recognizer

    conftest = runpy.run_path(str(ROOT / "tests" / "conftest.py"))
    recognizer = Recognizer.load(world.bundle, engine="torch").live(window_seconds=1.0, updates_per_second=5)
    frames = conftest["_moving_square"](2, 0, frames=25, size=(64, 64))
    began, seconds, count, updates, measured = time.monotonic(), 60 * minutes * share, 0, 0, []
    while time.monotonic() - began < seconds:
        updates += recognizer.push(frames[count % 25], count / 25) is not None
        count += 1
        if count % 250 == 0:
            measured.append(memory())
        time.sleep(max(0.0, began + count / 25 - time.monotonic()))
    first = measured[len(measured) // 5]
    growth = measured[-1] - first
    faults = [f"memory grew by {growth:.1f} MiB"] if growth > 16 else []
    figures = {"minutes": round(seconds / 60, 1), "updates": updates, "memory, MiB": round(measured[-1])}
    return {"tried": count, "counts": {"frames": {**figures, "growth, MiB": round(growth, 1)}}, "faults": faults}


PARTS = {
    "stored_files": stored_files,
    "records": records,
    "videos": videos,
    "kills_of_prepare": kills_of_prepare,
    "two_at_once": two_at_once,
    "full_disk": full_disk,
    "reads": reads,
    "kills_of_train": kills_of_train,
    "kills_of_table2": kills_of_table2,
    "live": live,
}


def make_world(folder: Path) -> Any:
    """The data set, store, split and bundle of the tests."""
    conftest = runpy.run_path(str(ROOT / "tests" / "conftest.py"))
    world = conftest["_world_in"](folder)
    if not (folder / "made").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

        def make() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                conftest["_make_world"](world)

        child = _fork(make)  # threads that a training leaves must not be in the process that forks
        assert os.waitpid(child, 0)[1] == 0
        (folder / "made").touch()
    return world


def write_results(counts: dict) -> None:
    COUNTS.write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lines = [
        "# Hostile input, kills, full disks, long runs",
        "",
        "`make torture` writes this page (`benchmarks/torture.py`); [torture.json](torture.json) holds all counts.",
        "An attempt that ends in a traceback, a crash, a hang, or otherwise than it should is a fault.",
        "",
        "| part | what | tried | of the whole part | faults | minutes | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, part in counts.items():
        what = (PARTS[name].__doc__ or "").split(".\n")[0].strip().rstrip(".")
        figures = (f"{part['tried']:,}", f"{part['share']:.0%}", len(part["faults"]), part["minutes"], part["commit"])
        lines.append(f"| {name} | {what} | {' | '.join(map(str, figures))} |")
    lines += ["", "## Counts", ""]
    for name, part in counts.items():
        lines += [f"### {name}", ""]
        for kind, got in part["counts"].items():
            lines.append(f"- {kind}: " + ", ".join(f"{word} {count}" for word, count in sorted(got.items())))
        lines += [f"- fault: `{fault}`" for fault in part["faults"][:20]]
        lines.append("")
    _write_summary(counts)
    machines = sorted({part["machine"] for part in counts.values()})
    write_page(PAGE, "\n".join([*lines, f"Machine: {'; '.join(machines)}. Other programs ran beside it."]))


def _write_summary(counts: dict) -> None:
    """The figures on the page of the promises, between two marks."""
    text = RELIABILITY.read_text(encoding="utf-8")
    before, rest = text.split("<!-- torture -->\n")
    figures = {name: (f"{part['tried']:,}", len(part["faults"]), part["commit"]) for name, part in counts.items()}
    lines = [f"| {name} | {' | '.join(map(str, row))} |" for name, row in figures.items()]
    table = "\n".join(["| part | tried | faults | commit |", "|---|---|---|---|", *lines])
    about = "`make torture` wrote these figures; [results/torture.md](results/torture.md) says what was tried."
    after = rest[rest.index("<!-- /torture -->") :]
    RELIABILITY.write_text(f"{before}<!-- torture -->\n{about}\n\n{table}\n{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/torture"))
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--live-minutes", type=float, default=30.0)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--pages", action="store_true", help="only write the pages again, from torture.json")
    given = parser.parse_args()
    if given.pages:
        write_results(json.loads(COUNTS.read_text(encoding="utf-8")))
        return
    import lightning  # noqa: F401  # once, for all forks

    import rgbflow.learn.train  # noqa: F401

    world, origin = make_world(given.runs.absolute() / "world"), describe_origin()
    for name in given.only:
        counts = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.exists() else {}
        done = counts.get(name, {})
        if not given.again and done.get("share", 0) >= given.share and done.get("commit") == origin["commit"]:
            continue
        work = given.runs.absolute() / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        began, more = time.monotonic(), {"minutes": given.live_minutes} if name == "live" else {}
        result = PARTS[name](world, work, given.share, **more)
        shutil.rmtree(work, ignore_errors=True)
        took = round((time.monotonic() - began) / 60, 1)
        about = {"share": given.share, "minutes": took, "commit": origin["commit"], "machine": origin["machine"]}
        counts = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.exists() else {}
        counts[name] = {**result, **about}
        write_results({name: counts[name] for name in PARTS if name in counts})
        print(f"{name}: {result['tried']} tried, {len(result['faults'])} faults, {took} minutes", file=sys.stderr)
        for fault in result["faults"][:10]:
            print(f"  {fault}", file=sys.stderr)


if __name__ == "__main__":
    main()
