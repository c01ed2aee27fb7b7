"""Temperature: logits divided by what makes a network's probabilities come true; the network itself stays as it is."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.asking import Scan
from pellucid.errors import BadModel, BadParameter, Unsupported
from pellucid.evidence.predictions.answers import Cases, Floats, cases
from pellucid.model import Model, as_model
from pellucid.probe.sites import part
from pellucid.reading import Reading
from pellucid.run import Run

How = Literal["temperature", "each", "vector"]
ENDS = (1e-4, 1e4)  # of 1 / temperature


@dataclass(frozen=True)
class Temperature:
    """A scaling that was learned: logits -> ``scale`` x logits + ``bias`` per class; ``scale`` is 1 / temperature. Plain values, so that its repr is exact.

    Call it on logits (n, k, *rest); ``model(net)`` is the network with it. ``before`` and ``after`` are the mean negative log-likelihoods
    (nats) on the ``cases`` that it was learned from: held-out images, never those of the training or of the final test.
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    how: How
    exclusive: bool
    classes: tuple[str, ...]
    cases: int
    before: float
    after: float

    @property
    def value(self) -> float:
        """The temperature.

        Raises:
            BadParameter: it differs from class to class.
        """
        if len(set(self.scale)) > 1 or any(self.bias):
            raise BadParameter("one temperature for all classes", f"how={self.how!r}", "Read scale and bias.")
        return 1 / self.scale[0]

    def __call__(self, logits: Tensor) -> Tensor:
        """Scaled logits, shaped as they were: (n, k, *rest), or (n,) for a single one."""
        wide = logits[:, None] if logits.ndim == 1 else logits
        if wide.shape[1] != len(self.scale):
            raise BadModel(f"logits of {len(self.scale)} classes", f"shape {tuple(logits.shape)}", "Learn the scaling for this network.")
        shape = (1, -1, *[1] * (wide.ndim - 2))
        scale, bias = (torch.tensor(v, dtype=wide.dtype, device=wide.device).view(shape) for v in (self.scale, self.bias))
        return (wide * scale + bias).view_as(logits)

    def model(self, net: Model | nn.Module) -> Model:
        """The network with scaled logits: a copy of its outermost shell, which shares every weight, with one more step at its end.

        Names of sites, preparation and normalization stay; the output is then logits, whatever it was.
        """
        known = as_model(net)
        if isinstance(known.module, torch.jit.ScriptModule):
            raise Unsupported("a temperature at the end of a network in Python", "TorchScript", "Scale its logits: temperature(logits).")
        shell = copy.copy(known.module)
        shell._forward_hooks = OrderedDict(known.module._forward_hooks)  # the copy's own: nothing is written into the network
        shell.register_forward_hook(_Rescale(self, known.select, known.ends_in))
        source = {**known.source, "notes": (*known.source.get("notes", ()), f"logits scaled after training: {self!r}")}
        return replace(known, module=shell, select=None, ends_in=None, name=f"{known.name}, scaled", source=source)


@dataclass(frozen=True)
class _Rescale:
    """The step at the end: the selected output as logits, scaled."""

    by: Temperature
    select: Any
    ends_in: Literal["softmax", "sigmoid"] | None

    def __call__(self, _module: nn.Module, _args: Any, output: Any) -> Tensor:
        path = () if self.select is None else self.select if isinstance(self.select, tuple) else (self.select,)
        chosen = part(output, path)
        return self.by(Reading(ends_in=self.ends_in).logits(chosen).view_as(chosen))


def temperature(
    given: Model | nn.Module | Tensor | Floats,
    labels: Any,
    images: Iterable[Scan] | None = None,
    *,
    how: How = "temperature",
    classes: Sequence[str] = (),
    multi_label: bool = False,
    run: Run | None = None,
) -> Temperature:
    """The scaling of the logits under which the truth of held-out cases is most likely. Which class is predicted stays as it was (``how="vector"`` may change it).

    ``temperature``: one number T, argmin over T of the mean of -log softmax(z / T)_y (of several labels: -log sigmoid). In 1 / T that is
    convex, so that T is the root of its slope, found to rounding in float64. ``each``: one T per label (several labels only).
    ``vector``: scale and bias per class (of one label: Platt scaling), by Newton steps on a convex loss.

    Args:
        given: a network with ``images``, or its logits (n, k) or (n,); voxels: (n, k, *space).
        labels: class indices or names (n,), or zeros and ones (n, k), NaN where not known.
        classes, multi_label: what the columns of given logits are.

    Raises:
        BadParameter: cases without a mistake, for which no temperature is best (the loss falls as it goes to 0), or a network that is no
            better than chance (as it goes to infinity).

    **Misleads when**: cases are few or come from the training; the prevalence changes (a bias does not move along).
    **Source**: Guo et al. 2017, section 4.2; Platt 1999. LBFGS with a fixed number of steps (as in their code) is not needed.

    >>> z = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    >>> round(temperature(z, [0, 1, 0, 1]).value, 3)  # right in three of four: sigmoid(2 / T) = 3 / 4
    1.82
    """
    found = cases(given, labels, images, probabilities=False, classes=classes, multi_label=multi_label, run=run)
    k = len(found.classes)
    if how not in ("temperature", "each", "vector") or (how == "each" and found.exclusive):
        fix = "Classes that exclude each other share one: how='temperature' or 'vector'."
        raise BadParameter("how is 'temperature', 'each' (several labels) or 'vector'", repr(how), fix)
    if how == "temperature":
        scale, bias = np.full(k, _root(found)), np.zeros(k)
    elif how == "each":
        scale, bias = np.array([_root(_column(found, c)) for c in range(k)]), np.zeros(k)
    elif found.exclusive:
        scale, bias = _vector(found)
    else:
        pairs = [_vector(_column(found, c)) for c in range(k)]
        scale, bias = (np.array([p[i][0] for p in pairs]) for i in (0, 1))
    before, after = (_loss(found, *s) for s in ((np.ones(k), np.zeros(k)), (scale, bias)))
    plain = [tuple(float(u) for u in v) for v in (scale, bias)]
    return Temperature(plain[0], plain[1], how, found.exclusive, found.classes, len(found.logits), before, after)


