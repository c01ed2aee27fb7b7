"""Keys: all that a number depends on, as one exact text, and the hash of it under which the number is kept. Made here and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor

from pellucid.errors import PellucidError
from pellucid.evidence.metric import Metric
from pellucid.image import Image, digest
from pellucid.method import Ask, Method
from pellucid.model import Model
from pellucid.study.cases import StudyCase
from pellucid.target import as_target
from pellucid.written import written

LENGTH = 32  # hex digits of a key


def release() -> str:
    """The package's version."""
    try:
        return version("pellucid")
    except PackageNotFoundError:
        return "source"


@dataclass(frozen=True)
class Network:
    """What is kept of a network: enough to find what was measured of it, without loading it."""

    name: str
    classes: tuple[str, ...]
    weights: str
    text: str  # digest of all that matters of it
    shuffles: bool  # whether there are weights to shuffle

    @classmethod
    def of(cls, net: Model) -> Network:
        has_weights = next(net.module.parameters(), None) is not None
        return cls(net.name, net.classes, net.fingerprint, net.identity, has_weights)

    def kept(self) -> str:
        """As text, for ``read``."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Network:
        """From the text that ``kept`` gave; a ValueError, TypeError or KeyError where it is another."""
        found = json.loads(text)
        return cls(**{**found, "classes": tuple(found["classes"])})


class Keys:
    """The keys of one network and seed. Each object is written down once: what a function keeps of its own calls makes no other function of it."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network, self.seed = network, seed
        self._known: dict[Any, tuple[Any, str]] = {}  # the object stays beside its text: nothing else gets its id

    def scan(self, case: StudyCase) -> str:
        """Under what all that is known of a case's scan lies."""
        return digest(self._of(case, _scan))[:LENGTH]

    def text(
        self,
        case: StudyCase,
        what: str,
        asks: Sequence[Ask] = (),
        *,
        metric: Metric[Any] | None = None,
        followed: Any = None,
        control: str = "",
        level: str = "",
        names: Sequence[str] = (),
    ) -> str:
        """All that a number depends on. ``what``: grade, verdict, picture or probabilities; ``followed``: the target whose score is followed while
        an image is changed; ``asks``: of which methods, none for controls that belong to no method."""
        return _text(
            {
                "what": what,
                "pellucid": release(),
                "network": self.network.text,
                "seed": self.seed,
                "scan": self.scan(case),
                "mask": self._of(case, _mask),
                "asks": [self._asked(a) for a in asks],
                "metric": None if metric is None else self._of(metric, _called),
                "followed": None if followed is None else self._of(followed, _target),
                "control": control,
                "level": level,
                "names": list(names),
            }
        )

    def key(self, case: StudyCase, what: str, asks: Sequence[Ask] = (), **more: Any) -> str:
        """The hash of ``text``."""
        return digest(self.text(case, what, asks, **more))[:LENGTH]

    def _asked(self, ask: Ask) -> dict[str, str]:
        parts = {f.name: getattr(ask, f.name) for f in fields(ask)}
        return {name: self._of(v, _called if isinstance(v, Method) else written) for name, v in parts.items()}

    def _of(self, thing: Any, tell: Callable[[Any], str]) -> str:
        at = id(thing), tell
        if at not in self._known:
            self._known[at] = (thing, tell(thing))
        return self._known[at][1]


def _target(value: Any) -> str:
    return written(as_target(value))


def _scan(case: StudyCase) -> str:
    return _seen(case.scan)


def _mask(case: StudyCase) -> str:
    try:
        return "" if case.truth is None else _seen(case.truth)
    except (PellucidError, OSError):
        return "unusable"  # what needs none is measured still


def _seen(value: Image | Tensor) -> str:
    """A scan or mask by its values, place, meaning, padding, and the facts that a ``prepare`` may read."""
    if isinstance(value, Tensor):
        return digest(value)
    background = "" if value.background is None else digest(value.background)
    return _text({"image": value.fingerprint, "background": background, "facts": written(dict(value.facts))})


def _called(thing: Method[Any] | Metric[Any]) -> str:
    """A method or metric with its parameters; one of another package also by its code."""
    own = thing.fn.__module__.partition(".")[0] == "pellucid"
    params = {k: _called(v) if isinstance(v, Method | Metric) else written(v) for k, v in thing.params.items()}
    return _text({"name": f"{thing.fn.__module__}.{thing.name}", "code": "" if own else written(thing.fn), "params": params})


def _text(told: Mapping[str, Any]) -> str:
    return json.dumps(told, sort_keys=True)
