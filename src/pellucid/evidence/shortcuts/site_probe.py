"""Site probe: can a linear reader tell from a network's activations, or from its maps, which scanner or hospital an image comes from?"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter
from pellucid.evidence.shortcuts import traits
from pellucid.evidence.shortcuts.asked import Asked, owners
from pellucid.evidence.shortcuts.association import shuffles
from pellucid.explanation import Map, Measurement, Status
from pellucid.intervals import statistic
from pellucid.model import Model, as_model
from pellucid.params import Count, check
from pellucid.probe.ledger import untouched
from pellucid.probe.sites import find, watching
from pellucid.run import Run
from pellucid.target import logit

Rows = NDArray[np.float64]
RIDGE = 0.1  # of the mean squared length of a standardized row
CLEAR = 0.6  # an AUC up to which nothing worth the name is read
ALPHA = 0.05


def site_probe(
    net: Any,
    images: Sequence[Scan],
    sources: Sequence[Hashable],
    *,
    site: str | Sequence[str] = "auto",
    maps: Sequence[Map] | None = None,
    labels: Sequence[Hashable] | None = None,
    patients: Sequence[Hashable] | None = None,
    folds: int = 5,
    permutations: int = 999,
    run: Run | None = None,
) -> dict[str, Measurement]:
    """How well a linear probe reads each image's source (scanner, hospital, laterality), by place: AUC over patients it was not fitted on.

    Keys: ``image`` (means and spreads in 8 x 8 cells, so that one knows what is plain to see), each site, and ``maps`` where given. A site's row
    holds the mean and the spread over space of every channel. The probe is ridge regression on the sources, standardized rows; patients are
    dealt to folds at random. More than two sources: mean AUC of each against the rest. p and the reference come from exchanging sources between
    patients (within patients where it differs there), inside each class of ``labels``: what the diagnosis alone tells of the source is then no
    finding. Intervals are over patients.

    Args:
        site: layer or layers of the network; ``auto`` the last one with spatial extent.
        maps: one of each image, by one method and target.
        labels: diagnosis of each image. Give it wherever sources differ in what they see.
        patients: of each image; None: each image a patient, equal ones the same.
        folds: patients are dealt into so many.

    Raises:
        BadParameter: one source alone, fewer patients than two for each fold, unequal numbers.

    **Misleads when**: read as use. A network may carry what it never uses, and all networks carry something; whether the answer rests on it is
    asked by ``intervene``, or by the AUC inside each source.

    **Source**: linear probes: Alain and Bengio 2016 (arXiv 1610.01644); Phipson and Smyth 2010 for p.
    """
    check("site_probe", "folds", Count, folds), check("site_probe", "permutations", Count, permutations)
    model, run = as_model(net), run or Run()
    who, codes = owners(patients, [as_image(i) for i in images]), _codes(sources, len(images))
    if labels is not None and len(labels) != len(images):
        raise BadParameter(f"a label for each of {len(images)} images", f"{len(labels)}", "Give as many.")
    if len(set(who)) < 2 * folds or folds < 2:
        raise BadParameter(
            "two patients or more for each of two folds or more", f"{len(set(who))} patients, {folds} folds", "Give more images."
        )
    if maps is not None and len(maps) != len(images):
        raise BadParameter(f"a map for each of {len(images)} images", f"{len(maps)}", "Give as many.")
    names = [site] if isinstance(site, str) else list(site)
    table = _rows(model, images, names, run)
    if maps is not None:
        table["maps"] = traits.rows(maps, "pooled")
    orders = _orders(codes, who, labels, permutations, run.seed)
    fold = _dealt(who, folds, run.seed)
    return {place: _measured(rows, codes, fold, orders, who, labels is not None) for place, rows in table.items()}


def _codes(sources: Sequence[Hashable], n: int) -> NDArray[np.int64]:
    if len(sources) != n:
        raise BadParameter(f"a source for each of {n} images", f"{len(sources)}", "Give as many.")
    names = sorted(set(sources), key=repr)
    if len(names) < 2:
        raise BadParameter("two sources or more", f"{names}", "There is nothing to tell apart.")
    return np.asarray([names.index(s) for s in sources])


def _orders(codes: Any, who: list[Any], labels: Sequence[Hashable] | None, count: int, seed: int) -> list[NDArray[np.int64]]:
    """Exchanges of sources between patients, inside each class of the labels (patients of several classes: inside each of their classes)."""
    strata = [None] * len(who) if labels is None else list(labels)
    orders = [np.arange(len(who)) for _ in range(count)]
    for n, stratum in enumerate(dict.fromkeys(strata)):
        at = np.flatnonzero([s == stratum for s in strata])
        for order, inner in zip(
            orders, shuffles([int(codes[i]) for i in at], [who[i] for i in at], count, np.random.default_rng([seed, n])), strict=True
        ):
            order[at] = at[inner]
    return orders


def _dealt(who: list[Any], folds: int, seed: int) -> NDArray[np.int64]:
    names = list(dict.fromkeys(who))
    deal = dict(zip(names, np.random.default_rng(seed).permutation(np.arange(len(names)) % folds), strict=True))
    return np.asarray([deal[p] for p in who])


def _rows(model: Model, images: Sequence[Scan], sites: list[str], run: Run) -> dict[str, Rows]:
    """Rows by place, standardized later."""
    asked = Asked.of(model, logit(0), run)
    found: dict[str, list[Rows]] = {"image": [], **{s: [] for s in sites}}
    for image, x in asked.ready(images):
        found["image"].append(_pooled(image.values.double()))
        for s, row in _activations(model, x, sites):
            found[s].append(row)
    return {k: np.stack(v) for k, v in found.items()}


def _pooled(values: Tensor) -> Rows:
    """Mean and spread of an image (c, *space) in a coarse grid of cells."""
    means = torch.stack([traits.cells(c, traits.COARSE) for c in values])
    squares = torch.stack([traits.cells(c**2, traits.COARSE) for c in values])
    return torch.cat([means.flatten(), (squares - means**2).clamp_min(0).sqrt().flatten()]).numpy()


def _activations(model: Model, x: Tensor, sites: list[str]) -> Iterator[tuple[str, Rows]]:
    """Mean and spread over space of every channel at each site; one pass for each."""
    with untouched(model.module), torch.no_grad():
        for s in sites:
            place, _ = find(model, s, x)
            seen: list[Tensor] = []
            keep: Callable[[Tensor], None] = lambda z, p=place, to=seen: to.append(p.layout.to_map(z.detach())[0].double().cpu().clone())  # type: ignore[misc]  # noqa: E731
            with watching(model.module, place, keep):
                model.forward(x[None])
            flat = seen[0].flatten(1) if seen[0].ndim > 1 else seen[0][:, None]
            yield s, torch.cat([flat.mean(1), flat.std(1, correction=0)]).numpy()


def _measured(
    rows: Rows, codes: NDArray[np.int64], fold: NDArray[np.int64], orders: list[NDArray[np.int64]], who: list[Any], inside: bool
) -> Measurement:
    readers = _readers(rows, fold)
    decided = _decided(readers, fold, codes)
    value = auc(codes, *decided.T)
    chance = np.asarray([auc(codes[o], *_decided(readers, fold, codes[o]).T) for o in orders])
    p = float((1 + (chance >= value * (1 - 1e-12)).sum()) / (1 + len(orders)))
    own = statistic([codes.astype(float), *decided.T], auc, who, within=(0.0, 1.0))
    reference = float(chance.mean())
    status: Status = "fail" if p <= ALPHA else "pass" if own.high < CLEAR else "inconclusive"
    said = {"fail": "can be read", "pass": "cannot be read", "inconclusive": "could not be shown to be readable"}[status]
    within = " beyond what the diagnosis tells" if inside else ""
    text = f"The source {said}{within}: a linear probe reaches an AUC of {value:.2f} (permuted sources: {reference:.2f}, p = {p:.2g})."
    detail = {
        "p": p,
        "permuted 97.5 %": float(np.quantile(chance, 0.975)),
        "images": len(codes),
        "patients": own.patients,
        "sources": int(codes.max()) + 1,
    }
    return Measurement("site_probe", value, "AUC", "down", status, text, reference, "permuted sources",
                       *own.ends, detail)  # fmt: skip


def _readers(rows: Rows, fold: NDArray[np.int64]) -> list[Rows]:
    """For each fold, the matrix that turns the others' sources into values for its own images: ridge regression in its dual form."""
    found = []
    for f in range(int(fold.max()) + 1):
        train, test = rows[fold != f], rows[fold == f]
        center, spread = train.mean(0), train.std(0)
        a, b = ((r - center) / np.where(spread > 1e-12, spread, np.inf) for r in (train, test))
        inner = a @ a.T
        found.append(np.linalg.solve(inner + RIDGE * max(np.trace(inner) / len(a), 1e-12) * np.eye(len(a)), a @ b.T).T)
    return found


def _decided(readers: list[Rows], fold: NDArray[np.int64], codes: NDArray[np.int64]) -> Rows:
    """A value for each image and source, by readers that never saw its patient: (n, sources); of two sources, (n, 1)."""
    k = int(codes.max()) + 1
    wanted = np.eye(k)[codes] if k > 2 else codes[:, None].astype(float)
    found = np.zeros((len(codes), wanted.shape[1]))
    for f, reader in enumerate(readers):
        train = wanted[fold != f]
        found[fold == f] = reader @ (train - train.mean(0)) + train.mean(0)
    return found


def auc(codes: Any, *decided: Any) -> float:
    """Area under the curve of a source against the rest, mean over sources that are there; ties count one half; NaN with one source."""
    from scipy.stats import rankdata

    found = []
    for k, values in enumerate(decided, start=1 if len(decided) == 1 else 0):
        own = np.asarray(codes) == k
        a, b = int(own.sum()), int((~own).sum())
        if a and b:
            found.append((rankdata(values)[own].sum() - a * (a + 1) / 2) / (a * b))
    return float(np.mean(found)) if found else math.nan
