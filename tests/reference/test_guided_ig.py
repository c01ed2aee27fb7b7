"""Guided IG against the paper's steps, taken in the image's own values, one sample at a time."""

import numpy as np
import pytest
import torch
from tests.parity.nets import image
from tests.parity.nets import net as smooth_net
from tests.reference.plain import close, explained, gradient, score, setting
from tests.reference.twins import pair

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.method import COMPLETE, SIGNED

DIMS = pytest.mark.parametrize("dims", [2, 3])


def slowly(net, x, start, steps, fraction, max_dist):
    """Section 3.3: per step the least steep samples move towards their bound until the step's L1 distance is reached."""
    x, start = x.flatten(), start.flatten()
    shape, at, found = (2, *setting_space(net)), start.clone(), torch.zeros_like(x)
    whole = float((x - start).abs().sum())
    for step in range(steps):
        slope = gradient(net, at.view(shape)).flatten()
        alpha = (step + 1) / steps
        low, high = (start + min(max(a, 0.0), 1.0) * (x - start) for a in (alpha - max_dist, alpha + max_dist))
        new = at.clone()
        for i in range(len(x)):  # what lags comes to its lower bound
            if abs(new[i] - start[i]) < abs(low[i] - start[i]):
                new[i] = low[i]
        order = sorted(range(len(x)), key=lambda i: abs(float(slope[i])))
        share = int(fraction * (len(x) - 1)) + 1
        waiting = [i for i in order if abs(float(new[i] - high[i])) > 1e-12]
        while (missing := float((x - new).abs().sum()) - whole * (1 - alpha)) > 1e-9 * whole and waiting:
            steepest = abs(float(slope[waiting[:share][-1]]))
            first = [i for i in waiting if abs(float(slope[i])) <= steepest * (1 + 1e-9)]  # equals go together
            waiting = waiting[len(first) :]
            room = sum(abs(float(high[i] - new[i])) for i in first)
            for i in first:
                new[i] += min(1.0, missing / room) * (high[i] - new[i])
        found += (new - at) * slope
        at = new
    return found.view(shape)


def setting_space(net):
    return pl.testing.SPACE[2 if isinstance(net.first, torch.nn.Conv2d) else 3]


@DIMS
@pytest.mark.parametrize(("fraction", "max_dist"), [(0.25, 0.05), (0.1, 0.2), (1.0, 1.0)])
def test_guided_ig(dims, fraction, max_dist):
    net, x = setting(dims)
    start = torch.full_like(x, 0.2)
    ours = explained(net, x, "guided_ig", baseline=0.2, steps=4, fraction=fraction, max_dist=max_dist)
    close(ours.values, slowly(net, x, start, 4, fraction, max_dist))


@DIMS
def test_without_freedom_it_is_integrated_gradients_summed_on_the_left(dims):
    net, x = setting(dims)
    slow = sum(gradient(net, 0.2 + k / 9 * (x - 0.2)) for k in range(9)) / 9 * (x - 0.2)
    close(explained(net, x, "guided_ig", baseline=0.2, steps=9, max_dist=0.0).values, slow)


def test_the_way_stays_within_its_bounds_and_covers_its_distance():
    net, x = setting(2)
    seen = []
    hook = net.register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach().clone()))
    explained(net, x, "guided_ig", steps=10, max_dist=0.1, run=pl.Run(chunk=1))
    hook.remove()
    way = torch.cat([s for s in seen if s.shape == seen[0].shape])[-10:]
    shares = way / x
    for k, share in enumerate(shares):
        assert float(share.min()) >= k / 10 - 0.1 - 1e-9
        assert float(share.max()) <= k / 10 + 0.1 + 1e-9
        assert float((x - way[k]).sum()) == pytest.approx(float(x.sum()) * (1 - k / 10))
    assert float(shares[5].max() - shares[5].min()) > 0.15, "nothing left the straight way"


@DIMS
def test_the_gap_falls_with_the_steps_of_a_smooth_network_and_the_trace_tells_it(dims):
    net, x, gaps = smooth_net(dims, torch.nn.Softplus), image(dims), []
    for steps in (20, 80):
        why = explained(net, x, "guided_ig", steps=steps, max_dist=0.05)
        change = score(net, x) - score(net, torch.zeros_like(x))
        assert why.trace["change"] == pytest.approx(change)
        assert why.trace["gap"] == pytest.approx(why.total - change)
        gaps.append(abs(why.trace["gap"] / change))
    assert gaps[1] < gaps[0] / 2
    assert gaps[1] < 0.04


def test_beside_kinks_no_number_of_steps_closes_the_gap_and_the_map_says_so():
    """The way slides along the kinks of ReLUs; without freedom it crosses each once, so there the sum is promised."""
    net, x = setting(2)
    gaps = []
    for steps in (20, 80):
        why = explained(net, x, "guided_ig", steps=steps, max_dist=0.2)
        gaps.append(abs(why.trace["gap"] / why.trace["change"]))
        assert [c for c in why.provenance.caveats if f"misses the change of the score by {gaps[-1]:.0%}" in c]
    assert gaps[1] > 0.2 and gaps[1] > gaps[0] / 2
    straight = explained(net, x, "guided_ig", steps=80, max_dist=0.0)
    assert abs(straight.trace["gap"] / straight.trace["change"]) < 0.02
    assert not [c for c in straight.provenance.caveats if "misses" in c]
    assert COMPLETE in pl.guided_ig(max_dist=0.0).facts.gives and pl.guided_ig.facts.gives == SIGNED


def test_several_starts_are_their_mean():
    net, x = setting(2)
    both = explained(net, x, "guided_ig", baseline="black_and_white", steps=5).values
    close(both, sum(explained(net, x, "guided_ig", baseline=b, steps=5).values for b in (0.0, 1.0)) / 2)


@DIMS
def test_the_additive_twin(dims):
    """The way couples both halves, so the left map may differ from that of g alone; but it must share out what g gains."""
    both, alone, x, left = pair(dims)
    gained = score(alone, x) - score(alone, torch.zeros_like(x))
    shared = float(explained(both, x, "guided_ig", steps=60).values[left].sum())
    assert shared == pytest.approx(gained, abs=0.1 * abs(gained))
    close(*(explained(net, x, "guided_ig", steps=8, max_dist=0.0).values[left] for net in (both, alone)))


def test_what_equals_the_baseline_gets_nothing_and_huge_values_end():
    net, x = setting(2)
    x = x.clone()
    x[0, 3:6] = 0.0
    values = explained(net, x, "guided_ig", steps=6).values
    assert float(values[0, 3:6].abs().max()) == 0.0
    assert float(explained(net, torch.zeros_like(x), "guided_ig", steps=3).values.abs().max()) == 0.0
    huge = explained(net, 3e7 * x + 1e9, "guided_ig", baseline=1e9, steps=4).values  # rounding leaves more than 1e-9 of the way
    assert np.isfinite(huge.numpy()).all()


def test_at_a_site_and_with_no_fraction():
    net, x = setting(2)
    why = explained(net, x, "guided_ig", site="second", steps=8, max_dist=0.0)
    close(why.values, explained(net, x, "guided_ig", site="second", steps=8, max_dist=0.0, fraction=0.9).values)
    assert why.values.shape == (6, 12, 10)
    with pytest.raises(BadParameter, match="above 0"):
        explained(net, x, "guided_ig", fraction=0.0)
