"""Impurity of a node and what a split gains: entropy in bits, Gini's index, variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.effects.rows import Floats
from pellucid.errors import BadParameter


def entropy(shares: Sequence[float] | Floats) -> float:
    """``H = - sum p log2 p`` in bits; a class without cases adds nothing.

    >>> entropy([0.5, 0.5]), entropy([1.0, 0.0])
    (1.0, 0.0)
    """
    p = _shares(shares)
    p = p[p > 0]
    return abs(float(-(p * np.log2(p)).sum()))


def gini(shares: Sequence[float] | Floats) -> float:
    """``1 - sum p^2``: how often two cases drawn from the node are of different classes.

    >>> gini([0.5, 0.5]), gini([1.0, 0.0])
    (0.5, 0.0)
    """
    return float(1 - (_shares(shares) ** 2).sum())


def gain(parent: float, children: Sequence[tuple[float, float]]) -> float:
    """``H(S) - sum |S_i| / |S| H(S_i)``: what a split takes off the impurity; ``children`` are (cases, impurity).

    >>> gain(1.0, [(2, 0.0), (2, 1.0)])
    0.5
    """
    total = sum(n for n, _ in children)
    return float(parent - sum(n * h for n, h in children) / total)


def _shares(given: Sequence[float] | Floats) -> Floats:
    """Shares or counts as shares of 1."""
    p = np.asarray(given, dtype=np.float64)
    if p.ndim != 1 or not len(p) or (p < 0).any() or not p.sum() > 0:
        raise BadParameter("shares or counts of classes, from 0 on", repr(given)[:80], "Give one for each class.")
    return p / p.sum()
