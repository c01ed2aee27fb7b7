"""Grad-CAM++, XGrad-CAM, Ablation-CAM, Score-CAM and Eigen-CAM against their formulas, cell by cell."""

import math

import numpy as np
import pytest
import torch
from tests.reference.plain import TARGET, close, explained, inside, places, score, setting
from torch import nn

import pellucid as pl
from pellucid.errors import Unsupported


def pooled(dims):
    """Two ReLU sites, the second at half the resolution; a head that weighs places."""
    conv, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
    space = (8, 6) if dims == 2 else (6, 4, 8)
    torch.manual_seed(dims + 2)
    head = nn.Linear(5 * math.prod(n // 2 for n in space), 3)
    net = nn.Sequential(conv(2, 4, 3, padding=1), nn.ReLU(), pool(2), conv(4, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), head)
    return net.double().eval(), torch.rand(2, *space, dtype=torch.float64)


CASES = {"pooled 1": (pooled, "1"), "pooled 4": (pooled, "4"), "residual norm": (setting, "norm"), "residual second": (setting, "second")}


REFUSED = {("grad_cam_plus_plus", "residual norm", 3)}  # activations of both signs, where the formula divides by nothing


def planted(net, x, site, z, target=TARGET):
    handle = net.get_submodule(site).register_forward_hook(lambda _m, _a, _z: z[None].clone())
    try:
        return score(net, x, target)
    finally:
        handle.remove()


def summed(weights, z):
    out = torch.zeros(z.shape[1:], dtype=torch.float64)
    for at in places(z.shape[1:]):
        out[at] = sum(w * z[c][at].item() for c, w in enumerate(weights))
    return out


def plus_plus(z, g):
    weights = []
    for zc, gc in zip(z, g, strict=True):
        total = 0.0
        for at in places(z.shape[1:]):
            if gc[at] != 0:
                alpha = gc[at] ** 2 / (2 * gc[at] ** 2 + zc.sum() * gc[at] ** 3)
                total += float(alpha * max(gc[at], 0.0))
        weights.append(total / zc.numel())
    return weights


def xgrad(z, g):
    alive = [(zc, gc) if bool(zc.any()) else (torch.ones_like(zc), torch.zeros_like(gc)) for zc, gc in zip(z, g, strict=True)]
    return [sum(float(zc[at] / zc.sum() * gc[at]) for at in places(z.shape[1:])) for zc, gc in alive]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "weights"), [("grad_cam_plus_plus", plus_plus), ("xgrad_cam", xgrad)])
def test_weights_from_gradients(dims, case, name, weights):
    make, site = CASES[case]
    net, x = make(dims)
    z, g = inside(net, x, site)
    if (name, case, dims) in REFUSED:
        with pytest.raises(Unsupported, match="behind a ReLU"):
            explained(net, x, name, site=site)
        return
    ours, signed = (explained(net, x, name, site=site, relu=r) for r in (True, False))
    slow = summed(weights(z, g), z)
    assert ours.values.shape == (1, *z.shape[1:]) == (1, *ours.grid.shape)
    close(signed.values[0], slow)
    assert torch.equal(ours.values, signed.values.relu())
    assert (ours.provenance.forward, ours.provenance.backward) == (1, 1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_ablation_cam(dims, case):
    make, site = CASES[case]
    net, x = make(dims)
    z, _ = inside(net, x, site)
    weights = []
    for c in range(len(z)):
        without = z.clone()
        without[c] = 0
        weights.append(score(net, x) - planted(net, x, site, without))
    ours, signed = (explained(net, x, "ablation_cam", site=site, relu=r) for r in (True, False))
    close(signed.values[0], summed(weights, z))
    assert torch.allclose(ours.values, signed.values.relu(), atol=1e-9)
    assert ours.provenance.forward == len(z) + 1


def laid_over(channel, space):
    """Linear between cell centers that lie at 2 u + 1/2 (half resolution) or u, the edge value beyond them; then stretched to [0, 1]."""
    out = torch.zeros(space, dtype=torch.float64)
    for at in places(space):
        value = 0.0
        spots = [i if m == n else min(max((i - 0.5) / 2, 0.0), m - 1.0) for i, n, m in zip(at, space, channel.shape, strict=True)]
        for corner in places([2] * len(space)):
            weight, index = 1.0, []
            for spot, bit, m in zip(spots, corner, channel.shape, strict=True):
                weight *= spot - math.floor(spot) if bit else 1 - (spot - math.floor(spot))
                index.append(min(math.floor(spot) + bit, m - 1))
            value += weight * channel[tuple(index)].item()
        out[at] = value
    return (out - out.min()) / (out.max() - out.min()) if out.max() > out.min() else torch.zeros_like(out)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("case", "fill"), [("pooled 1", 0.3), ("pooled 4", 0.0), ("pooled 4", 0.3), ("residual second", 0.0)])
