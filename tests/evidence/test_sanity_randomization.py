"""Model randomization, its smooth and efficient forms, and the faults of others that must not be ours."""

import copy
import math

import numpy as np
import pytest
import torch
from tests.evidence.test_checks import Attending, scrambled
from tests.evidence.toy import blobs, fresh, learned, positives
from torch import Tensor, nn

import pellucid as pl
from pellucid.evidence import grade
from pellucid.evidence.metric import read_metric
from pellucid.evidence.sanity.alike import Alike, complexity, hog
from pellucid.evidence.sanity.cascade import planned, sizes
from pellucid.evidence.sanity.floors import interval
from pellucid.evidence.sanity.shuffling import Shuffler
from pellucid.ops.similarity import spearman, ssim, unit
from pellucid.testing import small_image, small_net, state_of

MODEL, SMOOTH, EFFICIENT = "model_randomization", "smooth_randomization", "efficient_randomization"


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------- similarity
def test_histograms_of_gradients_in_the_plane_are_those_of_skimage():
    from skimage.feature import hog as theirs

    a = torch.rand((64, 48), generator=chance(), dtype=torch.float64)
    want = theirs(a.numpy(), 9, (8, 8), (3, 3)).reshape(-1, 3, 3, 9).transpose(0, 3, 1, 2).ravel()  # ours names the direction first
    assert np.abs(hog(a, 8).numpy() - want).max() < 1e-6


def test_histograms_of_gradients_in_space_tell_directions_apart_and_forget_brightness():
    z, _, x = torch.meshgrid(*[torch.arange(18, dtype=torch.float64)] * 3, indexing="ij")
    along, across = (z / 2).sin(), (x / 2).sin()
    assert spearman(hog(along), hog(across)) < 0.3
    assert torch.allclose(hog(along), hog(5 * along + 3), atol=1e-4)
    assert Alike.between(along, along) == Alike(pytest.approx(1), pytest.approx(1), pytest.approx(1), pytest.approx(1))


def test_complexity_is_the_entropy_of_the_histogram():
    from scipy.stats import entropy

    a = torch.randn((40, 30), generator=chance())
    counts, _ = np.histogram(a.double().numpy(), 100)
    assert complexity(a) == pytest.approx(entropy(counts, base=2), abs=0.02)
    assert math.isnan(complexity(torch.ones(4, 4)))


def test_intervals_over_draws_are_students():
    from scipy.stats import t

    for n in (3, 8, 25):
        v = torch.rand(n, generator=chance(n), dtype=torch.float64).tolist()
        mean, low, high = interval(v)
        want = t.interval(0.95, n - 1, np.mean(v), np.std(v, ddof=1) / n**0.5)
        assert (low, high) == pytest.approx(want, rel=2e-3) and mean == pytest.approx(np.mean(v))
    assert interval([math.nan, 0.5])[0] == 0.5 and math.isnan(interval([0.5])[1])


# ---------------------------------------------------------------- randomized copies
def test_new_draws_are_the_modules_own_and_cover_every_parameter():
    net, x = scrambled(Attending()), torch.rand(1, 16, 16)
    before, shuffler = state_of(net), Shuffler.of(pl.Model(net), x)
    drawn = dict(shuffler.draw(shuffler.blocks, chance(1)).module.named_parameters())
    drawn = {n: p.detach().clone() for n, p in drawn.items()}
    for name, p in net.named_parameters():
        assert not torch.equal(p, drawn[name]), f"{name} was left as it was"
    fan = 1 / math.sqrt(16)
    assert float(drawn["stem.weight"].abs().max()) <= fan and float(drawn["stem.weight"].std()) > fan / 4  # U(-fan, fan), torch's own
    assert torch.equal(drawn["norm.weight"], torch.ones(8))
    again = dict(shuffler.draw(shuffler.blocks, chance(1)).module.named_parameters())
    assert all(torch.equal(drawn[n], p) for n, p in again.items()), "one seed, one draw"
    other = dict(shuffler.draw(shuffler.blocks, chance(2)).module.named_parameters())
    same = {n for n, p in other.items() if torch.equal(drawn[n], p)}
    assert same == {"norm.weight", "norm.bias", "attention.in_proj_bias", "attention.out_proj.bias"}, "these start at 0 or 1"
    part = dict(shuffler.draw(shuffler.blocks[-1:], chance(1)).module.named_parameters())
    changed = {n for n, p in net.named_parameters() if not torch.equal(p, part[n])}
    assert changed == set(shuffler.blocks[-1].names) and state_of(net) == before


