"""Metric: a function over a panel of maps, with its declared facts and bound parameters. The registry."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import math
import pkgutil
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Concatenate, Generic, ParamSpec

import torch

from pellucid.errors import BadParameter
from pellucid.evidence.panel import Panel
from pellucid.explanation import Direction, Measurement
from pellucid.method import Cite
from pellucid.params import bind, called, check

P = ParamSpec("P")
Measure = Callable[Concatenate[Panel, P], Mapping[str, Measurement]]


class Needs(enum.Flag):
    """What a metric needs besides the maps themselves."""

    NOTHING = 0
    NETWORK = enum.auto()  # asks the network for scores
    MAPS_ANEW = enum.auto()  # has maps made anew: of other images, or by other weights
    MASK = enum.auto()  # a mask of where the cause lies


NOTHING, NETWORK, MAPS_ANEW, MASK = Needs.NOTHING, Needs.NETWORK, Needs.MAPS_ANEW, Needs.MASK


@dataclass(frozen=True)
class Price:
    """What a metric spends on one image: forward passes that all maps share, those for each map, and maps made anew for each map."""

    shared: int = 0
    each: int = 0
    anew: int = 0
    at_most: bool = False


FREE = Price()


@dataclass(frozen=True)
class MetricFacts:
    """What a metric declares of itself; docs, tables, tests and CLI read it here and nowhere else.

    ``better`` says where better lies (``up``, ``down``, ``zero``), ``reference`` in words what level is held against it. ``price`` gets the
    bound parameters, and as ``ndim`` the number of spatial axes. ``ranks`` is False where the number may pass or fail a map but may not
    rank methods (randomization: Binder et al. 2023).
    """

    cite: Cite
    unit: str
    better: Direction
    reference: str
    needs: Needs
    price: Callable[..., Price]
    space: frozenset[int] = frozenset({2, 3})
    random: bool = False
    ranks: bool = True


@dataclass(frozen=True, eq=False)
class Metric(Generic[P]):
    """A function ``(panel, *, parameters) -> {map: Measurement}`` with its facts and its parameters bound; the repr is exact."""

    fn: Callable[..., Mapping[str, Measurement]]
    facts: MetricFacts
    params: Mapping[str, Any]
    hints: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return self.fn.__name__

    @property
    def group(self) -> str:
        """The folder it lives in: faithfulness, localization, ..."""
        return self.fn.__module__.rpartition(".")[0].rpartition(".")[2]

    def __call__(self, **given: Any) -> Metric[P]:
        """The metric with parameters bound."""
        return replace(self, params=bind(self.name, self.params, self.hints, given))

    def __repr__(self) -> str:
        return called(self.name, self.params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and repr(self) == repr(other) and self.fn.__module__ == other.fn.__module__

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _found, (self.fn.__module__, self.name, dict(self.params))

    def price(self, ndim: int = 2) -> Price:
        """Passes for one image."""
        return self.facts.price(ndim=ndim, **self.params)

    def measure(self, panel: Panel) -> dict[str, Measurement]:
        """A measurement of every map of the panel, each under the metric's own name, with what was spent in its detail; void for NaN."""
        if panel.grid.ndim not in self.facts.space:
            raise BadParameter(f"{self.name} works in {sorted(self.facts.space)} dimensions", f"{panel.grid.ndim}", "Leave it out.")
        before = dict(panel.spent)
        broken = [n for n in panel.names if not bool(torch.isfinite(panel.relevance(n)).all())]
        whole = replace(panel, entries={n: e for n, e in panel.entries.items() if n not in broken}) if broken else panel
        found = dict(self.fn(whole, **self.params)) if whole.entries else {}
        void = Measurement(self.name, math.nan, self.facts.unit, self.facts.better, "void", "The map holds values that are no numbers.")
        found |= dict.fromkeys(broken, void)
        spent = {k: n - before.get(k, 0) for k, n in panel.spent.items() if n > before.get(k, 0)}
        told = {"metric": repr(self), "score": repr(panel.target), "spent": spent}
        return {n: replace(m, name=self.name, detail={**told, **m.detail}) for n, m in found.items()}


