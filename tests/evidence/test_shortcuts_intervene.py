"""Interventions, twins and probes on networks whose use of a corner is known in closed form."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter, BadTarget
from pellucid.evidence.shortcuts import confounder_sensitivity, intervene, site_probe
from pellucid.evidence.shortcuts.confounder_sensitivity import correlation, highest
from pellucid.evidence.shortcuts.intervene import _elsewhere, _measured, surround


class Reads(nn.Module):
    """Two logits: 0, and a weighted sum of the image, by weights (*space) that are known; a bias sets where the decision turns."""

    def __init__(self, weight, bias=0.0):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = bias

    def forward(self, x):
        z = (x[:, 0] * self.weight).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(z), z], 1)


def regions(dims, side=16):
    """The corner of the token, and the middle, where a lesion is."""
    corner, middle = torch.zeros([side] * dims, dtype=torch.bool), torch.zeros([side] * dims, dtype=torch.bool)
    corner[(slice(1, 4),) * dims] = True
    middle[(slice(7, 10),) * dims] = True
    return corner, middle


def pairs(n, dims=2, seed=0, side=16):
    """Clean images and their twins with a bright token in the corner."""
    g = torch.Generator().manual_seed(seed)
    corner, _ = regions(dims, side)
    clean = [0.3 + 0.1 * torch.randn((1, *[side] * dims), generator=g) for _ in range(n)]
    return clean, [torch.where(corner, 1.0, x) for x in clean]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_used_corner_is_confirmed_and_an_unused_one_rejected(dims):
    corner, middle = regions(dims)
    clean, twins = pairs(8, dims)
    uses, other = Reads(corner.float()), Reads(middle.float())
    found = intervene(uses, twins, corner, target=1, negatives=clean)
    assert found.word == "confirmed" and {m.name for m in found} == {"removal", "addition"}
    assert found["removal"].detail["p"] < 0.01 and found["addition"].detail["p"] < 0.01
    assert found.passes == 8 * 21 * 2 and len(found.table()) == 2
    assert intervene(other, twins, corner, target=1, negatives=clean).word == "rejected"


def test_effects_are_those_of_the_slow_way():
    corner, _ = regions(2)
    clean, twins = pairs(4)
    net = Reads(torch.randn(16, 16, generator=torch.Generator().manual_seed(5)).abs() + 3 * corner)
    found = intervene(net, twins, corner, target=1, fill=0.25, scale=1.0, elsewhere=5)
    with torch.no_grad():
        true = [float(net(x[None])[0, 1] - net(torch.where(corner, 0.25, x)[None])[0, 1]) for x in twins]
    assert found["removal"].detail["there"] == pytest.approx(np.mean(true), rel=1e-5)
    assert found["removal"].value == pytest.approx(np.mean(true) - found["removal"].detail["elsewhere"], rel=1e-5)
    assert len(clean) == 4


def test_p_is_that_of_all_exchanges():
    effects = np.array([[3.0, 1, 0], [2.0, 2.5, 0], [1.0, 0, 0.5]])
    total = effects[:, 0].sum()
    exact = np.mean([sum(effects[i, j] for i, j in enumerate(js)) >= total - 1e-9 for js in itertools.product(range(3), repeat=3)])
    assert _measured("removal", effects, [0, 1, 2], 1.0, 0.1, 0).detail["p"] == pytest.approx(exact, abs=0.01)
    doubled = np.repeat(effects, 4, 0)
    assert _measured("removal", doubled, [0] * 4 + [1] * 4 + [2] * 4, 1.0, 0.1, 0).detail["p"] == pytest.approx(exact, abs=0.01), (
        "four images of a patient are no more evidence than one"
    )


def test_nothing_is_confirmed_more_often_than_alpha_where_nothing_is_used():
    """Regions at random places of networks that read everything a little: the region is one form among equals."""
    g = torch.Generator().manual_seed(0)
    hits = 0
    for i in range(24):
        clean, _ = pairs(6, seed=100 + i)
        corner = torch.zeros(16, 16, dtype=torch.bool)
        a, b = (int(v) for v in torch.randint(0, 13, (2,), generator=g))
        corner[a : a + 3, b : b + 3] = True
        net = Reads(torch.ones(16, 16))
        hits += intervene(net, clean, corner, target=1, elsewhere=9, least=0.0)["removal"].detail["p"] < 0.05
    assert hits <= 4  # binomial(24, 0.05): more in less than 1 %


def test_a_region_in_four_corners_is_scattered_elsewhere():
    """Its box is the whole image; its parts still fit, with as many samples, clear of the region."""
    mask = torch.zeros(16, 16, dtype=torch.bool)
    for a, b in itertools.product((slice(0, 3), slice(13, 16)), repeat=2):
        mask[a, b] = True
    for moved in _elsewhere(mask, 5, torch.Generator().manual_seed(0)):
        assert moved.sum() == mask.sum() and not bool((moved & mask).any())


def test_surround_inpaints_from_what_is_near():
    x = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 16).clone()
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[6:9, 6:9] = True
    marred = torch.where(hole, 99.0, x)
    filled = surround(marred, hole)
    assert torch.equal(filled[:, ~hole], x[:, ~hole]) and (filled - x).abs().max() < 1.5
    assert torch.allclose(surround(torch.ones(2, 6, 6, 6), torch.ones(6, 6, 6) > 0), torch.ones(2, 6, 6, 6))


def test_interventions_refuse_what_they_cannot_answer():
    corner, _ = regions(2)
    clean, twins = pairs(3)
    net = Reads(corner.float())
    with pytest.raises(BadTarget, match="one class for all"):
        intervene(net, twins, corner, target=None)
    with pytest.raises(BadParameter, match="fits elsewhere"):
        intervene(net, twins, torch.ones(16, 16), target=1)
    with pytest.raises(BadParameter, match="something marked"):
        intervene(net, twins, torch.zeros(16, 16), target=1)
    with pytest.raises(BadParameter, match="regions for each"):
        intervene(net, twins, [corner], target=1)
    assert intervene(Reads(torch.zeros(16, 16)), twins, corner, target=1, negatives=clean)["removal"].status == "void"


# ------------------------------------------------------------------ twins
def test_highest_and_correlation_are_the_slow_ones():
    g = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 9, 11, generator=g, dtype=torch.float64)
    mask = torch.rand(9, 11, generator=g) > 0.8
    order = sorted(range(99), key=lambda i: -float(a.flatten()[i]))[: int(0.1 * 99)]
    slow = sum(bool(mask.flatten()[i]) for i in order) / int(mask.sum())
    assert highest(a, mask, 0.1) == pytest.approx(slow)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a.flatten(), b.flatten())[0, 1])


def test_ties_mark_nothing_by_accident():
    """The reference script sorts ties in whatever order numpy leaves them: a map that is zero but for one sample then "finds" a mask by its place."""
    a = torch.zeros(10, 10)
    a[0, 0] = 1
    late = torch.zeros(10, 10, dtype=torch.bool)
    late[9] = True
    theirs = np.argsort(a.flatten().numpy())[::-1][:10]
    assert np.isin(np.arange(90, 100), theirs).mean() >= 0.9
    assert highest(a, late, 0.1) == pytest.approx(9 / 99)
    assert np.isnan(highest(torch.zeros(10, 10), late, 0.1))


@pytest.mark.parametrize("dims", [2, 3])
def test_maps_of_a_network_that_uses_the_token_show_it(dims):
    corner, middle = regions(dims)
    clean, twins = pairs(6, dims)
    bias = -0.65 * int(corner.sum())
    found = confounder_sensitivity(
        Reads(corner.float(), bias), clean, twins, corner, ["input_x_gradient", "occlusion(window='4px')"], target=1
    )
    assert found.counted == tuple(range(6)) and len(found.changes) == 6
    for method in ("input_x_gradient", "occlusion"):
        m = found[method, "confounder_sensitivity"]
        assert m.value > 0.9 and m.low > 0.1 and m.status == "pass"
    none = confounder_sensitivity(Reads(middle.float(), -1.0), clean, twins, corner, target=1)
    m = none["integrated_gradients", "confounder_sensitivity"]
    assert m.status == "void" and np.isnan(m.value) and none.counted == ()
    everything = confounder_sensitivity(Reads(middle.float(), -1.0), clean, twins, corner, "input_x_gradient", target=1, counted="all")
    assert everything["input_x_gradient", "confounder_sensitivity"].value < 0.2
    assert everything["input_x_gradient", "map_ncc"].value > 0.99 and everything["input_x_gradient", "map_ncc"].status == "fail"


def test_flips_need_a_decision():
    corner, _ = regions(2)
    clean, twins = pairs(4)
    net = Reads(corner.float(), -5.8)
    several = pl.Model(net, output="multi-label")
    with pytest.raises(BadParameter, match="cut="):
        confounder_sensitivity(several, clean, twins, corner, "saliency", target=1)
    assert confounder_sensitivity(several, clean, twins, corner, "input_x_gradient", target=1, cut=0.0).counted == (0, 1, 2, 3)
    with pytest.raises(BadParameter, match="a twin for each"):
        confounder_sensitivity(net, clean, twins[:2], corner, target=1)


# ------------------------------------------------------------------ site probe
def scans(n, seed=0, shift=0.5, dims=2):
    """Images of two scanners, one of which is brighter; two images of each patient."""
    g = torch.Generator().manual_seed(seed)
    who = [i // 2 for i in range(n)]
    scanner = [("A", "B")[int(p * 7919 % 97 % 2)] for p in who]
    return [torch.randn((1, *[12] * dims), generator=g) + shift * (s == "B") for s in scanner], scanner, who


def small(dims=2):
    torch.manual_seed(0)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    pool = nn.AdaptiveAvgPool2d if dims == 2 else nn.AdaptiveAvgPool3d
    return nn.Sequential(conv(1, 6, 3, 2), nn.ReLU(), conv(6, 8, 3), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(8, 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_scanner_is_read_where_it_can_be(dims):
    images, scanner, who = scans(48, dims=dims)
    found = site_probe(small(dims), images, scanner, site=["0", "auto"], patients=who, permutations=199)
    assert list(found) == ["image", "0", "auto"]
    for m in found.values():
        assert (
            m.value > 0.75 and m.status == "fail" and m.detail["p"] < 0.02 and abs(m.reference - 0.5) < 0.1 and m.detail["patients"] == 24
        )


def test_what_cannot_be_read_is_seldom_said_to_be():
    alarms = 0
    for seed in range(8):
        images, scanner, who = scans(40, seed, shift=0.0)
        alarms += site_probe(small(), images, scanner, patients=who, permutations=49)["auto"].detail["p"] <= 0.05
    assert alarms <= 2  # binomial(8, 0.05): more in less than 0.6 %


def test_what_the_diagnosis_tells_of_the_scanner_is_no_finding():
    """Sick patients are brighter and more often seen on scanner B; with the labels, that is what permuted sources reach too."""
    g = torch.Generator().manual_seed(0)
    sick = [i % 2 for i in range(80)]
    b = [int(float(torch.rand(1, generator=g)) < (0.85 if s else 0.15)) for s in sick]
    images = [torch.randn((1, 12, 12), generator=g) + 0.5 * s for s in sick]
    alone = site_probe(small(), images, b, permutations=199)["auto"]
    given = site_probe(small(), images, b, labels=sick, permutations=199)["auto"]
    assert alone.status == "fail" and alone.value == given.value
    assert given.detail["p"] > 0.05 and given.reference > 0.6


def test_probe_patients_are_never_split_and_nonsense_is_refused():
    """Noise that is the same in both images of a patient lets a probe that splits them know the scanner; ours does not."""
    g = torch.Generator().manual_seed(3)
    own = [torch.randn((1, 12, 12), generator=g) * 2 for _ in range(20)]
    images = [own[i // 2] + 0.01 * torch.randn((1, 12, 12), generator=g) for i in range(40)]
    scanner = [i // 2 % 2 for i in range(40)]
    whole = site_probe(small(), images, scanner, patients=[i // 2 for i in range(40)], permutations=49)["image"].value
    split = site_probe(small(), images, scanner, permutations=49)["image"].value
    assert split > 0.85 and whole < 0.75
    with pytest.raises(BadParameter, match="two sources"):
        site_probe(small(), images, [0] * 40)
    with pytest.raises(BadParameter, match="patients"):
        site_probe(small(), images[:6], scanner[:6])


def test_three_sources_and_maps():
    g = torch.Generator().manual_seed(0)
    source = [i % 3 for i in range(45)]
    images = [torch.randn((1, 12, 12), generator=g) + 0.6 * s for s in source]
    net = small()
    maps = pl.explain(net, images, 1, method="input_x_gradient")
    found = site_probe(net, images, source, maps=maps, permutations=99)
    assert set(found) == {"image", "auto", "maps"}
    assert found["auto"].value > 0.7 and found["auto"].status == "fail" and found["auto"].detail["sources"] == 3


def test_equal_images_are_of_one_patient_where_none_is_given():
    """Given twice, an image was read in one fold and recognized in another: AUC 1.00, p = 0.01 for sources drawn by coin."""
    g = torch.Generator().manual_seed(0)
    images = [torch.rand(1, 16, 16, generator=g) for _ in range(12)]
    coin = ([0, 1] * 6) * 2
    found = site_probe(small(), images + [i.clone() for i in images], coin, permutations=49)["image"]
    assert found.detail["patients"] == 12
    assert found.status != "fail" and found.value < 0.9
    with pytest.raises(BadParameter, match="6 patients"):
        site_probe(small(), images[:6] * 2, [0, 1] * 6)
