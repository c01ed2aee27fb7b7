"""Agreement of LRP with zennit, rule by rule and composite by composite, in float64; and with Captum's epsilon rule."""

import copy

import pytest
import torch
from tests.parity.nets import TARGET, image
from torch import nn

import pellucid as pl

zennit = pytest.importorskip("zennit", reason="zennit is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

LOW, HIGH = -0.5, 1.5


def filled(made, seed=13):
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=random, dtype=torch.float64) * (0.4 if p.ndim > 1 else 0.3))
        for b in made.buffers():
            if b.is_floating_point():
                b.copy_(torch.rand(b.shape, generator=random, dtype=torch.float64) + 0.5)
    for m in made.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.eps = 0.0  # merged, zennit 0.5.1 keeps on dividing by sqrt(1 + eps)
    return made.double().eval()


def plain(dims, act=nn.ReLU):
    conv, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
    mean = nn.AdaptiveAvgPool2d if dims == 2 else nn.AdaptiveAvgPool3d
    return filled(
        nn.Sequential(
            conv(2, 4, 3, padding=1), act(), conv(4, 6, 3, stride=2, groups=2), act(), pool(2), mean(2), nn.Flatten(),
            nn.Linear(6 * 2**dims, 5), act(), nn.Linear(5, 3),
        )
    )  # fmt: skip


def normed(dims):
    conv, norm, turned = (nn.Conv2d, nn.BatchNorm2d, nn.ConvTranspose2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d, nn.ConvTranspose3d)
    mean = nn.AvgPool2d if dims == 2 else nn.AvgPool3d
    return filled(
        nn.Sequential(
            conv(2, 4, 3, padding=1, bias=False), norm(4), nn.ReLU(), conv(4, 4, 3, stride=2), norm(4), nn.ReLU(), turned(4, 6, 2, stride=2),
            norm(6), nn.LeakyReLU(0.1), mean(2), nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1), nn.Flatten(),
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.3), nn.Linear(8, 3),
        )
    )  # fmt: skip


class Residual(nn.Module):
    """A sum as zennit wants it to be written: stacked, then summed by a module."""

    def __init__(self, dims):
        super().__init__()
        from zennit.layer import Sum

        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d)
        self.first = nn.Sequential(conv(2, 4, 3, padding=1), norm(4), nn.ReLU())
        self.branch = nn.Sequential(conv(4, 4, 3, padding=1), norm(4), nn.ReLU(), conv(4, 4, 3, padding=1), norm(4))
        self.skip = nn.Sequential(conv(4, 4, 1), norm(4))
        self.sum, self.act = Sum(dim=-1), nn.ReLU()
        self.pool, self.head = (nn.AdaptiveAvgPool2d(1) if dims == 2 else nn.AdaptiveAvgPool3d(1)), nn.Linear(4, 3)

    def forward(self, x):
        z = self.first(x)
        z = self.act(self.sum(torch.stack([self.skip(z), self.branch(z)], -1)))
        return self.head(self.pool(z).flatten(1))


class Ours(Residual):
    """The same with a plain ``+``."""

    def forward(self, x):
        z = self.first(x)
        z = self.act(self.skip(z) + self.branch(z))
        return self.head(self.pool(z).flatten(1))


def residual(dims):
    made = filled(Residual(dims))
    ours = copy.deepcopy(made)
    ours.__class__ = Ours
    return made, ours


NETS = {"plain": plain, "gelu": lambda d: plain(d, nn.GELU), "batchnorm": normed, "residual": residual}


def theirs(made, x, composite):
    """zennit's relevance of the score; it seeds with one, so that the output is handed in."""
    from zennit.attribution import Gradient

    with Gradient(made, composite) as attributor:
        _, peer = attributor(x[None], lambda out: out * torch.eye(out.shape[1], dtype=out.dtype)[[TARGET]])
    return peer[0].detach()


def canonizers():
    from zennit.canonizers import SequentialMergeBatchNorm

    return [SequentialMergeBatchNorm()]


def peer_composite(which, dims):
    from zennit import composites

    if which == "epsilon_gamma_box":
        ones = torch.ones((1, 2, *image(dims).shape[1:]), dtype=torch.float64)
        return composites.EpsilonGammaBox(low=LOW * ones, high=HIGH * ones, canonizers=canonizers())
    return composites.COMPOSITES[which](canonizers=canonizers())


def pair(kind, dims):
    made = NETS[kind](dims)
    made, ours = made if isinstance(made, tuple) else (made, copy.deepcopy(made))
    return made, pl.Model(ours, range=(LOW, HIGH)), image(dims) * 2 - 0.5


def close(ours, peer, limit=1e-5):
    assert float((ours - peer).abs().max()) <= limit * float(peer.abs().max())
    assert float(peer.max() - peer.min()) > 1e-9


