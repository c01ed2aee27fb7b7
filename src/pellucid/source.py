"""Which code made a table: a hash over what the package's own sources do."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent


@cache
def code_hash(*parts: str) -> str:
    """sha256 over the package's Python files, or over those in the named folders and files (``"attribution"``, ``"run.py"``).

    Comments, documentation and blank lines do not count: a table is not older than its code because a sentence was mended.
    """
    h = hashlib.sha256()
    for f in sorted(_files(*parts)):
        h.update(str(f.relative_to(HERE).as_posix()).encode())
        h.update(_bare(f.read_text()).encode())
    return h.hexdigest()


def reached(parts: Iterable[str], within: Iterable[str]) -> tuple[str, ...]:
    """Of the files ``within`` some folders and files, those that ``parts`` are or import, at once or through others, wherever the import stands.

    What nobody asks for a number is no reason why the number could be another.
    """
    known: set[Path] = set()
    todo = [*_files(*parts)]
    while todo:
        file = todo.pop()
        if file not in known:
            known.add(file)
            todo += _imported(file)
    return tuple(sorted(f.relative_to(HERE).as_posix() for f in known & _files(*within)))


def _files(*parts: str) -> set[Path]:
    return {f for p in parts or (".",) for f in ((HERE / p).rglob("*.py") if (HERE / p).is_dir() else [HERE / p])}


@cache
def _imported(file: Path) -> frozenset[Path]:
    """Files of the package that a file names in an import; the packages around them are not counted, since they lift what nobody asked for."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names.update(a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{a.name}" for a in node.names)
    places = [HERE.joinpath(*n.split(".")[1:]) for n in names if n.startswith(f"{HERE.name}.")]
    return frozenset(f for p in places for f in (p.with_suffix(".py"), p / "__init__.py") if f.is_file())


def _bare(text: str) -> str:
    """Source without comments, without strings that are statements of their own, and without blank lines."""
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    told = [t for t in tokens if t.type not in (tokenize.NL, tokenize.COMMENT)]
    idle = [t for a, t, b in zip([None, *told], told, told[1:]) if t.type == tokenize.STRING and b.type == tokenize.NEWLINE and _begins(a)]
    for token in sorted([*idle, *(t for t in tokens if t.type == tokenize.COMMENT)], key=lambda t: t.start, reverse=True):
        (first, left), (last, right) = token.start, token.end
        kept = lines[first - 1][:left].rstrip() + lines[last - 1][right:].lstrip(" ")
        lines[first - 1 : last] = [kept, *[""] * (last - first)]
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip())


def _begins(before: tokenize.TokenInfo | None) -> bool:
    """Whether a statement begins after this token."""
    return before is None or before.type in (tokenize.INDENT, tokenize.DEDENT, tokenize.NEWLINE, tokenize.ENCODING)
