"""Blur IG against its formula, with scipy's Gaussian; and what its trace tells."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from tests.reference.plain import close, explained, gradient, score, setting

import pellucid as pl
from pellucid.errors import BadParameter

DIMS = pytest.mark.parametrize("dims", [2, 3])


def blurred(x, sigma, edge="nearest"):
    sigma = [0.0, *np.broadcast_to(sigma, x.ndim - 1)]
    return torch.from_numpy(gaussian_filter(x.numpy(), sigma, mode={"nearest": "nearest", "zero": "constant"}[edge]))


def slowly(net, x, sigma, steps, edge="nearest", power=1.0):
    """Sum over the path of gradient times what the step gives back, sigma being one number or one per axis."""
    sigma = np.asarray(sigma, dtype=float)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    found, done = torch.zeros_like(x), 0.0
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        step = blurred(x, sigma * done**power, edge) - blurred(x, sigma * (done + weight) ** power, edge)
        found += gradient(net, blurred(x, sigma * node**power, edge)) * step
        done += weight
    return found


@DIMS
@pytest.mark.parametrize("edge", ["nearest", "zero"])
@pytest.mark.parametrize("spacing", ["linear", "sqrt"])
def test_blur_ig(dims, edge, spacing):
    net, x = setting(dims)
    ours = explained(net, x, "blur_ig", max_sigma="2.5px", steps=7, edge=edge, spacing=spacing)
    close(ours.values, slowly(net, x, 2.5, 7, edge, 0.5 if spacing == "sqrt" else 1.0))


@DIMS
def test_along_one_axis(dims):
    net, x = setting(dims)
    only = [0.0] * dims
    only[1] = x.shape[2] / 4  # a quarter of the shortest blurred side
    close(explained(net, x, "blur_ig", steps=6, axes=1).values, slowly(net, x, only, 6))
    close(explained(net, x, "blur_ig", steps=6, axes=[1]).values, slowly(net, x, only, 6))


def test_the_blur_is_isotropic_in_the_patient():
    net, x = setting(3)
    scan = pl.Image(x, pl.Grid.spaced(tuple(x.shape[1:]), (0.5, 1.0, 2.5)))
    ours = explained(net, scan, "blur_ig", steps=5, max_sigma=2)
    close(ours.values, slowly(net, x, [4.0, 2.0, 0.8], 5))
    assert (ours.trace["max_sigma"], ours.trace["unit"]) == (2.0, "mm")
    assert explained(net, scan, "blur_ig", steps=5).trace["max_sigma"] == pytest.approx(5.0 / 4)


@DIMS
def test_the_trace_tells_the_scales(dims):
    net, x = setting(dims)
    why = explained(net, x, "blur_ig", steps=9, max_sigma="2px")
    trace = why.trace
    assert sum(trace["contributions"]) == pytest.approx(why.total)
    assert trace["change"] == pytest.approx(score(net, x) - score(net, blurred(x, 2.0)))
    assert list(trace["sigmas"]) == sorted(trace["sigmas"])
    assert 0 < trace["sigmas"][0] < trace["sigmas"][-1] < 2
    for sigma, value, classes in zip(trace["sigmas"], trace["scores"], trace["classes"], strict=True):
        assert value == pytest.approx(score(net, blurred(x, sigma)))
        assert classes == pytest.approx([score(net, blurred(x, sigma), k) for k in range(3)])
    for classes, told in zip(trace["classes"], trace["probabilities"], strict=True):
        assert told == pytest.approx(torch.tensor(classes).softmax(0).tolist())


@pytest.mark.parametrize(("classes", "outputs"), [(("a", "b"), 1), ((), 1), (("a", "b", "c"), 3)])
def test_probabilities_on_the_way_are_those_that_the_output_means(classes, outputs):
    """A single logit with two names stands for (-z, z); several labels are no softmax."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, outputs))
    model = pl.Model(net, classes=classes, output="multi-label" if outputs == 3 else None)
    x = torch.rand(1, 8, 8)
    why = pl.explain(model, x, 0, method="blur_ig", steps=5, max_sigma="0.1px")  # narrower than any blur: the image itself
    for told in why.trace["probabilities"]:
        assert told == pytest.approx(list(why.probabilities or pl.explain(model, x, 0, method="saliency").probabilities), abs=1e-6)


def test_an_axis_that_the_image_lacks_is_refused():
    net, x = setting(2)
    with pytest.raises(BadParameter, match="2 dimensions"):
        explained(net, x, "blur_ig", axes=[0, 2])
    for wrong in ([], "0", [0, 0], True, 3, [0.5]):
        with pytest.raises(BadParameter, match="axes of blur_ig"):
            pl.blur_ig(axes=wrong)


@DIMS
def test_the_maps_of_all_scales_add_up(dims):
    net, x = setting(dims)
    trace = explained(net, x, "blur_ig", steps=6, max_sigma="2px", keep=True).trace
    total = explained(net, x, "blur_ig", steps=6, max_sigma="2px")
    close(trace["maps"].sum(0), total.values)
    assert trace["maps"].sum(tuple(range(1, x.ndim + 1))).tolist() == pytest.approx(trace["contributions"])
    assert "maps" not in total.trace
    edges, sigmas = trace["edges"], trace["sigmas"]
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(2.0)
    assert all(low < sigma < high for low, sigma, high in zip(edges, sigmas, edges[1:], strict=False))
    steps = zip(edges, sigmas, edges[1:], strict=False)
    slow = [gradient(net, blurred(x, sigma)) * (blurred(x, low) - blurred(x, high)) for low, sigma, high in steps]
    close(trace["maps"], torch.stack(slow))


