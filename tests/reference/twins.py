"""Additive twins: s = g(left half) + h(right half), whose parts are known one by one."""

import torch
from tests.reference.plain import setting

import pellucid as pl


class Halves(torch.nn.Module):
    """g of the image with an empty right half, plus (or not) h of the image with an empty left half."""

    def __init__(self, dims, with_right=True):
        super().__init__()
        self.left, self.right, self.with_right = setting(dims)[0], pl.testing.small_net(dims, seed=5), with_right

    def forward(self, x):
        a, b = x.clone(), x.clone()
        a[..., x.shape[-1] // 2 :] = 0
        b[..., : x.shape[-1] // 2] = 0
        return self.left(a) + (self.right(b) if self.with_right else 0)


def pair(dims):
    """The twin, its left part alone, an image, and where the left half lies in a map."""
    x = setting(dims)[1]
    return Halves(dims).eval(), Halves(dims, with_right=False).eval(), x, (..., slice(0, x.shape[-1] // 2))
