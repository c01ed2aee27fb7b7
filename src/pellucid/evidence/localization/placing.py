"""A map against a mask: which part of the map counts, how it is scaled and cut, and when a comparison means nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.evidence.panel import Panel
from pellucid.explanation import Direction, Measurement, Status
from pellucid.grid import Grid
from pellucid.ops.similarity import ranks
from pellucid.params import Distance, Kind

Part = Literal["positive", "absolute", "signed"]
Mass = Literal["positive", "absolute"]  # what can be summed to a whole
BINS = 256  # of Otsu's histogram
RARE = 0.05  # share of displacements that may do as well


def _threshold(value: Any) -> float | str:
    if value in ("adaptive", "otsu"):
        return str(value)
    number = float(value)
    if isinstance(value, (bool, str)) or not 0 <= number <= 1:
        raise ValueError
    return number


Threshold = Annotated[float | str, Kind("threshold", "'adaptive' (twice the mean), 'otsu', or a number from 0 to 1", _threshold)]


@dataclass(frozen=True)
class Found:
    """What was found of one map: the value, the level that chance reaches, one sentence, plain details; and how it is tested.

    ``weight`` (*space) is what the map gives to a sample that lies in the mask (``where``: in another field than the mask).
    """

    value: float
    reference: float
    text: str
    weight: Tensor
    detail: Mapping[str, Any] = field(default_factory=dict)
    where: Tensor | None = None


def part_of(relevance: Tensor, of: Part) -> Tensor:
    """The part of a map (*space) that counts, float64 on the CPU."""
    a = relevance.detach().double().cpu()
    return a.clamp_min(0) if of == "positive" else a.abs() if of == "absolute" else a


def judged(
    panel: Panel, of: Part, number: Callable[[Tensor, Tensor], Found], *, unit: str, better: Direction, against: str
) -> dict[str, Measurement]:
    """``number(map, mask)`` for every map of the panel, both (*space); void where it would mean nothing.

    A map passes if it is better than chance, and at most one in twenty of its own displaced copies does as well; else it is inconclusive or fails.
    """
    mask, found = mask_of(panel), {}
    lost = f" {panel.laid.note}" if panel.laid and panel.laid.note else ""
    laid = panel.laid.detail if panel.laid else {}
    for name in panel.names:
        a = part_of(panel.relevance(name), of)
        why_not = unfit_mask(mask) or unfit_map(a, of)
        if why_not:
            found[name] = Measurement("", math.nan, unit, better, "void", why_not, against=against, detail={"of": of})
            continue
        f = number(a, mask)
        p = displaced(f.weight, mask.double() if f.where is None else f.where)
        ahead = (f.value - f.reference) * (1 if better == "up" else -1) > 0
        status: Status = "fail" if not ahead else "pass" if p <= RARE else "inconclusive"
        text = f"{f.text} Displaced at random, the same map does as well in {p:.1%} of cases.{lost}"
        detail = {"of": of, "mask": float(mask.double().mean()), "p": p, **f.detail, **laid}
        found[name] = Measurement("", f.value, unit, better, status, text, f.reference, against, detail=detail)
    return found


def displaced(weight: Tensor, where: Tensor) -> float:
    """Share of all cyclic displacements of ``weight`` (*space) whose sum over ``where`` is as high as without (itself included).

    It keeps the map's own smoothness, of which the spread of chance depends; all displacements are there at once by a Fourier transform.
    """
    w, m = weight.double() - weight.double().mean(), where.double()
    sums = torch.fft.irfftn(torch.fft.rfftn(w) * torch.fft.rfftn(m).conj(), s=tuple(m.shape))
    hair = 1e-9 * float(w.abs().sum() * m.abs().max()) / math.sqrt(w.numel())
    return max(1, int((sums >= float((w * m).sum()) - hair).sum())) / w.numel()


def mask_of(panel: Panel) -> Tensor:
    """The mask (*space), bool, on the CPU."""
    if panel.mask is None:
        raise BadParameter("a mask of where the cause lies", "none", "Give mask=.")
    return panel.mask.cpu()


def unfit_mask(mask: Tensor) -> str:
    """Why nothing can be held against this mask; nothing if it can."""
    if not bool(mask.any()):
        return "The mask is empty: there is nothing to find."
    return "The mask covers the whole image: every map would find it." if bool(mask.all()) else ""


def unfit_map(a: Tensor, of: Part) -> str:
    """Why nothing can be said of this part of a map; nothing if it can."""
    if not bool(a.isfinite().all()):
        return "The map holds values that are not finite."
    if float(a.max()) > float(a.min()):
        return ""
    if float(a.max()) == 0:
        return "Nothing in the map is positive." if of == "positive" else "The map is zero everywhere."
    return "The map is the same everywhere."


# ---------------------------------------------------------------------------------------------------- scaling and cutting
def scaled(a: Tensor, top: float = 1.0) -> Tensor:
    """The map (*space) from its lowest value to its ``top`` quantile, moved and clipped to 0 to 1."""
    low = float(a.min())
    high = float(a.max()) if top >= 1 else float(np.quantile(a.numpy(), top))
    if high <= low:  # more than that share of the map has its lowest value
        high = float(a.max())
    return ((a - low) / (high - low)).clamp(0, 1)


def level(s: Tensor, threshold: float | str) -> float:
    """The number at which a map scaled to 0 to 1 is cut; ``adaptive`` is twice its mean, at most 1 (Achanta et al. 2009)."""
    if isinstance(threshold, float | int):
        return float(threshold)
    return otsu(s) if threshold == "otsu" else min(1.0, 2 * float(s.mean()))


def marked(s: Tensor, threshold: float | str) -> tuple[Tensor, float]:
    """Samples that the cut keeps, and where it was made: at or above a number, above Otsu's."""
    at = level(s, threshold)
    return (s > at if threshold == "otsu" else s >= at), at


