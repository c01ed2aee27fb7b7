"""Which MRI sequence does the network use? Five ways, over all images and by voxel; and whether a preprocessing bias hides in one."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from pellucid.asking import Scan, explain_all
from pellucid.baseline import samples
from pellucid.effects.curve import coded
from pellucid.effects.levels import Level, judge, level, leveled
from pellucid.effects.scoring import Mask, Scoring, chance, laid, masks_of
from pellucid.effects.sequence_result import Filling, SequenceImportance, SequenceRow
from pellucid.effects.ways import Feature, Floats, Way, by_group, exchanged, first_layer_energy, information, measure, shapley, subsets
from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Evidence, Map, Measurement
from pellucid.findings import signed
from pellucid.image import Image, digest
from pellucid.intervals import NONE, Interval, area, average, statistic
from pellucid.method import Ask, Method, read_method
from pellucid.ops.blur import gaussian
from pellucid.params import Distance, Length, check
from pellucid.run import Run

MOST = 5  # sequences whose subsets are all asked: 32
SHUFFLES = 100  # of labels, for what mutual information chance reaches
CITE = "Pereira et al. 2018, Enhancing interpretability of automatically extracted machine learning features, Medical Image Analysis 44:228"


@dataclass(frozen=True, eq=False)
class _Case:
    """What one image adds: numbers by sequence (m,), its score, scores with each sequence exchanged, levels, features."""

    score: float
    exchanged: Floats
    moved: Floats
    phi: Floats
    mass: Floats
    levels: Floats
    features: Floats
    mark: str


def sequence_importance(
    model: Any,
    images: Sequence[Scan],
    target: Any,
    *,
    labels: Sequence[int] | None = None,
    sequences: Mapping[str, Sequence[str | int]] | None = None,
    filling: Filling = "patients",
    draws: int = 3,
    method: Method[Any] | str = "integrated_gradients(steps=16)",
    features: Sequence[Feature] = ("mean", "p90", "maximum"),
    masks: Sequence[Mask] | None = None,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> SequenceImportance:
    """How much each MRI sequence (channel) matters to a network's score, five ways; where they disagree; and whether one is scaled by label.

    Args:
        model: the network, described or bare.
        images: of one shape, with the same channels.
        target: a class (its logit) or a Target.
        labels: 0 or 1 for each image: what mutual information is told about, and what levels are held against. None: whether the score is above its
            median, and no levels.
        sequences: channels by sequence, where several belong together; None: each channel is one. At most five.
        filling: what stands for a missing sequence: that of other ``patients`` (drawn; ``draws`` each), its ``mean`` over all images, or ``zero``.
        draws: other patients for each image.
        method: whose attribution's mass is counted.
        features: first-order features of a sequence (see ``features.first_order``) or functions of its values, of which the one that tells most
            counts; measured inside the mask where there is one.
        masks: regions for the features; not used where some image has none: the region alone would tell the label.
        patients: of each image: exchanges are between patients, intervals over them.
        run: seed, chunk, memory, progress, cancel.

    Returns:
        Rows for each way and sequence with intervals over patients, ranks, ``disagreement()``, ``levels``. First-layer energy has no interval: it is
        one number of the weights.

    Raises:
        BadImage: one patient alone, other channels, other shapes.
        BadParameter: more than five sequences; labels, masks or patients that do not fit.
        BadTarget, BadModel: as ``explain``.

    **Misleads when**: sequences share what they show (each alone seems to matter little); anatomy differs so much between patients that exchanged
    sequences fit nobody; the lesion itself is so large that it moves a sequence's median (the level is then no bias).

    **Source**: Pereira et al. 2018 (importance by sequence, mutual information, maps); Breiman 2001 (permutation); Shapley 1953.
    """
    began = time.perf_counter()
    scans, run = list(images), run or Run()
    whose = coded(patients, len(scans))
    if len(set(whose.tolist())) < 2:
        raise BadImage("images of two patients or more, to exchange sequences", f"{len(set(whose.tolist()))}", "Give more.")
    wanted = None if labels is None else _labels(labels, len(scans))
    if filling not in get_args(Filling):
        raise BadParameter(f"filling is {', '.join(get_args(Filling))}", repr(filling), "Choose one.")
    marks = masks_of(masks, scans)
    scoring = Scoring(model, target, run, scans[0], len(scans) * (2 if wanted is None else 3))
    first = scoring.ready(scans[0])
    names, groups = _groups(first, sequences)
    about = _About(scoring, scans, marks, whose, groups, filling, draws, read_method(method), tuple(features))
    means, marked = about.means()
    cases = [about.case(i, means, marked) for i in range(len(scans))]
    scores = np.array([c.score for c in cases])
    y = wanted if wanted is not None else (scores > np.median(scores)).astype(np.int64)
    energy, why = first_layer_energy(scoring.model, first)
    rows, each, reached = _rows(names, groups, cases, energy, y, whose, run.seed)
    levels = [] if wanted is None else about.levels(names, cases, scores, wanted)
    silent = sum(bool(np.isnan(c.mass).all()) for c in cases)
    notes = [*scoring.notes, *([f"first-layer energy was left out: {why}"] if energy is None else [])]
    notes += ["not every image has a region marked: features are of whole images"] if masks is not None and not marked else []
    notes += [f"{silent} of {len(cases)} maps are zero everywhere and have no attribution mass"] if silent else []
    said = f"sequence_importance(sequences={list(names)}, filling={filling!r}, draws={draws}, method={about.method!r}, images={len(scans)})"
    provenance = signed(
        scoring.model, run, said, target=repr(scoring.target), image=digest(*(c.mark for c in cases)), seconds=time.perf_counter() - began,
        cite=CITE, notes=notes,
    )  # fmt: skip
    return SequenceImportance(
        names, tuple(rows), tuple(levels), tuple(_lost(names, cases, scores, wanted, whose)), reached, filling,
        "labels" if wanted is not None else "network's high from its low scores", repr(scoring.target), len(scans), len(set(whose.tolist())),
        tuple(notes), _evidence(levels), scoring.model.identity, replace(provenance, forward=scoring.forward), each,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _About:
    """What is asked about the images."""

    scoring: Scoring
    scans: list[Scan]
    masks: list[Mask]
    whose: Any
    groups: tuple[tuple[int, ...], ...]
    filling: Filling
    draws: int
    method: Method[Any]
    features: tuple[Feature, ...]

    def means(self) -> tuple[Tensor, bool]:
        """Mean of each channel over all images (c, 1, ..., 1), float64, and whether all have a region marked; shapes are looked at on the way."""
        total, shape, marked = None, None, True
        for scan, mask in zip(self.scans, self.masks, strict=True):
            image = self.scoring.ready(scan)
            if shape not in (None, tuple(image.values.shape)):
                raise BadImage(f"images of one shape {shape}", f"{tuple(image.values.shape)}", "Bring them to one size in prepare=.")
            shape = tuple(image.values.shape)
            mean = image.values.double().flatten(1).mean(1)
            total = mean if total is None else total + mean
            region = laid(mask, scan, image) if marked else None
            marked = region is not None and bool(region.any())
            self.scoring.tick()
        assert total is not None
        assert shape is not None
        return (total / len(self.scans)).view(-1, *[1] * (len(shape) - 1)), marked

    def case(self, i: int, means: Tensor, marked: bool) -> _Case:
        """All of one image: subsets, exchanges, attribution, level, features."""
        image, m = self.scoring.ready(self.scans[i]), len(self.groups)
        others = self._others(i)
        x, sets = image.values, subsets(m)
        fills: list[Tensor] = others if self.filling == "patients" else [means if self.filling == "mean" else torch.zeros_like(means)]
        asked = [exchanged(x, f, self.groups, s) for f in fills for s in sets[:-1]]
        if self.filling != "patients":
            asked += [exchanged(x, o, self.groups, _without(m, k)) for o in others for k in range(m)]
        score, *told = self.scoring.scores(image, [x, *asked])
        phi = np.zeros(m)
        for d in range(len(fills)):
            part = dict(zip(sets, [*told[d * (len(sets) - 1) : (d + 1) * (len(sets) - 1)], score], strict=True))
            phi += shapley(part, m) / len(fills)
        if self.filling == "patients":
            at = [[d * (len(sets) - 1) + sets.index(_without(m, k)) for k in range(m)] for d in range(len(others))]
            swapped = np.array(told)[np.array(at)]
        else:
            swapped = np.array(told[len(fills) * (len(sets) - 1) :]).reshape(len(others), m)
        why = explain_all(
            self.scoring.model, [_as_scan(self.scans[i])], [Ask(self.method, self.scoring.target, None)], _quiet(self.scoring.run)
        )[0]
        mass = _mass(why, self.groups)
        levels = np.array([level(image, g) for g in self.groups])
        region = laid(self.masks[i], self.scans[i], image) if marked else None  # a mask of some alone would tell the label by itself
        self.scoring.tick()
        measured = measure(image, self.groups, region, self.features)
        return _Case(score, swapped.mean(0), np.abs(score - swapped).mean(0), phi, mass, levels, measured, image.fingerprint)

    def _others(self, i: int) -> list[Tensor]:
        """Images of other patients, drawn."""
        free = np.flatnonzero(self.whose != self.whose[i])
        order = torch.randperm(len(free), generator=chance(self.scoring.run.seed, f"others {i}"))[: self.draws]
        return [self.scoring.ready(self.scans[int(free[k])]).values for k in order.tolist()]

    def levels(self, names: tuple[str, ...], cases: Sequence[_Case], scores: Floats, y: Any) -> list[Level]:
        """Each sequence's level against the labels, and the scores once it is the same in all images."""
        own = np.array([c.levels for c in cases])
        goals = np.median(own, 0)
        after = np.zeros((len(cases), len(names)))
        for i, scan in enumerate(self.scans):
            image = self.scoring.ready(scan)
            asked = [leveled(image, g, tuple(own[i, k]), tuple(goals[k])) for k, g in enumerate(self.groups)]
            after[i] = self.scoring.scores(image, asked)
            self.scoring.tick()
        who = self.whose.tolist()
        return [judge(n, own[:, k], scores, after[:, k], y.astype(np.float64), who) for k, n in enumerate(names)]


