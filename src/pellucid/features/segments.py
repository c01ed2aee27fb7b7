"""Segments: an image cut into superpixels (2D) or supervoxels (3D), isotropic in the patient, the same every time."""

from __future__ import annotations

import ast
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadParameter, Unsupported
from pellucid.ops.blur import gaussian
from pellucid.ops.resample import pull
from pellucid.params import Distance, Kind

USUAL = 224  # samples along the shortest side, for which the authors chose scales and kernels
MOST = 2**20  # samples that are cut; larger volumes are cut on a coarser grid
LEAST = 8  # samples of a compact piece, on average
EVEN = 1.02  # spacings closer than this count as isotropic


class Lies(Protocol):
    """Where an image lies: all that a cut needs to know of a Grid."""

    @property
    def spacing(self) -> tuple[float, ...]: ...
    @property
    def unit(self) -> Any: ...


class Cuts(ABC):
    """A way to cut an image into segments, once or at several scales."""

    given = False  # whether the labels came from outside

    @abstractmethod
    def labels(self, x: Tensor, grid: Lies) -> list[Tensor]:
        """One label image (*space), int64, per scale; labels run from 0 without holes."""

    def one(self, x: Tensor, grid: Lies, owner: str) -> Tensor:
        """The label image of a cut that has a single scale."""
        found = self.labels(x, grid)
        if len(found) != 1:
            raise BadParameter(f"{owner} takes one cut of the image", f"{len(found)} in {self!r}", "Give one number: 'slic(100)'.")
        if int(found[0].max()) < 1:
            raise BadParameter(f"{owner} needs at least two segments", f"one from {self!r}", "Give more or smaller ones: 'slic(200)'.")
        return found[0]


