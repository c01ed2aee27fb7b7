"""Partial dependence and individual curves: parity with scikit-learn, formulas by hand, where the data end, whose cases they are."""

import json

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import partial_dependence as theirs
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

import pellucid as pl
from pellucid.effects import Curve, Effect, Surface, ice, partial_dependence, partial_dependence_pair
from pellucid.errors import BadModel, BadParameter, BadTarget
from pellucid.run import Run


def correlated(n=1500, rho=0.9, seed=0):
    return np.random.default_rng(seed).multivariate_normal([0, 0], [[1, rho], [rho, 1]], n)


@pytest.fixture(scope="module")
def cancer():
    data = load_breast_cancer()
    names = [str(n) for n in data.feature_names[:6]]
    x = data.data[:, :6]
    forest = RandomForestClassifier(8, min_samples_leaf=5, random_state=0).fit(x, data.target)
    return forest, dict(zip(names, x.T)), x, tuple(data.target_names)


def test_mean_cases_and_grid_are_those_of_scikit_learn(cancer):
    forest, rows, x, names = cancer
    ours = partial_dependence(forest, rows, "mean texture", grid=12, spacing="even", target="benign", classes=names)
    peer = theirs(forest, x, [1], grid_resolution=12, kind="both")
    assert np.abs(ours.axis.values - peer.grid_values[0]).max() < 1e-10
    assert np.abs(ours.values - peer.average[0]).max() < 1e-10
    assert np.abs(ours.individual - peer.individual[0]).max() < 1e-10
    other = partial_dependence(forest, rows, "mean texture", grid=12, spacing="even", target="malignant", classes=names)
    assert np.abs(other.values + ours.values - 1).max() < 1e-10, "the class that is named is the one that is told"


def test_two_columns_and_weights_are_those_of_scikit_learn(cancer):
    forest, rows, x, _ = cancer
    ours = partial_dependence_pair(forest, rows, "mean radius", "mean texture", grid=5, spacing="even")
    peer = theirs(forest, x, [(0, 1)], grid_resolution=5)
    assert np.abs(ours.values - peer.average[0]).max() < 1e-10
    heavy = np.random.default_rng(0).uniform(0, 2, len(x))
    ours = partial_dependence(forest, rows, "mean area", grid=6, spacing="even", weights=heavy)
    peer = theirs(forest, x, [3], grid_resolution=6, sample_weight=heavy)
    assert np.abs(ours.values - peer.average[0]).max() < 1e-10


def test_a_regressor_on_a_data_frame():
    data = load_diabetes(as_frame=True)
    fitted = DecisionTreeRegressor(max_depth=4, random_state=0).fit(data.data, data.target)
    ours = partial_dependence(fitted, data.data, "bmi", grid=7, spacing="even")
    peer = theirs(fitted, data.data, ["bmi"], grid_resolution=7, kind="both")
    assert np.abs(ours.individual - peer.individual[0]).max() < 1e-10
    with pytest.raises(BadModel, match="without 'bmi'"):
        partial_dependence(fitted, data.data.drop(columns="bmi"), "s5")


def test_a_network_on_rows_is_left_as_it_was_and_asked_for_its_target():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(5, 2)).train()
    x = np.random.default_rng(0).normal(size=(40, 3))
    model = pl.Model(net, classes=("no", "yes"))
    found = partial_dependence(model, x, "x1", target=pl.probability("yes"), grid=[-1.0, 0.5])
    moved = torch.from_numpy(x).float()
    moved[:, 1] = 0.5
    assert net.training, "left as it was"
    net.eval()
    with torch.no_grad():
        want = net(moved).softmax(1)[:, 1].double().mean()
    assert abs(found.values[1] - float(want)) < 1e-6
    assert found.network == model.identity and found.provenance.weights == model.fingerprint
    assert partial_dependence(net.double(), x, "x1", target=1, grid=[0.5]).score == "logit of class 1"
    with pytest.raises(BadTarget):
        partial_dependence(net, x, "x1")


