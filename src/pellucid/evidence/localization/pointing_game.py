"""Pointing game: does the map's peak lie inside the mask?"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from pellucid.evidence.localization.placing import Found, Part, judged, mask_of, peaks, say, widened
from pellucid.evidence.metric import MASK, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.grid import Grid
from pellucid.method import Cite
from pellucid.params import Distance, Reach


@metric(
    cite=Cite("Zhang, Bargal, Lin, Brandt, Shen, Sclaroff", 2018, "Top-down neural attention by excitation backprop", "IJCV", "1608.00507"),
    unit="hit",
    better="up",
    reference="the share of the image that counts as a hit",
    needs=MASK,
)
def pointing_game(panel: Panel, *, of: Part = "positive", tolerance: Reach = 0.0) -> dict[str, Measurement]:
    """Whether the map's peak lies inside the mask: 1 if it does, 0 if not; the mean over images is the hit rate.

    The peak is the highest sample on the image's grid; where several are equally high, the value is the share of them that hit, which is what
    a random one among them scores.

    Args:
        of: the part of the map that counts; see ``roc_auc``.
        tolerance: how far from the mask still counts, in the grid's unit, ``"5mm"`` or ``"15px"``; 0: the hit rate of Saporta et al. 2022. TorchRay
            allows 15 samples. In 3D it is a ball in the patient, whatever the spacing.

    **Misleads when**: one image is read alone: a random point hits with a chance of the mask's share (``reference``). It looks at one sample of the map,
    so a map may hit and mark much else. An empty mask has no value: it is neither a hit nor a miss.
    **Source**: Zhang et al. 2018, section 4.2; tolerance as in TorchRay.
    """
    reach = Distance.read(tolerance)
    number = partial(_found, target=widened(mask_of(panel), reach, panel.grid), tolerance=reach, grid=panel.grid)
    return judged(panel, of, number, unit="hit", better="up", against="a random point")


def _found(a: Tensor, mask: Tensor, target: Tensor, tolerance: Distance, grid: Grid) -> Found:
    top = peaks(a)
    value, chance = float(target[top].double().mean()), float(target.double().mean())
    where = tuple(int(i) for i in top.nonzero()[0])
    place = "inside the mask" if value == 1 else "outside the mask" if value == 0 else f"inside the mask in {value:.0%} of its equal peaks"
    near = "" if tolerance.value == 0 else f" (widened by {say(grid, tolerance.value) if tolerance.unit is None else tolerance!r})"
    text = f"The map's peak lies {place}{near}; a random point lies inside in {chance:.1%}."
    return Found(value, chance, text, top, {"tolerance": repr(tolerance), "peak": list(where), "equal peaks": int(top.sum())}, target)
