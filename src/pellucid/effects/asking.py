"""Asking: any model that takes rows gives one number a row: estimators, networks on rows, plain functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.effects.curve import coded
from pellucid.effects.rows import Floats, Rows, as_rows
from pellucid.errors import BadModel, BadParameter, BadTarget
from pellucid.explanation import Provenance
from pellucid.findings import signed, signed_rows
from pellucid.image import digest
from pellucid.model import Model, as_model
from pellucid.probe.ledger import untouched
from pellucid.reading import Reading
from pellucid.run import Meter, Run
from pellucid.target import Logit, Probability, Seen, Target, as_target, read_target

CHUNK = 4096  # rows that go through a network side by side
Asker = Callable[[Any], Floats]


@dataclass(frozen=True, eq=False)
class Answer:
    """What is asked of a model: rows in, (n,) out. ``score`` says what the numbers are, ``within`` what they cannot leave."""

    ask: Asker
    score: str
    name: str
    framed: bool = False
    within: tuple[float, float] | None = None
    model: Model | None = None
    told: Mapping[str, str] = field(default_factory=dict)
    means: tuple[str, ...] = ()  # how a truth may name the class that is asked about


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of each row: numbers, or 1 and 0 for the class that is asked about and the others."""

    values: Floats
    binary: bool


@dataclass(frozen=True, eq=False)
class Asked:
    """A model, the rows it is asked about, whose they are and what they weigh."""

    rows: Rows
    answer: Answer
    whose: tuple[Hashable, ...] | None
    weights: Floats | None
    run: Run
    meter: Meter
    began: float

    def scores(self, changed: Mapping[str, Any] | None = None, at: Any = None) -> Floats:
        """Scores (n,) in float64 with some columns replaced, of the rows at some places alone if they are given.

        Raises:
            BadModel: another number of answers than rows, or one that is not finite.
        """
        rows = self.rows if at is None else self.rows.at(at)
        found = np.asarray(self.answer.ask(rows.given(changed or {}, framed=self.answer.framed)), dtype=np.float64)
        if found.shape != (len(rows),):
            raise BadModel(f"one number for each of {len(rows)} rows", f"shape {found.shape}", "Name the output: target=0.")
        if not np.isfinite(found).all():
            raise BadModel("finite answers", "NaN or infinity", "Look at the rows: values that the model cannot take?")
        self.meter.tick(forward=len(rows))
        return found

    def sign(self, method: str, *, cite: str = "", notes: Sequence[str] = ()) -> Provenance:
        """How what was found came about; a model that is no network is known by its answers to the rows."""
        marks = digest(torch.from_numpy(np.nan_to_num(self.rows.matrix())), *self.rows.names)
        seconds = time.perf_counter() - self.began
        if self.answer.model is not None:
            said = signed(
                self.answer.model, self.run, method, target=self.answer.score, image=marks, seconds=seconds, cite=cite, notes=notes
            )  # fmt: skip
        else:
            bare = signed_rows(method, self.rows.matrix(), target=self.answer.score, cite=cite)
            answers = {"answers": digest(torch.from_numpy(self.scores()))}
            said = replace(
                bare, image=marks, scan=marks, model=self.answer.name, seed=self.run.seed, seconds=round(seconds, 4),
                caveats=tuple(dict.fromkeys(notes)), described={**self.answer.told, **answers},
            )  # fmt: skip
        return replace(said, forward=self.meter.forward)

    @property
    def network(self) -> str:
        """Identity of the network; "" of what is none."""
        return "" if self.answer.model is None else self.answer.model.identity


def asked(
    model: Any, rows: Any, *, target: Any = None, classes: Sequence[str] = (), categorical: Iterable[str] = (),
    patients: Sequence[Hashable] | str | None = None, weights: Sequence[float] | str | None = None, truth: Any = None, run: Run | None = None,
) -> Asked:  # fmt: skip
    """A model and rows, settled: columns that are patients, weights or the truth are no features.

    Raises:
        BadParameter, BadModel, BadTarget: rows, model or target that cannot be used.
    """
    began = time.perf_counter()
    apart = [name for name in (patients, weights, truth) if isinstance(name, str)]
    whole = as_rows(rows, categorical=categorical)
    table = as_rows(whole, without=apart)
    who = (
        None if patients is None else tuple((whole[patients] if isinstance(patients, str) else np.asarray(patients, dtype=object)).tolist())
    )
    coded(who, len(table))  # as many as rows
    heavy = None if weights is None else np.asarray(whole[weights] if isinstance(weights, str) else weights, dtype=np.float64)
    if heavy is not None and (heavy.shape != (len(table),) or not np.isfinite(heavy).all() or (heavy < 0).any() or heavy.sum() <= 0):
        raise BadParameter(f"a weight from 0 on for each of {len(table)} rows", f"shape {heavy.shape}", "Give such weights.")
    run = run or Run()
    return Asked(table, answer_of(model, table, target, classes), who, heavy, run, Meter(run), began)


