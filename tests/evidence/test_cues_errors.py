"""Error groups: those that were planted are found, those that were not are not, and a few errors are told as few."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.evidence import cues as c
from pellucid.evidence.cues.error_groups import pool
from pellucid.grid import Grid
from pellucid.image import Image


class Corner(nn.Module):
    """One logit: ten times the first sample's distance from one half."""

    def forward(self, x):
        z = 10 * (x.flatten(1)[:, 0] - 0.5)
        return torch.stack([-z, z], 1)


def cohort(kinds, seed=0, dims=2, places=((2, 2), (12, 12), (2, 12))):
    """An image, a label and a map for each (label, said, place): maps are noise with a bump at a place (-1: anywhere)."""
    g, net, side = torch.Generator().manual_seed(seed), Corner(), 16
    images, maps, labels = [], [], []
    for label, said, place in kinds:
        x = torch.rand((1, *[side] * dims), generator=g)
        x[(0, *[0] * dims)] = 0.9 if said else 0.1
        why = pl.explain(net, x, 1, method="saliency")
        values = 0.3 * torch.rand(why.values.shape, generator=g)
        at = torch.randint(0, side - 3, (2,), generator=g).tolist() if place < 0 else places[place]
        values[(0, slice(at[0], at[0] + 3), slice(at[1], at[1] + 3))] += 3.0
        images.append(why.image)
        maps.append(replace(why, values=values))
        labels.append(label)
    return net, images, labels, maps


def test_planted_groups_are_found_with_their_prototypes():
    kinds = [(1, 0, 0)] * 8 + [(1, 0, 1)] * 10 + [(1, 1, 2)] * 8 + [(0, 0, 2)] * 8 + [(0, 1, 2)] * 3
    net, images, labels, maps = cohort(kinds)
    found = c.error_groups(net, images, labels, maps, target=1)
    assert found.cut == 0.0
    assert [g.cases for g in found.missed.groups] == [tuple(range(8, 18)), tuple(range(8))]
    assert all(g.prototype in g.cases for g in found.missed.groups)
    assert found.missed.silhouette > found.missed.by_chance
    assert found.missed.steady > 0.9
    assert found.missed.p <= 0.01, "they look elsewhere than the correct ones"
    first = found.missed.groups[0].mean
    assert float(first.sum()) == pytest.approx(1.0)
    assert int(first.argmax()) // 6 >= 4, "the bump lies low on the right"
    assert len(found.false_alarms.groups) == 1
    assert "too few" in found.false_alarms.text
    assert len(found.table()) == 3


def test_groups_are_not_made_of_noise():
    """Maps with a bump anywhere, or in one place, have no groups; errors like correct cases do not differ."""
    grouped, ps = 0, []
    for seed in range(4):
        kinds = [(1, 0, -1 if seed % 2 else 0)] * 14 + [(1, 1, -1 if seed % 2 else 0)] * 14 + [(0, 0, 0)] * 3
        net, images, labels, maps = cohort(kinds, seed)
        found = c.error_groups(net, images, labels, maps, target=1).missed
        grouped += len(found.groups) > 1
        ps.append(found.p)
    assert grouped <= 1
    assert sum(p <= 0.05 for p in ps) <= 1
    assert "no groups stand out" in found.text or grouped


def test_maps_are_made_here_in_a_volume_and_without_errors():
    net, images, labels, _ = cohort([(1, 1, 0)] * 3 + [(0, 0, 0)] * 3, dims=3, places=((2, 2),))
    found = c.error_groups(net, images, labels, "occlusion(window='8px', fill=white)", target=1, cells=2)
    assert found.pooled.shape == (6, 2, 2, 2)
    assert found.missed.groups == ()
    assert "no case" in found.missed.text
    assert len(found.maps) == 6
    with pytest.raises(BadParameter):
        c.error_groups(net, images, labels, list(found.maps)[:2], target=1)


def test_images_of_one_patient_are_permuted_together():
    kinds = [(1, 0, 0)] * 10 + [(1, 1, 2)] * 10 + [(0, 0, 2)] * 3
    net, images, labels, maps = cohort(kinds)
    alone = c.error_groups(net, images, labels, maps, target=1).missed
    pairs = c.error_groups(net, images, labels, maps, target=1, patients=[k // 10 for k in range(23)]).missed
    assert alone.p <= 0.005
    assert not pairs.p <= 0.05, "two patients are no evidence"


def test_pooling_is_square_in_the_patient_and_keeps_the_sum():
    grid = Grid.spaced((24, 24, 6), (1.0, 1.0, 4.0))
    why = pl.explain(Corner(), Image(torch.rand(1, 24, 24, 6), grid), 1, method="saliency")
    values = torch.rand(1, 24, 24, 6)
    coarse = pool(replace(why, values=values), 4)
    assert coarse.shape == (4, 4, 4)
    assert float(coarse.sum()) == pytest.approx(1.0)
    assert float(coarse[0, 0, 0]) == pytest.approx(float(values[0, :6, :6, :2].sum() / values.sum()), rel=1e-4)
