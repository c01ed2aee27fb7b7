"""TorchScript: gradients and scores only, since its operations and modules cannot be watched."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch

from pellucid.loading.trust import Loaded, Trust, at_least, reading, whole

NOTE = "TorchScript hides its operations: gradients and scores only, no sites and no rules; for those load the factory with its weights"


def from_torchscript(path: Path, trust: Trust) -> Loaded:
    """A scripted or traced network.

    Raises:
        BadFile: corrupt, or made by a newer torch.
        Untrusted: below trust='code'.
    """
    at_least(trust, "code", "TorchScript is a program; running it", path)
    data, digest = whole(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated, the files are there
        warnings.simplefilter("ignore", FutureWarning)
        with reading(str(path), "Is it complete?"):
            module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    return Loaded(module, "TorchScript", path.stem, {path.name: digest}, {}, (NOTE,))


def holds_script(names: list[str]) -> bool:
    """Whether the files of a zip are those of TorchScript."""
    inside = [n.split("/", 1)[-1] for n in names]
    return "constants.pkl" in inside and any(n.startswith("code/") for n in inside)
