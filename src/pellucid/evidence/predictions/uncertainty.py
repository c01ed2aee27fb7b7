"""Uncertainty: how much the answer, and its explanation, change among networks or images that could as well have been the ones."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pellucid.asking import Scan, as_image, explain_all
from pellucid.errors import BadModel, BadParameter
from pellucid.evidence.predictions.answers import Answer, answer, asking
from pellucid.evidence.predictions.draws import Draw, dropout_draws, member_draws, moved_draws
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.method import Ask, Method, read_method
from pellucid.model import as_model
from pellucid.ops.resample import pull
from pellucid.params import Distance
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table
from pellucid.target import as_target

How = Literal["mc_dropout", "tta", "ensemble"]
NO_FLIPS = "no flips: left and right mean something in a patient; allow axes by flips="


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What the draws say together. Tensors are float64, (k,) for a classifier and (k, *space) on ``grid`` for a dense output.

    ``mean`` and ``spread``: mean and standard deviation over draws of each class's probability (of a regression: of its values).
    ``entropy`` H[E p] = ``expected_entropy`` E H[p] (noise in the image) + ``mutual_information`` (disagreement of the draws), in nats; shape (1, ...)
    for classes that exclude each other, (k, ...) for labels by themselves, NaN for a regression. ``each`` (draws, k): each draw's
    probabilities; of a dense output the extent that each class takes up, in the grid's unit to the power of its dimensions. ``answer``: the
    probabilities without any draw (of an ensemble: ``mean``). ``map``: mean and spread of the explanation, where a method was named.
    """

    how: How
    draws: int
    classes: tuple[str, ...]
    grid: Grid
    answer: Tensor
    mean: Tensor
    spread: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor
    each: Tensor
    notes: tuple[str, ...]
    map: MapSpread | None = None

    @property
    def dense(self) -> bool:
        return self.mean.ndim > 1

    def image(self, name: str) -> Image:
        """One of the tensors of a dense output as an Image on the prepared image's grid.

        Raises:
            BadParameter: a classifier, or no such tensor.
        """
        values = getattr(self, name, None)
        if not self.dense or not isinstance(values, Tensor) or values.ndim < 2 or values is self.each:
            raise BadParameter(
                "a map of a dense output", f"{name!r} of {'a classifier' if not self.dense else 'this answer'}", "Try 'entropy'."
            )
        return Image(values, self.grid, "nats" if "entropy" in name or "information" in name else "probability")

    def table(self) -> Table:
        """A row per class: mean probability (dense: extent), its spread over draws, and the spread as a share of the mean."""
        what = "extent" if self.dense else "mean"
        mean = self.each.mean(0)
        spread = self.each.std(0, correction=1) if len(self.each) > 1 else torch.full_like(mean, math.nan)
        rows = zip(self.classes, mean.tolist(), spread.tolist(), (spread / mean.abs().clamp_min(1e-300)).tolist(), strict=True)
        return Table(("class", what, "spread", "spread / mean"), tuple(rows))


@dataclass(frozen=True, eq=False)
class MapSpread:
    """Mean and standard deviation over draws of the maps of one settled question, on the prepared image's grid, (c, *space) each.

    ``steady`` (*space): share of draws whose relevance (sum over channels) has the sign that the mean has.
    """

    ask: Ask
    mean: Image
    spread: Image
    steady: Image
    draws: int