def test_log_odds_of_an_estimator():
    x = correlated(200)
    y = (x[:, 0] > 0).astype(int)
    fitted = LogisticRegression().fit(x, y)
    odds = pl.logit("1") - pl.logit("0")
    found = partial_dependence(fitted, x, "x0", target=odds, grid=[-1.0, 1.0])
    assert abs(np.diff(found.values)[0] - 2 * fitted.coef_[0, 0]) < 1e-9
    with pytest.raises(BadTarget, match="the model's classes"):
        partial_dependence(fitted, x, "x0", target="maybe")


def test_cases_of_an_additive_model_run_side_by_side():
    x = np.random.default_rng(0).normal(size=(60, 3))
    found = ice(lambda r: np.sin(r[:, 0]) + r[:, 1] ** 2, x, "x0", view="centered", grid=9)
    assert np.abs(found.individual - found.individual[0]).max() < 1e-12 and np.abs(found.individual[:, 0]).max() == 0
    slope = ice(lambda r: 3 * r[:, 0] + r[:, 1] ** 2, x, "x0", view="derivative", grid=9)
    assert np.abs(slope.individual - 3).max() < 1e-10


def test_effects_that_cancel_are_told():
    x = np.random.default_rng(0).normal(size=(300, 2))
    found = partial_dependence(lambda r: r[:, 0] * np.sign(r[:, 1]), x, "x0")
    up, down = found.turns()
    assert abs(up - (x[:, 1] > 0).mean()) < 1e-12 and abs(up + down - 1) < 1e-12
    assert any("The mean hides that cases differ" in s for s in found.sentences())
    assert found.evidence["against_the_mean"].status == "fail"
    alike = partial_dependence(lambda r: r[:, 0] + r[:, 1], x, "x0")
    assert not any("hides" in s for s in alike.sentences())


def test_rows_that_do_not_occur_are_gray_and_the_words_name_the_companion():
    x = correlated()
    found = partial_dependence(lambda r: r[:, 0] * r[:, 1], {"a": x[:, 0], "b": x[:, 1]}, "a", ends=(0.01, 0.99))
    assert not found.there[[0, -1]].any() and found.there[len(found.axis) // 2]
    assert found.evidence["ale_gap"].status == "fail" and "a goes with b" in " ".join(found.sentences())
    apart = np.random.default_rng(0).normal(size=(1500, 2))
    free = partial_dependence(lambda r: r[:, 0] * r[:, 1], apart, "x0", ends=(0.01, 0.99))
    assert free.there.all() and not free.tells, "columns that do not go together make no row that cannot occur"
    beyond = partial_dependence(lambda r: r[:, 0], apart, "x0", grid=[0.0, 9.0])
    assert beyond.there.tolist() == [True, False] and "values from 9 on" in " ".join(beyond.sentences())


def test_a_ring_has_a_hole_that_no_correlation_shows():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 800)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1) + np.random.default_rng(1).normal(scale=0.02, size=(800, 2))
    found = partial_dependence_pair(lambda r: r[:, 0] + r[:, 1], ring, "x0", "x1", grid=([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]))
    assert not found.there[1, 1] and found.there[0, 1] and found.there[1, 2]


def test_columns_that_belong_together_move_as_they_occur():
    site = np.random.default_rng(0).integers(0, 3, 90)
    hot = np.eye(3)[site]
    rows = {"age": np.arange(90.0), "site_a": hot[:, 0], "site_b": hot[:, 1], "site_c": hot[:, 2]}

    def model(r):
        assert (r[:, 1:].sum(1) == 1).all(), "never two sites at once"
        return r[:, 2] * 2 + r[:, 0] * 0

    found = partial_dependence(model, rows, {"site": ["site_a", "site_b", "site_c"]})
    assert dict(zip(found.axis.labels, found.values)) == {"site_a": 0.0, "site_b": 2.0, "site_c": 0.0}
    with pytest.raises(BadParameter, match="states"):
        partial_dependence(model, rows, ["age", "site_a"])


