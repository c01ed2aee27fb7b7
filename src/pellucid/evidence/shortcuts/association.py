"""Do clusters go with metadata? Permutation tests by patient, held to one error over all of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pellucid.errors import BadParameter
from pellucid.intervals import adjusted

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Association:
    """A cluster and a column of metadata. ``inside`` and ``outside``: for a category, the share of its images with ``value`` (the most over-represented
    one); for numbers, the mean. ``p`` is two-sided; ``holm`` is p held to one error over all tests of the call.
    """

    cluster: int
    column: str
    value: Any
    inside: float
    outside: float
    p: float
    holm: float


def associations(
    labels: Labels, metadata: Mapping[str, Sequence[Any]], patients: Sequence[Hashable], permutations: int, seed: int
) -> tuple[Association, ...]:
    """Every cluster against every column; nothing where there is one cluster, or one value.

    Statistic: the largest difference between the cluster's share of a value and the others', in units of its spread if nothing went together
    (numbers: the same with ranks). Permutations exchange whole patients where a column is the same in all images of each patient, else images
    within each patient, so that images of one patient never count as independent.
    """
    k = int(labels.max()) + 1
    if k < 2:
        return ()
    found: list[Association] = []
    for column, values in metadata.items():
        if len(values) != len(labels):
            raise BadParameter(f"a value of {column!r} for each map ({len(labels)})", f"{len(values)}", "Give as many.")
        table, names = _table(values)
        if not len(names):
            continue
        orders = shuffles(values, patients, permutations, np.random.default_rng([seed, len(found)]))
        for c in range(k):
            own = labels == c
            signed = _apart(own, table)
            true = float(np.abs(signed).max())
            far = sum(float(np.abs(_apart(own, table[order])).max()) >= true * (1 - 1e-12) for order in orders)
            p, z = (1 + far) / (1 + permutations), int(signed.argmax())
            numeric = names[z] is None
            seen = np.asarray(values, dtype=np.float64) if numeric else table[:, z]
            found.append(Association(c, column, names[z], float(seen[own].mean()), float(seen[~own].mean()), p, p))
    return tuple(replace(a, holm=h) for a, h in zip(found, adjusted([a.p for a in found]), strict=True))


def shuffles(values: Sequence[Any], patients: Sequence[Hashable], count: int, chance: np.random.Generator) -> list[NDArray[np.int64]]:
    """Orders in which values may stand if they go with nothing: whole patients are exchanged where a value is theirs, else images within them."""
    who: dict[Hashable, list[int]] = {}
    for i, p in enumerate(patients):
        who.setdefault(p, []).append(i)
    groups = [np.asarray(g) for g in who.values()]
    orders = []
    whole = all(len({values[i] for i in g}) == 1 for g in groups)
    for _ in range(count):
        order = np.arange(len(values))
        if whole:
            for g, k in zip(groups, chance.permutation(len(groups)), strict=True):
                order[g] = groups[k][0]
        else:
            for g in groups:
                order[g] = chance.permutation(g)
        orders.append(order)
    return orders


def _table(values: Sequence[Any]) -> tuple[NDArray[np.float64], list[Any]]:
    """Numbers as one column of ranks (name None), anything else as a column of 0 and 1 for each value."""
    distinct = sorted(set(values), key=repr)
    if len(distinct) < 2:
        return np.zeros((len(values), 0)), []
    if all(isinstance(v, (int, float, np.number)) and not isinstance(v, (bool, np.bool_)) for v in distinct) and len(distinct) > 2:
        from scipy.stats import rankdata

        return rankdata(np.asarray(values, dtype=np.float64))[:, None], [None]
    return np.stack([[float(v == d) for v in values] for d in distinct], 1), distinct


def _apart(own: NDArray[np.bool_], table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Difference in means of each column, in units of its standard error under exchange. The spread is that of the whole column, which no exchange
    of images changes (of patients with unequal numbers of images, a little).
    """
    inside = own.astype(np.float64)
    mean = inside @ table / inside.sum(), (1 - inside) @ table / (1 - inside).sum()
    spread = np.sqrt(np.clip((table**2).mean(0) - table.mean(0) ** 2, 1e-24, None) * (1 / inside.sum() + 1 / (1 - inside).sum()))
    return (mean[0] - mean[1]) / spread  # type: ignore[no-any-return]
