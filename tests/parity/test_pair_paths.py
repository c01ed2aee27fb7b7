"""Agreement with PAIR saliency's Guided IG, in float64; its call of ``numpy.quantile`` is translated to the argument's present name."""

from unittest import mock

import numpy as np
import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net, ours
from torch import nn

pair = pytest.importorskip("saliency.core", reason="saliency is not installed")
LEVEL = 0.2
QUANTILE = np.quantile


def _quantile(a, q, interpolation="linear", **rest):
    return QUANTILE(a, q, method=interpolation, **rest)


def theirs(made, x, **params):
    def call(batch, call_model_args=None, expected_keys=None):
        point = torch.from_numpy(np.moveaxis(batch, -1, 1)).requires_grad_()
        (g,) = torch.autograd.grad(made(point)[:, TARGET].sum(), point)
        return {pair.INPUT_OUTPUT_GRADIENTS: np.moveaxis(g.numpy(), 1, -1)}

    x = np.moveaxis(x.numpy(), 0, -1)
    with mock.patch("numpy.quantile", _quantile):
        found = pair.GuidedIG().GetMask(x, call, x_baseline=np.full_like(x, LEVEL), **params)
    return torch.from_numpy(np.moveaxis(found, -1, 0))


def guided_ig(act, steps, fraction, max_dist):
    def maps(dims):
        params = {"fraction": fraction, "max_dist": max_dist}
        peer = theirs(net(dims, act), image(dims), x_steps=steps, **params)
        return ours(dims, "guided_ig", of=net(dims, act), baseline=LEVEL, steps=steps, **params), peer

    return maps


ROWS = [
    Row("PAIR saliency", "guided_ig, its defaults", guided_ig(nn.ReLU, 200, 0.25, 0.02), 1e-9, dims=(2,)),
    Row("PAIR saliency", "guided_ig, 30 steps", guided_ig(nn.ReLU, 30, 0.25, 0.02), 1e-9),
    Row("PAIR saliency", "guided_ig, Softplus, far from the straight way", guided_ig(nn.Softplus, 30, 0.1, 0.4), 1e-9),
    Row("PAIR saliency", "guided_ig, unbounded", guided_ig(nn.Softplus, 20, 0.5, 1.0), 1e-9),
    Row("PAIR saliency", "guided_ig, no freedom", guided_ig(nn.ReLU, 10, 0.25, 0.0), 1e-9),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_pair(row, dims):
    row.check(dims)
