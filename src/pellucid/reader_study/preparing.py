"""Preparing a reader study: a network's probabilities and maps for scans that lie in a folder, as the JSON file that the viewer reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from pellucid.errors import BadParameter
from pellucid.evidence import Level
from pellucid.explain import explain
from pellucid.files import put
from pellucid.io import read
from pellucid.method import Method
from pellucid.model import Model, as_model
from pellucid.phantoms.nets import as_drawn
from pellucid.reader_study.material import FILE, ReaderStudy, read_reader_study


def prepare_reader_study(
    folder: str | Path, net: Model | nn.Module, scans: Mapping[str, str], *, name: str, question: str, answers: Sequence[str],
    methods: Sequence[Method[Any] | str] = ("integrated_gradients",), similar: Mapping[str, Sequence[Mapping[str, str]]] | None = None,
    concepts: Mapping[str, Sequence[str]] | None = None, evidence: Level = "quick", crossed: bool = True, seed: int = 0, on_case: Callable[[int, int], None] | None = None,
) -> ReaderStudy:  # fmt: skip
    """Write ``folder/reader_study.json`` and a map for each scan and method beside it.

    Args:
        folder: where the scans lie.
        net: its classes are shown with their probabilities; maps explain the predicted one.
        scans: for each scan (a path inside the folder) the true answer. Cases are called case-01, case-02, ... in this order: names of files
            may name patients.
        name: of the study; letters, digits, - and _.
        question: what readers are asked.
        answers: what they may choose from.
        similar: for each scan similar real cases: ``file``, ``truth``, and ``says``.
        concepts: for each scan sentences.
        evidence: how much of each map is checked (see ``explain``). Readers see what the checks said beside the map.
        crossed: whether every reader sees every case at every level.
        seed: of the order.

    Raises:
        BadParameter: no scans.
        BadFile: a scan that is not there, or a study that ``read_reader_study`` refuses.
    """
    if not scans:
        raise BadParameter("scans with their true answers", "none", "Give {'a.png': 'DME'}.")
    home, model = Path(folder), as_model(net)
    cases = []
    for n, (path, truth) in enumerate(scans.items(), 1):
        image = as_drawn(read(home / path))
        maps, probabilities = [], {}
        for k, method in enumerate(methods):
            why = explain(model, image, method=method, evidence=evidence)
            probabilities = dict(zip(model.classes or map(str, range(99)), map(float, why.probabilities), strict=False))
            file = f"case-{n:02d}-map-{k + 1}.npz"
            why.save(home / file)
            maps.append({"file": file, "name": why.provenance.method.partition("(")[0].replace("_", " ")})
        more = {"similar": [dict(s) for s in (similar or {}).get(path, ())], "concepts": list((concepts or {}).get(path, ()))}
        cases.append({"id": f"case-{n:02d}", "scan": path, "truth": truth, "probabilities": probabilities, "maps": maps, **more})
        if on_case is not None:
            on_case(n, len(scans))
    told = {"name": name, "question": question, "answers": list(answers), "crossed": crossed, "seed": seed, "cases": cases}
    put(home / FILE, json.dumps(told, indent=1))
    return read_reader_study(home)
