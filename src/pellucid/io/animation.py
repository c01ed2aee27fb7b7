"""How a map came about, as a short film: the moving occluder, LIME's samples, the way of integrated gradients, the way of the blur."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadParameter, Unsupported
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io import picture
from pellucid.io.caption import ALARM, ALARMING
from pellucid.io.curve import Curve, draw_curve
from pellucid.io.picture import BLUE_ORANGE, FAINT, INK, PAPER, Panel
from pellucid.ops.blur import gaussian

SIDE, GAP, HEAD, FOOT = 300, 18, 70, 40  # pixels: a picture's longer edge, between pictures, above, below
MARK = b"pellucid"
PACE, PAUSE = 110, 1800  # milliseconds of a frame, and of the last


@dataclass(frozen=True, eq=False)
class Told:
    """What a film is about: the image, the map on the image's grid, the trace, and words."""

    image: Image
    values: Tensor
    trace: Mapping[str, Any]
    method: str
    target: str
    score: float
    sided: bool = False
    shown_class: int | None = None
    classes: tuple[str, ...] = ()
    verdict: str = "not examined"


@dataclass(frozen=True, eq=False)
class Shot:
    """One frame before it is drawn: the picture, what is laid over it or beside it, and where the curve stands."""

    image: Tensor
    beside: Tensor | None
    at: int
    note: str
    box: tuple[slice, ...] | None = None
    hidden: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Film:
    """Shots that are made one at a time, the words over their two pictures, the color scale of the second, and the curve."""

    titles: tuple[str, str]
    shots: Callable[[Sequence[int]], Iterator[Shot]]
    steps: int
    curve: Curve
    top: float


@dataclass(frozen=True, eq=False)
class Scene:
    """The slice that is filmed: a flat image itself, of a volume the slice through the map's largest |value|."""

    told: Told
    axis: int | None
    slab: tuple[slice, ...]
    grid: Grid
    window: tuple[float, float] = field(default=(0.0, 1.0))

    def cut(self, values: Tensor) -> Tensor:
        """The slice of (..., *space), its axis kept."""
        for axis, part in enumerate(self.slab, values.ndim - len(self.slab)):
            values = values.narrow(axis, part.start, part.stop - part.start)
        return values

    def panel(self, image: Tensor, values: Tensor | None) -> Panel:
        """A slice of the image, and of a map over it, as it is looked at."""
        told = self.told
        part = Image(image, self.grid, told.image.quantity, told.image.channels, None, told.image.facts)
        base = picture.gray_of(part, self.grid.shape, self.window)
        flat = np.zeros(self.grid.shape) if values is None else values.detach().cpu().double().numpy()
        if self.grid.ndim == 3:
            return replace(picture.planes(flat, base, self.grid, told.sided, (0, 0, 0))[0], cross=None)
        panel = picture.single(flat, base, self.grid, told.sided, part)
        colored = values is None and picture.is_color(part) and not told.sided
        return replace(panel, base=picture.color_of(part)) if colored else panel


def film(told: Told, *, frames: int = 60) -> tuple[list[Any], list[int]]:
    """Frames as PIL pictures, and how long each stands, in milliseconds.

    Raises:
        Unsupported: a method that does not record its way, or one that was not asked to keep it.
        BadParameter: fewer than two frames.
    """
    if frames < 2:
        raise BadParameter("a film has at least two frames", repr(frames), "Give e.g. 60.")
    scene = _scene(told)
    made = _maker(told.trace)(told, scene)
    chosen = sorted({round(float(k)) for k in np.linspace(0, made.steps - 1, min(frames, made.steps))})
    drawn = [_draw(told, scene, made, shot) for shot in made.shots(chosen)]
    drawn.append(
        _draw(told, scene, made, Shot(scene.cut(told.image.values), scene.cut(told.values.sum(0)), made.steps - 1, "the map"), end=True)
    )
    return drawn, [PACE] * (len(drawn) - 1) + [PAUSE]


def _maker(trace: Mapping[str, Any]) -> Callable[[Told, Scene], Film]:
    makers = {
        ("corners", "edges", "scores"): _occluder,
        ("samples", "segments", "scores"): _samples,
        ("gradients", "start", "alphas"): _path,
        ("maps", "sigmas"): _blur,
    }
    for keys, maker in makers.items():
        if all(k in trace for k in keys):
            return maker
    fix = "Ask occlusion or lime, or integrated_gradients(keep=True) or blur_ig(keep=True)."
    raise Unsupported("a film needs the way of the method in the map's trace", f"a trace of {sorted(trace) or 'nothing'}", fix)


