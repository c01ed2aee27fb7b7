"""Images as rows of numbers that people can measure: first order, texture, rings and shape, under names with units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.features.cooccurrence import Over, glcm, texture
from pellucid.features.first_order import discretized, first_order, histogram
from pellucid.features.rings import middle, rings
from pellucid.features.shape import shape
from pellucid.table import Table

Group = Literal["first_order", "texture", "shape", "rings"]


class Measured(Protocol):
    """What is needed of an Image."""

    @property
    def values(self) -> Tensor: ...
    @property
    def grid(self) -> Any: ...
    @property
    def channels(self) -> tuple[str, ...]: ...
    @property
    def background(self) -> Tensor | None: ...
    @property
    def fingerprint(self) -> str: ...


# name -> (unit, IBSI code): value is the image's own unit (HU, SUV, a.u.), length the grid's (mm, px)
FIRST_ORDER: Mapping[str, tuple[str, str]] = {
    "mean": ("value", "Q4LE"), "variance": ("value^2", "ECT3"), "skewness": ("", "KE2A"), "kurtosis": ("", "IPH6"), "median": ("value", "Y12H"),
    "minimum": ("value", "1GSF"), "p10": ("value", "QG58"), "p90": ("value", "8DWT"), "maximum": ("value", "84IY"),
    "interquartile_range": ("value", "SALO"), "range": ("value", "2OJQ"), "mean_absolute_deviation": ("value", "4FUA"),
    "robust_mean_absolute_deviation": ("value", "1128"), "median_absolute_deviation": ("value", "N72L"),
    "coefficient_of_variation": ("", "7TET"), "quartile_coefficient_of_dispersion": ("", "9S40"), "energy": ("value^2", "N8CA"),
    "root_mean_square": ("value", "5ZWQ"), "entropy": ("bits", "TLU2"), "uniformity": ("", "BJ5W"),
}  # fmt: skip
TEXTURE: Mapping[str, tuple[str, str]] = {
    "joint_maximum": ("", "GYBY"), "joint_average": ("levels", "60VM"), "joint_variance": ("levels^2", "UR99"), "joint_entropy": ("bits", "TU9B"),
    "difference_average": ("levels", "TF7R"), "difference_variance": ("levels^2", "D3YU"), "difference_entropy": ("bits", "NTRS"),
    "sum_average": ("levels", "ZGXS"), "sum_variance": ("levels^2", "OEEB"), "sum_entropy": ("bits", "P6QZ"),
    "angular_second_moment": ("", "8ZQL"), "contrast": ("levels^2", "ACUI"), "dissimilarity": ("levels", "8S9J"), "inverse_difference": ("", "IB1Z"),
    "inverse_difference_moment": ("", "WF0Z"), "correlation": ("", "NI2N"), "autocorrelation": ("levels^2", "QWB0"),
    "cluster_tendency": ("levels^2", "DG8W"), "cluster_shade": ("levels^3", "7NFM"), "cluster_prominence": ("levels^4", "AE86"),
    "information_correlation_1": ("", "R8DG"), "information_correlation_2": ("", "JN9H"),
}  # fmt: skip
SHAPE: Mapping[str, tuple[str, str]] = {
    "volume": ("length^3", "RNU0"), "volume_by_voxels": ("length^3", "YEKZ"), "surface": ("length^2", "C0JK"), "surface_to_volume": ("1/length", "2PR5"),
    "area": ("length^2", ""), "area_by_samples": ("length^2", ""), "perimeter": ("length", ""), "perimeter_to_area": ("1/length", ""),
    "sphericity": ("", "QCFX"), "maximum_diameter": ("length", "L0JK"), "major_axis": ("length", "TDIC"), "minor_axis": ("length", "P9VJ"),
    "least_axis": ("length", "7J51"), "elongation": ("", "Q3CK"), "flatness": ("", "N17B"), "pieces": ("", ""),
}  # fmt: skip


def definitions() -> Table:
    """Every feature with its group, its unit (``value``: the image's own; ``length``: the grid's) and its code in the IBSI manual.

    >>> row = next(r for r in definitions() if r["feature"] == "sphericity")
    >>> row["group"], row["IBSI"]
    ('shape', 'QCFX')
    """
    groups = {"first_order": FIRST_ORDER, "texture": TEXTURE, "shape": SHAPE}
    rows = [(name, group, unit, code) for group, known in groups.items() for name, (unit, code) in known.items()]
    return Table(("feature", "group", "unit", "IBSI"), (*rows, ("ring", "rings", "value", "")))


def describe(
    images: Iterable[Measured],
    masks: Sequence[Tensor | None] | None = None,
    *,
    groups: Sequence[Group] = ("first_order", "texture", "shape"),
    bins: int = 32,
    width: float | None = None,
    over: Over = "average",
    center: Sequence[float] | None = None,
    edges: Sequence[float] = (),
) -> Table:
    """One row for each image: what can be measured of it inside its mask.

    Args:
        images: one at a time is enough; all of the same channels and as many dimensions.
        masks: (*space) bool for each; None: all but the scanner's padding (and no shape).
        groups: which features.
        bins, width: gray levels for entropy and texture: so many, or so wide (see ``discretized``).
        over: texture as the ``average`` over directions, or of the ``merged`` matrix.
        center: of the rings, a place of the world; None: the middle of the mask.
        edges: radii of the rings, rising.

    Returns:
        Columns ``image`` (the first digits of its fingerprint), then ``group.name``, with ``channel.`` before it where there are several; ``ring.2-4``
        is the mean from 2 to below 4 mm. ``definitions()`` tells units.

    **Misleads when**: images differ in spacing (texture and surfaces follow it), or values have no unit (means compare scanners).

    **Source**: IBSI reference manual (Zwanenburg et al. 2020, Radiology 295:328).

    Raises:
        BadParameter: an unknown group, an empty mask, masks that do not fit, or images that differ in channels or dimensions.

    >>> from pellucid import phantoms
    >>> eye = phantoms.fundus(3, dme=True)
    >>> table = describe([eye.image], [eye.masks["edema"]], groups=["first_order", "shape"])
    >>> round(table["shape.area_by_samples"][0], 2), table["red.first_order.mean"][0] > table["blue.first_order.mean"][0]
    (5.35, True)
    """
    strange = [g for g in groups if g not in get_args(Group)]
    if strange or not groups:
        raise BadParameter(f"groups among {', '.join(get_args(Group))}", repr(strange or groups), "Choose some of them.")
    rows: list[dict[str, Any]] = []
    for k, image in enumerate(images):
        if masks is not None and k >= len(masks):
            raise BadParameter("a mask for each image", f"{len(masks)}", "Give as many.")
        mask = None if masks is None else masks[k]
        rows.append({"image": image.fingerprint[:12], **_row(image, mask, groups, bins, width, over, center, edges)})
        if rows[-1].keys() != rows[0].keys():
            raise BadParameter("images of the same channels and dimensions", f"others in image {k}", "Describe them apart.")
    if not rows or (masks is not None and len(masks) != len(rows)):
        raise BadParameter("images, each with its mask", f"{len(rows)} images", "Give as many masks as images.")
    return Table(tuple(rows[0]), tuple(tuple(r.values()) for r in rows))


def _row(
    image: Measured, mask: Tensor | None, groups: Sequence[str], bins: int, width: float | None, over: Over,
    center: Sequence[float] | None, edges: Sequence[float],
) -> dict[str, float]:  # fmt: skip
    inside = inside_of(image, mask)
    found: dict[str, float] = {}
    for name, channel in zip(image.channels, image.values, strict=True):
        before = f"{name}." if len(image.channels) > 1 else ""
        found |= {before + n: v for n, v in _values(channel, inside, groups, bins, width, over).items()}
    if "shape" in groups and mask is not None:
        found |= {f"shape.{n}": v for n, v in shape(inside.numpy(), image.grid).items()}
    if "rings" in groups:
        place = center if center is not None else middle(inside, image.grid)
        told = rings(image.values, image.grid, place, edges)
        for c, name in enumerate(image.channels):
            before = f"{name}." if len(image.channels) > 1 else ""
            ends = [f"{a:g}-{b:g}" for a, b in pairwise(edges)]
            found |= {f"{before}ring.{e}": float(v) for e, v in zip(ends, told[c], strict=True)}
    return found


def inside_of(image: Measured, mask: Tensor | None) -> Tensor:
    """The samples (*space) that are looked at: of the mask, or all but the padding.

    Raises:
        BadParameter: another shape, or nothing marked.
    """
    space = tuple(image.values.shape[1:])
    if mask is None:
        inside = torch.ones(space, dtype=torch.bool) if image.background is None else ~image.background.bool()
    else:
        inside = mask.detach().cpu() > 0.5
    if tuple(inside.shape) != space:
        raise BadParameter(f"a mask of the image's shape {space}", f"{tuple(inside.shape)}", "Bring it to the image's grid: mask.on(grid).")
    if not bool(inside.any()):
        raise BadParameter("a mask with something marked", "an empty one", "Leave that image out.")
    return inside


def _values(channel: Tensor, inside: Tensor, groups: Sequence[str], bins: int, width: float | None, over: Over) -> dict[str, float]:
    chosen = channel.detach().cpu()[inside].double().numpy()
    found: dict[str, float] = {}
    if not {"first_order", "texture"} & set(groups):
        return found
    levels = discretized(chosen, bins, width)
    if "first_order" in groups:
        found |= {f"first_order.{n}": v for n, v in (first_order(chosen) | histogram(levels)).items()}
    if "texture" in groups:
        whole = np.zeros(tuple(inside.shape), np.int64)
        whole[inside.numpy()] = levels
        found |= {f"texture.{n}": v for n, v in texture(glcm(whole), over).items()}
    return found
