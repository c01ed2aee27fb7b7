"""Relevance through attention: AttnLRP's propositions by hand, and as LXT computes them: input times a modified gradient."""

import pytest
import torch
import torch.nn.functional as F
from tests.reference.plain import TARGET, close
from torch import nn

import pellucid as pl
from pellucid.testing import small_image, small_net, small_transformer

ATTN = "transformer_attribution"
TINY = 1e-6  # the stabilizer of products


class Block(nn.Module):
    """Patches, a norm, one attention with two heads, a residual sum, a gated unit, the mean, a head."""

    def __init__(self, dims, how, norm=True):
        super().__init__()
        torch.manual_seed(6)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.patches, self.norm, self.how = conv(2, 8, 2, stride=2), nn.LayerNorm(8) if norm else nn.Identity(), how
        self.read, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)
        self.read.in_proj_weight.data *= 3
        self.double().eval()

    def split(self, t):
        return (a.unflatten(-1, (2, 4)).transpose(1, 2) for a in F.linear(t, self.read.in_proj_weight, self.read.in_proj_bias).chunk(3, -1))

    def attend(self, t):
        if self.how == "module":
            return self.read(t, t, t, need_weights=False)[0]
        q, k, v = self.split(t)
        if self.how == "function":
            z = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "masked":
            z = F.scaled_dot_product_attention(q, k, v, torch.ones(t.shape[1], t.shape[1], dtype=torch.bool).tril(3))
        elif self.how == "einsum":
            z = torch.einsum("bhqk,bhkd->bhqd", (torch.einsum("bhqd,bhkd->bhqk", q, k) / 2.0).softmax(-1), v)
        else:
            z = torch.softmax(q @ k.transpose(-2, -1) * 0.5, -1) @ v
        return self.read.out_proj(z.transpose(1, 2).flatten(2))

    def forward(self, x):
        t = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(F.gelu(t + self.attend(self.norm(t))).mean(1))


def over(r, z, stabilizer=0.0):
    return r / (z + stabilizer * torch.where(z < 0, -1, 1))


def by_hand(net, x, dims, allowed=None):
    """Every step of the block, relevance shared out by the propositions' sums; epsilon 0 but in products."""
    back = F.conv_transpose2d if dims == 2 else F.conv_transpose3d
    with torch.no_grad():
        grid = net.patches(x[None])
        t = grid.flatten(2).transpose(1, 2)
        u = net.norm(t)
        q, k, v = net.split(u)
        a = torch.einsum("bhqd,bhkd->bhqk", q, k)
        logits = a * 0.5 if allowed is None else (a * 0.5).masked_fill(~allowed, -torch.inf)
        p = logits.softmax(-1)
        o = torch.einsum("bhqk,bhkd->bhqd", p, v)
        joined = o.transpose(1, 2).flatten(2)
        z = net.read.out_proj(joined)
        total = t + z
        g = F.gelu(total)
        mean = g.mean(1)
        r_mean = mean * net.head.weight[TARGET]
        r_sum = g / g.shape[1] * over(r_mean, mean)[:, None]  # through gelu unchanged
        r_t, r_z = t * over(r_sum, total), z * over(r_sum, total)
        r_o = joined * (over(r_z, z) @ net.read.out_proj.weight)
        r_o = r_o.unflatten(-1, (2, 4)).transpose(1, 2)
        share = over(r_o, o, TINY) / 2
        r_v = torch.einsum("bhqk,bhkd,bhqd->bhkd", p, v, share)
        r_p = torch.einsum("bhqk,bhkd,bhqd->bhqk", p, v, share)
        x_soft = logits.masked_fill(logits.isinf(), 0.0)
        r_a = x_soft * (r_p - p * r_p.sum(-1, keepdim=True))
        share = over(r_a, a, TINY) / 2
        r_q = torch.einsum("bhqd,bhkd,bhqk->bhqd", q, k, share)
        r_k = torch.einsum("bhqd,bhkd,bhqk->bhkd", q, k, share)
        parts = torch.cat([m.transpose(1, 2).flatten(2) for m in (q, k, v)], -1)
        r_parts = torch.cat([m.transpose(1, 2).flatten(2) for m in (r_q, r_k, r_v)], -1)
        r_u = u * (over(r_parts, parts) @ net.read.in_proj_weight)
        r_t = (r_t + r_u).transpose(1, 2).view_as(grid)  # through the norm unchanged
        return (x[None] * back(over(r_t, grid), net.patches.weight, stride=2, output_padding=odd(x)))[0]


