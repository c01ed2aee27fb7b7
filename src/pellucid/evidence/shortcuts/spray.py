"""SpRAy: into which strategies do the maps of one class fall, are they stable, and does one of them go with where images come from?"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.evidence.shortcuts import spectral, traits
from pellucid.evidence.shortcuts.association import Association, associations
from pellucid.evidence.shortcuts.spectral import By, Distance
from pellucid.evidence.shortcuts.traits import Features, Part, Rows
from pellucid.explanation import Map
from pellucid.params import Count, Fraction, check
from pellucid.table import Table

STABLE = 0.6  # Jaccard index below which Hennig (2008) would not believe in a cluster
SMALL = 1 / 3  # of all maps: what most images share is the rule, not a trick
TIGHT = 0.8  # of the mean distance between maps
FIXED = 0.5
AWAY = 0.5
LEAST = 8  # maps


@dataclass(frozen=True, eq=False)
class Cluster:
    """Maps that are alike.

    ``share`` of all maps; ``stability``: mean Jaccard index over bootstrap samples (1: always found again); ``tightness``: mean distance within,
    over that between all maps; ``fixity``: how few cells hold half of a map, on average, over how few hold half of the cluster's mean map
    (1: always the same place; small: all over the image); ``away``: how much of the mass of its mean map lies where the other maps have none (0: at
    the same places); ``mean`` (*cells): the mean of its maps, each of mass 1. ``reasons`` say why it is a suspect; without any it is none.
    """

    number: int
    members: tuple[int, ...]
    share: float
    stability: float
    tightness: float
    fixity: float
    away: float
    mean: Tensor
    associations: tuple[Association, ...]
    reasons: tuple[str, ...]

    @property
    def suspect(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True, eq=False)
class Spray:
    """What SpRAy found. ``labels``: the cluster of each map, largest first, -1 for maps without anything in them; ``eigenvalues`` of the Laplacian;
    ``rand``: mean adjusted Rand index over bootstrap samples (0: chance); ``distances`` between the maps that are not empty, ``kept`` their numbers.
    """

    labels: tuple[int, ...]
    clusters: tuple[Cluster, ...]
    eigenvalues: tuple[float, ...]
    rand: float
    associations: tuple[Association, ...]
    distances: Rows
    kept: tuple[int, ...]
    space: tuple[int, ...]
    seed: int

    @property
    def suspects(self) -> tuple[Cluster, ...]:
        """Clusters to look at, those with most reasons first."""
        return tuple(sorted((c for c in self.clusters if c.suspect), key=lambda c: -len(c.reasons)))

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self.clusters)

    def table(self) -> Table:
        """A row for each cluster."""
        columns = (
            "cluster",
            "maps",
            "share",
            "stability",
            "tightness",
            "fixity",
            "away",
            "strongest association",
            "p (Holm)",
            "suspect because",
        )
        rows = []
        for c in self.clusters:
            best = min(c.associations, key=lambda a: a.holm, default=None)
            said = "" if best is None else _said(best)
            rows.append((c.number, len(c.members), c.share, c.stability, c.tightness, c.fixity, c.away, said, None if best is None else best.holm,
                         "; ".join(c.reasons)))  # fmt: skip
        return Table(columns, tuple(rows))

    def region(self, cluster: int, share: float = 0.02) -> Tensor:
        """Where a cluster's maps are stronger than the others': bool (*space), the ``share`` of cells with the widest gap. For ``intervene``."""
        check("Spray.region", "share", Fraction, share)
        own = self.clusters[cluster]
        rest = [c for c in self.clusters if c.number != cluster]
        weight = sum(len(c.members) for c in rest)
        other = sum((c.mean * (len(c.members) / weight) for c in rest), torch.zeros_like(own.mean))
        gap = own.mean.abs() - other.abs()
        top = torch.zeros(gap.numel(), dtype=torch.float64)
        top[gap.flatten().argsort(descending=True, stable=True)[: max(1, round(share * gap.numel()))]] = 1
        return F.interpolate(top.view(1, 1, *gap.shape), self.space, mode="nearest")[0, 0] > 0.5

    def embedding(self) -> Rows:
        """(kept maps, 2) for a figure: t-SNE of the distances (van der Maaten and Hinton 2008). Distances between far groups mean nothing in it."""
        from sklearn.manifold import TSNE

        near = min(30.0, max(2.0, (len(self.kept) - 1) / 4))
        return np.asarray(
            TSNE(2, metric="precomputed", init="random", perplexity=near, random_state=self.seed).fit_transform(self.distances)
        )


def spray(
    maps: Sequence[Map | Tensor],
    *,
    features: Features | Callable[[Any], Any] = "pooled",
    part: Part = "signed",
    distance: Distance = "euclidean",
    neighbors: int | None = None,
    clusters: int | None = None,
    by: By = "k-means",
    metadata: Mapping[str, Sequence[Any]] | None = None,
    patients: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    permutations: int = 1999,
    bootstraps: int = 50,
    seed: int = 0,
) -> Spray:
    """Spectral relevance analysis: clusters of maps, their stability, and their association with metadata.

    Args:
        maps: of one class and one method (others would cluster by class); tensors (c, *space) or Maps.
        features: what is compared, see ``traits.rows``: ``grid`` and ``pooled`` want images of one frame; ``aligned``, ``radial``, ``histogram``
            and ``channels`` ever less; or a function of the map.
        part: ``signed``, ``positive`` or ``absolute`` relevance.
        distance: ``euclidean`` as in the paper, or ``correlation`` (1 - r).
        neighbors: of each map in the graph; None: log2 of their number (von Luxburg 2007). More than a cluster has ties it to the others.
        clusters: how many; None: where the Laplacian's eigenvalues make their widest step (1 to 10).
        by: k-means or agglomerative (Ward) clustering of the eigenvectors' rows.
        metadata: columns (site, scanner, laterality), one value for each map. Never the label of the class.
        patients: of each map; None: each map a patient.
        alpha: of Holm's adjusted p below which a cluster's association is named.

    Raises:
        BadParameter: fewer than 8 maps with anything in them, maps that are all alike, maps that cannot be compared, or a parameter that makes no sense.

    **Misleads when**: images have no common frame and places are compared; a shortcut is in nearly all images of the class (one strategy,
    nothing to tell apart); it is no place (a blur, a noise level); or clusters differ by anatomy, and a site that takes other patients goes with
    them: an association is no use. Confirm with ``intervene``.

    **Source**: Lapuschkin et al. 2019, Nature Communications 10:1096. Differs: 1 - r where r is asked for, stability, tests.
    """
    _checked(features, part, distance, by, alpha, neighbors, clusters, permutations, bootstraps)
    who = list(range(len(maps))) if patients is None else list(patients)
    if len(who) != len(maps):
        raise BadParameter(f"a patient for each map ({len(maps)})", f"{len(who)}", "Give as many.")
    table = traits.rows(maps, features, part)
    kept = [i for i in range(len(maps)) if table[i].any()]
    if len(kept) < LEAST or (clusters is not None and clusters > len(kept) // 2):
        raise BadParameter(
            f"at least {max(LEAST, 2 * (clusters or 0))} maps with something in them", f"{len(kept)} of {len(maps)}", "Explain more images."
        )
    apart, neighbors = spectral.distances(table[kept], distance), neighbors or round(math.log2(len(kept)))
    still = float(np.ptp(table[kept], axis=0).max()) <= 1e-9 * float(np.abs(table[kept]).max())
    if still or (distance == "correlation" and float(apart.max()) <= 1e-9):
        raise BadParameter("maps that differ", f"{len(kept)} that are all alike", "There are no groups among them: look at one.")
    waves = spectral.spectrum(spectral.affinity(apart, neighbors), min(max(spectral.MOST, clusters or 0), len(kept) // 2))
    k = waves.gap if clusters is None else clusters
    labels = waves.groups(k, by, seed)
    own = [who[i] for i in kept]
    rand, stable = spectral.stability(table[kept], labels, own, distance, by, neighbors, bootstraps, seed) if k > 1 else (math.nan, [1.0])
    linked = associations(labels, {c: [v[i] for i in kept] for c, v in _columns(metadata, len(maps)).items()}, own, permutations, seed)
    spread, space = _spread(maps, kept)
    found = tuple(_cluster(c, labels, apart, spread, kept, stable[c], linked, alpha) for c in range(k))
    all_labels = np.full(len(maps), -1)
    all_labels[kept] = labels
    return Spray(
        tuple(int(v) for v in all_labels), found, tuple(float(v) for v in waves.values), rand, linked, apart, tuple(kept), space, seed
    )


def _spread(maps: Sequence[Map | Tensor], kept: Sequence[int]) -> tuple[list[Tensor], tuple[int, ...]]:
    """Each kept map's relevance in the cells of a common grid, and the space of the first image; maps without extent have one cell."""
    found: list[Tensor] = []
    space: tuple[int, ...] = (1,)
    for i in kept:
        try:
            values, _ = traits.relevance(maps[i])
        except BadParameter:  # a site without extent: relevance by channels alone
            return [torch.ones(1, 1, dtype=torch.float64)] * len(kept), (1, 1)
        space = space if found else tuple(values.shape)
        found.append(traits.cells(values, traits.FINE))
    if len({f.shape for f in found}) > 1:
        size = tuple(min(n) for n in zip(*(f.shape for f in found), strict=True))
        found = [F.interpolate(f[None, None], size, mode="area")[0, 0] for f in found]
    return found, space


