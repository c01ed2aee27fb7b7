"""The guard before every request: host, token or place and cookie, origin, size; and the headers that every answer carries."""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pellucid.errors import BadFile
from pellucid.viewer.limits import Limits

Scope = dict[str, Any]
COOKIE = "pellucid"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
READS = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
WRONG_TOKEN = ("the token that `pellucid serve` printed", "none, or another one", "Open the printed address, or send it as a Bearer token.")


class TooLarge(BadFile):
    """A body grew beyond its limit while it was read."""


@dataclass
class Guard:
    """ASGI middleware. Only loopback names as host (no DNS rebinding); the token as Bearer, or place and cookie; writes only from the page itself.

    Cookies know no port: every server on this machine is given those of any other. So the page lives below a ``place`` that nobody can guess, the
    cookie belongs to that path alone, holds a secret that ends with this viewer, and opens nothing anywhere else.
    """

    app: Any
    token: str
    limits: Limits = field(default_factory=Limits)
    place: str = field(default_factory=lambda: f"/{secrets.token_urlsafe(18)}/")
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            elif scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        placed = scope["path"].startswith(self.place)
        if placed:
            scope = {**scope, "path": scope["path"][len(self.place) - 1 :]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
        if given:
            await self._first_visit(scope, send, given[0])
            return
        if not (self._bears(headers) or (placed and self._has_cookie(headers))):
            await _answer(send, 401, WRONG_TOKEN)
            return
        await self._pass(scope, receive, send)

    def _refused(self, scope: Scope, headers: Mapping[str, str]) -> tuple[int, tuple[str, str, str]] | None:
        """Status and words for a request that is wrong whoever sends it."""
        host = headers.get("host", "")
        if _name(host) not in LOOPBACK:
            return 421, ("a request to this machine's own address", f"one for {host[:80]!r}", "Use http://127.0.0.1 and the printed port.")
        site, navigates = headers.get("sec-fetch-site", "none"), headers.get("sec-fetch-mode") == "navigate" and scope["path"] == "/"
        if site not in ("none", "same-origin") and not (navigates and scope["method"] in READS):
            return 403, ("a request from the viewer's own page", f"one from another site ({site[:20]})", "Work in the viewer's page.")
        if scope["method"] not in READS:
            origin = headers.get("origin")
            if origin is not None and origin.lower() != f"{scope.get('scheme', 'http')}://{host}".lower():
                return 403, ("a change asked for by the viewer's own page", f"one from {origin[:80]!r}", "Work in the viewer's page.")
            if origin is None and "sec-fetch-site" not in headers and not headers.get("authorization"):
                return 403, ("a change that says where it comes from", "no Origin", "Send the token as a Bearer token instead.")
        length = headers.get("content-length", "0")
        most = self._most(scope["path"])
        if not length.isdigit() or int(length) > most:
            return 413, _too_large(most, f"{length[:20]} bytes")
        return None

    def _most(self, path: str) -> int:
        return self.limits.upload if path.startswith("/api/uploads") else self.limits.body

    def _bears(self, headers: Mapping[str, str]) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and _same(bearer.strip(), self.token)

    def _has_cookie(self, headers: Mapping[str, str]) -> bool:
        """Any of that name will do, beside whatever else: other servers on this machine may set cookies that the browser sends here."""
        pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
        return any(_same(value, self.secret) for name, _, value in pairs if name == COOKIE)

    async def _first_visit(self, scope: Scope, send: Any, given: str) -> None:
        """The token leaves the address, which is shown and kept in histories; a cookie, which scripts cannot read, opens the page's place."""
        if not _same(given, self.token) or scope["method"] not in READS:
            await _answer(send, 401, WRONG_TOKEN)
            return
        cookie = f"{COOKIE}={self.secret}; HttpOnly; SameSite=Strict; Path={self.place}"
        await _answer(send, 303, None, {"set-cookie": cookie, "location": self.place})

    async def _pass(self, scope: Scope, receive: Any, send: Any) -> None:
        read, most, over = 0, self._most(scope["path"]), False

        async def counted() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise TooLarge(*_too_large(most, "a longer one"))
            return message

        async def dressed(message: Any) -> None:
            nonlocal over
            if over:
                return
            if message["type"] == "http.response.start":
                if over := read > most:  # whatever the app made of it
                    await _answer(send, 413, _too_large(most, "a longer one"))
                    return
                have = {k.lower() for k, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in have),
                ]
            await send(message)

        await self.app(scope, counted, dressed)


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _too_large(most: int, got: str) -> tuple[str, str, str]:
    return f"a body of at most {most:,} bytes", got, "Start the viewer with a larger --upload."


def _name(host: str) -> str:
    """The host without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def _answer(send: Any, status: int, words: tuple[str, str, str] | None, more: Mapping[str, str] | None = None) -> None:
    kind = {401: "BadToken", 413: "TooLarge"}.get(status, "Refused")
    body = b"" if words is None else json.dumps(dict(zip(("asked", "got", "fix"), words, strict=True)) | {"kind": kind}).encode()
    headers = {**HEADERS, "content-type": "application/json", "content-length": str(len(body)), **(more or {})}
    await send(
        {"type": "http.response.start", "status": status, "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()]}
    )
    await send({"type": "http.response.body", "body": body})
