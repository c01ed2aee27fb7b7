"""Permutation importance: scikit-learn's numbers with its shuffles, intervals over patients, and columns that stand in for each other."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance as theirs
from sklearn.linear_model import LinearRegression

from pellucid.effects import Importance, correlated, permutation_importance
from pellucid.effects.metrics import METRICS
from pellucid.errors import BadParameter
from pellucid.run import Run


@pytest.mark.parametrize(("metric", "scoring"), [("auc", "roc_auc"), ("accuracy", "accuracy"), ("log loss", "neg_log_loss")])
def test_the_numbers_of_scikit_learn(metric, scoring):
    data = load_breast_cancer()
    x, y = data.data[:, [0, 1, 4, 5]], data.target
    forest = RandomForestClassifier(6, min_samples_leaf=5, random_state=0).fit(x[::3], y[::3])
    ours = permutation_importance(forest, x[1::3], y[1::3], metric=metric, repeats=3, run=Run(seed=7))
    peer = theirs(forest, x[1::3], y[1::3], scoring=scoring, n_repeats=3, random_state=7)
    for k, row in enumerate(ours):
        at = int(row.name[1:])
        assert np.abs(ours.draws[k] - peer.importances[at]).max() < 1e-10
        assert abs(row.value - peer.importances_mean[at]) < 1e-10


def test_numbers_of_a_regression_and_labels_by_name():
    data = load_diabetes(as_frame=True)
    fitted = LinearRegression().fit(data.data, data.target)
    ours = permutation_importance(fitted, data.data, data.target, repeats=3, run=Run(seed=1))
    peer = theirs(fitted, data.data, data.target, n_repeats=3, random_state=1)
    order = [list(data.data.columns).index(r.name) for r in ours]
    assert np.abs(ours.draws - peer.importances[order]).max() < 1e-10 and abs(ours.level - fitted.score(data.data, data.target)) < 1e-12


def test_a_class_by_its_name_and_its_labels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    word = np.where(x[:, 0] > 0, "ill", "well")
    forest = RandomForestClassifier(5, random_state=0).fit(x, word)
    ill, well = (permutation_importance(forest, x, word, target=t, repeats=2) for t in ("ill", "well"))
    assert ill.level > 0.95 and abs(ill["x0"].value - well["x0"].value) < 0.1 and ill["x0"].value > 0.2
    with pytest.raises(BadParameter, match="labels of which some"):
        permutation_importance(forest, x, ["no"] * 200, target="ill")


def test_intervals_hold_nothing_for_noise_and_something_for_signal():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    y = (x[:, 0] + 0.5 * rng.normal(size=300) > 0).astype(float)
    found = permutation_importance(lambda r: r[:, 0] + 0.02 * r[:, 1], x, y, metric="auc", repeats=5)
    assert found.rows[0].name == "x0" and found["x0"].clear
    assert not found["x2"].clear and found["x2"].value == 0
    assert "Nothing is lost for sure without" in " ".join(found.sentences())


def test_shuffles_are_no_patients():
    """More shuffles narrow the spread, not the interval over patients; images of one patient are not independent."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(40, 2))
    many, whose = np.repeat(one, 6, axis=0), np.repeat(np.arange(40), 6)
    y = many[:, 0] + np.repeat(rng.normal(size=40), 6)

    def asked(patients):
        row = permutation_importance(lambda r: r[:, 0], many, y, metric="squared error", repeats=30, patients=patients)["x0"]
        return row.high - row.low, row.spread

    (wide, spread), (narrow, _) = asked(whose), asked(None)
    assert narrow < 0.6 * wide and spread / np.sqrt(30) < 0.2 * wide


def test_columns_that_stand_in_for_each_other():
    rng = np.random.default_rng(0)
    a = rng.normal(size=400)
    rows = {"a": a, "twin": a + 0.05 * rng.normal(size=400), "b": rng.normal(size=400)}
    groups = correlated(rows)
    assert groups == {"a + twin": ("a", "twin")}

    def model(r):
        return r[:, 0] + r[:, 1] + r[:, 2]

    y = 2 * a + rows["b"]
    alone, together = (permutation_importance(model, rows, y, repeats=3, groups=g) for g in (None, groups))
    assert alone["a"].tells == ("twin",) and not alone["b"].tells
    assert together["a + twin"].value > 1.7 * (alone["a"].value + alone["twin"].value), "each alone looks less than it is"
    assert "Shuffle such columns together" in " ".join(alone.sentences())


def test_metrics_by_hand():
    truth, scores, ones = np.array([1.0, 0, 1, 0]), np.array([0.9, 0.4, 0.4, 0.1]), np.ones(4)
    assert METRICS["auc"].of(truth, scores, ones) == 3.5 / 4
    assert METRICS["auc"].of(truth, scores, np.array([2.0, 1, 1, 1])) == (2 * 2 + 1.5) / 6
    assert METRICS["accuracy"].of(truth, scores, ones) == 0.75
    assert abs(METRICS["log loss"].of(truth, scores, ones) - np.mean(np.log([0.9, 0.6, 0.4, 0.9]))) < 1e-15


def test_kept_drawn_and_refused(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 2))
    found = permutation_importance(lambda r: r[:, 0], x, x[:, 0], repeats=2)
    again = Importance.load(found.save(tmp_path / "importance.json"))
    assert again.table() == found.table() and np.array_equal(again.draws, found.draws)
    found.figure(tmp_path / "bars.svg", theme="dark")
    for wrong in ({"metric": "f1"}, {"repeats": 0}, {"columns": ["z"]}, {"truth": x[:5, 0]}):
        with pytest.raises(BadParameter):
            permutation_importance(lambda r: r[:, 0], x, wrong.pop("truth", x[:, 0]), **wrong)
    with pytest.raises(BadParameter, match="probabilities"):
        permutation_importance(lambda r: r[:, 0], x, (x[:, 0] > 0).astype(float), metric="accuracy")