METRICS: dict[str, Metric[Any]] = {}


def metric(
    *,
    cite: Cite,
    unit: str,
    better: Direction,
    reference: str,
    needs: Needs = NOTHING,
    price: Callable[..., Price] = lambda **_: FREE,
    space: set[int] = {2, 3},  # noqa: B006  (read only)
    random: bool = False,
    ranks: bool = True,
) -> Callable[[Callable[Concatenate[Panel, P], Mapping[str, Measurement]]], Metric[P]]:
    """Make a metric of a function ``(panel, *, parameters with defaults)`` and register it under its name.

    Raises:
        BadParameter: a positional parameter, a default that its own kind refuses, or a name that is taken.
    """
    facts = MetricFacts(cite, unit, better, reference, needs, price, frozenset(space), random, ranks)

    def wrap(fn: Callable[Concatenate[Panel, P], Mapping[str, Measurement]]) -> Metric[P]:
        name, hints = fn.__name__, typing.get_type_hints(fn, include_extras=True)
        parameters = list(inspect.signature(fn).parameters.values())[1:]
        for p in parameters:
            if p.kind is not p.KEYWORD_ONLY or p.default is p.empty:
                raise BadParameter(f"parameters of {name} come after *, with a default", p.name, "Move it.")
        defaults = {p.name: check(name, p.name, hints[p.name], p.default) for p in parameters}
        made: Metric[P] = Metric(fn, facts, MappingProxyType(defaults), MappingProxyType({p.name: hints[p.name] for p in parameters}))
        taken = METRICS.get(name)
        if taken is not None and taken.fn.__module__ != fn.__module__:
            raise BadParameter(f"a name of its own for {fn.__module__}.{name}", f"that of {taken.fn.__module__}", "Choose another name.")
        METRICS[name] = made
        return made

    return wrap


def _found(module: str, name: str, params: dict[str, Any]) -> Metric[Any]:
    importlib.import_module(module)
    return METRICS[name](**params)


def metrics() -> Iterator[Metric[Any]]:
    """All registered metrics, by group and name; those of other packages (entry point ``pellucid.metrics``) included."""
    from importlib.metadata import entry_points

    for _, name, folder in pkgutil.iter_modules(importlib.import_module("pellucid.evidence").__path__):
        if folder:
            importlib.import_module(f"pellucid.evidence.{name}")
    for entry in entry_points(group="pellucid.metrics"):
        entry.load()
    yield from sorted(METRICS.values(), key=lambda m: (m.group, m.name))


def read_metric(value: Any) -> Metric[Any]:
    """A metric from a Metric, its name, or its text such as ``sensitivity_n(n=64)``. Text is read as data; nothing of it is executed."""
    if isinstance(value, Metric):
        return value
    wrong = BadParameter("a metric is a name, a text such as 'deletion(points=2)', or a Metric", repr(value), "See `pellucid metrics`.")
    if not isinstance(value, str):
        raise wrong
    try:
        tree = ast.parse(value.strip(), mode="eval").body
        named = tree.func if isinstance(tree, ast.Call) and not tree.args else tree
        given = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords} if isinstance(tree, ast.Call) else {}
    except (SyntaxError, ValueError):
        raise wrong from None
    if not isinstance(named, ast.Name):
        raise wrong
    known = METRICS.get(named.id) or {m.name: m for m in metrics()}.get(named.id)
    if known is None:
        import difflib

        near = difflib.get_close_matches(named.id, METRICS, 1)
        way_out = f"Did you mean {near[0]!r}?" if near else "See `pellucid metrics`."
        raise BadParameter("a registered metric", repr(named.id), way_out)
    return known(**given)
