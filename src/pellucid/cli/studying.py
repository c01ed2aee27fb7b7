"""``pellucid study run | table | show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pellucid.cli.options import Chunk, Text, Trusted, Unsafe
from pellucid.cli.telling import progress, quiet_errors, say, show

study = typer.Typer(no_args_is_help=True, help="Many cases, several methods, several metrics, from a TOML file; see docs/study.md.")
Declared = Annotated[str, typer.Argument(metavar="STUDY.toml", help="The study.")]


@study.command("run")
def run(declared: Declared, chunk: Chunk = None, trust: Trusted = False, unsafe_pickle: Unsafe = False) -> None:
    """Measure what is missing, and write table and page beside the file. A run that was cut off goes on where it was."""
    from pellucid.report import write_study
    from pellucid.run import Run
    from pellucid.study import read_study, tables

    with quiet_errors():
        found = read_study(declared, trust="pickle" if unsafe_pickle else "code" if trust else "data")
        with progress("cases", "cases") as tick:
            found.run(Run(chunk=chunk), on_case=tick)
        found.folder.mkdir(parents=True, exist_ok=True)
        tables.long_table(found).renew(found.folder / "table.csv")
        page = write_study(found.folder / "study.html", found)
    show(tables.wide_table(found))
    for problem in found.problems:
        say(f"not measured: {problem}" if problem.startswith("case ") else problem)
    say(f"page: {page.resolve()}")
    if not any(v == v for m in found.measures for row in found.values(m.name).values() for v in row):
        raise SystemExit(1)


@study.command("table")
def table(
    declared: Declared,
    metric: Annotated[Text, typer.Option(help="Paired differences by this metric instead of the table of means.")] = None,
    against: Annotated[Text, typer.Option(help="With --metric: every map against this one, or a control. Default: every pair.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, a row for each map and metric.")] = False,
) -> None:
    """What is known since the last run, without measuring anything and without loading the network."""
    from pellucid.study import recall_study, tables

    with quiet_errors():
        found = recall_study(declared)
        known = tables.paired_tests(found, metric, against) if metric else tables.long_table(found) if as_csv else tables.wide_table(found)
    if as_csv:
        print(known.csv(), end="")
    else:
        show(known)


@study.command("show")
def page(
    declared: Declared, out: Annotated[Text, typer.Option(help="The page. Default: study.html in the study's folder.")] = None
) -> None:
    """Write the page of what is known since the last run, without loading the network."""
    from pellucid.report import write_study
    from pellucid.study import recall_study

    with quiet_errors():
        found = recall_study(declared)
        if out is None:
            found.folder.mkdir(parents=True, exist_ok=True)
        say(f"page: {write_study(Path(out) if out else found.folder / 'study.html', found).resolve()}")
