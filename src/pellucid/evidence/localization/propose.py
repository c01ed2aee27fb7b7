"""Saliency as a weak annotator: boxes or masks that a map proposes, for a reader to accept or move, with their measured overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid import io
from pellucid.baseline import samples
from pellucid.errors import BadGrid, BadParameter
from pellucid.evidence.localization.placing import (
    RARE,
    Found,
    Part,
    Threshold,
    displaced,
    marked,
    overlap,
    overlap_of_chance,
    part_of,
    scaled,
    unfit_map,
    unfit_mask,
)
from pellucid.evidence.masks import components, laid
from pellucid.explanation import Map, Measurement, Status
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.ops.blur import gaussian
from pellucid.params import Distance, Fraction, Reach, Weight, check
from pellucid.table import Table

Shape = Literal["boxes", "mask"]
On = Literal["image", "scan"]


@dataclass(frozen=True)
class Proposal:
    """One place that a map marks: the tightest box (``start`` inclusive, ``stop`` exclusive, in samples), its size (mm2, mm3 or samples), its
    ``score`` (share of all relevance that lies in it), its peak.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]
    size: float
    score: float
    peak: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Proposals:
    """What a map proposes, best first. ``labels`` (*space) numbers the proposals from 1: their samples, or (kind ``boxes``) all of their boxes."""

    kind: Shape
    found: tuple[Proposal, ...]
    labels: Tensor
    grid: Grid
    made: str
    sided: bool = False

    def __len__(self) -> int:
        return len(self.found)

    @property
    def mask(self) -> Image:
        """1 in any proposal, 0 elsewhere."""
        return Image((self.labels > 0)[None].float(), self.grid)

    def table(self) -> Table:
        """A row for each: box in samples, center in the world (mm, or samples of a plain raster), size, score."""
        axes = "ijk"[: self.grid.ndim] if self.grid.ndim == 3 else ("row", "column")
        columns = ("number", *(f"{a} start" for a in axes), *(f"{a} stop" for a in axes), "x", "y", "z", "unit", "size", "score")
        rows = []
        for n, p in enumerate(self.found, 1):
            center = self.grid.world([(a + b - 1) / 2 for a, b in zip(p.start, p.stop, strict=True)])
            rows.append((n, *p.start, *p.stop, *center, self.grid.unit, p.size, p.score))
        return Table(columns, tuple(rows))

    def save(self, path: str | Path) -> Path:
        """``.nii``, ``.nii.gz`` or ``.npz``: the labels on their grid; ``.csv``: the table. No identifiers of patients.

        Raises:
            BadFile: another suffix, no such folder, or a file there that is not Pellucid's to replace.
        """
        path = Path(path)
        if path.suffix == ".csv":
            return self.table().renew(path)
        facts = {"kind": "proposals", "shape": self.kind, "made": self.made, "scores": [p.score for p in self.found], "sided": self.sided}
        return io.write(path, self.labels.float(), self.grid, facts=facts)


def propose(
    why: Map, kind: Shape = "boxes", *, of: Part = "positive", threshold: Threshold = "otsu", quantile: Fraction | None = None,
    smooth: Reach = 0.0, smallest: Weight = 0.0, most: int = 20, on: On = "scan",
) -> Proposals:  # fmt: skip
    """Boxes or masks where a map is high: a draft of annotations, to be looked at by a reader before anybody relies on it.

    The map is read on the scan's grid, cut, and each connected part (neighbors across corners too) is one proposal, with the share of all relevance
    that lies in it as its score; the highest scores come first.

    Args:
        why: the map.
        kind: ``boxes``, the tightest box of each part, or ``mask``, its samples.
        of: the part of the map that counts: ``positive``, ``absolute`` or ``signed``.
        threshold: ``otsu``, ``adaptive`` (twice the mean) or a number of the map scaled from its minimum to its maximum.
        quantile: instead of ``threshold``: the share of samples below the cut; 0.95 marks the highest twentieth.
        smooth: width of a Gaussian blur before the cut, in the grid's unit, "2mm" or "3px"; maps of gradients are grainy and fall apart without.
        smallest: parts below this area or volume (mm2, mm3, or samples of a plain raster) are dropped.
        most: how many are kept at most.
        on: the grid of the ``scan`` as given, or of the ``image`` as prepared.

    Raises:
        BadParameter: a map that is constant in that part or not finite, or a parameter that makes no sense.

    **Misleads when**: the network looks at a shortcut: the proposals mark the shortcut. Measure ``proposal_iou`` on cases with known truth first.
    """
    given = {"threshold": check("propose", "threshold", Threshold, threshold), "quantile": check("propose", "quantile", Fraction | None, quantile),
             "smooth": check("propose", "smooth", Reach, smooth), "smallest": check("propose", "smallest", Weight, smallest)}  # fmt: skip
    for name, value, allowed in (
        ("kind", kind, ("boxes", "mask")),
        ("on", on, ("image", "scan")),
        ("of", of, ("positive", "absolute", "signed")),
    ):
        if value not in allowed:
            raise BadParameter(f"{name} of propose is one of {', '.join(allowed)}", repr(value), "Choose one.")
    grid = (why.scan if on == "scan" else why.image).grid
    a = part_of(why.on(grid).relevance, of)
    if unfit_map(a, of):
        raise BadParameter("a map with something in it", unfit_map(a, of), "Look at the map first.")
    s = scaled(blurred(a, given["smooth"], grid))
    cut = float(np.quantile(s.numpy(), quantile)) if quantile is not None else None
    kept = s > cut if cut is not None else marked(s, given["threshold"])[0]
    found, labels = _parts(kept, a.clamp_min(0) if of != "signed" else a - a.min(), grid, given["smallest"], most, kind)
    how = f"quantile={quantile!r}" if quantile is not None else f"threshold={threshold!r}"
    made = f"propose(kind={kind!r}, of={of!r}, {how}, smooth={given['smooth']!r}, smallest={smallest!r}) of {why.provenance.method}"
    return Proposals(kind, tuple(found), labels, grid, made, bool(why.scan.facts.get("sided")))


