"""The house itself: its public names, its weight, and whether its pages are as old as its code."""

import ast
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest
from studies.pages import stamps

import pellucid as pl

ROOT = Path(__file__).parents[1]


def test_importing_costs_little_beyond_torch(tmp_path):
    """At most 0.2 s of CPU with bytecode as pip leaves it, the best of several tries in fresh processes; nothing heavy is imported."""
    code = "import time, torch; t = time.process_time(); import pellucid, sys; print(time.process_time() - t, *sys.modules)"
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    run = partial(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    tries = [run().stdout.split() for _ in range(5)]
    assert min(float(t[0]) for t in tries) <= 0.2
    heavy = {
        "pydicom",
        "nibabel",
        "highdicom",
        "matplotlib",
        "skimage",
        "sklearn",
        "scipy",
        "PIL",
        "tifffile",
        "typer",
        "rich",
        "jinja2",
        "monai",
    }
    assert not heavy & set(tries[0][1:])


def test_public_names_are_explicit_and_real():
    text = (ROOT / "src/pellucid/__init__.py").read_text()
    named = re.findall(r"import (\w+) as (\w+)", text)
    assert all(a == b for a, b in named)
    assert [a for a, _ in named if not hasattr(pl, a)] == []
    assert len({a for a, _ in named}) == len(named)


@pytest.mark.parametrize("package", ["", "io"])
def test_names_that_come_late_are_those_that_type_checkers_see(package):
    """Neither list lacks a name of the other, and each comes from where it is said to be."""
    path = ROOT / "src/pellucid" / package / "__init__.py"
    module = importlib.import_module(f"pellucid.{package}".rstrip("."))
    (seen,) = (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.If))
    told = {(n.module, a.name) for n in seen.body if isinstance(n, ast.ImportFrom) for a in n.names}
    late = {(f"{module.__name__}.{home}", name) for home, names in module.WITHIN.items() for name in names}
    assert told == late | {(module.__name__, name) for name in getattr(module, "LATER", ())}
    assert {name for _, name in told} <= set(dir(module))
    assert [name for _, name in told if not hasattr(module, name)] == []


@pytest.mark.parametrize(
    "code",
    [
        "assert repr(read_method('smoothgrad')).startswith('smooth(inner=saliency')",
        "assert len(list(pl.methods())) > 30",
        "assert pl.saliency.name == 'saliency'",
        "assert pl.ask('grad_cam').method == pl.grad_cam",
        "try: own()\nexcept pl.PellucidError: pass\nelse: raise AssertionError('its name is taken')",
    ],
)
def test_methods_are_there_as_soon_as_one_is_asked_for(code):
    """By its name, by its text, in the list; and a name of ours is taken before any of ours was asked for."""
    start = """
import pellucid as pl
from pellucid.method import GRADIENTS, NOTHING, REGISTRY, read_method
def saliency(probe, x): return probe.map(x)
def own(): pl.method(cite=pl.Cite("A", 2020, "t", "v"), asks=GRADIENTS, gives=NOTHING, cost=lambda **_: pl.Cost(forward=1))(saliency)
assert not REGISTRY, "a plain import needs none of them"
"""
    subprocess.run([sys.executable, "-c", start + code], check=True)


def test_subpackages_are_there_when_named():
    """``pl.phantoms`` works after ``import pellucid`` alone, costs nothing before it is named, and stands in ``dir``."""
    code = """
import sys, pellucid as pl
waiting = [n for n in pl.LATER if f"pellucid.{n}" not in sys.modules]
assert set(pl.LATER) <= set(dir(pl))
assert waiting == list(pl.LATER), "imported before they were named"
assert pl.phantoms.fundus and pl.testing.check_method and pl.report.write_report and pl.io.read and pl.evidence.examine
assert not hasattr(pl, "nothing_of_the_kind")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["methods.md", "metrics.md"])
def test_pages_of_methods_and_metrics_are_what_they_say(name):
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import make
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / name).read_text() == make.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("page", sorted(p.name for p in (ROOT / "docs").glob("*.md")))
def test_tables_say_how_old_they_are(page):
    """A table names the code that it measured; one that is older than the code says so here, by a skip."""
    older = sorted({s.code for s in stamps((ROOT / "docs" / page).read_text()) if s.old})
    if older:
        pytest.skip(f"docs/{page} was measured on older code ({', '.join(older)}); `make studies` or `make bench` measures it anew")


@pytest.mark.parametrize("folder", ["studies", "benchmarks", "docs", "examples"])
def test_what_makes_a_page_still_finds_what_it_asks_for(folder):
    """A study that runs for hours, and seldom, must not fail at its first line: every name that it takes from the package is there."""
    missing = []
    for file in sorted((ROOT / folder).glob("*.py")):
        asked = [
            n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("pellucid")
        ]
        for module, name in ((n.module, a.name) for n in asked for a in n.names):
            if not hasattr(importlib.import_module(module), name) and importlib.util.find_spec(f"{module}.{name}") is None:
                missing.append(f"{file.name}: {name} of {module}")
    assert missing == []


def test_links_of_the_readme_lead_somewhere():
    text = (ROOT / "README.md").read_text()
    links = [t for t in re.findall(r"\]\(([^)#]+)\)", text) if not t.startswith("http")]
    assert links
    assert [t for t in links if not (ROOT / t).exists()] == []


def test_a_file_says_what_it_holds():
    names = [p.stem for p in (ROOT / "src").rglob("*.py")]
    assert not {"utils", "util", "helpers", "helper", "common", "base", "core", "misc"} & set(names)


def test_the_floors_of_the_design_are_those_of_the_import_contract():
    """A row of the table is a line of the contract, in the same order, and no module is left out."""
    table = (ROOT / "docs/design.md").read_text().partition("| floor | what is there |")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)/?`", line.split("|")[1]) for line in table.splitlines()[2:]]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (house,) = (c for c in contracts if c.get("containers") == ["pellucid"])
    assert [sorted(r) for r in rows] == [sorted(layer.split(" | ")) for layer in house["layers"]]
    assert all(c["exhaustive"] for c in contracts if c["type"] == "layers"), "a new module has its place"
    there = {p.stem for p in (ROOT / "src/pellucid").iterdir() if (p / "__init__.py").exists() or p.suffix == ".py"}
    assert sorted(n for r in rows for n in r) == sorted(there - {"__init__", "__main__"})


def test_the_design_tells_of_every_folder_of_evidence():
    text = (ROOT / "docs/design.md").read_text()
    named = re.findall(r"`(\w+)/`", text.partition("| folder | question |")[2].partition("\n\n")[0])
    assert sorted(named) == sorted(p.parent.name for p in (ROOT / "src/pellucid/evidence").glob("*/__init__.py"))


def test_a_star_import_brings_the_names_that_come_late_too():
    script = "from pellucid import *; print(lime.name, read.__name__, load_model.__name__, Model.__name__, temperature.__name__)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["lime", "read", "load_model", "Model", "temperature"]
