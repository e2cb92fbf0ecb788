"""Untrusted videos, decoded in a separate process within limits: a crash or a hang ends only that process.

The worker is a new Python that reads the file and writes frames. It returns raw pixels and a line of JSON, which can't
run code here. This contains crashes, hangs and excessive memory use, but not code that has taken over the decoder.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from rgbflow.clip import ArrayClip, to_working_size
from rgbflow.errors import InputError, first_line
from rgbflow.limits import PIXELS
from rgbflow.stream import Preparation
from rgbflow.video.reading import decode

GIB = 1 << 30
REPLY_BYTES_PER_FRAME, REPLY_BYTES = 32, 4096  # of the worker's line: a time for each frame, and the rest


@dataclass(frozen=True)
class Allowance:
    """The resources that decoding one video may use.

    Attributes:
        seconds: time until the worker is ended.
        memory: bytes that it may use beyond its own program; enforced only on Linux.
        disk: bytes of frames at the working size, in the folder for temporary files.
        max_frames: frames of the video, after resampling.
        max_pixels: pixels of a picture.
    """

    seconds: float = 60.0
    memory: int = 2 * GIB
    disk: int = 4 * GIB
    max_frames: int = 20_000
    max_pixels: int = PIXELS.usual

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not (isinstance(value, int | float) and 0 < value < math.inf):
                raise InputError(
                    f"{name} ({value}) must be a number above 0: the default is {getattr(Allowance, name)}"
                )


def decode_guarded(
    path: str | os.PathLike, preparation: Preparation, allowance: Allowance | None = None, name: str | None = None
) -> ArrayClip:
    """Decode a video in a worker process: all its frames at the working size.

    `Recognizer.predict` and its other methods take the clip like a file, with the same answer to the last bit. The
    frames lie in an unnamed file, which disappears with the clip. It takes about 0.4 s longer than decoding in this
    process.

    Args:
        path: the file.
        preparation: working size and frame rate, for example of a bundle.
        allowance: the limits; None takes the default ones.
        name: name of the video in messages; None takes its path.

    Raises:
        InputError: if the video can't be used (see `decode`), needs more than the allowance, or kills the worker.
    """
    _check_arguments(path, preparation, allowance)
    allowance, name = allowance or Allowance(), str(name or path)
    with tempfile.TemporaryFile() as frames, tempfile.TemporaryFile() as reply:
        code = _run(_task(path, preparation, allowance, name), allowance, frames, reply, name)
        if code:
            raise InputError(f"video ({name}) killed the process that decoded it ({_how(code)}): convert it to H.264")
        reply.seek(0)
        text = reply.read(REPLY_BYTES + REPLY_BYTES_PER_FRAME * allowance.max_frames)
        try:
            return _clip(frames, json.loads(text), preparation, name)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(f"video ({name}) made the process that decoded it fail: convert it to H.264") from error


def _check_arguments(path: object, preparation: object, allowance: object) -> None:
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path ({type(path).__name__}) must be a file's name")
    if not isinstance(preparation, Preparation):
        raise InputError(f"preparation ({type(preparation).__name__}) must be a Preparation, such as a bundle's")
    if not isinstance(allowance, Allowance | None):
        raise InputError(f"allowance ({type(allowance).__name__}) must be an Allowance, or None for the usual limits")


def _task(path: str | os.PathLike, preparation: Preparation, allowance: Allowance, name: str) -> str:
    task = {"path": os.fsdecode(path), "name": name, "preparation": preparation.as_dict()}
    return json.dumps(task | asdict(allowance))


def _run(task: str, allowance: Allowance, frames: IO[bytes], reply: IO[bytes], name: str) -> int:
    """The worker's exit code; negative where a signal has ended it."""
    package = str(Path(__file__).parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH")))),
        PIXELS.variable: str(allowance.max_pixels),
        "OMP_NUM_THREADS": "1",  # threads take address space, and wait for no core here
        "OPENBLAS_NUM_THREADS": "1",
    }
    try:
        return subprocess.run(
            [sys.executable, "-m", "rgbflow.guard"],
            env=environment,
            input=task.encode(),
            stdout=frames,
            stderr=reply,
            timeout=allowance.seconds,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        raise InputError(
            f"video ({name}) takes longer than {allowance.seconds:g} s to decode: give a shorter or smaller one"
        ) from None


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _clip(frames: IO[bytes], said: dict[str, Any], preparation: Preparation, name: str) -> ArrayClip:
    if "error" in said:
        raise InputError(str(said["error"]))
    shape = (len(said["pts_seconds"]), said["height"], said["width"], 3)
    pixels = np.memmap(frames, np.uint8, "r", shape=shape)
    return ArrayClip(pixels, np.array(said["pts_seconds"], np.float64), preparation, name)


def _work(task: dict[str, Any]) -> dict[str, Any]:
    """In the worker: write the frames to standard output; returns their description, or the error."""
    name = task["name"]
    try:
        return _write_frames(task)
    except InputError as error:
        if not isinstance(error.__cause__, MemoryError):
            return {"error": str(error).replace(f"video ({task['path']})", f"video ({name})")}
    except MemoryError:
        pass
    except OSError as error:
        most = f"{task['disk']:,} bytes of frames at most"
        return {"error": f"video ({name}) can't be kept ({error.strerror}; {most}): give a shorter one"}
    except Exception as error:  # OpenCV's, say, which has no class for want of memory
        return {"error": f"video ({name}) can't be decoded ({first_line(error)}): give a smaller one"}
    return {"error": f"video ({name}) needs more than {task['memory']:,} bytes of memory: give a smaller one"}


def _write_frames(task: dict[str, Any]) -> dict[str, Any]:
    pts_seconds: list[float] = []
    preparation, shape = Preparation.from_dict(task["preparation"]), (0, 0)
    with open(1, "wb", closefd=False) as output:
        for frame in decode(task["path"], preparation.frame_rate):
            if len(pts_seconds) == task["max_frames"]:
                more = f"more than {task['max_frames']:,} frames"
                raise InputError(f"video ({task['path']}) has {more}: give a shorter one")
            pixels = np.ascontiguousarray(to_working_size(frame.pixels, preparation))
            output.write(pixels.data)
            pts_seconds.append(frame.pts_seconds)
            shape = pixels.shape[:2]
    return {"pts_seconds": pts_seconds, "height": shape[0], "width": shape[1]}


def _limit(task: dict[str, Any]) -> None:
    """Limit this process, even if its parent is gone."""
    try:
        import resource
    except ImportError:  # Windows has none of them
        return
    limits = {resource.RLIMIT_FSIZE: task["disk"], resource.RLIMIT_CPU: math.ceil(task["seconds"])}
    limits[resource.RLIMIT_CORE] = 0
    program = Path("/proc/self/statm")
    if program.exists():
        taken = int(program.read_text().split()[0]) * resource.getpagesize()
        limits[resource.RLIMIT_AS] = taken + task["memory"]
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def main() -> None:
    """The worker's main function; its task is its standard input."""
    task = json.load(sys.stdin)
    reply = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # whatever else writes there is no reply
    if Preparation.from_dict(task["preparation"]).resize != "area":
        import torch  # noqa: F401  # frames are resized with it, and it needs more address space than the allowance
    _limit(task)
    with open(reply, "w", encoding="ascii") as file:
        json.dump(_work(task), file)


if __name__ == "__main__":
    main()
