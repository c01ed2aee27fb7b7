"""Blur IG against its formula, with scipy's Gaussian; and what its trace tells."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tests.reference.plain import close, explained, gradient, score, setting

import pellucid as pl
from pellucid.errors import BadParameter

DIMS = pytest.mark.parametrize("dims", [2, 3])


def blurred(x, sigma, edge="nearest"):
    sigma = [0.0, *np.broadcast_to(sigma, x.ndim - 1)]
    return torch.from_numpy(gaussian_filter(x.numpy(), sigma, mode={"nearest": "nearest", "zero": "constant"}[edge]))


def slowly(net, x, sigma, steps, edge="nearest", power=1.0):
    """Sum over the path of gradient times what the step gives back, sigma being one number or one per axis."""
    sigma = np.asarray(sigma, dtype=float)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    found, done = torch.zeros_like(x), 0.0
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        step = blurred(x, sigma * done**power, edge) - blurred(x, sigma * (done + weight) ** power, edge)
        found += gradient(net, blurred(x, sigma * node**power, edge)) * step
        done += weight
    return found


@DIMS
@pytest.mark.parametrize("edge", ["nearest", "zero"])
@pytest.mark.parametrize("spacing", ["linear", "sqrt"])
def test_blur_ig(dims, edge, spacing):
    net, x = setting(dims)
    ours = explained(net, x, "blur_ig", max_sigma="2.5px", steps=7, edge=edge, spacing=spacing)
    close(ours.values, slowly(net, x, 2.5, 7, edge, 0.5 if spacing == "sqrt" else 1.0))


@DIMS
def test_along_one_axis(dims):
    net, x = setting(dims)
    only = [0.0] * dims
    only[1] = x.shape[2] / 4  # a quarter of the shortest blurred side
    close(explained(net, x, "blur_ig", steps=6, axes=1).values, slowly(net, x, only, 6))
    close(explained(net, x, "blur_ig", steps=6, axes=[1]).values, slowly(net, x, only, 6))


def test_the_blur_is_isotropic_in_the_patient():
    net, x = setting(3)
    scan = pl.Image(x, pl.Grid.spaced(tuple(x.shape[1:]), (0.5, 1.0, 2.5)))
    ours = explained(net, scan, "blur_ig", steps=5, max_sigma=2)
    close(ours.values, slowly(net, x, [4.0, 2.0, 0.8], 5))
    assert (ours.trace["max_sigma"], ours.trace["unit"]) == (2.0, "mm")
    assert explained(net, scan, "blur_ig", steps=5).trace["max_sigma"] == pytest.approx(5.0 / 4)


@DIMS
def test_the_trace_tells_the_scales(dims):
    net, x = setting(dims)
    why = explained(net, x, "blur_ig", steps=9, max_sigma="2px")
    trace = why.trace
    assert sum(trace["contributions"]) == pytest.approx(why.total)
    assert trace["change"] == pytest.approx(score(net, x) - score(net, blurred(x, 2.0)))
    assert list(trace["sigmas"]) == sorted(trace["sigmas"])
    assert 0 < trace["sigmas"][0] < trace["sigmas"][-1] < 2
    for sigma, value, classes in zip(trace["sigmas"], trace["scores"], trace["classes"], strict=True):
        assert value == pytest.approx(score(net, blurred(x, sigma)))
        assert classes == pytest.approx([score(net, blurred(x, sigma), k) for k in range(3)])


def test_an_axis_that_the_image_lacks_is_refused():
    net, x = setting(2)
    with pytest.raises(BadParameter, match="2 dimensions"):
        explained(net, x, "blur_ig", axes=[0, 2])
    for wrong in ([], "0", [0, 0], True, 3, [0.5]):
        with pytest.raises(BadParameter, match="axes of blur_ig"):
            pl.blur_ig(axes=wrong)
