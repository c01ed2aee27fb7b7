"""Plots for pages, as SVG in base64: boxes over patients, mean curves, mean ranks with their critical difference."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pellucid.table import Table

INK, SOFT, LINE, OWN, CONTROL = "#18232e", "#566473", "#dde3e9", "#0d5f78", "#9db4c0"
COLORS = ("#0d5f78", "#c8811a", "#7a4f9a", "#2f8f5b", "#b8453a", "#4a6fb5", "#8a6d3b", "#5b6770", "#c2578d", "#3aa3a3")


def _axes(wide: float, tall: float) -> tuple[Any, Any]:
    """A figure without state: nothing of matplotlib's global settings or windows is touched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, tall), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(LINE)
    axes.tick_params(colors=SOFT, labelsize=8.5, length=0)
    return figure, axes


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "pellucid"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return base64.b64encode(out.getvalue()).decode()


def box_plot(rows: Mapping[str, Sequence[float]], title: str, unit: str, level: float | None, own: set[str]) -> str:
    """A box with its points for each row; controls are gray, ``level`` a dotted line."""
    kept = {n: v for n, v in rows.items() if len(v)}
    figure, axes = _axes(5.6, 1.1 + 0.28 * max(1, len(kept)))
    chance = np.random.default_rng(0)
    for k, (name, values) in enumerate(kept.items()):
        color = OWN if name in own else CONTROL
        axes.boxplot(
            [values], positions=[k], orientation="horizontal", widths=0.55, showfliers=False, patch_artist=True,
            boxprops={"facecolor": color, "alpha": 0.25, "edgecolor": color}, medianprops={"color": color, "linewidth": 2},
            whiskerprops={"color": color}, capprops={"color": color},
        )  # fmt: skip
        axes.scatter(values, k + chance.uniform(-0.18, 0.18, len(values)), s=7, color=color, alpha=0.7, linewidths=0)
    if level is not None and np.isfinite(level):
        axes.axvline(level, color=INK, linewidth=0.9, linestyle=":")
    axes.set_yticks(range(len(kept)), list(kept))
    for tick, name in zip(axes.get_yticklabels(), kept, strict=True):
        tick.set_color(INK if name in own else SOFT)
    axes.invert_yaxis()
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel(unit, fontsize=9, color=SOFT)
    return _svg(figure)


def curve_plot(across: Sequence[float], lines: Mapping[str, Sequence[Sequence[float]]], title: str, own: set[str]) -> str:
    """Mean curve of each row over cases; controls are thin and gray."""
    figure, axes = _axes(5.6, 3.4)
    at = 0
    for name, curves in lines.items():
        mean = np.mean(np.asarray(curves, dtype=np.float64), 0)
        if name in own:
            axes.plot(across, mean, color=COLORS[at % len(COLORS)], linewidth=1.8, label=name)
            at += 1
        else:
            axes.plot(across, mean, color=CONTROL, linewidth=0.9, linestyle="--", label=name if len(lines) <= 10 else None)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel("share of the image", fontsize=9, color=SOFT)
    axes.set_ylabel("score", fontsize=9, color=SOFT)
    axes.grid(color=LINE, linewidth=0.6)
    axes.legend(fontsize=8, frameon=False)
    return _svg(figure)


def rank_plot(table: Table, title: str) -> str:
    """Mean ranks on a line, 1 is best; maps that differ by less than the critical difference are joined (Demsar 2006, figure 1)."""
    names, ranks, critical = table["map"], table["mean rank"], table["critical difference"][0]
    n = len(names)
    figure, axes = _axes(5.6, 0.9 + 0.3 * n)
    for k, (name, rank) in enumerate(zip(names, ranks, strict=True)):
        axes.plot([rank, rank], [0, -k - 1], color=LINE, linewidth=0.8)
        axes.scatter([rank], [-k - 1], color=OWN, s=26, zorder=3)
        axes.annotate(f"{name}  {rank:.2f}", (rank, -k - 1), xytext=(7, -3), textcoords="offset points", fontsize=9, color=INK)
    depth = 0.28
    for k, rank in enumerate(ranks):
        reach = [r for r in ranks[k:] if r - rank < critical]
        joined_before = k > 0 and max(r for r in ranks[k - 1 :] if r - ranks[k - 1] < critical) >= reach[-1]
        if len(reach) > 1 and not joined_before:
            axes.plot([rank, reach[-1]], [depth, depth], color=INK, linewidth=3, solid_capstyle="round")
            depth += 0.32
    axes.set_xlim(0.8, n + 1.2)
    axes.set_ylim(-n - 0.7, depth + 0.2)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_ticks(range(1, n + 1))
    axes.set_title(f"{title}: mean rank (1 is best), critical difference {critical:.2f}", loc="left", fontsize=9.5, color=INK)
    return _svg(figure)


