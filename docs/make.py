"""Writes docs/methods.md from the methods' own facts: `make docs`. A test fails when the page is older than the methods."""

from __future__ import annotations

import re
from pathlib import Path

from pellucid import methods
from pellucid.method import Gives, Method, Where

PAGE = Path(__file__).with_name("methods.md")
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
    """The whole page."""
    known = list(methods())
    return HEAD + "\n".join(map(row, known)) + "\n\n" + "\n".join(map(section, known))


if __name__ == "__main__":
    PAGE.write_text(page())
