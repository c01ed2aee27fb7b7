"""What all pictures of effects share: two themes, bare axes, and writing them whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pellucid.errors import BadFile, BadParameter
from pellucid.files import whole

Theme = Literal["light", "dark"]
SUFFIXES = (".png", ".svg", ".pdf", ".webp")


@dataclass(frozen=True)
class Colors:
    """Colors that a reader with any sight can tell apart, on either ground."""

    ground: str
    ink: str
    soft: str
    line: str
    own: str
    other: str
    third: str
    gray: str
    veil: str


THEMES: dict[Theme, Colors] = {
    "light": Colors("#ffffff", "#18232e", "#566473", "#dde3e9", "#0d5f78", "#c8641a", "#7a4f9a", "#9aa5b1", "#eceff2"),
    "dark": Colors("#11181f", "#e8eef3", "#a3b1bd", "#2c3843", "#5cc3e0", "#f2a25c", "#c7a0e6", "#74818d", "#1d2730"),
}


def colors_of(theme: Theme) -> Colors:
    """The colors of a theme.

    Raises:
        BadParameter: no such theme.
    """
    if theme not in THEMES:
        raise BadParameter("theme is light or dark", repr(theme), "Choose one.")
    return THEMES[theme]


def canvas(colors: Colors, wide: float, tall: float) -> Any:
    """A figure without state: nothing of matplotlib's global settings or windows is touched."""
    from matplotlib.figure import Figure

    return Figure(figsize=(wide, tall), layout="constrained", facecolor=colors.ground)


def bare(axes: Any, colors: Colors) -> Any:
    """Axes with a line below and at the left, and quiet ticks."""
    axes.set_facecolor(colors.ground)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(colors.line)
    axes.tick_params(colors=colors.soft, labelsize=8.5, length=0)
    return axes


def title(figure: Any, colors: Colors, text: str) -> None:
    """Words above a picture, from its left edge."""
    figure.suptitle(text, x=0.02, ha="left", fontsize=10.5, color=colors.ink, fontweight="bold")


def legend(axes: Any, colors: Colors) -> None:
    """A legend without a frame, below the axes, where there is something to tell."""
    known = len(axes.get_legend_handles_labels()[0])
    if known:
        place: Any = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.14), "ncols": min(known, 3)}
        axes.legend(fontsize=8, frameon=False, labelcolor=colors.ink, columnspacing=1.4, handlelength=1.8, **place)


def caption(figure: Any, colors: Colors, text: str) -> None:
    """Small words below a picture, broken to its width."""
    import textwrap

    columns = int(figure.get_size_inches()[0] * 17)
    figure.supxlabel("\n".join(textwrap.wrap(text, columns)), fontsize=7.8, color=colors.soft, x=0.02, ha="left")


def written(figure: Any, path: str | Path | None) -> Any:
    """The figure, written whole or not at all where a path is given.

    Raises:
        BadFile: another suffix, or no such folder.
    """
    if path is None:
        return figure
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BadFile(f"write a figure to {path}", f"suffix {path.suffix!r}", f"Use {', '.join(SUFFIXES)}.")
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    from matplotlib import rc_context

    extra: Any = {"metadata": {"Date": None}} if suffix == ".svg" else {}
    with whole(path) as draft, rc_context({"svg.hashsalt": "pellucid"}):
        figure.savefig(draft, format=suffix[1:], dpi=160, facecolor=figure.get_facecolor(), **extra)
    return figure
