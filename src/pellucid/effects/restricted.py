"""Pereira's route: a restricted Boltzmann machine on patches of several sequences, a forest on its hidden units, and which sequence each unit hears."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.effects.curve import Effect, coded
from pellucid.effects.scoring import Mask, chance, inside, laid, masks_of
from pellucid.effects.ways import Floats
from pellucid.errors import BadImage, BadParameter
from pellucid.explanation import Evidence, Measurement, Provenance
from pellucid.findings import KEPT, signed_rows
from pellucid.image import Image
from pellucid.intervals import Interval, auc
from pellucid.run import Run
from pellucid.table import Table

CITE = "Pereira et al. 2018, Medical Image Analysis 44:228"
ENDS = (1.0, 99.0)  # percentiles of a channel that become 0 and 1


@dataclass(frozen=True, eq=False)
class SequenceUnits(Effect):
    """Squared weights of hidden units by sequence: ``energy`` (sequences, units), of the units that the forest uses most, the first first.

    ``importance`` (units,) is the forest's own, ``tells`` its AUC on patches of patients that neither it nor the machine has seen.
    """

    kind = "sequence units"
    sequences: tuple[str, ...]
    energy: Floats = field(metadata={KEPT: True}, repr=False)
    importance: Floats
    tells: Interval
    patches: int
    patients: int
    evidence: Evidence
    provenance: Provenance = field(repr=False)

    @property
    def shares(self) -> Floats:
        """(sequences,): each sequence's share of the units' squared weights, a unit counting as much as the forest uses it."""
        each = self.energy / self.energy.sum(0, keepdims=True).clip(1e-300)
        told: Floats = each @ self.importance / self.importance.sum()
        return told

    def table(self) -> Table:
        """A row for each sequence: squared weights in each unit, and its share over all."""
        units = tuple(f"unit {k + 1}" for k in range(self.energy.shape[1]))
        return Table(
            ("sequence", *units, "share"),
            tuple((s, *map(float, e), float(v)) for s, e, v in zip(self.sequences, self.energy, self.shares, strict=True)),
        )

    def sentences(self) -> tuple[str, ...]:
        """What was measured, and what it does not show."""
        order = np.argsort(-self.shares)
        first = f"{self.sequences[order[0]]} has {self.shares[order[0]]:.0%} of the squared weights of the {self.energy.shape[1]} hidden units that the forest uses most"
        told = f"The forest tells the region's patches from others with AUC {self.tells} in patients it has not seen"
        limit = "This is of the machine and the forest that were fitted here, not of any network; a sequence that varies more gets larger weights."
        weak = " Its units say little: it does not tell the region." if self.evidence.verdict == "not supported" else ""
        return (f"{first}, of {self.patches} patches of {self.patients} patients.", f"{told}.{weak}", limit)

    def figure(self, path: Any = None, *, theme: Any = "light") -> Any:
        """The table as a heat map."""
        from pellucid.effects.sequence_figure import draw_units

        return draw_units(self, path, theme=theme)


def sequence_units(
    images: Sequence[Scan],
    masks: Sequence[Mask],
    *,
    size: int = 3,
    patches: int = 1500,
    hidden: int = 32,
    shown: int = 8,
    trees: int = 100,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> SequenceUnits:
    """Which sequences the hidden units hear that tell a region (a tumor) from what is around it.

    A Bernoulli machine of ``hidden`` units learns patches of all sequences; a forest tells from its units whether a patch's center lies in the region;
    for the ``shown`` units that the forest uses most, squared weights are summed by sequence.

    Args:
        images: of the same channels, 2D or 3D; read one at a time.
        masks: the region in each.
        size: samples along each side of a patch, odd.
        patches: in all, half of them in the region where it has as many.
        hidden, shown, trees: units, those told of, trees.
        patients: of each image; a third of them is kept apart for the AUC.
        run: seed, progress, cancel.

    Raises:
        BadImage: no region, fewer than three patients, or images of other channels.
        BadParameter: an even patch, masks that do not fit.

    **Source**: Pereira et al. 2018; the machine with scikit-learn's ``BernoulliRBM`` (learning rate 0.1, batches of 10, 10 rounds).
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.neural_network import BernoulliRBM

    run = run or Run()
    if size < 1 or size % 2 == 0:
        raise BadParameter("an odd size of patches", repr(size), "Write 3.")
    whose, marks = coded(patients, len(images)), masks_of(masks, images)
    people = np.unique(whose)
    if len(people) < 3:
        raise BadImage("images of three patients or more", f"{len(people)}", "Give more.")
    rows, labels, owner, names = _drawn(images, marks, whose, size, max(2, patches // len(images)), run)
    if len(set(labels.tolist())) < 2:
        raise BadImage("patches in the region and beside it", "one kind alone", "Give masks that mark the region in some images.")
    low, high = np.percentile(rows, ENDS, axis=(0, 2), keepdims=True)
    scaled = np.clip((rows - low) / np.where(high > low, high - low, 1), 0, 1).reshape(len(rows), -1)
    apart = np.isin(owner, people[torch.randperm(len(people), generator=chance(run.seed, "apart")).numpy()[: max(1, len(people) // 3)]])
    machine = BernoulliRBM(hidden, learning_rate=0.1, batch_size=10, n_iter=10, random_state=run.seed)
    units = machine.fit(scaled[~apart]).transform(scaled)
    forest = RandomForestClassifier(trees, random_state=run.seed, n_jobs=1).fit(units[~apart], labels[~apart])
    tells = auc(forest.predict_proba(units[apart])[:, 1], labels[apart], owner[apart].tolist())
    order = np.argsort(-forest.feature_importances_, kind="stable")[:shown]
    weights = machine.components_.reshape(hidden, len(names), -1)
    energy = (weights**2).sum(2).T[:, order].astype(np.float64)
    said = f"sequence_units(size={size}, patches={len(rows)}, hidden={hidden}, trees={trees}, images={len(images)})"
    plain = signed_rows(said, scaled, cite=CITE)
    return SequenceUnits(
        names, energy, forest.feature_importances_[order].astype(np.float64), tells, len(rows), len(people), _evidence(tells), plain
    )  # fmt: skip


def _drawn(
    images: Sequence[Scan], masks: Sequence[Mask], whose: Any, size: int, each: int, run: Run
) -> tuple[Floats, Any, Any, tuple[str, ...]]:
    """Patches (n, c, size^d), whether each one's center lies in the region, and whose it is."""
    rows, labels, owner = [], [], []
    names: tuple[str, ...] = ()
    for i, (scan, mask) in enumerate(zip(images, masks, strict=True)):
        image = as_image(scan)
        if names and image.channels != names:
            raise BadImage(f"images of the channels {', '.join(names)}", ", ".join(image.channels), "Bring them to one order.")
        names = image.channels
        region = laid(mask, scan, image)
        region = torch.zeros(image.grid.shape, dtype=torch.bool) if region is None else region
        random = chance(run.seed, f"patches {i}")
        for label, where in ((1, region), (0, ~region & inside(image))):
            for center in _centers(where, size, each // 2, random):
                rows.append(_patch(image, center, size))
                labels.append(label)
                owner.append(whose[i])
        if run.on_tick is not None:
            run.on_tick(i + 1, len(images))
    return np.array(rows), np.array(labels), np.array(owner), names


def _centers(where: Tensor, size: int, count: int, random: torch.Generator) -> list[list[int]]:
    """Places whose patch lies inside the image, drawn without repeats."""
    r = size // 2
    core = torch.zeros_like(where)
    core[tuple(slice(r, n - r) for n in where.shape)] = True
    found = (where & core).nonzero()
    return found[torch.randperm(len(found), generator=random)[:count]].tolist()


def _patch(image: Image, center: Sequence[int], size: int) -> Floats:
    r = size // 2
    cut = image.values[(slice(None), *(slice(c - r, c + r + 1) for c in center))]
    return cut.flatten(1).double().cpu().numpy()


def _evidence(tells: Interval) -> Evidence:
    good = tells.value > 0.5 if tells.ends[0] is None else tells.low > 0.5
    text = f"The forest tells the region's patches with AUC {tells} in patients it has not seen."
    row = Measurement("forest AUC", tells.value, "AUC", "up", "pass" if good else "fail", text, 0.5, "chance", *tells.ends)
    return Evidence("quick", (row,), "supported" if good else "not supported", (text,))
