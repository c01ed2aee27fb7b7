"""Automatic concepts: pieces of scans of a physical size, grouped by what the network makes of them, each group then tested."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.activations import Pool, look
from pellucid.asking import Scan, as_image
from pellucid.concepts.bank import ConceptBank, Examples
from pellucid.concepts.directions import Direction
from pellucid.concepts.drawn import FEWEST, RANDOM
from pellucid.concepts.ranking import bonferroni
from pellucid.concepts.result import ConceptRow, Concepts
from pellucid.concepts.tcav import tcav
from pellucid.concepts.vectors import Cells
from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Provenance
from pellucid.features import segments
from pellucid.findings import Finding
from pellucid.intervals import adjusted
from pellucid.model import Model, as_model
from pellucid.params import Count, check
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table

SMALLEST = 0.001  # of the image
ALIKE = 0.5  # Jaccard index from which two pieces of one scan are the same
TWICE = 2  # pieces of one scan in a group, at most


@dataclass(frozen=True, eq=False)
class Piece:
    """A segment: ``label`` of the ``scale``-th cut of the ``scan``-th image, with its mean activation."""

    scan: int
    scale: int
    label: int
    row: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Discovered(Finding):
    """Groups of pieces that the network sees alike, strongest evidence first.

    ``concepts``: the tests, one each; ``pieces``: how many were cut in all; ``dropped``: groups in too few images.
    """

    kind = "discovered"
    concepts: tuple[Concepts, ...]
    pieces: int
    dropped: int

    def __iter__(self) -> Iterator[Concepts]:
        return iter(self.concepts)

    @property
    def network(self) -> str:
        """The identity of the network that was asked."""
        return self.concepts[0].network

    @property
    def provenance(self) -> Provenance:
        """Of the strongest group; those of the others differ in their images."""
        return self.concepts[0].provenance

    @property
    def rows(self) -> tuple[ConceptRow, ...]:
        return tuple(r for c in self.concepts for r in c.rows)

    def table(self) -> Table:
        """All rows of all groups."""
        tables = [c.table() for c in self.concepts]
        return Table(tables[0].columns, tuple(r for t in tables for r in t.rows))

    def sentences(self) -> tuple[str, ...]:
        return tuple(r.sentence for r in self.rows)


def discover_concepts(
    model: Any,
    scans: Sequence[Scan],
    target: Any,
    *,
    site: str = "auto",
    sizes: Sequence[str | int] = ("2mm", "4mm"),
    of: Sequence[Scan] | None = None,
    clusters: int = 15,
    least: int = FEWEST,
    most: int = 40,
    patients: Sequence[Hashable] | None = None,
    pool: Pool = "mean",
    direction: Direction = "pattern",
    randoms: int = 20,
    alpha: float = 0.05,
    run: Run | None = None,
) -> Discovered:
    """Which parts of the scans does the network see alike, and do they move the score?

    Scans are cut into compact pieces at several sizes; a piece is the mean activation of its own cells, so that no patch is resized. Groups are
    made (k-means) on one half of the patients; their members for the test come from the other half, so that accuracy and p are honest.

    Args:
        model: the network.
        scans: images of the class.
        target: a class or Target, one alone.
        site: where pieces are compared and tested; it has cells.
        sizes: widths of pieces (``"2mm"``) or their numbers, one per scale.
        of: images whose score is asked about; None: ``scans``.
        clusters: groups at most.
        least: images that a group must come from, in the half that tests it.
        most: members of a group that count, those nearest to its middle; two of one scan at most.
        patients: of ``scans``; None: each scan a patient.
        pool, direction, randoms, alpha, run: as in ``tcav``; counterparts are other pieces of the same scans.

    Raises:
        BadImage: fewer than twice ``least`` patients, or no group in enough of them.
        BadParameter: no sizes, or mm where the image knows no spacing.

    **Misleads when**: pieces are smaller than the site's cells or than what a cell sees around it: a group is then of places, not of things.

    **Source**: Ghorbani et al. 2019, ACE, arXiv:1902.03129. Differs: physical sizes, masks instead of resized patches, two halves, the rank test.
    """
    for n, v in (("clusters", clusters), ("least", least), ("most", most)):
        check("discover_concepts", n, Count, v)
    if not sizes:
        raise BadParameter("at least one size of pieces", "none", "Give sizes=('2mm', '4mm').")
    net, run = as_model(model), run or Run()
    who: list[Hashable] = list(range(len(scans))) if patients is None else list(patients)
    if len(who) != len(scans):
        raise BadParameter(f"a patient for each of {len(scans)} scans", f"{len(who)}", "Give as many.")
    if len(set(who)) < 2 * max(least, FEWEST):
        raise BadImage(
            f"at least {2 * max(least, FEWEST)} patients: one half finds groups, the other tests them", f"{len(set(who))}", "Add scans."
        )
    cuts = segments.slic(*sizes)
    labels, pieces = _pieces(net, scans, site, cuts, pool, run)
    testing = _half(who, run.seed)
    groups, dropped = _groups(pieces, [testing[p.scan] for p in pieces], clusters, max(least, FEWEST), most, run.seed)
    if not groups:
        raise BadImage(f"a group of pieces in at least {max(least, FEWEST)} images", "none", "Ask for fewer clusters, or give more scans.")
    spare = [n for n, p in enumerate(pieces) if testing[p.scan]]
    found = []
    for k, members in enumerate(groups):
        name = f"group {k + 1}"
        bank = ConceptBank((_examples(name, members, pieces, labels, scans, who),), _examples(RANDOM, _drawn(
            members, spare, pieces, who, randoms, run.seed), pieces, labels, scans, who), shared=True)  # fmt: skip
        found.append(tcav(net, bank, list(scans if of is None else of), target, sites=site, direction=direction, pool=pool,
                          randoms=randoms, alpha=alpha, run=run))  # fmt: skip
    return Discovered(_ordered(found), len(pieces), dropped)


def _ordered(found: Sequence[Concepts]) -> tuple[Concepts, ...]:
    """Strongest first; p values corrected over all groups."""
    rows = [c.rows[0] for c in found]
    own, t_holm, t_all = adjusted([r.p for r in rows]), adjusted([r.t_p for r in rows]), bonferroni([r.t_p for r in rows])
    told = [
        replace(c, rows=(replace(r, p_holm=a, t_holm=b, t_bonferroni=t),))
        for c, r, a, b, t in zip(found, rows, own, t_holm, t_all, strict=True)
    ]
    return tuple(sorted(told, key=lambda c: (c.rows[0].verdict not in ("raises", "lowers"), c.rows[0].p, -abs(c.rows[0].effect))))


def _pieces(
    model: Model, scans: Sequence[Scan], site: str, cuts: segments.Cuts, pool: Pool, run: Run
) -> tuple[list[list[Tensor]], list[Piece]]:
    """Labels of all scans at all scales, and all pieces that are neither tiny nor there twice."""
    labels: list[list[Tensor]] = []
    pieces: list[Piece] = []
    with untouched(model.module):
        for i, seen in enumerate(look(model, scans, site, run=run)):
            image = as_image(scans[i])
            own = [c.to(torch.int32) for c in cuts.labels(image.values, image.grid)]
            cells = Cells(model, scans[i], site)
            for scale, kept in enumerate(_kept(own)):
                for label in kept:
                    mask = own[scale] == label
                    if cells.sees(mask):
                        pieces.append(Piece(i, scale, label, cells.row(seen.activation, mask, pool)))
            labels.append(own)
    return labels, pieces


def _kept(cuts: Sequence[Tensor]) -> list[list[int]]:
    """Labels of each scale that are large enough and no earlier scale's piece again."""
    found: list[list[int]] = []
    for scale, cut in enumerate(cuts):
        area = torch.bincount(cut.flatten().long())
        keep = area >= SMALLEST * cut.numel()
        for earlier in cuts[:scale]:
            before = torch.bincount(earlier.flatten().long())
            both = torch.bincount((cut.long() * len(before) + earlier.long()).flatten(), minlength=len(area) * len(before))
            both = both.view(len(area), len(before)).double()
            jaccard = both / (area[:, None] + before[None] - both)
            keep &= jaccard.amax(1) <= ALIKE
        found.append([int(v) for v in keep.nonzero().flatten()])
    return found


