"""Agreement of backward passes by rules with Captum, zennit and TorchRay, in float64, on networks of modules."""

import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net, ours
from torch import nn


def captum(method, theirs, act=lambda: nn.ReLU(inplace=True)):
    def maps(dims):
        peers = pytest.importorskip("captum.attr", reason="captum is not installed")
        made, x = net(dims, act), image(dims)[None].requires_grad_()
        return ours(dims, method, of=net(dims, act)), getattr(peers, theirs)(made).attribute(x, TARGET)[0]

    return maps


def captum_guided_grad_cam(dims):
    peers = pytest.importorskip("captum.attr", reason="captum is not installed")
    made, x = net(dims, nn.ReLU), image(dims)[None].requires_grad_()
    return ours(dims, "guided_grad_cam", site="2"), peers.GuidedGradCam(made, made[2]).attribute(x, TARGET)[0]


def zennit(method, theirs):
    def maps(dims):
        peers = pytest.importorskip("zennit.composites", reason="zennit is not installed")
        from zennit.attribution import Gradient

        made, x = net(dims, nn.ReLU), image(dims)[None]
        with Gradient(made, getattr(peers, theirs)()) as attributor:
            _, peer = attributor(x, torch.eye(3, dtype=x.dtype)[[TARGET]])
        return ours(dims, method, of=net(dims, nn.ReLU)), peer[0]

    return maps


def torchray(method, theirs):
    def maps(dims):
        home = {"GuidedBackpropContext": "guided_backprop", "DeConvNetContext": "deconvnet"}[theirs]
        peers = pytest.importorskip(f"torchray.attribution.{home}", reason="TorchRay is not installed")
        made, x = net(dims, nn.ReLU), image(dims)[None].requires_grad_()
        with getattr(peers, theirs)():
            made(x)[0, TARGET].backward()
        return ours(dims, method, of=net(dims, nn.ReLU)), x.grad[0]

    return maps


GUIDED, DECONV = "guided_backprop", "deconvnet"
ROWS = [
    Row("Captum", GUIDED, captum(GUIDED, "GuidedBackprop"), 0.0),
    Row("Captum", DECONV, captum(DECONV, "Deconvolution"), 0.0),
    Row("zennit", GUIDED, zennit(GUIDED, "GuidedBackprop"), 0.0),
    Row("zennit", DECONV, zennit(DECONV, "DeconvNet"), 0.0),
    Row("TorchRay", GUIDED, torchray(GUIDED, "GuidedBackpropContext"), 0.0),
    Row("TorchRay", DECONV, torchray(DECONV, "DeConvNetContext"), 0.0),
    Row("Captum", "guided_grad_cam", captum_guided_grad_cam, 1e-12),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_modified_backward(row, dims):
    row.check(dims)