def truth_of(question: Asked, rows: Any, given: Sequence[Any] | str) -> Truth:
    """The truth of each row, a column of the rows or given beside them; labels as whether they name the class that is asked about.

    Raises:
        BadParameter: not one for each row, a missing one, or labels among which the class is none or all.
    """
    values = as_rows(rows)[given] if isinstance(given, str) else np.asarray(given)
    if values.shape != (len(question.rows),):
        raise BadParameter(f"a truth for each of {len(question.rows)} rows", f"shape {values.shape}", "Give as many.")
    means = question.answer.means
    texts = np.array(
        [
            f"{v:g}" if isinstance(v, (float, np.floating)) else str(int(v)) if isinstance(v, (bool, np.bool_)) else str(v)
            for v in values.tolist()
        ]
    )
    if means:
        found = np.isin(texts, means)
        if not found.any() or found.all():
            got = f"{', '.join(sorted(set(texts.tolist()))[:6])}"
            raise BadParameter(
                f"labels of which some are {' or '.join(dict.fromkeys(means))}", got, "Give the labels of the classes, or target=."
            )
        return Truth(found.astype(np.float64), True)
    try:
        numbers = values.astype(np.float64)
    except (TypeError, ValueError):
        raise BadParameter("a truth in numbers", repr(texts[0]), "Give numbers, or 0 and 1.") from None
    if not np.isfinite(numbers).all():
        raise BadParameter("a truth for each row", "missing values", "Leave those rows out.")
    return Truth(numbers, set(np.unique(numbers)) <= {0.0, 1.0})


def answer_of(model: Any, rows: Rows, target: Any, classes: Sequence[str]) -> Answer:
    """How a model is asked: a network, a scikit-learn-like estimator, or a function of the rows.

    Raises:
        BadModel: nothing of the kind; a model that was fitted on other columns.
        BadTarget: no such class or output.
    """
    if isinstance(model, (Model, nn.Module)):
        return _network(as_model(model), target, classes)
    if hasattr(model, "predict_proba") or (hasattr(model, "decision_function") and hasattr(model, "classes_")):
        return _classifier(model, rows, target, classes)
    if hasattr(model, "predict"):
        return Answer(
            _output(model.predict, target), _output_name("prediction", target), _name(model), _framed(model, rows), None, None, _told(model)
        )
    if callable(model):
        return Answer(_output(model, target), _output_name("answer", target), _name(model))
    fix = "Give a fitted estimator, a torch.nn.Module, a pellucid.Model, or a function of the rows."
    raise BadModel("a model that takes rows", type(model).__name__, fix)


def _name(model: Any) -> str:
    return str(getattr(model, "__qualname__", type(model).__name__))


def _told(model: Any) -> dict[str, str]:
    """An estimator's own description; addresses in memory tell nothing."""
    text = " ".join(repr(model).split())
    return {} if " at 0x" in text else {"estimator": text[:400]}