@DIMS
def test_along_one_axis_the_contributions_per_bin(dims):
    """M0's figure of violins: how much each frequency gives; only where one axis is blurred."""
    net, x = setting(dims)
    why = explained(net, x, "blur_ig", steps=5, axes=0)
    assert why.trace["bins"] == pytest.approx(why.values.flatten(2).sum((0, 2)).tolist())
    assert sum(why.trace["bins"]) == pytest.approx(why.total)
    last = explained(net, x, "blur_ig", steps=5, axes=dims - 1)
    assert last.trace["bins"] == pytest.approx(last.values.flatten(0, dims - 1).sum(0).tolist())
    assert "bins" not in explained(net, x, "blur_ig", steps=2).trace


class TwoTones(torch.nn.Module):
    """Music hears low frequencies; violin the difference between two high ones that lie side by side."""

    def forward(self, x):
        return torch.stack([x[:, 0, 2:6].mean((1, 2)), (x[:, 0, 20] - x[:, 0, 22]).mean(1)], 1)


def test_what_a_class_hears_is_told_by_frequency_and_scale():
    sound = torch.zeros(1, 32, 8, dtype=torch.float64)
    sound[:, 3:5], sound[:, 20] = 1.0, 1.0
    music, violin = (pl.explain(TwoTones(), sound, k, method="blur_ig", axes=0, steps=60).trace for k in (0, 1))
    assert np.argmax(music["bins"]) in (3, 4)
    assert np.argmax(violin["bins"]) == 20
    at = [np.average(t["sigmas"], weights=np.abs(t["contributions"])) for t in (music, violin)]
    assert at[1] < at[0], "the fine sign goes with little blur"
    assert abs(music["gap"]) < 1e-9 > abs(violin["gap"])  # exact for linear networks


# -- M0's figure 2: the blur path makes no new extremum and enhances none; intensity paths do (scale-space axioms)


def extrema(signal):
    """Values at inner minima and maxima of a signal; ripples below 1e-4 of its range (the kernel's cut tails) do not count."""
    signal = np.asarray(signal)
    turns, least = [], 1e-4 * np.ptp(signal)
    low = high = signal[0]
    rising = None
    for value in signal[1:]:
        low, high = min(low, value), max(high, value)
        if rising is not False and value < high - least:
            if rising:
                turns.append(("max", high))
            rising, low = False, value
        elif rising is not True and value > low + least:
            if rising is False:
                turns.append(("min", low))
            rising, high = True, value
    return turns


def passed(signal, method, **params):
    """The signals that a network is shown along a path, in the order of asking."""
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, x):
            seen.extend(x.detach()[:, 0, :, 0].clone())
            return x.flatten(1).sum(1, keepdim=True)

    x = torch.as_tensor(signal, dtype=torch.float64).view(1, -1, 1)
    explained_by = pl.explain(Watched(), x, 0, method=method, run=pl.Run(chunk=1), **params)
    return seen, explained_by


def blur_path(signal, steps=12, **params):
    seen, why = passed(signal, "blur_ig", axes=0, steps=steps, **params)
    return [signal, *(s.numpy() for s in seen[:steps])], why


PARABOLA = np.linspace(-1, 1, 65) ** 2 + 1


def test_on_the_blur_path_no_extremum_is_made_or_enhanced():
    path, _ = blur_path(PARABOLA, max_sigma="8px")
    found = [extrema(s) for s in path]
    assert all([kind for kind, _ in f] in (["min"], []) for f in found)
    minima = [f[0][1] for f in found if f]
    assert len(minima) > 8
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(minima)), "a minimum falls with more blur"


def test_intensity_paths_do_both():
    black, _ = passed(PARABOLA, "integrated_gradients", baseline=0.0, steps=8)
    minima = [extrema(s)[0][1] for s in sorted((s.numpy() for s in black if float(s.max()) > 0), key=lambda s: -s.max())]
    assert all(a >= b for a, b in itertools.pairwise(minima))
    assert minima[-1] < 0.5, "on the way to black the minimum of 1 falls: it is enhanced"
    noise, _ = passed(PARABOLA, "integrated_gradients", baseline="random(1)", steps=8)
    assert max(len(extrema(s)) for s in noise) > 10 > len(extrema(PARABOLA)), "noise makes extrema"


@pytest.mark.parametrize("seed", range(4))
def test_on_any_signal_the_number_of_extrema_falls(seed):
    random = np.random.default_rng(seed)
    signal = gaussian_filter(random.normal(size=80), 1.0) + 2 * np.sin(np.linspace(0, 5, 80))
    path, _ = blur_path(signal, max_sigma="10px", steps=20)
    counts = [len(extrema(s)) for s in path]
    assert counts[0] > 6 > counts[-1]
    assert all(a >= b for a, b in itertools.pairwise(counts)), counts
