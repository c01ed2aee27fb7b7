"""Dissection: the planted unit is found, masks of other patients are not; thresholds are quantiles, exact or within a stated error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadImage, BadParameter, BadSite
from pellucid.ops.quantiles import Quantiles
from pellucid.prototypes.dissected import Dissection
from pellucid.prototypes.dissection import network_dissection

Q = 0.03


class Planted(nn.Module):
    """Unit 0 sees what is bright, unit 1 a bright edge to the right, unit 2 always the same place, unit 3 nothing; half resolution."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.site = conv(1, 4, 5, stride=2, padding=2)
        self.place = Place()
        self.head = nn.Linear(4, 2)
        with torch.no_grad():
            self.site.weight.zero_()
            self.site.weight[0] = 1 / 5**dims
            self.site.weight[1].select(-1, 0)[...] = -1.0
            self.site.weight[1].select(-1, 4)[...] = 1.0
            self.site.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.place(self.site(x)).flatten(2).mean(2))


class Place(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        one, middle = torch.zeros_like(z), z.shape[-1] // 2
        one[:, 2, ..., middle] = torch.linspace(1, 2, z.shape[-2])
        return z + one


def discs(n: int, dims: int = 2, size: int = 32, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    g = torch.Generator().manual_seed(seed)
    scans, masks = [], []
    for _ in range(n):
        at = torch.randint(5, size - 5, (dims,), generator=g)
        axes = torch.meshgrid(*[torch.arange(size)] * dims, indexing="ij")
        mask = sum((a - int(c)) ** 2 for a, c in zip(axes, at, strict=True)) <= 9
        scan = 0.2 * torch.randn((1, *[size] * dims), generator=g)
        scan[0][mask] += 2
        scans.append(scan)
        masks.append(mask)
    return scans, masks


def away(masks: list[Tensor]) -> list[Tensor]:
    """Each patient with the mask of another."""
    return masks[7:] + masks[:7]


@pytest.fixture(scope="module")
def found() -> Dissection:
    scans, masks = discs(20)
    same = torch.zeros(32, 32, dtype=torch.bool)
    same[:, 14:19] = True
    return network_dissection(Planted(), scans, {"disc": masks, "shuffled": away(masks), "always there": [same] * 20}, "place", quantile=Q)


def test_the_planted_unit_is_found_and_a_shuffled_mask_is_not(found):
    disc = found.of(0, "disc")
    assert found.detectors[0] == disc and disc.iou > 0.5 and disc.low > 0.4 and disc.p < 0.01 and disc.chance < 0.1
    assert not any(r.verdict == "detector" for r in found.rows if r.concept != "disc")
    assert found.of(0, "shuffled").iou < 0.1


def test_one_place_in_all_patients_is_no_detector(found):
    """The unit covers the mask in every image, and would be called a detector by IoU alone."""
    row = found.of(2, "always there")
    assert row.iou > found.threshold and row.verdict == "no more than chance" and row.chance == pytest.approx(row.overlap, rel=1e-6)
    assert any("other patients' masks overlap as much" in s for s in found.sentences())


def test_numbers_by_hand(found):
    """IoU slowly, one image after the other, by the definition."""
    scans, masks = discs(20)
    net = Planted()
    with torch.no_grad():
        z = torch.stack([net.site(s[None])[0, 0] for s in scans]).double()
    level = z.flatten().sort().values[-int(Q * z.numel()) - 1]
    assert found.thresholds[0] == pytest.approx(float(level), abs=1e-6)
    assert (z > level).double().mean() == pytest.approx(Q, abs=1 / z.numel())
    both = either = 0
    for one, mask in zip(z, masks, strict=True):
        large, one = torch.empty(32, 32), one.numpy()
        for i in range(32):
            for j in range(32):  # cell u lies at sample 2 u
                a, b = min(i / 2, 15), min(j / 2, 15)
                p, q = int(a), int(b)
                r, s = min(p + 1, 15), min(q + 1, 15)
                u, v = a - p, b - q
                large[i, j] = (1 - u) * ((1 - v) * one[p, q] + v * one[p, s]) + u * ((1 - v) * one[r, q] + v * one[r, s])
        both += int(((large > level) & mask).sum())
        either += int(((large > level) | mask).sum())
    assert found.of(0, "disc").iou == pytest.approx(both / either, abs=1e-3)


def test_a_unit_that_never_answers_is_named(found):
    assert found.dead == (3,) and any("1 of 4 units never rise" in s for s in found.sentences())
    assert all(r.iou == 0 for r in found.rows if r.unit == 3)


def test_volumes_in_millimeters_and_masks_with_grids_of_their_own():
    scans, masks = discs(8, dims=3, size=16)
    grid = pl.Grid.spaced((16, 16, 16), (1.0, 1.0, 2.0))
    images = [pl.Image(s, grid) for s in scans]
    fine = grid.resize((32, 32, 32))
    own = [pl.Image(m.float()[None], grid).on(fine, nearest=True) for m in masks]
    found = network_dissection(Planted(3), images, {"ball": own, "shuffled": away(masks)}, "site", quantile=0.03, draws=99)
    assert found.detectors[0].concept == "ball" and found.detectors[0].unit == 0 and found.detectors[0].iou > 0.5
    plain = network_dissection(Planted(3), images, {"ball": masks}, "site", quantile=0.03, draws=99, pictures=0)
    assert plain.of(0, "ball").iou == pytest.approx(found.of(0, "ball").iou) and not plain.pictures


def test_images_of_one_patient_go_together_and_few_patients_show_nothing():
    scans, masks = discs(12)
    four = [k // 4 for k in range(12)]
    found = network_dissection(Planted(), scans, {"disc": masks}, "site", quantile=Q, patients=four)
    assert found.of(0, "disc").verdict == "too few patients" and found.of(0, "disc").patients == 3
    assert any("3 patients are too few" in s for s in found.sentences()) and not found.detectors


def test_where_nobody_looked_nothing_counts():
    scans, masks = discs(12)
    part = [m if k % 2 else None for k, m in enumerate(masks)]
    none = [m if k % 2 else torch.zeros_like(m) for k, m in enumerate(masks)]
    rows = [network_dissection(Planted(), scans, {"disc": m}, "site", quantile=Q, pictures=0).of(0, "disc") for m in (part, none)]
    assert rows[0].images == 6 and rows[0].iou > 1.5 * rows[1].iou


def test_the_test_keeps_its_level():
    """Random units against masks of other patients: a detector in about one of twenty sets at most."""
    hits = 0
    for seed in range(8):
        scans, _ = discs(10, size=24, seed=seed)
        _, others = discs(10, size=24, seed=100 + seed)
        found = network_dissection(Planted(), scans, {"other": others}, "place", quantile=0.05, draws=39, pictures=0)
        hits += any(r.p <= 0.05 for r in found.rows)
    assert hits <= 2


def test_saved_and_loaded_with_its_pictures(found, tmp_path):
    again = Dissection.load(found.save(tmp_path / "dissection.json"), Planted())
    assert again.facts() == found.facts() and len(again.pictures) == len(found.pictures) >= 3
    assert torch.equal(again.pictures[0].answer.values, found.pictures[0].answer.values)
    assert found.table()["unit"][0] == 0 and len(found.table()) == 12
    found.figure(tmp_path / "units.png")
    assert (tmp_path / "units.png").stat().st_size > 10_000


def test_the_same_twice_and_progress():
    scans, masks = discs(6)
    ticks: list[tuple[int, int | None]] = []
    a, b = (
        network_dissection(
            Planted(), scans, {"disc": masks}, "site", quantile=Q, pictures=0, run=pl.Run(on_tick=lambda *t: ticks.append(t))
        )
        for _ in range(2)
    )
    assert a.rows == b.rows and ticks[-1] == (12, 12)


def test_what_does_not_fit_is_refused():
    scans, masks = discs(3)
    for given, what in (
        ({}, "at least one concept"), ({"disc": masks[:2]}, "for each of 3 scans"), ({"disc": [None] * 3}, "None for all"),
    ):  # fmt: skip
        with pytest.raises(BadParameter, match=what):
            network_dissection(Planted(), scans, given, "site")
    with pytest.raises(BadImage, match="as large as scan 0"):
        network_dissection(Planted(), scans, {"disc": [m[:16] for m in masks]}, "site")
    with pytest.raises(BadSite, match="spatial axes"):
        network_dissection(Planted(), scans, {"disc": masks}, "head")
    with pytest.raises(BadParameter, match="quantile"):
        network_dissection(Planted(), scans, {"disc": masks}, "site", quantile=0)
    with pytest.raises(BadParameter, match="draws"):
        network_dissection(Planted(), scans, {"disc": masks}, "site", draws=5)


@pytest.mark.parametrize("room", [10_000, 64])
def test_quantiles_are_exact_while_they_fit_and_else_within_their_error(room):
    rng = np.random.default_rng(0)
    values = np.stack([rng.normal(size=5000), rng.exponential(size=5000).round(1), np.arange(5000.0)])
    kept = Quantiles(3, room)
    for part in np.array_split(values, 37, axis=1):
        kept.add(part)
    for share in (0.005, 0.1, 0.5):
        t = kept.above(share)
        over = (values > t[:, None]).mean(1)
        at_least = (values >= t[:, None]).mean(1)
        assert (over <= share + kept.error + 1e-12).all() and (at_least >= share - kept.error - 1e-12).all()
    assert (kept.error == 0) == (room > 5000)
    assert sum(lv.size for lv in kept._levels) <= 3 * room * 9