def reliability_plot(tables: Mapping[str, Table], title: str, of: str = "predicted") -> str:
    """Reliability diagram: stated against seen probability with Wilson intervals, one color for each table (``Calibration.bins``), and how many
    cases each bin holds below. ``of``: which part of the tables; the diagonal is what a calibrated network shows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 5.2), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=SOFT, linewidth=0.9, linestyle=":")
    for color, (name, table) in zip(COLORS, tables.items(), strict=False):
        rows = [r for r in table if r["class"] == of]
        stated, seen = ([r[c] for r in rows] for c in ("stated", "seen"))
        below, above = ([abs(r[end] - r["seen"]) for r in rows] for end in ("low", "high"))
        axes.errorbar(
            stated, seen, (below, above), color=color, marker="o", markersize=4.5, linewidth=1.6, elinewidth=0.8, alpha=0.9, label=name
        )
        total = sum(r["cases"] for r in rows)
        left, wide = [r["from"] for r in rows], [r["to"] - r["from"] for r in rows]
        counts.bar(left, [r["cases"] / total for r in rows], wide, align="edge", color=color, alpha=0.35, edgecolor=color, linewidth=0.8)
    for a in (axes, counts):
        for side in ("top", "right"):
            a.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            a.spines[side].set_color(LINE)
        a.tick_params(colors=SOFT, labelsize=8.5, length=0)
        a.grid(color=LINE, linewidth=0.6)
        a.set_axisbelow(True)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("share that came true", fontsize=9, color=SOFT)
    counts.set_ylabel("cases", fontsize=9, color=SOFT)
    counts.set_xlabel("stated probability", fontsize=9, color=SOFT)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    return _svg(figure)


def effort_plot(arms: Sequence[Mapping[str, Any]], title: str) -> str:
    """IoU with its interval against a reader's minutes; what costs nothing stands at zero or as a line across."""
    figure, axes = _axes(6.4, 3.6)
    lines = {"corrected": OWN, "drawn by hand": COLORS[1]}
    start = next(a for a in arms if a["name"] == "proposals")
    for name, color in lines.items():
        own = [a for a in arms if a["name"] == name]
        points = [start, *own] if name == "corrected" else own
        across = [a["seconds"] / 60 for a in points]
        reach = [[a["iou"] - (a["low"] or a["iou"]) for a in points], [(a["high"] or a["iou"]) - a["iou"] for a in points]]
        axes.errorbar(
            across, [a["iou"] for a in points], yerr=reach, color=color, marker="o", markersize=4.5, linewidth=1.6, capsize=2, label=name
        )
    styles = {"true boxes": (INK, "--"), "the map itself": (COLORS[2], ":"), "nothing": (SOFT, "-.")}
    for name, (color, style) in styles.items():
        for a in (a for a in arms if a["name"] == name):
            axes.axhline(a["iou"], color=color, linestyle=style, linewidth=1.1, label=name)
    axes.annotate("raw proposals", (0, start["iou"]), xytext=(5, 12), textcoords="offset points", fontsize=8.5, color=OWN)
    axes.set_ylim(0, 1)
    axes.set_xlim(left=-0.1)
    axes.set_xlabel("minutes of a reader's work", color=SOFT, fontsize=9)
    axes.set_ylabel("IoU on held-out cases", color=SOFT, fontsize=9)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_title(title, fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=8.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)
