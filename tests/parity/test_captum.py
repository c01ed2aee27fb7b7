"""Agreement with Captum, in float64 (its quadrature weights and its occlusion maps are float32)."""

from unittest import mock

import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net, ours

import pellucid as pl

captum = pytest.importorskip("captum.attr", reason="captum is not installed")
SITE = "2"  # the residual block


def saliency(dims):
    return ours(dims, "saliency"), captum.Saliency(net(dims)).attribute(_leaf(dims), TARGET, abs=False)[0]


def input_x_gradient(dims):
    return ours(dims, "input_x_gradient"), captum.InputXGradient(net(dims)).attribute(_leaf(dims), TARGET)[0]


def ig(rule, theirs):
    def maps(dims):
        peer = captum.IntegratedGradients(net(dims)).attribute(_leaf(dims), 0.2, TARGET, n_steps=9, method=theirs)
        return ours(dims, "integrated_gradients", baseline=0.2, steps=9, rule=rule), peer[0]

    return maps


def layer_ig(dims):
    made = net(dims)
    peer = captum.LayerIntegratedGradients(made, made[2]).attribute(_leaf(dims), torch.full_like(_leaf(dims), 0.2), TARGET, n_steps=9)
    return ours(dims, "integrated_gradients", site=SITE, baseline=0.2, steps=9), peer[0]


def noisy(short, theirs):
    def maps(dims):
        x, random = image(dims), torch.Generator().manual_seed(0)
        noise = []
        for _ in range(6):
            noise.append(0.15 * (x.max() - x.min()) * torch.randn(x.shape, generator=random, dtype=x.dtype))
            torch.randint(2**62, (1,), generator=random)
        peer = captum.NoiseTunnel(captum.Saliency(net(dims)))
        with mock.patch("torch.normal", return_value=torch.stack(noise)):
            found = peer.attribute(_leaf(dims), nt_type=theirs, nt_samples=6, target=TARGET, abs=False)
        return ours(dims, short, n=6), found[0]

    return maps


def occlusion(dims):
    window, stride = (2, *[4] * dims), (2, *[2] * dims)
    peer = captum.Occlusion(net(dims)).attribute(_leaf(dims).detach(), window, stride, 0.25, TARGET, perturbations_per_eval=8)
    return ours(dims, "occlusion", window="4px", stride="2px", fill=0.25), peer[0][:1]


def grad_cam(relu):
    def maps(dims):
        made = net(dims)
        peer = captum.LayerGradCam(made, made[2]).attribute(_leaf(dims), TARGET, relu_attributions=relu)
        return ours(dims, "grad_cam", site=SITE, relu=relu), peer[0]

    return maps


def hires_cam(dims):
    made = net(dims)
    peer = captum.LayerGradientXActivation(made, made[2]).attribute(_leaf(dims), TARGET)
    return ours(dims, "hires_cam", site=SITE), peer[0].sum(0, keepdim=True)


def _leaf(dims):
    return image(dims)[None].requires_grad_()


ROWS = [
    Row("Captum", "saliency", saliency, 1e-12),
    Row("Captum", "input_x_gradient", input_x_gradient, 1e-12),
    Row("Captum", "integrated_gradients, gauss", ig("gauss", "gausslegendre"), 1e-6),
    Row("Captum", "integrated_gradients, right", ig("right", "riemann_right"), 1e-6),
    Row("Captum", "integrated_gradients at a site", layer_ig, 1e-6),
    Row("Captum", "smoothgrad, same noise", noisy("smoothgrad", "smoothgrad"), 1e-12),
    Row("Captum", "smoothgrad_squared, same noise", noisy("smoothgrad_squared", "smoothgrad_sq"), 1e-12),
    Row("Captum", "vargrad, same noise", noisy("vargrad", "vargrad"), 1e-9),
    Row("Captum", "occlusion", occlusion, 2e-7),
    Row("Captum", "grad_cam", grad_cam(True), 1e-12),
    Row("Captum", "grad_cam, relu=False", grad_cam(False), 1e-12),
    Row("Captum", "hires_cam (gradient x activation, summed)", hires_cam, 1e-12),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_captum(row, dims):
    row.check(dims)


def test_the_comparison_notices_another_target():
    row = Row("Captum", "wrong", lambda d: (pl.explain(net(d), image(d), 0, method="saliency").values, saliency(d)[1]), 1e-3)
    with pytest.raises(AssertionError, match="differs"):
        row.check(2)
