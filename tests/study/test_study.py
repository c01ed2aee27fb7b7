"""Studies: what is measured once stays measured, tables count patients, and a network that knows nothing makes its evidence void."""

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.evidence.toy import blobs, fresh, learned

import pellucid as pl
from pellucid.errors import BadFile, BadParameter, Unsupported
from pellucid.evidence.metric import METRICS, Price, metric
from pellucid.explanation import Measurement
from pellucid.image import Image
from pellucid.intervals import adjusted, paired
from pellucid.method import Ask, Cite, read_method
from pellucid.params import Positive
from pellucid.report import write_study
from pellucid.study import Study, StudyCase, phantom_cases, read_cases, read_study, tables
from pellucid.target import as_target

Asked = threading.local()  # counts where nobody looks: a function that names it is not another for what it has counted


@pytest.fixture
def bright():
    """A metric that counts how often it is asked, and costs a pass for each map."""

    @metric(cite=Cite("Nobody", 2026, "Bright", "none"), unit="score", better="up", reference="0", price=lambda **_: Price(each=1))
    def bright(panel, *, power: Positive = 1.0):
        Asked.names.append(panel.names)
        return {
            n: Measurement("bright", v * power, "score", "up", "pass", "It is bright.", 0.0)
            for n, v in zip(panel.names, panel.scores(panel.x * panel.relevance(n).to(panel.x) for n in panel.names), strict=True)
        }

    Asked.names = []
    yield bright
    del METRICS["bright"]


def cases(n=6, seed=5):
    x, y = blobs(n, seed)
    masks = [(i[0] > 0.6).double() for i in x]
    return [StudyCase(Image(i), f"patient {k // 2}", Image(m[None]), int(c)) for k, (i, m, c) in enumerate(zip(x, masks, y, strict=True))]


def study(tmp_path, net=None, metrics=("gini",), methods=("saliency", "input_x_gradient"), **more):
    return Study(
        tmp_path / "s",
        pl.Model(net or learned(), classes=("bar", "blob")),
        cases(),
        methods,
        list(metrics),
        target=1,
        controls=("random", "blurred"),
        **more,
    )


def test_a_study_measures_only_what_is_missing(tmp_path, bright):
    study(tmp_path, metrics=["bright"]).run()
    assert len(Asked.names) == 6
    again = study(tmp_path, metrics=["bright"]).run()
    assert len(Asked.names) == 6, "all was known"
    assert [round(v, 9) for v in again.values("bright")["saliency"]] == [
        round(v, 9) for v in study(tmp_path, metrics=["bright"]).values("bright")["saliency"]
    ]
    study(tmp_path, metrics=["bright", "gini"]).run()
    assert len(Asked.names) == 6, "a new metric leaves the old one alone"
    study(tmp_path, metrics=["bright"], methods=["saliency", "input_x_gradient", "smoothgrad"]).run()
    assert len(Asked.names) == 12
    assert all("saliency" not in names for names in Asked.names[6:]), "a new method is measured alone"
    study(tmp_path, metrics=["bright(power=2.0)"]).run()
    assert len(Asked.names) == 18, "another parameter is another question"
    study(tmp_path, net=fresh(1), metrics=["bright"]).run()
    assert len(Asked.names) == 24, "other weights are another network"


def test_a_study_that_was_cut_off_goes_on(tmp_path, bright):
    first = study(tmp_path, metrics=["bright"])

    def stop(done, of):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(on_case=stop)
    assert len(Asked.names) == 3
    study(tmp_path, metrics=["bright"]).run()
    assert len(Asked.names) == 6
    assert not list((tmp_path / "s" / "results").rglob(".*")), "no half-written file"


def test_nothing_of_a_patient_is_written(tmp_path):
    s = study(tmp_path).run()
    write_study(tmp_path / "page.html", s)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"patient 0" not in file.read_bytes(), file


def test_a_broken_case_is_told_and_stops_nothing(tmp_path):
    s = study(tmp_path)
    s.cases = [*s.cases, StudyCase(Image(torch.rand(3, 32, 32)))]
    s.run()
    assert len(s.problems) == 1
    assert s.problems[0].startswith("case 7: ")
    assert [math.isnan(v) for v in s.values("gini")["saliency"]] == [False] * 6 + [True]


