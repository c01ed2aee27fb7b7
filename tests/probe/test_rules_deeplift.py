"""DeepLIFT's rules, operation by operation and spelling by spelling: each carries the whole difference, with bounded multipliers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import pellucid as pl
from pellucid.probe.rules.differences import closed, corner_at_zero, multiplier


def by_parts(z):
    z = z.clone()
    z[:, :2] = F.relu(z[:, :2])
    z[:, 2:].relu_()
    return z


ONES = {
    "relu": F.relu,
    "relu module in place": nn.ReLU(inplace=True),
    "relu_": lambda z: z.relu_(),
    "relu aten": torch.ops.aten.relu.default,
    "relu aten in place": torch.ops.aten.relu_.default,
    "relu on a view": lambda z: (F.relu(z.view(z.shape[0], -1), inplace=True), z)[1],
    "relu of a part": lambda z: torch.cat([z[:, :2].relu(), z[:, 2:]], 1),
    "part written": by_parts,
    "relu of relu": lambda z: F.relu(F.relu(z) - 0.2),
    "relu and sigmoid": lambda z: torch.sigmoid(F.relu(z)),
    "relu6": lambda z: F.relu6(z * 4),
    "leaky_relu": lambda z: F.leaky_relu(z, 0.2),
    "leaky_relu_": lambda z: F.leaky_relu_(z, 0.2),
    "prelu": lambda z: F.prelu(z, torch.linspace(0.1, 0.4, 4, dtype=z.dtype)),
    "rrelu": F.rrelu,
    "elu": F.elu,
    "elu_": lambda z: F.elu(z, 0.7, inplace=True),
    "selu": F.selu,
    "celu": lambda z: F.celu(z, 0.7),
    "gelu": F.gelu,
    "gelu tanh": lambda z: F.gelu(z, approximate="tanh"),
    "silu": F.silu,
    "silu in place": nn.SiLU(inplace=True),
    "silu aten": torch.ops.aten.silu.default,
    "swish by hand": lambda z: z * torch.sigmoid(z),
    "mish": F.mish,
    "softplus": lambda z: F.softplus(z, beta=3),
    "hardswish": nn.Hardswish(inplace=True),
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": lambda z: F.hardtanh(z, -0.3, 0.5),
    "hardshrink": lambda z: F.hardshrink(z, 0.1),
    "softshrink": lambda z: F.softshrink(z, 0.1),
    "tanhshrink": F.tanhshrink,
    "softsign": F.softsign,
    "threshold": lambda z: F.threshold(z, 0.1, 0.0),
    "sigmoid": lambda z: z.sigmoid(),
    "sigmoid_": lambda z: z.sigmoid_(),
    "special expit": torch.special.expit,
    "sigmoid aten": torch.ops.aten.sigmoid.default,
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "exp2": torch.exp2,
    "log": lambda z: (z.square() + 0.1).log(),
    "log1p": lambda z: torch.log1p(z.abs()),
    "log2": lambda z: torch.log2(z.abs() + 0.1),
    "log10": lambda z: torch.log10(z.abs() + 0.1),
    "sqrt": lambda z: (z.square() + 0.1).sqrt(),
    "rsqrt": lambda z: (z.square() + 0.1).rsqrt(),
    "square": torch.square,
    "square_": lambda z: z.square_(),
    "abs": abs,
    "abs_": lambda z: z.abs_(),
    "reciprocal": lambda z: (z.abs() + 0.1).reciprocal(),
    "rdiv": lambda z: 2 / (z.abs() + 0.1),
    "rsub": lambda z: 1 - z.relu(),
    "sin and cos": lambda z: z.sin() + z.cos(),
    "erf": torch.erf,
    "pow 2": lambda z: z**2,
    "pow_": lambda z: z.clone().pow_(2),
    "pow 3": lambda z: torch.pow(z, 3),
    "pow -2": lambda z: (z.abs() + 0.5) ** -2,
    "pow 1.7": lambda z: z.abs().pow(1.7),
    "pow of 2": lambda z: 2**z,
    "clamp": lambda z: z.clamp(-0.2, 0.3),
    "clamp_": lambda z: z.clamp_(min=0.0),
    "clamp min": lambda z: torch.clamp_min(z, 0.1),
    "clip": lambda z: torch.clip(z, max=0.2),
    "glu": lambda z: F.glu(torch.cat([z, z.flip(1)], 1), 1),
    "glu module": lambda z: nn.GLU(1)(torch.cat([z, z.flip(1)], 1)),
    "max_pool2d": lambda z: F.max_pool2d(z, 2),
    "max_pool2d strided": lambda z: F.max_pool2d(z, 3, 2, 1, ceil_mode=True),
    "max_pool2d dilated": lambda z: nn.MaxPool2d(2, 1, dilation=2)(z),
    "max_pool2d torch": lambda z: torch.max_pool2d(z, [2, 2]),
    "max_pool2d aten": lambda z: torch.ops.aten.max_pool2d.default(z, [2, 2]),
    "max_pool2d with indices": lambda z: F.max_pool2d(z, 2, return_indices=True)[0],
    "max_pool1d": lambda z: F.max_pool1d(z.flatten(2), 3),
    "max_pool3d": lambda z: F.max_pool3d(z[:, None], 2)[:, 0],
    "adaptive_max_pool2d": lambda z: F.adaptive_max_pool2d(z, (2, 3)),
    "adaptive_max_pool1d": lambda z: F.adaptive_max_pool1d(z.flatten(2), 4),
    "relu and max_pool": lambda z: F.max_pool2d(F.relu(z), 2),
    "max_pool and relu": lambda z: F.relu(F.max_pool2d(z, 2)),
    "max dim": lambda z: z.max(1, keepdim=True)[0].expand_as(z),
    "max all": lambda z: z * 0.1 + z.max(),
    "amax": lambda z: z.amax((2, 3)),
    "min dim": lambda z: torch.min(z, 2)[0],
    "amin": lambda z: torch.amin(z, dim=-1),
    "maximum": lambda z: torch.maximum(z, z.flip(1)),
    "max of two": lambda z: torch.max(z, z.flip(2)),
    "minimum of a constant": lambda z: torch.minimum(z, torch.tensor(0.2, dtype=z.dtype)),
    "maxout": lambda z: z.view(z.shape[0], 2, 2, *z.shape[2:]).amax(2),
    "mul": lambda z: z * z.flip(1),
    "mul_": lambda z: z.clone().mul_(z.flip(1)),
    "multiply": lambda z: torch.multiply(z, z.mean((2, 3), keepdim=True)),
    "itself": lambda z: z * z,
    "gate": lambda z: z * torch.sigmoid(z.mean((2, 3), keepdim=True)),
    "div": lambda z: z / (z.abs().mean(1, keepdim=True) + 0.1),
    "div aten": lambda z: torch.ops.aten.div.Tensor(z, 1 + z.square()),
    "div of two signs": lambda z: z.sigmoid() / (z.mean() + torch.linspace(-1, 1, 4, dtype=z.dtype).view(4, 1, 1)),
    "addcmul": lambda z: torch.addcmul(z, z, z.flip(1), value=0.5),
    "addcdiv spelled": lambda z: z + z.flip(1) / (1 + z.square()),
    "lerp": lambda z: torch.lerp(z, z.flip(1), z.sigmoid()),
    "matmul": lambda z: z @ z.transpose(-2, -1),
    "bmm": lambda z: torch.bmm(z.flatten(2), z.flatten(2).transpose(1, 2)),
    "baddbmm": lambda z: torch.baddbmm(z[:, :, :, 0].mean(), z.flatten(2), z.flatten(2).transpose(1, 2)),
    "einsum": lambda z: torch.einsum("ncij,ndij->ncd", z, z.exp()),
    "einsum of three": lambda z: torch.einsum("ncij,ndij,nci->nd", z, z.sigmoid(), z.mean(3)),
    "einsum with a constant": lambda z: torch.einsum("ncij,cd->ndij", z.relu(), torch.eye(4, dtype=z.dtype)),
    "conv by live weight": lambda z: F.conv2d(z, z[0, :, None, :3, :3], groups=4),
    "linear by live weight": lambda z: F.linear(z.flatten(2), z[0].flatten(1)),
    "softmax": lambda z: F.softmax(z * 9, 1),
    "softmax method": lambda z: z.softmax(dim=-1),
    "softmax aten": lambda z: torch.ops.aten.softmax.int(z, 1),
    "softmin": lambda z: F.softmin(z, 1),
    "softmax2d": nn.Softmax2d(),
    "log_softmax": lambda z: F.log_softmax(z * 5, 1) / 4,
    "logsumexp": lambda z: torch.logsumexp(z * 4, (2, 3)),
    "logsumexp kept": lambda z: z.logsumexp(1, keepdim=True),
    "attention": lambda z: F.scaled_dot_product_attention(6 * z.flatten(2), z.flatten(2), z.flatten(2).sin()),
    "causal attention": lambda z: F.scaled_dot_product_attention(z, z, z, is_causal=True, scale=2.0),
    "masked attention": lambda z: F.scaled_dot_product_attention(z, z, z, torch.ones(5, 5, dtype=torch.bool).tril()),
    "attention with bias": lambda z: F.scaled_dot_product_attention(z, z, z, torch.linspace(0, 1, 25, dtype=z.dtype).view(5, 5)),
    "masked softmax": lambda z: z.masked_fill(torch.eye(5, dtype=torch.bool), -torch.inf).softmax(-1),
    "normalize": lambda z: F.normalize(z, dim=1),
    "normalize l1": lambda z: F.normalize(z, p=1.0, dim=1),
    "vector_norm": lambda z: torch.linalg.vector_norm(z, dim=(2, 3)),
    "norm method": lambda z: z.norm(dim=1),
    "layer_norm": lambda z: F.layer_norm(z, (5, 5), torch.linspace(0.5, 2, 25, dtype=z.dtype).view(5, 5)),
    "layer_norm of channels": lambda z: nn.LayerNorm(4, dtype=z.dtype).requires_grad_(False)(z.permute(0, 2, 3, 1)),
    "rms_norm": lambda z: F.rms_norm(z, (5,)),
    "group_norm": lambda z: F.group_norm(z, 2, torch.tensor([1.0, -2.0, 0.5, 1.0], dtype=z.dtype), torch.ones(4, dtype=z.dtype)),
    "instance_norm": lambda z: F.instance_norm(z, weight=torch.tensor([1.0, -2.0, 0.5, 1.0], dtype=z.dtype)),
    "batch_norm": nn.BatchNorm2d(4, dtype=torch.float64).eval(),
    "batch_norm without statistics": nn.BatchNorm2d(4, track_running_stats=False, dtype=torch.float64),
    "instance_norm with statistics": nn.InstanceNorm2d(4, affine=True, track_running_stats=True, dtype=torch.float64).eval(),
    "local response": lambda z: F.local_response_norm(z, 3, 0.5),
    "var": lambda z: z.var((2, 3)),
    "std": lambda z: z.std(dim=1),
    "var_mean": lambda z: sum(torch.var_mean(z, dim=(2, 3))),
    "std_mean": lambda z: sum(torch.std_mean(z, dim=(2, 3), correction=0)),
    "standardized by hand": lambda z: (z - z.mean((2, 3), keepdim=True)) / (0.1 + z.std((2, 3), keepdim=True)),
    "where": lambda z: torch.where(torch.eye(5, dtype=torch.bool), z.relu(), z),
    "upsampled": lambda z: F.interpolate(z.relu(), scale_factor=2, mode="bilinear"),
    "residual": lambda z: z + F.relu(z - 0.1),
    "residual in place": lambda z: z.clone().add_(F.relu(z)),
    "squeezed and excited": lambda z: z * F.hardsigmoid(F.relu(z.mean((2, 3), keepdim=True)).flip(1)),
}  # fmt: skip


class Around(nn.Module):
    """conv, the operation, a random readout of all it gives through a tanh."""

    def __init__(self, act):
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(4, 2, 2, 2, generator=g, dtype=torch.float64))
        self.readout = nn.Parameter(torch.randn(3, 512, generator=g, dtype=torch.float64) * 0.3)
        self.act = act
        self.requires_grad_(False)

    def forward(self, x):
        z = self.act(F.conv2d(x, self.weight)).flatten(1)
        return torch.tanh(z @ self.readout[:, : z.shape[1]].T / 4)


def image(seed=6):
    return torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("how", ONES)
def test_every_operation_carries_its_difference(how):
    net = Around(ONES[how])
    for baseline in (0.0, image(9)):
        why = pl.explain(net, image(), 1, method="deeplift", baseline=baseline)
        change = float(net(image()[None])[0, 1] - net((image() * 0 + baseline)[None])[0, 1])
        assert abs(change) > 1e-5
        assert why.trace["change"] == pytest.approx(change, rel=1e-10)
        assert abs(why.total - change) <= 1e-11 * (abs(change) + float(why.values.abs().sum()))
        assert why.trace["largest"] < 100


def sharp(x):
    """Attention whose logits reach hundreds: one of two denominators of a shared softmax shift would vanish."""
    z = 60 * x.flatten(2)
    return F.scaled_dot_product_attention(z, z, x.flatten(2)).mean((1, 2))[:, None].expand(-1, 2)


def hardly_any_spread(x):
    """A norm whose reference (a constant image) has no deviation but eps."""
    return F.instance_norm(x, eps=1e-10).relu().mean((2, 3))


def small_divisor(x):
    flat = x.flatten(1)
    return flat[:, :2] / (flat[:, 2:3].square() + 1e-8)


@pytest.mark.parametrize(("score", "limit"), [(sharp, 200), (hardly_any_spread, 60), (small_divisor, 30)])
def test_multipliers_stay_bounded_where_a_denominator_is_tiny(score, limit):
    class Net(nn.Module):
        def forward(self, x):
            return score(x)

    start = torch.zeros_like(image())
    why = pl.explain(Net(), image(), 1, method="deeplift", baseline=start)
    change = float((score(image()[None]) - score(start[None]))[0, 1])
    assert why.total == pytest.approx(change, rel=1e-9, abs=1e-12)
    assert why.trace["largest"] < limit
    assert float(why.values.abs().max()) < limit * max(1.0, abs(change))


def test_equal_units_keep_their_slope():
    """Where x = x0 the multiplier is the slope, there or half way: 1 or 0 of a ReLU, 0.25 of a sigmoid at 0, 1 of a pool's winner."""
    x, x0 = torch.tensor([1.0, -1.0, 0.0, 2.0, -3.0]), torch.tensor([1.0, -1.0, 0.0, -2.0, 1.0])
    m = corner_at_zero(x, x0.clone(), x.relu())
    assert torch.allclose(m, torch.tensor([1.0, 0.0, 0.0, 0.5, 0.25]))
    same = torch.zeros(3, dtype=torch.float64)
    found = multiplier(torch.sigmoid, same, same, same.sigmoid(), same.sigmoid(), smooth=True)
    assert torch.equal(found, torch.full_like(found, 0.25))
    close = same + torch.tensor([1e-16, 1e-9, 1e-5], dtype=torch.float64)
    found = multiplier(torch.tanh, close, same, close.tanh(), same.tanh(), smooth=True)
    assert torch.allclose(found, torch.ones_like(found), rtol=1e-9)
    for name, f in (("log", torch.log), ("sqrt", torch.sqrt), ("rsqrt", torch.rsqrt), ("reciprocal", torch.reciprocal)):
        a, b = torch.tensor([0.5, 2.0, 2.0], dtype=torch.float64), torch.tensor([0.5, 2.0 + 1e-12, 3.0], dtype=torch.float64)
        slope = torch.autograd.functional.jacobian(lambda t, f=f: f(t).sum(), a)
        assert torch.allclose(closed(name, a, b)[:2], slope[:2], rtol=1e-9)
        assert float(closed(name, a, b)[2]) == pytest.approx(float(f(b)[2] - f(a)[2]), rel=1e-12)


def test_wrapped_and_exported_networks_have_the_same_map():
    x = image()
    plain = pl.explain(Around(F.silu), x, 1, method="deeplift", baseline=0.2).values
    again = Around(lambda z: checkpoint(F.silu, z, use_reentrant=False))
    program = torch.export.export(Around(F.silu), (x[None],)).module()
    for net in (again, nn.DataParallel(Around(F.silu)), program):
        assert torch.allclose(pl.explain(net, x, 1, method="deeplift", baseline=0.2).values, plain, atol=1e-14)


def test_images_folded_into_the_batch_are_not_taken_for_references():
    class Slices(Around):
        def forward(self, x):
            return super().forward(torch.cat([x, x.flip(1), 2 * x])).view(3, -1, 3).amax(0)

    net, begin = Slices(F.relu), image(9)
    why = pl.explain(net, image(), 2, method="deeplift", baseline=begin)
    assert why.total == pytest.approx(float((net(image()[None]) - net(begin[None]))[0, 2]), rel=1e-11)
