"""Every operation conserves relevance, in all its spellings; what cannot be shared out is refused by name."""

import pytest
import torch
import torch.nn.functional as F
from tests.probe.test_rules import ACTS, POOLS, WRAPS, Spelled, image
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter, NoRule
from pellucid.method import read_method

COMPOSITES = ("epsilon_plus_flat", "epsilon_alpha2_beta1", "epsilon_gamma_box", "epsilon")


def conserved(net, x=None, target=1, **settings):
    """The map; with what was absorbed it sums to the score."""
    why = pl.explain(net, image() if x is None else x, target, method=pl.lrp(**settings))
    total = why.total + sum(why.trace["absorbed"].values())
    assert abs(total - why.score) <= 1e-9 * max(abs(why.score), float(why.values.abs().sum()))
    assert float(why.values.abs().max()) > 1e-9
    return why


def maps(net):
    return torch.stack([conserved(net, composite=c).values for c in COMPOSITES])


@pytest.fixture(scope="module")
def plain():
    return maps(Spelled())


SAME = [n for n in ACTS if n not in ("part by part", "chunks")]


@pytest.mark.parametrize("how", SAME)
def test_an_activation_has_one_map_however_it_is_written(how, plain):
    assert torch.allclose(maps(Spelled(ACTS[how])), plain, atol=1e-12)


@pytest.mark.parametrize("how", ["part by part", "chunks"])
def test_a_batch_of_parts_gives_the_map_of_the_whole(how, plain):
    assert torch.allclose(maps(Spelled(ACTS[how])), plain, atol=1e-12)


@pytest.mark.parametrize("how", POOLS)
def test_a_pool_has_one_map_however_it_is_written(how, plain):
    assert torch.allclose(maps(Spelled(pool=POOLS[how])), plain, atol=1e-12)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("how", WRAPS)
def test_wrapped_calls_keep_their_rules(how, plain):
    assert torch.allclose(maps(Spelled(wrap=WRAPS[how])), plain, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_an_exported_program_gives_the_map_of_its_source(plain):
    assert torch.allclose(maps(torch.export.export(Spelled(), (image()[None],)).module()), plain, atol=1e-12)


# ------------------------------------------------------------------------------------ sums and linear operations have one map as well
class Sums(nn.Module):
    def __init__(self, join, late=lambda z: z):
        super().__init__()
        self.one, self.two, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.join, self.late = join, late
        random = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=random) * 0.4)
        self.double().eval()

    def forward(self, x):
        z = F.relu(self.one(x))
        return self.head(self.late(self.join(z, F.relu(self.two(z)))).mean((2, 3)))


def into(a, b):
    a += b
    return a


def into_the_other(a, b):
    b += a
    return b


JOINS = {
    "+": lambda a, b: a + b,
    "add": torch.add,
    "+=": into,
    "+= the other": into_the_other,
    "add_": lambda a, b: a.add_(b),
    "minus minus": lambda a, b: a - (-b),
    "rsub": lambda a, b: torch.rsub(-a, b),
    "alpha": lambda a, b: torch.add(a, b, alpha=1),
    "aten": torch.ops.aten.add.Tensor,
    "out of a view": lambda a, b: a.view(a.shape).add_(b),
    "times one": lambda a, b: a * 1.0 + b / 1.0,
}


@pytest.mark.parametrize("how", JOINS)
def test_a_sum_has_one_map_however_it_is_written(how):
    assert torch.allclose(maps(Sums(JOINS[how])), maps(Sums(JOINS["+"])), atol=1e-10)


def test_what_is_written_into_an_operand_later_does_not_reach_its_share():
    def late(z):
        y = F.conv2d(z, torch.ones(4, 4, 1, 1, dtype=z.dtype)) + z.mean((2, 3), keepdim=True)
        z.mul_(0.0)
        return y

    early = Sums(JOINS["+"], lambda z: F.conv2d(z, torch.ones(4, 4, 1, 1, dtype=z.dtype)) + z.mean((2, 3), keepdim=True))
    assert torch.allclose(maps(Sums(JOINS["+"], late)), maps(early), atol=1e-10)


