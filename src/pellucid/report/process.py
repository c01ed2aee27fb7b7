"""Processes: from what a method recorded to frames that the page draws: windows, segments, the straight path, the blur; each with its curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.baseline import Constant, Setting, Starts
from pellucid.channels import span
from pellucid.errors import PellucidError
from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.method import Method, read_method
from pellucid.ops.blur import blur_matrix, gaussian
from pellucid.report.curves import Plot, plot
from pellucid.report.pictures import RGB, flat_picture, pack, packed_text
from pellucid.report.planes import Layout, Plane, lay_out
from pellucid.report.words import number, percent, scored, short_target

LONGEST = 256  # samples along a side of an animated picture
FRAMES = 240  # at most, evenly chosen
KEYS = 24  # blurred pictures
CLASSES = 3
TITLES = {
    "windows": "Hiding one window at a time",
    "segments": "Hiding random pieces",
    "path": "From the empty image to this one",
    "blur": "From blurred to sharp",
}


@dataclass(frozen=True)
class _View:
    """The slice in which a process is shown: of the explained image, through the map's strongest place."""

    image: Image
    layout: Layout
    plane: Plane
    at: tuple[int, ...]
    every: int

    def slice(self, values: np.ndarray) -> np.ndarray:
        """Rows and columns as they are seen, of an array (*space) of the explained image; every so many samples."""
        turned = self.layout.array(values)
        plane = self.plane
        cut = turned if plane.through is None else np.take(turned, self.at[plane.through], plane.through)
        rest = [a for a in range(values.ndim) if a != plane.through]
        cut = cut if rest == [plane.y, plane.x] else cut.T
        return (cut[::-1] if plane.flip_y else cut)[:: self.every, :: self.every]

    def picture(self, values: Tensor | None = None) -> str:
        """The slice of an image as a data URI; all with one window, so that they can be compared and blended."""
        shown = (self.image.values if values is None else values).detach().cpu().float().numpy()
        color = self.image.channels == RGB
        return flat_picture([self.slice(c) for c in (shown[:3] if color else shown[:1])], self.image, color)


def processes(maps: Sequence[Map]) -> list[dict[str, Any]]:
    """What the page shows of each map that recorded its way; ``facts`` go to the script."""
    found = []
    for n, m in enumerate(maps):
        try:
            method = read_method(m.provenance.method)
        except PellucidError:  # a method of another version or package
            continue
        one = _one(m, method)
        if one is not None:
            kind, text, drawn, facts = one
            facts |= {"kind": kind, "marks": drawn.marks, "frames": len(drawn.marks)}
            found.append({"n": n, "title": TITLES[kind], "text": text, "svg": drawn.svg, "frames": len(drawn.marks), "facts": facts})
    return found


def _one(m: Map, method: Method[Any]) -> tuple[str, str, Plot, dict[str, Any]] | None:
    trace = m.trace
    if m.provenance.site != "input" or tuple(m.grid.shape) != tuple(m.image.grid.shape):
        return None
    if "corners" in trace and "edges" in trace:
        return _windows(m, method)
    if isinstance(trace.get("samples"), Tensor) and isinstance(trace.get("segments"), Tensor):
        return _segments(m)
    if "alphas" in trace and "probabilities" in trace:
        return _path(m, method)
    return _blur(m, method) if "sigmas" in trace and "edges" in trace else None


def _view(m: Map) -> _View:
    layout = lay_out(m.image)
    plane = layout.planes[0]
    size = layout.array(m.values.detach().cpu().sum(0).abs().numpy())
    at = tuple(int(i) for i in np.unravel_index(int(size.argmax()), size.shape))
    return _View(m.image, layout, plane, at, math.ceil(max(size.shape[plane.x], size.shape[plane.y]) / LONGEST))


def _chosen(n: int, most: int = FRAMES) -> list[int]:
    return [round(k * (n - 1) / (min(n, most) - 1)) for k in range(min(n, most))] if n > 1 else [0]


def _series(m: Map, picked: Sequence[int]) -> tuple[dict[str, list[float]], bool]:
    """Probabilities of the classes that matter most, or the score where there are none."""
    rows = [m.trace["probabilities"][k] for k in picked]
    target = short_target(m.provenance)[0]
    if not rows or not all(isinstance(r, (list, tuple)) and r for r in rows):
        return {_axis(m): [float(m.trace["scores"][k]) for k in picked]}, False
    names = [m.provenance.classes[k] if k < len(m.provenance.classes) else f"class {k}" for k in range(len(rows[0]))]
    order = sorted(range(len(names)), key=lambda k: (names[k] != target, -max(r[k] for r in rows)))[:CLASSES]
    return {names[k]: [float(r[k]) for r in rows] for k in order}, True


