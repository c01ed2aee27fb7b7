"""Integrated gradients, and interior gradients: the same without the factor of the input."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.method import COMPLETE, CONTRIBUTIONS, GRADIENTS, NOTHING, SIGNED, SLOPES, Cite, Cost, method, short
from pellucid.ops.quadrature import Rule, nodes
from pellucid.params import Count, Flag, Positive
from pellucid.probe.probe import Drawn, Probe

PARTS = 8  # with tolerance=: a part of the way gets an eighth of the steps
ROUNDS = 15  # and finding the parts costs at most 15 times the steps, as does drawing the map along them


def _cost(steps: int, baseline: Starts, tolerance: float | None, **_: object) -> Cost:
    if tolerance is None:
        return Cost(forward=(steps + 1) * baseline.count + 1, backward=steps * baseline.count)
    gradients = (2 * ROUNDS + 1) * max(steps, 4) * baseline.count
    return Cost(forward=2 * gradients + baseline.count + 1, backward=gradients, at_most=True)


@method(
    cite=Cite("Sundararajan, Taly, Yan", 2017, "Axiomatic attribution for deep networks", "ICML", arxiv="1703.01365"),
    asks=GRADIENTS,
    gives=SIGNED | COMPLETE,
    values=lambda times_input, **_: CONTRIBUTIONS if times_input else SLOPES,
    cost=_cost,
    less=lambda times_input, **_: NOTHING if times_input else COMPLETE,
)
def integrated_gradients(
    probe: Probe,
    x: Float[Tensor, "c *space"],
    *,
    baseline: Baseline = Constant(0.0),
    steps: Count = 64,
    rule: Rule = "gauss",
    times_input: Flag = True,
    tolerance: Positive | None = None,
    keep: Flag = False,
) -> Drawn:
    """How much each sample contributes to s(x) - s(start), following the straight way from a baseline image to x.

    ``(x - start) * integral over t in [0, 1] of d s / d x at start + t * (x - start)``, shape (c, *space), in units of the score;
    with several starts (``black_and_white``, ``random(n)``) their mean.

    Args:
        baseline: the image from which nothing can be told, in the image's own values.
        steps: gradients per start. With ``gauss`` 64 meet smooth networks to 1e-3; see the gap in the trace and the evidence.
        rule: ``gauss`` (Gauss-Legendre), ``right`` (the paper's sum) or ``trapezoid``.
        times_input: False gives the mean gradient alone (interior gradients).
        tolerance: where |gap| > tolerance * |s(x) - s(start)|, halve the parts of the way that miss the score's change most, until it is
            met or 31 times the steps are spent; the map says if it is not.
        keep: hold the gradient at every alpha in the trace (mean over starts): memory then grows by one image per step.

    Misleads when: the baseline resembles part of the image (that part gets nothing), or the way leaves the data (gray ghosts).

    Source: equations 1 and 3; quadrature is ours. The trace holds alphas, weights, the gap; scores, logits (``classes``)
        and probabilities from the first start on.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> why = pl.explain(net, torch.rand(1, 2, 2), target=1, method="integrated_gradients", steps=4)
    >>> abs(why.trace["gap"]) < 1e-5
    True
    """
    assert isinstance(baseline, Starts)
    starts = probe.starts(baseline)
    change = probe.score() - sum(float(a.score) for a in probe.scores(starts)) / len(starts)
    t, weights = nodes(rule, steps)
    values, mean, trace = _along(probe, x, starts, t, weights, keep)
    limit = float("inf") if tolerance is None else tolerance * abs(change)
    if abs(float(values.sum()) - change) > limit:
        t, weights = _refined(probe, x, starts, rule, steps, limit)
        values, mean, trace = _along(probe, x, starts, t, weights, keep)
    gap = float(values.sum()) - change
    if tolerance is not None:
        probe.missed(gap, change, f"the tolerance of {tolerance:g} was not met: give more steps", tolerance)
    elif times_input:  # a mean gradient has no sum to keep
        probe.missed(gap, change, "tolerance=0.02 puts more steps where the score bends")
    return probe.map(values if times_input else mean, gap=gap, change=change, steps=len(t), weights=weights, **trace)


def _refined(probe: Probe, x: Tensor, starts: list[Tensor], rule: Rule, steps: int, limit: float) -> tuple[list[float], list[float]]:
    """Alphas and weights: parts of the way, halved where slopes and scores disagree most, until together they miss less than ``limit``.

    Only sums are kept meanwhile, so memory does not grow; the map is then drawn along what was found.
    """
    few = max(4, steps // PARTS)
    t, weights = nodes(rule, few)

    def at(n: int, alpha: float) -> Tensor:
        return starts[n] + alpha * (x - starts[n])

    def missed(parts: list[tuple[float, float]]) -> list[float]:
        edges = sorted({e for part in parts for e in part})
        asked = [(n, e) for n in range(len(starts)) for e in edges]
        scores = dict.fromkeys(edges, 0.0)
        for answer in probe.scores(asked, of=lambda a: at(*a)):
            scores[answer.asked[1]] += float(answer.score) / len(starts)
        gaps = [scores[low] - scores[high] for low, high in parts]
        inside = ((n, i, k) for i in range(len(parts)) for k in range(few) for n in range(len(starts)))
        for answer in probe.gradients(inside, of=lambda a: at(a[0], parts[a[1]][0] + t[a[2]] * (parts[a[1]][1] - parts[a[1]][0]))):
            n, i, k = answer.asked
            slope = float(((x - starts[n]).double() * answer.gradient.double()).sum()) / len(starts)
            gaps[i] += weights[k] * (parts[i][1] - parts[i][0]) * slope
        return gaps

    found = dict(zip([(0.0, 1.0)], missed([(0.0, 1.0)]), strict=True))
    spent, most = few, ROUNDS * steps
    while abs(sum(found.values())) > limit and spent + 2 * few <= most:
        worst = max(map(abs, found.values()))
        halved = sorted((p for p, g in found.items() if abs(g) >= worst / 2), key=lambda p: -abs(found[p]))[: (most - spent) // (2 * few)]
        new = [half for low, high in halved for half in ((low, (low + high) / 2), ((low + high) / 2, high))]
        found = {p: g for p, g in found.items() if p not in halved} | dict(zip(new, missed(new), strict=True))
        spent += few * len(new)
    ways = sorted(found)
    return [low + a * (high - low) for low, high in ways for a in t], [w * (high - low) for low, high in ways for w in weights]


def _along(
    probe: Probe, x: Tensor, starts: list[Tensor], t: list[float], weights: list[float], keep: bool
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Relevance and mean gradient over all starts, and what the way showed."""
    values, mean = torch.zeros_like(x, dtype=torch.float64), torch.zeros_like(x, dtype=torch.float64)
    of_start = torch.zeros_like(mean)  # the mean gradient of the start whose way is followed
    classes: list[Tensor] = []
    trace: dict[str, Any] = {"alphas": t, "scores": []}
    if keep:
        trace |= {"start": starts[0].cpu(), "gradients": torch.zeros(len(t), *x.shape, dtype=x.dtype)}
    path = ((n, k) for n in range(len(starts)) for k in range(len(t)))
    for step in probe.gradients(path, of=lambda at: starts[at[0]] + t[at[1]] * (x - starts[at[0]])):
        n, k = step.asked
        of_start.add_(step.gradient, alpha=weights[k] / len(starts))
        if k == len(t) - 1:
            mean += of_start
            values += (x - starts[n]).double() * of_start
            of_start.zero_()
        if n == 0:
            trace["scores"].append(float(step.score))
            classes.append(step.classes)
        if keep:
            trace["gradients"][k] += (step.gradient / len(starts)).to(trace["gradients"])
    trace |= {"classes": [c.tolist() for c in classes], "probabilities": probe.probabilities(classes)}
    return values, mean, trace


interior_gradients = short("interior_gradients", integrated_gradients(rule="right", times_input=False, keep=True))