def _cluster(
    c: int, labels: Any, apart: Rows, spread: list[Tensor], kept: list[int], stable: float, linked: tuple[Association, ...], alpha: float
) -> Cluster:
    at = np.flatnonzero(labels == c)
    n = len(labels)
    within = float(apart[np.ix_(at, at)].sum() / max(1, len(at) * (len(at) - 1)))
    tight = within / float(apart.sum() / (n * (n - 1)))
    mean = torch.stack([spread[i] for i in at]).mean(0)
    away = _away(mean, [spread[i] for i in range(n) if labels[i] != c])
    fixed = min(1.0, float(np.mean([_half(spread[i]) for i in at])) / _half(mean))
    own = tuple(a for a in linked if a.cluster == c)
    share = len(at) / n
    reasons = [f"goes with {_said(a)}, p = {a.holm:.2g}" for a in own if a.holm < alpha]
    if len(at) > 2 and share <= SMALL and stable >= STABLE and tight <= TIGHT and fixed >= FIXED and away >= AWAY:
        reasons.append(f"small ({share:.0%} of the maps), tight, and always at one place, where others have little")
    return Cluster(c, tuple(kept[i] for i in at), share, stable, tight, fixed, away, mean, own, tuple(reasons))


def _away(mean: Tensor, others: list[Tensor]) -> float:
    """1 - the mass that a mean map shares with that of the others; 0 without others."""
    if not others:
        return 0.0
    a, b = mean.abs(), torch.stack(others).mean(0).abs()
    return 1 - float(torch.minimum(a / a.sum().clamp_min(1e-300), b / b.sum().clamp_min(1e-300)).sum())