def test_a_batch_norm_merges_with_the_convolution_as_it_ran():
    norm, conv = cell(lambda: nn.BatchNorm2d(4)), cell(lambda: nn.Conv2d(4, 4, 1))

    def late(z):
        y = conv(z)
        z.mul_(2.0)
        return norm(y) + z

    assert len(maps(Sums(JOINS["+"], late))) == len(COMPOSITES)  # each conserves
    bare = {"composite": "epsilon", "epsilon": 0.0}
    found = [conserved(Sums(JOINS["+"], f), **bare).values for f in (late, lambda z: norm(conv(z)) + z * 2)]
    assert torch.allclose(*found, atol=1e-10)
    pair = [maps(Sums(JOINS["+"], f)) for f in (lambda z: norm(conv(z)), lambda z: norm(conv(z) + 0))]
    assert not torch.allclose(*pair, atol=1e-3)


class Padded(nn.Module):
    """The same convolution with its zeros beside the image written out."""

    def __init__(self, apart):
        super().__init__()
        self.conv, self.apart = cell(lambda: nn.Conv2d(2, 3, 3, padding=0 if apart else 1)), apart

    def forward(self, x):
        return F.relu(self.conv(F.pad(x, (1, 1, 1, 1)) if self.apart else x)).mean((2, 3))


def test_padding_beside_the_image_takes_nothing_from_z_box():
    apart, joined = (conserved(Padded(a), rules={"conv": "z_box"}) for a in (True, False))
    assert torch.allclose(apart.values, joined.values, atol=1e-12)
    assert apart.trace["absorbed"]["constants"] == 0.0


W = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
B = torch.randn(4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def tokens(f):
    return lambda z: f(z.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, z.shape[2:])


DENSE = {
    "linear": tokens(lambda t: F.linear(t, W)),
    "matmul": tokens(lambda t: t @ W.T),
    "from the left": lambda z: (W @ z.flatten(2)).unflatten(2, z.shape[2:]),
    "bmm": tokens(lambda t: torch.bmm(t, W.T.expand(len(t), 4, 4))),
    "einsum": lambda z: torch.einsum("oi,nihw->nohw", W, z),
    "einsum turned": lambda z: torch.einsum("nihw,oi->nohw", z, W),
}


@pytest.mark.parametrize("how", DENSE)
def test_a_matrix_product_has_one_map_however_it_is_written(how):
    assert torch.allclose(maps(Sums(JOINS["+"], DENSE[how])), maps(Sums(JOINS["+"], DENSE["linear"])), atol=1e-9)


# ------------------------------------------------------------------------------------ every operation conserves
class Attention(nn.Module):
    def __init__(self, fused=True, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.own = nn.MultiheadAttention(4, 2, batch_first=True)
        self.fused = fused
        with torch.no_grad():
            self.own.in_proj_weight[:8] *= factor
            self.own.in_proj_bias.normal_()
        self.double()

    def forward(self, z):
        t = z.flatten(2).transpose(1, 2)
        return (t + self.own(t, t, t, need_weights=not self.fused)[0]).transpose(1, 2).unflatten(2, z.shape[2:])


class Gated(nn.Module):
    def __init__(self, gate):
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.fc = gate, nn.Conv2d(4, 4, 1).double()

    def forward(self, z):
        return z * self.gate(self.fc(z.mean((2, 3), keepdim=True)))


def cell(make, seed=0):
    torch.manual_seed(seed)
    made = make().double()
    with torch.no_grad():
        for p in made.parameters():
            p.normal_()
        for b in made.buffers():
            if b.is_floating_point():
                b.uniform_(0.5, 1.5)
    return made.eval().requires_grad_(False)


def written(z, value):
    z = z.clone()
    z[:, :2] = value
    return z


TOKEN = torch.randn(1, 4, 1, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
OPERATIONS = {
    "BatchNorm alone": cell(lambda: nn.BatchNorm2d(4)),
    "BatchNorm before a convolution": cell(lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))),
    "two BatchNorms": cell(lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4))),
    "InstanceNorm": cell(lambda: nn.InstanceNorm2d(4, affine=True)),
    "InstanceNorm, running": cell(lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
    "GroupNorm": cell(lambda: nn.GroupNorm(2, 4)),
    "LayerNorm": tokens(cell(lambda: nn.LayerNorm(4))),
    "RMSNorm": tokens(cell(lambda: nn.RMSNorm(4))),
    "LocalResponseNorm": nn.LocalResponseNorm(3),
    "normalize": lambda z: F.normalize(z, dim=1),
    "attention": Attention(),
    "attention, weights returned": Attention(fused=False),
    "peaked attention": Attention(factor=6.0),
    "squeeze and excitation": Gated(torch.sigmoid),
    "hardsigmoid gate": Gated(F.hardsigmoid),
    "gate by hand": Gated(lambda s: 1 / (1 + torch.exp(-s))),
    "SiLU": F.silu,
    "GELU": F.gelu,
    "GELU by hand": lambda z: z * 0.5 * (1 + torch.erf(z / 2**0.5)),
    "Hardswish": F.hardswish,
    "PReLU": lambda z: F.prelu(z, torch.tensor([0.2, 0.1, 0.3, 0.4], dtype=z.dtype)),
    "tanh": torch.tanh,
    "glu": lambda z: F.glu(torch.cat([z, -z], 1), 1),
    "square": lambda z: z**2 + z * z,
    "nearest": lambda z: F.interpolate(z, scale_factor=2),
    "bilinear": lambda z: F.interpolate(z, scale_factor=2, mode="bilinear"),
    "bicubic": lambda z: F.interpolate(z, size=(7, 9), mode="bicubic", align_corners=True),
    "transposed": cell(lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)),
    "transposed and BatchNorm": cell(lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6))),
    "depthwise": cell(lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4))),
    "max pool": lambda z: F.max_pool2d(z, 3, 1, 1),
    "amax": lambda z: z.amax(1, keepdim=True),
    "average pool": lambda z: F.avg_pool2d(z, 3, 2, 1),
    "adaptive pool": lambda z: F.adaptive_avg_pool2d(z, (3, 2)),
    "product of two": lambda z: z * z.roll(1, 1),
    "bilinear product": lambda z: z @ z.transpose(2, 3),
    "quotient": lambda z: z / (1 + z.abs().sum(1, keepdim=True)),
    "class token": lambda z: torch.cat([TOKEN.expand(len(z), -1, -1, z.shape[-1]), z], 2),
    "stack": lambda z: torch.stack([z, torch.ones_like(z)], 2).flatten(1, 2),
    "position": lambda z: z + torch.linspace(-1, 1, z.shape[-1], dtype=z.dtype),
    "constants": lambda z: (3.0 - 2 * z) / 0.7 + 0.1,
    "pads": lambda z: F.pad(F.pad(F.pad(z, (1, 2, 0, 1)), (1, 1), value=0.3), (1, 1, 1, 1), mode="reflect"),
    "pixel shuffle": lambda z: F.pixel_shuffle(z, 2),
    "dropout": nn.Dropout(0.5).eval(),
    "masked_fill": lambda z: z.masked_fill(torch.ones_like(z, dtype=torch.bool).tril(), 1.0),
    "chosen": lambda z: torch.where(torch.ones_like(z, dtype=torch.bool).tril(), z * 2, torch.ones_like(z)),
    "written over": lambda z: written(z, 1.5),
    "written into": lambda z: written(torch.ones_like(z), z[:, :2]),
}


@pytest.mark.parametrize("how", OPERATIONS)
def test_an_operation_conserves(how):
    f = OPERATIONS[how]

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.front, self.f = cell(lambda: nn.Conv2d(2, 4, 3, padding=1)), f

        def forward(self, x):
            z = self.f(self.front(x))
            return torch.stack([z.flatten(1)[:, 1::2].sum(1), z.flatten(1)[:, ::3].sum(1)], 1)

    for composite in COMPOSITES:
        conserved(Around(), composite=composite)


