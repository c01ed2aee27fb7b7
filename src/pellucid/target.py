"""Target: from a network's output to one number per sample, with an algebra that keeps its name."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pellucid.errors import BadTarget
from pellucid.grid import Grid
from pellucid.image import Image, digest
from pellucid.reading import Class, Reading
from pellucid.written import written

Scale = Literal["logit", "probability"]


@dataclass(frozen=True, eq=False)
class Seen:
    """What one batched pass showed: the output (n, ...), its reading, and the activations at the sites that the target asked for."""

    output: Tensor
    reading: Reading
    sites: Mapping[str, Tensor] = field(default_factory=dict)


class Target(ABC):
    """From an output to one number per sample. ``a - b``, ``0.5 * a`` and ``-a`` are targets too, and say so in their repr."""

    sites: tuple[str, ...] = ()

    @abstractmethod
    def score(self, seen: Seen) -> Tensor:
        """One number per sample, shape (n,)."""

    def settle(self, seen: Seen, grid: Grid) -> Target:
        """The target with names as they are written and predicted regions frozen, from the output for the image itself."""
        return self

    @property
    def open(self) -> bool:
        """Whether ``settle`` must see the output before the target means something."""
        return False

    def __add__(self, other: Target) -> Target:
        return Sum(self, other, 1.0)

    def __sub__(self, other: Target) -> Target:
        return Sum(self, other, -1.0)

    def __mul__(self, factor: float) -> Target:
        return Scaled(self, float(factor))

    __rmul__ = __mul__

    def __neg__(self) -> Target:
        return Scaled(self, -1.0)


@dataclass(frozen=True)
class Sum(Target):
    """``a + b`` or ``a - b``."""

    a: Target
    b: Target
    sign: float

    def score(self, seen: Seen) -> Tensor:
        return self.a.score(seen) + self.sign * self.b.score(seen)

    def settle(self, seen: Seen, grid: Grid) -> Target:
        return Sum(self.a.settle(seen, grid), self.b.settle(seen, grid), self.sign)

    @property
    def open(self) -> bool:
        return self.a.open or self.b.open

    @property
    def sites(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.a.sites + self.b.sites

    def __repr__(self) -> str:
        right = f"({self.b!r})" if isinstance(self.b, Sum) else repr(self.b)
        return f"{self.a!r} {'+' if self.sign > 0 else '-'} {right}"


@dataclass(frozen=True)
class Scaled(Target):
    """A target times a number."""

    a: Target
    factor: float

    def score(self, seen: Seen) -> Tensor:
        return self.factor * self.a.score(seen)

    def settle(self, seen: Seen, grid: Grid) -> Target:
        return Scaled(self.a.settle(seen, grid), self.factor)

    @property
    def open(self) -> bool:
        return self.a.open

    @property
    def sites(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.a.sites

    def __repr__(self) -> str:
        inner = f"({self.a!r})" if isinstance(self.a, Sum) else repr(self.a)
        return f"-{inner}" if self.factor == -1 else f"{self.factor!r} * {inner}"


@dataclass(frozen=True)
class _OfClass(Target):
    """Score of one class, (n,): of a classifier, or of a regression's value k."""

    k: Class

    def settle(self, seen: Seen, grid: Grid) -> Target:
        k = seen.reading.index(self.k, seen.reading.logits(seen.output).shape[1])
        return type(self)(seen.reading.classes[k] if k < len(seen.reading.classes) else k)

    def _pick(self, values: Tensor, seen: Seen) -> Tensor:
        if values.ndim != 2:
            raise BadTarget(
                f"{self!r} gives one number per sample, shape ({len(values)},)",
                f"an output of shape {tuple(seen.output.shape)}",
                f"For a dense output ask region({self.k!r}).",
            )
        return values[:, seen.reading.index(self.k, values.shape[1])]

    def __repr__(self) -> str:
        return f"{type(self).__name__.lower()}({self.k!r})"


class Logit(_OfClass):
    """Score before softmax or sigmoid."""

    def score(self, seen: Seen) -> Tensor:
        return self._pick(seen.reading.logits(seen.output), seen)


class Probability(_OfClass):
    """Probability after softmax or sigmoid, as the reading says."""

    def score(self, seen: Seen) -> Tensor:
        return self._pick(seen.reading.probabilities(seen.output), seen)


