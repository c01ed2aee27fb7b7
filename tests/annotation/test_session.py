"""Findings, sessions and the simulated reader: what an action does, what it costs, and that nothing is lost on the way to disk and back."""

import json
import math

import pytest
import torch

from pellucid.annotation import Annotation, Finding, Hand, begin, correct
from pellucid.annotation.finding import overlap, runs_of
from pellucid.annotation.simulated import drawn_by_hand, true_findings
from pellucid.errors import BadFile, BadParameter
from pellucid.evidence.localization import Proposal, Proposals
from pellucid.grid import Grid


def proposals(kind="mask"):
    labels = torch.zeros(10, 12, dtype=torch.int32)
    labels[1:4, 2:6] = 1
    labels[2, 3] = 0
    labels[6:9, 7:9] = 2
    found = (Proposal((1, 2), (4, 6), 11.0, 0.7, (1, 2)), Proposal((6, 7), (9, 9), 6.0, 0.2, (6, 7)))
    return Proposals(kind, found, labels, Grid((10, 12)), "propose(...) of a map"), labels


def test_masks_of_proposals_are_kept_sample_by_sample():
    given, labels = proposals()
    a = begin((10, 12), given, label="lesion")
    assert [f.score for f in a.findings] == [0.7, 0.2] and {f.label for f in a.findings} == {"lesion"}
    for f in a.findings:
        assert torch.equal(f.mask((10, 12)), labels == f.number)
        assert f.size == int((labels == f.number).sum())
    boxes = begin((10, 12), proposals("boxes")[0])
    assert boxes[1].runs is None and boxes[1].size == 12


def test_actions_change_what_they_say_and_nothing_else():
    a = begin((10, 12), proposals()[0])
    b = a.act("open", 0.0).act("accept", 2.0, 1).act("reject", 3.0, 2).act("add", 10.0, start=(0, 0), stop=(2, 2), label="new")
    assert [f.state for f in b.findings] == ["accepted", "rejected", "accepted"] and a.open == 2 and b.open == 0
    assert [(f.number, f.origin, f.label) for f in b.accepted] == [(1, "map", "finding"), (3, "reader", "new")]
    moved = b.act("move", 11.0, 1, start=(2, 3), stop=(5, 7))
    assert torch.equal(moved[1].mask((10, 12)), b[1].mask((10, 12)).roll((1, 1), (0, 1))) and moved[1].touched
    cut = b.act("resize", 11.0, 1, start=(1, 2), stop=(3, 5))
    wanted = torch.zeros(10, 12, dtype=torch.bool)
    wanted[1:3, 2:5] = b[1].mask((10, 12))[1:3, 2:5]
    assert torch.equal(cut[1].mask((10, 12)), wanted)
    painted = torch.zeros(10, 12, dtype=torch.bool)
    painted[5, 5:8] = True
    after = b.act("paint", 11.0, 2, mask=painted)
    assert (after[2].start, after[2].stop, after[2].state) == ((5, 5), (6, 8), "accepted")
    assert torch.equal(after[2].mask((10, 12)), painted)


def test_undo_goes_back_step_by_step_even_over_an_added_finding():
    start = begin((10, 12), proposals()[0])
    states = [start]
    for do in (
        lambda s: s.act("accept", 1, 1),
        lambda s: s.act("move", 2, 2, start=(0, 0), stop=(3, 2)),
        lambda s: s.act("add", 3, start=(4, 4), stop=(6, 6)),
    ):
        states.append(do(states[-1]))
    now = states[-1]
    for was in reversed(states[:-1]):
        now = now.act("undo", 9)
        assert now.findings == was.findings
    with pytest.raises(BadParameter, match="nothing|none"):
        now.act("undo", 10)
    again = now.act("accept", 11, 1).act("undo", 12)
    assert again.findings == start.findings
    assert again.effort.actions == 8 and again.effort.by_kind["undo"] == 4


def test_effort_counts_pauses_up_to_a_minute_and_not_the_night():
    a = begin((10, 12), proposals()[0]).act("open", 100).act("accept", 104, 1).act("reject", 304, 2)
    assert a.effort.actions == 2 and a.effort.seconds == 4 + 60
    later = a.act("open", 90_000).act("reset", 90_003, 2)
    assert later.effort.seconds == 4 + 60 + 3 and later.effort.by_kind == {"accept": 1, "reject": 1, "reset": 1}


