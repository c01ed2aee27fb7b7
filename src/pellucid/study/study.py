"""Study: cases x methods x metrics, beside controls; resumable on disk; tables with intervals over patients, and paired tests."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pellucid.asking import explain_all
from pellucid.comparison import Comparison
from pellucid.errors import BadFile, BadParameter, PellucidError
from pellucid.evidence.case import Level
from pellucid.evidence.controls import CONTROLS
from pellucid.evidence.examine import examine
from pellucid.evidence.grade import grade, named
from pellucid.evidence.metric import Metric, read_metric
from pellucid.explanation import Map
from pellucid.method import Ask, Method, read_method
from pellucid.model import Model, as_model
from pellucid.run import Run
from pellucid.study.cases import StudyCase
from pellucid.study.store import Store, as_row, digest
from pellucid.target import as_target
from pellucid.written import written

PICTURES = 3  # cases that are drawn


@dataclass(eq=False)
class Study:
    """Every method on every case, by every metric.

    Args:
        folder: where results live; a study over the same folder goes on where it was. Only what is missing is measured.
        net: the Model or network.
        cases: scans with what is known of them.
        methods: methods, names, texts or Asks; a mapping names them as the table shall.
        metrics: metrics, their names or texts.
        target: as in ``explain``; a case's own target wins.
        score: what is followed while an image is changed; None: the target.
        controls: of ``random``, ``center``, ``edges``, ``blurred``, ``shuffled``.
        level: of ``examine``, for a verdict on every map; ``none`` leaves it out.
        seed: of everything random.

    A result's key is the hash of the scan's bytes, the weights, ``prepare`` and ``normalize``, the question, the metric, the seed and the package's
    version: whatever changes makes a new key.

    Raises:
        BadParameter: no cases, no methods, no metrics.
    """

    folder: Path
    net: Model
    cases: Sequence[StudyCase]
    methods: Mapping[str, Method[Any] | Ask | str] | Sequence[Method[Any] | Ask | str]
    metrics: Sequence[Metric[Any] | str]
    target: Any = None
    score: Any = None
    controls: Sequence[str] = CONTROLS
    level: Level = "none"
    seed: int = 0
    name: str = "Study"
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder, self.net, self.cases = Path(self.folder), as_model(self.net), list(self.cases)
        self.metrics = [read_metric(m) for m in self.metrics]
        for what, found in (("cases", self.cases), ("methods", self.methods), ("metrics", self.metrics)):
            if not found:
                raise BadParameter(f"at least one of {what}", "none", "A study needs all three.")
        self.asks: dict[str, Ask] = {
            n: m if isinstance(m, Ask) else Ask(read_method(m), as_target(self.target)) for n, m in named(self.methods).items()
        }

    @property
    def store(self) -> Store:
        return Store(self.folder)

    # ------------------------------------------------------------------ running
    def run(self, run: Run | None = None, *, on_case: Callable[[int, int], None] | None = None) -> Study:
        """Measure what is missing, case by case; a case that cannot be measured is told in ``problems`` and does not stop the others."""
        run = replace(run or Run(), seed=self.seed)
        self.problems.clear()
        for i, case in enumerate(self.cases):
            try:
                self._measure(i, case, run)
            except PellucidError as error:
                if run.cancel.is_set():
                    raise
                self.problems.append(f"case {i + 1}: {nameless(error)}")
            if on_case is not None:
                on_case(i + 1, len(self.cases))
        return self

    def _measure(self, i: int, case: StudyCase, run: Run) -> None:
        key = self._case_key(case)
        record = self.store.read(key)
        wanted = {(n, m.name): self._cell_key(n, m, case) for n in self.asks for m in self.measures}
        missing = [at for at, cell in wanted.items() if cell not in record["cells"]]
        verdicts = record.setdefault("verdicts", {})
        unsaid = [n for n in self.asks if self.level != "none" and self._verdict_key(n, case) not in verdicts]
        picture = self.folder / "pictures" / f"{i + 1}.png"
        draw = i < PICTURES and not picture.exists()
        if not (missing or unsaid or draw):
            return
        names = list(self.asks) if draw else [n for n in self.asks if n in {n for n, _ in missing} | set(unsaid)]
        asks = [self._ask(n, case) for n in names]
        alike = {repr(a.target): a.target for a in asks}
        maps = dict(
            zip(names, explain_all(self.net, [case.scan], [replace(a, target=alike[repr(a.target)]) for a in asks], run), strict=True)
        )
        record |= {"label": case.label, "group": case.group, "facts": dict(case.facts), "probabilities": self._probabilities(maps)}
        if missing:
            self._grade(case, {n: maps[n] for n in names if any(n == at[0] for at in missing)}, missing, wanted, record, run)
        for n in unsaid:
            said = examine(self.net, maps[n].image, maps[n], self.level, run=run)
            verdicts[self._verdict_key(n, case)] = {"map": n, "verdict": said.verdict, "reasons": list(said.reasons)}
        if draw:
            picture.parent.mkdir(parents=True, exist_ok=True)
            Comparison(tuple(maps.values()), tuple(maps), next(iter(maps.values())).image).figure(picture)
        self.store.write(key, record)

    def _grade(
        self,
        case: StudyCase,
        maps: dict[str, Map],
        missing: list[tuple[str, str]],
        wanted: dict[tuple[str, str], str],
        record: dict[str, Any],
        run: Run,
    ) -> None:
        metrics = [m for m in self.measures if any(m.name == at[1] for at in missing)]
        found = grade(self.net, case.scan, maps, metrics, score=self.score, mask=case.truth, controls=self.controls, run=run)
        for (name, metric), m in found.measurements.items():
            cell = wanted.get((name, metric)) or self._control_key(name, next(k for k in metrics if k.name == metric), case)
            record["cells"][cell] = {"map": name, **as_row(m)}
        spent = record.setdefault("spent", {})
        for kind, n in found.spent.items():
            spent[kind] = spent.get(kind, 0) + n

    @staticmethod
    def _probabilities(maps: Mapping[str, Map]) -> list[float]:
        return next((list(m.probabilities) for m in maps.values() if m.probabilities), [])

    # ------------------------------------------------------------------ what a result depends on
    @property
    def measures(self) -> list[Metric[Any]]:
        """The metrics, read."""
        return [m for m in self.metrics if isinstance(m, Metric)]

    def _ask(self, name: str, case: StudyCase) -> Ask:
        ask = self.asks[name]
        return ask if case.target is None else replace(ask, target=as_target(case.target))

    @property
    def version(self) -> str:
        """The package's version, as results are keyed by it."""
        try:
            return version("pellucid")
        except PackageNotFoundError:
            return "source"

    @cached_property
    def _net_facts(self) -> dict[str, str]:
        return {
            "weights": self.net.fingerprint,
            "prepare": written(self.net.prepare),
            "normalize": written(self.net.normalize),
            "pellucid": self.version,
        }

    def _case_key(self, case: StudyCase) -> str:
        return digest({"scan": case.scan.fingerprint, **self._net_facts, "seed": self.seed})

    def _cell_key(self, name: str, metric: Metric[Any], case: StudyCase) -> str:
        return digest({"ask": repr(self._ask(name, case)), **self._held(metric, case)})

    def _control_key(self, name: str, metric: Metric[Any], case: StudyCase) -> str:
        of = next((n for n in self.asks if name in (f"{n}, blurred", f"{n}, shuffled")), None)
        belongs = {"control": name} if of is None else {"control": name[len(of) :], "ask": repr(self._ask(of, case))}
        return digest({**belongs, **self._held(metric, case)})

    def _held(self, metric: Metric[Any], case: StudyCase) -> dict[str, Any]:
        truth = case.truth
        mask = "" if truth is None else truth.fingerprint if hasattr(truth, "fingerprint") else digest({"mask": truth.tolist()})
        return {"metric": repr(metric), "score": repr(self.score), "mask": mask}

    def _verdict_key(self, name: str, case: StudyCase) -> str:
        return digest({"ask": repr(self._ask(name, case)), "level": self.level})

    # ------------------------------------------------------------------ what was found
    def records(self) -> Iterator[tuple[StudyCase, dict[str, Any]]]:
        """Every case with what is known of it."""
        for case in self.cases:
            yield case, self.store.read(self._case_key(case))

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Names of maps and controls as the tables show them."""
        own = list(self.asks)
        shared = [c for c in CONTROLS if c in self.controls and c not in ("blurred", "shuffled")]
        paired = [f"{n}, {c}" for c in ("blurred", "shuffled") if c in self.controls for n in own]
        return (*own, *shared, *paired)

    def values(self, metric: str) -> dict[str, list[float]]:
        """Per map and control the metric's value for each case, in the cases' order; NaN where there is none."""
        known = self.metric(metric)
        found: dict[str, list[float]] = {n: [] for n in self.rows}
        for case, record in self.records():
            for name in self.rows:
                key = self._cell_key(name, known, case) if name in self.asks else self._control_key(name, known, case)
                cell = record["cells"].get(key)
                found[name].append(math.nan if cell is None else float(cell["value"]))
        return found

    def cells(self, metric: str) -> dict[str, list[dict[str, Any] | None]]:
        """Per map and control the whole measurements as plain values, for each case."""
        known = self.metric(metric)
        return {
            name: [
                record["cells"].get(self._cell_key(name, known, case) if name in self.asks else self._control_key(name, known, case))
                for case, record in self.records()
            ]
            for name in self.rows
        }

    def verdicts(self) -> dict[str, dict[str, int]]:
        """Per map how often each verdict was given."""
        found: dict[str, dict[str, int]] = {n: {} for n in self.asks}
        for case, record in self.records():
            for n in self.asks:
                said = record.get("verdicts", {}).get(self._verdict_key(n, case))
                if said is not None:
                    found[n][said["verdict"]] = found[n].get(said["verdict"], 0) + 1
        return found

    def metric(self, name: str) -> Metric[Any]:
        """The study's metric of that name."""
        for m in self.measures:
            if m.name == name:
                return m
        raise BadParameter(f"a metric of the study: {', '.join(m.name for m in self.measures)}", repr(name), "Choose one of them.")

    @property
    def groups(self) -> list[str]:
        """The patient of each case, by a name that says nothing of them."""
        return [case.group for case in self.cases]


def nameless(error: PellucidError) -> str:
    """What went wrong, fit to be kept: without the path that was asked for and without UIDs, either of which may name a patient."""
    said = f"{error.got}. {error.fix}" if isinstance(error, BadFile) else str(error)
    return re.sub(r"\b[0-9]+(?:\.[0-9]+){3,}\b", "(uid)", said)
