"""Tables and models of tables on the command line: rows from a CSV file, and whatever answers them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pellucid.cli.options import AsJson, Described, Seed, Text, Weights, network
from pellucid.cli.telling import say, show
from pellucid.errors import BadFile, BadParameter
from pellucid.files import put

if TYPE_CHECKING:
    from pellucid.effects import Effect
    from pellucid.run import Run

Rows = Annotated[str, typer.Argument(metavar="ROWS", help="A .csv table: a line for each case, a column for each feature.")]
Source = Annotated[
    str,
    typer.Option(
        "--model",
        help="A fitted estimator (.skops, of trees with --trust; .pkl and .joblib with --unsafe-pickle), or a network on rows as explain takes it.",
    ),
]
Columns = Annotated[list[str] | None, typer.Option("--column", help="A column. Repeatable.")]
Target = Annotated[Text, typer.Option(help="Class name or index, probability('a'), logit('a') - logit('b'), or the number of an output.")]


@dataclass(frozen=True)
class Asked:
    """What all of them are asked alike."""

    weights: Weights = None
    patient: Annotated[Text, typer.Option(help="Column that names the patient; it is no feature. Intervals are over patients.")] = None
    without: Annotated[list[str] | None, typer.Option(help="A column that is no feature (an id, a date). Repeatable.")] = None
    categorical: Annotated[list[str] | None, typer.Option(help="A column of numbers that are names. Repeatable.")] = None
    weight: Annotated[Text, typer.Option(help="Column with the weight of each case; it is no feature.")] = None
    out: Annotated[
        Text, typer.Option(help="Folder for effects.html, table.csv, figure.svg, sentences.txt and a .json that loads again.")
    ] = None
    dark: Annotated[bool, typer.Option("--dark", help="Figures on a dark ground.")] = False
    seed: Seed = 0
    as_json: AsJson = False


@dataclass(frozen=True, eq=False)
class Read:
    """A table as it was read: columns by name, text as it stands, an empty cell as None."""

    columns: dict[str, list[Any]]

    def without(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """Columns but some.

        Raises:
            BadParameter: one that is not there.
        """
        lost = next((n for n in names if n not in self.columns), None)
        if lost is not None:
            raise BadParameter("a column of the table", repr(lost), f"There are {', '.join(list(self.columns)[:10])}.")
        return {k: v for k, v in self.columns.items() if k not in names}


def read_rows(text: str) -> Read:
    """A CSV file with a line of names.

    Raises:
        BadFile: no such file, no text, no lines, or lines of several lengths.
    """
    path = Path(text)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            names, *lines = csv.reader(file)
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise BadFile(
            f"a table of rows: {path}", str(error).splitlines()[0][:100], "Give a .csv file: a line of names, a line for each case."
        ) from error
    lines = [line for line in lines if line]
    wrong = next((n for n, line in enumerate(lines, 2) if len(line) != len(names)), None)
    if not lines or wrong is not None or len(set(names)) < len(names):
        got = "no lines" if not lines else f"line {wrong} of another length" if wrong else "a name twice"
        raise BadFile(f"{len(names)} cells in each line of {path.name}, under names of their own", got, "Mend the table.")
    columns = {name: [_cell(line[k]) for line in lines] for k, name in enumerate(names)}
    return Read(columns)


def _cell(text: str) -> Any:
    return text if text.strip() else None


def open_model(source: str, weights: Text, described: Described) -> Any:
    """An estimator from its file, or a network."""
    from pellucid.loading.estimators import holds_estimator, load_estimator

    if not holds_estimator(source):
        return network(source, weights, described)
    level: Any = "pickle" if described.unsafe_pickle else "code" if described.trust else "data"
    return load_estimator(source, trust=level)[0]


def classes_of(described: Described) -> tuple[str, ...]:
    """Names of the classes, as they were given."""
    return tuple(c.strip() for c in described.classes.split(",")) if described.classes else ()


def target_of(text: Text, model: Any, classes: Sequence[str]) -> Any:
    """A class by its name, an output by its number, or an expression."""
    from pellucid.target import read_target

    own = [*classes, *map(str, getattr(model, "classes_", getattr(model, "classes", ())))]
    if text is None or text in own:
        return text
    return int(text) if text.isdigit() else read_target(text) if "(" in text else text


def given(asked: Asked, run: Run, *, weights: bool = True) -> dict[str, Any]:
    """Parameters that all functions take."""
    found: dict[str, Any] = {"patients": asked.patient, "categorical": asked.categorical or (), "run": run}
    if weights:
        found["weights"] = asked.weight
    elif asked.weight is not None:
        raise BadParameter("a question in which cases have weights", "--weight", "Leave it out here.")
    return found


def tell(found: Effect, asked: Asked, *, first: int = 12) -> None:
    """Sentences and the first rows on the terminal, everything in a folder."""
    from pellucid.table import Table

    files = write(found, Path(asked.out), dark=asked.dark) if asked.out is not None else []
    if asked.as_json:
        print(json.dumps(found.facts() | {"sentences": list(found.sentences()), "files": [str(f) for f in files]}, indent=2))
        return
    table = found.table()
    show(Table(table.columns, table.rows[:first]))
    if len(table) > first:
        say(f"... and {len(table) - first} rows more" + ("" if files else "; --out writes all"))
    for line in (*found.sentences(), *(f"file: {f.resolve()}" for f in files)):
        say(line)


def write(found: Effect, out: Path, *, name: str = "", dark: bool = False) -> list[Path]:
    """Page, table, figure, sentences and the finding itself (as ``name``; "": its kind)."""
    from pellucid.report import write_findings

    out.mkdir(parents=True, exist_ok=True)
    files = [found.table().renew(out / "table.csv"), write_findings(out / "effects.html", found)]  # first: they replace only what is ours
    found.figure(out / "figure.svg", theme="dark" if dark else "light")
    said = put(out / "sentences.txt", "\n".join(found.sentences()) + "\n")
    return [*files, out / "figure.svg", said, found.save(out / f"{name or found.kind}.json")]
