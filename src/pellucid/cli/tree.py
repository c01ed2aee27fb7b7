"""``pellucid tree``: a decision tree to read and to draw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.options import AsJson, Classes, Text, Trusted, Unsafe
from pellucid.cli.tabular import read_rows
from pellucid.cli.telling import quiet_errors, say
from pellucid.errors import BadParameter

if TYPE_CHECKING:
    from pellucid.effects import Tree


def tree(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A fitted tree or forest: .skops with --trust; .pkl and .joblib with --unsafe-pickle.")
    ],
    out: Annotated[Text, typer.Option(help="Picture (.svg), or a page with picture, rules and numbers (.html).")] = None,
    names: Annotated[Text, typer.Option(help="Names of the columns, comma-separated.")] = None,
    rows: Annotated[
        Text, typer.Option(help="A .csv table whose columns have the names, with --without for those that are no features.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="A column of the table that is no feature. Repeatable.")] = None,
    classes: Classes = None,
    depth: Annotated[int, typer.Option(min=0, help="Questions from the root that are shown.")] = 4,
    number: Annotated[int, typer.Option(min=0, help="Which tree of a forest.")] = 0,
    theme: Annotated[str, typer.Option(help="light, dark, or auto: as the reader has it.")] = "auto",
    trust: Trusted = False,
    unsafe_pickle: Unsafe = False,
    as_json: AsJson = False,
) -> None:
    """Read and draw a decision tree: its questions with impurity, gain, cases and class shares; its rules in words."""
    from pellucid.effects import tree as read
    from pellucid.loading.estimators import load_estimator

    with quiet_errors():
        if names is not None and rows is not None:
            raise BadParameter("either --names or --rows", "both", "Give one.")
        named = [n.strip() for n in names.split(",")] if names else list(read_rows(rows).without(without or [])) if rows else None
        held = load_estimator(model, trust="pickle" if unsafe_pickle else "code" if trust else "data")[0]
        kinds = [c.strip() for c in classes.split(",")] if classes else ()
        found = read(held, names=named, classes=kinds, depth=depth, number=number)
        if out is not None:
            _draw(found, Path(out), theme)
    if as_json:
        told = found.facts() | {"sentences": list(found.sentences()), "rules": list(found.rules())}
        print(json.dumps(told | ({"file": out} if out else {}), indent=2))
        return
    for line in (*found.sentences(), "", *found.rules(), *([f"file: {Path(out).resolve()}"] if out else [])):
        say(line)


def _draw(found: Tree, out: Path, theme: str) -> None:
    """The picture, or the page; that is light or dark as its reader has it."""
    from pellucid.report import write_findings

    if out.suffix.lower() != ".html":
        found.figure(out, theme=theme)
    elif theme != "auto":
        raise BadParameter("a page that follows its reader", f"--theme {theme}", "Leave --theme out, or write .svg.")
    else:
        write_findings(out, found, title="A decision tree")
