"""Geometry of module calls, against measured centroids of gradients, never against the formulas it was written from."""

import math
import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.errors import BadSite
from pellucid.probe.geometry import Axis, Call, Layout, Tokens, pick_auto, trace


class Net(nn.Module):
    """A function with its modules, so that the tests can write networks in one line."""

    def __init__(self, forward, **parts):
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)
        self.end = nn.Identity()
        self._forward = forward

    def forward(self, x):
        return self.end(self._forward(self, x))


def uniform(net: nn.Module) -> nn.Module:
    """All weights positive and equal: the gradient of a cell is then spread symmetrically around where it looks."""
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1 / p[0].numel() if p.dim() > 1 else 0.0)
    return net.double().eval()


def call(calls: list[Call], name: str, index: int = 0, path: tuple = ()) -> Call:
    (found,) = [c for c in calls if (c.name, c.index, c.path) == (name, index, path)]
    return found


def checked(net: nn.Module, shape: tuple[int, ...], name: str = "end", phases: int = 1, cell: tuple[int, ...] | None = None) -> Layout:
    """Compare stride * u + offset with the centroid of the gradient of a block of ``phases`` cells per axis around the middle."""
    x = torch.ones(1, *shape, dtype=torch.float64)
    layout = call(trace(uniform(net), x), name).layout
    assert layout.affine
    assert max(layout.spread) == 0
    kept = {}
    handle = net.get_submodule(name).register_forward_hook(lambda m, a, out: kept.update(z=out))
    x.requires_grad_()
    net(x)
    handle.remove()
    z = layout.to_map(kept["z"])
    assert tuple(z.shape[2:]) == layout.space
    start = cell or tuple((n - phases) // 2 for n in layout.space)
    block = z[(0, slice(None), *(slice(u, u + phases) for u in start))]
    (g,) = torch.autograd.grad(block.sum(), x)
    g = g[0].sum(0)
    for axis, u in enumerate(start):
        mass = g.sum([d for d in range(g.dim()) if d != axis])
        centroid = float((mass * torch.arange(len(mass))).sum() / mass.sum())
        expected = layout.stride[axis] * (u + (phases - 1) / 2) + layout.offset[axis]
        assert centroid == pytest.approx(expected, abs=1e-6), (axis, layout)
    return layout


def random_net(seed: int, dims: int) -> tuple[nn.Module, int]:
    """A linear net of windows, cuts, pads, transposed steps and skip connections; its cells repeat with the phases returned."""
    r = random.Random(seed)
    conv, up, pool = (getattr(nn, f"{kind}{dims}d") for kind in ("Conv", "ConvTranspose", "AvgPool"))
    parts, phases, c = [], 1, 2
    for _ in range(r.randint(2, 4) if dims == 2 else 2):
        kind = r.choice(["conv", "conv", "pool", "skip", "up", "pad", "cut", "dense"])
        k, s, d = r.choice([1, 2, 3, 5]), r.choice([1, 2]), r.choice([1, 2])
        s = s if phases == 1 else 1  # a stride after an enlargement would pick one of its phases; the formula gives their mean
        if kind == "conv":
            parts.append(conv(c, 3, k, s, padding=r.randint(0, 2), dilation=d))
            c = 3
        elif kind == "pool":
            parts.append(pool(k, s, padding=k // 3))
        elif kind == "skip":  # a shortcut of kernel 1 and its main path agree
            main = nn.Sequential(conv(c, 3, 3, s, padding=d, dilation=d), conv(3, 3, 5, padding="same"))
            parts.append(Net(lambda m, x: m.main(x) + m.short(x), main=main, short=conv(c, 3, 1, s)))
            c = 3
        elif kind == "up":
            parts.append(up(c, 2, 2 * r.choice([1, 2]), 2, padding=r.randint(0, 1)))
            phases, c = 2 * phases, 2
        elif kind == "pad":
            widths = [r.randint(0, 3) for _ in range(2 * dims)]
            parts.append(Net(lambda m, x, w=widths: F.pad(x, w)))
        elif kind == "cut":
            start = r.randint(0, 3)
            parts.append(Net(lambda m, x, a=start, s=s, d=dims: x[(slice(None), slice(None), *[slice(a, None, s)] * d)]))
        else:
            parts.append(Net(lambda m, x: torch.cat([x, m.new(x)], 1), new=conv(c, 2, 3, padding=1)))
            c += 2
    return nn.Sequential(*parts, nn.Identity()), phases


@pytest.mark.parametrize(("dims", "seed"), [*((2, seed) for seed in range(24)), *((3, seed) for seed in range(8))])
def test_random_nets_look_where_the_formula_says(seed, dims):
    net, phases = random_net(seed, dims)
    checked(net, (2, *((97, 90) if dims == 2 else (34, 33, 35))), str(len(net) - 1), phases)


def residual(width=2, dims=2, relu=True):
    conv = getattr(nn, f"Conv{dims}d")

    def block(c, s):
        body = {"relu": nn.ReLU(inplace=True)} if relu else {}
        short = conv(c, width, 1, s) if s > 1 or c != width else nn.Identity()
        two = nn.Sequential(conv(c, width, 3, s, 1), conv(width, width, 3, 1, 1))
        return Net(lambda m, x: m.relu(m.two(x) + m.short(x)) if relu else m.two(x) + m.short(x), two=two, short=short, **body)

    def layer(s):
        return nn.Sequential(block(width, s), block(width, 1))

    pool = getattr(nn, f"{'Max' if relu else 'Avg'}Pool{dims}d")(3, 2, 1)
    stem = nn.Sequential(conv(1, width, 7, 2, 3), pool)
    return nn.Sequential(stem, layer(1), layer(2), layer(2), layer(2))


@pytest.mark.parametrize(("dims", "shape"), [(2, (1, 448, 448)), (3, (1, 448, 16, 16))])
def test_cell_u_of_a_residual_trunk_looks_at_pixel_32_u_exactly(dims, shape):
    net = residual(1, dims, relu=False)
    x = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    layout = call(trace(uniform(net), x), "4").layout
    assert layout.stride == (32.0,) * dims
    assert layout.offset == (0.0,) * dims
    (g,) = torch.autograd.grad(net(x)[0, :, 7].sum(), x)  # the last axes end in padding; the centroid along the first tells
    mass = g[0, 0].flatten(1).sum(1)
    assert float((mass * torch.arange(448)).sum() / mass.sum()) == pytest.approx(32 * 7, abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_vgg_trunk_looks_at_the_middle_of_its_window(k):
    net = nn.Sequential(*[m for i in range(k) for m in (nn.Conv2d(1 if i == 0 else 2, 2, 3, padding=1), nn.AvgPool2d(2))])
    layout = checked(net, (1, 256, 224), str(2 * k - 1))
    assert layout.stride == (2.0**k,) * 2
    assert layout.offset == ((2**k - 1) / 2,) * 2


def test_moving_the_input_by_one_stride_moves_the_map_by_one_cell():
    torch.manual_seed(0)
    net = residual(3).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=(2 / p[0].numel()) ** 0.5) if p.dim() > 1 else p.zero_()
    x = torch.rand(1, 1, 736, 64)
    layout = call(trace(net, x[:, :, :704]), "4").layout
    stride = int(layout.stride[0])
    with torch.no_grad():
        a, b = net(x[:, :, :704]), net(x[:, :, stride : 704 + stride])
    assert torch.allclose(a[:, :, 9:13], b[:, :, 8:12], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(a[:, :, 9:13], b[:, :, 9:13], rtol=1e-2, atol=1e-2)


# -- single operations -------------------------------------------------------------------------------------------------------


def shuffled(x, r):
    n, c, h, w = x.shape
    return x.view(n, c // (r * r), r, r, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // (r * r), h * r, w * r)


def patches(x, p):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // p, p, w // p, p).permute(0, 2, 4, 3, 5, 1).flatten(1, 2).flatten(2)


def windows_and_back(x, w):
    n, c, h, v = x.shape
    parts = x.permute(0, 2, 3, 1).view(n, h // w, w, v // w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, c)
    return parts.view(n, h // w, v // w, w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, v, c)


OPERATIONS = {
    "bilinear": (lambda m, x: F.interpolate(x, scale_factor=2, mode="bilinear"), 2),
    "bilinear down": (lambda m, x: F.interpolate(x, (8, 12), mode="bilinear"), 1),
    "nearest": (lambda m, x: F.interpolate(x, scale_factor=(2, 3)), 6),
    "nearest down": (lambda m, x: F.interpolate(x, (8, 12)), 1),
    "nearest-exact": (lambda m, x: F.interpolate(x, (8, 12), mode="nearest-exact"), 1),
    "corners": (lambda m, x: F.interpolate(x, (47, 71), mode="bilinear", align_corners=True), 2),
    "area": (lambda m, x: F.interpolate(x, (8, 12), mode="area"), 1),
    "aten bilinear": (lambda m, x: torch.ops.aten.upsample_bilinear2d.vec(x, [47, 71], True, None), 2),
    "adaptive": (lambda m, x: F.adaptive_avg_pool2d(x, (6, 4)), 1),
    "pixel shuffle": (lambda m, x: F.pixel_shuffle(x, 2), 2),
    "pixel shuffle by view": (lambda m, x: shuffled(x, 2), 2),
    "pixel unshuffle": (lambda m, x: F.pixel_unshuffle(x, 3), 1),
    "space to depth": (lambda m, x: torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1), 1),
    "patches by view": (lambda m, x: patches(x, 4), 1),
    "windows": (lambda m, x: windows_and_back(x, 4), 1),
    "unfold": (lambda m, x: F.unfold(x, 3, dilation=2, padding=1, stride=2), 1),
    "unfold and fold": (lambda m, x: F.fold(F.unfold(x, 2, stride=2), (24, 36), 2, stride=2), 1),
    "Tensor.unfold": (lambda m, x: x.unfold(2, 4, 2).sum(-1), 1),
    "flip": (lambda m, x: x.flip(2, 3), 1),
    "negative pad": (lambda m, x: F.pad(x, (-2, -1, 3, 0)), 1),
    "narrow": (lambda m, x: x.narrow(2, 5, 9)[..., 3:], 1),
    "chunk": (lambda m, x: torch.chunk(x, 3, dim=3)[1], 1),
    "cat along space": (lambda m, x: torch.cat([x[:, :, :10], x[:, :, 10:]], 2), 1),
    "zeros in front": (lambda m, x: torch.cat([x.new_zeros(1, 4, 3, 36), x], 2), 1),
    "channels last": (lambda m, x: x.movedim(1, -1) * 2, 1),
    "tokens": (lambda m, x: x.flatten(2).transpose(1, 2) + 1, 1),
    "tokens and back": (lambda m, x: x.flatten(2).mT.mT.unflatten(2, (24, 36)), 1),
    "rows and columns swapped": (lambda m, x: x.transpose(2, 3), 1),
    "twice": (lambda m, x: F.conv2d(F.avg_pool2d(x, 3, 2, 1), torch.ones(2, 4, 3, 1).double(), stride=(2, 1), padding=(1, 0)), 1),
    "lp": (lambda m, x: F.lp_pool2d(x, 1.0, 3, 2), 1),
    "in place": (lambda m, x: (x * 1).add_(x).mul_(2)[:, :, 1:].clamp_(min=0), 1),
    "aten": (lambda m, x: torch.ops.aten.slice.Tensor(torch.ops.aten.avg_pool2d.default(x, [3, 3], [2, 2], [1, 1]), 2, 1), 1),
    "list": (lambda m, x: torch.stack([x, x], 1).unbind(1)[0].split([1, 3], 1)[1], 1),
    "squeeze": (lambda m, x: x[:, :, None].squeeze(2).unsqueeze(0)[0], 1),
    "linear": (lambda m, x: F.linear(x.permute(0, 2, 3, 1), torch.ones(5, 4).double()), 1),
    "einsum": (lambda m, x: torch.einsum("nchw,kc->nhwk", x, torch.ones(3, 4).double()), 1),
    "matmul": (lambda m, x: (torch.ones(3, 4).double() @ x.flatten(2)).view(1, 3, 24, 36), 1),
    "gated": (lambda m, x: x * x.mean((2, 3), keepdim=True).detach(), 1),
    "pooled branch": (lambda m, x: x + F.interpolate(F.adaptive_avg_pool2d(x, 1), (24, 36), mode="bilinear").detach(), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_moves_cells_where_its_gradient_is(name):
    forward, phases = OPERATIONS[name]
    checked(Net(forward), (4, 24, 36), phases=phases)


def test_max_pools_and_their_reversal_lie_where_averages_do():
    def at(forward):
        return call(trace(Net(forward), torch.rand(1, 2, 24, 30)), "end").layout

    average = at(lambda m, x: F.avg_pool2d(x, 3, 2, 1))
    assert at(lambda m, x: F.max_pool2d(x, 3, 2, 1)) == average
    assert at(lambda m, x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[0]) == average
    assert at(lambda m, x: torch.ops.aten.max_pool2d.default(x, [3, 3], [2, 2], [1, 1])) == average
    undone = at(lambda m, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2))
    assert (undone.stride, undone.offset) == ((1.0, 1.0), (0.0, 0.0))


@pytest.mark.filterwarnings("ignore::FutureWarning:torch")
@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")
def test_modules_functions_and_exported_programs_agree():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(True), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3)).eval()
    x = torch.rand(1, 1, 65, 71)
    exported = torch.export.unflatten(torch.export.export(net, (x,)))
    ours, theirs = ({c.name: (c.shape, c.layout) for c in trace(n, x)} for n in (net, exported))
    assert {k: theirs[k] for k in "01234"} == {k: ours[k] for k in "01234"}
    assert ours["4"][1].stride == (4.0, 4.0)


def test_paths_that_disagree_are_said_to_disagree():
    def end(forward):
        return call(trace(Net(forward), torch.rand(1, 2, 24, 24)), "end").layout

    far = end(lambda m, x: x[:, :, 3:] + x[:, :, :-3])
    assert far.kind == "channels_first"
    assert not far.affine
    assert far.stride is None
    assert far.offset is None
    assert not end(lambda m, x: x[:, :, ::2] + x[:, :, :12]).affine
    near = end(lambda m, x: F.avg_pool2d(x, 2) + x[:, :, ::2, ::2])  # ResNet-D: half a pixel apart at stride 2
    assert near.affine
    assert (near.stride, near.offset, near.spread) == ((2.0, 2.0), (0.25, 0.25), (0.25, 0.25))
    assert not end(lambda m, x: F.grid_sample(x, torch.zeros(1, 24, 24, 2), align_corners=False)).affine
    assert not end(lambda m, x: torch.fft.fft2(x).real).affine
    assert not end(lambda m, x: x.sort(2)[0]).affine


def test_a_tensor_that_does_not_come_from_the_image_has_no_place():
    table = nn.Linear(2, 8)
    calls = trace(Net(lambda m, x: x + m.table(torch.rand(1, 5, 5, 2)).mean(), table=table), torch.rand(1, 3, 5, 5))
    assert call(calls, "table").layout.kind == "unknown"
    assert call(calls, "end").layout.affine


def test_a_hidden_operation_keeps_the_shape_but_not_the_claim():
    class Hidden(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return torch.from_numpy(x.numpy()[:, :, ::2, ::2].copy())

    calls = trace(Net(lambda m, x: m.part(x), part=Net(lambda m, x: Hidden.apply(x))), torch.rand(1, 3, 8, 8))
    layout = call(calls, "part").layout
    assert (layout.kind, layout.affine, layout.space, layout.channel) == ("channels_first", False, (4, 4), 1)


# -- layouts -----------------------------------------------------------------------------------------------------------------


def layouts():
    a, b, c = Axis(0, 2.0, 0.0), Axis(1, 2.0, 0.0), Axis(2, 2.0, 0.0)
    yield Layout("channels_first", ("batch", "channel", a, b), 1, (3, 4)), (5, 3, 4)
    yield Layout("channels_first", ("batch", "channel", b, a), 1, (3, 4)), (5, 4, 3)
    yield Layout("channels_last", ("batch", a, b, c, "channel"), 4, (3, 4, 2)), (3, 4, 2, 5)
    yield Layout("channels_first", ("batch", a, b), None, (3, 4)), (3, 4)
    yield Layout("tokens", ("batch", Tokens((a, b), (3, 4), 2), "channel"), 2, (3, 4)), (2 + 12 + 1, 5)
    yield Layout("tokens", ("batch", "channel", Tokens((a, b, c), (3, 4, 2), 0)), 1, (3, 4, 2)), (5, 24)


@pytest.mark.parametrize(("layout", "dims"), list(layouts()), ids=lambda v: str(getattr(v, "kind", v)))
def test_maps_go_there_and_back(layout, dims):
    z = torch.rand(2, *dims)
    m = layout.to_map(z)
    assert tuple(m.shape) == (2, 1 if layout.channel is None else 5, *layout.space)
    assert torch.equal(layout.from_map(m, z), z)
    changed = layout.from_map(m + 1, z)
    assert changed.shape == z.shape
    assert (changed != z).sum() == m.numel()


def test_a_vector_has_channels_and_no_space():
    layout = call(trace(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), torch.rand(1, 3, 2, 2)), "1").layout
    assert (layout.kind, layout.channel, layout.space, layout.affine) == ("vector", 1, None, False)
    z = torch.rand(2, 4)
    assert torch.equal(layout.from_map(layout.to_map(z), z), z)


class Block(nn.Module):
    """Pre-norm transformer block, attention in one of the ways people write it."""

    def __init__(self, way, c=8, heads=2):
        super().__init__()
        self.norm, self.qkv, self.out, self.mlp = nn.LayerNorm(c), nn.Linear(c, 3 * c), nn.Linear(c, c), nn.Linear(c, c)
        self.attention = nn.MultiheadAttention(c, heads, batch_first=True)
        self.way, self.heads = way, heads

    def mix(self, x):
        if self.way == "module":
            return self.attention(x, x, x, need_weights=False)[0]
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if self.way == "sdpa":
            y = F.scaled_dot_product_attention(q, k, v)
        elif self.way == "einsum":
            y = torch.einsum("bhxy,bhyd->bhxd", torch.einsum("bhxd,bhyd->bhxy", q, k).softmax(-1), v)
        else:
            y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(n, t, c))

    def forward(self, x):
        x = x + self.mix(self.norm(x))
        return x + F.gelu(self.mlp(x))


class ViT(nn.Module):
    def __init__(self, way="sdpa", skip=1, dims=2, read="class"):
        super().__init__()
        self.patch = getattr(nn, f"Conv{dims}d")(1, 8, 4, 4)
        self.first = nn.Parameter(torch.rand(1, skip, 8))
        self.blocks = nn.Sequential(*(Block(way) for _ in range(3)))
        self.norm, self.head, self.read = nn.LayerNorm(8), nn.Linear(8, 3), read

    def forward(self, x):
        z = self.patch(x).flatten(2).transpose(1, 2)
        z = torch.cat([self.first.expand(len(x), -1, -1), z], 1)
        z = self.norm(self.blocks(z + torch.rand(1, z.shape[1], 8)))
        return self.head(z[:, 0] if self.read == "class" else z[:, self.first.shape[1] :].mean(1))


@pytest.mark.parametrize("way", ["module", "sdpa", "einsum", "matmul"])
@pytest.mark.parametrize(("dims", "space"), [(2, (5, 4)), (3, (3, 2, 4))])
def test_transformers_keep_their_tokens_in_place(way, dims, space):
    calls = trace(ViT(way, skip=3, dims=dims).eval(), torch.rand(1, 1, *(4 * n for n in space)))
    for name in ("blocks.0", "blocks.1.norm", "norm"):
        layout = call(calls, name).layout
        assert (layout.kind, layout.space, layout.affine) == ("tokens", space, True)
        assert layout.tags[1].skip == 3
        assert layout.stride == (4.0,) * dims
        assert layout.offset == (1.5,) * dims


@pytest.mark.parametrize("way", ["module", "sdpa", "einsum", "matmul"])
@pytest.mark.parametrize(("read", "expected"), [("class", "blocks.2.norm"), ("mean", "norm")])
def test_auto_takes_the_last_tokens_that_the_head_hears(way, read, expected):
    net = ViT(way, read=read).eval()
    x = torch.rand(2, 1, 16, 16)
    chosen = pick_auto(trace(net, x[:1]), (16, 16))
    if way != "module" and read == "class":
        expected = "blocks.1"  # here the block itself mixes: what went into it is the last that is surely heard
    assert chosen.name == expected
    heard = {}
    for name in (expected, "norm"):
        kept = {}
        handle = net.get_submodule(name).register_forward_hook(lambda m, a, out, kept=kept: kept.update(z=out))
        out = net(x)
        handle.remove()
        (g,) = torch.autograd.grad(out[:, 0].sum(), kept["z"])
        heard[name] = float(chosen.layout.to_map(g).abs().max())
    assert heard[expected] > 0
    if read == "class":
        assert heard["norm"] == 0  # a map taken there would be empty


# -- auto, calls, hygiene ----------------------------------------------------------------------------------------------------


def auto(net, *space, channels=1):
    return pick_auto(trace(net.eval(), torch.rand(1, channels, *space)), space)


def head(c=3):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 2))


def test_auto_is_the_outermost_name_of_the_last_map_before_the_head():
    net = nn.Sequential()
    net.add_module("trunk", residual(3))
    net.add_module("head", head())
    chosen = auto(net, 128, 96)
    assert (chosen.name, chosen.index, chosen.shape) == ("trunk", 0, (1, 3, 4, 3))
    assert call(trace(net, torch.rand(1, 1, 128, 96)), "trunk.4.1.relu").value == chosen.value


def test_auto_passes_over_gates_and_pools_to_a_fixed_grid():
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Sigmoid())
    gated = Net(lambda m, x: m.last(m.conv(x) * m.gate(m.conv(x))), conv=nn.Conv2d(1, 3, 3), gate=gate, last=nn.Conv2d(3, 3, 3))
    assert auto(nn.Sequential(gated, head()), 20, 20).name == "0"
    vgg = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(147, 2))
    assert auto(vgg, 30, 30).name == "0"


