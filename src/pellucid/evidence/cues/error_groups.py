"""Error groups: are the maps of missed and of false findings of a few kinds, and do they differ from those of correct answers?"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.asking import Scan, explain_all
from pellucid.errors import BadParameter
from pellucid.evidence.cues.asked import Asked, Floats, chance, cut_of, read_labels, read_patients
from pellucid.explanation import Map
from pellucid.method import Ask, Method, read_method
from pellucid.model import as_model
from pellucid.params import Count, check
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table

Kind = Literal["missed", "false alarm"]
CORRECT = {"missed": "found", "false alarm": "ruled out"}
FEWEST = 8  # errors of a kind, below which groups would be drawn from noise
MOST_GROUPS = 4
DRAWS, TESTS = 50, 999
STEADY = 0.7  # adjusted Rand index between groups of resampled cases and those of all


@dataclass(frozen=True, eq=False)
class Group:
    """Cases whose maps are alike: their indices, the one nearest to the group's middle (the prototype), and the mean map on the coarse grid."""

    cases: tuple[int, ...]
    prototype: int
    mean: Tensor


@dataclass(frozen=True, eq=False)
class Errors:
    """All errors of one kind. ``silhouette`` of the best division, ``by_chance`` what 95 % of shuffled maps stay below, ``steady`` its mean adjusted
    Rand index over bootstrap draws of patients; ``p`` that its mean map is that of the correct cases with the same label (permutation of patients),
    ``apart`` the distance between both."""

    kind: Kind
    cases: tuple[int, ...]
    against: tuple[int, ...]
    groups: tuple[Group, ...]
    silhouette: float
    by_chance: float
    steady: float
    apart: float
    p: float

    @property
    def text(self) -> str:
        """The finding in plain words."""
        n, other = len(self.cases), f"the {len(self.against)} correct cases with the same label ({CORRECT[self.kind]})"
        if not n:
            return f"There is no case of this kind: {self.kind}."
        if n < FEWEST:
            few = f"{n} {'case is' if n == 1 else 'cases are'} too few for groups ({FEWEST} are needed)"
        elif len(self.groups) == 1:
            few = f"no groups stand out (silhouette {self.silhouette:.2f}, by chance {self.by_chance:.2f}, steadiness {self.steady:.2f})"
        else:
            few = f"{len(self.groups)} groups of {', '.join(str(len(g.cases)) for g in self.groups)} (silhouette {self.silhouette:.2f}, by chance {self.by_chance:.2f}, steadiness {self.steady:.2f})"
        if math.isnan(self.p):
            return f"{self.kind}: {few}; no comparison with correct cases."
        differ = "differs" if self.p <= 0.05 else "is not shown to differ"
        return f"{self.kind}: {few}; the mean map {differ} from that of {other}, p = {self.p:.3f}."


@dataclass(frozen=True, eq=False)
class ErrorGroups:
    """Missed findings and false alarms with their groups. ``pooled`` (case, *coarse) are the maps' magnitudes, each with sum 1; ``scores`` and
    ``labels`` in the order of the images; ``maps`` as explained or given."""

    missed: Errors
    false_alarms: Errors
    pooled: Tensor
    scores: tuple[float, ...]
    labels: tuple[int, ...]
    cut: float
    maps: tuple[Map, ...]

    @property
    def text(self) -> str:
        return f"{self.missed.text} {self.false_alarms.text}"

    def table(self) -> Table:
        """A row for each group, with its prototype."""
        columns = (
            "error",
            "group",
            "cases",
            "prototype",
            "score of the prototype",
            "silhouette",
            "by chance",
            "steadiness",
            "p against correct",
        )
        rows = [
            (e.kind, k + 1, len(g.cases), g.prototype, self.scores[g.prototype], e.silhouette, e.by_chance, e.steady, e.p)
            for e in (self.missed, self.false_alarms)
            for k, g in enumerate(e.groups)
        ]
        return Table(columns, tuple(rows))


