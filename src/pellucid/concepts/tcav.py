"""TCAV whose verdict holds its level: a concept's score is ranked among those of random sets in its place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.activations import Pool
from pellucid.asking import Scan, as_image
from pellucid.concepts import ranking
from pellucid.concepts.bank import ConceptBank, Examples
from pellucid.concepts.counterparts import Drawn, draw, shuffled
from pellucid.concepts.directions import Direction, Floats, beyond_chance, cav, held_out, known
from pellucid.concepts.drawn import RANDOM
from pellucid.concepts.ranking import Cavs, Weighed, cavs, weigh
from pellucid.concepts.result import Compass, ConceptRow, Concepts, Found, label
from pellucid.concepts.vectors import Span, choose_pool, hear, rows_of, slopes_of, uniform
from pellucid.errors import BadImage, BadParameter
from pellucid.findings import signed
from pellucid.image import digest
from pellucid.intervals import adjusted
from pellucid.model import Model, as_model
from pellucid.params import Count, Fraction, check
from pellucid.run import Run

CITE = "Kim et al. 2018, Interpretability beyond feature attribution: TCAV, ICML, arXiv:1711.11279"
PAIR = 2  # random sets, below which there is nothing to hold a concept against


@dataclass(frozen=True, eq=False)
class _Asked:
    """What stays the same over sites and concepts."""

    model: Model
    bank: ConceptBank
    scans: tuple[Scan, ...]
    patients: tuple[Hashable, ...] | None
    targets: Mapping[str, Any]
    pool: Pool
    direction: Direction
    randoms: int
    alpha: float
    relative: bool
    folder: str | Path | None
    run: Run


def tcav(
    model: Any,
    bank: ConceptBank,
    scans: Sequence[Scan],
    target: Any,
    *,
    sites: str | Sequence[str] = "auto",
    direction: Direction = "pattern",
    pool: Pool | None = None,
    randoms: int = 50,
    relative: bool = False,
    patients: Sequence[Hashable] | None = None,
    alpha: float = 0.05,
    folder: str | Path | None = None,
    run: Run | None = None,
) -> Concepts:
    """Does the score of a class rise when activations move toward a concept, more often than toward random sets of images?

    ``S(x) = grad h(a(x)) . v``, score = share of ``scans`` with S > 0, mean over directions v of the concept against each random set. Every random
    set takes the concept's place in turn; the concept's rank among them, both tails, is p. Scores that tie are told apart by their effect.

    Args:
        model: the network, described or bare.
        bank: concepts and random images of the same source.
        scans: images of the class that is asked about, not those of the bank.
        target: a class (its logit), a Target, or a list of them. Of exclusive classes one logit may rise while the others rise more:
            ``logit("DME") - logit("no DME")`` is what moves the probability.
        sites: a site or several, each tested by itself.
        direction: ``pattern``, ``logistic``, ``ridge``, ``sgd``: see ``cav``.
        pool: activations as the ``mean`` or ``max`` over cells, or whole (``none``, where images have one shape); None: whole if possible.
        randoms: random sets, at most; below 19 no p can reach 0.05.
        relative: hold each concept against the union of the others instead; chance is then the same images under concepts dealt anew.
        patients: of ``scans``, for the interval.
        alpha: level of the verdict, of each row by itself (``p_holm`` holds over all).
        folder: where activations are kept, by content.
        run: seed, memory, progress, cancel.

    Raises:
        BadImage, BadParameter: no images of the class, too few random ones, shapes that differ.
        BadSite, BadTarget, BadModel, Unsupported: as ``explain``.

    **Misleads when**: the gradient is no guide to what a whole concept does (saturation; early sites with ``pool="mean"``, where a step moves
    all cells at once); random images come from elsewhere than the concept's; concept images share something that was not meant.

    **Source**: Kim et al. 2018. Differs: pattern direction (Pahde et al. 2022), the rank test instead of a t-test over runs that share images.
    """
    asked = _settled(model, bank, scans, target, direction, pool, randoms, relative, patients, alpha, folder, run)
    began = time.perf_counter()
    rows: list[ConceptRow] = []
    compasses: dict[tuple[str, str], Compass] = {}
    notes: list[str] = list(_overlap(asked))
    places = [sites] if isinstance(sites, str) else list(sites)
    if not places:
        raise BadParameter("at least one site", "none", "Name one, or leave sites= out.")
    for site in places:
        _at_site(asked, site, rows, compasses, notes)
    found = tuple(_corrected(rows))
    marks = (bank.fingerprint, *(as_image(s).fingerprint for s in scans))
    method = (
        f"tcav(direction={direction!r}, pool={asked.pool!r}, randoms={randoms}, relative={relative}, alpha={alpha:g}, images={len(scans)})"
    )
    seconds = time.perf_counter() - began
    forward, backward = _passes(asked, len(places))
    provenance = signed(
        asked.model, asked.run, method, target=", ".join(asked.targets), site=", ".join(places), image=digest(*marks), seconds=seconds,
        cite=CITE, notes=notes,
    )  # fmt: skip
    provenance = replace(provenance, forward=forward, backward=backward)
    kept = tuple(dict.fromkeys(notes))
    return Concepts(found, bank, compasses, asked.model.identity, asked.pool, direction, alpha, kept, provenance, dict(asked.targets))


def _settled(
    model: Any, bank: ConceptBank, scans: Sequence[Scan], target: Any, direction: str, pool: Pool | None, randoms: int, relative: bool,
    patients: Sequence[Hashable] | None, alpha: float, folder: str | Path | None, run: Run | None,
) -> _Asked:  # fmt: skip
    check("tcav", "randoms", Count, randoms)
    check("tcav", "alpha", Fraction, alpha)
    if not len(scans):
        raise BadImage("images of the class that is asked about", "none", "Give scans=, which the network finds to be of that class.")
    if patients is not None and len(patients) != len(scans):
        raise BadParameter(f"a patient for each of {len(scans)} images", f"{len(patients)}", "Give as many.")
    if relative and len(bank.concepts) < 2:
        raise BadImage("two concepts, to hold one against the others", "one", "Add concepts, or leave relative= out.")
    if not relative and not len(bank.random):
        raise BadImage("random images to hold concepts against", "none in the bank", "Give the bank random= images, or relative=True.")
    net = as_model(model)
    several = list(target) if isinstance(target, (list, tuple)) else [target]
    if not several:
        raise BadParameter("at least one target", "none", "Name a class.")
    targets = {label(net, t): t for t in several}
    kinds = {as_image(s).grid.ndim for s in scans}
    there = {f[1] for c in bank.concepts for f in c.facts}
    if kinds != there:
        raise BadImage(f"images in {sorted(there)} dimensions, as the concepts'", f"{sorted(kinds)}", "Give images of the same kind.")
    sets = (*bank.concepts, *([] if relative else [bank.random]))
    chosen = choose_pool(net, sets, scans, pool)
    who = None if patients is None else tuple(patients)
    return _Asked(net, bank, tuple(scans), who, targets, chosen, known(direction), randoms, alpha, relative, folder, run or Run())


def _passes(asked: _Asked, sites: int) -> tuple[int, int]:
    examples = sum(len(c) for c in asked.bank.concepts) + (0 if asked.relative else len(asked.bank.random))
    backward = len(asked.scans) * len(asked.targets) * sites
    return examples * sites + backward, backward


def _overlap(asked: _Asked) -> Sequence[str]:
    """Remarks on patients and images on both sides: among the concepts and among the class's images."""
    shown = {p for c in asked.bank.concepts for p in c.patients}
    same = shown & set(asked.patients or ())
    seen = {f for c in asked.bank.concepts for f in c.fingerprints}
    twice = sum(as_image(s).fingerprint in seen for s in asked.scans)
    return [
        *([f"{len(same)} patients are both in the concepts and among the images asked about"] if same else []),
        *([f"{twice} images are both in the concepts and among those asked about"] if twice else []),
    ]


