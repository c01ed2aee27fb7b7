"""Study: cases x methods x metrics, beside controls; resumable on disk; tables with intervals over patients, and paired tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pellucid.asking import predict
from pellucid.comparison import Comparison
from pellucid.errors import BadGrid, BadImage, BadParameter, PellucidError
from pellucid.evidence.case import Level
from pellucid.evidence.controls import CONTROLS, WITHOUT_NETWORK
from pellucid.evidence.examine import examine
from pellucid.evidence.grade import grade, lay, named
from pellucid.evidence.metric import MASK, Metric, read_metric
from pellucid.explanation import Map
from pellucid.files import put
from pellucid.method import Ask, Method, read_method
from pellucid.model import Model, as_model
from pellucid.run import Run
from pellucid.study.cases import StudyCase
from pellucid.study.keys import Keys, Network, release
from pellucid.study.labels import true_classes
from pellucid.study.piecewise import Failures, Graded, explained, graded, nameless
from pellucid.study.store import Cells, Store, as_row
from pellucid.target import as_target
from pellucid.written import numbered, written

PICTURES = 3  # cases that are drawn


PAIRED = tuple(c for c in CONTROLS if c not in WITHOUT_NETWORK)  # controls that each map has of its own


@dataclass(eq=False)
class Study:
    """Every method on every case, by every metric.

    Args:
        folder: where results live; a study over the same folder goes on where it was. Only what is missing is measured.
        net: the Model or network; or what is kept of one (see ``recall_study``), to read what was measured of it.
        cases: scans with what is known of them.
        methods: methods, names, texts or Asks; a mapping names them as the table shall.
        metrics: metrics, their names or texts.
        target: as in ``explain``; a case's own target wins.
        score: what is followed while an image is changed; None: the target.
        controls: of ``random``, ``center``, ``edges``, ``blurred``, ``shuffled``.
        level: of ``examine``, for a verdict on every map; ``none`` leaves it out.
        seed: of everything random.
        declared: under which name the folder keeps what is to be known of the network when the study has run; none: it keeps nothing.

    A result lies under the hash of all that it depends on, see ``Keys``: whatever changes makes a new key. Processes may share a folder.

    Raises:
        BadParameter: no cases, no methods, no metrics, no such control, or a method under the name of one.
    """

    folder: Path
    net: Model | Network
    cases: Sequence[StudyCase]
    methods: Mapping[str, Method[Any] | Ask | str] | Sequence[Method[Any] | Ask | str]
    metrics: Sequence[Metric[Any] | str]
    target: Any = None
    score: Any = None
    controls: Sequence[str] = CONTROLS
    level: Level = "none"
    seed: int = 0
    name: str = "Study"
    declared: str = ""
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder, self.cases = Path(self.folder), list(self.cases)
        self.net = self.net if isinstance(self.net, Network) else as_model(self.net)
        self.metrics = [read_metric(m) for m in self.metrics]
        for what, found in (("cases", self.cases), ("methods", self.methods), ("metrics", self.metrics)):
            if not found:
                raise BadParameter(f"at least one of {what}", "none", "A study needs all three.")
        unknown = set(self.controls) - set(CONTROLS)
        if unknown:
            raise BadParameter(f"controls are of {', '.join(CONTROLS)}", ", ".join(sorted(unknown)), "Choose among them.")
        self.asks: dict[str, Ask] = {
            n: m if isinstance(m, Ask) else Ask(read_method(m), as_target(self.target)) for n, m in named(self.methods).items()
        }
        twice = next((n for n in self.asks if n in CONTROLS or n.endswith(tuple(f", {c}" for c in PAIRED))), None)
        if twice is not None:
            raise BadParameter("methods under names of their own", f"{twice!r}, which a control may have", "Rename it.")

    @property
    def store(self) -> Store:
        return Store(self.folder)

    @cached_property
    def keys(self) -> Keys:
        """Where each result lies, by network and functions as they are when the study runs, or is first read."""
        return Keys(self.net if isinstance(self.net, Network) else Network.of(self.net), self.seed)

    # ------------------------------------------------------------------ running
    def run(self, run: Run | None = None, *, on_case: Callable[[int, int], None] | None = None) -> Study:
        """Measure what is missing, case by case; a case that cannot be measured is told in ``problems`` and does not stop the others,
        nor does a method or metric that does not fit.

        Raises:
            BadParameter: a study that was recalled, without its network; a label that is no class of it.
            OSError: results that cannot be written.
        """
        if isinstance(self.net, Network):
            raise BadParameter("a study with its network", "one that was recalled", "Use read_study.")
        net, run = self.net, replace(run or Run(), seed=self.seed)
        self.__dict__.pop("keys", None)
        failed: dict[int, str] = {}
        with numbered() as passing:
            self._check_labels(net)
            for i, case in enumerate(self.cases):
                failures = Failures(run)
                for scan, cells in self._tried(net, case, i < PICTURES, failures):
                    self.store.keep(scan, cells)
                if failures.told:
                    failed[i] = str(failures)
                case.forget()
                if on_case is not None:
                    on_case(i + 1, len(self.cases))
            left = self._missing()
        if self.declared:
            (self.folder / "networks").mkdir(parents=True, exist_ok=True)
            put(self.folder / "networks" / f"{self.declared}.json", self.keys.network.kept())
        self.problems[:] = [
            f"case {i + 1}: {'; '.join(dict.fromkeys(filter(None, (failed.get(i), left.get(i)))))}" for i in sorted({*failed, *left})
        ]
        if passing:
            self.problems.append(f"another process will measure anew, since it cannot know again: {', '.join(passing)}")
        return self

    def _check_labels(self, net: Model) -> None:
        """Every label against the classes of the first case that the network can be asked about, before anything else is measured."""
        told = [i for i, case in enumerate(self.cases) if case.label is not None]
        for case in (self.cases[i] for i in told):
            try:
                scan, at = self.keys.scan(case), self._probable(case)
                known = self.store.read(scan)
                said = list(known[at]) if at in known else list(predict(net, case.scan))
            except Exception:  # told when its turn comes
                continue
            finally:
                case.forget()
            if at not in known:
                self.store.keep(scan, {at: said})
            for i in told if said else ():
                self.truth(i, len(said))
            return

    def truth(self, i: int, count: int) -> frozenset[int]:
        """Which of ``count`` outputs the label of a case says are true."""
        case = self.cases[i]
        return true_classes(case.label, self.net.classes, count, case.where or f"case {i + 1}")

    def _tried(self, net: Model, case: StudyCase, drawn: bool, failures: Failures) -> Iterator[tuple[str, Cells]]:
        try:
            yield from self._measure(net, case, drawn, failures)
        except Exception as error:  # the network, its prepare, a file: anybody's
            failures.add(error)

    def _measure(self, net: Model, case: StudyCase, drawn: bool, failures: Failures) -> Iterator[tuple[str, Cells]]:
        """What is missing of a case: its grades, then each verdict, then its picture."""
        scan, run = self.keys.scan(case), failures.run
        known = self.store.read(scan)
        grades = {at: key for at, key in self._grades(case).items() if key not in known}
        try:
            mask = case.truth
        except (PellucidError, OSError) as error:
            grades, mask = self._without_mask(grades), None
            failures.add(error)
        verdicts = {n: key for n, key in self._verdicts(case).items() if key not in known}
        picture = self._picture(case)
        draw = drawn and not picture.exists()
        if self._probable(case) not in known:
            yield scan, {self._probable(case): list(predict(net, case.scan))}
        if not (grades or verdicts or draw):
            return
        of = {self.beside.get(row, row) for row, _ in grades}
        names = [n for n in self.asks if draw or n in of or n in verdicts] or [next(iter(self.asks))]
        asks = [self._ask(n, case) for n in names]
        alike = {written(a.target): a.target for a in asks}
        maps = explained(
            net, case.scan, {n: replace(a, target=alike[written(a.target)]) for n, a in zip(names, asks, strict=True)}, run, failures
        )
        if mask is not None and maps:
            try:
                lay(mask, next(iter(maps.values())).image.grid)
            except (BadGrid, BadImage) as error:
                grades, mask = self._without_mask(grades), None
                failures.add(error)
        for told in self._graded(net, case, {n: maps[n] for n in maps if n in of} or maps, grades, mask, failures) if grades else ():
            yield scan, {key: {"map": at[0], **as_row(told[at])} for at, key in grades.items() if at in told}
        for n, key in verdicts.items():
            try:
                said = examine(net, maps[n].image, maps[n], self.level, run=run) if n in maps else None
            except Exception as error:
                failures.add(error, f"verdict on {n}")
            else:
                if said is not None:
                    yield scan, {key: {"map": n, "verdict": said.verdict, "reasons": list(said.reasons)}}
        if draw and len(maps) == len(self.asks):
            picture.parent.mkdir(parents=True, exist_ok=True)
            Comparison(tuple(maps.values()), tuple(maps), maps[names[0]].image).figure(picture)

    def _graded(
        self, net: Model, case: StudyCase, maps: Mapping[str, Map], grades: Mapping[tuple[str, str], str], mask: Any, failures: Failures
    ) -> Iterator[Graded]:
        """Grades of the maps of one target after another; controls that belong to no map go with those of the first one's, by whose target they are kept."""
        metrics = [m for m in self.measures if any(m.name == name for _, name in grades)]
        kinds = dict.fromkeys(row.removeprefix(f"{self.beside[row]}, ") for row, _ in grades if row in self.beside)
        first = written(self._ask(next(iter(self.asks)), case).target)
        targets: dict[str, dict[str, Map]] = {}
        for n, why in maps.items():
            targets.setdefault(written(self._ask(n, case).target), {})[n] = why

        def grading(some: Mapping[str, Map], measures: Sequence[Metric[Any]], beside: tuple[str, ...]) -> Graded:
            return grade(net, case.scan, some, measures, score=self.score, mask=mask, controls=beside, run=failures.run).measurements

        for target, some in targets.items():
            fitting = tuple(k for k in kinds if k in PAIRED or target == first or self.score is not None)
            yield graded(grading, some, metrics, fitting, failures)

    def _without_mask(self, grades: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
        needing = {m.name for m in self.measures if m.facts.needs & MASK}
        return {at: key for at, key in grades.items() if at[1] not in needing}

    # ------------------------------------------------------------------ where results lie
    @property
    def measures(self) -> list[Metric[Any]]:
        """The metrics, read."""
        return [m for m in self.metrics if isinstance(m, Metric)]

    @property
    def beside(self) -> dict[str, str | None]:
        """The controls as the tables show them, each with the map that it belongs to, if it belongs to one."""
        kinds = [c for c in PAIRED if c in self.controls and (c != "shuffled" or self.keys.network.shuffles)]
        shared: dict[str, str | None] = dict.fromkeys(c for c in CONTROLS if c in self.controls and c not in PAIRED)
        return shared | {f"{n}, {c}": n for c in kinds for n in self.asks}

    @property
    def rows(self) -> tuple[str, ...]:
        """Names of maps and controls as the tables show them."""
        return (*self.asks, *self.beside)

    def _ask(self, name: str, case: StudyCase) -> Ask:
        ask = self.asks[name]
        return ask if case.target is None else replace(ask, target=case.asked)

    def _grades(self, case: StudyCase) -> dict[tuple[str, str], str]:
        """The key of every number that there is to be of a case, by map or control and metric."""
        found = {}
        for row, of in {**{n: n for n in self.asks}, **self.beside}.items():
            ask = self._ask(of or next(iter(self.asks)), case)
            followed = ask.target if self.score is None else self.score
            control = "" if row in self.asks else row.removeprefix(f"{of}, ")
            for m in self.measures:
                if case.mask is not None or not m.facts.needs & MASK:
                    found[row, m.name] = self.keys.key(case, "grade", [ask] if of else [], metric=m, followed=followed, control=control)
        return found

    def _verdicts(self, case: StudyCase) -> dict[str, str]:
        names = self.asks if self.level != "none" else ()
        return {n: self.keys.key(case, "verdict", [self._ask(n, case)], level=self.level) for n in names}

    def _probable(self, case: StudyCase) -> str:
        return self.keys.key(case, "probabilities")

    def _picture(self, case: StudyCase) -> Path:
        key = self.keys.key(case, "picture", [self._ask(n, case) for n in self.asks], names=list(self.asks))
        return self.folder / "pictures" / f"{key}.png"

    # ------------------------------------------------------------------ what was found
    def records(self) -> Iterator[tuple[StudyCase, Cells]]:
        """Every case with what is known of its scan; nothing where the scan or a file of its results cannot be read."""
        return ((case, known) for case, known, _ in self._read())

    def _read(self) -> Iterator[tuple[StudyCase, Cells, str]]:
        """Every case, what is known of its scan, and why nothing is."""
        for case in self.cases:
            try:
                known, why = self.store.read(self.keys.scan(case)), "not measured"
            except (PellucidError, OSError) as error:
                known, why = {}, nameless(error)
            yield case, known, why
            case.forget()

    def cells(self, metric: str) -> dict[str, list[dict[str, Any] | None]]:
        """Per map and control the whole measurements as plain values, for each case."""
        name = self.metric(metric).name
        found: dict[str, list[dict[str, Any] | None]] = {row: [] for row in self.rows}
        for case, known in self.records():
            keys = self._grades(case) if known else {}
            for row, cells in found.items():
                cells.append(known.get(keys.get((row, name), "")))
        return found

    def values(self, metric: str) -> dict[str, list[float]]:
        """Per map and control the metric's value for each case, in the cases' order; NaN where there is none."""
        return {row: [math.nan if c is None else float(c["value"]) for c in cells] for row, cells in self.cells(metric).items()}

    def probabilities(self) -> list[list[float]]:
        """What the network says of each case; nothing where it is not known."""
        return [[float(p) for p in known.get(self._probable(case), ())] if known else [] for case, known in self.records()]

    def verdicts(self) -> dict[str, dict[str, int]]:
        """Per map how often each verdict was given."""
        found: dict[str, dict[str, int]] = {n: {} for n in self.asks}
        for case, known in self.records():
            for n, key in self._verdicts(case).items() if known else ():
                if key in known:
                    found[n][known[key]["verdict"]] = found[n].get(known[key]["verdict"], 0) + 1
        return found

    def pictures(self) -> list[Path]:
        """The drawings of this study's first cases, as far as they are made."""
        found = [self._picture(case) for case, known in self.records() if known]
        return [p for p in found if p.exists()][:PICTURES]

    def missing(self) -> list[str]:
        """What is not measured, by the number of the case."""
        return [f"case {i + 1}: {told}" for i, told in self._missing().items()]

    def _missing(self) -> dict[int, str]:
        found = {}
        for i, (case, known, why) in enumerate(self._read()):
            if not known:
                found[i] = why
                continue
            grades = self._grades(case)
            told = [f"no {m.name} without a mask" for m in self.measures if case.mask is None and m.facts.needs & MASK]
            for m in self.measures:
                rows = [row for (row, name), key in grades.items() if name == m.name and key not in known]
                told += [f"no {m.name} of {', '.join(rows)}"] if rows else []
            unsaid = [n for n, key in self._verdicts(case).items() if key not in known]
            told += [f"no verdict on {', '.join(unsaid)}"] if unsaid else []
            if told:
                found[i] = "; ".join(told)
        return found

    def metric(self, name: str) -> Metric[Any]:
        """The study's metric of that name."""
        for m in self.measures:
            if m.name == name:
                return m
        raise BadParameter(f"a metric of the study: {', '.join(m.name for m in self.measures)}", repr(name), "Choose one of them.")

    @property
    def version(self) -> str:
        """The package's version, as results are keyed by it."""
        return release()

    @property
    def groups(self) -> list[int]:
        """The patient of each case, by the order in which they come; a scan without one is a patient, and the same scan the same."""
        known: dict[str, int] = {}
        return [known.setdefault(name, len(known)) for name in map(self._who, range(len(self.cases)))]

    def _who(self, i: int) -> str:
        case = self.cases[i]
        try:
            return f"patient {case.patient}" if case.patient else f"scan {self.keys.scan(case)}"
        except (PellucidError, OSError):
            return f"case {i}"
