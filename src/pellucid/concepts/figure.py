"""Concepts x classes against what an expert expects: where the network agrees, and where it follows what does not belong to the class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pellucid.concepts.result import ConceptRow, Concepts, scored
from pellucid.errors import BadFile, BadParameter
from pellucid.files import whole
from pellucid.table import Table, read_csv

Agreement = Literal["agrees", "contradicts", "not seen", "as expected", "no opinion", "not tested"]
Expected = Mapping[tuple[str, str], bool] | Mapping[str, Mapping[str, bool]]
# color, mark, hatch: no finding is told by color alone
LOOKS: dict[Agreement, tuple[str, str, str]] = {
    "agrees": ("#1b9e77", "✓", ""),
    "as expected": ("#9fd8c5", "✓", "...."),
    "contradicts": ("#d1495b", "✗", "////"),
    "not seen": ("#9aa5b1", "?", ""),
    "no opinion": ("#c9d1d9", "", ""),
    "not tested": ("#ffffff", "–", ""),
}
INKS: dict[Agreement, str] = {"agrees": "#12795a", "as expected": "#12795a", "contradicts": "#b83446"}
YES, NO = {"yes", "true", "1", "belongs"}, {"no", "false", "0", "does not belong"}
INK, SOFT, LINE = "#18232e", "#566473", "#dde3e9"


def agreement(concepts: Concepts, expected: Expected) -> Table:
    """Each concept and class: what was found, what an expert expects, and whether they agree.

    Args:
        concepts: from ``tcav``.
        expected: ``{class: {concept: True or False}}`` (or by pairs ``(concept, class)``): True belongs to the class, False speaks against it or does
            not belong to it; what is not named has no opinion.

    Returns:
        A row for each concept, site and target. ``agrees``: it belongs and raises the score; ``contradicts``: it belongs and lowers it, or does not
        belong and raises it; ``as expected``: it does not belong, and does not raise it; ``not seen``: it belongs, but is no more than random;
        ``not tested``: activations do not tell it from random, or random sets are too few.

    Raises:
        BadParameter: an expectation of a concept or class that was not tested, or one that is not True or False.
    """
    wanted = _pairs(expected)
    there = {(r.concept, r.target) for r in concepts.rows}
    strange = next((k for k in wanted if k not in there), None)
    if strange is not None:
        raise BadParameter("expectations of concepts and classes that were tested", repr(strange), f"There are {sorted(there)[:6]}.")
    rows = [
        (
            r.concept,
            r.site,
            r.target,
            r.score,
            r.p,
            r.verdict,
            _said(wanted.get((r.concept, r.target))),
            judged(r, wanted.get((r.concept, r.target))),
        )
        for r in concepts.rows
    ]
    return Table(("concept", "site", "target", "score", "p", "found", "expected", "agreement"), tuple(rows))


def read_expected(path: str | Path) -> dict[tuple[str, str], bool]:
    """What an expert expects, from a CSV table with the columns concept, expected (yes or no), and target, which may be missing: ``""`` then.

    Rows whose ``expected`` is empty have no opinion and are left out.

    Raises:
        BadFile: no table, a column that is missing, an empty concept, another word than yes or no, or two opinions on one thing.
    """
    table = Path(path)
    columns = ("concept", "expected")
    read = read_csv(table, "a table of what is expected", *columns, fix="Its columns are concept, target and expected.")
    found: dict[tuple[str, str], bool] = {}
    for n, row in zip(read.lines, read.rows, strict=True):
        concept, target, said = (row.get(c, "") for c in ("concept", "target", "expected"))
        if not said:
            continue
        if not concept or said.lower() not in YES | NO:
            raise BadFile(
                f"a concept, and yes or no, in line {n} of {table.name}", repr(said if concept else ""), "Or leave expected empty."
            )
        if found.setdefault((concept, target), said.lower() in YES) != (said.lower() in YES):
            raise BadFile(f"one opinion on {concept!r} in {table.name}", f"another in line {n}", "Keep one.")
    return found


def told(table: Table) -> tuple[str, ...]:
    """What ``agreement`` found, in words: how often each, and every contradiction by name."""
    rows = list(table)
    asked = [r for r in rows if r["expected"]]
    if not asked:
        return ()
    counts = Counter(r["agreement"] for r in asked)
    words = {
        "agrees": "found as expected", "as expected": "rightly not raising it", "contradicts": "against what is expected",
        "not seen": "expected and not seen", "not tested": "not told from random images",
    }  # fmt: skip
    lines = [f"Of {len(asked)} expectations: " + ", ".join(f"{counts[k]} {w}" for k, w in words.items() if counts[k]) + "."]
    for r in (r for r in asked if r["agreement"] == "contradicts"):
        own = "which belongs to it" if r["expected"] == "belongs" else "which does not belong to it"
        lines.append(f"Against what is expected: {r['concept']} {r['found']} the {scored(r['target'])}, {own} (at {r['site']}).")
    return tuple(lines)


def _pairs(expected: Expected) -> dict[tuple[str, str], bool]:
    found: dict[tuple[str, str], bool] = {}
    for key, value in expected.items():
        if isinstance(value, Mapping):
            found |= {(concept, str(key)): one for concept, one in value.items()}
        else:
            found[key] = value  # type: ignore[index]
    wrong = next((k for k, v in found.items() if not isinstance(v, bool) or not isinstance(k, tuple)), None)
    if wrong is not None:
        raise BadParameter("expectations as {class: {concept: True or False}}", repr(wrong), "Leave out what nobody has an opinion on.")
    return found


def _said(wanted: bool | None) -> str:
    return "" if wanted is None else "belongs" if wanted else "does not belong"


def judged(row: ConceptRow, wanted: bool | None) -> Agreement:
    """One finding against one expectation."""
    if row.verdict in ("not told apart", "too few random sets"):
        return "not tested"
    if wanted is None:
        return "no opinion"
    if row.verdict == "no more than random":
        return "not seen" if wanted else "as expected"
    up = row.verdict == "raises"
    if wanted:
        return "agrees" if up else "contradicts"
    return "contradicts" if up else "as expected"


def matrix_figure(
    concepts: Concepts, expected: Expected, path: str | Path | None = None, *, site: str | None = None, title: str = ""
) -> Any:
    """The matrix of classes (rows) and concepts (columns): TCAV scores as bars from one half, where nothing matters, up or down; the random sets' range
    is a gray band behind them.

    Green with a check agrees with the expert, red with a cross contradicts; a question mark is a concept that belongs to the class but was not seen, a
    dash one that was not tested. Faint bars are no more than random.

    Args:
        concepts, expected: as in ``agreement``.
        path: where to write it (``.png``, ``.svg``, ``.pdf``); None: only make it.
        site: which one, where there are several.
        title: above it.

    Returns:
        The matplotlib Figure.

    Raises:
        BadParameter: several sites and none named, or one that was not tested.
        BadFile: a suffix that cannot be written.
    """
    from matplotlib.figure import Figure

    agreement(concepts, expected)
    wanted = _pairs(expected)
    rows = _of_site(concepts, site)
    targets, names = (list(dict.fromkeys(getattr(r, a) for r in rows)) for a in ("target", "concept"))
    figure = Figure(figsize=(2.2 + 1.15 * len(names), 1.5 + 1.25 * len(targets)), layout="constrained")
    axes = figure.subplots(len(targets), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for at, target in zip(axes, targets, strict=True):
        own = {r.concept: r for r in rows if r.target == target}
        _strip(at, target, names, own, {n: wanted.get((n, target)) for n in names})
    axes[-1].set_xticks(range(len(names)), [n.replace("_", " ") for n in names], color=INK, fontsize=9)
    if title:
        figure.suptitle(title, color=INK, fontsize=11, x=0.02, ha="left")
    _legend(figure, {judged(r, wanted.get((r.concept, r.target))) for r in rows})
    if path is not None:
        _write(figure, Path(path))
    return figure


def _of_site(concepts: Concepts, site: str | None) -> list[ConceptRow]:
    sites = list(dict.fromkeys(r.site for r in concepts.rows))
    if site is None and len(sites) > 1:
        raise BadParameter("one site for a figure", f"{len(sites)}", f"Write site={sites[0]!r}.")
    rows = [r for r in concepts.rows if site in (None, r.site)]
    if not rows:
        raise BadParameter(f"a site that was tested: {site!r}", ", ".join(sites), "Choose one of these.")
    return rows


def _strip(at: Any, target: str, names: Sequence[str], own: Mapping[str, ConceptRow], wanted: Mapping[str, bool | None]) -> None:
    """One class: a bar for each concept."""
    for side in ("top", "right", "left"):
        at.spines[side].set_visible(False)
    at.spines["bottom"].set_color(LINE)
    at.tick_params(colors=SOFT, labelsize=8, length=0)
    at.set_ylim(-0.02, 1.3)
    at.set_xlim(-0.6, len(names) - 0.4)
    at.set_yticks([0, 0.5, 1], ["lowers in all", "half", "raises in all"])
    at.set_ylabel(target, color=INK, fontsize=9.5, rotation=0, ha="right", va="center", labelpad=10)
    for x, name in enumerate(names):
        row = own.get(name)
        if row is None:
            continue
        look = judged(row, wanted[name])
        color, mark, hatch = LOOKS[look]
        low, high = row.random_range
        at.bar(x, high - low, 0.82, low, color="#eceff2", zorder=1)
        sure = row.verdict in ("raises", "lowers")
        if look != "not tested":
            edge = "white" if sure else color
            at.bar(
                x, row.score - 0.5, 0.5, 0.5, color=color, alpha=1.0 if sure else 0.45, hatch=hatch, edgecolor=edge, linewidth=0.6, zorder=2
            )
            if row.low == row.low:
                at.plot([x, x], [row.low, row.high], color=INK, linewidth=1, zorder=4)
        at.text(
            x,
            1.06,
            mark,
            ha="center",
            va="bottom",
            color=INKS.get(look, SOFT),
            fontsize=12,
            fontweight="bold",
            family="DejaVu Sans",
            zorder=5,
        )
    at.axhline(0.5, color=SOFT, linewidth=0.8, zorder=3)


def _legend(figure: Any, looks: set[Agreement]) -> None:
    from matplotlib.patches import Patch

    words: dict[Agreement, str] = {
        "agrees": "✓ expected and found", "as expected": "✓ not expected, not raising", "contradicts": "✗ contradicts the expert",
        "not seen": "? expected, no more than random", "no opinion": "no expectation", "not tested": "– not told from random images",
    }  # fmt: skip
    handles = [
        Patch(facecolor=LOOKS[k][0], hatch=LOOKS[k][2], edgecolor="white" if k != "not tested" else LINE, label=text)
        for k, text in words.items()
        if k in looks
    ]
    handles.append(Patch(facecolor="#eceff2", label="random sets, middle 95 %"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8, labelcolor=INK)


def _write(figure: Any, path: Path) -> None:
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise BadFile(f"write a figure to {path}", f"suffix {path.suffix!r}", "Use .png, .svg or .pdf.")
    if not path.parent.is_dir():
        raise BadFile(f"write {path}", f"no folder {path.parent}", "Create it first.")
    with whole(path) as draft:
        figure.savefig(draft, format=path.suffix[1:].lower(), dpi=160)
