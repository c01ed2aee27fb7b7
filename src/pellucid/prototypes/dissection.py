"""Network dissection: which units of a site answer where an annotated concept lies."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pellucid.activations import look
from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter
from pellucid.findings import signed
from pellucid.image import Image, digest
from pellucid.intervals import NONE, statistic
from pellucid.model import Model, as_model
from pellucid.prototypes.cells import cells_of
from pellucid.prototypes.dissected import Answered, Dissection, Judged, UnitConcept
from pellucid.prototypes.overlap import Chance, Floats, Mask, Overlaps, against_others, check_masks, enlarged, marked, overlaps, thresholds
from pellucid.run import Meter, Run

CITE = "Bau, Zhou, Khosla, Oliva, Torralba 2017, Network dissection: quantifying interpretability of deep visual representations, CVPR"
SHOWN = 4  # detectors with pictures


def network_dissection(
    net: Model | nn.Module,
    scans: Sequence[Scan],
    masks: Mapping[str, Sequence[Mask]],
    site: str = "auto",
    *,
    quantile: float = 0.005,
    threshold: float = 0.04,
    patients: Sequence[Hashable] | None = None,
    draws: int = 200,
    alpha: float = 0.05,
    pictures: int = 3,
    run: Run | None = None,
) -> Dissection:
    """Each unit of a site against each annotated concept, in 2D and 3D.

    A unit's threshold T lets a share ``quantile`` of its cells through, over all images: P(a > T) = quantile. Its activations, enlarged linearly to the
    image in the image's own geometry, are a mask where they exceed T; ``IoU = sum of |both| / sum of |either|`` over all images in which the concept
    was looked for. A unit detects a concept if its IoU lies above ``threshold`` **and** above what the masks of other patients give: organs lie
    alike in everybody, and where a unit always answers at one place some mask will lie there.

    Args:
        net: a Model, or a bare network.
        scans: images, tensors (c, *space) or paths.
        masks: for each concept a mask for each scan, not 0 where it is marked: a tensor (*space) on the scan's samples, an Image or a path with a grid
            of its own; None where nobody looked for it.
        site: a site with cells, or ``"auto"``.
        quantile: share of cells above a unit's threshold; small concepts ask for a small one (``ceiling`` says what can be reached). Exact while the
            cells of all images fit into memory, else from a sketch that tells its error.
        threshold: IoU from which the paper speaks of a detector.
        patients: whose each scan is; None: a patient each. Intervals and deals are over patients.
        draws: deals of the masks among patients.
        alpha: of the test over all units and concepts.
        pictures: images shown for each of four detectors, the best of each concept first: those in which they answer most.
        run: seed, memory (of the quantiles and of the frame, 512 MiB where it is None), progress, cancel.

    Returns:
        A row for each unit and concept; ``detectors``, ``sentences()``, ``table()``, ``figure()``, ``save()``.

    Raises:
        BadParameter: masks, patients or settings that do not fit.
        BadImage: a mask of another size than its scan, or pictures among volumes.
        BadSite: no such site, or one without cells.

    **Misleads when**: a unit's answer is taken for the network's reason; or the annotators saw only part of a concept (None where nobody looked).
    **Source**: section 2 of Bau et al. 2017, who have no test against chance and no intervals; NetDissect-Lite's settings use quantile=0.04.
    """
    began, model, run = time.perf_counter(), as_model(net), run or Run()
    check_masks(scans, masks, patients)
    _check(quantile, threshold, draws, alpha, pictures)
    who: list[Hashable] = list(range(len(scans))) if patients is None else list(patients)
    notes: list[str] = []
    name, _, placed = cells_of(model, as_image(scans[0]), site)
    if not placed:
        notes.append(f"The cells of {name} have no fixed place on the image: its maps are stretched over it.")
    above, error, highest = thresholds(model, scans, site, quantile, _ticking(run, 0, len(scans)), notes)
    seen = overlaps(model, scans, masks, site, above, _ticking(run, len(scans), len(scans)))
    chance = against_others(seen, who, draws, run, Meter(replace(run, on_tick=None)).tick)
    asked = _Asked(list(masks), who, above, threshold, alpha, draws)
    rows = tuple(_row(asked, seen, chance, k, c) for k in range(len(above)) for c in range(len(asked.names)))
    text = f"network_dissection(quantile={quantile!r}, threshold={threshold!r}, draws={draws}, alpha={alpha!r}, images={len(scans)})"
    seconds = time.perf_counter() - began
    said = signed(model, run, text, site=name, image=digest(*seen.images), seconds=seconds, cite=CITE, notes=notes)
    found = Dissection(
        name, len(above), tuple(masks), quantile, error, threshold, alpha, tuple(map(float, above)),
        tuple(map(int, np.flatnonzero(highest <= above))), rows, said, model.identity, tuple(notes),
    )  # fmt: skip
    return replace(found, pictures=tuple(_shown(model, scans, masks, found, seen, who, pictures, run)))


def _ticking(run: Run, done: int, each: int) -> Run:
    """Two passes over the images count as one way."""
    tick = run.on_tick
    return run if tick is None else replace(run, on_tick=lambda k, _total: tick(done + k, 2 * each))


def _check(quantile: float, threshold: float, draws: int, alpha: float, pictures: int) -> None:
    for name, value in (("quantile", quantile), ("threshold", threshold), ("alpha", alpha)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise BadParameter(f"{name} is a share between 0 and 1", repr(value), "Write quantile=0.005, threshold=0.04, alpha=0.05.")
    if isinstance(draws, bool) or not isinstance(draws, int) or 1 / (1 + draws) > alpha:
        raise BadParameter(f"draws enough for p at most {alpha:g}", repr(draws), f"Write draws={int(np.ceil(1 / alpha)) * 10}.")
    if isinstance(pictures, bool) or not isinstance(pictures, int) or pictures < 0:
        raise BadParameter("pictures is a whole number of at least 0", repr(pictures), "Write pictures=3.")


@dataclass(frozen=True, eq=False)
class _Asked:
    names: list[str]
    who: list[Hashable]
    above: Floats
    threshold: float
    alpha: float
    draws: int


def _row(asked: _Asked, seen: Overlaps, chance: Chance, k: int, c: int) -> UnitConcept:
    known = seen.known[:, c]
    both, own, mark = seen.both[known, k, c], seen.unit[known, k], seen.concept[known, c]
    either = own + mark - both
    iou, p = _ratio(both, either), float(chance.p[k, c])
    who = [w for w, there in zip(asked.who, known, strict=True) if there]
    near = iou > asked.threshold / 2  # the rest are many, and nobody asks how far below they are
    held = statistic((both, either), _ratio, who, within=(0.0, 1.0)) if near else NONE
    verdict: Judged = "detector"
    if iou <= asked.threshold:
        verdict = "below the threshold"
    elif 1 / min(chance.orders, 1 + asked.draws) > asked.alpha:
        verdict = "too few patients"
    elif p > asked.alpha:
        verdict = "no more than chance"
    areas = sorted((float(own.sum()), float(mark.sum())))
    ceiling = areas[0] / areas[1] if areas[1] > 0 else 0.0
    return UnitConcept(
        k, asked.names[c], iou, held.low, held.high, float(chance.found[k, c]), float(chance.mean[k, c]), p, ceiling, int(known.sum()),
        len(set(who)), verdict,
    )  # fmt: skip


def _ratio(part: Any, whole: Any) -> float:
    total = float(whole.sum())
    return float(part.sum()) / total if total > 0 else 0.0


def _shown(
    model: Model, scans: Sequence[Scan], masks: Mapping[str, Sequence[Mask]], found: Dissection, seen: Overlaps, who: Sequence[Hashable],
    pictures: int, run: Run,
) -> list[Answered]:  # fmt: skip
    """For the best detectors the images in which they answer most, a patient once; chosen without a look at the masks."""
    chosen: list[tuple[UnitConcept, int]] = []
    names = [r.concept for r in found.detectors]
    first = sorted(
        found.detectors, key=lambda r: names.index(r.concept) != found.detectors.index(r)
    )  # the best of each concept, then the others
    for row in first[:SHOWN]:
        once: dict[Hashable, int] = {}
        for k in np.argsort(-seen.unit[:, row.unit], kind="stable"):
            once.setdefault(who[k], int(k))
        chosen += [(row, k) for k in list(once.values())[:pictures]]
    answered = []
    for row, k in chosen:
        scan = as_image(scans[k])
        one, cells = marked(model, scan, masks, k), cells_of(model, scan, found.site)[1]
        activation = next(iter(look(model, [scan], found.site, run=replace(run, on_tick=None)))).activation[row.unit : row.unit + 1]
        (_, large), *_ = enlarged(activation, cells, one.image.grid)
        on, mark = large[0] > found.thresholds[row.unit], one.masks[found.concepts.index(row.concept)]
        answered.append(
            Answered(row.unit, row.concept, one.image, _plain(on, one.image), _plain(mark, one.image), _ratio(on & mark, on | mark))
        )
    return answered


def _plain(mask: torch.Tensor, like: Image) -> Image:
    return Image(mask.float()[None], like.grid, "mask")
