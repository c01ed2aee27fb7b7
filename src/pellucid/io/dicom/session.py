"""The way to a DICOMweb server: one session for what is asked and for what is sent; neither secrets nor pixels come by a proxy to this machine."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pellucid.errors import BadParameter


@dataclass(frozen=True)
class Signed:
    """Puts the secret on each request to this server; never shown. As requests has it in hand, it looks into no ``.netrc``."""

    secret: str | None

    def __post_init__(self) -> None:
        if self.secret and (not self.secret.isascii() or not self.secret.isprintable()):
            raise BadParameter("an authorization", "one that is no header line", "Give e.g. 'Bearer ...'.")

    def __call__(self, request: Any) -> Any:
        """The request, signed."""
        if self.secret:
            request.headers["Authorization"] = self.secret
        return request

    def __repr__(self) -> str:
        return "Signed(...)"


def session_for(url: str, authorization: str | None) -> Any:
    """A session of ``requests`` with the server at ``url``: no ``.netrc``, and no proxy on the way to this machine.

    Raises:
        BadParameter: an authorization that is no header line.
    """
    import requests

    session = requests.Session()
    session.auth = Signed(authorization)
    session.trust_env = not is_local(urlsplit(url).hostname or "")
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True  # of the environment, trusted or not
    return session


def is_local(host: str) -> bool:
    """Whether a host is this machine, under a name or address that no server of names is asked about."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
