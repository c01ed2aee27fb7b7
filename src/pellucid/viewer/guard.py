"""The guard before every request: host, token, origin, size; and the headers that every answer carries."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from pellucid.errors import BadFile
from pellucid.viewer.limits import Limits

Scope = dict[str, Any]
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
    """ASGI middleware. Only loopback names as host (no DNS rebinding); the token as cookie or Bearer; writes only from the page itself."""

    app: Any
    token: str
    limits: Limits = field(default_factory=Limits)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [])
        if given:
            await self._first_visit(scope, headers, send, given[0])
            return
        if not self._known(headers):
            await _answer(send, 401, WRONG_TOKEN)
            return
        await self._pass(scope, receive, send, headers)

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

    def _cookie(self, headers: Mapping[str, str]) -> str:
        """Cookies know no port: two viewers on one machine must not take each other's."""
        return "pellucid-" + (headers.get("host", "").rpartition(":")[2] if not headers.get("host", "").endswith("]") else "")

    def _known(self, headers: Mapping[str, str]) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._same(bearer.strip())
        try:
            found = SimpleCookie(headers.get("cookie", "")).get(self._cookie(headers))
        except CookieError:
            return False
        return found is not None and self._same(found.value)

    def _same(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    async def _first_visit(self, scope: Scope, headers: Mapping[str, str], send: Any, given: str) -> None:
        """The token moves from the address, which is shown and kept in histories, to a cookie, which scripts cannot read."""
        if not self._same(given) or scope["method"] not in READS:
            await _answer(send, 401, WRONG_TOKEN)
            return
        cookie = f"{self._cookie(headers)}={quote(self.token)}; HttpOnly; SameSite=Strict; Path=/"
        path = "/" + quote(scope["path"].lstrip("/\\"))  # //host would leave this machine
        await _answer(send, 303, None, {"set-cookie": cookie, "location": path})

    async def _pass(self, scope: Scope, receive: Any, send: Any, headers: Mapping[str, str]) -> None:
        read, most = 0, self._most(scope["path"])

        async def counted() -> Any:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise TooLarge(*_too_large(most, "a longer one"))
            return message

        async def dressed(message: Any) -> None:
            if message["type"] == "http.response.start":
                have = {k.lower() for k, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in have),
                ]
            await send(message)

        await self.app(scope, counted, dressed)


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
