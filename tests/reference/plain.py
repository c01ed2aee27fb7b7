"""What the slow formulas share: one score, one gradient, one activation at a time, by plain autograd in float64."""

import itertools

import torch

import pellucid as pl
from pellucid.testing import small_image, small_net

TARGET = 1


def setting(dims):
    """A small network with in-place, reused and normalized layers, and an image for it."""
    return small_net(dims).eval(), small_image(dims)


def score(net, x, target=TARGET):
    with torch.no_grad():
        return net(x[None].clone())[0, target].item()


def gradient(net, x, target=TARGET):
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(net(leaf[None].clone())[0, target], leaf)
    return g


def inside(net, x, site, target=TARGET):
    """Activation (c, *space) at a module, and the score's gradient there."""
    found = []

    def hook(_module, _args, z):
        found.append(z.detach().clone().requires_grad_())
        return found[0].clone()

    handle = net.get_submodule(site).register_forward_hook(hook)
    try:
        value = net(x[None].clone())[0, target]
        (g,) = torch.autograd.grad(value, found[0])
    finally:
        handle.remove()
    return found[0].detach()[0], g[0]


def places(space):
    return itertools.product(*map(range, space))


def explained(net, x, method, **params):
    return pl.explain(net, x, TARGET, method=method, **params)


def close(ours, slow, tolerance=1e-9):
    difference = float((ours - slow).abs().max())
    assert difference <= tolerance * max(1.0, float(slow.abs().max())), f"differs by {difference}"
    assert float(slow.max() - slow.min()) > 1e-6, "the reference itself says nothing"