def error_groups(
    net: Any,
    images: Sequence[Scan],
    labels: Sequence[int],
    maps: Sequence[Map] | Method[Any] | str = "grad_cam",
    *,
    target: Any,
    cut: float | None = None,
    cells: Count = 6,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> ErrorGroups:
    """Whether errors come in kinds: maps of missed findings and of false alarms, grouped, and held against the maps of correct cases.

    Magnitudes of each map, pooled to ``cells`` along the shortest side and with sum 1; Ward's groups of their square roots (so that distances are
    Hellinger's); 2 to 4 groups, the number by silhouette. Groups are told only where the silhouette beats 95 % of shuffled cells and bootstrap draws
    find them again (adjusted Rand 0.7); otherwise there is one.

    Args:
        net, images, labels, target: as for ``cues``; every image is explained for this target.
        maps: a map for each image, or the method that makes them.
        cut: from which score on the network says yes; None: 0.5 of probabilities, 0 of logits.
        cells: of the coarse grid along the shortest side: as small as a place matters.
        patients: whose image it is; images of one patient are drawn and permuted together.
        run: seed, chunk, memory, cancel.

    **Misleads when**: images are not aligned: places then mean nothing. Groups say where the network looked, not why it erred.
    **Source**: Lapuschkin et al. 2019 cluster maps to find strategies; Rousseeuw 1987 (silhouette), Hennig 2007 (stability by bootstrap).

    Raises:
        BadParameter: labels, maps or patients that do not fit.
    """
    y, who = read_labels(labels, len(images)), read_patients(patients, len(images))
    coarse = check("error_groups", "cells", Count, cells)
    with untouched(as_model(net).module):
        asked = Asked(net, target, run, images[0])
        scores = [asked.scores(i, [i.values])[0] for i in (asked.ready(s)[0] for s in images)]
        if isinstance(maps, (Method, str)):
            ready = [asked.ready(s)[0] for s in images]
            maps = explain_all(replace(asked.model, prepare=None), ready, [Ask(read_method(maps), asked.target)], asked.run)
    if len(maps) != len(images):
        raise BadParameter("a map for each image", f"{len(maps)} for {len(images)}", "Give as many.")
    pooled = torch.stack([pool(m, coarse) for m in maps])
    yes = [s > cut_of(asked.target, cut) for s in scores]
    told = {
        (label, said): tuple(k for k in range(len(y)) if y[k] == label and yes[k] == said) for label in (0, 1) for said in (False, True)
    }
    seed = asked.run.seed
    missed = _errors("missed", told[1, False], told[1, True], pooled, who, seed)
    alarms = _errors("false alarm", told[0, True], told[0, False], pooled, who, seed)
    return ErrorGroups(missed, alarms, pooled, tuple(scores), y, cut_of(asked.target, cut), tuple(maps))


def pool(why: Map, cells: int) -> Tensor:
    """(*coarse), float64: the share of a map's magnitude in each cell of a coarse grid, as square in the patient as it goes; 0 for an empty map."""
    values = why.on(why.image.grid).relevance.double().abs()
    grid = why.image.grid
    extent = [n * s for n, s in zip(grid.shape, grid.spacing, strict=True)]
    shape = [max(1, min(n, round(cells * e / min(extent)))) for n, e in zip(grid.shape, extent, strict=True)]
    for axis, m in enumerate(shape):
        n = values.shape[axis]
        at = torch.arange(n) * m // n
        values = torch.zeros([*values.shape[:axis], m, *values.shape[axis + 1 :]], dtype=values.dtype).index_add_(axis, at, values)
    total = float(values.sum())
    return values / total if total > 0 else values


def _errors(kind: Kind, own: tuple[int, ...], against: tuple[int, ...], pooled: Tensor, who: tuple[Hashable, ...], seed: int) -> Errors:
    random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=chance(seed, f"errors {kind}"))))
    x = pooled.flatten(1).sqrt().numpy()
    rows = x[list(own)] if own else x[:0]
    division, silhouette, level, steady = np.zeros(len(own), int), math.nan, math.nan, math.nan
    if len({who[k] for k in own}) >= FEWEST:
        best, silhouette = _divide(rows)
        level = float(np.quantile([_divide(_shuffled(rows, random))[1] for _ in range(DRAWS)], 0.95))
        steady = _steadiness(rows, best, [who[k] for k in own], random)
        if silhouette > level and steady >= STEADY:
            division = best
    groups = tuple(_group(np.flatnonzero(division == g), own, x, pooled) for g in np.unique(division)) if own else ()
    groups = tuple(sorted(groups, key=lambda g: -len(g.cases)))
    apart, p = _apart(x, own, against, who, random)
    return Errors(kind, own, against, groups, silhouette, level, steady, apart, p)