def _scene(told: Told) -> Scene:
    """Where a volume is cut: across its long axis of the patient, through the largest |value|."""
    grid = told.image.grid
    if tuple(told.values.shape[1:]) != grid.shape:
        raise Unsupported("a film shows a map of the image", f"a map of {tuple(told.values.shape[1:])}", "Ask at the input, without site=.")
    if grid.ndim == 2:
        return Scene(told, None, tuple(slice(0, n) for n in grid.shape), grid, picture.window_of(told.image))
    peak = np.unravel_index(int(told.values.sum(0).abs().argmax()), grid.shape)
    axis = next((a for a, letter in enumerate(grid.orientation) if letter in "IS"), 2)
    start, stop = [0, 0, 0], list(grid.shape)
    start[axis], stop[axis] = int(peak[axis]), int(peak[axis]) + 1
    slab = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Scene(told, axis, slab, grid.crop(start, stop), picture.window_of(told.image))


# ---------------------------------------------------------------------------------------------------- four ways
def _occluder(told: Told, scene: Scene) -> Film:
    """The window moves; what it took from the score is laid out as it comes in."""
    edges, every = told.trace["edges"], told.trace.get("every", 1)
    windows = [tuple(slice(c, c + e) for c, e in zip(corner, edges, strict=True)) for corner in told.trace["corners"]]
    if scene.axis is not None:  # those that the slice passes through
        level = scene.slab[scene.axis].start
        inside = [k for k, w in enumerate(windows) if w[scene.axis].start <= level < w[scene.axis].stop]
        windows = [tuple(slice(0, 1) if a == scene.axis else s for a, s in enumerate(windows[k])) for k in inside]
    else:
        inside = list(range(len(windows)))
    scores = [told.trace["scores"][k] for k in inside]

    def shots(chosen: Sequence[int]) -> Iterator[Shot]:
        total, times, done = torch.zeros(scene.grid.shape), torch.zeros(scene.grid.shape), 0
        for k in chosen:
            for j in range(done, k + 1):
                total[windows[j]] += told.score - scores[j]
                times[windows[j]] += 1
            done = k + 1
            yield Shot(scene.cut(told.image.values), total / times.clamp_min(1), k, f"place {k + 1} of {len(scores)}", box=windows[k])

    curve = Curve((tuple(scores),), "score with the window hidden", "place of the window", level=told.score)
    titles = ("the window hides", "what the score lost so far" if every == 1 else "what the score lost so far (some places)")
    return Film(titles, shots, len(scores), curve, _top(scene.cut(told.values.sum(0))))


def _samples(told: Told, scene: Scene) -> Film:
    """Random segments are hidden; how much each adds is estimated better and better."""
    rows, labels = torch.as_tensor(told.trace["samples"]).bool(), torch.as_tensor(told.trace["segments"])
    scores, times = torch.tensor(told.trace["scores"], dtype=torch.float64), torch.tensor(told.trace["times"], dtype=torch.float64)
    seen = scene.cut(labels)

    def shots(chosen: Sequence[int]) -> Iterator[Shot]:
        for k in chosen:
            on, weight = rows[: k + 1].double(), times[: k + 1, None]
            shown, hidden = (on * weight).sum(0), ((1 - on) * weight).sum(0)
            score = scores[: k + 1, None]
            effect = (on * weight * score).sum(0) / shown.clamp_min(1) - ((1 - on) * weight * score).sum(0) / hidden.clamp_min(1)
            effect = torch.where((shown > 0) & (hidden > 0), effect, torch.zeros(()).double())
            yield Shot(scene.cut(told.image.values), effect[seen], k, f"sample {k + 1} of {len(rows)}", hidden=~rows[k][seen])

    curve = Curve((tuple(scores.tolist()),), "score of the sample", "sample", dots=True, level=told.score)
    on = rows.double()
    effects = [scores[rows[:, s]].mean() - scores[~rows[:, s]].mean() for s in range(on.shape[1]) if 0 < int(rows[:, s].sum()) < len(rows)]
    top = max((abs(float(e)) for e in effects), default=1.0) or 1.0
    return Film(("segments left in the image", "score shown minus hidden, so far"), shots, len(rows), curve, top)