def _half(values: Tensor) -> float:
    """How many cells hold half of the mass, with a part of the last one."""
    mass = values.abs().flatten().sort(descending=True).values
    total, sums = mass.sum(), mass.cumsum(0)
    if total <= 0:
        return 1.0
    k = int((sums < total / 2).sum())
    before = float(sums[k - 1]) if k else 0.0
    return k + (float(total) / 2 - before) / float(mass[k])


def _said(a: Association) -> str:
    if a.value is None:
        return f"{a.column}: {a.inside:.3g} on average, {a.outside:.3g} elsewhere"
    return f"{a.column} = {a.value}: {a.inside:.0%} of its images, {a.outside:.0%} of the others"


def _columns(metadata: Mapping[str, Sequence[Any]] | None, n: int) -> Mapping[str, Sequence[Any]]:
    for name, values in (metadata or {}).items():
        if len(values) != n:
            raise BadParameter(f"a value of {name!r} for each map ({n})", f"{len(values)}", "Give as many.")
    return metadata or {}


def _checked(features: Any, part: Any, distance: Any, by: Any, alpha: float, *counts: Any) -> None:
    for name, value, allowed in (("part", part, get_args(Part)), ("distance", distance, get_args(Distance)), ("by", by, get_args(By))):
        if value not in allowed:
            raise BadParameter(f"{name} of spray is one of {', '.join(allowed)}", repr(value), "Choose one.")
    if not callable(features) and features not in get_args(Features):
        raise BadParameter(f"features of spray are {', '.join(get_args(Features))} or a function of the map", repr(features), "Choose one.")
    check("spray", "alpha", Fraction, alpha)
    for name, value in zip(("neighbors", "clusters", "permutations", "bootstraps"), counts, strict=True):
        check("spray", name, Count | None if name in ("neighbors", "clusters") else Count, value)
