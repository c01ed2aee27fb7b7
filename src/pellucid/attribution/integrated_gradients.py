"""Integrated gradients, and interior gradients: the same without the factor of the input."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.baseline import Baseline, Constant, Starts
from pellucid.method import COMPLETE, GRADIENTS, NOTHING, SIGNED, Cite, Cost, method, short
from pellucid.ops.quadrature import Rule, nodes
from pellucid.params import Count, Flag, Positive
from pellucid.probe.probe import Drawn, Probe

DOUBLINGS = 4  # with tolerance=: steps, 2, 4, 8 and 16 times steps at most


def _cost(steps: int, baseline: Starts, tolerance: float | None, **_: object) -> Cost:
    passes = steps * baseline.count * (1 if tolerance is None else 2 ** (DOUBLINGS + 1) - 1)
    return Cost(forward=passes + baseline.count + 1, backward=passes, at_most=tolerance is not None)


@method(
    cite=Cite("Sundararajan, Taly, Yan", 2017, "Axiomatic attribution for deep networks", "ICML", arxiv="1703.01365"),
    asks=GRADIENTS,
    gives=SIGNED | COMPLETE,
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
        tolerance: double the steps until |gap| <= tolerance * |s(x) - s(start)|, 16 times at most.
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
    for doubling in range(DOUBLINGS + 1 if tolerance is not None else 1):
        t, weights = nodes(rule, steps * 2**doubling)
        values, mean, trace = _along(probe, x, starts, t, weights, keep)
        gap = float(values.sum()) - change
        if tolerance is None or abs(gap) <= tolerance * abs(change):
            break
    return probe.map(values if times_input else mean, gap=gap, change=change, steps=len(t), weights=weights, **trace)


def _along(
    probe: Probe, x: Tensor, starts: list[Tensor], t: list[float], weights: list[float], keep: bool
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Relevance and mean gradient over all starts, and what the way showed."""
    values, mean = torch.zeros_like(x, dtype=torch.float64), torch.zeros_like(x, dtype=torch.float64)
    trace: dict[str, Any] = {"alphas": t, "scores": [], "classes": [], "probabilities": []}
    if keep:
        trace |= {"start": starts[0].cpu(), "gradients": torch.zeros(len(t), *x.shape, dtype=x.dtype)}
    path = ((n, k) for n in range(len(starts)) for k in range(len(t)))
    for step in probe.gradients(path, of=lambda at: starts[at[0]] + t[at[1]] * (x - starts[at[0]])):
        n, k = step.asked
        share = step.gradient.double() / len(starts)
        mean += weights[k] * share
        values += weights[k] * (x - starts[n]).double() * share
        if n == 0:
            trace["scores"].append(float(step.score))
            trace["classes"].append(step.classes.tolist())
            trace["probabilities"].append(probe.probabilities(step))
        if keep:
            trace["gradients"][k] += share.to(trace["gradients"])
    return values, mean, trace


interior_gradients = short("interior_gradients", integrated_gradients(rule="right", times_input=False, keep=True))
