"""Data randomization: does the map of a network that learned the labels differ from that of one that memorized permuted labels?"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pellucid.asking import Scan, as_image, explain_all
from pellucid.errors import BadParameter
from pellucid.evidence.sanity.alike import Alike, Side
from pellucid.evidence.sanity.floors import averaged
from pellucid.explanation import Measurement, Status
from pellucid.intervals import average
from pellucid.method import Ask, Method, read_method
from pellucid.model import Model, as_model
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.target import as_target

NAME, UNIT = "data_randomization", "rank correlation"
LEARNED = 0.95  # training accuracy that both networks must reach
UNLIKE = 0.1  # of rank correlation: so little do two networks with true labels have in common that no loss can be seen
SAME = 0.7  # of rank correlation: memorized labels give this map too
Train = Callable[[Sequence[Any], int], Model | nn.Module]  # labels in the order of the training images, seed -> a trained network


def data_randomization(
    train: Train,
    images: Sequence[Scan],
    labels: Sequence[int],
    methods: Sequence[Method[Any] | str],
    *,
    explained: Sequence[Scan] | None = None,
    targets: Sequence[Any] | None = None,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
    run: Run | None = None,
) -> dict[str, Measurement]:
    """How alike the maps of a network with true labels and of one trained on permuted labels are, by method.

    Three networks are trained: two on the true labels with different seeds (their likeness is the level: what retraining alone changes) and one on
    permuted labels. The value is the mean over images of ``|spearman(map, map of the permuted network)|``, with its 95 % interval over
    patients. A method passes if its maps are less alike with permuted labels than with retraining alone (interval of the paired difference),
    and fails from 0.7 on or where they are no less alike. Both kinds must have learned their labels (training accuracy above 0.95, counted here);
    otherwise nothing is concluded.

    Args:
        train: labels in the order of ``images`` and a seed -> a trained network (its ``eval()`` form is used).
        images: the training images; they are asked once for the accuracy.
        labels: a class index for each.
        methods: methods, their names or texts.
        explained: images to explain; None: the first eight of ``images``.
        targets: the target for each of them, the same for all networks; None: its label, for training images only.
        patients: of ``explained``, for the interval.
        seed: of the permutation and of training.
        run: chunk, memory, cancel.

    Raises:
        BadParameter: lists that do not fit each other.

    **Misleads when**: retraining alone changes the maps as much: then nothing can be told (inconclusive), however much they depend on labels.
    **Source**: Adebayo et al. 2018, section 4 (1810.03292); the level of two true networks is ours.
    """
    labels = [int(k) for k in labels]
    scans = [as_image(i) for i in (images[:8] if explained is None else explained)]
    wanted = list(labels[:8] if targets is None and explained is None else targets or ())
    if len(labels) != len(images) or len(wanted) != len(scans):
        got = f"{len(labels)} labels for {len(images)} images, {len(wanted)} targets for {len(scans)} explained"
        raise BadParameter("a label for each image and a target for each explained one", got, "Give labels= and targets= in order.")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    permuted = [labels[k] for k in order]
    plans = {"true": (labels, seed), "true again": (labels, seed + 1), "permuted": (permuted, seed)}
    asked = [read_method(m) for m in methods]
    maps: dict[str, list[list[Tensor]]] = {}
    accuracy: dict[str, float] = {}
    for name, (given, s) in plans.items():
        model = as_model(train(given, s))
        accuracy[name] = _accuracy(model, images, given)
        maps[name] = [_maps(model, scan, target, asked, run or Run()) for scan, target in zip(scans, wanted, strict=True)]
    facts = {
        "accuracy": accuracy,
        "images": len(images),
        "explained": len(scans),
        "moved": sum(a != b for a, b in zip(labels, permuted, strict=True)),
    }
    return {repr(m) if _twice(m, asked) else m.name: _judged(k, maps, accuracy, facts, patients) for k, m in enumerate(asked)}


def _twice(m: Method[Any], all_: list[Method[Any]]) -> bool:
    return sum(o.name == m.name for o in all_) > 1


def _accuracy(model: Model, images: Sequence[Scan], labels: Sequence[int]) -> float:
    """Share of images whose highest output is their label; a single logit counts as positive above 0."""
    right = 0
    with untouched(model.module), torch.no_grad():
        for image, label in zip(images, labels, strict=True):
            out = model.forward(model.ready(as_image(image))[1][None])[0]
            right += int((int(out.argmax()) if out.numel() > 1 else int(out > 0)) == label)
    return right / len(labels)


def _maps(model: Model, scan: Any, target: Any, methods: list[Method[Any]], run: Run) -> list[Tensor]:
    one = as_target(target)
    found = explain_all(model, [scan], [Ask(m, one) for m in methods], run)
    return [m.on(m.image.grid).relevance.double() for m in found]


def _judged(
    k: int, maps: dict[str, list[list[Tensor]]], accuracy: dict[str, float], facts: dict[str, Any], patients: Sequence[Hashable] | None
) -> Measurement:
    sides = {name: [Side.of(each[k]) for each in found] for name, found in maps.items()}
    wrong = [Alike.between(a, b) for a, b in zip(sides["true"], sides["permuted"], strict=True)]
    again = [Alike.between(a, b) for a, b in zip(sides["true"], sides["true again"], strict=True)]
    ours, level = [abs(a.signed) for a in wrong], [abs(a.signed) for a in again]
    value, other = (average(v, patients, within=(0.0, 1.0)) for v in (ours, level))
    apart = average([b - a for a, b in zip(ours, level, strict=True)], patients, within=(-1.0, 1.0))
    sizes = average([b.absolute - a.absolute for a, b in zip(wrong, again, strict=True)], patients)
    detail = facts | {
        "permuted": averaged(wrong), "retrained": averaged(again), "each": ours, "each_retrained": level,
        "difference": [apart.value, apart.low, apart.high], "difference_of_magnitudes": [sizes.value, sizes.low, sizes.high],
    }  # fmt: skip
    status, text = _said(value.value, other.value, (apart.low, apart.high), accuracy)
    against = "two networks trained on the true labels with different seeds"
    return Measurement(NAME, value.value, UNIT, "down", status, text, other.value, against, *value.ends, detail)


def _said(value: float, level: float, apart: tuple[float, float], accuracy: dict[str, float]) -> tuple[Status, str]:
    poor = [f"{name} {share:.0%}" for name, share in accuracy.items() if share <= LEARNED]
    if poor:
        return "inconclusive", f"Not every network has learned its labels (training accuracy: {', '.join(poor)}), so nothing follows."
    if math.isnan(value) or math.isnan(level):
        return "inconclusive", "Maps are empty, so there is nothing to compare."
    numbers = f"similarity {value:.2f} of 1; {level:.2f} after training anew on the true ones"
    if value >= SAME or apart[1] <= 0:
        return (
            "fail",
            f"Learned on permuted labels the network gives as similar a map ({numbers}): it does not show what the labels taught.",
        )
    if apart[0] > 0:
        return "pass", f"Learned on permuted labels the map becomes another one ({numbers})."
    if level < UNLIKE:
        return "inconclusive", f"Maps of networks with true labels are as unlike each other, so nothing follows ({numbers})."
    return "inconclusive", f"Learned on permuted labels the map changes no more than chance may change it ({numbers})."
