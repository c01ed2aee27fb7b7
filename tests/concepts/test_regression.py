"""Regression concepts: a measure that the activations hold and the score follows, one that it does not, one that is not there."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from pellucid.concepts import regression_concept
from pellucid.concepts.regression import _dealt, ridge
from pellucid.errors import BadImage, BadParameter, Cancelled
from pellucid.run import Run


def net(dims=2):
    """Activations hold the brightness of two channels; the score follows the first one, by how much depends on the image."""
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    first = conv(2, 2, 1, bias=False)
    first.weight.data = torch.eye(2).reshape(2, 2, *[1] * dims)

    class Head(nn.Module):
        def forward(self, a):
            m = a.flatten(2).mean(2)
            return torch.stack([torch.tanh(3 * m[:, 0]) + 0.05 * m[:, 1] * m[:, 0], -m[:, 0]], 1)

    return nn.Sequential(first, Head()).eval()


def scans(n=40, dims=2, seed=0):
    chance = torch.Generator().manual_seed(seed)
    level = torch.rand(n, 2, generator=chance)
    return [torch.randn(2, *[5] * dims, generator=chance) * 0.05 + v.reshape(2, *[1] * dims) for v in level], level.double().numpy()


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_held_and_used_what_is_held_alone_and_what_is_not(dims):
    images, level = scans(dims=dims)
    model = net(dims)
    used = regression_concept(model, images, level[:, 0], [0, 1], name="brightness", sites="0", pool="mean")
    up, down = used.rows
    assert up.r2 > 0.95 and up.r2_p == 0.005 and up.verdict == "raises" and up.br > 1 and up.p <= 0.05
    assert down.verdict == "lowers" and down.br < -1 and down.sensitivity == pytest.approx(-1, abs=0.02)
    assert "More brightness raises the class 0 score" in used.sentences()[0]
    held = regression_concept(model, images, level[:, 1], 0, sites="0", pool="mean").rows[0]
    assert held.r2 > 0.95 and abs(held.effect) < 0.1 * up.effect and held.verdict == "no more than random"
    assert held.br > up.br, "a steady effect of next to nothing: why Br is shown and does not decide"
    dealt = np.random.default_rng(0).permutation(level[:, 0])
    lost = regression_concept(model, images, dealt, 0, sites="0", pool="mean").rows[0]
    assert lost.r2 < 0.3 and lost.br == pytest.approx(0, abs=0.35) and lost.verdict == "not told apart"
    assert len(used.table()) == 2 and used.provenance.site == "0"


def test_br_is_its_formula():
    images, level = scans()
    row = regression_concept(net(), images, level[:, 0], 0, sites="0", pool="mean").rows[0]
    a = torch.stack(images).flatten(2).mean(2).double().numpy()
    w = ridge(a, level[:, :1])[:, 0]
    w /= np.linalg.norm(w)
    m = torch.from_numpy(a).requires_grad_()
    torch.stack([torch.tanh(3 * m[:, 0]) + 0.05 * m[:, 1] * m[:, 0]]).sum().backward()
    s = m.grad.numpy() @ w
    assert row.sensitivity == pytest.approx(s.mean(), rel=1e-4) and row.spread == pytest.approx(s.std(), rel=1e-4)
    assert row.br == pytest.approx(row.r2 * s.mean() / s.std(), rel=1e-4)


def test_ridge_is_least_squares_where_nothing_speaks_against_it():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4))
    w = np.array([[1.0], [-2.0], [0.5], [0.0]])
    assert np.allclose(ridge(x, x @ w + 3), w, atol=0.01)


def test_r2_is_of_patients_who_were_held_out():
    """Each patient has a look of his own and a value of his own; there is nothing to learn but who it is."""
    rng = np.random.default_rng(0)
    look = torch.from_numpy(rng.normal(size=(12, 2, 5, 5))).float()
    who = np.repeat(np.arange(12), 4)
    images = [look[p] + 0.01 * torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(i)) for i, p in enumerate(who)]
    values = rng.normal(size=12)[who]
    leaky = regression_concept(net(), images, values, 0, sites="0", pool="none", permutations=19).rows[0]
    honest = regression_concept(net(), images, values, 0, sites="0", pool="none", permutations=19, patients=who.tolist()).rows[0]
    assert leaky.r2 > 0.8 and honest.r2 < 0.3 and honest.verdict == "not told apart"


def test_values_are_dealt_among_patients_with_as_many_images():
    who = list("aabbccd")
    values = np.arange(7.0)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(30):
        dealt = _dealt(values, who, rng)
        assert dealt[6] == 6 and sorted(dealt) == sorted(values)
        assert [dealt[k + 1] - dealt[k] for k in (0, 2, 4)] == [1, 1, 1]
        seen.add(tuple(dealt))
    assert len(seen) == 6


def test_what_cannot_be_is_told():
    images, level = scans(12)
    with pytest.raises(BadImage, match="at least 10 images"):
        regression_concept(net(), images[:9], level[:9, 0], 0, sites="0")
    with pytest.raises(BadParameter, match="a finite value"):
        regression_concept(net(), images, [*level[:11, 0], float("nan")], 0, sites="0")
    with pytest.raises(BadParameter, match="a measure that changes"):
        regression_concept(net(), images, [1.0] * 12, 0, sites="0")
    with pytest.raises(BadImage, match="three patients"):
        regression_concept(net(), images, level[:, 0], 0, sites="0", patients=[0, 1] * 6)
    with pytest.raises(BadParameter, match="a patient for each"):
        regression_concept(net(), images, level[:, 0], 0, sites="0", patients=[0, 1])
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        regression_concept(net(), images, level[:, 0], 0, sites="0", run=Run(cancel=stop))
