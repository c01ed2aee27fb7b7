"""Training images that decided a prediction: exact influence through the last layer, checked by retraining, and wrong labels found by it.

The sign, here and in ``tracin`` and ``influence_by_cg``: the value of a training image is the log probability of the target with it, less that
without it. Above 0 it spoke for the target (a proponent), below 0 against it (an opponent).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter
from pellucid.exemplars.head import Floats, Head, fit_head, head_inputs, loss_gradients, newton
from pellucid.explanation import Evidence, Explanation, Measurement, Provenance
from pellucid.findings import Finding, signed, signed_rows
from pellucid.image import Image, digest
from pellucid.model import Model, as_model
from pellucid.ops.similarity import spearman
from pellucid.run import Meter, Run
from pellucid.table import Table

CITE = "Koh and Liang 2017, Understanding black-box predictions via influence functions, ICML, arXiv:1703.04730"
AGREES = 0.95  # rank correlation with retraining from which the values are supported


@dataclass(frozen=True, eq=False)
class Influence(Explanation, Finding):
    """What each training image did for a prediction: ``values`` (n,) in nats of log probability of ``target``, above 0 for it, below 0 against.

    ``labels`` are those of the training images, ``images`` the fingerprints of the prepared ones; ``probability`` is what the fitted head gives the
    target, nan where there is none; ``network`` the identity of the network.
    """

    kind = "influence"
    values: Floats = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)
    target: str
    probability: float
    image: Image
    scan: Image
    network: str = ""
    images: tuple[str, ...] = field(default=(), repr=False)

    @property
    def order(self) -> NDArray[np.int64]:
        """Places of the training images, the strongest proponent first and the strongest opponent last."""
        return np.argsort(-self.values, kind="stable")

    def proponents(self, k: int = 5) -> tuple[int, ...]:
        """Places of the ``k`` images that spoke most for the target; none that spoke against it."""
        return tuple(int(i) for i in self.order[:k] if self.values[i] > 0)

    def opponents(self, k: int = 5) -> tuple[int, ...]:
        """Places of the ``k`` images that spoke most against the target."""
        return tuple(int(i) for i in self.order[::-1][:k] if self.values[i] < 0)

    def table(self, k: int = 5) -> Table:
        """The strongest proponents and opponents, a row each."""
        chosen = [("for", i) for i in self.proponents(k)] + [("against", i) for i in self.opponents(k)]
        return Table(("side", "place", "label", "influence"), tuple((side, i, self.labels[i], float(self.values[i])) for side, i in chosen))


def head_influence(head: Head, query: NDArray[np.floating], target: str) -> Floats:
    """What each training image did for log p(target) of a query's features (d,): gradient of its loss, inverse Hessian, gradient of theirs: (n,).

    **Source**: Koh and Liang 2017, equation 2, for the objective that sums over images: leaving i out moves the weights by H^-1 g_i.

    Raises:
        BadParameter: a class that the head does not know, or features of another width.
    """
    row, at = _query(head, query, target)
    slope = loss_gradients(head, row, np.array([at]))[0]
    return np.asarray(head.gradients @ head.solve(slope))


def leave_one_out(head: Head, query: NDArray[np.floating], target: str, places: Sequence[int]) -> Floats:
    """As ``head_influence`` for some images, by retraining without each: what the formula approximates. (len(places),)

    The standardization of the features and the total penalty stay as they are.
    """
    row, at = _query(head, query, target)
    known = float(head.log_probabilities(row)[0, at])
    found = []
    for i in places:
        kept = np.delete(np.arange(len(head.rows)), i)
        weights = newton(head.weights, head.rows[kept], head.truth[kept], head.penalty, total=len(head.rows))
        z = row @ weights.T
        found.append(known - float(z[0, at] - z.max() - np.log(np.exp(z - z.max()).sum())))
    return np.asarray(found)


def influence(
    net: Model | nn.Module,
    training: Sequence[Scan],
    labels: Sequence[object],
    image: Scan,
    target: object = None,
    *,
    penalty: float = 1e-3,
    layer: str | None = None,
    check: int = 0,
    run: Run | None = None,
) -> Influence:
    """Training images that decided a prediction, through the last layer: a logistic head is fitted anew on what that layer is given.

    The features stay as they are, so that what an image did for them is not told; and it is the fitted head that is asked, not the network's own.

    Args:
        net: a Model, or a bare network that ends in a linear layer.
        training: the images that it learned from (or some of them).
        labels: of each; names or numbers.
        image: the image whose prediction is asked about.
        target: one of the labels; None: what the fitted head predicts.
        penalty: ridge penalty of the head's mean loss, over features of standard deviation 1.
        layer: the linear layer; None: the last that runs.
        check: how many images the head is retrained without, half of them the strongest, half drawn by the seed; the rank correlation with what
            the formula says becomes the evidence.
        run: seed, progress, cancel.

    Raises:
        BadParameter: one class, not as many labels as images, or a target that no image bears.
        Unsupported: a network that does not end in a linear layer, or too many weights.

    **Source**: Koh and Liang 2017 (ICML, Understanding black-box predictions via influence functions).
    """
    began, model, run = time.perf_counter(), as_model(net), run or Run()
    rows, images, name = head_inputs(model, [*training, image], layer=layer, run=run)
    head = fit_head(rows[:-1], labels, penalty=penalty)
    ready = head.standard(rows[-1:])
    known = head.log_probabilities(ready)[0]
    wanted = head.classes[int(known.argmax())] if target is None else str(target)
    values = head_influence(head, rows[-1], wanted)
    evidence = _checked(head, rows[-1], wanted, values, check, run)
    right = float((head.log_probabilities(head.rows).argmax(1) == head.truth).mean())
    scan = as_image(image)
    prepared = model.ready(scan)[0]
    text = f"influence(penalty={penalty!r}, layer={name!r}, training={len(labels)}, of={digest(*images[:-1])[:16]!r})"
    caveats = (f"the head fitted anew is right for {100 * right:.0f} % of its training images",)
    said = signed(
        model, run, text, target=wanted, site=name, image=prepared.fingerprint, scan=scan.fingerprint, seconds=time.perf_counter() - began,
        cite=CITE, notes=caveats,
    )  # fmt: skip
    told = tuple(str(v) for v in labels)
    probability = float(np.exp(known[head.classes.index(wanted)]))
    return Influence(prepared.grid, said, evidence, values, told, wanted, probability, prepared, scan, model.identity, tuple(images[:-1]))


@dataclass(frozen=True, eq=False)
class LabelErrors(Finding):
    """Images in the order in which their labels should be looked at, the most suspicious first.

    ``strength`` (n,) is each image's influence on its own loss, ``given`` its label, ``suggested`` what the head says once the image is left out
    (to first order).
    """

    kind = "label_errors"
    order: tuple[int, ...]
    strength: Floats = field(repr=False)
    given: tuple[str, ...] = field(repr=False)
    suggested: tuple[str, ...] = field(repr=False)
    provenance: Provenance = field(repr=False)

    def table(self, k: int = 20) -> Table:
        """The ``k`` most suspicious, a row each."""
        rows = tuple((i, self.given[i], self.suggested[i], float(self.strength[i])) for i in self.order[:k])
        return Table(("place", "label", "suggested", "self-influence"), rows)


def label_errors(features: NDArray[np.floating], labels: Sequence[object], *, penalty: float = 1e-2) -> LabelErrors:
    """Which labels may be wrong: images that are predicted as labelled only because they were trained on, by their influence on themselves.

    Args:
        features: (n, d), as from ``head_inputs`` or ``gather``.
        labels: of each image.
        penalty: of the head; the smaller, the more the head learns wrong labels by heart.

    Raises:
        BadParameter, BadImage, Unsupported: as ``fit_head``.

    **Source**: Koh and Liang 2017, section 5.4: sort by -I(z_i, z_i), here how much the loss of an image rises when it is left out.
    """
    head = fit_head(features, labels, penalty=penalty)
    moves = head.solve(head.gradients.T).T
    strength = (head.gradients * moves).sum(1)
    weights = head.weights.ravel() + moves
    c, d = head.weights.shape
    without = np.einsum("ncd,nd->nc", weights.reshape(-1, c, d), head.rows).argmax(1)
    order = np.lexsort((np.arange(len(strength)), -strength))
    given = tuple(str(v) for v in labels)
    said = signed_rows(f"label_errors(penalty={penalty!r})", features, cite=CITE)
    return LabelErrors(tuple(order.tolist()), strength, given, tuple(head.classes[i] for i in without), said)


def _query(head: Head, query: NDArray[np.floating], target: str) -> tuple[Floats, int]:
    if str(target) not in head.classes:
        raise BadParameter(f"a class of the training images: {', '.join(head.classes)}", repr(target), "Choose one of them.")
    return head.standard(np.asarray(query)[None]), head.classes.index(str(target))


def _checked(head: Head, query: Floats, target: str, values: Floats, check: int, run: Run) -> Evidence:
    if isinstance(check, bool) or not isinstance(check, int) or check < 0 or check in (1, 2) or check > len(values):
        raise BadParameter(f"check is 0, or from 3 to {len(values)}", repr(check), "Write 20.")
    if not check:
        return Evidence()
    strong = np.argsort(-np.abs(values), kind="stable")
    rest = torch.randperm(len(values), generator=torch.Generator().manual_seed(run.seed)).numpy()
    places = [int(i) for i in dict.fromkeys([*strong[: (check + 1) // 2], *rest])][:check]
    meter, slow = Meter(run, total=check), []
    for i in places:
        slow.append(float(leave_one_out(head, query, target, [i])[0]))
        meter.tick(forward=1)
    agree = spearman(torch.tensor(values[places]), torch.tensor(slow, dtype=torch.float64))
    text = f"Leaving out {check} images one by one and retraining ranks them as the formula does: rank correlation {agree:.3f}."
    status: Any = "pass" if agree >= AGREES else "fail"
    found = Measurement("retraining_agreement", agree, "rank correlation", "up", status, text, AGREES, "the level asked for")
    verdict: Any = "supported" if agree >= AGREES else "questionable"
    return Evidence("quick", (found,), verdict, (text,))