def blurred(a: Tensor, smooth: Distance, grid: Grid) -> Tensor:
    """The map blurred by a length, the same in all directions of the patient."""
    return a if smooth.value == 0 else gaussian(a[None], samples(smooth, grid))[0]


def _parts(kept: Tensor, weight: Tensor, grid: Grid, smallest: float, most: int, kind: Shape) -> tuple[list[Proposal], Tensor]:
    """The connected parts, best first, and their numbers on the grid; where boxes meet, the better one has the sample."""
    numbered, slices = components(kept)
    flat = numbered.ravel()
    count, mass = np.bincount(flat), np.bincount(flat, weight.numpy().ravel())
    whole = float(weight.sum())
    order = [k for k in np.argsort(-mass[1:], kind="stable") + 1 if count[k] * grid.voxel >= smallest][:most]
    labels, found = torch.zeros(kept.shape, dtype=torch.int32), []
    for n, k in enumerate(order, 1):
        box = slices[k - 1]
        own = torch.from_numpy(numbered[box] == k)
        best = int(torch.where(own, weight[box], -math.inf).argmax())
        peak = tuple(int(i) + s.start for i, s in zip(np.unravel_index(best, own.shape), box, strict=True))
        start, stop = tuple(s.start for s in box), tuple(s.stop for s in box)
        size = float(np.prod([b - a for a, b in zip(start, stop, strict=True)])) if kind == "boxes" else float(count[k])
        found.append(Proposal(start, stop, size * grid.voxel, float(mass[k]) / whole, peak))
        here = labels[box]
        here[(here == 0) & (own if kind == "mask" else torch.ones_like(own))] = n
    return found, labels


def proposal_iou(proposals: Proposals, truth: Image | Tensor, *, least: Fraction = 0.5) -> Measurement:
    """Intersection over union of all proposals with the truth, and for each finding of the truth how well it was met.

    ``detail``: ``dice``; ``best``: for each connected part of the truth, the IoU of the proposal that fits it best (boxes are held against the part's
    tightest box); ``found`` and ``right``: the shares of findings met, and of proposals that meet one, with an IoU of at least ``least``.
    The reference is that of as many samples at random. An empty truth is void, as are no proposals at all where there is one: IoU 0 says that.

    Raises:
        BadGrid: a truth on another grid that cannot be laid over the proposals'.
    """
    check("proposal_iou", "least", Fraction, least)
    mask = _truth(truth, proposals.grid)
    against = "as many samples at random"
    if unfit_mask(mask):
        return Measurement("proposal_iou", math.nan, "0 to 1", "up", "void", unfit_mask(mask), against=against)
    f = _overlap(proposals, mask, least)
    p = displaced(f.weight, mask.double() if f.where is None else f.where)
    status: Status = "fail" if f.value <= f.reference else "pass" if p <= RARE else "inconclusive"
    return Measurement("proposal_iou", f.value, "0 to 1", "up", status, f.text, f.reference, against, detail={"p": p, **f.detail})


def _overlap(proposals: Proposals, mask: Tensor, least: float) -> Found:
    own, (numbered, slices) = proposals.labels, components(mask)
    drawn = torch.zeros_like(mask)
    for box in slices:
        drawn[box] = True
    wanted = drawn if proposals.kind == "boxes" else mask
    iou, dice = overlap(own > 0, wanted)
    pairs = np.zeros((len(slices), len(proposals)))
    for i, box in enumerate(slices):
        finding = torch.zeros_like(mask)
        finding[box] = True if proposals.kind == "boxes" else torch.from_numpy(numbered[box] == i + 1)
        for j, p in enumerate(proposals.found):
            its = torch.zeros_like(mask)
            place = tuple(slice(a, b) for a, b in zip(p.start, p.stop, strict=True))
            its[place] = True if proposals.kind == "boxes" else own[place] == j + 1
            pairs[i, j] = overlap(finding, its)[0]
    best = pairs.max(1) if len(proposals) else np.zeros(len(slices))
    met = float((best >= least).mean())
    right = float((pairs.max(0) >= least).mean()) if len(proposals) else math.nan
    several = f"{int((best >= least).sum())} of {len(slices)} findings are met by an overlap of {least:.0%} or more"
    text = f"{len(proposals)} proposals share {iou:.0%} of what they and the truth cover; {several}."
    detail = {"dice": dice, "best": best.tolist(), "found": met, "right": right, "least": least}
    return Found(iou, overlap_of_chance(own > 0, wanted)[0], text, own > 0, detail, wanted.double())


def _truth(truth: Image | Tensor, grid: Grid) -> Tensor:
    if isinstance(truth, Image):
        return laid(truth, grid).values
    if tuple(truth.shape) != grid.shape:
        raise BadGrid(
            f"a truth on the proposals' grid {grid.shape}", f"{tuple(truth.shape)}", "Give it as an Image with a grid of its own."
        )
    return truth.cpu() > 0.5
