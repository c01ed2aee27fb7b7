"""What is written is registered, what is registered is tested by hand, and CONTRIBUTING.md names every place that a new one goes to."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pellucid as pl
from pellucid.evidence.metric import METRICS
from pellucid.method import REGISTRY

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "pellucid"
METHOD_NAMES, METRIC_NAMES = [m.name for m in pl.methods()], [m.name for m in pl.metrics()]
WITHOUT_PEER = {  # why no public implementation is asked; the reference test is then the only one
    "attention_rollout": "those that exist read one library's layers; the reference takes the probabilities of torch's own",
    "influential_neurons": "described in a case study, without a package",
    "meaningful_perturbation": "no package; the reference differentiates its loss in one graph, with Adam of torch.optim",
    "pattern_attribution": "its package needs TensorFlow 1; the reference writes estimator and backward pass slowly",
    "pattern_net": "its package needs TensorFlow 1; the reference writes estimator and backward pass slowly",
    "rise": "no package; the reference makes masks by the authors' recipe, with scikit-image",
    "transformer_attribution": "the reference computes LXT's formula, input times a modified gradient",
}


def written(decorator: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every function of the package under ``@method(...)`` or ``@metric(...)``, as its files say."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if f"@{decorator}(" not in text:
            continue
        for node in ast.parse(text).body:
            made = [d.func.id for d in getattr(node, "decorator_list", []) if isinstance(d, ast.Call) and isinstance(d.func, ast.Name)]
            if isinstance(node, ast.FunctionDef) and decorator in made:
                yield ".".join(("pellucid", *path.relative_to(SOURCE).with_suffix("").parts)), node.name


def words(folder: str, leave: str = "") -> set[str]:
    """First words of all texts, and names after ``pl.``, in a folder's tests: what they call."""
    found = set()
    for path in sorted((ROOT / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())) if path.name != leave else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and (first := re.match(r"\w+", node.value)):
                found.add(first[0])
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pl":
                found.add(node.attr)
    return found


@pytest.mark.parametrize(("decorator", "registry"), [("method", REGISTRY), ("metric", METRICS)])
def test_what_is_written_is_registered(decorator, registry):
    """A file whose line in an ``__init__.py`` is forgotten does not exist; neither does a metric in a folder that nobody imports."""
    known = {(m.fn.__module__, name) for name, m in registry.items() if m.fn.__module__.startswith("pellucid.")}
    found = set(written(decorator))
    assert len(found) > 30
    assert found == known


def test_metrics_are_found_in_every_folder_of_evidence():
    folders = {p.parent.name for p in (SOURCE / "evidence").glob("*/__init__.py")}
    assert folders > {m.group for m in METRICS.values()} and "shortcuts" in folders
    assert all(f"pellucid.evidence.{f}" in sys.modules for f in folders), "imported with the first question for metrics"


def test_every_method_has_a_reference_and_a_peer():
    with_reference, with_peer = words("tests/reference", "test_examples.py"), words("tests/parity")
    assert [n for n in METHOD_NAMES if n not in with_reference] == []
    assert [n for n in METHOD_NAMES if n not in with_peer] == sorted(WITHOUT_PEER), "a row in tests/parity, or the reason here"


def test_every_metric_has_a_test_of_its_number():
    called = words("tests/evidence", "test_contract.py")
    assert [n for n in METRIC_NAMES if n not in called] == []


def places(names: list[str]) -> set[str]:
    """Files that name all of them, and folders with a file for each: where a new one goes."""
    found = set()
    files = [p for d in ("src", "docs", "studies") for p in (ROOT / d).rglob("*") if p.suffix in (".py", ".md", ".json", ".toml", ".png")]
    for path in files:
        text = "" if path.suffix == ".png" else path.read_text()
        if all(n in text for n in names):
            found.add(str(path.relative_to(ROOT)))
    folders: dict[Path, set[str]] = {}
    for path in files:
        folders.setdefault(path.parent, set()).add(path.stem)
    return found | {str(d.relative_to(ROOT)) + "/" for d, stems in folders.items() if set(names) <= stems}


def test_contributing_names_every_place_of_a_method_and_of_a_metric():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    method, metric = (re.search(rf"(?s)\*\*A {what} .*?(?=\n\n\*\*)", text)[0] for what in ("method", "metric"))
    where = places(METHOD_NAMES)
    assert {"src/pellucid/attribution/", "src/pellucid/__init__.py", "studies/gallery_words.py", "docs/gallery/"} <= where
    short = [w.removeprefix("src/pellucid/") for w in where]
    assert [s for s in short if s not in method and s.removesuffix("__init__.py") not in method] == []
    assert [w for w in places(METRIC_NAMES) if w not in metric] == []


def test_paths_in_contributing_are_real():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = [n for n in re.findall(r"`([\w./<>]+/[\w./<>*]*)`", text) if "<" not in n]
    assert len(named) > 12
    missing = [n for n in named if not any((home / n).exists() for home in (ROOT, SOURCE))]
    assert missing == []