def test_what_does_not_fit_takes_nothing_with_it(tmp_path):
    """A method that the network cannot have took every number of every method with it."""
    alone = study(tmp_path / "a", methods=["saliency"]).run()

    @metric(cite=Cite("Nobody", 2026, "Broken", "none"), unit="score", better="up", reference="0")
    def broken(panel):
        raise ValueError("of patient Miller")

    try:
        s = study(tmp_path / "b", methods=["attention_rollout", "saliency"], metrics=["gini", "broken", "roc_auc"], level="quick")
        s.cases = s.cases[:1]
        s.run()
        for row in ("saliency", "random", "saliency, blurred"):
            assert s.values("gini")[row] == alone.values("gini")[row][:1]
            assert not math.isnan(s.values("roc_auc")[row][0])
        assert math.isnan(s.values("gini")["attention_rollout"][0])
        assert sum(s.verdicts()["saliency"].values()) == 1
        (told,) = s.problems
        assert told.startswith("case 1: attention_rollout: attention_rollout needs a network with attention")
        assert "broken of saliency: ValueError in broken (test_study.py" in told and "Miller" not in told
        assert "no gini of attention_rollout" in told and "no broken of attention_rollout, saliency, random" in told
    finally:
        del METRICS["broken"]


def test_maps_of_two_targets_are_graded_each_for_its_own(tmp_path):
    """They were refused together; controls lie with the first one's target."""
    one, other = (Ask(read_method("saliency"), as_target(k)) for k in (0, 1))
    s = study(tmp_path / "a", methods={"one": one, "other": other}, metrics=["deletion"])
    single = study(tmp_path / "b", methods={"one": one}, metrics=["deletion"])
    for each in (s, single):
        each.cases = each.cases[:1]
        each.run()
        assert each.problems == []
    assert s.values("deletion")["one"] == single.values("deletion")["one"] != s.values("deletion")["other"]
    assert s.values("deletion")["random"] == single.values("deletion")["random"]


def test_a_damaged_file_ends_nothing(tmp_path):
    """It ended with BadFile when all cases were measured."""
    s = study(tmp_path, methods=["saliency"]).run()
    bad = next((tmp_path / "s" / "results" / s.keys.scan(s.cases[1])).glob("*.json"))
    bad.write_text("{")
    s.run()
    assert [math.isnan(v) for v in s.values("gini")["saliency"]] == [False, True, False, False, False, False]
    (told,) = s.problems
    assert told.startswith("case 2: ") and told.count(bad.name) == 1
    assert told.endswith("Remove the file; its case will be measured again.")
    assert s.missing() == s.problems
    bad.unlink()
    assert s.run().problems == []


def test_an_interval_of_a_table_holds_its_value(tmp_path):
    """Monotonicity is a gain over random orders and may be negative; its interval was cut off at 0."""
    found = {"a": [0.019, -0.062, -0.11, -0.019]}

    class Held:
        groups = [0, 1, 2, 3]
        values = staticmethod(lambda _: found)
        metric = staticmethod(lambda name: METRICS[name])

    for name, values in (("monotonicity", found["a"]), ("gini", [0.2, 0.5, 1.3, -0.4])):
        found["a"] = values
        i = tables.interval(Held, name, "a")
        assert i.low < i.value < i.high, "of another unit than its name says, too"
        assert i.low < 0


def test_tables_count_patients_and_hold_controls(tmp_path):
    s = study(tmp_path).run()
    rows = {r["map"]: r for r in tables.long_table(s)}
    assert list(rows) == ["saliency", "input_x_gradient", "random", "saliency, blurred", "input_x_gradient, blurred"]
    assert rows["saliency"]["images"] == 6
    assert rows["saliency"]["patients"] == 3
    values = np.array(s.values("gini")["saliency"])
    assert rows["saliency"]["value"] == pytest.approx(values.mean())
    table = tables.wide_table(s)
    assert table.columns == ("map", "gini ↑")
    told = tables.paired_tests(s, "gini", against="random")
    assert set(told["against"]) == {"random"}
    with pytest.raises(BadParameter, match="no such control"):
        tables.paired_tests(s, "gini", against="no such control")


class Corner(torch.nn.Module):
    """Sees one sample of noise in a corner."""

    def forward(self, x):
        corner = x[:, 0, 0, 0]
        return torch.stack([0 * corner, corner - 0.35], 1)


def test_a_network_at_chance_makes_its_evidence_void(tmp_path):
    good, bad = study(tmp_path / "a", methods=["saliency"]), study(tmp_path / "b", net=Corner(), methods=["saliency"])
    few = study(tmp_path / "a", methods=["saliency"]).run()
    assert tables.performance(few)["finding"][0].startswith("not measured")
    for s in (good, bad):
        s.cases, s.controls = [replace(c, patient="") for c in cases(10)], ()
        s.run()
    assert tables.performance(good)["finding"] == ("better than chance",)
    assert tables.performance(bad)["finding"][0].startswith("void")
    assert "Void for blob" in write_study(tmp_path / "bad.html", bad).read_text()
    assert "Void for" not in write_study(tmp_path / "good.html", good).read_text()


