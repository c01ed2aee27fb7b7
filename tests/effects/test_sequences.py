"""Which sequence counts: five ways find the planted one, show where they disagree, and a preprocessing bias is exposed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.effects.planted import SEQUENCES, heads, mean_of, trained

import pellucid as pl
from pellucid.effects import SequenceImportance, SequenceUnits, sequence_importance, sequence_maps, sequence_units
from pellucid.effects.levels import level, leveled
from pellucid.effects.ways import WAYS, first_layer_energy, information, shapley, subsets
from pellucid.errors import BadImage, BadParameter, BadTarget

ODDS = pl.logit("yes") - pl.logit("no")


def net_for(**planted: Any) -> tuple[pl.Model, list[pl.Image], list[int]]:
    """A network trained on heads with something planted, and other heads of the same kind."""
    seen, labels = heads(160, 0, **planted)
    given, own = heads(24, 1, **planted)
    return pl.Model(trained(seen, labels, 90), classes=("no", "yes"), normalize=pl.Normalize(mean_of(seen), (1.0,) * 4)), given, own


@pytest.fixture(scope="module")
def plain() -> tuple[pl.Model, list[pl.Image], list[int]]:
    return net_for(lesion="T1c")


@pytest.fixture(scope="module")
def found(plain: Any) -> SequenceImportance:
    net, scans, labels = plain
    return sequence_importance(net, scans, ODDS, labels=labels)


@pytest.fixture(scope="module")
def biased() -> SequenceImportance:
    net, scans, labels = net_for(lesion="T1c", bias="FLAIR", weak=0.25)
    return sequence_importance(net, scans, ODDS, labels=labels)


def test_all_five_ways_find_the_planted_sequence(found: SequenceImportance) -> None:
    assert found.ways == WAYS
    for way in WAYS:
        rows = list(found.of(way).values())
        assert rows[0].sequence == "T1c", way
        assert rows[0].value > 1.5 * rows[1].value, way
        assert sum(r.share for r in rows) == pytest.approx(1)
        assert sorted(r.rank for r in rows) == [1, 2, 3, 4]
    for way in WAYS[1:]:
        first = found.of(way)["T1c"]
        assert first.low <= first.value <= first.high
    assert found.of("mutual information")["T1c"].value > found.chance
    assert found.sentences()[0].startswith("All 5 ways put T1c first")
    lost = {name: value for name, value, _, _ in found.lost}
    assert lost["T1c"] > 0.3 > 0.05 > abs(lost["T1"])


def test_no_bias_is_found_where_none_is(found: SequenceImportance) -> None:
    assert not any(v.flagged for v in found.levels)
    assert found.evidence.verdict == "supported"
    assert any(s.startswith("No sequence's level") for s in found.sentences())


def test_a_planted_bias_is_exposed(biased: SequenceImportance) -> None:
    flagged = [v.sequence for v in biased.levels if v.flagged]
    assert flagged == ["FLAIR"]
    told = next(v for v in biased.levels if v.sequence == "FLAIR")
    assert told.tells.value > 0.9
    assert told.carried.value > 0.2
    assert biased.evidence.verdict == "questionable"
    assert any("Look at how FLAIR was scaled" in s for s in biased.sentences())
    assert biased.first("mutual information") == "FLAIR"  # the data tell by it, although its picture shows nothing


def test_where_the_ways_disagree(biased: SequenceImportance) -> None:
    table = biased.disagreement()
    assert table.columns == ("way", *biased.ways)
    for i, way in enumerate(biased.ways):
        assert table[way][i] == pytest.approx(1)
    known = [biased.of("Shapley")[s].value for s in SEQUENCES], [biased.of("mutual information")[s].value for s in SEQUENCES]
    from scipy.stats import spearmanr

    assert table["Shapley"][biased.ways.index("mutual information")] == pytest.approx(spearmanr(*known).statistic)
    if biased.first("Shapley") != "FLAIR":
        assert any("disagree" in s for s in biased.sentences())
        assert any("yet the network uses" in s for s in biased.sentences())


class Products(torch.nn.Module):
    """Score: mean of channel 0, plus mean of channel 1 times mean of channel 2; channel 3 counts for nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        m = x.flatten(2).mean(2)
        return torch.stack([torch.zeros(len(x)), m[:, 0] + m[:, 1] * m[:, 2]], 1)


