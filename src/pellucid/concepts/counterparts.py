"""Random counterparts: sets drawn from the random images as the concept's set may have been drawn, none of them sharing an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pellucid.concepts.bank import Examples
from pellucid.concepts.drawn import FEWEST
from pellucid.concepts.ranking import SETS
from pellucid.errors import BadImage

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Drawn:
    """Indices of the concept's own images, and those of each random set among the random images; ``notes`` say what a reader should know."""

    own: Indices
    sets: tuple[Indices, ...]
    matched: bool
    notes: tuple[str, ...]


def draw(concept: Examples, random: Examples, most: int, seed: int, *, shared: bool = False) -> Drawn:
    """At most ``most`` random sets as large as the concept's.

    Where each of its patients has enough random images, a set has the concept's patients, as many images of each (**matched**). Otherwise its
    patients are left out of the random images, and a set is filled patient by patient. Where the images do not reach for 19 sets, sets are
    made smaller, down to five images, the concept's too.

    Raises:
        BadImage: not even two sets, or all random images are of the concept's own patients.
    """
    rng = np.random.default_rng(seed)
    mine = set(concept.fingerprints) if shared else set()
    usable = [i for i in range(len(random)) if not mine or random.fingerprints[i] not in mine]
    matched = _matched(concept, random, usable, most, rng) if concept.patients else None
    if matched is not None and len(matched.sets) >= min(most, SETS):
        return matched
    notes: list[str] = []
    own = set(concept.patients)
    free = [i for i in usable if not random.patients or random.patients[i] not in own]
    if len(free) < len(usable):
        notes.append(f"{len(usable) - len(free)} random images of patients who are in {concept.name!r} were left out")
    if len(free) < 2 * FEWEST:
        if matched is not None:
            return matched
        if len(free) < len(usable):
            got = f"{len(usable) - len(free)} of {len(usable)} random images are of its patients, too few of each to match them"
            raise BadImage(f"patients on one side: random images of others than {concept.name!r}", got, "Add random images.")
        raise BadImage(f"random images for two sets of {FEWEST}", f"{len(free)}", "Add random images.")
    blocks = _blocks(free, random.patients, rng)
    n = len(concept)
    for size in dict.fromkeys((n, *(n * k // 8 for k in range(7, 0, -1)), FEWEST)):
        if FEWEST <= size <= n and len(sets := _filled(blocks, size)) >= min(SETS, most):
            break
    else:
        size, sets = FEWEST, _filled(blocks, FEWEST)
    if size < n:
        notes.append(f"{size} of {n} images of {concept.name!r} count: the random images do not reach for {SETS} larger sets")
    if concept.patients:
        here = len({concept.patients[i] for i in range(n)})
        there = float(np.median([len({random.patients[i] for i in s}) for s in sets]))
        if here < 0.7 * there * n / size:
            notes.append(f"{concept.name!r} comes from {here} patients, a random set from {there:.0f}: p may be too small")
    return Drawn(np.sort(rng.permutation(n)[:size]), tuple(sets[:most]), False, tuple(notes))


def _matched(concept: Examples, random: Examples, usable: Sequence[int], most: int, rng: np.random.Generator) -> Drawn | None:
    wanted = Counter(concept.patients)
    pool: dict[Hashable, list[int]] = {}
    for i in usable:
        pool.setdefault(random.patients[i], []).append(i)
    count = min(most, *(len(pool.get(p, ())) // n for p, n in wanted.items()))
    if count < 2:
        return None
    sets: list[list[int]] = [[] for _ in range(count)]
    for p in sorted(wanted, key=repr):
        mixed = [pool[p][i] for i in rng.permutation(len(pool[p]))]
        for k in range(count):
            sets[k].extend(mixed[k * wanted[p] : (k + 1) * wanted[p]])
    return Drawn(np.arange(len(concept)), tuple(np.sort(np.array(s)) for s in sets), True, ())


def _blocks(free: Sequence[int], patients: Sequence[Hashable], rng: np.random.Generator) -> list[list[int]]:
    """Images of one patient each, in a random order."""
    found: dict[Hashable, list[int]] = {}
    for i in free:
        found.setdefault(patients[i] if patients else i, []).append(i)
    ordered = sorted(found, key=repr)
    return [found[ordered[i]] for i in rng.permutation(len(ordered))]


def _filled(blocks: Sequence[Sequence[int]], size: int) -> list[Indices]:
    """Sets of ``size`` images, whole patients each; what is beyond ``size`` of the last one is left out."""
    sets, now = [], list[int]()
    for block in blocks:
        now.extend(block)
        if len(now) >= size:
            sets.append(np.sort(np.array(now[:size])))
            now = []
    return sets


def shuffled(labels: NDArray[np.bool_], patients: Sequence[Hashable] | None, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Labels dealt anew: within a patient who has both, and otherwise among patients, all of whose images keep one label."""
    given = labels
    if patients is None:
        return given[rng.permutation(len(given))]
    who: dict[Hashable, list[int]] = {}
    for i, p in enumerate(patients):
        who.setdefault(p, []).append(i)
    dealt, single = given.copy(), []
    for at in who.values():
        if 0 < given[at].sum() < len(at):
            dealt[at] = given[at][rng.permutation(len(at))]
        else:
            single.append(at)
    kinds = np.array([given[at[0]] for at in single], dtype=bool)[rng.permutation(len(single))]
    for at, kind in zip(single, kinds, strict=True):
        dealt[at] = kind
    return dealt