def test_stages_hold_head_half_and_all():
    assert sizes(7, 5) == [1, 3, 4, 6, 7] and sizes(50, 4) == [1, 25, 34, 50] and sizes(3, 24) == [1, 2, 3]
    assert all({1, max(1, n // 2), n} <= set(sizes(n, k)) and len(sizes(n, k)) <= k for n in range(1, 40) for k in range(3, 9))
    shuffler = Shuffler.of(pl.Model(learned()), torch.rand(1, 32, 32))
    n = len(shuffler.blocks)
    assert planned(shuffler, "top-down", n)[0] == shuffler.blocks[-1:] and planned(shuffler, "bottom-up", n)[0] == shuffler.blocks[:1]
    assert [s[0] for s in planned(shuffler, "independent", n)] == list(reversed(shuffler.blocks))


# ---------------------------------------------------------------- faults of others (research, part 4.2)
def test_the_unrandomized_network_is_in_no_average():
    """Quantus 0.6.0 averages over the key "original" too: 0.396 instead of 0.245."""
    x = positives(learned(), 1, 3)[0]
    m = grade(learned(), x, ["saliency"], f"{MODEL}(stages=4, draws=2, order='independent')", target=1, controls=())["saliency", MODEL]
    rows = m.detail["stages"]
    assert [r["blocks"] for r in rows] == [1] * 4
    assert m.value == pytest.approx(sum(r["similarity"] for r in rows) / 4) and max(r["similarity"] for r in rows) < 1


@pytest.mark.parametrize("how", ["shuffled", "drawn"])
def test_equal_layers_draw_different_weights_and_no_global_chance_moves(how):
    """Quantus seeds the global source anew before every layer: equal layers get identical weights."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    with torch.no_grad():
        net[2].weight.copy_(net[1].weight)
    shuffler, before = Shuffler.of(pl.Model(net), torch.rand(1, 2, 3)), torch.get_rng_state()
    twin = shuffler.randomize(shuffler.blocks, chance(), how).module
    assert not torch.equal(twin[1].weight, twin[2].weight) and torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("how", ["shuffled", "drawn"])
def test_a_vision_transformer_keeps_no_weight(how):
    """Quantus leaves a quarter of ViT-B/16: class token, position embedding, all projections inside attention. Buffers stay, as Adebayo's do."""
    models = pytest.importorskip("torchvision.models")
    net = models.VisionTransformer(image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=3)
    net = scrambled(net)
    shuffler = Shuffler.of(pl.Model(net), torch.rand(3, 16, 16))
    twin = dict(shuffler.randomize(shuffler.blocks, chance(), how).module.named_parameters())
    left = [n for n, p in net.named_parameters() if p.numel() > 4 and torch.equal(p, twin[n])]
    assert left == [] and any("in_proj" in n for n in twin) and "class_token" in twin
    order = [n for b in shuffler.blocks for n in b.names]
    assert order.index("conv_proj.weight") < order.index("encoder.layers.encoder_layer_1.mlp.0.weight") < order.index("heads.head.weight")
    plain = small_net(2)
    there = Shuffler.of(pl.Model(plain), small_image(2)).randomize
    blocks = Shuffler.of(pl.Model(plain), small_image(2)).blocks
    for (_, a), (_, b) in zip(plain.named_buffers(), there(blocks, chance(), how).module.named_buffers(), strict=True):
        assert torch.equal(a, b)


def test_ssim_sees_the_map_and_not_a_row_of_numbers():
    """Quantus flattens maps first, so that its SSIM raises (and would be one-dimensional)."""
    for dims in (2, 3):
        x = small_image(dims)
        found = grade(small_net(dims), x, ["saliency"], f"{MODEL}(stages=1, draws=1, heads=1)", target=1, controls=())["saliency", MODEL]
        assert -1 <= found.detail["complete"]["ssim"] < 1
    a, b = (torch.rand(24, 24, generator=chance(s), dtype=torch.float64) for s in (0, 1))
    assert Alike.between(a, b).ssim == ssim(unit(a), unit(b), data_range=1.0)


# ---------------------------------------------------------------- the metric
def slowly(net: nn.Module, x: Tensor, seed: torch.Generator) -> tuple[float, list[Tensor]]:
    """Similarity with all weights shuffled, from the definition: shuffle in the order of the parameters, ask for the gradient, rank, correlate."""
    from scipy.stats import spearmanr

    def gradient(module: nn.Module) -> np.ndarray:
        leaf = x[None].clone().requires_grad_()
        (g,) = torch.autograd.grad(module(leaf)[0, 1], leaf)
        return g[0].sum(0).double().numpy().ravel()

    found = []
    for _ in range(2):
        twin = copy.deepcopy(net)
        with torch.no_grad():
            for p in twin.parameters():
                p.copy_(p.flatten()[torch.randperm(p.numel(), generator=seed)].view_as(p))
        found.append(abs(spearmanr(gradient(net), gradient(twin)).statistic))
    return sum(found) / 2, found


def test_the_value_is_the_definition_computed_slowly():
    net, x = learned(), positives(learned(), 1, 3)[0]
    m = grade(net, x, ["saliency"], f"{MODEL}(stages=1, draws=2, heads=1)", target=1, controls=())["saliency", MODEL]
    from hashlib import sha256

    names = [b.names[0] for b in Shuffler.of(pl.Model(net), x).blocks]
    seed = int.from_bytes(sha256(f"0 randomization shuffled {names}".encode()).digest()[:7], "little")
    value, each = slowly(net, x, chance(seed))
    assert m.value == pytest.approx(value, abs=1e-5) and [abs(d) for d in m.detail["complete"]["draws"]] == pytest.approx(each, abs=1e-5)


def test_copies_are_made_once_for_all_maps(monkeypatch):
    made, before = [], Shuffler.randomize
    monkeypatch.setattr(Shuffler, "randomize", lambda self, *a: made.append(1) or before(self, *a))
    x = positives(learned(), 1, 3)[0]
    asked = {n: f"smooth('saliency', n={n + 1})" for n in range(5)}
    asked = {f"map {n}": t for n, t in asked.items()}
    counts = {}
    for names in (["map 0"], list(asked)):
        made.clear()
        wanted = [f"{MODEL}(stages=3, draws=2, heads=4)", f"{EFFICIENT}(draws=2)"]
        found = grade(learned(), x, {n: asked[n] for n in names}, wanted, target=1, controls=())
        m = found[names[0], MODEL]
        counts[len(names)] = len(made)
        assert m.detail["copies"] == 6 and m.detail["spent"]["maps"] == 6 * len(names)
        assert found[names[0], EFFICIENT].detail["spent"] == {}, "the last stage's copies serve both"
    assert counts == {1: 6 + 4, 5: 6 + 4}


def test_what_is_shared_does_not_depend_on_who_came_first():
    x = positives(learned(), 1, 3)[0]
    wanted = [f"{MODEL}(stages=2, draws=2, heads=2)", f"{EFFICIENT}(draws=2)"]
    one, two = (grade(learned(), x, ["saliency"], w, target=1, controls=()) for w in (wanted, wanted[::-1]))
    for name in (MODEL, EFFICIENT):
        assert one["saliency", name].value == two["saliency", name].value


def test_controls_fail_where_they_ignore_the_network_and_noise_shows_that_a_pass_is_no_rank():
    x = positives(learned(), 1, 3)[0]
    found = grade(learned(), x, ["saliency"], f"{MODEL}(stages=3, draws=2, heads=1)", target=1)
    assert found["edges", MODEL].status == found["center", MODEL].status == "fail" and found["edges", MODEL].value == pytest.approx(1)
    assert found["random", MODEL].status == "pass" and not read_metric(MODEL).facts.ranks
    assert found["saliency, shuffled", MODEL].status == "void" and math.isnan(found["saliency, shuffled", MODEL].value)
    assert found["saliency, blurred", MODEL].status in ("pass", "inconclusive")
    assert {n for n, _ in found} == {"saliency", "random", "center", "edges", "saliency, blurred", "saliency, shuffled"}


def test_floors_come_from_other_images_networks_edges_and_noise():
    a, b = positives(learned(), 2, 3)
    metric = f"{MODEL}(stages=1, draws=2, heads=1)"
    levels = grade(learned(), a, ["saliency"], metric, target=1, others=[b], controls=())["saliency", MODEL].detail["floors"]
    assert set(levels) == {"networks", "edges", "noise", "images"} and abs(levels["noise"]["signed"]) < 0.1
    maps = [pl.explain(learned(), i, 1, method="saliency").relevance for i in (a, b)]
    assert levels["images"]["signed"] == pytest.approx(spearman(*maps), abs=1e-6)
    with pytest.raises(pl.errors.BadParameter, match="one size"):
        grade(learned(), a, ["saliency"], metric, target=1, others=[b[:, :-1]], controls=())


@pytest.mark.parametrize("order", ["top-down", "bottom-up", "independent"])
@pytest.mark.parametrize("dims", [2, 3])
def test_every_order_in_the_plane_and_in_space(order, dims):
    x = small_image(dims)
    m = grade(small_net(dims), x, ["saliency"], f"{MODEL}(order='{order}', how='drawn', stages=3, draws=2, heads=2)", target=1, controls=())
    m = m["saliency", MODEL]
    assert 0 <= m.value <= 1 and m.status in ("pass", "fail", "inconclusive") and m.detail["order"] == order
    assert (m.detail["top"] is not None) == (order == "top-down") and ("head" in m.detail) == (order == "top-down")


def test_an_empty_map_of_a_copy_is_an_outcome_of_its_own():
    class Dead(nn.Module):
        """Shuffled, its only unit never fires: the gradient is zero everywhere."""

        def __init__(self) -> None:
            super().__init__()
            w = torch.zeros(1, 64)
            w[0, :32], w[0, 32:] = 1.0, -1.0
            self.a, self.b = nn.Linear(64, 1, bias=False), nn.Linear(1, 2, bias=False)
            with torch.no_grad():
                self.a.weight.copy_(w + 0.01 * torch.arange(64))
                self.b.weight.copy_(torch.tensor([[-1.0], [1.0]]))

        def forward(self, x: Tensor) -> Tensor:
            return self.b((self.a(x.flatten(1)) - 25).relu())

    x = torch.zeros(1, 8, 8)
    x[0, 4:] = 0.1
    x[0, :4] = 1.0
    with torch.no_grad():
        net = Dead()
    m = grade(net, x, ["saliency"], f"{MODEL}(stages=1, draws=4, heads=1)", target=1, controls=())["saliency", MODEL]
    assert m.detail["complete"]["empty"] == 4 and m.status == "inconclusive" and math.isnan(m.value) and "empty map" in m.text


def test_averaging_over_noise_is_what_smooth_does():
    x = positives(learned(), 1, 3)[0]
    m = grade(learned(), x, ["saliency"], f"{SMOOTH}(n=3, draws=2, stages=1, heads=1)", target=1, controls=())["saliency", SMOOTH]
    assert m.value < 0.5 and m.detail["spent"]["maps"] == 3 * (2 + 1) == read_metric(f"{SMOOTH}(n=3, draws=2, stages=1)").price().anew
    gone = grade(
        learned(), x, ["saliency"], f"{SMOOTH}(n=1, sigma=1e-9, how='shuffled', draws=2, stages=1, heads=1)", target=1, controls=()
    )
    plain = grade(learned(), x, ["saliency"], f"{MODEL}(order='bottom-up', draws=2, stages=1, heads=1)", target=1, controls=())
    assert gone["saliency", SMOOTH].value == pytest.approx(plain["saliency", MODEL].value, abs=1e-3)


def test_the_rise_of_complexity_is_relative_to_the_map():
    x = positives(learned(), 1, 3)[0]
    m = grade(learned(), x, ["saliency"], f"{EFFICIENT}(draws=3)", target=1)
    d = m["saliency", EFFICIENT].detail
    want = [(r - d["complexity"]) / d["complexity"] for r in d["randomized"]]
    assert m["saliency", EFFICIENT].value == pytest.approx(sum(want) / 3)
    assert m["edges", EFFICIENT].value == pytest.approx(0, abs=1e-12) and m["edges", EFFICIENT].status == "fail"


def test_networks_that_cannot_be_randomized_say_so():
    x = torch.rand(1, 16, 16)

    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([-x.flatten(1).sum(1), x.flatten(1).square().sum(1)], 1)

    assert grade(Bare(), x, ["saliency"], MODEL, target=1, controls=())["saliency", MODEL].status == "void"
    scripted = torch.jit.trace(copy.deepcopy(fresh(0)), torch.rand(1, 1, 32, 32))
    m = grade(scripted, blobs(2, 0)[0][1], ["saliency"], [MODEL, EFFICIENT], target=1, controls=())
    assert m["saliency", MODEL].status == m["saliency", EFFICIENT].status == "inconclusive"


# ---------------------------------------------------------------- what is published
def test_guided_backprop_fails_on_the_upper_blocks_and_changes_when_all_are_randomized():
    """Adebayo et al. 2018 and its erratum, on a trained network; the gradient and Grad-CAM pass, the image's edges fail everywhere."""
    eye = pl.phantoms.fundus(seed=910_003, dme=True)
    net = pl.load_model("phantom:fundus_dme")
    maps = ["saliency", "grad_cam", "guided_backprop"]
    found = grade(net, eye.image, maps, f"{MODEL}(stages=3, heads=1)", target="DME", controls=("edges",))
    guided = found["guided_backprop", MODEL]
    assert guided.status == "fail" and guided.detail["top"]["similarity"] > 0.5 > 0.35 > guided.detail["complete"]["similarity"]
    assert "upper 3 of 7" in guided.text and "another one" in guided.text
    assert found["saliency", MODEL].status == "pass" and found["saliency", MODEL].detail["top"]["similarity"] < 0.15
    assert found["grad_cam", MODEL].status == "pass"
    assert found["edges", MODEL].status == "fail" and all(
        r["similarity"] == pytest.approx(1) for r in found["edges", MODEL].detail["stages"]
    )
