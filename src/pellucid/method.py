"""Method: a function plus its declared facts and bound parameters. The registry, and the Ask."""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, Concatenate, Generic, ParamSpec

from torch import Tensor

from pellucid.baseline import CALLED, NAMED
from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.params import Distance, Kind, bind, called, check, kind_of
from pellucid.probe.probe import Drawn, Probe
from pellucid.target import Target, as_target

P = ParamSpec("P")
RESERVED = frozenset({"target", "site", "method", "run", "evidence"})


class Asks(enum.Flag):
    """What a method asks of the network."""

    SCORES = enum.auto()
    GRADIENTS = enum.auto()
    ACTIVATIONS = enum.auto()
    RULES = enum.auto()


BY_OTHERS = Asks(0)  # asks nothing itself: it wraps a method that asks


class Gives(enum.Flag):
    """What a method promises of its map."""

    NOTHING = 0
    SIGNED = enum.auto()  # the sign of a value says for or against
    COMPLETE = enum.auto()  # the sum is s(x) - s(start), up to the accuracy of the integral
    CONSERVING = enum.auto()  # relevance is kept from layer to layer


class Values(enum.Enum):
    """What the values of a method's maps are. Whoever shows a map takes its words from here."""

    CONTRIBUTIONS = "what a place adds to the score, in its unit; below zero it takes away"
    SLOPES = "how fast the score changes with what is there; the sign says which way"
    FEATURES = "how strong the features are that count toward the score; below zero those that count against it"
    ACTIVATIONS = "how strong features are, whatever is asked for"
    LEVELS = "the mean score when a place is seen; no zero that means anything"
    SHARES = "shares between 0 and 1"
    PATTERNS = "how strong a pattern is that excites the target, in no unit of the score"
    SIZES = "sizes of something signed, or their spread; they say neither for nor against"
    UNDECLARED = "not declared"


class Where(enum.Enum):
    """Where a method looks by default, and whether it can look elsewhere."""

    ANYWHERE = "the image, or any site"
    INPUT = "the image only"
    FEATURES = "a site with spatial extent; by default the last before the head"


SCORES, GRADIENTS, ACTIVATIONS, RULES = Asks.SCORES, Asks.GRADIENTS, Asks.ACTIVATIONS, Asks.RULES
CONTRIBUTIONS, SLOPES, FEATURES, PATTERNS, SHARES = Values.CONTRIBUTIONS, Values.SLOPES, Values.FEATURES, Values.PATTERNS, Values.SHARES
NOTHING, SIGNED, COMPLETE, CONSERVING = Gives.NOTHING, Gives.SIGNED, Gives.COMPLETE, Gives.CONSERVING


@dataclass(frozen=True)
class Cost:
    """Passes per image: exact, or (``at_most``) a bound."""

    forward: int
    backward: int = 0
    at_most: bool = False


@dataclass(frozen=True)
class Cite:
    """Where a method comes from."""

    authors: str
    year: int
    title: str
    venue: str
    arxiv: str = ""

    def __str__(self) -> str:
        tail = f" arXiv:{self.arxiv}" if self.arxiv else ""
        return f"{self.authors} ({self.year}). {self.title}. {self.venue}.{tail}"


@dataclass(frozen=True)
class Facts:
    """What a method declares of itself; docs, tests, CLI and report read it here and nowhere else.

    ``cost`` gets the bound parameters and, as ``shape``, the shape of what is explained (the image, or the activation at a site), and as
    ``grid`` where it lies. ``hears_target`` is False for methods that show one map for every target. ``less`` gets the bound parameters too and
    says what of ``gives`` they take away. ``values`` says what the map's values are, or gets the bound parameters and says so.
    """

    cite: Cite
    asks: Asks
    gives: Gives
    cost: Callable[..., Cost]
    space: frozenset[int] = frozenset({2, 3})
    where: Where = Where.ANYWHERE
    random: bool = False
    hears_weights: bool = True
    hears_target: bool = True
    needs_space: bool = False
    less: Callable[..., Gives] | None = None
    needs_attention: bool = False
    values: Values | Callable[..., Values] = Values.UNDECLARED

    def around(self, inner: Facts) -> Facts:
        """These facts with those of a wrapped method; one that asks nothing itself looks where the wrapped one looks."""
        merged = replace(
            self,
            asks=self.asks | inner.asks,
            space=self.space & inner.space,
            random=self.random or inner.random,
            hears_weights=self.hears_weights and inner.hears_weights,
        )
        if self.asks:
            return merged
        needs_space = self.needs_space or inner.needs_space
        return replace(merged, where=inner.where, hears_target=inner.hears_target, needs_space=needs_space)