def _as_scan(scan: Scan) -> Image:
    from pellucid.asking import as_image

    return as_image(scan)


def _quiet(run: Run) -> Run:
    return replace(run, on_tick=None)


def _without(m: int, k: int) -> tuple[int, ...]:
    return tuple(j for j in range(m) if j != k)


def _mass(why: Map, groups: Sequence[Sequence[int]]) -> Floats:
    """Each sequence's share of |attribution|; NaN of a map that is zero everywhere.

    Raises:
        BadParameter: a map that does not tell channels apart.
    """
    whole = sum(map(len, groups))
    if len(why.values) < max(max(g) for g in groups) + 1:
        raise BadParameter(
            f"a method whose map has the image's {whole} channels",
            f"{len(why.values)} from {why.provenance.method}",
            "Choose integrated_gradients.",
        )
    each = by_group(why.values.double().abs().flatten(1).sum(1).numpy(), groups)
    return each / each.sum() if each.sum() > 0 else np.full(len(each), math.nan)


def _groups(image: Image, sequences: Mapping[str, Sequence[str | int]] | None) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Names of the sequences, and the channels of each.

    Raises:
        BadParameter: none, too many, an unknown channel, or one that belongs to two.
    """
    told = sequences or {n: (k,) for k, n in enumerate(image.channels)}
    if not 2 <= len(told) <= MOST:
        raise BadParameter(f"two to {MOST} sequences", f"{len(told)}", "Join some: sequences={'T1': ['T1', 'T1c'], ...}.")
    groups = []
    for name, given in told.items():
        at = [image.channels.index(c) if isinstance(c, str) and c in image.channels else c for c in given]
        if not at or not all(isinstance(c, int) and 0 <= c < len(image.channels) for c in at):
            raise BadParameter(f"channels of {name!r} among {', '.join(image.channels)}", repr(list(given)), "Name them.")
        groups.append(tuple(int(c) for c in at))
    flat = [c for g in groups for c in g]
    if len(set(flat)) < len(flat):
        raise BadParameter("each channel in one sequence", repr(dict(told)), "Name it once.")
    return tuple(told), tuple(groups)


def _labels(labels: Sequence[int], n: int) -> Any:
    found = np.array([int(v) for v in labels], dtype=np.int64)
    if len(found) != n or set(found.tolist()) != {0, 1}:
        raise BadParameter(
            f"a label of 0 or 1 for each of {n} images, both among them",
            f"{len(found)} labels, {sorted(set(found.tolist()))[:4]}",
            "Say label == k where there are more.",
        )
    return found


def _rows(
    names: Sequence[str], groups: Sequence[Sequence[int]], cases: Sequence[_Case], energy: Floats | None, y: Any, whose: Any, seed: int
) -> tuple[list[SequenceRow], dict[str, Floats], float]:
    who = whose.tolist()
    each: dict[str, Floats] = {
        "permutation": np.array([c.moved for c in cases]), "Shapley": np.array([c.phi for c in cases]),
        "attribution mass": np.array([c.mass for c in cases]),
    }  # fmt: skip
    found: dict[Way, tuple[list[Interval], str]] = {}
    if energy is not None:
        found["first-layer energy"] = ([replace(NONE, value=float(v)) for v in by_group(energy, groups)], "squared weight")
    found["permutation"] = ([average(c, who) for c in each["permutation"].T], "change of the score")
    found["Shapley"] = ([average(c, who) for c in np.abs(each["Shapley"]).T], "change of the score")
    told, reached = _informed(np.array([c.features for c in cases]), y, whose, seed)
    found["mutual information"] = (told, "nats")
    found["attribution mass"] = ([average(c, who, within=(0.0, 1.0)) for c in each["attribution mass"].T], "share")
    rows = []
    for way, (values, unit) in found.items():
        plain = np.nan_to_num(np.array([v.value for v in values]))
        total = float(plain.sum())
        for k, (name, v) in enumerate(zip(names, values, strict=True)):
            rows.append(
                SequenceRow(
                    way, name, v.value, v.low, v.high, unit, v.value / total if total else math.nan, 1 + int((plain > plain[k]).sum())
                )
            )
    return rows, each, reached


def _informed(columns: Floats, y: Any, whose: Any, seed: int) -> tuple[list[Interval], float]:
    """Mutual information of each sequence (n, m, f) with its interval, one entry a patient and label; and what shuffled labels reach in 95 of 100."""
    units = sorted(set(zip(whose.tolist(), y.tolist(), strict=True)))
    table = np.array([columns[(whose == w) & (y == v)].mean(0) for w, v in units])
    label, people = np.array([v for _, v in units]), [w for w, _ in units]
    most = float(np.log(2))
    found = []
    for k in range(table.shape[1]):
        each = [*table[:, k].T, label.astype(np.float64)]
        of = lambda *c: min(most, information(np.stack(c[:-1], 1), c[-1].astype(np.int64)))  # noqa: E731
        found.append(statistic(each, of, people, within=(0.0, most)))
    random = np.random.default_rng(seed)
    shuffled = [max(information(table[:, k], random.permutation(label)) for k in range(table.shape[1])) for _ in range(SHUFFLES)]
    return found, float(np.quantile(shuffled, 0.95))


def _lost(names: Sequence[str], cases: Sequence[_Case], scores: Floats, y: Any, whose: Any) -> list[tuple[str, float, float, float]]:
    """AUC that goes with each sequence's exchange."""
    if y is None:
        return []
    found = []
    for k, name in enumerate(names):
        after = np.array([c.exchanged[k] for c in cases])
        gone = statistic((scores, after, y), lambda s, a, t: area(s, t) - area(a, t), whose.tolist(), within=(-1.0, 1.0))
        found.append((name, gone.value, gone.low, gone.high))
    return found


