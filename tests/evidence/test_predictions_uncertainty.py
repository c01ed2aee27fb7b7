"""Uncertainty and trust scores: closed forms, slow references, what must be left as it was, and cheap imitations."""

import math
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadModel, BadParameter, Unsupported
from pellucid.evidence.predictions.draws import Dropped, moved_draws
from pellucid.evidence.predictions.uncertainty import entropy
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.params import Distance


def small(dims: int = 2, dropout: float = 0.5, outputs: int = 3, seed: int = 0) -> nn.Module:
    conv, norm, pool = (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            conv(1, 6, 3, padding=1), norm(6), nn.ReLU(), pool(3), nn.Flatten(), nn.Dropout(dropout), nn.Linear(6 * 3**dims, outputs)
        )  # fmt: skip


class Fixed(nn.Module):
    """Says the same of every image."""

    def __init__(self, p: list[float]) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.tensor(p).log())

    def forward(self, x: Tensor) -> Tensor:
        return self.z + 0 * x.flatten(1).sum(1, keepdim=True)


X = torch.rand(1, 12, 12, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------- the sums
def test_entropies_of_an_ensemble_in_closed_form():
    found = pl.uncertainty([Fixed([0.9, 0.1]), Fixed([0.1, 0.9])], X, "ensemble")
    h = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert float(found.entropy) == pytest.approx(math.log(2)) and float(found.expected_entropy) == pytest.approx(h, rel=1e-6)
    assert float(found.mutual_information) == pytest.approx(math.log(2) - h, rel=1e-6)
    assert found.mean == pytest.approx(torch.tensor([0.5, 0.5], dtype=torch.float64))
    assert found.spread == pytest.approx(torch.full((2,), 0.8 / math.sqrt(2), dtype=torch.float64), rel=1e-6)
    sure = pl.uncertainty([Fixed([0.5, 0.5]), Fixed([0.5, 0.5])], X, "ensemble")
    assert float(sure.mutual_information) == pytest.approx(0, abs=1e-12) and float(sure.entropy) == pytest.approx(math.log(2)), (
        "noise, not disagreement"
    )


def test_entropy_of_labels_by_themselves_is_one_for_each():
    p = torch.tensor([0.5, 0.0, 1.0], dtype=torch.float64)
    assert entropy(p, False).tolist() == pytest.approx([math.log(2), 0, 0])
    assert entropy(torch.eye(3, dtype=torch.float64)[0], True).tolist() == [0]


@pytest.mark.parametrize("dims", [2, 3])
def test_dropout_draws_are_welfords_sums_of_plain_passes(dims):
    net, x = small(dims), torch.rand(1, *[8] * dims)
    found = pl.uncertainty(net, x, draws=12)
    p = found.each
    assert p.shape == (12, 3) and len({tuple(r) for r in p.tolist()}) == 12
    assert found.mean == pytest.approx(p.mean(0)) and found.spread == pytest.approx(p.std(0))
    slow = -(p.mean(0) * p.mean(0).log()).sum(), -(p * p.log()).sum(1).mean()
    assert float(found.entropy) == pytest.approx(float(slow[0])) and float(found.expected_entropy) == pytest.approx(float(slow[1]))
    with torch.no_grad():
        assert found.answer == pytest.approx(net.eval()(x[None]).softmax(1)[0].double(), rel=1e-5)


def test_a_linear_network_under_dropout_has_the_variance_of_its_formula():
    """s = sum w_i m_i x_i / (1 - p): variance p / (1 - p) sum (w_i x_i)^2, mean that of the network without dropout."""
    n, p = 50, 0.3
    net = pl.Model(nn.Sequential(nn.Flatten(), nn.Dropout(p), nn.Linear(n, 1)), output="regression")
    x = torch.rand(1, 5, 10)
    found = pl.uncertainty(net, x, draws=400)
    w = net.module[2].weight[0].detach().double()
    sd = math.sqrt(p / (1 - p) * float(((w * x.flatten()) ** 2).sum()))
    assert float(found.spread) == pytest.approx(sd, rel=0.15)
    assert float(found.mean - found.answer) == pytest.approx(0, abs=4 * sd / math.sqrt(400))
    assert math.isnan(float(found.entropy)), "a regression has no entropy"


# ---------------------------------------------------------------- dropout
class Functional(nn.Module):
    """Dropout as functions, some of them in place, and whole channels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.conv, self.head = kind, nn.Conv2d(1, 8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = getattr(nn.functional, self.kind)(self.conv(x), 0.4, training=self.training)
        return self.head(z.mean((2, 3)))


@pytest.mark.parametrize("kind", ["dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout"])
def test_dropout_as_a_function_is_drawn_as_torch_draws_it(kind):
    """Mean and variance of the drawn activations are those of torch's own."""
    net = Functional(kind)
    assert float(pl.uncertainty(net, X, draws=8).spread.min()) > 0
    z = torch.randn(1, 400, 4, 4)
    shell = Dropped(Alone(kind))
    mine = []
    for seed in range(30):
        shell.seed = seed
        mine.append(shell(z))
    torch.manual_seed(0)
    theirs = torch.stack([getattr(nn.functional, kind)(z, 0.4, training=True) for _ in range(30)])
    ours = torch.stack(mine)
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=0.03) and float(ours.std()) == pytest.approx(
        float(theirs.std()), rel=0.03
    )
    whole = (ours[0, 0] == ours[0, 0, :, :1, :1]).flatten(1).all(1)
    if kind == "dropout2d":
        assert 0.3 < float(whole.double().mean()) < 0.5, "whole channels"