@dataclass(frozen=True, eq=False)
class Region(Target):
    """Mean or sum of a class's scores over a region of a dense output."""

    k: Class
    mask: Tensor | None = None  # (*space) bool on the output's grid
    of: Scale = "logit"
    how: Literal["mean", "sum"] = "mean"
    given: Image | Tensor | None = None

    def __post_init__(self) -> None:
        if self.of not in get_args(Scale):
            raise BadTarget("a region's scores are of='logit' or 'probability'", repr(self.of), "Choose one of them.")
        if self.how not in ("mean", "sum"):
            raise BadTarget("a region is read by how='mean' or 'sum'", repr(self.how), "Choose one of them.")

    @property
    def open(self) -> bool:
        return self.mask is None and self.given is None

    def settle(self, seen: Seen, grid: Grid) -> Target:
        if self.mask is not None:
            return self
        z = seen.reading.logits(seen.output)
        space = tuple(z.shape[2:])
        if len(space) != grid.ndim:
            raise BadTarget("a region needs a dense output (n, k, *space)", f"shape {tuple(seen.output.shape)}", f"Ask logit({self.k!r}).")
        k = seen.reading.index(self.k, z.shape[1])
        mask = self._given_mask(grid, space) if self.given is not None else _predicted(z, k)
        if not bool(mask.any()):
            why = "an empty mask" if self.given is not None else f"a network that predicts {self.k!r} nowhere"
            raise BadTarget("a region has at least one sample", why, "Give mask=, or another class.")
        name = seen.reading.classes[k] if k < len(seen.reading.classes) else k
        return replace(self, k=name, mask=mask.to(z.device))

    def _given_mask(self, grid: Grid, space: tuple[int, ...]) -> Tensor:
        wide = grid if space == grid.shape else grid.resize(space)
        if isinstance(self.given, Image):
            return self.given.on(wide, nearest=True, fill=0.0).values.sum(0) > 0.5
        mask = torch.as_tensor(self.given)
        if tuple(mask.shape) == space:
            return mask > 0.5
        if tuple(mask.shape) != grid.shape:
            raise BadTarget("a mask has the shape of the prepared image or of the output", f"{tuple(mask.shape)}", f"Give {grid.shape}.")
        return Image((mask > 0.5).float()[None], grid).on(wide, nearest=True).values[0] > 0.5

    def score(self, seen: Seen) -> Tensor:
        assert self.mask is not None
        values = seen.reading.logits(seen.output) if self.of == "logit" else seen.reading.probabilities(seen.output)
        picked = values[:, seen.reading.index(self.k, values.shape[1])][:, self.mask]
        return picked.mean(1) if self.how == "mean" else picked.sum(1)

    def __repr__(self) -> str:
        mask = "" if self.given is None else f", mask={written(self.given)}"
        if self.mask is not None:
            whose = "" if self.given is None else "given_"  # else the network's own prediction
            mask = f", mask={whose}{digest(self.mask.cpu())[:12]}:{int(self.mask.sum())}"
        return f"region({self.k!r}{mask}, of={self.of!r}, how={self.how!r})"


def _predicted(z: Tensor, k: int) -> Tensor:
    """Where class k wins (several channels) or is more likely than not (one channel, or the mirrored pair)."""
    return (z[0].argmax(0) == k) if z.shape[1] > 1 else (z[0, 0] > 0)


@dataclass(frozen=True)
class AtSite(Target):
    """One value, or the mean of one channel, of an activation inside the network."""

    site: str
    at: tuple[int, ...]

    @property
    def sites(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.site,)

    def score(self, seen: Seen) -> Tensor:
        z = seen.sites[self.site]
        inside = len(self.at) <= z.ndim - 1 and all(0 <= i < n for i, n in zip(self.at, z.shape[1:], strict=False))
        if not inside or (len(self.at) not in (1, z.ndim - 1)):
            shape = tuple(z.shape[1:])
            raise BadTarget(f"an index into {self.site!r}, whose activation is {shape}", str(self.at), "Give a full index, or one channel.")
        picked = z[:, self.at[0]] if len(self.at) == 1 else z.flatten(1)[:, _flat(self.at, tuple(z.shape[1:]))]
        return picked.flatten(1).mean(1) if picked.ndim > 1 else picked

    def __repr__(self) -> str:
        return f"channel({self.site!r}, {self.at[0]})" if len(self.at) == 1 else f"neuron({self.site!r}, {self.at})"