def _group(at: Any, own: tuple[int, ...], x: Floats, pooled: Tensor) -> Group:
    cases = tuple(own[int(k)] for k in at)
    middle = x[list(cases)].mean(0)
    nearest = min(cases, key=lambda k: float(((x[k] - middle) ** 2).sum()))
    return Group(cases, nearest, pooled[list(cases)].mean(0))


def _divide(rows: Floats) -> tuple[Any, float]:
    """The division (numbers from 0) into 2 to 4 of Ward's groups with the highest silhouette; one group where all rows are equal."""
    from scipy.cluster.hierarchy import fcluster, linkage

    far = np.sqrt(np.maximum(((rows[:, None] - rows[None]) ** 2).sum(-1), 0))
    if far.max() < 1e-12:
        return np.zeros(len(rows), int), 0.0
    tree = linkage(rows, "ward")
    tried = [fcluster(tree, k, "maxclust") - 1 for k in range(2, min(MOST_GROUPS, len(rows) // 3) + 1)]
    found = [(_silhouette(far, t), -k, t) for k, t in enumerate(tried)]
    best = max(found, key=lambda f: f[:2])
    return best[2], best[0]


def _silhouette(far: Floats, groups: Any) -> float:
    """Mean over cases of (b - a) / max(a, b); 0 for a case that is alone."""
    names, own = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return 0.0
    member = np.eye(len(names))[own]
    count, cases = member.sum(0), np.arange(len(own))
    total = far @ member
    inside = total[cases, own] / np.maximum(count[own] - 1, 1)
    outside = np.where(member > 0, np.inf, total / count).min(1)
    most = np.maximum(inside, outside)
    each = np.where((count[own] > 1) & (most > 0), (outside - inside) / np.where(most > 0, most, 1), 0.0)
    return float(each.mean())


def _shuffled(rows: Floats, random: np.random.Generator) -> Floats:
    """Each cell's values in another order: the same cells, without cases that belong together."""
    return np.stack([random.permutation(c) for c in rows.T], 1)


def _steadiness(rows: Floats, division: Any, who: Sequence[Hashable], random: np.random.Generator) -> float:
    """Mean adjusted Rand index between the groups of drawn patients and the division of all, on those drawn."""
    from sklearn.metrics import adjusted_rand_score

    people = list(dict.fromkeys(who))
    found = []
    for _ in range(DRAWS):
        drawn = set(random.integers(0, len(people), len(people)).tolist())
        kept = [i for i, w in enumerate(who) if people.index(w) in drawn]
        if len(kept) >= 6:
            found.append(float(adjusted_rand_score(division[kept], _divide(rows[kept])[0])))
    return float(np.mean(found)) if found else math.nan


def _apart(
    x: Floats, own: tuple[int, ...], against: tuple[int, ...], who: tuple[Hashable, ...], random: np.random.Generator
) -> tuple[float, float]:
    """Distance between the mean maps of errors and correct cases, and how often permuted patients are as far apart."""
    both = [*own, *against]
    people = list(dict.fromkeys(who[k] for k in both))
    if len({who[k] for k in own}) < 2 or len({who[k] for k in against}) < 2:
        return math.nan, math.nan
    of = np.asarray([people.index(who[k]) for k in both])
    share = np.bincount(of[: len(own)], minlength=len(people)) / np.bincount(of, minlength=len(people))  # of each patient's images, errors
    rows = x[both]

    def distance(weights: Any) -> float:
        w = weights[of]
        inside, outside = w.sum(), (1 - w).sum()
        return float(np.linalg.norm((w @ rows) / inside - ((1 - w) @ rows) / outside)) if inside > 0 and outside > 0 else 0.0

    apart = distance(share)
    as_far = sum(distance(random.permutation(share)) >= apart * (1 - 1e-12) for _ in range(TESTS))
    return apart, (1 + as_far) / (1 + TESTS)