def _half(who: Sequence[Hashable], seed: int) -> list[bool]:
    """Which scans test: those of one half of the patients."""
    ordered = sorted(set(who), key=repr)
    order = np.random.default_rng(seed).permutation(len(ordered))
    half = {ordered[i] for i in order[: (len(ordered) + 1) // 2]}
    return [p in half for p in who]


def _groups(
    pieces: Sequence[Piece], testing: Sequence[bool], clusters: int, least: int, most: int, seed: int
) -> tuple[list[list[int]], int]:
    """Members for the test of each group, nearest to its middle first, and how many groups are in too few images."""
    from sklearn.cluster import KMeans

    rows = np.stack([p.row for p in pieces]).astype(np.float64)
    test = np.array(testing)
    k = min(clusters, max(1, int((~test).sum()) // least))
    model = KMeans(k, n_init=3, random_state=seed).fit(rows[~test])
    apart = model.transform(rows)
    group, groups, dropped = apart.argmin(1), [], 0
    for c in range(k):
        members: list[int] = []
        taken: dict[int, int] = {}
        for n in sorted(np.flatnonzero((group == c) & test).tolist(), key=lambda n: apart[n, c]):
            if len(members) < most and taken.get(pieces[n].scan, 0) < TWICE:
                members.append(n)
                taken[pieces[n].scan] = taken.get(pieces[n].scan, 0) + 1
        if len(taken) >= least:
            groups.append(members)
        else:
            dropped += 1
    return groups, dropped


def _drawn(
    members: Sequence[int], spare: Sequence[int], pieces: Sequence[Piece], who: Sequence[Hashable], randoms: int, seed: int
) -> list[int]:
    """Pieces of the group's patients that are not in it, as many as the random sets take."""
    rng, own = np.random.default_rng(seed), set(members)
    wanted: dict[Hashable, int] = {}
    for n in members:
        wanted[who[pieces[n].scan]] = wanted.get(who[pieces[n].scan], 0) + randoms
    found = []
    for n in (spare[i] for i in rng.permutation(len(spare))):
        patient = who[pieces[n].scan]
        if n not in own and wanted.get(patient, 0) > 0:
            wanted[patient] -= 1
            found.append(n)
    return found


def _examples(
    name: str, members: Sequence[int], pieces: Sequence[Piece], labels: Sequence[Sequence[Tensor]], scans: Sequence[Scan],
    who: Sequence[Hashable],
) -> Examples:  # fmt: skip
    own = [pieces[n] for n in members]
    masks = tuple(labels[p.scan][p.scale] == p.label for p in own)
    return Examples(name, tuple(scans[p.scan] for p in own), tuple(who[p.scan] for p in own), masks)