@dataclass(frozen=True, eq=False)
class Method(Generic[P]):
    """A function ``(probe, x, *, parameters) -> probe.map(...)`` with its facts and its parameters bound.

    Calling it binds parameters and gives a new Method; the repr is exact and ``read_method`` reads it back.
    """

    fn: Callable[..., Drawn]
    declared: Facts
    params: Mapping[str, Any]
    hints: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return self.fn.__name__

    @property
    def facts(self) -> Facts:
        """What it declares, together with what the methods that it wraps declare."""
        facts = self.declared
        if facts.less is not None:
            facts = replace(facts, gives=facts.gives & ~facts.less(**self.params))
        if not isinstance(facts.values, Values):
            facts = replace(facts, values=facts.values(**self.params))
        for inner in self.params.values():
            if isinstance(inner, Method):
                facts = facts.around(inner.facts)
        return facts

    @property
    def gradients(self) -> bool:
        """Whether its passes go backward too."""
        return bool(self.facts.asks & (Asks.GRADIENTS | Asks.RULES))

    @property
    def opening(self) -> bool | None:
        """Whether the pass that finds the activation tells its slopes too (else its score); None for a method not bound to a site."""
        asks = self.declared.asks
        if self.declared.where is not Where.FEATURES or (asks & Asks.RULES and not asks & Asks.GRADIENTS):
            return None
        return bool(asks & Asks.GRADIENTS)

    @property
    def doc(self) -> str:
        """The docstring, unindented."""
        return textwrap.dedent("    " + (self.fn.__doc__ or "")).strip()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Method[P]:
        """The method with parameters bound; a method that wraps another takes that one first, without its name."""
        given: dict[str, Any] = dict(kwargs)
        wrapped = [n for n, h in self.hints.items() if _is_method(h)]
        if len(args) > len(wrapped):
            raise BadParameter(
                f"{self.name} takes named parameters", f"{len(args)} without a name", f"Name them: {', '.join(self.params)}."
            )
        given.update(dict(zip(wrapped, args, strict=False)))
        return replace(self, params=bind(self.name, self.params, self.hints, given))

    def __repr__(self) -> str:
        return called(self.name, self.params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Method) and repr(self) == repr(other) and self.fn.__module__ == other.fn.__module__

    def __hash__(self) -> int:
        return hash(repr(self))

    def __reduce__(self) -> tuple[Any, ...]:
        if self.fn.__module__ == "__main__":  # defined in a notebook: travels whole, by cloudpickle
            return _whole, (self.fn, self.declared, dict(self.params), dict(self.hints))
        return _found, (self.fn.__module__, self.name, dict(self.params))

    def on(self, grid: Grid) -> Method[P]:
        """The method with lengths in the grid's unit written out, so that it means the same elsewhere."""

        def fixed(v: Any) -> Any:
            if isinstance(v, Distance) and v.unit is None:
                return Distance(v.value, grid.unit)
            return v.on(grid) if isinstance(v, Method) else v

        return replace(self, params=MappingProxyType({k: fixed(v) for k, v in self.params.items()}))

    def cost(self, shape: tuple[int, ...], grid: Grid | None = None) -> Cost:
        """Passes for an image of this shape (c, *space); where lengths matter, on this grid (None: a plain raster)."""
        return self.facts.cost(shape=shape, grid=grid or Grid(tuple(shape[1:])), **self.params)

    def answer(self, probe: Probe, x: Tensor) -> Drawn:
        """Run it: ask the probe about ``x``."""
        if self.facts.needs_space:
            probe.spatial(self.name)
        return self.fn(probe, x, **self.params)


REGISTRY: dict[str, Method[Any]] = {}
SHORT: dict[str, Method[Any]] = {}  # short names of bound methods; their repr stays the long one


def short(name: str, bound: Method[P]) -> Method[P]:
    """Give a bound method a short name, by which text may call it: ``smoothgrad`` for ``smooth(inner=saliency())``."""
    if name in REGISTRY or SHORT.get(name, bound) != bound:
        raise BadParameter(f"a short name of its own for {bound!r}", f"{name!r}, which is taken", "Choose another name.")
    SHORT[name] = bound
    return bound


