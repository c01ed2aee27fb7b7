"""Surrogates: exact where they can be, refused where they do not follow, never flattered by images of the same patient."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

import pellucid as pl
from pellucid.effects import Surrogate, surrogate
from pellucid.errors import BadParameter

X = np.random.default_rng(0).normal(size=(160, 4))


def steps(r):
    return np.where(r[:, 1] <= 0, 1.0, np.where(r[:, 3] <= 0.3, 4.0, 9.0))


def test_a_tree_is_found_again():
    found = surrogate(steps, X, depth=2, bootstraps=8)
    assert found.fidelity.value > 0.98 and found.readable and found.evidence.verdict == "supported"
    root = found.tree.nodes[0]
    assert root.column in ("x1", "x3") and {t.column for t in found.terms} == {"x1", "x3"}
    assert found.stability.columns == 1.0 and found.stability.ranks > 0.9 and found.stability.answers > 0.95
    assert len(found.rules()) == 3


def test_weights_are_those_of_least_squares_on_the_right_columns():
    found = surrogate(lambda r: 3 * r[:, 0] - 2 * r[:, 2] + 1, X, form="linear", columns=2, bootstraps=8)
    want = LinearRegression().fit(X / X.std(0), 3 * X[:, 0] - 2 * X[:, 2] + 1).coef_
    assert [t.column for t in found.terms] == ["x0", "x2"]
    assert abs(found.terms[0].weight - want[0]) < 1e-9 and abs(found.terms[1].weight - want[2]) < 1e-9
    assert found.fidelity.value > 0.999 and found.terms[0].chosen == found.terms[0].sign == 1
    few = surrogate(lambda r: r @ [4, 3, 2, 1], X, form="linear", columns=3, bootstraps=2)
    assert {t.column for t in few.terms} == {"x0", "x1", "x2"}, "no more than asked for"


def test_one_that_does_not_follow_is_refused(tmp_path):
    noise = np.random.default_rng(1).normal(size=160)
    for form in ("tree", "linear"):
        found = surrogate(noise, X, form=form, bootstraps=3)
        assert not found.readable and found.evidence.verdict == "not supported" and found.fidelity.value < 0.2
        assert "Do not read it" in " ".join(found.sentences()) and len(found.sentences()) == 2, "and nothing is said of columns"
        drawn = found.figure(tmp_path / "s.svg")
        assert form == "linear" or "Do not read it" in drawn


def test_images_of_one_patient_do_not_flatter_it():
    """Features and scores that only name the patient: folds over images would follow them, folds over patients cannot."""
    rng = np.random.default_rng(0)
    whose = np.repeat(np.arange(24), 8)
    rows = rng.normal(size=(24, 3))[whose] + 0.01 * rng.normal(size=(192, 3))
    scores = rng.normal(size=24)[whose]
    honest = surrogate(scores, rows, depth=8, patients=whose, bootstraps=2)
    fooled = surrogate(scores, rows, depth=8, bootstraps=2)
    assert fooled.fidelity.value > 0.7 > 0.1 > honest.fidelity.value and not honest.readable


def test_agreement_is_held_against_one_answer_for_all(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))
    model = pl.Model(net, classes=("no", "yes"))
    found = surrogate(model, X, form="linear", target=pl.probability("yes"), columns=4, bootstraps=4)
    assert found.network == model.identity and 0.5 < found.always < 1 and found.agreement.value > found.always
    again = Surrogate.load(found.save(tmp_path / "surrogate.json"), model)
    assert again.sentences() == found.sentences() and again.table() == found.table()


def test_columns_that_stand_in_for_each_other_are_told_as_unstable():
    rng = np.random.default_rng(3)
    a = rng.normal(size=150)
    twins = np.stack([a + 0.05 * rng.normal(size=150) for _ in range(6)], 1)
    found = surrogate(twins.mean(1), twins, form="linear", columns=1, bootstraps=30)
    assert found.readable and found.stability.columns < 0.8 and found.evidence.verdict == "questionable"
    assert "read the answers, not the columns" in " ".join(found.sentences())


def test_refusals():
    with pytest.raises(BadParameter, match="scores that differ"):
        surrogate(np.ones(160), X)
    with pytest.raises(BadParameter, match="20 cases"):
        surrogate(np.arange(9.0), X[:9])
    with pytest.raises(BadParameter, match="a score for each"):
        surrogate(np.arange(9.0), X)
    with pytest.raises(BadParameter, match="tree or linear"):
        surrogate(steps, X, form="rules")
