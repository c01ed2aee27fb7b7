"""Networks on offer: the shipped phantoms, and what was named on the command line, with the trust it took. Never an upload."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pellucid.errors import BadModel, PellucidError
from pellucid.image import Image
from pellucid.loading import load_model
from pellucid.model import Model
from pellucid.phantoms.nets import CLASSES
from pellucid.probe.engine import Engine
from pellucid.probe.ledger import untouched
from pellucid.probe.question import Question
from pellucid.probe.sites import everywhere, find
from pellucid.run import Meter, Run
from pellucid.target import Region, as_target

PHANTOM = "phantom:"


@dataclass(frozen=True)
class Look:
    """What one pass over a scan tells of a network: what it predicts, of which kind its output is, and its sites."""

    model: str
    scan: str
    output: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    predicted: str
    shape: tuple[int, ...]
    sites: tuple[tuple[str, tuple[int, ...]], ...]
    remarks: tuple[str, ...]


@dataclass(eq=False)
class Nets:
    """Models under the ids by which the page asks for them; phantoms are loaded when first asked for."""

    given: Mapping[str, Model]
    phantoms: bool = True
    _loaded: dict[str, Model] = field(default_factory=dict)
    _marks: dict[str, tuple[str, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ids(self) -> list[str]:
        """What is on offer, the user's own first."""
        return [*self.given, *([PHANTOM + n for n in CLASSES] if self.phantoms else [])]

    def get(self, key: str) -> Model:
        """A network by its id.

        Raises:
            BadModel: it is not on offer.
        """
        if key not in self.ids():
            raise BadModel("a network that the viewer was started with", repr(key[:120]), "Start `pellucid serve` with --model.")
        with self._lock:
            if key not in self.given and key not in self._loaded:
                self._loaded[key] = load_model(key)
            model = self.given[key] if key in self.given else self._loaded[key]
            if key not in self._marks:
                with contextlib.suppress(Exception):  # one that is whole only after its first pass
                    self._marks[key] = (model.identity, model.fingerprint)
            return model

    def marks(self, key: str) -> tuple[str, str]:
        """Identity and fingerprint of a network as of before its first pass: while it runs, it bears hooks, and would seem another one."""
        model = self.get(key)
        return self._marks.get(key) or (model.identity, model.fingerprint)

    def check(self, key: str, network: str, what: str) -> None:
        """Refuse what was found on another network, known by its identity.

        Raises:
            BadModel: naming both.
        """
        mine = self.marks(key)[0]
        if network != mine:
            got = (
                f"one of network {network[:12] or 'unknown'}, not {mine[:12]}: other weights, another structure, preparation or description"
            )
            raise BadModel(f"{what} of this network", got, "Choose the network that it was made with, or make it anew.")

    def facts(self, key: str) -> dict[str, Any]:
        """What may be told before it has run: name, kind, trust, classes, hashes of its files, remarks."""
        model = self.get(key)
        source = dict(model.source)
        return {
            "id": key,
            "name": model.name,
            "kind": str(source.get("kind", "module")),
            "trust": str(source.get("trust", "given in Python")),
            "classes": list(model.classes),
            "sha256": {str(k): str(v) for k, v in dict(source.get("sha256", {})).items()},
            "notes": [str(n) for n in source.get("notes", ())],
        }


def look(model: Model, scan: Image, names: tuple[str, str], run: Run) -> Look:
    """One pass over the scan, and one more to find the sites; ``names`` are the ids of model and scan."""
    prepared, x = model.ready(scan)
    remarks: list[str] = []
    with untouched(model.module):
        engine = Engine(model, run, Meter(run))
        question = Question(as_target(None), prepared.grid, x)
        try:
            engine.settle(question)
        except PellucidError:
            raise
        except Exception as error:  # whatever a network raises on an input that it was not made for
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            got = f"a batch of shape {(1, *x.shape)}: {said}"
            raise BadModel(f"a scan that {model.name} takes", got, "Choose another network, or start with --prepare.") from error
        sites: list[tuple[str, tuple[int, ...]]] = []
        try:
            if model.windows is None:
                sites = [(s, find(model, s, x)[0].shape) for s in everywhere(model, x)[0]]
            else:
                remarks.append("The network runs in windows: it can be explained at the image, not at its sites.")
        except PellucidError as error:
            remarks.append(f"Its sites cannot be listed: {error}")
    found = question.probabilities
    kind = "segmentation" if isinstance(question.target, Region) else model.reading.of(x.new_zeros(1, max(1, len(found))), x.ndim - 1).kind
    output = str(kind if found or kind == "segmentation" else "regression")
    classes = model.classes or tuple(f"class {k}" for k in range(len(found)))
    return Look(names[0], names[1], output, classes, found, repr(question.target), tuple(x.shape), tuple(sites), tuple(remarks))
