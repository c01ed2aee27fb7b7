"""A table is older than its code when the code does something else, and only then."""

from __future__ import annotations

import ast

import pytest

from pellucid.source import HERE, _bare, code_hash, reached

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


def test_only_what_is_imported_counts(tmp_path, monkeypatch):
    for name, text in {
        "__init__": "from pellucid.idle import unused",
        "asked": "def late():\n    from pellucid.parts.inner import x",
        "idle": "unused = 1",
        "parts/__init__": "",
        "parts/inner": "import pellucid.deep",
        "parts/other": "",
        "deep": "",
    }.items():
        (tmp_path / "pellucid" / name).with_suffix(".py").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pellucid" / name).with_suffix(".py").write_text(text)
    monkeypatch.setattr("pellucid.source.HERE", tmp_path / "pellucid")
    assert reached(["asked.py"], ["."]) == ("asked.py", "deep.py", "parts/inner.py")
    assert reached(["asked.py"], ["parts", "idle.py"]) == ("parts/inner.py",)
    assert reached(["."], ["idle.py"]) == ("idle.py",)


def test_a_map_hangs_on_the_operations_that_its_method_imports():
    assert "ops/quadrature.py" in reached(["attribution/integrated_gradients.py"], ["ops"])
    assert "ops/quadrature.py" not in reached(["attribution/saliency.py"], ["ops"])
