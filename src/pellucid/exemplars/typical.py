"""Typical images: the most and least typical of a class, and those that excite a channel most, with the place where they do."""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pellucid.activations import look
from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter, BadSite
from pellucid.exemplars.critic import prototypes, squared
from pellucid.exemplars.measures import site_of
from pellucid.explanation import Provenance
from pellucid.findings import Finding, signed, signed_rows
from pellucid.image import digest
from pellucid.model import Model, as_model
from pellucid.run import Run


@dataclass(frozen=True)
class Typical(Finding):
    """Places of the most and the least typical images of a class, the extreme ones first, and how typical each is (0 to 1)."""

    kind = "typical"
    label: str
    most: tuple[int, ...]
    least: tuple[int, ...]
    typicality: tuple[float, ...]
    provenance: Provenance = field(repr=False, compare=False)


@dataclass(frozen=True)
class Excited:
    """An image that excites a channel: its place among the scans, the value, and where: the cell of the site (None: it has no cells),
    the sample of the prepared image at its middle, and that point in the grid's unit (mm or px)."""

    place: int
    value: float
    image: str
    cell: tuple[int, ...] | None
    sample: tuple[float, ...] | None
    point: tuple[float, ...] | None


@dataclass(frozen=True)
class Unit(Finding):
    """Images that excite a channel of a site most and least, the extreme ones first; ``share`` of all images in which it is above 0 anywhere;
    ``network`` the identity of the network."""

    kind = "unit"
    site: str
    channel: int
    most: tuple[Excited, ...]
    least: tuple[Excited, ...]
    share: float
    provenance: Provenance = field(repr=False, compare=False)
    network: str = ""


def typical(rows: NDArray[np.floating], labels: Sequence[object], label: object, k: int = 5, *, gamma: float | None = None) -> Typical:
    """The most and least typical images of a class: those that most, and least, of the class's other images resemble.

    How typical an image is, is its mean kernel exp(-gamma |x - y|^2) to the others of its class, a density; gamma is 1 over the class's median
    squared distance.

    Args:
        rows: features (n, d), a row an image.
        labels: of each image.
        label: the class.
        k: how many of either kind, at most half of the class.
        gamma: of the kernel.

    Raises:
        BadParameter: not a label for each row, or a class with fewer than two images.

    >>> found = typical(np.array([[0.0], [0.1], [0.2], [0.3], [0.4], [9.0], [4.0]]), list("aaaaaab"), "a", 1)
    >>> found.most, found.least
    ((2,), (5,))
    """
    if len(labels) != len(rows):
        raise BadParameter(f"labels for {len(rows)} images", f"{len(labels)}", "Give as many.")
    at = np.flatnonzero([str(v) == str(label) for v in labels])
    if len(at) < 2:
        known = ", ".join(sorted({str(v) for v in labels})[:8])
        raise BadParameter(f"a class with two images or more: {label!r}", f"{len(at)}", f"Choose one of {known}.")
    used = prototypes(rows[at], 1, 0, gamma=gamma).gamma
    kernel = np.exp(-used * squared(np.asarray(rows[at], np.float64)))
    density = (kernel.sum(1) - 1) / (len(at) - 1)
    order = np.lexsort((at, -density))
    count = _count(k, len(at) // 2)
    first, last = order[:count], order[::-1][:count]
    shown = tuple(density[np.concatenate([first, last])].round(12).tolist())
    said = signed_rows(f"typical(k={k}, gamma={used!r})", rows, target=str(label))
    return Typical(str(label), tuple(at[first].tolist()), tuple(at[last].tolist()), shown, said)


def exciting(net: Model | nn.Module, scans: Sequence[Scan], site: str, channel: int, k: int = 5, *, run: Run | None = None) -> Unit:
    """The images that excite a channel most and least, and where in each image: one pass an image, a few results kept.

    An image's value is its highest activation over the cells. The place is the middle of that cell as the site lies on the image, not the whole
    field that it sees.

    Args:
        net: a Model, or a bare network.
        scans: images, tensors (c, *space) or paths.
        site: a named site, or ``"auto"``.
        channel: which of its channels.
        k: how many of either kind.
        run: memory, progress, cancel.

    Raises:
        BadParameter: no such channel, no image, or no k.
        BadSite: no such site.
    """
    began, model, run, count = time.perf_counter(), as_model(net), run or Run(), _count(k, len(scans))
    if not len(scans):
        raise BadParameter("at least one image", "none", "Give the images.")
    most: list[tuple[float, int, Excited]] = []
    least: list[tuple[float, int, Excited]] = []
    active, images = 0, []
    for place, seen in enumerate(look(model, scans, site, run=run)):
        z = seen.activation
        if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < len(z):
            raise BadParameter(f"a channel of {site!r}, 0 to {len(z) - 1}", repr(channel), "Choose one of them.")
        flat = z[channel].flatten()
        at = int(flat.argmax())
        cell = tuple(int(i) for i in np.unravel_index(at, tuple(z.shape[1:]))) if z.ndim > 1 else None
        one = Excited(place, float(flat[at]), seen.image, cell, None, None)
        active += one.value > 0
        images.append(seen.image)
        for heap, value in ((most, one.value), (least, -one.value)):
            heapq.heappush(heap, (value, -place, one))
            if len(heap) > count:
                heapq.heappop(heap)
    placed = [[_placed(model, scans, site, e) for _, _, e in sorted(h, key=lambda t: (-t[0], -t[1]))] for h in (most, least)]
    text, seconds = f"exciting(channel={channel}, k={k}, images={len(scans)})", time.perf_counter() - began
    said = signed(model, run, text, site=site, image=digest(*images), seconds=seconds)
    return Unit(site, channel, tuple(placed[0]), tuple(placed[1]), active / len(scans), said, model.identity)


def _placed(model: Model, scans: Sequence[Scan], site: str, one: Excited) -> Excited:
    """With the sample of the prepared image that the middle of the cell lies on."""
    if one.cell is None:
        return one
    image = as_image(scans[one.place])
    grid, own = site_of(model, image, site)[1], model.ready(image)[0].grid
    if len(grid.shape) != len(one.cell):
        raise BadSite("a site with the image's axes", f"{site!r} with {len(one.cell)}", "Choose a neighbor.")
    point = grid.world(one.cell)
    return replace(one, sample=tuple(round(float(v), 6) for v in own.index(point)), point=tuple(float(v) for v in point))


def _count(k: int, most: int) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise BadParameter("k is a whole number of at least 1", repr(k), "Say how many.")
    return min(k, most)
