"""A table is older than its code when the code does something else, and only then."""

from __future__ import annotations

import ast

import pytest

from pellucid.source import HERE, _bare, code_hash

CODE = '''"""What it is."""
import torch  # for tensors

class Kept:
    """Words."""

    a: int = 1
    """of a field"""

    def told(self):
        """Only words."""

def twice(x):
    r"""Words,
    in lines."""

    # a reason
    text = """not a comment # but a value"""
    return 2 * x  # twice
'''
BARE = '''import torch
class Kept:
    a: int = 1
    def told(self):
def twice(x):
    text = """not a comment # but a value"""
    return 2 * x
'''


def test_comments_and_documentation_do_not_count():
    assert _bare(CODE) == BARE
    assert _bare(CODE.replace("in lines", "in other lines").replace("# twice", "")) == BARE


@pytest.mark.parametrize(
    "change", [("2 * x", "3 * x"), ("    return", "        return"), ("# but", "# but,"), ("a: int = 1", "a: int = 2")]
)
def test_what_the_code_does_counts(change):
    assert CODE.replace(*change) != CODE
    assert _bare(CODE.replace(*change)) != BARE


def test_the_package_loses_nothing_else():
    def stripped(text):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(getattr(node, "body", None), list):
                said = [
                    s
                    for s in node.body
                    if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) and isinstance(s.value.value, str))
                ]
                node.body = said or [ast.Pass()]
        return ast.dump(tree)

    for file in sorted(HERE.rglob("run.py")) + sorted((HERE / "attribution").glob("*.py")):
        assert stripped(_bare(file.read_text())) == stripped(file.read_text()), file
    assert code_hash("attribution") != code_hash("probe")