def test_auto_of_a_dense_net_is_the_bottleneck():
    def forward(m, x):
        a = m.enter(x)
        b = m.bottom(F.max_pool2d(a, 2))
        return m.out(torch.cat([a, F.interpolate(m.scores(b), a.shape[2:])], 1))

    parts = {
        "enter": nn.Conv2d(1, 3, 3, padding=1),
        "bottom": nn.Conv2d(3, 5, 3, padding=1),
        "scores": nn.Conv2d(5, 2, 1),
        "out": nn.Conv2d(5, 2, 1),
    }
    assert auto(Net(forward, **parts), 16, 16).name == "bottom"


def test_auto_says_when_there_is_no_map():
    with pytest.raises(BadSite, match="Name a site"):
        auto(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), 4, 4)


def test_a_flat_axis_of_the_image_does_not_rule_out_a_site():
    net = nn.Sequential(nn.Conv3d(1, 3, (1, 3, 3)), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2))
    assert auto(net, 1, 9, 9).name == "0"
    squashed = nn.Sequential(nn.Conv3d(1, 3, 3), nn.Conv3d(3, 3, (3, 1, 1)), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, 2))
    assert auto(squashed, 5, 9, 9).name == "0"  # after the second the depth is one cell


def test_reused_modules_and_nested_outputs_are_told_apart():
    class Many(nn.Module):
        def forward(self, x):
            return {"deep": [x, (x + 1)[:, :, ::2]], "flat": x.mean((2, 3))}

    net = Net(lambda m, x: m.many(m.relu(m.conv(m.relu(x)))), relu=nn.ReLU(), conv=nn.Conv2d(2, 3, 2, 2), many=Many())
    calls = trace(net, torch.rand(1, 2, 8, 8))
    assert [c.name for c in calls][:4] == ["relu", "conv", "relu", "many"]
    assert call(calls, "relu", 1).layout.stride == (2.0, 2.0)
    assert call(calls, "many", 0, ("deep", 1)).layout.stride == (4.0, 2.0)
    assert call(calls, "many", 0, ("flat",)).layout.kind == "vector"
    assert call(calls, "many", 0, ("deep", 0)).value == call(calls, "relu", 1).value
    assert call(calls, "", 0, ("flat",)).value == call(calls, "many", 0, ("flat",)).value