def _column(found: Cases, c: int) -> Cases:
    known = ~np.isnan(found.truth[:, c])
    return Cases(found.logits[known, c : c + 1], found.truth[known, c : c + 1], False, (found.classes[c],), found.owner[known])


def _slope(found: Cases, b: float) -> float:
    """Derivative of the mean loss by b = 1 / T: mean of sum_k (p_k - y_k) z_k."""
    p = Cases(b * found.logits, found.truth, found.exclusive, found.classes, found.owner).probabilities
    return float(np.nansum((p - found.truth) * found.logits) / len(p))


def _root(found: Cases) -> float:
    from scipy.optimize import brentq

    _check(found)
    who = ", ".join(found.classes)
    if _slope(found, ENDS[0]) >= 0:
        raise BadParameter(
            f"a network that tells {who} better than chance on these cases", "logits that say nothing of the truth", "Look at its AUC."
        )
    if _slope(found, ENDS[1]) <= 0:
        got = "cases without a single mistake, for which no temperature is the best"
        raise BadParameter(f"held-out cases of {who}, some of which the network gets wrong", got, "Give more, and harder, cases.")
    return math.exp(brentq(lambda u: _slope(found, math.exp(u)), *map(math.log, ENDS), xtol=1e-14, rtol=1e-14))


def _check(found: Cases) -> None:
    if not np.isfinite(found.logits).all():
        raise BadParameter("finite logits", "infinite ones (a probability of 0 or 1)", "Give the logits before softmax or sigmoid.")
    if not len(found.logits):
        raise BadParameter("at least one known label", "none", "Leave the class out.")


def _loss(found: Cases, scale: Floats, bias: Floats) -> float:
    """Mean over cases of the negative log-likelihood (several labels: summed over the known ones)."""
    z, y = torch.from_numpy(found.logits * scale + bias), torch.from_numpy(found.truth)
    if found.exclusive:
        return float(-(z.log_softmax(1) * y).sum(1).mean())
    return float(torch.where(y.isnan(), 0.0, nn.functional.softplus(torch.where(y > 0, -z, z))).sum(1).mean())


def _vector(found: Cases) -> tuple[Floats, Floats]:
    """Scale and bias per class by damped Newton steps; the last class's bias is 0, as only differences count."""
    _check(found)
    z, y = torch.from_numpy(found.logits), torch.from_numpy(found.truth)
    k = z.shape[1]
    free = 2 * k - (1 if found.exclusive else 0)

    def loss(v: Tensor) -> Tensor:
        bias = torch.cat([v[k:], v.new_zeros(2 * k - free)])
        s = z * v[:k] + bias
        return -(s.log_softmax(1) * y).sum(1).mean() if found.exclusive else nn.functional.softplus(torch.where(y > 0, -s, s)).sum(1).mean()

    v, damp = torch.cat([torch.ones(k, dtype=torch.float64), torch.zeros(free - k, dtype=torch.float64)]), 1e-6
    now = float(loss(v))
    for _ in range(200):
        slope, bend = torch.func.grad(loss)(v), torch.func.hessian(loss)(v)
        if float(slope.abs().max()) < 1e-10:
            break
        step = torch.linalg.solve(bend + damp * torch.eye(free, dtype=torch.float64), slope)
        then = float(loss(v - step))
        if then <= now:
            v, now, damp = v - step, then, max(damp / 10, 1e-12)
        else:
            damp *= 10
    if float(v.abs().max()) > 1 / ENDS[0] or float(torch.func.grad(loss)(v).abs().max()) > 1e-6:
        got = "cases that one scaling tells apart without a mistake: the loss has no lowest point"
        raise BadParameter(f"held-out cases of {', '.join(found.classes)} with mistakes", got, "Give more cases, or how='temperature'.")
    return v[:k].numpy(), torch.cat([v[k:], v.new_zeros(2 * k - free)]).numpy()
