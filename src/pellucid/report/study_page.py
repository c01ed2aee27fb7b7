"""The page of a study: tables, box plots, curves, differences, verdicts, some cases; one file that asks the network for nothing."""

from __future__ import annotations

import base64
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from pellucid.errors import PellucidError
from pellucid.files import put
from pellucid.report.html import MARK, guard
from pellucid.report.plots import box_plot, curve_plot, rank_plot
from pellucid.report.scripts import part, style
from pellucid.study import Study, tables
from pellucid.study.store import number

WORDS = ("supported", "questionable", "not supported", "void")


def write_study(path: str | Path, study: Study, *, caption: str = "") -> Path:
    """Write what a study has found as one HTML page that opens from disk.

    Args:
        path: where to write; the file appears whole or not at all, and replaces only a page of Pellucid.
        study: a study that has run; what is missing is left out of the means and told.
        caption: what a reader must know of the table (thresholds, scaling); printed as given: keep names of patients out of it.

    Raises:
        BadFile: no such folder, or a file there that is not Pellucid's.
    """
    path = Path(path)
    guard(path)
    return put(path, render(study, caption))


def render(study: Study, caption: str = "") -> str:
    """The page as text."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["cell"] = lambda v: f"{v:.3g}" if isinstance(v, float) else v
    maps, shots = list(study.asks), study.pictures()
    return page.from_string(part("page/study.html.j2")).render(
        mark=Markup(MARK),
        style=Markup(style()),
        name=study.name,
        version=study.version,
        images=len(study.cases),
        patients=len(set(study.groups)),
        seed=study.seed,
        maps=maps,
        wide=tables.wide_table(study),
        caption=caption,
        performance=list(tables.performance(study)),
        boxes=[(m.name, _box(study, m.name)) for m in study.measures],
        curves=_curves(study),
        pairs=_pairs(study) if len(maps) > 1 else [],
        verdicts=study.verdicts() if study.level != "none" else {},
        words=WORDS,
        shots=[base64.b64encode(s.read_bytes()).decode() for s in shots],
        facts=_facts(study),
        problems=study.problems or study.missing(),
    )


def _box(study: Study, metric: str) -> str:
    facts = study.metric(metric).facts
    by_patient = {n: _per_patient(v, study.groups) for n, v in study.values(metric).items()}
    levels = [number(c["reference"]) for row in study.cells(metric).values() for c in row if c is not None and c["reference"] is not None]
    arrow = {"up": "higher is better", "down": "lower is better", "zero": "zero is best"}[facts.better]
    level = sum(levels) / len(levels) if levels else None
    return box_plot(by_patient, metric, f"{facts.unit} ({arrow})", level, own=set(study.asks))


def _per_patient(values: Sequence[float], groups: Sequence[Hashable]) -> list[float]:
    found: dict[Hashable, list[float]] = {}
    for v, g in zip(values, groups, strict=True):
        if v == v:
            found.setdefault(g, []).append(v)
    return [sum(v) / len(v) for v in found.values()]


def _curves(study: Study) -> list[tuple[str, str]]:
    """Mean curves of metrics that leave one in their detail (``curve`` over ``shares``)."""
    found = []
    for m in study.measures:
        lines: dict[str, list[list[float]]] = {}
        across: list[float] = []
        for name, cells in study.cells(m.name).items():
            for c in cells:
                detail = (c or {}).get("detail", {})
                if isinstance(detail.get("curve"), list) and isinstance(detail.get("shares"), list):
                    curve = [number(v) for v in detail["curve"]]
                    shares = [number(v) for v in detail["shares"]]
                    shares = shares if len(shares) == len(curve) else [0.0, *shares, 1.0]
                    if len(shares) == len(curve) and (not across or len(shares) == len(across)):
                        across = shares
                        lines.setdefault(name, []).append(curve)
        if lines:
            found.append((m.name, curve_plot(across, lines, m.name, own=set(study.asks))))
    return found


def _pairs(study: Study) -> list[tuple[str, Any, str]]:
    found = []
    for m in study.measures:
        if not m.facts.ranks or m.facts.better == "zero":
            continue
        try:
            ranking = rank_plot(tables.ranks(study, m.name), m.name)
        except PellucidError:  # too few cases to rank
            ranking = ""
        found.append((m.name, tables.paired_tests(study, m.name), ranking))
    return found


def _facts(study: Study) -> list[tuple[str, str]]:
    first = next(iter(study.asks.values()))
    told = [("network", study.net.name), ("weights", study.keys.network.weights[:16]), ("target", repr(first.target))]
    told += [("score followed", repr(study.score) if study.score is not None else "the target")]
    told += [(n, repr(a.method)) for n, a in study.asks.items()]
    told += [(m.name, repr(m)) for m in study.measures]
    return [*told, ("version", study.version)]