def test_record_goes_through_json_and_back():
    a = (
        begin((10, 12), proposals()[0])
        .act("open", 1.0)
        .act("resize", 2.5, 1, start=(1, 2), stop=(5, 6))
        .act("add", 3.0, start=(0, 0), stop=(1, 1))
        .act("undo", 4.0)
    )
    assert Annotation.read(json.loads(json.dumps(a.record()))) == a
    with pytest.raises(BadFile):
        Annotation.read({"kind": "annotation", "shape": [2, 2]})


@pytest.mark.parametrize(
    "do",
    [
        lambda a: a.act("accept", 0, 7),
        lambda a: a.act("accept", 0),
        lambda a: a.act("move", 0, 1, start=(8, 0), stop=(12, 4)),
        lambda a: a.act("add", 0, start=(-1, 0), stop=(2, 2)),
        lambda a: a.act("add", 0, start=(3, 3), stop=(3, 5)),
        lambda a: a.act("paint", 0, 1, mask=torch.zeros(10, 12, dtype=torch.bool)),
        lambda a: a.act("explode", 0, 1),
    ],
)
def test_what_makes_no_sense_is_refused(do):
    with pytest.raises(BadParameter):
        do(begin((10, 12), proposals()[0]))


def test_runs_are_those_of_a_plain_loop():
    chance = torch.Generator().manual_seed(0)
    for shape in ((1, 1), (3, 5), (2, 3, 4)):
        for share in (0.0, 0.3, 1.0):
            mask = torch.rand(shape, generator=chance) < share
            runs, values = runs_of(mask), []
            for n, length in enumerate(runs):
                values += [n % 2 == 1] * length
            assert values == mask.flatten().tolist()


# ---------------------------------------------------------------------------------------------------- the simulated reader
def test_simulated_reader_follows_the_stated_rule_and_price():
    truth = [Finding(1, (0, 0), (10, 10)), Finding(2, (20, 20), (30, 30)), Finding(3, (40, 40), (50, 50))]
    given = [
        ((0, 0), (10, 9)),
        ((20, 22), (30, 40)),
        ((60, 0), (64, 4)),
    ]  # IoU 0.9: accepted; 0.4: drawn anew; 0: rejected; the third is added
    a = Annotation((64, 64), *[tuple(Finding(n, *box) for n, box in enumerate(given, 1))] * 2)
    done = correct(a, truth, Hand(slip=0.0))
    assert done.effort.by_kind == {"accept": 1, "resize": 1, "reject": 1, "add": 1}
    assert [(f.start, f.stop) for f in done.accepted] == [((0, 0), (10, 9)), ((20, 20), (30, 30)), ((40, 40), (50, 50))]
    hand = Hand()
    assert done.effort.seconds == pytest.approx(hand.look + 2 * hand.judged + 2 * hand.drawn)
    alone = drawn_by_hand((64, 64), truth, Hand(slip=0.0))
    assert [(f.start, f.stop) for f in alone.accepted] == [(t.start, t.stop) for t in truth] and alone.effort.actions == 3


def test_a_hand_slips_by_about_what_is_said():
    truth = [Finding(1, (20, 20), (40, 40))]
    edges = [v for s in range(60) for f in drawn_by_hand((64, 64), truth, Hand(slip=1.0), seed=s).accepted for v in (*f.start, *f.stop)]
    off = torch.tensor(edges, dtype=torch.float64) - torch.tensor([20.0, 20, 40, 40] * 60)
    assert 0.8 < float(off.std()) < 1.3 and abs(float(off.mean())) < 0.25
    assert overlap(truth[0], drawn_by_hand((64, 64), truth, seed=1).accepted[0]) > 0.8


def test_true_findings_are_the_parts_of_a_mask_in_two_and_three_dimensions():
    mask = torch.zeros(8, 8, 6, dtype=torch.bool)
    mask[0:2, 0:2, 0:2], mask[4:8, 4:8, 2:5], mask[0, 7, 0] = True, True, True
    found = true_findings(mask)
    assert [(f.start, f.stop) for f in found] == [((4, 4, 2), (8, 8, 5)), ((0, 0, 0), (2, 2, 2))]
    assert math.prod(found[0].extent) == found[0].size