def _path(told: Told, scene: Scene) -> Film:
    """From the baseline to the image; beside it the gradient there."""
    trace, x = told.trace, told.image.values
    alphas, start, gradients = trace["alphas"], torch.as_tensor(trace["start"]), torch.as_tensor(trace["gradients"])
    order = sorted(range(len(alphas)), key=lambda k: alphas[k])
    steps = torch.stack([scene.cut(gradients[k]).sum(0) for k in order])

    def shots(chosen: Sequence[int]) -> Iterator[Shot]:
        for k in chosen:
            alpha = alphas[order[k]]
            yield Shot(scene.cut(start + alpha * (x - start)), steps[k], k, f"{alpha:.0%} of the way from the baseline to the image")

    curve = _way(told, order, "share of the way")
    return Film(("on the way", "gradient there"), shots, len(order), replace(curve, across=tuple(alphas[k] for k in order)), _top(steps))


def _blur(told: Told, scene: Scene) -> Film:
    """From blurred to sharp; beside it what the step contributes."""
    trace, x, grid = told.trace, told.image.values, told.image.grid
    sigmas, maps = trace["sigmas"], torch.as_tensor(trace["maps"])
    order = sorted(range(len(sigmas)), key=lambda k: -sigmas[k])
    steps = torch.stack([scene.cut(maps[k]).sum(0) for k in order])
    unit = trace.get("unit", grid.unit)
    along = [s if unit == "mm" else 1.0 for s in grid.spacing]
    blurred = trace.get("bins") is None  # one axis alone otherwise: which, the trace does not say

    def shots(chosen: Sequence[int]) -> Iterator[Shot]:
        for k in chosen:
            sigma = sigmas[order[k]]
            seen = gaussian(x.double(), [sigma / s for s in along]).float() if blurred else x
            yield Shot(scene.cut(seen), steps[k], k, f"blur of {sigma:.3g} {unit}")

    curve = _way(told, order, f"blur, {unit}")
    titles = ("from blurred to sharp" if blurred else "the image", "what this step adds")
    return Film(titles, shots, len(order), replace(curve, across=tuple(-sigmas[k] for k in order)), _top(steps))


def _way(told: Told, order: Sequence[int], words: str) -> Curve:
    """Probabilities of all classes along a path, the explained one first; the score where there are none."""
    rows: Sequence[Sequence[float]] = told.trace.get("probabilities") or ()
    k = told.shown_class
    if k is not None and len(rows) == len(order) and len(rows[0]) > k:
        others = [j for j in range(len(rows[0])) if j != k][:5]
        lines = tuple(tuple(float(rows[i][j]) for i in order) for j in (k, *others))
        name = told.classes[k] if k < len(told.classes) else str(k)
        return Curve(lines, f"probability of {name} (pale: others)", words, span=(0.0, 1.0))
    return Curve((tuple(float(told.trace["scores"][i]) for i in order),), "score", words)


def _top(values: Tensor) -> float:
    return picture.top_of(values.detach().cpu().double().numpy())


