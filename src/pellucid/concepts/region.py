"""Concept activation regions: where in the activations a concept is dense, for concepts that are not along one line."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.activations import Pool, look, pooled
from pellucid.asking import Scan, as_image
from pellucid.concepts.bank import ConceptBank, Examples
from pellucid.concepts.counterparts import Drawn, draw, shuffled
from pellucid.concepts.directions import Floats, folds
from pellucid.concepts.ranking import rank
from pellucid.concepts.result import SILENT, Found, label
from pellucid.concepts.vectors import Span, choose_pool, hear, rows_of, slope_of
from pellucid.errors import BadImage
from pellucid.explanation import Provenance
from pellucid.findings import Finding, signed
from pellucid.image import digest
from pellucid.intervals import adjusted
from pellucid.model import Model, as_model
from pellucid.params import Count, Fraction, check
from pellucid.run import Run
from pellucid.table import Table

CITE = "Crabbe and van der Schaar 2022, Concept activation regions, NeurIPS, arXiv:2209.11222"


@dataclass(frozen=True)
class RegionRow:
    """A concept's region at a site, for a target.

    ``score``: share of the images whose activation lies in the region (TCAR); ``accuracy``: held-out balanced accuracy of the region, with its p
    from labels dealt anew. ``density``: mean over the images of ``mean k(a, concept) - mean k(a, random)``, with its exact rank ``density_p`` among
    the random sets. ``share``: of images whose score rises as the density of the concept grows; ``p``: its exact rank (**the verdict**).
    """

    concept: str
    site: str
    target: str
    score: float
    accuracy: float
    accuracy_p: float
    density: float
    density_p: float
    share: float
    p: float
    p_holm: float
    null: tuple[float, ...]
    images: int
    size: int
    width: float
    verdict: Found

    @property
    def sentence(self) -> str:
        """The finding for people."""
        if self.verdict in SILENT:
            return f"Nothing is said of {self.concept}: its region holds {100 * self.accuracy:.0f} % of held-out images (at {self.site})."
        tail = f"random sets {100 * float(np.mean(self.null)):.0f} %, p = {self.p:.2g} (at {self.site})"
        lies = f"{100 * self.score:.0f} % of {self.images} images lie in the region of {self.concept}"
        return f"{lies}; the {self.target} score rises toward it in {100 * self.share:.0f} %; {tail}."


@dataclass(frozen=True, eq=False)
class Regions(Finding):
    """What was found of concepts' regions."""

    kind = "regions"
    rows: tuple[RegionRow, ...]
    network: str
    notes: tuple[str, ...]
    provenance: Provenance

    def __iter__(self) -> Iterator[RegionRow]:
        return iter(self.rows)

    def table(self) -> Table:
        columns = (
            "concept", "site", "target", "TCAR", "accuracy", "accuracy p", "density", "density p", "share", "p", "p (Holm)", "random", "images",
            "set", "random sets", "verdict",
        )  # fmt: skip
        rows = [
            (r.concept, r.site, r.target, r.score, r.accuracy, r.accuracy_p, r.density, r.density_p, r.share, r.p, r.p_holm,
             float(np.mean(r.null)), r.images, r.size, len(r.null), r.verdict)
            for r in self.rows
        ]  # fmt: skip
        return Table(columns, tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        return tuple(r.sentence for r in self.rows)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Class images at a site: activations ``a`` and gradients ``g`` in the span's coordinates, |a|^2 and a . g in full."""

    a: Floats
    g: Floats
    square: Floats
    product: Floats


def concept_region(
    model: Any,
    bank: ConceptBank,
    scans: Sequence[Scan],
    target: Any,
    *,
    sites: str | Sequence[str] = "auto",
    pool: Pool | None = None,
    randoms: int = 50,
    permutations: int = 99,
    alpha: float = 0.05,
    folder: str | Path | None = None,
    run: Run | None = None,
) -> Regions:
    """Do the images lie where the concept is dense, and does their score rise toward it? Gaussian kernel, width by the median distance.

    ``rho(a) = mean k(a, concept) - mean k(a, random)``, ``k = exp(-|a - a'|^2 / (2 w^2))``. Every random set takes the concept's place in turn.

    Args:
        model, bank, scans, target, sites, pool, randoms, alpha, folder, run: as in ``tcav``.
        permutations: of the labels, for the p of the accuracy.

    Raises:
        BadImage, BadParameter, BadSite, BadTarget: as ``tcav``.

    **Misleads when**: all distances are alike (many dimensions): the region then holds everything or nothing, and the accuracy says so.

    **Source**: Crabbe and van der Schaar 2022. Differs: width by the median instead of a search; ranks among random sets.
    """
    for n, v in (("randoms", randoms), ("permutations", permutations)):
        check("concept_region", n, Count, v)
    check("concept_region", "alpha", Fraction, alpha)
    if not len(scans) or not len(bank.random):
        raise BadImage("images of the class, and random images in the bank", "none", "Give both.")
    net, run, began = as_model(model), run or Run(), time.perf_counter()
    sets = (*bank.concepts, bank.random)
    chosen = choose_pool(net, sets, scans, pool)
    targets = {label(net, t): t for t in (list(target) if isinstance(target, (list, tuple)) else [target])}
    rows: list[RegionRow] = []
    notes: list[str] = []
    places = [sites] if isinstance(sites, str) else list(sites)
    starts = np.cumsum([0, *map(len, sets)])
    for site in places:
        span = Span.of(rows_of(net, sets, site, chosen, folder, run, notes))
        seen = {name: _look(net, scans, site, t, span, chosen, run) for name, t in targets.items()}
        for k, concept in enumerate(bank.concepts):
            hear(run, f"{concept.name!r} at {site!r} not tested yet")
            drawn = draw(concept, bank.random, randoms, run.seed, shared=bank.shared)
            notes.extend(drawn.notes)
            members = [starts[k] + drawn.own, *(starts[-2] + s for s in drawn.sets)]
            region = _Region.of(span.coordinates, members)
            accuracy, chance = _told_apart(region, _who(concept, bank.random, drawn), permutations, run)
            for name, s in seen.items():
                rows.append(_row(region, s, concept.name, site, name, accuracy, chance, alpha))
    corrected = adjusted([r.p for r in rows])
    marks = digest(bank.fingerprint, *(as_image(s).fingerprint for s in scans))
    method = f"concept_region(pool={chosen!r}, randoms={randoms}, permutations={permutations}, images={len(scans)})"
    seconds = time.perf_counter() - began
    provenance = signed(
        net, run, method, target=", ".join(targets), site=", ".join(places), image=marks, seconds=seconds, cite=CITE, notes=notes
    )
    kept = tuple(replace(r, p_holm=h) for r, h in zip(rows, corrected, strict=True))
    return Regions(kept, net.identity, tuple(dict.fromkeys(notes)), provenance)


def _who(concept: Examples, random: Examples, drawn: Drawn) -> tuple[Sequence[Hashable], Sequence[Hashable]]:
    """Patients of the concept's set and of the first random one."""
    if not concept.patients:
        n = len(drawn.own)
        return range(n), range(n, 2 * n)
    return [concept.patients[i] for i in drawn.own], [random.patients[i] for i in drawn.sets[0]]


def _look(model: Model, scans: Sequence[Scan], site: str, target: Any, span: Span, pool: Pool, run: Run) -> _Seen:
    a, g, square, product = [], [], [], []
    for seen in look(model, scans, site, target, gradient=True, run=run):
        assert seen.gradient is not None
        x = np.asarray(pooled(seen.activation, pool).float().numpy())
        slope = slope_of(seen.gradient, pool)
        if len(x) != span.rows.shape[1]:
            got = f"{len(x)} values, {span.rows.shape[1]} of the concept's images"
            raise BadImage(f"activations of one shape at {site!r}", got, "Choose pool='mean', or bring the images to one size in prepare=.")
        both = span.project(np.stack([x, slope]))
        a.append(both[0])
        g.append(both[1])
        square.append(float((x.astype(np.float64) ** 2).sum()))
        product.append(float(x.astype(np.float64) @ slope.astype(np.float64)))
    return _Seen(np.stack(a), np.stack(g), np.array(square), np.array(product))


@dataclass(frozen=True, eq=False)
class _Region:
    """Sets of equal size, the concept's first, and the kernel between all their rows."""

    rows: Floats
    sets: int
    kernel: Floats
    width: float

    @classmethod
    def of(cls, table: Floats, members: Sequence[Any]) -> _Region:
        rows = table[np.concatenate(members)]
        square = (rows**2).sum(1)
        apart = np.maximum(square[:, None] + square[None] - 2 * rows @ rows.T, 0)
        middle = float(np.median(apart[np.triu_indices(len(rows), 1)]))
        width = math.sqrt(middle) if middle > 0 else 1.0
        return cls(rows, len(members), np.exp(-apart / (2 * width**2)), width)

    def near(self, seen: _Seen) -> Floats:
        """Kernel between the class's images and all rows."""
        square = (self.rows**2).sum(1)
        apart = np.maximum(seen.square[:, None] + square[None] - 2 * seen.a @ self.rows.T, 0)
        return np.asarray(np.exp(-apart / (2 * self.width**2)))

    def dense(self, near: Floats) -> Floats:
        """rho of every set against all others: (images, sets)."""
        means = near.reshape(len(near), self.sets, -1).mean(2)
        return means - (means.sum(1, keepdims=True) - means) / (self.sets - 1)


def _told_apart(region: _Region, who: tuple[Sequence[Hashable], Sequence[Hashable]], permutations: int, run: Run) -> tuple[float, float]:
    """Held-out balanced accuracy of a support vector machine between the concept's set and the first random one; p by dealing labels anew."""
    n = len(region.kernel) // region.sets
    kernel, labels = region.kernel[: 2 * n, : 2 * n], np.arange(2 * n) < n
    fold = np.concatenate(folds(who, run.seed))
    rng = np.random.default_rng(run.seed)
    patients = [*who[0], *who[1]]
    own = len(set(patients)) < 2 * n
    reached = [_accuracy(kernel, labels, fold)]
    for _ in range(permutations):
        hear(run, "regions not tested yet")
        reached.append(_accuracy(kernel, shuffled(labels, patients if own else None, rng), fold))
    return reached[0], float((np.array(reached) >= reached[0] - 1e-12).mean())


def _accuracy(kernel: Floats, labels: Any, fold: Any) -> float:
    from sklearn.svm import SVC

    right: dict[bool, list[float]] = {True: [], False: []}
    for k in range(int(fold.max()) + 1):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(set(labels[train])) < 2 or not len(test):
            continue
        model = SVC(kernel="precomputed", class_weight="balanced").fit(kernel[np.ix_(train, train)], labels[train])
        for truth, said in zip(labels[test], model.predict(kernel[np.ix_(test, train)]), strict=True):
            right[bool(truth)].append(float(truth == said))
    return float(np.mean([np.mean(r) if r else 0.5 for r in right.values()]))


def _row(region: _Region, seen: _Seen, concept: str, site: str, target: str, accuracy: float, chance: float, alpha: float) -> RegionRow:
    from sklearn.svm import SVC

    near, n = region.near(seen), len(region.kernel) // region.sets
    labels = np.arange(len(region.kernel)) < n
    model = SVC(kernel="precomputed", class_weight="balanced").fit(region.kernel, labels)
    inside = float((model.decision_function(near) > 0).mean())
    density = region.dense(near).mean(0)
    # gradient of k along g: k (x - a) . g / w^2
    rise = near * (seen.g @ region.rows.T - seen.product[:, None]) / region.width**2
    share = (region.dense(rise) > 0).mean(0)
    p, sets = rank(share, region.dense(rise).mean(0)), region.sets - 1
    verdict: Found = "raises" if share[0] > share.mean() else "lowers"
    if chance > alpha + 1e-12:
        verdict = "not told apart"
    elif 1 / (1 + sets) > alpha + 1e-12:
        verdict = "too few random sets"
    elif p > alpha + 1e-12:
        verdict = "no more than random"
    return RegionRow(
        concept, site, target, inside, accuracy, chance, float(density[0]), rank(density), float(share[0]), p, p,
        tuple(float(v) for v in share[1:]), len(seen.a), n, region.width, verdict,
    )  # fmt: skip
