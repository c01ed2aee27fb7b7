"""Pictures with one cue taken away, or with one cue alone: Image -> Image, in 2D and 3D. What is shown stays in the picture's range of values."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pellucid.baseline import samples
from pellucid.channels import span
from pellucid.errors import BadImage, BadParameter, Unsupported
from pellucid.evidence.cues.asked import chance
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.ops.blur import gaussian
from pellucid.ops.edges import sobel
from pellucid.params import Distance, Length, Positive, Real, check

Picture = Callable[[Image], Image]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
MOST_SLOPE = 0.995  # the quantile of slopes that is drawn white: a single sharp sample must not darken all others
PATCH, DETAIL = 1 / 12, 1 / 40  # of the shortest side: larger than a small finding; wide enough that small findings melt


def colored(image: Image) -> bool:
    """Whether the channels are red, green and blue: three of them in a plane (in a volume, three sequences), or so named."""
    names = tuple(c.lower()[:1] for c in image.channels)
    return len(image.values) == 3 and (image.grid.ndim == 2 or names == ("r", "g", "b"))


def foreground(image: Image) -> Tensor:
    """Where the patient is, (*space) bool: not padding; else brighter than a quarter of the way from the border's darkest part to the mean of
    what lies above Otsu's threshold.

    Holes are filled (lungs are dark, and inside) and the largest part is kept. Everything, where nothing stands out.
    """
    if image.background is not None:
        return ~image.background.cpu()
    from scipy.ndimage import binary_fill_holes, label
    from skimage.filters import threshold_otsu

    gray = image.values.double().mean(0).cpu().numpy()
    border = np.concatenate([np.take(gray, (0, -1), axis=a).ravel() for a in range(gray.ndim)])
    dark = float(np.quantile(border, 0.05))
    if gray.max() <= gray.min():
        return torch.ones(gray.shape, dtype=torch.bool)
    found = binary_fill_holes(gray > dark + (float(gray[gray > threshold_otsu(gray)].mean()) - dark) / 4)
    parts, count = label(found)
    if count > 1:
        found = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return torch.from_numpy(np.asarray(found)) if found.mean() > 0.02 else torch.ones(gray.shape, dtype=torch.bool)


def _within(mask: Tensor | None, image: Image) -> Tensor:
    found = foreground(image) if mask is None else torch.as_tensor(mask).cpu() > 0.5
    if tuple(found.shape) != image.grid.shape:
        raise BadImage(f"a foreground of shape {image.grid.shape}", f"{tuple(found.shape)}", "Give it on the prepared image's grid.")
    return found


def _width(given: object, share: float, grid: Grid, owner: str) -> tuple[float, ...]:
    """A length in samples along each axis: as given, or a share of the shortest side, the same in all directions of the patient."""
    if given is None:
        shortest = min(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
        return tuple(share * shortest / s for s in grid.spacing)
    length = check(owner, "length", Length, given)
    assert isinstance(length, Distance)
    return samples(length, grid)


def grayscale(image: Image) -> Image:
    """Brightness alone, the same in all three channels: color is gone, shape and texture stay.

    Raises:
        Unsupported: an image without colors.
    """
    weights = torch.tensor(LUMA, dtype=image.values.dtype).view(-1, *[1] * image.grid.ndim)
    return image.with_values((_in_color(image, "grayscale") * weights).sum(0, keepdim=True).expand_as(image.values).clone())


def recolored(image: Image, turn: Real = 0.5) -> Image:
    """Hues turned by a share of the color circle, around the gray axis, so that brightness (the mean of the channels) stays.

    Raises:
        Unsupported: an image without colors.
    """
    angle = 2 * math.pi * check("recolored", "turn", Real, turn)
    c, s, third = math.cos(angle), math.sin(angle), 1 / 3
    a, b = third * (1 - c), math.sqrt(third) * s
    wheel = torch.tensor([[c + a, a - b, a + b], [a + b, c + a, a - b], [a - b, a + b, c + a]], dtype=torch.float64)
    values = torch.einsum("ab,b...->a...", wheel, _in_color(image, "recolored").double())
    return image.with_values(values.clamp(*span(image.values)).to(image.values.dtype))


def channels_permuted(image: Image) -> Image:
    """Red shown as green, green as blue, blue as red: the same pictures in strange colors.

    Raises:
        Unsupported: an image without colors.
    """
    return image.with_values(_in_color(image, "channels_permuted").roll(1, 0))


def _in_color(image: Image, owner: str) -> Tensor:
    if not colored(image):
        raise Unsupported(
            f"{owner} needs an image with red, green and blue", f"{len(image.values)} channels in {image.grid.ndim}D", "Use gamma."
        )
    return image.values


def gamma(image: Image, exponent: Positive = 2.0) -> Image:
    """Grays shifted without changing their order: values scaled to [0, 1], to the power ``exponent``, and back."""
    low, high = span(image.values)
    start, width = low.to(image.values), (high - low).to(image.values)
    share = ((image.values - start) / torch.where(width > 0, width, 1.0)).clamp(0, 1)
    return image.with_values(start + width * share ** check("gamma", "exponent", Positive, exponent))


def silhouette(image: Image, mask: Tensor | None = None) -> Image:
    """The outline alone: the foreground (or ``mask``) in the middle of the range of values, all else at its lowest.

    The level is the same for all images of one range, so that no image's mean color or brightness tells anything.
    """
    low, high = span(image.values)
    inside = _within(mask, image)
    return image.with_values(torch.where(inside, (low + high) / 2, low).to(image.values.dtype).expand_as(image.values).clone())


def edges(image: Image) -> Image:
    """Contours alone: the slope's magnitude (Sobel), gray, from the lowest to the highest value of the picture."""
    low, high = span(image.values)
    start, width = low.to(image.values), (high - low).to(image.values)
    slope = sobel(image.values)
    top = float(np.quantile(slope.numpy(), MOST_SLOPE)) or float(slope.max())
    share = (slope / top).clamp(0, 1) if top > 0 else slope
    return image.with_values((start + width * share).to(image.values.dtype).expand_as(image.values).clone())