class Alone(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return getattr(nn.functional, self.kind)(x, 0.4, training=False)


def test_nothing_is_changed_and_batch_norm_does_not_learn():
    net = small().train()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = pl.uncertainty(net, X, draws=5, method="saliency")
    assert torch.equal(torch.get_rng_state(), before)
    assert net.training and net[5].training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert torch.equal(first.each, pl.uncertainty(net, X, draws=5).each), "a seed is a result, with or without a map"
    other = pl.uncertainty(net, X, draws=5, run=pl.Run(seed=1))
    assert not torch.equal(first.each, other.each)


def test_crash_and_two_threads_leave_the_network_whole():
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.head, self.count = nn.Dropout(0.5), nn.Linear(144, 2), 0

        def forward(self, x: Tensor) -> Tensor:
            self.count += 1
            if self.count == 4:
                raise ZeroDivisionError
            return self.head(self.drop(x.flatten(1)))

    net = Breaks().train()
    with pytest.raises(ZeroDivisionError):
        pl.uncertainty(net, X, draws=6)
    assert net.training and all(p.requires_grad for p in net.parameters())
    shared, found = small().train(), {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: pl.uncertainty(shared, X, draws=6).each})) for k in range(2)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert torch.equal(found[0], found[1]) and shared.training and all(p.requires_grad for p in shared.parameters())


def test_without_dropout_there_is_no_mc_dropout():
    for net in (nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), small(dropout=0.0)):
        with pytest.raises(Unsupported, match="dropout"):
            pl.uncertainty(net, X)
    scripted = torch.jit.trace(small().eval(), X[None])
    with pytest.raises(Unsupported, match="TorchScript"):
        pl.uncertainty(scripted, X)
    with pytest.raises(BadParameter, match="list of networks"):
        pl.uncertainty(small(), X, "ensemble")
    with pytest.raises(BadModel, match="same classes"):
        pl.uncertainty([small(outputs=2), small(outputs=3)], X, "ensemble")


# ---------------------------------------------------------------- moved images
@pytest.mark.parametrize("shape", [(1, 9, 11), (1, 6, 7, 8)])
def test_moved_images_come_back(shape):
    image = Image(torch.rand(shape))
    axes = tuple(range(len(shape) - 1))
    seen = set()
    for draw in moved_draws(pl.Model(nn.Flatten()), image, 12, 0, noise=0.0, shift=Distance.read("2px"), flips=axes):
        back = draw.back(draw.image.values)
        assert torch.equal(back[:, draw.known], image.values[:, draw.known])
        assert float(draw.known.double().mean()) >= 0.3
        seen.add(draw.image.fingerprint)
    assert len(seen) > 8


def test_flips_are_off_and_it_says_so():
    class Side(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            half = x.shape[-1] // 2
            return 9 * torch.stack([x[..., :half].mean((1, 2, 3)), x[..., half:].mean((1, 2, 3))], 1)

    x = torch.zeros(1, 12, 12)
    x[..., :6] = 1.0
    plain = pl.uncertainty(Side(), x, "tta", draws=10)
    assert float(plain.mean[0]) > 0.95 and "left and right" in plain.notes[0]
    turned = pl.uncertainty(Side(), x, "tta", draws=10, flips=(1,))
    assert float(turned.mean[0]) < 0.9 and not turned.notes and float(turned.mutual_information) > float(plain.mutual_information)


def test_noise_alone_has_the_variance_of_its_formula():
    net = pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(144, 1)), output="regression", range=(0.0, 2.0))
    found = pl.uncertainty(net, X, "tta", draws=300, noise=0.05, shift="0px")
    assert float(found.spread) == pytest.approx(0.1 * float(net.module[1].weight.detach().norm()), rel=0.15)
    with pytest.raises(BadParameter, match="noise, shifts"):
        pl.uncertainty(net, X, "tta", noise=0.0, shift=Distance(0.0, "px"))