# ---------------------------------------------------------------------------------------------------- drawing
def _draw(told: Told, scene: Scene, made: Film, shot: Shot, *, end: bool = False) -> Any:
    """One frame: the picture, the map beside it, the curve, and the words."""
    from PIL import Image as Pil
    from PIL import ImageDraw

    first = scene.panel(shot.image, None)
    zoom = SIDE / max(n * s for n, s in zip(first.values.shape, first.sample, strict=True))
    left = picture.draw(_dimmed(scene, first, shot), 1.0, zoom, BLUE_ORANGE, plain=True)
    over = scene.cut(told.image.values)
    top = _top(scene.cut(told.values.sum(0))) if end else made.top
    right = picture.draw(scene.panel(over, shot.beside), top, zoom, BLUE_ORANGE)
    if shot.box is not None:
        _box(left, scene, first, shot.box)
    tall = max(left.height, 220)
    page = Pil.new("RGB", (4 * GAP + 2 * left.width + SIDE + 60, HEAD + tall + FOOT), PAPER)
    pen = ImageDraw.Draw(page)
    text = f"{told.target} by {told.method}"
    font = picture.font(16, text)
    while pen.textlength(text, font=font) > page.width - 2 * GAP:
        text = text[:-2] + "…"
    pen.text((GAP, 22), text, fill=INK, font=font, anchor="lm")
    x = GAP
    titles = ("the image", "the map") if end else made.titles
    for drawn, title in zip((left, right), titles, strict=True):
        pen.text((x, HEAD - 14), title, fill=FAINT, font=picture.font(13), anchor="lm")
        page.paste(drawn, (x, HEAD + (tall - drawn.height) // 2))
        x += drawn.width + GAP
    draw_curve(pen, made.curve, shot.at, (x, HEAD - 24, page.width - GAP, HEAD + tall))
    pen.text((GAP, HEAD + tall + FOOT / 2), shot.note, fill=INK, font=picture.font(14), anchor="lm")
    words, ink = f"evidence: {told.verdict}  ·  not for diagnosis", ALARM if told.verdict in ALARMING else FAINT
    pen.text((page.width - GAP, HEAD + tall + FOOT / 2), words, fill=ink, font=picture.font(12), anchor="rm")
    return page


def _dimmed(scene: Scene, panel: Panel, shot: Shot) -> Panel:
    """Hidden segments nearly black."""
    if shot.hidden is None:
        return panel
    mask = scene.panel(scene.cut(scene.told.image.values), shot.hidden.double()).values  # turned as the picture is
    return replace(panel, base=panel.base * np.where(mask > 0.5, 0.12, 1.0)[(..., *[None] * (panel.base.ndim - 2))])


def _box(drawn: Any, scene: Scene, panel: Panel, box: tuple[slice, ...]) -> None:
    """The window as a dark square with a light edge."""
    from PIL import ImageDraw

    mask = torch.zeros(scene.grid.shape)
    mask[box] = 1.0
    rows, columns = np.nonzero(scene.panel(scene.cut(scene.told.image.values), mask).values)
    high, wide = drawn.height / panel.values.shape[0], drawn.width / panel.values.shape[1]
    corners = (columns.min() * wide, rows.min() * high, (columns.max() + 1) * wide - 1, (rows.max() + 1) * high - 1)
    ImageDraw.Draw(drawn).rectangle(corners, fill=(34, 38, 46), outline=INK, width=2)


# ---------------------------------------------------------------------------------------------------- files
def packed(frames: Sequence[Any], pauses: Sequence[int], suffix: str, most: int) -> bytes:
    """The film as one GIF or WebP of at most ``most`` bytes: made smaller until it fits.

    Raises:
        BadParameter: a limit too small for any picture.
    """
    from PIL import Image as Pil

    shown = list(frames)
    while True:
        data = _gif(shown, pauses) if suffix == ".gif" else _webp(shown, pauses)
        if len(data) <= most:
            return data
        wide, tall = (round(n * 0.75) for n in shown[0].size)
        if wide < 240:
            raise BadParameter(
                "a film that fits", f"{len(data)} bytes at {shown[0].width} pixels, most={most}", "Allow more bytes or fewer frames."
            )
        shown = [f.resize((wide, tall), Pil.Resampling.LANCZOS) for f in frames]


def _gif(frames: Sequence[Any], pauses: Sequence[int]) -> bytes:
    """One palette for all frames, taken from some of them, so that colors do not flicker; it covers rare colors, such as a lesion's, too."""
    from PIL import Image as Pil

    some = [frames[round(k)] for k in np.linspace(0, len(frames) - 1, min(8, len(frames)))]
    strip = Pil.new("RGB", (some[0].width, sum(f.height for f in some)))
    for k, f in enumerate(some):
        strip.paste(f, (0, k * f.height))
    palette = strip.quantize(255, method=Pil.Quantize.MAXCOVERAGE)
    flat = [f.quantize(palette=palette, dither=Pil.Dither.FLOYDSTEINBERG) for f in frames]  # photographs would fall into patches
    out = BytesIO()
    more = {"save_all": True, "append_images": flat[1:], "duration": list(pauses), "loop": 0, "optimize": False, "comment": MARK}
    flat[0].save(out, "GIF", **more)
    return out.getvalue()


def _webp(frames: Sequence[Any], pauses: Sequence[int]) -> bytes:
    out = BytesIO()
    more = {
        "save_all": True,
        "append_images": list(frames[1:]),
        "duration": list(pauses),
        "loop": 0,
        "quality": 80,
        "method": 4,
        "xmp": MARK,
    }
    frames[0].save(out, "WEBP", **more)
    return out.getvalue()


def is_ours(path: Path) -> bool:
    """Whether an existing film was written here, so that it may be replaced."""
    from PIL import Image as Pil

    try:
        with Pil.open(path, formats=("GIF", "WEBP")) as film:
            return MARK in (film.info.get("comment"), film.info.get("xmp"))
    except (OSError, SyntaxError):
        return False
