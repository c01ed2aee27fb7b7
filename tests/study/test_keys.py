"""A number of a study is found again only where everything that it depends on is the same."""

import os
import subprocess
import sys
import threading
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.channels import Normalize
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.method import Ask
from pellucid.model import Model, Windows
from pellucid.study import Study, StudyCase
from pellucid.study.keys import Keys, Network


class Net(nn.Module):
    def __init__(self, act=torch.relu):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.act = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 2), act

    def forward(self, x):
        return self.head(self.act(self.conv(x)).mean((2, 3)))


def by(k):
    return lambda image: image.with_values(image.values * k)


def logit_of(k, sign=1):
    return lambda out: sign * out[:, k]


def scans(n, seed=0):
    return list(torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed)))


def moved(net):
    with torch.no_grad():
        net.head.bias += 0.1
    return net


MODEL = {
    "module": [Net(), moved(Net()), Net(torch.cos), nn.Sequential(Net())],
    "classes": [("a", "b"), ("b", "a")],
    "output": [None, "multi-label", "regression"],
    "select": [None, 0],
    "prepare": [None, by(1.0), by(30.0), pl.Prepare(range=(0, 1))],
    "normalize": [None, Normalize(0.5, 1.0), Normalize(0.5, 2.0)],
    "range": [None, (0.0, 1.0), (0.0, 2.0)],
    "windows": [None, Windows(8), Windows(8, 0.5)],
    "ends_in": [None, "softmax", "sigmoid"],
    "name": None,
    "source": None,
}
MEAN = pl.baseline.Constant(0.5)
QUESTION = {
    "method": [pl.saliency, pl.integrated_gradients, pl.integrated_gradients(steps=9), pl.integrated_gradients(baseline=MEAN), pl.smooth(n=3), pl.smooth(pl.input_x_gradient, n=3)],
    "target": [pl.logit("a"), pl.logit("b"), pl.probability("a"), pl.logit("a") - pl.logit("b"), pl.target.as_target(None), pl.target.as_target(logit_of(0)), pl.target.as_target(logit_of(1)), pl.target.as_target(logit_of(0, -1)), pl.region(1, torch.ones(4, 4)), pl.region(1, torch.eye(4))],
    "site": [None, "conv", "auto"],
}  # fmt: skip
PLAIN = torch.rand(1, 8, 8)
CASE = {
    "image": [Image(PLAIN), Image(PLAIN + 1), Image(PLAIN, Grid((8, 8), unit="mm")), Image(PLAIN, quantity="HU"), Image(PLAIN, background=torch.ones(8, 8, dtype=torch.bool)), Image(PLAIN, facts={"photometric": "MONOCHROME1"})],
    "mask": [None, torch.zeros(8, 8), torch.ones(8, 8), Image(torch.ones(1, 8, 8)), Image(torch.ones(1, 8, 8), Grid((8, 8), unit="mm"))],
    "patient": None,
    "label": None,
    "facts": None,
    "where": None,
}  # fmt: skip
STUDY = {"target": ["a", "b", logit_of(0), logit_of(1)], "score": [None, "b", logit_of(0), logit_of(1)], "seed": [0, 1]}


@pytest.fixture(scope="module")
def case():
    return StudyCase(PLAIN)


def distinct(texts):
    texts = list(texts)
    return len(set(texts)) == len(texts)


def test_every_field_of_a_model_is_in_the_key_or_changes_no_number():
    assert {f.name for f in fields(Model)} == set(MODEL), "a new field: say how it can differ"
    for name, values in MODEL.items():
        if values is not None:
            told = [Network.of(Model(**{"module": MODEL["module"][0], name: v})).text for v in values]
            assert distinct(told), name
            assert Network.of(Model(**{"module": MODEL["module"][0], name: values[-1]})).text == told[-1], name
    assert Network.of(Model(Net(), name="x", source={"from": "y"})).text == Network.of(Model(Net())).text


