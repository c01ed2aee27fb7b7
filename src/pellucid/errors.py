"""Errors: each says what was asked, what was got, and the way out, on one line."""

from __future__ import annotations


class PellucidError(Exception):
    """Root of all errors raised on purpose. ``asked``, ``got`` and ``fix`` stay readable as attributes."""

    def __init__(self, asked: str, got: str, fix: str) -> None:
        self.asked, self.got, self.fix = asked, got, fix
        super().__init__(asked, got, fix)

    def __str__(self) -> str:
        return f"{self.asked}; got {self.got}. {self.fix}"


class BadImage(PellucidError, ValueError):
    """The image, or its values, cannot be explained as given."""


class BadFile(PellucidError, ValueError):
    """A file is missing, corrupt, truncated or of a kind that cannot be read."""


class BadServer(PellucidError, ConnectionError):
    """A server cannot be reached, refuses who asks, or does not answer as DICOMweb says."""


class BadGrid(PellucidError, ValueError):
    """Two frames do not fit, or a crop, spacing or affine makes no sense."""


class BadModel(PellucidError, ValueError):
    """The network gives something that was not described, or cannot be differentiated."""


class BadTarget(PellucidError, ValueError):
    """The target does not exist or does not give one number per sample."""


class BadSite(PellucidError, ValueError):
    """The site does not exist, runs more than once, or has no spatial extent where one is needed."""


class BadParameter(PellucidError, TypeError, ValueError):
    """A method or metric was bound with a wrong parameter."""


class Unsupported(PellucidError, NotImplementedError):
    """This method cannot answer for this network, site or target, and says so rather than guess."""


class NoRule(Unsupported):
    """An operation of the network has no rule in this method, and a plain gradient would pass for one."""


class Untrusted(PellucidError, PermissionError):
    """Loading would run somebody's code, and the user's word for it is missing."""


class OutOfMemory(PellucidError, MemoryError):
    """A single sample does not fit into memory."""


class Cancelled(PellucidError):
    """The caller asked to stop; nothing was changed."""