def _at_site(asked: _Asked, site: str, rows: list[ConceptRow], compasses: dict[tuple[str, str], Compass], notes: list[str]) -> None:
    sets = [*asked.bank.concepts, *([] if asked.relative else [asked.bank.random])]
    span = Span.of(rows_of(asked.model, sets, site, asked.pool, asked.folder, asked.run, notes))
    starts = np.cumsum([0, *map(len, sets)])
    slopes = {name: slopes_of(asked.model, asked.scans, site, t, span, asked.pool, asked.run, notes) for name, t in asked.targets.items()}
    alike = {name for name, g in slopes.items() if len(g) > 1 and uniform(g)}
    if alike:
        notes.append(
            f"at {site!r} the gradient of {', '.join(sorted(alike))} is the same in every image, as where only pooling and linear layers follow: a "
            "single direction scores 0 or 1 by construction, and the score is a share of directions, not of images"
        )
    test = _against_union if asked.relative else _against_random
    for k, concept in enumerate(asked.bank.concepts):
        hear(asked.run, f"{concept.name!r} at {site!r} not tested yet")
        tested = test(asked, concept, span.coordinates, starts, k)
        notes.extend(tested.notes)
        compasses[concept.name, site] = Compass(np.stack([span.vector(v) for v in tested.directions]), tested.apart)
        for name, g in slopes.items():
            rows.append(_row(asked, tested, concept.name, site, name, tested.weigh(g), name in alike))


@dataclass(frozen=True, eq=False)
class _Tested:
    """A concept at a site before any target is looked at."""

    against: str
    size: int
    accuracy: float
    chance: float
    apart: float
    directions: Sequence[Floats]
    notes: Sequence[str]
    weigh: Callable[[Floats], Weighed]


