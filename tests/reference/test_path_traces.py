"""What integrated gradients leave in their trace: the way of a score, and on request the gradient at every step."""

import pytest
import torch
from tests.reference.plain import close, explained, gradient, score, setting

import pellucid as pl
from pellucid.method import COMPLETE, SIGNED, read_method

DIMS = pytest.mark.parametrize("dims", [2, 3])


@DIMS
def test_the_gradient_at_every_alpha_is_kept_on_request(dims):
    net, x = setting(dims)
    why = explained(net, x, "integrated_gradients", baseline=0.3, steps=5, keep=True)
    start = torch.full_like(x, 0.3)
    assert torch.equal(why.trace["start"], start)
    assert why.trace["gradients"].shape == (5, *x.shape)
    for alpha, g, value, classes in zip(*(why.trace[k] for k in ("alphas", "gradients", "scores", "classes")), strict=True):
        point = start + alpha * (x - start)
        close(g, gradient(net, point))
        assert value == pytest.approx(score(net, point))
        assert classes == pytest.approx([score(net, point, k) for k in range(3)])
    weights = torch.tensor(why.trace["weights"], dtype=x.dtype).view(-1, *[1] * x.ndim)
    close((x - start) * (weights * why.trace["gradients"]).sum(0), why.values)


def test_memory_does_not_grow_without_the_callers_word():
    net, x = setting(2)
    plain = explained(net, x, "integrated_gradients", steps=5).trace
    assert not any(isinstance(v, torch.Tensor) for v in plain.values())
    assert len(plain["scores"]) == len(plain["classes"]) == 5


def test_with_several_starts_the_mean_over_them_is_kept():
    net, x = setting(2)
    why = explained(net, x, "integrated_gradients", baseline="black_and_white", steps=4, rule="right", keep=True, times_input=False)
    close(why.trace["gradients"].mean(0), why.values)
    for alpha, g in zip(why.trace["alphas"], why.trace["gradients"], strict=True):
        close(g, (gradient(net, alpha * x) + gradient(net, 1 + alpha * (x - 1))) / 2)


@DIMS
def test_interior_gradients_are_the_mean_gradient_on_the_way(dims):
    net, x = setting(dims)
    why = explained(net, x, pl.interior_gradients(steps=4))
    close(why.values, sum(gradient(net, k / 4 * x) for k in (1, 2, 3, 4)) / 4)
    close(why.trace["gradients"][1], gradient(net, x / 2))
    assert why.trace["alphas"] == [0.25, 0.5, 0.75, 1.0]


def test_only_a_map_that_adds_up_promises_to():
    assert pl.interior_gradients.facts.gives == SIGNED
    assert pl.integrated_gradients.facts.gives == SIGNED | COMPLETE
    assert read_method("interior_gradients") == pl.interior_gradients
    net, x = setting(2)
    why = explained(net, x, "interior_gradients", evidence="quick")
    assert "completeness_gap" not in why.evidence
