"""Five ways to say how much a sequence (channel) matters: weights, exchange, subsets, information, attribution; each for every image by itself."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.effects.scoring import inside
from pellucid.errors import BadParameter
from pellucid.features.first_order import first_order
from pellucid.image import Image
from pellucid.model import Model
from pellucid.probe.ledger import untouched

Floats = NDArray[np.float64]
Way = Literal["first-layer energy", "permutation", "Shapley", "mutual information", "attribution mass"]
WAYS: tuple[Way, ...] = ("first-layer energy", "permutation", "Shapley", "mutual information", "attribution mass")
NEIGHBORS = 3  # of the mutual information's estimate, as scikit-learn has it
Feature = str | Callable[[Floats], float]


def first_layer_energy(model: Model, image: Image) -> tuple[Floats | None, str]:
    """Sum of squared weights of the first layer that the image meets, by channel (c,); or None, with the reason.

    The weights are those on what the network gets, after ``normalize``; a pass finds which layer is first.
    """
    met: list[tuple[nn.Module, Tensor]] = []

    def hear(module: nn.Module, given: Any) -> None:
        if given and isinstance(given[0], Tensor):
            met.append((module, given[0]))

    weighted = [m for m in model.module.modules() if isinstance(getattr(m, "weight", None), Tensor)]
    handles = [m.register_forward_pre_hook(hear) for m in weighted]
    try:
        with untouched(model.module), torch.no_grad():
            model.forward(model.ready(image)[1][None])
    finally:
        for h in handles:
            h.remove()
    c = len(image.values)
    first = met[0] if met else None
    if first is None:
        return None, "no layer with weights was met"
    layer, seen = first
    weight = layer.weight
    assert isinstance(weight, Tensor)
    groups = getattr(layer, "groups", 1)
    if weight.ndim < 3 or seen.shape[1] != c or weight.shape[1] * groups != c:
        return None, f"the first layer met, {type(layer).__name__}, is no convolution of the {c} channels"
    each = (weight.detach().double().cpu() ** 2).flatten(2).sum(2)  # (out, c / groups)
    return each.unflatten(0, (groups, -1)).sum(1).flatten().numpy(), ""


def subsets(count: int) -> list[tuple[int, ...]]:
    """All subsets of ``count`` parts, the empty one first, the full one last."""
    return [s for k in range(count + 1) for s in itertools.combinations(range(count), k)]


def shapley(scores: Mapping[tuple[int, ...], float], count: int) -> Floats:
    """Exact Shapley values (count,) from the score of every subset (Shapley 1953); they sum to the full subset's score less the empty one's.

    >>> shapley({(): 0.0, (0,): 1.0, (1,): 2.0, (0, 1): 5.0}, 2).tolist()
    [2.0, 3.0]
    """
    found = np.zeros(count)
    for s in subsets(count):
        for k in set(range(count)) - set(s):
            weight = math.factorial(len(s)) * math.factorial(count - len(s) - 1) / math.factorial(count)
            found[k] += weight * (scores[tuple(sorted((*s, k)))] - scores[s])
    return found


def measure(image: Image, groups: Sequence[Sequence[int]], mask: Tensor | None, asked: Sequence[Feature]) -> Floats:
    """What is measured of each sequence inside the mask (or the image): (sequences, features); of several channels their mean.

    Raises:
        BadParameter: no such first-order feature.
    """
    where = inside(image) if mask is None or not bool(mask.any()) else mask
    found = np.zeros((len(groups), len(asked)))
    for k, group in enumerate(groups):
        for channel in group:
            x = image.values[channel][where].double().cpu().numpy()
            known = first_order(x)
            for j, f in enumerate(asked):
                if isinstance(f, str) and f not in known:
                    raise BadParameter(f"a feature among {', '.join(known)}", repr(f), "Choose one, or give a function of the values.")
                found[k, j] += (known[f] if isinstance(f, str) else float(f(x))) / len(group)
    return found


def information(columns: Floats, labels: NDArray[np.int64]) -> float:
    """Mutual information in nats between a label and the one of the features (n, f) that tells it best, by nearest neighbors; NaN of one label.

    ``psi(n) + <psi(k)> - <psi(n of the label)> - <psi(m)>``, m the samples within the distance of the k-th neighbor of the same label. **Source**: Ross
    2014, PLoS ONE 9:e87357; equal to ``sklearn.feature_selection.mutual_info_classif(n_neighbors=3)`` but for the noise that it adds.
    """
    from scipy.special import digamma

    counts = np.bincount(labels)[labels]
    kept = counts > 1
    y, count = labels[kept], counts[kept]
    if len(set(y.tolist())) < 2:
        return math.nan
    k, n, found = np.minimum(NEIGHBORS, count - 1), len(y), 0.0
    for x in columns[kept].T:
        away = np.abs(x[:, None] - x[None])
        same = np.sort(np.where(y[:, None] == y[None], away, np.inf), 1)  # the first is the sample itself
        radius = np.nextafter(same[np.arange(n), k], 0)
        within = (away <= radius[:, None]).sum(1)
        value = digamma(n) + digamma(k).mean() - digamma(count).mean() - digamma(np.maximum(within, 1)).mean()
        found = max(found, float(value))
    return found


def by_group(values: Floats, groups: Sequence[Sequence[int]]) -> Floats:
    """Sums over the channels of each sequence: (c,) to (sequences,)."""
    return np.array([values[list(g)].sum() for g in groups])


def exchanged(x: Tensor, other: Tensor | float, groups: Sequence[Sequence[int]], kept: Sequence[int]) -> Tensor:
    """The image (c, *space) with all sequences but those kept taken from another one (or set to values (c, 1, ..., 1))."""
    gone = [c for k, g in enumerate(groups) if k not in kept for c in g]
    out = x.clone()
    if gone:
        out[gone] = other[gone].to(x) if isinstance(other, Tensor) else other
    return out
