"""How a finding about concepts came about, as a Provenance."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from pellucid.asking import versions
from pellucid.explanation import Provenance
from pellucid.model import Model
from pellucid.run import Run
from pellucid.written import written


def signed(
    model: Model, run: Run, method: str, target: str, site: str, images: str, seconds: float, cite: str, notes: Sequence[str]
) -> Provenance:
    """Network, question, images (one hash over all fingerprints), seed, versions and time."""
    return Provenance(
        method=method,
        target=target,
        site=site,
        image=images,
        scan=images,
        model=model.name,
        classes=model.classes,
        prepare=written(model.prepare),
        normalize=written(model.normalize),
        seed=run.seed,
        seconds=round(seconds, 4),
        device=str(model.device),
        versions=versions(),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        cite=cite,
        caveats=tuple(dict.fromkeys(notes)),
        hash_weights=model.weights_later(),
    )
