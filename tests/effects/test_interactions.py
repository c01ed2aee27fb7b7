"""Friedman's H: nothing for sums, all for products, and by its formula."""

import numpy as np
import pytest

from pellucid.effects import h_statistic
from pellucid.errors import BadParameter

X = np.random.default_rng(0).normal(size=(25, 3))
X -= X.mean(0)


def test_sums_have_none_and_products_nothing_else():
    found = h_statistic(lambda r: np.sin(r[:, 0]) + r[:, 1] ** 2 + r[:, 2], X)
    assert max(r.value for r in found) < 1e-20 and not any(r.clear for r in found)
    found = h_statistic(lambda r: r[:, 0] * r[:, 1] + r[:, 2], X)
    assert found.rows[0].name == "x0 x x1" and abs(found.rows[0].value - 1) < 1e-10 and max(r.value for r in found.rows[1:]) < 1e-20


def test_the_formula_written_slowly():
    def model(r):
        return r[:, 0] * r[:, 1] + 2 * r[:, 0] - r[:, 1] + np.cos(r[:, 2])

    def dependence(names, at):
        changed = X.copy()
        changed[:, names] = X[at, names]
        return model(changed).mean()

    one, two, both = (np.array([dependence(names, k) for k in range(len(X))]) for names in ([0], [1], [0, 1]))
    one, two, both = one - one.mean(), two - two.mean(), both - both.mean()
    want = ((both - one - two) ** 2).sum() / (both**2).sum()
    assert abs(h_statistic(model, X, ["x0", "x1"]).rows[0].value - want) < 1e-12
    plain = h_statistic(model, X, ["x0", "x1"], normalized=False).rows[0]
    assert abs(plain.value - np.sqrt(((both - one - two) ** 2).mean())) < 1e-12


def test_cases_are_drawn_by_patient_and_refusals():
    whose = np.repeat(np.arange(5), 5)
    found = h_statistic(lambda r: r[:, 0] * r[:, 1], X, ["x0", "x1"], patients=whose, cases=10)
    assert (found.cases, found.patients) == (10, 2), "all images of two patients, not some of each"
    with pytest.raises(BadParameter, match="two columns"):
        h_statistic(lambda r: r[:, 0], X, ["x0"])
