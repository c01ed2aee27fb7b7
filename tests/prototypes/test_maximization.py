"""Activation maximization against closed forms, and what it must not do."""

import math

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadImage, BadParameter, BadTarget, Cancelled
from pellucid.prototypes import Prototype, activation_maximization, direction
from pellucid.testing import state_of

PLAIN = {"drawn": "samples", "shift": 0.0, "turn": 0.0, "zoom": 0.0, "tv": 0.0}
SPACE = {1: (1, 12), 2: (9, 8), 3: (6, 5, 7)}


def cosine(a: Tensor, b: Tensor) -> float:
    return float(nn.functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))


class Kernel(nn.Module):
    """One linear unit over the whole image, beside one that is its opposite."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.kernel).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


def scans(shape: tuple[int, ...], n: int = 4, seed: int = 3) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=g) for _ in range(n)]


@pytest.mark.parametrize(("dims", "channels", "unit"), [(1, 2, 1), (2, 1, 1), (2, 3, 0), (3, 2, 1)])
def test_the_optimum_of_a_linear_filter_is_proportional_to_its_kernel(dims: int, channels: int, unit: int) -> None:
    shape = (channels, *SPACE[dims])
    net = pl.Model(Kernel(shape), range=(-2.0, 2.0))
    kw = PLAIN | {"start": torch.zeros(shape), "l2": 1200.0, "steps": 90}
    found = activation_maximization(net, unit, scans(shape), **kw)
    assert (1 if unit else -1) * cosine(found.image.values, net.module.kernel.detach()) > 0.999


def test_the_optimum_of_a_channel_is_its_kernel_at_each_place() -> None:
    conv = nn.Conv2d(1, 2, 3, bias=False)
    net = pl.Model(nn.Sequential(conv, nn.Flatten()), range=(-2.0, 2.0))
    (found,) = (
        activation_maximization(net, pl.neuron("0", (1, 2, 3)), scans((1, 8, 8)), start=torch.zeros(1, 8, 8), l2=3000.0, steps=90, **PLAIN),
    )
    field = found.image.values[:, 2:5, 3:6]
    assert cosine(field, conv.weight[1].detach()) > 0.999
    rest = found.image.values.clone()
    rest[:, 2:5, 3:6] = 0
    assert float(rest.abs().max()) < 0.05 * float(field.abs().max()), "nothing is drawn where the neuron does not look"


def test_a_direction_is_asked_for_like_a_class() -> None:
    conv = nn.Conv2d(2, 3, 1, bias=False)
    net = pl.Model(nn.Sequential(conv, nn.ReLU(), nn.Flatten()), range=(-2.0, 2.0))
    way = torch.tensor([1.0, -2.0, 0.5])
    found = activation_maximization(net, direction("0", way), scans((2, 6, 6)), start=torch.zeros(2, 6, 6), l2=3000.0, steps=90, **PLAIN)
    wanted = torch.einsum("n,nc->c", way, conv.weight.detach()[:, :, 0, 0])
    assert cosine(found.image.values.mean((1, 2)), wanted) > 0.999


class Small(nn.Module):
    """Two classes: a bright middle speaks for the second."""

    def __init__(self, dims: int = 2, channels: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.first = conv(channels, 4, 3, padding=1)
            self.second = conv(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = torch.tanh(self.second(torch.tanh(self.first(x))))
        return 6 * self.head(z.flatten(2).mean(2))


@pytest.mark.parametrize("dims", [2, 3])
def test_values_stay_within_the_span_and_both_confidences_are_told(dims: int) -> None:
    shape = (1, *((12,) * dims))
    net = pl.Model(Small(dims), classes=("no", "yes"), range=(-1.0, 2.0))
    found = activation_maximization(net, pl.logit("yes"), scans(shape), steps=30)
    for p in found.pictures:
        assert float(p.image.values.min()) >= -1.0 and float(p.image.values.max()) <= 2.0
        assert len(p.probabilities) == 2 and abs(sum(p.probabilities) - 1) < 1e-6
    optimum, wild, start = (next(p for p in found.pictures if p.role == r) for r in ("optimum", "fooling", "start"))
    assert optimum.score > start.score and wild.score > start.score
    seen = net.module.eval()(optimum.image.values[None]).detach()
    assert abs(float(seen[0, 1]) - optimum.score) < 1e-5, "the score told is that of the picture kept"
    assert found.asked == "logit('yes')" and found.watched == "yes" and len(found.references) == 4
    assert "hypothesis" in found.sentences()[-1] and f"probability {found.confidence(wild):.2f}" in found.sentences()[1]


def test_the_start_and_the_mean_are_those_of_the_images_given() -> None:
    given = scans((2, 8, 8))
    net = Small(2, 2)
    found = activation_maximization(net, 1, given, steps=1)
    assert torch.allclose(next(p for p in found.pictures if p.role == "start").image.values, torch.stack(given).mean(0), atol=1e-6)
    flat = activation_maximization(net, 1, given, steps=1, start="flat")
    start = next(p for p in flat.pictures if p.role == "start").image.values
    assert float(start.std((1, 2)).max()) < 1e-6
    assert abs(found.references[2] - float(net(given[2][None]).detach()[0, 1])) < 1e-5


def test_one_seed_gives_one_picture_and_nothing_is_changed() -> None:
    net = Small().train()
    before = state_of(net)
    first, again, other = (activation_maximization(net, 1, scans((1, 10, 10)), steps=8, run=pl.Run(seed=s)) for s in (4, 4, 5))
    assert torch.equal(first.image.values, again.image.values) and not torch.equal(first.image.values, other.image.values)
    assert state_of(net) == before


def test_priors_do_what_they_say() -> None:
    net, given = Small(), scans((1, 12, 12))

    def rough(**kw: float) -> tuple[float, float]:
        x = activation_maximization(net, 1, given, steps=25, shift=0, turn=0, zoom=0, **{"l2": 0.0, "tv": 0.0} | kw).image.values[0]
        d = x - torch.stack(given).mean(0)[0]
        return float(d.diff(dim=0).abs().mean() + d.diff(dim=1).abs().mean()), float(d.square().mean())

    free, smooth, near, soft = rough(), rough(tv=200.0), rough(l2=200.0), rough(blur=2.0, drawn="samples")
    assert smooth[0] < 0.6 * free[0] and near[1] < 0.5 * free[1]
    assert soft[0] < rough(drawn="samples")[0]


def test_facets_are_kept_apart() -> None:
    net, given = Small(), scans((1, 12, 12))
    kw = {"steps": 40, "facets": 3, "site": "first", "l2": 0.0, "tv": 0.0}
    together, apart = (activation_maximization(net, 1, given, diversity=d, **kw) for d in (0.0, 4.0))
    assert len(apart.optima) == 3 and apart.alike < together.alike
    assert "ways of their own" in " ".join(apart.sentences())


def test_colors_go_together_only_as_the_images_do() -> None:
    g = torch.Generator().manual_seed(0)
    gray = [torch.rand(1, 12, 12, generator=g).expand(3, 12, 12).clone() for _ in range(3)]
    net = Small(2, 3)
    learned, free = (activation_maximization(net, 1, gray, steps=40, colors=c, l2=0.0, tv=0.0).image.values for c in (True, False))
    assert float(learned.std(0).mean()) < 0.02 < float(free.std(0).mean())


def test_it_is_saved_and_loaded_and_drawn(tmp_path) -> None:
    net = pl.Model(Small(), classes=("no", "yes"))
    found = activation_maximization(net, "yes", scans((1, 10, 10)), steps=4)
    back = Prototype.load(found.save(tmp_path / "p.json"), net=net)
    assert back.sentences() == found.sentences() and torch.equal(back.image.values, found.image.values)
    assert str(back.table()) == str(found.table()) and back.provenance.seed == 0
    found.figure(tmp_path / "p.webp")
    assert (tmp_path / "p.webp").stat().st_size > 1000
    with pytest.raises(pl.PellucidError, match="of this network"):
        Prototype.load(tmp_path / "p.json", net=pl.Model(Small(), classes=("a", "b")))


def test_what_cannot_be_asked_is_refused() -> None:
    net, given = pl.Model(Small(), classes=("no", "yes")), scans((1, 8, 8))
    with pytest.raises(BadTarget, match="no image chooses"):
        activation_maximization(net, None, given)
    with pytest.raises(BadImage, match="at least one image"):
        activation_maximization(net, "yes", [])
    with pytest.raises(BadImage, match="one shape"):
        activation_maximization(net, "yes", [given[0], torch.rand(1, 9, 8)])
    with pytest.raises(BadParameter, match="waves"):
        activation_maximization(net, "yes", given, drawn="oil")
    with pytest.raises(BadParameter, match="start"):
        activation_maximization(net, "yes", given, start="zero")
    run = pl.Run()
    run.cancel.set()
    with pytest.raises(Cancelled):
        activation_maximization(net, "yes", given, run=run)
    told = activation_maximization(net, pl.probability("yes"), given, steps=2)
    assert any("no slope" in s for s in told.sentences())


def test_a_trick_is_told_from_a_thing() -> None:
    """A network that hears only the finest checkerboard: nothing it answers to survives a move."""

    class Checker(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            i = torch.arange(x.shape[-1])
            sign = 1.0 - 2.0 * ((i[:, None] + i) % 2)
            return torch.stack([x.new_zeros(len(x)), (x * sign).flatten(1).sum(1)], 1)

    found = activation_maximization(Checker(), 1, scans((1, 16, 16)), steps=40, drawn="samples", shift=0, turn=0, zoom=0, l2=0, tv=0)
    assert found.optima[0].kept < 0.2 and found.evidence.verdict == "not supported"
    assert math.isnan(next(p for p in found.pictures if p.role == "start").kept)


def test_a_signal_s_class_and_a_unit_inside() -> None:
    conv = nn.Conv1d(2, 3, 5, bias=False)
    net = pl.on_signals(pl.Model(nn.Sequential(conv, nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten()), range=(-2.0, 2.0)))
    given = [pl.signal(s, step=0.01) for s in scans((2, 20))]
    kw = PLAIN | {"start": pl.signal(torch.zeros(2, 20), step=0.01), "l2": 3000.0, "steps": 90}
    unit = activation_maximization(net, pl.neuron("0", (1, 7)), given, **kw)
    assert cosine(unit.image.values[:, 0, 7:12], conv.weight[1].detach()) > 0.999
    assert unit.image.grid == given[0].grid
    whole = activation_maximization(net, 2, given, steps=5)
    assert whole.image.values.shape == (2, 1, 20) and whole.figure() is not None
