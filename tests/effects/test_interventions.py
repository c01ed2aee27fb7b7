"""Images changed along an axis: the dose is what was asked for, nothing else moves, and the phantom networks answer as they were made to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import pellucid as pl
from pellucid import Grid, Image, phantoms
from pellucid.effects import (
    Attenuation,
    Blur,
    Changed,
    DoseResponse,
    LesionContrast,
    LesionSize,
    Noise,
    Resolution,
    RingIntensity,
    dose_response,
)
from pellucid.effects.lesions import background
from pellucid.errors import BadImage, BadParameter, BadTarget
from pellucid.features.rings import distances, middle
from pellucid.loading import load_model
from pellucid.ops.inpaint import harmonic

ODDS = pl.logit("DME") - pl.logit("no DME")


@pytest.fixture(scope="module")
def eyes() -> list[phantoms.Phantom]:
    return [e for e in phantoms.cases("fundus_dme", 16, seed=5) if e.labels["dme"]]


@pytest.fixture(scope="module")
def net() -> pl.Model:
    return load_model("phantom:fundus_dme")


def spot(ndim: int, spacing: tuple[float, ...], radius: float = 5.0, seed: int = 0) -> tuple[Image, torch.Tensor]:
    """A bright ball on a sloping, grainy background."""
    shape = (28, 26, 14)[:ndim]
    grid = Grid.spaced(shape, spacing)
    center = grid.world([(n - 1) / 2 for n in shape])
    mask = distances(grid, center) < radius
    slope = torch.linspace(0, 1, shape[0]).view(-1, *[1] * (ndim - 1)).expand(shape)
    grain = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Image((slope + grain + 0.5 * mask)[None], grid), mask


@pytest.mark.parametrize(("ndim", "spacing"), [(2, (1.0, 1.0)), (2, (0.5, 1.0)), (3, (1.0, 1.0, 2.0))])
def test_contrast_and_size_are_set_and_the_rest_stays(ndim: int, spacing: tuple[float, ...]) -> None:
    image, mask = spot(ndim, spacing)
    assert LesionContrast().own(image, mask) == pytest.approx(0.5, abs=0.03)
    for dose in (-0.2, 0.0, 0.25, 1.0):
        changed = LesionContrast().apply(image, dose, mask)
        assert LesionContrast().measure(changed, image) == pytest.approx(dose, abs=1e-4)
        assert torch.equal(changed.image.values[0][~mask], image.values[0][~mask])
    own = LesionContrast().own(image, mask)
    torch.testing.assert_close(LesionContrast().apply(image, own, mask).image.values, image.values, atol=1e-5, rtol=0)
    size = LesionSize().own(image, mask)
    assert size == pytest.approx(10, rel=0.06)
    for dose in (0.5 * size, 0.8 * size, size, 1.3 * size):
        changed = LesionSize().apply(image, dose, mask)
        assert LesionSize().measure(changed, image) == pytest.approx(dose, rel=0.05, abs=0.6)
        assert changed.mask is not None
        grown = float((changed.image.values - image.values)[0][changed.mask & ~mask].mean()) if dose > size else 0.4
        assert grown == pytest.approx(0.45, abs=0.12)  # what grows brings its contrast with it
    gone = LesionSize().apply(image, 0.0, mask)
    assert LesionContrast().own(gone.image, mask) == pytest.approx(0, abs=0.03)


def test_the_fill_is_smooth_as_a_plane_and_grained_as_its_rim() -> None:
    plane = torch.linspace(0, 1, 30)[:, None] + torch.linspace(0, 3, 40)[None]
    mask = torch.zeros(30, 40, dtype=torch.bool)
    mask[10:20, 12:30] = True
    broken = plane.clone()
    broken[mask] = 9.0
    torch.testing.assert_close(harmonic(broken[None], mask, (1, 2))[0], plane, atol=1e-4, rtol=0)
    grain = 0.1 * torch.randn(2, 60, 60, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(60, 60, dtype=torch.bool)
    hole[15:45, 15:45] = True
    filled = background(Image(grain), hole)
    assert float(filled[:, hole].std()) == pytest.approx(0.1, rel=0.15)
    assert float(background(Image(grain), hole, grain=False)[:, hole].std()) < 0.03
    assert torch.equal(filled, background(Image(grain), hole))
    assert torch.equal(filled[:, ~hole], grain[:, ~hole])


def test_pieces_are_zoomed_each_about_its_own_center() -> None:
    grid = Grid.spaced((60, 60), (1, 1))
    mask = (distances(grid, (15, 15, 0)) < 4) | (distances(grid, (45, 40, 0)) < 4)
    image = Image(mask[None].float(), grid)
    changed = LesionSize(grain=False).apply(image, 1.5 * LesionSize().own(image, mask), mask)
    assert changed.mask is not None
    for center in ((15, 15, 0), (45, 40, 0)):
        near = distances(grid, center) < 10
        assert middle(changed.mask & near, grid)[:2] == pytest.approx(center[:2], abs=0.1)
        assert int((changed.mask & near).sum()) == pytest.approx(math.pi * 36, rel=0.12)


@pytest.mark.parametrize("ndim", [2, 3])
def test_widths_are_in_mm_in_all_directions(ndim: int) -> None:
    spacing = (1.0, 0.5, 1.0)[:ndim]
    shape = (32, 64, 32)[:ndim]
    chance = torch.Generator().manual_seed(0)
    image = Image(torch.randn(2, *shape, generator=chance), Grid.spaced(shape, spacing))
    for sigma in (0.0, 1.0, 2.0):
        assert Blur().measure(Blur().apply(image, sigma), image) == pytest.approx(sigma, rel=0.12, abs=1e-3)
    for size in (2.0, 4.0):
        assert Resolution().measure(Resolution().apply(image, size), image) == pytest.approx(size, rel=0.15)
    assert torch.equal(Resolution().apply(image, 0.5).image.values, image.values)
    flat = image.with_values(torch.full_like(image.values, 2.5))
    torch.testing.assert_close(Resolution().apply(flat, 3.3).image.values, flat.values)
    for strength in (0.0, 0.3):
        assert Noise().measure(Noise().apply(image, strength), image) == pytest.approx(strength, rel=0.02, abs=1e-9)
    assert torch.equal(Noise().apply(image, 0.3).image.values, Noise().apply(image, 0.3).image.values)


def test_a_sequence_fades_and_the_others_stay() -> None:
    image = Image(torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)), channels=("T1", "T2", "FLAIR"))
    half = Attenuation("T2").apply(image, 0.5)
    assert Attenuation("T2").measure(half, image) == pytest.approx(0.5)
    torch.testing.assert_close(half.image.values[1], image.values[1] / 2)
    assert torch.equal(half.image.values[[0, 2]], image.values[[0, 2]])
    gone = Attenuation("T2", fill="mean").apply(image, 0.0).image.values[1]
    torch.testing.assert_close(gone, torch.full_like(gone, float(image.values[1].mean())))
    with pytest.raises(BadParameter, match="FLAIR"):
        Attenuation("T1c").apply(image, 0.5)


@pytest.mark.parametrize("how", ["shift", "scale"])
def test_a_ring_gets_its_mean(how: Any) -> None:
    grid = Grid.spaced((60, 40), (0.5, 1.0))
    image = Image(torch.rand(3, 60, 40, generator=torch.Generator().manual_seed(0)) + 0.2, grid)
    center = grid.world((30, 20))
    ring = RingIntensity(4, 8, center=center, how=how)
    changed = ring.apply(image, 0.9)
    assert ring.measure(changed, image) == pytest.approx(0.9, abs=1e-5)
    away = distances(grid, center)
    far = (away > 9.1) | (away < 2.9)
    assert torch.equal(changed.image.values[:, far], image.values[:, far])
    with pytest.raises(BadImage, match="center"):
        RingIntensity(4, 8).apply(image, 0.9)


def test_the_lesion_is_what_the_network_sees(net: pl.Model, eyes: list[phantoms.Phantom]) -> None:
    scans, masks = [e.image for e in eyes], [e.masks["edema"] for e in eyes]
    found = dose_response(net, scans, LesionContrast(), ODDS, masks=masks, values=[0, 0.03, 0.06, 0.09])
    assert found.verdict == "rises"
    assert found.trend > 0.9
    assert (np.diff(found.values) > 0).all()
    assert found.values[0] < -2 < 2 < found.values[-1]
    assert found.missed < 1e-3
    assert found.change.low > 0
    own = dose_response(net, scans, LesionContrast(), ODDS, masks=masks, values=[0, *sorted(found.own)])
    for k, scan in enumerate(scans):  # at its own contrast an image gets its own score
        at = 1 + sorted(found.own).index(found.own[k])
        assert own.individual[k, at] == pytest.approx(pl.explain(net, scan, target=ODDS, method="saliency").score, abs=1e-3)
    size = dose_response(net, scans, LesionSize(), ODDS, masks=masks, values=[0, 1, 2])
    assert size.verdict == "rises"
    assert (np.diff(size.values) > 0).all()


def test_what_the_network_ignores_is_flat(net: pl.Model) -> None:
    spotted = [e for e in phantoms.cases("fundus_dme", 12, seed=5) if e.masks["distractor"].any()][:4]
    drusen = dose_response(
        net, [e.image for e in spotted], LesionContrast(), ODDS, masks=[e.masks["distractor"] for e in spotted], values=[0, 0.04, 0.08]
    )
    assert abs(drusen.change.value) < 0.15  # against 7 of the lesion itself

    class OneChannel(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            m = x[:, 1].flatten(1).mean(1)
            return torch.stack([-m, m], 1)

    scans = [Image(torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(k)), channels=("T1", "T2")) for k in range(5)]
    ignored = dose_response(OneChannel(), scans, Attenuation("T1"), 1)
    assert ignored.verdict == "does not move"
    assert ignored.change.value == 0
    heard = dose_response(OneChannel(), scans, Attenuation("T2"), 1)
    assert heard.verdict == "rises"
    assert heard.trend == pytest.approx(1)
    means = [float(s.values[1].double().mean()) for s in scans]
    np.testing.assert_allclose(heard.individual, np.outer(means, heard.axis.values), rtol=1e-5)


def test_the_macula_answers_and_the_rim_hardly(net: pl.Model, eyes: list[phantoms.Phantom]) -> None:
    scans, fovea = [e.image for e in eyes], [e.masks["fovea"] for e in eyes]
    near = dose_response(net, scans, RingIntensity(0, 1.8, how="scale"), ODDS, masks=fovea, values=[0.3, 0.4, 0.5])
    far = dose_response(net, scans, RingIntensity(4.5, 5.5, how="scale"), ODDS, masks=fovea, values=[0.3, 0.4, 0.5])
    assert near.trend > 0.5
    assert (np.diff(near.values) > 0).all()
    assert abs(far.values[-1] - far.values[0]) < (near.values[-1] - near.values[0]) / 4


def test_three_dimensions_and_another_direction() -> None:
    net = load_model("phantom:brain_atrophy")
    heads = [phantoms.brain(s, size=32, atrophy=True) for s in range(4)]
    scans, masks = [h.image for h in heads], [h.masks["causal"] for h in heads]
    found = dose_response(net, scans, LesionContrast(), "atrophy", masks=masks, values=[-0.12, -0.06, 0.0])
    assert found.verdict == "falls"  # atrophy is dark: the less it stands out, the lower the score
    assert found.change.high < 0


def test_beyond_the_data_is_told(net: pl.Model, eyes: list[phantoms.Phantom]) -> None:
    scans, masks = [e.image for e in eyes[:4]], [e.masks["edema"] for e in eyes[:4]]
    own = [LesionContrast().own(s, m) for s, m in zip(scans, masks, strict=True)]
    doses = [min(own) / 2, (min(own) + max(own)) / 2, max(own) + 0.02]
    found = dose_response(net, scans, LesionContrast(), ODDS, masks=masks, values=doses)
    assert found.there.tolist() == [False, True, False]
    assert any("never seen" in s for s in found.sentences())
    healthy = phantoms.fundus(77, dme=False)
    wider = dose_response(net, [*scans, healthy.image], LesionContrast(), ODDS, masks=[*masks, healthy.masks["edema"]], values=doses)
    assert wider.there.tolist() == [True, True, False]  # an eye without edema is a case of no contrast
    assert wider.cases == 4


class Stuck(Blur):
    """An intervention that does nothing."""

    def apply(self, image: Image, value: float, mask: torch.Tensor | None = None) -> Changed:
        return Changed(image, mask)


def test_an_intervention_that_does_nothing_is_found_out(net: pl.Model, eyes: list[phantoms.Phantom]) -> None:
    scans = [e.image for e in eyes[:3]]
    good, bad = (dose_response(net, scans, i, ODDS, values=[0, 0.1, 0.2]) for i in (Blur(), Stuck()))
    assert good.missed < 0.1
    assert good.evidence["dose_missed"].status == "pass"
    assert bad.missed > 0.9
    assert bad.evidence["dose_missed"].status == "fail"
    assert any("not reached" in s for s in bad.sentences())


def test_saved_loaded_and_told(net: pl.Model, eyes: list[phantoms.Phantom], tmp_path: Any) -> None:
    scans, masks = [e.image for e in eyes[:3]], [e.masks["edema"] for e in eyes[:3]]
    ticks: list[tuple[int, int | None]] = []
    run = pl.Run(seed=1, on_tick=lambda done, total: ticks.append((done, total)))
    found = dose_response(net, scans, LesionContrast(), ODDS, masks=masks, values=[0, 0.05], patients=["a", "a", "b"], run=run)
    assert ticks[-1] == (6, 6)
    assert found.patients == 2
    again = DoseResponse.load(found.save(tmp_path / "dose.json"), net)
    np.testing.assert_array_equal(again.individual, found.individual)
    assert again.sentences() == found.sentences()
    assert str(again.table()) == str(found.table())
    assert "seed" not in found.provenance.image
    same = dose_response(net, scans, LesionContrast(), ODDS, masks=masks, values=[0, 0.05], run=pl.Run(seed=1, chunk=1))
    np.testing.assert_allclose(same.individual, found.individual, atol=1e-4)


def test_wrong_questions_are_refused(net: pl.Model, eyes: list[phantoms.Phantom]) -> None:
    scan = eyes[0].image
    with pytest.raises(BadImage, match="masks="):
        dose_response(net, [scan], LesionContrast(), ODDS)
    with pytest.raises(BadParameter, match="rise"):
        dose_response(net, [scan], Blur(), ODDS, values=[0.1, 0.1])
    with pytest.raises(BadTarget, match="target="):
        dose_response(net, [scan], Blur(), None)
    with pytest.raises(BadParameter, match="mask for each"):
        dose_response(net, [scan], LesionContrast(), ODDS, masks=[])
    with pytest.raises(BadImage, match="shape"):
        dose_response(net, [scan], LesionContrast(), ODDS, masks=[torch.ones(5, 5)])
