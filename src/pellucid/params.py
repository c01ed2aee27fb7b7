"""Parameter kinds: what a method's parameter may be, checked once, printed exactly, and readable from a command line."""

from __future__ import annotations

import ast
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pellucid.errors import BadParameter


@dataclass(frozen=True)
class Distance:
    """A length with its unit; ``None`` means the unit of whatever grid it is used on. Its repr is how it is written."""

    value: float
    unit: Literal["mm", "px"] | None = None

    def __repr__(self) -> str:
        return f"{self.value:g}" if self.unit is None else repr(f"{self.value:g}{self.unit}")

    @classmethod
    def read(cls, value: Any) -> Distance:
        """From a number, ``"16mm"``, ``"16px"`` or a Distance."""
        if isinstance(value, Distance):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return cls(float(value))
        found = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(mm|px)?\s*", value) if isinstance(value, str) else None
        if found is None:
            raise ValueError
        return cls(float(found[1]), found[2])  # type: ignore[arg-type]


@dataclass(frozen=True)
class Kind:
    """A kind of parameter: its name in messages, the sentence that says what is allowed, and how to read a value."""

    name: str
    wants: str
    read: Callable[[Any], Any]


def _integer(low: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, bool) or int(value) != value or value < low:
            raise ValueError
        return int(value)

    return read


def _real(low: float, high: float, *, open_low: bool = False) -> Callable[[Any], float]:
    def read(value: Any) -> float:
        number = float(value)
        if isinstance(value, (bool, str)) or not math.isfinite(number) or not low <= number <= high or (open_low and number == low):
            raise ValueError
        return number

    return read


def _length(value: Any) -> Distance:
    distance = Distance.read(value)
    if not math.isfinite(distance.value) or distance.value <= 0:
        raise ValueError
    return distance


def _reach(value: Any) -> Distance:
    distance = Distance.read(value)
    if not math.isfinite(distance.value) or distance.value < 0:
        raise ValueError
    return distance


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _axes(value: Any) -> tuple[int, ...]:
    axes = [value] if isinstance(value, int) else list(value)
    if not axes or any(isinstance(a, bool) or a not in (0, 1, 2) for a in axes) or len(set(axes)) < len(axes):
        raise ValueError
    return tuple(sorted(int(a) for a in axes))


Count = Annotated[int, Kind("count", "a whole number of at least 1", _integer(1))]
Fraction = Annotated[float, Kind("fraction", "a number from 0 to 1", _real(0.0, 1.0))]
Positive = Annotated[float, Kind("positive", "a number above 0", _real(0.0, math.inf, open_low=True))]
Weight = Annotated[float, Kind("weight", "a number of at least 0", _real(0.0, math.inf))]
Real = Annotated[float, Kind("real", "a finite number", _real(-math.inf, math.inf))]
Flag = Annotated[bool, Kind("flag", "True or False", _flag)]
Length = Annotated[float | str | Distance, Kind("length", "a length above 0: a number in the grid's unit, '16mm' or '16px'", _length)]
Reach = Annotated[float | str | Distance, Kind("reach", "a length of at least 0: a number in the grid's unit, '4mm' or '4px'", _reach)]

Axes = Annotated[int | Sequence[int], Kind("axes", "one spatial axis (0, 1 or 2) or a list of different ones", _axes)]


def choice(options: Sequence[Any]) -> Kind:
    """The kind of a ``Literal[...]`` parameter."""

    def read(value: Any) -> Any:
        if value not in options:
            raise ValueError
        return value

    return Kind("choice", "one of " + ", ".join(repr(o) for o in options), read)


def kind_of(hint: Any) -> tuple[Kind, bool]:
    """The Kind behind a type hint, and whether None is allowed too.

    Raises:
        BadParameter: the hint is not one of the kinds, so a value could not be checked.
    """
    origin = typing.get_origin(hint)
    if origin is Annotated:
        kinds = [m for m in hint.__metadata__ if isinstance(m, Kind)]
        if kinds:
            return kinds[0], False
    if origin is Literal:
        return choice(typing.get_args(hint)), False
    if origin in (types.UnionType, typing.Union):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        if len(rest) == 1 and len(typing.get_args(hint)) == 2:
            return kind_of(rest[0])[0], True
    raise BadParameter(
        "a parameter's type is one of the kinds of pellucid.params", repr(hint), "Use Count, Fraction, Positive, Real, Flag, Length, ..."
    )


def check(owner: str, name: str, hint: Any, value: Any) -> Any:
    """The value as its kind reads it, or an error that names owner, parameter, and what is allowed."""
    kind, optional = kind_of(hint)
    if value is None and optional:
        return None
    try:
        return kind.read(value)
    except (ValueError, TypeError, OverflowError) as error:
        if isinstance(error, BadParameter):
            raise
        wanted = kind.wants + (" or None" if optional else "")
        raise BadParameter(f"{name} of {owner} is {wanted}", repr(value), "Change the value.") from None


def bind(owner: str, params: Mapping[str, Any], hints: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a method or metric with those given in their places.

    Raises:
        BadParameter: a name that the owner does not take, or a value that its kind refuses.
    """
    if unknown := set(given) - set(params):
        takes = ", ".join(params) or "none"
        raise BadParameter(f"a parameter of {owner}", ", ".join(sorted(unknown)), f"It takes {takes}.")
    return MappingProxyType({**params, **{k: check(owner, k, hints[k], v) for k, v in given.items()}})


def called(owner: str, params: Mapping[str, Any]) -> str:
    """A method or metric with its parameters, as it is written."""
    return f"{owner}({', '.join(f'{k}={v!r}' for k, v in params.items())})"


def named(what: str, given: Any) -> dict[str, Any]:
    """Values by name, from a table or from text, which is read as data.

    Raises:
        BadParameter: anything else.

    >>> named("--prepare", "resize=256, range=(0, 1)")
    {'resize': 256, 'range': (0, 1)}
    """
    if not given and isinstance(given, (str, type(None))):
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    try:
        call = ast.parse(f"f({given})", mode="eval").body if isinstance(given, str) else None
        if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
            raise ValueError
        return {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise BadParameter(f"{what} takes name=value, separated by commas", repr(given)[:200], "For example 'resize=256'.") from None
