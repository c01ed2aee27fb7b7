"""A study as a TOML file: what is asked, of which network, about which cases, measured how."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pellucid.errors import BadFile, BadParameter, Untrusted
from pellucid.evidence.case import Level
from pellucid.image import digest
from pellucid.model import Model
from pellucid.params import Count, Kind, check
from pellucid.study.cases import StudyCase, phantom_cases, read_cases
from pellucid.study.keys import Network
from pellucid.study.study import Study
from pellucid.target import read_target


def _one_of(*kinds: type, each: type | None = None) -> Callable[[Any], Any]:
    """A value of one of these kinds, in a list or table each of one more; true and false are no numbers."""

    def read(value: Any) -> Any:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if type(value) not in kinds or (each is not None and not all(type(v) is each for v in inner)):
            raise ValueError
        return value

    return read


def _seed(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


Word = Annotated[str, Kind("text", "a text", _one_of(str))]
Seed = Annotated[int, Kind("seed", "a whole number of at least 0", _seed)]
Words = Annotated[list[str], Kind("texts", "a list of texts", _one_of(list, each=str))]
Methods = Annotated[Any, Kind("methods", "a table of names and methods, or a list of methods, each a text", _one_of(list, dict, each=str))]
Names = Annotated[Any, Kind("names", "a list of names, or a text with commas between them", _one_of(str, list, each=str))]
Settings = Annotated[Any, Kind("settings", "a table, or a text 'name=value, name=value'", _one_of(str, dict))]
Target = Annotated[Any, Kind("target", "a text, or the number of a class", _one_of(str, int))]
Part = Annotated[Any, Kind("part", "an index, a name, or a list of them", _one_of(str, int, list))]
Promise = Annotated[Any, Kind("promise", "true or false", _one_of(bool, str))]  # whatever it says, it gives nothing
Switches = Annotated[dict[str, Any], Kind("switches", "a table", _one_of(dict))]

PARTS: dict[str, dict[str, Any]] = {
    "study": {"name": Word, "seed": Seed, "level": Level, "out": Word},
    "model": {
        "load": Word, "weights": Word, "trust": Promise, "classes": Names, "output": Word, "select": Part, "ends_in": Word, "options": Settings,
        "prepare": Settings, "normalize": Settings, "windows": Settings,
    },
    "cases": {"table": Word, "phantom": Word, "n": Count, "seed": Seed, "mask": Word, "switches": Switches},
    "ask": {"target": Target, "score": Target, "methods": Methods, "metrics": Words, "controls": Words},
}  # fmt: skip


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
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(f"read a study from {path.name}", " ".join(str(error).split())[:200], "See docs/study.md for the form.") from error
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
        for key, value in keys.items():
            if key not in PARTS[part]:
                raise BadParameter(f"[{part}] has {', '.join(PARTS[part])}", key, "Rename or remove it.")
            check(f"[{part}]", key, PARTS[part][key], value)
    for part, key in (("model", "load"), ("cases", ""), ("ask", "methods"), ("ask", "metrics")):
        if part not in given or (key and key not in given[part]):
            raise BadParameter(f"[{part}]{' with ' + key if key else ''} in a study", "none", "See docs/study.md for the form.")


def _model(given: dict[str, Any], home: Path, trust: Literal["data", "code", "pickle"]) -> Model:
    from pellucid.loading import load_model
    from pellucid.loading.described import described

    told = described({k: v for k, v in given.items() if k not in ("load", "weights", "trust")}, "[model] {}".format)
    source, weights = given["load"], given.get("weights")
    near = home / source
    code = home / source.rpartition(":")[0]  # of a factory in a file
    found = str(near) if near.exists() or (code.suffix == ".py" and code.is_file()) else source
    return load_model(found, weights=home / weights if weights else None, trust=trust, **told)


def _cases(given: dict[str, Any], home: Path) -> list[StudyCase]:
    if ("table" in given) == ("phantom" in given):
        raise BadParameter("[cases] with a table or a phantom", "both or neither", "Give one of them.")
    if "table" in given:
        return read_cases(home / given["table"])
    known = {k: given[k] for k in ("seed", "mask") if k in given}
    return list(phantom_cases(given["phantom"], given.get("n", 20), **known, **given.get("switches", {})))