def otsu(values: Tensor, bins: int = BINS) -> float:
    """The cut that parts the values into two classes of greatest variance between them (Otsu 1979, equation 18): a center of one of the bins."""
    counts, edges = np.histogram(values.detach().cpu().double().numpy(), bins)
    centers, p = (edges[:-1] + edges[1:]) / 2, counts / counts.sum()
    below, first = p.cumsum()[:-1], (p * centers).cumsum()[:-1]
    between = ((p @ centers) * below - first) ** 2 / np.maximum(below * (1 - below), 1e-300)
    return float(centers[int(between.argmax())])


# ---------------------------------------------------------------------------------------------------- counting
def cuts(a: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """For every distinct value, from the highest: samples at or above it inside the mask, and in all (both float64)."""
    values, order = a.flatten().sort(descending=True)
    hits = mask.flatten()[order].double().cumsum(0)
    last = torch.ones(len(values), dtype=torch.bool)
    last[:-1] = values[1:] != values[:-1]
    return hits[last], torch.arange(1, len(values) + 1, dtype=torch.float64)[last]


def top_of(a: Tensor, k: int) -> Tensor:
    """1 at the k highest samples (*space); several equal ones at the end share what is left."""
    least = a.flatten().topk(k).values[-1]
    above, equal = a > least, a == least
    return above.double() + equal.double() * ((k - int(above.sum())) / int(equal.sum()))


def inside_top(a: Tensor, mask: Tensor, k: int) -> float:
    """Share of the k highest samples that lies in the mask."""
    return float(top_of(a, k)[mask].sum()) / k


def precedence(a: Tensor) -> Tensor:
    """1 over the rank from the top (*space): what weighs the first samples most; ties share their mean rank."""
    return 1 / ranks(-a).view(a.shape)


def peaks(a: Tensor) -> Tensor:
    """The highest samples (*space), bool."""
    return a == a.max()


def overlap(found: Tensor, mask: Tensor) -> tuple[float, float]:
    """Intersection over union and Dice (equal to F1) of two bool tensors; 0 where one is empty."""
    both, all_ = float((found & mask).sum()), float((found | mask).sum())
    sizes = float(found.sum()) + float(mask.sum())
    return (both / all_, 2 * both / sizes) if all_ else (0.0, 0.0)


def overlap_of_chance(found: Tensor, mask: Tensor) -> tuple[float, float]:
    """IoU and Dice of as many samples at random places, by the overlap that is to be expected."""
    s, m = float(found.double().mean()), float(mask.double().mean())
    return (s * m / (s + m - s * m), 2 * s * m / (s + m)) if s + m else (0.0, 0.0)


# ---------------------------------------------------------------------------------------------------- lengths
def distance_to(mask: Tensor, spacing: tuple[float, ...]) -> Tensor:
    """Distance (*space) of every sample's center to the nearest center in the mask, along axes taken as orthogonal."""
    from scipy.ndimage import distance_transform_edt

    return torch.from_numpy(distance_transform_edt(~mask.cpu().numpy(), sampling=spacing))


def widened(mask: Tensor, reach: Distance, grid: Grid) -> Tensor:
    """The mask with all samples within ``reach`` of it."""
    from pellucid.baseline import samples

    if reach.value == 0:
        return mask
    return distance_to(mask, tuple(1 / s for s in samples(reach, grid))) <= 1 + 1e-9


def say(grid: Grid, value: float) -> str:
    """A length in words."""
    return f"{value:.3g} {'mm' if grid.unit == 'mm' else 'samples'}"
