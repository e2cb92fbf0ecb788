"""The command that runs the service."""

import sys
from pathlib import Path
from typing import Annotated

from rgbflow.commands.flags import Flag, Positional
from rgbflow.errors import InputError
from rgbflow.stream import EngineName, EnginePrecision

DEMO_BUNDLE = Path("demo/bundle")  # where `make demo` and `rgbflow demo` put it


def serve(
    bundle: Annotated[str | None, Positional, Flag(metavar="BUNDLE")] = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Annotated[Path | None, Flag(metavar="FILE")] = None,
    origin: Annotated[tuple[str, ...], Flag(metavar="URL ...")] = (),
    max_sessions: int = 64,
    device: str = "auto",
    engine: EngineName = "auto",
    precision: EnginePrecision = "auto",
) -> int:
    """Recognise for other programs and for a page, over a socket and HTTP.

    Ctrl-C ends it. docs/serve.md describes the page and the paths, docs/protocol.md the socket.

    Args:
        bundle: folder from `rgbflow train`, or a Hugging Face Hub id, owner/name; demo/bundle if not given.
        host: address to listen at; any but this machine's own needs --token-file.
        port: to listen at; 0 takes a free one.
        token_file: file whose only line is the token that every client must give.
        origin: of pages from elsewhere that may use the service, such as https://game.example.
        max_sessions: live sessions at the same time.
        device: auto, cpu, cuda or mps.
        engine: auto takes the fastest on a CPU of torch and of OpenVINO and ONNX Runtime, if `rgbflow export` made
            their files and their scores are those of torch.
        precision: what the engine computes in; auto takes the fastest it has.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"serve needs {error.name}: pip install 'rgbflow[serve]'") from error
    from rgbflow.recognizer import Recognizer
    from rgbflow.serve.access import Access, check_origin, is_loopback, read_token
    from rgbflow.serve.app import create_app
    from rgbflow.serve.limits import Limits
    from rgbflow.serve.running import listen, make_server
    from rgbflow.serve.service import Networks, Service

    token = read_token(token_file) if token_file else None
    if token is None and not is_loopback(host):
        raise InputError(f"--host {host} lets other machines in: give --token-file too, or leave --host out")
    access = Access(token, tuple(map(check_origin, origin)))
    limits = Limits(sessions=max_sessions)
    with listen(host, port) as listener:
        if bundle is None and not DEMO_BUNDLE.exists():
            raise InputError(f"no BUNDLE given and {DEMO_BUNDLE} is not there: name one, or run `rgbflow demo` first")
        path = bundle or str(DEMO_BUNDLE)
        recognizer = Recognizer.load(path, device, engine, _note, precision)
        service = Service(Networks(recognizer, path, "given" if bundle else "demo"), limits)
        shown = f"[{host}]" if ":" in host else host
        _note(f"{path} at http://{shown}:{listener.getsockname()[1]}/ with {recognizer.engine.name}; Ctrl-C ends it")
        make_server(create_app(service, access)).run(sockets=[listener])
    return 0


def _note(line: str) -> None:
    print(f"rgbflow: {line}", file=sys.stderr, flush=True)
