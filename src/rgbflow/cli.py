"""The command line: a table from command to function. Functions import slow libraries themselves, when called."""

import os
import sys
from collections.abc import Callable

import tyro

from rgbflow.commands.data import check, fetch, prepare, split
from rgbflow.commands.demo import demo
from rgbflow.commands.evaluate import calibrate, evaluate, fuse
from rgbflow.commands.export import export
from rgbflow.commands.flags import EXIT_FAILED
from rgbflow.commands.live import live
from rgbflow.commands.paper import paper
from rgbflow.commands.predict import predict
from rgbflow.commands.record import record
from rgbflow.commands.serve import serve
from rgbflow.commands.teach import teach
from rgbflow.commands.train import ablate, train
from rgbflow.errors import InputError
from rgbflow.shown import say, tolerate_encodings

RESUMING = ("fetch", "prepare", "train", "ablate", "paper", "demo")  # commands that resume where they were stopped

COMMANDS: dict[str, Callable[..., int]] = {
    "fetch": fetch,
    "prepare": prepare,
    "split": split,
    "train": train,
    "record": record,
    "teach": teach,
    "calibrate": calibrate,
    "evaluate": evaluate,
    "predict": predict,
    "live": live,
    "serve": serve,
    "export": export,
    "fuse": fuse,
    "check": check,
    "ablate": ablate,
    "paper": paper,
    "demo": demo,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 unusable input, 2 wrong usage, 3 some files failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = arguments[0] if arguments else ""
    tolerate_encodings()
    try:
        if name not in COMMANDS:
            return print_usage(arguments)
        summary = _summary(COMMANDS[name])
        return tyro.cli(COMMANDS[name], prog=f"rgbflow {name}", description=summary, args=arguments[1:])
    except SystemExit as stop:  # the parser's own way out of --help and of wrong usage
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except InputError as error:
        say(f"rgbflow: {error}", file=sys.stderr)
        return EXIT_FAILED
    except MemoryError:
        say(f"rgbflow: {name} needs more memory than there is: use a smaller input, batch or network", file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        return 0
    except OSError as error:  # a folder that may not be read, a file that went away
        say(f"rgbflow: {error.filename or name}: {error.strerror or error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        goes_on = "; the same command resumes" if name in RESUMING else ""
        say(f"rgbflow: stopped{goes_on}", file=sys.stderr)
        return 130
    finally:
        end_output()


def end_output() -> None:
    """Flush standard output; if its reader has gone or its disk is full, drop the rest, which can't be written."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(command: Callable[..., int]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


def print_usage(arguments: list[str]) -> int:
    """Print the table of commands; returns 0 if the user asked for it, 2 for an unknown command."""
    if arguments == ["--version"]:
        from importlib.metadata import version

        say(version("rgbflow"))
        return 0
    asked_for = arguments in ([], ["-h"], ["--help"])
    lines = [f"  {name:<10} {_summary(command)}" for name, command in COMMANDS.items()]
    text = "\n".join(["usage: rgbflow COMMAND ... (rgbflow COMMAND --help lists its options)", "", *lines])
    if not asked_for:
        say(f"rgbflow: {arguments[0]!r} is not a command", file=sys.stderr)
    for line in text.splitlines():
        say(line, file=None if asked_for else sys.stderr)
    return 0 if asked_for else 2