def test_score_cam(dims, case, fill):
    make, site = CASES[case]
    net, x = make(dims)
    z, _ = inside(net, x, site)
    masks = [laid_over(c, x.shape[1:]) for c in z]
    scores = [score(net, m * x + (1 - m) * fill) for m in masks]
    raised = [math.exp(s - max(scores)) for s in scores]
    weights = [r / sum(raised) for r in raised]
    ours = explained(net, x, "score_cam", site=site, relu=False, fill=pl.Constant(fill))
    close(ours.values[0], summed(weights, z))
    assert ours.trace["passes"] == ours.provenance.forward == len(z) + 1
    assert ours.trace["weights"] == pytest.approx(weights)


def test_score_cam_of_two_fills_takes_their_mean_and_says_how_many_passes():
    net, x = pooled(2)
    both = explained(net, x, "score_cam", site="4", fill=pl.black_and_white)
    masks = [laid_over(c, x.shape[1:]) for c in inside(net, x, "4")[0]]
    means = torch.tensor([(score(net, m * x) + score(net, m * x + 1 - m)) / 2 for m in masks], dtype=torch.float64)
    assert both.trace["weights"] == pytest.approx(means.softmax(0).tolist())
    assert both.trace["passes"] == both.provenance.forward == 11


@pytest.mark.parametrize(("scale", "said"), [(1e-6, "hardly differ"), (1.0, ""), (1e6, "of the weight")])
def test_score_cam_says_when_its_weights_tell_nothing(scale, said):
    net, x = pooled(2)
    with torch.no_grad():
        net[-1].weight *= scale
        net[-1].bias *= scale
    told = [c for c in pl.explain(net, x, 1, method="score_cam", site="4", relu=False).provenance.caveats if "same for every target" in c]
    assert len(told) == bool(said) and said in "".join(told)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_eigen_cam(dims, case):
    make, site = CASES[case]
    net, x = make(dims)
    rows = inside(net, x, site)[0].flatten(1).T.numpy()  # places in rows, channels in columns
    rows = rows - rows.mean(0)
    _, singular, directions = np.linalg.svd(rows)
    slow = rows @ directions[0]
    slow = slow if slow.max() >= -slow.min() else -slow
    ours = explained(net, x, "eigen_cam", site=site)
    close(ours.values.flatten(), torch.from_numpy(slow), 1e-7)
    assert ours.trace["share"] == pytest.approx(singular[0] ** 2 / (singular**2).sum())
    assert torch.equal(ours.values, pl.explain(net, x, 2, method="eigen_cam", site=site).values)
    assert any("every target" in c for c in ours.provenance.caveats)


def test_eigen_cam_with_more_channels_than_places():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 30, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(30 * 6, 3)).double()
    x = torch.rand(1, 4, 6, dtype=torch.float64)
    rows = inside(net, x, "1")[0].flatten(1).T
    rows = rows - rows.mean(0)
    slow = rows @ torch.linalg.svd(rows)[2][0]
    slow = slow if slow.max() >= -slow.min() else -slow
    close(explained(net, x, "eigen_cam").values.flatten(), slow, 1e-7)


def test_a_map_that_cannot_be_right_is_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Flatten(), nn.Linear(2 * 16, 3)).double()
    x = torch.rand(1, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
        net[2].weight.fill_(1.0)
    with pytest.raises(Unsupported, match="behind a ReLU"):
        explained(net, x * 10, "grad_cam_plus_plus")
    with torch.no_grad():
        net[0].weight.fill_(1.0)
        net[2].weight.copy_(torch.rand(3, 32))
    with pytest.raises(Unsupported, match="behind a ReLU"):
        explained(net, x - x.mean() + 1e-9, "xgrad_cam")
    with pytest.raises(Unsupported, match="constant"):
        explained(net, torch.ones_like(x), "eigen_cam")
