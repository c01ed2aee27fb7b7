"""Agreement with Captum of what goes along paths and through sites, in float64 (its quadrature nodes and weights are float32)."""

from unittest import mock

import numpy as np
import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net, ours
from torch import nn

import pellucid as pl

captum = pytest.importorskip("captum.attr", reason="captum is not installed")
SITE, LEVEL = "0", 0.2  # the first convolution, behind which much is not linear; what the baseline is made of
UNIT = {2: (1, 5, 4), 3: (1, 5, 4, 3)}


def leaf(dims):
    return image(dims)[None].requires_grad_()


def flat(dims):
    return torch.full_like(image(dims)[None], LEVEL)


def conductance(act):
    """Captum sums the slope at the near end of each part; the mean of that from both sides is ours."""

    def theirs(dims, start, end):
        made = net(dims, act)
        peer = captum.LayerConductance(made, made[int(SITE)])
        return peer.attribute(end, start, TARGET, n_steps=7, method="riemann_trapezoid")[0]

    def maps(dims):
        both = (theirs(dims, flat(dims), leaf(dims)) - theirs(dims, leaf(dims).detach(), flat(dims).requires_grad_())) / 2
        return ours(dims, "conductance", of=net(dims, act), site=SITE, baseline=LEVEL, steps=7), both

    return maps


def influence(act):
    def maps(dims):
        made = net(dims, act)
        peer = captum.InternalInfluence(made, made[int(SITE)]).attribute(leaf(dims), flat(dims), TARGET, n_steps=9)
        return ours(dims, "internal_influence", of=net(dims, act), site=SITE, baseline=LEVEL, steps=9), peer[0]

    return maps


def layer_ig(act, place, rule, theirs):
    def maps(dims):
        made = net(dims, act)
        peer = captum.LayerIntegratedGradients(made, made[int(place)])
        found = peer.attribute(leaf(dims), flat(dims), TARGET, n_steps=8, method=theirs)
        return ours(dims, "integrated_gradients", of=net(dims, act), site=place, baseline=LEVEL, steps=8, rule=rule), found[0]

    return maps


def neuron_ig(act):
    def maps(dims):
        made = net(dims, act)
        peer = captum.NeuronIntegratedGradients(made, made[2]).attribute(leaf(dims), UNIT[dims], flat(dims), n_steps=9)
        target = pl.neuron("2", UNIT[dims])
        why = pl.explain(net(dims, act), image(dims), target, method="integrated_gradients", baseline=LEVEL, steps=9)
        return why.values, peer[0]

    return maps


def expected(act):
    """Captum with our draws in the place of its own."""

    def maps(dims):
        x = image(dims)
        images = torch.stack([torch.rand(x.shape, generator=torch.Generator().manual_seed(k), dtype=x.dtype) for k in range(3)])
        params = {"baseline": pl.each_of(list(images)), "samples": 10}
        why = pl.explain(net(dims, act), x, TARGET, method="expected_gradients", **params)
        drawn, alphas = images[why.trace["starts"]], np.array(why.trace["alphas"])
        peer = captum.GradientShap(net(dims, act))
        with (
            mock.patch("numpy.random.uniform", return_value=alphas),
            mock.patch("numpy.random.choice", return_value=np.arange(len(alphas))),
        ):
            found = peer.attribute(x[None], drawn, n_samples=len(alphas), stdevs=0.0, target=TARGET)
        return why.values, found[0]

    return maps


def interior(dims):
    peer = captum.IntegratedGradients(net(dims), multiply_by_inputs=False)
    found = peer.attribute(leaf(dims), 0.0, TARGET, n_steps=64, method="riemann_right")
    return ours(dims, "interior_gradients"), found[0]


ROWS = [
    Row("Captum", "conductance, mean of both directions", conductance(nn.ReLU), 1e-6),
    Row("Captum", "conductance, mean of both directions, Softplus", conductance(nn.Softplus), 1e-6),
    Row("Captum", "internal_influence", influence(nn.ReLU), 1e-6),
    Row("Captum", "internal_influence, Softplus", influence(nn.Softplus), 1e-6),
    Row("Captum", "integrated_gradients at a convolution, right", layer_ig(nn.ReLU, SITE, "right", "riemann_right"), 1e-6),
    Row("Captum", "integrated_gradients at a convolution, Softplus", layer_ig(nn.Softplus, SITE, "gauss", "gausslegendre"), 1e-6),
    Row("Captum", "integrated_gradients of a neuron", neuron_ig(nn.ReLU), 1e-6),
    Row("Captum", "integrated_gradients of a neuron, Softplus", neuron_ig(nn.Softplus), 1e-6),
    Row("Captum", "expected_gradients, same draws", expected(nn.ReLU), 1e-12),
    Row("Captum", "expected_gradients, same draws, Softplus", expected(nn.Softplus), 1e-12),
    Row("Captum", "interior_gradients", interior, 1e-6),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_captum(row, dims):
    row.check(dims)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dims", [2, 3])
def test_ours_is_complete_where_theirs_is_not_yet(dims):
    """At equal steps, where all flows through the site: gap of conductance over the change of the score."""
    why = pl.explain(net(dims, nn.Softplus), image(dims), TARGET, method="conductance", site="0", steps=20)
    made = net(dims, nn.Softplus)
    theirs = float(captum.LayerConductance(made, made[0]).attribute(leaf(dims), 0 * flat(dims), TARGET, n_steps=20).sum())
    assert abs(why.trace["gap"]) < 0.1 * abs(theirs - why.trace["change"])
