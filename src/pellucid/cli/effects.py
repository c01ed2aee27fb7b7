"""``pellucid effects``: what a model does over many cases. Curves, importance, interactions, forests, surrogates, additive models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pellucid.cli.options import Described, Text, asking
from pellucid.cli.sets import read_set, unnamed
from pellucid.cli.tabular import Asked, Columns, Rows, Source, Target, classes_of, given, open_model, read_rows, target_of, tell
from pellucid.cli.telling import progress, quiet_errors
from pellucid.errors import BadParameter

if TYPE_CHECKING:
    from pellucid.run import Run
    from pellucid.table import Table

effects = typer.Typer(
    no_args_is_help=True,
    help="What a model does over many cases: curves, importance, interactions, forests, surrogates, additive models; changes of images.",
)
Truth = Annotated[str, typer.Option(help="Column with the truth; it is no feature.")]
KINDS = ("pdp", "ice", "centered", "derivative", "ale")


def _run(asked: Asked, tick: Any) -> Run:
    from pellucid.run import Run

    return Run(seed=asked.seed, on_tick=tick)


def _one_of(option: str, text: str, known: tuple[str, ...]) -> str:
    if text not in known:
        raise BadParameter(f"{option} is one of {', '.join(known)}", repr(text), "Choose one.")
    return text


@effects.command()
@asking
def curve(
    rows: Rows,
    model: Source,
    column: Annotated[list[str], typer.Option(help="What is moved. Two: both together; of 'ale' what they do beyond each alone.")],
    kind: Annotated[str, typer.Option(help="pdp (mean), ice (each case), centered, derivative, or ale (steps near real cases).")] = "pdp",
    grid: Annotated[int, typer.Option(min=2, help="How many values, at quantiles of the column.")] = 20,
    target: Target = None,
    *,
    asked: Asked,
    described: Described,
) -> None:
    """What a model answers as a column is moved: mean and cases, with what lies beyond the data in gray."""
    from pellucid.effects import ale, ale_pair, ice, partial_dependence, partial_dependence_pair

    with quiet_errors():
        _one_of("--kind", kind, KINDS)
        table, net, classes = (
            read_rows(rows).without(asked.without or []),
            open_model(model, asked.weights, described),
            classes_of(described),
        )
        with progress("asking", "rows") as tick:
            more = given(asked, _run(asked, tick)) | {"target": target_of(target, net, classes), "classes": classes, "grid": grid}
            if len(column) == 2:
                _one_of("--kind of two columns", kind, ("pdp", "ale"))
                if kind == "ale":
                    more.pop("categorical")
                two = cast("Any", partial_dependence_pair if kind == "pdp" else ale_pair)
                found = two(net, table, *column, **more)
            elif len(column) == 1 and kind == "ale":
                found = ale(net, table, column[0], **more)
            elif len(column) == 1:
                view = cast("Any", "individual" if kind == "ice" else kind)
                found = (
                    partial_dependence(net, table, column[0], **more) if kind == "pdp" else ice(net, table, column[0], view=view, **more)
                )
            else:
                raise BadParameter("one column or two", f"{len(column)}", "Ask for each by itself.")
        tell(found, asked, first=30)


@effects.command()
@asking
def importance(
    rows: Rows,
    model: Source,
    truth: Truth,
    metric: Annotated[Text, typer.Option(help="auc, accuracy, 'log loss', brier, r2, 'squared error', 'absolute error'.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Shuffles of each column.")] = 10,
    group: Annotated[list[str] | None, typer.Option(help="Columns shuffled together: 'size=radius,area'. Repeatable.")] = None,
    correlated: Annotated[float | None, typer.Option(help="Shuffle columns together whose rank correlation is at least this.")] = None,
    target: Target = None,
    *,
    asked: Asked,
    described: Described,
) -> None:
    """What a model loses when a column is shuffled, with intervals over patients. Give cases that it was not fitted on."""
    from pellucid.effects import correlated as together
    from pellucid.effects import permutation_importance

    with quiet_errors():
        read = read_rows(rows)
        table, net, classes = read.without(asked.without or []), open_model(model, asked.weights, described), classes_of(described)
        apart = [n for n in (asked.patient, asked.weight, truth, *(asked.without or [])) if n]
        groups = _groups(group or [])
        if correlated is not None:
            groups = dict(together(read.without(apart), at=correlated, categorical=asked.categorical or ())) | groups
        with progress("shuffling", "rows") as tick:
            found = permutation_importance(
                net, table, truth, target=target_of(target, net, classes), classes=classes, groups=groups, metric=metric, repeats=repeats,
                **given(asked, _run(asked, tick)),
            )  # fmt: skip
        tell(found, asked, first=20)


def _groups(texts: list[str]) -> dict[str, tuple[str, ...]]:
    found = {}
    for text in texts:
        name, equal, columns = text.partition("=")
        if not equal or not name.strip() or not columns.strip():
            raise BadParameter("a group as 'name=column,column'", repr(text), "Write --group 'size=radius,area'.")
        found[name.strip()] = tuple(c.strip() for c in columns.split(","))
    return found


@effects.command()
@asking
def interactions(
    rows: Rows,
    model: Source,
    column: Columns = None,
    cases: Annotated[int, typer.Option(min=2, help="Cases that are asked about, drawn by the seed.")] = 100,
    absolute: Annotated[bool, typer.Option("--absolute", help="In the score's unit, not as a share of what both do.")] = False,
    target: Target = None,
    *,
    asked: Asked,
    described: Described,
) -> None:
    """Which share of what two columns do is done by neither alone (Friedman's H)."""
    from pellucid.effects import h_statistic

    with quiet_errors():
        table, net, classes = (
            read_rows(rows).without(asked.without or []),
            open_model(model, asked.weights, described),
            classes_of(described),
        )
        with progress("asking", "rows") as tick:
            found = h_statistic(
                net, table, column or None, target=target_of(target, net, classes), classes=classes, cases=cases, normalized=not absolute,
                **given(asked, _run(asked, tick), weights=False),
            )  # fmt: skip
        tell(found, asked, first=20)


@effects.command()
@asking
def forest(
    rows: Rows,
    model: Source,
    truth: Truth,
    fitted_on: Annotated[Text, typer.Option(help="The .csv table that it was fitted on: shows how much impurity gives to noise.")] = None,
    metric: Annotated[Text, typer.Option(help="auc, r2, ... as of importance.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Shuffles of each column.")] = 10,
    target: Target = None,
    *,
    asked: Asked,
    described: Described,
) -> None:
    """A forest's importance by impurity beside that by permutation, and what impurity gets wrong."""
    from pellucid.effects import forest_importance

    with quiet_errors():
        apart = asked.without or []
        net, classes = open_model(model, asked.weights, described), classes_of(described)
        own = None
        if fitted_on is not None:
            whole = read_rows(fitted_on).without([*apart, *([asked.patient] if asked.patient else [])])
            own = (whole, truth)
        with progress("shuffling", "rows") as tick:
            more = given(asked, _run(asked, tick), weights=False)
            more.pop("categorical")
            found = forest_importance(
                net, read_rows(rows).without(apart), truth, fitted_on=own, target=target_of(target, net, classes), classes=classes,
                metric=metric, repeats=repeats, **more,
            )  # fmt: skip
        tell(found, asked, first=20)


@effects.command()
@asking
def surrogate(
    model: Source,
    rows: Annotated[Text, typer.Option(help="A .csv table of features, of which the model answers the rows.")] = None,
    images: Annotated[
        Text, typer.Option(help="Images that the network answers: a folder, or a .csv table (image, label, patient).")
    ] = None,
    feature: Annotated[list[str] | None, typer.Option(help="Features of images: first_order, texture. Repeatable; default: both.")] = None,
    form: Annotated[str, typer.Option(help="tree or linear.")] = "tree",
    depth: Annotated[int, typer.Option(min=1, help="Questions of a tree.")] = 3,
    columns: Annotated[int, typer.Option(min=1, help="Columns of a linear one, at most.")] = 5,
    decide: Annotated[float | None, typer.Option(help="Score from which the model decides for the class.")] = None,
    target: Target = None,
    *,
    asked: Asked,
    described: Described,
) -> None:
    """A tree or a few weights that answer as a model does: how well on other patients, how stable, and whether to read it."""
    from pellucid.effects import surrogate as fit

    with quiet_errors():
        _one_of("--form", form, ("tree", "linear"))
        net, classes = open_model(model, asked.weights, described), classes_of(described)
        if (rows is None) == (images is None):
            raise BadParameter("either --rows or --images", "both" if rows else "neither", "Give one.")
        with progress("asking") as tick:
            more = given(asked, _run(asked, tick), weights=False) | {"form": form, "depth": depth, "columns": columns, "decide": decide}
            if rows is not None:
                table: Any = read_rows(rows).without(asked.without or [])
                found = fit(net, table, target=target_of(target, net, classes), classes=classes, **more)
            else:
                table, scores, patients, within = _described(str(images), net, target, feature, more["run"])
                more |= {"patients": patients, "decide": 0.5 if decide is None and within == (0.0, 1.0) else decide}
                found = fit(scores, table, score=target or "score", **more)
        tell(found, asked)


def _described(images: str, net: Any, target: Text, feature: list[str] | None, run: Run) -> tuple[Table, list[float], Any, Any]:
    """Features of images, the network's scores of them, and their patients."""
    from pellucid.effects.scoring import Scoring
    from pellucid.features.describe import describe
    from pellucid.table import Table

    cases = read_set(images)
    with unnamed(cases):
        asking_net = Scoring(net, target, run, cases.scans[0], len(cases))
        scores: list[float] = []
        rows: list[tuple[Any, ...]] = []
        names: tuple[str, ...] = ()
        for scan in cases.scans:  # one at a time: a set may be larger than memory
            ready = asking_net.ready(scan)
            one = describe([ready], groups=cast("Any", tuple(feature or ("first_order", "texture"))))
            names = tuple(c for c in one.columns if c not in ("image", "region"))
            rows.append(tuple(one[c][0] for c in names))
            scores += asking_net.scores(ready, [ready.values])
            asking_net.tick()
    return Table(names, tuple(rows)), scores, cases.known_patients, asking_net.within


@effects.command()
@asking
def additive(
    rows: Rows,
    truth: Truth,
    pairs: Annotated[int, typer.Option(min=0, help="Pairs of columns that are taken up, at most.")] = 5,
    bags: Annotated[int, typer.Option(min=1, help="Models that are averaged.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of boosting, at most.")] = 5000,
    test: Annotated[float, typer.Option(help="Share of the patients that nothing is fitted on.")] = 0.25,
    target: Annotated[Text, typer.Option(help="Which of two labels is told of.")] = None,
    *,
    asked: Asked,
) -> None:
    """Fit an additive model with pairs (GA2M): curves that can be read, and how good they are on other patients."""
    from pellucid.effects import additive_model

    with quiet_errors():
        with progress("fitting") as tick:
            more = given(asked, _run(asked, tick), weights=False)
            table = read_rows(rows).without(asked.without or [])
            found = additive_model(table, truth, target=target, pairs=pairs, bags=bags, rounds=rounds, test=test, **more)
        tell(found, asked, first=20)