# ---------------------------------------------------------------- dense outputs and maps
class Dense(nn.Module):
    """Class 1 where the image is bright, at half the resolution; dropout makes the bright part's border unsure."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d(2)

    def forward(self, x: Tensor) -> Tensor:
        z = 20 * (nn.functional.dropout(self.pool(x), 0.3, self.training) - 0.5)
        return torch.cat([-z, z], 1)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_dense_output_gives_maps_on_the_grid_and_extents(dims):
    x = torch.zeros(1, *[12] * dims)
    x[(0, *[slice(2, 8)] * dims)] = 1.0
    grid = Grid.spaced((12,) * dims, (0.5, 2.0, 1.5)[:dims])
    net = pl.Model(Dense(dims), classes=("background", "lesion"))
    found = pl.uncertainty(net, Image(x, grid), draws=20)
    maps = found.image("mutual_information")
    assert maps.grid == grid and maps.values.shape == (1, *x.shape[1:]) and found.mean.shape == (2, *x.shape[1:])
    inside, outside = maps.values[0][x[0] > 0].mean(), maps.values[0][(slice(10, 12),) * dims].mean()
    assert float(inside) > 0.08 and float(outside) < 0.01, "only where dropout can change the answer"
    own = 6**dims * grid.voxel
    assert float(found.each[:, 1].max()) <= own * 1.3**dims and found.table()["class"] == ("background", "lesion")
    assert found.each.sum(1) == pytest.approx(torch.full((20,), 12**dims * grid.voxel, dtype=torch.float64))
    moved = pl.uncertainty(net, Image(x, grid), "tta", draws=10, flips=(0,), shift="2px", noise=0.0)
    middle = (slice(4, 6),) * (dims - 1)
    assert float(moved.mean[1][(3, *middle)].mean()) > 0.6 > 0.15 > float(moved.mean[1][(9, *middle)].mean()), (
        "draws lie over each other again"
    )


@pytest.mark.parametrize("how", ["mc_dropout", "tta"])
def test_the_spread_of_a_map_is_that_of_its_draws(how):
    net = small()
    found = pl.uncertainty(net, X, how, draws=6, method="integrated_gradients", target=1, shift=Distance(0.0, "px"))
    assert found.map.draws == 6 and repr(found.map.ask.target) == "logit(1)"
    total, square = torch.zeros_like(X).double(), torch.zeros_like(X).double()
    from pellucid.evidence.predictions.draws import dropout_draws

    image, model = Image(X), pl.Model(net)
    family = dropout_draws(model, image, 6, 0) if how == "mc_dropout" else moved_draws(model, image, 6, 0, noise=0.02, shift=Distance(0.0, "px"), flips=())  # fmt: skip
    for draw in family:
        why = pl.explain(draw.model, draw.image, 1, method="integrated_gradients").values.double()
        total, square = total + why, square + why**2
    mean = total / 6
    assert found.map.mean.values == pytest.approx(mean, abs=1e-9)
    assert found.map.spread.values == pytest.approx(((square - 6 * mean**2) / 5).clamp_min(0).sqrt(), abs=1e-7)
    assert float(found.map.steady.values.min()) >= 0 and float(found.map.steady.values.max()) <= 1


def test_maps_at_a_site_and_of_rules_under_dropout():
    net = small()
    cam = pl.uncertainty(net, X, draws=4, method="grad_cam", site="2", target=0).map
    assert cam.mean.grid.shape == (12, 12) and float(cam.spread.values.max()) > 0
    rule = pl.uncertainty(net, X, draws=4, method="guided_backprop", target=0).map
    assert float(rule.spread.values.max()) > 0


# ---------------------------------------------------------------- trust score
class Values(nn.Module):
    """Two of the image's own values: class 0 left of the middle, class 1 right of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        z = self.last(x.flatten(1)[:, :2])
        return torch.stack([-z[:, 0], z[:, 0]], 1)


def at(a: float, b: float) -> Tensor:
    x = torch.zeros(1, 3, 3)
    x[0, 0, 0], x[0, 0, 1] = a, b
    return x