@dataclass(frozen=True)
class Slic(Cuts):
    """Compact pieces of nearly equal size: k-means of place and value. ``sizes``: how many, or how wide (``"20mm"``), per scale.

    Achanta et al. 2012. ``compactness`` weighs a step in place against values scaled to [0, 1]; it is doubled until at least half
    as many pieces are found as asked (noise would otherwise melt into one). Small images give fewer: 8 samples are the least.
    """

    sizes: tuple[int | Distance, ...] = (100,)
    compactness: float = 0.1

    def labels(self, x: Tensor, grid: Lies) -> list[Tensor]:
        from skimage.segmentation import slic

        even, back = _even(x, grid, MOST)
        image = _values(even)
        found = []
        for size in self.sizes:
            n = max(2, min(_count(size, x, grid), x[0].numel() // LEAST))
            compactness = self.compactness
            while True:
                cut = slic(image, n, compactness, sigma=1.0, channel_axis=-1, start_label=0, convert2lab=False)
                if len(np.unique(cut)) * 2 >= n or compactness > 100:
                    break
                compactness *= 2
            found.append(_relabeled(back(torch.from_numpy(cut))))
        return found

    def __repr__(self) -> str:
        extra = () if self.compactness == 0.1 else (f"compactness={self.compactness:g}",)
        return repr(f"slic({', '.join([*_listed(self.sizes), *extra])})")


@dataclass(frozen=True)
class Felzenszwalb(Cuts):
    """Pieces that follow edges, of any size and shape, at one or several scales (larger means fewer). Images in 2 dimensions.

    Felzenszwalb, Huttenlocher 2004, with XRAI's settings (sigma 0.8, at least 150 samples), which hold where the shortest side has 224
    samples: larger images are cut at that size, smaller ones with scale and least size in proportion to their area.
    """

    scales: tuple[float, ...] = (100.0,)

    def labels(self, x: Tensor, grid: Lies) -> list[Tensor]:
        from skimage.segmentation import felzenszwalb

        _flat(x, "felzenszwalb")
        even, back = _even(x, grid, _usual(x, grid))
        image, part = 2 * _values(even) - 1, min(1.0, min(even.shape[1:]) ** 2 / USUAL**2)  # XRAI's values lie in [-1, 1]
        least = max(1, round(150 * part))
        cuts = (felzenszwalb(image, scale=s * part, sigma=0.8, min_size=least, channel_axis=-1) for s in self.scales)
        return [_relabeled(back(torch.from_numpy(c))) for c in cuts]

    def __repr__(self) -> str:
        return repr(f"felzenszwalb({', '.join(f'{s:g}' for s in self.scales)})")


@dataclass(frozen=True)
class Quickshift(Cuts):
    """Pieces by mode seeking in place and value, ragged and of many sizes. Images in 2 dimensions.

    Vedaldi, Soatto 2008, with the settings of LIME's authors (kernel 4, distance 200, ratio 0.2, values from 0 to 100 as lightness) at
    224 samples along the shortest side.
    """

    kernel: float = 4.0

    def labels(self, x: Tensor, grid: Lies) -> list[Tensor]:
        from skimage.segmentation import quickshift

        _flat(x, "quickshift")
        even, back = _even(x, grid, _usual(x, grid))
        kernel = max(1.0, self.kernel * min(1.0, min(even.shape[1:]) / USUAL))
        image = 100 * _values(even)
        cut = quickshift(image, ratio=0.2, kernel_size=kernel, max_dist=200, convert2lab=False, rng=0, channel_axis=-1)
        return [_relabeled(back(torch.from_numpy(cut)))]

    def __repr__(self) -> str:
        return repr(f"quickshift({self.kernel:g})")


@dataclass(frozen=True, eq=False)
class Given(Cuts):
    """Label images from outside: tensors (*space) on the explained image's grid, or Images, read on it by nearest neighbor."""

    images: tuple[Any, ...]
    given = True

    def labels(self, x: Tensor, grid: Lies) -> list[Tensor]:
        found = []
        for image in self.images:
            values = image if isinstance(image, Tensor) else image.on(grid, nearest=True).values[0]
            if values.shape != x.shape[1:]:
                got = f"labels of shape {tuple(values.shape)}"
                raise BadParameter(f"segments of the prepared image's shape {tuple(x.shape[1:])}", got, "Give an Image with its grid.")
            found.append(_relabeled(values.cpu()))
        return found

    def __repr__(self) -> str:
        raw = (i if isinstance(i, Tensor) else i.values for i in self.images)
        mark = hashlib.sha256(b"".join(r.detach().cpu().double().contiguous().numpy().tobytes() for r in raw)).hexdigest()
        return f"<segments {mark[:12]}>"


def slic(*sizes: int | str | Distance, compactness: float = 0.1) -> Cuts:
    """So many (or so wide) compact pieces: ``slic(200)``, ``slic("20mm")``, ``slic(50, 200)`` for two scales."""
    read = tuple(_size(s) for s in sizes) or (100,)
    if not compactness > 0:
        raise ValueError(compactness)
    return Slic(read, float(compactness))


def felzenszwalb(*scales: float) -> Cuts:
    """Pieces that follow edges, larger for a larger scale."""
    if any(not s > 0 for s in scales):
        raise ValueError(scales)
    return Felzenszwalb(tuple(map(float, scales)) or (100.0,))


def quickshift(kernel: float = 4.0) -> Cuts:
    """Ragged pieces by mode seeking; a wider kernel gives fewer."""
    if not kernel > 0:
        raise ValueError(kernel)
    return Quickshift(float(kernel))


CALLED: dict[str, Callable[..., Cuts]] = {"slic": slic, "felzenszwalb": felzenszwalb, "quickshift": quickshift}


def scales(ndim: int) -> Cuts:
    """XRAI's own cuts: felzenszwalb at its authors' six scales in 2D; in 3D, where there is none, supervoxels in four sizes."""
    return felzenszwalb(50, 100, 150, 250, 500, 1200) if ndim == 2 else slic(40, 80, 160, 320)


def read(value: Any) -> Cuts:
    """A cut from what a user may give: its text (``"slic(200)"``), a label tensor or Image, or a list of those."""
    if isinstance(value, Cuts):
        return value
    if isinstance(value, str):
        call = ast.parse(value.strip(), mode="eval").body
        if isinstance(call, ast.Name) and call.id in CALLED:
            return CALLED[call.id]()
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in CALLED:
            named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
            return CALLED[call.func.id](*map(ast.literal_eval, call.args), **named)
        raise ValueError(value)
    images = list(value) if isinstance(value, (list, tuple)) else [value]
    if not images:
        raise ValueError(value)
    return Given(tuple(_label_image(i) for i in images))


def _checked(value: Any) -> Cuts:
    try:
        return read(value)
    except SyntaxError:
        raise ValueError(value) from None


_wants = "'slic(n)', 'slic(\"20mm\")', 'felzenszwalb(scale)', 'quickshift(kernel)', or a label tensor or Image (or a list of them)"
Segments = Annotated[Cuts | str | Tensor | Sequence[Any], Kind("segments", _wants, _checked)]


def _label_image(value: Any) -> Any:
    """A tensor (*space), or something with values and a grid."""
    if hasattr(value, "values") and hasattr(value, "on") and hasattr(value, "grid"):
        _whole(value.values)
        if len(value.values) != 1:
            raise ValueError(value)
        return value
    labels = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
    if not isinstance(labels, Tensor) or labels.ndim not in (2, 3, 4):
        raise ValueError(value)
    labels = labels.detach()
    if labels.ndim == 4 or (labels.ndim == 3 and len(labels) == 1):  # (1, *space); a volume one sample deep has 4 axes
        labels = labels[0]
    return _whole(labels)


def _whole(labels: Tensor) -> Tensor:
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):
        raise BadParameter("segments are labels: whole numbers", "fractions", "Give one number per segment.")
    return labels


def _relabeled(labels: Tensor) -> Tensor:
    return torch.unique(labels, return_inverse=True)[1].view(labels.shape)


def _size(value: Any) -> int | Distance:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    size = Distance.read(value)
    if isinstance(value, (int, float)) or not size.value > 0:
        raise ValueError(value)
    return size


def _listed(sizes: Sequence[int | Distance]) -> list[str]:
    return [repr(s).replace("'", '"') for s in sizes]


def _count(size: int | Distance, x: Tensor, grid: Lies) -> int:
    """How many pieces; a width is the edge of a square or cube of the same size."""
    if isinstance(size, int):
        return size
    unit = size.unit or grid.unit
    if unit == "mm" and grid.unit != "mm":
        raise BadParameter(
            "segments in mm need an image that knows its spacing", repr(size), f"Write 'slic(\"{size.value:g}px\")' or a number."
        )
    edges = grid.spacing if unit == "mm" else (1.0,) * (x.ndim - 1)
    return max(1, round(math.prod(n * e / size.value for n, e in zip(x.shape[1:], edges, strict=True))))


def _flat(x: Tensor, name: str) -> None:
    if x.ndim != 3:
        raise Unsupported(f"{name} cuts images in 2 dimensions", f"an image in {x.ndim - 1}", "Give segments='slic(100)'.")


def _usual(x: Tensor, grid: Lies) -> int:
    """Samples of this extent when the shortest side has the usual number."""
    extents = [n * s for n, s in zip(x.shape[1:], grid.spacing, strict=True)]
    return math.ceil(math.prod(e / min(extents) * USUAL for e in extents))


def _even(x: Tensor, grid: Lies, most: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """The image on isotropic samples, ``most`` at most, and the way of a label image back to its own samples."""
    space, spacing = tuple(x.shape[1:]), grid.spacing
    edge = math.prod(spacing) ** (1 / len(space)) * max(1.0, math.prod(space) / most) ** (1 / len(space))
    if max(spacing) <= EVEN * min(spacing) and math.prod(space) <= most:
        return x.cpu(), lambda labels: labels
    wanted = [max(1, round(n * s / edge)) for n, s in zip(space, spacing, strict=True)]
    step = [n / m for n, m in zip(space, wanted, strict=True)]
    smooth = gaussian(x.cpu(), [0.5 * s if s > 1 else 0.0 for s in step])  # half a coarse sample: no aliasing

    def matrix(steps: Sequence[float]) -> np.ndarray:
        return np.block([[np.diag(steps), np.array([[(s - 1) / 2] for s in steps])], [np.zeros((1, len(steps))), np.ones((1, 1))]])

    def back(labels: Tensor) -> Tensor:
        return pull(labels[None], space, matrix([1 / s for s in step]), nearest=True)[0]

    return pull(smooth, tuple(wanted), matrix(step)), back


def _values(x: Tensor) -> np.ndarray:
    """The image as (*space, c) in [0, 1], all channels on one scale; the outermost half percent at either end is cut off."""
    flat = x.double().flatten()
    ends = np.quantile(flat.numpy()[:: max(1, flat.numel() // 2**20)], [0.005, 0.995])
    span = float(ends[1] - ends[0]) or 1.0
    return np.ascontiguousarray(((x.double() - float(ends[0])) / span).clamp(0, 1).movedim(0, -1).numpy())
