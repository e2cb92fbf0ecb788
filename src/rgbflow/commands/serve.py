"""The command that runs the service."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from rgbflow.commands.flags import Flag, Positional, check_positive
from rgbflow.errors import InputError
from rgbflow.shown import say
from rgbflow.stream import EngineName, EnginePrecision

DEMO_BUNDLE = Path("demo/bundle")  # where `make demo` and `rgbflow demo` put it


def serve(
    bundle: Annotated[str | None, Positional, Flag(metavar="BUNDLE")] = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    takes: Annotated[Path | None, Flag(metavar="FOLDER")] = None,
    token_file: Annotated[Path | None, Flag(metavar="FILE")] = None,
    origin: Annotated[tuple[str, ...], Flag(metavar="URL ...")] = (),
    max_sessions: int = 64,
    osc: Annotated[str | None, Flag(metavar="HOST:PORT")] = None,
    osc_map: Annotated[Path | None, Flag(metavar="FILE")] = None,
    device: str = "auto",
    engine: EngineName = "auto",
    precision: EnginePrecision = "auto",
) -> int:
    """Run a service that recognises actions for web pages and other programs, over a WebSocket and HTTP.

    Ctrl-C ends it. docs/serve.md describes the page and the paths, docs/protocol.md the socket.

    Args:
        bundle: folder from `rgbflow train` or `rgbflow teach`, or a Hugging Face Hub id, owner/name. The default is
            demo/bundle if `rgbflow demo` made it; otherwise nothing is recognised until actions are taught.
        host: address to listen at; an address that other machines can reach needs --token-file.
        port: port to listen at; 0 takes a free one.
        takes: folder that keeps the takes of taught actions; takes that are in it are taught at the start. The default
            is a folder that is removed at the end.
        token_file: file with one line, the token that every client must send.
        origin: origins of other web pages that may use the service, such as https://game.example.
        max_sessions: the most live sessions at the same time.
        osc: host and port to send labels, scores and events to as OSC messages: those of one session at a time.
        osc_map: file that maps actions to OSC addresses and values, as for VRChat; only these are then sent.
        device: auto, cpu, cuda or mps.
        engine: library that runs the networks; auto takes the fastest that gives the scores of torch: docs/export.md.
        precision: number format the engine computes in; auto takes the fastest.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"serve needs {error.name}: pip install 'rgbflow[serve]'") from error
    from rgbflow.learn.start import IMAGENET
    from rgbflow.live.osc import open_osc
    from rgbflow.recognizer import Recognizer
    from rgbflow.serve.access import Access, check_origin, is_loopback, read_token
    from rgbflow.serve.app import create_app
    from rgbflow.serve.limits import Limits
    from rgbflow.serve.protocol import Source
    from rgbflow.serve.running import listen, make_server
    from rgbflow.serve.service import Networks, Service
    from rgbflow.serve.teaching import Teaching

    check_positive(max_sessions=max_sessions)
    token = read_token(token_file) if token_file else None
    if token is None and not is_loopback(host):
        raise InputError(f"--host {host} lets other machines in: give --token-file too, or leave --host out")
    access = Access(token, tuple(map(check_origin, origin)))
    if osc_map and not osc:
        raise InputError(f"--osc-map {osc_map} needs --osc HOST:PORT: 127.0.0.1:9000 is VRChat's")
    source: Source = "given" if bundle else "demo" if DEMO_BUNDLE.exists() else "imagenet"
    path = bundle or (IMAGENET if source == "imagenet" else str(DEMO_BUNDLE))
    with listen(host, port) as listener:
        networks = None
        if source != "imagenet":
            networks = Networks(Recognizer.load(path, device, engine, _note, precision), path, source)
        service = Service(networks, Limits(sessions=max_sessions), [open_osc(osc, osc_map)] if osc else [])
        teaching = Teaching(service, path, source, takes, device)
        shown = f"[{host}]" if ":" in host else host
        how = f"with {networks.engine.name}" if networks else "for actions to be taught"
        _note(f"{path} at http://{shown}:{listener.getsockname()[1]}/ {how}; Ctrl-C ends it")
        with suppress(KeyboardInterrupt):  # the usual end, which the server passes on when it has closed everything
            make_server(create_app(service, access, teaching)).run(sockets=[listener])
    return 0


def _note(line: str) -> None:
    say(f"rgbflow: {line}", file=sys.stderr)