def test_names_are_categories_in_the_order_of_their_names():
    rows = {"kind": np.array(["x", "y", "z"] * 20), "v": np.arange(60.0)}
    found = partial_dependence(lambda r: np.array([{"x": 1.0, "y": 5.0, "z": 2.0}[k] for k in r[:, 0]]), rows, "kind")
    assert found.axis.labels == ("x", "y", "z") and found.values.tolist() == [1.0, 5.0, 2.0]
    with pytest.raises(BadParameter, match="no slope"):
        found.derivative()


def test_images_of_one_patient_are_not_counted_as_independent():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(25, 2))
    many, whose = np.repeat(one, 8, axis=0), np.repeat(np.arange(25), 8)

    def model(r):
        return r[:, 0] * 0 + r[:, 1]

    alone = partial_dependence(model, one, "x0", grid=[0.0, 1.0])
    by = partial_dependence(model, many, "x0", grid=[0.0, 1.0], patients=[f"P{w}" for w in whose])
    wrong = partial_dependence(model, many, "x0", grid=[0.0, 1.0])
    assert by.patients == 25 and np.abs(by.low - alone.low).max() < 1e-9 and np.abs(by.high - alone.high).max() < 1e-9
    assert (wrong.high - wrong.low < 0.5 * (by.high - by.low)).all()


def test_a_column_of_patients_is_no_feature_and_no_name_is_kept(tmp_path):
    table = pl.Table(("patient", "a", "b"), tuple((f"Doe {k // 2}", float(k), float(k % 3)) for k in range(30)))
    found = partial_dependence(lambda r: r[:, 0] + r[:, 1], table, "a", patients="patient", run=Run(seed=4))
    assert found.patients == 15 and found.provenance.seed == 4
    path = found.save(tmp_path / "curve.json")
    assert "Doe" not in path.read_text() + (tmp_path / "curve.safetensors").read_bytes().decode("latin1")
    again = Effect.load(path)
    assert isinstance(again, Curve) and np.array_equal(again.individual, found.individual)
    assert again.sentences() == found.sentences() and again.table() == found.table()
    assert json.loads(json.dumps(found.facts()))["kind"] == "curve"


def test_surfaces_are_kept_and_drawn(tmp_path):
    x = np.random.default_rng(0).normal(size=(80, 2))
    found = partial_dependence_pair(lambda r: r[:, 0] * r[:, 1], x, "x0", "x1", grid=4)
    assert np.array_equal(Surface.load(found.save(tmp_path / "surface.json")).values, found.values)
    for name, effect in (("a.svg", found), ("b.png", ice(lambda r: r[:, 0], x, "x0"))):
        effect.figure(tmp_path / name, theme="dark")
        assert (tmp_path / name).stat().st_size > 5000


def test_progress_and_cancel():
    seen = []
    run = Run(on_tick=lambda done, total: seen.append((done, total)))
    partial_dependence(lambda r: r[:, 0], np.random.default_rng(0).normal(size=(20, 2)), "x0", grid=[0.0, 1.0], run=run)
    assert seen[1] == (40, 40)
    run.cancel.set()
    with pytest.raises(pl.PellucidError, match="asked to stop"):
        partial_dependence(lambda r: r[:, 0], np.zeros((5, 2)), "x0", grid=[0.0, 1.0], run=run)


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"column": "z"}, BadParameter),
        ({"grid": [1.0, 0.0]}, BadParameter),
        ({"patients": ["a"]}, BadParameter),
        ({"weights": [-1.0] * 10}, BadParameter),
        ({"spacing": "log"}, BadParameter),
        ({"model": 3}, BadModel),
        ({"model": lambda r: r}, BadModel),
        ({"model": lambda r: r[:, 0] * np.nan}, BadModel),
    ],
)
def test_refusals(given, kind):
    asked = {"model": lambda r: r[:, 0], "rows": np.arange(20.0).reshape(10, 2), "column": "x0"} | given
    with pytest.raises(kind):
        partial_dependence(asked.pop("model"), asked.pop("rows"), asked.pop("column"), **asked)
