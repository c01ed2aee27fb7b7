"""A study as a TOML file: what is asked, of which network, about which cases, measured how."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pellucid.errors import BadFile, BadParameter, Untrusted
from pellucid.image import digest
from pellucid.model import Model
from pellucid.study.cases import StudyCase, phantom_cases, read_cases
from pellucid.study.keys import Network
from pellucid.study.study import Study
from pellucid.target import read_target

PARTS: dict[str, tuple[str, ...]] = {
    "study": ("name", "seed", "level", "out"),
    "model": ("load", "weights", "trust", "classes", "output", "select", "ends_in", "options", "prepare", "normalize", "windows"),
    "cases": ("table", "phantom", "n", "seed", "mask", "switches"),
    "ask": ("target", "score", "methods", "metrics", "controls"),
}


def read_study(path: str | Path, *, trust: Literal["data", "code", "pickle"] = "data") -> Study:
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

    Nothing in the file is executed, and code of a model runs only by the caller's word: ``trust``, as of ``load_model``. A file says with
    ``trust = true`` that it will need it, and cannot give it.

    Raises:
        BadFile: no such file, or no TOML.
        BadParameter: a part or key that a study does not have, or one that it needs and lacks.
        Untrusted: a model that is code, without the caller's word.
    """
    path = Path(path)
    given = _given(path)
    if given["model"].get("trust") and trust == "data":
        raise Untrusted(f"the network of {path.name} is code", "trust='data'", "If you know who made it, pass trust='code' (--trust).")
    return _study(path, given, _model(given["model"], path.parent, trust))


def recall_study(path: str | Path) -> Study:
    """A study as it was left, for its tables and its page: from what its folder holds. The network is not loaded, nothing of it runs.

    Raises:
        BadFile: no such file, or a study that has not run with this network.
        BadParameter: as for ``read_study``.
    """
    path = Path(path)
    given = _given(path)
    place = _home(path, given) / "networks" / f"{_named(given)}.json"
    try:
        network = Network.read(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadFile(f"what {path.name} has found", "nothing yet, of this network", "Run the study first.") from error
    return _study(path, given, network)


def _given(path: Path) -> dict[str, Any]:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFile(f"read a study from {path.name}", str(error), "See docs/study.md for the form.") from error
    _check(given)
    return given


def _named(given: dict[str, Any]) -> str:
    """The network as the file describes it."""
    return digest(json.dumps({k: v for k, v in given["model"].items() if k != "trust"}, sort_keys=True, default=str))[:16]


def _home(path: Path, given: dict[str, Any]) -> Path:
    return path.parent / given.get("study", {}).get("out", path.stem)


def _study(path: Path, given: dict[str, Any], net: Model | Network) -> Study:
    about, asked = given.get("study", {}), given["ask"]
    target, score = asked.get("target"), asked.get("score")
    return Study(
        folder=_home(path, given), net=net, cases=_cases(given["cases"], path.parent),
        methods=asked["methods"], metrics=asked["metrics"], target=read_target(target) if isinstance(target, str) else target,
        score=read_target(score) if isinstance(score, str) else score, seed=about.get("seed", 0), level=about.get("level", "none"),
        name=about.get("name", path.stem), declared=_named(given), **({"controls": asked["controls"]} if "controls" in asked else {}),
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


def _model(given: dict[str, Any], home: Path, trust: Literal["data", "code", "pickle"]) -> Model:
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
    code = home / source.rpartition(":")[0]  # of a factory in a file
    return load_model(
        str(near) if near.exists() or (code.suffix == ".py" and code.is_file()) else source, weights=home / weights if weights else None,
        trust=trust, options=given.get("options", {}), **described,
    )  # fmt: skip


def _cases(given: dict[str, Any], home: Path) -> list[StudyCase]:
    if ("table" in given) == ("phantom" in given):
        raise BadParameter("[cases] with a table or a phantom", "both or neither", "Give one of them.")
    if "table" in given:
        return read_cases(home / given["table"])
    known = {k: given[k] for k in ("seed", "mask") if k in given}
    return list(phantom_cases(given["phantom"], given.get("n", 20), **known, **given.get("switches", {})))
