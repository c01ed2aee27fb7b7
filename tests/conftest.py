import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
CHROMIUM = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_libraries = []  # torch.library forgets its operators when the object goes


def _declare_missing_torchvision_operators() -> None:
    """torchvision built for CUDA cannot load its operators beside a CPU torch; two declarations let it import (its nets need no more)."""
    found = find_spec("torchvision")
    if found is None or found.origin is None or hasattr(torch.ops.torchvision, "nms"):
        return
    for compiled in sorted(Path(found.origin).parent.glob("_C*.so")):
        try:
            torch.ops.load_library(compiled)
        except OSError:
            continue
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)


_declare_missing_torchvision_operators()


@pytest.fixture(scope="session")
def realdata() -> Callable[[str], Path]:
    """Path of a real scan by its name inside PELLUCID_REALDATA (or ../shared/data); the test is skipped where it is missing."""
    home = Path(os.environ.get("PELLUCID_REALDATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        path = home / name
        if not path.exists():
            pytest.skip(f"real scan {name!r} is not here (PELLUCID_REALDATA)")
        return path

    return find


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window or a network of its own; what needs it is skipped by name where playwright or Chromium is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as p:
        one = p.chromium.launch(executable_path=found, args=CHROMIUM)
        yield one
        one.close()
