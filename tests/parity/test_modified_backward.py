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


def plain(dims):
    """Convolutions and rectifiers alone: where every activation is at least 0, as excitation backpropagation assumes."""
    conv, pool = (nn.Conv2d, nn.AvgPool2d) if dims == 2 else (nn.Conv3d, nn.AvgPool3d)
    mean = nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1)
    parts = [conv(2, 4, 3, padding=1), nn.ReLU(), pool(2), conv(4, 6, 3), nn.ReLU(), mean, nn.Flatten(), nn.Linear(6, 3)]
    made = nn.Sequential(*parts).double().eval()
    random = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.4)
    return made


def excitation_zennit(dims):
    peers = pytest.importorskip("zennit.composites", reason="zennit is not installed")
    from zennit.attribution import Gradient

    x = image(dims)[None]
    with Gradient(plain(dims), peers.ExcitationBackprop(stabilizer=1e-30, zero_params="bias")) as attributor:
        _, peer = attributor(x, torch.eye(3, dtype=x.dtype)[[TARGET]])
    return ours(dims, "excitation_backprop", of=plain(dims)), peer[0]


def excitation_torchray(dims):
    peers = pytest.importorskip("torchray.attribution.excitation_backprop", reason="TorchRay is not installed")
    made, x = plain(dims).requires_grad_(False), image(dims)[None].requires_grad_()
    with peers.ExcitationBackpropContext():
        out = made(x)
        out.backward(torch.eye(3, dtype=x.dtype)[[TARGET]])
    return ours(dims, "excitation_backprop", of=plain(dims)), x.grad[0]


def contrast_torchray(dims):
    peers = pytest.importorskip("torchray.attribution.excitation_backprop", reason="TorchRay is not installed")
    made, x = plain(dims), image(dims)[None]
    layers = {"saliency_layer": "1", "contrast_layer": "1", "classifier_layer": "7"}
    peer = peers.contrastive_excitation_backprop(made, x.requires_grad_(), TARGET, **layers)
    return ours(dims, "excitation_backprop", of=plain(dims), site="1", contrastive=True), peer[0]


GUIDED, DECONV = "guided_backprop", "deconvnet"
ROWS = [
    Row("Captum", GUIDED, captum(GUIDED, "GuidedBackprop"), 0.0),
    Row("Captum", DECONV, captum(DECONV, "Deconvolution"), 0.0),
    Row("zennit", GUIDED, zennit(GUIDED, "GuidedBackprop"), 0.0),
    Row("zennit", DECONV, zennit(DECONV, "DeconvNet"), 0.0),
    Row("TorchRay", GUIDED, torchray(GUIDED, "GuidedBackpropContext"), 0.0),
    Row("TorchRay", DECONV, torchray(DECONV, "DeConvNetContext"), 0.0),
    Row("zennit", "excitation_backprop", excitation_zennit, 1e-12),
    Row("TorchRay", "excitation_backprop", excitation_torchray, 1e-12, (2,)),
    Row("TorchRay", "excitation_backprop(contrastive=True)", contrast_torchray, 1e-12, (2,)),
    Row("Captum", "guided_grad_cam", captum_guided_grad_cam, 1e-12),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_modified_backward(row, dims):
    row.check(dims)
