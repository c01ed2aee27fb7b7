"""Trust score: is the image nearer to known cases of the predicted class than to those of any other?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter, BadTarget, Unsupported
from pellucid.evidence.predictions.answers import Answer, Floats, asking
from pellucid.explanation import Measurement
from pellucid.intervals import area, auc, statistic
from pellucid.model import Model, as_model
from pellucid.probe.engine import Engine
from pellucid.probe.question import Question
from pellucid.probe.sites import find, planting
from pellucid.run import Run
from pellucid.table import Table
from pellucid.target import as_target

FEW = 5  # right and wrong answers, below which nothing is concluded


@dataclass(frozen=True, eq=False)
class Trust:
    """Scores of images, in their order: ``values`` (above 1: nearer to the predicted class), ``confidence`` the predicted class's probability.

    ``table`` holds both distances and the nearest other class. ``finds_mistakes`` (with ``truth=``): how often the score is higher for a right
    answer than for a wrong one (AUC), against the same of the confidence.
    """

    values: tuple[float, ...]
    confidence: tuple[float, ...]
    table: Table
    finds_mistakes: Measurement | None = None


@dataclass(frozen=True, eq=False)
class _Seen:
    features: Floats  # (m,)
    probabilities: Floats  # (k,)
    classes: tuple[str, ...]
    print: str


def trust_score(
    net: Any,
    images: Iterable[Scan],
    reference: Iterable[Scan],
    labels: Sequence[int | str],
    *,
    site: str | None = None,
    pool: bool = True,
    k: int = 10,
    alpha: float = 0.0,
    truth: Sequence[int | str] | None = None,
    patients: Sequence[Any] | None = None,
    run: Run | None = None,
) -> Trust:
    """How far an image lies from known cases of any other class, divided by how far from those of the predicted one.

    trust(x) = d(x, nearest H_c with c != h(x)) / d(x, H_h(x)), Euclidean, H_c the cases of class c less the share ``alpha`` of them whose
    k-th neighbor within the class is farthest (its alpha-high-density set). One pass per image.

    Args:
        net: a classifier whose classes exclude each other.
        images: whose answers are to be trusted or not; ``reference`` and ``labels``: known cases (of the training), two classes or more.
        site: whose activations are compared; None: the pixels of the prepared images, which then need one shape.
        pool: average an activation over space, so that where a finding lies does not count; False keeps every cell.
        k, alpha: of the high-density sets; alpha 0 keeps all, as the authors do where labels are clean.
        truth: what the images really are; ``patients`` whose they are: how well the score finds wrong answers is then measured.

    An image that is in the reference too is not compared with itself.

    **Misleads when**: the features do not carry the classes (pixels of scans that are not aligned); dimensions are many and cases few,
        as all distances then become alike; classes of the reference are rare.
    **Source**: Jiang, Kim, Guan and Gupta 2018, algorithms 1 and 2. Their code takes the second neighbor for new images too; here it is
        the first, as in the paper.
    """
    if k < 1 or not 0 <= alpha < 1:
        raise BadParameter("k of at least 1, alpha from 0 to below 1", f"k={k}, alpha={alpha}", "Try k=10, alpha=0.05.")
    model = as_model(net)
    with asking(model, run or Run()) as engine:
        known = list(_seen(engine, model, reference, site, pool))
        if len(known) != len(labels):
            raise BadParameter("a label for each image of the reference", f"{len(labels)} for {len(known)}", "Give as many.")
        sets = _Sets(known, [_index(known[0], v) for v in labels], k, alpha)
        rows, right = [], []
        for i, seen in enumerate(_seen(engine, model, images, site, pool)):
            rows.append((i, *sets.judge(seen)))
            if truth is not None and i < len(truth):
                right.append(float(seen.probabilities.argmax() == _index(seen, truth[i])))
    if truth is not None and len(truth) != len(rows):
        raise BadParameter("a truth for each image", f"{len(truth)} for {len(rows)}", "Give as many.")
    table = Table(("image", "predicted", "confidence", "other", "to predicted", "to other", "trust"), tuple(rows))
    values, sure = table["trust"], table["confidence"]
    found = None if truth is None else _mistakes(values, sure, right, patients)
    return Trust(values, sure, table, found)


def _seen(engine: Engine, model: Model, images: Iterable[Scan], site: str | None, pool: bool) -> Iterator[_Seen]:
    for scan in images:
        image, x = model.ready(as_image(scan))
        question, found = Question(as_target(0), image.grid, x), [x[None]]
        plant = None
        if site is not None:
            question.place, found = find(model, site, x)[0], []
            plant = planting(question.place, None, found, False)
        with torch.no_grad():
            output, _ = engine.forward(question, x[None], [], plant)
        engine.meter.tick(forward=1)
        answer = Answer(image, output.detach().cpu(), model.reading.of(output, image.grid.ndim))
        p = model.reading.of(output, image.grid.ndim).probabilities(output.double()).cpu() if answer.reading.kind != "regression" else None
        if p is None or p.ndim != 2 or not (answer.exclusive or p.shape[1] == len(answer.logits) + 1):
            what = "a regression" if p is None else f"an output of shape {tuple(output.shape)} read as {answer.reading.kind}"
            raise Unsupported("trust scores need classes that exclude each other", what, "Name both classes of a single logit.")
        z = found[0][0].double().cpu()
        features = z.flatten(1).mean(1) if pool and site is not None and z.ndim > 1 else z.flatten()
        yield _Seen(features.numpy(), p[0].numpy(), model.classes, image.fingerprint)


def _index(seen: _Seen, label: Any) -> int:
    count = len(seen.probabilities)
    if isinstance(label, str):
        if label not in seen.classes:
            raise BadTarget("a label is one of the classes", repr(label), f"They are {', '.join(seen.classes)}.")
        return seen.classes.index(label)
    if not 0 <= int(label) < count:
        raise BadTarget(f"a class index runs from 0 to {count - 1}", repr(label), "Count classes from zero.")
    return int(label)


class _Sets:
    """The high-density set of each class, with its neighbors."""

    def __init__(self, known: Sequence[_Seen], labels: Sequence[int], k: int, alpha: float) -> None:
        from sklearn.neighbors import NearestNeighbors

        shapes = {s.features.shape for s in known}
        if len(shapes) > 1:
            raise BadParameter("features of one size", f"{len(shapes)} sizes", "Give a site with pool=True, or resample in prepare=.")
        self.near: dict[int, Any] = {}
        self.prints: dict[int, list[str]] = {}
        for c in sorted(set(labels)):
            mine = [s for s, v in zip(known, labels, strict=True) if v == c]
            x = np.stack([s.features for s in mine])
            keep = np.arange(len(x))
            if alpha > 0:
                if len(x) <= k:
                    raise BadParameter(f"more than k={k} cases of each class", f"{len(x)} of class {c}", "Give a smaller k, or alpha=0.")
                radius = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x)[0][:, k]  # the first is the case itself
                keep = np.sort(np.argsort(radius, kind="stable")[: max(1, math.ceil((1 - alpha) * len(x)))])
            self.near[c] = NearestNeighbors().fit(x[keep])
            self.prints[c] = [mine[i].print for i in keep]
        if len(self.near) < 2:
            raise BadParameter("a reference of two classes or more", f"{len(self.near)}", "Give cases of the other classes.")

    def judge(self, seen: _Seen) -> tuple[Any, ...]:
        """Predicted class, its probability, the nearest other class, both distances, and their ratio."""
        mine = int(seen.probabilities.argmax())
        if mine not in self.near:
            raise BadParameter("a reference with cases of the predicted class", f"none of class {mine}", "Add some.")
        far = {c: self._distance(c, seen) for c in self.near}
        other = min((c for c in far if c != mine), key=lambda c: far[c])
        a, b = far[mine], far[other]
        trust = b / a if a > 0 else math.inf if b > 0 else math.nan
        names = seen.classes or tuple(map(str, range(len(seen.probabilities))))
        return names[mine], float(seen.probabilities[mine]), names[other], a, b, trust

    def _distance(self, c: int, seen: _Seen) -> float:
        """To the nearest case of class c that is not the image itself."""
        near, prints = self.near[c], self.prints[c]
        wanted = min(len(prints), 1 + prints.count(seen.print))
        distances, at = near.kneighbors(seen.features[None], n_neighbors=wanted)
        others = [float(d) for d, i in zip(distances[0], at[0], strict=True) if prints[i] != seen.print]
        return others[0] if others else math.inf


def _mistakes(trust: Sequence[float], sure: Sequence[float], right: Sequence[float], patients: Sequence[Any] | None) -> Measurement:
    finite = [v if math.isfinite(v) else 1e300 for v in trust]
    a, b = (auc(v, right, patients) for v in (finite, sure))
    gain = statistic((finite, sure, right), lambda t, s, r: area(t, r) - area(s, r), patients, within=(-1.0, 1.0))
    wrong = len(right) - int(sum(right))
    detail = {"confidence": b.value, "gain": gain.value, "gain_low": gain.low, "gain_high": gain.high, "wrong": wrong, "cases": len(right)}
    against = "the predicted class's probability as the score"
    if math.isnan(a.value):
        text = f"{wrong} of {len(right)} answers are wrong: nothing can be ranked."
        return Measurement("finds_mistakes", math.nan, "AUC", "up", "void", text, None, against, detail=detail)
    few = min(wrong, len(right) - wrong) < FEW  # of one or two mistakes nothing follows
    status = "inconclusive" if few else "pass" if a.low > 0.5 else "fail" if a.high < 0.5 else "inconclusive"
    lead = "ahead of" if gain.low > 0 else "behind" if gain.high < 0 else "not clearly different from"
    lead = "with too few to tell it from" if few else lead
    text = f"A right answer has the higher trust score than a wrong one in {100 * a.value:.0f} %; {lead} the network's own confidence ({100 * b.value:.0f} %)."
    return Measurement("finds_mistakes", a.value, "AUC", "up", status, text, b.value, against, *a.ends, detail)  # type: ignore[arg-type]