def test_trust_is_the_ratio_of_distances():
    reference, labels = [at(-1, 0), at(-1, 3), at(2, 0)], [0, 0, 1]
    found = pl.trust_score(Values(), [at(-0.5, 0), at(0.5, 0), at(-1, 0)], reference, labels)
    assert found.values == pytest.approx((2.5 / 0.5, 1.5 / 1.5, 3.0 / 3.0))
    assert found.table["predicted"] == ("0", "1", "0") and found.table["to predicted"][2] == pytest.approx(3.0), "not compared with itself"
    inside = pl.trust_score(Values(), [at(-0.5, 0)], reference, labels, site="last")
    assert inside.values == pytest.approx((5.0,))


def slow_trust(x, h, sets):
    d = {c: min(float(np.linalg.norm(x - r)) for r in s) for c, s in sets.items()}
    return min(v for c, v in d.items() if c != h) / d[h]


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_trust_is_the_papers_algorithm(alpha):
    g = np.random.default_rng(0)
    points = np.concatenate([g.normal((-1.5, 0), 0.7, (25, 2)), g.normal((1.5, 0), 0.7, (25, 2)), [[6.0, 6.0]]])
    labels = [0] * 25 + [1] * 25 + [0]  # the last one is an outlier of class 0 far out on the other side
    asked = g.normal(0, 2, (10, 2))
    found = pl.trust_score(Values(), [at(*p) for p in asked], [at(*p) for p in points], labels, k=5, alpha=alpha)
    sets = {}
    for c in (0, 1):
        mine = points[np.array(labels) == c].astype(np.float32).astype(np.float64)
        radius = [sorted(np.linalg.norm(mine - p, axis=1))[5] for p in mine]  # [0] is the point itself
        order = np.argsort(radius, kind="stable")[: math.ceil((1 - alpha) * len(mine))]
        sets[c] = mine[order]
    assert (alpha == 0) == any((s == 6).any() for s in sets.values()), "the outlier leaves the high-density set"
    wanted = [slow_trust(p.astype(np.float32).astype(np.float64), int(p[0] > 0), sets) for p in asked]
    assert found.values == pytest.approx(wanted, rel=1e-6)


def test_the_nearest_neighbor_is_the_first_not_the_second():
    """google/TrustScore takes the second neighbor, which is right for training points only."""
    reference, labels = [at(-1, 0), at(-9, 0), at(1, 0), at(9, 0)], [0, 0, 1, 1]
    assert pl.trust_score(Values(), [at(-0.5, 0)], reference, labels).values == pytest.approx((3.0,)), "and not 9.5 / 8.5"


def test_trust_finds_mistakes_that_confidence_does_not():
    """The network looks at the first value alone; its mistakes lie, with full confidence, within the other class's cloud."""
    g = np.random.default_rng(1)
    centers = {0: (-3.0, -3.0), 1: (3.0, 3.0)}
    reference = [at(*g.normal(centers[c], 0.5)) for c in (0, 1) for _ in range(15)] + [at(*g.normal((-3.0, 3.0), 0.5)) for _ in range(15)]
    labels = [0] * 15 + [1] * 30  # of class 1 there is a second cloud, where the network says 0
    images = [at(*g.normal(centers[i % 2], 0.5)) for i in range(20)] + [at(*g.normal((-3.0, 3.0), 0.5)) for _ in range(8)]
    truth = [i % 2 for i in range(20)] + [1] * 8
    found = pl.trust_score(Values(), images, reference, labels, truth=truth)
    assert found.finds_mistakes.value > 0.95 and found.finds_mistakes.status == "pass" and found.finds_mistakes.detail["gain_low"] > 0
    few = pl.trust_score(Values(), images[:22], reference, labels, truth=truth[:22])
    assert few.finds_mistakes.status == "inconclusive"
    shuffled = pl.trust_score(Values(), images, reference, [labels[i] for i in g.permutation(45)], truth=truth)
    assert shuffled.finds_mistakes.value < found.finds_mistakes.value - 0.2


def test_trust_in_volumes_and_refusals():
    net = small(3, outputs=2)
    images = [torch.rand(1, 6, 6, 6) for _ in range(6)]
    found = pl.trust_score(net, images[:2], images, [0, 1, 0, 1, 0, 1], site="2")
    assert all(math.isfinite(v) and v > 0 for v in found.values)
    with pytest.raises(BadParameter, match="two classes"):
        pl.trust_score(net, images[:1], images, [int(i) for i in found.table["predicted"][:1] * 6])
    with pytest.raises(BadParameter, match="a label for each"):
        pl.trust_score(net, images[:1], images, [0, 1])
    with pytest.raises(Unsupported, match="exclude each other"):
        pl.trust_score(pl.Model(net, output="multi-label", classes=("a", "b")), images[:1], images, [0, 1] * 3)
