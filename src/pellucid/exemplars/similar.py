"""similar(): real cases like this one, found exactly, without those of the same patient."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter
from pellucid.exemplars.index import Index, Key, build_index, open_index
from pellucid.exemplars.measures import Measure, Structural, as_measure, described
from pellucid.exemplars.search import Found
from pellucid.explanation import Evidence, Explanation
from pellucid.findings import HIDDEN, Finding, signed
from pellucid.image import Image, digest
from pellucid.model import Model, as_model
from pellucid.run import Run
from pellucid.table import Table

CITE = "Silva et al. 2020, Interpretability-guided content-based medical image retrieval, MICCAI"


@dataclass(frozen=True)
class Match:
    """One case found: its place in the index, how far it is, how alike (0 to 1, None where the measure has no such scale), its label.

    ``image`` is the fingerprint of its prepared image. ``name`` is what the caller called it; it is neither printed nor saved.
    """

    place: int
    distance: float
    likeness: float | None
    label: str
    image: str
    same_image: bool = False
    name: str = field(default="", repr=False, metadata={HIDDEN: True})


@dataclass(frozen=True, eq=False)
class Exemplars(Explanation, Finding):
    """Real cases like the image, the nearest first. The report takes each as
    ``Similar(image=scans[m.place], label=m.label, likeness=m.likeness, note=found.note(m))``.

    ``image`` is the prepared image, ``measure`` what makes two images alike, ``searched`` how many images were compared, ``left_out`` how many
    were not because they are of the same patient; ``network`` the identity of the network.
    """

    kind = "exemplars"
    matches: tuple[Match, ...]
    image: Image
    scan: Image
    measure: str
    searched: int
    left_out: int
    network: str = ""

    def __len__(self) -> int:
        return len(self.matches)

    def __iter__(self) -> Iterator[Match]:
        return iter(self.matches)

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the matches, the nearest first."""
        return tuple(m.label for m in self.matches)

    @property
    def distances(self) -> tuple[float, ...]:
        return tuple(m.distance for m in self.matches)

    @property
    def places(self) -> tuple[int, ...]:
        """Where they stand in the index, or among the scans given."""
        return tuple(m.place for m in self.matches)

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        counts = Counter(m.label or "no label" for m in self.matches).most_common()
        told = ", ".join(f"{n} x {label}" for label, n in counts) or "none"
        return f"The {len(self)} most similar of {self.searched} other cases: {told}."

    def note(self, match: Match) -> str:
        """A line for people beside a match."""
        return "the same image" if match.same_image else f"rank {self.matches.index(match) + 1} of {self.searched}"

    def table(self, *, names: bool = False) -> Table:
        """A row a match: rank, label, likeness, distance, place; ``names`` too if asked for."""
        columns = ("rank", "label", "likeness", "distance", "place", *(("name",) if names else ()))
        rows = [(i, m.label, m.likeness, m.distance, m.place, *((m.name,) if names else ())) for i, m in enumerate(self.matches, 1)]
        return Table(columns, tuple(rows))


