"""The command line: ``pellucid demo | explain | compare | examine | similar | influence | concepts | effects | tree | prototypes | study | annotate | serve | methods |
metrics | phantom``.

Heavy imports wait until a command runs.
"""

import typer

from pellucid.cli import (
    annotating,
    effects,
    examining,
    explaining,
    interventions,
    naming,
    prototypes,
    recalling,
    serving,
    showing,
    studying,
    tree,
)
from pellucid.cli.telling import fail
from pellucid.cli.telling import slug as slug
from pellucid.errors import PellucidError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Explain medical-imaging networks, with the evidence for trusting it.")
for command in (
    annotating.annotate, explaining.explain, explaining.compare, examining.examine, recalling.similar, recalling.influence, naming.concepts,
    tree.tree, serving.serve, showing.demo, showing.methods, showing.metrics, showing.phantom,
):  # fmt: skip
    app.command()(command)
app.add_typer(studying.study, name="study")
for change in (interventions.dose, interventions.sequences):
    effects.effects.command()(change)
app.add_typer(effects.effects, name="effects")
app.add_typer(prototypes.prototypes, name="prototypes")


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 1."""
    try:
        app()
    except PellucidError as error:
        fail(error)
