"""Maps and grades of a case: asked together first, and piece by piece where that fails, so that what does not fit takes nothing with it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pellucid.asking import explain_all
from pellucid.errors import BadFile, PellucidError
from pellucid.evidence.metric import Metric
from pellucid.explanation import Map, Measurement
from pellucid.image import Image
from pellucid.method import Ask
from pellucid.model import Model
from pellucid.run import Run

Graded = Mapping[tuple[str, str], Measurement]
Grading = Callable[[Mapping[str, Map], Sequence[Metric[Any]], tuple[str, ...]], Graded]


@dataclass(frozen=True)
class Failures:
    """What could not be done of a case, by the words for why."""

    run: Run
    told: dict[str, list[str]] = field(default_factory=dict)

    def add(self, error: Exception, what: str = "") -> None:
        """Keep an error, and what it is about where that is not the whole case; raised again where the run was canceled."""
        if self.run.cancel.is_set():
            raise error
        about = self.told.setdefault(nameless(error), [])
        if what and what not in about:
            about.append(what)

    def __str__(self) -> str:
        return "; ".join(f"{', '.join(about)}: {why}" if about else why for why, about in self.told.items())


def explained(net: Model, scan: Image, asks: Mapping[str, Ask], run: Run, failures: Failures) -> dict[str, Map]:
    """The maps that can be made."""
    try:
        return dict(zip(asks, explain_all(net, [scan], list(asks.values()), run), strict=True))
    except Exception as error:  # a method that does not fit, or anybody's code in the network
        if run.cancel.is_set():
            raise
        if len(asks) == 1:
            failures.add(error, next(iter(asks)))
            return {}
    return {k: m for n, ask in asks.items() for k, m in explained(net, scan, {n: ask}, run, failures).items()}


def graded(grading: Grading, maps: Mapping[str, Map], metrics: Sequence[Metric[Any]], kinds: tuple[str, ...], failures: Failures) -> Graded:
    """The measurements that can be made, beside those controls that can: by metric, then by map, then without and with each control."""
    try:
        return grading(maps, metrics, kinds)
    except Exception as error:
        if failures.run.cancel.is_set():
            raise
        wrong = error
    found: dict[tuple[str, str], Measurement] = {}
    if len(metrics) > 1:
        for m in metrics:
            found |= graded(grading, maps, [m], kinds, failures)
    elif len(maps) > 1:
        for n, why in maps.items():
            found |= graded(grading, {n: why}, metrics, kinds, failures)
    elif not kinds:
        failures.add(wrong, f"{metrics[0].name} of {next(iter(maps))}")
    else:
        found |= graded(grading, maps, metrics, (), failures)
        if found and len(kinds) == 1:
            failures.add(wrong, f"{metrics[0].name} of {next(iter(maps))} beside {kinds[0]}")
        for k in kinds if found and len(kinds) > 1 else ():
            found |= graded(grading, maps, metrics, (k,), failures)
    return found


def nameless(error: Exception) -> str:
    """What went wrong, fit to be kept: without the path that was asked for and without UIDs, either of which may name a patient; of a
    stranger's error its kind and place alone."""
    if not isinstance(error, PellucidError):
        at = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {at.name} ({Path(at.filename).name}, line {at.lineno})"
    said = f"{error.got}. {error.fix}" if isinstance(error, BadFile) else str(error)
    return re.sub(r"\b[0-9]+(?:\.[0-9]+){3,}\b", "(uid)", said)