def _against_random(asked: _Asked, concept: Examples, table: Floats, starts: Any, k: int) -> _Tested:
    seed = asked.run.seed
    found: Drawn = draw(concept, asked.bank.random, asked.randoms, seed, shared=asked.bank.shared)
    sets = [starts[k] + found.own, *(starts[-2] + s for s in found.sets)]
    hearing = partial(hear, asked.run, f"directions of {concept.name!r}")
    fits: Cavs = cavs(table, sets, asked.direction, seed, hearing)
    own = _who(concept, found.own)
    reached = []
    for s in found.sets:
        hearing()
        who = None if own is None else (own, _who(asked.bank.random, s) or [])
        reached.append(held_out(table[sets[0]], table[starts[-2] + s], asked.direction, patients=who, seed=seed))
    accuracy, units = float(np.mean(reached)), _units(own, len(found.own))
    units += int(np.median([_units(_who(asked.bank.random, s), len(s)) for s in found.sets]))
    apart = float(fits.apart[fits.first == 0].mean())
    ways = [fits.mean(i) for i in range(fits.sets)]
    return _Tested(RANDOM, len(found.own), accuracy, beyond_chance(accuracy, units), apart, ways, found.notes, partial(weigh, fits))


def _who(examples: Examples, at: Any) -> list[Hashable] | None:
    return [examples.patients[i] for i in at] if examples.patients else None


def _units(patients: Sequence[Hashable] | None, images: int) -> int:
    return images if patients is None else len(set(patients))


def _against_union(asked: _Asked, concept: Examples, table: Floats, starts: Any, k: int) -> _Tested:
    """A concept against the union of the others; chance: the same images with concepts dealt anew (by patient where they are known)."""
    rng = np.random.default_rng(asked.run.seed)
    labels = np.zeros(starts[-1], dtype=bool)
    labels[starts[k] : starts[k + 1]] = True
    who = [p for c in asked.bank.concepts for p in c.patients] or None
    dealt = [labels, *(shuffled(labels, who, rng) for _ in range(max(asked.randoms, PAIR)))]
    ways, gaps = [], []
    for d in dealt:
        hear(asked.run, f"directions of {concept.name!r}")
        ways.append(cav(table[d], table[~d], asked.direction, asked.run.seed))
        gaps.append(float((table[d].mean(0) - table[~d].mean(0)) @ ways[-1]))
    sides = None if who is None else ([p for p, d in zip(who, labels) if d], [p for p, d in zip(who, labels) if not d])
    accuracy = held_out(table[labels], table[~labels], asked.direction, patients=sides, seed=asked.run.seed)
    units = 2 * min(int(labels.sum()), int((~labels).sum())) if sides is None else 2 * min(len(set(s)) for s in sides)

    def weighed(slopes: Floats) -> Weighed:
        s = slopes @ np.stack(ways).T
        share, mean = (s > 0).mean(0), s.mean(0)
        return Weighed(share, mean, mean * np.array(gaps), np.empty((0, 0)), s[:, :1])

    return _Tested("the others", len(concept), accuracy, beyond_chance(accuracy, units), gaps[0], ways, (), weighed)


def _row(asked: _Asked, tested: _Tested, concept: str, site: str, target: str, found: Weighed, alike: bool) -> ConceptRow:
    shares = (found.each > 0).mean(1)
    low, high = (math.nan, math.nan) if alike else ranking.share_interval(shares, asked.patients)
    p, sets = found.p, len(found.score) - 1
    verdict: Found = "raises" if found.score[0] > found.score.mean() else "lowers"
    if tested.chance > asked.alpha:
        verdict = "not told apart"
    elif 1 / (1 + sets) > asked.alpha + 1e-12:
        verdict = "too few random sets"
    elif p > asked.alpha + 1e-12:
        verdict = "no more than random"
    t = ranking.classical(found.pairs) if len(found.pairs) else math.nan
    return ConceptRow(
        concept=concept, site=site, target=target, against=tested.against, score=float(found.score[0]), low=low, high=high,
        sensitivity=float(found.sensitivity[0]), effect=float(found.effect[0]), accuracy=tested.accuracy, accuracy_p=tested.chance,
        p=p, p_holm=p, t_p=t, t_holm=t, t_bonferroni=t, null=tuple(float(v) for v in found.score[1:]), images=len(asked.scans),
        size=tested.size, verdict=verdict, alpha=asked.alpha, uniform=alike,
    )  # fmt: skip


def _corrected(rows: Sequence[ConceptRow]) -> list[ConceptRow]:
    """The p values over all rows."""
    own = adjusted([r.p for r in rows])
    t_holm, t_all = adjusted([r.t_p for r in rows]), ranking.bonferroni([r.t_p for r in rows])
    return [replace(r, p_holm=a, t_holm=b, t_bonferroni=c) for r, a, b, c in zip(rows, own, t_holm, t_all, strict=True)]
