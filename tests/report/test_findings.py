"""The page of a model as a whole: every kind of finding with its picture, evidence and record; nothing that names a patient."""

import re
from html import unescape

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import nn

import pellucid as pl
from pellucid.effects import Effect, ale, partial_dependence, partial_dependence_pair, permutation_importance, surrogate, tree
from pellucid.errors import BadFile, BadParameter
from pellucid.prototypes import filters
from pellucid.report import write_findings
from pellucid.report.whole import drawn, title, told

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
ROWS = {"size <b>": X[:, 0], "texture": X[:, 1], "noise": X[:, 2]}
WHO = [f"Miller {k // 2}" for k in range(80)]
TRUTH = X[:, 0] > 0


def answers(rows):
    return 1 / (1 + np.exp(-3 * np.asarray(rows)[:, 0]))


@pytest.fixture(scope="module")
def found():
    """A finding of each way to be drawn."""
    fitted = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X[:, 1:] + X[:, :1], np.where(TRUTH, "sick & ill", "<well>"))
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    return {
        "curve": partial_dependence(answers, ROWS, "size <b>", patients=WHO, grid=5),
        "ale": ale(answers, ROWS, "texture", patients=WHO, grid=5),
        "surface": partial_dependence_pair(answers, ROWS, "size <b>", "texture", patients=WHO, grid=4),
        "importance": permutation_importance(answers, ROWS, TRUTH, patients=WHO, repeats=2),
        "tree": tree(fitted, names=["a", "b > c"]),
        "linear": surrogate(answers, ROWS, form="linear", patients=WHO, bootstraps=5),
        "filters": filters(net, "0"),
    }


def test_a_page_tells_draws_and_folds_every_finding(found, tmp_path):
    html = write_findings(tmp_path / "page.html", list(found.values()), title="<i>All</i>", note="seen & kept").read_text()
    text = unescape(re.sub(r"<svg.*?</svg>|<[^>]+>", "", re.sub(r"<style>.*?</style>", "", html, flags=re.S), flags=re.S))
    assert "<i>All" not in html and "<i>All</i>" in text and "seen & kept" in text
    for one in found.values():
        facts = told(one)
        for said in (facts["title"], *facts["sentences"], facts["limit"], *facts["reasons"], *facts["rules"], one.provenance.method):
            assert said in text
        assert all(c["text"] in text for c in facts["checks"]) and facts["sentences"] and facts["limit"]
    assert html.count("<figure") == len(found) and html.count("<svg xmlns") == 1 and html.count('prefers-color-scheme: dark)" srcset') == 5
    assert not [bad for bad in ("Miller", str(tmp_path), "<script", "<well>", "size <b>") if bad in html]
    assert "default-src &#39;none&#39;" in html[:3000] and not re.search(r'(src|href)="(?!data:|#)', html)
    once, again = (write_findings(tmp_path / name, found["linear"]).read_bytes() for name in ("a.html", "b.html"))
    assert once == again, "same findings, same bytes"


def test_pictures_differ_by_ground_and_by_what_they_show(found):
    for name in ("importance", "tree", "filters"):
        light, kind = drawn(found[name])
        assert kind == ("image/svg+xml" if name == "tree" else "image/png")
        assert (drawn(found[name], dark=True)[0] != light) == isinstance(found[name], Effect)
    assert len({title(one) for one in found.values()}) == len(found)


def test_what_a_finding_says_of_itself_is_on_its_page(found):
    assert told(found["linear"])["verdict"] == found["linear"].evidence.verdict
    curve = told(found["curve"])
    assert [c["name"] for c in curve["checks"]] == [m.name.replace("_", " ") for m in found["curve"].evidence]
    assert dict(curve["record"])["asked"].startswith("partial_dependence") and "torch" in dict(curve["record"])["versions"]
    assert len(curve["rows"]) == 5 and curve["rows"][0][0].startswith("−")
    wide = told(
        permutation_importance(lambda r: r[:, 0], {f"x{k}": RNG.normal(size=30) for k in range(61)}, RNG.normal(size=30), repeats=1)
    )
    assert len(wide["rows"]) == 60 and wide["more"].startswith("1 more row and ")


def test_one_network_to_a_page_and_no_other_file_is_replaced(found, tmp_path):
    path = write_findings(tmp_path / "page.html", found["tree"])
    write_findings(path, [found["filters"], found["tree"]])
    other = filters(nn.Sequential(nn.Conv2d(1, 3, 3)), "0")
    for bad in ([], [found["filters"], other], ["page"], pl.Image(torch.rand(1, 3, 3))):
        with pytest.raises(BadParameter):
            write_findings(path, bad)
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(BadFile):
        write_findings(tmp_path / "mine.html", found["tree"])