def odd(x):
    return tuple(n % 2 for n in x.shape[1:])


@pytest.mark.parametrize("how", ["function", "by hand", "einsum", "module", "masked"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_propositions_however_attention_is_written(dims, how):
    net, x = Block(dims, how), small_image(dims)
    n = net.patches(x[None])[0, 0].numel()
    slow = by_hand(net, x, dims, torch.ones(n, n, dtype=torch.bool).tril(3) if how == "masked" else None)
    why = pl.explain(net, x, TARGET, method=ATTN, gamma=0, epsilon=0)
    close(why.values, slow, 1e-5)
    assert abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-9 * abs(why.score)
    assert abs(why.trace["absorbed"]["softmax"]) > 1e-6


def test_as_lxt_computes_it():
    """Without a norm: input times a gradient in which both factors of a product get half, and gelu is a factor."""
    net, x = Block(2, "by hand", norm=False), small_image(2)
    half = lambda f, a, b: (f(a, b.detach()) + f(a.detach(), b)) / 2  # noqa: E731
    leaf = x.clone().requires_grad_()
    t = net.patches(leaf[None]).flatten(2).transpose(1, 2)
    q, k, v = net.split(t)
    p = (half(torch.matmul, q, k.transpose(-2, -1)) * 0.5).softmax(-1)
    total = t + net.read.out_proj(half(torch.matmul, p, v).transpose(1, 2).flatten(2))
    score = net.head((total * (F.gelu(total) / total).detach()).mean(1))[0, TARGET]
    (g,) = torch.autograd.grad(score, leaf)
    close(pl.explain(net, x, TARGET, method=ATTN, gamma=0, epsilon=0).values, x * g, 1e-4)


def test_where_attention_looks_counts():
    """Values that are all alike: only queries and keys know the image, and only a rule that follows them hears it."""

    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.q, self.k = nn.Linear(2, 4), nn.Linear(2, 4)
            self.v = nn.Parameter(torch.randn(30, 3))

        def forward(self, x):
            t = F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)
            return ((self.q(t) @ self.k(t).transpose(-2, -1)).softmax(-1) @ self.v).mean(1)

    net, x = Looks().double(), small_image(2)
    why = pl.explain(net, x, 1, method=ATTN)
    assert float(why.values.abs().sum()) > 1e-3 * abs(why.score)


@pytest.mark.parametrize("dims", [2, 3])
def test_gamma_counts_what_speaks_for_the_target(dims):
    net, x = small_transformer(dims), small_image(dims)
    plain, some, more = (pl.explain(net, x, 1, method=ATTN, gamma=g) for g in (0, 0.05, 10.0))
    assert not torch.allclose(plain.values, some.values) and not torch.allclose(some.values, more.values)
    for why in (plain, some, more):
        assert abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-6 * abs(why.score)
    inside = pl.explain(net, x, 1, method=ATTN, site="layers.0")
    assert inside.values.shape == (8, *(n // 2 for n in x.shape[1:]))


def test_a_network_without_attention_is_refused():
    with pytest.raises(pl.PellucidError, match="needs attention behind the site"):
        pl.explain(small_net(2), small_image(2), 1, method=ATTN)
    with pytest.raises(pl.PellucidError, match="needs attention behind the site"):
        pl.explain(small_transformer(2), small_image(2), 1, method=ATTN, site="layers.1")


def test_public_transformers_keep_the_score():
    vision = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    torch.manual_seed(0)
    flat = vision.VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3)
    nn.init.normal_(flat.heads.head.weight, std=0.3)
    deep = nets.ViT(1, (16, 16, 16), (8, 8, 8), 16, 32, 2, 2, classification=True, num_classes=3, post_activation=None)
    swin = vision.swin_transformer.SwinTransformer([4, 4], 12, [1, 1], [2, 4], [4, 4], num_classes=3)
    for net, x, select in ((flat, torch.rand(3, 32, 32), None), (deep, torch.rand(1, 16, 16, 16), 0), (swin, torch.rand(3, 64, 64), None)):
        for name, weight in net.named_parameters():
            if "in_proj_weight" in name or "qkv.weight" in name:
                weight.data[: 2 * len(weight) // 3] *= 6.0
        model = pl.Model(net.double().eval(), select=select)
        maps = [pl.explain(model, x.double(), k, method=ATTN) for k in (0, 1)]
        assert not torch.allclose(maps[0].values, maps[1].values)
        for why in maps:
            assert abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-6 * abs(why.score)
