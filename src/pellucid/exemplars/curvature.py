"""Influence through all weights of a small network: products with the Hessian of the training loss, and its damped inverse by CG or LiSSA."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter, Unsupported
from pellucid.exemplars.gradients import Loss, Weighed, batches, class_of, paired, prepared, weigh
from pellucid.exemplars.influence import CITE, Influence
from pellucid.explanation import Evidence
from pellucid.findings import signed
from pellucid.image import digest
from pellucid.model import Model, as_model
from pellucid.run import Meter, Run

Solver = Literal["cg", "lissa"]
AT_ONCE = 16  # images in a batch of a product
NUDGE, WRONG = 1e-5, 1e-2  # of the check of the products by differences of gradients


@dataclass(frozen=True, eq=False)
class Curved:
    """The mean training loss of a network as a function of its weights."""

    weighed: Weighed
    training: tuple[tuple[Tensor, Tensor], ...]
    count: int
    meter: Meter

    def product(self, v: Tensor, parts: Sequence[int] | None = None) -> Tensor:
        """Hessian of the mean loss, over all batches or some, times v (p,)."""
        chosen = self.training if parts is None else [self.training[i] for i in parts]
        total, n = torch.zeros_like(v), 0
        for x, y in chosen:
            total += self._part(x, y, v)
            n += len(x)
            self.meter.tick(forward=len(x), backward=2 * len(x))
        return total / n

    def _part(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        slope = self.weighed.gradient(x, y, again=True)
        if not slope.requires_grad:  # a loss linear in the weights
            return torch.zeros_like(v)
        try:
            found = torch.autograd.grad(slope @ v, self.weighed.parameters, allow_unused=True)
        except (RuntimeError, NotImplementedError) as error:
            got = (str(error).splitlines() or [""])[0][:140]
            raise Unsupported(
                "layers that can be differentiated twice", got, "Use influence(), which needs the last layer alone."
            ) from error
        return torch.cat([torch.zeros(p.numel(), dtype=v.dtype) if g is None else g.flatten()
                          for g, p in zip(found, self.weighed.parameters, strict=True)])  # fmt: skip

    def check(self, seed: int) -> None:
        """Compare a product with a difference of gradients: an operation whose second derivative is silently lost shows here.

        Raises:
            Unsupported: they differ for one of three directions and all smaller steps.
        """
        x, y = self.training[0][0][:1], self.training[0][1][:1]
        chance = torch.Generator().manual_seed(seed)
        p = self.weighed.gradient(x, y).numel()
        v = torch.randn(p, generator=chance, dtype=torch.float64)
        v /= v.norm()
        known = self._part(x, y, v)
        gaps = []
        for step in (NUDGE, NUDGE / 10, NUDGE / 100):  # a kink between the two points goes when they come nearer
            ends = []
            for sign in (1, -1):
                _move(self.weighed.parameters, sign * step * v)
                ends.append(self.weighed.gradient(x, y))
                _move(self.weighed.parameters, -sign * step * v)
            slow = (ends[0] - ends[1]) / (2 * step)
            gaps.append(float((slow - known).norm()) / max(float(slow.norm()), float(known.norm()), 1e-6))
        if min(gaps) > WRONG:
            got = f"products with the Hessian that are {100 * min(gaps):.0f} % off"
            raise Unsupported("layers whose second derivative autograd knows", got, "Use influence(), which needs the last layer alone.")


def _move(parameters: Sequence[Tensor], by: Tensor) -> None:
    with torch.no_grad():
        at = 0
        for p in parameters:
            p += by[at : at + p.numel()].view_as(p)
            at += p.numel()


def conjugate_gradients(product: Callable[[Tensor], Tensor], b: Tensor, *, steps: int, tolerance: float) -> Tensor:
    """The solution of A x = b for a positive definite A, until the residual is ``tolerance`` of b.

    Raises:
        Unsupported: negative curvature, or no solution within ``steps``.
    """
    x, r = torch.zeros_like(b), b.clone()
    d, size, goal = r.clone(), float(r @ r), tolerance**2 * float(b @ b)
    for _ in range(steps):
        if size <= goal:
            return x
        ad = product(d)
        curve = float(d @ ad)
        if curve <= 0:
            raise Unsupported("a Hessian that damping makes positive", f"curvature {curve / float(d @ d):.2e}", "Give a larger damping.")
        x = x + size / curve * d
        r = r - size / curve * ad
        new = float(r @ r)
        d, size = r + new / size * d, new
    if size <= goal:
        return x
    raise Unsupported(
        f"a solution within {steps} steps", f"a residual of {math.sqrt(size / float(b @ b)):.1e}", "Give more steps or damping."
    )


def lissa(curved: Curved, b: Tensor, *, damping: float, scale: float, steps: int, repeats: int, seed: int) -> Tensor:
    """The damped inverse Hessian times b by a series over random batches: h <- b + h - (H h + damping h) / scale; the mean of h / scale.

    Raises:
        Unsupported: it grows without end.
    """
    chance = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(b)
    for _ in range(repeats):
        h = b.clone()
        for _ in range(steps):
            part = int(torch.randint(len(curved.training), (1,), generator=chance))
            h = b + h - (curved.product(h, [part]) + damping * h) / scale
            if not bool(torch.isfinite(h).all()) or float(h.norm()) > 1e12 * max(float(b.norm()), 1e-300):
                raise Unsupported("a series that settles", "one that grows", "Give a scale above the largest curvature, or solver='cg'.")
        total += h / scale
    return total / repeats


@torch.inference_mode(mode=False)
@torch.enable_grad()
def influence_by_cg(
    net: Model | nn.Module,
    training: Sequence[Scan],
    labels: Sequence[object],
    image: Scan,
    target: object,
    *,
    damping: float = 1e-2,
    solver: Solver = "cg",
    steps: int = 200,
    tolerance: float = 1e-6,
    scale: float = 10.0,
    repeats: int = 1,
    layers: str | Sequence[str] | None = None,
    loss: Loss | None = None,
    run: Run | None = None,
) -> Influence:
    """Training images that decided a prediction, through all weights of a small network: g . (H + damping)^-1 g_i / n.

    H is the Hessian of the mean loss over ``training``, taken by differentiating twice in float64; a first product is checked against a difference
    of gradients, so that a layer without a second derivative is refused, not left out. For a network that is not at a minimum the value is that of
    the nearest quadratic, and it can rank poorly for deep networks (Basu et al. 2021): check it by retraining.

    Args:
        net: a Model, or a bare network; its weights are copied, never changed.
        training: the images that it learned from.
        labels: of each, by name or number of the class.
        image: the image whose prediction is asked about.
        target: the class asked about.
        damping: added to the Hessian's diagonal; as a ridge penalty of the mean loss.
        solver: ``cg``, exact up to ``tolerance``; ``lissa``, a random series, for many images.
        steps: at most so many products (of all images for cg, of a batch for lissa).
        tolerance: of the residual, cg.
        scale: lissa: above the largest curvature.
        repeats: lissa: series averaged.
        layers: as in ``tracin``.
        loss: as in ``tracin``.
        run: seed, progress, cancel.

    Raises:
        BadParameter: a label or target that is no class; a damping below 0.
        Unsupported: weights without a gradient, an operation that cannot be differentiated twice, curvature that damping does not lift.

    **Source**: Koh and Liang 2017, section 3; Agarwal, Bullins, Hazan 2017 (LiSSA).
    """
    began, model, run = time.perf_counter(), as_model(net), run or Run()
    paired(model, training, labels)
    _sane(damping, solver, steps, scale, repeats)
    weighed, at = weigh(model, layers, loss), class_of(model, target)
    held = tuple(batches(weighed, training, labels, AT_ONCE))
    curved = Curved(weighed, held, len(training), Meter(run))
    curved.check(run.seed)
    ((x, y),) = batches(weighed, [image], [at])
    slope = weighed.gradient(x, y)
    if solver == "cg":
        answer = conjugate_gradients(lambda v: curved.product(v) + damping * v, slope, steps=steps, tolerance=tolerance)
    else:
        answer = lissa(curved, slope, damping=damping, scale=scale, steps=steps, repeats=repeats, seed=run.seed)
    values = np.array([float(answer @ weighed.gradient(xs[i : i + 1], ys[i : i + 1])) for xs, ys in held for i in range(len(xs))])
    scan, ready = prepared(model, image)
    images = tuple(model.ready(as_image(s))[0].fingerprint for s in training)
    text = (
        f"influence_by_cg(damping={damping!r}, solver={solver!r}, layers={layers!r}, training={len(training)}, of={digest(*images)[:16]!r})"
    )
    seconds = time.perf_counter() - began
    told = signed(model, run, text, target=str(target), image=ready.fingerprint, scan=scan.fingerprint, seconds=seconds, cite=CITE)
    names: Any = tuple(map(str, labels))
    return Influence(
        ready.grid, told, Evidence(), values / len(training), names, str(target), float("nan"), ready, scan, model.identity, images
    )


def _sane(damping: float, solver: str, steps: int, scale: float, repeats: int) -> None:
    if solver not in get_args(Solver):
        raise BadParameter("solver is cg or lissa", repr(solver), "Choose one of them.")
    if not (math.isfinite(damping) and damping >= 0 and math.isfinite(scale) and scale > 0):
        raise BadParameter("damping of 0 or more, and scale above 0", f"damping={damping!r}, scale={scale!r}", "Write damping=1e-2.")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in (steps, repeats)):
        raise BadParameter("steps and repeats of at least 1", f"steps={steps!r}, repeats={repeats!r}", "Write steps=200.")
