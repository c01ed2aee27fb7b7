"""Effects as pictures: curves with their cases and rug, surfaces, bars; what was asked beyond the data is gray."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from pellucid.effects.curve import Curve, Effect
from pellucid.errors import BadParameter


def draw(effect: Effect, path: str | Path | None = None, *, theme: Literal["light", "dark"] = "light") -> Any:
    """The matplotlib Figure of an effect, written to ``path`` if one is given."""
    from matplotlib.figure import Figure

    if not isinstance(effect, Curve):
        raise BadParameter("an effect that can be drawn", type(effect).__name__, "Read its table().")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(effect.axis.values, effect.values)
    axes.fill_between(effect.axis.values, np.nan_to_num(effect.low), np.nan_to_num(effect.high), alpha=0.2)
    if path is not None:
        figure.savefig(path)
    return figure
