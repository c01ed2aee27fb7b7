"""Concept activation regions: densities by their formula, a concept that no line tells apart, level."""

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.concepts import ConceptBank, concept_region, tcav
from pellucid.concepts.region import _Region, _Seen
from pellucid.errors import BadImage


def test_density_and_its_rise_are_their_formulas():
    rng = np.random.default_rng(0)
    table, a, g = rng.normal(size=(24, 3)), rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    region = _Region.of(table, [np.arange(6 * k, 6 * k + 6) for k in range(4)])
    seen = _Seen(a, g, (a**2).sum(1), (a * g).sum(1))

    def rho(x, i):
        k = torch.exp(-((x - torch.from_numpy(table)) ** 2).sum(1) / (2 * region.width**2)).reshape(4, 6).mean(1)
        return k[i] - (k.sum() - k[i]) / 3

    near = region.near(seen)
    rise = region.dense(near * (g @ region.rows.T - seen.product[:, None]) / region.width**2)
    for n in range(5):
        for i in range(4):
            x = torch.from_numpy(a[n]).requires_grad_()
            value = rho(x, i)
            (slope,) = torch.autograd.grad(value, x)
            assert region.dense(near)[n, i] == pytest.approx(value.item())
            assert rise[n, i] == pytest.approx(float(slope.numpy() @ g[n]))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_ring_around_nothing_is_a_region_but_no_direction(dims):
    """The concept lies around the random images, on all sides: a line is at chance, a region is not."""
    rng = np.random.default_rng(0)

    def images(n, radius, wobble):
        turn = 2 * np.pi * np.arange(n) / n
        at = np.stack([np.cos(turn), np.sin(turn)], 1) * radius + wobble * rng.normal(size=(n, 2))
        return [torch.from_numpy(np.broadcast_to(v.reshape(2, *[1] * dims), (2, *[3] * dims)).copy()).float() for v in at]

    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    first = conv(2, 2, 1, bias=False)
    first.weight.data = torch.eye(2).reshape(2, 2, *[1] * dims)

    class Head(nn.Module):
        def forward(self, z):
            m = z.flatten(2).mean(2)
            return torch.stack([-(m**2).sum(1), (m**2).sum(1)], 1)  # class 1: far from the middle

    net = nn.Sequential(first, Head()).eval()
    bank = ConceptBank.of({"ring": images(16, 3.0, 0.1)}, random=images(16 * 19, 0.0, 0.6))
    scans = images(15, 2.0, 0.1)
    row = concept_region(net, bank, scans, 1, sites="0", pool="mean", permutations=19).rows[0]
    assert row.accuracy > 0.9 and row.accuracy_p <= 0.05
    assert row.share > 0.9 and row.p <= 0.05 and row.verdict == "raises" and row.density_p <= 0.1
    assert "lie in the region of ring" in row.sentence
    line = tcav(net, bank, scans, 1, sites="0", pool="mean").rows[0]
    assert line.verdict in ("not told apart", "no more than random")


def test_null_regions_are_dropped_or_not_found(trained, difference):
    from tests.concepts.conftest import pictures

    bank = ConceptBank.of({"nothing": pictures(10, False, 100), "spot": pictures(10, True, 100)}, random=pictures(190, False, 1000))
    found = concept_region(trained, bank, pictures(15, True, 3000), difference, sites="3", permutations=19)
    nothing, spot = found.rows
    assert nothing.verdict in ("not told apart", "no more than random")
    assert spot.accuracy > 0.65 and spot.share > 0.8 and spot.score > nothing.score
    assert len(found.table()) == 2 and found.provenance.weights == trained.fingerprint
    with pytest.raises(BadImage, match="images of the class"):
        concept_region(trained, bank, [], 1)