def method(
    *,
    cite: Cite,
    asks: Asks,
    gives: Gives,
    cost: Callable[..., Cost],
    space: set[int] = {2, 3},  # noqa: B006  (read only)
    where: Where = Where.ANYWHERE,
    random: bool = False,
    hears_weights: bool = True,
    hears_target: bool = True,
    needs_space: bool = False,
    less: Callable[..., Gives] | None = None,
    needs_attention: bool = False,
    values: Values | Callable[..., Values] = Values.UNDECLARED,
) -> Callable[[Callable[Concatenate[Probe, Tensor, P], Drawn]], Method[P]]:
    """Make a method of a function and register it under its name.

    The function takes ``(probe, x, *, parameters with defaults)``, each parameter of a kind of ``pellucid.params``; a wrapped method
    may stand before the star, so that it can be given without its name.

    Raises:
        BadParameter: a reserved or positional parameter, a default that its own kind refuses, or a name that another module took.
    """
    space_ = frozenset(space)
    facts = Facts(cite, asks, gives, cost, space_, where, random, hears_weights, hears_target, needs_space, less, needs_attention, values)

    def wrap(fn: Callable[Concatenate[Probe, Tensor, P], Drawn]) -> Method[P]:
        hints = typing.get_type_hints(fn, include_extras=True)
        parameters = list(inspect.signature(fn).parameters.values())[2:]
        name = getattr(fn, "__name__", "method")
        for p in parameters:
            named = p.kind is p.KEYWORD_ONLY or (p.kind is p.POSITIONAL_OR_KEYWORD and _is_method(hints[p.name]))
            if not named or p.default is p.empty or p.name in RESERVED:
                raise BadParameter(
                    f"parameters of {name} come after *, with a default, and are none of {', '.join(sorted(RESERVED))}",
                    p.name,
                    "Rename it.",
                )
        kinds = {p.name: hints[p.name] for p in parameters}
        defaults = {p.name: check(name, p.name, hints[p.name], p.default) for p in parameters}
        made: Method[P] = Method(fn, facts, MappingProxyType(defaults), MappingProxyType(kinds))
        if not made.fn.__module__.startswith("pellucid."):
            _load_own()  # whose names are taken
        taken = REGISTRY.get(name, SHORT.get(name))
        if taken is not None and taken.fn.__module__ != made.fn.__module__:
            raise BadParameter(
                f"a name of its own for {fn.__module__}.{name}", f"one that {taken.fn.__module__} has", "Choose another name."
            )
        REGISTRY[name] = made
        return made

    return wrap


def _found(module: str, name: str, params: dict[str, Any]) -> Method[Any]:
    importlib.import_module(module)
    return REGISTRY[name](**params)


def _whole(fn: Callable[..., Drawn], facts: Facts, params: dict[str, Any], hints: dict[str, Any]) -> Method[Any]:
    return Method(fn, facts, MappingProxyType(params), MappingProxyType(hints))


def _is_method(hint: Any) -> bool:
    return kind_of(hint)[0].name == "method"


def _load_own() -> None:
    importlib.import_module("pellucid.attribution")


def methods() -> Iterator[Method[Any]]:
    """All registered methods by name, those of other packages (entry point ``pellucid.methods``) included."""
    from importlib.metadata import entry_points

    _load_own()
    for entry in entry_points(group="pellucid.methods"):
        entry.load()
    yield from (REGISTRY[name] for name in sorted(REGISTRY))


def read_method(value: Any) -> Method[Any]:
    """A method from what a user may give: a Method, its name, or its text such as ``integrated_gradients(steps=32)``.

    Text is read as data (names, numbers, strings, registered methods and baselines); nothing of it is executed.
    """
    if isinstance(value, Method):
        return value
    if not isinstance(value, str):
        raise BadParameter("a method is a name or a Method", type(value).__name__, "Try 'integrated_gradients'.")
    try:
        tree = ast.parse(value.strip(), mode="eval").body
    except SyntaxError:
        raise BadParameter("a method is written name(parameter=value)", repr(value), "Try 'integrated_gradients(steps=32)'.") from None
    found = _value(tree)
    if not isinstance(found, Method):
        raise BadParameter("a method", repr(value), "See `pellucid methods`.")
    return found


def _value(tree: ast.expr, *, inside: bool = False) -> Any:
    if isinstance(tree, ast.Name):
        if tree.id in NAMED:
            return NAMED[tree.id]
        return tree.id if inside else _registered(tree.id)  # a parameter says itself what it wants
    if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name):
        args = [_value(a, inside=True) for a in tree.args]
        named = {str(k.arg): _value(k.value, inside=True) for k in tree.keywords}
        maker = CALLED.get(tree.func.id)
        return maker(*args, **named) if maker is not None else _registered(tree.func.id)(*args, **named)
    try:
        return ast.literal_eval(tree)
    except ValueError:
        raise BadParameter("a number, a string, a method or a baseline", ast.unparse(tree), "Nothing else is read from text.") from None


def _registered(name: str) -> Method[Any]:
    _load_own()
    known = REGISTRY.get(name) or SHORT.get(name) or {m.name: m for m in methods()}.get(name)
    if known is None:
        import difflib

        near = difflib.get_close_matches(name, [*REGISTRY, *SHORT], 1)
        raise BadParameter("a registered method", repr(name), f"Did you mean {near[0]!r}?" if near else "See `pellucid methods`.")
    return known


Inner = Annotated[Method[Any] | str, Kind("method", "a method or its name", read_method)]


@dataclass(frozen=True)
class Ask:
    """One question as a value: by which method, for which target, seen where."""

    method: Method[Any]
    target: Target = field(default_factory=lambda: as_target(None))
    site: str | None = None

    def __repr__(self) -> str:
        return f"Ask({self.method!r}, target={self.target!r}, site={self.site!r})"


def ask(method: Method[Any] | str, *, target: Any = None, site: str | None = None, **params: Any) -> Ask:
    """An Ask from short forms: ``ask("grad_cam", target="DME", site="layer4")``."""
    return Ask(read_method(method)(**params), as_target(target), site)
