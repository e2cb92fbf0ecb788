"""The paths under `/teach`: takes, actions, undo, fit and the bundle. docs/protocol.md."""

from contextlib import AsyncExitStack
from pathlib import PurePath
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from rgbflow.serve.teaching import TAUGHT, Teaching
from rgbflow.serve.uploads import save_upload

SUFFIXES = {"video/webm": ".webm", "video/quicktime": ".mov", "video/x-matroska": ".mkv"}  # else .mp4
KNOWN_SUFFIXES = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".m4v")

teach = APIRouter(prefix="/teach")


class NewName(BaseModel):
    """Another name of an action."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=100)


def teaching_of(request: Request) -> Teaching:
    if (teaching := request.app.state.teaching) is None:
        raise HTTPException(404, "this service does not teach: teach with `rgbflow serve`, and deploy the saved bundle")
    return teaching


@teach.get("")
def state(request: Request) -> dict[str, Any]:
    """What is taught: the actions with their takes, and the report of the last fit."""
    return teaching_of(request).state()


@teach.post("/actions/{name}/takes", status_code=201)
async def add(request: Request, name: str) -> dict[str, Any]:
    """Keep a video as a take of an action, which is made if there is none of that name."""
    teaching, service = teaching_of(request), request.app.state.service
    with service.upload() as path:
        given = await save_upload(request, path, service.limits)
        suffix = PurePath(given).suffix.lower()
        if suffix not in KNOWN_SUFFIXES:
            suffix = SUFFIXES.get(request.headers.get("content-type", "").partition(";")[0], ".mp4")
        return await teaching.add(name, path.rename(path.with_suffix(suffix)))


@teach.delete("/actions/{name}/takes/{identity}")
async def remove_take(request: Request, name: str, identity: str) -> dict[str, Any]:
    """Remove a take."""
    return await teaching_of(request).remove(name, identity)


@teach.delete("/actions/{name}")
async def remove_action(request: Request, name: str) -> dict[str, Any]:
    """Remove an action with all its takes."""
    return await teaching_of(request).remove(name)


@teach.patch("/actions/{name}")
async def rename(request: Request, name: str, new: NewName) -> dict[str, Any]:
    """Give an action another name."""
    return await teaching_of(request).rename(name, new.name)


@teach.post("/undo")
async def undo(request: Request) -> dict[str, Any]:
    """Take back the last change."""
    return await teaching_of(request).undo()


@teach.post("/fit")
async def fit(request: Request) -> dict[str, Any]:
    """Teach what is there; all sessions go on with the networks that come of it."""
    return await teaching_of(request).fit()


@teach.get("/bundle", response_class=FileResponse, responses={200: {"content": {"application/zip": {}}}})
async def bundle(request: Request) -> FileResponse:
    """The taught bundle, as a ZIP file."""
    async with AsyncExitStack() as stack:
        path = await stack.enter_async_context(teaching_of(request).bundle())
        held = stack.pop_all()
    name = f"{TAUGHT}.zip"
    return FileResponse(path, media_type="application/zip", filename=name, background=BackgroundTask(held.aclose))
