"""The service as a web application: its paths and their answers. docs/serve.md."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rgbflow.errors import InputError
from rgbflow.serve.access import Access, given_token
from rgbflow.serve.description import describe
from rgbflow.serve.limits import Bucket, Limits
from rgbflow.serve.protocol import SUBPROTOCOL, About
from rgbflow.serve.service import BusyError, Service
from rgbflow.serve.session import Session
from rgbflow.serve.teach_paths import teach
from rgbflow.serve.teaching import NothingError, Teaching
from rgbflow.serve.uploads import save_upload
from rgbflow.serve.videos import predict_upload, timeline_of_upload

PAGE = Path(__file__).parent / "page"
SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
BURST_SECONDS = 10.0  # what an address may ask at once: as much as in so many seconds
MOST_ADDRESSES = 1024  # that are remembered


def create_app(service: Service, access: Access | None = None, teaching: Teaching | None = None) -> FastAPI:
    """The application of a service; any ASGI server runs it.

    Args:
        service: the service; it is closed with the application.
        access: the clients that may use it; None allows only this machine, without a token.
        teaching: the lessons behind the paths under `/teach`; None teaches nothing.
    """
    access = access or Access()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        beginning = None if teaching is None else asyncio.create_task(teaching.begin(_note))
        yield
        if beginning is not None:
            beginning.cancel()
        service.close()
        if teaching is not None:
            teaching.close()

    app = FastAPI(title="rgbflow", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service, app.state.access, app.state.teaching = service, access, teaching
    app.add_exception_handler(InputError, unusable)
    app.add_exception_handler(BusyError, busy)
    app.add_exception_handler(NothingError, missing)
    app.include_router(health)
    app.include_router(api)
    app.include_router(teach, dependencies=[Depends(require_token)])
    app.add_api_websocket_route("/live", live)
    app.mount("/", StaticFiles(directory=PAGE, html=True), name="page")
    app.add_middleware(
        CORSMiddleware, allow_origins=access.origins, allow_methods=["*"], allow_headers=["Authorization"]
    )
    app.add_middleware(Door, access=access, limits=service.limits)
    return app


def _note(line: str) -> None:
    logging.getLogger("uvicorn.error").warning(line)


class Door:
    """Refuses requests of foreign pages, for foreign host names, or in floods, before anything of them is read."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits):
        self._app, self._access, self._limits = app, access, limits
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()  # by address, those that came last at the end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        refusal = self._refusal(scope)
        if scope["type"] == "http":
            return await (refusal or self._app)(scope, receive, _with_safe_headers(send))
        if refusal is not None:
            return await WebSocket(scope, receive, send).send_denial_response(refusal)
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._access.answers_to(host):
            return refused(403, f"the service has no name {host}: use localhost, or start it with a token")
        if origin is not None and not self._access.trusts(origin, host):
            return refused(403, f"pages of {origin} may not use this service: start it with --origin {origin}")
        if not self._bucket_of(scope).takes():
            most = f"more than {self._limits.requests_per_second:g} requests a second"
            return refused(429, f"{most}: ask less often", {"Retry-After": "1"})
        return None

    def _bucket_of(self, scope: Scope) -> Bucket:
        address = (scope.get("client") or ("",))[0]
        rate = self._limits.requests_per_second
        bucket = self._buckets.pop(address, None) or Bucket(rate, BURST_SECONDS * rate)
        self._buckets[address] = bucket
        if len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket


