"""Color bias of the baseline: does integrated gradients mark what differs from the baseline's color, where Blur IG has no color to differ from?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from pellucid.asking import Scan, explain_all
from pellucid.baseline import Constant, Starts
from pellucid.baseline import read as read_baseline
from pellucid.errors import BadParameter
from pellucid.evidence.cues.asked import Asked, read_patients
from pellucid.explanation import Map
from pellucid.image import Image
from pellucid.intervals import Interval, average
from pellucid.method import Ask, Method, read_method
from pellucid.model import as_model
from pellucid.ops.similarity import spearman
from pellucid.params import Count, check
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table

MEAN = "mean"  # each channel's own mean in the image
BASELINES: Mapping[str, Any] = {"black": "black", "white": "white", MEAN: MEAN, "random": "random(1)"}


@dataclass(frozen=True)
class Follows:
    """How far maps follow |x - baseline| of one baseline (rank correlation of magnitudes): the map from this baseline, the maps from the others
    (what the image itself explains), their difference ``bias``, and Blur IG."""

    name: str
    own: Interval
    others: Interval
    bias: Interval
    blur: Interval


@dataclass(frozen=True, eq=False)
class ColorBias:
    """A row for each baseline, and ``change``: mean rank correlation of the map from one baseline with that from another. ``maps`` are those of the
    first image, by baseline, and ``Blur IG``."""

    rows: tuple[Follows, ...]
    change: Mapping[tuple[str, str], Interval]
    bias: Interval
    maps: Mapping[str, Map]
    target: str

    @property
    def text(self) -> str:
        """The finding in plain words."""
        alike = sum(c.value for c in self.change.values()) / len(self.change)
        worst = max(self.rows, key=lambda r: r.bias.value)
        sure = "follows" if self.bias.low > 0 else "is not shown to follow"
        return (
            f"The map of integrated gradients {sure} the color of its baseline: its correlation with the distance to its own baseline is {self.bias} "
            f"above that of maps from other baselines, most for {worst.name}; maps from two baselines have a rank correlation of {alike:.2f}. "
            f"Blur IG has no such baseline."
        )

    def table(self) -> Table:
        """A row for each baseline."""
        columns = ("baseline", "own map", "maps of other baselines", "bias", "low", "high", "Blur IG")
        return Table(
            columns, tuple((r.name, r.own.value, r.others.value, r.bias.value, r.bias.low, r.bias.high, r.blur.value) for r in self.rows)
        )


def baseline_color_bias(
    net: Any,
    images: Sequence[Scan] | Scan,
    *,
    target: Any,
    baselines: Mapping[str, Any] | None = None,
    steps: Count = 32,
    method: Method[Any] | str = "integrated_gradients",
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> ColorBias:
    """How far the map of integrated gradients follows the color of its baseline, against Blur IG's, which needs none.

    For baselines b: ``own(b) = spearman(|a_b|, |x - b|)``, ``others(b) = mean over c != b of spearman(|a_c|, |x - b|)``, ``bias = own - others``;
    magnitudes are summed over channels, (*space). A map that marks what is bright for its own sake has own = others; only what the choice of b
    adds is bias. Intervals over patients.

    Args:
        net: the Model or network.
        images: one or several images.
        target: the same for all images.
        baselines: by name (``"mean"``: each channel's own mean in the image); None: black, white, mean, random.
        steps: gradients per start; as many for Blur IG.
        method: any method that takes ``baseline`` and ``steps``.
        patients: whose image it is.
        run: seed, chunk, memory, cancel.

    **Misleads when**: two baselines are alike (black and a dark mean): their maps share their bias, which then counts for both.
    **Source**: Xu et al. 2020 (CVPR), section 1: the choice of a baseline's color lets paths hide what has that color; the measure is ours.

    Raises:
        BadParameter: fewer than two baselines, or a method without one.
    """
    scans = [images] if isinstance(images, (str, Image, Tensor)) or not isinstance(images, Sequence) else list(images)
    who, n = read_patients(patients, len(scans)), check("baseline_color_bias", "steps", Count, steps)
    wanted, asked_by = dict(BASELINES if baselines is None else baselines), read_method(method)
    if len(wanted) < 2 or "baseline" not in asked_by.params:
        raise BadParameter("two baselines and a method that takes one", f"{len(wanted)} and {asked_by.name}", "See BASELINES.")
    given = {"steps": n} if "steps" in asked_by.params else {}
    blur = read_method("blur_ig")(steps=n)
    rows: list[dict[Any, float]] = []
    first: dict[str, Map] = {}
    with untouched(as_model(net).module):
        asked = Asked(net, target, run, scans[0])
        for scan in scans:
            image = asked.ready(scan)[0]
            starts = {name: started(b, image) for name, b in wanted.items()}
            asks = [Ask(asked_by(baseline=s, **given), asked.target) for s in starts.values()] + [Ask(blur, asked.target)]
            maps = explain_all(replace(asked.model, prepare=None), [image], asks, asked.run)
            named = dict(zip([*starts, "Blur IG"], maps, strict=True))
            first = first or named
            rows.append(_row({k: magnitude(m) for k, m in named.items()}, {k: _distance(asked, image, s) for k, s in starts.items()}))

    def over(key: Any) -> Interval:
        return average([r[key] for r in rows], who)

    told = tuple(Follows(b, over(("own", b)), over(("others", b)), over(("bias", b)), over(("blur", b))) for b in wanted)
    change = {pair: over(pair) for pair in itertools.combinations(wanted, 2)}
    return ColorBias(told, change, over("bias"), first, repr(asked.target))


def started(given: Any, image: Image) -> Starts:
    """A baseline; ``"mean"`` becomes each channel's mean in this image."""
    if isinstance(given, str) and given == MEAN:
        return Constant(tuple(float(v) for v in image.values.double().flatten(1).mean(1)))
    return read_baseline(given)


def magnitude(why: Map) -> Tensor:
    """(*space): the sum over channels of a map's magnitudes, on the image's grid, in float64."""
    return why.on(why.image.grid).values.double().abs().sum(0)


def _distance(asked: Asked, image: Image, start: Starts) -> Tensor:
    """(*space): the mean distance to the starts, summed over channels; drawn from the seed of the maps, so that random starts are the same."""
    import torch

    probe = asked.probe(image)
    chance = torch.Generator().manual_seed(asked.run.seed)
    found = start.starts(replace(probe.setting(), random=chance))
    total = sum((probe.x - f).abs().sum(0).double() for f in found) / len(found)
    assert isinstance(total, Tensor)
    return total.cpu()


def _row(maps: dict[str, Tensor], far: dict[str, Tensor]) -> dict[Any, float]:
    row: dict[Any, float] = {}
    for b, d in far.items():
        others = [spearman(maps[c], d) for c in far if c != b]
        row["own", b], row["blur", b] = spearman(maps[b], d), spearman(maps["Blur IG"], d)
        row["others", b] = sum(others) / len(others)
        row["bias", b] = row["own", b] - row["others", b]
    biases = [row["bias", b] for b in far if not math.isnan(row["bias", b])]
    row["bias"] = sum(biases) / len(biases) if biases else math.nan
    return row | {(b, c): spearman(maps[b], maps[c]) for b, c in itertools.combinations(far, 2)}
