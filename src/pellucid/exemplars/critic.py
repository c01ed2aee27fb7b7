"""Prototypes and criticisms: the few images that stand for a set, and those that they stand for badly (MMD-critic)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Provenance
from pellucid.findings import Finding, signed_rows

CITE = "Kim, Khanna and Koyejo 2016, Examples are not enough, learn to criticize!, NeurIPS"
MOST = 10_000  # images whose kernel is held (800 MB in float64)
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Critic(Finding):
    """Places of ``prototypes`` and ``criticisms`` in the table, in the order chosen.

    ``nearest`` (n,) is the prototype (its rank) that stands for each image, ``witness`` (n,) how much denser the set is at an image than the
    prototypes say: above 0 too few prototypes are near, below 0 too many. ``mmd`` is the squared maximum mean discrepancy after each prototype.
    """

    kind = "prototypes"
    prototypes: tuple[int, ...]
    criticisms: tuple[int, ...]
    nearest: NDArray[np.int64] = field(repr=False)
    witness: Floats = field(repr=False)
    mmd: tuple[float, ...] = field(repr=False)
    gamma: float
    provenance: Provenance = field(repr=False)


def prototypes(rows: NDArray[np.floating], m: int = 5, criticisms: int = 3, *, gamma: float | None = None) -> Critic:
    """The ``m`` images that together resemble the set most, and ``criticisms`` that are odd beside them.

    Prototypes are chosen one by one, each the image that lowers MMD^2 = mean K - 2/(n m) sum K_is + 1/m^2 sum K_st most. Criticisms are chosen
    one by one for the largest |witness| plus what they add to log det K of the criticisms chosen, which keeps them apart.

    Args:
        rows: features (n, d), of a class or of a set, a row an image; at most 10,000.
        m: how many prototypes.
        criticisms: how many criticisms; none of them is a prototype.
        gamma: of the kernel exp(-gamma |x - y|^2); None: 1 over the median squared distance between two images.

    Raises:
        BadParameter: too many rows, or fewer than are to be chosen, or a gamma that is not above 0.
        BadImage: values that are not finite.

    **Source**: Kim, Khanna, Koyejo 2016 (NeurIPS, Examples are not enough, learn to criticize!), equations 3 and 5 and the regularizer of section 4;
    J is maximized with its full normalization, by which a greedy step needs no order of magnitude in common with the one before.

    >>> two = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [30.0]])
    >>> prototypes(two, 2, 1).prototypes, prototypes(two, 2, 1).criticisms
    ((3, 0), (6,))
    """
    x = _checked(rows, m, criticisms)
    far = squared(x)
    used = _gamma(far, gamma)
    k = np.exp(-used * far, out=far)
    mean = k.mean(0)
    chosen, mmd = _greedy(k, mean, m)
    witness = mean - k[:, chosen].mean(1)
    odd = _criticized(k, np.abs(witness), chosen, criticisms)
    said = signed_rows(f"prototypes(m={m}, criticisms={criticisms}, gamma={used!r})", rows, cite=CITE)
    return Critic(tuple(chosen), tuple(odd), k[:, chosen].argmax(1), witness, tuple(mmd), used, said)


def _checked(rows: NDArray[np.floating], m: int, criticisms: int) -> Floats:
    x = np.asarray(rows, np.float64)
    if x.ndim != 2 or not len(x):
        raise BadParameter("rows (n, d), at least one", f"shape {x.shape}", "Give a table, a row an image.")
    if len(x) > MOST:
        raise BadParameter(f"at most {MOST} rows", f"{len(x)}", "Draw some of them, or ask for a class at a time.")
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (m, criticisms))
    if not whole or m < 1 or criticisms < 0 or m + criticisms > len(x):
        asked = f"1 prototype or more, and with criticisms no more than {len(x)}"
        raise BadParameter(asked, f"m={m!r}, criticisms={criticisms!r}", "Ask for fewer.")
    if not np.isfinite(x).all():
        raise BadImage("finite features", "NaN or infinity", "Look at the images' values.")
    return x


def squared(x: Floats) -> Floats:
    """Squared distances (n, n), float64, about the mean row, so that little cancels."""
    x = x - x.mean(0)
    size = (x**2).sum(1)
    far: Floats = x @ x.T
    far *= -2
    far += size[:, None]
    far += size
    np.maximum(far, 0, out=far)
    np.fill_diagonal(far, 0)
    return far


def _gamma(far: Floats, gamma: float | None) -> float:
    if gamma is None:
        middle = float(np.median(far[np.triu_indices(len(far), 1)])) if len(far) > 1 else 1.0
        return 1 / middle if middle > 0 else 1.0
    if not (math.isfinite(gamma) and gamma > 0):
        raise BadParameter("gamma is above 0", repr(gamma), "Leave it out: the median distance chooses it.")
    return float(gamma)


def _greedy(k: Floats, mean: Floats, m: int) -> tuple[list[int], list[float]]:
    chosen: list[int] = []
    mmd: list[float] = []
    whole, pull, inner = float(k.mean()), 0.0, 0.0
    between = np.zeros(len(k))  # sum of K to those chosen
    for size in range(1, m + 1):
        value = 2 * (pull + mean) / size - (inner + 2 * between + k.diagonal()) / size**2
        value[chosen] = -np.inf
        best = int(value.argmax())
        pull, inner = pull + float(mean[best]), inner + float(2 * between[best] + k[best, best])
        between += k[best]
        chosen.append(best)
        mmd.append(max(0.0, whole - float(value[best])))
    return chosen, mmd


def _criticized(k: Floats, size: Floats, taken: list[int], count: int) -> list[int]:
    """Greedy on the sum of |witness| and log det K: the last grows by the log of what is left of K_jj after a regression on those chosen."""
    odd: list[int] = []
    left = k.diagonal().copy()
    factors = np.zeros((count, len(k)))
    for c in range(count):
        value = size + np.log(np.maximum(left, 1e-12))
        value[[*taken, *odd]] = -np.inf
        best = int(value.argmax())
        factors[c] = (k[best] - factors[:c, best] @ factors[:c]) / math.sqrt(max(left[best], 1e-12))
        left = left - factors[c] ** 2
        odd.append(best)
    return odd
