"""Each check alone: what it must find, and what a cheap imitation must not get past."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.evidence.toy import blobs, fresh, learned, positives
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.evidence import examine
from pellucid.evidence.case import EFFORTS, Case
from pellucid.evidence.faithfulness.examined import curves_of as deletion
from pellucid.evidence.patches import Patches
from pellucid.evidence.sanity.shuffling import Shuffler
from pellucid.grid import Grid
from pellucid.ops.blur import gaussian
from pellucid.ops.edges import sobel
from pellucid.ops.similarity import ranks, spearman, ssim
from pellucid.run import Run
from pellucid.testing import small_image, small_net, state_of


def case_of(net: nn.Module, x: Tensor, method: str = "saliency", **params) -> Case:
    why = pl.explain(net, x, 1, method=method, **params)
    return Case.of(pl.Model(net), why, why.ask, Run(), EFFORTS["quick"])


# ---------------------------------------------------------------- similarity
def test_spearman_is_scipys_with_ties():
    from scipy.stats import spearmanr

    g = torch.Generator().manual_seed(0)
    a, b = torch.randint(0, 5, (40,), generator=g).float(), torch.randint(0, 5, (40,), generator=g).float()
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert ranks(torch.tensor([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]
    assert np.isnan(spearman(torch.ones(4), b[:4]))


@pytest.mark.parametrize("shape", [(24, 31), (20, 22, 19)])
def test_ssim_is_the_one_of_the_maps_own_dimensions(shape):
    from skimage.metrics import structural_similarity

    g = torch.Generator().manual_seed(0)
    a = torch.rand(shape, generator=g, dtype=torch.float64)
    b = (a + 0.3 * torch.rand(shape, generator=g, dtype=torch.float64)).clamp(0, 1)
    want = structural_similarity(a.numpy(), b.numpy(), data_range=1.0, gaussian_weights=True, use_sample_covariance=False)
    assert ssim(a, b, data_range=1.0) == pytest.approx(want, abs=2e-3)
    assert abs(ssim(a.flatten()[:400], b.flatten()[:400], data_range=1.0) - want) > 0.005  # the flattened map has another one
    with pytest.raises(BadParameter):
        ssim(a, b, data_range=0.0)


def test_sobel_of_a_ramp_is_its_slope_and_of_a_volume_sees_depth():
    ramp = torch.arange(8.0).view(1, 8, 1).expand(1, 8, 6)
    assert torch.allclose(sobel(ramp)[1:-1], torch.ones(6, 6, dtype=torch.float64))
    deep = torch.arange(6.0).view(1, 1, 1, 6).expand(1, 4, 5, 6)
    assert torch.allclose(sobel(2 * deep)[..., 1:-1], torch.full((4, 5, 4), 2.0, dtype=torch.float64))


# ---------------------------------------------------------------- shuffled copies
class Attending(nn.Module):
    """Registered in another order than it runs; a class token and attention whose projections belong to no called module."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.stem = nn.Conv2d(1, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x).flatten(2).transpose(1, 2)
        z = torch.cat([self.token.expand(len(z), -1, -1), z], 1)
        return self.head(self.norm(self.attention(z, z, z, need_weights=False)[0])[:, 0])


def scrambled(net: nn.Module) -> nn.Module:
    """The same network with no two equal values in any parameter."""
    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    return net.eval()


def test_every_parameter_belongs_to_a_block_in_the_order_of_execution_and_is_shuffled():
    torch.manual_seed(0)
    net = scrambled(Attending())
    shuffler = Shuffler.of(pl.Model(net), torch.rand(1, 16, 16))
    order = [name for b in shuffler.blocks for name in b.names]
    assert sorted(order) == sorted(n for n, _ in net.named_parameters())
    at = {n: i for i, b in enumerate(shuffler.blocks) for n in b.names}
    assert at["token"] < at["stem.weight"] < at["attention.in_proj_weight"] < at["head.weight"]
    assert at["attention.out_proj.weight"] >= at["attention.in_proj_weight"] and at["norm.weight"] < at["head.weight"]
    copied = dict(shuffler.shuffle(shuffler.blocks, torch.Generator().manual_seed(1)).module.named_parameters())
    for name, p in net.named_parameters():
        assert p.numel() < 5 or not torch.equal(p, copied[name]), f"{name} was left as it was"  # two values may stay by chance
        assert torch.equal(p.flatten().sort().values, copied[name].flatten().sort().values)
    assert [len(s) for s in shuffler.stages(2)] == [max(1, round(len(shuffler.blocks) / 2)), len(shuffler.blocks)]
    assert shuffler.stages(2)[0][-1] == shuffler.blocks[-1], "the cascade starts at the output"


