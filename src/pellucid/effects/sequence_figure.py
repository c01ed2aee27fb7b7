"""Sequences as a picture: a strip of bars for each way, the sequence that it puts first in full color, and how the ways' ranks go together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np

INKS = {
    "light": {"ink": "#18232e", "soft": "#566473", "line": "#dde3e9", "own": "#0d5f78", "faint": "#a9c3cd", "page": "#ffffff", "none": "#f1f4f6"},
    "dark": {"ink": "#e8eef3", "soft": "#9fb0bd", "line": "#33414d", "own": "#5bb8d4", "faint": "#35626f", "page": "#12181e", "none": "#1b242c"},
}  # fmt: skip
SUFFIXES = (".svg", ".png", ".pdf", ".webp")


def draw_sequences(found: Any, path: str | Path | None = None, *, theme: Literal["light", "dark"] = "light") -> Any:
    """The matplotlib Figure of a ``SequenceImportance``; written to ``path`` if one is given.

    Raises:
        BadFile: another suffix, or no such folder.
    """
    from matplotlib.figure import Figure

    look, ways = INKS[theme], found.ways
    figure = Figure(figsize=(2.1 * len(ways) + 0.6, 1.7 + 0.62 * len(found.sequences) + 2.0), layout="constrained", facecolor=look["page"])
    parts: Any = figure.subfigures(2, 1, height_ratios=(0.9 + 0.36 * len(found.sequences), 1.9), hspace=0.04)
    top, below = parts
    for part in parts:
        part.set_facecolor(look["page"])
    strips = top.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for at, way in zip(strips, ways, strict=True):
        _bars(at, found, way, look)
    strips[0].set_yticks(range(len(found.sequences)), list(found.sequences), color=look["ink"], fontsize=10)
    strips[0].invert_yaxis()
    top.suptitle(f"Sequences: {found.score}", color=look["ink"], fontsize=11, x=0.01, ha="left")
    left, right = below.subplots(1, 2, width_ratios=(1.0, 1.15))
    _ranks(left, found, look)
    _levels(right, found, look)
    if path is not None:
        _write(figure, Path(path))
    return figure


def _bars(at: Any, found: Any, way: Any, look: dict[str, str]) -> None:
    rows = found.of(way)
    _bare(at, look)
    most = 0.0
    for k, name in enumerate(found.sequences):
        row = rows[name]
        at.barh(k, row.value, 0.62, color=look["own"] if row.rank == 1 else look["faint"], zorder=2)
        end = row.value if math.isnan(row.high) else row.high
        if not math.isnan(row.low):
            at.plot([row.low, row.high], [k, k], color=look["ink"], linewidth=1.1, zorder=3)
        most = max(most, end)
    if way == "mutual information" and found.chance > 0:
        at.axvline(found.chance, color=look["soft"], linewidth=1, linestyle=":", zorder=4)
        at.annotate(
            "chance", (found.chance, 1.0), xycoords=("data", "axes fraction"), fontsize=7.5, color=look["soft"], ha="center", va="bottom"
        )
        most = max(most, found.chance)
    at.set_xlim(0, 1.08 * most or 1)
    at.set_title(way, fontsize=9.5, color=look["ink"], pad=12)
    at.set_xlabel(next(iter(rows.values())).unit, fontsize=8, color=look["soft"])
    at.locator_params(axis="x", nbins=3)


def _ranks(at: Any, found: Any, look: dict[str, str]) -> None:
    """How the ways' ranks go together: blue alike, orange opposed."""
    from matplotlib.colors import LinearSegmentedColormap

    table, ways = found.disagreement(), found.ways
    matrix = [[float(table[b][i]) for b in ways] for i in range(len(ways))]
    colors = LinearSegmentedColormap.from_list("ranks", ["#c8811a", look["none"], "#3f8fb0"])
    at.imshow(np.nan_to_num(np.array(matrix)), vmin=-1, vmax=1, cmap=colors, aspect="auto")
    for i in range(len(ways)):
        for j in range(len(ways)):
            text = "–" if math.isnan(matrix[i][j]) else f"{matrix[i][j]:.1f}"
            at.text(j, i, text, ha="center", va="center", fontsize=8.5, color=look["ink"])
    short = [
        w.replace("first-layer ", "").replace("mutual information", "information").replace("attribution mass", "attribution") for w in ways
    ]
    at.set_xticks(range(len(ways)), short, fontsize=7.5, color=look["soft"], rotation=25, ha="right", rotation_mode="anchor")
    at.set_yticks(range(len(ways)), short, fontsize=8, color=look["soft"])
    at.tick_params(length=0)
    for spine in at.spines.values():
        spine.set_visible(False)
    at.set_title("rank correlation of the ways", fontsize=9.5, color=look["ink"], loc="left")


