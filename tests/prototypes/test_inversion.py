"""Inversion against networks that can be inverted, and the inverter that is trained."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadImage, BadSite
from pellucid.prototypes import Inversion, Inverter, inversion, train_inverter
from pellucid.prototypes.climb import roughness
from pellucid.testing import state_of

FREE = {"tv": 0.0, "alpha": 0.0}


class Turned(nn.Module):
    """An invertible layer (or nothing), then a head."""

    def __init__(self, dims: int, mixing: bool) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.layer = conv(2, 2, 1) if mixing else nn.Identity()
            self.lossy = conv(2, 1, 3, padding=1)
            self.head = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.lossy(self.layer(x))).flatten(2).mean(2))


def scan(dims: int, seed: int = 0) -> Tensor:
    return torch.rand(2, *((7, 9, 6)[:dims]), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dims", "mixing"), [(2, False), (2, True), (3, False), (3, True)])
def test_an_invertible_layer_gives_the_image_back(dims: int, mixing: bool) -> None:
    net, x = pl.Model(Turned(dims, mixing), range=(0.0, 1.0)), scan(dims)
    found = inversion(net, x, "layer", draws=2, steps=250, rate=0.1, **FREE)
    for made in found.optima:
        off = (made.image.values - x).abs()
        assert float(off.mean()) < 0.005 and float(off.max()) < 0.1
    assert found.numbers["code"] < 1e-4 < 0.05 < found.numbers["gray"]
    assert found.numbers["image"] < 0.01 and found.numbers["apart"] < 0.01
    assert found.evidence.verdict == "questionable" and found.evidence["distance from the code"].status == "pass"


def test_what_a_layer_loses_shows_in_what_the_images_do_not_share() -> None:
    net, x = pl.Model(Turned(2, True), classes=("a", "b"), range=(0.0, 1.0)), scan(2)
    found = inversion(net, x, "lossy", draws=3, steps=200, rate=0.1, **FREE)
    assert found.numbers["code"] < 1e-3, "the code is reached"
    assert found.numbers["image"] > 0.08 and found.numbers["apart"] > 0.05, "by other images"
    assert [p.role for p in found.pictures] == ["given", "optimum", "optimum", "optimum", "spread"]
    given = found.pictures[0]
    assert torch.equal(given.image.values, x) and abs(given.score) < 1e-9
    z = net.module.lossy(net.module.layer(found.optima[0].image.values[None])).detach()
    wanted = net.module.lossy(net.module.layer(x[None])).detach()
    assert math.isclose(found.optima[0].score, -float((z - wanted).square().sum() / wanted.square().sum()), rel_tol=1e-3, abs_tol=1e-7)


def test_priors_make_it_flat_and_moderate() -> None:
    net, x = pl.Model(Turned(2, False), range=(0.0, 1.0)), scan(2)

    def made(**kw: float) -> Tensor:
        return inversion(net, x, "lossy", draws=1, steps=60, rate=0.1, **FREE | kw).image.values

    assert float(roughness(made(tv=5.0)[None], (1.0, 1.0))) < 0.7 * float(roughness(made()[None], (1.0, 1.0)))
    assert float((made(alpha=5.0) - 0.5).abs().max()) < float((made() - 0.5).abs().max())


def test_total_variation_is_the_mean_length_of_steps() -> None:
    ramp = torch.arange(5.0).expand(1, 1, 4, 5) * 0.5
    assert float(roughness(ramp, (1.0, 1.0))) == pytest.approx(0.5 * 4 / 5, abs=1e-4)  # the last column has no step
    assert float(roughness(ramp, (1.0, 2.0), 2.0)) == pytest.approx(0.25**2 * 4 / 5, abs=1e-4)


def test_it_is_seeded_saved_loaded_and_leaves_all_as_it_was(tmp_path) -> None:
    module = Turned(2, True).train()
    before = state_of(module)
    net = pl.Model(module, classes=("a", "b"))
    first, again = (inversion(net, scan(2), draws=2, steps=5, run=pl.Run(seed=2)) for _ in range(2))
    assert torch.equal(first.image.values, again.image.values) and state_of(module) == before
    back = Inversion.load(first.save(tmp_path / "i.json"), net=net)
    assert back.sentences() == first.sentences() and len(back.pictures) == 4
    back.figure(tmp_path / "i.png")
    silent = pl.Model(nn.Sequential(nn.Conv2d(2, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(63, 2)))
    silent.module[0].weight.data.zero_()
    silent.module[0].bias.data.fill_(-1)
    with pytest.raises(BadSite, match="says something"):
        inversion(silent, scan(2), "1")


def blobs(n: int, dims: int = 2, seed: int = 0) -> list[Tensor]:
    """Images with one soft spot somewhere."""
    rng, found = np.random.default_rng(seed), []
    axes = torch.meshgrid(*[torch.arange(12.0)] * dims, indexing="ij")
    for _ in range(n):
        far = sum((a - c) ** 2 for a, c in zip(axes, rng.uniform(3, 9, dims), strict=True))
        found.append(torch.exp(-far / 6)[None])
    return found


class Halving(nn.Module):
    """Two convolutions that halve the image, then the mean."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.deep = nn.Sequential(conv(1, 6, 3, 2, 1), nn.ReLU(), conv(6, 8, 3, 2, 1), nn.ReLU())
            self.code = nn.Linear(8, 4)
            self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.code(self.deep(x).flatten(2).mean(2))))


@pytest.mark.parametrize(("dims", "site"), [(2, "deep"), (3, "deep"), (2, "code")])
def test_an_inverter_redraws_images_that_it_has_not_seen(dims: int, site: str, tmp_path) -> None:
    net = pl.Model(Halving(dims))
    given = blobs(30, dims)
    found = train_inverter(net, given, site, epochs=12 if site == "deep" else 3, batch=6, rate=5e-3, width=16)
    assert (found.trained_on, found.held_out) == (24, 6) and found.image == tuple(given[0].shape)
    if site == "deep":
        assert found.explained > 0.35, "where a spot lies is kept"
    off = around = 0.0
    mean = torch.stack(given[:24]).mean(0)
    for x in given[24:]:
        off += float((found.invert(net, x).values - x).square().sum())
        around += float((mean - x).square().sum())
    assert found.explained == pytest.approx(1 - off / around, abs=1e-4), "judged by the images that it has not learned from"
    back = Inverter.load(found.save(tmp_path / "inverter.json"), net=net)
    assert torch.equal(back.invert(net, given[0]).values, found.invert(net, given[0]).values)
    with pytest.raises(pl.PellucidError, match="of this network"):
        back.invert(pl.Model(Turned(2, True)), given[0])
    with pytest.raises(BadImage, match="shape"):
        back.invert(net, torch.rand(1, *((16,) * dims)))


def test_an_inverter_wants_images_enough_and_is_seeded() -> None:
    net, given = pl.Model(Halving()), blobs(6)
    with pytest.raises(BadImage, match="at least 5"):
        train_inverter(net, given[:4], "deep")
    before = torch.random.get_rng_state()
    first, again = (train_inverter(net, given, "deep", epochs=1, run=pl.Run(seed=1, chunk=2)) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(np.array_equal(first.weights[k], again.weights[k]) for k in first.weights)