def test_every_field_of_a_question_is_in_the_key(case):
    assert {f.name for f in fields(Ask)} == set(QUESTION), "a new field: say how it can differ"
    keys, plain = Keys(Network.of(Model(Net())), 0), Ask(pl.saliency)
    for name, values in QUESTION.items():
        assert distinct(keys.key(case, "grade", [replace(plain, **{name: v})]) for v in values), name


def test_every_field_of_a_case_is_in_the_key_or_changes_no_number():
    assert {f.name for f in fields(StudyCase)} == {*CASE, "target"}, "a new field: say how it can differ"
    keys = Keys(Network.of(Model(Net())), 0)
    for name, values in CASE.items():
        if values is not None:
            assert distinct(keys.key(StudyCase(**{"image": PLAIN, name: v}), "grade") for v in values), name
    plain = StudyCase(PLAIN)
    same = StudyCase(PLAIN.clone(), "Jane", label=1, facts={"site": "A"}, where="line 2")
    assert keys.key(plain, "grade") == keys.key(same, "grade")


def test_whatever_of_a_study_changes_changes_every_key(tmp_path):
    masked = StudyCase(PLAIN, mask=torch.ones(8, 8))

    def cells(cases=(masked,), metrics=("gini", "roc_auc"), level="quick", **more):
        s = Study(tmp_path, Model(Net(), classes=("a", "b")), cases, ["saliency"], metrics, level=level, **{"target": "a", **more})
        case = s.cases[0]
        return {**s._grades(case), **s._verdicts(case)}

    for name, values in STUDY.items():
        found = [cells(**{name: v}) for v in values]
        for at in found[0]:
            if not (at == "saliency" and name == "score"):  # a verdict follows the map's own target
                assert distinct(f[at] for f in found), (name, at)
    own = [StudyCase(PLAIN, mask=torch.ones(8, 8), target=t) for t in ("a", "b", logit_of(0), logit_of(1))]
    found = [cells([c], target=None) for c in own]
    for at in found[0]:
        assert distinct(f[at] for f in found), at
    one, other = cells(metrics=["gini", "deletion(steps=2, orders=2)"]), cells(metrics=["gini", "deletion(steps=3, orders=2)"])
    assert all(one[at] == other[at] for at in one if at[1] == "gini")
    assert not [at for at in one if at[1] == "deletion" and one[at] == other[at]]
    assert distinct(one.values())
    assert cells(level="quick")["saliency"] != cells(level="full")["saliency"]


def test_another_release_measures_anew(case, monkeypatch):
    keys = Keys(Network.of(Model(Net())), 0)
    before = keys.key(case, "grade")
    monkeypatch.setattr("pellucid.study.keys.release", lambda: "another")
    assert keys.key(case, "grade") != before


NAMELESS = """
import sys, threading, torch, pellucid as pl
from pellucid.study.keys import Keys, Network
from pellucid.study import StudyCase
held = threading.Lock()
def plain(out): return out[:, 0]
def odd(out): return out[:, 0] if held else out
torch.manual_seed(0)
keys = Keys(Network.of(pl.Model(torch.nn.Linear(2, 2))), 0)
for target in (plain, odd):
    ask = pl.ask("saliency", target=target)
    print(keys.key(StudyCase(torch.zeros(1, 4, 4)), "grade", [ask]), keys.key(StudyCase(torch.zeros(1, 4, 4)), "grade", [ask]))
"""


def test_what_cannot_be_looked_into_is_never_taken_for_that_of_another_process(tmp_path):
    (tmp_path / "asks.py").write_text(NAMELESS)
    found = [
        subprocess.run(
            [sys.executable, tmp_path / "asks.py"], capture_output=True, text=True, check=True, env={**os.environ}
        ).stdout.split()
        for _ in range(2)
    ]
    assert found[0][0] == found[0][1] == found[1][0] == found[1][1]
    assert found[0][2] == found[0][3] != found[1][2] == found[1][3]


