"""Forests both ways, and additive models: what impurity gets wrong, and a sum that is the model's own."""

import sys

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from pellucid.effects import Additive, ForestImportance, additive_model, forest_importance, read_additive
from pellucid.errors import BadModel, BadParameter


@pytest.fixture(scope="module")
def biased():
    """A column of two values that decides, and one of many values that is noise: impurity likes the second far too well."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.integers(0, 2, 400), rng.normal(size=400), rng.integers(0, 2, 400)]).astype(float)
    y = (rng.uniform(size=400) < 0.22 + 0.56 * x[:, 0]).astype(int)
    forest = RandomForestClassifier(30, random_state=0).fit(x[:200], y[:200])
    return forest, x, y


def test_impurity_likes_columns_of_many_values(biased, tmp_path):
    forest, x, y = biased
    rows = {"marker": x[:, 0], "noise": x[:, 1], "coin": x[:, 2]}
    first, rest = ({k: v[part] for k, v in rows.items()} for part in (slice(0, 200), slice(200, None)))
    found = forest_importance(forest, rest, y[200:], fitted_on=(first, y[:200]), repeats=5)
    assert found["noise"].impurity > found["marker"].impurity, "the bias is there"
    assert found.rows[0].column == "marker" and found["marker"].clear and not found["noise"].clear
    assert found["noise"].noise > 5 * found["marker"].noise, "of what tells nothing, a copy of many values gets more"
    assert found["noise"].values == 200 and found["coin"].values == 2
    said = " ".join(found.sentences())
    assert "By impurity noise comes first" in said and "without marker" in said
    again = ForestImportance.load(found.save(tmp_path / "forest.json"))
    assert again.table() == found.table()
    found.figure(tmp_path / "forest.svg", theme="dark")


def test_impurity_is_scikit_learn_s_and_others_are_refused(biased):
    forest, x, y = biased
    found = forest_importance(forest, x[200:], y[200:], repeats=2)
    assert {r.column: r.impurity for r in found} == dict(zip(("x0", "x1", "x2"), forest.feature_importances_.tolist()))
    with pytest.raises(BadModel, match="feature_importances_"):
        forest_importance(lambda r: r[:, 0], x, y)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "interpret", None)
    with pytest.raises(BadParameter, match=r"pellucid\[ebm\]"):
        additive_model({"a": np.arange(40.0)}, np.arange(40) % 2)


def test_the_sum_of_its_terms_is_the_model_s_own_score():
    glassbox = pytest.importorskip("interpret.glassbox")
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=150), rng.normal(size=150), rng.choice(["u", "v", "w"], 150)
    y = (a * (c == "u") + b > 0).astype(int)
    table = np.column_stack([a.astype(object), b, c])
    model = glassbox.ExplainableBoostingClassifier(outer_bags=2, interactions=2, max_rounds=25, n_jobs=1, feature_names=["a", "b", "c"])
    model.fit(table, y)
    found = read_additive(model, positive="ill")
    rows = {"a": np.append(a, [-9, 9]), "b": np.append(b, [0, 0]), "c": np.append(c, ["u", "v"])}
    more = np.column_stack([rows["a"].astype(object), rows["b"], rows["c"]])
    assert np.abs(found.answers(rows) - model.decision_function(more)).max() < 1e-10
    assert found.score == "log odds of 'ill'" and {s.column for s in found.shapes} == {"a", "b", "c"}
    assert {p.name for p in found.pairs} == {" x ".join(n.split(" & ")) for n in model.term_names_ if "&" in n}
    with pytest.raises(BadModel):
        read_additive(object())


def test_an_additive_model_finds_what_was_planted(tmp_path):
    pytest.importorskip("interpret.glassbox")
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=(300, 3))
    y = 3 * np.abs(x[:, 0]) + x[:, 1] + 0.1 * rng.normal(size=300)
    found = additive_model(x, y, pairs=0, bags=2, rounds=150, patients=np.arange(300) // 2)
    assert found.quality.patients == round(0.25 * 150) and found.quality.low > 0.7 and found.evidence.verdict == "supported"
    by = {s.column: s for s in found.shapes}
    assert by["x2"].importance < 0.2 * min(by["x0"].importance, by["x1"].importance)
    edges, values, _ = by["x0"].steps
    middle = (edges[1:] + edges[:-1]) / 2
    assert np.corrcoef(values, np.abs(middle))[0, 1] > 0.95, "its curve is |x|, not a line"
    again = Additive.load(found.save(tmp_path / "additive.json"))
    assert np.array_equal(again.answers(x), found.answers(x)) and again.sentences() == found.sentences()
    found.figure(tmp_path / "terms.svg")
    poor = additive_model(x, rng.normal(size=300), pairs=0, bags=2, rounds=20)
    assert "Do not read its curves" in poor.sentences()[0]