def _flat(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """A full index as the position in a flattened tensor."""
    at = 0
    for i, n in zip(index, shape, strict=True):
        at = at * n + i
    return at


@dataclass(frozen=True)
class Custom(Target):
    """A callable of the output."""

    fn: Callable[[Tensor], Any]

    def score(self, seen: Seen) -> Tensor:
        found = self.fn(seen.output)
        n = len(seen.output)
        if not isinstance(found, Tensor) or tuple(found.shape) != (n,):
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise BadTarget(f"a target gives one number per sample, shape ({n},)", got, "Did you mean logit(k)?")
        return found

    def __repr__(self) -> str:
        return written(self.fn)


@dataclass(frozen=True)
class Predicted(Target):
    """The class that the network predicts for the image itself; settled before anything is explained."""

    @property
    def open(self) -> bool:
        return True

    def score(self, seen: Seen) -> Tensor:
        raise BadTarget("the predicted class is known once the network has run", "an unsettled target", "Use explain().")

    def settle(self, seen: Seen, grid: Grid) -> Target:
        z, reading = seen.reading.logits(seen.output), seen.reading
        if z.ndim == 2 + grid.ndim:
            votes = torch.bincount(z[0].argmax(0).flatten(), minlength=z.shape[1]) if z.shape[1] > 1 else torch.ones(1)
            k = int(votes[1:].argmax()) + 1 if z.shape[1] > 1 else 0  # class 0 is the background by custom
            return Region(k).settle(seen, grid)
        return Logit(0 if reading.kind == "regression" else int(z[0].argmax())).settle(seen, grid)

    def __repr__(self) -> str:
        return "predicted"


def logit(k: Class) -> Target:
    """Score of class ``k`` (index or name) before softmax or sigmoid; of a regression, its value ``k``.

    >>> logit("DME") - logit("no DME")
    logit('DME') - logit('no DME')
    """
    return Logit(k)


def probability(k: Class) -> Target:
    """Probability of class ``k``."""
    return Probability(k)


def region(k: Class, mask: Image | Tensor | None = None, *, of: Scale = "logit", how: Literal["mean", "sum"] = "mean") -> Target:
    """Class ``k`` of a segmentation over ``mask`` (an Image on any grid, or a tensor; None: where the network predicts it, frozen)."""
    return Region(k, None, of, how, mask if mask is None or isinstance(mask, Image) else torch.as_tensor(mask).detach().clone())


def neuron(site: str, index: tuple[int, ...]) -> Target:
    """One value of the activation at ``site``: index (channel, *position), without the batch axis."""
    return AtSite(site, tuple(index))


def channel(site: str, k: int) -> Target:
    """Mean of channel ``k`` of the activation at ``site``."""
    return AtSite(site, (k,))


def as_target(value: Any) -> Target:
    """A target from what a user may give: None (the predicted class), class index or name, Target, or callable."""
    if value is None:
        return Predicted()
    if isinstance(value, Target):
        return value
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return Logit(value)
    if callable(value):
        return Custom(value)
    raise BadTarget("a target is a class index or name, a Target, a callable or None", type(value).__name__, "Try target=logit(1).")


def read_target(text: str | None, mask: Image | None = None) -> Target:
    """A target from text: a class name, an index, or an expression such as ``logit('a') - 0.5 * logit('b')``, ``region('tumor')``.

    Text is read as data, nothing of it is executed. ``mask`` is given to every ``region(...)`` without one.
    """
    if text is None:
        return as_target(None)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return Logit(text)  # a class name with blanks
    calls = any(isinstance(part, ast.Call) for part in ast.walk(tree))
    if not isinstance(tree, (ast.Call, ast.BinOp, ast.UnaryOp, ast.Constant)) or (isinstance(tree, ast.BinOp) and not calls):
        return Logit(text)  # a name, with whatever joins its parts: COVID-19, no/DME
    if isinstance(tree, ast.Constant) and isinstance(tree.value, int) and not isinstance(tree.value, bool):
        return Logit(text.strip())  # a class of that name, or else of that index
    found = _read(tree, text, mask)
    return found if isinstance(found, Target) else as_target(found)


def _read(tree: ast.expr, text: str, mask: Image | None) -> Any:
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id in _MAKERS:
        try:
            args = [ast.literal_eval(a) for a in tree.args]
            named = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
            if tree.func.id == "region" and mask is not None:
                named["mask"] = mask
            return _MAKERS[tree.func.id](*args, **named)
        except (ValueError, TypeError) as error:
            if isinstance(error, BadTarget):
                raise
            raise BadTarget(f"{tree.func.id}(...) of a class or a place", repr(text), "Quote class names: logit('DME').") from error
    if isinstance(tree, ast.BinOp):
        a, b = _read(tree.left, text, mask), _read(tree.right, text, mask)
        if isinstance(tree.op, ast.Mult) and isinstance(a, Target) != isinstance(b, Target):
            return a * b
        if isinstance(tree.op, (ast.Add, ast.Sub)) and isinstance(a, Target) and isinstance(b, Target):
            return a + b if isinstance(tree.op, ast.Add) else a - b
    if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
        return -_read(tree.operand, text, mask)
    if isinstance(tree, ast.Constant) and isinstance(tree.value, (int, float, str)):
        return tree.value
    raise BadTarget("a target in text is a class, or " + ", ".join(_MAKERS) + " with + - *", repr(text), "Quote class names in calls.")


_MAKERS: dict[str, Callable[..., Target]] = {
    "logit": logit,
    "probability": probability,
    "region": region,
    "neuron": neuron,
    "channel": channel,
}
