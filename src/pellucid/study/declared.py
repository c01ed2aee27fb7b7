"""A study as a TOML file: what is asked, of which network, about which cases, measured how."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pellucid.errors import BadFile, BadParameter
from pellucid.study.cases import StudyCase, phantom_cases, read_cases
from pellucid.study.study import Study
from pellucid.target import read_target

PARTS: dict[str, tuple[str, ...]] = {
    "study": ("name", "seed", "level", "out"),
    "model": ("load", "weights", "trust", "classes", "output", "select", "ends_in", "options", "prepare", "normalize", "windows"),
    "cases": ("table", "phantom", "n", "seed", "mask", "switches"),
    "ask": ("target", "score", "methods", "metrics", "controls"),
}


def read_study(path: str | Path) -> Study:
    """A study from a TOML file; paths in it are relative to it, results go beside it (``out``).

    ::

        [study]
        name = "Localization of diabetic macular edema"
        [model]
        load = "phantom:fundus_dme"
        [cases]
        phantom = "fundus_dme"
        n = 60
        switches = {dme = true}
        [ask]
        target = "DME"
        metrics = ["roc_auc", "f1", "mae"]
        [ask.methods]
        "IG black" = "integrated_gradients(baseline='black')"

    Nothing in the file is executed; code of a model runs only with ``trust = true``.

    Raises:
        BadFile: no such file, or no TOML.
        BadParameter: a part or key that a study does not have, or one that it needs and lacks.
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFile(f"read a study from {path.name}", str(error), "See docs/study.md for the form.") from error
    _check(given)
    about, asked = given.get("study", {}), given["ask"]
    target, score = asked.get("target"), asked.get("score")
    return Study(
        folder=path.parent / about.get("out", path.stem), net=_model(given["model"], path.parent), cases=_cases(given["cases"], path.parent),
        methods=asked["methods"], metrics=asked["metrics"], target=read_target(target) if isinstance(target, str) else target,
        score=read_target(score) if isinstance(score, str) else score, seed=about.get("seed", 0), level=about.get("level", "none"),
        name=about.get("name", path.stem), **({"controls": asked["controls"]} if "controls" in asked else {}),
    )  # fmt: skip


def _check(given: dict[str, Any]) -> None:
    for part, keys in given.items():
        if part not in PARTS or not isinstance(keys, dict):
            raise BadParameter(f"the parts of a study are {', '.join(PARTS)}", part, "Rename or remove it.")
        for key in keys:
            if key not in PARTS[part]:
                raise BadParameter(f"[{part}] has {', '.join(PARTS[part])}", key, "Rename or remove it.")
    for part, key in (("model", "load"), ("cases", ""), ("ask", "methods"), ("ask", "metrics")):
        if part not in given or (key and key not in given[part]):
            raise BadParameter(f"[{part}]{' with ' + key if key else ''} in a study", "none", "See docs/study.md for the form.")


def _model(given: dict[str, Any], home: Path) -> Any:
    from pellucid.loading import load_model
    from pellucid.model import Normalize, Windows
    from pellucid.prepare import Prepare

    described: dict[str, Any] = {k: given[k] for k in ("output", "select", "ends_in") if k in given}
    if "classes" in given:
        described["classes"] = tuple(given["classes"])
    kinds: tuple[tuple[str, Any], ...] = (("prepare", Prepare), ("normalize", Normalize), ("windows", Windows))
    for key, kind in kinds:
        if key in given:
            described[key] = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given[key].items()})
    weights = given.get("weights")
    source = str(given["load"])
    near = home / source
    return load_model(
        str(near) if near.exists() else source, weights=home / weights if weights else None,
        trust="code" if given.get("trust") else "data", options=given.get("options", {}), **described,
    )  # fmt: skip


def _cases(given: dict[str, Any], home: Path) -> list[StudyCase]:
    if ("table" in given) == ("phantom" in given):
        raise BadParameter("[cases] with a table or a phantom", "both or neither", "Give one of them.")
    if "table" in given:
        return read_cases(home / given["table"])
    known = {k: given[k] for k in ("seed", "mask") if k in given}
    return list(phantom_cases(given["phantom"], given.get("n", 20), **known, **given.get("switches", {})))
