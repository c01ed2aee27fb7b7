"""Accumulated effects against their closed forms, where partial dependence is wrong and where both agree."""

import numpy as np
import pytest

from pellucid.effects import ale, ale_pair, partial_dependence
from pellucid.effects.accumulated import order_of
from pellucid.effects.rows import as_rows
from pellucid.errors import BadParameter


def correlated(n=3000, rho=0.9, seed=0):
    return np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n)


def test_a_linear_model_with_an_interaction_to_rounding():
    """f = a x0 + b x1 + c x0 x1: each step is (z_k - z_(k-1)) (a + c mean of x1 in its interval), mean 0 over the cases."""
    x = correlated(700)
    found = ale(lambda r: 2 * r[:, 0] - 3 * r[:, 1] + 0.5 * r[:, 0] * r[:, 1], x, "x0", grid=12)
    edges = found.axis.values
    at = np.clip(np.searchsorted(edges, x[:, 0], side="left") - 1, 0, len(edges) - 2)
    steps = [(edges[k + 1] - edges[k]) * (2 + 0.5 * x[at == k, 1].mean()) for k in range(len(edges) - 1)]
    total = np.concatenate([[0], np.cumsum(steps)])
    total -= np.mean([(total[k] + total[k + 1]) / 2 for k in at])
    assert np.abs(found.values - total).max() < 1e-10
    assert len(np.unique(np.bincount(at))) <= 3, "intervals hold about as many cases"


def test_a_product_of_correlated_columns():
    """f = x0 x1, rho 0.9: ALE is rho (x0^2 - 1) / 2, partial dependence is flat (Apley and Zhu 2020)."""
    x = correlated()
    found = ale(lambda r: r[:, 0] * r[:, 1], x, "x0", grid=30)
    inner = slice(3, -3)
    away = (found.values - 0.45 * (found.axis.values**2 - 1))[inner]
    assert abs(away.mean()) < 0.1 and np.ptp(away) < 0.06, "the form, and its mean up to that of the sample"
    flat = partial_dependence(lambda r: r[:, 0] * r[:, 1], x, "x0", grid=list(found.axis.values[inner]))
    assert np.ptp(flat.values) < 0.15 < np.ptp(found.values[inner])


def test_what_two_do_together_without_what_each_does_alone():
    x = correlated()
    found = ale_pair(lambda r: r[:, 0] * r[:, 1] + np.sin(r[:, 0]) - r[:, 1], x, "x0", "x1", grid=15)
    a, b = np.meshgrid(*(axis.values for axis in found.axes), indexing="ij")
    away = np.abs(found.values - (a * b - 0.45 * (a**2 + b**2)))[2:-2, 2:-2]
    assert away[found.there[2:-2, 2:-2]].max() < 0.2
    assert not found.there[0, -1] and not found.there[-1, 0], "corners without cases"
    alone = ale_pair(lambda r: np.sin(r[:, 0]) - r[:, 1] ** 2, x, "x0", "x1", grid=9)
    assert np.abs(alone.values).max() < 1e-10


def test_no_row_is_asked_about_that_is_far_from_a_real_one():
    x = correlated(300)
    asked = []
    found = ale(lambda r: asked.append(r.copy()) or r[:, 0], x, "x0", grid=20)
    step = np.diff(found.axis.values)
    far = max(np.abs(r[:, 0] - x[:, 0]).max() for r in asked)
    assert far <= step.max() + 1e-9


def test_its_mean_over_the_cases_is_zero_and_its_edges_are_the_data_s():
    x = correlated(500)
    found = ale(lambda r: np.exp(r[:, 0]), x, "x0")
    assert found.axis.values[0] == x[:, 0].min() and found.axis.values[-1] == x[:, 0].max()
    read = np.interp(x[:, 0], found.axis.values, found.values)
    assert abs(read.mean()) < 0.03 * np.ptp(found.values)


def test_categories_step_by_what_they_do():
    rng = np.random.default_rng(0)
    kind = rng.choice(["low", "middle", "high"], 400)
    size = {"low": 0.0, "middle": 1.0, "high": 2.0}
    rows = {"v": np.array([size[k] for k in kind]) + 0.7 * rng.normal(size=400), "kind": kind}
    assert order_of(as_rows(rows), "kind") in (["low", "middle", "high"], ["high", "middle", "low"]), "neighbors have alike cases"
    weight = {"low": 0.0, "middle": 5.0, "high": 7.0}
    found = ale(lambda r: np.array([weight[k] for k in r[:, 1]]) + r[:, 0].astype(float), rows, "kind", grid=["low", "middle", "high"])
    share = [np.mean(kind == k) for k in found.axis.labels]
    assert np.abs(np.diff(found.values) - [5, 2]).max() < 1e-12 and abs(np.dot(share, found.values)) < 1e-12


def test_the_band_is_over_patients():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(40, 2))
    many, whose = np.repeat(one, 6, axis=0), np.repeat(np.arange(40), 6)
    edges = list(np.quantile(one[:, 0], [0, 0.25, 0.5, 0.75, 1]))

    def model(r):
        return r[:, 0] * r[:, 1]

    alone, by = ale(model, one, "x0", grid=edges), ale(model, many, "x0", grid=edges, patients=whose)
    wrong = ale(model, many, "x0", grid=edges)
    assert np.abs(alone.high - by.high).max() < 1e-9
    assert np.nanmean(wrong.high - wrong.low) < 0.6 * np.nanmean(by.high - by.low)


def test_weights_count_as_cases_do():
    x = correlated(60)
    heavy = np.random.default_rng(1).integers(1, 4, 60)
    edges = list(np.quantile(x[:, 0], [0, 0.3, 0.6, 1]))

    def model(r):
        return r[:, 0] * r[:, 1]

    weighted = ale(model, x, "x0", grid=edges, weights=heavy.astype(float))
    repeated = ale(model, np.repeat(x, heavy, axis=0), "x0", grid=edges)
    assert np.abs(weighted.values - repeated.values).max() < 1e-12


def test_refusals():
    x = correlated(50)
    with pytest.raises(BadParameter, match="two values or more"):
        ale(lambda r: r[:, 0], np.ones((9, 2)), "x0")
    with pytest.raises(BadParameter, match="two different columns"):
        ale_pair(lambda r: r[:, 0], x, "x0", "x0")
    with pytest.raises(BadParameter, match="rising edges"):
        ale(lambda r: r[:, 0], x, "x0", grid=[1.0, 0.0])
    with pytest.raises(BadParameter, match="which have none"):
        ale(lambda r: r[:, 0], x, "x0").centered()
