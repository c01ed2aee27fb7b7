"""Nodes and weights on [0, 1]."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pellucid.errors import BadParameter

Rule = Literal["gauss", "right", "trapezoid"]
MOST = 2048  # the nodes come from the eigenvalues of a matrix of that order: 3 s there, and no way to stop it


def nodes(rule: Rule, steps: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of an integral over [0, 1]; the weights add up to 1.

    ``gauss``: Gauss-Legendre, exact for polynomials up to degree 2 * steps - 1. ``right``: k / steps for k = 1..steps, each weight
    1 / steps (Sundararajan et al. 2017, equation 3). ``trapezoid``: both end points, at half weight.
    """
    if rule == "gauss":
        if steps > MOST:
            raise BadParameter(f"Gauss-Legendre of at most {MOST} steps", str(steps), "Take fewer steps, or rule='trapezoid'.")
        t, w = np.polynomial.legendre.leggauss(steps)
        return ((t + 1) / 2).tolist(), (w / 2).tolist()
    if rule == "right" or steps == 1:
        return [(k + 1) / steps for k in range(steps)], [1 / steps] * steps
    w = np.full(steps, 1 / (steps - 1))
    w[[0, -1]] /= 2
    return np.linspace(0, 1, steps).tolist(), w.tolist()
