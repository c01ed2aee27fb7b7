"""grade(): several maps of one image, by several metrics, beside controls; perturbations and predictions are shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pellucid.asking import Scan, as_image, explain_all
from pellucid.errors import BadGrid, BadImage, BadParameter
from pellucid.evidence import controls as control_maps
from pellucid.evidence.masks import Laid, laid
from pellucid.evidence.metric import MASK, Metric, read_metric
from pellucid.evidence.panel import Entry, Panel, check_network
from pellucid.explanation import Map, Measurement
from pellucid.grid import Grid
from pellucid.image import Image, plain
from pellucid.method import Ask, Method, read_method
from pellucid.model import Model, as_model
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.question import Question
from pellucid.run import Meter, Run
from pellucid.table import Table
from pellucid.target import Target, as_target

Given = Mapping[str, Map] | Sequence[Map | Method[Any] | Ask | str] | Map | Method[Any] | Ask | str


@dataclass(frozen=True, eq=False)
class Grades:
    """Measurements by map and metric. ``spent`` counts passes in all; ``shared`` among them are answers that were known already."""

    measurements: Mapping[tuple[str, str], Measurement]
    maps: Mapping[str, Map]
    spent: Mapping[str, int]

    def __getitem__(self, at: tuple[str, str]) -> Measurement:
        """``grades["grad_cam", "deletion"]``."""
        if at not in self.measurements:
            maps, names = dict.fromkeys(m for m, _ in self.measurements), dict.fromkeys(n for _, n in self.measurements)
            raise KeyError(f"no grade {at!r}; there are the maps {', '.join(maps)} and the metrics {', '.join(names)}")
        return self.measurements[at]

    def __iter__(self) -> Iterator[tuple[str, Measurement]]:
        return ((name, m) for (name, _), m in self.measurements.items())

    def __len__(self) -> int:
        return len(self.measurements)

    def wide(self) -> Table:
        """A row for each map, a column for each metric, the arrow where better lies; * marks values that pass, - those that fail."""
        maps, names = dict.fromkeys(n for n, _ in self.measurements), dict.fromkeys(k for _, k in self.measurements)
        arrows, marks = {"up": "↑", "down": "↓", "zero": "→ 0"}, {"pass": " *", "fail": " -"}
        ways = {k: arrows[m.direction] for (_, k), m in self.measurements.items()}

        def told(m: Measurement | None) -> str:
            return "" if m is None else f"{m.value:.3g}{marks.get(m.status, '')}" if m.value == m.value else m.status

        rows = [(n, *(told(self.measurements.get((n, k))) for k in names)) for n in maps]
        return Table(("map", *(f"{k} {ways[k]}" for k in names)), tuple(rows))

    def table(self) -> Table:
        """A row for each map and metric: value, interval, unit, direction, the level that chance or a control reaches, the finding."""
        columns = ("map", "metric", "value", "low", "high", "unit", "better", "reference", "status", "finding")
        rows = [
            (name, m.name, m.value, m.low, m.high, m.unit, m.direction, m.reference, m.status, m.text)
            for (name, _), m in self.measurements.items()
        ]
        return Table(columns, tuple(rows))


def grade(
    net: Any,
    image: Scan,
    maps: Given,
    metrics: Sequence[Metric[Any] | str] | Metric[Any] | str,
    *,
    target: Any = None,
    score: Any = None,
    mask: Image | Tensor | None = None,
    others: Sequence[Scan] = (),
    controls: Sequence[str] = control_maps.CONTROLS,
    run: Run | None = None,
) -> Grades:
    """How several maps of one image do, by several metrics, beside controls that know nothing.

    Args:
        net: the Model or network that was explained.
        image: the image that was explained, as given to ``explain``.
        maps: maps from ``explain`` of this image and one target, or methods, names, texts or Asks, which are asked here; a mapping names them.
        metrics: metrics, their names or texts.
        target: as in ``explain``, for maps that are asked here.
        score: the function of the output that is followed while the image is changed: a Target; None: the target of the maps. It is recorded.
        mask: where the cause lies: a tensor (*space) on the grid of the prepared image, or an Image on any grid that can be laid over it (what of
            it lies off the picture is told in the measurement).
        others: further images of the kind, as large once prepared: floors are measured between maps of different images.
        controls: of ``random``, ``center``, ``edges``, ``blurred`` and ``shuffled``; () for none.
        run: seed, chunk, memory, progress, cancel.

    Raises:
        BadParameter: maps of another image or of several targets, a metric that needs a mask without one.
        BadGrid: a mask on another grid.

    >>> import pellucid as pl
    >>> eye = pl.phantoms.fundus(seed=3, dme=True, size=64)
    >>> net = pl.load_model("phantom:fundus_dme")
    >>> found = grade(net, eye.image, ["saliency", "grad_cam"], ["gini"], target="DME", controls=())
    >>> len(found)
    2
    """
    model, run = as_model(net), run or Run()
    wanted = [read_metric(m) for m in ([metrics] if isinstance(metrics, (str, Metric)) else metrics)]
    if not wanted:
        raise BadParameter("at least one metric", "none", "See `pellucid metrics`.")
    if mask is None and any(m.facts.needs & MASK for m in wanted):
        names = ", ".join(m.name for m in wanted if m.facts.needs & MASK)
        raise BadParameter(f"a mask for {names}", "none", "Give mask=, or leave them out.")
    with untouched(model.module):
        panel = open_panel(model, as_image(image), maps, target=target, score=score, mask=mask, run=run)
        panel.others = tuple(_alike(panel, model.ready(as_image(o))[1]) for o in others)
        control_maps.add(panel, tuple(controls))
        found = {(n, m.name): value for m in wanted for n, value in m.measure(panel).items()}
    order = {n: i for i, n in enumerate(panel.entries)}
    found = dict(sorted(found.items(), key=lambda item: order[item[0][0]]))
    return Grades(found, {n: e.map for n, e in panel.entries.items() if e.map is not None}, panel.spent)


def open_panel(
    model: Model, scan: Image, maps: Given, *, target: Any = None, score: Any = None, mask: Image | Tensor | None = None, run: Run
) -> Panel:
    """The maps of one image and one target as a panel; methods and Asks are asked here, together."""
    each = named(maps)
    asks = {n: _ask(m, target) for n, m in each.items() if not isinstance(m, Map)}
    made = dict(zip(asks, explain_all(model, [scan], _one_target(list(asks.values())), run), strict=True)) if asks else {}
    found: dict[str, Map] = {n: m if isinstance(m, Map) else made[n] for n, m in each.items()}
    first = next(iter(found.values()))
    for name, why in found.items():
        _fits(name, why, first, scan, model)
    image = first.image
    x = image.values.to(model.device, model.dtype or image.values.dtype)
    entries = {n: Entry(m.on(image.grid).relevance.double(), m, m.ask) for n, m in found.items()}
    wanted = score if score is not None else first.ask.target if first.ask is not None else target
    if wanted is None:
        raise BadParameter("the target of maps that were read from disk", "none", "Give target=.")
    return Panel(
        model, image, _settled(model, image, x, as_target(wanted)), x, run, entries, None if mask is None else lay(mask, image.grid)
    )


def _alike(panel: Panel, x: Tensor) -> Tensor:
    if x.shape != panel.x.shape:
        raise BadParameter(f"other images of shape {tuple(panel.x.shape)} once prepared", f"{tuple(x.shape)}", "Give images of one size.")
    return x


def _settled(model: Model, image: Image, x: Tensor, target: Target) -> Target:
    """The target with names and predicted classes as the output for the image fixes them."""
    question = Question(target, image.grid, x)
    with untouched(model.module):
        Engine(model, Run(), Meter(Run())).settle(question)
    return question.target


def named(maps: Any) -> dict[str, Any]:
    """Maps, methods, names, texts or Asks under short names of their own."""
    if isinstance(maps, Mapping):
        return dict(maps)
    several: Sequence[Any] = [maps] if isinstance(maps, (Map, Method, Ask, str)) else list(maps)
    if not several:
        raise BadParameter("at least one map", "none", "Give a method's name or a map.")
    texts = [m.provenance.method if isinstance(m, Map) else repr(m.method) if isinstance(m, Ask) else repr(read_method(m)) for m in several]
    short = [t.partition("(")[0] for t in texts]
    names = [s if short.count(s) == 1 else t for s, t in zip(short, texts, strict=True)]
    return {n if names.count(n) == 1 else f"{n} {names[: i + 1].count(n)}": m for i, (n, m) in enumerate(zip(names, several, strict=True))}


def _ask(given: Method[Any] | Ask | str, target: Any) -> Ask:
    return given if isinstance(given, Ask) else Ask(read_method(given), as_target(target))


def _one_target(asks: list[Ask]) -> list[Ask]:
    """Equal targets become one object, so that what the image is predicted as is found once."""
    alike = {repr(a.target): a.target for a in asks}
    return [replace(a, target=alike[repr(a.target)]) for a in asks]


def _fits(name: str, why: Map, first: Map, scan: Image, model: Model) -> None:
    check_network(model, why, scan, name)
    if why.provenance.target != first.provenance.target:
        got = f"{first.provenance.target} and {why.provenance.target}"
        raise BadParameter("maps of one target", got, "Grade them in two calls.")
    if why.values.ndim != 1 + why.image.grid.ndim:
        raise BadParameter(
            f"a map with {why.image.grid.ndim} spatial axes", f"{tuple(why.values.shape)} of {name!r}", "Choose a site with extent."
        )


def lay(mask: Image | Tensor, grid: Grid) -> Laid:
    """A mask on a grid: a tensor must lie on it, an Image may lie on any that can be laid over it; see ``masks.laid``.

    Raises:
        BadGrid: a tensor of another shape, or an image that does not overlap.
        BadImage: several channels, or values that are neither 0 nor 1.
    """
    if isinstance(mask, Tensor):
        values = mask[None] if mask.ndim == grid.ndim else mask
        if tuple(values.shape[1:]) != grid.shape:
            got = f"{tuple(values.shape[1:])}, no Image with a grid of its own"
            raise BadGrid(f"a mask on the map's grid {grid.shape}", got, "Give it as an Image, or resample it.")
        mask = Image(plain(values.double() if values.dtype == torch.bool else values), grid)
    if len(mask.values) != 1 or not bool(((mask.values == 0) | (mask.values == 1)).all()):
        raise BadImage("a mask has one channel of 0 and 1", f"{len(mask.values)} channels from {float(mask.values.min()):g} to {float(mask.values.max()):g}",
                       "Compare with the label's number first: mask == 3.")  # fmt: skip
    return laid(mask, grid)


def on_grid(mask: Image | Tensor, grid: Grid) -> Tensor:
    """The mask of ``lay`` as bool (*space)."""
    return lay(mask, grid).values