def test_randomization_ranks_nothing(tmp_path):
    name = next((n for n, m in METRICS.items() if not m.facts.ranks), None)
    if name is None:
        pytest.skip("no metric says that it may not rank")
    with pytest.raises(Unsupported, match="pass or fail"):
        tables.ranks(study(tmp_path, metrics=[name]), name)


def test_ranks_have_the_published_critical_difference():
    """Demsar 2006, table 5: q 0.05 for 4 classifiers is 2.569, on 14 data sets CD = 1.25."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(0.95, 4, np.inf)) / math.sqrt(2)
    assert q == pytest.approx(2.569, abs=2e-3)
    assert q * math.sqrt(4 * 5 / (6 * 14)) == pytest.approx(1.25, abs=5e-3)


def test_paired_differences():
    chance = np.random.default_rng(3)
    a = chance.normal(size=20)
    difference, p = paired((a + 1).tolist(), a.tolist())
    assert difference == pytest.approx(1)
    assert p < 0.001
    p_null = [paired(chance.normal(size=12).tolist(), chance.normal(size=12).tolist(), draws=500)[1] for _ in range(100)]
    assert sum(v <= 0.05 for v in p_null) <= 12
    assert adjusted([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])


TOML = """
[study]
name = "Phantoms"
[model]
load = "phantom:fundus_dme"
[cases]
phantom = "fundus_dme"
n = 2
[ask]
target = "DME"
metrics = ["gini"]
controls = ["random"]
[ask.methods]
"Grad-CAM" = "grad_cam"
"gradient" = "saliency"
"""


def test_a_study_from_a_file(tmp_path):
    (tmp_path / "eyes.toml").write_text(TOML)
    s = read_study(tmp_path / "eyes.toml").run()
    assert s.folder == tmp_path / "eyes"
    assert s.rows == ("Grad-CAM", "gradient", "random")
    assert not s.problems
    assert sorted(s.pictures()) == sorted((s.folder / "pictures").iterdir())
    assert len(s.pictures()) == 2
    text = write_study(tmp_path / "eyes.html", s).read_text()
    assert "Grad-CAM" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (TOML.replace("[study]", "[studies]"), "parts of a study"),
        (TOML.replace("n = 2", "count = 2"), "table, phantom, n"),
        (TOML.replace('metrics = ["gini"]', ""), "metrics"),
        (TOML.replace('"gini"', '"ginni"'), "Did you mean 'gini'"),
        (TOML.replace('phantom = "fundus_dme"', 'phantom = "foot"'), "kind of phantom"),
        (TOML.replace('phantom = "fundus_dme"', ""), "table or a phantom"),
        (TOML + "\n[", "read a study"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, wrong, match):
    (tmp_path / "eyes.toml").write_text(wrong)
    with pytest.raises((BadParameter, BadFile), match=match):
        read_study(tmp_path / "eyes.toml")


def test_cases_from_a_table(tmp_path):
    from PIL import Image as Picture

    for n in range(2):
        Picture.fromarray((np.arange(64).reshape(8, 8) * 3 + n).astype(np.uint8)).save(tmp_path / f"{n}.png")
    (tmp_path / "cases.csv").write_text("image,patient,label,scanner\n0.png,Jane,1,A\n1.png,Jane,a;b,B\n")
    found = read_cases(tmp_path / "cases.csv")
    assert [c.label for c in found] == ["1", ("a", "b")]
    assert found[1].facts == {"scanner": "B"}
    (tmp_path / "cases.csv").write_text("image\nmissing.png\n")
    with pytest.raises(BadFile, match="line 2"):
        read_cases(tmp_path / "cases.csv")
    (tmp_path / "cases.csv").write_text("scan\n0.png\n")
    with pytest.raises(BadFile, match="column 'image'"):
        read_cases(tmp_path / "cases.csv")


def test_phantom_cases_carry_their_truth():
    found = list(phantom_cases("chest", 2, seed=3))
    assert all(isinstance(c.label, tuple) for c in found)
    alike = list(phantom_cases("fundus_dme", 2, seed=3, dme=True))
    assert [c.label for c in alike] == [1, 1]
    assert all(bool(c.truth.values.any()) for c in alike)
    with pytest.raises(BadParameter, match="a mask of the phantom"):
        list(phantom_cases("chest", 1, mask="no such"))


def test_results_are_plain_json(tmp_path):
    s = study(tmp_path).run()
    for file in (s.folder / "results").rglob("*.json"):
        json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
