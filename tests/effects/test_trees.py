"""Decision trees: impurity and gain by hand, the peers' numbers, rules that cover every case once, a picture without overlap."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from pellucid.effects import Tree, entropy, gain, gini, tree
from pellucid.errors import BadFile, BadModel, BadParameter

SVG = "{http://www.w3.org/2000/svg}"


def test_entropy_gini_and_gain_by_hand():
    """Quinlan's 14 days: 9 against 5; the outlook parts them into 2:3, 4:0 and 3:2, which gains 0.247 bits."""
    assert abs(entropy([9, 5]) - 0.940286) < 1e-6 and abs(gini([9, 5]) - (1 - (81 + 25) / 196)) < 1e-12
    parts = [(5, entropy([2, 3])), (4, entropy([4, 0])), (5, entropy([3, 2]))]
    assert abs(gain(entropy([9, 5]), parts) - 0.246750) < 1e-6
    assert entropy([1, 0, 0]) == 0 and abs(entropy([1, 1, 1, 1]) - 2) < 1e-12 and gini([1, 1]) == 0.5


def test_a_small_tree_by_hand():
    x = np.array([[1.0], [2], [3], [4], [5], [6]])
    seen = tree(DecisionTreeClassifier(criterion="entropy").fit(x, [0, 0, 0, 1, 1, 0]), names=["size"], classes=["no", "yes"])
    root = seen.nodes[0]
    assert root.question == "size ≤ 3.5" and abs(root.impurity - 0.918296) < 1e-6
    assert abs(root.gain - (0.918296 - 0.5 * 0 - 0.5 * 0.918296)) < 1e-5
    assert seen.rules() == (
        "If size ≤ 3.5: no (100 % of 3 cases).", "If 3.5 < size ≤ 5.5: yes (100 % of 2 cases).", "If size > 5.5: no (100 % of 1 case).",
    )  # fmt: skip


@pytest.mark.parametrize("criterion", ["gini", "entropy", "log_loss"])
def test_the_numbers_of_scikit_learn(criterion):
    data = load_breast_cancer()
    fitted = DecisionTreeClassifier(criterion=criterion, random_state=0).fit(data.data, data.target)
    seen = tree(fitted, names=data.feature_names, depth=99)
    assert len(seen) == fitted.tree_.node_count
    assert max(abs(n.impurity - fitted.tree_.impurity[n.number]) for n in seen) < 1e-12
    total = np.zeros(30)
    for n in seen:
        if not n.leaf:
            total[list(data.feature_names).index(n.column)] += n.weight * n.gain
    assert np.abs(total / total.sum() - fitted.feature_importances_).max() < 1e-12, "gains make the importances"


def test_rules_cover_every_case_once():
    data = load_diabetes(as_frame=True, scaled=False)
    seen = tree(DecisionTreeRegressor(max_depth=4, random_state=0).fit(data.data, data.target), depth=4)
    counts = [int(re.search(r"mean of (\d+) case", r)[1]) for r in seen.rules()]
    assert sum(counts) == len(data.data) and seen.criterion == "variance"
    ends = [n for n in seen if n.leaf]
    assert abs(sum(n.cases * n.value for n in ends) / 442 - data.target.mean()) < 1e-9


def test_what_is_folded_says_so():
    data = load_breast_cancer()
    fitted = DecisionTreeClassifier(random_state=0).fit(data.data, data.target)
    whole, short = tree(fitted, depth=99), tree(fitted, depth=2)
    assert len(short) + sum(n.below for n in short) == len(whole)
    assert (
        any("Not shown" in r for r in short.rules())
        and "folded" in short.svg()
        and "folded" not in re.sub("<style>.*</style>", "", whole.svg())
    )
    assert f"{fitted.get_depth()} questions" in short.sentences()[0]


def test_the_picture_holds_every_node_and_nothing_overlaps(tmp_path):
    data = load_breast_cancer()
    seen = tree(DecisionTreeClassifier(criterion="entropy", random_state=0).fit(data.data, data.target), classes=["<b>", "a & b"], depth=4)
    root = ET.fromstring(seen.svg("light"))
    cards = [r for r in root.iter(f"{SVG}rect") if "card" in r.get("class", "")]
    assert len(cards) == len(seen)
    boxes = np.array([[float(c.get(k)) for k in ("x", "y", "width", "height")] for c in cards])
    for k, (x, y, w, h) in enumerate(boxes):
        rest = np.delete(boxes, k, axis=0)
        assert not ((abs(rest[:, 0] - x) < w) & (abs(rest[:, 1] - y) < h)).any()
    assert boxes[:, 0].min() >= 0 and (boxes[:, 0] + boxes[:, 2]).max() <= float(root.get("width")) <= 1600
    assert "entropy" in "".join(root.itertext()) and "&lt;b&gt;" in seen.svg("light") and "<b>" not in seen.svg("light")
    bars = [r for r in root.iter(f"{SVG}rect") if re.fullmatch(r"c\d", r.get("class", "")) and float(r.get("height")) < 9]
    assert len(bars) == sum(sum(s > 0 for s in n.shares) for n in seen)
    assert seen.svg("light") != seen.svg("dark") and "prefers-color-scheme" in seen.svg("auto")
    seen.figure(tmp_path / "tree.svg", theme="dark")
    assert (tmp_path / "tree.svg").read_text() == seen.svg("dark")
    with pytest.raises(BadFile):
        seen.figure(tmp_path / "tree.html")
    assert Tree.load(seen.save(tmp_path / "tree.json")).svg() == seen.svg()


def test_a_tree_of_a_forest_or_of_boosting():
    data = load_breast_cancer()
    forest = RandomForestClassifier(3, random_state=0).fit(data.data, data.target)
    assert tree(forest, number=2).nodes[0].column == f"x{forest.estimators_[2].tree_.feature[0]}"
    boosted = GradientBoostingRegressor(n_estimators=2).fit(data.data[:, :4], data.data[:, 5])
    assert tree(boosted, number=1).depth == 3
    with pytest.raises(BadModel, match="from 0 to 2"):
        tree(forest, number=3)


def test_refusals(tmp_path):
    fitted = DecisionTreeClassifier().fit([[0.0], [1]], [0, 1])
    for wrong in ({"names": ["a", "b"]}, {"classes": ["a"]}, {"depth": -1}):
        with pytest.raises(BadParameter):
            tree(fitted, **wrong)
    with pytest.raises(BadModel, match="surrogate"):
        tree(object())
    with pytest.raises(BadFile):
        tree(fitted).figure(tmp_path / "tree.png")
    assert "asks nothing" in tree(DecisionTreeClassifier().fit([[0.0], [1]], [1, 1])).sentences()[0]