def _levels(at: Any, found: Any, look: dict[str, str]) -> None:
    """Each sequence's level against the label: AUC with its interval; those that carry the score are marked."""
    _bare(at, look)
    at.set_title("does a sequence's level alone tell the label?", fontsize=9.5, color=look["ink"], loc="left")
    if not found.levels:
        at.set_axis_off()
        at.text(0, 0.9, "no labels were given", fontsize=9, color=look["soft"], transform=at.transAxes, va="top")
        return
    at.axvline(0.5, color=look["soft"], linewidth=1, linestyle=":")
    for k, v in enumerate(found.levels):
        color = "#c8811a" if v.flagged else look["faint"]
        if not math.isnan(v.tells.low):
            at.plot([v.tells.low, v.tells.high], [k, k], color=look["ink"], linewidth=1.1, zorder=2)
        at.scatter([v.tells.value], [k], s=52, color=color, zorder=3, marker="D" if v.flagged else "o")
        if v.flagged:
            near = v.tells.value > 0.5
            at.annotate(
                f"carries {v.carried.value:.0%} of the score's difference", (v.tells.value, k), xytext=(0, -13), textcoords="offset points",
                fontsize=8, color=color, ha="right" if near else "left", va="center",
                bbox={"facecolor": look["page"], "edgecolor": "none", "pad": 1.0},
            )  # fmt: skip
    at.set_yticks(range(len(found.levels)), [v.sequence for v in found.levels], color=look["ink"], fontsize=9)
    at.set_ylim(len(found.levels) - 0.4, -0.6)
    at.set_xlim(-0.03, 1.03)
    at.set_xlabel("AUC of the level (dotted: chance)", fontsize=8, color=look["soft"])


def _bare(at: Any, look: dict[str, str]) -> None:
    at.set_facecolor(look["page"])
    for side in ("top", "right", "left"):
        at.spines[side].set_visible(False)
    at.spines["bottom"].set_color(look["line"])
    at.tick_params(colors=look["soft"], labelsize=8, length=0)


def _write(figure: Any, path: Path) -> None:
    from pellucid.errors import BadFile
    from pellucid.files import whole

    if path.suffix.lower() not in SUFFIXES:
        raise BadFile(f"write a figure to {path}", f"suffix {path.suffix!r}", f"Use one of {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    with whole(path) as draft:
        figure.savefig(draft, format=path.suffix[1:].lower(), dpi=160, facecolor=figure.get_facecolor())


def draw_units(found: Any, path: str | Path | None = None, *, theme: Literal["light", "dark"] = "light") -> Any:
    """Squared weights of each hidden unit of ``SequenceUnits`` by sequence, each unit's as shares of its own."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    look = INKS[theme]
    shares = found.energy / found.energy.sum(0, keepdims=True).clip(1e-300)
    figure = Figure(figsize=(1.6 + 0.62 * shares.shape[1], 1.2 + 0.42 * len(shares)), layout="constrained", facecolor=look["page"])
    at = figure.add_subplot()
    at.imshow(shares, vmin=0, vmax=1, cmap=LinearSegmentedColormap.from_list("share", [look["none"], look["own"]]), aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        at.text(j, i, f"{share:.0%}", ha="center", va="center", fontsize=8, color=look["page"] if share > 0.5 else look["ink"])
    at.set_xticks(range(shares.shape[1]), [str(k + 1) for k in range(shares.shape[1])], fontsize=8, color=look["soft"])
    at.set_yticks(range(len(shares)), list(found.sequences), fontsize=10, color=look["ink"])
    at.set_xlabel("hidden units, the most used first", fontsize=8.5, color=look["soft"])
    at.tick_params(length=0)
    for spine in at.spines.values():
        spine.set_visible(False)
    at.set_title("squared weights by sequence", fontsize=10, color=look["ink"], loc="left")
    if path is not None:
        _write(figure, Path(path))
    return figure
