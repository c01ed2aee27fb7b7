"""Extremal perturbation against its formulas: masks sample by sample, the ascent in one graph through mask and network."""

import itertools
import math

import pytest
import torch
from tests.reference.plain import close, explained, gradient, places, score, setting
from tests.reference.test_meaningful_perturbation import blob

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.ops import masks as mask_ops
from pellucid.ops.blur import gaussian
from pellucid.ops.masks import SmoothMaximum

DIMS = pytest.mark.parametrize("dims", [2, 3])


def slow_mask(cells, space, spacing, step, sigma):
    """Each sample: its neighboring cells one after the other, those beyond the edge as zeros."""
    radius = 1 + math.ceil(sigma / step)
    out = torch.zeros(space, dtype=torch.float64)
    first = [((n - 1) * s - (m - 1) * step) / 2 for n, s, m in zip(space, spacing, cells.shape, strict=True)]
    for at in places(space):
        where = [(a * s - f) / step for a, s, f in zip(at, spacing, first, strict=True)]
        w = []
        for offset in itertools.product(range(-radius, radius + 1), repeat=len(space)):
            cell = [math.floor(p + 1e-9) + o for p, o in zip(where, offset, strict=True)]
            distance = math.dist(where, cell) * step / sigma
            inside = all(0 <= c < m for c, m in zip(cell, cells.shape, strict=True))
            w.append(math.exp(-2 * max(0, distance - 0.5) ** 2) * float(cells[tuple(cell)]) if inside else 0.0)
        e = [math.exp(20 * v) for v in w]
        out[at] = sum(v * x for v, x in zip(w, e, strict=True)) / sum(e)
    return out