def test_shapley_values_are_exact() -> None:
    chance = torch.Generator().manual_seed(0)
    scans = [pl.Image(torch.rand(4, 3, 4, 5, generator=chance), channels=SEQUENCES) for _ in range(4)]
    got = sequence_importance(Products(), scans, 1, filling="zero", draws=2)
    for k, scan in enumerate(scans):
        a, b, c, _ = (float(v.double().mean()) for v in scan.values)
        np.testing.assert_allclose(got.each["Shapley"][k], [a, b * c / 2, b * c / 2, 0], atol=1e-6)
        others = [o for o in scans if o is not scan]
        assert got.each["permutation"][k, 0] <= max(abs(a - float(o.values[0].double().mean())) for o in others) + 1e-6
    assert "first-layer energy" not in got.ways
    assert any("first-layer energy was left out" in n for n in got.notes)
    assert got.of("Shapley")["FLAIR"].value == 0
    swapped = sequence_importance(Products(), scans, 1, draws=1)
    assert not np.allclose(swapped.each["Shapley"], got.each["Shapley"])
    scores = {s: float(sum(s)) ** 2 for s in subsets(3)}
    assert shapley(scores, 3).sum() == pytest.approx(9)


def test_mutual_information_is_that_of_scikit_learn() -> None:
    from sklearn.feature_selection import mutual_info_classif

    random = np.random.default_rng(0)
    for n in (30, 60):  # of fewer its neighbors come from a rounded product, and it says something else for every seed of its noise
        x = random.normal(size=(n, 2))
        y = (x[:, 0] + random.normal(size=n) > 0).astype(np.int64)
        assert information(x, y) == pytest.approx(mutual_info_classif(x, y, n_neighbors=3, random_state=0).max(), abs=1e-6)


def test_first_layer_energy_is_by_channel() -> None:
    conv = torch.nn.Conv3d(4, 6, 3, groups=2)
    net = pl.Model(torch.nn.Sequential(conv, torch.nn.Flatten(), torch.nn.LazyLinear(2)))
    image = pl.Image(torch.rand(4, 5, 5, 5))
    net.module(image.values[None])
    energy, _ = first_layer_energy(net, image)
    w = conv.weight.detach().double() ** 2
    wanted = [w[:3, 0].sum(), w[:3, 1].sum(), w[3:, 0].sum(), w[3:, 1].sum()]
    np.testing.assert_allclose(energy, [float(v) for v in wanted])
    assert not conv._forward_pre_hooks


def test_leveling_brings_tissue_to_one_level() -> None:
    x = torch.rand(2, 20, 20, generator=torch.Generator().manual_seed(0)) + 0.5
    x[:, :10] = 0
    image = pl.Image(x)
    own = level(image, (0,))
    assert own[0] == pytest.approx(float(x[0, 10:].median()), abs=0.02)
    moved = image.with_values(leveled(image, (0,), own, (2.0, 0.1)))
    assert level(moved, (0,)) == pytest.approx((2.0, 0.1), abs=1e-4)
    assert torch.equal(moved.values[1], x[1])
    assert not moved.values[0, :10].any()


def test_a_map_for_each_sequence(plain: Any, tmp_path: Any) -> None:
    net, scans, labels = plain
    scan = scans[labels.index(1)]
    why = pl.explain(net, scan, target=ODDS, method="integrated_gradients", steps=16)
    maps = sequence_maps(why, smooth="1px")
    assert tuple(maps) == SEQUENCES
    mass = {name: m.total for name, m in maps.items()}
    assert max(mass, key=lambda n: mass[n]) == "T1c"
    lesion = (scan.values[1] - scan.values[1].median()) > 0.25
    middle = maps["T1c"].values[0]
    at = np.unravel_index(int(middle.argmax()), middle.shape)
    assert bool(torch.nn.functional.max_pool2d(lesion[None].float(), 5, 1, 2)[0][at])
    inner = why.values[1].double().abs().sum()
    assert mass["T1c"] == pytest.approx(float(inner), rel=0.2)  # the hem may gather at the edge
    assert pl.load(maps["T1c"].save(tmp_path / "t1c.npz")).provenance.method.startswith("sequence_maps(")
    with pytest.raises(BadParameter, match="channel for each"):
        sequence_maps(pl.explain(net, scan, target=ODDS, method="grad_cam", site="features.2"))