def test_deep_taylor_conserves_and_is_never_negative():
    for how in ("attention", "GroupNorm", "GELU", "position", "class token", "BatchNorm alone", "squeeze and excitation"):
        net = Sums(JOINS["+"], OPERATIONS[how])
        torch.nn.init.constant_(net.head.bias, 3.0)
        why = pl.explain(net, image(), 1, method="deep_taylor")
        assert why.score > 0
        assert abs(why.total + sum(why.trace["absorbed"].values()) - why.score) < 1e-9
        assert float(why.values.min()) >= -1e-15


def test_a_gate_takes_nothing_and_its_signal_all():
    """x * sigmoid(c(x)): the map of x * (the gate as a constant)."""
    net = Sums(JOINS["+"], Gated(torch.sigmoid))
    with torch.no_grad():
        z = F.relu(net.one(image()[None]))
        gate = torch.sigmoid(net.late.fc((z + F.relu(net.two(z))).mean((2, 3), keepdim=True)))
    fixed = Sums(JOINS["+"], lambda z: z * gate)
    assert torch.allclose(maps(net), maps(fixed), atol=1e-10)


# ------------------------------------------------------------------------------------ what stands in no paper, is said; what cannot be, refused
ABSORBED = "differences of large numbers"
CAVEATS = {
    "GroupNorm": "derive it for LayerNorm only",
    "LayerNorm": "LayerNorm hands relevance through unchanged, value by value; its mean, deviation",
    "BatchNorm alone": "one weight per channel",
    "attention": "only weights",
    "squeeze and excitation": "sigmoid hands relevance through",
    "product of two": "half",
    "square": "pow",
    "quotient": "numerator",
    "SiLU": "silu hands",
    "GELU": "gelu hands",
    "Hardswish": "hardswish hands",
    "position": "constants that are added",
    "bilinear": "interpolation",
    "bicubic": "interpolation",
    "average pool": "means, sums and average pools",
    "clamp above 0": "clamp hands",
    "smallest": "amin",
}
SILENT = ("tanh", "PReLU", "nearest", "depthwise", "max pool", "clamp at 0", "dropout")
CHOICES = {
    **OPERATIONS,
    "clamp above 0": lambda z: z.clamp(0.1, 2.0),
    "clamp at 0": lambda z: z.clamp(0, 6),
    "smallest": lambda z: z.amin(1, keepdim=True).expand_as(z),
}


@pytest.mark.parametrize("how", [*CAVEATS, *SILENT])
def test_rules_that_were_chosen_are_told_and_no_others(how):
    join = JOINS["+"] if how in CAVEATS else (lambda a, b: b)
    net = Sums(join, CHOICES[how])
    net.forward = lambda x: net.head(net.late(net.join(F.relu(net.one(x)), F.relu(net.two(net.one(x)))))[:, :4, :5, :5].amax((2, 3)))
    told = [c for c in conserved(net).provenance.caveats if ABSORBED not in c]
    if how in CAVEATS:
        assert any(CAVEATS[how] in c for c in told) and any("sums of two parts" in c for c in told)
    else:
        assert not told


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (pl.probability(1), "softmax"),
        (lambda out: out[:, 1].relu(), "relu"),
        (lambda out: out[:, 1] * out[:, 0], "mul"),
        (lambda out: out[:, 1] ** 2, "pow"),
    ],
)
def test_targets_that_are_not_linear_are_refused_with_the_way_out(target, name):
    for method in ("lrp", "deep_taylor"):
        with pytest.raises(NoRule, match=rf"linear in the network's outputs; got {name} in the target. Ask for logit"):
            pl.explain(Spelled(), image(), target, method=method)


def test_linear_targets_add_up():
    net = Spelled()
    one, two = (conserved(net, target=k) for k in (1, 2))
    both = conserved(net, target=pl.logit(1) - 0.5 * pl.logit(2))
    assert torch.allclose(both.values, one.values - 0.5 * two.values, atol=1e-12)
    shifted = conserved(net, target=lambda out: 9.0 - out[:, 1])
    assert torch.allclose(shifted.values, -one.values, atol=1e-12)
    assert shifted.trace["absorbed"]["constants of the target"] == pytest.approx(9.0)