def similar(
    net: Model | nn.Module,
    image: Scan,
    cases: Index | str | Path | Sequence[Scan],
    k: int = 5,
    *,
    by: Measure | str | None = None,
    patient: object = None,
    labels: Sequence[object] | None = None,
    patients: Sequence[object] | None = None,
    names: Sequence[str] | None = None,
    run: Run | None = None,
) -> Exemplars:
    """The ``k`` cases most like an image, by what this network makes of them.

    Args:
        net: a Model, or a bare network.
        image: whose like are looked for.
        cases: an index, its folder, or images, of which an index is made in passing.
        k: how many.
        by: what makes two images alike, see ``Features``, ``Weighted``, ``MapFeatures``, ``Structural``, ``Perceptual`` or their short names;
            None: that of the index, or ``"features"``.
        patient: who the image is of; that patient's cases are left out.
        labels, patients, names: of the images given as ``cases``; an index has its own.
        run: seed, memory, progress, cancel.

    Returns:
        Exemplars: the matches with labels, distances and likeness, the nearest first; fewer than ``k`` where fewer are left.

    Raises:
        BadParameter: an index of another network, site, measure or preparation; no k; labels beside an index; a patient where the index knows none.

    **Source**: Silva et al. 2020; the search is exact.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(108, 2)).eval()
    >>> scans = [torch.rand(1, 8, 8) for _ in range(6)]
    >>> found = similar(net, scans[4], scans, 2, labels=list("aabbab"))
    >>> found.places[0], found.labels[0], round(found.distances[0], 6)
    (4, 'a', 0.0)
    """
    began = time.perf_counter()
    model, run = as_model(net), run or Run()
    index = _index(model, cases, by, labels, patients, names, run)
    scan = as_image(image)
    measure = index.measure if by is None else _settled(index, by, model, scan)
    index.key.check(Key.of(model, measure))
    if patient is not None and not any(e.patient for e in index.entries):
        raise BadParameter("an index that knows its patients", "none", "Build it with patients=, or leave patient= out.")
    (one,) = described(model, [scan], measure, run)
    (found,) = index.nearest(one.row[None], k, without=patient)
    left = 0 if patient is None else sum(e.patient == index.hashed(patient) for e in index.entries)
    prepared = model.ready(scan)[0]
    told = f"similar(by={index.measure!r}, cases={len(index)}, of={digest(*(e.image for e in index.entries))[:16]!r})"
    shown: Any = index.measure
    provenance = signed(
        model, run, told, target=str(getattr(shown, "target", None) or ""), image=prepared.fingerprint, scan=scan.fingerprint,
        site=str(getattr(shown, "site", "") or ", ".join(getattr(shown, "sites", ()))), seconds=time.perf_counter() - began, cite=CITE,
        notes=[n for n in (one.note, *index.notes) if n],
    )  # fmt: skip
    matches = _matches(index, found, {one.image, prepared.fingerprint})
    return Exemplars(prepared.grid, provenance, Evidence(), matches, prepared, scan, repr(measure), len(index) - left, left, model.identity)


def _index(model: Model, cases: Any, by: Any, labels: Any, patients: Any, names: Any, run: Run) -> Index:
    if isinstance(cases, (str, Path)):
        cases = open_index(cases)
    if not isinstance(cases, Index):
        return build_index(model, cases, by=by or "features", labels=labels, patients=patients, names=names, run=run)
    if any(c is not None for c in (labels, patients, names)):
        raise BadParameter("an index, which has its own labels, patients and names", "labels beside it", "Leave them out.")
    return cases


def _settled(index: Index, by: Measure | str, model: Model, scan: Image) -> Measure:
    """What was asked for, settled; a short name means its kind, so that it finds an index with parameters of its own."""
    asked = as_measure(by)
    if isinstance(by, str) and type(asked) is type(index.measure):
        return index.measure
    if isinstance(asked, Structural) and isinstance(index.measure, Structural) and asked.span is None:
        asked = replace(asked, span=index.measure.span)  # of the index's first image, not of this one
    return index.measure if asked == index.measure else asked.settled(model, scan)


def _matches(index: Index, found: Found, own: set[str]) -> tuple[Match, ...]:
    matches = []
    for place, distance in zip(found.places.tolist(), found.distances.tolist(), strict=True):
        entry = index.entries[place]
        matches.append(Match(place, distance, likeness(index.measure, distance), entry.label, entry.image, entry.image in own, entry.name))
    return tuple(matches)


def likeness(measure: Measure, distance: float) -> float | None:
    """From 0 to 1: the cosine or the structural similarity, none below 0; of ``Perceptual`` the mean cosine over cells; else None."""
    if measure.metric in ("cosine", "ssim"):
        return min(1.0, max(0.0, 1 - distance))
    return min(1.0, max(0.0, 1 - distance**2 / 2)) if type(measure).__name__ == "Perceptual" else None
