"""Occlusion against its formula, window by window."""

import itertools

import pytest
import torch
from tests.reference.plain import close, explained, places, score, setting

import pellucid as pl
from pellucid.attribution.occlusion import windows
from pellucid.errors import BadParameter
from pellucid.params import Distance

DIMS = pytest.mark.parametrize("dims", [2, 3])


def slowly(net, x, edge, starts, fill):
    full, found, times = score(net, x), torch.zeros(1, *x.shape[1:], dtype=torch.float64), torch.zeros(1, *x.shape[1:])
    for corner in itertools.product(*starts):
        hidden = x.clone()
        inside = [at for at in places(x.shape[1:]) if all(c <= a < c + edge for a, c in zip(at, corner, strict=True))]
        for at in inside:
            hidden[(slice(None), *at)] = fill
        drop = full - score(net, hidden)
        for at in inside:
            found[(0, *at)] += drop
            times[(0, *at)] += 1
    assert bool((times > 0).all())
    return found / times


@DIMS
def test_occlusion(dims):
    net, x = setting(dims)
    last = {12: [0, 3, 6, 8], 10: [0, 3, 6], 9: [0, 2, 3, 5], 8: [0, 2, 4]}  # written by hand for windows of 4, 3 apart at most
    fitting = {n: s for n, s in last.items() if n in x.shape[1:]}
    starts = [sorted({w[a].start for w in windows(pl.Grid(tuple(x.shape[1:])), Distance(4), Distance(3))}) for a in range(dims)]
    for n, found in zip(x.shape[1:], starts, strict=True):
        assert found[0] == 0
        assert found[-1] == n - 4
        assert all(b - a <= 3 for a, b in itertools.pairwise(found))
        assert found == [n - 4 - a for a in reversed(found)], "the two sides are treated alike"
    assert fitting
    close(explained(net, x, "occlusion", window="4px", stride="3px", fill=0.4).values, slowly(net, x, 4, starts, 0.4))


@DIMS
def test_several_fills_give_the_mean(dims):
    net, x = setting(dims)
    both = explained(net, x, "occlusion", window="4px", fill="black_and_white")
    parts = [explained(net, x, "occlusion", window="4px", fill=f).values for f in (0.0, 1.0)]
    close(both.values, (parts[0] + parts[1]) / 2)
    assert both.provenance.forward == 2 * (explained(net, x, "occlusion", window="4px").provenance.forward - 1) + 1


def test_a_window_is_a_cube_in_the_patient():
    found = windows(pl.Grid.spaced((40, 40, 20), (1.0, 0.5, 3.0)), Distance(9.0, "mm"), None)
    assert {tuple(s.stop - s.start for s in w) for w in found} == {(9, 18, 3)}
    thick = windows(pl.Grid.spaced((40, 40, 4), (1.0, 1.0, 30.0)), Distance(9.0), None)
    assert {tuple(s.stop - s.start for s in w) for w in thick} == {(9, 9, 1)}, "at least one sample"


@pytest.mark.parametrize("n", range(1, 14))
@pytest.mark.parametrize("edge", range(1, 8))
def test_windows_reach_every_sample(n, edge):
    for stride in range(1, edge + 1):
        if edge <= n:
            found = windows(pl.Grid((n, n)), Distance(edge), Distance(stride))
            starts = sorted({w[0].start for w in found})
            assert starts == sorted({n - edge - s for s in starts})
            assert starts[0] == 0
            assert starts[-1] == n - edge
            assert all(b - a <= stride for a, b in itertools.pairwise(starts))


def test_lengths_that_cannot_be_are_refused():
    net, x = setting(2)
    for params, match in (
        ({"window": 40}, "smaller than the image"),
        ({"window": "4px", "stride": "5px"}, "nothing is left out"),
        ({"window": "0.3px"}, "at least one sample"),
        ({"window": -1}, "above 0"),
    ):
        with pytest.raises(BadParameter, match=match):
            explained(net, x, "occlusion", **params)


@DIMS
def test_the_trace_holds_each_window_and_its_score(dims):
    net, x = setting(dims)
    why = explained(net, x, pl.occlusion(window="4px", stride="3px", fill=0.4))
    assert why.trace["edges"] == [4] * dims
    assert len(why.trace["corners"]) == len(why.trace["scores"]) == len({tuple(c) for c in why.trace["corners"]})
    for corner, found in list(zip(why.trace["corners"], why.trace["scores"], strict=True))[::5]:
        hidden = x.clone()
        hidden[(slice(None), *(slice(c, c + 4) for c in corner))] = 0.4
        assert abs(float(score(net, hidden)) - found) < 1e-9


@DIMS
def test_the_trace_stays_small(dims, monkeypatch):
    """Never more than so many windows, evenly spread; with several fills the mean score."""
    net, x = setting(dims)
    params = {"window": "4px", "stride": "2px", "fill": "black_and_white"}
    told = explained(net, x, "occlusion", **params).trace
    assert told["every"] == 1
    cut, slow = (slice(None), *[slice(a, a + 4) for a in told["corners"][1]]), 0
    for fill in (0.0, 1.0):
        hidden = x.clone()
        hidden[cut] = fill
        slow += score(net, hidden) / 2
    assert told["scores"][1] == pytest.approx(slow, abs=1e-9)
    monkeypatch.setitem(pl.occlusion.fn.__globals__, "FRAMES", 7)
    fewer = explained(net, x, "occlusion", **params).trace
    assert len(fewer["corners"]) == len(fewer["scores"]) <= 7
    assert fewer["scores"] == told["scores"][:: fewer["every"]]
