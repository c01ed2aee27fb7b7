"""Reproducibility and replicates: one question asked of several networks, or about several scans of one patient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from pellucid.asking import Scan, as_image, explain_all
from pellucid.errors import BadParameter, Unsupported
from pellucid.evidence.robustness.agreement import Likeness, Sums, judged, mean, word
from pellucid.evidence.robustness.repeatability import AGAINST, Repeats, told
from pellucid.explanation import Map, Measurement
from pellucid.grid import Grid
from pellucid.method import Ask, Method, read_method
from pellucid.model import as_model
from pellucid.run import Run
from pellucid.target import as_target

Question = Ask | Method[Any] | str


def reproducibility(
    nets: Mapping[str, Any] | Sequence[Any],
    image: Scan,
    asks: Question | Sequence[Question],
    *,
    target: Any = None,
    others: Sequence[Scan] = (),
    run: Run | None = None,
) -> dict[str, Measurement]:
    """How alike the maps are that several networks for one task give: other seeds, other architectures.

    The mean over pairs of networks of the rank correlation of their maps, all read on the grid of the image as given; the interval is
    a jackknife over networks. ``pairs`` in the detail holds every pair with rank correlation and SSIM, ``scores`` each network's score, and
    ``icc`` ICC(2,1) with networks as raters. A measurement for each question, under its method's name.

    Args:
        nets: two or more Models or networks, of one task; a mapping names them.
        image: the image that all explain.
        asks: methods, names, texts or Asks without a site (sites of two architectures are not the same).
        target: as in ``explain``; class names or indices that all networks share. The predicted class may differ: then it is refused.
        others: images of other patients: the floor is then the rank correlation of one network's maps of different images.
        run: seed, chunk, memory.

    Raises:
        BadParameter: fewer than two networks, or networks that predict different classes where the predicted one was asked for.
        Unsupported: a question about a site.

    **Misleads when**: networks that find different true signs disagree rightly; a map that shows the image's edges agrees best (hold it
        against the floor); the intervals of few networks are wide.
    **Source**: Arun et al. 2021 (SSIM across architectures, with the floor of pairs of images); Eitel and Ritter 2019 (retraining).
    """
    named = dict(nets) if isinstance(nets, Mapping) else {f"network {i + 1}": n for i, n in enumerate(nets)}
    if len(named) < 2:
        raise BadParameter("two networks or more", f"{len(named)}", "Give another seed's or architecture's.")
    questions = _questions(asks, target)
    if any(a.site is not None for a in questions.values()):
        raise Unsupported("reproducibility compares maps of the image", "a question about a site", "Leave site= out.")
    scans, run = [as_image(image), *map(as_image, others)], run or Run()
    maps = {n: explain_all(as_model(net), scans, list(questions.values()), run) for n, net in named.items()}
    found = {}
    for k, name in enumerate(questions):
        mine = {n: m[k] for n, m in maps.items()}
        targets = dict.fromkeys(m.provenance.target for m in mine.values())
        if len(targets) > 1:
            raise BadParameter("one target for all networks", " and ".join(targets), "Give target=.")
        grid = scans[0].grid
        floor = [_alike(m[i * len(questions) + k], m[j * len(questions) + k]) for m in maps.values() for i, j in _pairs(len(scans))]
        found[name] = _over(mine, grid, [f for f in floor if f is not None])
    return found


def replicates(
    net: Any, scans: Sequence[Scan], asks: Question | Sequence[Question], *, target: Any = None, run: Run | None = None
) -> dict[str, Measurement]:
    """How alike the maps of several scans of one patient are, the first against each other one, where all lie in one frame of reference.

    As ``repeatability``, with real replicates: rank correlation, SSIM and ICC of maps read on the first scan's grid. The target is settled
    on the first scan, so that all explain one class.

    Raises:
        BadParameter: fewer than two scans.
        BadGrid: scans that cannot be laid over each other; register them first.
    """
    images, run, model = [as_image(s) for s in scans], run or Run(), as_model(net)
    if len(images) < 2:
        raise BadParameter("two scans or more", f"{len(images)}", "Give a replicate, or grade with 'repeatability'.")
    questions = _questions(asks, target)
    first = explain_all(model, images[:1], list(questions.values()), run)
    settled = [m.ask for m in first]
    rest = explain_all(model, images[1:], settled, run)
    found = {}
    for k, name in enumerate(questions):
        own, repeats = _on(first[k], images[0].grid), Repeats()
        repeats.sums.add(own)
        for i in range(len(images) - 1):
            there = _on(rest[i * len(settled) + k], images[0].grid)
            repeats.alike.append(Likeness.of(own, there))
            repeats.sums.add(there)
        found[name] = told("repeatability", "another scan", repeats, 0.0, AGAINST, {"scans": len(images)})
    return found


def _over(maps: Mapping[str, Map], grid: Grid, floor: list[float]) -> Measurement:
    """All pairs of networks, their mean, and its interval over networks."""
    laid, sums = {n: _on(m, grid) for n, m in maps.items()}, Sums()
    for values in laid.values():
        sums.add(values)
    pairs = {(a, b): Likeness.of(laid[a], laid[b]) for a, b in itertools.combinations(laid, 2)}
    value = mean([p.rank for p in pairs.values()])
    reach = _jackknife(pairs, list(laid))
    level = mean(floor) if floor else 0.0
    against = f"maps of different images by one network, {len(floor)} pairs" if floor else AGAINST
    least = min(pairs, key=lambda p: pairs[p].rank)
    text = (
        f"The {len(laid)} networks' maps agree {word(value)}: rank correlation {value:.2f}, least {pairs[least].rank:.2f} "
        f"between {least[0]} and {least[1]}; {'different images' if floor else 'unrelated maps'} have {level:.2f}."
    )
    detail = {
        "pairs": [{"a": a, "b": b, **vars(p)} for (a, b), p in pairs.items()], "icc": sums.icc, "ssim": mean([p.ssim for p in pairs.values()]),
        "scores": {n: m.score for n, m in maps.items()}, "floor": floor,
    }  # fmt: skip
    found = judged("reproducibility", value, value - reach, value + reach, text, level, against, detail)
    if floor and found.status == "pass" and value - level < (0.0 if math.isnan(reach) else reach):
        text = (
            f"The networks' maps agree (rank correlation {value:.2f}), but so do maps of different images ({level:.2f}): that is no sign."
        )
        return replace(found, status="inconclusive", text=text)
    return found


def _jackknife(pairs: Mapping[tuple[str, str], Likeness], names: Sequence[str]) -> float:
    """Half the 95 % interval of a mean over pairs, leaving out one network at a time (Efron and Stein 1981); NaN for two networks."""
    n = len(names)
    if n < 3:
        return math.nan
    left = [mean([p.rank for at, p in pairs.items() if name not in at]) for name in names]
    middle = sum(left) / n
    return 1.96 * math.sqrt((n - 1) / n * sum((v - middle) ** 2 for v in left))


def _on(why: Map, grid: Grid) -> Tensor:
    return why.on(grid).relevance.double()


def _alike(a: Map, b: Map) -> float | None:
    """Rank correlation of maps of two images, sample by sample; None where their shapes differ."""
    x, y = a.on(a.scan.grid).relevance, b.on(b.scan.grid).relevance
    if x.shape != y.shape:
        return None
    rank = Likeness.of(x, y).rank
    return None if math.isnan(rank) else rank


def _pairs(n: int) -> Iterator[tuple[int, int]]:
    return itertools.combinations(range(n), 2)


def _questions(given: Question | Sequence[Question], target: Any) -> dict[str, Ask]:
    several = [given] if isinstance(given, (Ask, Method, str)) else list(given)
    if not several:
        raise BadParameter("at least one method", "none", "Name one.")
    wanted = as_target(target)
    asks = [a if isinstance(a, Ask) else Ask(read_method(a), wanted) for a in several]
    short = [a.method.name for a in asks]
    return {s if short.count(s) == 1 else repr(a.method): a for s, a in zip(short, asks, strict=True)}
