"""Writes docs/methods.md and docs/metrics.md from what methods and metrics declare: `make docs`. A test fails when a page is older than they are."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from pellucid import evidence, methods, metrics
from pellucid.evidence.metric import Metric, Needs
from pellucid.method import Gives, Method, Where

HOME = Path(__file__).parent
HEAD = """# Methods

Every method works in 2D and 3D unless its row says otherwise, for any target, and at any site unless it looks at features only.
Made by `make docs` from what each method declares; the page of a method is its file in `src/pellucid/attribution/`.

Passes are forward + backward: for an image of 3 x 224 x 224, and at features for 512 channels of 7 x 7.

| method | what it answers | gives | looks at | random | passes |
| --- | --- | --- | --- | --- | --- |
"""
SEEN = {Where.ANYWHERE: (3, 224, 224), Where.INPUT: (3, 224, 224), Where.FEATURES: (512, 7, 7)}


def section(m: Method) -> str:
    """A method's signature and docstring, without its example's setup."""
    doc = re.sub(r"(?m)^>>>.*$|^\.\.\. .*$", lambda line: line[0], m.doc)
    text, _, example = doc.partition(">>>")
    call = f"{m.name}({', '.join(f'{k}={v!r}' for k, v in m.params.items())})"
    return f"## {m.name}\n\n```python\n{call}\n```\n\n{text.strip()}\n\n```python\n>>>{example.rstrip()}\n```\n\n{m.facts.cite}\n"


def row(m: Method) -> str:
    """A method's line in the table."""
    gives = ", ".join(g.name.lower() for g in Gives if g in m.facts.gives and g.name and g.value) or "-"
    where = {Where.ANYWHERE: "image or site", Where.INPUT: "image", Where.FEATURES: "features"}[m.facts.where]
    cost = m.cost(SEEN[m.facts.where])
    most = "at most " if cost.at_most else ""
    return f"| [`{m.name}`](#{m.name}) | {m.doc.splitlines()[0]} | {gives} | {where} | {'yes' if m.facts.random else 'no'} | {most}{cost.forward} + {cost.backward} |"


def page() -> str:
    """The page of methods."""
    known = list(methods())
    return HEAD + "\n".join(map(row, known)) + "\n\n" + "\n".join(map(section, known))


METRICS = """# Metrics

What `pl.grade(net, image, maps, metrics)` and a `Study` measure of maps, beside controls that know nothing: a random map, a Gaussian in the middle,
the image's edges, a blurred copy of each map, and each method's map for a copy of the network with shuffled weights. All work in 2D and 3D
unless their row says otherwise. Made by `make docs` from what each metric declares; the page of a metric is its file in
`src/pellucid/evidence/`. How `examine` comes to a verdict: [evidence.md](evidence.md).

Passes are of one image with the default parameters: those that all maps share, those for each map, and maps made anew for each map.
"""
ARROW = {"up": "up", "down": "down", "zero": "to 0"}


def metric_row(m: Metric) -> str:
    """A metric's line in the table of its group."""
    needs = ", ".join(n.name.lower().replace("_", " ") for n in Needs if n in m.facts.needs and n.name and n.value) or "-"
    p = m.price(max(m.facts.space) if 2 not in m.facts.space else 2)
    spent = f"{'at most ' if p.at_most else ''}{p.shared} + {p.each} each" + (f" + {p.anew} maps" if p.anew else "")
    space = "" if len(m.facts.space) == 2 else f" ({min(m.facts.space)}D)"
    head = m.fn.__doc__.strip().splitlines()[0]
    return f"| [`{m.name}`](#{m.name}){space} | {head} | {m.facts.unit} | {ARROW[m.facts.better]} | {m.facts.reference} | {needs} | {spent if spent != '0 + 0 each' else '-'} |"


def metric_section(m: Metric) -> str:
    """A metric's signature and docstring."""
    call = f"{m.name}({', '.join(f'{k}={v!r}' for k, v in m.params.items())})"
    return f"### {m.name}\n\n```python\n{call}\n```\n\n{inspect.getdoc(m.fn)}\n\n{m.facts.cite}\n"


def metrics_page() -> str:
    """The page of metrics, a part for each group."""
    told, groups = [METRICS], {}
    for m in metrics():
        groups.setdefault(m.group, []).append(m)
    for group, known in groups.items():
        question = getattr(evidence, group).__doc__.split(" One metric")[0]
        head = "| metric | what it says | unit | better | held against | needs | passes |\n| --- | --- | --- | --- | --- | --- | --- |"
        told.append(f"## {group.capitalize()}: {question[0].lower()}{question[1:]}\n\n{head}\n" + "\n".join(map(metric_row, known)) + "\n")
        told += map(metric_section, known)
    return "\n".join(told)


PAGES = {"methods.md": page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HOME / name).write_text(make())