# ------------------------------------------------------------------------------------------------- the same, from the outside
def study(folder, net=None, n=3, methods=("saliency",), metrics=("deletion(steps=2, orders=2)",), controls=("random",), cases=None, **more):
    cases = [StudyCase(x) for x in scans(n)] if cases is None else cases
    return Study(folder, net or Net(), cases, list(methods), list(metrics), controls=controls, **{"target": 0, **more}).run()


def near(values):
    return {row: pytest.approx(v, abs=1e-6) for row, v in values.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"net": (Model(Net(), classes=("a", "b")), Model(Net(), classes=("b", "a"))), "target": ("a", "a")},
        {"net": (Net(), Net(torch.cos))},
        {"net": (Model(Net(), prepare=by(1.0)), Model(Net(), prepare=by(30.0)))},
        {"target": (logit_of(0), logit_of(1, -1))},
        {"target": (0, 1)},
        {"score": (logit_of(0), logit_of(1))},
    ],
    ids=["order of classes", "forward", "prepare", "callables", "target", "score"],
)
def test_a_folder_gives_what_a_fresh_one_gives(tmp_path, change):
    first, second = ({name: v[k] for name, v in change.items()} for k in (0, 1))
    study(tmp_path / "a", **first)
    again, fresh = study(tmp_path / "a", **second), study(tmp_path / "b", **second)
    before = study(tmp_path / "a", **first)
    assert near(again.values("deletion")) == fresh.values("deletion")
    assert near(before.values("deletion")) == study(tmp_path / "c", **first).values("deletion")
    for row in ("saliency", "random"):
        assert near(before.values("deletion"))[row] != fresh.values("deletion")[row], row


def test_controls_of_two_targets_of_one_scan_stay_apart(tmp_path):
    x = scans(1)[0]
    found = study(tmp_path / "s", target=None, cases=[StudyCase(x, target=0), StudyCase(x, target=1)]).values("deletion")
    alone = [study(tmp_path / str(k), target=k, cases=[StudyCase(x)]).values("deletion") for k in (0, 1)]
    assert near(found) == {row: [alone[0][row][0], alone[1][row][0]] for row in ("saliency", "random")}
    assert found["random"][0] != found["random"][1]


def test_controls_may_come_later(tmp_path):
    study(tmp_path, controls=())
    all_of_them = ("random", "center", "edges", "blurred", "shuffled")
    s = study(tmp_path, controls=all_of_them)
    assert not s.problems
    assert all(v == v for row in s.values("deletion").values() for v in row)
    fresh = study(tmp_path / "b", controls=all_of_them).values("deletion")
    assert near(s.values("deletion")) == fresh


def test_a_page_shows_its_own_pictures_alone(tmp_path):
    first = study(tmp_path, metrics=["gini"])
    second = study(tmp_path, Net(torch.cos), metrics=["gini"], methods=["input_x_gradient"], cases=[StudyCase(x) for x in scans(2, seed=1)])
    assert (len(first.pictures()), len(second.pictures())) == (3, 2)
    assert not set(first.pictures()) & set(second.pictures())
    assert pl.report.study_page.render(second).count("data:image/png;base64") == 2
    fresh = study(
        tmp_path / "b", Net(torch.cos), metrics=["gini"], methods=["input_x_gradient"], cases=[StudyCase(x) for x in scans(2, seed=1)]
    )
    assert [p.read_bytes() for p in second.pictures()] == [p.read_bytes() for p in fresh.pictures()]


