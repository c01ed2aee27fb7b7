"""The identities between methods (mission document M1): on bias-free ReLU networks several are one."""

import pytest
import torch
from torch import nn

import pellucid as pl


def bias_free(dims: int, seed: int, deep: bool) -> nn.Module:
    """Convolutions, ReLU, max and average pooling, without any constant."""
    conv, pool, mean = (nn.Conv2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d, nn.AdaptiveAvgPool3d)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        middle = [conv(4, 4, 3, padding=1, bias=False), nn.ReLU()] if deep else []
        parts = [
            conv(2, 4, 3, padding=1, bias=False),
            nn.ReLU(),
            pool(2),
            *middle,
            mean(2),
            nn.Flatten(),
            nn.Linear(4 * 2**dims, 3, bias=False),
        ]
        return nn.Sequential(*parts).double().eval()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("deep", [False, True])
def test_epsilon_lrp_and_deeplift_from_zero_are_input_times_gradient(dims, deep):
    net = bias_free(dims, dims, deep)
    x = torch.randn((2, *[8] * dims), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for target in (0, 2):
        want = pl.explain(net, x, target, method="input_x_gradient").values
        lrp = pl.explain(net, x, target, method="lrp", composite="epsilon", epsilon=0.0).values
        assert torch.allclose(lrp, want, rtol=1e-6, atol=1e-9 * float(want.abs().max()))
        assert want.sum().item() == pytest.approx(pl.explain(net, x, target, method="saliency").score, rel=1e-9), (
            "homogeneous: the sum is the score"
        )
    plain = nn.Sequential(*[m for m in net if not isinstance(m, (nn.MaxPool2d, nn.MaxPool3d))])
    want = pl.explain(plain, x, 1, method="input_x_gradient").values
    rescale = pl.explain(plain, x, 1, method="deeplift", baseline=pl.Constant(0.0)).values
    assert torch.allclose(rescale, want, rtol=1e-6, atol=1e-9 * float(want.abs().max()))
    ig = pl.explain(plain, x, 1, method="integrated_gradients", baseline=pl.Constant(0.0), steps=2).values
    assert torch.allclose(ig, want, rtol=1e-6, atol=1e-9 * float(want.abs().max())), "the way from zero crosses no kink"


def test_a_bias_parts_deeplift_from_them_and_epsilon_absorbs():
    net = bias_free(2, 0, True)
    net[0].bias = nn.Parameter(torch.full((4,), -0.4, dtype=torch.float64))
    plain = nn.Sequential(*[m for m in net if not isinstance(m, nn.MaxPool2d)])
    x = torch.randn((2, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    want = pl.explain(plain, x, 1, method="input_x_gradient").values
    size = float(want.abs().max())
    rescale = pl.explain(plain, x, 1, method="deeplift", baseline=pl.Constant(0.0)).values
    assert float((rescale - want).abs().max()) > 0.05 * size
    far, near = (
        float((pl.explain(plain, x, 1, method="lrp", composite="epsilon", epsilon=e).values - want).abs().max()) / size for e in (0.3, 1e-3)
    )
    assert near < 0.1 * far, "the limit is input times gradient"