REFUSED = {
    "softmax at the end": (lambda z: torch.softmax(z, 1), "softmax"),
    "std": (lambda z: z + z.std((2, 3), keepdim=True), "std"),
    "norm": (lambda z: z + z.norm(), "norm"),
    "prod": (lambda z: z + z.prod(1, keepdim=True), "prod"),
    "a detached copy": (lambda z: z + z.detach(), "add"),
    "weights of its own": (lambda z: F.conv2d(z, z.mean((2, 3)).view(1, 4, 1, 1).expand(4, 4, 1, 1)), "conv2d"),
    "where": (lambda z: torch.where(z > 0, z, torch.zeros_like(z)), "where"),
    "masked by itself": (lambda z: z.masked_fill(z < 0.1, 0.0), "masked_fill"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_no_rule_reaches_is_refused_by_name(how):
    act, name = REFUSED[how]
    with pytest.raises(NoRule, match=name):
        pl.explain(Sums(JOINS["+"], act), image(), 1, method="lrp")


def test_relevance_lost_out_of_sight_is_refused():
    def overwritten(z):
        z = z.clone()
        return torch.ops.aten.slice_scatter(z, torch.ones_like(z[:, :2]), 1, 0, 2)

    with pytest.raises(NoRule, match="sum to the score"):
        pl.explain(Sums(JOINS["+"], overwritten), image(), 1, method="lrp")


def test_rules_by_site_are_read_checked_and_printed_exactly():
    m = pl.lrp(rules={"first": "z_box", "third": "gamma( 0.5 )", "head": "epsilon(0)"})
    assert "rules={'first': 'z_box', 'third': 'gamma(0.5)', 'head': 'zero'}" in repr(m)
    assert read_method(repr(m)) == m
    conserved(Spelled(), rules={"first": "z_box", "third": "gamma(0.5)", "head": "zero"})
    for wrong in ({"first": "beta"}, {"first": "alpha_beta(2, 2)"}, {"first": "gamma(-1)"}, {1: "flat"}, "flat", {"first": "gamma(1, 2)"}):
        with pytest.raises(BadParameter):
            pl.lrp(rules=wrong)
    with pytest.raises(BadParameter, match="'nowhere'"):
        pl.explain(Spelled(), image(), 1, method=pl.lrp(rules={"nowhere": "flat"}))
    with pytest.raises(NoRule, match="z_box at the operation that touches the image first.*conv2d in 'third'"):
        pl.explain(Spelled(), image(), 1, method=pl.lrp(rules={"third": "z_box"}))


# ------------------------------------------------------------------------------------ how much ends on the way
@pytest.mark.parametrize("composite", COMPOSITES)
def test_what_a_trained_network_absorbs_is_no_caveat(composite):
    why = pl.explain(pl.load_model("phantom:fundus_dme"), pl.phantoms.fundus(0).image, 0, method=pl.lrp(composite=composite))
    assert 0 < abs(sum(why.trace["absorbed"].values())) < 3 * abs(why.score)
    assert not any(ABSORBED in c for c in why.provenance.caveats)


def test_absorbed_relevance_far_above_the_score_is_told():
    """Two biases that all but cancel: each takes its part, of opposite sign, and the score is what is left."""

    class Cancels(nn.Module):
        def __init__(self, by):
            super().__init__()
            self.up, self.down = nn.Linear(4, 2), nn.Linear(4, 2)
            for part, bias in ((self.up, by), (self.down, -by)):
                nn.init.constant_(part.weight, 0.25)
                nn.init.constant_(part.bias, bias)

        def forward(self, x):
            return self.up(x.flatten(1)) + self.down(x.flatten(1))

    x = torch.full((1, 2, 2), 0.5).double()
    for by, told in ((0.5, False), (20.0, True)):
        why = pl.explain(Cancels(by).double(), x, 0, method=pl.lrp(composite="epsilon"))
        assert abs(sum(why.trace["absorbed"].values())) < 0.6  # with their signs they hide each other
        assert any(ABSORBED in c for c in why.provenance.caveats) == told
