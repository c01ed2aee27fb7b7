"""Which rule where: rules as text, composites by name, and a network's parts with rules of their own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pellucid.errors import BadParameter
from pellucid.params import Kind
from pellucid.probe.rules.operation import Operation

DEFAULTS: dict[str, tuple[float, ...]] = {
    "zero": (), "epsilon": (1e-6,), "gamma": (0.25,), "alpha_beta": (2.0, 1.0), "z_plus": (), "w_square": (), "flat": (), "z_box": (),
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A rule with its numbers; ``bias=False`` leaves biases out of its denominators (deep Taylor)."""

    name: str
    numbers: tuple[float, ...] = ()
    bias: bool = True

    @property
    def epsilon(self) -> float:
        return self.numbers[0] if self.name == "epsilon" else 0.0

    @classmethod
    def read(cls, text: Any) -> Rule:
        """From ``"z_plus"``, ``"epsilon(0.1)"``, ``"gamma"``.

        Raises:
            ValueError: it is none.
        """
        found = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text) if isinstance(text, str) else None
        if isinstance(text, Rule):
            return text
        if found is None or found[1] not in DEFAULTS:
            raise ValueError
        name, default = found[1], DEFAULTS[found[1]]
        given = tuple(float(n) for n in ast.literal_eval(f"({found[2]},)")) if found[2] and found[2].strip() else default
        if len(given) != len(default) or any(not 0 <= n < float("inf") for n in given):
            raise ValueError
        if name == "alpha_beta" and abs(given[0] - given[1] - 1) > 1e-12:
            raise ValueError
        return cls("zero" if name == "epsilon" and given == (0.0,) else name, () if name == "epsilon" and given == (0.0,) else given)

    def __str__(self) -> str:
        return self.name + (f"({', '.join(f'{n:g}' if float(f'{n:g}') == n else repr(n) for n in self.numbers)})" if self.numbers else "")


class SiteRules(Mapping[str, Rule]):
    """Rules by the beginning of a module's name; the longest that fits holds. Printed exactly."""

    def __init__(self, rules: Mapping[str, Any]) -> None:
        self._rules = {str(site): Rule.read(text) for site, text in rules.items()}

    def __getitem__(self, site: str) -> Rule:
        return self._rules[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __repr__(self) -> str:
        return repr({site: str(rule) for site, rule in self._rules.items()})

    def of(self, where: str) -> str | None:
        """The name among these that holds for a module."""
        fits = [site for site in self._rules if site == "" or where == site or where.startswith(site + ".")]
        return max(fits, key=len, default=None)


def _read(value: Any) -> SiteRules:
    if not isinstance(value, Mapping) or not all(isinstance(site, str) for site in value):
        raise ValueError
    return value if isinstance(value, SiteRules) else SiteRules(value)


_RULES = ", ".join(f"{n}{d}" if len(d) > 1 else f"{n}({d[0]:g})" if d else n for n, d in DEFAULTS.items())
RulesBySite = Annotated[
    Mapping[str, str],
    Kind("rules by site", f"a dict from the beginning of a module's name to one of {_RULES} (numbers >= 0, alpha - beta = 1)", _read),
]
CompositeName = Literal[
    "epsilon_plus_flat",
    "epsilon_plus",
    "epsilon_alpha2_beta1_flat",
    "epsilon_alpha2_beta1",
    "epsilon_gamma_box",
    "epsilon",
    "gamma",
    "z_plus",
]
# convolutions, matrix products, and what touches the image first (of which kinds)
_NAMED: dict[str, tuple[str, str, str | None, tuple[str, ...]]] = {
    "epsilon_plus_flat": ("z_plus", "epsilon", "flat", ("convolution", "dense")),
    "epsilon_plus": ("z_plus", "epsilon", None, ()),
    "epsilon_alpha2_beta1_flat": ("alpha_beta", "epsilon", "flat", ("convolution", "dense")),
    "epsilon_alpha2_beta1": ("alpha_beta", "epsilon", None, ()),
    "epsilon_gamma_box": ("gamma", "epsilon", "z_box", ("convolution",)),
    "epsilon": ("epsilon", "epsilon", None, ()),
    "gamma": ("gamma", "gamma", None, ()),
    "z_plus": ("z_plus", "z_plus", None, ()),
}


@dataclass(frozen=True)
class Composite:
    """The rule of every operation with weights: by site, for what touches the image first, by kind."""

    convolution: Rule
    dense: Rule
    first: Rule | None = None
    first_of: tuple[str, ...] = ()
    sites: SiteRules = field(default_factory=lambda: SiteRules({}))
    used: set[str] = field(default_factory=set, compare=False)

    @classmethod
    def named(cls, name: str, epsilon: float, gamma: float, sites: SiteRules, at_image: bool) -> Composite:
        """A composite by its name. ``at_image``: what is explained is the image, so that something touches it first."""
        convolution, dense, first, of = _NAMED[name]
        numbers = {"epsilon": f"epsilon({epsilon!r})", "gamma": f"gamma({gamma!r})"}
        two = [Rule.read(numbers.get(n, n)) for n in (convolution, dense)]
        return cls(two[0], two[1], Rule.read(first) if first and at_image else None, of, sites)

    def choose(self, op: Operation, what: str, far: int | None) -> Rule:
        """The rule of an operation of a kind; ``far`` is None unless it touches the image."""
        site = self.sites.of(op.where)
        if site is not None:
            self.used.add(site)
            return self.sites[site]
        if self.first is not None and far is not None and what in self.first_of:
            return self.first
        return self.dense if what == "dense" else self.convolution

    def check(self) -> None:
        """Refuse names of parts that no operation has.

        Raises:
            BadParameter: naming them.
        """
        idle = [site for site in self.sites if site not in self.used]
        if idle:
            raise BadParameter(
                "rules= names modules with operations that have weights",
                ", ".join(map(repr, idle)),
                "Name them as net.named_modules() does.",
            )
