"""The detector learns what it is shown, in 2D and 3D; the exercise's arms cost and give what their names say; the command tells it."""

import json
import math
from dataclasses import replace

import pytest
import torch

from pellucid.annotation import Case, Finding, Hand, begin, exercise, train_detector
from pellucid.annotation.exercise import CORRECTED, HAND, MAP, NOTHING, RAW, TRUE, measure
from pellucid.annotation.session import Annotation
from pellucid.cli import app
from pellucid.errors import BadImage, BadParameter
from pellucid.image import Image

HELD = Hand(slip=0.0)


def spot(seed, ndim=2, size=32, lit=True):
    """Noise with a bright square somewhere, and its box."""
    chance = torch.Generator().manual_seed(seed)
    values = 0.1 * torch.randn(1, *(size,) * ndim, generator=chance)
    at = tuple(int(v) for v in torch.randint(4, size - 14, (ndim,), generator=chance))
    box = Finding(1, at, tuple(a + 10 for a in at), "accepted")
    if lit:
        values[(0, *box.place)] += 1.0
    return values, (box,) if lit else ()


def cases(n, first, off=0, lit=lambda i: True):
    """Cases whose proposals lie ``off`` samples beside the truth."""
    found = []
    for i in range(n):
        values, truth = spot(first + i, lit=lit(i))
        boxes = tuple(Finding(1, tuple(max(0, a - off) for a in t.start), tuple(max(1, b - off) for b in t.stop)) for t in truth)
        found.append(Case(Image(values), Annotation((32, 32), boxes, boxes, made="a test"), None, truth, f"p{first + i}"))
    return found


@pytest.mark.parametrize("ndim, steps", [(2, 40), (3, 20)])
def test_the_detector_finds_what_it_was_shown_on_pictures_it_never_saw(ndim, steps):
    shown = [spot(i, ndim, 32 if ndim == 2 else 20) for i in range(16)]
    before = torch.random.get_rng_state()
    net = train_detector([v for v, _ in shown], [b for _, b in shown], steps=steps, batch=4, rate=0.03, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    new = [spot(100 + i, ndim, 32 if ndim == 2 else 20) for i in range(6)]
    scores = [measure(net(v), b, v.shape[1:]) for v, b in new]
    assert sum(s[0] for s in scores) / 6 > 0.55 and all(s[1] == 1 for s in scores)


def test_training_is_the_same_for_one_seed_and_other_for_another():
    shown = [spot(i) for i in range(4)]
    p = [train_detector([v for v, _ in shown], [b for _, b in shown], steps=3, seed=s).probability(shown[0][0]) for s in (0, 0, 1)]
    assert torch.equal(p[0], p[1]) and not torch.equal(p[0], p[2])
    with pytest.raises(BadImage):
        train_detector([torch.zeros(1, 8, 8), torch.zeros(1, 9, 8)], [(), ()])


def test_measure_is_the_overlap_of_areas_and_counts_findings():
    truth = [Finding(1, (0, 0), (10, 10)), Finding(2, (20, 20), (30, 30))]
    found = [Finding(1, (0, 0), (10, 5)), Finding(2, (22, 20), (30, 30)), Finding(3, (40, 0), (44, 5))]
    iou, met, false = measure(found, truth, (50, 50))
    assert iou == pytest.approx((50 + 80) / (200 + 20)) and met == 1.0 and false == 1
    assert measure([], truth, (50, 50)) == (0.0, 0.0, 0)
    assert math.isnan(measure(found, [], (50, 50))[0]) and measure(found, [], (50, 50))[2] == 3


def test_arms_cost_what_the_hand_says_and_wrong_proposals_teach_wrong_boxes():
    half = lambda i: i % 2 == 0  # noqa: E731
    e = exercise(cases(12, 0, 8, half), cases(8, 50, 8, half), shares=(0.5, 1.0), seeds=1, steps=30, hand=HELD)
    raw, true, nothing = e[RAW][0], e[TRUE][0], e[NOTHING][0]
    assert raw.seconds == raw.actions == 0 and nothing.iou.value < 0.2
    full, by_hand = e[CORRECTED][-1], e[HAND][-1]
    # 6 proposals that lie elsewhere are rejected and drawn anew; by hand 6 boxes are drawn; all 12 pictures are looked at
    assert (full.actions, by_hand.actions) == (12, 6)
    assert by_hand.seconds == pytest.approx(12 * HELD.look + 6 * HELD.drawn)
    assert full.seconds == pytest.approx(by_hand.seconds + 6 * HELD.judged)
    assert true.iou.value > raw.iou.value + 0.2 and full.iou.value > raw.iou.value + 0.2 and full.more[0] > 0.2
    assert any("more time" in line for line in e.said)
    assert e[MAP][0].iou.value == pytest.approx(
        sum(measure(c.proposed.findings, c.truth, (32, 32))[0] for c in cases(8, 50, 8, half) if c.truth) / 4
    )
    assert [a.cases for a in e[CORRECTED]] == [6, 12] and len(e.table()) == 8
    assert json.loads(json.dumps(e.as_dict()))["with_finding"] == 4


def test_right_proposals_save_work_and_real_corrections_are_used():
    given = cases(6, 0)
    e = exercise(given, cases(4, 50), shares=(1.0,), seeds=1, steps=2, hand=HELD)
    assert e[CORRECTED][0].seconds < e[HAND][0].seconds and any("less time" in line for line in e.said)
    work = [replace(c, corrected=c.proposed.act("open", 0.0).act("reject", 7.0, 1)) for c in given]
    real = exercise(work, cases(4, 50), shares=(1.0,), seeds=1, steps=2, hand=HELD)
    assert real[CORRECTED][0].seconds == 42 and real[CORRECTED][0].actions == 6
    with pytest.raises(BadParameter):
        exercise(given, [replace(c, truth=()) for c in given])


def test_the_command_prints_the_table_and_writes_numbers_and_curve(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    monkeypatch.setattr("pellucid.annotation.phantom_cases", lambda kind, n, *, seed, **_: cases(n, seed))
    ran = CliRunner().invoke(app, ["annotate", "--cases", "4", "--seeds", "1", "--steps", "2", "--out", str(tmp_path)])
    assert ran.exit_code == 0, ran.output
    assert "drawn by hand" in ran.output and "Raw proposals give" in ran.output
    assert json.loads((tmp_path / "annotate.json").read_text())["seeds"] == 1 and b"<svg" in (tmp_path / "annotate.svg").read_bytes()
    again = CliRunner().invoke(app, ["annotate", "--cases", "4", "--seeds", "1", "--steps", "2", "--json"])
    assert {a["name"] for a in json.loads(again.stdout)["arms"]} == {NOTHING, MAP, RAW, CORRECTED, HAND, TRUE}
    assert CliRunner().invoke(app, ["annotate", "--session", "x"]).exit_code == 1


def test_a_case_without_proposals_can_be_drawn_by_hand():
    assert begin((4, 4)).act("add", 1.0, start=(0, 0), stop=(2, 2)).accepted[0].origin == "reader"
