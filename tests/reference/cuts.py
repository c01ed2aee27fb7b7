"""What tests of region methods share: blocks as segments, and networks whose left and right halves add up."""

import torch
from torch import nn


def blocks(space, per_axis=2):
    """Labels of equal blocks, written slowly."""
    labels = torch.zeros(space, dtype=torch.int64)
    for axis, n in enumerate(space):
        part = (torch.arange(n) * per_axis // n).view([-1 if a == axis else 1 for a in range(len(space))])
        labels = labels * per_axis + part
    return labels


class Halves(nn.Module):
    """s = g(left half) + h(right half), along the last axis; each half a nonlinear function of its own. ``only`` leaves out the other."""

    def __init__(self, space, only=None, seed=0):
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        self.at, self.only = space[-1] // 2, only
        half = (*space[:-1], self.at)
        self.weights = [torch.randn(2, *half, generator=random, dtype=torch.float64) for _ in range(2)]
        self.bend = [torch.randn(2, generator=random, dtype=torch.float64) for _ in range(2)]

    def forward(self, x):
        parts = (x[..., : self.at], x[..., self.at :])
        out = 0
        for k, (part, w, b) in enumerate(zip(parts, self.weights, self.bend, strict=True)):
            if self.only in (None, k):
                seen = torch.einsum("nc...,k...->nk", part, w) / w[0].numel() ** 0.5
                out = out + torch.tanh(seen) * b + 0.3 * seen**2
        return out