def _axis(m: Map) -> str:
    """What the curve shows: the score, or the measured value, of what is explained, with its unit."""
    target, unit = short_target(m.provenance)
    return f"{scored(m.provenance)} of {target}" + (f" ({unit})" if unit else "")


def _told(series: Mapping[str, Sequence[float]], share: bool, heads: Sequence[str]) -> list[str]:
    each = [", ".join(f"{n} {percent(v[i]) if share else number(v[i])}" for n, v in series.items()) for i in range(len(heads))]
    return [f"{head}: {said}" for head, said in zip(heads, each, strict=True)]


def _along(grid: Grid, layout: Layout, axis: int, first: int, edge: int) -> tuple[float, float]:
    """A stretch of the stored axis behind a displayed one, as it is seen: where it starts and how long it is, as shares."""
    stored = layout.order[axis]
    n = grid.shape[stored]
    start = n - first - edge if layout.flip[axis] else first
    return start / n, edge / n


def _windows(m: Map, method: Method[Any]) -> tuple[str, str, Plot, dict[str, Any]] | None:
    view, grid = _view(m), m.image.grid
    corners, edges, scores = m.trace["corners"], m.trace["edges"], m.trace["scores"]
    x, y, through = view.plane.x, view.plane.y, view.plane.through
    kept = []
    for k, corner in enumerate(corners):
        if through is not None:
            stored = view.layout.order[through]
            index = grid.shape[stored] - 1 - view.at[through] if view.layout.flip[through] else view.at[through]
            if not corner[stored] <= index < corner[stored] + edges[stored]:
                continue
        kept.append(k)
    if through is not None and kept:  # of windows at several depths, those that lie nearest to the slice
        stored = view.layout.order[through]
        nearest = min({corners[k][stored] for k in kept}, key=lambda c: abs(c + edges[stored] / 2 - index))
        kept = [k for k in kept if corners[k][stored] == nearest]
    if len(kept) < 2:
        return None
    kept = [kept[i] for i in _chosen(len(kept))]
    windows = []
    for k in kept:
        (left, wide), (top, tall) = (
            _along(grid, view.layout, a, corners[k][view.layout.order[a]], edges[view.layout.order[a]]) for a in (x, y)
        )
        windows.append([round(v, 4) for v in (left, 1 - top - tall if view.plane.flip_y else top, wide, tall)])
    values = [float(scores[k]) for k in kept]
    drops = [m.score - v for v in values]
    most = max(map(abs, drops)) or 1.0
    name = _axis(m)
    drawn = plot(list(range(len(kept))), {name: values}, "window", share=False, ends=("first", "last"))
    facts = {
        "pictures": [view.picture()], "windows": windows, "drops": [round(d / most, 3) for d in drops], "fill": _shade(m.image, method),
        "says": _told({name: values}, False, [f"Window {k + 1} of {len(kept)} hidden" for k in range(len(kept))]),
    }  # fmt: skip
    whole = number(m.score)
    text = f"A window of the image is hidden, and the network is asked again; unhidden the {scored(m.provenance)} is {whole}. Where it falls most, the network needs what was hidden."
    return "windows", text, drawn, facts


def _shade(image: Image, method: Method[Any]) -> str:
    """The color of a constant fill as it is shown."""
    fill = method.params.get("fill")
    if not isinstance(fill, Constant):
        return ""
    given = fill.value if isinstance(fill.value, tuple) else (fill.value,) * len(image.values)
    values = torch.tensor(given, dtype=torch.float32).view(-1, *[1] * image.grid.ndim).expand_as(image.values)
    small = [c.reshape(-1)[:1].numpy().reshape(1, 1) for c in (values[:3] if image.channels == RGB else values[:1])]
    shade = flat_picture(small, image, image.channels == RGB, raw=True)
    return f"rgb({', '.join(str(int(v)) for v in shade)})"


def _segments(m: Map) -> tuple[str, str, Plot, dict[str, Any]] | None:
    view = _view(m)
    labels = view.slice(m.trace["segments"].cpu().numpy()).astype(np.int64)
    rows, scores = m.trace["samples"].cpu().numpy() > 0, m.trace["scores"]
    if rows.shape[0] != len(scores) or labels.max() > 65535:
        return None
    picked = _chosen(len(rows), 120)
    present, compact = np.unique(labels, return_inverse=True)
    name = _axis(m)
    values = [float(scores[k]) for k in picked]
    shown = [float(rows[k].mean()) for k in picked]
    drawn = plot(shown, {name: values}, "share of the pieces shown", share=False, ends=("few", "all"), dots=True)
    heads = [f"Sample {i + 1} of {len(picked)}, {100 * s:.0f} % shown" for i, s in enumerate(shown)]
    facts = {
        "pictures": [view.picture()], "labels": packed_text(pack(np.ascontiguousarray(compact.reshape(labels.shape)).astype(np.uint16))),
        "rows": ["".join("1" if v else "0" for v in rows[k][present]) for k in picked], "says": _told({name: values}, False, heads),
    }  # fmt: skip
    text = f"Random pieces are hidden (here: filled with their mean), and the network is asked again, {len(rows)} times. What raises the {scored(m.provenance)} whenever it is there gets relevance."
    return "segments", text, drawn, facts


