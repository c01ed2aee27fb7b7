"""``pellucid annotate``: what a map's proposals are worth, as IoU of a small detector against a reader's effort."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pellucid.cli.options import AsJson, Text
from pellucid.cli.telling import progress, quiet_errors, say, show
from pellucid.errors import BadParameter
from pellucid.files import put
from pellucid.params import named

if TYPE_CHECKING:
    from pellucid.annotation import Case
    from pellucid.table import Table


def annotate(
    kind: Annotated[str, typer.Option(help="Phantoms with known findings: fundus_dme, chest, brain_atrophy.")] = "fundus_dme",
    cases: Annotated[int, typer.Option(min=4, help="Phantoms for training, and as many held out.")] = 24,
    seeds: Annotated[int, typer.Option(min=1, help="How often each detector is trained, on other choices of cases.")] = 3,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 80,
    method: Annotated[Text, typer.Option(help="Whose maps propose: 'grad_cam', 'blur_ig(steps=16)'.")] = None,
    cut: Annotated[Text, typer.Option(help="How maps are cut: \"threshold='adaptive', smooth='3px'\". See propose.")] = None,
    hand: Annotated[Text, typer.Option(help="The simulated reader: 'good=0.7, slip=0.5'.")] = None,
    session: Annotated[Text, typer.Option(help="Instead of phantoms: the --out folder of `pellucid serve` with real annotations.")] = None,
    scans: Annotated[Text, typer.Option(help="With --session: the folder of scans that was served.")] = None,
    out: Annotated[Text, typer.Option(help="Folder for the table (CSV), the numbers (JSON) and the curve (SVG).")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a small detector on what maps propose, on corrected proposals, on boxes by hand and on nothing: IoU against effort."""
    with quiet_errors():
        from pellucid.annotation import Hand, exercise

        if (session is None) != (scans is None):
            raise BadParameter("--session together with --scans", "one of them", "Give both, or neither for phantoms.")
        training, held_out = _of_session(session, scans) if session and scans else _of_phantoms(kind, cases, method, cut)
        with progress("trainings") as tick:
            found = exercise(training, held_out, seeds=seeds, steps=steps, hand=Hand(**named("--hand", hand)), on_training=tick)
        files = _written(found.as_dict(), found.table(), Path(out)) if out else []
    if as_json:
        print(json.dumps({**found.as_dict(), "files": files}, indent=2))
        return
    show(found.table())
    for line in (*found.said, *files):
        say(line)


def _of_phantoms(kind: str, cases: int, method: Text, cut: Text) -> tuple[list[Case], list[Case]]:
    from pellucid.annotation import phantom_cases

    with progress(f"phantoms: {kind}") as tick:
        made = [phantom_cases(kind, cases, seed=s, method=method, on_case=tick, **named("--cut", cut)) for s in (101, 202)]
    return made[0], made[1]


def _of_session(session: str, scans: str) -> tuple[list[Case], list[Case]]:
    from pellucid.annotation import halves, session_cases

    return halves(session_cases(session, scans))


def _written(told: dict[str, object], table: Table, out: Path) -> list[str]:
    from pellucid.report.plots import effort_plot

    out.mkdir(parents=True, exist_ok=True)
    curve = base64.b64decode(effort_plot(told["arms"], ""))  # type: ignore[arg-type]
    files = [table.renew(out / "annotate.csv")]  # first: it refuses to replace what is not ours
    files += [put(out / "annotate.json", json.dumps(told, indent=2)), put(out / "annotate.svg", curve)]
    return [str(f.resolve()) for f in files]