COMPOSITES = ("epsilon_plus", "epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_alpha2_beta1_flat", "epsilon_gamma_box")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("which", COMPOSITES)
def test_composites(which, kind, dims):
    close(*composite_maps(which, kind, dims))


def composite_maps(which, kind, dims):
    """Ours and theirs."""
    made, ours, x = pair(kind, dims)
    mine = pl.explain(ours, x, TARGET, method=pl.lrp(composite=which)).values
    return mine, theirs(made, x, peer_composite(which, dims))


def peer_rule(text, dims):
    from zennit import rules

    ones = torch.ones((1, 2, *image(dims).shape[1:]), dtype=torch.float64)
    return {
        "epsilon(1e-06)": lambda: rules.Epsilon(),
        "epsilon(0.1)": lambda: rules.Epsilon(epsilon=0.1),
        "gamma(0.25)": lambda: rules.Gamma(),
        "gamma(1)": lambda: rules.Gamma(gamma=1.0),
        "z_plus": lambda: rules.ZPlus(),
        "alpha_beta(2, 1)": lambda: rules.AlphaBeta(),
        "alpha_beta(3, 2)": lambda: rules.AlphaBeta(alpha=3, beta=2),
        "w_square": lambda: rules.WSquare(),
        "flat": lambda: rules.Flat(),
        "z_box": lambda: rules.ZBox(low=LOW * ones, high=HIGH * ones),
    }[text]()


RULES = ("epsilon(1e-06)", "epsilon(0.1)", "gamma(0.25)", "gamma(1)", "z_plus", "alpha_beta(2, 1)", "alpha_beta(3, 2)", "w_square", "flat")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("text", RULES)
def test_one_rule_everywhere(text, kind, dims):
    from zennit import types
    from zennit.composites import LayerMapComposite, layer_map_base

    made, ours, x = pair(kind, dims)
    composite = LayerMapComposite([*layer_map_base(), (types.Linear, peer_rule(text, dims))], canonizers=canonizers())
    mine = pl.explain(ours, x, TARGET, method=pl.lrp(rules={"": text})).values
    close(mine, theirs(made, x, composite))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("text", ["z_box", "w_square", "gamma(1)"])
def test_rules_by_site(text, dims):
    from zennit.composites import NameLayerMapComposite, layer_map_base
    from zennit.rules import AlphaBeta, Epsilon
    from zennit.types import Linear

    made, ours, x = pair("plain", dims)
    names = [(["0"], peer_rule(text, dims)), (["2"], AlphaBeta())]
    composite = NameLayerMapComposite(names, [*layer_map_base(), (Linear, Epsilon(epsilon=0.1))])
    mine = pl.explain(ours, x, TARGET, method=pl.lrp(composite="epsilon", epsilon=0.1, rules={"0": text, "2": "alpha_beta"})).values
    close(mine, theirs(made, x, composite))


@pytest.mark.parametrize("dims", [2, 3])
def test_captum_epsilon(dims):
    peers = pytest.importorskip("captum.attr", reason="captum is not installed")
    from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule

    made, x = plain(dims), image(dims)
    for layer in made:
        weighted = any(True for _ in layer.parameters())
        layer.rule = (
            EpsilonRule(epsilon=1e-9) if weighted or "Pool" in type(layer).__name__ or isinstance(layer, nn.Flatten) else IdentityRule()
        )
    peer = peers.LRP(made).attribute(x[None].requires_grad_(), TARGET)[0].detach()
    close(pl.explain(plain(dims), x, TARGET, method=pl.lrp(composite="epsilon", epsilon=1e-9)).values, peer)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("bounded", [False, True])
def test_deep_taylor(bounded, dims):
    from zennit.composites import SpecialFirstLayerMapComposite, layer_map_base
    from zennit.rules import WSquare, ZBox, ZPlus
    from zennit.types import Linear

    made, ours, x = pair("plain", dims)
    ones = torch.ones((1, 2, *image(dims).shape[1:]), dtype=torch.float64)
    first = ZBox(low=LOW * ones, high=HIGH * ones, zero_params="bias") if bounded else WSquare(zero_params="bias")
    composite = SpecialFirstLayerMapComposite([*layer_map_base(), (Linear, ZPlus(zero_params="bias"))], [(Linear, first)])
    k = int(ours.module(x[None])[0].argmax())
    from zennit.attribution import Gradient

    with Gradient(made, composite) as attributor:
        _, peer = attributor(x[None], lambda out: out * torch.eye(3, dtype=out.dtype)[[k]])
    close(pl.explain(ours, x, k, method=pl.deep_taylor(bounded=bounded)).values, peer[0].detach())
