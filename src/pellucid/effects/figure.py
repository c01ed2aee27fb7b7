"""Curves and surfaces as pictures: cases, their mean and its band, the rug of what cases have; what lies beyond the data is gray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pellucid.effects.drawing import Colors, Theme, bare, canvas, caption, colors_of, legend, title, written
from pellucid.effects.rows import Floats

LINES = 120  # cases drawn at most, evenly along the order of their mean score
BESIDE = "accumulated effects (ALE)"


def draw_curve(curve: Any, path: str | Path | None = None, theme: Theme = "light") -> Any:
    """The matplotlib Figure of a Curve, written to ``path`` if one is given.

    Raises:
        BadFile: a suffix that cannot be written, or no such folder.
    """
    colors = colors_of(theme)
    figure = canvas(colors, 6.2, 4.3)
    axes = bare(figure.add_subplot(), colors)
    (_categories if curve.axis.labels else _line)(axes, curve, colors)
    title(figure, colors, _title(curve))
    axes.set_xlabel(curve.axis.title, fontsize=9.5, color=colors.ink)
    legend(axes, colors)
    caption(figure, colors, _small(curve))
    return written(figure, path)


def draw_surface(surface: Any, path: str | Path | None = None, theme: Theme = "light") -> Any:
    """The matplotlib Figure of a Surface; as ``draw_curve``."""
    return written(_surface(surface, colors_of(theme)), path)


def _title(curve: Any) -> str:
    kind = {
        "partial dependence": "Partial dependence", "individual": "Individual curves", "centered": "Centered curves", "derivative": "Slopes",
        "accumulated": "Accumulated local effects", "intervention": "Intervention",
    }[curve.how]  # fmt: skip
    return f"{kind}: {curve.score}" if len(curve.score) < 44 else kind


def _small(curve: Any) -> str:
    """What must be known to read the picture."""
    who = f"{curve.cases} cases" + (f" of {curve.patients} patients" if curve.patients < curve.cases else "")
    band = "" if np.isnan(curve.low).all() else " Band: 95 % interval of the mean over patients."
    gray = " Gray: most cases, set to this, are unlike any real one." if not curve.there.all() else ""
    return f"{who}.{band}{gray} Below: what cases have, deciles long."


def _line(axes: Any, curve: Any, colors: Colors) -> None:
    x = curve.axis.values
    _gray(axes, x, curve.there, colors)
    if len(curve.individual):
        _cases(axes, curve, colors)
    if not np.isnan(curve.low).all():
        axes.fill_between(x, curve.low, curve.high, color=colors.own, alpha=0.22, linewidth=0, zorder=3)
    name = "accumulated effect" if curve.how == "accumulated" else "mean over cases"
    axes.plot(x, curve.values, color=colors.gray, linewidth=2.2, linestyle=(0, (4, 2)), zorder=4)
    axes.plot(
        x,
        np.where(curve.there, curve.values, np.nan),
        color=colors.own,
        linewidth=2.6,
        zorder=5,
        label=name,
        marker="o" if curve.there.sum() < 3 else None,
    )
    if len(curve.beside):
        axes.plot(x, curve.beside, color=colors.other, linewidth=1.9, linestyle=(0, (1, 1.2)), zorder=6, label=BESIDE)
    axes.grid(axis="y", color=colors.line, linewidth=0.6)
    axes.set_axisbelow(True)
    _rug(axes, curve.axis.seen, x, colors)


def _gray(axes: Any, x: Floats, there: Any, colors: Colors) -> None:
    """A veil over the values beyond the data, from midway to their neighbors."""
    if len(x) < 2:
        return
    edges = np.concatenate([[x[0]], (x[1:] + x[:-1]) / 2, [x[-1]]])
    for k in np.flatnonzero(~there):
        axes.axvspan(edges[k], edges[k + 1], color=colors.veil, linewidth=0, zorder=0)


def _cases(axes: Any, curve: Any, colors: Colors) -> None:
    """Some cases' own curves, faint where no real case is like them."""
    from matplotlib.collections import LineCollection

    order = np.argsort(curve.individual.mean(1), kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(LINES, len(order))).astype(int))]
    strong = 0.5 if curve.how != "partial dependence" else 0.28
    for real in (False, True):
        pieces = []
        for i in chosen:
            points = np.column_stack([curve.axis.values, curve.individual[i]])
            both = curve.like[i, 1:] & curve.like[i, :-1]
            pieces += [points[k : k + 2] for k in np.flatnonzero(both == real)]
        color = colors.own if real else colors.gray
        axes.add_collection(LineCollection(pieces, colors=color, linewidths=0.7, alpha=strong if real else 0.18, zorder=2))
    label = "cases" if curve.like[chosen].all() else "cases (faint: unlike any real one)"
    axes.plot([], [], color=colors.own, alpha=max(strong, 0.5), linewidth=0.8, label=label)
    shown = np.concatenate([curve.individual[chosen].ravel(), curve.values])
    low, high = float(shown.min()), float(shown.max())
    axes.set_ylim(low - 0.06 * (high - low or 1), high + 0.06 * (high - low or 1))