@pytest.mark.parametrize(
    ("space", "spacing", "step", "sigma"),
    [((9, 7), (1.0, 1.0), 2.0, 3.0), ((10, 6), (1.0, 2.5), 3.0, 4.0), ((5, 6, 3), (1.0, 1.0, 3.0), 3.0, 3.0)],
)
def test_masks(space, spacing, step, sigma):
    maker = SmoothMaximum(space, spacing, step, sigma)
    cells = torch.rand(maker.cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    close(maker.ready(cells).mask(cells), slow_mask(cells, space, spacing, step, sigma), 1e-9)


def test_large_masks_are_worked_out_on_fewer_samples(monkeypatch):
    maker = SmoothMaximum((60, 50), (1.0, 1.0), 8.0, 16.0)
    cells = (torch.rand(maker.cells, generator=torch.Generator().manual_seed(0), dtype=torch.float64) > 0.7).double()
    exact = maker.ready(cells).mask(cells)
    monkeypatch.setattr(mask_ops, "MOST", 49 * 400)
    coarse = maker.ready(cells)
    assert math.prod(coarse.kernel.shape[:-1]) <= 400
    assert float((coarse.mask(cells) - exact).abs().max()) < 0.15


def slowly(net, x, area, steps, variant):
    """Fading to zero, masks of cells 3 apart, one area; values near the edge of the area go by their gain."""
    maker = SmoothMaximum(tuple(x.shape[1:]), (1.0,) * (x.ndim - 1), 3.0, 4.0)
    ready = maker.ready(x)  # held against slow_mask above
    cells, moving = torch.ones(maker.cells, dtype=torch.float64, requires_grad=True), None
    for k in range(steps):
        m = ready.mask(cells)
        shown = net((m * x)[None])[0, 1]
        hidden = net(((1 - m) * x)[None])[0, 1]
        reward = {"preserve": shown, "delete": -hidden, "dual": shown - hidden}[variant]
        gain = 0
        for image in [m * x] * (variant != "delete") + [(1 - m) * x] * (variant != "preserve"):
            gain = gain + (gradient(net, image.detach()) * x).sum(0)
        gain = gaussian(gain[None], [4.0] * gain.ndim)[0].flatten()
        flat = m.detach().flatten()
        few = int(flat.numel() * (1 - area))  # so many go to 0
        edge = float(flat.sort().values[few])
        groups = [(1 if v > edge + 0.05 else -1 if v < edge - 0.05 else 0) for v in flat.tolist()]
        keys = [(g, float(gain[i]) if g == 0 else float(flat[i])) for i, g in enumerate(groups)]
        ramp = torch.zeros_like(flat)
        for i in sorted(range(len(keys)), key=keys.__getitem__)[few:]:
            ramp[i] = 1
        loss = -reward + 300 * 1.0035**k * ((m.flatten() - ramp) ** 2).mean()
        (g,) = torch.autograd.grad(loss, cells)
        moving = g if moving is None else 0.9 * moving + 0.1 * g
        cells = (cells - 0.01 * moving).detach().clamp(0, 1).requires_grad_()
    return ready.mask(cells.detach())


@DIMS
@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_extremal_perturbation(dims, variant):
    net, x = setting(dims)
    params = {"areas": 0.2, "variant": variant, "perturbation": "fade", "step": "3px", "sigma": "4px", "jitter": "0px", "steps": 12}
    ours = explained(net, x, "extremal_perturbation", **params)
    slow = slowly(net, x, 0.2, 12, variant)
    close(ours.values[0], slow, 1e-6)
    assert ours.trace["scores"][0] == pytest.approx(score(net, ours.values * x), rel=1e-6)
    assert ours.provenance.backward == 12 * (2 if variant == "dual" else 1)


@DIMS
def test_it_finds_what_the_score_rests_on_at_the_area_asked(dims):
    net, x, inside = blob(dims)
    areas, steps = ([0.1, 0.25], 80) if dims == 2 else ([0.2], 25)
    params = {"areas": areas, "max_sigma": "6px", "step": "4px", "sigma": "4px", "steps": steps, "jitter": "2px"}
    why = pl.explain(net, x, 1, method="extremal_perturbation", **params)
    masks = why.trace["masks"]
    close(why.values[0], masks.mean(0), 1e-12)
    for k, area in enumerate(areas):
        assert abs(float(masks[k].mean()) - area) < (0.35 if dims == 2 else 2) * area  # the more steps, the nearer
        assert float(masks[k][inside].mean() / masks[k].mean()) > 1.8
    blurred = score(net, gaussian(x, [6.0] * dims))
    assert why.trace["scores"][-1] > 0.5 * (score(net, x) + blurred), "what is shown alone raises the score"
    hidden = pl.explain(net, x, 1, method="extremal_perturbation", **{**params, "variant": "delete", "areas": areas[:1], "steps": 25})
    assert float(hidden.values[0][inside].mean() / hidden.values[0].mean()) > 1.8


def test_neither_side_is_preferred():
    """A mirrored image before a mirrored network: the mirrored mask; and the image is never mirrored on its way to the network."""
    net, x, _ = blob(2)
    seen = []

    class Mirrored(torch.nn.Module):
        def forward(self, v):
            seen.append(v[:, 0].mean(1))
            return net(v.flip(-1))

    params = {"areas": 0.15, "step": "3px", "sigma": "3px", "steps": 40, "jitter": "0px", "max_sigma": "6px"}
    straight = pl.explain(net, x, 1, method="extremal_perturbation", **params).values
    turned = pl.explain(Mirrored(), x.flip(-1), 1, method="extremal_perturbation", **params).values.flip(-1)
    assert float((straight - turned).abs().mean()) < 0.05 * float(straight.mean())
    right = x.shape[-1] // 2
    assert all(bool((row[..., :right].mean(-1) > row[..., right:].mean(-1)).all()) for row in seen), "the bright patch stays on its side"


def test_lengths_are_in_mm_and_areas_are_shares():
    net, x = setting(3)
    image = pl.Image(x, pl.Grid.spaced(tuple(x.shape[1:]), (1.0, 1.0, 4.0)))
    why = pl.explain(net, image, 1, method=pl.extremal_perturbation(steps=3, step="4mm", sigma="8mm"))
    assert tuple(why.values.shape[1:]) == why.grid.shape
    for wrong in (0, 1, [0.1, 2], "0.1", [], True):
        with pytest.raises(BadParameter, match="between 0 and 1"):
            pl.extremal_perturbation(areas=wrong)
    assert repr(pl.extremal_perturbation(areas=0.1)) == repr(pl.extremal_perturbation(areas=[0.1]))


@DIMS
def test_a_hidden_site_is_masked_on_its_own_grid(dims):
    net, x = setting(dims)
    why = explained(net, x, "extremal_perturbation", site="second", steps=5, step="2px", sigma="3px")
    assert tuple(why.values.shape[1:]) == why.grid.shape and float(why.values.max() - why.values.min()) > 1e-4