def _evidence(levels: Sequence[Level]) -> Evidence:
    rows = [
        Measurement(
            f"level {v.sequence}", v.carried.value, "share of the score's difference", "zero", "fail" if v.flagged else "pass",
            f"{v.sequence}: {v.carried.value:.0%} of the difference goes with its level (AUC of the level {v.tells}).", 0.0, "no level",
            *v.carried.ends,
        )
        for v in levels
    ]  # fmt: skip
    reasons = tuple(m.text for m in rows if m.status == "fail")
    return Evidence("quick", tuple(rows), "questionable" if reasons else "supported" if rows else None, reasons)


def sequence_maps(why: Map, *, smooth: Length = 4.0) -> dict[str, Map]:
    """Where each sequence matters, a map each: |attribution| of its channel, smoothed.

    Pereira et al. (2018) add up the weights of hidden units that matter at a voxel, by sequence; here a network's attribution takes their place.

    Args:
        why: of a method whose map has the image's channels (integrated gradients, occlusion by channel, ...).
        smooth: standard deviation of the Gaussian, in the grid's unit (4: mm), or ``"2px"``.

    Returns:
        By channel, a Map (1, *space) on the same grid; their sum over samples is that channel's mass. ``.on(scan.grid)``, ``.save(...)`` as any map.

    Raises:
        BadParameter: a map whose channels are not the image's.
    """
    if len(why.values) != len(why.image.channels):
        got = f"{len(why.values)} for {len(why.image.channels)}"
        raise BadParameter("a map with a channel for each of the image's", got, "Explain with method='integrated_gradients'.")
    width: Distance = check("sequence_maps", "smooth", Length, smooth)
    sigma = samples(width, why.grid)
    mass = gaussian(why.values.double().abs(), sigma)
    found = {}
    for k, name in enumerate(why.image.channels):
        said = f"sequence_maps({why.provenance.method}, smooth={width!r})"
        provenance = replace(why.provenance, method=said, caveats=(*why.provenance.caveats, f"|attribution| of {name}, smoothed: no signs"))
        found[name] = replace(why, values=mass[k : k + 1].to(why.values.dtype), provenance=provenance, trace={}, ask=None)
    return found
