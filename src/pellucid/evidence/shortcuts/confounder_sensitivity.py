"""Confounder sensitivity: where a planted part moves the prediction, do maps show it, and do they change?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pellucid.asking import Scan, explain_all
from pellucid.errors import BadParameter
from pellucid.evidence.shortcuts.asked import Asked, each, on_image, owners
from pellucid.explanation import Direction, Map, Measurement, Status
from pellucid.image import Image
from pellucid.intervals import Interval, average
from pellucid.method import Ask, Method, read_method
from pellucid.model import Model, as_model
from pellucid.params import Fraction, Weight, check
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table

Counted = Literal["flips", "moves", "all"]
SAME, OTHER = 0.7, 0.5  # correlation from which two maps count as one, and up to which as two: as in the randomization checks
Given = Method[Any] | Ask | str


@dataclass(frozen=True, eq=False)
class Confounding:
    """Measurements ``confounder_sensitivity`` and ``map_ncc`` by method; ``counted``: the pairs that they rest on; ``changes`` of the score by the part,
    one for each pair.
    """

    measurements: Mapping[tuple[str, str], Measurement]
    counted: tuple[int, ...]
    changes: tuple[float, ...]

    def __getitem__(self, at: tuple[str, str]) -> Measurement:
        """``found["grad_cam", "confounder_sensitivity"]``."""
        return self.measurements[at]

    def __iter__(self) -> Iterator[tuple[str, Measurement]]:
        return ((name, m) for (name, _), m in self.measurements.items())

    def table(self) -> Table:
        """A row for each method and measurement."""
        columns = ("method", "measurement", "value", "low", "high", "reference", "status", "finding")
        return Table(columns, tuple((n, m.name, m.value, m.low, m.high, m.reference, m.status, m.text) for n, m in self))


def confounder_sensitivity(
    net: Any,
    clean: Sequence[Scan],
    twins: Sequence[Scan],
    masks: Sequence[Image | Tensor] | Image | Tensor,
    methods: Given | Sequence[Given] = "integrated_gradients",
    *,
    target: Any,
    counted: Counted = "flips",
    cut: float | None = None,
    least: float = 0.25,
    top: float = 0.1,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> Confounding:
    """Of a part that is known to move the prediction: the share of its samples among the map's highest, and how much the map changes with it.

    ``confounder_sensitivity`` = |mask and top 10 %| / |mask| of the map of the twin, mean over pairs; chance is 10 %. ``map_ncc`` = correlation of the
    maps (signed, all samples) without and with the part; 1: the map does not notice. Both with 95 % intervals over patients.

    Args:
        clean, twins: the same images without and with the part. masks: where it is, one for each pair or one for all.
        methods: one or several; asked here, of ``target``.
        counted: pairs that count: where the prediction ``flips``, where the score ``moves`` by ``least`` of its spread over clean images, or ``all``.
        cut: score from which an image counts as positive; None: the most probable class (needs classes that exclude each other).
        top: share of the samples that count as highest. Ties count by the share of them that fits: a map of zeros marks nothing by accident.

    Raises:
        BadParameter: unequal numbers, twins of another shape, empty masks, or ``flips`` without a ``cut`` where it cannot be known.

    **Misleads when**: twins differ elsewhere too; or the part is larger than a tenth of the image, which bounds the value by top / area.

    **Source**: Sun et al. 2023, MICCAI (arXiv 2307.12344). Differs: ties (theirs fall by the sorting), intervals, void where nothing counts.
    """
    if counted not in get_args(Counted):
        raise BadParameter("counted is flips, moves or all", repr(counted), "Choose one.")
    check("confounder_sensitivity", "top", Fraction, top), check("confounder_sensitivity", "least", Weight, least)
    model = as_model(net)
    asked = Asked.of(model, target, run)
    before, after = asked.ready(clean), asked.ready(twins)
    if len(before) != len(after) or not before:
        raise BadParameter(f"a twin for each of {len(before)} images", f"{len(after)}", "Give pairs.")
    if any(a[1].shape != b[1].shape for a, b in zip(before, after, strict=True)):
        raise BadParameter("twins of the same shape", "others", "Prepare them alike.")
    marked = [on_image(m, i) for m, (i, _) in zip(each(masks, len(before), "masks"), before, strict=True)]
    who = owners(patients, [i for i, _ in before])
    pairs = [asked.scores(i, (x, y)) for (i, x), (_, y) in zip(before, after, strict=True)]
    changes = tuple(b - a for a, b in pairs)
    kept = _counted(asked.model, [x for _, x in before], [y for _, y in after], pairs, counted, cut, least)
    asks = [
        m if isinstance(m, Ask) else Ask(read_method(m), asked.target)
        for m in (methods if isinstance(methods, (list, tuple)) else [methods])
    ]
    scans = [before[i][0] for i in kept] + [after[i][0] for i in kept]
    maps = explain_all(asked.without_prepare(), scans, asks, asked.run) if kept else []
    found: dict[tuple[str, str], Measurement] = {}
    texts = [repr(a.method) for a in asks]
    for k, ask in enumerate(asks):
        name = ask.method.name if [t.partition("(")[0] for t in texts].count(ask.method.name) == 1 else texts[k]
        own = maps[k :: len(asks)]
        for m in _measured(
            own[: len(kept)], own[len(kept) :], [marked[i] for i in kept], [who[i] for i in kept], top, len(before), counted
        ):
            found[name, m.name] = m
    return Confounding(found, tuple(kept), changes)


def _counted(
    model: Model, clean: list[Tensor], twins: list[Tensor], pairs: list[list[float]], counted: Counted, cut: float | None, least: float
) -> list[int]:
    """The pairs that count."""
    if counted == "all":
        return list(range(len(pairs)))
    if counted == "moves":
        spread = float(np.std([a for a, _ in pairs]))
        return [i for i, (a, b) in enumerate(pairs) if abs(b - a) > least * spread]
    if cut is not None:
        return [i for i, (a, b) in enumerate(pairs) if (a > cut) != (b > cut)]
    classes = [_classes(model, x) for x in (*clean, *twins)]
    return [i for i in range(len(pairs)) if classes[i] != classes[len(pairs) + i]]


def _classes(model: Model, x: Tensor) -> int:
    """The most probable class."""
    with untouched(model.module), torch.no_grad():
        out = model.forward(x[None])
    reading = model.reading.of(out, x.ndim - 1)
    if out.ndim > 2 or reading.kind not in ("logits", "single logit"):
        raise BadParameter(
            "classes that exclude each other, to see a prediction flip",
            f"{reading.kind}",
            "Give cut=: 0 for a logit, 0.5 for a probability.",
        )
    p = reading.probabilities(out)[0]
    return int(p[0] > 0.5) if len(p) == 1 else int(p.argmax())


def _measured(
    clean: list[Map], twins: list[Map], masks: list[Tensor], who: list[Any], top: float, of: int, counted: Counted
) -> Iterator[Measurement]:
    word = {"flips": "turns the prediction over", "moves": "moves the score", "all": "was planted"}[counted]
    pairs = [(a.on(a.image.grid).relevance.double(), b.on(b.image.grid).relevance.double()) for a, b in zip(clean, twins, strict=True)]
    hits = [highest(b, m, top) for (_, b), m in zip(pairs, masks, strict=True)]
    ncc = [correlation(a, b) for a, b in pairs]
    detail = {"pairs": len(pairs), "of": of, "counted": counted, "top": top}
    table: tuple[tuple[str, list[float], Direction, float, str], ...] = (
        ("confounder_sensitivity", hits, "up", top, "as many samples at random"),
        ("map_ncc", ncc, "down", SAME, "maps that count as one"),
    )
    for name, values, better, reference, against in table:
        i = average(values, who, within=(0.0, 1.0) if better == "up" else (-1.0, 1.0))
        if i.images == 0:
            text = f"The part {word} in {len(pairs)} of {of} pairs: " + (
                "every map is empty or constant." if pairs else "there is nothing to judge a map by."
            )
            yield Measurement(name, math.nan, "0 to 1", better, "void", text, reference, against, detail=detail)
            continue
        text = (
            f"Where the part {word} ({len(pairs)} of {of} pairs), {i.value:.0%} of it lies among the map's highest {top:.0%}."
            if name == "confounder_sensitivity"
            else f"Where the part {word} ({len(pairs)} of {of} pairs), maps without and with it correlate by {i.value:.2f}."
        )
        yield Measurement(
            name, i.value, "0 to 1", better, _status(name, i, values, top), text, reference, against, *i.ends, {**detail, "values": values}
        )


def _status(name: str, i: Interval, values: list[float], top: float) -> Status:
    if name == "map_ncc":
        return "pass" if i.high < OTHER else "fail" if i.low >= SAME or min(values) >= SAME else "inconclusive"
    return "pass" if i.low > top else "fail" if i.high <= top else "inconclusive"


def highest(a: Tensor, mask: Tensor, top: float) -> float:
    """The share of a mask's samples among the highest ``top`` of a map (*space), on average over the orders of ties; NaN for a constant map."""
    flat, inside = a.flatten(), mask.flatten()
    if not bool(torch.isfinite(flat).all()) or float(flat.max() - flat.min()) <= 1e-12 * float(flat.abs().max()):
        return math.nan
    count = max(1, int(top * flat.numel()))
    limit = flat.topk(count).values[-1]
    above, level = flat > limit, flat == limit
    part = (count - int(above.sum())) / int(level.sum())
    return float(((above & inside).sum() + part * (level & inside).sum()) / inside.sum())


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's r of two maps; NaN where one is constant."""
    a, b = a.flatten() - a.mean(), b.flatten() - b.mean()
    norm = float(a.norm() * b.norm())
    return float(a @ b) / norm if norm > 1e-300 else math.nan