def test_two_studies_may_share_a_folder_at_one_time(tmp_path):
    """In step: each waits for the other before it keeps what it found."""
    net, meet = Net(), threading.Barrier(2, timeout=60)
    a = Study(
        tmp_path, net, [StudyCase(x) for x in scans(4)], ["saliency"], ["deletion(steps=2, orders=2)"], target=0, controls=("random",)
    )
    b = Study(tmp_path, net, [StudyCase(x) for x in scans(4)], ["input_x_gradient"], ["gini"], target=0, controls=("random",))
    threads = [threading.Thread(target=s.run, kwargs={"on_case": lambda *_: meet.wait()}) for s in (a, b)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not a.problems
    assert not b.problems
    for s, name, own in ((a, "deletion", "saliency"), (b, "gini", "input_x_gradient")):
        assert all(v == v for row in (own, "random") for v in s.values(name)[row])


def test_what_is_missing_is_told(tmp_path):
    s = study(tmp_path, metrics=["gini"])
    next((tmp_path / "results" / s.keys.scan(s.cases[1])).glob("*.json")).unlink()
    for file in (tmp_path / "results" / s.keys.scan(s.cases[1])).glob("*.json"):
        file.unlink()
    assert s.missing() == ["case 2: not measured"]
    s.metrics = [*s.metrics, pl.evidence.read_metric("entropy")]
    assert s.missing()[0] == "case 1: no entropy of saliency, random"


class Raises(Net):
    def forward(self, x):
        if float(x.detach().mean()) == pytest.approx(float(scans(3)[1].mean()), abs=1e-6):
            raise RuntimeError("cannot read /home/drjones/patient_MILLER.nii")
        return super().forward(x)


def test_a_network_that_fails_on_one_case_stops_nothing_and_names_nobody(tmp_path):
    s = study(tmp_path, Raises())
    assert [v == v for v in s.values("deletion")["saliency"]] == [True, False, True]
    assert len(s.problems) == 1
    assert s.problems[0].startswith("case 2: RuntimeError in forward (test_keys.py, line ")
    assert "MILLER" not in s.problems[0]


def test_a_case_without_a_mask_is_measured_by_what_needs_none(tmp_path):
    masks = [None, *[torch.eye(16) for _ in range(2)]]
    s = study(tmp_path, metrics=["gini", "roc_auc"], cases=[StudyCase(x, mask=m) for x, m in zip(scans(3), masks, strict=True)])
    assert [v == v for v in s.values("gini")["saliency"]] == [True] * 3
    assert [v == v for v in s.values("roc_auc")["saliency"]] == [False, True, True]
    assert s.problems == ["case 1: no roc_auc without a mask"]


def test_results_that_cannot_be_written_end_the_study(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pellucid.study.store.put", full)
    with pytest.raises(OSError, match="No space left"):
        study(tmp_path)


TWICE = """
import logging, sys, threading, torch
from torch import nn
import pellucid as pl
from pellucid.study import Study, StudyCase

log, lock = logging.getLogger("mine"), threading.Lock()

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 2, 3)
    def forward(self, x):
        log.debug("shape %s", x.shape)
        return self.conv(x).mean((2, 3))

class Locks(Plain):
    def forward(self, x):
        with lock:
            return super().forward(x)

class Quiet(Plain):
    def forward(self, x):
        return self.conv(x).mean((2, 3))

for name, net in (("logs", Plain()), ("script", torch.jit.script(Quiet().eval())), ("locks", Locks())):
    s = Study(sys.argv[1] + name, net.eval(), [StudyCase(torch.ones(1, 8, 8))], ["saliency"], ["gini"], target=1, controls=())
    print(len(s.missing()), *s.run().problems)
"""


def test_another_process_goes_on_or_it_is_said_that_it_cannot(tmp_path):
    (tmp_path / "runs.py").write_text(TWICE)
    run = [sys.executable, tmp_path / "runs.py", f"{tmp_path}/"]
    first, second = (subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines() for _ in range(2))
    said = "1 another process will measure anew, since it cannot know again: _thread.lock"
    assert first == ["1", "1", said]
    assert second == ["0", "0", said]


def test_an_unreadable_scan_leaves_the_tables_whole(tmp_path):
    s = study(tmp_path, cases=[StudyCase(scans(1)[0]), StudyCase(tmp_path / "missing.png")])
    assert [v == v for v in s.values("deletion")["saliency"]] == [True, False]
    assert len(set(s.groups)) == 2