def test_equal_layers_draw_different_orders_and_later_draws_start_from_the_network():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False))
    with torch.no_grad():
        net[2].weight.copy_(net[1].weight)
    shuffler, chance = Shuffler.of(pl.Model(net), torch.rand(1, 2, 3)), torch.Generator().manual_seed(0)
    twin = shuffler.shuffle(shuffler.blocks, chance).module
    assert not torch.equal(twin[1].weight, twin[2].weight)
    first = twin[1].weight.clone()
    assert not torch.equal(shuffler.shuffle(shuffler.blocks, chance).module[1].weight, first)
    twin = shuffler.shuffle(shuffler.blocks[-1:], chance).module
    assert torch.equal(twin[1].weight, net[1].weight)


def test_buffers_stay_and_the_network_is_never_touched():
    net, x = small_net(2), small_image(2)
    before = state_of(net)
    why = pl.explain(net, x, 1, method="integrated_gradients", steps=8)
    ev = examine(net, x, why, run=Run(seed=2))
    assert state_of(net) == before, "examining changed the network or a global random state"
    assert ev["randomization"].detail["of_blocks"] == 3
    shuffler = Shuffler.of(pl.Model(net), x)
    twin = shuffler.shuffle(shuffler.blocks, torch.Generator().manual_seed(0)).module
    for (_, a), (_, b) in zip(net.named_buffers(), twin.named_buffers(), strict=True):
        assert torch.equal(a, b)


def test_shuffling_that_moves_nothing_concludes_nothing():
    class Even(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 32, 32), 0.1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([-(self.weight * x).flatten(1).sum(1), (self.weight * x).flatten(1).sum(1)], 1)

    x = positives(learned(), 1, 3)[0]
    ev = pl.explain(Even(), x, 1, method="integrated_gradients", steps=4, evidence="quick").evidence
    assert ev["randomization"].status == "inconclusive" and ev["learned_response"].status == "inconclusive"