def _with_safe_headers(send: Send) -> Send:
    async def send_safely(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(SAFE)
        await send(message)

    return send_safely


def refused(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error answer, in the common form of the service."""
    return JSONResponse({"detail": message}, status, headers)


async def unusable(request: Request, error: Exception) -> JSONResponse:
    """What a client gave can't be used; the text is that of the command line."""
    service_of(request).metrics.predictions.labels("refused").inc()
    return refused(422, str(error))


async def busy(request: Request, error: Exception) -> JSONResponse:
    return refused(429, str(error), {"Retry-After": "5"})


async def missing(request: Request, error: Exception) -> JSONResponse:
    return refused(404, str(error))


def service_of(connection: HTTPConnection) -> Service:
    return connection.app.state.service


def is_admitted(connection: HTTPConnection) -> bool:
    """Whether the client sent the right token."""
    subprotocols = connection.scope.get("subprotocols", ())
    return connection.app.state.access.admits(given_token(connection.headers.get("authorization", ""), subprotocols))


NOTHING_TAUGHT = "nothing is taught yet: there is nothing to recognise"
NO_TOKEN = "this service needs a token: send Authorization: Bearer TOKEN"


def require_token(request: Request) -> None:
    if not is_admitted(request):
        raise HTTPException(401, NO_TOKEN, {"WWW-Authenticate": "Bearer"})


health = APIRouter()
api = APIRouter(dependencies=[Depends(require_token)])


@health.get("/health")
@health.get("/healthz", include_in_schema=False)
async def alive(request: Request) -> dict[str, str | None]:
    """Whether the service is alive, and what runs its networks."""
    service = service_of(request)
    bundle = service.about(service.networks).bundle
    return {"status": "alive", "engine": bundle.engine, "engine_note": bundle.engine_note}


@health.get("/ready")
@health.get("/readiness", include_in_schema=False)
async def ready(request: Request, response: Response) -> dict[str, bool]:
    """Whether the service can recognise something; 503 while it can't."""
    is_ready = service_of(request).is_ready
    response.status_code = 200 if is_ready else 503
    return {"ready": is_ready}


@api.get("/classes")
async def classes(request: Request) -> About:
    """The classes, the bundle and the fusion."""
    service = service_of(request)
    return service.about(service.networks)


@api.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """The counters of the service, for Prometheus."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@api.post("/predict")
async def predict(
    request: Request,
    top: Annotated[int, Query(ge=1, le=1000, description="classes to list")] = 5,
    timeline: Annotated[bool, Query(description="segments of a long video instead of one label")] = False,
    window: Annotated[float, Query(gt=0, le=60, description="seconds, of a timeline")] = 2.0,
    step: Annotated[float, Query(gt=0, le=60, description="seconds, of a timeline")] = 0.5,
) -> dict[str, Any]:
    """Label a video: the request's body, or the first file of a form. Nothing of it is kept."""
    service = service_of(request)
    networks, limits = service.networks, service.limits
    if networks is None:
        raise HTTPException(409, NOTHING_TAUGHT)
    with service.upload() as path:
        name = await save_upload(request, path, limits)
        if timeline:
            answer = await service.work(timeline_of_upload, networks, path, name, limits, window, step)
        else:
            answer = await service.work(predict_upload, networks, path, name, limits, top)
    service.metrics.predictions.labels("answered").inc()
    return answer


@api.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The paths, for people."""
    return HTMLResponse(describe(request.app.openapi()))


@api.get("/openapi.json", include_in_schema=False)
async def description(request: Request) -> dict[str, Any]:
    """The paths, for machines."""
    return request.app.openapi()


async def live(socket: WebSocket) -> None:
    """A client's frames and the answers to them; a client without access is refused before the socket is accepted."""
    service = service_of(socket)
    offered = socket.scope["subprotocols"]
    if not is_admitted(socket):
        reason, refusal = "token", refused(401, NO_TOKEN + ", or the subprotocol rgbflow.bearer.BASE64URL")
    elif offered and SUBPROTOCOL not in offered:
        reason, refusal = "protocol", refused(400, f"the subprotocol must be {SUBPROTOCOL}, not {', '.join(offered)}")
    elif service.sessions >= service.limits.sessions:
        reason, refusal = "full", refused(503, f"{service.sessions} sessions are open: try later", {"Retry-After": "5"})
    else:
        return await _serve(socket, service, SUBPROTOCOL if offered else None)
    service.metrics.refused.labels(reason).inc()
    await socket.send_denial_response(refusal)


async def _serve(socket: WebSocket, service: Service, subprotocol: str | None) -> None:
    service.sessions += 1
    service.metrics.sessions.set(service.sessions)
    try:
        await socket.accept(subprotocol)
        await Session(socket, service).run()
    finally:
        service.sessions -= 1
        service.metrics.sessions.set(service.sessions)
