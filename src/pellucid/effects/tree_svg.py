"""A decision tree as SVG, from left to right, so that it can be read at any depth: no program but ours draws it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from pellucid.effects.drawing import Colors, colors_of
from pellucid.effects.words import counted
from pellucid.errors import BadParameter

WIDE, TALL, GAP, STEP, EDGE = 238, 62, 12, 66, 18  # a card, the gap between two rows, between two columns, the margin
LETTER, SMALL = 7.9, 6.2  # width of a letter of the two sizes
HEAD = 34
# classes: told apart by readers with any sight, on either ground
FILLS = (
    ("#0d5f78", "#5cc3e0"),
    ("#c8641a", "#f2a25c"),
    ("#7a4f9a", "#c7a0e6"),
    ("#2f8f5b", "#6cd09a"),
    ("#b8453a", "#f08a80"),
    ("#8a6d3b", "#d8b878"),
)


def draw_tree(tree: Any, theme: str) -> str:
    """SVG text of a tree; ``auto``: light or dark as the reader has it.

    Raises:
        BadParameter: no such theme.
    """
    if theme not in ("light", "dark", "auto"):
        raise BadParameter("theme is light, dark or auto", repr(theme), "Choose one.")
    places = _places(tree)
    deep = max(n.depth for n in tree.nodes)
    rows = max(y for _, y in places.values()) + 1
    wide = 2 * EDGE + (deep + 1) * WIDE + deep * STEP
    tall = 2 * EDGE + HEAD + rows * TALL + (rows - 1) * GAP
    at: dict[int, tuple[float, float]] = {k: (EDGE + d * (WIDE + STEP), EDGE + HEAD + y * (TALL + GAP)) for k, (d, y) in places.items()}
    parts = [_start(tree, wide, tall, theme), _legend(tree)]
    if tree.notes:
        parts.append(f'<text class="warn" x="{wide - EDGE:.0f}" y="{EDGE + 12}" text-anchor="end">{escape(tree.notes[0])}</text>')
    parts += [_branch(tree, n, at) for n in tree.nodes if n.number in at and not n.leaf and not n.below]
    parts += [_card(tree, n, *at[n.number]) for n in tree.nodes]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _places(tree: Any) -> dict[int, tuple[int, float]]:
    """Column and row of each node: ends in rows of their own, others midway between their two."""
    by = {n.number: n for n in tree.nodes}
    rows: dict[int, float] = {}
    free = 0
    for node in tree.nodes:  # yes before no: ends come in the order in which they are drawn
        if node.leaf or node.below:
            rows[node.number] = float(free)
            free += 1
    for node in sorted(tree.nodes, key=lambda n: -n.depth):
        if node.number not in rows:
            rows[node.number] = (rows[node.left] + rows[node.right]) / 2
    return {k: (by[k].depth, y) for k, y in rows.items()}


def _start(tree: Any, wide: float, tall: float, theme: str) -> str:
    light, dark = (_style(colors_of(t), k) for k, t in enumerate(("light", "dark")))  # type: ignore[arg-type]
    style = {"light": light, "dark": dark, "auto": f"{light} @media (prefers-color-scheme: dark) {{ {dark} }}"}[theme]
    told = escape(" ".join(tree.sentences()[:2]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide:.0f}" height="{tall:.0f}" viewBox="0 0 {wide:.0f} {tall:.0f}" role="img" class="tree">'
        f"<title>Decision tree</title><desc>{told}</desc><style>{style}</style>"
        f'<rect class="ground" width="{wide:.0f}" height="{tall:.0f}"/>'
    )


def _style(c: Colors, k: int) -> str:
    fills = " ".join(f".tree .c{i} {{ fill: {pair[k]}; }}" for i, pair in enumerate(FILLS))
    return (
        f".tree text {{ font-family: system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif; fill: {c.ink}; }}"
        f" .tree .ground {{ fill: {c.ground}; }} .tree .card {{ fill: {c.ground}; stroke: {c.gray}; stroke-width: 1; }}"
        f" .tree .leaf {{ fill: {c.veil}; stroke: {c.line}; }} .tree .folded {{ stroke-dasharray: 5 3; stroke: {c.ink}; }}"
        f" .tree .say {{ font-size: 13px; font-weight: 600; }} .tree text.soft {{ font-size: 11px; fill: {c.soft}; }}"
        f" .tree text.warn {{ font-size: 13px; font-weight: 600; fill: {c.other}; }} .tree .branch {{ fill: none; stroke: {c.gray}; stroke-linecap: round; opacity: .55; }} .tree .bar {{ fill: {c.line}; }}"
        f" .tree text.yes {{ font-size: 11px; fill: {c.soft}; font-style: italic; paint-order: stroke; stroke: {c.ground}; stroke-width: 4px; }} {fills}"
    )


def _legend(tree: Any) -> str:
    """Classes and their colors, or what the bar of a regression means."""
    y, x, parts = EDGE + 8, float(EDGE), []
    if not tree.classes:
        low, high = min(n.value for n in tree.nodes), max(n.value for n in tree.nodes)
        return f'<text x="{x}" y="{y + 4}" class="soft">bar: mean, from {low:.4g} to {high:.4g}</text>'
    for k, name in enumerate(tree.classes):
        shown = _short(name, 24)
        parts.append(f'<rect x="{x:.0f}" y="{y - 6}" width="11" height="11" rx="2" class="c{k % len(FILLS)}"/>')
        parts.append(f'<text x="{x + 16:.0f}" y="{y + 4}" class="soft">{escape(shown)}</text>')
        x += 34 + SMALL * len(shown)
    return "".join(parts)


def _branch(tree: Any, node: Any, at: Mapping[int, tuple[float, float]]) -> str:
    """Two curves, as wide as the share of cases that take them."""
    x, y = at[node.number]
    whole, parts = tree.nodes[0].weight or 1.0, []
    for child, word in ((node.left, "yes"), (node.right, "no")):
        cx, cy = at[child]
        x0, y0, x1, y1 = x + WIDE, y + TALL / 2, cx, cy + TALL / 2
        wide = 1.2 + 9 * tree.node(child).weight / whole
        middle = (x0 + x1) / 2
        parts.append(
            f'<path class="branch" stroke-width="{wide:.1f}" d="M{x0:.1f} {y0:.1f} C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"/>'
        )
        up = -6 if word == "yes" else 13
        parts.append(f'<text class="yes" x="{x1 - 5:.1f}" y="{y1 + up:.1f}" text-anchor="end">{word}</text>')
    return "".join(parts)


def _card(tree: Any, node: Any, x: float, y: float) -> str:
    end = node.leaf or node.below
    kind = "card leaf" if node.leaf else "card folded" if node.below else "card"
    said = node.answer if node.leaf else node.question
    unit = " bit" if tree.criterion == "entropy" else ""
    facts = f"{counted(node.cases)} · {tree.criterion} {_number(node.impurity)}{unit}"
    more = (
        f"{node.below} nodes folded"
        if node.below
        else (f"{node.value:.0%}".replace("%", " %") if tree.classes else "")
        if node.leaf
        else f"gain {_number(node.gain)}"
    )
    whole = f"{node.question or node.answer}; {facts}; {more}" + (
        "" if not tree.classes else "; " + ", ".join(f"{c} {s:.1%}" for c, s in zip(tree.classes, node.shares, strict=True))
    )
    room = WIDE - 22
    line = f"{facts} · {more}" if more else facts
    parts = [
        f"<g><title>{escape(whole)}</title>",
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{WIDE}" height="{TALL}" rx="7"/>',
        f'<text class="say" x="{x + 11:.1f}" y="{y + 20:.1f}"{_fit(said, LETTER, room)}>{escape(_short(said, 34))}</text>',
        f'<text class="soft" x="{x + 11:.1f}" y="{y + 37:.1f}"{_fit(line, SMALL, room)}>{escape(line)}</text>',
        _bar(tree, node, x + 11, y + TALL - 15, room, bool(end)),
    ]
    return "".join([*parts, "</g>"])


def _bar(tree: Any, node: Any, x: float, y: float, wide: float, end: bool) -> str:
    """Class shares side by side, or the mean between the lowest and the highest of all nodes."""
    tall = 7 if end else 5
    if not tree.classes:
        low, high = min(n.value for n in tree.nodes), max(n.value for n in tree.nodes)
        share = (node.value - low) / (high - low) if high > low else 1.0
        return (
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{tall}" rx="2"/>'
            f'<rect class="c0" x="{x:.1f}" y="{y:.1f}" width="{max(share * wide, 2):.1f}" height="{tall}" rx="2"/>'
        )
    parts, at = [], x
    for k, share in enumerate(node.shares):
        if share > 0:
            parts.append(f'<rect class="c{k % len(FILLS)}" x="{at:.1f}" y="{y:.1f}" width="{share * wide:.1f}" height="{tall}"/>')
            at += share * wide
    return "".join(parts)


def _fit(text: str, letter: float, room: float) -> str:
    """A text that may be too wide is squeezed to its room, whatever font the reader has."""
    return f' textLength="{room:.0f}" lengthAdjust="spacingAndGlyphs"' if len(text) * letter > room else ""


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most // 2] + "…" + text[-(most - most // 2 - 1) :]


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 10 or value == 0 else f"{value:.3g}"