# ---------------------------------------------------------------- curves
class Sum(nn.Module):
    """The score is the sum of known weights times the image: deletion has a closed form."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        s = (x * self.w).flatten(1).sum(1)
        return torch.stack([-s, s], 1)


def test_deletion_of_a_linear_score_is_the_cumulated_relevance():
    w = torch.zeros(1, 32, 32)
    w[0, 8:16, 8:16] = 1.0
    x = torch.full((1, 32, 32), 0.5)
    net = Sum(w)
    case = case_of(net, x, "integrated_gradients", steps=4)
    found = {m.name: m for m in deletion(case, case.why.relevance, torch.zeros_like(x))}
    assert found["deletion"].status == found["insertion"].status == found["beyond_chance"].status == "pass"
    # 16 of 256 patches carry everything: half is gone after 1/32, all after 1/16; six steps count the same
    assert found["deletion"].detail["area"] == pytest.approx(1 / 6) and found["insertion"].detail["area"] == pytest.approx(5 / 6)
    worse = {m.name: m for m in deletion(case, -case.why.relevance, torch.zeros_like(x))}
    assert worse["deletion"].status == worse["insertion"].status == worse["beyond_chance"].status == "fail"
    mirrored = {m.name: m for m in deletion(case, case.why.relevance.flip(-1), torch.zeros_like(x))}
    assert mirrored["beyond_chance"].status == "fail" and found["beyond_chance"].detail["over_copies"] > 1


def test_of_a_map_its_negative_and_its_mirrored_copies_one_at_most_is_beyond_chance():
    """Whatever the map: here noise of four widths, which by luck may be ahead of the random orders."""
    net = learned()
    x = positives(net, 1, 3)[0]
    case = case_of(net, x)
    neutral = case.panel.neutrals["blurred copy"]
    orbit = (lambda r: r, lambda r: -r, lambda r: r.flip(-1), lambda r: -r.flip(-1), lambda r: r.T, lambda r: -r.T)
    passed = 0
    for seed in range(12):
        noise = gaussian(torch.randn((1, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.float64), [seed % 4] * 2)[0]
        given = [deletion(case, turn(noise), neutral)[2] for turn in orbit]
        assert sum(m.status == "pass" for m in given) <= 1, seed
        assert all(m.name == "beyond_chance" and m.detail["copies"] == 7 for m in given)
        passed += sum(m.status == "pass" for m in given)
    assert passed <= 0.1 * 12 * len(orbit), "maps that know nothing pass too often"


def test_random_orders_do_not_pass_and_ties_favor_no_corner():
    net = learned()
    x = positives(net, 1, 3)[0]
    case = case_of(net, x)
    neutral = case.panel.neutrals["mean of each channel"]
    passed = 0
    for seed in range(24):
        noise = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(seed))
        passed += deletion(case, noise, neutral)[2].status == "pass"
    assert passed <= 3, "orders that know nothing pass too often"
    patches = Patches.of(case.why.image.grid, x, neutral)
    zero = torch.zeros(x.shape[1:])
    a, b = (patches.order(zero, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert not torch.equal(a, b) and set(a.tolist()) == set(patches.live.tolist())


def test_patches_are_equal_and_square_in_the_patient():
    grid = Grid.spaced((60, 60, 20), (1.0, 1.0, 3.0))
    x = torch.rand(1, 60, 60, 20)
    patches = Patches.of(grid, x, torch.zeros_like(x))
    sizes = patches.index.flatten().bincount()
    assert patches.shape == (8, 8, 8) and int(sizes.max()) <= 2 * int(sizes.min())
    flat = Patches.of(grid, x, torch.cat([x[:, :30], torch.zeros(1, 30, 60, 20)], 1))
    assert len(flat.live) == pytest.approx(len(patches.live) / 2, rel=0.15), "patches without content are left out"


def test_smoothness_of_noise_is_what_it_was_blurred_with():
    from pellucid.ops.blur import gaussian

    patches = Patches.of(Grid((64, 64)), torch.rand(1, 64, 64), torch.zeros(1, 64, 64))
    fine = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wide = gaussian(fine, (1.5, 1.5))[0].repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert 0.9 < patches.smoothness(wide) < 2.2
    assert patches.smoothness(fine[0].repeat_interleave(4, 0).repeat_interleave(4, 1)) < 0.5


def test_batch_mates_do_not_matter():
    net = learned()
    x = positives(net, 1, 3)[0]
    why = pl.explain(net, x, 1)
    one, many = (examine(net, x, why, run=Run(chunk=c)) for c in (1, 64))
    for a, b in zip(one, many, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-3, abs=1e-4) and a.status == b.status


# ---------------------------------------------------------------- completeness
def test_the_sum_is_checked_and_not_believed():
    net, x = small_net(2), small_image(2)
    why = pl.explain(net, x, 1, steps=32)
    assert examine(net, x, why)["completeness_gap"].status == "pass"
    doubled = replace(why, values=2 * why.values, trace={**why.trace, "change": why.trace["change"] * 2, "gap": 0.0})
    found = examine(net, x, doubled)["completeness_gap"]
    assert found.status == "fail" and found.value == pytest.approx(1.0, abs=0.02)
    assert "completeness_gap" not in examine(net, x, pl.explain(net, x, 1, method="saliency"))


# ---------------------------------------------------------------- asking for it
def test_wrong_questions_are_refused():
    net, (a, b) = learned(), positives(learned(), 2, 3)
    why = pl.explain(net, a, 1, method="saliency")
    with pytest.raises(BadParameter, match="level"):
        examine(net, a, why, "thorough")
    with pytest.raises(BadParameter, match="own image"):
        examine(net, b, why)
    with pytest.raises(BadParameter, match="Give ask="):
        examine(net, a, replace(why, ask=None))
    with pytest.raises(BadParameter, match="level of evidence"):
        pl.explain(net, a, 1, evidence="yes")
    assert len(examine(net, a, why, "none")) == 0
    assert examine(net, a, replace(why, ask=None), ask=why.ask).verdict == examine(net, a, why).verdict


def test_a_network_without_last_words_of_its_own_is_named():
    scripted = torch.jit.trace(copy.deepcopy(fresh(0)), torch.rand(1, 1, 32, 32))
    x = blobs(2, 0)[0][1]
    why = pl.explain(scripted, x, 1, method="saliency", evidence="quick")
    assert why.evidence["randomization"].status == "inconclusive" and why.evidence.verdict in ("questionable", "not supported")
