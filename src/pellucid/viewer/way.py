"""The way to a map: what Blur IG and integrated gradients recorded on their paths, in few enough frames to be leafed through."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadFile, BadParameter
from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.io import read_archive, write_archive
from pellucid.ops.blur import gaussian

FRAMES = 32
SAMPLES = 16_000_000  # of all frames of a way together
PATHS = {"blur_ig": "sigmas", "integrated_gradients": "alphas"}


def kind(why: Map) -> str | None:
    """The path that a map's method followed, where its trace tells."""
    name = why.provenance.method.partition("(")[0]
    return name if name in PATHS and why.trace.get(PATHS[name]) else None


def save(path: Path, why: Map) -> bool:
    """Write what each stretch of the way contributed, (frames, *space); False where the method was not asked to ``keep`` it."""
    parts = _parts(why)
    if parts is None:
        return False
    steps, start = parts
    most = max(4, min(FRAMES, SAMPLES // max(1, steps[0].numel()), len(steps)))
    ends = sorted({round(e) for e in np.linspace(0, len(steps), min(most, len(steps)) + 1)})
    frames = torch.stack([steps[a:b].double().sum(0).float() for a, b in itertools.pairwise(ends)])
    arrays = {"frames": frames} | ({"start": start} if start is not None else {})
    write_archive(path, arrays, why.grid, facts={"kind": "way", "ends": ends[1:]})
    return True


def _parts(why: Map) -> tuple[Tensor, Tensor | None] | None:
    """Contributions per step, summed over channels, and the start of a straight way."""
    if kind(why) == "blur_ig" and isinstance(why.trace.get("maps"), Tensor):
        return why.trace["maps"].cpu().sum(1), None
    gradients = why.trace.get("gradients")
    if kind(why) != "integrated_gradients" or not isinstance(gradients, Tensor) or why.provenance.site != "input":
        return None
    params = why.ask.method.params
    if params["baseline"].count != 1:
        return None  # the gradients are means over several ways
    start, weights = why.trace["start"].cpu(), torch.tensor(why.trace["weights"])
    length = (why.image.values - start) if params["times_input"] else torch.ones_like(start)
    steps = [(w * g.cpu() * length).sum(0) for w, g in zip(weights, gradients, strict=True)]
    return torch.stack(steps), start


def told(why: Map) -> dict[str, Any]:
    """The path in numbers: where each step lies, what it contributed, and what the network said there.

    Raises:
        BadParameter: the method followed no path.
    """
    name = kind(why)
    if name is None:
        got = why.provenance.method.partition("(")[0]
        raise BadParameter("a map of blur_ig or integrated_gradients", got, "Its method follows no path that could be leafed through.")
    trace, at = why.trace, [float(v) for v in why.trace[PATHS[name]]]
    unit = str(trace.get("unit") or "") if name == "blur_ig" else ""
    given = [float(v) for v in trace.get("contributions", ())]
    rows = [[float(p) for p in row] for row in trace.get("probabilities", ())]
    scores = [float(v) for v in trace.get("scores", ())]
    return {"kind": name, "at": at, "unit": unit, "contributions": given, "scores": scores, "probabilities": rows}


def frame(path: Path, why: Map, step: int) -> tuple[Image, Map | None]:
    """The image at a step of the way, and the map as far as the way has gone from its far end (None: not kept)."""
    facts = told(why)
    if not 0 <= step < len(facts["at"]):
        raise BadParameter(f"a step from 0 to {len(facts['at']) - 1}", str(step), "Choose one of the way's.")
    kept = _kept(path)
    start = None if kept is None else kept[0].get("start")
    return _image(why, facts, step, start), None if kept is None else _sum(why, kept, step)


def _kept(path: Path) -> tuple[dict[str, Tensor], list[int]] | None:
    if not path.exists():
        return None
    arrays, facts, _ = read_archive(path)
    if facts.get("kind") != "way":
        raise BadFile(f"read {path.name}", "another archive", "Ask for the map again.")
    return arrays, list(facts["ends"])


def _image(why: Map, facts: dict[str, Any], step: int, start: Tensor | None) -> Image:
    """What the network saw there; without the start of a straight way, the image itself."""
    x, at = why.image.values, facts["at"][step]
    if facts["kind"] == "integrated_gradients":
        return why.image if start is None else why.image.with_values(start + at * (x - start))
    grid = why.image.grid
    axes = why.trace.get("axes") or range(grid.ndim)
    size = [at / s if facts["unit"] == grid.unit and grid.unit == "mm" else at for s in grid.spacing]
    return why.image.with_values(gaussian(x.double(), [s if a in axes else 0.0 for a, s in enumerate(size)]).to(x.dtype))


def _sum(why: Map, kept: tuple[dict[str, Tensor], list[int]], step: int) -> Map:
    """Contributions gathered so far: Blur IG comes from blurred to sharp (steps run the other way), IG from the baseline on."""
    arrays, ends = kept
    here = next((n for n, end in enumerate(ends) if step < end), len(ends) - 1)
    frames = arrays["frames"]
    part = frames[here:] if kind(why) == "blur_ig" else frames[: here + 1]
    return replace(why, values=part.double().sum(0, keepdim=True).float())