def test_the_network_and_the_input_stay_as_they_were():
    net = residual(2).eval()
    net.add_module("crash", Net(lambda m, x: 1 / 0))
    x = torch.rand(1, 1, 64, 64, requires_grad=True)
    before = {k: (v.clone(), v._version) for k, v in net.state_dict(keep_vars=True).items()}
    with pytest.raises(ZeroDivisionError):
        trace(net, x)
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._forward_hooks_with_kwargs for m in net.modules())
    assert all(torch.equal(v, before[k][0]) and v._version == before[k][1] for k, v in net.state_dict(keep_vars=True).items())
    assert x.requires_grad
    assert x.grad is None
    assert set(vars(x)) == set()
    assert not torch.overrides._get_current_function_mode_stack()
    assert torch.is_grad_enabled()


def test_a_caller_in_inference_mode_is_served():
    net = residual(2).eval()
    with torch.inference_mode():
        calls = trace(net, torch.rand(1, 1, 64, 64))
    assert call(calls, "4").layout.stride == (32.0, 32.0)


# -- networks people use: traced on the meta device (no numbers are computed) ------------------------------------------------

NETWORKS = {
    "alexnet": ("features", "channels_first", (6, 6), 32, 31),
    "vgg16": ("features", "channels_first", (7, 7), 32, 15.5),
    "resnet50": ("layer4", "channels_first", (7, 7), 32, 0),
    "densenet121": ("features", "channels_first", (7, 7), 32, 14),
    "inception_v3": ("Mixed_7c", "channels_first", (5, 5), 32, 37),
    "efficientnet_b0": ("features", "channels_first", (7, 7), 32, 0),
    "mobilenet_v3_large": ("features", "channels_first", (7, 7), 32, 0),
    "convnext_tiny": ("features", "channels_first", (7, 7), 32, 15.5),
    "vit_b_16": ("encoder.layers.encoder_layer_11.ln_1", "tokens", (14, 14), 16, 7.5),
    "swin_t": ("permute", "channels_first", (7, 7), 32, 15.5),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvision_networks(name):
    models = pytest.importorskip("torchvision.models")
    site, kind, space, stride, offset = NETWORKS[name]
    more = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        net = getattr(models, name)(weights=None, **more).eval()
        calls = trace(net, torch.empty(1, 3, 224, 224))
    chosen = pick_auto(calls, (224, 224))
    layout = chosen.layout
    assert (chosen.name, layout.kind, layout.space) == (site, kind, space)
    assert (layout.stride, layout.offset, layout.spread) == ((stride,) * 2, (offset,) * 2, (0.0, 0.0))


def test_every_block_of_a_window_transformer_recovers_its_places():
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        calls = trace(models.swin_t(weights=None).eval(), torch.empty(1, 3, 224, 224))
    assert all(c.layout.affine for c in calls if c.layout.kind != "vector")
    assert {c.layout.stride[0] for c in calls if c.layout.kind == "channels_last"} == {4.0, 8.0, 16.0, 32.0}


MONAI = {
    "DenseNet": ((3, 1, 2, 8, 4, (2, 2, 2, 2)), {}, (64, 64, 64), "class_layers.relu", "channels_first", (2, 2, 2), 32, 14),
    "UNet": ((3, 1, 2, (4, 8, 16), (2, 2)), {"num_res_units": 1}, (32, 32, 32), "model.1.submodule.1", "channels_first", (8, 8, 8), 4, 0),
    "resnet10": ((), {"n_input_channels": 1, "num_classes": 2}, (64, 64, 32), "layer4", "channels_first", (4, 4, 2), 16, 0),
    "BasicUNet": ((3, 1, 2, (4, 4, 4, 4, 4, 4)), {}, (32, 32, 32), "down_4", "channels_first", (2, 2, 2), 16, 7.5),
    "ViT": (
        (1, (32, 32, 48), (16, 16, 16), 12, 12, 2, 2), {"classification": True}, (32, 32, 48), "blocks.1.norm1", "tokens", (2, 2, 3), 16, 7.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MONAI)
@pytest.mark.filterwarnings("ignore")
def test_monai_networks_in_3d(name):
    nets = pytest.importorskip("monai.networks.nets")
    if name == "ViT":
        pytest.importorskip("einops")
    args, named, shape, site, kind, space, stride, offset = MONAI[name]
    calls = trace(getattr(nets, name)(*args, **named).eval(), torch.rand(1, 1, *shape))
    chosen = pick_auto(calls, shape)
    layout = chosen.layout
    assert (chosen.name, layout.kind, layout.space) == (site, kind, space)
    assert layout.stride == pytest.approx((stride,) * 3)
    assert layout.offset == pytest.approx((offset,) * 3)


def test_tokens_are_found_by_shape_where_tags_are_lost():
    def forward(m, x):
        z: Tensor = m.patch(x).flatten(2).mT
        return m.seen(torch.cat([z.new_zeros(1, 2, 4), z], 1).sort(1)[0])

    calls = trace(Net(forward, patch=nn.Conv2d(1, 4, 4, 4), seen=nn.Identity()), torch.rand(1, 1, 16, 12))
    layout = call(calls, "seen").layout
    assert (layout.kind, layout.space, layout.tags[1].skip, layout.affine) == ("tokens", (4, 3), 2, False)
    assert layout.to_map(torch.rand(3, 14, 4)).shape == (3, 4, 4, 3)
    assert math.isnan(layout.tags[1].axes[0].stride)


def test_a_padding_has_a_grid_but_no_features_of_its_own():
    """EfficientNet in 3D pads one last cell to 3^3 before its depthwise convolution: the map of that site says the same for every class."""
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AvgPool2d(6), nn.ZeroPad2d(1), nn.Conv2d(3, 3, 3), head())
    assert auto(net, 8, 8).name == "0"
    cropped = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ZeroPad2d(-1), head())
    assert auto(cropped, 8, 8).name == "1"
