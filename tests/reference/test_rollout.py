"""Attention rollout: the product of half-identity attention matrices, from probabilities that torch's own layers give."""

import pytest
import torch
import torch.nn.functional as F
from tests.reference.plain import close
from torch import nn

import pellucid as pl
from pellucid.testing import small_image, small_net, small_transformer

ROLLOUT = "attention_rollout"


class Vit(nn.Module):
    """A class token (and others) before the patches; attention by hand, by torch's function, or by its module."""

    def __init__(self, dims, how, extra=1):
        super().__init__()
        torch.manual_seed(4)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.patches, self.how, self.extra = conv(2, 8, 2, stride=2), how, extra
        self.first = nn.Parameter(torch.randn(1, extra, 8))
        self.qkv = nn.ModuleList(nn.Linear(8, 24) for _ in range(3))
        self.reads = nn.ModuleList(nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True) for _ in range(3))
        self.blocks, self.head = nn.ModuleList(nn.Identity() for _ in range(3)), nn.Linear(8, 3)
        for one, two in zip(self.qkv, self.reads, strict=True):
            nn.init.normal_(one.weight, std=0.8)
            two.in_proj_weight.data, two.in_proj_bias.data = one.weight.data.clone(), one.bias.data.clone()
        self.double().eval()

    def weights(self, i, t):
        q, k, v = (a.unflatten(-1, (2, 4)).transpose(1, 2) for a in self.qkv[i](t).chunk(3, -1))
        return q, k, v, (q @ k.transpose(-2, -1) / 2.0).softmax(-1)

    def read(self, i, t):
        if self.how.startswith("module"):
            return self.reads[i](t, t, t, need_weights="weights" in self.how)[0]
        q, k, v, p = self.weights(i, t)
        if self.how == "function":
            z = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "einsum":
            z = torch.einsum("bhqk,bhkd->bhqd", F.dropout(p, 0.1, self.training), v)
        else:
            z = F.dropout(p, 0.1, self.training) @ v
        return self.reads[i].out_proj(z.transpose(1, 2).flatten(2))

    def forward(self, x, found=None):
        t = self.patches(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.first.expand(len(t), -1, -1), t], 1) if self.extra else t
        for i, block in enumerate(self.blocks):
            if found is not None:
                found.append(self.weights(i, t)[3][0])
            t = block(t + self.read(i, t))
        return self.head(t[:, 0] if self.extra else t.mean(1))


def by_hand(net, x, heads=lambda a: a.mean(0)):
    found = []
    with torch.no_grad():
        net(x[None], found)
        flow = torch.eye(found[0].shape[-1]).double()
        for a in found:
            step = heads(a) + torch.eye(a.shape[-1]).double()
            flow = (step / step.sum(-1, keepdim=True)) @ flow
        row = flow[0] if net.extra else flow.mean(0)
        return row[net.extra :].view(1, *net.patches(x[None]).shape[2:])


@pytest.mark.parametrize("how", ["by hand", "einsum", "function", "module", "module, weights"])
@pytest.mark.parametrize("dims", [2, 3])
def test_the_formula_however_attention_is_written(dims, how):
    net, x = Vit(dims, how), small_image(dims)
    why = pl.explain(net, x, 1, method=ROLLOUT, site="blocks.0")
    close(why.values, by_hand(net, x))
    assert why.trace["layers"] == 3 and abs(why.total + why.trace["other_tokens"] - 1) < 1e-12
    assert why.grid.shape == tuple(n // 2 for n in x.shape[1:])
    assert why.provenance.forward == 1 and why.provenance.backward == 0
    assert any("same for every target" in c for c in why.provenance.caveats)


@pytest.mark.parametrize("extra", [0, 3])
def test_other_heads_and_other_first_tokens(extra):
    net, x = Vit(2, "module", extra), small_image(2)
    close(pl.explain(net, x, 0, method=ROLLOUT, site="blocks.0").values, by_hand(net, x))
    close(pl.explain(net, x, 0, method=ROLLOUT, site="blocks.0", heads="max").values, by_hand(net, x, lambda a: a.amax(0)))
    close(pl.explain(net, x, 0, method=ROLLOUT, site="blocks.0", heads="min").values, by_hand(net, x, lambda a: a.amin(0)))


def test_without_attention_of_its_own_kind_it_refuses_by_name():
    x = small_image(2)
    with pytest.raises(pl.PellucidError, match="needs a network with attention"):
        pl.explain(small_net(2), x, 1, method=ROLLOUT)
    with pytest.raises(pl.PellucidError, match="site of tokens"):
        pl.explain(small_transformer(2), x, 1, method=ROLLOUT, site="patches")

    class Windows(Vit):
        """The same attention among the tokens of each row of patches."""

        def read(self, i, t):
            return super().read(i, t.reshape(-1, 5, 8)).reshape(t.shape)

    with pytest.raises(pl.PellucidError, match="attention in windows"):
        pl.explain(Windows(2, "module", 0), x, 1, method=ROLLOUT, site="blocks.1")

    class Cross(Vit):
        def read(self, i, t):
            return self.reads[i](t, t[:, ::2], t[:, ::2])[0]

    with pytest.raises(pl.PellucidError, match="31 that look at 16"):
        pl.explain(Cross(2, "module"), x, 1, method=ROLLOUT, site="blocks.1")


def test_public_vits():
    vision = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    torch.manual_seed(0)
    net = vision.VisionTransformer(image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=32, num_classes=3).eval()
    x, found = torch.rand(3, 64, 64), []

    def keep(module, args, kwargs, out):
        with torch.no_grad():
            found.append(nn.MultiheadAttention.forward(module, *args, **kwargs | {"need_weights": True})[1][0].double())

    handles = [b.self_attention.register_forward_hook(keep, with_kwargs=True) for b in net.encoder.layers]
    with torch.no_grad():
        net(x[None])
    for h in handles:
        h.remove()
    flow = torch.eye(17).double()
    for a in found:
        flow = (a + torch.eye(17)) / 2 @ flow
    close(pl.explain(net, x, 1, method=ROLLOUT).values.double(), flow[0, 1:].view(1, 4, 4), 1e-5)

    swin = vision.swin_transformer.SwinTransformer([4, 4], 12, [1, 1], [2, 4], [4, 4], num_classes=3).eval()
    with pytest.raises(pl.PellucidError, match="windows|site of tokens"):
        pl.explain(swin, torch.rand(3, 64, 64), 1, method=ROLLOUT)


def test_a_volume_by_monai():
    nets = pytest.importorskip("monai.networks.nets", reason="monai is not installed")
    torch.manual_seed(0)
    vit = nets.ViT(1, (16, 16, 16), (8, 8, 4), 24, 32, 2, 4, classification=True, num_classes=3, post_activation=None).eval()
    why = pl.explain(pl.Model(vit, select=0), torch.rand(1, 16, 16, 16), 1, method=ROLLOUT)
    assert why.values.shape == (1, 2, 2, 4) and 0.3 < why.total < 1 and why.trace["layers"] == 2