def texture(image: Image, patch: Length | None = None, mask: Tensor | None = None, seed: int = 0) -> Image:
    """Texture without shape: square patches that lie in the foreground (or ``mask``) in random order; what is around them stays.

    ``patch`` None is a twelfth of the shortest side; the order is drawn from ``seed`` and the image.

    Raises:
        BadParameter: fewer than four patches fit.
    """
    size = [max(1, round(w)) for w in _width(patch, PATCH, image.grid, "texture")]
    inside = _within(mask, image)
    cells = [torch.arange(n // e) * e + (n % e) // 2 for n, e in zip(image.grid.shape, size, strict=True)]
    places = [tuple(slice(int(a), int(a) + e) for a, e in zip(at, size, strict=True)) for at in torch.cartesian_prod(*cells)]
    places = [p for p in places if bool(inside[p].all())]
    if len(places) < 4:
        raise BadParameter("at least four patches in the foreground", f"{len(places)} of {tuple(size)} samples", "Give a smaller patch=.")
    values = image.values.clone()
    order = torch.randperm(len(places), generator=chance(seed, f"texture {image.fingerprint}"))
    for to, by in zip(places, order.tolist(), strict=True):
        values[(slice(None), *to)] = image.values[(slice(None), *places[by])]
    return image.with_values(values)


def blurred(image: Image, sigma: Length | None = None) -> Image:
    """Coarse form alone: a Gaussian blur of ``sigma`` (None: a fortieth of the shortest side)."""
    return image.with_values(gaussian(image.values, _width(sigma, DETAIL, image.grid, "blurred")))


def high_pass(image: Image, sigma: Length | None = None) -> Image:
    """Detail alone: what ``blurred`` takes away, around the middle of the range of values."""
    low, high = (end.to(image.values) for end in span(image.values))
    detail = image.values - gaussian(image.values, _width(sigma, DETAIL, image.grid, "high_pass"))
    return image.with_values((detail + (low + high) / 2).clamp(low, high))