def uncertainty(
    net: Any,
    image: Scan,
    how: How = "mc_dropout",
    *,
    draws: int = 30,
    noise: float = 0.02,
    shift: float | str | Distance = "2px",
    flips: tuple[int, ...] = (),
    method: Method[Any] | str | None = None,
    target: Any = None,
    site: str | None = None,
    run: Run | None = None,
) -> Uncertainty:
    """How sure the network is, told by draws of what could as well have been. One pass per draw and one for the image itself.

    Args:
        net: a network; for ``"ensemble"`` a list or mapping of two or more with one task.
        how: ``"mc_dropout"``: each draw is the network with one mask per call of dropout, all else in evaluation mode; ``"tta"``: the image with
            noise, moved and mirrored; ``"ensemble"``: each draw is one network.
        draws: how many (an ensemble has its members).
        noise, shift, flips: of ``"tta"``: standard deviation as a share of the image's range; the furthest move along each axis (whole samples);
            axes that may be mirrored. None are by default: a mirrored patient has the heart on the right.
        method, target, site: as in ``explain``: the spread of that map over the same draws, of one target settled on the image itself.

    Raises:
        Unsupported: MC dropout of a network in which no dropout is called.

    **Misleads when**: all members are wrong together; dropout was put in for training alone, since its rate scales the answer; images
        unlike any of the training, which may get a small entropy. Dropout inside fused attention and stochastic depth stay off.
    **Source**: Gal and Ghahramani 2016; Lakshminarayanan et al. 2017; Wang et al. 2019 (test-time augmentation); Depeweg et al. 2018
        (the entropies); Eaton-Rosen et al. 2018 (extent of a structure over draws).
    """
    if how not in ("mc_dropout", "tta", "ensemble") or draws < 2:
        raise BadParameter("how is 'mc_dropout', 'tta' or 'ensemble', with two draws or more", f"{how!r}, {draws}", "Try draws=30.")
    several = isinstance(net, (list, tuple, dict))
    if several != (how == "ensemble"):
        raise BadParameter(
            "a list of networks for an ensemble, and one network otherwise", f"how={how!r}", "Use how='ensemble' for a list."
        )
    run, scan = run or Run(), as_image(image)
    first = as_model((list(net.values()) if isinstance(net, dict) else list(net))[0] if several else net)
    with contextlib.ExitStack() as held:
        held.enter_context(untouched(first.module))  # draws share its weights: no other thread may use them meanwhile
        prepared = first.ready(scan)[0]
        plain = replace(first, prepare=None)
        if how == "ensemble":
            family = member_draws(net, scan)
        elif how == "mc_dropout":
            family = dropout_draws(plain, prepared, draws, run.seed)
        else:
            length = Distance.read(shift)
            family = moved_draws(plain, prepared, draws, run.seed, noise=noise, shift=length, flips=flips)
        own = None
        if how != "ensemble":
            with asking(plain, run) as engine:
                own = answer(engine, prepared, plain.ready(prepared)[1])
        ask = None if method is None else Ask(read_method(method), as_target(target), site)
        if ask is not None:
            ask = explain_all(plain, [prepared], [ask], run)[0].ask
        sums, maps = _Sums(prepared.grid, how), _Maps(prepared.grid, ask)
        for draw in family:
            sums.add(draw, _once(draw, run))
            maps.add(draw, run)
    notes = (NO_FLIPS,) if how == "tta" and not flips else ()
    return sums.told(how, own, first.classes, notes, maps.told())


def _once(draw: Draw, run: Run) -> Answer:
    with asking(draw.model, run) as engine:
        return answer(engine, draw.image, draw.model.ready(draw.image)[1])


def binary_entropy(p: Tensor) -> Tensor:
    """-p log p - (1 - p) log(1 - p)."""
    return -torch.special.xlogy(p, p) - torch.special.xlog1py(1 - p, -p)


def entropy(p: Tensor, exclusive: bool) -> Tensor:
    """Of probabilities (k, ...): (1, ...) where classes exclude each other, else one for each label (k, ...), in nats."""
    return -torch.special.xlogy(p, p).sum(0, keepdim=True) if exclusive else binary_entropy(p)