def test_a_network_that_hears_nothing_is_told_so(plain: Any) -> None:
    dead = torch.nn.Sequential(torch.nn.Conv2d(4, 2, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    torch.nn.init.zeros_(dead[0].weight)
    got = sequence_importance(dead, plain[1][:6], 1, labels=plain[2][:6], draws=1)
    assert {got.first(w) for w in ("first-layer energy", "permutation", "Shapley", "attribution mass")} == {""}
    assert "find nothing" in got.sentences()[0]
    assert not any("nan" in s for s in got.sentences())


def test_saved_loaded_told_and_deterministic(plain: Any, tmp_path: Any) -> None:
    net, scans, _ = plain
    ticks: list[tuple[int, int | None]] = []
    run = pl.Run(seed=3, on_tick=lambda done, total: ticks.append((done, total)))
    patients = [k // 2 for k in range(8)]
    got = sequence_importance(net, scans[:8], ODDS, patients=patients, draws=1, method="saliency", run=run)
    again = sequence_importance(net, scans[:8], ODDS, patients=patients, draws=1, method="saliency", run=pl.Run(seed=3))
    assert str(got.table()) == str(again.table())
    assert ticks[-1] == (16, 16)
    assert (got.images, got.patients) == (8, 4)
    kept = SequenceImportance.load(got.save(tmp_path / "sequences.json"), net)
    assert kept.sentences() == got.sentences()
    np.testing.assert_array_equal(kept.each["Shapley"], got.each["Shapley"])
    got.figure(tmp_path / "sequences.png")
    assert (tmp_path / "sequences.png").stat().st_size > 10_000
    assert not got.levels
    joined = sequence_importance(net, scans[:4], ODDS, sequences={"T1w": ["T1", "T1c"], "T2w": ["T2", "FLAIR"]}, draws=1, method="saliency")
    assert joined.sequences == ("T1w", "T2w")
    assert math.isnan(joined.disagreement()["Shapley"][0])


def test_wrong_questions_are_refused(plain: Any) -> None:
    net, scans, _ = plain
    with pytest.raises(BadImage, match="two patients"):
        sequence_importance(net, scans[:3], ODDS, patients=["a"] * 3)
    with pytest.raises(BadParameter, match="label of 0 or 1"):
        sequence_importance(net, scans[:3], ODDS, labels=[1, 1, 1])
    with pytest.raises(BadTarget, match="target="):
        sequence_importance(net, scans[:3], None)
    with pytest.raises(BadParameter, match="each channel in one"):
        sequence_importance(net, scans[:3], ODDS, sequences={"a": [0, 1], "b": [1]})
    with pytest.raises(BadParameter, match="two to 5"):
        sequence_importance(torch.nn.Flatten(), [torch.rand(6, 4, 4)] * 2, 0, patients=[0, 1])
    with pytest.raises(BadParameter, match="channels"):
        sequence_importance(net, scans[:3], ODDS, method=pl.grad_cam())
    with pytest.raises(BadImage, match="one shape"):
        sequence_importance(net, [scans[0], pl.Image(torch.rand(4, 20, 20), channels=SEQUENCES)], ODDS)


def test_hidden_units_hear_the_sequence_that_shows_the_lesion(tmp_path: Any) -> None:
    scans, labels = heads(24, 5, lesion="FLAIR")
    masks = [(s.values[3] > s.values[3].median() + 0.2) & bool(y) for s, y in zip(scans, labels, strict=True)]
    found = sequence_units(scans, masks, patches=960, hidden=16, shown=5, trees=40, patients=[k // 2 for k in range(24)])
    assert found.sequences[int(found.shares.argmax())] == "FLAIR"
    assert found.shares.sum() == pytest.approx(1)
    assert found.tells.value > 0.9
    assert found.energy.shape == (4, 5)
    assert "FLAIR has" in found.sentences()[0]
    again = SequenceUnits.load(found.save(tmp_path / "units.json"))
    np.testing.assert_array_equal(again.energy, found.energy)
    found.figure(tmp_path / "units.png")
    with pytest.raises(BadParameter, match="odd"):
        sequence_units(scans, masks, size=4)