def _path(m: Map, method: Method[Any]) -> tuple[str, str, Plot, dict[str, Any]] | None:
    start = _start(m, method)
    if start is None:
        return None
    view, alphas = _view(m), m.trace["alphas"]
    n = min(len(alphas), len(m.trace["probabilities"]))
    order = sorted(range(n), key=lambda k: alphas[k])
    picked = [order[i] for i in _chosen(n)]
    series, share = _series(m, picked)
    at = [float(alphas[k]) for k in picked]
    drawn = plot(at, series, "share of the way", share=share, ends=("start", "this image"))
    heads = [f"{100 * a:.0f} % of the way" for a in at]
    facts = {"pictures": [view.picture(), view.picture(start)], "alphas": [round(a, 4) for a in at], "says": _told(series, share, heads)}
    text = f"The image is faded in from an image that tells nothing. Every step of the way says which samples moved the {scored(m.provenance)}; the map is their sum."
    return "path", text, drawn, facts


def _start(m: Map, method: Method[Any]) -> Tensor | None:
    """Where the path began, if it can be told: as recorded, or a baseline that needs no chance."""
    kept = m.trace.get("start")
    if isinstance(kept, Tensor):
        return kept
    baseline = m.ask.method.params.get("baseline") if m.ask is not None else method.params.get("baseline")
    if not isinstance(baseline, Starts) or "random" in repr(baseline):
        return None
    x = m.image.values.detach().cpu()
    try:
        return baseline.starts(Setting(x, m.image.grid, *span(x), torch.Generator()))[0]
    except PellucidError:
        return None


def _blur(m: Map, method: Method[Any]) -> tuple[str, str, Plot, dict[str, Any]] | None:
    view, sigmas = _view(m), [float(s) for s in m.trace["sigmas"]]
    order = sorted(range(len(sigmas)), key=lambda k: -sigmas[k])
    picked = [order[i] for i in _chosen(len(order))]
    series, share = _series(m, picked)
    keys = _chosen(len(picked), KEYS)
    along, edge = method.params.get("axes"), method.params.get("edge", "nearest")
    per = m.image.grid.spacing if m.trace["unit"] != "px" else (1.0,) * m.image.grid.ndim
    pictures = []
    for i in keys:
        sigma = [sigmas[picked[i]] / s if along is None or a in along else 0.0 for a, s in enumerate(per)]
        pictures.append(_blurred(view, m.image, sigma, edge))
    nearest = [min(range(len(keys)), key=lambda j: abs(keys[j] - i)) for i in range(len(picked))]
    unit = m.trace["unit"]
    heads = [f"Blur of {number(sigmas[k])} {unit}" for k in picked]
    drawn = plot([-sigmas[k] for k in picked], series, "width of the blur", share=share, ends=(f"{number(max(sigmas))} {unit}", "sharp"))
    facts = {"pictures": pictures, "keys": nearest, "says": _told(series, share, heads)}
    text = "Detail comes back from coarse to fine. Where the curve rises, details of that size are what the network uses."
    return "blur", text, drawn, facts


def _blurred(view: _View, image: Image, sigma: Sequence[float], edge: Any) -> str:
    """The slice of the blurred image; a volume is blurred across the slice only where it is shown."""
    values = image.values[: 3 if image.channels == RGB else 1].detach().cpu().double()
    if view.plane.through is not None:
        stored = view.layout.order[view.plane.through]
        n = values.shape[stored + 1]
        index = n - 1 - view.at[view.plane.through] if view.layout.flip[view.plane.through] else view.at[view.plane.through]
        row = blur_matrix(n, sigma[stored], edge)[index]
        values = torch.tensordot(values, row, dims=([stored + 1], [0])).unsqueeze(stored + 1)
        values = gaussian(values, [0.0 if a == stored else s for a, s in enumerate(sigma)], edge)
        values = values.expand(*(n if a == stored + 1 else -1 for a in range(values.ndim)))
    else:
        values = gaussian(values, sigma, edge)
    return view.picture(values.float())
