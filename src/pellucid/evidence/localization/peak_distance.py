"""Distance from the map's peak to the mask, or to the nearest point of a reader."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, distance_to, judged, mask_of, peaks, say
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.grid import Grid
from pellucid.method import Cite


@metric(
    cite=Cite("Zhang, Bargal, Lin, Brandt, Shen, Sclaroff", 2018, "Top-down neural attention by excitation backprop", "IJCV", "1608.00507"),
    unit="the grid's unit",
    better="down",
    reference="the mean distance of all samples",
    needs=MASK,
)
def peak_distance(panel: Panel, *, of: Part = "positive") -> dict[str, Measurement]:
    """How far the map's peak lies from the mask: 0 inside it; in mm where the image knows its spacing.

    Euclidean distance between sample centers, mean over peaks that are equally high. With a mask of readers' points (``points(...)`` of radius
    0) it is the distance to the nearest point.

    Args:
        of: the part of the map that counts; see ``roc_auc``.

    **Misleads when**: several findings are there: the nearest one counts. The map's other relevance does not enter.
    **Source**: the pointing game of Zhang et al. 2018 as a distance instead of a hit; the axes of the image are taken as orthogonal.
    """
    far = distance_to(mask_of(panel), panel.grid.spacing)
    unit = "mm" if panel.grid.unit == "mm" else "samples"
    return judged(panel, of, partial(_found, far=far, grid=panel.grid), unit=unit, better="down", against="a random point")


def _found(a: Tensor, mask: Tensor, far: Tensor, grid: Grid) -> Found:
    top = peaks(a)
    value, chance = float(far[top].mean()), float(far.mean())
    place = "inside the mask" if value == 0 else f"{say(grid, value)} from the mask"
    text = f"The map's peak lies {place}; a random point lies {say(grid, chance)} from it."
    return Found(value, chance, text, top, {"unit": grid.unit, "equal peaks": int(top.sum())}, -far)
