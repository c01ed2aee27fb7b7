"""ROAD: the imputation against a dense solution and two peers, in color and in 3D; curves that follow the target."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from tests.evidence.test_faithfulness_correlation import g
from torch import nn

import pellucid as pl
from pellucid.evidence.faithfulness.imputation import impute
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import read_metric
from pellucid.evidence.panel import Entry
from pellucid.image import Image
from pellucid.run import Run


def dense(x, missing, spacing):
    """Every missing sample the weighted mean of its neighbors: one row of equations each, written out."""
    at = {tuple(i): k for k, i in enumerate(missing.nonzero().tolist())}
    a, b = np.zeros((len(at), len(at))), np.zeros((len(at), len(x)))
    for i, row in at.items():
        for step in itertools.product((-1, 0, 1), repeat=missing.ndim):
            j = tuple(p + s for p, s in zip(i, step))
            if any(step) and all(0 <= p < n for p, n in zip(j, missing.shape)):
                w = np.prod([2.0 if s == 0 else (min(spacing) / d) ** 2 for s, d in zip(step, spacing)])
                a[row, row] += w
                if j in at:
                    a[row, at[j]] -= w
                else:
                    b[row] += w * x[(slice(None), *j)].numpy()
    out, solved = x.clone(), np.linalg.solve(a, b)
    for i, row in at.items():
        out[(slice(None), *i)] = torch.as_tensor(solved[row])
    return out


@pytest.mark.parametrize(
    ("shape", "spacing"), [((3, 13, 10), (1.0, 1.0)), ((2, 6, 7, 5), (1.0, 1.0, 1.0)), ((1, 5, 9, 8), (3.0, 1.0, 0.7))]
)
def test_imputation_solves_the_equations_for_all_masks_at_once(shape, spacing):
    x = torch.rand(shape, generator=g(1), dtype=torch.float64)
    missing = torch.rand((3, *shape[1:]), generator=g(2)) < torch.tensor([0.2, 0.6, 0.9]).view(-1, *[1] * len(spacing))
    missing[2] = True
    missing[2].view(-1)[:2] = False  # one hole over nearly everything
    found = impute(x, missing, spacing, close=1e-10)
    for k in range(3):
        assert torch.allclose(found[k], dense(x, missing[k], spacing), atol=1e-6)
    rough = impute(x.float(), missing, spacing)
    assert rough.dtype == torch.float32
    assert torch.allclose(rough.double(), found, atol=2e-3), "the default is as near as a fifth of the noise"


def test_where_nothing_is_known_the_mean_stands():
    x = torch.rand((2, 6, 5), generator=g(1))
    filled = impute(x, torch.ones(1, 6, 5, dtype=torch.bool))[0]
    assert torch.allclose(filled, x.mean((1, 2), keepdim=True).expand_as(x))


def test_imputation_agrees_with_grad_cam_in_color_and_quantus_in_gray():
    peer = pytest.importorskip("pytorch_grad_cam.metrics.road")
    x = torch.rand((3, 20, 17), generator=g(1), dtype=torch.float64)
    missing = torch.rand((20, 17), generator=g(2)) < 0.7
    ours = impute(x, missing[None], close=1e-10)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it hands tensors to numpy
        theirs = peer.NoisyLinearImputer(noise=0)(x.float(), (~missing).float())
    assert float((ours - theirs).abs().max()) < 1e-5
    quantus = pytest.importorskip("quantus.functions.perturb_func")
    gray = quantus.noisy_linear_imputation(x[:1].numpy(), missing.flatten().nonzero().flatten().numpy(), noise=0.0)
    assert float((ours[:1] - torch.as_tensor(gray)).abs().max()) < 1e-6


class Bright(nn.Module):
    """Looks at a bright square, and there alone: one logit."""

    def __init__(self, where):
        super().__init__()
        self.register_buffer("where", where.double())
        self.bias = nn.Parameter(torch.tensor(-0.4, dtype=torch.float64))

    def forward(self, x):
        return 5 * ((x * self.where).flatten(1).sum(1, keepdim=True) / self.where.sum() / x.shape[1] + self.bias)


def square(shape):
    where = torch.zeros(shape[1:])
    where[tuple(slice(n // 4, n // 2) for n in shape[1:])] = 1
    x = 0.2 + 0.05 * torch.rand(shape, generator=g(3), dtype=torch.float64) + 0.7 * where
    return Bright(where), x, where


@pytest.mark.parametrize("shape", [(1, 16, 14), (3, 16, 16), (1, 8, 10, 9)])
def test_road_is_the_mean_gap_between_its_curves_also_in_color_and_in_volumes(shape):
    """Quantus 0.6.0 raises on color, imputes NaN in volumes and scores accuracy, which for one logit is always 1 (faults 5, 14)."""
    net, x, where = square(shape)
    noisy = where + 0.1 * torch.rand(where.shape, generator=g(4))
    shuffled = noisy.flatten()[torch.randperm(noisy.numel(), generator=g(5))].view(where.shape)
    panel = open_panel(pl.Model(net), Image(x), ["saliency"], target=0, run=Run(seed=2))
    panel.entries = panel_of_maps({"true": noisy, "shuffled": shuffled, "turned": -noisy})
    found = read_metric("road(points=3, noise=0.0)").measure(panel)
    order = noisy.flatten().argsort(descending=True)
    for which, first in (("most_first", order), ("least_first", order.flip(0))):
        for share, score in zip((0.25, 0.5, 0.75), found["true"].detail[which]):
            missing = torch.zeros(len(order), dtype=torch.bool)
            missing[first[: round(share * len(order))]] = True
            filled = dense(x, missing.view(where.shape), [1.0] * where.ndim)
            assert score == pytest.approx(float(net(filled[None]).detach()), abs=2e-3)
    most, least = (np.mean(found["true"].detail[k]) for k in ("most_first", "least_first"))
    assert found["true"].value == pytest.approx(least - most)
    assert (found["true"].status, found["turned"].status) == ("pass", "fail")
    assert found["true"].value > found["shuffled"].value
    assert found["turned"].value == pytest.approx(-found["true"].value, abs=1e-2)


def panel_of_maps(maps):
    return {n: Entry(r.double()) for n, r in maps.items()}


def test_random_orders_are_at_chance_and_every_image_is_scored_alone():
    """Quantus 0.6.0 scores the first batch alone (fault 5) and divides maps by the largest of the batch (fault 8)."""
    net, x, where = square((1, 16, 16))
    maps = {f"random {k}": torch.rand(16, 16, generator=g(k), dtype=torch.float64) for k in range(8)}
    panel = open_panel(pl.Model(net), Image(x), ["saliency"], target=0, run=Run(seed=2))
    panel.entries = panel_of_maps({**maps, "huge": 1e6 * where, "true": where})
    found = read_metric("road(points=4)").measure(panel)
    values = [found[n].value for n in maps]
    assert abs(np.mean(values)) < 0.1 * found["true"].value
    assert found["huge"].value == pytest.approx(found["true"].value)
    panel.entries = panel_of_maps({"true": where})
    assert read_metric("road(points=4)").measure(panel)["true"].value == pytest.approx(found["true"].value)