def _rug(axes: Any, seen: Floats, x: Floats, colors: Colors) -> None:
    """What cases have, along the lower edge: short for each, long for deciles."""
    inside = seen[(seen >= x[0]) & (seen <= x[-1])]
    low = axes.get_xaxis_transform()
    axes.set_xlim(x[0], x[-1])
    if len(inside):
        axes.vlines(inside[:: max(1, len(inside) // 400)], 0, 0.018, transform=low, color=colors.soft, alpha=0.35, linewidth=0.6, zorder=7)
        axes.vlines(np.quantile(inside, np.arange(0.1, 0.95, 0.1)), 0, 0.042, transform=low, color=colors.ink, linewidth=1.1, zorder=8)


def _categories(axes: Any, curve: Any, colors: Colors) -> None:
    x = np.arange(len(curve.axis))
    if len(curve.individual):
        spread = [np.quantile(column, (0.1, 0.9)) for column in curve.individual.T]
        axes.vlines(
            x, [s[0] for s in spread], [s[1] for s in spread], color=colors.line, linewidth=9, zorder=1, label="middle 80 % of cases"
        )
    for k in x:
        color = colors.own if curve.there[k] else colors.gray
        if not np.isnan(curve.low[k]):
            axes.plot([k, k], [curve.low[k], curve.high[k]], color=color, linewidth=1.6, zorder=3)
        axes.plot(k, curve.values[k], "o", color=color, markersize=7, zorder=4, label="mean over cases" if k == 0 else None)
    axes.grid(axis="y", color=colors.line, linewidth=0.6)
    shares = [np.mean(curve.axis.seen == k) if len(curve.axis.seen) else np.nan for k in x]
    names = [n if np.isnan(s) else f"{n}\n{s:.0%} of cases" for n, s in zip(curve.axis.labels, shares, strict=True)]
    turned = {"rotation": 30, "ha": "right"} if len(x) > 6 else {}
    axes.set_xticks(x, names, color=colors.ink, fontsize=8.5, **turned)
    axes.set_xlim(-0.6, len(x) - 0.4)


def _surface(surface: Any, colors: Colors) -> Any:
    """Height by color; gray beyond the data; dots are cases."""
    figure = canvas(colors, 6.2, 5.0)
    axes = bare(figure.add_subplot(), colors)
    a, b = surface.axes
    signed = surface.how == "accumulated interaction"
    top = float(np.abs(surface.values).max()) or 1.0
    ends = (-top, top) if signed else (float(surface.values.min()), float(surface.values.max()))
    ends = ends if ends[1] > ends[0] else (ends[0] - 0.5, ends[1] + 0.5)
    drawn = axes.pcolormesh(
        _edges(a.values), _edges(b.values), surface.values.T, cmap="PuOr_r" if signed else "viridis", vmin=ends[0], vmax=ends[1]
    )
    veil = np.where(surface.there.T, np.nan, 1.0)
    if (~surface.there).any():
        _veil(axes, _edges(a.values), _edges(b.values), veil, colors)
    if len(a.seen) == len(b.seen) and len(a.seen):
        shift = [np.random.default_rng(k).uniform(-0.25, 0.25, len(a.seen)) if x.labels else 0.0 for k, x in enumerate((a, b))]
        axes.scatter(a.seen + shift[0], b.seen + shift[1], s=5, color=colors.ink, alpha=0.35, linewidths=0)
    for axis, ticks, limits in ((a, axes.set_xticks, axes.set_xlim), (b, axes.set_yticks, axes.set_ylim)):
        if axis.labels:
            ticks(axis.values, axis.labels)
        limits(*_edges(axis.values)[[0, -1]])
    axes.set_xlabel(a.title, fontsize=9.5, color=colors.ink)
    axes.set_ylabel(b.title, fontsize=9.5, color=colors.ink)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=colors.soft, labelsize=8, length=0)
    kind = "What both do together beyond each alone (ALE)" if signed else "Partial dependence of two"
    title(figure, colors, f"{kind}: {surface.score}" if len(surface.score) < 30 else kind)
    gray = " Gray: most cases, set to both values, are unlike any real one." if not surface.there.all() else ""
    caption(figure, colors, f"{surface.cases} cases (dots).{gray}")
    return figure


def _veil(axes: Any, x: Floats, y: Floats, veil: Floats, colors: Colors) -> None:
    from matplotlib.colors import ListedColormap

    axes.pcolormesh(x, y, veil, cmap=ListedColormap([colors.gray]), alpha=0.72, linewidth=0, antialiased=False)


def _edges(values: Floats) -> Floats:
    """Cells around values: borders midway, the outer ones at the values themselves (half a step out for categories or one value)."""
    if len(values) < 2:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[values[0] - (middle[0] - values[0])], middle, [values[-1] + (values[-1] - middle[-1])]])
