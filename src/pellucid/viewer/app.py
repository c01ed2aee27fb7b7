"""The app: routes, errors as JSON, the page's own files; and the server, bound to this machine alone."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pellucid.asking import versions
from pellucid.errors import BadFile, PellucidError, Untrusted
from pellucid.model import Model
from pellucid.viewer import marks
from pellucid.viewer.desk import Desk
from pellucid.viewer.guard import Guard, TooLarge
from pellucid.viewer.jobs import problem
from pellucid.viewer.limits import Limits
from pellucid.viewer.offers import Beside
from pellucid.viewer.routes import annotate, concepts, exports, findings, influence, nets, runs, scans, similar
from pellucid.viewer.routes import marks as mark_routes
from pellucid.viewer.routes import read as read_routes
from pellucid.viewer.routes.reach import PROBLEMS, AtDesk
from pellucid.viewer.shapes import About
from pellucid.viewer.showing import colors
from pellucid.viewer.store import Missing

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}
ROUTES = (
    scans,
    nets,
    runs,
    mark_routes,
    exports,
    similar,
    concepts,
    influence,
    findings,
    annotate,
    read_routes,
)  # a further work mode is another entry here, and a line in static/modes.js
SHARED = {"report": "pellucid.report", "viewer": "pellucid.viewer"}


def application(desk: Desk, token: str) -> Any:
    """The guarded ASGI app of a desk."""

    about = "Explanations of medical-imaging networks, on this machine. Every request carries the token, as a cookie or as a Bearer token."
    app = FastAPI(
        title="Pellucid viewer",
        version=versions()["pellucid"],
        description=about,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.desk = desk
    for routes in ROUTES:
        app.include_router(routes.router)
    app.add_api_route("/api/about", _about, response_model=About, responses=PROBLEMS, tags=["viewer"])
    app.add_api_route("/", _page, include_in_schema=False)
    app.add_api_route("/static/{package}/{path:path}", _static, include_in_schema=False)
    app.add_exception_handler(PellucidError, _told)
    app.add_exception_handler(RequestValidationError, _misshapen)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _unexpected)
    return Guard(app, token, desk.limits)


def serve(
    folder: Path,
    work: Path,
    models: Mapping[str, Model],
    *,
    port: int = 0,
    token: str | None = None,
    limits: Limits | None = None,
    phantoms: bool = True,
    beside: Beside | None = None,
    on_ready: Callable[[str], None],
    stop: threading.Event | None = None,
) -> None:
    """Serve a folder of scans on 127.0.0.1 until interrupted; ``on_ready`` gets the address with the token. ``beside``: what else can be
    shown, as the command line named it.

    Raises:
        BadFile: no such folder, the port is taken, or another viewer works in ``work``.
    """
    if not folder.is_dir():
        raise BadFile("a folder of scans to serve", f"{folder}, which is none", "Name a folder.")
    token = token or secrets.token_urlsafe(24)
    with contextlib.ExitStack() as ending:
        server = ending.enter_context(_bound(port))
        desk = Desk.over(folder, work, models, limits, phantoms, beside)
        ending.callback(desk.close)
        config = uvicorn.Config(application(desk, token), log_level="warning", server_header=False, timeout_graceful_shutdown=3)
        running = uvicorn.Server(config)
        on_ready(f"http://127.0.0.1:{server.getsockname()[1]}/?token={token}")
        if stop is not None:
            threading.Thread(target=_end_when, args=(stop, running), daemon=True).start()
        running.run(sockets=[server])


def _bound(port: int) -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(("127.0.0.1", port))
        server.listen()  # who comes before the server runs waits
    except OSError as error:
        server.close()
        raise BadFile(f"port {port} of this machine", str(error), "Use another, or --port 0 for a free one.") from error
    return server


def _end_when(stop: threading.Event, running: uvicorn.Server) -> None:
    stop.wait()
    running.should_exit = True


def _about(desk: AtDesk) -> dict[str, Any]:
    """What the page must know first."""
    given = desk.offers.given
    return {
        "version": versions()["pellucid"], "folder": desk.shelf.root.resolve().name, "upload": desk.limits.upload, "colors": colors(),
        "metrics": marks.offered(),
        "beside": {"similar": len(given.indexes), "concepts": len(given.concepts), "influence": len(given.influences),
                   "findings": len(given.findings)},
    }  # fmt: skip


def _page() -> Response:
    return _file("viewer", "index.html")


def _static(package: str, path: str) -> Response:
    """A file of the page: of the viewer, or of the report, whose drawing is the same."""
    return _file(package, path)


def _file(package: str, path: str) -> Response:
    parts = Path(path).parts
    kind = KINDS.get(Path(path).suffix)
    if package not in SHARED or kind is None or ".." in parts or path.startswith("/"):
        raise HTTPException(404)
    found = resources.files(SHARED[package]).joinpath("static" if package == "viewer" else "", *parts)
    if not found.is_file():
        raise HTTPException(404)
    return Response(found.read_bytes(), media_type=f"{kind}; charset=utf-8", headers={"cache-control": "no-cache"})


# ---------------------------------------------------------------------------------------------------- errors as JSON
async def _told(request: Request, error: Exception) -> JSONResponse:
    status = 413 if isinstance(error, TooLarge) else 403 if isinstance(error, Untrusted) else 404 if isinstance(error, Missing) else 400
    return JSONResponse(problem(error), status)


async def _misshapen(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "unreadable"}
    where = ".".join(map(str, first["loc"])) or "the request"
    words = {"kind": "Misshapen", "asked": "a request as /openapi.json describes it", "got": f"{where[:120]}: {first['msg']}"[:300]}
    return JSONResponse({**words, "fix": "Correct that entry."}, 422)


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    words = {
        "kind": "Refused",
        "asked": f"{request.method} {request.url.path[:120]}",
        "got": str(error.detail),
        "fix": "See /openapi.json.",
    }
    return JSONResponse(words, error.status_code, headers=dict(error.headers or {}))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(problem(error), 500)
