"""Expected gradients against their mean over draws, and against what they estimate."""

import collections

import pytest
import torch
from tests.reference.plain import close, explained, gradient, inside, score, setting
from tests.reference.twins import pair
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter

DIMS = pytest.mark.parametrize("dims", [2, 3])


def others(x, n):
    return [torch.rand(x.shape, generator=torch.Generator().manual_seed(50 + k), dtype=x.dtype) for k in range(n)]


@DIMS
def test_the_mean_over_the_draws_that_the_trace_tells(dims):
    net, x = setting(dims)
    images = others(x, 3)
    why = explained(net, x, "expected_gradients", baseline=pl.each_of(images), samples=7)
    slow = torch.zeros_like(x)
    for start, alpha, value in zip(why.trace["starts"], why.trace["alphas"], why.trace["scores"], strict=True):
        point = images[start] + alpha * (x - images[start])
        slow += (x - images[start]) * gradient(net, point) / 7
        assert value == pytest.approx(score(net, point))
    close(why.values, slow)
    change = score(net, x) - sum(score(net, i) for i in images) / 3
    assert why.trace["change"] == pytest.approx(change)
    assert why.trace["gap"] == pytest.approx(why.total - change)


def test_every_start_is_drawn_equally_often_and_every_part_of_its_way_once():
    net, x = setting(2)
    trace = explained(net, x, "expected_gradients", baseline=pl.each_of(others(x, 4)), samples=22).trace
    times = collections.Counter(trace["starts"])
    assert sorted(times.values()) == [5, 5, 6, 6]
    for start, n in times.items():
        parts = [int(a * n) for s, a in zip(trace["starts"], trace["alphas"], strict=True) if s == start]
        assert sorted(parts) == list(range(n))
    few = explained(net, x, "expected_gradients", baseline=pl.each_of(others(x, 9)), samples=5).trace["starts"]
    assert len(set(few)) == 5


@DIMS
def test_of_a_quadratic_it_is_the_difference_of_squares_on_average(dims):
    class Squares(nn.Module):
        def forward(self, x):
            return (x**2).flatten(1).sum(1, keepdim=True) * torch.tensor([1.0, 3.0], dtype=x.dtype)

    x = setting(dims)[1]
    images = others(x, 4)
    expected = 3 * (x**2 - sum(i**2 for i in images) / 4)
    means = [explained(Squares(), x, "expected_gradients", baseline=pl.each_of(images), samples=8, run=pl.Run(seed=s)) for s in range(40)]
    mean = sum(m.values for m in means) / 40
    spread = torch.stack([m.values for m in means]).std(0) / 40**0.5
    assert float(((mean - expected).abs() / spread).mean()) < 1.2, "it is biased"  # 0.8 for a normal error
    assert float(spread.max()) < 0.2 * float(expected.abs().max())


@DIMS
def test_it_nears_the_mean_of_integrated_gradients(dims):
    net, x = setting(dims)
    images = others(x, 2)
    exact = sum(explained(net, x, "integrated_gradients", baseline=i, steps=60).values for i in images) / 2
    near = explained(net, x, "expected_gradients", baseline=pl.each_of(images), samples=160).values
    assert float((near - exact).abs().max()) < 0.02 * float(exact.abs().max())
    close(explained(net, x, "integrated_gradients", baseline=pl.each_of(images), steps=5).values,
          sum(explained(net, x, "integrated_gradients", baseline=i, steps=5).values for i in images) / 2)  # fmt: skip


@DIMS
def test_the_additive_twin(dims):
    both, alone, x, left = pair(dims)
    close(*(explained(net, x, "expected_gradients", baseline="random(3)", samples=9).values[left] for net in (both, alone)))


def test_at_a_site_the_ways_start_at_what_the_images_cause_there():
    net, x = setting(2)
    start = others(x, 1)[0]
    why = explained(net, x, "expected_gradients", baseline=pl.each_of([start]), samples=1, site="second")
    z, _ = inside(net, x, "second")
    z0, _ = inside(net, start, "second")
    alpha, slope = why.trace["alphas"][0], []

    def hook(_m, _a, _z):
        slope.append((z0 + alpha * (z - z0))[None].requires_grad_())
        return slope[0].clone()

    handle = net.second.register_forward_hook(hook)
    value = net(x[None].clone())[0, 1]
    handle.remove()
    (g,) = torch.autograd.grad(value, slope[0])
    close(why.values, (z - z0) * g[0])


def test_a_set_without_images_or_of_another_shape_is_refused():
    net, x = setting(2)
    with pytest.raises(BadParameter, match="at least one image"):
        pl.each_of([])
    with pytest.raises(BadParameter, match="prepared image's shape"):
        explained(net, x, "expected_gradients", baseline=pl.each_of([x[:, :4]]))
    assert repr(pl.each_of(others(x, 2))) == repr(pl.each_of(others(x, 2))) != repr(pl.each_of(others(x, 3)))