def _framed(model: Any, rows: Rows) -> bool:
    """Whether the estimator knows columns by name; they must then be these."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        count = getattr(model, "n_features_in_", len(rows.names))
        if count != len(rows.names):
            raise BadModel(
                f"a model fitted on {len(rows.names)} columns",
                f"one fitted on {count}",
                "Leave out what is no feature: patients=, --without.",
            )
        return False
    if list(map(str, names)) != list(rows.names):
        lost = [str(n) for n in names if str(n) not in rows.names]
        got = f"without {', '.join(map(repr, lost[:4]))}" if lost else "another order, or more columns"
        raise BadModel("the columns that the model was fitted on, in their order", got, f"Give {', '.join(map(str, names[:6]))}, ...")
    return True


def _output(ask: Callable[[Any], Any], target: Any) -> Asker:
    if target is not None and (isinstance(target, bool) or not isinstance(target, int)):
        raise BadTarget("an output of this model by its number", repr(target), "Leave target= out, or write target=0.")

    def answered(rows: Any) -> Floats:
        found = np.asarray(ask(rows), dtype=np.float64)
        if found.ndim == 2 and (found.shape[1] == 1 or target is not None):
            k = target or 0
            if not 0 <= k < found.shape[1]:
                raise BadTarget(f"an output from 0 to {found.shape[1] - 1}", repr(target), "Count from 0.")
            return np.asarray(found[:, k])
        return found

    return answered


def _output_name(what: str, target: Any) -> str:
    return what if target is None else f"{what} number {target}"


def _classifier(model: Any, rows: Rows, target: Any, classes: Sequence[str]) -> Answer:
    """A class alone means its probability; a Target reads log probabilities, so that logit(a) - logit(b) are log odds."""
    own = tuple(str(c) for c in getattr(model, "classes_", ()))
    names = tuple(str(c) for c in classes) or own
    if not own or len(names) != len(own):
        raise BadModel(f"a fitted classifier with {len(names)} classes", f"{len(own)}", "Fit it, or name every class: classes=.")
    reading = Reading("logits", names)
    framed, told = _framed(model, rows), _told(model)
    if isinstance(target, Target):

        def logs(given: Any) -> Floats:
            p = torch.as_tensor(np.asarray(model.predict_proba(given), dtype=np.float64))
            return np.asarray(_score(target, p.clamp_min(torch.finfo(p.dtype).tiny).log(), reading).numpy())

        return Answer(logs, _words(target), _name(model), framed, _inside(target), None, told)
    k = _index(target, names, own)
    if hasattr(model, "predict_proba"):
        means, score = (own[k], names[k]), f"probability of {names[k]!r}"
        return Answer(
            lambda given: np.asarray(model.predict_proba(given))[:, k], score, _name(model), framed, (0.0, 1.0), None, told, means
        )

    def decided(given: Any) -> Floats:
        z = np.asarray(model.decision_function(given), dtype=np.float64)
        return z[:, k] if z.ndim == 2 else z if k == 1 else -z

    return Answer(decided, f"decision value of {names[k]!r}", _name(model), framed, None, None, told, (own[k], names[k]))


def _index(target: Any, names: tuple[str, ...], own: tuple[str, ...]) -> int:
    """Which class: of two the second, as scikit-learn counts, where none is named."""
    if target is None:
        if len(names) == 2:
            return 1
        raise BadTarget("one of several classes", "none", f"Name it: target={names[0]!r}; there are {', '.join(map(repr, names[:8]))}.")
    if isinstance(target, str) and target in own and target not in names:
        return own.index(target)
    if not isinstance(target, (int, str)):
        raise BadTarget("a class by its name or number, or a Target", type(target).__name__, f"Write target={names[0]!r}.")
    return Reading("logits", names).index(target, len(names))


def _network(model: Model, target: Any, classes: Sequence[str]) -> Answer:
    model = replace(model, classes=tuple(str(c) for c in classes)) if len(classes) else model
    model.check_weights()
    one = target is None and not model.classes
    wanted = Logit(0) if one else as_target(read_target(target) if isinstance(target, str) and target not in model.classes else target)
    if wanted.open or wanted.sites:
        raise BadTarget("one output of the network, the same for all rows", repr(target), "Name a class or an index: target=1.")

    def forward(rows: Any) -> Floats:
        x = torch.from_numpy(np.asarray(rows, dtype=np.float64)).to(model.device, model.dtype or torch.float32)
        found = []
        with untouched(model.module), torch.no_grad():
            for chunk in x.split(CHUNK):
                out = model.forward(chunk)
                if one and out.ndim > 1 and out.shape[1] > 1:
                    raise BadTarget(f"one of {out.shape[1]} outputs", "none", "Name it: target=1.")
                found.append(_score(wanted, out, model.reading.of(out, 0)).double().cpu())
        return np.asarray(torch.cat(found).numpy())

    if model.classes:
        empty = Seen(torch.zeros(1, len(model.classes)), model.reading)
        wanted = wanted.settle(empty, None)  # type: ignore[arg-type]  # a score of rows has no grid
    own = (str(wanted.k), str(model.reading.index(wanted.k))) if isinstance(wanted, (Logit, Probability)) and model.classes else ()
    return Answer(forward, "output" if one else _words(wanted), model.name, False, _inside(wanted), model, {}, own)


def _words(target: Target) -> str:
    """What a target's numbers are."""
    if isinstance(target, (Logit, Probability)):
        name = target.k if isinstance(target.k, int) else str(target.k)
        return f"{type(target).__name__.lower()} of {f'class {name}' if isinstance(name, int) else repr(name)}"
    return repr(target)


def _inside(target: Target) -> tuple[float, float] | None:
    return (0.0, 1.0) if isinstance(target, Probability) else None


def _score(target: Target, output: Tensor, reading: Reading) -> Tensor:
    return target.score(Seen(output, reading))
