"""Prototypes, criticisms, typical images and what excites a channel, against the paper's formulas written slowly and against planted cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadImage, BadParameter, BadSite, Cancelled
from pellucid.exemplars import exciting, prototypes, typical
from pellucid.run import Run


def blobs(seed=0, n=20, d=4):
    """Two blobs and one outlier, in the last row."""
    chance = np.random.default_rng(seed)
    parts = [chance.normal(0, 0.05, (n, d)), chance.normal(0, 0.05, (n, d)) + 4, np.full((1, d), -6.0)]
    return np.concatenate(parts)


@pytest.mark.parametrize("seed", range(5))
def test_a_prototype_for_each_blob_and_the_outlier_is_the_first_criticism(seed):
    found = prototypes(blobs(seed), 2, 3)
    assert sorted(p // 20 for p in found.prototypes) == [0, 1]
    assert found.criticisms[0] == 40
    assert len(set(found.nearest[:20])) == len(set(found.nearest[20:40])) == 1 and found.nearest[0] != found.nearest[20]
    assert found.mmd[1] < found.mmd[0]


def kernel(x, gamma):
    return np.array([[np.exp(-gamma * ((a - b) ** 2).sum()) for b in x] for a in x])


def discrepancy(k, chosen):
    n, m = len(k), len(chosen)
    return (
        k.sum() / n**2 - 2 * sum(k[i, s] for i in range(n) for s in chosen) / (n * m) + sum(k[s, t] for s in chosen for t in chosen) / m**2
    )


def test_greedy_steps_are_the_formula():
    x = blobs(3, n=6)
    gamma = 1 / np.median([((a - b) ** 2).sum() for a, b in itertools.combinations(x, 2)])
    k, chosen = kernel(x, gamma), []
    for _ in range(3):
        chosen.append(min((j for j in range(len(x)) if j not in chosen), key=lambda j: discrepancy(k, [*chosen, j])))
    found = prototypes(x, 3, 3)
    assert found.prototypes == tuple(chosen) and found.gamma == pytest.approx(gamma)
    assert found.mmd == pytest.approx([discrepancy(k, chosen[: i + 1]) for i in range(3)], abs=1e-12)
    witness = k.mean(0) - k[:, chosen].mean(1)
    assert np.allclose(found.witness, witness, atol=1e-12)
    odd = []
    for _ in range(3):
        rest = [j for j in range(len(x)) if j not in chosen and j not in odd]
        odd.append(max(rest, key=lambda j: abs(witness[[*odd, j]]).sum() + np.linalg.slogdet(k[np.ix_([*odd, j], [*odd, j])])[1]))
    assert found.criticisms == tuple(odd)


def test_the_regularizer_keeps_criticisms_apart():
    x = np.concatenate([blobs(1), blobs(1)[-1:] + 1e-3])  # the outlier twice
    assert not {40, 41} <= set(prototypes(x, 2, 2).criticisms)


def test_copies_of_one_image_are_no_error():
    found = prototypes(np.ones((5, 2)), 2, 2)
    assert len({*found.prototypes, *found.criticisms}) == 4 and found.mmd == pytest.approx((0, 0))


def test_what_prototypes_refuse():
    for m, c in ((0, 1), (3, 3), (True, 0), (1, -1), (2.0, 0)):
        with pytest.raises(BadParameter, match="prototype"):
            prototypes(np.eye(5), m, c)
    with pytest.raises(BadParameter, match="gamma"):
        prototypes(np.eye(5), 1, 1, gamma=0.0)
    with pytest.raises(BadParameter, match="rows"):
        prototypes(np.ones(5), 1, 1)
    with pytest.raises(BadParameter, match="10000"):
        prototypes(np.ones((10_001, 1)), 1, 1)
    with pytest.raises(BadImage, match="NaN"):
        prototypes(np.full((5, 1), np.nan), 1, 1)


def test_typical_is_dense_among_its_own_class():
    x = blobs(0)
    labels = ["a"] * 20 + ["b"] * 20 + ["a"]
    found = typical(x, labels, "a", 3)
    assert found.least[0] == 40 and 40 not in found.most and all(p < 20 for p in found.most)
    own = np.flatnonzero(np.array(labels) == "a")
    k = kernel(x[own], 1 / np.median([((a - b) ** 2).sum() for a, b in itertools.combinations(x[own], 2)]))
    density = (k.sum(1) - 1) / 20
    assert own[density.argmax()] == found.most[0] and found.typicality[0] == pytest.approx(density.max())
    assert len(typical(x, labels, "b", 50).most) == 10
    with pytest.raises(BadParameter, match="two images or more"):
        typical(x, labels, "c")
    with pytest.raises(BadParameter, match="labels for"):
        typical(x, labels[:3], "a")
    with pytest.raises(BadParameter, match="k is a whole"):
        typical(x, labels, "a", 0)


@pytest.mark.parametrize("dims", [2, 3])
def test_images_that_excite_a_channel_and_where(dims):
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    site = conv(1, 2, 3, stride=2, padding=1, bias=False)
    with torch.no_grad():
        site.weight.zero_()
        site.weight[(0, 0, *[1] * dims)] = 1.0
        site.weight[1] = -1.0
    module = nn.Sequential(site, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    module(torch.zeros(1, 1, *[9] * dims))
    spacing = (0.5, 2.0, 3.0)[:dims]
    images = []
    for i in range(6):
        x = torch.zeros(1, *[9] * dims)
        x[(0, 4, *[6] * (dims - 1))] = float(i)  # an even sample is the middle of a cell
        images.append(pl.Image(x, pl.Grid.spaced([9] * dims, spacing)))
    found = exciting(module.eval(), images, "0", 0, 2)
    assert [e.place for e in found.most] == [5, 4] and [e.value for e in found.most] == [5, 4]
    assert found.most[0].cell == (2, *[3] * (dims - 1)) and found.most[0].sample == pytest.approx((4, *[6] * (dims - 1)))
    assert found.most[0].point[:dims] == pytest.approx([s * i for s, i in zip(spacing, (4, 6, 6), strict=False)])
    assert [e.place for e in found.least] == [0, 1] and found.share == pytest.approx(5 / 6)
    assert exciting(module, images, "0", 1, 1).most[0].value == 0 and exciting(module, images, "0", 1, 1).most[0].place == 0
    flat = exciting(module, images, "3", 1, 1)
    assert flat.most[0].cell is None and flat.most[0].sample is None


def test_what_exciting_refuses():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)).eval()
    images = [torch.rand(1, 8, 8)]
    with pytest.raises(BadParameter, match="0 to 1"):
        exciting(module, images, "0", 2)
    with pytest.raises(BadParameter, match="at least one image"):
        exciting(module, [], "0", 0)
    with pytest.raises(BadParameter, match="k is a whole"):
        exciting(module, images, "0", 0, 0)
    with pytest.raises(BadSite):
        exciting(module, images, "nowhere", 0)
    run = Run()
    run.cancel.set()
    with pytest.raises(Cancelled):
        exciting(module, images, "0", 0, run=run)