class _Sums:
    """Running sums over draws: memory does not grow with them."""

    def __init__(self, grid: Grid, how: How) -> None:
        self.grid, self.how = grid, how
        self.each: list[Tensor] = []
        self.shape: tuple[int, ...] | None = None
        self.exclusive = self.regression = False

    def add(self, draw: Draw, found: Answer) -> None:
        p, known = self._laid(draw, found), draw.known
        if self.shape is None:
            self.shape, self.exclusive, self.regression = tuple(p.shape), found.exclusive, found.reading.kind == "regression"
            self.count = torch.zeros(p.shape[1:], dtype=torch.float64)
            self.mean, self.far = torch.zeros_like(p), torch.zeros_like(p)
            self.inner = torch.zeros_like(entropy(p, self.exclusive))
        if tuple(p.shape) != self.shape or found.exclusive != self.exclusive:
            raise BadModel(f"members of one task, outputs {self.shape}", f"{tuple(p.shape)}", "Ensemble networks with the same classes.")
        w = torch.ones_like(self.count) if known is None or p.ndim == 1 else known.double()
        self.count += w
        step = w * (p - self.mean)  # Welford 1962
        self.mean += step / self.count.clamp_min(1)
        self.far += step * (p - self.mean)
        if not self.regression:
            self.inner += w * entropy(p, self.exclusive)
        self.each.append(p if p.ndim == 1 else self._extent(p))

    def _extent(self, p: Tensor) -> Tensor:
        wins = torch.nn.functional.one_hot(p.argmax(0), len(p)).movedim(-1, 0) if self.exclusive else p > 0.5
        return wins.flatten(1).double().sum(1) * self.grid.voxel

    def _laid(self, draw: Draw, found: Answer) -> Tensor:
        """Probabilities on the first image's samples."""
        return self._onto(draw, found.probabilities)

    def _onto(self, draw: Draw, p: Tensor) -> Tensor:
        if p.ndim == 1:
            return p
        grid = draw.image.grid
        if tuple(p.shape[1:]) != grid.shape:
            p = pull(p, grid.shape, grid.map_to(grid.resize(p.shape[1:])))
        p = draw.back(p)
        return p if grid == self.grid else pull(p, self.grid.shape, self.grid.map_to(grid))

    def told(self, how: How, own: Answer | None, classes: tuple[str, ...], notes: tuple[str, ...], maps: MapSpread | None) -> Uncertainty:
        assert self.shape is not None
        n = self.count
        spread = torch.where(n > 1, self.far / (n - 1).clamp_min(1), torch.nan).sqrt()
        nothing = torch.full_like(self.inner, math.nan)
        total = nothing if self.regression else entropy(self.mean, self.exclusive)
        inner = nothing if self.regression else self.inner / n.clamp_min(1)
        k = self.shape[0]
        names = classes if len(classes) == k else classes[1:] if k == 1 and len(classes) == 2 else tuple(str(i) for i in range(k))
        plain = self.mean if own is None else self._own(own)
        each = torch.stack(self.each)
        return Uncertainty(
            how, len(each), names, self.grid, plain, self.mean, spread, total, inner, (total - inner).clamp_min(0), each, notes, maps
        )

    def _own(self, own: Answer) -> Tensor:
        p = own.probabilities
        return (
            p
            if p.ndim == 1 or tuple(p.shape[1:]) == self.grid.shape
            else pull(p, self.grid.shape, self.grid.map_to(self.grid.resize(p.shape[1:])))
        )


class _Maps:
    """Running sums of maps of one question over draws."""

    def __init__(self, grid: Grid, ask: Ask | None) -> None:
        self.grid, self.ask, self.count = grid, ask, 0
        self.n: Tensor | None = None

    def add(self, draw: Draw, run: Run) -> None:
        if self.ask is None:
            return
        site = None if self.ask.site is None else draw.prefix + self.ask.site
        (why,) = explain_all(draw.model, [draw.image], [replace(self.ask, site=site)], run)
        values = draw.back(why.on(draw.image.grid).values.double())
        if draw.image.grid != self.grid:
            values = pull(values, self.grid.shape, self.grid.map_to(draw.image.grid), fill=0.0)
        w = torch.ones(self.grid.shape, dtype=torch.float64) if draw.known is None else draw.known.double()
        if self.n is None:
            self.n, self.mean, self.far = torch.zeros_like(w), torch.zeros_like(values), torch.zeros_like(values)
            self.signs = torch.zeros_like(w)
        self.n += w
        self.count += 1
        step = w * (values - self.mean)
        self.mean += step / self.n.clamp_min(1)
        self.far += step * (values - self.mean)
        self.signs += w * values.sum(0).sign()

    def told(self) -> MapSpread | None:
        if self.ask is None or self.n is None:
            return None
        spread = torch.where(self.n > 1, self.far / (self.n - 1).clamp_min(1), 0.0).sqrt()
        same = (1 + self.mean.sum(0).sign() * self.signs / self.n.clamp_min(1)) / 2
        mean, far = (Image(v, self.grid, "relevance") for v in (self.mean, spread))
        return MapSpread(self.ask, mean, far, Image(same[None], self.grid, "share of draws"), self.count)
