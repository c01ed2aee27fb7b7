"""SmoothGrad and its kin against their formulas, with the same noise drawn again."""

import pytest
import torch
from tests.reference.plain import close, explained, gradient, inside, setting

import pellucid as pl
from pellucid.errors import BadParameter

N, SIGMA = 5, 0.2


def noisy(x):
    random = torch.Generator().manual_seed(0)
    for _ in range(N):
        yield x + SIGMA * (x.max() - x.min()) * torch.randn(x.shape, generator=random, dtype=torch.float64)
        torch.randint(2**62, (1,), generator=random)  # the seed that an explanation of its own gets


FORMULA = {
    "mean": lambda maps: sum(maps) / N,
    "square": lambda maps: sum(m**2 for m in maps) / N,
    "variance": lambda maps: torch.stack(maps).var(0, correction=0),
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("statistic", FORMULA)
def test_smooth_saliency(dims, statistic):
    net, x = setting(dims)
    slow = FORMULA[statistic]([gradient(net, y) for y in noisy(x)])
    close(explained(net, x, "smooth", n=N, sigma=SIGMA, statistic=statistic).values, slow)


@pytest.mark.parametrize("dims", [2, 3])
def test_smooth_at_a_site_puts_the_noise_on_the_image(dims):
    net, x = setting(dims)
    maps = []
    for y in noisy(x):
        z, g = inside(net, y, "second")
        weights = g.flatten(1).mean(1)
        maps.append(sum(w * c for w, c in zip(weights, z, strict=True))[None].relu())
    ours = explained(net, x, pl.smooth("grad_cam"), n=N, sigma=SIGMA, site="second")
    close(ours.values, sum(maps) / N)
    assert (ours.provenance.forward, ours.provenance.backward) == (N, N)


def test_the_variance_does_not_cancel():
    """E[g^2] - E[g]^2 in single precision gives noise of either sign where the slope is large and steady."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2), torch.nn.Tanh())
    with torch.no_grad():
        net[1].weight.mul_(1e-4)
    scaled = torch.nn.Sequential(net, torch.nn.Linear(2, 2))
    with torch.no_grad():
        scaled[1].weight.copy_(torch.eye(2) * 1e8)
    x = torch.rand(1, 2, 2)
    single = pl.explain(scaled, x, 1, method="vargrad", n=20).values.double()
    double = pl.explain(scaled.double(), x.double(), 1, method="vargrad", n=20).values
    assert bool((single >= 0).all())
    slopes = pl.explain(scaled, x.double(), 1, method="saliency").values
    assert float((single - double).abs().max()) < 1e-9 * float((slopes**2).max())


def test_short_names_are_the_long_ones():
    assert pl.read_method("smoothgrad") == pl.smooth("saliency") == pl.smoothgrad
    assert pl.read_method("smoothgrad_squared(n=3)") == pl.smooth("saliency", n=3, statistic="square")
    assert pl.read_method("vargrad").params["statistic"] == "variance"
    assert pl.read_method(repr(pl.vargrad)) == pl.vargrad


def test_a_wrapper_has_the_facts_of_what_it_wraps():
    assert pl.smooth("grad_cam").facts.where is pl.grad_cam.facts.where
    assert pl.smooth("occlusion").facts.asks == pl.occlusion.facts.asks
    assert pl.smooth("occlusion")("saliency").facts.asks == pl.saliency.facts.asks


def test_the_chunk_does_not_change_the_draws():
    net, x = setting(2)
    maps = [explained(net, x, pl.smooth("integrated_gradients"), n=6, run=pl.Run(chunk=c)).values for c in (1, 4, None)]
    for other in maps[1:]:
        close(other, maps[0])


def test_a_variance_of_one_is_refused():
    net, x = setting(2)
    with pytest.raises(BadParameter, match="two noisy images"):
        explained(net, x, "vargrad", n=1)
